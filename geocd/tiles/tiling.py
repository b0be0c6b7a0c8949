"""Overlapping tiles: their windows and blending weights, no pixels.

Every pixel of the grid lies in at least one tile. All tiles of a grid have one size; where the grid is
not a multiple of the stride the tiles move closer together, or are made smaller, so that no tile is ever
padded with invented pixels.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from rasterio.windows import Window

from geocd.config import check_tile_size
from geocd.types import Float32Array, Part


@dataclasses.dataclass(frozen=True)
class Tile:
    """One tile.

    Attributes
    ----------
    row, col : int
        Row and column of tiles, from 0.
    window : rasterio.windows.Window
        Pixels of the tile, inside the raster.
    """

    row: int
    col: int
    window: Window


def least_size(length: int, tile_size: int, overlap: int) -> int:
    """Return the smallest tile that covers ``length`` pixels by no more tiles than ``tile_size`` takes.

    What neighbours share beyond ``overlap`` would be computed twice in vain.
    """
    if length <= tile_size:
        return length
    count = math.ceil((length - overlap) / (tile_size - overlap))
    return math.ceil((length - overlap) / count) + overlap


def starts(length: int, tile_size: int, overlap: int) -> list[int]:
    """Return where the tiles begin along one axis of ``length`` pixels.

    Neighbours share at least ``overlap`` pixels; the first begins at 0 and the last ends at ``length``.
    """
    if length <= tile_size:
        return [0]
    count = math.ceil((length - overlap) / (tile_size - overlap))
    last = length - tile_size
    return [round(i * last / (count - 1)) for i in range(count)]


#: Smallest blending weight: a pixel that only the margin of a tile covers still gets that tile's value.
LEAST_WEIGHT = 1e-6


def ramp(begin: list[int], size: int, index: int, margin: int) -> Float32Array:
    """Return the blending weight along one axis of the tile ``index``, shape ``(size,)``, in (0, 1].

    1 in the middle; towards a neighbour it falls linearly over what both tiles share, leaving out the
    outermost ``margin`` pixels of each, where values lack a part of their surroundings. The weights of
    two neighbours sum to one over what they share.
    """
    position = np.arange(size, dtype=np.float32) + 0.5
    weight = np.ones(size, dtype=np.float32)
    if index > 0:
        weight = np.minimum(weight, _rise(position, begin[index - 1] + size - begin[index], margin))
    if index + 1 < len(begin):
        weight = np.minimum(weight, _rise(size - position, begin[index] + size - begin[index + 1], margin))
    return np.maximum(weight, np.float32(LEAST_WEIGHT))


def _rise(position: Float32Array, shared: int, margin: int) -> Float32Array:
    """Return a line from 0 to 1 over the inner part of ``shared`` pixels, which goes on outside it."""
    if shared <= 0:
        return np.ones_like(position)
    margin = usable_margin(shared, margin)
    return (position - np.float32(margin)) / np.float32(shared - 2 * margin)


def usable_margin(shared: int, margin: int) -> int:
    """Return how many pixels of ``margin`` can be left out on each side of an overlap of ``shared`` pixels.

    At least two pixels (one, where no more are shared) are left for the blend, however large the margin.
    """
    return min(margin, max(0, (shared - 2) // 2))


@dataclasses.dataclass(frozen=True)
class Border:
    """Where two neighbouring tiles meet along one axis; pixels of the raster.

    Attributes
    ----------
    begin, end : int
        First pixel of the second tile, and the first pixel behind the first tile.
    blend_begin, blend_end : int
        The blend: both tiles count in ``blend_begin <= pixel < blend_end``, and on either side of it only
        one of them (up to ``LEAST_WEIGHT``). Empty where nothing is shared.
    """

    begin: int
    end: int
    blend_begin: int
    blend_end: int


def borders(begin: list[int], size: int, margin: int) -> list[Border]:
    """Return the borders between tiles of ``size`` pixels that begin at ``begin``, in their order."""
    result = []
    for previous, start in itertools.pairwise(begin):
        end = previous + size
        usable = usable_margin(end - start, margin)
        result.append(Border(start, end, start + usable, end - usable))
    return result


def _needed(begin: list[int], size: int, index: int, margin: int) -> slice:
    """Return the pixels along one axis of the tile ``index`` that count, its blends included."""
    near = borders(begin[max(0, index - 1) : index + 2], size, margin)
    first = near[0].blend_begin - begin[index] if index > 0 else 0
    last = near[-1].blend_end - begin[index] if index + 1 < len(begin) else size
    return slice(first, last)


@dataclasses.dataclass(frozen=True)
class Tiling:
    """The tiles of a grid, in row-major order.

    Parameters
    ----------
    height, width : int
        Size of the raster in pixels.
    tile_size : int
        Side of a tile in pixels; less along an axis where the raster is smaller.
    overlap : int
        Smallest number of pixels that two neighbours share.
    margin : int
        Pixels around a pixel that its value depends on. That far inside their borders, neighbouring tiles
        have the same values, and only there they are blended.
    least : bool
        Whether tiles are only as large as their number asks for (:func:`least_size`).

    Raises
    ------
    ConfigError
        Overlap negative, or not smaller than the tile.
    """

    height: int
    width: int
    tile_size: int
    overlap: int
    margin: int = 0
    least: bool = False

    def __post_init__(self) -> None:
        check_tile_size(self.tile_size, self.overlap)

    @cached_property
    def row_starts(self) -> list[int]:
        """First row of each row of tiles."""
        return starts(self.height, self.tile_shape[0], self.overlap)

    @cached_property
    def col_starts(self) -> list[int]:
        """First column of each column of tiles."""
        return starts(self.width, self.tile_shape[1], self.overlap)

    @property
    def tile_shape(self) -> tuple[int, int]:
        """``(height, width)`` of every tile."""
        if self.least:
            height, width = (least_size(n, self.tile_size, self.overlap) for n in (self.height, self.width))
            return height, width
        return min(self.tile_size, self.height), min(self.tile_size, self.width)

    def __len__(self) -> int:
        return len(self.row_starts) * len(self.col_starts)

    def __getitem__(self, index: int) -> Tile:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, col = divmod(index, len(self.col_starts))
        height, width = self.tile_shape
        return Tile(row, col, Window(self.col_starts[col], self.row_starts[row], width, height))

    def __iter__(self) -> Iterator[Tile]:
        return (self[index] for index in range(len(self)))

    def needed(self, tile: Tile) -> Part:
        """Return the rows and columns of a tile that count: of all others, a neighbour has better values."""
        height, width = self.tile_shape
        rows = _needed(self.row_starts, height, tile.row, self.margin)
        return rows, _needed(self.col_starts, width, tile.col, self.margin)

    def weight(self, tile: Tile) -> Float32Array:
        """Return the blending weight of a tile, ``(height, width)``, in (0, 1]."""
        height, width = self.tile_shape
        down = ramp(self.row_starts, height, tile.row, self.margin)
        across = ramp(self.col_starts, width, tile.col, self.margin)
        return down[:, None] * across[None, :]
