"""Tiles back into one raster: weighted blend, flushed in finished block rows.

Memory is one row of tiles and less than a row of blocks, whatever the height of the raster. Tiles must be
added in the order of their :class:`~geocd.tiles.tiling.Tiling`, so that the floating point sums, and with
them every output byte, do not depend on how many tiles are computed at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from rasterio.windows import Window

from geocd.raster.grid import inside
from geocd.tiles.tiling import Tile, Tiling
from geocd.types import Float32Array


class Mosaic:
    """Blend overlapping tiles and pass finished rows on.

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
        flush: Callable[[int, Float32Array], None],
        *,
        bands: int = 1,
        block: int = 512,
    ) -> None:
        self._tiling = tiling
        self._flush = flush
        self._block = block
        self._first = 0  # row of the raster that is row 0 of the two sums
        self._next = 0  # index of the tile that must come next
        # less than a row of blocks waits for the next row of tiles
        rows = min(tiling.height, block + tiling.tile_shape[0])
        self._sum = np.zeros((bands, rows, tiling.width), dtype=np.float32)
        self._weight = np.zeros((rows, tiling.width), dtype=np.float32)

    def add(self, tile: Tile, values: Float32Array) -> None:
        """Add a tile.

        Parameters
        ----------
        tile : Tile
            The next tile of the tiling.
        values : ndarray, (bands, height, width), float32
            NaN (in the first band) where not valid: such pixels take no part in the blend.

        Raises
        ------
        ValueError
            The tile is not the next one.
        """
        expected = self._tiling[self._next]
        if tile != expected:
            raise ValueError(f"tile {tile} came out of order, {expected} was expected")
        self._next += 1
        top, left = int(tile.window.row_off), int(tile.window.col_off)
        height, width = int(tile.window.height), int(tile.window.width)
        if tile.col == 0:
            self._flush_until(top)
        valid = np.isfinite(values[0])
        weight = np.where(valid, self._tiling.weight(tile), np.float32(0))
        rows = slice(top - self._first, top - self._first + height)
        cols = slice(left, left + width)
        self._sum[:, rows, cols] += np.where(valid, values, np.float32(0)) * weight
        self._weight[rows, cols] += weight

    def finish(self) -> None:
        """Flush the remaining rows.

        Raises
        ------
        ValueError
            Tiles are missing.
        """
        if self._next != len(self._tiling):
            raise ValueError(f"only {self._next} of {len(self._tiling)} tiles were added")
        self._flush_until(self._tiling.height, last=True)

    def _flush_until(self, row: int, *, last: bool = False) -> None:
        """Pass on all rows above ``row`` that fill whole blocks, and make room for as many."""
        end = row if last else row // self._block * self._block
        count = end - self._first
        if count <= 0:
            return
        for begin in range(0, count, self._block):
            rows = slice(begin, min(begin + self._block, count))
            self._flush(self._first + begin, _mean(self._sum[:, rows], self._weight[rows]))
        for sums in (*self._sum, self._weight):
            rest = len(sums) - count
            sums[:rest] = sums[count:]
            sums[rest:] = 0
        self._first = end


def blend(tiling: Tiling, window: Window, tiles: Sequence[tuple[Tile, Float32Array]]) -> Float32Array:
    """Return what :class:`Mosaic` yields inside a window, bit for bit.

    Parameters
    ----------
    tiling : Tiling
    window : rasterio.windows.Window
        Whole pixels, inside the grid.
    tiles : sequence of tuple
        All that touch the window, in the order of the tiling, with their values, ``(bands, height, width)``.

    Returns
    -------
    ndarray, (bands, height, width), float32
        NaN where no tile had a value.
    """
    height, width = int(window.height), int(window.width)
    total = np.zeros((tiles[0][1].shape[0], height, width), dtype=np.float32)
    weights = np.zeros((height, width), dtype=np.float32)
    for tile, values in tiles:
        shared = window.intersection(tile.window)
        (rows, cols), part = inside(window, shared), inside(tile.window, shared)
        values = values[(slice(None), *part)]
        valid = np.isfinite(values[0])
        weight = np.where(valid, tiling.weight(tile)[part], np.float32(0))
        total[:, rows, cols] += np.where(valid, values, np.float32(0)) * weight
        weights[rows, cols] += weight
    return _mean(total, weights)


def _mean(total: Float32Array, weight: Float32Array) -> Float32Array:
    """Return the weighted mean, NaN where nothing has a weight."""
    # not the NaN of 0 / 0, whose sign depends on the processor
    mean = np.full_like(total, np.nan)
    return np.divide(total, weight, out=mean, where=weight > 0)
