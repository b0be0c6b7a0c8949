"""The sample of a scene: bounded, evenly spread, with valid pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import chip
from rasterio.windows import Window

from geocd.errors import NoValidPixelError
from geocd.raster.pair import Chip, Pair
from geocd.scene.sample import _scattered, crops, sample_chips, valid_pixels, zero_shares


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
    stored = valid_pixels([chip(one, -one, part)], as_stored=True)[0]
    assert stored.dtype == one.dtype
    assert (stored == before[:, :3]).all()


def test_of_many_valid_pixels_every_second_or_third_is_taken_across_chips() -> None:
    one, two = np.arange(12).reshape(2, 2, 3), 100 + np.arange(8).reshape(2, 1, 4)
    part = np.array([[True, False, True], [False, False, True]])
    chips = [chip(one, -one, part), chip(two, -two)]
    before, _ = valid_pixels(chips)
    for most, step in ((7, 1), (6, 2), (4, 2), (3, 3), (1, 7)):
        fewer, after = valid_pixels(chips, most=most)
        assert np.array_equal(fewer, before[:, ::step])
        assert np.array_equal(after, -fewer)


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


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1)])
def test_of_a_flat_raster_chips_are_long(shape: tuple[int, int], make_pair) -> None:
    image = np.arange(5000, dtype=np.uint16).reshape(1, *shape) + 1
    with Pair(*make_pair(image, image)) as pair:
        chips = sample_chips(pair, max_pixels=3000, chip_size=32)
        (whole,) = sample_chips(pair, max_pixels=5000, chip_size=32)
    assert [chip.valid.size for chip in chips] == [256] * 12
    few = crops(chips, 3072, size=16)  # each costs as much as 8 x 16 pixels
    assert [chip.valid.size for chip in few] == [16] * 24
    assert max(chip.valid.size for chip in crops([whole], 5000, size=32)) == 64
