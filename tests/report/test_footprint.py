"""The outline of a grid in longitude and latitude."""

from __future__ import annotations

import pytest
import shapely
from rasterio.crs import CRS
from rasterio.transform import Affine

from geocd.raster.grid import Grid
from geocd.report.footprint import footprint

TRANSFORM = Affine(10, 0, 500000, 0, -10, 5000000)


def grid(crs="EPSG:32633", transform=TRANSFORM, height=100, width=200):
    return Grid(CRS.from_user_input(crs), transform, height, width)


def shape_of(geometry):
    shape = shapely.geometry.shape(geometry)
    assert shape.is_valid
    for part in getattr(shape, "geoms", [shape]):
        assert part.exterior.is_ccw  # RFC 7946
    assert -180 <= shape.bounds[0] <= shape.bounds[2] <= 180
    assert -90 <= shape.bounds[1] <= shape.bounds[3] <= 90
    return shape


def test_footprint_holds_the_corners():
    geometry, bbox = footprint(grid())
    shape = shape_of(geometry)
    assert bbox == pytest.approx(shape.bounds)
    assert bbox == pytest.approx([15, 45.1436, 15.0254, 45.1526], abs=1e-3)


def test_geographic_footprint_is_four_corners():
    geometry, bbox = footprint(grid("EPSG:4326", Affine(0.1, 0, 10, 0, -0.1, 50)))
    assert shape_of(geometry).equals(shapely.box(10, 40, 30, 50))
    assert len(geometry["coordinates"][0]) == 5
    assert bbox == [10, 40, 30, 50]


def test_rotated_grid():
    geometry, _ = footprint(grid(transform=TRANSFORM @ Affine.rotation(30)))
    assert shape_of(geometry).area > 0


def test_whole_earth():
    geometry, bbox = footprint(grid("EPSG:4326", Affine(1.8, 0, -180, 0, -1.8, 90)))
    assert bbox == [-180, -90, 180, 90]
    assert shape_of(geometry).area == pytest.approx(360 * 180)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        pytest.param("EPSG:3857", Affine(1000, 0, 19950000, 0, -1000, 100000), id="mercator"),
        pytest.param("EPSG:32601", Affine(1000, 0, 100000, 0, -1000, 100000), id="UTM 1"),
        pytest.param("EPSG:4326", Affine(0.01, 0, 179, 0, -0.01, 1), id="degrees beyond 180"),
    ],
)
def test_across_the_antimeridian(crs, transform):
    geometry, bbox = footprint(grid(crs, transform))
    assert geometry["type"] == "MultiPolygon"
    shape = shape_of(geometry)
    assert len(shape.geoms) == 2
    assert bbox[0] > 170
    assert bbox[2] < -170  # west greater than east: across
    assert shape.area < 10


def test_degrees_from_0_to_360_are_brought_home():
    _, bbox = footprint(grid("EPSG:4326", Affine(0.01, 0, 200, 0, -0.01, 1)))
    assert bbox == [-160, 0, -158, 1]


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90), ("EPSG:3031", -90)])
def test_around_a_pole(crs, pole):
    geometry, bbox = footprint(grid(crs, Affine(1000, 0, -90000, 0, -1000, 60000)))
    shape = shape_of(geometry)
    assert shape.distance(shapely.Point(100, pole)) < 1e-6
    assert (bbox[0], bbox[2]) == (-180, 180)
    assert pole in bbox


def test_no_place_on_earth():
    assert footprint(grid('LOCAL_CS["here",UNIT["metre",1]]')) == (None, None)
