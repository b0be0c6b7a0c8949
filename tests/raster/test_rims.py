"""Undeclared nodata at the border: what is taken as such, what is only reported, and what is neither."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from conftest import MakePair, WriteRaster, read_pair
from rasterio.windows import Window
from scipy import ndimage

from geocd.raster import reading
from geocd.raster.files import open_raster
from geocd.raster.pair import Pair
from geocd.raster.reading import DateSource
from geocd.raster.rims import Rim, undeclared_rim
from geocd.types import BoolArray

Image = npt.NDArray[np.generic]
SIDE = 120
ROWS, COLS = np.mgrid[:SIDE, :SIDE]
SWATH: BoolArray = COLS + 0.3 * ROWS < 40
FRAME: BoolArray = (np.minimum(ROWS, COLS) < 3) | (np.maximum(ROWS, COLS) >= SIDE - 3)
LINE: BoolArray = ROWS == 0
CORNER: BoolArray = ROWS + COLS < 20
DISC: BoolArray = (ROWS - 60) ** 2 + (COLS - 60) ** 2 < 20**2


def textured(bands: int = 3, seed: int = 0) -> npt.NDArray[np.float64]:
    """Return smooth noise with mean 0 and standard deviation 1, (bands, 120, 120)."""
    noise = np.random.default_rng(seed).normal(0, 1, (bands, SIDE, SIDE))
    smooth = np.stack([ndimage.gaussian_filter(band, 3) for band in noise])
    return smooth / smooth.std()


def reflectance() -> npt.NDArray[np.uint16]:
    return np.clip(1500 + 400 * textured(), 200, 4000).astype(np.uint16)


def byte() -> npt.NDArray[np.uint8]:
    return np.clip(120 + 40 * textured(), 0, 255).astype(np.uint8)


def scaled() -> npt.NDArray[np.float32]:
    return (2.75e-5 * (9000.0 + 1500 * textured()) - 0.2).astype(np.float32)


def elevation() -> npt.NDArray[np.float32]:
    return (300 + 20 * textured(1) + np.random.default_rng(1).normal(0, 0.3, (SIDE, SIDE))).astype(np.float32)


def backscatter() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).gamma(4, 0.02, (2, SIDE, SIDE)).astype(np.float32)


def filled(image: npt.NDArray[np.generic], where: BoolArray, value: float) -> Image:
    image = image.copy()
    image[:, where] = value
    return image


@pytest.fixture
def rim_of(write_raster: WriteRaster) -> Callable[..., Rim | None]:
    """Write an image, and return its rim."""

    def rim(image: Image, **options: object) -> Rim | None:
        path = str(write_raster("image", image, **options))
        with open_raster(path) as dataset:
            return undeclared_rim(DateSource(dataset, path, dataset.indexes))

    return rim


@pytest.mark.parametrize(
    ("image", "where", "value", "shown"),
    [
        pytest.param(reflectance(), SWATH, 0, "0", id="swath of 0"),
        pytest.param(reflectance(), FRAME, 0, "0", id="frame of 0"),
        pytest.param(reflectance(), LINE, 0, "0", id="line of 0"),
        pytest.param(reflectance(), CORNER, 65535, "65535", id="corner of 65535"),
        pytest.param(scaled(), SWATH, -0.2, "-0.2", id="scaled Landsat"),
        pytest.param(scaled(), SWATH, -9999, "-9999", id="-9999"),
        pytest.param(byte(), SWATH, 255, "255", id="byte 255"),
        pytest.param(byte(), SWATH, 0, "0", id="byte 0"),
        pytest.param(backscatter(), SWATH, 0, "0", id="radar"),
        pytest.param(elevation(), SWATH, -32768, "-32768", id="elevation -32768"),
        pytest.param(elevation(), SWATH, 0, "0", id="elevation far above 0"),
    ],
)
def test_a_rim_is_no_data(
    image: npt.NDArray[np.generic],
    where: BoolArray,
    value: float,
    shown: str,
    rim_of: Callable[..., Rim | None],
    make_pair: MakePair,
) -> None:
    rim = rim_of(filled(image, where, value))
    assert rim is not None
    assert rim.excluded
    assert rim.value == shown
    assert float(np.float32(shown)) == rim.values[0]
    assert rim.share == pytest.approx(where.mean())
    assert rim.inside == 0
    paths = make_pair(image, filled(image, where, value))
    assert np.array_equal(read_pair(paths).valid, ~where)
    assert read_pair(paths, nodata="none").valid.all()


def sea() -> npt.NDArray[np.float32]:
    """Return land that rises from a flat sea at 0."""
    return np.maximum(0, 0.05 * (COLS - 40) + textured(1) * 0.1 * (COLS > 40)).astype(np.float32)


@pytest.mark.parametrize(
    ("image", "options"),
    [
        pytest.param(sea(), {}, id="a flat sea beside low land"),
        pytest.param(filled(reflectance(), SWATH, 7), {"nodata": 0}, id="another value is declared"),
    ],
)
def test_what_may_be_data_is_only_reported(
    image: Image, options: dict[str, object], rim_of: Callable[..., Rim | None], make_pair: MakePair
) -> None:
    rim = rim_of(image, **options)
    assert rim is not None
    assert not rim.excluded
    assert read_pair(make_pair(image, image + 1, **options)).valid.all()


ROOFS = np.zeros((SIDE, SIDE), bool)
for _row, _col in ((0, 50), (30, 30), (60, 80), (90, 10), (80, 60)):
    ROOFS[_row : _row + 15, _col : _col + 20] = True


@pytest.mark.parametrize(
    ("image", "options"),
    [
        pytest.param(reflectance(), {}, id="no rim"),
        pytest.param(filled(reflectance(), DISC, 0), {}, id="a lake of zeros"),
        pytest.param(filled(byte(), ROOFS, 255), {}, id="saturated roofs"),
        pytest.param(filled(reflectance(), SWATH, 1500), {}, id="a value within the image"),
        pytest.param(
            np.where(SWATH, np.clip(2 * textured(), 0, 255), byte()).astype(np.uint8), {}, id="dark"
        ),
        pytest.param(filled(reflectance(), SWATH, 0), {"nodata": 0}, id="declared"),
        pytest.param(filled(reflectance(), SWATH, 0), {"mask": ~SWATH}, id="masked"),
        pytest.param(filled(scaled(), SWATH, np.nan), {}, id="NaN"),
        pytest.param(np.zeros((2, SIDE, SIDE), np.uint8), {}, id="constant"),
        pytest.param(filled(np.zeros((1, SIDE, SIDE), np.uint8), DISC, 1), {}, id="a mask"),
        pytest.param(filled(reflectance(), FRAME, 0)[:, :20, :20], {}, id="small"),
    ],
)
def test_these_are_no_rims(
    image: Image, options: dict[str, object], rim_of: Callable[..., Rim | None]
) -> None:
    assert rim_of(image, **options) is None


def test_bands_may_have_other_values(rim_of: Callable[..., Rim | None]) -> None:
    image = filled(scaled(), SWATH, -0.2)
    image[2, SWATH] = 149
    rim = rim_of(image)
    assert rim is not None
    assert rim.excluded
    assert rim.value == "-0.2, 149"
    assert rim.part([2]).value == "149"


def test_what_lies_inside_is_counted(rim_of: Callable[..., Rim | None]) -> None:
    small = (ROWS - 60) ** 2 + (COLS - 80) ** 2 < 10**2
    rim = rim_of(filled(reflectance(), SWATH | small, 0))
    assert rim is not None
    assert rim.excluded
    assert rim.inside == pytest.approx(small.sum() / (small | SWATH).sum())
    clouds = (ROWS > 20) & (ROWS < 100) & (COLS > 60) & (COLS < 110)  # larger than the rim
    rim = rim_of(filled(reflectance() + 7000, SWATH | clouds, 0))
    assert rim is not None
    assert rim.excluded, "no value of the image is near 0"


def test_a_lossy_rim_is_said_to_be_blurred(write_raster: WriteRaster) -> None:
    path = str(write_raster("lossy", filled(byte(), SWATH, 0), compress="JPEG", photometric="YCBCR"))
    with open_raster(path) as dataset:
        rim = undeclared_rim(DateSource(dataset, path, dataset.indexes))
    assert rim is not None
    assert rim.excluded
    assert rim.blurred


def test_of_a_large_raster_a_few_windows_are_read(
    write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(500, 3000, (1, 1500, 1300)).astype(np.uint16)
    image[:, :, :400] = 0  # its edge lies between the windows
    path = str(write_raster("large", image, tiled=True))
    pixels: list[int] = []
    plain = reading.read

    def counted(dataset: object, name: str, window: Window, **options: object) -> npt.NDArray[np.generic]:
        pixels.append(window.height * window.width)
        return plain(dataset, name, window, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "read", counted)
    with open_raster(path) as dataset:
        rim = undeclared_rim(DateSource(dataset, path, dataset.indexes))
    assert rim is not None
    assert rim.excluded
    assert rim.share == pytest.approx(400 / 1300, abs=0.1)
    assert sum(pixels) < 0.2 * image.size


def test_windows_and_threads_do_not_matter(make_pair: MakePair) -> None:
    paths = make_pair(reflectance(), filled(reflectance(), SWATH, 0))
    with Pair(*paths) as pair:
        whole = pair.read(Window(0, 0, SIDE, SIDE))
        part = pair.read(Window(30, 50, 40, 20))
        again = pair.reading(*map(str, paths)).read(Window(30, 50, 40, 20))
    assert np.array_equal(whole.valid[50:70, 30:70], part.valid)
    assert np.array_equal(again.valid, part.valid)
    assert not part.after[:, ~part.valid].any()


def test_a_pair_that_only_rims_leave_empty_says_so(make_pair: MakePair) -> None:
    left: BoolArray = COLS < 60
    before, after = make_pair(filled(reflectance(), left, 0), filled(reflectance(), ~left, 0))
    with Pair(before, after) as pair:
        message = str(pair.no_valid_pixel())
    assert f"0 in {before} and 0 in {Path(after)}" in message
    assert "--nodata none" in message
