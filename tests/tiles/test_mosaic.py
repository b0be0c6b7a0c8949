"""The mosaic: whatever the tiles, what goes in comes out, in the right place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window
from scipy import ndimage

from geocd.tiles.mosaic import Mosaic, blend
from geocd.tiles.seams import SeamScore, _jumps
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


def fields(height: int, width: int, sigma: float, seed: int) -> Any:
    """A map like that of a run: most of it near 0, some of it near 1, smooth."""
    rough = np.random.default_rng(seed).normal(size=(height, width))
    field = ndimage.gaussian_filter(rough, sigma, mode="wrap")
    return (1 / (1 + np.exp(7 - 3 * field / max(field.std(), 1e-9)))).astype(np.float32)


def score(tiling: Tiling, image: Any, change: Any = None, block: int = 512) -> float | None:
    """Score of a map whose tiles are put together, each changed by ``change(number, values)``."""
    seams = SeamScore(tiling)
    mosaic = Mosaic(tiling, lambda row, values: seams.add(row, values[0]), block=block)
    for number, tile in enumerate(tiling):
        values = image[None][(slice(None), *tile.window.toslices())]
        mosaic.add(tile, values if change is None else change(number, values).astype(np.float32))
    mosaic.finish()
    return seams.result()


#: Cut without a blend, a narrow blend, one over a whole overlap, margins larger than the overlap.
CUTS = [(96, 0, 0), (128, 48, 20), (128, 16, 0), (128, 32, 40)]
#: A gentle blend; and three tiles meet.
GENTLE = [(200, 90, 5), (128, 80, 4)]


@pytest.mark.parametrize(("tile_size", "overlap", "margin"), CUTS + GENTLE)
@pytest.mark.parametrize("sigma", [0, 2])
def test_seamless_maps_score_one(tile_size: int, overlap: int, margin: int, sigma: float) -> None:
    tiling = Tiling(1500, 1300, tile_size, overlap, margin)
    found = [score(tiling, fields(1500, 1300, sigma, seed)) for seed in range(4)]
    assert np.mean(found) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("tile_size", "overlap", "margin"), CUTS)
def test_tiles_that_differ_by_a_few_hundredths_are_seams(tile_size: int, overlap: int, margin: int) -> None:
    tiling = Tiling(700, 900, tile_size, overlap, margin)
    offsets = np.random.default_rng(1).normal(0, 0.03, len(tiling))
    found = score(tiling, fields(700, 900, 2, 0), lambda number, values: values + offsets[number])
    assert found is not None
    assert found > 1.2


def test_tiles_that_fade_towards_their_rims_are_seams() -> None:
    """Equal on both sides of every border, dark in between."""
    tiling = Tiling(700, 900, 128, 32, 12)
    away = np.minimum(np.arange(128), np.arange(128)[::-1])
    rim = np.minimum(away[:, None], away) < 16  # further in than the margin reaches
    found = score(tiling, fields(700, 900, 2, 0) * 0.8 + 0.1, lambda _, values: values - 0.05 * rim)
    assert found is not None
    assert found > 1.1


def test_a_seam_in_one_direction_alone_is_found() -> None:
    tiling = Tiling(300, 2000, 128, 16)
    image = fields(300, 2000, 2, 0)
    upright = score(tiling, image, lambda number, values: values + 0.05 * (number % 2))
    turned = score(
        Tiling(2000, 300, 128, 16), image.T.copy(), lambda number, values: values + 0.05 * (number // 3 % 2)
    )
    assert upright is not None
    assert turned is not None
    assert min(upright, turned) > 1.2


def test_the_score_does_not_depend_on_how_rows_are_flushed() -> None:
    tiling = Tiling(500, 430, 128, 40, 10)
    image = fields(500, 430, 2, 0)
    first, *others = (score(tiling, image, block=block) for block in (512, 16, 96, 256))
    for other in others:
        assert other == pytest.approx(first, rel=1e-9)


def test_the_score_of_flat_maps() -> None:
    tiling = Tiling(300, 300, 128, 32, 8)
    flat = np.full((300, 300), 0.3, np.float32)
    assert score(tiling, flat) == pytest.approx(1, abs=1e-2)
    found = score(tiling, flat, lambda number, values: values + 0.02 * (number % 2))
    assert found is not None
    assert found > 10


def test_the_score_leaves_out_what_is_not_valid() -> None:
    tiling = Tiling(700, 900, 128, 32, 8)
    image = fields(700, 900, 2, 0)
    image[200:420, 100:500] = np.nan
    image[:, 700:] = np.nan
    image[650] = np.nan
    found = score(tiling, image)
    assert found == pytest.approx(1, abs=0.1)
    assert score(tiling, np.full((700, 900), np.nan, np.float32)) is None


@pytest.mark.parametrize(
    "tiling",
    [
        Tiling(100, 120, 128, 32),
        Tiling(1, 1, 64, 16),
        Tiling(5, 5, 1, 0),
        Tiling(40, 40, 4, 3),
        Tiling(1, 900, 64, 16, 30),
        Tiling(901, 2, 64, 63, 200),
    ],
)
def test_the_score_of_small_and_odd_rasters(tiling: Tiling) -> None:
    found = score(tiling, fields(tiling.height, tiling.width, 1, 0))
    if len(tiling) == 1:
        assert found is None, "one tile has no border"
    assert found is None or found > 0


def test_the_score_keeps_few_rows() -> None:
    tiling = Tiling(20_000, 70, 64, 30)
    seams = SeamScore(tiling)
    for row in range(0, 20_000, 512):
        seams.add(row, np.zeros((min(512, 20_000 - row), 70), np.float32))
        assert len(seams._above) <= 16
        assert sum(len(runs) for runs in seams._incomplete.values()) <= 5 * 17 * 2
    with pytest.raises(ValueError, match="row 5 came out of order"):
        seams.add(5, np.zeros((1, 70), np.float32))


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


Jump = tuple[int, int, tuple[int, ...], tuple[int, ...]]


def down(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last - 1, -1))


def up(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


@pytest.mark.parametrize(
    ("begin", "size", "margin", "expected"),
    [
        # where tiles begin, their size and margin; jumps from line to line, and where their likes begin
        pytest.param(
            [0, 48],
            64,
            4,
            [
                (51, 60, down(42, 35), up(60, 67)),
                (51, 55, down(47, 40), up(60, 67)),
                (55, 60, down(46, 39), up(60, 67)),
                (47, 48, down(46, 39), up(48, 50)),
                (63, 64, down(62, 60), up(64, 71)),
            ],
            id="the blend, its halves, and where tiles begin and end beside it",
        ),
        pytest.param(
            [0, 40],
            80,
            0,
            [
                (52, 68, down(23, 16), up(80, 87)),
                (52, 60, down(31, 24), up(80, 87)),
                (60, 68, down(31, 24), up(80, 87)),
            ],
            id="a blend over all that is shared, wider than 16",
        ),
        pytest.param([0, 10], 10, 0, [(9, 10, down(8, 1), up(10, 17))], id="cut"),
        pytest.param(
            [0, 10, 20],
            10,
            0,
            [(9, 10, down(8, 1), up(10, 17)), (19, 20, down(18, 11), up(20, 27))],
            id="cut twice",
        ),
        pytest.param(
            [0, 100],
            164,
            0,
            [
                (124, 140, down(83, 76), up(164, 171)),
                (124, 132, down(91, 84), up(164, 171)),
                (132, 140, down(91, 84), up(164, 171)),
            ],
            id="a blend of 64",
        ),
        pytest.param(
            [0, 100],
            165,
            0,
            [(99, 100, down(98, 91), up(100, 107)), (164, 165, down(163, 156), up(165, 172))],
            id="a blend of 65 is too gentle but at its ends",
        ),
        pytest.param(
            [0, 100],
            200,
            5,
            [
                (99, 100, down(98, 91), (*up(100, 103), *up(105, 107))),
                (104, 105, (*down(103, 100), *down(98, 96)), up(105, 112)),
                (194, 195, down(193, 186), (*up(195, 198), *up(200, 202))),
                (199, 200, (*down(198, 195), *down(193, 191)), up(200, 207)),
            ],
            id="an end is no like of another",
        ),
        pytest.param(
            [0, 30, 60],
            64,
            0,
            [
                (29, 30, down(28, 21), up(30, 37)),
                (63, 64, (*down(62, 60), *down(58, 55)), up(64, 71)),
                (59, 60, down(58, 51), (*up(60, 62), *up(64, 67))),
                (93, 94, down(92, 85), up(94, 101)),
            ],
            id="three tiles meet",
        ),
        pytest.param(
            [0, 5, 10],
            11,
            0,
            [
                (4, 5, down(3, 0), (*up(5, 8), 11, 12)),
                (10, 11, (*down(8, 5), 3, 2), (*up(11, 14), *up(16, 18))),
                (9, 10, (*down(8, 5), *down(3, 1)), (*up(11, 14), 16, 17)),
                (15, 16, (*down(14, 11), 8, 7), up(16, 19)),
            ],
            id="three small tiles meet, near the rims of the raster",
        ),
        pytest.param(
            [0, 4],
            8,
            3,
            [
                (5, 7, down(2, 0), up(7, 9)),
                (5, 6, down(2, 0), up(8, 10)),
                (6, 7, down(2, 0), up(8, 10)),
                (3, 4, down(2, 0), ()),
                (7, 8, (), up(8, 10)),
            ],
            id="no further than the rims of the raster",
        ),
        pytest.param([0, 2], 6, 0, [(3, 4, (0,), (6,))], id="little room beside the blend"),
        pytest.param([0, 1], 6, 0, [(0, 1, (), (*up(1, 4),)), (5, 6, down(4, 1), ())], id="hardly any"),
        pytest.param([0, 1, 2], 1, 0, [], id="nothing to compare with"),
    ],
)
def test_the_lines_that_are_compared(begin: list[int], size: int, margin: int, expected: list[Jump]) -> None:
    found = [
        [(first, second), *((at, at + second - first) for at in (*before, *after))]
        for first, second, before, after in expected
    ]
    assert _jumps(begin, size, margin) == found


def steps(length: int, slope: float, step: dict[int, float]) -> Any:
    """A line that rises by ``slope`` from pixel to pixel, and by more before some."""
    rise = np.full(length, slope)
    for at, more in step.items():
        rise[at] = more
    return rise.cumsum() - rise[0]


def test_the_score_by_hand() -> None:
    """A jump of .21 among steps of .01, in two cut tiles."""
    tiling = Tiling(26, 64, 32, 0)
    image = np.tile(steps(64, 0.01, {32: 0.21}), (26, 1)).astype(np.float32)

    def expected(*pairs: tuple[float, float, float]) -> Any:
        """The score of jumps a, their likes b, and their weights."""
        a, b, weight = np.array(pairs).T
        scale = weight / (a + b + 0.003) / weight.sum()
        return pytest.approx(((a * scale).sum() + 1e-3) / ((b * scale).sum() + 1e-3), rel=1e-4)

    assert score(tiling, image) == expected((0.21, 0.01, 1))
    assert score(Tiling(64, 26, 32, 0), image.T.copy()) == expected((0.21, 0.01, 1))
    # Two runs down the border, of 16 and of 10 rows: each has its jump.
    other = image.copy()
    other[16:, 32:] -= 0.15
    assert score(tiling, other) == expected((0.21, 0.01, 16), (0.06, 0.01, 10))
    # What alternates along the border is texture: only the mean over a run is a jump.
    other = image.copy()
    other[::2, 32:] += 0.1
    other[1::2, 32:] -= 0.1
    assert score(tiling, other) == expected((0.21, 0.01, 1))
    # A jump down is as much of one as a jump up.
    assert score(tiling, 1 - image) == expected((0.21, 0.01, 1))
    # Where a pixel is not valid, a pair counts by those that are: here one of 16 likes, by 4 of 10 rows.
    other = image.copy()
    other[16:, 32:] -= 0.15
    other[20:, 40] = np.nan
    assert score(tiling, other) == expected((0.21, 0.01, 16 * 16), (0.06, 0.01, 10 * 15 + 4))
    other[20:, 31] = np.nan  # at the border: all of its likes count no more than it
    assert score(tiling, other) == expected((0.21, 0.01, 16), (0.06, 0.01, 4))
    assert score(Tiling(1, 64, 32, 0), image[:1]) == expected((0.21, 0.01, 1))


@settings(max_examples=20)
@given(
    tile_size=st.integers(8, 40),
    overlap=st.integers(0, 30),
    margin=st.integers(0, 12),
    seed=st.integers(0, 99),
)
def test_the_score_of_rows_is_that_of_columns(tile_size: int, overlap: int, margin: int, seed: int) -> None:
    """The map turned over its diagonal has the same score."""
    shared = min(overlap, tile_size // 2)
    image = fields(70, 110, 2, seed)
    image[np.random.default_rng(seed).random((70, 110)) < 0.05] = np.nan
    upright = SeamScore(Tiling(70, 110, tile_size, shared, margin))
    for begin in range(0, 70, 32):
        upright.add(begin, image[begin : begin + 32])
    turned = SeamScore(Tiling(110, 70, tile_size, shared, margin))
    turned.add(0, image.T)
    one, two = upright.result(), turned.result()
    assert one is not None
    assert one == pytest.approx(two, rel=1e-6)


@pytest.mark.parametrize("at", [48, 52, 56, 59, 64])
def test_a_jump_anywhere_between_two_tiles_raises_the_score(at: int) -> None:
    """Where the second tile begins, where the blend begins, in its middle, and where both end."""
    seams = SeamScore(Tiling(16, 112, 64, 16, 4))
    seams.add(0, np.tile(steps(112, 0.01, {at: 0.06}), (16, 1)).astype(np.float32))
    found = seams.result()
    assert found is not None
    assert found > 1.1
