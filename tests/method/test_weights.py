"""Weights load strictly or not at all."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geocd.errors import WeightsError
from geocd.method import weights
from geocd.method.extractor import Lite0Features
from geocd.method.networks import Vgg16Features
from geocd.method.weights import embedded_weights, fit_bands, load_weights, read_weights

BANDS = [1, 3, 4, 13]


def torchvision_vgg16() -> dict[str, torch.Tensor]:
    """Names and (for the parts that matter) shapes of torchvision's vgg16 checkpoint, random values."""
    generator = torch.Generator().manual_seed(1)
    plan = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0]
    state, index, into = {}, 0, 3
    for out in plan:
        if out == 0:
            index += 1
            continue
        small = 1 if index > 14 else out  # the later blocks are only names here
        shape = (out, into, 3, 3) if index <= 14 else (small, 1, 3, 3)
        state[f"features.{index}.weight"] = torch.randn(shape, generator=generator)
        state[f"features.{index}.bias"] = torch.randn(small, generator=generator)
        index, into = index + 2, out
    for number in (0, 3, 6):
        state[f"classifier.{number}.weight"] = torch.zeros(1, 1)
        state[f"classifier.{number}.bias"] = torch.zeros(1)
    return state


@pytest.mark.parametrize("bands", BANDS)
def test_a_torchvision_checkpoint_loads_for_any_band_count(bands: int) -> None:
    state = torchvision_vgg16()
    network = Vgg16Features(bands)
    load_weights(network, state, "vgg16")
    own = network.state_dict()
    assert torch.equal(own["features.14.weight"], state["features.14.weight"])
    grey = torch.rand(1, 1, 6, 6)
    reference = Vgg16Features(3)
    load_weights(reference, state, "vgg16")
    ours = network(grey.repeat(1, bands, 1, 1))[0]
    theirs = reference(grey.repeat(1, 3, 1, 1))[0]
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_fit_bands_leaves_its_own_count_alone() -> None:
    weight = torch.randn(8, 3, 3, 3)
    assert fit_bands(weight, 3) is weight


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.pop("features.5.bias"), r"missing: features\.5\.bias"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), r"unexpected: extra\.weight"),
        (
            lambda s: s.update({"features.2.bias": torch.zeros(7)}),
            r"features\.2\.bias is \(7,\), not \(64,\)",
        ),
        (lambda s: s["features.0.weight"].fill_(float("nan")), "not finite"),
        (lambda s: s.clear(), "missing: features"),
    ],
)
def test_weights_that_do_not_fit_are_named(spoil: object, message: str) -> None:
    state = torchvision_vgg16()
    spoil(state)  # type: ignore[operator]
    with pytest.raises(WeightsError, match=message):
        load_weights(Vgg16Features(3), state, "vgg16")


def test_weights_files_of_both_kinds(tmp_path: Path) -> None:
    state = {"features.0.weight": torch.randn(2, 2)}
    save_file(state, str(tmp_path / "w.safetensors"))
    torch.save(state, tmp_path / "w.pth")
    torch.save({"state_dict": state}, tmp_path / "wrapped.pth")
    for name in ("w.safetensors", "w.pth", "wrapped.pth"):
        read = read_weights(str(tmp_path / name))
        assert torch.equal(read["features.0.weight"], state["features.0.weight"])


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("owned"),)  # type: ignore[return-value]


def test_a_weights_file_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.pth").write_bytes(pickle.dumps({"features.0.weight": Payload()}))
    with pytest.raises(WeightsError, match="read safely"):
        read_weights("evil.pth")
    assert not Path("owned").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"\x00" * 64])
def test_damaged_weights_files(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        read_weights(str(path))


def test_a_missing_or_modelless_weights_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weights file"):
        read_weights(str(tmp_path / "none.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="no state dict"):
        read_weights(str(tmp_path / "list.pth"))


def test_the_embedded_weights_are_small_and_fit() -> None:
    state = embedded_weights()
    load_weights(Lite0Features(), state, "embedded")
    assert sum(v.numel() * v.element_size() for v in state.values()) < 1.5e6


def test_a_whole_checkpoint_of_the_embedded_network_loads() -> None:
    """Of its later blocks and its classifier nothing is needed."""
    state = embedded_weights()
    whole = state | {
        "_blocks.5._expand_conv.weight": torch.ones(1),
        "_blocks.15._bn2.bias": torch.ones(1),
        "_conv_head.weight": torch.ones(1),
        "_bn1.running_var": torch.ones(1),
        "_fc.bias": torch.ones(1),
    }
    network = Lite0Features()
    load_weights(network, whole, "whole.pth")
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    with pytest.raises(WeightsError, match=r"missing: _blocks\.0"):
        load_weights(network, {k: v for k, v in state.items() if "_blocks.0" not in k}, "part.pth")


def test_fetching_imagenet_weights_goes_through_torch_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The real loading code on a small local file: cache, hash check, safe unpickling."""
    small = tmp_path / "small.pth"
    torch.save({"features.0.weight": torch.ones(1)}, small)
    digest = hashlib.sha256(small.read_bytes()).hexdigest()[:8]
    named = small.rename(tmp_path / f"vgg16-{digest}.pth")
    torch.hub.set_dir(str(tmp_path / "hub"))
    monkeypatch.setattr(weights, "IMAGENET_VGG16", named.as_uri())
    assert torch.equal(weights.fetch_imagenet()["features.0.weight"], torch.ones(1))
    wrong = named.rename(tmp_path / "vgg16-00000000.pth")
    monkeypatch.setattr(weights, "IMAGENET_VGG16", wrong.as_uri())
    with pytest.raises(WeightsError, match=r"cannot be fetched.*--weights FILE"):
        weights.fetch_imagenet()
