"""Sums over the pixels of regions that are added in parts, of what the images show there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rasterio.windows import Window

from geocd.raster.pair import Chip, Pair
from geocd.raster.writer import BLOCK_SIZE
from geocd.types import Float64Array, IntArray, PixelArray


class RegionSums:
    """Sum values of pixels over regions that are added in parts; what is summed, :meth:`values` says.

    In memory is a row of sums for each region in each block of pixels that it has a part in.

    Parameters
    ----------
    pair : Pair
        Read only where something changed, block by block.
    width : int
        Number of the values of a pixel.
    reach : int
        Pixels around a pixel that its values depend on.
    """

    def __init__(self, pair: Pair, width: int, reach: int = 0) -> None:
        self._pair = pair.without_features()
        self._width, self._reach = width, reach
        self._labels: list[IntArray] = []
        self._sums: list[Float64Array] = []

    def values(self, chip: Chip, row: IntArray, col: IntArray) -> Iterator[PixelArray]:
        """Yield the values, ``(n,)`` each, of valid pixels at some positions in a chip."""
        raise NotImplementedError

    def add(self, label: IntArray, row: IntArray, col: IntArray) -> None:
        """Add pixels, none of them twice.

        Parameters
        ----------
        label, row, col : ndarray, (n,), int64
            Label of the region, 1 or more, and position on the grid of the pair.

        Raises
        ------
        RasterReadError
            An image cannot be read.
        """
        for pixels in _by_block(row, col, self._pair.grid.width):
            self._add_block(label[pixels], row[pixels], col[pixels])

    def _add_block(self, label: IntArray, row: IntArray, col: IntArray) -> None:
        """Add pixels of one block."""
        top, left = int(row.min()), int(col.min())
        window = Window(left, top, int(col.max()) - left + 1, int(row.max()) - top + 1)
        around = self._pair.grid.around(window, self._reach)
        chip = self._pair.read(around)
        row, col = row - int(around.row_off), col - int(around.col_off)
        valid = chip.valid[row, col]  # all of them, unless the probability comes from another pair
        row, col = row[valid], col[valid]
        labels, index = np.unique(label[valid], return_inverse=True)
        sums = np.empty((labels.size, 1 + self._width))
        sums[:, 0] = np.bincount(index, minlength=labels.size)
        for column, weights in enumerate(self.values(chip, row, col), 1):
            sums[:, column] = np.bincount(index, weights=weights, minlength=labels.size)
        self._labels.append(labels)
        self._sums.append(sums)

    def total(self, index: IntArray, count: int) -> Float64Array:
        """Return the number of valid pixels of all regions, and the sums of their values.

        Parameters
        ----------
        index : ndarray, (labels,), int64
            Row of the result for each label used so far, -1 where its region is left out.
        count : int
            Number of rows of the result.

        Returns
        -------
        ndarray, (count, 1 + width), float64
        """
        total = np.zeros((count, 1 + self._width))
        for labels, part in zip(self._labels, self._sums, strict=True):
            included = index[labels] >= 0
            np.add.at(total, index[labels[included]], part[included])
        return total


def _by_block(row: IntArray, col: IntArray, width: int) -> Iterator[IntArray]:
    """Yield the indexes of pixels, block by block of a raster of this width."""
    block = row // BLOCK_SIZE * (1 + width // BLOCK_SIZE) + col // BLOCK_SIZE
    order = np.argsort(block, kind="stable")
    for pixels in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
        if pixels.size:
            yield pixels


__all__ = ["RegionSums"]
