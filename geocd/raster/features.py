"""Features that were made elsewhere, read on a lattice of places that lies on the grid of a pair."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geocd.errors import BandError, RasterReadError
from geocd.raster.choice import data_bands
from geocd.raster.files import grid_of
from geocd.raster.grid import Grid, same_crs, same_grid
from geocd.raster.reading import DateSource, read_date
from geocd.raster.rims import undeclared_rim
from geocd.raster.warp import Warp
from geocd.types import BoolArray, Float32Array, PixelArray

#: Places are at most so many pixels wide: of coarser features several places have the same.
MOST_PIXELS = 64
#: Places are as wide as a whole number of pixels. Features whose pixels are within this share of the next
#: larger number count as that wide.
_NEARLY = 0.01
#: Places around a window that are read with it: for interpolation, and to fill places without features.
_MARGIN = 6


@dataclasses.dataclass(frozen=True)
class FeatureChip:
    """Features of both dates around a window.

    Attributes
    ----------
    before, after : ndarray, (channels, rows, cols), float32
        Finite everywhere; 0 where not valid.
    valid : ndarray, (rows, cols), bool
        Where all channels of both dates are.
    stride : int
        Pixels of the pair along the side of a place.
    row, col : int
        The first place, counted from that at the corner of the pair.
    """

    before: Float32Array
    after: Float32Array
    valid: BoolArray
    stride: int
    row: int
    col: int

    def part(self, window: Window) -> FeatureChip:
        """Return the places that a window of the pair needs: views, not copies."""
        rows, cols = (
            _span(begin, length, self.stride, first, count)
            for begin, length, first, count in (
                (window.row_off, window.height, self.row, self.valid.shape[0]),
                (window.col_off, window.width, self.col, self.valid.shape[1]),
            )
        )
        return dataclasses.replace(
            self,
            before=self.before[:, rows, cols],
            after=self.after[:, rows, cols],
            valid=self.valid[rows, cols],
            row=self.row + rows.start,
            col=self.col + cols.start,
        )

    def covered(self, window: Window) -> BoolArray:
        """Return which pixels of a window lie in places that are valid, ``(height, width)``."""
        rows = (np.arange(window.height) + window.row_off).astype(int) // self.stride - self.row
        cols = (np.arange(window.width) + window.col_off).astype(int) // self.stride - self.col
        covered: BoolArray = self.valid[rows[:, None], cols[None, :]]
        return covered


def _span(begin: float, length: float, stride: int, first: int, count: int) -> slice:
    """Return which of ``count`` places from ``first`` on the pixels of an axis need."""
    start = max(0, int(begin) // stride - _MARGIN - first)
    return slice(start, min(count, -(-int(begin + length) // stride) + _MARGIN - first))


@dataclasses.dataclass(frozen=True)
class FeatureRasters:
    """How the rasters of features of both dates are read. Make it with :meth:`between`.

    Attributes
    ----------
    paths : tuple of str
    bands : tuple of tuple of int
        Numbers of the bands of each, from 1.
    lattice : Grid
        Of the places.
    stride : int
        Pixels of the pair along the side of a place.
    warps : tuple of Warp or None
        How each gets onto the lattice; None where it is on it.
    fills : tuple of tuple of float
        Values of an undeclared rim of each, which mean "no data"; empty for none.
    """

    paths: tuple[str, str]
    bands: tuple[tuple[int, ...], tuple[int, ...]]
    lattice: Grid
    stride: int
    warps: tuple[Warp | None, Warp | None]
    fills: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())

    @classmethod
    def between(
        cls, pair: tuple[Grid, str], before: tuple[DatasetReader, str], after: tuple[DatasetReader, str]
    ) -> FeatureRasters:
        """Return how to read features of a pair.

        Parameters
        ----------
        pair : tuple of Grid and str
            The grid of the pair, and the name of the before image.
        before, after : tuple of dataset and str
            Features of each date with their path: of any resolution, on any grid that overlaps.

        Raises
        ------
        BandError
            The two have different numbers of bands, or complex ones.
        GridError
            One has no georeference, or does not overlap the pair.
        """
        grid, name = pair
        paths = before[1], after[1]
        numbers = data_bands(*before), data_bands(*after)
        if len(numbers[0]) != len(numbers[1]):
            raise BandError(
                f"different numbers of features: {len(numbers[0])} bands in {paths[0]}, {len(numbers[1])} in "
                f"{paths[1]}. Features of both dates must come from one model, in one order.",
                before=len(numbers[0]),
                after=len(numbers[1]),
            )
        grids = []
        for dataset, path in (before, after):
            own = grid_of(dataset, path)
            grids.append(dataclasses.replace(own, crs=grid.crs) if same_crs(own.crs, grid.crs) else own)
        scales = [Warp.between(own, grid, (name, path)).scale for own, path in zip(grids, paths, strict=True)]
        stride = _stride([1 / max(scale) for scale in scales])
        lattice = _lattice(grid, stride, grids)
        first, second = (
            None if same_grid(lattice, own) else Warp.between(own, lattice, (name, path))
            for own, path in zip(grids, paths, strict=True)
        )
        rasters = cls(paths, numbers, lattice, stride, (first, second))
        fills = []
        for source in rasters._sources((before[0], after[0])):
            try:
                rim = undeclared_rim(dataclasses.replace(source, warp=None))
            except RasterReadError:  # raised again by whoever needs these pixels
                rim = None
            fills.append(() if rim is None or not rim.excluded else rim.values)
        return dataclasses.replace(rasters, fills=(fills[0], fills[1]))

    @property
    def channels(self) -> int:
        """Number of features of a date."""
        return len(self.bands[0])

    def shifted(self, row: float, col: float) -> FeatureRasters:
        """Return this with the features of the after image moved as the image is, by pixels of the pair."""
        first, second = self.warps
        warp = second or Warp.between(self.lattice, self.lattice)
        shift = row / self.stride, col / self.stride
        return dataclasses.replace(self, warps=(first, dataclasses.replace(warp, shift=shift)))

    def read(self, datasets: tuple[DatasetReader, DatasetReader], window: Window) -> FeatureChip:
        """Return the features around a window of the pair.

        Parameters
        ----------
        datasets : tuple of dataset
            This thread's own, before and after.
        window : rasterio.windows.Window
            Whole pixels of the pair.

        Raises
        ------
        RasterReadError
        """
        rows = _span(window.row_off, window.height, self.stride, 0, self.lattice.height)
        cols = _span(window.col_off, window.width, self.stride, 0, self.lattice.width)
        places = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
        dates, valid = [], np.ones((int(places.height), int(places.width)), dtype=bool)
        for source in self._sources(datasets):
            values, usable = read_date(source, places)
            dates.append(_scaled(source, values))
            valid &= usable
        for values in dates:
            values[:, ~valid] = 0
        return FeatureChip(dates[0], dates[1], valid, self.stride, rows.start, cols.start)

    def _sources(self, datasets: tuple[DatasetReader, DatasetReader]) -> list[DateSource]:
        parts = zip(datasets, self.paths, self.bands, self.warps, self.fills, strict=True)
        return [
            DateSource(dataset, path, bands, np.float32, warp=warp, fill=fill)
            for dataset, path, bands, warp, fill in parts
        ]


def _lattice(grid: Grid, stride: int, features: Sequence[Grid]) -> Grid:
    """Return the grid of places of so many pixels; the last ones may reach beyond the pair.

    Where features lie on it as they are and go on beyond the pair, some of these places are taken too: the
    map of places is interpolated between them.
    """
    rows, cols = (-(-length // stride) for length in grid.shape)
    lattice = dataclasses.replace(grid, height=rows * stride, width=cols * stride).resized(rows, cols)
    if not all(same_grid(lattice, dataclasses.replace(own, height=rows, width=cols)) for own in features):
        return lattice
    beyond = (
        max(count, min(count + _MARGIN, *lengths))
        for count, *lengths in (
            (rows, *(own.height for own in features)),
            (cols, *(own.width for own in features)),
        )
    )
    rows, cols = beyond
    return dataclasses.replace(lattice, height=rows, width=cols)


def _stride(sizes: Sequence[float]) -> int:
    """Return the width of a place in pixels of the pair, from those of the features' pixels."""
    size = min(sizes)
    whole = math.floor(size)
    if math.ceil(size) - size < _NEARLY * size:
        whole = math.ceil(size)
    return min(max(1, whole), MOST_PIXELS)


def _scaled(source: DateSource, values: PixelArray) -> Float32Array:
    """Return features with scale and offset of their band metadata: quantised ones have them."""
    for position, index in enumerate(source.indexes):
        scale, offset = source.dataset.scales[index - 1], source.dataset.offsets[index - 1]
        if (scale, offset) != (1.0, 0.0):
            values[position] = values[position] * np.float32(scale) + np.float32(offset)
    return np.asarray(values, np.float32)


__all__ = ["FeatureChip", "FeatureRasters"]
