"""Sizes: measured on the ellipsoid, of pixels, and of polygons whose outlines were altered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pyproj
import pytest
import shapely
from conftest import write_raster as save
from rasterio.crs import CRS
from rasterio.transform import Affine

from geocd.config import PolygonSettings
from geocd.raster.grid import Grid
from geocd.vectorize.pixelsize import PixelSize
from geocd.vectorize.polygons import COLUMNS, polygonize

UTM = CRS.from_epsg(32633)
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_200_000)
ROTATED = Affine(8.66, 3.5, 500_000, 5.0, -6.06, 4_200_000)  # by 30 degrees


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
        pytest.param("EPSG:32633", ROTATED, id="rotated"),
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


#: UTM is not here for its transform alone: each CRS has its own way from the plane to the ellipsoid.
PLACES = [
    pytest.param("EPSG:32633", NORTH_UP, id="UTM"),
    pytest.param("EPSG:32633", ROTATED, id="rotated"),
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
