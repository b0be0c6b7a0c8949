"""``--aoi``: the part of a pair that is asked for, as whole pixels of the before raster."""

from __future__ import annotations

import dataclasses
import math
import re
import textwrap
from typing import TYPE_CHECKING

import numpy as np
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.features import geometry_mask
from rasterio.warp import transform
from rasterio.windows import Window

from geocd.errors import AreaError
from geocd.location import Location
from geocd.raster.grid import Grid, crs_label, same_grid
from geocd.raster.sources import is_file, why_no_vector
from geocd.types import BoolArray

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_BOUNDS = re.compile(r"\s*\[?\s*" + r"[\s,]+".join([_NUMBER] * 4) + r"\s*\]?\s*")
#: Also with a CRS of its own, as PostGIS writes it: ``SRID=4326;POLYGON ((...))``.
_WKT = re.compile(r"\s*(?:SRID=(\d{1,6});\s*)?((?:MULTI)?POLYGON\b.*)", re.IGNORECASE | re.DOTALL)
#: A side is straight in the CRS that the area is written in, and is cut into so many pieces for another one.
_PIECES = 64


@dataclasses.dataclass(frozen=True)
class Area:
    """The pixels of a grid whose centres lie in an area. Make it with :meth:`of`.

    Attributes
    ----------
    whole : Grid
        Of the before raster.
    window : rasterio.windows.Window
        The rows and columns of it that the area has pixels in.
    geometry : shapely geometry or None
        The area, in the CRS of the grid; None where it has every pixel of the window.
    """

    whole: Grid
    window: Window
    geometry: BaseGeometry | None = None

    @classmethod
    def of(cls, text: str, grid: Grid, name: str) -> Area:
        """Return the pixels of an area.

        Parameters
        ----------
        text : str
            ``left bottom right top`` or WKT, in the CRS of the grid; WKT with a CRS of its own
            (``SRID=4326;POLYGON ((...))``); or the path of a vector file with polygons, which has one too.
        grid : Grid
        name : str
            Of the raster, for messages.

        Raises
        ------
        AreaError
            It is none of these, cannot be read, or has no pixel of the grid.
        """
        import shapely

        geometry, is_box = _geometry(text, grid)
        x, y = shapely.get_coordinates(geometry).T
        rows, cols = grid.to_rowcol(x, y)
        # pixels whose centres may lie inside
        top, left = max(0, math.ceil(rows.min() - 0.5)), max(0, math.ceil(cols.min() - 0.5))
        bottom = min(grid.height, math.floor(rows.max() - 0.5) + 1)
        right = min(grid.width, math.floor(cols.max() - 0.5) + 1)
        t = grid.transform
        aligned = is_box and not (t.b or t.d)
        if top < bottom and left < right:
            area = cls(grid, Window(left, top, right - left, bottom - top), None if aligned else geometry)
            if area.geometry is None or area.inside(area.grid.window).any():
                return area
        bounds = ", ".join(f"{value:.10g}" for value in geometry.bounds)
        xs, ys = zip(*grid.corners(), strict=True)
        raise AreaError(
            f"--aoi {Location(text).public}: has no pixel of {name}: it covers {bounds} (left, bottom, "
            f"right, top), the raster {min(xs):.10g}, {min(ys):.10g}, {max(xs):.10g}, {max(ys):.10g} in "
            f"{crs_label(grid.crs)}. Bounds and WKT are in the CRS of the raster; a file has its own.",
            area=text,
        )

    @property
    def grid(self) -> Grid:
        """The grid of the window."""
        return self.whole.crop(self.window)

    def placed(self, grid: Grid) -> tuple[Grid, Window | None]:
        """Return the grid that a raster is read on, and what of the raster that is; None for all of it.

        A raster on the grid of the whole before raster is read in the window alone.
        """
        return (self.grid, self.window) if same_grid(self.whole, grid) else (grid, None)

    def inside(self, window: Window) -> BoolArray:
        """Return which pixels of a window of :attr:`grid` the area has, ``(height, width)``."""
        shape = int(window.height), int(window.width)
        if self.geometry is None:
            return np.ones(shape, dtype=bool)
        mask = geometry_mask([self.geometry], shape, self.grid.crop(window).transform, invert=True)
        return np.asarray(mask, dtype=bool)


def is_area_text(text: str) -> bool:
    """Return whether an area is written out, as bounds or WKT, and not the path of a file."""
    return _BOUNDS.fullmatch(text) is not None or _WKT.fullmatch(text) is not None


def _geometry(text: str, grid: Grid) -> tuple[BaseGeometry, bool]:
    """Return an area in the CRS of a grid, and whether it is a box along its axes."""
    import shapely

    if bounds := _BOUNDS.fullmatch(text):
        left, bottom, right, top = map(float, bounds.groups())
        if not (left < right and bottom < top):
            raise AreaError(
                f"--aoi {text}: the order is left bottom right top, and left must be below right, bottom "
                "below top.",
                area=text,
            )
        return shapely.box(left, bottom, right, top), True
    if wkt := _WKT.fullmatch(text):
        try:
            geometry = shapely.from_wkt(wkt[2])
            if wkt[1] is not None:
                geometry = _projected(geometry, CRS.from_epsg(int(wkt[1])), grid.crs)
        except (shapely.errors.ShapelyError, RasterioError, CPLE_BaseError, ValueError) as error:
            raise AreaError(f"--aoi {_name(text)}: not WKT ({error}).", area=text) from error
        return _usable(geometry, text), False
    if not is_file(text):
        raise AreaError(
            f"--aoi {Location(text).public}: no such file, nor an area. Name a vector file with polygons, or "
            "say 'left bottom right top' or WKT (POLYGON ((...))) in the CRS of the before raster.",
            area=text,
        )
    return _usable(_read(text, grid), text), False


def _read(path: str, grid: Grid) -> BaseGeometry:
    """Return the union of the polygons of a vector file, in the CRS of a grid."""
    import pyogrio
    import shapely

    if (why := why_no_vector(path)) is not None:
        raise AreaError(f"{path}: {why}", area=path)
    try:
        meta, _, geometry, _ = pyogrio.raw.read(path, columns=[])
        polygons = [part for part in shapely.from_wkb(geometry) if part is not None and part.area > 0]
        if not meta["crs"]:
            raise AreaError(
                f"{path}: its polygons have no coordinate reference system. Assign the right one: ogr2ogr "
                f"-a_srs EPSG:32633 area.gpkg {path}",
                area=path,
            )
        crs = CRS.from_user_input(meta["crs"])
        return _projected(shapely.union_all(polygons), crs, grid.crs)
    # of pyogrio, shapely, rasterio and GDAL; values of a damaged file may not be decodable
    except (RuntimeError, ValueError, TypeError, OverflowError, RasterioError, CPLE_BaseError) as error:
        if isinstance(error, AreaError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise AreaError(
            f"{path}: cannot be read as a vector file ({reason}). Name one with polygons.", area=path
        ) from error


def _projected(geometry: BaseGeometry, crs: CRS, target: CRS) -> BaseGeometry:
    """Return a geometry in another CRS, where its straight sides may be bent."""
    import shapely

    if crs == target or geometry.is_empty:
        return geometry
    left, bottom, right, top = geometry.bounds
    longest = max(right - left, top - bottom) / _PIECES
    geometry = shapely.segmentize(geometry, longest) if longest > 0 else geometry
    return shapely.transform(geometry, lambda xy: np.column_stack(transform(crs, target, *xy.T)))


def _name(text: str) -> str:
    """Return an area as messages name it: a file by all of its path, long WKT by its beginning."""
    return textwrap.shorten(text, 80, placeholder=" …") if is_area_text(text) else Location(text).public


def _usable(geometry: BaseGeometry, text: str) -> BaseGeometry:
    """Return an area that has one, valid."""
    import shapely

    geometry = shapely.make_valid(geometry)
    if geometry.is_empty or not geometry.area > 0 or not np.isfinite(geometry.bounds).all():
        raise AreaError(
            f"--aoi {_name(text)}: holds no polygon with an area in the CRS of the raster.",
            area=text,
        )
    return geometry


__all__ = ["Area", "is_area_text"]
