"""A series of dates: pairs with the next dates, and what lasts of their changes."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from batch_folder import contents, invoke, lines

from geocd.batch.acquisitions import Acquisition
from geocd.batch.pairing import Pairing
from geocd.batch.series import series_of
from geocd.batch.stack import Stack
from geocd.errors import PairsError
from geocd.raster.composite import decimal_year

DAYS = ["2023-05-01", "2023-06-01", "2023-07-01", "2023-08-01", "2023-09-01"]


@pytest.fixture
def images(write_raster: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Write the first dates of a place: what lasts, passes, comes under a cloud, and is new at the end.

    The fourth is on another grid.
    """
    (tmp_path / "place").mkdir()
    ground = np.random.default_rng(9).normal(1000, 100, (3, 80, 80))

    def write(count: int) -> Path:
        for number, day in enumerate(DAYS[:count]):
            values = ground + np.random.default_rng(number).normal(0, 10, ground.shape)
            if number >= 1:
                values[:, 8:24, 8:24] += 1500  # from June on
            if number == 2:
                values[:, 8:24, 48:64] += 1500  # in July alone
            if number >= 2:
                values[:, 40:56, 8:24] += 1500  # from July on, which is clouded there
            if number == 2:
                values[:, 36:60, 4:28] = np.nan
            if number >= 4:
                values[:, 40:56, 48:64] += 1500  # in the last image
            name, grid = f"place/S_{day.replace('-', '')}", {}
            if number == 3:  # another origin
                values, grid = values[:, 2:, 3:], {"transform": Affine(10, 0, 500_030, 0, -10, 4_199_980)}
            write_raster(name, values.astype(np.float32), nodata=np.nan, **grid)
        return tmp_path / "place"

    return write


def test_a_series_tells_what_lasts_and_a_new_date_costs_its_own_pairs(
    images: Callable[..., Path], cluster: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["series", images(4), out, "--scheduler", cluster, "--method", "cva", "--align", "grid"]
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    assert "6 pairs done (6 in this run), 0 failed" in result.stderr
    assert result.stderr.rstrip().endswith(f"{out / 'place_series.tif'}\n{out / 'place_series.gpkg'}")
    before = contents(out)

    images(5)
    assert "place_20230601_20230901: new" in invoke(*command, "--dry-run").stdout
    assert "9 pairs done (3 in this run), 0 failed" in invoke(*command).stderr
    assert {line["id"] for line in lines(out, "done")[6:]} == {
        f"place_{day.replace('-', '')}_20230901" for day in DAYS[1:4]
    }, "those that end with it"
    assert {name: content for name, content in contents(out).items() if name in before} == before

    polygons = geopandas.read_file(out / "place_series.gpkg")
    boxes = {tuple(np.round((p.centroid.x - 500_000, 4_200_000 - p.centroid.y)) // 100): row
             for p, (_, row) in zip(polygons.geometry, polygons.iterrows(), strict=True)
             if p.area > 100 * 128}  # fmt: skip
    dates = {place: (row.date_from, row.date_to) for place, row in boxes.items()}
    assert dates == {
        (1, 1): ("2023-05-01", "2023-06-01"),
        (1, 4): ("2023-06-01", "2023-08-01"),  # July was clouded there
        (5, 4): ("2023-08-01", "2023-09-01"),
    }, "what was there in July alone is none"
    assert boxes[1, 1].lasting > 0.95
    assert np.isnan(boxes[5, 4].lasting), "no later date yet"
    with rasterio.open(out / "place_series.tif") as dataset:
        date_to, date_from, lasting, waiting, _ = dataset.read()
        assert dataset.descriptions[0] == "date_to"
    assert date_to[16, 16] == np.float32(decimal_year(datetime.date(2023, 6, 1)))
    assert date_from[48, 16] == np.float32(decimal_year(datetime.date(2023, 6, 1)))
    assert lasting[16, 16] == 1
    assert np.isnan(date_to[16, 56])
    assert waiting[48, 56] == np.float32(decimal_year(datetime.date(2023, 9, 1)))
    suffixes = "tif", "gpkg", "qml"
    series_bytes = [(out / f"place_series.{suffix}").read_bytes() for suffix in suffixes]
    assert b"2023-09-01" in series_bytes[2]
    assert "9 pairs done (0 in this run)" in invoke(*command).stderr
    assert series_bytes == [(out / f"place_series.{suffix}").read_bytes() for suffix in suffixes]


def test_the_pairs_of_a_series_and_their_seasons() -> None:
    texts = ["2021-06-01", "2021-06-20", "2021-12-01", "2022-06-10", "2023-05-25", "2023-12-05"]
    dates = {datetime.date.fromisoformat(text): Acquisition(f"{text}.tif") for text in texts}
    (series,) = series_of({"a": dates}, Pairing(), 1)
    assert list(series.items) == [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4), (3, 5), (4, 5)]
    (series,) = series_of({"a": dates, "b": {}}, Pairing(season_days=30, dates=None), 1)
    assert list(series.items) == [(0, 1), (0, 3), (1, 3), (1, 4), (2, 5), (3, 4)]
    assert series.items[2, 5].id == "a_20211201_20231205"
    with pytest.raises(PairsError, match="a series needs two dates of a place"):
        series_of({"a": {}}, Pairing())


def test_the_files_of_a_place_stay_in_the_folder_of_the_batch() -> None:
    dates = {datetime.date(2023, month, 1): Acquisition(f"{month}.tif") for month in (1, 2)}
    (series,) = series_of({"../33U/UP": dates}, Pairing())  # as a STAC item may name its tile
    assert series.place == "33U-UP"
    assert [item.id for item in series.items.values()] == ["33U-UP_20230101_20230201"]


def test_other_dates_bring_their_masks() -> None:
    """Also those that have to be stacked first; a date without a mask has none."""
    days = [datetime.date(year, 6, 1) for year in (2020, 2021, 2022, 2023)]
    stack = Stack("2020_SCL.vrt", (("scl", "scl.tif"),), "2020-06-01T00:00:00Z")
    dates = {day: Acquisition(f"{day.year}.tif") for day in days}
    dates[days[0]] = Acquisition("2020.tif", "2020_SCL.vrt", stacks=(stack,))
    (series,) = series_of({"A": dates}, Pairing(baseline_years=2), confirmations=0)
    item = series.items[2, 3]
    assert (item.baseline, item.mask_baseline) == (("2020.tif", "2021.tif"), ("2020_SCL.vrt", "none"))
    assert item.stacks == (stack,)
    assert item.signed("planetary-computer").mask_baseline == item.mask_baseline
    dates[days[0]] = Acquisition("2020.tif")
    (series,) = series_of({"A": dates}, Pairing(baseline_years=2), confirmations=0)
    assert series.items[2, 3].mask_baseline == ()
