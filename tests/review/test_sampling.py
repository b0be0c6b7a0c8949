"""Points that are drawn: at random, reproducible, with all that estimating takes."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import rasterio
import shapely
from conftest import WriteRaster
from rasterio.transform import Affine

from geocd.errors import ConfigError, NoValidPixelError
from geocd.review.sampling import COLUMNS, draw, sample
from geocd.review.strata import strata_of


def prob(height: int = 120, width: int = 300) -> np.ndarray:
    """A tenth changed, the rest from 0 to .5."""
    values = np.random.default_rng(0).uniform(0, 0.5, (height, width)).astype(np.float32)
    values[: height // 10] = 0.9
    return values


@pytest.fixture(name="raster")
def raster_fixture(write_raster: WriteRaster) -> Path:
    return write_raster("prob", prob(), nodata=np.nan)


def test_points_and_their_facts(raster: Path, tmp_path: Path) -> None:
    report = sample(raster, tmp_path / "s.gpkg", threshold=0.5, size=120)
    points = geopandas.read_file(tmp_path / "s.gpkg", layer="sample")
    assert list(points.columns) == [*COLUMNS, "geometry"]
    assert points.crs == "EPSG:32633"
    assert points["id"].tolist() == list(range(1, 121))
    assert report.points == (30, 30, 60)
    assert points["stratum"].value_counts().to_dict() == {"changed": 30, "near": 30, "unchanged": 60}
    assert points["verdict"].isna().all()
    assert not points.geometry.duplicated().any()
    with rasterio.open(raster) as dataset:
        at = np.array([value[0] for value in dataset.sample(zip(points.x, points.y, strict=True))])
    np.testing.assert_array_equal(points["prob"].to_numpy(np.float32), at)
    assert ((points["map_class"] == "changed") == (at >= 0.5)).all()
    for stratum in report.strata:
        assert points.loc[points["stratum"] == stratum.name, "stratum_m2"].unique().tolist() == [stratum.area]
    lonlat = points.to_crs("EPSG:4326").geometry
    np.testing.assert_allclose(points["longitude"], lonlat.x, atol=1e-7)

    table = pd.read_csv(tmp_path / "s.csv")
    assert list(table.columns) == list(COLUMNS)
    np.testing.assert_array_equal(table["stratum_m2"], points["stratum_m2"])
    np.testing.assert_array_equal(table["x"], points["x"])


def test_the_first_points_are_a_sample_too(raster: Path, tmp_path: Path) -> None:
    sample(raster, tmp_path / "s.gpkg", threshold=0.5, size=120)
    first = pd.read_csv(tmp_path / "s.csv").head(60)
    assert first["stratum"].value_counts().to_dict() == {"changed": 15, "near": 15, "unchanged": 30}


def test_the_seed_decides(raster: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        sample(raster, tmp_path / f"{name}.gpkg", threshold=0.5, size=60, seed=seed)
    content = {name: (tmp_path / f"{name}.csv").read_bytes() for name in "abc"}
    assert content["a"] == content["b"] != content["c"]
    assert (tmp_path / "a.gpkg").read_bytes() == (tmp_path / "b.gpkg").read_bytes()


def test_every_part_of_a_stratum_has_its_chance(write_raster: WriteRaster) -> None:
    """In degrees, a row near the pole has less area, and fewer points."""
    values = np.zeros((1700, 400), np.float32)
    path = str(
        write_raster("p", values, crs="EPSG:4326", transform=Affine(0.05, 0, 0, 0, -0.05, 85), nodata=np.nan)
    )
    (points,) = draw(path, strata_of(path, 0.5), [4000])
    latitude = 85 - 0.05 * points.row
    assert (latitude > 60).mean() == pytest.approx(1 - np.sin(np.radians(60)), abs=0.02)
    assert (points.col < 200).mean() == pytest.approx(0.5, abs=0.03)
    assert len(set(zip(points.row, points.col, strict=True))) == 4000


def test_a_stratum_of_few_pixels_is_drawn_whole(write_raster: WriteRaster, tmp_path: Path) -> None:
    values = np.zeros((50, 50), np.float32)
    values[7, 3:8] = 1
    report = sample(write_raster("p", values), tmp_path / "s.gpkg", threshold=0.5, size=40)
    assert report.points[0] == 5


def test_points_know_the_kind_of_their_polygon(raster: Path, tmp_path: Path) -> None:
    left = shapely.box(500_000, 4_198_800, 501_500, 4_200_000)
    changes = geopandas.GeoDataFrame({"kind": ["water_gain"]}, geometry=[left], crs="EPSG:32633")
    changes.to_file(tmp_path / "c.gpkg", layer="changes")
    styles = changes.drop(columns="geometry")
    pyogrio.write_dataframe(styles, tmp_path / "c.gpkg", layer="layer_styles")  # as QGIS saves them
    sample(raster, tmp_path / "s.gpkg", threshold=0.5, size=120, changes=tmp_path / "c.gpkg")
    points = geopandas.read_file(tmp_path / "s.gpkg")
    changed = points[points["map_class"] == "changed"]
    inside = changed.geometry.x < 501_500
    assert inside.sum() > 5
    assert (changed["map_kind"] == np.where(inside, "water_gain", "unclear")).all()
    assert points.loc[points["map_class"] != "changed", "map_kind"].isna().all()


@pytest.mark.parametrize(
    ("options", "message"), [({"size": 9}, "at least 10"), ({"standard_error": 0.2}, "from 0.001 to 0.1")]
)
def test_odd_sizes(options: dict[str, float], message: str, raster: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        sample(raster, tmp_path / "s.gpkg", threshold=0.5, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "s.gpkg").exists()


def test_nothing_to_draw_from(write_raster: WriteRaster, tmp_path: Path) -> None:
    empty = write_raster("p", np.full((9, 9), np.nan, np.float32), nodata=np.nan)
    with pytest.raises(NoValidPixelError, match="no valid pixel to draw from"):
        sample(empty, tmp_path / "s.gpkg", threshold=0.5)
