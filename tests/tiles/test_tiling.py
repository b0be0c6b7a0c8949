"""Tiles: every pixel is covered, none is invented, and neighbours share what was asked for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window

from geocd.errors import ConfigError
from geocd.tiles.tiling import LEAST_WEIGHT, Tile, Tiling, borders, least_size, ramp, starts, usable_margin

sizes = st.integers(1, 400)


@st.composite
def tilings(draw: st.DrawFn, longest: int = 200) -> Tiling:
    tile_size = draw(st.integers(1, 90))
    # From none at all to nearly all, with the extremes likely; bounded, because the number of tiles
    # grows with the square of tile_size / stride.
    shared = st.sampled_from([0, tile_size // 2, max(0, tile_size - 4)]) | st.integers(0, tile_size // 2)
    return Tiling(
        height=draw(st.integers(1, longest)),
        width=draw(st.integers(1, longest)),
        tile_size=tile_size,
        overlap=draw(shared),
        margin=draw(st.sampled_from([0, 1, tile_size, 10 * tile_size]) | st.integers(0, 40)),
        least=draw(st.booleans()),
    )


@given(sizes, st.integers(1, 120), st.data())
def test_starts_cover_the_axis(length: int, tile_size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile_size - 1))
    begin = starts(length, tile_size, overlap)
    size = min(tile_size, length)
    covered = np.zeros(length, int)
    for at in begin:
        assert 0 <= at <= length - size, "inside, so that no pixel must be invented"
        covered[at : at + size] += 1
    assert covered.min() >= 1
    assert begin[0] == 0
    assert begin[-1] + size == length
    for left, right in itertools.pairwise(begin):
        assert left < right, "no tile twice"
        assert left + size - right >= overlap


@given(sizes, st.integers(1, 120), st.data())
def test_no_more_tiles_than_needed(length: int, tile_size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile_size - 1))
    count = len(starts(length, tile_size, overlap))
    if count > 1:
        assert tile_size + (count - 2) * (tile_size - overlap) < length


@given(tilings())
def test_a_tile_is_needed_where_it_has_a_weight_and_every_pixel_by_a_tile(tiling: Tiling) -> None:
    needed = np.zeros((tiling.height, tiling.width), bool)
    for tile in tiling:
        rows, cols = tiling.needed(tile)
        weight = tiling.weight(tile)
        outside = np.ones(weight.shape, bool)
        outside[rows, cols] = False
        assert (weight[outside] <= LEAST_WEIGHT).all()
        top, left = int(tile.window.row_off), int(tile.window.col_off)
        needed[top + rows.start : top + rows.stop, left + cols.start : left + cols.stop] = True
    assert needed.all()


def test_starts_of_long_axes_are_exact() -> None:
    begin = starts(1_000_003, 512, 96)
    assert begin[-1] == 1_000_003 - 512
    assert max(np.diff(begin)) <= 512 - 96


@given(sizes, st.integers(1, 120), st.data())
def test_tiles_no_larger_than_needed(length: int, tile_size: int, data: st.DataObject) -> None:
    """As many as before; one pixel less, and they would leave a gap or share too little."""
    overlap = data.draw(st.integers(0, tile_size - 1))
    size, count = least_size(length, tile_size, overlap), len(starts(length, tile_size, overlap))
    assert size <= min(tile_size, length)
    assert len(starts(length, size, overlap)) == count
    if count > 1:
        assert (size - 1) + (count - 1) * (size - 1 - overlap) < length


@pytest.mark.parametrize(("side", "most", "before"), [(600, 1.5, 2.9), (1000, 1.6, 2.4), (4096, 1.75, 1.88)])
def test_few_pixels_are_computed_twice(side: int, most: float, before: float) -> None:
    for least, expected in ((True, most), (False, before)):
        tiling = Tiling(side, side, 512, 128, least=least)
        height, width = tiling.tile_shape
        assert len(tiling) * height * width / side**2 == pytest.approx(expected, abs=0.05)


@settings(max_examples=60)
@given(tilings())
def test_tiles_and_weights(tiling: Tiling) -> None:
    height, width = tiling.tile_shape
    covered = np.zeros((tiling.height, tiling.width), int)
    total = np.zeros((tiling.height, tiling.width))
    places = []
    for tile in tiling:  # by __getitem__ and IndexError
        where = tile.window
        assert (where.height, where.width) == (height, width), "all tiles have one size"
        assert where.row_off >= 0
        assert where.col_off >= 0
        assert where.row_off + height <= tiling.height
        assert where.col_off + width <= tiling.width
        weight = tiling.weight(tile)
        assert weight.shape == (height, width)
        assert weight.dtype == np.float32
        assert weight.min() > 0, "a pixel that one tile alone covers must get its value"
        assert weight.max() <= 1
        covered[where.toslices()] += 1
        total[where.toslices()] += weight
        places.append((tile.row, tile.col))
    assert covered.min() >= 1
    assert places == sorted(places), "row-major"
    assert len(set(places)) == len(places) == len(tiling)
    assert (total > 0).all()
    # What the mosaic divides by: after that the weights are a partition of one.
    summed = np.zeros_like(total)
    for tile in tiling:
        summed[tile.window.toslices()] += tiling.weight(tile) / total[tile.window.toslices()]
    np.testing.assert_allclose(summed, 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("length", "tile_size", "overlap"),
    [
        (1000, 256, 32),
        (701, 256, 100),
        (512, 512, 96),
        (513, 512, 96),
        (100, 512, 96),
        (928, 512, 96),
        (19, 10, 1),
    ],
)
@pytest.mark.parametrize("margin", [0, 8])
def test_two_neighbours_sum_to_one_without_dividing(
    length: int, tile_size: int, overlap: int, margin: int
) -> None:
    """As long as no three tiles share a pixel."""
    begin = starts(length, tile_size, overlap)
    size = min(tile_size, length)
    assert len(begin) < 3 or begin[2] >= begin[0] + size
    total = np.zeros(length)
    for place, at in enumerate(begin):
        total[at : at + size] += ramp(begin, size, place, margin)
    np.testing.assert_allclose(total, 1, atol=1e-5)


@pytest.mark.parametrize(
    ("shared", "margin", "kept"),
    [
        (10, 3, 3),
        (10, 4, 4),
        (10, 99, 4),
        (11, 99, 4),
        (4, 99, 1),
        (3, 99, 0),
        (2, 99, 0),
        (1, 99, 0),
        (0, 5, 0),
    ],
)
def test_two_pixels_or_three_are_left_to_blend_over(shared: int, margin: int, kept: int) -> None:
    assert usable_margin(shared, margin) == kept


def test_margin_gets_next_to_no_weight() -> None:
    """Within the margin the neighbour, which sees the surroundings, decides."""
    tiling = Tiling(100, 1000, 256, 64, margin=10)
    first, second = tiling[0], tiling[1]
    shared = int(first.window.col_off + 256 - second.window.col_off)
    left, right = tiling.weight(first)[50], tiling.weight(second)[50]
    assert (left[-10:] < 1e-5).all()
    assert (right[:10] < 1e-5).all()
    assert (right[shared - 10 : shared] > 1 - 1e-5).all()
    assert left.dtype == right.dtype == np.float32
    assert (left[:100] == 1).all(), "the frame of the raster has no neighbour"


@pytest.mark.parametrize(("tile_size", "overlap"), [(64, 64), (64, 65), (64, -1), (0, 0), (-5, 0), (1, 1)])
def test_overlap_that_cannot_work(tile_size: int, overlap: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"overlap \({overlap} px\).*tile size \({tile_size} px\).*--overlap"
    ):
        Tiling(100, 100, tile_size, overlap)


def test_tile_larger_than_the_raster() -> None:
    tiling = Tiling(5, 7, 512, 96)
    assert list(tiling) == [Tile(0, 0, Window(0, 0, 7, 5))]
    assert (tiling.weight(tiling[0]) == 1).all()


def test_one_row_of_ten_thousand() -> None:
    tiling = Tiling(1, 10_000, 512, 96)
    assert tiling.tile_shape == (1, 512)
    assert len(tiling) == 24
    for index in (24, -1):
        with pytest.raises(IndexError, match=str(index)):
            tiling[index]


@given(st.integers(1, 400), st.integers(1, 120), st.integers(0, 60), st.data())
def test_borders_are_where_the_weights_change(
    length: int, tile_size: int, margin: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, tile_size // 2))
    begin, size = starts(length, tile_size, overlap), min(tile_size, length)
    found = borders(begin, size, margin)
    assert len(found) == len(begin) - 1
    for place, border in enumerate(found):
        assert border.begin == begin[place + 1]
        assert border.end == begin[place] + size
        assert border.begin <= border.blend_begin <= border.blend_end <= border.end
        first, second = (ramp(begin, size, place + i, margin) for i in range(2))
        shared = border.end - border.begin
        if shared == 0 or begin[place] + 2 * shared > size:
            continue  # nothing to blend, or three tiles meet
        down, up = first[size - shared :], second[:shared]
        blend = slice(border.blend_begin - border.begin, border.blend_end - border.begin)
        both = np.zeros(shared, bool)
        both[blend] = True
        np.testing.assert_array_equal(np.minimum(down, up) > 2 * LEAST_WEIGHT, both)
