"""The seam score: 1 where tiles are not visible, whatever the map, and more where they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geocd.tiles.mosaic import Mosaic
from geocd.tiles.seams import SeamScore, _jumps
from geocd.tiles.tiling import Tiling


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
