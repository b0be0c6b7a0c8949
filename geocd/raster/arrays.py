"""DataArrays as rasters: what a raster file says by itself, read out of an xarray object and its attributes.

Everything behind (grids, valid area, tiling, the method) is the same as for files, and so are the results.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  # registers the accessor .rio
import xarray as xr
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.transform import Affine
from rasterio.windows import Window
from rioxarray.exceptions import RioXarrayError

from geocd.errors import BandError, GeocdError, GridError
from geocd.raster.files import open_raster
from geocd.raster.grid import GRID_TOLERANCE_PX, Grid
from geocd.types import PixelArray

#: Side of a chunk, in pixels, of arrays that have none.
CHUNK = 1024


class ArrayRaster:
    """A DataArray that is read like a raster file: what :mod:`geocd.raster` asks of an open dataset.

    Parameters
    ----------
    array : xarray.DataArray, (band, y, x) or (y, x), in any order
        CRS, transform and nodata as rioxarray keeps them. Backed by numpy, by dask, or by a file that is read
        when it is needed; only windows are ever read.
    name : str
        What to call it in messages.

    Attributes
    ----------
    name : str
        The file it was read from, as far as it says so; else the name that was given.
    array : xarray.DataArray, (band, y, x)
    place : rasterio.windows.Window, optional
        The part of the raster that the array holds; None for the whole.
    crs, transform, height, width, count, indexes, dtypes, nodata, nodatavals, descriptions, colorinterp
        As of a rasterio dataset.

    Raises
    ------
    GridError
        No CRS, no x and y, or coordinates that are not evenly spaced.
    BandError
        A dimension too many, or one that holds times.
    """

    def __init__(self, array: xr.DataArray, name: str) -> None:
        if not isinstance(array, xr.DataArray):
            raise GeocdError(
                f"{name}: {type(array).__module__}.{type(array).__name__} is neither a path nor an "
                "xarray.DataArray. Of a Dataset whose variables are bands make one with "
                ".to_dataarray('band'); of a numpy array, one with coordinates y and x and .rio.write_crs().",
                name=name,
            )
        self.name = str(array.encoding.get("source") or name)
        self._y, self._x = _spatial(array, self.name)
        self.coords = {
            key: value for key, value in array.coords.items() if set(value.dims) <= {self._y, self._x}
        }
        self.array = _bands_first(array, self._y, self._x, self.name)
        self.place: Window | None = None
        self.count, self.height, self.width = self.array.shape
        crs = array.rio.crs
        if crs is None:
            raise GridError(
                f"{self.name}: the array has no coordinate reference system, so nothing measured on it has a "
                "place or an area. Write the right one into it, for instance: "
                'array = array.rio.write_crs("EPSG:32633")',
                path=self.name,
            )
        self.crs = CRS.from_user_input(crs)
        self.transform = _transform(array, self._y, self._x, self.name)
        self.nodata = _nodata(array, self.name)
        self.indexes = tuple(range(1, self.count + 1))
        self.dtypes = (_stored(array.dtype).name,) * self.count
        self.nodatavals = (self.nodata,) * self.count
        self.mask_flag_enums = ([MaskFlags.all_valid],) * self.count
        self.descriptions, self.colorinterp = _named(self.array, array.attrs, array.encoding)
        self._tags = _tags(array)

    @property
    def is_lazy(self) -> bool:
        """Whether dask stands behind it."""
        return self.array.chunks is not None

    @property
    def dims(self) -> tuple[Hashable, Hashable]:
        """Names of the dimensions along the rows and along the columns: y and x."""
        return self._y, self._x

    def turned_like(self, transform: Affine) -> ArrayRaster:
        """Return this raster with its rows and columns in the directions of a transform."""
        flip: dict[Hashable, slice] = {}
        if self.transform.e * transform.e < 0:
            flip[self._y] = slice(None, None, -1)
        if self.transform.a * transform.a < 0:
            flip[self._x] = slice(None, None, -1)
        if not flip:
            return self
        t, grid = self.transform, Grid(self.crs, self.transform, self.height, self.width)
        col, row = self.width * (self._x in flip), self.height * (self._y in flip)
        across, down = -1 if col else 1, -1 if row else 1
        x, y = grid.to_xy(col, row)
        other = copy.copy(self)
        other.array = self.array.isel(flip)
        other.transform = Affine(t.a * across, t.b * down, x, t.d * across, t.e * down, y)
        return other

    def empty(self) -> ArrayRaster:
        """Return all that is known of this raster without a single value: light enough for every task."""
        return self.part(np.empty((0, 0, 0)), Window(0, 0, 0, 0))

    def part(self, values: PixelArray, window: Window) -> ArrayRaster:
        """Return this raster with only the values of a window: ``(band, height, width)``."""
        other = copy.copy(self)
        other.array = xr.DataArray(values, dims=("band", self._y, self._x))
        other.coords = {}
        other.place = window
        return other

    def chunked(self) -> ArrayRaster:
        """Return this raster with dask behind it."""
        if self.is_lazy:
            return self
        other = copy.copy(self)
        other.array = self.array.chunk({self._y: CHUNK, self._x: CHUNK})
        return other

    def blocks(self, window: Window) -> Any:
        """Return the values of a window, ``(band, height, width)``, of whatever kind the array is."""
        rows, cols = window.toslices()
        return self.array[:, rows, cols].data

    def read(self, indexes: int | Sequence[int] | None = None, *, window: Window) -> PixelArray:
        """Read a window as a rasterio dataset does."""
        top, left = (0, 0) if self.place is None else (self.place.row_off, self.place.col_off)
        rows = slice(int(window.row_off - top), int(window.row_off - top + window.height))
        cols = slice(int(window.col_off - left), int(window.col_off - left + window.width))
        if isinstance(indexes, int):
            bands: Any = indexes - 1
        else:
            bands = [index - 1 for index in (self.indexes if indexes is None else indexes)]
        values = self.array[:, rows, cols][bands].to_numpy()
        return values.astype(_stored(values.dtype))  # a copy: what is read is written into

    def tags(self) -> dict[str, str]:
        """Return the attributes as a file has them, and the time."""
        return self._tags

    def open(self) -> ArrayRaster:
        """Return the raster itself: reading is safe from several threads, and nothing is to be closed."""
        return self

    def close(self) -> None:
        """Do nothing."""


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that a file would have; there is no bool."""
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def _spatial(array: xr.DataArray, name: str) -> tuple[Hashable, Hashable]:
    try:
        return array.rio.y_dim, array.rio.x_dim
    except RioXarrayError as error:
        raise GridError(
            f"{name}: none of the dimensions {', '.join(map(str, array.dims))} are known as x and y. Rename "
            "them, or name them with array.rio.set_spatial_dims(x_dim=..., y_dim=...).",
            path=name,
        ) from error


def _bands_first(array: xr.DataArray, y: Hashable, x: Hashable, name: str) -> xr.DataArray:
    others = [dim for dim in array.dims if dim not in (y, x)]
    if len(others) > 1:
        raise BandError(
            f"{name}: has the dimensions {', '.join(map(str, array.dims))}; one beside {y} and {x} can be "
            f"the bands. Choose one place along the others, for instance array.isel({others[0]}=0).",
            path=name,
            dims=array.dims,
        )
    if not others:
        return array.expand_dims("band")
    dim = others[0]
    times = dim in array.coords and array.coords[dim].dtype.kind in "mM"
    if times or str(dim).lower() == "time":
        raise BandError(
            f"{name}: the dimension {dim} holds times, not bands. One array is one date: choose it, for "
            f"instance array.isel({dim}=0).",
            path=name,
            dims=array.dims,
        )
    return array.transpose(dim, y, x)


def _transform(array: xr.DataArray, y: Hashable, x: Hashable, name: str) -> Affine:
    """Return what takes (col, row) to (x, y), from the coordinates; exact where the file's own is at hand.

    Whoever cuts or turns an array leaves the transform of the file in it: it holds only where the coordinates
    bear it out.
    """
    mapping = array.coords.get(array.rio.grid_mapping)
    written = None if mapping is None else mapping.attrs.get("GeoTransform")
    stored = None if written is None else Affine.from_gdal(*map(float, str(written).split()))
    turned = stored is not None and bool(stored.b or stored.d)
    if turned or not (x in array.coords and y in array.coords):
        if stored is None:
            raise GridError(
                f"{name}: has neither coordinates along {y} and {x} nor a transform, so it has no place. "
                "Give it the coordinates of the pixels' centres, or array.rio.write_transform(...).",
                path=name,
            )
        return stored
    steps = []
    for dim, step, first in (
        (x, stored and stored.a, stored and stored.c),
        (y, stored and stored.e, stored and stored.f),
    ):
        at = np.asarray(array.coords[dim], np.float64)
        if len(at) > 1:
            measured = float(at[-1] - at[0]) / (len(at) - 1)
        elif step:
            measured = step
        else:
            raise GridError(
                f"{name}: has one pixel along {dim} and no transform, so the size of a pixel is not known. "
                "Use array.rio.write_transform(...).",
                path=name,
            )
        expected = at[0] + measured * np.arange(len(at))
        if not measured or not np.abs(at - expected).max() <= GRID_TOLERANCE_PX * abs(measured):
            raise GridError(
                f"{name}: the coordinates along {dim} are not evenly spaced, so it is no raster. Resample it "
                "first, for instance with array.rio.reproject(...).",
                path=name,
            )
        if step and first is not None:
            told = first + step * (np.array([0, len(at) - 1]) + 0.5)
            if np.abs(told - at[[0, -1]]).max() <= GRID_TOLERANCE_PX * abs(step):
                steps.append((step, first))
                continue
        steps.append((measured, float(at[0]) - measured / 2))
    (a, c), (e, f) = steps
    return Affine(a, 0.0, c, 0.0, e, f)


def _nodata(array: xr.DataArray, name: str) -> float | None:
    try:
        value = array.rio.nodata
        return None if value is None else float(value)
    except (OverflowError, ValueError, TypeError) as error:
        raise BandError(
            f"{name}: its nodata value is none that {array.dtype} can hold ({error}). Write the right one "
            "into it, for instance array.rio.write_nodata(0), or remove the attribute _FillValue.",
            path=name,
        ) from error


def _named(
    array: xr.DataArray, attrs: Mapping[str, Any], encoding: Mapping[str, Any]
) -> tuple[tuple[str | None, ...], tuple[ColorInterp, ...]]:
    """Return names and colours of the bands.

    Names are in the coordinate of the bands (odc-stac, to_dataarray), or in ``long_name`` by the number that
    this coordinate has (rioxarray). Which band is red or alpha rioxarray does not keep: the file it names as
    the source is asked.
    """
    dim, count = array.dims[0], array.shape[0]
    labels = array.coords[dim].to_numpy() if dim in array.coords else np.arange(1, count + 1)
    if labels.dtype.kind in "UOT" and all(isinstance(label, str) for label in labels.tolist()):
        names = tuple(str(label) for label in labels)
        colours = tuple(
            ColorInterp.alpha if name.lower() == "alpha" else ColorInterp.undefined for name in names
        )
        return names, colours
    numbers = [int(label) if float(label).is_integer() else 0 for label in labels]
    told = attrs.get("long_name")
    told = (told,) if isinstance(told, str) and count == 1 else told
    described: list[str | None] = [None] * count
    if isinstance(told, Sequence) and not isinstance(told, str):
        if all(1 <= number <= len(told) for number in numbers):
            described = [str(told[number - 1]) for number in numbers]
        elif len(told) == count:
            described = [str(name) for name in told]
    elif count == 1 and told:
        described = [str(told)]
    found = [ColorInterp.undefined] * count
    source = encoding.get("source")
    if source and any(number > 0 for number in numbers):
        try:
            with open_raster(str(source)) as dataset:
                known = dataset.colorinterp
        except GeocdError:
            known = ()
        found = [
            known[number - 1] if 1 <= number <= len(known) else ColorInterp.undefined for number in numbers
        ]
    colours = tuple(
        ColorInterp.alpha if (name or "").lower() == "alpha" else colour
        for name, colour in zip(described, found, strict=True)
    )
    return tuple(described), colours


def _tags(array: xr.DataArray) -> dict[str, str]:
    tags = {
        str(key): str(value) for key, value in array.attrs.items() if isinstance(value, str | int | float)
    }
    time = array.coords.get("time")
    if time is not None and time.ndim == 0 and time.dtype.kind == "M" and not np.isnat(time.to_numpy()):
        tags["ACQUISITION_DATETIME"] = f"{np.datetime_as_string(time.to_numpy(), unit='s')}Z"
    return tags


__all__ = [
    "ArrayRaster",
]
