"""The pictures of the page: small enough, and chips only where they show more."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import write_raster
from rasterio.crs import CRS
from rasterio.transform import Affine
from report_page import decoded

from geocd.raster.grid import Grid
from geocd.report import pictures
from geocd.report.places import Places
from geocd.report.thumbnails import Thumbnails, read_dates
from geocd.vectorize.polygons import polygonize


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pair and its probability: a board of single pixels, and two changes, the smaller one further up."""
    folder = tmp_path_factory.mktemp("pictures")
    board = np.tile(np.array([[0, 200], [200, 0]], np.uint8), (60, 80))
    board[:, :10], board[:, 150:] = 0, 200
    prob = np.zeros((120, 160), np.float32)
    prob[5:9, 10:14] = 0.9
    prob[90:110, 100:140] = 0.8
    raster = write_raster(folder / "p.tif", prob, nodata=math.nan)
    polygonize(raster, folder / "c.gpkg", threshold=0.5)
    write_raster(folder / "image.tif", board)
    return folder / "image.tif", raster


def of(result: tuple[Path, Path], max_size: int) -> tuple[Thumbnails, Places]:
    image, prob = (str(path) for path in result)
    small = read_dates(image, image, indexes=[1], max_size=max_size).with_prob(result[1], 0.5)
    grid = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 4_200_000), 120, 160)
    return small, Places.of(Path(prob).with_name("c.gpkg"), grid, small.prob.shape)


def test_chips_have_every_pixel_of_the_largest_places(result: tuple[Path, Path]) -> None:
    made = pictures.chips(*of(result, 40))
    assert [chip.place for chip in made] == [0, 1]
    assert made[0].window == (80, 60, 80, 60)
    assert made[1].window == (0, 0, 48, 48)
    with decoded(made[0].after) as image:
        levels = np.asarray(image.convert("L")).astype(int)
    assert levels.shape == (60, 80)
    assert np.abs(np.diff(levels[:, :65], axis=1)).min() > 200, "a board of single pixels"


def test_no_chips_where_the_overview_has_every_pixel(result: tuple[Path, Path]) -> None:
    assert pictures.chips(*of(result, 160)) == []


def test_pictures_over_the_budget_are_stored_in_a_lower_quality(
    result: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    small, _ = of(result, 160)
    best = pictures.overview(small)
    monkeypatch.setattr(pictures, "BUDGET", 1)
    assert len(pictures.overview(small)["before"]) < len(best["before"])
    assert pictures.overview(small)["prob"] == best["prob"], "of which there is no lower one"


def test_the_probability_is_transparent_where_it_is_low(result: tuple[Path, Path]) -> None:
    small, _ = of(result, 160)
    with decoded(pictures.overview(small)["prob"]) as image:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
    rows = alpha.shape[0] // 120
    assert alpha[50 * rows, 50 * rows] == 0
    assert alpha[100 * rows, 120 * rows] > 200
