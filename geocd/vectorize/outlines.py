"""Outlines of regions of pixels: traced from their corners, linked to rings and polygons.

Traced here rather than taken from ``rasterio.features.shapes``: that function needs the whole band at once,
and joining the polygons of its pieces takes a geometric union per polygon. A tracer needs only the corners
of the outlines, which are the same whichever strip they are found in.
"""

from __future__ import annotations

import array
import dataclasses

import numpy as np
import numpy.typing as npt
import shapely

from geocd.raster.grid import Grid
from geocd.types import Float64Array, IntArray, PixelArray
from geocd.vectorize.pixelsize import PixelSize

#: Directions of an outline, clockwise.
EAST, SOUTH, WEST, NORTH = range(4)
#: A pixel corner touches four pixels: upper left (bit 1), upper right (2), lower left (4), lower right (8).
#: By the changed ones among them: which pixel's region turns here, and the directions in which its outline
#: (the region on its right hand) comes and goes. No entry, no turn.
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
#: Where two changed pixels meet by the corner alone, the second one has its own turn.
SECOND_TURNS = {9: (3, NORTH, EAST), 6: (2, EAST, SOUTH)}


def _lookup(turns: dict[int, tuple[int, int, int]]) -> npt.NDArray[np.int8]:
    found = np.full((16, 3), -1, dtype=np.int8)
    for code, turn in turns.items():
        found[code] = turn
    return found


FIRST, SECOND = _lookup(TURNS), _lookup(SECOND_TURNS)


@dataclasses.dataclass
class Corners:
    """Turns of the outlines: one value each per array.

    ``twin`` is the label of the other region where two pixels meet by the corner alone, else 0.
    """

    label: IntArray
    twin: IntArray
    row: npt.NDArray[np.int32]
    col: npt.NDArray[np.int32]
    come: npt.NDArray[np.int8]
    go: npt.NDArray[np.int8]


def link_outlines(
    region: IntArray,
    row: npt.NDArray[np.int32],
    col: npt.NDArray[np.int32],
    come: npt.NDArray[np.int8],
    go: npt.NDArray[np.int8],
    grid: Grid,
    size: PixelSize,
) -> tuple[PixelArray, Float64Array]:
    """Link all corners of some regions, which are numbered from 0, to polygons, and measure their sides."""
    by_row = np.lexsort((col, row))
    region, row, col, come, go = region[by_row], row[by_row], col[by_row], come[by_row], go[by_row]

    # Along a row of corners, lines that run east begin and end in turn; likewise the other three.
    before = np.zeros(region.size, dtype=np.int64)
    by_col = np.lexsort((row, col))
    for direction, order in (
        (EAST, np.arange(region.size)),
        (WEST, np.arange(region.size)),
        (SOUTH, by_col),
        (NORTH, by_col),
    ):
        before[order[come[order] == direction]] = order[go[order] == direction]

    perimeter = np.bincount(region, weights=size.length(row[before], col[before], row, col))

    order, ring = _cycles(before)  # backwards: outer rings counter-clockwise on a north-up map
    points = np.stack(grid.to_xy(col[order].astype(np.float64), row[order].astype(np.float64)), axis=1)
    rings = shapely.linearrings(points, indices=ring)
    # A region's upper left corner lies on its outer ring, so of its rings that one was found first.
    starts = np.flatnonzero(np.diff(ring, prepend=-1))
    owner = region[order[starts]]
    by_owner = np.argsort(owner, kind="stable")
    polygons: PixelArray = shapely.polygons(rings[by_owner], indices=owner[by_owner])
    return polygons, perimeter.astype(np.float64, copy=False)


def _cycles(following: IntArray) -> tuple[IntArray, IntArray]:
    """Walk the cycles of a permutation.

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
        at, length = start, 0
        while onward[at] >= 0:
            order.append(at)
            length += 1
            after = onward[at]
            onward[at] = -1  # been here
            at = after
        if length:
            lengths.append(length)
    each = np.frombuffer(lengths, dtype=np.int64)
    return np.frombuffer(order, dtype=np.int64), np.repeat(np.arange(each.size), each)
