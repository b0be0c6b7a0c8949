"""Tiles back into one raster: weighted blend, flushed in finished block rows.

Memory is one row of tiles, whatever the height of the raster. Tiles must come in the order of their
:class:`~geocd.tiling.Tiling`, so the sum of floating point numbers, and with it every output byte, does
not depend on how many tiles are computed at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from geocd.tiling import Tile, Tiling

FloatArray = npt.NDArray[np.float32]


class Mosaic:
    """Blend overlapping tiles and hand finished rows on.

    Parameters
    ----------
    tiling : Tiling
    bands : int
    flush : callable
        Called as ``flush(row, values)`` with values ``(bands, rows, width)`` float32, NaN where no tile
        had a value; ``row`` is a multiple of ``block``, and so is the number of rows but for the last.
    block : int
        Block size of the raster that is written, in pixels.
    """

    def __init__(
        self,
        tiling: Tiling,
        flush: Callable[[int, FloatArray], None],
        *,
        bands: int = 1,
        block: int = 512,
    ) -> None:
        self._tiling = tiling
        self._flush = flush
        self._block = block
        self._first = 0  # row of the raster that is row 0 of the two sums
        self._next = 0  # index of the tile that must come next
        self._sum = np.zeros((bands, 0, tiling.width), dtype=np.float32)
        self._weight = np.zeros((0, tiling.width), dtype=np.float32)

    def add(self, tile: Tile, values: FloatArray) -> None:
        """Add a tile.

        Parameters
        ----------
        tile : Tile
            The next tile of the tiling.
        values : ndarray, (bands, height, width), float32
            NaN (in the first band) where not valid: such pixels take no part in the blend.
        """
        expected = self._tiling[self._next]
        if tile != expected:
            raise ValueError(f"tile {tile} came out of order, {expected} was expected")
        self._next += 1
        top, left = int(tile.window.row_off), int(tile.window.col_off)
        height, width = int(tile.window.height), int(tile.window.width)
        if tile.col == 0:
            self._flush_until(top)
            self._grow(top + height)
        valid = np.isfinite(values[0])
        weight = np.where(valid, self._tiling.weight(tile), np.float32(0))
        rows = slice(top - self._first, top - self._first + height)
        cols = slice(left, left + width)
        self._sum[:, rows, cols] += np.where(valid, values, np.float32(0)) * weight
        self._weight[rows, cols] += weight

    def finish(self) -> None:
        """Flush what is left; every tile must have come."""
        if self._next != len(self._tiling):
            raise ValueError(f"{self._next} of {len(self._tiling)} tiles came")
        self._flush_until(self._tiling.height, last=True)

    def _grow(self, until: int) -> None:
        missing = until - self._first - self._weight.shape[0]
        if missing > 0:
            bands, _, width = self._sum.shape
            self._sum = np.concatenate([self._sum, np.zeros((bands, missing, width), np.float32)], axis=1)
            self._weight = np.concatenate([self._weight, np.zeros((missing, width), np.float32)])

    def _flush_until(self, row: int, *, last: bool = False) -> None:
        """Hand on all rows above ``row`` that fill whole blocks."""
        end = row if last else row // self._block * self._block
        count = end - self._first
        if count <= 0:
            return
        done, weight = self._sum[:, :count], self._weight[:count]
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.where(weight > 0, done / weight, np.float32(np.nan)).astype(np.float32)
        for begin in range(0, count, self._block):
            self._flush(self._first + begin, values[:, begin : begin + self._block])
        self._sum, self._weight = self._sum[:, count:], self._weight[count:]
        self._first = end
