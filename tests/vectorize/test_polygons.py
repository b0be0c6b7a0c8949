"""Polygons: equal to polygonising the whole array, valid, measured on the ellipsoid, reproducible."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyogrio
import pyproj
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

from geocd.config import PolygonSettings
from geocd.errors import BandError, ConfigError, GridError, OutputError, RasterOpenError, RasterReadError
from geocd.raster.grid import Grid
from geocd.vectorize import polygons, regions
from geocd.vectorize.formats import LAYER
from geocd.vectorize.pixelsize import PixelSize
from geocd.vectorize.polygons import COLUMNS, polygonize
from geocd.vectorize.regions import EXACT, Regions

UTM = CRS.from_epsg(32633)
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_200_000)


def save(
    path: Path, prob: npt.NDArray[Any], *, crs: Any = UTM, transform: Affine = NORTH_UP, **kw: Any
) -> Path:
    options: dict[str, Any] = {"dtype": prob.dtype, "nodata": np.nan, "tiled": True, **kw}
    if not np.issubdtype(np.dtype(options["dtype"]), np.floating) and np.isnan(options["nodata"]):
        options["nodata"] = None
    height, width = prob.shape
    size = {"height": height, "width": width, "count": 1, "blockxsize": 16, "blockysize": 16}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **size, **options) as dataset:
        dataset.write(prob, 1)
    return path


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


@settings(max_examples=200, deadline=None)
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


def geodesic(polygon: shapely.Polygon, crs: Any) -> tuple[float, float]:
    """Area and perimeter by another way: geodesic polygon with many points along each side."""
    dense = shapely.segmentize(polygon, polygon.length / 4000)
    crs = pyproj.CRS.from_user_input(crs)
    to_lonlat = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    lonlat = shapely.transform(dense, to_lonlat.transform, interleaved=False)
    geod = crs.get_geod()
    area, _ = geod.geometry_area_perimeter(lonlat)  # its perimeter leaves the holes out
    return abs(area), geod.geometry_length(lonlat.boundary)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        # regime
        pytest.param("EPSG:4326", Affine(1e-4, 0, 13.3, 0, -1e-4, 52.6), id="degrees"),
        pytest.param("EPSG:4326", Affine(1e-4, 0, 25.0, 0, -1e-4, 71.2), id="degrees, far north"),
        pytest.param("EPSG:4326", Affine(0.05, 0, -170.0, 0, -0.05, 66.0), id="degrees, coarse"),
        pytest.param("EPSG:32633", NORTH_UP, id="UTM"),
        pytest.param("EPSG:32633", Affine(0.5, 0, 166_000, 0, -0.5, 4_200_000), id="UTM, zone border"),
        pytest.param("EPSG:3857", Affine(10, 0, 1_500_000, 0, -10, 8_400_000), id="web mercator at 60 N"),
        pytest.param("EPSG:3857", Affine(500, 0, 1_500_000, 0, -500, 8_400_000), id="web mercator, coarse"),
        pytest.param("EPSG:2263", Affine(3, 0, 980_000, 0, -3, 200_000), id="feet"),
        pytest.param("EPSG:3413", Affine(100, 0, -2_000, 0, -100, 2_000), id="around the north pole"),
        pytest.param("EPSG:3832", Affine(100, 0, 3_336_000, 0, -100, 900_000), id="across the date line"),
        pytest.param("EPSG:32633", TRANSFORMS[2], id="rotated"),
        pytest.param(
            "EPSG:4326",
            Affine(9.4e-5, 3.42e-5, 13, 3.42e-5, -9.4e-5, 52),
            id="rotated degrees",
        ),
    ],
)
def test_areas_and_perimeters_are_geodesic(tmp_path: Path, crs: str, transform: Affine) -> None:
    changed = np.zeros((60, 90), bool)
    changed[2:20, 3:40] = True
    changed[5:9, 10:30] = False  # a hole
    changed[30, 5:85] = True  # long and thin, one side straight and the other with teeth
    changed[29, 5:85:2] = True
    changed[40:58, 50:88] = np.random.default_rng(1).random((18, 38)) > 0.3
    prob = save(tmp_path / "prob.tif", changed.astype("f4"), crs=crs, transform=transform)
    summary = polygonize(prob, tmp_path / "out.gpkg", threshold=0.5)
    frame = geopandas.read_file(tmp_path / "out.gpkg")
    assert len(frame) > 3
    for line in frame.itertuples():
        area, perimeter = geodesic(line.geometry, crs)
        assert line.area_m2 == pytest.approx(area, rel=1e-3)
        assert line.perimeter_m == pytest.approx(perimeter, rel=1e-3)
    assert summary.area_m2 == pytest.approx(frame["area_m2"].sum())


def test_web_mercator_areas_are_not_those_of_the_map(tmp_path: Path) -> None:
    transform = Affine(10, 0, 0, 0, -10, 8_399_738)  # 60 degrees north: scale 2, area 4
    prob = save(tmp_path / "prob.tif", np.ones((5, 5), "f4"), crs="EPSG:3857", transform=transform)
    assert polygonize(prob, tmp_path / "o.gpkg", threshold=0.5).area_m2 == pytest.approx(2500 / 4, rel=0.01)


def test_the_whole_earth_has_its_area(tmp_path: Path) -> None:
    prob = save(
        tmp_path / "prob.tif",
        np.ones((180, 360), "f4"),
        crs="EPSG:4326",
        transform=Affine(1, 0, -180, 0, -1, 90),
    )
    summary = polygonize(prob, tmp_path / "out.gpkg", threshold=0.5)
    assert summary.area_m2 == pytest.approx(5.10065622e14, rel=1e-3)


def test_a_crs_without_ellipsoid_is_measured_in_its_plane(tmp_path: Path) -> None:
    local = 'LOCAL_CS["site grid",UNIT["foot",0.3048],AXIS["x",EAST],AXIS["y",NORTH]]'
    prob = save(
        tmp_path / "prob.tif", np.ones((4, 6), "f4"), crs=CRS.from_wkt(local), transform=Affine.scale(2, -2)
    )
    summary = polygonize(prob, tmp_path / "out.gpkg", threshold=0.5)
    assert summary.area_m2 == pytest.approx(24 * (2 * 0.3048) ** 2)
    assert geopandas.read_file(tmp_path / "out.gpkg")["perimeter_m"][0] == pytest.approx(20 * 2 * 0.3048)


def picture(tmp_path: Path, **kw: Any) -> Path:
    """Two changes (6 and 1 pixels), two invalid pixels, on a 4 x 5 grid."""
    prob = np.zeros((4, 5), "f4")
    prob[0:2, 0:3] = [[0.5, 0.6, 0.7], [0.8, 0.9, 1.0]]
    prob[3, 4] = 0.75
    prob[2, 0:2] = np.nan
    return save(tmp_path / "a_prob.tif", prob, **kw)


def test_layer(tmp_path: Path) -> None:
    out = tmp_path / "a_changes.gpkg"
    summary = polygonize(
        picture(tmp_path), out, threshold=0.5, date_before="2019-05-01", date_after="2020-05-01"
    )
    assert (summary.count, summary.n_pixels, summary.changed_share) == (2, 7, 7 / 18)
    assert pyogrio.list_layers(out).tolist() == [[LAYER, "Polygon"]]
    frame = geopandas.read_file(out)  # warnings are errors here
    assert tuple(frame.columns) == (*COLUMNS, "geometry")
    assert frame.crs == "EPSG:32633"
    assert frame["n_pixels"].tolist() == [6, 1]
    assert frame["date_before"].tolist() == ["2019-05-01"] * 2
    assert frame["date_after"].tolist() == ["2020-05-01"] * 2
    assert frame["p_mean"].tolist() == pytest.approx([0.75, 0.75])
    assert summary.area_m2 == pytest.approx(700, rel=2e-3)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_unknown_dates_are_null(tmp_path: Path) -> None:
    polygonize(picture(tmp_path), tmp_path / "o.gpkg", threshold=0.5)
    assert geopandas.read_file(tmp_path / "o.gpkg")[["date_before", "date_after"]].isna().all(axis=None)


def test_at_the_threshold_is_changed(tmp_path: Path) -> None:
    # 0.7 is stored as a float32 a little off; the user's 0.7 means that one.
    assert polygonize(picture(tmp_path), tmp_path / "o.gpkg", threshold=0.7).n_pixels == 5


def test_small_polygons_are_dropped(tmp_path: Path) -> None:
    summary = polygonize(
        picture(tmp_path), tmp_path / "o.gpkg", threshold=0.5, settings=PolygonSettings(min_area=150)
    )
    assert (summary.count, summary.n_pixels) == (1, 6)
    assert geopandas.read_file(tmp_path / "o.gpkg")["id"].tolist() == [1]


@pytest.mark.parametrize("case", ["nothing changed", "nothing valid", "all too small"])
def test_no_polygon_is_a_layer_with_all_columns(tmp_path: Path, case: str) -> None:
    value = np.nan if case == "nothing valid" else 0.9 if case == "all too small" else 0.1
    prob = save(tmp_path / "p.tif", np.full((20, 20), value, "f4"))
    out = tmp_path / "o.gpkg"
    summary = polygonize(prob, out, threshold=0.5, settings=PolygonSettings(min_area=1e9))
    assert summary == polygons.PolygonSummary(0, 0.0, 0, 0.0)
    frame = geopandas.read_file(out)
    assert tuple(frame.columns) == (*COLUMNS, "geometry")
    assert frame.crs == "EPSG:32633"
    assert len(frame) == 0
    info, full = pyogrio.read_info(out), tmp_path / "full.gpkg"
    polygonize(picture(tmp_path), full, threshold=0.5)
    assert info["geometry_type"] == "Polygon"
    assert info["ogr_types"] == pyogrio.read_info(full)["ogr_types"]


@pytest.mark.parametrize("shape_", [(1, 1), (1, 500), (500, 1), (5, 5)])
def test_odd_sizes(tmp_path: Path, shape_: tuple[int, int]) -> None:
    summary = polygonize(save(tmp_path / "p.tif", np.ones(shape_, "f4")), tmp_path / "o.gpkg", threshold=0.5)
    assert (summary.count, summary.n_pixels, summary.changed_share) == (1, shape_[0] * shape_[1], 1.0)


def test_files_are_read_in_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prob = np.random.default_rng(2).random((100, 37), dtype=np.float32)
    source = save(tmp_path / "p.tif", prob)
    polygonize(source, tmp_path / "one.gpkg", threshold=0.4)
    for module in (polygons, regions):
        monkeypatch.setattr(module, "BLOCK_SIZE", 16)
    monkeypatch.setattr(polygons, "STRIP_PIXELS", 1)
    assert len(list(polygons.strips(Grid(UTM, NORTH_UP, 100, 37)))) == 7
    polygonize(source, tmp_path / "two.gpkg", threshold=0.4)
    assert (tmp_path / "one.gpkg").read_bytes() == (tmp_path / "two.gpkg").read_bytes()


def test_other_kinds_of_not_valid(tmp_path: Path) -> None:
    """A nodata value instead of NaN, in whole numbers."""
    prob = np.array([[1, 1, 255], [0, 255, 255]], "uint8")
    summary = polygonize(save(tmp_path / "p.tif", prob, nodata=255), tmp_path / "o.gpkg", threshold=0.5)
    assert (summary.n_pixels, summary.changed_share) == (2, 2 / 3)


def test_bytes_are_reproducible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2001-01-01T00:00:00.000Z"})
    try:
        prob = picture(tmp_path)
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            polygonize(
                prob, tmp_path / name / "o.gpkg", threshold=0.5, date_after="2020-05-01T10:00:00+02:00"
            )
        assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") == "2001-01-01T00:00:00.000Z"
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    one = (tmp_path / "one" / "o.gpkg").read_bytes()
    assert one == (tmp_path / "two" / "o.gpkg").read_bytes()
    assert b"2020-05-01T08:00:00.000Z" in one
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    polygonize(prob, tmp_path / "o.gpkg", threshold=0.5, date_after="2020-05-01")
    assert b"1970-01-02T00:00:00.000Z" in (tmp_path / "o.gpkg").read_bytes()
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def test_an_odd_date_is_kept_as_it_is(tmp_path: Path) -> None:
    polygonize(picture(tmp_path), tmp_path / "o.gpkg", threshold=0.5, date_after="spring 2020")
    assert set(geopandas.read_file(tmp_path / "o.gpkg")["date_after"]) == {"spring 2020"}


def test_several_threads_write_at_once(tmp_path: Path) -> None:
    prob = picture(tmp_path)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            polygonize(prob, tmp_path / f"{number}.gpkg", threshold=0.5, date_after=f"20{10 + number}-01-01")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for number in range(4):
        assert f"20{10 + number}-01-01T00:00:00.000Z".encode() in (tmp_path / f"{number}.gpkg").read_bytes()


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    prob, out = picture(tmp_path), tmp_path / "o.gpkg"
    polygonize(prob, out, threshold=0.5)
    polygonize(prob, out, threshold=0.95)
    assert geopandas.read_file(out)["n_pixels"].tolist() == [1]


@pytest.mark.parametrize("threshold", [0, -0.1, 1.1, float("nan")])
def test_threshold_out_of_range(tmp_path: Path, threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"threshold .* is not a probability") as caught:
        polygonize(picture(tmp_path), tmp_path / "o.gpkg", threshold=threshold)
    assert caught.value.details["threshold"] is threshold


def test_a_raster_that_is_no_probability(tmp_path: Path) -> None:
    prob = save(tmp_path / "after.tif", np.full((4, 4), 1200, "uint16"))
    with pytest.raises(BandError, match=r"after\.tif: band 1 is no change probability.*1200"):
        polygonize(prob, tmp_path / "o.gpkg", threshold=0.5)
    assert not (tmp_path / "o.gpkg").exists()


@pytest.mark.parametrize("odd", [-0.0005, 1.0005])
def test_rounding_past_the_ends_is_still_a_probability(tmp_path: Path, odd: float) -> None:
    prob = save(tmp_path / "p.tif", np.array([[odd, 0.6, np.nan]], "f4"))
    assert polygonize(prob, tmp_path / "o.gpkg", threshold=0.5).n_pixels == (2 if odd > 1 else 1)


@pytest.mark.parametrize(("odd", "span"), [(-0.01, (-0.01, 0.6)), (1.25, (0.6, 1.25))])
def test_more_than_rounding_is_not(tmp_path: Path, odd: float, span: tuple[float, float]) -> None:
    prob = save(tmp_path / "p.tif", np.array([[odd, 0.6, np.nan]], "f4"))
    with pytest.raises(BandError, match=rf"from {span[0]} to {span[1]} and") as caught:
        polygonize(prob, tmp_path / "o.gpkg", threshold=0.5)
    assert caught.value.details["path"] == str(prob)
    assert caught.value.details["range"] == pytest.approx(span)


def test_a_raster_that_ends_too_early_is_named(tmp_path: Path) -> None:
    prob = save(tmp_path / "p.tif", np.random.default_rng(0).random((64, 64), np.float32))
    prob.write_bytes(prob.read_bytes()[:4000])
    with pytest.raises((RasterOpenError, RasterReadError), match=r"p\.tif"):
        polygonize(prob, tmp_path / "o.gpkg", threshold=0.5)


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(RasterOpenError, match="no such file"):
        polygonize(tmp_path / "none.tif", tmp_path / "o.gpkg", threshold=0.5)
    prob = save(tmp_path / "p.tif", np.ones((4, 4), "f4"), crs=None)
    with pytest.raises(GridError, match=r"p\.tif: .*no coordinate reference system"):
        polygonize(prob, tmp_path / "o.gpkg", threshold=0.5)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere.*o\.gpkg: cannot be written"):
        polygonize(picture(tmp_path), tmp_path / "nowhere" / "o.gpkg", threshold=0.5)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    prob, folder = picture(tmp_path), tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(OutputError, match=r"o\.gpkg: cannot be written"):
        polygonize(prob, folder / "o.gpkg", threshold=0.5)


FULL = """
import resource, signal, sys
from pathlib import Path
from geocd.errors import OutputError
from geocd.vectorize.polygons import polygonize
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing past the limit fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    polygonize(Path(sys.argv[1]), Path(sys.argv[2]), threshold=0.5)
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
@pytest.mark.parametrize("limit", [0, 20_000, 100_000, 200_000])
def test_full_disk(tmp_path: Path, limit: int) -> None:
    """At every stage: the first page, the tables, the rows, the closing."""
    prob = save(tmp_path / "p.tif", np.random.default_rng(0).random((100, 100), dtype=np.float32))
    out = tmp_path / "results" / "o.gpkg"
    out.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(prob), str(out), str(limit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{out}: cannot be written" in done.stdout
    assert list(out.parent.iterdir()) == []


def test_many_polygons_in_little_time(tmp_path: Path) -> None:
    """A megapixel with thousands of polygons: seconds would show here as tens of them."""
    rng = np.random.default_rng(0)
    prob = np.kron(rng.random((250, 250), dtype=np.float32), np.ones((4, 4), np.float32))
    started = os.times()
    summary = polygonize(save(tmp_path / "p.tif", prob), tmp_path / "o.gpkg", threshold=0.85)
    ended = os.times()
    assert summary.count > 3000
    assert ended.user + ended.system - started.user - started.system < 10


#: UTM is not here for its transform alone: each CRS has its own way from the plane to the ellipsoid.
PLACES = [
    pytest.param("EPSG:32633", NORTH_UP, id="UTM"),
    pytest.param("EPSG:32633", TRANSFORMS[2], id="rotated"),
    pytest.param("EPSG:4326", Affine(1e-4, 0, 13.3, 0, -1e-4, 62.6), id="degrees"),
    pytest.param("EPSG:2263", Affine(3, 0, 980_000, 0, -3, 200_000), id="feet"),
]
SIZES = ["area_m2", "perimeter_m"]


@pytest.mark.parametrize(("crs", "transform"), PLACES)
def test_a_filled_hole_counts_as_if_it_had_never_been(tmp_path: Path, crs: str, transform: Affine) -> None:
    prob = np.zeros((9, 12), "f4")
    prob[1:6, 1:6] = np.linspace(0.6, 0.9, 25).reshape(5, 5)
    prob[4, 2] = 0
    prob[4:8, 8:10] = 0.8
    full = prob.copy()
    full[4, 2] = 0.9
    frames = []
    for name, values, limit in (("plain", prob, 0), ("quiet", prob, 1e9), ("full", full, 0)):
        source = save(tmp_path / f"{name}.tif", values, crs=crs, transform=transform)
        out, settings = tmp_path / f"{name}.gpkg", PolygonSettings(fill_holes=limit)
        polygonize(source, out, threshold=0.5, settings=settings)
        frames.append(geopandas.read_file(out))
    plain, quiet, whole = frames
    assert shapely.equals_exact(
        shapely.normalize(quiet.geometry.to_numpy()), shapely.normalize(whole.geometry.to_numpy()), 1e-6
    ).all()
    assert all(shapely.is_ccw(shapely.get_exterior_ring(p)) for p in quiet.geometry)
    # The altered one is measured as it is written, ...
    np.testing.assert_allclose(
        quiet.loc[0, SIZES].astype(float), whole.loc[0, SIZES].astype(float), rtol=1e-4
    )
    for column, side in (("centroid_x", transform.a), ("centroid_y", transform.e)):
        assert abs(quiet.loc[0, column] - whole.loc[0, column]) < abs(side) / 1000
        assert abs(quiet.loc[0, column] - plain.loc[0, column]) > abs(side) / 100
    # ... what its pixels say is not altered, and neither is the other polygon.
    pixels = [column for column in COLUMNS if column.startswith(("n_", "p_"))]
    assert quiet[pixels].equals(plain[pixels])
    assert quiet.loc[1, list(COLUMNS)].equals(plain.loc[1, list(COLUMNS)])


@pytest.mark.parametrize(("crs", "transform"), PLACES)
def test_smoothed_and_simplified_polygons_lie_where_they_belong(
    tmp_path: Path, crs: str, transform: Affine
) -> None:
    prob = np.zeros((30, 40), "f4")
    prob[10:14, 20:24] = 1
    source = save(tmp_path / "p.tif", prob, crs=crs, transform=transform)
    polygonize(source, tmp_path / "o.gpkg", threshold=0.5, settings=PolygonSettings(smooth=1))
    (line,) = geopandas.read_file(tmp_path / "o.gpkg").itertuples()
    t = transform

    def to_map(x: float, y: float) -> tuple[float, float]:
        return t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f

    cut = [(21, 10), (23, 10), (24, 11), (24, 13), (23, 14), (21, 14), (20, 13), (20, 11)]
    expected = shapely.Polygon([to_map(*corner) for corner in cut])
    assert line.geometry.normalize().equals_exact(expected.normalize(), 1e-6)
    assert (line.area_m2, line.perimeter_m) == pytest.approx(geodesic(expected, crs), rel=2e-4)
    assert (line.centroid_x, line.centroid_y) == pytest.approx(to_map(22, 12), rel=1e-12)

    prob[:] = np.add.outer(np.arange(30), np.arange(40)) < 25  # stairs
    source = save(tmp_path / "p.tif", prob, crs=crs, transform=transform)
    quieter = PolygonSettings(simplify=3 * (line.area_m2 / 14) ** 0.5)
    polygonize(source, tmp_path / "o.gpkg", threshold=0.5, settings=quieter)
    (line,) = geopandas.read_file(tmp_path / "o.gpkg").itertuples()
    assert len(line.geometry.exterior.coords) < 10
    assert line.geometry.area == pytest.approx(325 * abs(transform.determinant), rel=0.08)
    assert (line.area_m2, line.perimeter_m) == pytest.approx(geodesic(line.geometry, crs), rel=2e-4)


def squares(count: int) -> npt.NDArray[Any]:
    """Squares of 10, 20, ... pixels' sides, each with a hole of a fifth of its side, in a row."""
    found = []
    for number in range(count):
        side = 1 + number % 7
        x, y = 500_000 + 100 * number, 4_200_000
        found.append(
            shapely.box(x, y, x + 10 * side, y + 10 * side).difference(
                shapely.box(x + 4 * side, y + 4 * side, x + 6 * side, y + 6 * side)
            )
        )
    return np.array(found, dtype=object)


def test_any_polygons_are_measured_each_for_itself() -> None:
    """Holes are taken off the area and added to the perimeter; also beyond the first thousand."""
    polygons = squares(1500)
    area, perimeter = PixelSize(Grid(UTM, NORTH_UP, 10, 10)).measure(polygons)
    side = np.arange(1500) % 7 + 1
    scale = area[0] / 96
    assert scale == pytest.approx(1 / 0.9996**2, rel=1e-3)  # at the central meridian, growing with x²
    near = slice(0, 20)
    np.testing.assert_allclose(area[near], 96 * side[near] ** 2 * scale, rtol=1e-4)
    np.testing.assert_allclose(perimeter[near], 48 * side[near] * np.sqrt(scale), rtol=1e-4)
    some = [0, 3, 998, 999, 1000, 1001, 1499]
    for number in some:
        assert (area[number], perimeter[number]) == pytest.approx(geodesic(polygons[number], UTM), rel=1e-6)
    alone = PixelSize(Grid(UTM, NORTH_UP, 10, 10)).measure(polygons[1400:1401])
    assert (area[1400], perimeter[1400]) == (alone[0][0], alone[1][0])


def test_long_sides_are_those_of_the_map_and_no_geodesics() -> None:
    """A parallel at 60 degrees north, 10 degrees long: the geodesic runs half a degree north of it."""
    size = PixelSize(Grid(CRS.from_epsg(4326), Affine(1e-4, 0, 10, 0, -1e-4, 61), 10_000, 100_000))
    polygon = np.array([shapely.box(10, 60, 20, 61)], dtype=object)
    area, perimeter = size.measure(polygon)
    assert (area[0], perimeter[0]) == pytest.approx(geodesic(polygon[0], 4326), rel=1e-6)


def test_polygons_in_a_plane_and_outside_of_a_projection() -> None:
    local = CRS.from_wkt('LOCAL_CS["site grid",UNIT["foot",0.3048],AXIS["x",EAST],AXIS["y",NORTH]]')
    polygons = np.array([shapely.box(0, 0, 2, 3), shapely.box(0, 0, 1, 1)], dtype=object)
    area, perimeter = PixelSize(Grid(local, Affine.scale(1, -1), 5, 5)).measure(polygons)
    assert area.tolist() == pytest.approx([6 * 0.3048**2, 0.3048**2])
    assert perimeter.tolist() == pytest.approx([10 * 0.3048, 4 * 0.3048])
    mollweide = CRS.from_string("+proj=moll")
    size = PixelSize(Grid(mollweide, Affine(100, 0, 0, 0, -100, 0), 10, 10))
    polygons = np.array([shapely.box(0, 0, 1, 1), shapely.box(2e7, 0, 2e7 + 1, 1)], dtype=object)
    area, perimeter = size.measure(polygons)
    assert np.isfinite([area, perimeter]).tolist() == [[True, False]] * 2
    outside = PixelSize(Grid(mollweide, Affine(100, 0, 2e7, 0, -100, 0), 10, 10))
    assert outside.sides == (1, 1), "something to reckon with"
    assert np.isnan(outside.area(np.array([3]), np.array([4]))).all()


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        # Scale changes from pixel to pixel, by rows or by columns.
        pytest.param(3857, Affine(20_000, 0, 0, 0, -20_000, 9_000_000), id="rows go south"),
        pytest.param(3857, Affine(0, 20_000, 0, -20_000, 0, 9_000_000), id="columns go south"),
        pytest.param(4326, Affine(0.3, 0.2, 10, 0.2, -0.3, 60), id="turned degrees"),
    ],
)
def test_the_size_of_large_pixels(crs: int, transform: Affine) -> None:
    size, t = PixelSize(Grid(CRS.from_epsg(crs), transform, 12, 15)), transform
    known = pyproj.CRS.from_user_input(crs)
    to_lonlat = pyproj.Transformer.from_crs(known, known.geodetic_crs, always_xy=True)

    def to_map(row: Any, col: Any) -> Any:
        return t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f

    for row, col in ((0, 0), (0, 14), (11, 0), (11, 14), (5, 8)):
        corners = (row, col), (row, col + 1), (row + 1, col + 1), (row + 1, col)
        area, _ = geodesic(shapely.Polygon([to_map(*corner) for corner in corners]), crs)
        assert size.area(np.array([row]), np.array([col])) == pytest.approx(area, rel=1e-3)

    def length(row: float, col: float, last_row: float, last_col: float) -> float:
        line = to_map(np.linspace(row, last_row, 101), np.linspace(col, last_col, 101))
        return float(known.get_geod().line_length(*to_lonlat.transform(*line)))

    assert size.sides == pytest.approx((length(6, 7, 6, 8), length(5.5, 7.5, 6.5, 7.5)), rel=1e-4), (
        "the middle"
    )
    for end in ((6, 8), (5, 9)):
        there = [np.array([place]) for place in (5, 8, *end)]
        assert size.length(*there) == pytest.approx(length(5, 8, *end), rel=1e-3)
        assert size.length(*there[2:], *there[:2]) == size.length(*there)
