"""Pictures of pairs of any shape, type and hole."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from conftest import NORTH_UP, write_raster
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from geocd.errors import OutputError, RasterOpenError
from geocd.raster.pair import Pair
from geocd.report.quicklook import quicklook as draw_quicklook
from geocd.report.thumbnails import Thumbnails, read_thumbnails


def write(path: Path, values: np.ndarray, **options: Any) -> str:
    return str(write_raster(path, values, **options))


def quicklook(
    before: str,
    after: str,
    prob: Path,
    destination: Path,
    *,
    indexes: list[int] | range,
    threshold: float,
    max_size: int = 640,
    nodata: float | None = None,
) -> None:
    small = read_thumbnails(
        before, after, prob, indexes=indexes, threshold=threshold, max_size=max_size, nodata=nodata
    )
    draw_quicklook(small, destination, names=(before, after), threshold=threshold)


def pair(tmp_path, shape, *, bands=3, dtype="uint16", **profile):
    rng = np.random.default_rng(0)
    before = rng.integers(100, 200, (bands, *shape)).astype(dtype)
    after = before.copy()
    prob = np.zeros((1, *shape), np.float32)
    prob[0, : (shape[0] + 1) // 2, : (shape[1] + 1) // 2] = 0.9
    return (
        write(tmp_path / "before.tif", before, **profile),
        write(tmp_path / "after.tif", after, **profile),
        tmp_path / "prob.tif",
        write(tmp_path / "prob.tif", prob, nodata=math.nan),
    )[:3]


@pytest.mark.parametrize(
    ("shape", "bands"),
    [
        *[((1, 1), bands) for bands in (1, 2, 3, 13)],
        *[(shape, 1) for shape in ((5, 5), (1, 10000), (10000, 1), (40, 60), (2, 1300))],
        ((900, 700), 3),
    ],
)
def test_quicklook_of_any_shape(tmp_path, shape, bands):
    before, after, prob = pair(tmp_path, shape, bands=bands)
    quicklook(before, after, prob, tmp_path / "q.png", indexes=range(1, bands + 1), threshold=0.5)
    with Image.open(tmp_path / "q.png") as picture:
        picture.load()
        assert picture.mode == "RGB"
        assert min(picture.size) >= 250
        assert max(picture.size) <= 2 * 640 + 100
        colours = np.asarray(picture).reshape(-1, 3).astype(int)
    changed = (colours[:, 0] > 150) & (colours[:, 1] < 140) & (colours[:, 2] > 60)
    assert changed.any()  # the planted change is seen


def test_quicklook_is_decimated_and_reproducible(tmp_path):
    before, after, prob = pair(tmp_path, (300, 200))
    sizes = []
    for name in ("one.png", "two.png"):
        quicklook(before, after, prob, tmp_path / name, indexes=[1], threshold=0.5, max_size=150)
        with Image.open(tmp_path / name) as picture:
            sizes.append(picture.size)
    assert max(sizes[0]) < 700
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def panel(path, place):
    """A point in the middle of one of the four panels of a square raster."""
    with Image.open(path) as picture:
        width, height = picture.size
        row, col = divmod(place, 2)
        return picture.getpixel(((1 + 2 * col) * width // 4, (1 + 2 * row) * height // 4 + 10))


def stretched(tmp_path: Path, before: np.ndarray, after: np.ndarray, **options: Any) -> Thumbnails:
    names = write(tmp_path / "before.tif", before, **options), write(tmp_path / "after.tif", after, **options)
    shape = before.shape[1:]
    write(tmp_path / "prob.tif", np.zeros((1, *shape), np.float32))
    indexes = range(1, len(before) + 1)
    return read_thumbnails(*names, tmp_path / "prob.tif", indexes=indexes, threshold=0.5, max_size=max(shape))


def test_both_dates_are_stretched_alike(tmp_path):
    ramp = np.tile(np.arange(64, dtype=np.uint8), (64, 1))[None]
    before = write(tmp_path / "before.tif", ramp)
    after = write(tmp_path / "after.tif", ramp + 100)
    prob = tmp_path / "prob.tif"
    write(prob, np.zeros((1, 64, 64), np.float32))
    quicklook(before, after, prob, tmp_path / "q.png", indexes=[1], threshold=0.5)
    assert panel(tmp_path / "q.png", 0)[0] + 80 < panel(tmp_path / "q.png", 1)[0]


def scene(seed: int = 0) -> np.ndarray:
    """Three bands of fields with values of 200 to 2000."""
    fields = np.random.default_rng(seed).uniform(200, 2000, (3, 16, 16))
    return np.kron(fields, np.ones((8, 8))).astype(np.float32)


BURNT = scene()
BURNT[:, 64:] = 100 + BURNT[:, 64:] / 40
CLOUDY = scene()
CLOUDY[:, :16] = 10_000  # an eighth of the scene, above five times the brightest field
FLOODED = np.full_like(BURNT, 90)
FLOODED[:, :16] = scene()[:, :16]


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(scene(1), id="other fields"),
        pytest.param(0.4 * scene(), id="darker"),
        pytest.param(3 * scene() + 500, id="brighter"),
        pytest.param(BURNT, id="burnt half"),
        pytest.param(FLOODED, id="flooded but for an eighth"),
        pytest.param(CLOUDY, id="clouds"),
        pytest.param(np.full_like(BURNT, 7), id="flat"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_same_value_looks_the_same_where_that_shows_both(tmp_path, after, turned):
    found = stretched(tmp_path, *([after, scene()] if turned else [scene(), after]))
    assert not found.apart
    one = np.concatenate([scene().ravel(), after.ravel()])
    pixels = [p.transpose(2, 0, 1).ravel().astype(int) for p in (found.before, found.after)]
    look = np.concatenate(pixels[::-1] if turned else pixels)
    for band in range(3):
        own = np.repeat(np.tile(np.arange(3), 2), BURNT[0].size) == band
        assert (np.diff(look[own][np.argsort(one[own], kind="stable")]) >= 0).all()


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(8 * scene(), id="gain"),
        pytest.param(scene() / 255, id="other unit"),
        pytest.param(scene() + 20_000, id="offset"),
        pytest.param(3 * scene() + 9000, id="gain and offset"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_where_it_does_not_show_both_each_is_stretched_by_itself(tmp_path, after, turned):
    found = stretched(tmp_path, *([after, scene()] if turned else [scene(), after]))
    assert found.apart
    for picture in (found.before, found.after):
        low, high = np.percentile(picture, [5, 95], axis=(0, 1))
        assert (low < 40).all()
        assert (high > 215).all()
    assert np.abs(found.before.astype(int) - found.after).max() <= 1, "the same scene in another light"


def test_a_date_that_covers_a_corner_counts_as_much(tmp_path):
    """Else it would be clipped to white by the limits of the other, and nobody would see it."""
    after = 8 * scene()
    after[:, 16:] = -1
    after[:, :16, 16:] = -1
    found = stretched(tmp_path, scene(), after, nodata=-1)
    assert found.valid_after.mean() < 0.02
    assert found.apart
    assert np.ptp(found.after[found.valid_after]) > 200


@pytest.mark.parametrize(
    ("nodata", "override"),
    [
        pytest.param(0, None, id="nodata of the file"),
        pytest.param(None, 0, id="nodata given"),
    ],
)
def test_nodata_is_a_checker(tmp_path, nodata, override):
    values = np.full((1, 64, 64), 9, np.uint8)
    values[0, 20:44, 20:44] = 0
    before = write(tmp_path / "before.tif", values, nodata=nodata)
    prob = np.zeros((1, 64, 64), np.float32)
    prob[values == 0] = np.nan
    write(tmp_path / "prob.tif", prob, nodata=math.nan)
    quicklook(
        before,
        before,
        tmp_path / "prob.tif",
        tmp_path / "q.png",
        indexes=[1],
        threshold=0.5,
        nodata=override,
    )
    for place in range(4):
        assert panel(tmp_path / "q.png", place) in {(206, 206, 206), (228, 228, 228)}


def test_nothing_valid_and_not_finite(tmp_path):
    values = np.full((1, 8, 8), np.inf, np.float32)
    values[0, 0] = np.nan
    before = write(tmp_path / "before.tif", values)
    write(tmp_path / "prob.tif", np.full((1, 8, 8), np.nan, np.float32), nodata=math.nan)
    quicklook(before, before, tmp_path / "prob.tif", tmp_path / "q.png", indexes=[1], threshold=math.inf)
    assert panel(tmp_path / "q.png", 3) in {(206, 206, 206), (228, 228, 228)}


@pytest.mark.parametrize(
    ("descriptions", "colours", "expected"),
    [
        pytest.param(("B02", "B03", "B04", "B08"), (), (3, 2, 1), id="Sentinel-2"),
        pytest.param(("B1", "B2", "B3", "B4", "B5", "B6"), (), (4, 3, 2), id="Landsat 8"),
        pytest.param(("B1", "B2", "B3", "B4", "B5", "B7"), (), (3, 2, 1), id="Landsat 5"),
        pytest.param(("SR_B2", "SR_B3", "SR_B4"), (), (3, 2, 1), id="Landsat 8 reflectance"),
        pytest.param(("blue", "Green", "red", "nir"), (), (3, 2, 1), id="names"),
        pytest.param(("red edge", "green", "blue", "red"), (), (4, 2, 3), id="red edge is not red"),
        pytest.param(
            (
                "B4, central wavelength 665 nm",
                "B3, central wavelength 560 nm",
                "B2, central wavelength 490 nm",
            ),
            (),
            (1, 2, 3),
            id="GDAL's Sentinel-2 reader",
        ),
        pytest.param(
            (), (ColorInterp.blue, ColorInterp.green, ColorInterp.red), (3, 2, 1), id="colour interpretation"
        ),
        pytest.param(("x", "y", "z", "w"), (), (1, 2, 3), id="unknown: the first three"),
        pytest.param(("x", "y"), (), (1,), id="two bands: the first in grey"),
    ],
)
def test_display_bands(tmp_path, descriptions, colours, expected):
    from geocd.report.thumbnails import _display_bands

    count = len(descriptions) or len(colours)
    path = write(
        tmp_path / "a.tif",
        np.zeros((count, 2, 2), np.uint8),
        names=descriptions,
        colorinterp=colours,
        photometric="MINISBLACK",
    )
    with rasterio.open(path) as dataset:
        assert _display_bands(dataset, dataset, range(1, count + 1)) == expected


def test_quicklook_errors(tmp_path):
    before, after, prob = pair(tmp_path, (5, 5))
    with pytest.raises(RasterOpenError, match="no such file"):
        quicklook("gone.tif", after, prob, tmp_path / "q.png", indexes=[1], threshold=0.5)
    with pytest.raises(OutputError, match="cannot be written"):
        quicklook(before, after, prob, tmp_path / "no" / "q.png", indexes=[1], threshold=0.5)


def test_thumbnails_are_reduced_without_what_is_not_valid(tmp_path):
    values = np.full((1, 400, 304), 50, np.uint8)
    values[0, :, 152:] = 150
    values[0, 1::2] = 0  # nodata, every other row
    before = write(tmp_path / "before.tif", values, nodata=0)
    prob = np.where(values > 0, np.float32(0.25), np.float32(np.nan))
    prob[0, :200:2, :152] = 0.75
    write(tmp_path / "prob.tif", prob, nodata=math.nan)
    whole = read_thumbnails(before, before, tmp_path / "prob.tif", indexes=[1], threshold=0.5, max_size=400)
    assert whole.reduced(400) is whole.reduced(1000) is whole
    small = whole.reduced(100)
    assert small.prob.shape == small.share.shape == (100, 76)
    assert small.before.shape == (100, 76, 3)
    assert small.valid_before.all()
    # neither the fill value nor NaN has darkened what lies beside it
    np.testing.assert_array_equal(np.unique(small.before), [0, 255])
    np.testing.assert_allclose(small.prob[:50, :38], 0.75)
    np.testing.assert_allclose(small.prob[50:], 0.25)
    np.testing.assert_allclose(small.share[:50, :38], 1)
    np.testing.assert_allclose(small.share[50:], 0)


def test_another_grid_is_warped_into_the_picture(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (1, 60, 60)).astype(np.uint8)
    before = write(tmp_path / "before.tif", image)
    wide = np.pad(image, ((0, 0), (0, 0), (70, 0)))[:, :, :120]  # 10 columns of the scene are missing
    after = write(tmp_path / "after.tif", wide, transform=NORTH_UP @ Affine.translation(-70, 0))
    write(tmp_path / "prob.tif", np.zeros((1, 60, 60), np.float32))
    with Pair(before, after, align=True) as opened:
        found = read_thumbnails(
            before, after, tmp_path / "prob.tif", indexes=[1], threshold=0.5, max_size=60, warp=opened.warp
        )
    assert found.warped
    np.testing.assert_array_equal(found.valid_after, np.arange(60)[None] < np.full((60, 1), 50))
    apart = found.before.astype(int) - found.after
    assert abs(apart[:, :50]).max() <= 1
