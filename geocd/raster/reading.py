"""Windows of one raster, with their valid area: read as they are, or warped onto another grid.

The only place where pixels are read. Reading is by window, so that memory does not depend on the size of the
raster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
import rasterio.warp
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geocd.errors import (
    RasterReadError,
)
from geocd.raster.warp import Warp
from geocd.types import BoolArray, PixelArray

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter
from geocd.raster.files import gdal_reason
from geocd.raster.grid import Grid


def read(dataset: DatasetReader, path: str, window: Window, **kwargs: Any) -> PixelArray:
    """Read a window, with :class:`RasterReadError` naming the file where the pixels are damaged."""
    try:
        return dataset.read(window=window, **kwargs)  # type: ignore[no-any-return]
    except RasterioIOError as error:
        raise RasterReadError(
            f"{path}: pixels of window (row {window.row_off}, col {window.col_off}, "
            f"{window.height} x {window.width}) cannot be read ({gdal_reason(error)}). "
            "The file is truncated or damaged: copy or download it again.",
            path=path,
        ) from error


def read_date(
    dataset: DatasetReader,
    path: str,
    window: Window,
    indexes: list[int],
    dtype: npt.DTypeLike = np.float32,
    *,
    nodata: float | None = None,
    warp: Warp | None = None,
    zero_is_valid: bool = True,
) -> tuple[PixelArray, BoolArray]:
    """Read bands inside a window and where they are valid, warped if need be.

    Parameters
    ----------
    dataset : rasterio dataset
    path : str
    window : rasterio.windows.Window
        Of the raster, or of the target of ``warp``.
    indexes : list of int
    dtype : data type
        float32 or float64.
    nodata : float, optional
        Overrides the nodata value.
    warp : Warp, optional
        Its source is the grid of the raster.
    zero_is_valid : bool
        Whether 0 in any band is a value.

    Returns
    -------
    values : ndarray, (bands, height, width)
        Anything where not valid.
    valid : ndarray, (height, width), bool

    Raises
    ------
    RasterReadError
    """
    if warp is None:
        values = read(dataset, path, window, indexes=indexes)
        declared = [dataset.nodatavals[i - 1] for i in indexes]
        unknown = declared if nodata is None else [nodata] * len(indexes)
        valid = _usable(dataset, path, window, indexes, values, unknown)
        if not zero_is_valid:
            valid &= (values != 0).all(axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            values = values.astype(dtype)
        # The square of a value must still be finite, or a fill value such as 1e38 becomes
        # infinite inside the statistics.
        valid &= (np.abs(values) < 1e15).all(axis=0)
        return values, valid
    top, left = int(window.row_off), int(window.col_off)
    height, width = int(window.height), int(window.width)
    values = np.zeros((len(indexes), height, width), dtype)
    valid = np.zeros((height, width), dtype=bool)
    for block in warp.blocks(window):
        needed = warp.needed(block)
        if needed is None:
            continue
        found = read_date(dataset, path, needed, indexes, dtype, nodata=nodata, zero_is_valid=zero_is_valid)
        warped, known = resample(warp, *found, needed, block)
        row, col = block.row_off - top, block.col_off - left
        rows = slice(max(0, row), min(height, row + block.height))
        cols = slice(max(0, col), min(width, col + block.width))
        part = slice(rows.start - row, rows.stop - row), slice(cols.start - col, cols.stop - col)
        values[:, rows, cols] = warped[(slice(None), *part)]
        valid[rows, cols] = known[part]
    return values, valid


def resample(
    warp: Warp, values: PixelArray, valid: BoolArray, origin: Window, window: Window
) -> tuple[PixelArray, BoolArray]:
    """Resample source pixels onto a window of the target of a warp.

    Parameters
    ----------
    warp : Warp
    values : ndarray, (bands, height, width), float32 or float64
    valid : ndarray, (height, width), bool
    origin : rasterio.windows.Window
        Their place in the source: what ``warp.needed`` said.
    window : rasterio.windows.Window
        The place in the target: one of ``warp.blocks``.

    Returns
    -------
    values : ndarray, (bands, height, width), same type
        0 where not valid.
    valid : ndarray, (height, width), bool
        True where half the weight or more comes from valid source pixels. What is not valid has no weight
        in the values, and what lies outside the source is not valid.
    """
    # around the source, nothing: else GDAL would stretch its border over the pixels that it cuts
    rows, cols = (math.ceil(2 * max(1.0, scale)) + 1 for scale in warp.scale)
    source = warp.source.crop(
        Window(
            origin.col_off - cols, origin.row_off - rows, origin.width + 2 * cols, origin.height + 2 * rows
        )
    )
    target = warp.places(window)
    bands = list(range(1, len(values) + 2))
    # Of arrays rasterio would make datasets in memory too, but silence a warning in a way that is not safe
    # between threads.
    with (
        _in_memory(source, len(bands), values.dtype) as given,
        _in_memory(target, len(bands), values.dtype) as made,
    ):
        inner = np.full((len(bands), *source.shape), np.nan, values.dtype)
        place = slice(rows, rows + int(origin.height)), slice(cols, cols + int(origin.width))
        inner[(slice(0, -1), *place)] = np.where(valid, values, np.nan)
        inner[-1] = 0
        inner[(-1, *place)] = valid
        given.write(inner)
        rasterio.warp.reproject(
            rasterio.band(given, bands),
            rasterio.band(made, bands),
            src_nodata=math.nan,
            dst_nodata=math.nan,
            resampling=Resampling[warp.resampling],
            num_threads=1,
            # coordinates are computed for every pixel and not interpolated along rows
            tolerance=0,
            # and the width of the kernel is that of the scene: GDAL's own differs between windows
            XSCALE=1 / warp.scale[1],
            YSCALE=1 / warp.scale[0],
            UNIFIED_SRC_NODATA="NO",
        )
        found = made.read()
    with np.errstate(invalid="ignore"):
        known = (found[-1] >= 0.5) & np.isfinite(found).all(axis=0)
    found[:, ~known] = 0
    return found[:-1], known


def _in_memory(grid: Grid, count: int, dtype: npt.DTypeLike) -> DatasetWriter:
    return rasterio.open(
        "",
        "w+",
        driver="MEM",
        count=count,
        height=grid.height,
        width=grid.width,
        dtype=dtype,
        crs=grid.crs,
        transform=grid.transform,
        nodata=math.nan,
    )


def _usable(
    dataset: DatasetReader,
    path: str,
    window: Window,
    indexes: list[int],
    values: PixelArray,
    nodata: Sequence[float | None],
) -> BoolArray:
    """Tell where no band is nodata and neither an alpha band nor a dataset mask rules the pixel out.

    GDAL's own mask heeds only one of these: nodata shadows alpha, and an internal mask shadows nodata.
    """
    usable = np.ones(values.shape[1:], dtype=bool)
    # A nodata value that the data type cannot hold (-1.8e308 in float32) becomes infinite here.
    with np.errstate(over="ignore"):
        for band, value in zip(values, nodata, strict=True):
            if value is not None and not math.isnan(value):  # NaN is ruled out with all that is not finite
                usable &= band != value
    alpha = [
        i
        for i, what in zip(dataset.indexes, dataset.colorinterp, strict=True)
        if what == ColorInterp.alpha and i not in indexes
    ]
    try:
        for index in alpha:
            usable &= dataset.read(index, window=window) != 0
        masked = [
            i
            for i in indexes
            if MaskFlags.per_dataset in (flags := dataset.mask_flag_enums[i - 1])
            and MaskFlags.alpha not in flags
        ]
        if masked:
            usable &= (dataset.read_masks(masked, window=window) != 0).all(axis=0)
    except RasterioIOError as error:
        raise RasterReadError(
            f"{path}: its mask cannot be read ({gdal_reason(error)}). "
            "The file is truncated or damaged: copy or download it again.",
            path=path,
        ) from error
    return usable


__all__ = [
    "read",
    "read_date",
    "resample",
]
