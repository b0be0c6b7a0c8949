"""The default preset: its tiles agree, on any number of devices and with little memory."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from simulated import chip_at, fresh, simulated_input

from geocd.config import MethodSettings, Settings
from geocd.errors import ConfigError
from geocd.method import default, devices, learning
from geocd.method.distance import SceneDistance
from geocd.method.networks import CompactPair
from geocd.raster.pair import Chip

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in a run. On a busy machine, torch's threads mostly wait for each other."""
    with devices.one_thread():
        yield


def test_the_logit_does_not_depend_on_where_a_tile_begins() -> None:
    networks = fresh().eval().requires_grad_(False)
    detector = default.DefaultDetector(
        None, networks, CPU, Settings(method=MethodSettings()).resolved().method
    )  # type: ignore[arg-type]
    inputs = simulated_input(3, size=160)

    def logit(row: int, col: int, size: int) -> torch.Tensor:
        cut = (..., slice(row, row + size), slice(col, col + size))
        part = learning.NetworkInput(inputs.x1[cut], inputs.x2[cut], inputs.distance[cut], inputs.valid[cut])
        return detector.logit(part, chip_at(part, row, col), networks)

    whole = logit(0, 0, 160)
    margin = CompactPair.MARGIN
    for row, col in ((8, 16), (13, 3), (31, 29)):
        part = logit(row, col, 120)[margin:-margin, margin:-margin]
        inner = whole[row + margin : row + 120 - margin, col + margin : col + 120 - margin]
        assert torch.allclose(part, inner, atol=1e-4)


def test_tiles_go_on_from_the_scene_with_fit_tile() -> None:
    inputs = simulated_input(0)
    logits = {}
    for fit in ("scene", "tile"):
        settings = (
            Settings(method=MethodSettings(fit=fit, iterations=8, learning_rate=1e-2)).resolved().method
        )  # type: ignore[arg-type]
        networks = fresh().eval().requires_grad_(False)
        detector = default.DefaultDetector(None, networks, CPU, settings)  # type: ignore[arg-type]
        with torch.no_grad():  # as in a run
            logits[fit] = detector.logit(inputs, chip_at(inputs), networks)
            assert torch.equal(logits[fit], detector.logit(inputs, chip_at(inputs), networks))
        assert all(
            torch.equal(a, b) for a, b in zip(networks.parameters(), fresh().parameters(), strict=True)
        )
    assert not torch.equal(logits["scene"], logits["tile"])


def test_several_devices_share_the_tiles_by_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two names of the CPU stand for two GPUs."""
    pair = [torch.device("cpu"), torch.device("cpu", 0)]
    used: dict[tuple[float, float], torch.device] = {}

    def recording(compute: devices.Compute, chip: Chip, device: torch.device, *, margin: int) -> np.ndarray:
        used[chip.window.row_off, chip.window.col_off] = device
        return compute(chip, device)

    monkeypatch.setattr(devices, "spread", lambda device: pair)
    monkeypatch.setattr(default, "in_room", recording)
    chips = [chip_at(simulated_input(0), row, row // 2) for row in range(0, 4160, 416)]
    features, _ = SceneDistance.fit(chips[:1], colour=(0, 1, 2, 3), pixel_size=None)
    detector = default.DefaultDetector(
        features,
        fresh().eval().requires_grad_(False),
        CPU,
        Settings(method=MethodSettings()).resolved().method,
    )
    probs = [detector.prob(chip) for chip in chips]
    assert set(used.values()) == set(pair)
    before = dict(used)
    assert all(np.array_equal(prob, detector.prob(chip)) for prob, chip in zip(probs, chips, strict=True))
    assert used == before


@pytest.mark.parametrize("uncertainty", [False, True])
def test_without_room_on_a_device_the_result_is_the_same(
    uncertainty: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that nothing fits on: halves, and at last the CPU, which has copies of the networks."""
    whole = chip_at(simulated_input(0, size=400), 13, 3)
    features, _ = SceneDistance.fit([whole], colour=(0, 1, 2, 3), pixel_size=None)
    networks = fresh().eval().requires_grad_(False)
    settings = Settings(method=MethodSettings(uncertainty=uncertainty)).resolved().method
    expected = default.DefaultDetector(features, networks, CPU, settings).prob(whole)
    detector = default.DefaultDetector(features, networks, CPU, settings)

    class Full(default.DefaultDetector):
        def _bands(self, chip: Chip, networks: CompactPair, device: torch.device) -> np.ndarray:
            if device == torch.device("meta"):
                raise torch.OutOfMemoryError("no room")
            return super()._bands(chip, networks, device)

    detector = Full(features, networks, CPU, settings)
    detector.__dict__["_replicas"] = [(torch.device("meta"), networks)]
    found = detector.prob(whole)
    assert "computed in two halves" in caplog.text
    assert "computed on the CPU" in caplog.text
    assert np.allclose(found, expected, atol=1e-4)


def test_without_room_for_the_sample_the_cpu_fits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fit, devices_tried = SceneDistance.fit, []

    def scarce(*args: object, device: torch.device, **how: object) -> object:
        devices_tried.append(device)
        if len(devices_tried) == 1:
            raise torch.OutOfMemoryError("no room")
        return fit(*args, device=device, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(SceneDistance, "fit", scarce)
    settings = Settings.from_flat({"iterations": 1}).resolved().method
    pair = SimpleNamespace(band_names=["red", "green", "blue", "nir"], grid=SimpleNamespace(pixel_size=10.0))
    detector = default.DefaultDetector.fit([chip_at(simulated_input(0))], pair, settings, 1)  # type: ignore[arg-type]
    assert len(devices_tried) == 2
    assert "no room for the sample: fitted on the CPU" in caplog.text
    assert np.isfinite(detector.prob(chip_at(simulated_input(0)))).all()


def test_imagenet_weights_are_refused_by_the_default_preset() -> None:
    with pytest.raises(ConfigError, match="VGG16's"):
        default.starting_networks(Settings(method=MethodSettings(weights="imagenet")).resolved().method)
