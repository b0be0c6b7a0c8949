"""The default preset: its tiles agree, on any number of devices and with little memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from simulated import extractor, simulated_chip

from geocd.config import MethodSettings, Settings
from geocd.errors import ConfigError
from geocd.method import default, devices
from geocd.method.distance import SceneDistance
from geocd.raster.pair import Chip
from geocd.raster.scaling import Scaling

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in a run. On a busy machine, torch's threads mostly wait for each other."""
    with devices.one_thread():
        yield


def detector_of(chip: Chip, pixel_size: float = 10.0, **settings: object) -> default.DefaultDetector:
    """Fit the preset to a chip of pixels of this size in metres."""
    pair = SimpleNamespace(
        band_names=["red", "green", "blue", "nir"],
        grid=SimpleNamespace(pixel_size=pixel_size, shape=chip.valid.shape),
        before_path="before",
        after_path="after",
        dtypes=("uint16", "uint16"),
        scalings=(Scaling(), Scaling()),
    )
    resolved = Settings.from_flat(settings).resolved().method
    return default.DefaultDetector.fit([chip], pair, resolved, 1)  # type: ignore[arg-type]


def test_the_probability_does_not_depend_on_where_a_tile_begins() -> None:
    whole = simulated_chip(3, size=300, row=5, col=11)
    detector = detector_of(whole)
    expected, margin = detector.prob(whole)[0], detector.margin
    for row, col in ((8, 16), (13, 3), (31, 29)):
        part = whole.part(slice(row, row + 250), slice(col, col + 250))
        inner = expected[row + margin : row + 250 - margin, col + margin : col + 250 - margin]
        np.testing.assert_allclose(detector.prob(part)[0][margin:-margin, margin:-margin], inner, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"focus": "built", "uncertainty": True}])
@pytest.mark.parametrize("pixel_size", [1.5, 10.0])
def test_what_is_needed_is_the_same_without_the_rest(settings: dict[str, object], pixel_size: float) -> None:
    whole = simulated_chip(3, size=200, row=5, col=11)
    whole.valid[90:97, 60:150] = False
    detector = detector_of(whole, pixel_size, **settings)
    rows, cols = slice(0, 120), slice(61, 143)
    prob = detector.prob(dataclasses.replace(whole, needed=(rows, cols)))
    np.testing.assert_allclose(prob[:, rows, cols], detector.prob(whole)[:, rows, cols], atol=1e-6)
    prob[:, rows, cols] = np.nan
    assert np.isnan(prob).all(), "of nothing else is it said that nothing changed"


def test_the_weights_decide_with_the_others() -> None:
    chip = simulated_chip(0)
    maps = {name: detector_of(chip, weights=name).prob(chip)[0] for name in ("embedded", "random", "none")}
    assert not np.array_equal(maps["embedded"], maps["random"])
    names = {name: set(detector_of(chip, weights=name).features.weight) for name in maps}
    assert names["embedded"] - names["none"] == {"shallow", "middle"}
    again = detector_of(chip, weights="random").prob(chip)[0]
    assert np.array_equal(again, maps["random"]), "seeded"


def test_several_devices_share_the_tiles_by_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two names of the CPU stand for two GPUs."""
    pair = [torch.device("cpu"), torch.device("cpu", 0)]
    used: dict[tuple[float, float], torch.device] = {}

    def recording(compute: devices.Compute, chip: Chip, device: torch.device, *, margin: int) -> np.ndarray:
        used[chip.window.row_off, chip.window.col_off] = device
        return compute(chip, device)

    monkeypatch.setattr(default, "spread", lambda device: pair)
    monkeypatch.setattr(default, "in_room", recording)
    chips = [simulated_chip(0, row=row, col=row // 2) for row in range(0, 4160, 416)]
    features, _ = SceneDistance.fit(chips[:1], colour=(0, 1, 2, 3), pixel_size=None)
    detector = default.DefaultDetector(features, CPU, Settings(method=MethodSettings()).resolved().method)
    probs = [detector.prob(chip) for chip in chips]
    assert set(used.values()) == set(pair)
    before = dict(used)
    assert all(np.array_equal(prob, detector.prob(chip)) for prob, chip in zip(probs, chips, strict=True))
    assert used == before


@pytest.mark.parametrize("uncertainty", [False, True])
def test_without_room_on_a_device_the_result_is_the_same(
    uncertainty: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that nothing fits on: halves, and at last the CPU."""
    whole = simulated_chip(0, size=400, row=13, col=3)
    features, _ = SceneDistance.fit([whole], colour=(0, 1, 2, 3), pixel_size=None, extractor=extractor())
    settings = Settings(method=MethodSettings(uncertainty=uncertainty)).resolved().method
    expected = default.DefaultDetector(features, CPU, settings).prob(whole)

    class Full(default.DefaultDetector):
        def _bands(self, chip: Chip, device: torch.device) -> np.ndarray:
            if device == torch.device("meta"):
                raise torch.OutOfMemoryError("no room")
            return super()._bands(chip, device)

    detector = Full(features, CPU, settings)
    detector.__dict__["_devices"] = [torch.device("meta")]
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
    detector = detector_of(simulated_chip(0))
    assert len(devices_tried) == 2
    assert "no room for the sample: fitted on the CPU" in caplog.text
    assert np.isfinite(detector.prob(simulated_chip(0))).all()


def test_imagenet_weights_are_refused_by_the_default_preset() -> None:
    with pytest.raises(ConfigError, match="VGG16's"):
        default.feature_extractor(Settings(method=MethodSettings(weights="imagenet")).resolved().method)
