"""The mosaic: whatever the tiles, what goes in comes out, in the right place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window

from geocd.tiles.mosaic import Mosaic, blend
from geocd.tiles.tiling import Tiling


class Sink:
    """Collects what a mosaic flushes, and how."""

    def __init__(self, height: int, width: int, bands: int = 1) -> None:
        self.values = np.full((bands, height, width), -1, np.float32)
        self.flushes: list[tuple[int, int]] = []

    def __call__(self, row: int, values: Any) -> None:
        assert values.dtype == np.float32
        self.flushes.append((row, values.shape[1]))
        self.values[:, row : row + values.shape[1]] = values


def coordinates(height: int, width: int) -> Any:
    """An image whose pixels are their own coordinates: any shift, flip or seam shows."""
    rows, cols = np.mgrid[:height, :width]
    return np.stack([rows, cols]).astype(np.float32)


def put_together(tiling: Tiling, image: Any, block: int = 512) -> Sink:
    sink = Sink(tiling.height, tiling.width, image.shape[0])
    mosaic = Mosaic(tiling, sink, bands=image.shape[0], block=block)
    for tile in tiling:
        mosaic.add(tile, image[(slice(None), *tile.window.toslices())])
    mosaic.finish()
    return sink


@settings(max_examples=80)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    tile_size=st.integers(1, 90),
    share=st.floats(0, 0.8),
    margin=st.integers(0, 30),
    block=st.sampled_from([1, 16, 32, 512]),
)
def test_identity(height: int, width: int, tile_size: int, share: float, margin: int, block: int) -> None:
    tiling = Tiling(height, width, tile_size, min(int(share * tile_size), tile_size - 1), margin)
    image = coordinates(height, width)
    sink = put_together(tiling, image, block)
    np.testing.assert_allclose(sink.values, image, rtol=2e-6, atol=1e-4)
    rows = [row for row, _ in sink.flushes]
    assert rows == list(range(0, height, block)), "each block row once, in order"
    assert [count for _, count in sink.flushes] == [min(block, height - row) for row in rows]


@pytest.mark.parametrize("overlap", [0, 1, 31, 40, 63])
@pytest.mark.parametrize("value", [0.0, 1.0, 0.3, 0.5])
def test_a_probability_stays_one(value: float, overlap: int) -> None:
    """Dividing must not push 1 to 1.0000001, nor 0.5 below the threshold."""
    tiling = Tiling(130, 170, 64, overlap, 3)
    sink = put_together(tiling, np.full((1, 130, 170), value, np.float32))
    if value in (0, 0.5, 1):
        assert (sink.values == np.float32(value)).all()
    else:
        np.testing.assert_allclose(sink.values, value, rtol=1e-5)


def test_random_probabilities_stay_between_0_and_1() -> None:
    rng = np.random.default_rng(0)
    tiling = Tiling(200, 210, 64, 50)
    sink = Sink(200, 210)
    mosaic = Mosaic(tiling, sink)
    for tile in tiling:
        mosaic.add(tile, rng.integers(0, 2, (1, 64, 64)).astype(np.float32))
    mosaic.finish()
    assert sink.values.min() >= 0
    assert sink.values.max() <= 1


def test_blend_is_smooth_and_between_its_tiles() -> None:
    tiling = Tiling(64, 112, 64, 16)
    sink = Sink(64, 112)
    mosaic = Mosaic(tiling, sink)
    for tile, value in zip(tiling, (0.2, 0.8), strict=True):
        mosaic.add(tile, np.full((1, 64, 64), value, np.float32))
    mosaic.finish()
    line = sink.values[0, 30]
    assert (line[:48] == np.float32(0.2)).all()
    assert (line[64:] == np.float32(0.8)).all()
    assert (np.diff(line[47:65]) > 0).all()
    assert np.diff(line).max() < 0.6 / 16 * 1.01, "no step larger than the ramp's"


@settings(max_examples=40)
@given(overlap=st.integers(0, 39), margin=st.integers(0, 20), top=st.integers(0, 89), left=st.integers(0, 69))
def test_a_window_alone_has_the_same_bits(overlap: int, margin: int, top: int, left: int) -> None:
    tiling = Tiling(90, 70, 40, overlap, margin)
    random = np.random.default_rng(0)
    values = [random.random((2, *tiling.tile_shape), np.float32) for _ in tiling]
    for prob in values[::3]:
        prob[0, 5:35, 10:40] = np.nan  # the first band says what is not valid
    sink = Sink(90, 70, 2)
    mosaic = Mosaic(tiling, sink, bands=2)
    for tile, prob in zip(tiling, values, strict=True):
        mosaic.add(tile, prob)
    mosaic.finish()
    window = Window(left, top, 70 - left, min(31, 90 - top))
    touching = [
        (tile, prob)
        for tile, prob in zip(tiling, values, strict=True)
        if tile.window.row_off < top + window.height
        and tile.window.row_off + 40 > top
        and tile.window.col_off + 40 > left
    ]
    np.testing.assert_array_equal(
        blend(tiling, window, touching), sink.values[(slice(None), *window.toslices())]
    )


def test_what_is_not_valid_stays_nan_and_spreads_nowhere() -> None:
    image = coordinates(150, 160)
    hole = np.zeros((150, 160), bool)
    hole[20:70, 30:35] = True  # across tiles
    hole[:, 150:] = True
    hole[149, 0] = True
    image[:, hole] = np.nan
    sink = put_together(Tiling(150, 160, 64, 20, 4), image, block=16)
    np.testing.assert_array_equal(np.isnan(sink.values[0]), hole)
    assert (sink.values[:, hole].view(np.uint32) == 0x7FC00000).all(), "one NaN on every machine"
    np.testing.assert_allclose(sink.values[:, ~hole], image[:, ~hole], rtol=2e-6, atol=1e-4)


def test_a_pixel_that_one_tile_alone_knows_keeps_its_value() -> None:
    """Even where that tile's weight is least: in its margin, in the corner."""
    tiling = Tiling(100, 100, 64, 28, 12)
    sink = Sink(100, 100)
    mosaic = Mosaic(tiling, sink)
    for tile in tiling:
        values = np.full((1, 64, 64), np.nan, np.float32)
        if (tile.row, tile.col) == (1, 1):
            values[:] = 0.7
        mosaic.add(tile, values)
    mosaic.finish()
    begin = tiling.row_starts[1]
    np.testing.assert_allclose(sink.values[0, begin:, begin:], 0.7, rtol=1e-6)
    assert np.isnan(sink.values[0, :begin]).all()


def test_infinite_values_take_no_part() -> None:
    tiling = Tiling(64, 112, 64, 16)
    sink = Sink(64, 112)
    mosaic = Mosaic(tiling, sink)
    mosaic.add(tiling[0], np.full((1, 64, 64), 0.5, np.float32))
    mosaic.add(tiling[1], np.full((1, 64, 64), np.inf, np.float32))
    mosaic.finish()
    assert (sink.values[0, :, :64] == 0.5).all()
    assert np.isnan(sink.values[0, :, 64:]).all()


def test_memory_does_not_grow_with_the_raster() -> None:
    tiling = Tiling(20_000, 70, 64, 16)
    most = 0

    def flush(row: int, values: Any) -> None:
        assert values.shape[1] <= 32

    mosaic = Mosaic(tiling, flush, block=32)
    for tile in tiling:
        mosaic.add(tile, np.zeros((1, 64, 64), np.float32))
        owner = mosaic._sum if mosaic._sum.base is None else mosaic._sum.base
        most = max(most, owner.shape[1], mosaic._sum.shape[1])
    mosaic.finish()
    assert most <= 64 + 32 + 64, "rows held: a row of tiles, a block, and what was flushed last"


def test_tiles_out_of_order_are_refused() -> None:
    tiling = Tiling(100, 100, 64, 16)
    mosaic = Mosaic(tiling, lambda row, values: None)
    values = np.zeros((1, 64, 64), np.float32)
    with pytest.raises(ValueError, match="out of order"):
        mosaic.add(tiling[1], values)
    mosaic.add(tiling[0], values)
    with pytest.raises(ValueError, match="out of order"):
        mosaic.add(tiling[0], values)
    with pytest.raises(ValueError, match="only 1 of 4 tiles were added"):
        mosaic.finish()


def test_the_bytes_do_not_depend_on_the_block() -> None:
    """Nor, because tiles come in order, on how many are computed at a time."""
    image = np.random.default_rng(0).random((1, 150, 160), dtype=np.float32)
    tiling = Tiling(150, 160, 64, 40, 5)
    first, *others = (put_together(tiling, image, block).values for block in (16, 48, 512))
    for other in others:
        np.testing.assert_array_equal(first, other)


@settings(max_examples=60)
@given(
    height=st.integers(1, 130),
    width=st.integers(1, 130),
    tile_size=st.integers(1, 70),
    share=st.sampled_from([0, 0.2, 0.8]),
    margin=st.integers(0, 50),
    seed=st.integers(0, 99),
)
def test_every_valid_pixel_gets_a_value(
    height: int, width: int, tile_size: int, share: float, margin: int, seed: int
) -> None:
    """Odd, thin, tiny; at all four borders; and no pixel that is not valid gets one."""
    tiling = Tiling(height, width, tile_size, int(share * tile_size), margin)
    random = np.random.default_rng(seed)
    image = random.random((1, height, width), dtype=np.float32)
    image[:, random.random((height, width)) < 0.3] = np.nan
    values = put_together(tiling, image, 64).values
    np.testing.assert_array_equal(np.isnan(values), np.isnan(image))
    np.testing.assert_allclose(values, image, rtol=1e-5)
