"""Generalization of outlines: fill small holes, simplify, smooth, all without making overlaps.

Every function takes valid polygons that do not overlap, and returns the same number of such polygons; those
that touch in a corner still touch there.

Coordinates are pixels, ``(col, row)`` from the upper left corner of the raster. The corners of pixels are
integers there, and those of smoothed outlines binary fractions, so that nothing is rounded and corners that
touch are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import shapely

from geocd.types import BoolArray, Float64Array, IntArray, PixelArray

#: An array of shapely.Polygon.
Polygons = PixelArray

#: Corners whose surroundings are searched at once; limits the memory of the search.
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
        ``pixel_area(row, col)``: area of pixels in square metres.

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
    points = shapely.point_on_surface(polygons)
    _, occupied = shapely.STRtree(holes).query(points, predicate="within")
    inner = np.delete(inner, np.unique(occupied))

    keep = np.ones(rings.size, dtype=bool)
    keep[inner] = False
    altered = np.unique(owner[inner])
    keep &= np.isin(owner, altered)
    filled = polygons.copy()
    filled[altered] = shapely.polygons(rings[keep], indices=np.searchsorted(altered, owner[keep]))
    return filled


def simplify(polygons: Polygons, tolerance: float, sides: tuple[float, float]) -> Polygons:
    """Return the polygons with fewer corners: those with the smallest triangles are removed.

    The algorithm of Visvalingam and Whyatt, as implemented by GEOS for a coverage (``coverage_simplify``): a
    corner is removed while its triangle is smaller than ``tolerance ** 2`` and contains no other outline;
    corners in which outlines touch stay. Polygons smaller than ``(2 * tolerance) ** 2`` would become
    triangles: they keep their outline, unless that of a neighbour has grown into it.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon, (n,)
        With integer coordinates.
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
    # Corners are selected, not moved: rounding restores their coordinates.
    simple = shapely.transform(simple, lambda points: np.rint(points / sides))

    small = np.flatnonzero(shapely.area(metres) < (2 * tolerance) ** 2)
    result: Polygons = simple.copy()
    result[small] = polygons[small]
    polygon, neighbour = shapely.STRtree(result).query(result[small], predicate="intersects")
    polygon = small[polygon]
    polygon, neighbour = polygon[polygon != neighbour], neighbour[polygon != neighbour]
    # Two small polygons never overlap: both have their original outlines.
    overlap = ~shapely.touches(result[polygon], result[neighbour])
    overlap |= ~shapely.intersects(polygons[polygon], polygons[neighbour])  # they did not touch before
    simplified = np.unique(polygon[overlap])
    result[simplified] = simple[simplified]
    return result


def smooth(polygons: Polygons, rounds: int) -> Polygons:
    """Return the polygons with their corners cut at a quarter of each side, ``rounds`` times.

    The algorithm of Chaikin (1974). A corner stays where another outline touches it, or is so near that the
    cut would reach it. Each round doubles the number of corners.

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon, (n,)
    rounds : int
        At most 5; with more, coordinates would be rounded.

    Returns
    -------
    ndarray of shapely.Polygon, (n,)

    Notes
    -----
    A cut is safe if its triangle intersects no side of any outline but its own two. Two safe triangles cannot
    overlap either: where the borders of two triangles cross, or one contains the end of the other's cut, a
    side of one lies in the other.
    """
    for _ in range(rounds):
        rings, owner = shapely.get_rings(polygons, return_index=True)
        points, ring = shapely.get_coordinates(rings, return_index=True)
        last = np.flatnonzero(np.diff(ring, append=-1))
        points, ring = np.delete(points, last, axis=0), np.delete(ring, last)  # it repeats the first one
        number = np.arange(ring.size)
        first = np.flatnonzero(np.diff(ring, prepend=-1))
        end = np.append(first[1:], ring.size) - 1
        following, previous = number + 1, number - 1
        following[end], previous[first] = first, end

        cut = np.stack(
            [0.75 * points + 0.25 * points[previous], points, 0.75 * points + 0.25 * points[following]],
            axis=1,
        )
        safe = _safe(cut, np.stack([points, points[following]], axis=1), previous)
        keep = np.stack([safe, ~safe, safe], axis=1)
        rings = shapely.linearrings(cut[keep], indices=np.repeat(ring, 1 + safe))
        polygons = shapely.polygons(rings, indices=owner)
    return polygons


def _safe(triangles: Float64Array, sides: Float64Array, previous: IntArray) -> BoolArray:
    """Tell which corners may be cut.

    Parameters
    ----------
    triangles : ndarray, (n, 3, 2), float64
        The triangle that would be cut off, or filled, at each corner.
    sides : ndarray, (n, 2, 2), float64
        The side that begins at each corner.
    previous : ndarray, (n,), int64
        The corner before each corner, where its other side begins.

    Returns
    -------
    ndarray, (n,), bool
    """
    along, onward = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 1]
    safe: BoolArray = along[:, 0] * onward[:, 1] != along[:, 1] * onward[:, 0]  # else it is straight
    top, bottom = triangles[..., 1].min(axis=1), triangles[..., 1].max(axis=1)
    side_top, side_bottom = sides[..., 1].min(axis=1), sides[..., 1].max(axis=1)
    order = np.flatnonzero(safe)
    order = order[np.argsort(top[order], kind="stable")]
    for start in range(0, order.size, CHUNK):
        chunk = order[start : start + CHUNK]
        near = np.flatnonzero((side_bottom >= top[chunk].min()) & (side_top <= bottom[chunk].max()))
        tree = shapely.STRtree(shapely.linestrings(sides[near]))
        corner, side = tree.query(shapely.polygons(triangles[chunk]), predicate="intersects")
        corner, side = chunk[corner], near[side]
        safe[corner[(side != corner) & (side != previous[corner])]] = False
    return safe


__all__ = ["fill_holes", "simplify", "smooth"]
