"""The learned part: what it learns, what it costs, and that it repeats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rasterio.windows import Window
from safetensors.torch import save_file
from scipy import ndimage
from torch import nn

from geocd.config import MethodSettings, Settings
from geocd.errors import ConfigError, WeightsError
from geocd.method import default, devices, learning, losses, reference
from geocd.method.distance import LinearFeatures
from geocd.method.networks import CompactFeatures, CompactPair, ResidualGenerator, Vgg16Features, initialise
from geocd.method.weights import embedded_weights, load_weights
from geocd.raster.pair import Chip

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in a run. On a busy machine, torch's threads mostly wait for each other."""
    with devices.one_thread():
        yield


def multiply_adds(network: nn.Module, *inputs: torch.Tensor) -> float:
    """Multiply-adds per pixel of the input, counted at every convolution while it runs."""
    total = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += output.shape[-2] * output.shape[-1] * module.weight.numel() * output.shape[0]

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    network(*inputs)
    return total / (inputs[0].shape[-2] * inputs[0].shape[-1])


def test_the_light_networks_cost_a_fiftieth_of_the_published_generator() -> None:
    x = torch.zeros(1, 4, 64, 64)
    light = multiply_adds(CompactPair(), x, x)
    heavy = multiply_adds(ResidualGenerator(4), x, x)
    assert heavy / light >= 50


@pytest.mark.parametrize("bands", [1, 3, 4, 13])
@pytest.mark.parametrize("size", [(1, 1), (5, 5), (1, 70), (33, 18)])
def test_compact_features_take_any_image(bands: int, size: tuple[int, int]) -> None:
    features = CompactFeatures(bands)(torch.randn(1, bands, *size))
    assert [f.shape[1] for f in features] == [24, 32, 48]


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (1, 70), (33, 18)])
def test_the_light_pair_takes_any_size(size: tuple[int, int]) -> None:
    x = torch.randn(1, 4, *size)
    assert CompactPair()(x, x).shape == (1, 1, *size)


def test_the_margin_covers_what_a_pixel_depends_on() -> None:
    network = CompactPair()
    initialise(network, torch.Generator().manual_seed(0))
    x = torch.randn(1, 4, 160, 160, requires_grad=True)
    reach = 0
    for row, col in ((80, 80), (83, 86), (87, 81)):
        (grad,) = torch.autograd.grad(network(x, -x)[0, 0, row, col], x)
        touched = grad.abs().amax(dim=(0, 1)).nonzero()
        reach = max(reach, int((touched - torch.tensor([row, col])).abs().max()))
    assert 20 < reach <= CompactPair.MARGIN


def test_the_embedded_weights_are_small_and_fit() -> None:
    state = embedded_weights()
    load_weights(CompactPair(), state, "embedded")
    assert sum(v.numel() * v.element_size() for v in state.values()) < 4e6


def scene(seed: int = 0, size: int = 96) -> learning.NetworkInput:
    """A lesson in which change is a patch of other values, and its distance is clear."""
    rng = np.random.default_rng(seed)
    x1 = ndimage.gaussian_filter(rng.normal(size=(4, size, size)), (0, 2, 2)) * 5
    x2 = x1 + rng.normal(0, 0.1, x1.shape)
    changed = np.zeros((size, size), bool)
    row, col = rng.integers(8, size - 40, 2)
    changed[row : row + 28, col : col + 28] = True
    x2[:, changed] = rng.normal(size=(4, 1)) + rng.normal(0, 0.5, (4, changed.sum()))
    distance = np.where(changed, 3.5, 0.2) + rng.normal(0, 0.1, changed.shape)
    values = [torch.from_numpy(v.astype(np.float32)) for v in (x1, x2, distance)]
    return learning.NetworkInput(*values, torch.ones(changed.shape, dtype=torch.bool))


def place(one: learning.NetworkInput, row: int = 0, col: int = 0) -> Chip:
    """A chip of the values of a lesson, at a place."""
    height, width = one.valid.shape
    return Chip(one.x1.numpy(), one.x2.numpy(), one.valid.numpy(), Window(col, row, width, height))


def fresh(seed: int = 1) -> CompactPair:
    networks = CompactPair()
    initialise(networks, torch.Generator().manual_seed(seed))
    return networks


def test_learning_optimises_both_networks() -> None:
    networks, before = fresh(), fresh().state_dict()
    learning.learn(networks, [scene()], iterations=2, learning_rate=1e-3, seed=0, device=CPU)
    moved = {k.split(".")[0] for k, v in networks.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"extractor", "generator"}


def test_learning_finds_change_in_a_scene_it_has_not_seen() -> None:
    networks = fresh()
    inputs = [scene(seed) for seed in range(6)]
    learning.learn(networks, inputs, iterations=60, learning_rate=2e-3, seed=0, device=CPU)
    unseen = scene(99)
    with torch.no_grad():
        logit = networks(unseen.x1[None], unseen.x2[None])[0, 0].numpy()
    changed = unseen.distance > 2
    assert np.median(logit[changed]) > np.percentile(logit[~changed], 95)


def test_learning_repeats_and_follows_its_seed() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed + 7)  # must not matter
        networks = fresh()
        learning.learn(networks, [scene()], iterations=2, learning_rate=1e-3, seed=seed, device=CPU)
        states.append(networks.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not all(torch.equal(states[0][k], states[2][k]) for k in states[0])


def test_the_loss_ignores_what_is_not_valid() -> None:
    networks = fresh()
    valid = np.ones((96, 96), bool)
    valid[:, 48:] = False
    values = []
    for junk in (0.0, 1e3):
        one = scene()
        distance = np.where(valid, one.distance, junk).astype(np.float32)
        x1, x2 = (np.where(valid, x, 0).astype(np.float32) for x in (one.x1, one.x2))
        batch = [torch.from_numpy(v)[None] for v in (x1, x2, distance[None], np.float32(valid)[None])]
        values.append(learning.loss(networks, batch, torch.Generator().manual_seed(0)).item())
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_the_loss_is_finite_without_a_valid_pixel() -> None:
    networks = fresh()
    zero = torch.zeros(1, 4, 32, 32)
    value = learning.loss(networks, [zero, zero, zero[:, :1], zero[:, :1]], torch.Generator().manual_seed(0))
    value.backward()
    assert torch.isfinite(value)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in networks.parameters())


def test_a_batch_keeps_dates_distance_and_valid_together() -> None:
    size = 130
    rows, cols = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    x1 = torch.stack([rows, cols, rows, cols])
    one = learning.NetworkInput(x1, x1 + 1, rows * size + cols, rows > cols)
    x1b, x2b, distance, valid = learning.draw([one], np.random.default_rng(0), CPU)
    assert x1b.shape == (learning.BATCH, 4, learning.SIDE, learning.SIDE)
    assert torch.equal(x2b, x1b + 1)
    assert torch.equal(distance, x1b[:, :1] * size + x1b[:, 1:2])
    assert torch.equal(valid > 0, x1b[:, :1] > x1b[:, 1:2])


def test_the_logit_does_not_depend_on_where_a_tile_begins() -> None:
    networks = fresh().eval().requires_grad_(False)
    detector = default.DefaultDetector(None, networks, CPU, MethodSettings())  # type: ignore[arg-type]
    one = scene(3, size=160)

    def logit(row: int, col: int, size: int) -> torch.Tensor:
        cut = (..., slice(row, row + size), slice(col, col + size))
        part = learning.NetworkInput(one.x1[cut], one.x2[cut], one.distance[cut], one.valid[cut])
        return detector.logit(part, place(part, row, col), networks)

    whole = logit(0, 0, 160)
    margin = CompactPair.MARGIN
    for row, col in ((8, 16), (13, 3), (31, 29)):
        part = logit(row, col, 120)[margin:-margin, margin:-margin]
        inner = whole[row + margin : row + 120 - margin, col + margin : col + 120 - margin]
        assert torch.allclose(part, inner, atol=1e-4)


def test_reference_optimises_both_networks_and_repeats_per_place() -> None:
    settings = Settings.from_flat({"preset": "reference", "weights": "random", "iterations": 2})
    one = scene(0, size=64)
    chip, elsewhere = place(one), place(one, col=64)
    detector = reference.ReferenceDetector.fit([chip], settings.resolved().method)
    first, again, other = (detector.prob(c) for c in (chip, chip, elsewhere))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (1, 64, 64)
    assert ((first >= 0) & (first <= 1)).all()


def test_the_margin_of_the_published_generator_covers_what_a_pixel_depends_on() -> None:
    network = ResidualGenerator(1, width=2)
    initialise(network, torch.Generator().manual_seed(0))
    x = torch.randn(1, 1, 151, 151, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(network.double()(x, -x)[0, 0, 75, 75], x)
    touched = grad[0, 0].nonzero()
    assert int((touched - 75).abs().max()) == ResidualGenerator.MARGIN


def test_reference_fitted_to_the_scene_learns_once_and_its_tiles_agree() -> None:
    """The published generator, as deep as it is: tiles agree beyond its margin."""
    flat = {"preset": "reference", "weights": "random", "iterations": 3, "fit": "scene"}
    settings = Settings.from_flat(flat).resolved().method
    one = scene(0, size=192)
    whole = place(one)
    detector = reference.ReferenceDetector.fit([whole], settings)
    assert detector.fitted is not None
    cut = (x[..., 20:] for x in (one.x1, one.x2, one.distance, one.valid))
    part = place(learning.NetworkInput(*cut), col=20)
    apart = np.abs(detector.prob(whole)[0, :, 20:] - detector.prob(part)[0])
    assert apart[:, ResidualGenerator.MARGIN :].max() < 1e-4
    assert np.array_equal(detector.prob(part), detector.prob(part))


def test_tiles_go_on_from_the_scene_with_fit_tile() -> None:
    one = scene(0)
    logits = {}
    for fit in ("scene", "tile"):
        settings = MethodSettings(fit=fit, iterations=8, learning_rate=1e-2)  # type: ignore[arg-type]
        networks = fresh().eval().requires_grad_(False)
        detector = default.DefaultDetector(None, networks, CPU, settings)  # type: ignore[arg-type]
        with torch.no_grad():  # as in a run
            logits[fit] = detector.logit(one, place(one), networks)
            assert torch.equal(logits[fit], detector.logit(one, place(one), networks))
        assert all(
            torch.equal(a, b) for a, b in zip(networks.parameters(), fresh().parameters(), strict=True)
        )
    assert not torch.equal(logits["scene"], logits["tile"])


def test_several_devices_share_the_tiles_by_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two names of the CPU stand for two GPUs."""
    two = [torch.device("cpu"), torch.device("cpu", 0)]
    used: dict[tuple[float, float], torch.device] = {}

    def told(compute: devices.Compute, chip: Chip, device: torch.device, *, margin: int) -> np.ndarray:
        used[chip.window.row_off, chip.window.col_off] = device
        return compute(chip, device)

    monkeypatch.setattr(devices, "spread", lambda device: two)
    monkeypatch.setattr(default, "in_room", told)
    chips = [place(scene(0), row, row // 2) for row in range(0, 4160, 416)]
    features, _ = LinearFeatures.fit(chips[:1], colour=(0, 1, 2, 3), pixel_size=None)
    detector = default.DefaultDetector(features, fresh().eval().requires_grad_(False), CPU, MethodSettings())
    probs = [detector.prob(chip) for chip in chips]
    assert set(used.values()) == set(two)
    before = dict(used)
    assert all(np.array_equal(prob, detector.prob(chip)) for prob, chip in zip(probs, chips, strict=True))
    assert used == before


@pytest.mark.parametrize("uncertainty", [False, True])
def test_without_room_on_a_device_the_result_is_the_same(
    uncertainty: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that nothing fits on: halves, and at last the CPU, which has copies of the networks."""
    whole = place(scene(0, size=400), 13, 3)
    features, _ = LinearFeatures.fit([whole], colour=(0, 1, 2, 3), pixel_size=None)
    networks = fresh().eval().requires_grad_(False)
    settings = MethodSettings(uncertainty=uncertainty)
    expected = default.DefaultDetector(features, networks, CPU, settings).prob(whole)
    detector = default.DefaultDetector(features, networks, CPU, settings)

    class Full(default.DefaultDetector):
        def _bands(self, chip: Chip, networks: CompactPair, device: torch.device) -> np.ndarray:
            if device == torch.device("meta"):
                raise torch.OutOfMemoryError("no room")
            return super()._bands(chip, networks, device)

    detector = Full(features, networks, CPU, settings)
    detector.__dict__["_everywhere"] = [(torch.device("meta"), networks)]
    found = detector.prob(whole)
    assert "computed in two halves" in caplog.text
    assert "computed on the CPU" in caplog.text
    assert np.allclose(found, expected, atol=1e-4)


def test_without_room_for_the_sample_the_cpu_fits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fit, devices_tried = LinearFeatures.fit, []

    def scarce(*args: object, device: torch.device, **how: object) -> object:
        devices_tried.append(device)
        if len(devices_tried) == 1:
            raise torch.OutOfMemoryError("no room")
        return fit(*args, device=device, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(LinearFeatures, "fit", scarce)
    settings = Settings.from_flat({"iterations": 1}).resolved().method
    pair = SimpleNamespace(band_names=["red", "green", "blue", "nir"], grid=SimpleNamespace(pixel_size=10.0))
    detector = default.DefaultDetector.fit([place(scene(0))], pair, settings, 1)  # type: ignore[arg-type]
    assert len(devices_tried) == 2
    assert "no room for the sample: fitted on the CPU" in caplog.text
    assert np.isfinite(detector.prob(place(scene(0)))).all()


def test_adapting_halves_the_batch_where_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The device is simulated: it has room for two squares."""
    sizes = []
    draw = learning.draw

    def scarce(*args: object) -> list[torch.Tensor]:
        batch = draw(*args)  # type: ignore[arg-type]
        sizes.append(len(batch[0]))
        if len(batch[0]) > 2:
            raise torch.OutOfMemoryError("no room")
        return batch

    monkeypatch.setattr(learning, "draw", scarce)
    start = fresh()
    told: dict[int, float] = {}
    adapted = learning.adapt(
        start, [scene()], iterations=2, learning_rate=1e-3, seed=0, device=CPU, told=told.__setitem__
    )
    assert sizes == [8, 4, 2, 2]
    assert list(told) == [0, 1]
    assert all(np.isfinite(list(told.values())))
    assert "halved to 2" in caplog.text
    pairs = zip(adapted.parameters(), fresh().parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), fresh().parameters(), strict=True))


def test_reference_weights_are_checked_before_any_tile(tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, str(tmp_path / "part.safetensors"))
    settings = MethodSettings(preset="reference", weights=str(tmp_path / "part.safetensors"))
    one = scene(0, size=64)
    chip = Chip(one.x1, one.x2, one.valid, Window(0, 0, 64, 64))
    with pytest.raises(WeightsError, match=r"missing: features\.0\.bias"):
        reference.ReferenceDetector.fit([chip], settings)


def test_reference_starts_from_a_local_checkpoint(tmp_path: Path) -> None:
    trained = Vgg16Features(3)
    initialise(trained, torch.Generator().manual_seed(4))
    torch.save(trained.state_dict(), tmp_path / "vgg16.pth")
    settings = MethodSettings(preset="reference", weights=str(tmp_path / "vgg16.pth"))
    one = scene(0, size=64)
    chip = Chip(one.x1, one.x2, one.valid, Window(0, 0, 64, 64))
    detector = reference.ReferenceDetector.fit([chip], settings)
    assert detector.weights is not None
    assert torch.equal(detector.weights["features.0.weight"], trained.state_dict()["features.0.weight"])


def test_fetching_imagenet_weights_goes_through_torch_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The real loading code on a small local file: cache, hash check, safe unpickling."""
    import hashlib

    from geocd.method import weights

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


def test_imagenet_weights_are_refused_by_the_default_preset() -> None:
    with pytest.raises(ConfigError, match="VGG16's"):
        default.DefaultDetector._start(MethodSettings(weights="imagenet"))


def test_null_distance_is_above_the_bulk_and_has_a_floor() -> None:
    torch.manual_seed(0)
    values = torch.rand(1, 1, 50, 50)
    values[0, 0, :5] = 100
    everywhere = torch.ones_like(values)
    assert 1 < learning.null_distance(values, everywhere) < 3
    assert learning.null_distance(values * 0, everywhere) == learning.LEAST_NULL


def test_jitter_uses_only_its_generator() -> None:
    x = torch.randn(2, 4, 8, 8)
    torch.manual_seed(1)
    one = losses.radiometric_jitter(x, torch.Generator().manual_seed(3))
    torch.manual_seed(2)
    assert torch.equal(one, losses.radiometric_jitter(x, torch.Generator().manual_seed(3)))
