"""GeoPackages whose views have no end, and files that hold no raster or layer, or several."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from hostile_input import WriteRaster, refused
from rasterio.transform import Affine

from geocd.batch.pairs import read_items
from geocd.errors import PairsError, RasterOpenError
from geocd.evaluate import evaluate_files
from geocd.raster import databases
from geocd.raster.databases import why_not_read
from geocd.raster.files import open_raster

WITHOUT_END = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT {} FROM c"
ROWS = WITHOUT_END.format(
    "x AS fid, 'p' || x AS id, 'a' AS before, 'b' AS after, (SELECT geom FROM t) AS geom"
)
MANY = f"(SELECT * FROM t, (VALUES {', '.join(['(1)'] * 500)}))"
VIEWS = {
    "rows": ROWS,
    "a value": f"SELECT *, ({WITHOUT_END.format('max(x)')}) AS n FROM t",
    "a join": "SELECT a.fid FROM " + ", ".join(f"{MANY} {letter}" for letter in "abcdef"),
}  # fmt: skip


def package(path: Path, view: str | None, *, registered: bool = True) -> Path:
    """Write a GeoPackage with a table ``t`` and a view ``v``, which alone is registered as features."""
    frame = geopandas.GeoDataFrame(
        {"id": ["p"], "before": ["a.tif"], "after": ["b.tif"]},
        geometry=[shapely.box(500000, 4199700, 500200, 4199900)],
        crs="EPSG:32633",
    )
    frame.to_file(path, layer="t", driver="GPKG")
    if view is None:
        return path
    with closing(sqlite3.connect(path)) as base, base:
        base.execute(f"CREATE VIEW v AS {view}")
        if registered:
            base.execute("UPDATE gpkg_contents SET table_name = 'v', identifier = 'v'")
            base.execute("UPDATE gpkg_geometry_columns SET table_name = 'v'")
    return path


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let views take a fraction of a second."""
    assert databases.LIMIT <= 10
    monkeypatch.setattr(databases, "LIMIT", 0.1)


@pytest.fixture
def prob(write_raster: WriteRaster) -> Path:
    """Write a probability."""
    return write_raster("prob", np.full((64, 64), 0.25, np.float32))


@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.usefixtures("soon")
def test_a_view_without_end_is_not_read(view: str, registered: bool, prob: Path, tmp_path: Path) -> None:
    path = package(tmp_path / "v.gpkg", VIEWS[view], registered=registered)
    begin = time.monotonic()
    with pytest.raises(RasterOpenError, match=r"its view 'v' does not end within 0\.1 s, so"):
        evaluate_files(prob, path)
    with pytest.raises(PairsError, match="its view 'v' does not end"):
        read_items(path)
    with pytest.raises(RasterOpenError, match="its view 'v' does not end"):
        open_raster(str(path))
    assert time.monotonic() - begin < 5


@pytest.mark.usefixtures("soon")
def test_a_table_of_gdal_that_is_a_view(prob: Path, tmp_path: Path) -> None:
    path = package(tmp_path / "v.gpkg", None)
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("ALTER TABLE gpkg_geometry_columns RENAME TO old")
        base.execute(f"CREATE VIEW gpkg_geometry_columns AS {WITHOUT_END.format('x')}")
    assert "its view 'gpkg_geometry_columns' does not end" in refused("evaluate", prob, path)
    assert "its view 'gpkg_geometry_columns' does not end" in refused("batch", path, tmp_path / "out")


def test_an_honest_view_is_read(prob: Path, tmp_path: Path) -> None:
    path = package(tmp_path / "v.gpkg", "SELECT * FROM t WHERE id = 'p'")
    assert why_not_read(path) is None
    assert evaluate_files(prob, path).objects is not None
    assert [item.id for item in read_items(path)] == ["p"]


def test_what_is_no_database_is_left_to_gdal(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"SQLite format 3\0 and nothing else")
    assert why_not_read(tmp_path / "x") is None
    assert why_not_read(tmp_path / "none") is None
    assert why_not_read("a\0b") is None


def test_a_container_names_its_rasters(prob: Path, tmp_path: Path) -> None:
    profile = {"driver": "GPKG", "width": 64, "height": 64, "count": 3, "dtype": "uint8", "crs": "EPSG:32633",
               "transform": Affine(10, 0, 500000, 0, -10, 4200000)}  # fmt: skip
    path = tmp_path / "two.gpkg"
    for table, append in (("red", "NO"), ("green", "YES")):
        with rasterio.open(path, "w", **profile, RASTER_TABLE=table, APPEND_SUBDATASET=append) as dataset:
            dataset.write(np.ones((3, 64, 64), np.uint8))
    names = [f"GPKG:{path}:red", f"GPKG:{path}:green"]
    message = f"{path}: holds 2 rasters, of which one is needed. Name it, for instance {names[0]}"
    for command in (
        ("check", path, prob),
        ("check", prob, path),
        ("detect", path, prob),
        ("evaluate", path, prob),
        ("evaluate", prob, path),
        ("polygonize", path),
    ):
        assert f"{message} (all: {', '.join(names)})" in refused(*command), command
    with open_raster(names[0]) as dataset:  # the remedy
        assert dataset.count == 4


def test_a_netcdf_of_several_variables(prob: Path, tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    path = tmp_path / "scene.nc"
    variables = {name: (("y", "x"), np.ones((8, 8), np.float32)) for name in ("B03", "B04")}
    xarray.Dataset(variables, coords={"x": np.arange(8.0), "y": np.arange(8.0)}).to_netcdf(path)
    message = refused("check", path, prob)
    assert (
        f"{path}: holds 2 rasters, of which one is needed. Name it, for instance netcdf:{path}:B03" in message
    )


def test_a_list_without_layers(tmp_path: Path) -> None:
    path = tmp_path / "empty.kml"
    path.write_text('<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document/></kml>')
    assert f"{path}: has no layer, so it lists nothing" in refused("batch", path, tmp_path / "out")
