"""Places at native pixels, whatever the size of the rasters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NORTH_UP, write_raster
from rasterio.transform import Affine
from rasterio.windows import Window

from geocd.raster.pair import Pair
from geocd.report.chips import SIDES, chip_window
from geocd.report.thumbnails import read_dates


@pytest.mark.parametrize(
    ("bounds", "middle", "expected"),
    [
        pytest.param((500, 300, 505, 304), (502, 302), (478, 278, 48, 48), id="small: with surroundings"),
        pytest.param((500, 300, 600, 320), (0, 0), (450, 250, 200, 120), id="half its length on each side"),
        pytest.param((0, 0, 5, 5), (2, 2), (0, 0, 48, 48), id="in a corner"),
        pytest.param((990, 790, 1000, 800), (995, 795), (952, 752, 48, 48), id="in the other corner"),
        pytest.param((0, 0, 1000, 800), (700, 100), (572, 0, 256, 256), id="too large: what lies inside it"),
        pytest.param((0, 400, 1000, 410), (10, 405), (0, 277, 256, 256), id="a road across the scene"),
    ],
)
def test_windows(bounds: tuple[int, ...], middle: tuple[int, int], expected: tuple[int, ...]) -> None:
    window = chip_window(np.array(bounds, float), np.array(middle, float), (800, 1000))
    assert (window.col_off, window.row_off, window.width, window.height) == expected


def test_a_window_is_no_larger_than_the_grid() -> None:
    window = chip_window(np.array([0.0, 0, 3, 900]), np.array([1.0, 450]), (900, 3))
    assert (window.width, window.height) == (3, SIDES[1])


def ramps(height: int = 60, width: int = 90) -> np.ndarray:
    """Three bands in which every pixel has its own colour."""
    rows, cols = np.mgrid[:height, :width]
    return np.stack([rows * 4, cols * 2, rows + cols]).astype(np.uint8)


@pytest.mark.parametrize("shift", [0, 7], ids=["one grid", "warped"])
def test_chips_have_the_pixels_and_colours_of_the_whole_picture(shift: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {"nodata": 255}
    image = ramps()
    image[:, 20, 30] = 255
    wide = np.pad(image, ((0, 0), (0, 0), (shift, 0)), constant_values=255)
    before = str(write_raster(tmp_path / "b.tif", image, **options))
    after = str(
        write_raster(tmp_path / "a.tif", wide, transform=NORTH_UP @ Affine.translation(-shift, 0), **options)
    )
    with Pair(before, after, align=True) as pair:
        dates = read_dates(before, after, indexes=pair.bands, max_size=100, warp=pair.warp)
    (first, second) = dates.view.chips([Window(25, 15, 12, 10), Window(80, 50, 10, 10)])
    for chip, rows, cols in ((first, slice(15, 25), slice(25, 37)), (second, slice(50, 60), slice(80, 90))):
        for valid, whole in ((chip.valid_before, dates.valid_before), (chip.valid_after, dates.valid_after)):
            np.testing.assert_array_equal(valid, whole[rows, cols])
        np.testing.assert_array_equal(
            chip.before[chip.valid_before], dates.before[rows, cols][chip.valid_before]
        )
        close = np.abs(chip.after.astype(int) - dates.after[rows, cols])[chip.valid_after]
        assert close.max() <= 2
    assert not first.valid_before[5, 5]
    assert first.valid_before.sum() == 119


def test_of_a_decimated_picture_chips_have_every_pixel(tmp_path: Path) -> None:
    image = np.tile(np.array([[0, 200], [200, 0]], np.uint8), (40, 60))  # a board of single pixels
    image[:, 60:80], image[:, 80:] = 0, 200
    path = str(write_raster(tmp_path / "b.tif", image))
    dates = read_dates(path, path, indexes=[1], max_size=30)
    assert np.ptp(dates.before[:, :10]) < 20
    (chip,) = dates.view.chips([Window(10, 10, 8, 8)])
    assert set(np.unique(chip.before)) <= {0, 255}
    assert (chip.before[:-1] != chip.before[1:]).all()
