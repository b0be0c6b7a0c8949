"""Radiometric normalisation: of the whole scene, robust, unaffected by gain and offset."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import chip
from hypothesis import given
from hypothesis import strategies as st

from geocd.scene.radiometry import BandScale, Radiometry, saturated_share
from geocd.scene.sample import valid_pixels


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


@pytest.mark.parametrize(("gain", "offset"), [(1.3, 200), (4.0, 0), (1.0, 170)])
def test_a_gain_into_saturation_is_not_change(gain: float, offset: float) -> None:
    before = np.random.default_rng(0).gamma(4, 15, (3, 120, 130)).clip(0, 255).astype(np.uint8)
    after = np.clip(np.round(gain * before.astype(float) + offset), 0, 255).astype(np.uint8)
    assert (after == 255).mean() > 0.05
    pair = chip(before.astype(np.float32), after.astype(np.float32))
    x1, x2 = Radiometry.fit([pair]).apply(pair)
    assert np.quantile(np.abs(x1 - x2), 0.99) < 0.25


def test_saturated_is_what_lies_at_the_top_of_an_integer_type() -> None:
    values = np.array(
        [
            [255, 255, 255, 9],
            [32767, 9, 9, 9],
            [65535, 65535, 9, 9],
            [254, 254, 254, 9],  # the top of nothing
            [255, 255, 255, 300],  # not the top of this band
            [255, 255, 255, 255],  # constant, not saturated
        ],
        float,
    )
    assert saturated_share(values).tolist() == [0.75, 0.25, 0.5, 0, 0, 0]


def test_the_scale_by_hand() -> None:
    values = np.stack([np.arange(101.0), np.arange(101.0)[::-1] * 10 - 300])
    scale = BandScale.fit(values)
    assert scale.low == pytest.approx([2, -280])
    assert scale.high == pytest.approx([98, 680])
    assert scale.mean == pytest.approx([50, 200])
    inner = np.array([2.0, 2, *range(2, 99), 98, 98])
    assert scale.gain == pytest.approx([1 / inner.std(), 0.1 / inner.std()])
    # Clipped at the top at the share that is saturated, where that is more than is clipped anyway.
    assert BandScale.fit(values, saturated=np.array([0.25, 0.01])).high == pytest.approx([75, 680])
    assert BandScale.fit(values, saturated=np.array([0.025, 0.019])).high == pytest.approx([97.5, 680])
    whole = BandScale.fit(values, None, np.array([0.25, 0.25]))
    assert (whole.low.tolist(), whole.high.tolist()) == ([0, -300], [100, 700])


@pytest.mark.parametrize("unit", [1e-30, 1e-6, 1, 1e9])
def test_a_constant_band_is_one_in_any_unit(unit: float) -> None:
    """Its standard deviation is one of rounding errors; that of a band in a small unit is small."""
    values = np.array([np.full(1001, 1.1), np.full(1001, -0.3), np.linspace(1, 1.1, 1001)])
    gain = BandScale.fit(values * unit).gain
    assert gain[:2].tolist() == [0, 0]
    assert gain[2] * unit == pytest.approx(BandScale.fit(values).gain[2])
    assert BandScale.fit(values * unit).apply(values[:, None] * unit)[:2].tolist() == [[[0] * 1001]] * 2


@pytest.mark.parametrize("date", ["before", "after"])
@pytest.mark.parametrize(("share", "counts"), [(0.74, True), (0.75, False), (0.76, False)])
def test_a_band_that_is_mostly_saturated_in_one_date_says_nothing(
    date: str, share: float, counts: bool
) -> None:
    values = np.random.default_rng(0).uniform(10, 200, (2, 10, 100)).astype(np.float32)
    bright = values.copy()
    bright[1].flat[: round(1000 * share)] = 255
    pair = chip(*((bright, values) if date == "before" else (values, bright)))
    scale = Radiometry.fit([pair])
    assert (scale.before.gain > 0).tolist() == (scale.after.gain > 0).tolist() == [True, counts]


@pytest.mark.parametrize("date", ["before", "after"])
def test_a_band_that_is_constant_in_either_date_is_left_out_of_both(scene: np.ndarray, date: str) -> None:
    flat = scene.copy()
    flat[1] = 7
    scale = Radiometry.fit([chip(*((flat, scene) if date == "before" else (scene, flat)))])
    assert (scale.before.gain > 0).tolist() == (scale.after.gain > 0).tolist() == [True, False, True]


@pytest.mark.parametrize("bands", range(1, 8))
def test_bands_do_not_know_of_each_other(bands: int) -> None:
    random = np.random.default_rng(bands)
    before, after = random.gamma(3, 200, (2, bands, 30, 30))
    pair = chip(before, after)
    together, at_once = Radiometry.fit([pair]), BandScale.fit(valid_pixels([pair])[0])
    for name in ("low", "high", "mean", "gain"):
        found = getattr(together.before, name)
        assert found.shape == (bands,)
        assert found.tolist() == getattr(at_once, name).tolist()  # to the last bit
    swapped = Radiometry.fit([chip(after, before)])
    assert np.array_equal(swapped.after.mean, together.before.mean)
    assert np.array_equal(swapped.before.gain, together.after.gain)


def test_selected_bands_are_scaled_as_they_were_among_all(scene: np.ndarray) -> None:
    pair = chip(scene, scene * 2 + 7)
    fitted = Radiometry.fit([pair])
    x1, x2 = fitted.apply(pair)
    some = [2, 0]
    y1, y2 = Radiometry.fit([pair], bands=some).apply(chip(pair.before[some], pair.after[some]))
    assert np.array_equal(y1, x1[some])
    assert np.array_equal(y2, x2[some])


def test_what_is_not_valid_is_zero_in_both_dates_and_never_nan(scene: np.ndarray) -> None:
    valid = np.random.default_rng(1).random(scene.shape[1:]) > 0.3
    before, after = scene.copy(), scene[:, ::-1].copy()
    before[:, ~valid], after[:, ~valid] = np.nan, np.inf
    pair = chip(before, after, valid)
    for x in Radiometry.fit([pair]).apply(pair):
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        assert (x[:, ~valid] == 0).all()
        assert (x[:, valid] != 0).any(axis=1).all()


@given(
    seed=st.integers(0, 99),
    gain=st.floats(1e-3, 1e3),
    offset=st.floats(-1e4, 1e4),
    bands=st.integers(1, 5),
)
def test_any_gain_and_offset_vanish(seed: int, gain: float, offset: float, bands: int) -> None:
    values = np.random.default_rng(seed).normal(0, 100, (bands, 12, 13))
    pair = chip(values, gain * values + offset)
    x1, x2 = Radiometry.fit([pair]).apply(pair)
    np.testing.assert_allclose(x1, x2, atol=1e-4)
