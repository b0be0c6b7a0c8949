"""The dates of a series: a folder of images, or a list."""

from __future__ import annotations

import datetime
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
from conftest import WriteRaster
from shapely import Point

from geocd.batch.acquisitions import Acquisition
from geocd.batch.places import read_places
from geocd.batch.sources import SourceOptions
from geocd.errors import ConfigError, PairsError

ONES = np.ones((8, 8), np.uint16)


def day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


def test_a_folder_has_the_dates_of_its_images(write_raster: WriteRaster, tmp_path: Path) -> None:
    folder = tmp_path / "My place"
    folder.mkdir()
    write_raster("My place/b_20230601", ONES)
    write_raster("My place/a", ONES, tags={"ACQUISITIONDATETIME": "2023-08-03T10:00:00Z"})
    (folder / "notes.txt").write_text("none")
    places, area = read_places(str(folder), tmp_path, SourceOptions())
    assert area is None
    assert places == {
        "My-place": {
            day("2023-06-01"): Acquisition(f"{folder}/b_20230601.tif"),
            day("2023-08-03"): Acquisition(f"{folder}/a.tif"),
        }
    }
    assert list(places["My-place"]) == [day("2023-06-01"), day("2023-08-03")]
    write_raster("My place/c_20230601", ONES)
    with pytest.raises(PairsError, match=r"c_20230601\.tif: is of 2023-06-01, as .*b_20230601\.tif is"):
        read_places(str(folder), tmp_path, SourceOptions())
    (folder / "c_20230601.tif").rename(folder / "undated.tif")
    with pytest.raises(PairsError, match=r"undated\.tif: its date is not in its tags"):
        read_places(str(folder), tmp_path, SourceOptions())
    (tmp_path / "empty").mkdir()
    with pytest.raises(PairsError, match=r"empty: has 0 images .*a series needs two"):
        read_places(str(tmp_path / "empty"), tmp_path, SourceOptions())


def test_a_list_has_places_and_masks(write_raster: WriteRaster, tmp_path: Path) -> None:
    write_raster("x_20230601", ONES)
    path = tmp_path / "dates.csv"
    path.write_text(
        "image,date,place,mask\nb.tif,2023-07-01,north,b_SCL.tif\na.tif,20230601,north,\nx_20230601.tif,,,\n"
    )
    places, _ = read_places(str(path), tmp_path, SourceOptions())
    assert places == {
        "dates": {day("2023-06-01"): Acquisition(f"{tmp_path}/x_20230601.tif")},
        "north": {
            day("2023-06-01"): Acquisition(f"{tmp_path}/a.tif"),
            day("2023-07-01"): Acquisition(f"{tmp_path}/b.tif", f"{tmp_path}/b_SCL.tif"),
        },
    }
    table = geopandas.GeoDataFrame(
        {"image": ["a.tif", "b.tif"], "date": pd.to_datetime(["2023-06-01", "2023-07-01"])},
        geometry=[Point(0, 0)] * 2, crs="EPSG:4326",
    )  # fmt: skip
    table.to_file(tmp_path / "dates.gpkg")
    places, _ = read_places(str(tmp_path / "dates.gpkg"), tmp_path, SourceOptions())
    assert list(places["dates"]) == [day("2023-06-01"), day("2023-07-01")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("before,after\na,b\n", r"has no column image\. The columns are image and, optionally, date, place"),
        ("image,date\na.tif,soon\n", r"dates\.csv, line 2: date 'soon': must be YYYY-MM-DD"),
        ("image,date\n,2023-01-01\n", r"line 2: has no image"),
        ("image,date\na.tif,2023-01-01\nb.tif,2023-01-01\n", r"line 3: is of 2023-01-01, as .*a\.tif is"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_used(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "dates.csv").write_text(text)
    with pytest.raises(PairsError, match=message):
        read_places(str(tmp_path / "dates.csv"), tmp_path, SourceOptions())


def test_options_that_a_source_of_dates_does_not_understand(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"--collection: only for a STAC API .*; {tmp_path} is read as a folder of images\. Leave",
    ):
        read_places(str(tmp_path), tmp_path, SourceOptions(collection="c", season_days=30))
    with pytest.raises(
        ConfigError, match=r"--max-cloud: only for a STAC API .* or a file of STAC items; .* read as a list"
    ):
        read_places(str(tmp_path / "dates.csv"), tmp_path, SourceOptions(max_cloud=20.0))
