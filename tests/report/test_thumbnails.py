"""The pair and its probability at the size of a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from conftest import NORTH_UP, write_raster
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from geocd.raster.choice import Bands
from geocd.raster.pair import Pair
from geocd.raster.warp import Warp
from geocd.report.thumbnails import PairPictures, Thumbnails, read_dates


def write(path: Path, values: np.ndarray, **options: Any) -> str:
    return str(write_raster(path, values, **options))


def stretched(tmp_path: Path, before: np.ndarray, after: np.ndarray, **options: Any) -> Thumbnails:
    names = write(tmp_path / "before.tif", before, **options), write(tmp_path / "after.tif", after, **options)
    shape = before.shape[1:]
    write(tmp_path / "prob.tif", np.zeros((1, *shape), np.float32))
    indexes = range(1, len(before) + 1)
    return read_dates(*names, indexes=indexes, max_size=max(shape)).with_prob(tmp_path / "prob.tif", 0.5)


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
        numbers = tuple(range(1, count + 1))
        bands = _display_bands(dataset, dataset, Bands(numbers, numbers[::-1]))
    assert bands.before == expected
    assert bands.after == tuple(count + 1 - number for number in expected)  # the partners of these


def test_thumbnails_are_reduced_without_what_is_not_valid(tmp_path):
    values = np.full((1, 400, 304), 50, np.uint8)
    values[0, :, 152:] = 150
    values[0, 1::2] = 0  # nodata, every other row
    before = write(tmp_path / "before.tif", values, nodata=0)
    prob = np.where(values > 0, np.float32(0.25), np.float32(np.nan))
    prob[0, :200:2, :152] = 0.75
    write(tmp_path / "prob.tif", prob, nodata=math.nan)
    whole = read_dates(before, before, indexes=[1], max_size=400).with_prob(tmp_path / "prob.tif", 0.5)
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


def test_an_undeclared_rim_is_not_valid_in_the_picture(tmp_path):
    values = np.random.default_rng(0).integers(500, 3000, (4, 60, 80)).astype(np.uint16)
    after = values + 1
    after[:, :, :20] = 0
    paths = [str(write_raster(tmp_path / f"{name}.tif", v)) for name, v in (("b", values), ("a", after))]
    prob = write_raster(tmp_path / "p.tif", np.zeros((1, 60, 80), np.float32))
    with Pair(*paths) as pair:
        for warp in (None, Warp.between(pair.grid, pair.grid)):
            dates = read_dates(*paths, indexes=pair.bands, max_size=80, warp=warp)
            thumbnails = dates.with_prob(prob, 0.5)
            assert thumbnails.valid_before.all()
            assert not thumbnails.valid_after[:, :20].any()
            assert thumbnails.valid_after[:, 20:].all()


def test_another_grid_is_warped_into_the_picture(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (1, 60, 60)).astype(np.uint8)
    before = write(tmp_path / "before.tif", image)
    wide = np.pad(image, ((0, 0), (0, 0), (70, 0)))[:, :, :120]  # 10 columns of the scene are missing
    after = write(tmp_path / "after.tif", wide, transform=NORTH_UP @ Affine.translation(-70, 0))
    write(tmp_path / "prob.tif", np.zeros((1, 60, 60), np.float32))
    with Pair(before, after, align=True) as opened:
        dates = read_dates(before, after, indexes=[1], max_size=60, warp=opened.warp)
        found = dates.with_prob(tmp_path / "prob.tif", 0.5)
    assert found.warped
    np.testing.assert_array_equal(found.valid_after, np.arange(60)[None] < np.full((60, 1), 50))
    apart = found.before.astype(int) - found.after
    assert abs(apart[:, :50]).max() <= 1


@pytest.mark.parametrize("options", [{}, {"nodata": 0}, {"nodata": 7}])
@pytest.mark.parametrize("shifted", [False, True])
def test_pictures_by_strips_of_any_height_are_those_of_the_whole(tmp_path, options, shifted):
    values = np.random.default_rng(1).integers(1, 3000, (3, 331, 290)).astype(np.uint16)
    values[:, 100:140, 50:90] = options.get("nodata", 5)
    paths = [write(tmp_path / f"{name}.tif", v) for name, v in (("b", values), ("a", values + 3))]
    with Pair(*paths, **options) as opened:
        pair = opened.shifted(0.4, -0.7) if shifted else opened
        whole = read_dates(*paths, indexes=[1, 2, 3], max_size=97, warp=pair.warp, **options)
        for heights in ([331], [60, 61, 200, 331], range(0, 340, 20)):
            pictures = PairPictures(pair, 97)
            for rows in heights:
                pictures.add(min(rows, 331))
            dates = pictures.dates()
            for name in ("before", "after", "valid_before", "valid_after"):
                assert np.array_equal(getattr(dates, name), getattr(whole, name)), name
