"""The outline of a grid in longitude and latitude."""

from __future__ import annotations

import math

import numpy as np
import shapely
import shapely.affinity

from geocd.raster.grid import Grid

_EARTH = shapely.box(-180, -90, 180, 90)


def footprint(grid: Grid) -> tuple[dict[str, object] | None, list[float] | None]:
    """Return the outline of a grid in longitude and latitude (WGS 84).

    Edges are densified, because straight lines of a projection are curves in degrees.

    Returns
    -------
    geometry : dict or None
        GeoJSON: a polygon, or a multipolygon where the grid crosses the antimeridian. A grid around a pole
        reaches up to it. None where the CRS cannot be transformed to longitude and latitude.
    bbox : list of float or None
        West, south, east and north in degrees; west is greater than east where the grid crosses the
        antimeridian (RFC 7946). None where ``geometry`` is.
    """
    steps = 16
    corners = grid.corners()
    ring = [
        (a[0] + (b[0] - a[0]) * i / steps, a[1] + (b[1] - a[1]) * i / steps)
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True)
        for i in range(steps)
    ]
    degrees = grid.lonlat([x for x, _ in ring], [y for _, y in ring])
    if degrees is None:
        return None, None
    lon, lat = (values.tolist() for values in degrees)
    # Longitudes without the jump at the antimeridian; around a pole, the ring ends 360° from its start.
    turns = np.unwrap([*lon, lon[0]], period=360)
    points = list(zip(turns.tolist(), [*lat, lat[0]], strict=True))
    if abs(turns[-1] - turns[0]) > 180:
        pole = math.copysign(90.0, float(np.mean(lat)))
        # The outline three times around the pole, so that a part of it spans [-180, 180].
        turn = float(turns[-1] - turns[0])
        points = [(x + k * turn, y) for k in (-1, 0, 1) for x, y in points[: -1 if k < 1 else None]]
        points += [(points[-1][0], pole), (points[0][0], pole)]
        shape = shapely.Polygon(points).buffer(0).intersection(_EARTH)
        return _geojson(shape), [-180.0, min(*lat, pole), 180.0, max(*lat, pole)]
    shape = shapely.Polygon(points)
    if grid.crs.is_geographic:
        shape = shape.simplify(1e-9)  # edges are straight: corners suffice
    west, south, east, north = shape.bounds
    shift = 360 * math.floor((west + 180) / 360)  # so that the west lies in [-180, 180)
    shape = shapely.affinity.translate(shape, xoff=-shift)
    west, east = west - shift, east - shift
    box = [round(v, 9) for v in (west, south, east - 360 if east > 180 else east, north)]
    return _geojson(shape), box


def _geojson(shape: shapely.Polygon) -> dict[str, object]:
    """Return a polygon as GeoJSON, counterclockwise, cut where its longitudes leave [-180, 180]."""
    if shape.bounds[0] < -180 or shape.bounds[2] > 180:
        turned = [shapely.affinity.translate(shape.buffer(0), xoff=turn) for turn in (-360, 0, 360)]
        parts = shapely.get_parts([piece.intersection(_EARTH) for piece in turned])
        pieces = [piece for piece in parts if piece.area > 0]
    else:
        pieces = [shape]
    rings = []
    for piece in pieces:
        # Without repeated points: a raster of a few millimetres has edges shorter than the rounding.
        points = np.round(shapely.get_coordinates(shapely.geometry.polygon.orient(piece).exterior), 9)
        keep = np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))
        rings.append([points[keep].tolist()])
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}


__all__ = [
    "footprint",
]
