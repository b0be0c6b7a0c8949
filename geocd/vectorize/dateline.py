"""Polygons in longitude and latitude where they cross 180 degrees: in one piece, or cut there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely

if TYPE_CHECKING:
    import geopandas


def in_one_piece(shapes: geopandas.GeoSeries) -> geopandas.GeoSeries:
    """Return polygons that were transformed to longitude and latitude with continuous longitudes.

    A transformation returns longitudes of -180 to 180, so that a polygon across 180 degrees gets vertices at
    both ends and seems to run around the globe. Its negative longitudes become those of 180 to 360.
    """
    bounds = shapes.bounds
    wide = (bounds.maxx - bounds.minx > 180).to_numpy()
    if not wide.any():
        return shapes

    def eastward(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack([np.where(xy[:, 0] < 0, xy[:, 0] + 360, xy[:, 0]), xy[:, 1]])

    geometries = shapes.to_numpy().copy()
    geometries[wide] = [shapely.transform(shape, eastward) for shape in geometries[wide]]
    return shapes.__class__(geometries, index=shapes.index, crs=shapes.crs)


def cut(shapes: geopandas.GeoSeries) -> geopandas.GeoSeries:
    """Return polygons cut at 180 degrees, all within -180 to 180, as RFC 7946 wants."""
    bounds = shapes.bounds
    beyond = ((bounds.minx < -180) | (bounds.maxx > 180)).to_numpy()
    if not beyond.any():
        return shapes
    geometries = shapes.to_numpy().copy()
    geometries[beyond] = [_cut(shape) for shape in geometries[beyond]]
    return shapes.__class__(geometries, index=shapes.index, crs=shapes.crs)


def _cut(shape: shapely.Geometry) -> shapely.Geometry:
    parts: list[shapely.Geometry] = []
    for turn in (-360, 0, 360):
        piece = shape.intersection(shapely.box(turn - 180, -90, turn + 180, 90))
        piece = shapely.transform(piece, lambda xy, turn=turn: xy - [turn, 0])
        parts += [part for part in shapely.get_parts(piece) if part.geom_type == "Polygon" and part.area]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


__all__ = ["cut", "in_one_piece"]
