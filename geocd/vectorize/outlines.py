"""Outlines of regions of pixels: traced from their corners, linked to rings and polygons.

Not ``rasterio.features.shapes``, because that function needs the whole band at once, and joining the polygons
of its pieces takes a geometric union per polygon. This tracer needs only the corners of the outlines, which
do not depend on how the raster is cut into strips.
"""

from __future__ import annotations

import array
import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import shapely

from geocd.raster.grid import Grid
from geocd.types import Float64Array, IntArray, PixelArray
from geocd.vectorize.pixelsize import PixelSize

#: Directions of an outline, clockwise.
EAST, SOUTH, WEST, NORTH = range(4)
#: A pixel corner touches four pixels: upper left (bit 1), upper right (2), lower left (4), lower right (8).
#: By the sum of the bits of changed pixels: the pixel (0 to 3) whose outline turns here, and the directions
#: of the outline before and after the turn, with the region on its right. No entry: no turn.
TURNS = {
    1: (0, SOUTH, WEST),
    2: (1, WEST, NORTH),
    4: (2, EAST, SOUTH),
    8: (3, NORTH, EAST),
    7: (0, WEST, SOUTH),
    11: (0, NORTH, WEST),
    13: (0, SOUTH, EAST),
    14: (3, EAST, NORTH),
    9: (0, SOUTH, WEST),
    6: (1, WEST, NORTH),
}
#: Where two changed pixels touch only by the corner, the second one has a turn of its own.
SECOND_TURNS = {9: (3, NORTH, EAST), 6: (2, EAST, SOUTH)}


def _lookup(turns: dict[int, tuple[int, int, int]]) -> npt.NDArray[np.int8]:
    """Return an array of the turns by the code of the four pixels; -1 where the outline does not turn."""
    table = np.full((16, 3), -1, dtype=np.int8)
    for code, turn in turns.items():
        table[code] = turn
    return table


FIRST, SECOND = _lookup(TURNS), _lookup(SECOND_TURNS)


@dataclasses.dataclass
class Turns:
    """Corners of outlines: where an outline turns, and from which direction into which.

    Attributes
    ----------
    row, col : ndarray, (n,), int32
        Corner of pixels, counted from the upper left corner of the raster.
    incoming, outgoing : ndarray, (n,), int8
        Directions before and after the turn.
    """

    row: npt.NDArray[np.int32]
    col: npt.NDArray[np.int32]
    incoming: npt.NDArray[np.int8]
    outgoing: npt.NDArray[np.int8]

    @classmethod
    def concatenate(cls, parts: Sequence[Turns]) -> Turns:
        """Return the turns of all parts, in order."""
        return cls(
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.col for part in parts]),
            np.concatenate([part.incoming for part in parts]),
            np.concatenate([part.outgoing for part in parts]),
        )

    def take(self, index: IntArray) -> Turns:
        """Return the turns at these positions."""
        return Turns(self.row[index], self.col[index], self.incoming[index], self.outgoing[index])


@dataclasses.dataclass
class Corners:
    """Turns of the outlines with the labels of the regions there.

    Attributes
    ----------
    label : ndarray, (n,), int64
        Region whose outline turns.
    opposite : ndarray, (n,), int64
        The other region where two pixels touch only by the corner, else 0.
    turns : Turns
    """

    label: IntArray
    opposite: IntArray
    turns: Turns


def link_outlines(
    region: IntArray, turns: Turns, grid: Grid, size: PixelSize
) -> tuple[PixelArray, Float64Array]:
    """Link all corners of some regions to rings and polygons, and measure their sides.

    Parameters
    ----------
    region : ndarray, (n,), int64
        Region of each corner; regions are numbered from 0 without gaps.
    turns : Turns
        The n corners, in any order.
    grid : Grid
        Its transform gives the coordinates of the polygons; with the identity they are in pixels.
    size : PixelSize

    Returns
    -------
    polygons : ndarray of shapely.Polygon, (regions,)
    perimeter : ndarray, (regions,), float64
        In metres, with that of holes.
    """
    by_row = np.lexsort((turns.col, turns.row))
    region, turns = region[by_row], turns.take(by_row)
    row, col = turns.row, turns.col

    # Along a row of corners, lines that run east begin and end in turn; likewise the other three.
    previous = np.zeros(region.size, dtype=np.int64)
    by_col = np.lexsort((row, col))
    for direction, order in (
        (EAST, np.arange(region.size)),
        (WEST, np.arange(region.size)),
        (SOUTH, by_col),
        (NORTH, by_col),
    ):
        ends = order[turns.incoming[order] == direction]
        previous[ends] = order[turns.outgoing[order] == direction]

    perimeter = np.bincount(region, weights=size.length(row[previous], col[previous], row, col))

    order, ring = _cycles(previous)  # backwards: outer rings counter-clockwise on a north-up map
    points = np.stack(grid.to_xy(col[order].astype(np.float64), row[order].astype(np.float64)), axis=1)
    rings = shapely.linearrings(points, indices=ring)
    # The upper left corner of a region lies on its outer ring, so that ring is the first of the region.
    starts = np.flatnonzero(np.diff(ring, prepend=-1))
    owner = region[order[starts]]
    by_owner = np.argsort(owner, kind="stable")
    polygons: PixelArray = shapely.polygons(rings[by_owner], indices=owner[by_owner])
    return polygons, perimeter.astype(np.float64, copy=False)


def _cycles(following: IntArray) -> tuple[IntArray, IntArray]:
    """List the cycles of a permutation.

    Parameters
    ----------
    following : ndarray, (n,), int64
        Element that follows each one.

    Returns
    -------
    order : ndarray, int64
        The elements, cycle after cycle, each beginning with its lowest element, in the order of these.
    cycle : ndarray, int64
        Number of the cycle, from 0, for each element of ``order``.
    """
    # array instead of list: 8 bytes an element
    onward = array.array("q", np.ascontiguousarray(following, dtype=np.int64).tobytes())
    order, lengths = array.array("q"), array.array("q")
    for start in range(len(onward)):
        element, length = start, 0
        while onward[element] >= 0:
            order.append(element)
            length += 1
            successor = onward[element]
            onward[element] = -1  # visited
            element = successor
        if length:
            lengths.append(length)
    sizes = np.frombuffer(lengths, dtype=np.int64)
    return np.frombuffer(order, dtype=np.int64), np.repeat(np.arange(sizes.size), sizes)
