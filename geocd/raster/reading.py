"""Windows of one raster, with their valid area: read as they are, or warped onto another grid.

The only place where pixels are read. Reading is by window, so that memory does not depend on the size of the
raster.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.warp
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geocd.errors import RasterReadError
from geocd.raster.files import gdal_reason
from geocd.raster.grid import Grid
from geocd.raster.network import why_no_answer
from geocd.raster.warp import Warp
from geocd.types import BoolArray, PixelArray

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

#: Rasters of up to this many pixels are looked at as a whole; of larger ones, windows of this side.
_WHOLE, _SIDE = 512 * 512, 64


def sample_windows(height: int, width: int, along: int = 5) -> list[Window]:
    """Return windows that are spread over a raster: the whole of a small one.

    Parameters
    ----------
    height, width : int
        Of the raster.
    along : int
        Number of windows along each side of a large one, the first and the last of them at its border.
    """
    if height * width <= _WHOLE:
        return [Window(0, 0, width, height)]
    side = min(_SIDE, height), min(_SIDE, width)
    rows = np.linspace(0, height - side[0], along).astype(int)
    cols = np.linspace(0, width - side[1], along).astype(int)
    return [Window(int(col), int(row), side[1], side[0]) for row in rows for col in cols]


def read(dataset: DatasetReader, path: str, window: Window, **kwargs: Any) -> PixelArray:
    """Read a window of pixels as they are stored.

    Parameters
    ----------
    dataset : rasterio dataset
    path : str
        Its name in the message.
    window : rasterio.windows.Window
    **kwargs
        As for ``dataset.read``.

    Raises
    ------
    RasterReadError
        The pixels are truncated or damaged.
    """
    begin = time.monotonic()
    try:
        return dataset.read(window=window, **kwargs)  # type: ignore[no-any-return]
    except RasterioIOError as error:
        if no_answer := why_no_answer(path, gdal_reason(error), time.monotonic() - begin):
            raise RasterReadError(no_answer, path=path) from error
        raise RasterReadError(
            f"{path}: pixels of window (row {window.row_off}, col {window.col_off}, "
            f"{window.height} x {window.width}) cannot be read ({gdal_reason(error)}). "
            "The file is truncated or damaged: copy or download it again.",
            path=path,
        ) from error


@dataclasses.dataclass(frozen=True)
class DateSource:
    """The bands of one date: an open raster, and what of it is read how.

    Parameters
    ----------
    dataset : rasterio dataset
    path : str
        Its name in messages.
    indexes : sequence of int
        Band numbers, from 1.
    dtype : data type
        Of the values: float32 or float64.
    nodata : float, optional
        Overrides the nodata value of the raster.
    zero_is_valid : bool
        Whether 0 in any band is a value.
    warp : Warp, optional
        How the raster is warped; its source is the grid of the raster.
    alpha : sequence of int, optional
        Numbers of the bands that are masks. Default: those that are tagged alpha.
    fill : sequence of float
        Values of the bands that together mean "no data"; empty for none.
    part : rasterio.windows.Window, optional
        What of the raster is read as if it were all of it: windows are counted from its corner.
    """

    dataset: DatasetReader
    path: str
    indexes: Sequence[int]
    dtype: npt.DTypeLike = np.float32
    nodata: float | None = None
    zero_is_valid: bool = True
    warp: Warp | None = None
    alpha: Sequence[int] | None = None
    fill: Sequence[float] = ()
    part: Window | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what is read."""
        if self.part is None:
            return self.dataset.height, self.dataset.width
        return int(self.part.height), int(self.part.width)

    def of_raster(self, window: Window) -> Window:
        """Return a window as the raster counts it."""
        if self.part is None:
            return window
        row, col = window.row_off + self.part.row_off, window.col_off + self.part.col_off
        return Window(col, row, window.width, window.height)


def read_date(source: DateSource, window: Window) -> tuple[PixelArray, BoolArray]:
    """Read bands inside a window and where they are valid, warped if need be.

    Parameters
    ----------
    source : DateSource
    window : rasterio.windows.Window
        Of the raster (of its ``part``), or of the target of its warp.

    Returns
    -------
    values : ndarray, (bands, height, width)
        Arbitrary where not valid.
    valid : ndarray, (height, width), bool

    Raises
    ------
    RasterReadError
    """
    if source.warp is None:
        return _read_unwarped(source, window)
    return _read_warped(source, source.warp, window)


def _read_unwarped(source: DateSource, window: Window) -> tuple[PixelArray, BoolArray]:
    """Read a window of the raster's own grid, and where it is valid."""
    window = source.of_raster(window)
    values = read(source.dataset, source.path, window, indexes=list(source.indexes))
    valid, stored = _usable(source, window, values), values.dtype
    if not source.zero_is_valid:
        valid &= (values != 0).all(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        values = values.astype(source.dtype)
    # The square of a value must still be finite, or a fill value such as 1e38 becomes
    # infinite inside the statistics.
    if stored.kind not in "biu" or stored.itemsize > 4:
        valid &= (np.abs(values) < 1e15).all(axis=0)
    return values, valid


def _read_warped(source: DateSource, warp: Warp, window: Window) -> tuple[PixelArray, BoolArray]:
    """Read a window of the target of a warp block by block, and where it is valid."""
    top, left = int(window.row_off), int(window.col_off)
    height, width = int(window.height), int(window.width)
    values = np.zeros((len(source.indexes), height, width), source.dtype)
    valid = np.zeros((height, width), dtype=bool)
    for turn, block in itertools.product(warp.turns, warp.blocks(window)):
        origin = turn.needed(block)
        if origin is None:
            continue
        warped, warped_valid = resample(turn, *_read_unwarped(source, origin), origin, block)
        row, col = block.row_off - top, block.col_off - left
        rows = slice(max(0, row), min(height, row + block.height))
        cols = slice(max(0, col), min(width, col + block.width))
        part = slice(rows.start - row, rows.stop - row), slice(cols.start - col, cols.stop - col)
        new = warped_valid[part] & ~valid[rows, cols]
        values[:, rows, cols][:, new] = warped[(slice(None), *part)][:, new]
        valid[rows, cols] |= new
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
        Where they lie in the source: as returned by ``warp.needed``.
    window : rasterio.windows.Window
        Where the result lies in the target: one of ``warp.blocks``.

    Returns
    -------
    values : ndarray, (bands, height, width), same type
        0 where not valid.
    valid : ndarray, (height, width), bool
        True where half of the weight or more comes from valid source pixels; outside the source nothing is
        valid. Pixels that are not valid have no weight in the values.
    """
    # a margin of nothing around the source: GDAL would stretch its border over the pixels that it cuts
    rows, cols = (math.ceil(2 * max(1.0, scale)) + 1 for scale in warp.scale)
    source = warp.source.crop(
        Window(
            origin.col_off - cols, origin.row_off - rows, origin.width + 2 * cols, origin.height + 2 * rows
        )
    )
    target = warp.shifted(window)
    bands = list(range(1, len(values) + 2))
    # Of arrays rasterio would make datasets in memory too, but silence a warning in a way that is not safe
    # between threads.
    with (
        _in_memory(source, len(bands), values.dtype) as original,
        _in_memory(target, len(bands), values.dtype) as warped,
    ):
        padded = np.full((len(bands), *source.shape), np.nan, values.dtype)
        inside = slice(rows, rows + int(origin.height)), slice(cols, cols + int(origin.width))
        padded[(slice(0, -1), *inside)] = np.where(valid, values, np.nan)
        padded[-1] = 0
        padded[(-1, *inside)] = valid
        original.write(padded)
        rasterio.warp.reproject(
            rasterio.band(original, bands),
            rasterio.band(warped, bands),
            src_nodata=math.nan,
            dst_nodata=math.nan,
            resampling=Resampling[warp.resampling],
            num_threads=1,
            # coordinates are computed for every pixel and not interpolated along rows
            tolerance=0,
            # the width of the kernel is that of the scene: GDAL's own differs between windows
            XSCALE=1 / warp.scale[1],
            YSCALE=1 / warp.scale[0],
            UNIFIED_SRC_NODATA="NO",
        )
        result = warped.read()
    with np.errstate(invalid="ignore"):
        result_valid = (result[-1] >= 0.5) & np.isfinite(result).all(axis=0)
    result[:, ~result_valid] = 0
    return result[:-1], result_valid


def _in_memory(grid: Grid, count: int, dtype: npt.DTypeLike) -> DatasetWriter:
    """Return an empty raster in memory."""
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


def filled(values: PixelArray, fill: Sequence[float]) -> BoolArray:
    """Return where every band has its value of ``fill``: (height, width) for (bands, height, width)."""
    equal = np.ones(values.shape[1:], dtype=bool)
    for band, value in zip(values, fill, strict=True):
        equal &= band == value
    return equal


def _usable(source: DateSource, window: Window, values: PixelArray) -> BoolArray:
    """Return where no band is nodata and neither an alpha band nor a dataset mask rules the pixel out.

    GDAL's own mask heeds only one of these: nodata shadows alpha, and an internal mask shadows nodata.
    """
    dataset, indexes, declared = source.dataset, source.indexes, source.dataset.nodatavals
    usable = np.ones(values.shape[1:], dtype=bool)
    # A nodata value that the data type cannot hold (-1.8e308 in float32) becomes infinite here.
    with np.errstate(over="ignore"):
        for index, band in zip(indexes, values, strict=True):
            nodata = declared[index - 1] if source.nodata is None else source.nodata
            if nodata is not None and not math.isnan(nodata):  # NaN is ruled out with all that is not finite
                usable &= band != nodata
        if source.fill:
            usable &= ~filled(values, source.fill)
    alpha = source.alpha
    if alpha is None:
        interpretations = zip(dataset.indexes, dataset.colorinterp, strict=True)
        alpha = [index for index, colour in interpretations if colour == ColorInterp.alpha]
    try:
        for index in (index for index in alpha if index not in indexes):
            usable &= dataset.read(index, window=window) != 0
        flags = dataset.mask_flag_enums  # of all bands, which takes a while
        masked = [
            index
            for index in indexes
            if MaskFlags.per_dataset in flags[index - 1] and MaskFlags.alpha not in flags[index - 1]
        ]
        if masked:
            usable &= (dataset.read_masks(masked, window=window) != 0).all(axis=0)
    except RasterioIOError as error:
        if no_answer := why_no_answer(source.path, gdal_reason(error)):
            raise RasterReadError(no_answer, path=source.path) from error
        raise RasterReadError(
            f"{source.path}: its mask cannot be read ({gdal_reason(error)}). "
            "The file is truncated or damaged: copy or download it again.",
            path=source.path,
        ) from error
    return usable


__all__ = [
    "DateSource",
    "filled",
    "read",
    "read_date",
    "resample",
    "sample_windows",
]
