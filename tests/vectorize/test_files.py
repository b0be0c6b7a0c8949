"""Polygons as files: every format complete, in its own CRS and names, all of it or nothing."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import geopandas
import geopandas.testing
import numpy as np
import pytest
import rasterio
import shapely
from pyarrow import parquet
from rasterio.crs import CRS
from rasterio.transform import Affine

from geocd.config import PolygonSettings
from geocd.errors import ConfigError, OutputError
from geocd.raster.pair import Pair
from geocd.report.styles import style
from geocd.vectorize import formats
from geocd.vectorize.files import largest, merge
from geocd.vectorize.formats import FORMATS, LAYER, short_names
from geocd.vectorize.polygons import COLUMNS, polygonize

NAMES = ("blue", "green", "red", "nir")
every_format = pytest.mark.parametrize("suffix", FORMATS)


def load(path: Path) -> geopandas.GeoDataFrame:
    return geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)


@pytest.fixture
def prob(write_raster: Any) -> Path:
    """Two changes (6 and 1 pixels) on a 4 x 5 grid."""
    values = np.zeros((4, 5), "f4")
    values[0:2, 0:3] = [[0.5, 0.6, 0.7], [0.8, 0.9, 1.0]]
    values[3, 4] = 0.75
    return write_raster("a_prob", values)


@every_format
def test_every_format_has_the_same_polygons(prob: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"changes{suffix}"
    polygonize(prob, out, threshold=0.5, date_before="2019-05-01", style=style("changes"))
    frame = load(out)
    names = short_names(COLUMNS) if suffix == ".shp" else {name: name for name in COLUMNS}
    assert set(frame.columns) == {*names.values(), "geometry"}
    frame = frame.sort_values("id", ignore_index=True)  # FlatGeobuf has its own order
    assert frame["n_pixels"].tolist() == [6, 1]
    assert frame["area_m2"].tolist() == pytest.approx([600, 100], rel=2e-3)
    assert frame["p_mean"].tolist() == pytest.approx([0.75, 0.75])
    # read from GeoJSON, which has no types, it becomes a date
    assert [str(date)[:10] for date in frame[names["date_before"]]] == ["2019-05-01"] * 2
    assert frame[names["date_after"]].isna().all()
    assert frame.is_valid.all()
    there = frame.to_crs("EPSG:32633").geometry.to_numpy()
    assert shapely.area(there) == pytest.approx([600, 100], rel=1e-4)
    assert shapely.bounds(there)[0] == pytest.approx([500_000, 4_199_980, 500_030, 4_200_000], abs=1e-3)
    assert frame.crs == ("EPSG:4326" if suffix == ".geojson" else "EPSG:32633")
    centres = geopandas.GeoSeries.from_xy(frame["centroid_x"], frame["centroid_y"], crs=frame.crs)
    assert frame.contains(centres).all(), "in the CRS of the layer"
    assert (tmp_path / "changes.qml").exists()
    assert not list(tmp_path.glob(".*"))


@every_format
def test_no_polygon_is_a_layer_with_all_columns(prob: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"o{suffix}"
    polygonize(prob, out, threshold=0.5, settings=PolygonSettings(min_area=1e9))
    frame = load(out)
    assert len(frame) == 0
    if suffix != ".geojson":  # which writes columns with each polygon
        assert len(frame.columns) == len(COLUMNS) + 1


@every_format
def test_bytes_are_reproducible(prob: Path, tmp_path: Path, suffix: str) -> None:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        polygonize(prob, tmp_path / name / f"o{suffix}", threshold=0.5, date_after="2020-05-01")
        found.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert found[0] == found[1]
    if suffix == ".shp":
        assert found[0]["o.dbf"][1:4] == bytes([2020 - 1900, 5, 1]), "not the date of the run"


def test_geojson_is_rfc_7946(prob: Path, tmp_path: Path) -> None:
    polygonize(prob, tmp_path / "o.geojson", threshold=0.5)
    found = json.loads((tmp_path / "o.geojson").read_text(encoding="utf-8"))
    assert found["name"] == LAYER
    assert "crs" not in found, "longitude and latitude, always"
    ring = shapely.LinearRing(found["features"][0]["geometry"]["coordinates"][0])
    assert shapely.is_ccw(ring)
    assert 14.9 < ring.bounds[0] < 15.1
    assert found["features"][0]["properties"]["date_before"] is None


def test_long_sides_stay_where_they_are_in_geojson(write_raster: Any, tmp_path: Path) -> None:
    """A parallel-looking side of 300 km is bent in longitude and latitude, by kilometres."""
    transform = Affine(100, 0, 200_000, 0, -100, 7_000_000)
    prob = write_raster("p", np.ones((2, 3000), "f4"), transform=transform)
    polygonize(prob, tmp_path / "o.gpkg", threshold=0.5)
    polygonize(prob, tmp_path / "o.geojson", threshold=0.5)
    written = geopandas.read_file(tmp_path / "o.geojson").geometry
    there = written.segmentize(0.005).to_crs("EPSG:32633")[0]  # straight in longitude and latitude
    true = geopandas.read_file(tmp_path / "o.gpkg").geometry[0]
    assert there.symmetric_difference(true).area < 2 * 300_000, "a hundredth of a pixel, on two sides"


def test_geojson_of_a_site_grid_is_refused(write_raster: Any, tmp_path: Path) -> None:
    local = 'LOCAL_CS["site grid",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
    prob = write_raster("p", np.ones((4, 6), "f4"), crs=CRS.from_wkt(local))
    with pytest.raises(ConfigError, match=r"longitude and latitude.*site grid.*\.gpkg"):
        polygonize(prob, tmp_path / "o.geojson", threshold=0.5)
    polygonize(prob, tmp_path / "o.gpkg", threshold=0.5)


def test_shapefile(prob: Path, tmp_path: Path) -> None:
    polygonize(prob, tmp_path / "zürich.shp", threshold=0.5, date_after="été 2020", style=style("changes"))
    assert sorted(path.suffix for path in tmp_path.glob("zürich.*")) == [
        ".cpg",
        ".dbf",
        ".prj",
        ".qml",
        ".shp",
        ".shx",
    ]
    assert (tmp_path / "zürich.cpg").read_text().strip() == "UTF-8"
    frame = geopandas.read_file(tmp_path / "zürich.shp")
    assert frame["date_a"].tolist() == ["été 2020"] * 2
    # of the same stem another format may lie beside it, and QGIS takes the same style for both
    assert (tmp_path / "zürich.qml").read_bytes() == style("changes")


def test_short_names_are_short_and_different() -> None:
    columns = [*COLUMNS, "before_red", "after_red", "before_ndvi", "diff_ndvi"]
    columns += ["before_vegetation_index", "before_vegetation_cover", "after_vegetation_index"]
    names = short_names(columns)
    assert list(names) == columns
    assert max(map(len, names.values())) <= 10
    assert len(set(names.values())) == len(names)
    assert names["before_red"] == "b_red"
    assert names["diff_ndvi"] == "d_ndvi"
    assert names["area_m2"] == "area_m2"


def test_what_an_older_shapefile_left_goes(prob: Path, tmp_path: Path) -> None:
    """A spatial index of other polygons would hide these."""
    polygonize(prob, tmp_path / "o.shp", threshold=0.5)
    (tmp_path / "o.qix").write_bytes(b"old")
    (tmp_path / "o.dbf.backup").write_bytes(b"not ours")
    polygonize(prob, tmp_path / "o.shp", threshold=0.95)
    assert geopandas.read_file(tmp_path / "o.shp")["n_pixels"].tolist() == [1]
    assert not (tmp_path / "o.qix").exists()
    assert (tmp_path / "o.dbf.backup").exists()


@pytest.mark.parametrize("blocked", [".shp", ".shx", ".qml"])
def test_a_file_that_cannot_be_put_in_place_leaves_the_older_ones(
    prob: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocked: str
) -> None:
    out = tmp_path / "results"
    out.mkdir()
    polygonize(prob, out / "o.shp", threshold=0.5, style=style("changes"))
    (out / "o.qix").write_bytes(b"index")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    replace = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.parent.name.startswith(".o-") and Path(target) == out / f"o{blocked}":
            monkeypatch.setattr(Path, "replace", replace)
            raise PermissionError("locked by another program")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="locked by another program"):
        polygonize(prob, out / "o.shp", threshold=0.95, style=b"new")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("name", ["o.json", "o", "o.gpkg.zip"])
def test_other_formats_are_refused(prob: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"\.gpkg, \.geojson, \.fgb, \.parquet, \.shp"):
        polygonize(prob, tmp_path / name, threshold=0.5)


def test_geoparquet_says_what_it_needs(prob: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        formats.importlib.util, "find_spec", lambda name: None if name == "pyarrow" else find(name)
    )
    with pytest.raises(ConfigError, match=r"pip install 'geocd\[parquet\]'"):
        polygonize(prob, tmp_path / "o.parquet", threshold=0.5)


def test_layers_of_many_runs_are_merged(prob: Path, write_raster: Any, tmp_path: Path) -> None:
    paths = {}
    with rasterio.open(prob) as dataset:
        values = dataset.read()
    for name, options in (
        ("none", {}),
        ("utm", {}),
        ("other", {"crs": "EPSG:32634"}),
    ):
        polygonize(write_raster(name, values, **options), tmp_path / f"{name}.gpkg", threshold=0.5)
        paths[name] = tmp_path / f"{name}.gpkg"
    polygonize(prob, paths["none"], threshold=0.5, settings=PolygonSettings(min_area=1e9))

    same = tmp_path / "same.gpkg"
    assert merge({name: paths[name] for name in ("none", "utm")}, same) == 2
    table = geopandas.read_file(same)
    assert table.crs == geopandas.read_file(paths["utm"]).crs
    assert list(table.columns) == ["item", *COLUMNS, "geometry"]
    assert list(table.item) == ["utm", "utm"]
    before = same.read_bytes()
    assert merge({name: paths[name] for name in ("none", "utm")}, same) == 2
    assert same.read_bytes() == before

    assert merge(paths, tmp_path / "mixed.gpkg") == 4
    table = geopandas.read_file(tmp_path / "mixed.gpkg")
    assert table.crs == "EPSG:4326"
    for polygon, x, y in zip(table.geometry, table.centroid_x, table.centroid_y, strict=True):
        assert polygon.centroid.distance(shapely.Point(x, y)) < 1e-6
    assert abs(table.centroid_x[2] - table.centroid_x[0]) == pytest.approx(6, abs=0.01), "another zone"
    assert not list(tmp_path.glob(".*"))


def test_merged_layers_as_geoparquet(prob: Path, tmp_path: Path) -> None:
    """One row group for each source, and what geopandas reads is what the GeoPackage has."""
    paths = {name: tmp_path / f"{name}.gpkg" for name in ("none", "a", "b")}
    for path in paths.values():
        least = PolygonSettings(min_area=1e9 if path.stem == "none" else 0.0)
        polygonize(prob, path, threshold=0.5, settings=least)
    polygonize(prob, paths["b"], threshold=0.5, date_before="2019-05-01", date_after="2020-05-01")
    assert merge(paths, tmp_path / "all.parquet") == 4
    merge(paths, tmp_path / "all.gpkg")
    read = geopandas.read_parquet(tmp_path / "all.parquet")
    wanted = geopandas.read_file(tmp_path / "all.gpkg")
    for frame in (read, wanted):  # nulls of different types
        assert frame.pop("verdict").isna().all()
    geopandas.testing.assert_geodataframe_equal(read, wanted, check_dtype=False, check_crs=True)
    assert read.date_before.tolist()[2:] == ["2019-05-01"] * 2
    assert read.date_before.isna().tolist() == [True, True, False, False]
    file = parquet.ParquetFile(tmp_path / "all.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [0, 2, 2]
    geo = json.loads(file.metadata.metadata[b"geo"])
    assert geo["columns"]["geometry"]["bbox"] == pytest.approx(list(wanted.total_bounds))
    before = (tmp_path / "all.parquet").read_bytes()
    merge(paths, tmp_path / "all.parquet")
    assert (tmp_path / "all.parquet").read_bytes() == before

    assert merge({"none": paths["none"]}, tmp_path / "empty.parquet") == 0
    empty = geopandas.read_parquet(tmp_path / "empty.parquet")
    assert empty.empty
    assert empty.crs == wanted.crs
    with pytest.raises(ConfigError, match=r"all.shp: changes are merged into .gpkg or .parquet"):
        merge(paths, tmp_path / "all.shp")
    assert not list(tmp_path.glob(".*"))


def test_merged_layers_need_not_have_the_same_bands(prob: Path, make_pair: Any, tmp_path: Path) -> None:
    paths = {"plain": tmp_path / "plain.gpkg"}
    polygonize(prob, paths["plain"], threshold=0.5)
    for name, bands in (("colour", NAMES), ("radar", ("VV", "VH"))):
        values = np.ones((len(bands), 4, 5), np.uint8)
        paths[name] = tmp_path / f"{name}.gpkg"
        with Pair(*make_pair(values, values + 1, folder=name, names=bands)) as pair:
            polygonize(prob, paths[name], threshold=0.5, pair=pair)
    assert merge(paths, tmp_path / "all.gpkg") == 6
    assert merge(paths, tmp_path / "all.parquet") == 6
    table = geopandas.read_file(tmp_path / "all.gpkg").set_index("item")
    assert list(table.columns)[: len(COLUMNS)] == list(COLUMNS)
    assert table.loc["colour", "before_nir"].tolist() == [1, 1]
    assert table.loc["radar", "after_vv"].tolist() == [2, 2]
    assert table.loc["plain", ["before_nir", "after_vv"]].isna().all(axis=None)
    assert table.loc["radar", "before_nir"].isna().all()


def test_the_largest_polygons_come_first(tmp_path: Path, write_raster: Any) -> None:
    prob = np.zeros((20, 20), np.float32)
    prob[0, 0] = prob[10:12, 10:13] = prob[5, 5:7] = prob[18, 2] = 0.9
    source = write_raster("p", prob)
    polygonize(source, tmp_path / "c.gpkg", threshold=0.5)
    found = largest(tmp_path / "c.gpkg", 3)
    assert found["n_pixels"].tolist() == [6, 2, 1]
    assert found["id"].tolist() == [3, 2, 1]
    assert found.geometry.iloc[0].bounds == (500_100, 4_199_880, 500_130, 4_199_900)
    assert len(largest(tmp_path / "c.gpkg", 100)) == 4
    polygonize(source, tmp_path / "none.gpkg", threshold=1)
    assert largest(tmp_path / "none.gpkg", 3).empty
    (tmp_path / "c.gpkg").write_bytes(b"not a table")
    with pytest.raises(OutputError, match=r"c\.gpkg"):
        largest(tmp_path / "c.gpkg", 3)
