"""Two rasters of one place, read by window on one grid, with the area that is valid in both."""

from __future__ import annotations

import copy
import dataclasses
import os
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geocd.errors import (
    BandError,
    NoValidPixelError,
)
from geocd.raster.warp import Warp
from geocd.types import BoolArray, PixelArray

if TYPE_CHECKING:
    pass
from geocd.raster.files import Source, grid_of, open_raster, source_name
from geocd.raster.grid import Grid, check_same_grid, same_crs, same_grid
from geocd.raster.reading import read_date


@dataclasses.dataclass(frozen=True)
class Chip:
    """Pixels of both dates at one place.

    Attributes
    ----------
    before, after : ndarray, (bands, height, width), float32 or float64
        Raw values, finite everywhere; 0 where not valid. float64 only for inputs that float32 cannot
        hold (32-bit integers and float64), until the statistics have centred them.
    valid : ndarray, (height, width), bool
        True where every chosen band of both dates is usable.
    window : rasterio.windows.Window
        The place.
    """

    before: PixelArray
    after: PixelArray
    valid: BoolArray
    window: Window

    def part(self, rows: slice, cols: slice) -> Chip:
        """Return some rows and columns of this chip, counted from its own first: views, not copies."""
        valid = self.valid[rows, cols]
        place = Window(
            self.window.col_off + (cols.start or 0),
            self.window.row_off + (rows.start or 0),
            *valid.shape[::-1],
        )
        return Chip(self.before[:, rows, cols], self.after[:, rows, cols], valid, place)


class Pair:
    """A before and an after raster, read by window on one grid: that of the before raster.

    Opening checks everything that can be known without reading a pixel.

    Parameters
    ----------
    before, after : str or Openable
        Paths or URLs, or what else can be read like a raster.
    indexes : sequence of int, optional
        Band numbers, from 1, taken from both dates. Default: all bands but alpha.
    nodata : float, optional
        Overrides the nodata value of both rasters.
    valid : str or Openable, optional
        A raster whose first band is non-zero where the pair is usable, on the grid of the before raster
        (with ``align``, on any).
    align : bool
        Whether the after raster may have another grid, and is warped while it is read. What it does not
        cover is not valid.

    Attributes
    ----------
    grid : Grid
        Of the before raster.
    after_grid : Grid
        The after raster's own.
    warp, valid_warp : Warp or None
        How the after raster and ``valid`` are warped; None where they are read as they are.
    indexes : tuple of int
    band_names : tuple of str

    Raises
    ------
    RasterOpenError, GridError, BandError

    Notes
    -----
    A pixel is valid when every chosen band of both dates is finite, is not nodata, and is not masked by
    an alpha band or a dataset mask. One bad band spoils the pixel: a -9999 in one band would otherwise
    be read as an enormous change. Reading is safe from several threads: each has its own handles,
    because a GDAL dataset must not be shared.
    """

    def __init__(
        self,
        before: Source,
        after: Source,
        *,
        indexes: Sequence[int] | None = None,
        nodata: float | None = None,
        valid: Source | None = None,
        align: bool = False,
    ) -> None:
        self.sources: tuple[Source, Source, Source | None] = before, after, valid
        self.before_path, self.after_path = source_name(before), source_name(after)
        self.valid_path = None if valid is None else source_name(valid)
        self._nodata = nodata
        self._align = align
        self._no_handles()
        try:
            self._check(indexes)
        except BaseException:
            self.close()
            raise

    def _check(self, indexes: Sequence[int] | None) -> None:
        one, two, extra = self._datasets()
        self.grid = grid_of(one, self.before_path)
        self.after_grid = grid_of(two, self.after_path)
        self.warp = self._onto_grid(self.after_grid, self.after_path)
        self.valid_warp: Warp | None = None
        if extra is not None:
            assert self.valid_path is not None
            self.valid_warp = self._onto_grid(grid_of(extra, self.valid_path), self.valid_path)
        self.indexes = self._choose_bands(one, two, indexes)
        self.band_names = tuple(_band_name(one, i) or _band_name(two, i) or f"band {i}" for i in self.indexes)
        self.dtypes = (one.dtypes[self.indexes[0] - 1], two.dtypes[self.indexes[0] - 1])
        self.tags = (dict(one.tags()), dict(two.tags()))
        wide = {"float64", "int32", "uint32", "int64", "uint64"}
        self._dtype = (
            np.float64
            if any(ds.dtypes[i - 1] in wide for ds in (one, two) for i in self.indexes)
            else np.float32
        )

    @property
    def itemsize(self) -> int:
        """Bytes of a value of a chip."""
        return np.dtype(self._dtype).itemsize

    def _onto_grid(self, grid: Grid, path: str) -> Warp | None:
        """Return how a raster gets onto the grid of the pair; None where it is on it."""
        names = self.before_path, path
        if not self._align:
            remedy = "--align grid warps the second onto the grid of the first while reading."
            check_same_grid(self.grid, grid, names, remedy)
        if same_grid(self.grid, grid):
            return None
        if same_crs(self.grid.crs, grid.crs):  # in one spelling nothing needs to be transformed
            grid = dataclasses.replace(grid, crs=self.grid.crs)
        return Warp.between(grid, self.grid, names)

    def set_shift(self, row: float, col: float) -> None:
        """Read the after raster as if its content lay so many pixels further up and to the left.

        Parameters
        ----------
        row, col : float
            Pixels of the pair's grid that the content of the after raster lies down and to the right of
            that of the before raster. It is resampled once, also where it has another grid.
        """
        warp = self.warp or Warp.between(dataclasses.replace(self.after_grid, crs=self.grid.crs), self.grid)
        self.warp = dataclasses.replace(warp, shift=(row, col))

    def _choose_bands(
        self, one: DatasetReader, two: DatasetReader, indexes: Sequence[int] | None
    ) -> tuple[int, ...]:
        def colour(dataset: DatasetReader) -> list[int]:
            return [
                i
                for i, what in zip(dataset.indexes, dataset.colorinterp, strict=True)
                if what != ColorInterp.alpha
            ]

        if indexes is None:
            ours, theirs = colour(one), colour(two)
            if len(ours) != len(theirs):
                raise BandError(
                    f"different band counts: {len(ours)} in {self.before_path}, {len(theirs)} in "
                    f"{self.after_path}. Choose bands that both have with --bidx, for instance "
                    f"--bidx 1..{min(len(ours), len(theirs))}",
                    before=len(ours),
                    after=len(theirs),
                )
            chosen = tuple(ours)
        else:
            chosen = tuple(indexes)
        if not chosen:
            raise BandError(f"{self.before_path}: no band to compare. Choose one with --bidx.", indexes=())
        for dataset, path in ((one, self.before_path), (two, self.after_path)):
            for index in chosen:
                if not 1 <= index <= dataset.count:
                    raise BandError(
                        f"{path}: band {index} does not exist, the raster has bands 1 to "
                        f"{dataset.count}. Choose among these with --bidx.",
                        path=path,
                        index=index,
                        count=dataset.count,
                    )
                if np.dtype(dataset.dtypes[index - 1]).kind not in "iuf":
                    raise BandError(
                        f"{path}: band {index} is {dataset.dtypes[index - 1]}, and complex values "
                        "cannot be compared. Write amplitude or intensity (real numbers) first.",
                        path=path,
                        index=index,
                        dtype=dataset.dtypes[index - 1],
                    )
        return chosen

    def _no_handles(self) -> None:
        self._local = threading.local()
        self._handles: list[DatasetReader] = []
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but open files: a pair may travel to another process."""
        return {key: value for key, value in vars(self).items() if key not in ("_local", "_handles", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._no_handles()

    def reading(self, before: Source, after: Source, valid: Source | None = None) -> Pair:
        """Return this pair, with all that is known of it, reading its pixels from other sources."""
        other = copy.copy(self)
        other.sources = before, after, valid
        return other

    def _datasets(self) -> tuple[DatasetReader, DatasetReader, DatasetReader | None]:
        """This thread's own handles."""
        if not hasattr(self._local, "datasets"):
            opened: list[DatasetReader | None] = []
            for source in self.sources:
                if source is None:
                    opened.append(None)
                    continue
                if isinstance(source, str | os.PathLike):
                    dataset = open_raster(os.fspath(source))
                else:
                    dataset = source.open()
                with self._lock:
                    self._handles.append(dataset)
                opened.append(dataset)
            self._local.datasets = tuple(opened)
        return self._local.datasets  # type: ignore[no-any-return]

    def read(self, window: Window) -> Chip:
        """Read the pixels of both dates inside a window, with their joint valid area.

        Parameters
        ----------
        window : rasterio.windows.Window
            Whole pixels, inside the grid.

        Raises
        ------
        RasterReadError
            The file is truncated or damaged there.
        """
        one, two, extra = self._datasets()
        indexes = list(self.indexes)
        before, valid = read_date(one, self.before_path, window, indexes, self._dtype, nodata=self._nodata)
        after, usable = read_date(
            two, self.after_path, window, indexes, self._dtype, nodata=self._nodata, warp=self.warp
        )
        valid &= usable
        if extra is not None:
            assert self.valid_path is not None
            valid &= read_date(
                extra, self.valid_path, window, [1], np.float64, warp=self.valid_warp, zero_is_valid=False
            )[1]
        for values in (before, after):
            values[:, ~valid] = 0
        return Chip(before, after, valid, window)

    def no_valid_pixel(self) -> NoValidPixelError:
        """Return the error for a pair that has no jointly valid pixel."""
        one, two, _ = self._datasets()
        return NoValidPixelError(
            f"no pixel is valid in both {self.before_path} (nodata {one.nodata}) and "
            f"{self.after_path} (nodata {two.nodata})"
            + (f" and {self.valid_path}" if self.valid_path else "")
            + ". Check the nodata values (--nodata overrides them), the masks and the overlap.",
            before=self.before_path,
            after=self.after_path,
        )

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for dataset in self._handles:
                dataset.close()
            self._handles.clear()

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _band_name(dataset: DatasetReader, index: int) -> str | None:
    """The band's description, else its colour."""
    colour = dataset.colorinterp[index - 1]
    named = colour.name if colour in (ColorInterp.red, ColorInterp.green, ColorInterp.blue) else None
    return dataset.descriptions[index - 1] or named


__all__ = [
    "Chip",
    "Pair",
]
