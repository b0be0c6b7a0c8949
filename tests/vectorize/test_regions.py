"""Regions: equal to those of the whole array, valid, with the statistics of their pixels."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.crs import CRS
from rasterio.features import shapes
from rasterio.transform import Affine
from shapely.geometry import shape

from geocd.raster.grid import Grid
from geocd.vectorize import regions
from geocd.vectorize.pixelsize import PixelSize
from geocd.vectorize.regions import EXACT, Regions

UTM = CRS.from_epsg(32633)
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_200_000)


def find(prob: npt.NDArray[Any], changed: npt.NDArray[Any], heights: list[int], grid: Grid) -> pd.DataFrame:
    """Regions of an array that comes in strips of the given heights, repeated."""
    regions = Regions(grid)
    row = count = 0
    while row < grid.height:
        end = row + heights[count % len(heights)]
        regions.add(prob[row:end], changed[row:end])
        row, count = end, count + 1
    return regions.finish()


def grid_for(array: npt.NDArray[Any], transform: Affine = NORTH_UP, crs: CRS = UTM) -> Grid:
    return Grid(crs, transform, *array.shape)


def whole(changed: npt.NDArray[Any], transform: Affine = NORTH_UP) -> list[shapely.Polygon]:
    """GDAL's own polygons of the whole array, the oracle."""
    found = shapes(changed.astype("uint8"), mask=changed, connectivity=4, transform=transform)
    return [shape(polygon) for polygon, _ in found]


def first_pixel(polygon: shapely.Polygon) -> tuple[float, float]:
    points = shapely.get_coordinates(polygon.exterior)
    top = points[:, 1].max()
    return -top, points[points[:, 1] == top, 0].min()


def assert_same_polygons(ours: npt.NDArray[Any], theirs: list[shapely.Polygon]) -> None:
    """Equal corner by corner; a ring may begin elsewhere and run the other way."""
    assert len(ours) == len(theirs)
    expected = shapely.normalize(np.array(sorted(theirs, key=first_pixel), dtype=object))
    for one, two in zip(shapely.normalize(np.asarray(ours)), expected, strict=True):
        assert one.equals_exact(two, 1e-6), (one.wkt, two.wkt)


PICTURES = {
    # regime: picture
    "one pixel": ["#"],
    "nothing": ["..", ".."],
    "everything": ["###", "###", "###"],
    "corner touch of two regions": ["#.", ".#"],
    "corner touch, the other way": [".#", "#."],
    "hole": ["###", "#.#", "###"],
    "hole across strips": ["#####", "#...#", "#...#", "#...#", "#####"],
    "hole that touches the outside by a corner": ["###.", "#.##", "####"],
    "one region meets itself by a corner": ["###", "#.#", ".##", "###"],
    "two holes that meet by a corner": ["####", "#.##", "##.#", "####"],
    "island in a hole": ["#####", "#...#", "#.#.#", "#...#", "#####"],
    "island that touches the hole's corner": ["#####", "##..#", "#.#.#", "#...#", "#####"],
    "hole in an island in a hole": [
        "#########",
        "#.......#",
        "#.#####.#",
        "#.#...#.#",
        "#.#.#.#.#",
        "#.#...#.#",
        "#.#####.#",
        "#.......#",
        "#########",
    ],
    "joined below": ["#.#.#", "#.#.#", "#.#.#", "#####"],
    "joined above": ["#####", "#.#.#", "#.#.#", "#.#.#"],
    "joined in two steps": ["#.#.#", "#.###", "#.#..", "###.."],
    "spiral": ["#######", "......#", "#####.#", "#...#.#", "#.###.#", "#.....#", "#######"],
    "apart for good": ["#.#", "...", "#.#", "...", "#.#"],
    "all four borders": ["##.##", "#...#", ".....", "#...#", "##.##"],
    "chessboard": ["#.#.#.", ".#.#.#", "#.#.#.", ".#.#.#"],
}


@pytest.mark.parametrize("heights", [[100], [1], [2], [3], [1, 2]], ids=str)
@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_pictures(picture: list[str], heights: list[int]) -> None:
    changed = np.array([[c == "#" for c in line] for line in picture])
    table = find(changed.astype("f4"), changed, heights, grid_for(changed))
    assert shapely.is_valid(table["geometry"].to_numpy()).all()
    assert_same_polygons(table["geometry"].to_numpy(), whole(changed))


changed_arrays = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda size: st.one_of(
        hnp.arrays(bool, size),
        # mostly changed: regions that meet themselves, holes, islands
        hnp.arrays(np.int8, size, elements=st.integers(0, 4)).map(lambda a: a > 0),
        hnp.arrays(np.int8, size, elements=st.integers(0, 9)).map(lambda a: a > 3),
    )
)
TRANSFORMS = [
    NORTH_UP,
    Affine(10, 0, 500_000, 0, 10, 4_200_000),  # south up
    Affine(8.66, 3.5, 500_000, 5.0, -6.06, 4_200_000),  # turned by 30 degrees
]


@settings(max_examples=100, deadline=None)
@given(changed_arrays, st.lists(st.integers(1, 5), min_size=1, max_size=4), st.sampled_from(TRANSFORMS))
def test_strips_give_what_the_whole_array_gives(
    changed: npt.NDArray[Any], heights: list[int], transform: Affine
) -> None:
    prob = np.random.default_rng(changed.size).random(changed.shape, dtype=np.float32)
    grid = grid_for(changed, transform)
    striped = find(prob, changed, heights, grid)
    at_once = find(prob, changed, [changed.shape[0]], grid)
    # To the last bit, geometry and statistics alike.
    pd.testing.assert_frame_equal(striped, at_once, check_exact=True)

    polygons = striped["geometry"].to_numpy()
    assert shapely.is_valid(polygons).all()
    assert shapely.area(polygons).sum() == pytest.approx(changed.sum() * abs(transform.determinant))
    if len(polygons) > 1:
        assert shapely.union_all(polygons).area == pytest.approx(shapely.area(polygons).sum())
    if transform == NORTH_UP:
        assert_same_polygons(polygons, whole(changed))
        assert all(shapely.is_ccw(shapely.get_exterior_ring(p)) for p in polygons)
    else:
        # the order is that of the pixels, which only a north-up grid has in common with coordinates
        theirs = shapely.normalize(np.array(whole(changed, transform), dtype=object))
        ours = shapely.normalize(polygons)
        assert len(ours) == len(theirs)
        for one in ours:
            assert any(one.equals_exact(two, 1e-6) for two in theirs)


def test_statistics_are_those_of_the_pixels_inside() -> None:
    rng = np.random.default_rng(5)
    prob = rng.random((40, 50), dtype=np.float32)
    changed = prob >= 0.4
    table = find(prob, changed, [7], grid_for(prob))
    labels = np.zeros(prob.shape, int)
    for number, polygon in zip(table["id"], table["geometry"], strict=True):
        inside = rasterio.features.geometry_mask([polygon], prob.shape, NORTH_UP, invert=True)
        assert not labels[inside].any()
        labels[inside] = number
    assert (labels > 0).tolist() == changed.tolist()
    # in the order of the first pixel
    numbers = labels[labels > 0]
    _, first = np.unique(numbers, return_index=True)
    assert (np.diff(first) > 0).all()
    assert table["id"].tolist() == list(range(1, len(table) + 1))
    for line in table.itertuples():
        values = prob[labels == line.id].astype(float)
        assert line.n_pixels == values.size
        assert (line.p_min, line.p_max) == (values.min(), values.max())
        expected = np.quantile(values, [0.25, 0.5, 0.75])
        np.testing.assert_allclose([line.p_q25, line.p_q50, line.p_q75], expected, rtol=1e-12)
        assert line.p_mean == pytest.approx(values.mean(), rel=1e-12)
        centroid = line.geometry.centroid
        assert (line.centroid_x, line.centroid_y) == pytest.approx((centroid.x, centroid.y), abs=1e-4)


@pytest.mark.parametrize("side", [45, 46, 700])  # 1981, 2071 and 489 301 pixels are changed
def test_only_the_quartiles_of_large_regions_are_rounded(side: int) -> None:
    """None of their pixels is kept, and yet it does not matter how they come."""
    prob = np.random.default_rng(side).uniform(0.5, 1, (side, side)).astype(np.float32)
    prob[side // 3, : side - 1] = 0.1  # two large regions until the last column joins them
    changed = prob >= 0.5
    grid = grid_for(prob)
    table = find(prob, changed, [side], grid)
    for heights in ([1], [side // 3, side - side // 3], [7, 30, 3]):
        pd.testing.assert_frame_equal(find(prob, changed, heights, grid), table, check_exact=True)
    values = prob[changed].astype(float)
    line = next(table.itertuples())
    assert (len(table), line.n_pixels, line.p_min, line.p_max) == (1, values.size, values.min(), values.max())
    assert line.p_mean == pytest.approx(values.mean(), rel=1e-12)
    assert line.area_m2 == pytest.approx(PixelSize(grid).area(*np.nonzero(changed)).sum(), rel=1e-8)
    expected = np.quantile(values, [0.25, 0.5, 0.75])
    error = 0.5 / EXACT if values.size > EXACT else 1e-12
    np.testing.assert_allclose([line.p_q25, line.p_q50, line.p_q75], expected, rtol=0, atol=error)


def test_wide_rows_are_added_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    prob = np.random.default_rng(8).uniform(0, 1, (70, 90)).astype(np.float32)
    changed = prob > 0.4
    grid = grid_for(prob)
    expected = find(prob, changed, [70], grid)
    monkeypatch.setattr(regions, "PIECE", 400)  # four rows, and then less than one
    pd.testing.assert_frame_equal(find(prob, changed, [70], grid), expected, check_exact=True)
    monkeypatch.setattr(regions, "PIECE", 80)
    pd.testing.assert_frame_equal(find(prob, changed, [70], grid), expected, check_exact=True)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.6, 0.9])
@pytest.mark.parametrize(("corners", "columns", "rows"), [(1, 512, 512), (40, 7, 10), (2**18, 1, 3)])
def test_it_does_not_matter_how_much_is_done_at_a_time(
    share: float, corners: int, columns: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prob = np.random.default_rng(7).random((60, 70), dtype=np.float32)
    changed = prob >= 1 - share
    grid = grid_for(prob)
    at_once = find(prob, changed, [60], grid)
    assert_same_polygons(at_once["geometry"].to_numpy(), whole(changed))
    monkeypatch.setattr(regions, "CORNERS", corners)
    monkeypatch.setattr(regions, "SLAB", columns)
    monkeypatch.setattr(regions, "BLOCK_SIZE", rows)
    pd.testing.assert_frame_equal(find(prob, changed, [11], grid), at_once, check_exact=True)


@pytest.mark.parametrize("every", [1, 2])
def test_what_is_kept_of_open_regions_does_not_grow_with_them(every: int) -> None:
    """One region over the whole raster, or one in every other column: a strip more takes no more memory."""
    strip = np.zeros((4096, 256), bool)
    strip[:, ::every] = True
    regions = Regions(grid_for(np.zeros((4 * 4096, 256), bool)))
    kept = []
    tracemalloc.start()
    try:
        for seed in range(4):
            prob = np.random.default_rng(seed).uniform(0.5, 1, strip.shape).astype(np.float32)
            regions.add(prob, strip)
            kept.append(tracemalloc.get_traced_memory()[0])
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept[-1] < 1.05 * kept[1]
    assert most < 150 * strip.size  # bytes a pixel of the strip, all of which are changed


def test_a_mean_never_leaves_the_range_of_the_values() -> None:
    prob = np.full((3, 7), 0.9, dtype=np.float32)
    table = find(prob, prob > 0.5, [2], grid_for(prob))
    assert table["p_min"][0] == table["p_mean"][0] == table["p_q50"][0] == table["p_max"][0]
