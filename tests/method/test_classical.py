"""Classical distances: against their definitions, on hostile bands, near nodata."""

from __future__ import annotations

import numpy as np
import pytest
from rasterio.windows import Window
from scipy import ndimage
from simulated import with_object

from geocd.method.classical import ClassicalDetector, Cva, smooth
from geocd.raster.pair import Chip


def chip(before: np.ndarray, after: np.ndarray, valid: np.ndarray | None = None) -> Chip:
    valid = np.ones(before.shape[1:], bool) if valid is None else valid
    before, after = before.copy(), after.copy()
    before[:, ~valid] = 0
    after[:, ~valid] = 0
    return Chip(before, after, valid, Window(0, 0, before.shape[2], before.shape[1]))


def test_smooth_is_a_gaussian_where_all_is_valid_and_knows_holes() -> None:
    values = np.random.default_rng(0).random((30, 40)).astype(np.float32)
    everywhere = np.ones(values.shape, bool)
    assert np.allclose(smooth(values, everywhere, 2), ndimage.gaussian_filter(values, 2, mode="nearest"))
    holed = everywhere.copy()
    holed[10:20, 10:20] = False
    spoilt = np.where(holed, 1.0, 1e6).astype(np.float32)
    result = smooth(spoilt, holed, 2)
    assert np.allclose(result[holed], 1, atol=1e-5)
    assert (result[~holed] == 0).all()


@pytest.mark.parametrize("method", ["cva", "irmad"])
def test_a_planted_object_is_found_and_little_else(method: str, scene: np.ndarray) -> None:
    after, truth = with_object(scene)
    pair = chip(scene, after)
    detector = ClassicalDetector.fit(method, [pair])
    changed = detector.prob(pair)[0] >= 0.5
    assert (changed & truth).sum() / (changed | truth).sum() > 0.6


@pytest.mark.parametrize("method", ["cva", "irmad"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nothing_changed_is_nothing_found(method: str, dtype: type, scene: np.ndarray) -> None:
    digital = np.clip(scene / 20, 0, 250).astype(dtype) if dtype == np.uint8 else scene.astype(dtype)
    same = chip(digital.astype(np.float32), digital.astype(np.float32))
    assert not (ClassicalDetector.fit(method, [same]).prob(same) >= 0.5).any()
    if dtype == np.uint16:
        light = np.round(1.3 * digital.astype(np.float32) + 200)
        pair = chip(digital.astype(np.float32), light)
        assert not (ClassicalDetector.fit(method, [pair]).prob(pair) >= 0.5).any()


@pytest.mark.parametrize("method", ["cva", "irmad"])
@pytest.mark.parametrize("kind", ["constant", "one constant band", "equal bands", "one band", "one pixel"])
def test_degenerate_bands_give_finite_probabilities(method: str, kind: str, scene: np.ndarray) -> None:
    after, _ = with_object(scene)
    before = scene.copy()
    if kind == "constant":
        before, after = np.full_like(scene, 5), np.full_like(scene, 9)
    elif kind == "one constant band":
        before[1], after[1] = 5, 9
    elif kind == "equal bands":
        before[1], after[1] = before[0], after[0]
    elif kind == "one band":
        before, after = before[:1], after[:1]
    else:
        before, after = before[:, :1, :1], after[:, :1, :1]
    pair = chip(before, after)
    with np.errstate(all="raise", under="ignore"):
        prob = ClassicalDetector.fit(method, [pair]).prob(pair)
    assert np.isfinite(prob).all()
    if kind == "constant":
        assert (prob < 0.5).all()


@pytest.mark.parametrize("method", ["cva", "irmad"])
def test_what_is_not_valid_does_not_matter(method: str, scene: np.ndarray) -> None:
    after, _ = with_object(scene)
    valid = np.ones(scene.shape[1:], bool)
    valid[60:, 70:] = False
    detectors = []
    for junk in (0, 30_000):
        spoilt = after.copy()
        spoilt[:, ~valid] = junk
        pair = Chip(scene, spoilt, valid, Window(0, 0, 90, 80))
        detectors.append(ClassicalDetector.fit(method, [pair]).prob(chip(scene, after, valid)))
    assert np.array_equal(detectors[0], detectors[1], equal_nan=True)
    assert (np.isnan(detectors[0][0]) == ~valid).all()


def test_a_window_gives_what_the_whole_gives(scene: np.ndarray) -> None:
    after, _ = with_object(scene)
    whole = chip(scene, after)
    cva = Cva.fit([whole])
    part = chip(scene[:, :60, :60], after[:, :60, :60])
    inner = 60 - cva.margin
    assert np.allclose(cva.distance(part)[:inner, :inner], cva.distance(whole)[:inner, :inner], atol=1e-5)
