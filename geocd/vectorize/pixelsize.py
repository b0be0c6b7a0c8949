"""Area and length of pixels and polygons on the ellipsoid."""

from __future__ import annotations

import itertools
import math
from typing import cast

import numpy as np
import pyproj
import shapely
from scipy import ndimage

from geocd.raster.grid import Grid
from geocd.types import Float64Array, PixelArray


class PixelSize:
    """Area and sides of the pixels of a grid on the ellipsoid.

    They change so slowly from pixel to pixel that they are computed at the nodes of a coarse lattice and
    interpolated (relative error below 1e-5 for pixels up to a few kilometres).

    Measuring each polygon as a geodesic polygon would be slower and less accurate: geodesics would join its
    corners, where the sides of pixels are parallels or straight lines of the projection. A region one pixel
    high and 10 km long at 60 degrees north loses a fifth of its area that way. Sums over pixels also add up:
    two halves have the area of the whole.

    Parameters
    ----------
    grid : Grid

    Attributes
    ----------
    width : int
        Number of columns of the grid.
    sides : tuple of float
        Width and height of the middle pixel, in metres.
    unit : float
        Areas are summed in multiples of this, in square metres: about 2**-26 of a pixel.
    """

    def __init__(self, grid: Grid) -> None:
        self.width: int = grid.width
        self._height = grid.height
        self._grid = grid
        crs = pyproj.CRS.from_wkt(grid.crs.to_wkt())
        ellipsoid = crs.ellipsoid
        if ellipsoid is None:
            self._unit: float = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
            self._to_lonlat = None
        else:
            self._a = ellipsoid.semi_major_metre
            self._e2 = 1 - (ellipsoid.semi_minor_metre / self._a) ** 2
            # Degrees on the CRS's own ellipsoid: no datum shift, no other units (grads, feet).
            lonlat = pyproj.CRS.from_dict(
                {"proj": "longlat", "a": self._a, "b": ellipsoid.semi_minor_metre, "no_defs": True}
            )
            self._to_lonlat = pyproj.Transformer.from_crs(crs, lonlat, always_xy=True)
            self._geod = pyproj.Geod(a=self._a, b=ellipsoid.semi_minor_metre)
        middle = self._measure(np.array([self._height / 2]), np.array([self.width / 2]))
        size = float(np.nanmax(middle[1:])) if np.isfinite(middle[1:]).any() else 1.0
        self.sides = cast(
            tuple[float, float], tuple(np.nan_to_num(middle[1:, 0], nan=1.0, posinf=1.0).tolist())
        )
        step = min(512.0, max(1.0, 20_000 / size))
        rows = np.linspace(0, self._height - 1, 1 + math.ceil((self._height - 1) / step))
        cols = np.linspace(0, self.width - 1, 1 + math.ceil((self.width - 1) / step))
        self._per_row = (len(rows) - 1) / max(self._height - 1, 1)
        self._per_col = (len(cols) - 1) / max(self.width - 1, 1)
        row, col = np.meshgrid(rows + 0.5, cols + 0.5, indexing="ij")
        self._lattice = self._measure(row, col)  # (3, rows, cols)
        largest = np.fmax.reduce(self._lattice[0], axis=None, where=np.isfinite(self._lattice[0]), initial=0)
        self.unit = 2.0 ** (math.ceil(math.log2(largest)) - 26) if largest else 1.0

    def _measure(self, row: Float64Array, col: Float64Array) -> Float64Array:
        """Return area, side along the row and side along the column, stacked, of pixels at these centres."""
        right = self._position(row, col + 0.5) - self._position(row, col - 0.5)
        down = self._position(row + 0.5, col) - self._position(row - 0.5, col)
        area = np.linalg.norm(np.cross(right, down), axis=-1)
        return np.stack([area, np.linalg.norm(right, axis=-1), np.linalg.norm(down, axis=-1)])

    def _position(self, row: Float64Array, col: Float64Array) -> Float64Array:
        """Return geocentric coordinates in metres, which have no pole and no date line."""
        x, y = self._grid.to_xy(col, row)
        if self._to_lonlat is None:
            return np.stack([x, y, np.zeros_like(x)], axis=-1) * self._unit
        lon, lat = np.radians(self._to_lonlat.transform(x, y))
        with np.errstate(invalid="ignore"):  # infinite where the projection does not reach
            normal = self._a / np.sqrt(1 - self._e2 * np.sin(lat) ** 2)
            x, y = normal * np.cos(lat) * np.cos(lon), normal * np.cos(lat) * np.sin(lon)
            return np.stack([x, y, normal * (1 - self._e2) * np.sin(lat)], axis=-1)

    def _interpolate(self, measure: int, row: PixelArray, col: PixelArray) -> Float64Array:
        """Return one of the three measures of the lattice at pixels."""
        nodes = np.stack([row * self._per_row, col * self._per_col])
        return cast(
            Float64Array, ndimage.map_coordinates(self._lattice[measure], nodes, order=1, mode="nearest")
        )

    def area(self, row: PixelArray, col: PixelArray) -> Float64Array:
        """Return the area of pixels.

        Parameters
        ----------
        row, col : ndarray, (n,)

        Returns
        -------
        ndarray, (n,), float64
            In square metres; NaN outside the domain of the projection.
        """
        return self._interpolate(0, row, col)

    def length(
        self,
        row: PixelArray,
        col: PixelArray,
        next_row: PixelArray,
        next_col: PixelArray,
    ) -> Float64Array:
        """Return the length of lines along the sides of pixels.

        Parameters
        ----------
        row, col, next_row, next_col : ndarray, (n,)
            The two ends of each line, both corners of pixels in the same row or column.

        Returns
        -------
        ndarray, (n,), float64
            In metres.
        """
        middle = (row + next_row) / 2 - 0.5, (col + next_col) / 2 - 0.5
        across, down = np.abs(next_col - col), np.abs(next_row - row)
        # One of the two is zero; both are computed because that is cheaper than choosing.
        lengths: Float64Array = across * self._interpolate(1, *middle) + down * self._interpolate(2, *middle)
        return lengths

    def measure(self, polygons: PixelArray) -> tuple[Float64Array, Float64Array]:
        """Return areas and perimeters of any polygons in the CRS of the grid.

        They are measured as geodesic polygons, after their sides were cut into pieces so short that a
        geodesic deviates from the straight line by no more than a ten-thousandth of a pixel.

        Parameters
        ----------
        polygons : ndarray of shapely.Polygon, (n,)

        Returns
        -------
        area, perimeter : ndarray, (n,), float64
            In square metres and metres, the perimeter with that of holes; NaN outside the domain of the
            projection.
        """
        if self._to_lonlat is None:
            return shapely.area(polygons) * self._unit**2, shapely.length(polygons) * self._unit
        pixel = math.sqrt(math.prod(self.sides))
        piece = math.sqrt(1000 * pixel) * math.sqrt(abs(self._grid.transform.determinant)) / pixel
        areas, perimeters = np.zeros(len(polygons)), np.zeros(len(polygons))
        for start in range(0, len(polygons), 1000):  # the pieces of a thousand at a time
            rings, owner = shapely.get_rings(
                shapely.segmentize(polygons[start : start + 1000], piece), return_index=True
            )
            sign = np.where(np.diff(owner, prepend=-1) > 0, 1, -1)  # the outer ring comes first
            points, ring = shapely.get_coordinates(rings, return_index=True)
            lon, lat = self._to_lonlat.transform(points[:, 0], points[:, 1])
            ends = np.append(np.flatnonzero(np.diff(ring, prepend=-1)), ring.size)
            for number, (first, last) in enumerate(itertools.pairwise(ends)):
                if np.isfinite(lon[first:last]).all():
                    area, length = self._geod.polygon_area_perimeter(lon[first:last], lat[first:last])
                else:
                    area = length = math.nan
                areas[start + owner[number]] += sign[number] * abs(area)
                perimeters[start + owner[number]] += length
        return areas, perimeters


__all__ = ["PixelSize"]
