"""Quieter outlines: valid, apart, measured as they are written, whatever the raster."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pyproj
import pytest
import rasterio
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.features import shapes
from rasterio.transform import Affine
from shapely.geometry import shape

from geocd.config import PolygonSettings
from geocd.vectorize import generalize
from geocd.vectorize.generalize import fill_holes, simplify, smooth
from geocd.vectorize.polygons import polygonize

GRIDS = {
    "UTM": ("EPSG:32633", Affine(10, 0, 500_000, 0, -10, 4_200_000)),
    "UTM, turned": ("EPSG:32633", Affine(8.66, 5.0, 300_000, 5.0, -8.66, 6_700_000)),
    "UTM, south up": ("EPSG:32633", Affine(0.5, 0, 170_000, 0, 0.5, 5_000_000)),
    "degrees": ("EPSG:4326", Affine(1e-4, 0, 13.3, 0, -1e-4, 62.6)),
    "degrees, turned": ("EPSG:4326", Affine(9.4e-5, 3.42e-5, 13, 3.42e-5, -9.4e-5, 52)),
    "web mercator": ("EPSG:3857", Affine(10, 0, 1_500_000, 0, -10, 8_400_000)),
}


def outlines(picture: list[str]) -> npt.NDArray[Any]:
    """Polygons of a picture, in pixels."""
    changed = np.array([[c == "#" for c in line] for line in picture])
    found = shapes(changed.astype("uint8"), mask=changed, connectivity=4)
    return np.array([shape(polygon) for polygon, _ in found], dtype=object)


def one_each(row: npt.NDArray[Any], col: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ones(row.shape)


def overlap(polygons: npt.NDArray[Any]) -> float:
    """Area that two polygons or more share; exact where rounding of coordinates alone could give some."""
    return float(shapely.area(polygons).sum() - shapely.union_all(polygons).area)


def equal_area(polygons: npt.NDArray[Any], crs: str) -> npt.NDArray[Any]:
    """Areas in square metres by another way than the code's: an equal-area projection, many points a side."""
    dense = shapely.segmentize(polygons, shapely.length(polygons).max() / 2000)
    projected = pyproj.CRS.from_user_input("+proj=cea +lat_ts=45 +ellps=WGS84")
    there = pyproj.Transformer.from_crs(crs, projected, always_xy=True)
    return shapely.area(shapely.transform(dense, there.transform, interleaved=False))


def some(values: list[float]) -> st.SearchStrategy[np.float32]:
    return st.sampled_from([np.float32(value) for value in values])


@st.composite
def probabilities(draw: st.DrawFn) -> npt.NDArray[np.float32]:
    """Small probability rasters: noise, checkerboards, diagonals, mostly changed, with holes of NaN."""
    size = draw(st.integers(1, 16)), draw(st.integers(1, 16))
    rows, cols = np.indices(size)
    prob = draw(
        st.one_of(
            hnp.arrays(np.float32, size, elements=some([0.0, 0.2, 0.5, 0.7, 1.0])),
            hnp.arrays(np.float32, size, elements=some([0.1, 0.6, 0.8, 0.9])),
            hnp.arrays(np.float32, size, elements=some([0.1, 0.1, 0.4, 0.9])),
            st.integers(1, 4).map(lambda step: ((rows // step + cols // step) % 2).astype(np.float32)),
            st.integers(2, 5).map(lambda step: ((rows + cols) % step == 0).astype(np.float32)),
            st.integers(2, 5).map(lambda step: ((rows % step == 0) | (cols % step == 0)).astype(np.float32)),
        )
    )
    unknown = draw(
        st.one_of(st.none(), hnp.arrays(bool, size, elements=st.sampled_from([True] + [False] * 6)))
    )
    return prob if unknown is None else np.where(unknown, np.float32(np.nan), prob)


def check_random_raster(prob: npt.NDArray[np.float32], where: str, quieter: PolygonSettings) -> None:
    crs, transform = GRIDS[where]
    with tempfile.TemporaryDirectory() as scratch:
        source, out = Path(scratch) / "p.tif", Path(scratch) / "o.gpkg"
        profile = {"dtype": "float32", "count": 1, "nodata": np.nan, "crs": crs, "transform": transform}
        height, width = prob.shape
        with rasterio.open(source, "w", driver="GTiff", height=height, width=width, **profile) as dataset:
            dataset.write(prob, 1)
        polygonize(source, out, threshold=0.5)
        first = geopandas.read_file(out)
        polygonize(source, out, threshold=0.5, settings=quieter)
        second = geopandas.read_file(out)
    with np.errstate(invalid="ignore"):
        changed = int((prob >= 0.5).sum())
    pixel = abs(transform.determinant)
    assert first.n_pixels.sum() == second.n_pixels.sum() == changed
    assert shapely.area(first.geometry.to_numpy()).sum() == pytest.approx(changed * pixel, rel=1e-6)
    for frame in (first, second):
        polygons = frame.geometry.to_numpy()
        assert shapely.is_valid(polygons).all()
        assert not shapely.is_empty(polygons).any()
        assert (shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON).all()
        if len(polygons):
            assert abs(overlap(polygons)) <= 1e-7 * pixel * changed
            np.testing.assert_allclose(frame.area_m2, equal_area(polygons, crs), rtol=1e-3)


quieters = st.builds(
    PolygonSettings,
    fill_holes=st.sampled_from([0.0, 50.0, 150.0, 1000.0, 1e5]),
    simplify=st.sampled_from([0.0, 0.4, 5.0, 8.0, 10.0, 25.0, 100.0]),
    smooth=st.integers(0, 4),
)
cases = (probabilities(), st.sampled_from(list(GRIDS)), quieters)


@settings(max_examples=30)
@given(*cases)
def test_random_rasters(prob: npt.NDArray[np.float32], where: str, quieter: PolygonSettings) -> None:
    check_random_raster(prob, where, quieter)


@pytest.mark.slow
@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
@given(*cases)
def test_a_thousand_random_rasters(
    prob: npt.NDArray[np.float32], where: str, quieter: PolygonSettings
) -> None:
    check_random_raster(prob, where, quieter)


PICTURES = {
    # regime: picture, number of holes that are left
    "one hole": (["###", "#.#", "###"], 0),
    "a large hole stays": (["####", "#..#", "#..#", "####"], 1),
    "a small beside a large": (["######", "#.#..#", "###..#", "######"], 1),
    "a hole with a polygon in it stays": (["#####", "#.#.#", "#...#", "#####"], 1),
    "a hole that the polygon in it touches": (["####", "##.#", "#.##", "####"], 0),
    "a hole that touches the outside by a corner": (["###.", "#.##", "####"], 0),
}


@pytest.mark.parametrize(("picture", "left"), PICTURES.values(), ids=PICTURES)
def test_small_holes_are_filled(picture: list[str], left: int) -> None:
    polygons = outlines(picture)
    filled = fill_holes(polygons, 4.0, one_each)
    assert shapely.is_valid(filled).all()
    assert overlap(filled) == 0
    assert shapely.get_num_interior_rings(filled).sum() == left
    assert shapely.get_num_interior_rings(polygons).sum() >= left


def test_a_hole_around_a_polygon_stays_open_however_large_the_limit() -> None:
    polygons = outlines(["#####", "#...#", "#.#.#", "#...#", "#####"])
    assert shapely.equals(fill_holes(polygons, 1e9, one_each), polygons).all()
    # and the hole inside of that polygon is filled
    nested = ["#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"]
    filled = fill_holes(outlines(nested), 1e9, one_each)
    assert sorted(shapely.get_num_interior_rings(filled)) == [0, 1]


def test_simplify_takes_the_stairs_out_of_a_slope() -> None:
    stairs = outlines(["#" * (2 * row + 1) + "." * (40 - 2 * row) for row in range(20)])
    simple = simplify(stairs, 10.0, (10.0, 10.0))
    assert shapely.get_num_coordinates(stairs)[0] > 40
    assert shapely.get_num_coordinates(simple)[0] < 10
    assert shapely.area(simple)[0] == pytest.approx(shapely.area(stairs)[0], rel=0.06)
    assert set(map(tuple, shapely.get_coordinates(simple))) <= set(
        map(tuple, shapely.get_coordinates(stairs))
    )


def test_simplify_counts_in_metres() -> None:
    """In degrees far north a pixel is half as wide as it is high."""
    stairs = outlines(["#" * (row + 1) + "." * (20 - row) for row in range(20)])
    assert shapely.equals_exact(simplify(stairs, 4.9, (5.0, 10.0)), stairs)[0]  # 25 square metres a corner
    assert shapely.get_num_coordinates(simplify(stairs, 5.1, (5.0, 10.0)))[0] < 10


def test_simplify_keeps_the_form_of_small_polygons() -> None:
    polygons = outlines(["#...", "..##", ".#..", "...."])
    assert shapely.equals(simplify(polygons, 30.0, (10.0, 10.0)), polygons).all()


def test_neighbours_still_touch_where_they_did() -> None:
    polygons = outlines(["###...", "###...", "###...", "...###", "...###", "...###"])
    for quiet in (simplify(polygons, 1.2, (1.0, 1.0)), smooth(polygons, 3)):
        assert shapely.intersection(*quiet).equals(shapely.Point(3, 3))


def test_smooth_cuts_corners() -> None:
    square = outlines(["####", "####", "####", "####"])
    once = smooth(square, 1)
    assert shapely.equals(
        once, shapely.Polygon([(1, 0), (3, 0), (4, 1), (4, 3), (3, 4), (1, 4), (0, 3), (0, 1)])
    )
    assert shapely.get_num_coordinates(smooth(square, 3))[0] == 4 * 2**3 + 1
    assert shapely.equals(smooth(square, 0), square)


def test_smooth_does_not_run_into_what_lies_in_a_corner() -> None:
    """The cut across the long sides of the notch would go through the small polygon."""
    picture = ["#........"] * 11 + ["#.#......", "#........", "#########"]
    polygons = outlines(picture)
    assert overlap(smooth(polygons, 3)) == 0
    assert shapely.contains_xy(smooth(polygons, 1), 1.2, 12.8).sum() == 0
    alone = smooth(polygons[shapely.area(polygons) > 1], 1)
    assert shapely.contains_xy(alone, 1.2, 12.8).all(), "without it the corner is rounded"


def test_smooth_looks_at_all_corners_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = np.random.default_rng(3).random((40, 40)) > 0.45
    polygons = outlines(["".join("#" if c else "." for c in line) for line in changed])
    at_once = smooth(polygons, 2)
    monkeypatch.setattr(generalize, "CHUNK", 37)
    assert shapely.equals_exact(smooth(polygons, 2), at_once).all()
