"""Radiometric statistics: scene-wide, robust, indifferent to gain and offset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rasterio.windows import Window

from geocd.errors import NoValidPixelError
from geocd.normalize import BandScale, Radiometry, crops, sample_chips
from geocd.raster import Chip, Pair


def chip(before: np.ndarray, after: np.ndarray, valid: np.ndarray | None = None) -> Chip:
    valid = np.ones(before.shape[1:], bool) if valid is None else valid
    return Chip(before, after, valid, Window(0, 0, before.shape[2], before.shape[1]))


@pytest.fixture
def scene() -> np.ndarray:
    return np.random.default_rng(0).gamma(3, 200, (3, 40, 50)).astype(np.float32)


def test_gain_and_offset_vanish(scene: np.ndarray) -> None:
    gain = np.array([1.3, 0.5, 4], np.float32)[:, None, None]
    pair = chip(scene, scene * gain + 200)
    x1, x2 = Radiometry.fit([pair]).apply(pair)
    assert np.abs(x1 - x2).max() < 1e-4
    assert np.allclose(x1.mean(axis=(1, 2)), 0, atol=1e-5)
    assert np.allclose(x1.std(axis=(1, 2)), 1, atol=1e-5)


def test_outliers_and_invalid_pixels_do_not_move_the_statistics(scene: np.ndarray) -> None:
    valid = np.ones(scene.shape[1:], bool)
    valid[:10] = False
    spoilt = scene.copy()
    spoilt[:, 0] = 1e9
    clean = Radiometry.fit([chip(scene, scene, valid)])
    dirty = Radiometry.fit([chip(spoilt, scene, valid)])
    assert np.array_equal(clean.before.mean, dirty.before.mean)
    x1, _ = dirty.apply(chip(spoilt, scene, valid))
    assert (x1[:, ~valid] == 0).all()
    spoilt = scene.copy()
    spoilt[:, 20, 20] = 1e9  # one valid outlier
    one = BandScale.fit(spoilt.reshape(3, -1).astype(float))
    base = BandScale.fit(scene.reshape(3, -1).astype(float))
    assert np.allclose(one.mean, base.mean, rtol=0.01)


def test_a_constant_band_becomes_zero_not_nan() -> None:
    values = np.full((1, 8, 8), 7.3, np.float32)
    pair = chip(values, values)
    x1, x2 = Radiometry.fit([pair]).apply(pair)
    assert (x1 == 0).all()
    assert (x2 == 0).all()


def test_objects_on_a_constant_background_survive_the_clipping() -> None:
    before, after = np.zeros((2, 1, 50, 50), np.float32)
    before[:, -3:, -3:] = after[:, :3, :3] = 100  # 0.4 %, beyond both percentiles
    pair = chip(before, after)
    x1, x2 = Radiometry.fit([pair]).apply(pair)
    assert x2[0, 1, 1] > 5
    assert x1[0, -1, -1] > 5


def test_a_band_that_is_constant_in_one_date_says_nothing(scene: np.ndarray) -> None:
    flat = scene.copy()
    flat[1] = 7
    x1, x2 = Radiometry.fit([chip(flat, scene)]).apply(chip(flat, scene))
    assert (x1[1] == 0).all()
    assert (x2[1] == 0).all()
    assert np.allclose(x1[0], x2[0])


def test_large_offsets_keep_their_precision() -> None:
    rng = np.random.default_rng(0)
    values = 1e9 + rng.normal(size=(1, 30, 30))
    pair = chip(values, values + 5)
    x1, x2 = Radiometry.fit([pair]).apply(pair)
    assert np.abs(x1 - x2).max() < 1e-3
    assert x1.std() == pytest.approx(1, abs=1e-3)


def test_the_sample_of_a_large_raster_is_bounded_and_spread(
    make_pair: Callable[..., tuple[Path, Path]],
) -> None:
    rows, cols = np.mgrid[:300, :400]
    place = np.stack([rows, cols]).astype(np.float32)
    before, after = make_pair(place, place)
    with Pair(before, after) as pair:
        chips = sample_chips(pair, max_pixels=10_000, chip_size=32)
        again = sample_chips(pair, max_pixels=10_000, chip_size=32)
        whole = sample_chips(pair)
    count = sum(c.valid.sum() for c in chips)
    assert 10_000 <= count < 12_000
    assert np.concatenate([c.before[0].ravel() for c in chips]).max() > 250
    assert np.concatenate([c.before[1].ravel() for c in chips]).max() > 350
    assert all(np.array_equal(a.before, b.before) for a, b in zip(chips, again, strict=True))
    assert [c.valid.shape for c in whole] == [(300, 400)]


def test_the_sample_finds_the_only_valid_corner(make_pair: Callable[..., tuple[Path, Path]]) -> None:
    values = np.full((1, 200, 200), -9.0, np.float32)
    values[:, -5:, -5:] = 3
    before, after = make_pair(values, values, nodata=-9.0)
    with Pair(before, after) as pair:
        chips = sample_chips(pair, max_pixels=4_000, chip_size=32)
    assert sum(c.valid.sum() for c in chips) >= 25


def test_no_valid_pixel_is_an_error(make_pair: Callable[..., tuple[Path, Path]]) -> None:
    values = np.full((1, 100, 100), -9.0, np.float32)
    before, after = make_pair(values, values, nodata=-9.0)
    with Pair(before, after) as pair, pytest.raises(NoValidPixelError, match="no pixel is valid"):
        sample_chips(pair, max_pixels=1_000, chip_size=32)


def test_crops_are_pieces_of_their_chips() -> None:
    rows, cols = np.mgrid[:300, :500].astype(np.float32)
    place = np.stack([rows, cols])
    pieces = crops([chip(place, place)], 40_000, size=100)
    assert sum(p.valid.size for p in pieces) == 40_000
    for piece in pieces:
        assert piece.before[0, 0, 0] == piece.window.row_off
        assert piece.before[1, 0, 0] == piece.window.col_off
    assert len({(p.window.row_off, p.window.col_off) for p in pieces}) == 4
    whole = [chip(place, place)]
    assert crops(whole, 300 * 500) == whole


@pytest.mark.parametrize(("gain", "offset"), [(1.3, 200), (4.0, 0), (1.0, 170)])
def test_a_gain_into_saturation_is_not_change(gain: float, offset: float) -> None:
    before = np.random.default_rng(0).gamma(4, 15, (3, 120, 130)).clip(0, 255).astype(np.uint8)
    after = np.clip(np.round(gain * before.astype(float) + offset), 0, 255).astype(np.uint8)
    assert (after == 255).mean() > 0.05
    pair = chip(before.astype(np.float32), after.astype(np.float32))
    x1, x2 = Radiometry.fit([pair]).apply(pair)
    assert np.quantile(np.abs(x1 - x2), 0.99) < 0.25
