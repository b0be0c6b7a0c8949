"""Radiometric statistics: scene-wide, robust, indifferent to gain and offset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.windows import Window

from geocd.errors import NoValidPixelError
from geocd.raster.pair import Chip, Pair
from geocd.scene.radiometry import BandScale, Radiometry, saturated_share
from geocd.scene.sample import _scattered, crops, sample_chips, valid_pixels, zero_shares, zeros_in_words


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


def test_a_raster_of_just_the_sample_s_size_is_read_whole(
    make_pair: Callable[..., tuple[Path, Path]],
) -> None:
    values = np.random.default_rng(0).random((1, 40, 50), np.float32)
    with Pair(*make_pair(values, values)) as pair:
        (whole,) = sample_chips(pair, max_pixels=2000, chip_size=10)
        pieces = sample_chips(pair, max_pixels=1999, chip_size=10)
    assert whole.valid.shape == (40, 50)
    assert whole.window == Window(0, 0, 50, 40)
    assert {c.valid.shape for c in pieces} == {(10, 10)}


def covered(chips: list[Chip], height: int, width: int) -> np.ndarray:
    """How often each pixel is in a chip."""
    times = np.zeros((height, width), int)
    for piece in chips:
        times[piece.window.toslices()] += 1
    return times


@pytest.mark.parametrize("count", [*range(1, 40), 97, 360, 1024])
def test_a_scattered_sequence_has_every_number_once_and_any_beginning_is_spread(count: int) -> None:
    found = list(_scattered(count))
    assert sorted(found) == list(range(count))
    for some in range(1, count):
        part = sorted(found[:some])
        widest = max(np.diff([*part, part[0] + count]))
        assert widest <= 8 * count / some, f"the first {some} leave a gap of {widest}"


def test_a_sample_ends_when_it_has_enough_and_takes_no_pixel_twice(
    make_pair: Callable[..., tuple[Path, Path]],
) -> None:
    values = np.random.default_rng(0).random((1, 64, 96), np.float32)
    with Pair(*make_pair(values, values)) as pair:
        two = sample_chips(pair, max_pixels=2048, chip_size=32)
        three = sample_chips(pair, max_pixels=2049, chip_size=32)
        nearly_all = sample_chips(pair, max_pixels=64 * 96 - 1, chip_size=32)
    assert covered(two, 64, 96).sum() == 2048
    assert covered(three, 64, 96).sum() == 3 * 1024
    assert (covered(nearly_all, 64, 96) == 1).all()


def test_meagre_chips_are_taken_where_there_are_no_others_and_not_too_many(
    make_pair: Callable[..., tuple[Path, Path]],
) -> None:
    values = np.full((1, 320, 320), -9.0, np.float32)
    values[:, 16::64, 16::32] = 3  # one pixel in every second row of chips, none in the others
    with Pair(*make_pair(values, values, nodata=-9.0)) as pair:
        meagre = sample_chips(pair, max_pixels=4 * 32 * 32, chip_size=32)
    assert [int(c.valid.sum()) for c in meagre] == [1] * 4, "no more pixels than asked for, none in vain"
    values[:, :10, 32:64] = 3  # one chip of which enough is valid
    values[:, 1, 1:11] = 3
    values[:, 2:12, 64:74] = 3  # 100 of 1024: just not a tenth
    with Pair(*make_pair(values, values, nodata=-9.0)) as pair:
        (rich,) = sample_chips(pair, max_pixels=4 * 32 * 32, chip_size=32)
    assert (rich.window.row_off, rich.window.col_off) == (0, 32)


def test_a_tenth_valid_is_not_meagre(make_pair: Callable[..., tuple[Path, Path]]) -> None:
    values = np.full((1, 40, 40), -9.0, np.float32)
    values[:, 0, :10] = 3  # 10 of 100
    values[:, 20, :9] = 3
    with Pair(*make_pair(values, values, nodata=-9.0)) as pair:
        (found,) = sample_chips(pair, max_pixels=500, chip_size=10)
    assert found.valid.sum() == 10


@pytest.mark.parametrize(("height", "width"), [(30, 50), (50, 30)])
def test_crops_of_chips_elsewhere_in_the_scene(height: int, width: int) -> None:
    rows, cols = np.mgrid[:height, :width].astype(np.float32)
    place = np.stack([rows + 200, cols + 700])
    valid = np.ones((height, width), bool)
    valid[10:20, 10:20] = False
    at = Chip(place, place + 5, valid, Window(700, 200, width, height))
    pieces = crops([at], 1499, size=10)
    times = covered(pieces, 200 + height, 700 + width)[200:, 700:]
    assert np.array_equal(times, valid), "each pixel once; what has no valid pixel is left out"
    for piece in pieces:
        assert (piece.before[:, 0, 0] == (piece.window.row_off, piece.window.col_off)).all()
        assert np.array_equal(piece.after, piece.before + 5)
        assert piece.valid.shape == piece.before.shape[1:] == (10, 10)
    enough = crops([at], 200, size=10)
    assert sum(piece.valid.size for piece in enough) == 200


def test_valid_pixels_of_chips_of_different_sizes() -> None:
    one, two = np.arange(12).reshape(2, 2, 3), 100 + np.arange(8).reshape(2, 1, 4)
    part = np.array([[True, False, True], [False, False, True]])
    before, after = valid_pixels([chip(one, -one, part), chip(two, -two)])
    assert before.tolist() == [[0, 2, 5, 100, 101, 102, 103], [6, 8, 11, 104, 105, 106, 107]]
    assert before.dtype == after.dtype == np.float64
    assert (after == -before).all()
    assert valid_pixels([chip(two, -two)], slice(1, 2))[1].tolist() == [[-104, -105, -106, -107]]


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
    y1, y2 = fitted.select(some).apply(chip(pair.before[some], pair.after[some]))
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


def test_the_share_of_zeros_is_of_pixels_that_are_zero_in_all_bands() -> None:
    before = np.zeros((2, 2, 5), np.float32)
    before[:, 0, :3] = 7
    before[1, 1, 0] = 7  # zero in one band of two: a value
    after = np.ones((2, 2, 5), np.float32)
    after[:, 1, 4] = 0
    valid = np.ones((2, 5), bool)
    valid[0, 4] = False
    one = chip(before, after, valid)
    two = chip(np.ones((2, 1, 3)), np.zeros((2, 1, 3)))
    assert zero_shares([one]) == (5 / 9, 1 / 9)
    assert zero_shares([one, two]) == (5 / 12, 4 / 12)
    assert zero_shares([chip(before, after, valid & False)]) == (0, 0)
    assert zero_shares([chip(np.zeros((1, 1, 1)), np.ones((1, 1, 1)))]) == (1, 0)


def test_many_zeros_are_worth_a_word() -> None:
    assert zeros_in_words("before", 0.01) is None
    assert zeros_in_words("before.tif", 0.254) == (
        "before.tif: 25% of the pixels that count as valid are 0 in all bands. If 0 means 'no data', "
        "pass --nodata 0"
    )
    assert zeros_in_words("after", float("nan")) is None
