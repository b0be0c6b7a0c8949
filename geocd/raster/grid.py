"""The grid of a raster: coordinate reference system, transform and size, and comparing two of them."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import rasterio.warp
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window

from geocd.errors import GridError
from geocd.types import Float64Array, Part

if TYPE_CHECKING:
    from pyproj import CRS as ProjCRS

#: A coordinate, or an array of coordinates.
Number = TypeVar("Number", float, Float64Array)

#: Grids are equal when no corner is further apart than this, in pixels. Tools that write the same grid
#: differ in the last digits of the transform; a real misregistration is a hundred times larger.
GRID_TOLERANCE_PX = 0.01


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where the pixels are: coordinate reference system, transform and size.

    Rows and columns may be fractions: ``(0, 0)`` is the outer corner of the upper left pixel, ``(0.5, 0.5)``
    its centre.

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
        """Side of a pixel in metres on the ground, at the centre of the grid.

        The square root of the pixel's area in longitude and latitude, so that degrees and stretched
        projections (web mercator) give metres too. None where the CRS has no longitude and latitude there.
        """
        t = self.transform
        x, y = self.to_xy(self.width / 2, self.height / 2)
        degrees = self.lonlat([x, x + t.a, x + t.b], [y, y + t.d, y + t.e])
        if degrees is None:
            return None
        lon, lat = (values.tolist() for values in degrees)
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

    def to_xy(self, col: Number, row: Number) -> tuple[Number, Number]:
        """Return the coordinates ``(x, y)`` of positions in the grid.

        Parameters
        ----------
        col, row : float or ndarray
            In pixels, of one shape.
        """
        t = self.transform
        return t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f

    def to_rowcol(self, x: Number, y: Number) -> tuple[Number, Number]:
        """Return the positions ``(row, col)`` of coordinates, in fractions of pixels.

        Parameters
        ----------
        x, y : float or ndarray
            In the CRS of the grid, of one shape.

        Raises
        ------
        affine.TransformNotInvertibleError
            The pixels have no area.
        """
        t = ~self.transform
        return t.d * x + t.e * y + t.f, t.a * x + t.b * y + t.c

    def lonlat(
        self, x: Sequence[float] | Float64Array, y: Sequence[float] | Float64Array
    ) -> tuple[Float64Array, Float64Array] | None:
        """Return longitude and latitude (WGS 84, degrees) of points in the CRS of the grid.

        Parameters
        ----------
        x, y : sequence of float or ndarray, (n,)

        Returns
        -------
        lon, lat : ndarray, (n,), float64
            Or None where the CRS, or any of the points, cannot be transformed to longitude and latitude.
        """
        try:
            lon, lat = rasterio.warp.transform(self.crs, CRS.from_epsg(4326), x, y)
        except (RasterioError, CPLE_BaseError):  # rasterio lets GDAL's own errors through
            return None
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            return None
        return np.array(lon, np.float64), np.array(lat, np.float64)

    def crop(self, window: Window) -> Grid:
        """Return the grid of a window of this grid."""
        t = self.transform
        x, y = self.to_xy(window.col_off, window.row_off)
        # not rasterio.windows.transform, which warns of a deprecation with affine 3
        return Grid(self.crs, Affine(t.a, t.b, x, t.d, t.e, y), int(window.height), int(window.width))

    def resized(self, height: int, width: int) -> Grid:
        """Return the grid of as many larger or smaller pixels that covers the same area."""
        t, rows, cols = self.transform, self.height / height, self.width / width
        transform = Affine(t.a * cols, t.b * rows, t.c, t.d * cols, t.e * rows, t.f)
        return Grid(self.crs, transform, height, width)

    def corners(self) -> list[tuple[float, float]]:
        """Return the four outer corners as ``(x, y)``: upper left, upper right, lower right, lower left."""
        ends = ((0, 0), (self.width, 0), (self.width, self.height), (0, self.height))
        return [self.to_xy(col, row) for col, row in ends]

    def describe(self) -> str:
        """Return CRS, origin, pixel size and shape in one line, for error messages."""
        t = self.transform
        rotation = f"rotation ({t.b:.10g}, {t.d:.10g}), " if t.b or t.d else ""
        return (
            f"{crs_label(self.crs)}, origin ({t.c:.10g}, {t.f:.10g}), pixel ({t.a:.10g}, {t.e:.10g}), "
            f"{rotation}{self.width} x {self.height} px"
        )


def inside(window: Window, part: Window) -> Part:
    """Return the rows and columns of a part of a window, counted from its first."""
    offset = part.col_off - window.col_off, part.row_off - window.row_off
    rows, cols = Window(*offset, part.width, part.height).toslices()
    return rows, cols


def is_pixel_transform(transform: Affine) -> bool:
    """Tell whether a transform only counts pixels: what a raster without georeference has instead of one.

    Pixels of 1 x 1 from (0, 0), whichever way they run, or with their centres there. That is what libraries
    return where a file has no transform, and what tools write who know of none.
    """
    t = transform
    unit = abs(t.a) == abs(t.e) == 1 and t.b == t.d == 0
    return unit and abs(t.c) == abs(t.f) and abs(t.c) in (0, 0.5)


def authority_code(crs: CRS) -> str | None:
    """Return the code of a CRS, ``EPSG:32633``; None where it has none, or only resembles one that has.

    GDAL names the code of the most similar CRS, which may have another datum.
    """
    authority = crs.to_authority()
    if authority is None:
        return None
    similar = CRS.from_authority(*authority)
    if crs != similar and not _proj_crs(crs).equals(_proj_crs(similar), ignore_axis_order=True):
        return None
    return ":".join(authority)


def crs_name(crs: CRS | None) -> str:
    """Return the shortest unambiguous name of a CRS: ``EPSG:32633``, or its WKT."""
    if crs is None:
        return "none"
    try:
        return authority_code(crs) or str(crs.to_wkt())
    except (CRSError, CPLE_BaseError):  # of a damaged file: it cannot be exported
        return "unknown"


def crs_label(crs: CRS) -> str:
    """Return a CRS in a few words for messages: its code, else its own name, else its PROJ string."""
    if (code := authority_code(crs)) is not None:
        return code
    try:
        name = str(_proj_crs(crs).name)
        unnamed = name.casefold() in ("", "unknown", "unnamed")
        return (str(crs.to_proj4()) or "a CRS without a name") if unnamed else f"'{name}'"
    except (ValueError, RuntimeError, CPLE_BaseError):  # pyproj's and rasterio's errors of a CRS
        return "unknown"


def _proj_crs(crs: CRS) -> ProjCRS:
    """Return a CRS of pyproj, 0.1 s to import, needed only where CRSs differ or have no code."""
    from pyproj import CRS as ProjCRS

    return ProjCRS.from_wkt(crs.to_wkt())


def _horizontal(crs: CRS) -> ProjCRS:
    """Return the horizontal part of a CRS, which is what places pixels: heights play no part."""
    proj = _proj_crs(crs)
    return (proj.sub_crs_list[0] if proj.is_compound else proj).to_2d()


def is_local(crs: CRS) -> bool:
    """Tell whether a CRS has no relation to the Earth (``LOCAL_CS``, ``ENGCRS``): nothing leads out of it."""
    if crs.is_geographic or crs.is_projected:
        return False
    from pyproj.exceptions import ProjError

    try:
        return bool(_horizontal(crs).is_engineering)
    except ProjError:
        return False


def same_crs(first: CRS, second: CRS) -> bool:
    """Tell whether two CRSs place pixels equally, however they are spelt (EPSG code, WKT1, WKT2, axis order).

    Heights play no part: a compound or 3-D CRS equals its horizontal part.
    """
    if first == second:
        return True
    from pyproj.exceptions import ProjError

    try:
        return bool(_horizontal(first).equals(_horizontal(second), ignore_axis_order=True))
    except ProjError:  # PROJ does not understand one of them
        return False


def _crs_difference(first: CRS, second: CRS) -> str:
    """Return in what the horizontal parts of two CRSs differ, as a sentence; empty where that is unknown."""
    from pyproj.exceptions import ProjError

    try:
        parts = [_parts(_horizontal(crs)) for crs in (first, second)]
    except ProjError:
        return ""
    names = [name for name in parts[0] | parts[1] if parts[0].get(name) != parts[1].get(name)]
    if not names:
        return ""
    if "kind" in names:
        names = ["kind"]
    values = [f"the {name} ({' and '.join(str(part.get(name, 'none')) for part in parts)})" for name in names]
    return f" They differ in {', '.join(values)}."


def _parts(crs: ProjCRS) -> dict[str, str]:
    """Return what a CRS consists of, by the names of its parts."""
    parts = {"kind": crs.type_name}
    if crs.is_bound:
        shifts = [] if crs.coordinate_operation is None else crs.coordinate_operation.towgs84
        parts["transformation to WGS 84"] = ", ".join(f"{value:g}" for value in shifts) or "a grid"
        crs = crs.source_crs or crs
        parts["kind"] = crs.type_name
    if crs.datum is not None:
        parts["datum"] = crs.datum.name.removesuffix(" ensemble")
    if crs.ellipsoid is not None:
        parts["ellipsoid"] = crs.ellipsoid.name
    if crs.prime_meridian is not None:
        parts["prime meridian"] = crs.prime_meridian.name
    if (operation := crs.coordinate_operation) is not None:
        parts["projection"] = operation.method_name
        parts |= {
            param.name[:1].lower() + param.name[1:]: f"{param.value:.10g}" for param in operation.params
        }
    if crs.axis_info:
        parts["unit"] = crs.axis_info[0].unit_name
    return parts


def same_grid(first: Grid, second: Grid) -> bool:
    """Tell whether two grids are equal: same CRS and size, and no corner more than 0.01 px apart."""
    return _difference(first, second) is None


def check_same_grid(
    first: Grid, second: Grid, names: tuple[str, str] = ("before", "after"), remedy: str | None = None
) -> None:
    """Raise :class:`GridError` unless two grids are equal, see :func:`same_grid`.

    Parameters
    ----------
    first, second : Grid
    names : tuple of str
        Their names in the message (paths).
    remedy : str, optional
        The last sentence of the message. Default: how to warp one raster onto the other.

    Raises
    ------
    GridError
        CRS, transform (more than 0.01 px apart at any corner) or size differ. The message gives both
        values and the remedy.
    """
    difference = _difference(first, second)
    if difference is None:
        return
    what, ours, theirs = difference
    detail = ""
    if not same_crs(first.crs, second.crs):
        check_transformable(first, second, names)
        detail = _crs_difference(first.crs, second.crs)
    if remedy is None:
        remedy = (
            "geocd detect --align grid warps the second onto the grid of the first while reading."
            + _warp_command(first, names[1])
        )
    raise GridError(
        f"the two rasters have different {what}: {ours} in {names[0]}, {theirs} in {names[1]}.{detail} "
        f"{remedy}",
        first=first,
        second=second,
        files=names,
    )


def _warp_command(grid: Grid, source: str) -> str:
    """Return a sentence with the command that warps a raster onto a grid; empty where there is no short one.

    An alpha band marks what lies outside: without it, 0 would be data there.
    """
    code, transform = authority_code(grid.crs), grid.transform
    if code is None or transform.b or transform.d:
        return ""
    (left, top), (right, bottom) = grid.to_xy(0, 0), grid.to_xy(grid.width, grid.height)
    extent = " ".join(f"{value:.12g}" for value in (left, min(top, bottom), right, max(top, bottom)))
    return (
        f" To write it: gdalwarp -t_srs {code} -te {extent} -ts {grid.width} {grid.height} -r bilinear "
        f"-dstalpha {shlex.quote(source)} aligned.tif"
    )


def check_transformable(first: Grid, second: Grid, names: tuple[str, str] = ("before", "after")) -> None:
    """Raise :class:`GridError` where the CRSs of two grids differ and one of them is local.

    Parameters
    ----------
    first, second : Grid
    names : tuple of str
        Their names in the message (paths).
    """
    for grid, other, name in ((first, second, names[0]), (second, first, names[1])):
        if is_local(grid.crs) and not same_crs(grid.crs, other.crs):
            raise GridError(
                f"{name}: has a local coordinate reference system ({crs_label(grid.crs)}), which has no "
                f"relation to the Earth: no transformation leads from it to {crs_label(other.crs)}. Assign "
                "the one that its coordinates are in: "
                f"gdal_translate -a_srs EPSG:CODE {shlex.quote(name)} assigned.tif",
                first=first,
                second=second,
                files=names,
            )


def _difference(first: Grid, second: Grid) -> tuple[str, str, str] | None:
    """Return what differs between two grids, and both values; None where they are equal."""
    if not same_crs(first.crs, second.crs):
        return "coordinate reference systems", crs_label(first.crs), crs_label(second.crs)
    if first.shape != second.shape:
        return "sizes", f"{first.width} x {first.height} px", f"{second.width} x {second.height} px"
    pixel = min(math.hypot(first.transform.a, first.transform.d), 1e300)
    distance = max(math.dist(a, b) for a, b in zip(first.corners(), second.corners(), strict=True))
    if not distance <= GRID_TOLERANCE_PX * pixel:
        return "transforms", first.describe(), second.describe()
    return None


__all__ = [
    "Grid",
    "authority_code",
    "check_same_grid",
    "check_transformable",
    "crs_label",
    "crs_name",
    "inside",
    "is_local",
    "is_pixel_transform",
    "same_crs",
    "same_grid",
]
