"""Quieter outlines: fill small holes, simplify, smooth, all of them without overlaps.

Cartographers call it generalization. Every function takes polygons that are valid and do not overlap and
returns as many that are so too; those that touch in a corner still touch there.

Coordinates are pixels, ``(col, row)`` from the upper left corner of the raster. There the corners of the
pixels are whole numbers and those of the smoothed outlines binary fractions, so that nothing is rounded and
what touches is equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import shapely

from geocd.types import BoolArray, Float64Array, IntArray, PixelArray

#: An array of shapely.Polygon.
Polygons = PixelArray

#: Corners whose surroundings are looked at in one go; bounds the memory of the search.
CHUNK = 50_000


def fill_holes(
    polygons: Polygons, area: float, pixel_area: Callable[[Float64Array, Float64Array], Float64Array]
) -> Polygons:
    """Return the polygons without their small holes.

    A hole with another polygon in it stays open, or the two would overlap.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon, (n,)
    area : float
        Holes smaller than this many square metres are filled.
    pixel_area : callable
        ``pixel_area(row, col)``: square metres of the pixels there.

    Returns
    -------
    ndarray of shapely.Polygon, (n,)
    """
    rings, owner = shapely.get_rings(polygons, return_index=True)
    inner = np.flatnonzero(np.diff(owner, prepend=-1) == 0)  # the first ring of a polygon is its outer one
    holes = shapely.polygons(rings[inner])
    middle = shapely.get_coordinates(shapely.centroid(holes))
    size = shapely.area(holes) * pixel_area(middle[:, 1] - 0.5, middle[:, 0] - 0.5)
    small = size < area
    inner, holes = inner[small], holes[small]
    inside = shapely.point_on_surface(polygons)
    _, taken = shapely.STRtree(holes).query(inside, predicate="within")
    inner = np.delete(inner, np.unique(taken))

    keep = np.ones(rings.size, dtype=bool)
    keep[inner] = False
    altered = np.unique(owner[inner])
    keep &= np.isin(owner, altered)
    filled = polygons.copy()
    filled[altered] = shapely.polygons(rings[keep], indices=np.searchsorted(altered, owner[keep]))
    return filled


def simplify(polygons: Polygons, tolerance: float, sides: tuple[float, float]) -> Polygons:
    """Return the polygons with fewer corners: those are left out that bound the smallest triangles.

    The algorithm of Visvalingam and Whyatt, as GEOS has it for a coverage (``coverage_simplify``): a corner
    goes while its triangle is smaller than ``tolerance ** 2`` and no other outline is in it; corners in which
    outlines touch stay. Polygons smaller than ``(2 * tolerance) ** 2`` would be left as triangles: they keep
    their form, unless a neighbour's has grown into it.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon, (n,)
        With whole-numbered coordinates.
    tolerance : float
        In metres.
    sides : tuple of float
        Width and height of a pixel in metres.

    Returns
    -------
    ndarray of shapely.Polygon, (n,)
    """
    metres = shapely.transform(polygons, lambda points: points * sides)
    simple = shapely.coverage_simplify(metres, tolerance)
    # Corners are chosen, not moved: the nearest whole number is what they were.
    simple = shapely.transform(simple, lambda points: np.rint(points / sides))

    small = np.flatnonzero(shapely.area(metres) < (2 * tolerance) ** 2)
    result: Polygons = simple.copy()
    result[small] = polygons[small]
    one, other = shapely.STRtree(result).query(result[small], predicate="intersects")
    one = small[one]
    # Two small ones are as they were: apart, or touching.
    one, other = one[one != other], other[one != other]
    clash = ~shapely.touches(result[one], result[other])
    clash |= ~shapely.intersects(polygons[one], polygons[other])
    back = np.unique(one[clash])
    result[back] = simple[back]
    return result


def smooth(polygons: Polygons, rounds: int) -> Polygons:
    """Return the polygons with their corners cut, a quarter of each side off, ``rounds`` times.

    The algorithm of Chaikin (1974). A corner stays where another outline touches it, or comes so near that
    the cut would reach it. Each round doubles the number of corners.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon, (n,)
    rounds : int
        Five at most, or coordinates are rounded.

    Returns
    -------
    ndarray of shapely.Polygon, (n,)

    Notes
    -----
    A cut is safe if its triangle meets no side of any outline but its own two. Two safe triangles cannot
    overlap either: where the borders of two triangles cross, or one holds the end of another's cut, a side of
    one lies in the other.
    """
    for _ in range(rounds):
        rings, owner = shapely.get_rings(polygons, return_index=True)
        points, ring = shapely.get_coordinates(rings, return_index=True)
        last = np.flatnonzero(np.diff(ring, append=-1))
        points, ring = np.delete(points, last, axis=0), np.delete(ring, last)  # the closing one, a repetition
        number = np.arange(ring.size)
        first = np.flatnonzero(np.diff(ring, prepend=-1))
        end = np.append(first[1:], ring.size) - 1
        after, before = number + 1, number - 1
        after[end], before[first] = first, end

        cut = np.stack(
            [0.75 * points + 0.25 * points[before], points, 0.75 * points + 0.25 * points[after]], axis=1
        )
        safe = _safe(cut, np.stack([points, points[after]], axis=1), before)
        keep = np.stack([safe, ~safe, safe], axis=1)
        rings = shapely.linearrings(cut[keep], indices=np.repeat(ring, 1 + safe))
        polygons = shapely.polygons(rings, indices=owner)
    return polygons


def _safe(triangles: Float64Array, sides: Float64Array, before: IntArray) -> BoolArray:
    """Tell which corners may be cut.

    Parameters
    ----------
    triangles : ndarray, (n, 3, 2)
        What would be cut off, or filled, at each corner.
    sides : ndarray, (n, 2, 2)
        The side that begins at each corner.
    before : ndarray, (n,)
        The corner before each, where the other side begins.
    """
    along, onward = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 1]
    safe: BoolArray = along[:, 0] * onward[:, 1] != along[:, 1] * onward[:, 0]  # else it is no corner
    top, bottom = triangles[..., 1].min(axis=1), triangles[..., 1].max(axis=1)
    side_top, side_bottom = sides[..., 1].min(axis=1), sides[..., 1].max(axis=1)
    order = np.flatnonzero(safe)
    order = order[np.argsort(top[order], kind="stable")]
    for start in range(0, order.size, CHUNK):
        some = order[start : start + CHUNK]
        near = np.flatnonzero((side_bottom >= top[some].min()) & (side_top <= bottom[some].max()))
        tree = shapely.STRtree(shapely.linestrings(sides[near]))
        corner, side = tree.query(shapely.polygons(triangles[some]), predicate="intersects")
        corner, side = some[corner], near[side]
        safe[corner[(side != corner) & (side != before[corner])]] = False
    return safe


__all__ = [
    "fill_holes",
    "simplify",
    "smooth",
]
