"""Maps of what the default method sees."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from simulated import simulated_chip

from geocd.config import Settings
from geocd.method.default import DefaultDetector
from geocd.method.devices import one_thread
from geocd.method.evidence import seen


def test_maps_are_the_detectors_own() -> None:
    chip = simulated_chip(3, size=96, row=5, col=11)
    pair = SimpleNamespace(band_names=["red", "green", "blue", "nir"], grid=SimpleNamespace(pixel_size=10.0))
    with one_thread():
        detector = DefaultDetector.fit([chip], pair, Settings.from_flat({}).resolved().method, 1)  # type: ignore[arg-type]
        maps = dict(seen(detector, chip))
        scaled = detector.features.scaled(chip)
        distances = detector.features.terms(scaled)
    assert {name for name in maps if name.startswith("distances:")} == {f"distances:{n}" for n in distances}
    np.testing.assert_array_equal(maps["distances:ir"], distances["ir"].numpy())
    for level, features in zip(("shallow", "middle"), scaled.features, strict=True):
        assert sum(name.startswith(f"{level}:before:") for name in maps) == len(features.before)
        values, own = maps[f"{level}:after:3"], features.after[3].numpy()
        assert values.shape == chip.valid.shape
        (top, left), stride = features.offset, features.stride
        for row, col in ((0, 0), (40, 51), (95, 95)):  # the place that the pixel is in
            assert values[row, col] == own[(row + top) // stride, (col + left) // stride]
