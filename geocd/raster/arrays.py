"""Arrays and Datasets of xarray as rasters: CRS, transform, nodata and band names, as a file has them.

All that follows (grids, valid area, tiling, the method) is the same as for files, and so are the results.
"""

from __future__ import annotations

import contextlib
import copy
import re
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
from geocd.raster.grid import GRID_TOLERANCE_PX, Grid, is_pixel_transform
from geocd.types import PixelArray

#: Side of a chunk, in pixels, of arrays that have none.
CHUNK = 1024
#: Rows or columns of a raster at most: coordinates that count pixels are no larger.
MOST_PIXELS = 100_000


class ArrayRaster:
    """A DataArray that is read like an open rasterio dataset, as far as :mod:`geocd.raster` needs.

    Parameters
    ----------
    array : xarray.DataArray, (band, y, x) or (y, x), in any order
        CRS, transform and nodata as rioxarray keeps them. Backed by numpy, by dask, or by a file that is read
        lazily; only windows are ever read.
    name : str
        Its name in messages.

    Attributes
    ----------
    name : str
        The file it was read from, if its encoding says so; else the name that was passed.
    array : xarray.DataArray, (band, y, x)
    window : rasterio.windows.Window, optional
        The part of the raster that the array holds; None for the whole.
    crs, transform, height, width, count, indexes, dtypes, nodata, nodatavals, descriptions, colorinterp
        As of a rasterio dataset.
    scales, offsets : tuple of float
        By band, from the attributes ``scale_factor`` and ``add_offset``, as of a rasterio dataset.

    Raises
    ------
    GridError
        No CRS, no x and y, coordinates that only count pixels, or that are not evenly spaced.
    BandError
        A dimension too many, or one that holds times.
    """

    def __init__(self, array: xr.DataArray, name: str) -> None:
        if not isinstance(array, xr.DataArray):
            raise GeocdError(
                f"{name}: {type(array).__module__}.{type(array).__name__} is neither a path nor an "
                "xarray.DataArray or Dataset. Of a numpy array make a DataArray with coordinates y and x, "
                "and give it a CRS with .rio.write_crs().",
                name=name,
            )
        self.name = str(array.encoding.get("source") or name)
        self._y, self._x = _spatial(array, self.name)
        if not array.size:
            sizes = ", ".join(f"{size} along {dim}" for dim, size in array.sizes.items())
            raise GridError(
                f"{self.name}: the selection is empty ({sizes}). Slices must follow the order of the "
                "coordinates: y usually falls, so sel(y=slice(top, bottom)).",
                path=self.name,
            )
        self.coords = {
            key: value for key, value in array.coords.items() if set(value.dims) <= {self._y, self._x}
        }
        self.array = _bands_first(array, self._y, self._x, self.name)
        self.window: Window | None = None
        self.count, self.height, self.width = self.array.shape
        crs = array.rio.crs
        if crs is None:
            raise GridError(
                f"{self.name}: the array has no coordinate reference system, so results cannot be located or "
                'measured. Assign the correct CRS, for instance: array = array.rio.write_crs("EPSG:32633")',
                path=self.name,
            )
        self.crs = CRS.from_user_input(crs)
        self.transform = _transform(array, self._y, self._x, self.name)
        self.nodata = _nodata(array, self.name)
        self.indexes = tuple(range(1, self.count + 1))
        self.dtypes = (_stored(array.dtype).name,) * self.count
        self.nodatavals = (self.nodata,) * self.count
        self.scales, self.offsets = (
            _by_band(array.attrs, names, default, self.count)
            for names, default in ((("scale_factor", "scales"), 1.0), (("add_offset", "offsets"), 0.0))
        )
        self.mask_flag_enums = ([MaskFlags.all_valid],) * self.count
        names, colours = _named(self.array, array)
        self.descriptions, self.colorinterp = tuple(names), tuple(colours)
        self._tags = _tags(array)

    @classmethod
    def of_variables(cls, dataset: xr.Dataset, name: str) -> ArrayRaster:
        """Return a Dataset as a raster: its variables are bands, each with its own nodata value and name.

        Parameters
        ----------
        dataset : xarray.Dataset
            As odc-stac loads it, or ``rioxarray.open_rasterio(..., band_as_variable=True)``. Variables
            without the dimensions y and x are left out.
        name : str
            Its name in messages.

        Raises
        ------
        GridError, BandError
            As for an array; or no variable has the dimensions y and x.
        """
        encodings = [dataset.encoding, *(variable.encoding for variable in dataset.data_vars.values())]
        source = next((encoding["source"] for encoding in encodings if encoding.get("source")), None)
        name = str(source or name)
        mappings = {variable.rio.grid_mapping for variable in dataset.data_vars.values()}
        dataset = dataset.set_coords([mapping for mapping in mappings if mapping in dataset.data_vars])
        spatial = _spatial(dataset, name)
        dataset = dataset[[key for key, value in dataset.data_vars.items() if {*spatial} <= {*value.dims}]]
        if not dataset.data_vars:
            raise BandError(
                f"{name}: the Dataset has no variable with the dimensions {' and '.join(map(str, spatial))}. "
                "Each of its variables should be a band.",
                path=name,
            )
        for key, variable in dataset.data_vars.items():
            if others := [dim for dim in variable.dims if dim not in spatial]:
                raise BandError(
                    f"{name}: the variable {key} has the dimensions {', '.join(map(str, variable.dims))}; "
                    "each variable of a Dataset must be one band of one date. Select one element along the "
                    f"others, for instance dataset.isel({others[0]}=0).",
                    path=name,
                    dims=variable.dims,
                )
        bands = [cls(variable, name) for variable in dataset.data_vars.values()]
        array = dataset.drop_vars("band", errors="ignore").to_dataarray("band")
        array.encoding["grid_mapping"] = next(iter(dataset.data_vars.values())).rio.grid_mapping
        raster = cls(array, name)
        raster.name = name
        raster.nodatavals = tuple(band.nodata for band in bands)
        raster.nodata = next((value for value in raster.nodatavals if value is not None), None)
        raster.scales = tuple(band.scales[0] for band in bands)
        raster.offsets = tuple(band.offsets[0] for band in bands)
        raster.descriptions, raster.colorinterp = _named_variables(dataset, raster, source)
        return raster

    @property
    def is_lazy(self) -> bool:
        """Whether it is backed by dask."""
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
        """Return this raster without its values: small enough to travel with every task."""
        return self.part(np.empty((0, 0, 0)), Window(0, 0, 0, 0))

    def part(self, values: PixelArray, window: Window) -> ArrayRaster:
        """Return this raster with only the values of a window: ``(band, height, width)``."""
        other = copy.copy(self)
        other.array = xr.DataArray(values, dims=("band", self._y, self._x))
        other.coords = {}
        other.window = window
        return other

    def chunked(self) -> ArrayRaster:
        """Return this raster backed by dask."""
        if self.is_lazy:
            return self
        other = copy.copy(self)
        other.array = self.array.chunk({self._y: CHUNK, self._x: CHUNK})
        return other

    def blocks(self, window: Window) -> Any:
        """Return the values of a window, ``(band, height, width)``, in numpy or dask like the array."""
        rows, cols = window.toslices()
        return self.array[:, rows, cols].data

    def read(self, indexes: int | Sequence[int] | None = None, *, window: Window) -> PixelArray:
        """Read a window as a rasterio dataset does."""
        top, left = (0, 0) if self.window is None else (self.window.row_off, self.window.col_off)
        rows = slice(int(window.row_off - top), int(window.row_off - top + window.height))
        cols = slice(int(window.col_off - left), int(window.col_off - left + window.width))
        array = self.array[:, rows, cols]
        if isinstance(indexes, int):
            values = array[indexes - 1].to_numpy()
        else:
            bands = self.indexes if indexes is None else indexes
            values = array[[index - 1 for index in bands]].to_numpy()
        return values.astype(_stored(values.dtype))  # a copy: what is read is written into

    def tags(self) -> dict[str, str]:
        """Return the attributes, as the tags of a file, and the time."""
        return self._tags

    def open(self) -> ArrayRaster:
        """Return the raster itself: it can be read from several threads."""
        return self

    def close(self) -> None:
        """Do nothing: there is no file to close."""


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the data type as in a file: native byte order, and uint8 for bool."""
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def _spatial(array: xr.DataArray | xr.Dataset, name: str) -> tuple[Hashable, Hashable]:
    """Return the dimensions y and x."""
    try:
        return array.rio.y_dim, array.rio.x_dim
    except RioXarrayError as error:
        raise GridError(
            f"{name}: the dimensions {', '.join(map(str, array.dims))} are not recognised as x and y. Rename "
            "them, or set them with array.rio.set_spatial_dims(x_dim=..., y_dim=...).",
            path=name,
        ) from error


def _bands_first(array: xr.DataArray, y: Hashable, x: Hashable, name: str) -> xr.DataArray:
    """Return the array as (band, y, x)."""
    others = [dim for dim in array.dims if dim not in (y, x)]
    if len(others) > 1:
        raise BandError(
            f"{name}: has the dimensions {', '.join(map(str, array.dims))}; only one besides {y} and {x} can "
            f"be the bands. Select one element along the others, for instance array.isel({others[0]}=0).",
            path=name,
            dims=array.dims,
        )
    if not others:
        return array.expand_dims("band")
    dim = others[0]
    times = dim in array.coords and array.coords[dim].dtype.kind in "mM"
    if times or str(dim).lower() == "time":
        raise BandError(
            f"{name}: the dimension {dim} holds times, not bands. One array is one date: select it, for "
            f"instance array.isel({dim}=0).",
            path=name,
            dims=array.dims,
        )
    return array.transpose(dim, y, x)


def _transform(array: xr.DataArray, y: Hashable, x: Hashable, name: str) -> Affine:
    """Return the transform from the coordinates; that of the file, which is exact, if it agrees.

    Cropping or flipping an array leaves the transform of the file in it, so it may not agree.
    """
    mapping = array.coords.get(array.rio.grid_mapping)
    written = None if mapping is None else mapping.attrs.get("GeoTransform")
    stored = None if written is None else Affine.from_gdal(*map(float, str(written).split()))
    rotated = stored is not None and bool(stored.b or stored.d)
    if rotated or not (x in array.coords and y in array.coords):
        if stored is None:
            raise GridError(
                f"{name}: has neither coordinates along {y} and {x} nor a transform, so it has no location. "
                "Assign the coordinates of the pixels' centres, or use array.rio.write_transform(...).",
                path=name,
            )
        _check_located(array, stored, stored, name)
        return stored
    a, c = _axis(array, x, None if stored is None else (stored.a, stored.c), name)
    e, f = _axis(array, y, None if stored is None else (stored.e, stored.f), name)
    transform = Affine(a, 0.0, c, 0.0, e, f)
    if stored is not None and is_pixel_transform(transform) and not is_pixel_transform(stored):
        return stored  # written where the coordinates only count pixels
    _check_located(array, transform, stored, name)
    return transform


def _check_located(array: xr.DataArray, transform: Affine, stored: Affine | None, name: str) -> None:
    """Raise :class:`GridError` where the transform of an array only counts its pixels.

    The coordinates of a part of a raster without a transform do not begin at 0; there the transform that is
    stored with them tells.
    """
    t = transform
    counts = is_pixel_transform(t)
    if stored is not None and is_pixel_transform(stored):
        offsets = t.c - stored.c, t.f - stored.f
        whole = all(offset.is_integer() and abs(offset) < MOST_PIXELS for offset in offsets)
        counts |= whole and abs(t.a) == abs(t.e) == 1
    if not counts:
        return
    dims = [str(dim) for dim in (array.rio.y_dim, array.rio.x_dim)]
    if array.rio.get_gcps():
        remedy = (
            "It has ground control points, so warp it: "
            'array.rio.reproject("EPSG:CODE", gcps=array.rio.get_gcps())'
        )
    else:
        remedy = (
            f"Assign the transform it was made with: array.drop_vars({dims}, errors='ignore')"
            ".rio.write_transform(Affine(SIZE, 0, WEST, 0, -SIZE, NORTH))"
        )
    raise GridError(
        f"{name}: has no transform: its coordinates count pixels (origin ({t.c:.10g}, {t.f:.10g}), pixel "
        f"({t.a:.10g}, {t.e:.10g})), so it has no location. {remedy}",
        path=name,
    )


def _axis(
    array: xr.DataArray, dim: Hashable, stored: tuple[float, float] | None, name: str
) -> tuple[float, float]:
    """Return the size of a pixel along a dimension and where its first pixel begins.

    ``stored`` are both as the transform of the file has them, returned where the coordinates agree.
    """
    centres = np.asarray(array.coords[dim], np.float64)
    if len(centres) > 1:
        step = float(centres[-1] - centres[0]) / (len(centres) - 1)
    elif stored is not None and stored[0]:
        step = stored[0]
    else:
        raise GridError(
            f"{name}: has one pixel along {dim} and no transform, so the size of a pixel is unknown. "
            "Use array.rio.write_transform(...).",
            path=name,
        )
    expected = centres[0] + step * np.arange(len(centres))
    tolerance = GRID_TOLERANCE_PX * abs(step)
    if array.coords[dim].dtype == np.float32:  # degrees near 180 are rounded to 1.5e-5
        rounding = float(np.spacing(np.abs(array.coords[dim].to_numpy()).max()))
        tolerance = max(tolerance, min(rounding, abs(step) / 4))
    if not step or not np.abs(centres - expected).max() <= tolerance:
        raise GridError(
            f"{name}: the coordinates along {dim} are not evenly spaced, so it is not a raster. Resample it "
            "first, for instance with array.rio.reproject(...).",
            path=name,
        )
    if stored is not None and stored[0]:
        ends = stored[1] + stored[0] * (np.array([0, len(centres) - 1]) + 0.5)
        if np.abs(ends - centres[[0, -1]]).max() <= GRID_TOLERANCE_PX * abs(stored[0]):
            return stored
    return step, float(centres[0]) - step / 2


def _nodata(array: xr.DataArray, name: str) -> float | None:
    """Return the nodata value; None where there is none."""
    try:
        value = array.rio.nodata
        return None if value is None else float(value)
    except (OverflowError, ValueError, TypeError) as error:
        raise BandError(
            f"{name}: its nodata value cannot be represented in {array.dtype} ({error}). Assign the correct "
            "one, for instance array.rio.write_nodata(0), or remove the attribute _FillValue.",
            path=name,
        ) from error


def _by_band(
    attrs: Mapping[Hashable, Any], names: tuple[str, str], default: float, count: int
) -> tuple[float, ...]:
    """Return an attribute for each band: one number for all (CF), or one for each (rioxarray)."""
    single, several = names
    values = attrs.get(several, attrs.get(single, default))
    numbers = np.atleast_1d(np.asarray(values))
    if numbers.dtype.kind not in "iuf" or numbers.size not in (1, count):
        return (default,) * count
    return tuple(np.broadcast_to(numbers.astype(float), count).tolist())


def _named(array: xr.DataArray, original: xr.DataArray) -> tuple[list[str | None], list[ColorInterp]]:
    """Return names and colours of the bands.

    Names are in the coordinate of the bands (odc-stac, to_dataarray), or in ``long_name`` by the number that
    this coordinate has (rioxarray). rioxarray does not keep which band is red or alpha: that is read from the
    file that it records as the source.

    Parameters
    ----------
    array : xarray.DataArray, (band, y, x)
    original : xarray.DataArray
        The same before its dimensions were put in order, which may lose the encoding.
    """
    dim, count = array.dims[0], array.shape[0]
    labels = array.coords[dim].to_numpy() if dim in array.coords else np.arange(1, count + 1)
    names: list[str | None]
    if labels.dtype.kind in "UOT" and all(isinstance(label, str) for label in labels.tolist()):
        names = [str(label) for label in labels]
        colours = [ColorInterp.undefined] * count
    else:
        numbers = [int(label) if float(label).is_integer() else 0 for label in labels]
        names = _long_names(original.attrs.get("long_name"), numbers)
        colours = _colours(original.encoding.get("source"), numbers)
    return names, [
        ColorInterp.alpha if (name or "").lower() == "alpha" else colour
        for name, colour in zip(names, colours, strict=True)
    ]


def _named_variables(
    dataset: xr.Dataset, raster: ArrayRaster, source: object
) -> tuple[tuple[str | None, ...], tuple[ColorInterp, ...]]:
    """Return names and colours of variables; rioxarray's ``band_1`` is the band of this number in a file."""
    keys = [str(key) for key in dataset.data_vars]
    numbers = [re.fullmatch(r"band_(\d+)", key) for key in keys]
    if not all(numbers):
        return raster.descriptions, raster.colorinterp
    colours = _colours(source, [int(number[1]) for number in numbers if number])
    long_names = (variable.attrs.get("long_name") for variable in dataset.data_vars.values())
    return tuple(str(name) if name else None for name in long_names), tuple(colours)


def _long_names(long_name: object, numbers: list[int]) -> list[str | None]:
    """Return the names of bands with these numbers: one for each band of the array, or of its file."""
    count = len(numbers)
    if isinstance(long_name, str) and count == 1:
        long_name = (long_name,)
    if isinstance(long_name, Sequence) and not isinstance(long_name, str):
        if all(1 <= number <= len(long_name) for number in numbers):
            return [str(long_name[number - 1]) for number in numbers]
        if len(long_name) == count:
            return [str(name) for name in long_name]
    elif count == 1 and long_name:
        return [str(long_name)]
    return [None] * count


def _colours(source: object, numbers: list[int]) -> list[ColorInterp]:
    """Return the colours of bands with these numbers in the file that an array was read from."""
    colours: Sequence[ColorInterp] = ()
    if source and any(number > 0 for number in numbers):
        with contextlib.suppress(GeocdError), open_raster(str(source)) as dataset:
            colours = dataset.colorinterp
    return [
        colours[number - 1] if 1 <= number <= len(colours) else ColorInterp.undefined for number in numbers
    ]


def _tags(array: xr.DataArray) -> dict[str, str]:
    """Return the attributes as tags of a file, and a single time as the tag of the acquisition."""
    tags = {
        str(key): str(value) for key, value in array.attrs.items() if isinstance(value, str | int | float)
    }
    for key, value in array.coords.items():  # stackstac has the properties of an item as coordinates
        if value.ndim == 0 and str(key).endswith(("processing_baseline", "boa_offset_applied")):
            tags[str(key)] = str(value.item())
    time = array.coords.get("time")
    if time is not None and time.ndim == 0 and time.dtype.kind == "M" and not np.isnat(time.to_numpy()):
        tags["ACQUISITION_DATETIME"] = f"{np.datetime_as_string(time.to_numpy(), unit='s')}Z"
    return tags


__all__ = [
    "ArrayRaster",
]
