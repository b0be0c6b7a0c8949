"""The places of the map: outlines in pixels, and where they lie on Earth."""

from __future__ import annotations

import json
import math
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from conftest import write_raster
from rasterio.crs import CRS
from rasterio.transform import Affine

from geocd.raster.grid import Grid
from geocd.report import places
from geocd.report.places import Lattice, Places, path_data
from geocd.vectorize.polygons import polygonize


def test_an_outline_is_exact_and_says_what_is_a_hole() -> None:
    square = shapely.box(10, 20, 14, 24).difference(shapely.box(11, 21, 12, 22))
    square = shapely.normalize(square)
    triangle = shapely.Polygon([(0.25, 0), (3.5, 1.125), (0, 2)])
    both = shapely.MultiPolygon([square, triangle])
    paths = ["M10 20v4h4v-4ZM11 21h1v1h-1z", "M0.25 0l3.25 1.12l-3.5 0.88Z"]
    assert path_data([triangle, both, square]) == [paths[1], paths[0] + paths[1], paths[0]]
    assert path_data([]) == []


GRIDS = [
    pytest.param("EPSG:32636", Affine(10, 0, 600_000, 0, -10, 3_800_000), (10_980, 10_980), id="Sentinel-2"),
    pytest.param("EPSG:32601", Affine(10, 0, 300_000, 0, -10, 7_800_000), (5000, 5000), id="at 180 degrees"),
    pytest.param("EPSG:4326", Affine(1e-4, 0, 35.4, 0, -1e-4, 33.9), (1180, 1070), id="degrees"),
    pytest.param("EPSG:3857", Affine(30, 5, 1e6, 5, -30, 6e6), (3000, 2000), id="web mercator, turned"),
    pytest.param("EPSG:3413", Affine(100, 0, -2e5, 0, -100, -1e6), (3000, 4000), id="polar"),
]


@pytest.mark.parametrize(("crs", "transform", "shape"), GRIDS)
def test_the_lattice_says_where_a_pixel_lies(crs: str, transform: Affine, shape: tuple[int, int]) -> None:
    """As the page does it: bilinear between the nodes. To a twentieth of a pixel, at the pole to half."""
    grid = Grid(CRS.from_user_input(crs), transform, *shape)
    lattice = Lattice.of(grid)
    assert lattice is not None
    assert lattice.rows <= 65
    rng = np.random.default_rng(0)
    cols, rows = rng.uniform(0, shape[1], 500), rng.uniform(0, shape[0], 500)
    x, y = cols / grid.width * (lattice.cols - 1), rows / grid.height * (lattice.rows - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    u, v = x - left, y - top

    def between(values: list[float]) -> np.ndarray:
        nodes = np.reshape(values, (lattice.rows, lattice.cols))
        upper = (1 - u) * nodes[top, left] + u * nodes[top, left + 1]
        lower = (1 - u) * nodes[top + 1, left] + u * nodes[top + 1, left + 1]
        return (1 - v) * upper + v * lower

    degrees = grid.lonlat(*grid.to_xy(cols, rows))
    assert degrees is not None
    east = (between(lattice.lon) - degrees[0] + 180) % 360 - 180
    metres = 111_320 * np.hypot(east * np.cos(np.radians(degrees[1])), between(lattice.lat) - degrees[1])
    assert metres.max() < (0.5 if lattice.rows == 65 else 0.05) * (grid.pixel_size or math.nan)


def test_no_lattice_where_nothing_leads_to_longitude_and_latitude() -> None:
    local = CRS.from_user_input('LOCAL_CS["here",UNIT["metre",1]]')
    assert Lattice.of(Grid(local, Affine(1, 0, 0, 0, -1, 0), 50, 50)) is None


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Grid]:
    """Places of 600, 4 and 1 pixels."""
    prob = np.zeros((60, 80), np.float32)
    prob[10:30, 40:70] = 0.9
    prob[50:52, 4:6] = 0.7
    prob[0, 0] = 0.6
    folder = tmp_path_factory.mktemp("places")
    raster = write_raster(folder / "p.tif", prob, nodata=math.nan)
    polygonize(raster, folder / "c.gpkg", threshold=0.5)
    return folder / "c.gpkg", Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 4_200_000), 60, 80)


def test_the_largest_come_first_with_their_columns(layer: tuple[Path, Grid]) -> None:
    found = Places.of(*layer, (60, 80))
    assert len(found) == 3
    assert found.columns["n_pixels"] == [600, 4, 1]
    assert found.columns["id"] == [2, 3, 1]
    assert found.columns["p_mean"] == [0.9, 0.7, 0.6]
    assert found.outlines == ["M40 10v20h30v-20Z", "M4 50v2h2v-2Z", "M0 0v1h1v-1Z"]
    assert found.bounds.tolist() == [[40, 10, 70, 30], [4, 50, 6, 52], [0, 0, 1, 1]]
    assert found.columns["lat"][0] == pytest.approx(37.9462, abs=1e-3)
    assert set(places.OPTIONAL) & set(found.columns) == {"verdict"}
    assert found.columns["verdict"] == [None] * 3


def test_columns_that_only_some_results_have(layer: tuple[Path, Grid], tmp_path: Path) -> None:
    frame = geopandas.read_file(layer[0])
    frame["kind"], frame["verdict"] = ["unclear", "burnt", "snow"], [None, "yes", None]
    frame["lasting"] = np.array([np.nan, 0.75, 1 / 3], np.float32)
    frame["relevance"] = [0.1, 0.5, 0.123456]
    frame["last_seen"] = pd.to_datetime(["2021-03-04", None, "2022-05-06"])
    frame["area_m2"] = frame["area_m2"].where(frame["id"] != 1)
    frame.to_file(tmp_path / "k.gpkg", layer="changes")
    found = Places.of(tmp_path / "k.gpkg", layer[1], (60, 80))
    assert found.columns["kind"] == ["burnt", "snow", "unclear"]
    assert found.columns["verdict"] == ["yes", None, None]
    assert found.columns["lasting"] == [0.75, 0.333, None]
    assert found.columns["relevance"] == [0.5, 0.123, 0.1]
    assert [date and str(date)[:10] for date in found.columns["last_seen"]] == [
        None,
        "2022-05-06",
        "2021-03-04",
    ]
    json.dumps(found.columns)
    assert found.columns["area_m2"][-1] is None


def test_too_many_corners_are_simplified_to_what_the_overview_shows(
    layer: tuple[Path, Grid], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "MOST_CORNERS", 11)
    found = Places.of(*layer, (30, 40))
    assert found.simplified == 1.5
    assert len(found) == 2, "the largest that fit"
    assert found.outlines[0] == "M40 10v20h30v-20Z"
    assert found.bounds[1].tolist() == [3.5, 49.5, 6.5, 52.5], "what would vanish is a square that is seen"
