"""Reading windows: which pixels are valid, and the values of every type."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from conftest import NORTH_UP, MakePair, WriteRaster, read_pair, whole
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from geocd.errors import (
    GridError,
    RasterOpenError,
)
from geocd.raster.pair import Pair

ONES = np.ones((1, 8, 9), np.uint16)


RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


def with_alpha(scene: Any) -> Any:
    values = (scene(4) % 200 + 1).astype(np.uint8)
    values[3] = 255
    values[3, :10] = 0
    return values


def test_alpha_is_no_band_and_masks(make_pair: MakePair, scene: Any) -> None:
    values = with_alpha(scene)
    after = values[:3].copy()
    options = {"photometric": "rgb", "alpha": "yes", "after_alpha": "no"}
    paths = make_pair(values, after, colorinterp=RGBA, after_colorinterp=RGBA[:3], **options)
    with Pair(*paths) as pair:
        chip = whole(pair)
        assert pair.indexes == (1, 2, 3), "3 bands against 3 and alpha is a pair"
    assert not chip.valid[:10].any()
    assert chip.valid[10:].all()
    assert (chip.before[:, :10] == 0).all()


def test_alpha_masks_beside_a_nodata_value(make_pair: MakePair, scene: Any) -> None:
    """GDAL's own mask knows only one of the two; a pixel that either rules out is not valid."""
    values = with_alpha(scene)
    values[:3, -5:] = 0
    paths = make_pair(values, values, colorinterp=RGBA, photometric="rgb", alpha="yes", nodata=0)
    for options in ({}, {"nodata": 0}):
        chip = read_pair(paths, **options)
        assert not chip.valid[:10].any(), options
        assert not chip.valid[-5:].any(), options
        assert chip.valid[10:-5].all(), options


def test_dataset_mask_masks_beside_a_nodata_value(make_pair: MakePair, scene: Any) -> None:
    values = scene(2)
    values[:, -5:] = 0
    usable = np.ones(values.shape[1:], bool)
    usable[:, :7] = False
    paths = make_pair(values, values, mask=usable, nodata=0)
    for options in ({}, {"nodata": 0}):
        chip = read_pair(paths, **options)
        assert not chip.valid[:, :7].any(), options
        assert not chip.valid[-5:].any(), options
        assert chip.valid[:-5, 7:].all(), options


@pytest.mark.parametrize("which", ["before", "after"])
def test_nodata_in_one_date_rules_out_both(which: str, make_pair: MakePair, scene: Any) -> None:
    before, after = scene(), scene(seed=1)
    {"before": before, "after": after}[which][:, 20:30, 5:15] = 0
    options = {"nodata": 0, "after_nodata": None} if which == "before" else {"after_nodata": 0}
    chip = read_pair(make_pair(before, after, **options))
    expected = np.ones((64, 80), bool)
    expected[20:30, 5:15] = False
    np.testing.assert_array_equal(chip.valid, expected)
    assert (chip.before[:, ~expected] == 0).all()
    assert (chip.after[:, ~expected] == 0).all()
    np.testing.assert_array_equal(chip.before[:, expected], before[:, expected])
    np.testing.assert_array_equal(chip.after[:, expected], after[:, expected])


def test_zero_is_a_value_where_nodata_is_another(make_pair: MakePair) -> None:
    values = np.zeros((1, 4, 4), np.int16)
    values[0, 0, 0] = -9999
    chip = read_pair(make_pair(values, values, nodata=-9999))
    assert chip.valid.sum() == 15


def test_one_bad_band_spoils_the_pixel(make_pair: MakePair, scene: Any) -> None:
    before = scene(3).astype(np.float32)
    before[0, 0, 0] = -9999
    before[1, 0, 1] = np.nan
    before[2, 0, 2] = np.inf
    before[0, 0, 3] = -np.inf
    before[1, 0, 4] = -3.4028235e38
    before[1, 0, 5] = 1e37
    chip = read_pair(make_pair(before, before, nodata=-9999))
    assert (~chip.valid).sum() == 6
    assert not chip.valid[0, :6].any()
    assert np.isfinite(chip.before).all()
    assert np.isfinite(chip.after).all()


def test_bands_not_chosen_do_not_matter(make_pair: MakePair, scene: Any) -> None:
    before = scene(3).astype(np.float32)
    before[2] = np.nan
    chip = read_pair(make_pair(before, before), indexes=[1, 2])
    assert chip.valid.all()


@pytest.mark.parametrize("value", [math.nan, 0.1, -1.797e308, 1e20])
def test_float_nodata_values(value: float, make_pair: MakePair) -> None:
    """Also 0.1, which no float32 equals, and the smallest double, which float32 cannot hold."""
    values = np.full((1, 3, 3), 5, np.float32)
    with np.errstate(over="ignore"):
        values[0, 1, 1] = np.float32(value)
    for chip in (
        read_pair(
            make_pair(values, values, nodata=value if abs(value) < 1e38 or math.isnan(value) else None)
        ),
        read_pair(make_pair(values, values), nodata=value),
    ):
        assert (~chip.valid).nonzero() == (np.array([1]), np.array([1]))


def test_per_band_nodata(tmp_path: Path, make_pair: MakePair) -> None:
    """GeoTIFF has one nodata value for all bands; a VRT over several files has one for each."""
    values = np.stack([np.full((4, 4), 5, np.int16), np.full((4, 4), 7, np.int16)])
    values[0, 0, 0], values[0, 0, 1] = -1, -2
    values[1, 1, 0], values[1, 1, 1] = -1, -2
    before, after = make_pair(values, np.abs(values))
    vrt = tmp_path / "before.vrt"
    bands = "".join(
        f'<VRTRasterBand dataType="Int16" band="{n}"><NoDataValue>-{n}</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{before}</SourceFilename><SourceBand>{n}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for n in (1, 2)
    )
    vrt.write_text(
        f'<VRTDataset rasterXSize="4" rasterYSize="4"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>500000, 10, 0, 4200000, 0, -10</GeoTransform>{bands}</VRTDataset>"
    )
    with rasterio.open(vrt) as dataset:
        assert dataset.nodatavals == (-1, -2)
    chip = read_pair((vrt, after))
    assert sorted(zip(*np.nonzero(~chip.valid), strict=True)) == [(0, 0), (1, 1)]


def test_given_nodata_replaces_the_declared_one(make_pair: MakePair) -> None:
    values = np.full((1, 4, 4), 9, np.uint8)
    values[0, 0, 0], values[0, 1, 1] = 0, 255
    paths = make_pair(values, values, nodata=0)
    assert np.argwhere(~read_pair(paths).valid).tolist() == [[0, 0]]
    assert np.argwhere(~read_pair(paths, nodata=255).valid).tolist() == [[1, 1]]
    assert read_pair(paths, nodata=math.nan).valid.all()
    assert read_pair(paths, nodata=-9999).valid.all(), "a value that the type cannot hold rules out nothing"


def test_valid_raster(make_pair: MakePair, write_raster: WriteRaster, scene: Any) -> None:
    usable = np.full((64, 80), 7, np.uint8)  # any value but 0
    usable[:, 40:] = 0
    usable[5, 5] = 255
    mask = write_raster("valid", usable, nodata=255)
    chip = read_pair(make_pair(scene(), scene(seed=1)), valid=mask)
    expected = (usable != 0) & (usable != 255)
    np.testing.assert_array_equal(chip.valid, expected)


def test_valid_raster_in_float_with_nan(make_pair: MakePair, write_raster: WriteRaster) -> None:
    usable = np.ones((8, 9), np.float32)
    usable[0, 0] = np.nan
    chip = read_pair(make_pair(ONES, ONES), valid=write_raster("valid", usable))
    assert np.argwhere(~chip.valid).tolist() == [[0, 0]]


def test_valid_raster_on_another_grid(make_pair: MakePair, write_raster: WriteRaster) -> None:
    mask = write_raster("valid", ONES, transform=NORTH_UP @ Affine.translation(1, 0))
    with pytest.raises(GridError, match=r"before\.tif.*valid\.tif"):
        Pair(*make_pair(ONES, ONES), valid=mask)
    with pytest.raises(RasterOpenError, match=r"gone\.tif: no such file"):
        Pair(*make_pair(ONES, ONES), valid=mask.with_name("gone.tif"))


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
)
def test_every_real_type_is_read_as_it_is(dtype: str, make_pair: MakePair) -> None:
    values = np.arange(72).reshape(1, 8, 9).astype(dtype)
    chip = read_pair(make_pair(values, values + np.ones(1, dtype)))
    assert chip.before.dtype == (
        np.float64 if dtype in ("uint32", "int32", "uint64", "int64", "float64") else np.float32
    )
    np.testing.assert_array_equal(chip.before, values)
    np.testing.assert_array_equal(chip.after, values + 1)


@pytest.mark.parametrize("dtype", ["int32", "float64"])
def test_small_differences_on_large_values_survive(dtype: str, make_pair: MakePair) -> None:
    """float32 holds 24 bits: 2**28 + 1 would become 2**28, and the change nothing."""
    values = np.full((1, 4, 4), 2**28, dtype)
    chip = read_pair(make_pair(values, values + 1))
    assert (chip.after - chip.before == 1).all()


def test_mixed_types_share_one(make_pair: MakePair) -> None:
    chip = read_pair(make_pair(ONES.astype(np.uint8), ONES.astype(np.float64)))
    assert chip.before.dtype == chip.after.dtype == np.float64


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (5, 5)])
def test_tiny_and_thin(shape: tuple[int, int], make_pair: MakePair) -> None:
    values = np.ones((1, *shape), np.uint8)
    chip = read_pair(make_pair(values, values))
    assert chip.valid.shape == shape
    assert chip.valid.all()
