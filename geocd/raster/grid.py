"""Where pixels are: coordinate reference system, transform and size, and whether two of these are one."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import rasterio
import rasterio.shutil
import rasterio.warp
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window

from geocd.errors import (
    GridError,
)

if TYPE_CHECKING:
    pass


#: Two grids are one when no corner is further apart than this, in pixels. Tools that write the same grid
#: differ in the last digits of the transform; a real misregistration is a hundred times larger.
GRID_TOLERANCE_PX = 0.01


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where the pixels are: coordinate reference system, transform and size.

    Attributes
    ----------
    crs : rasterio.crs.CRS
    transform : affine.Affine
        Pixel ``(col, row)`` to coordinates ``(x, y)``, upper left corner of the pixel.
    height, width : int
        Size in pixels.
    """

    crs: CRS
    transform: Affine
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.height, self.width

    @property
    def window(self) -> Window:
        """The whole grid as one window."""
        return Window(0, 0, self.width, self.height)

    @property
    def pixel_size(self) -> float | None:
        """Side of a pixel in metres, on the ground at the centre of the grid; None where not known.

        The root of the pixel's area in longitude and latitude, so that degrees and stretched projections
        (web mercator) give metres too.
        """
        t, row, col = self.transform, self.height / 2, self.width / 2
        x0, y0 = t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f
        try:
            lon, lat = rasterio.warp.transform(
                self.crs, CRS.from_epsg(4326), [x0, x0 + t.a, x0 + t.b], [y0, y0 + t.d, y0 + t.e]
            )
        except (RasterioError, CPLE_BaseError):  # rasterio lets GDAL's own errors through
            return None
        east = [111_320 * math.cos(math.radians(lat[0])) * (value - lon[0]) for value in lon]
        north = [110_574 * (value - lat[0]) for value in lat]
        area = abs(east[1] * north[2] - east[2] * north[1])
        return math.sqrt(area) if 0 < area < math.inf else None

    def around(self, window: Window, margin: int) -> Window:
        """Return a window with ``margin`` pixels around it, as far as the grid reaches."""
        top, left = max(0, int(window.row_off) - margin), max(0, int(window.col_off) - margin)
        bottom = min(self.height, int(window.row_off + window.height) + margin)
        right = min(self.width, int(window.col_off + window.width) + margin)
        return Window(left, top, right - left, bottom - top)

    def crop(self, window: Window) -> Grid:
        """Return the grid of a window of this grid."""
        t, col, row = self.transform, window.col_off, window.row_off
        # by hand: rasterio.windows.transform warns of a deprecation with affine 3
        origin = Affine(t.a, t.b, t.a * col + t.b * row + t.c, t.d, t.e, t.d * col + t.e * row + t.f)
        return Grid(self.crs, origin, int(window.height), int(window.width))

    def corners(self) -> list[tuple[float, float]]:
        """Return the four outer corners as ``(x, y)``: upper left, upper right, lower right, lower left."""
        t = self.transform
        ends = ((0, 0), (self.width, 0), (self.width, self.height), (0, self.height))
        return [(t.a * c + t.b * r + t.c, t.d * c + t.e * r + t.f) for c, r in ends]

    def describe(self) -> str:
        """Return the grid in the words of an error message."""
        t = self.transform
        turned = f"rotation ({t.b:.10g}, {t.d:.10g}), " if t.b or t.d else ""
        return (
            f"{crs_name(self.crs)}, origin ({t.c:.10g}, {t.f:.10g}), pixel ({t.a:.10g}, {t.e:.10g}), "
            f"{turned}{self.width} x {self.height} px"
        )


def crs_name(crs: CRS | None) -> str:
    """Return the shortest unambiguous name of a CRS: ``EPSG:32633``, or its WKT."""
    if crs is None:
        return "none"
    try:
        authority = crs.to_authority()
        return ":".join(authority) if authority else str(crs.to_wkt())
    except (CRSError, CPLE_BaseError):  # of a damaged file: nobody can write it down
        return "unknown"


def same_crs(first: CRS, second: CRS) -> bool:
    """Tell whether two CRSs are equal, however they are spelt (EPSG code, WKT1, WKT2, axis order)."""
    if first == second:
        return True
    from pyproj import CRS as ProjCRS  # 0.1 s to import, needed only when the spelling differs
    from pyproj.exceptions import ProjError

    try:
        one, two = ProjCRS.from_wkt(first.to_wkt()), ProjCRS.from_wkt(second.to_wkt())
    except ProjError:  # one that nobody else understands is like no other
        return False
    return bool(one.equals(two, ignore_axis_order=True))


def same_grid(first: Grid, second: Grid) -> bool:
    """Tell whether two grids are one: no corner more than 0.01 px apart."""
    return _difference(first, second) is None


def check_same_grid(
    first: Grid, second: Grid, names: tuple[str, str] = ("before", "after"), remedy: str | None = None
) -> None:
    """Raise :class:`GridError` unless both grids are one.

    Parameters
    ----------
    first, second : Grid
    names : tuple of str
        What to call them in the message (paths).
    remedy : str, optional
        What the message says can be done; default: to warp one raster onto the other.

    Raises
    ------
    GridError
        CRS, transform (more than 0.01 px apart at any corner) or size differ. The message gives both
        values and the remedy.
    """
    problem = _difference(first, second)
    if problem is None:
        return
    what, ours, theirs = problem
    if remedy is None:
        remedy = (
            "Warp one onto the grid of the other first, for instance: "
            f"rio warp {names[1]} aligned.tif --like {names[0]}"
        )
    raise GridError(
        f"the two rasters have different {what}: {ours} in {names[0]}, {theirs} in {names[1]}. {remedy}",
        first=first,
        second=second,
        files=names,
    )


def _difference(first: Grid, second: Grid) -> tuple[str, str, str] | None:
    """Return in what two grids differ, and the values of both."""
    if not same_crs(first.crs, second.crs):
        return "coordinate reference systems", crs_name(first.crs), crs_name(second.crs)
    if first.shape != second.shape:
        return "sizes", f"{first.width} x {first.height} px", f"{second.width} x {second.height} px"
    pixel = min(math.hypot(first.transform.a, first.transform.d), 1e300)
    apart = max(math.dist(a, b) for a, b in zip(first.corners(), second.corners(), strict=True))
    if not apart <= GRID_TOLERANCE_PX * pixel:
        return "transforms", first.describe(), second.describe()
    return None


__all__ = [
    "Grid",
    "check_same_grid",
    "crs_name",
    "same_crs",
    "same_grid",
]
