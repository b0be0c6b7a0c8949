"""Polygons of a series: their dates, and how far they last."""

from __future__ import annotations

import datetime
from pathlib import Path

import geopandas
import numpy as np
import pytest
from conftest import WriteRaster

from geocd.config import PolygonSettings
from geocd.raster.composite import Change, decimal_year
from geocd.vectorize.lastingpolygons import COLUMNS, write_polygons

DAYS = [datetime.date(2023, 5, 1), datetime.date(2023, 6, 1), datetime.date(2023, 7, 1)]


def test_neighbours_of_other_dates_are_other_polygons(write_raster: WriteRaster, tmp_path: Path) -> None:
    may, june, july = (np.float32(decimal_year(day)) for day in DAYS)
    bands = np.full((5, 30, 40), np.nan, np.float32)
    bands[0, 5:10, 5:10], bands[1, 5:10, 5:10], bands[2, 5:10, 5:10] = june, may, 1.0
    bands[2, 5:10, 5:7] = 0.5
    bands[0, 5:10, 10:15], bands[1, 5:10, 10:15], bands[2, 5:10, 10:15] = july, june, 1.0
    bands[3, 20:22, 20:24], bands[4, 20:22, 20:24] = july, june
    bands[3, 0, 0], bands[4, 0, 0] = july, june
    raster = write_raster("series", bands, nodata=np.nan)
    changes = [Change(0, 1, True), Change(1, 2, False), Change(1, 2, True)]
    path = tmp_path / "series.gpkg"
    assert write_polygons(raster, path, changes, DAYS, PolygonSettings(min_area=200)) == 3
    frame = geopandas.read_file(path)
    assert list(frame.columns) == [*COLUMNS, "geometry"]
    rows = [(row.date_from, row.date_to, row.n_pixels, row.lasting) for row in frame.itertuples(index=False)]
    assert [row[:3] for row in rows] == [
        ("2023-05-01", "2023-06-01", 25), ("2023-06-01", "2023-07-01", 8), ("2023-06-01", "2023-07-01", 25),
    ]  # fmt: skip
    assert rows[0][3] == pytest.approx(0.8)
    assert np.isnan(rows[1][3])
    assert rows[2][3] == 1
    assert frame.area_m2[0] == pytest.approx(2500, rel=0.002)


def test_a_series_without_changes_is_a_layer_without_polygons(
    write_raster: WriteRaster, tmp_path: Path
) -> None:
    raster = write_raster("series", np.full((5, 30, 40), np.nan, np.float32), nodata=np.nan)
    assert write_polygons(raster, tmp_path / "series.gpkg", [], DAYS, PolygonSettings()) == 0
    frame = geopandas.read_file(tmp_path / "series.gpkg")
    assert list(frame.columns) == [*COLUMNS, "geometry"]
    assert frame.crs.to_epsg() == 32633
