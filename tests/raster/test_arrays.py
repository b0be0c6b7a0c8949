"""DataArrays as rasters: nothing of place, names, nodata or values is lost or guessed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rioxarray
import xarray as xr
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window

from geocd.errors import BandError, GeocdError, GridError
from geocd.raster.arrays import ArrayRaster

# rioxarray with affine 3
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

WriteRaster = Callable[..., Path]

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_200_000)


def array(bands: int = 3, height: int = 4, width: int = 5, **options: Any) -> xr.DataArray:
    """Return pixels that count from 0, with coordinates and a CRS."""
    values = np.arange(bands * height * width, dtype=np.float32).reshape(bands, height, width)
    coords = {
        "y": 4_200_000 - 10 * (np.arange(height) + 0.5),
        "x": 500_000 + 10 * (np.arange(width) + 0.5),
    }
    made = xr.DataArray(values, dims=("band", "y", "x"), coords=coords | options.pop("coords", {}), **options)
    return made.rio.write_crs("EPSG:32633")


def test_a_file_s_transform_is_kept_to_the_last_digit(write_raster: WriteRaster) -> None:
    """Coordinates are rounded; what they bear out is taken from the file."""
    transform = Affine(1 / 3, 0, 12.3456789, 0, -1 / 7, 47.7654321)
    path = write_raster("a", np.zeros((50, 70), np.uint8), transform=transform, crs="EPSG:4326")
    with rioxarray.open_rasterio(path) as opened:
        raster = ArrayRaster(opened, "x")
    assert raster.transform == transform
    assert raster.name == str(path)


def test_a_cut_or_turned_array_has_its_own_place(write_raster: WriteRaster) -> None:
    """The transform of the file stays in the array, and would put it elsewhere."""
    path = write_raster("a", np.arange(200, dtype=np.int16).reshape(10, 20))
    with rioxarray.open_rasterio(path) as opened:
        cut = ArrayRaster(opened[:, 2:8, 3:9], "x")
        turned = ArrayRaster(opened[:, ::-1], "x")
    assert cut.transform == Affine(10, 0, 500_030, 0, -10, 4_199_980)
    assert turned.transform == Affine(10, 0, 500_000, 0, 10, 4_199_900)
    back = turned.turned_like(NORTH_UP)
    assert back.transform == NORTH_UP
    np.testing.assert_array_equal(
        back.read(window=Window(3, 2, 4, 5))[0], np.arange(200).reshape(10, 20)[2:7, 3:7]
    )


def test_windows_and_bands_are_those_of_a_file() -> None:
    given = array()
    for same in (
        given,
        given.transpose("y", "x", "band"),
        given.chunk(x=2),
        given.rename(x="longitude", y="latitude"),
    ):
        raster = ArrayRaster(same, "x")
        assert (raster.count, raster.height, raster.width) == (3, 4, 5)
        assert raster.transform == NORTH_UP
        read = raster.read([3, 1], window=Window(1, 2, 3, 2))
        np.testing.assert_array_equal(read, given.to_numpy()[[2, 0], 2:4, 1:4])
    np.testing.assert_array_equal(ArrayRaster(given[0], "x").read(1, window=Window(0, 0, 5, 4)), given[0])


def test_degrees_in_float32_are_evenly_spaced() -> None:
    """A step of 1e-4 degrees is known to a tenth of it only; the whole axis gives it well enough."""
    x = (170 + 1e-4 * (np.arange(500) + 0.5)).astype(np.float32)
    given = array(width=500).drop_vars("spatial_ref").assign_coords(x=x)
    raster = ArrayRaster(given.rio.write_crs("EPSG:4326"), "x")
    assert raster.transform.a == pytest.approx(1e-4, rel=1e-3)
    assert raster.transform.c == pytest.approx(170, abs=2e-5)
    with pytest.raises(GridError, match="not evenly spaced"):
        ArrayRaster(given.rio.write_crs("EPSG:4326").isel(x=[0, 1, 3]), "x")


def test_what_is_read_is_a_copy() -> None:
    given = array()
    ArrayRaster(given, "x").read(window=Window(0, 0, 5, 4))[:] = -1
    assert (given >= 0).all()


def test_a_part_reads_as_the_whole_does() -> None:
    raster, window = ArrayRaster(array(), "x"), Window(1, 1, 3, 2)
    part = raster.part(np.asarray(raster.blocks(window)), window)
    np.testing.assert_array_equal(
        part.read(window=Window(2, 2, 2, 1)), raster.read(window=Window(2, 2, 2, 1))
    )


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"coords": {"band": ["red", "nir", "alpha"]}}, ("red", "nir", "alpha")),
        ({"attrs": {"long_name": ("B02", "B03", "B04")}}, ("B02", "B03", "B04")),
        # what rioxarray leaves after isel(band=[3, 1, 0])
        ({"coords": {"band": [4, 2, 1]}, "attrs": {"long_name": ("a", "b", "c", "alpha")}},
         ("alpha", "b", "a")),
        ({"attrs": {"long_name": "reflectance"}}, (None, None, None)),
        ({"coords": {"band": [0.49, 0.56, 0.66]}}, (None, None, None)),
        ({}, (None, None, None)),
    ],
)  # fmt: skip
def test_names_of_bands(options: dict[str, Any], names: tuple[str | None, ...]) -> None:
    raster = ArrayRaster(array(**options), "x")
    assert raster.descriptions == names
    alpha = [name == "alpha" for name in names]
    assert [colour == ColorInterp.alpha for colour in raster.colorinterp] == alpha


def test_colours_are_asked_of_the_file(write_raster: WriteRaster) -> None:
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    path = write_raster("a", np.ones((4, 8, 8), np.uint8), colorinterp=colours)
    with rioxarray.open_rasterio(path) as opened:
        assert ArrayRaster(opened, "x").colorinterp == colours
        assert ArrayRaster(opened[[3, 0]], "x").colorinterp == (ColorInterp.alpha, ColorInterp.red)
        path.unlink()
        assert ArrayRaster(opened, "x").colorinterp == (ColorInterp.undefined,) * 4


def test_nodata_and_time() -> None:
    given = array(coords={"time": np.datetime64("2024-05-06T07:08:09")}).astype(np.int16)
    raster = ArrayRaster(given.assign_attrs(_FillValue=-1, DATE="x"), "x")
    assert raster.nodatavals == (-1, -1, -1)
    assert raster.tags()["ACQUISITION_DATETIME"] == "2024-05-06T07:08:09Z"
    assert ArrayRaster(given, "x").nodata is None
    assert ArrayRaster(given > 3, "x").dtypes == ("uint8",) * 3


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            np.zeros((3, 4, 5)),
            GeocdError,
            r"the x: numpy.ndarray is neither.*or Dataset.*write_crs",
        ),
        (array().drop_vars("spatial_ref"), GridError, r"no coordinate reference system.*write_crs"),
        (array().rename(x="a", y="b"), GridError, r"band, b, a.*set_spatial_dims"),
        (array().drop_vars(["x", "y"]), GridError, r"neither coordinates.*write_transform"),
        (array().isel(x=[0]), GridError, r"one pixel along x.*write_transform"),
        (array().isel(x=[0, 1, 3]), GridError, r"along x are not evenly spaced.*reproject"),
        (array().isel(y=[]), GridError, r"selection is empty \(3 along band, 0 along y, 5 along x\)"),
        (array().isel(y=[1, 1, 1]), GridError, r"along y are not evenly spaced"),
        (array().expand_dims("when"), BandError, r"when, band, y, x.*isel\(when=0\)"),
        (array().rename(band="time"), BandError, r"time holds times.*isel\(time=0\)"),
        (
            array().astype(np.uint8).assign_attrs(_FillValue=-9999),
            BandError,
            r"represented in uint8.*write_nodata",
        ),
    ],
)
def test_what_is_no_raster_is_refused(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ArrayRaster(given, "the x")


# --- Datasets: variables are bands ----------------------------------------------------------------


def variables(**nodata: float | None) -> xr.Dataset:
    """Return a Dataset as odc-stac loads it: nodata in each variable, the CRS in ``spatial_ref``."""
    bands = array(len(nodata))
    dataset = xr.Dataset({name: bands[i].drop_vars("band", errors="ignore") for i, name in enumerate(nodata)})
    for name, value in nodata.items():
        if value is not None:
            dataset[name].attrs["nodata"] = value
    return dataset


def test_variables_are_bands_with_their_own_nodata() -> None:
    dataset = variables(red=0, nir=-9999, swir16=None)
    dataset["swir16"] = dataset.swir16.astype(np.int16).assign_attrs(scale_factor=1e-4, add_offset=-0.1)
    dataset["note"] = "no band"
    raster = ArrayRaster.of_variables(dataset, "x")
    assert raster.descriptions == ("red", "nir", "swir16")
    assert raster.nodatavals == (0, -9999, None)
    assert (raster.scales, raster.offsets) == ((1, 1, 1e-4), (0, 0, -0.1))
    assert raster.crs.to_epsg() == 32633
    assert raster.transform == NORTH_UP
    np.testing.assert_array_equal(raster.read(window=Window(0, 0, 5, 4)), array().to_numpy())


def test_the_crs_may_be_a_variable_and_have_another_name() -> None:
    dataset = variables(red=0).rename(spatial_ref="crs").reset_coords("crs")
    dataset.red.encoding["grid_mapping"] = "crs"
    assert ArrayRaster.of_variables(dataset, "x").crs.to_epsg() == 32633


def test_a_file_as_variables_keeps_names_and_colours(write_raster: WriteRaster) -> None:
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.alpha)
    path = write_raster("a", np.ones((3, 4, 5), np.uint8), colorinterp=colours, names=("Red", "Green", ""))
    with rioxarray.open_rasterio(path, band_as_variable=True) as opened:
        raster = ArrayRaster.of_variables(opened, "x")
    assert raster.descriptions == ("Red", "Green", None)
    assert raster.colorinterp == colours


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        (variables(red=0).expand_dims("time"), BandError, r"red has .*time, y, x.*isel\(time=0\)"),
        (variables(red=0).drop_vars("spatial_ref"), GridError, "no coordinate reference system"),
        (variables(red=0).isel(x=0), GridError, "not recognised as x and y"),
        (variables(red=0).drop_vars("red").assign(note=1), BandError, "no variable with the dimensions"),
    ],
)
def test_datasets_that_are_no_raster(dataset: xr.Dataset, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ArrayRaster.of_variables(dataset, "x")
