"""The after image on the grid of the before image: which source pixels a window needs, and how to resample.

Grids only; :mod:`geocd.raster.reading` reads and resamples the pixels. A pixel must come out the same
whatever window it is read in, or tiles would not fit together and results would not repeat. What GDAL's
warper makes of a pixel depends on the window in the last digits (its coordinates are counted from a corner),
so it always gets the same windows: blocks that lie on the target grid like the squares of a chessboard.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import rasterio.warp
import shapely
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window

from geocd.errors import GridError
from geocd.raster.grid import check_transformable, crs_label, same_crs, same_grid
from geocd.types import Float64Array

if TYPE_CHECKING:
    from rasterio.crs import CRS

    from geocd.raster.grid import Grid


#: From this many source pixels per target pixel on, along either axis, they are averaged; a kernel of a few
#: pixels would pick some of them and leave out the others.
AVERAGE_FROM = 2.0
#: Largest side of a block in target pixels, and most source pixels that it may need: where the source is much
#: finer, blocks are smaller, so that memory does not grow.
BLOCK, BLOCK_PIXELS = 128, 640 * 640
#: Pixels between the points that are located in the source to find the window that must be read.
LATTICE = 32
#: Margin around that window, in source or target pixels, whichever are wider: the kernel reaches 2.
REACH = 4


@dataclasses.dataclass(frozen=True)
class Warp:
    """How a source raster is read on a target grid.

    Make it with :meth:`between`.

    Attributes
    ----------
    source, target : Grid
    scale : tuple of float
        Source pixels under a target pixel, along the rows and along the columns of the source, where the
        two overlap.
    resampling : str
        ``average`` where the source has pixels half as wide or less, else ``cubic``; ``nearest`` where values
        are classes.
    overlap : float
        Share of the target grid that the source covers, in (0, 1].
    shift : tuple of float
        Displacement of the content of the source, in target pixels (down, right), which is removed.
    """

    source: Grid
    target: Grid
    scale: tuple[float, float]
    resampling: Literal["average", "cubic", "nearest"]
    overlap: float
    shift: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def between(cls, source: Grid, target: Grid, names: tuple[str, str] = ("before", "after")) -> Warp:
        """Return how to read a source on a target grid.

        Parameters
        ----------
        source, target : Grid
        names : tuple of str
            Names of the target and of the source in the message (paths).

        Raises
        ------
        GridError
            They do not overlap.
        """
        check_transformable(target, source, names)
        share = overlap(target, source)
        scale = _scale(source, target)
        if not share or scale is None:
            raise GridError(
                f"the two rasters do not overlap: {names[0]} covers {_extent(target, source.crs)}, "
                f"{names[1]} {_extent(source, target.crs)}. Choose two images of one place; if they are, the "
                "coordinate reference system or the transform of one of them is wrong.",
                first=target,
                second=source,
                files=names,
            )
        return cls(source, target, scale, "average" if max(scale) >= AVERAGE_FROM else "cubic", share)

    @classmethod
    def onto(cls, source: Grid, target: Grid, names: tuple[str, str]) -> Warp | None:
        """Return :meth:`between`, or None where both are one grid already."""
        if same_grid(target, source):
            return None
        if same_crs(target.crs, source.crs):  # in one spelling nothing needs to be transformed
            source = dataclasses.replace(source, crs=target.crs)
        return cls.between(source, target, names)

    def decimated(self, height: int, width: int) -> Warp:
        """Return this warp for a target of the same area with fewer, larger pixels."""
        rows, cols = self.target.height / height, self.target.width / width
        coarse = self.target.resized(height, width)
        scale = _scale(self.source, coarse) or self.scale
        return dataclasses.replace(
            self,
            target=coarse,
            scale=scale,
            resampling="average" if max(scale) >= AVERAGE_FROM else "cubic",
            shift=(self.shift[0] / rows, self.shift[1] / cols),
        )

    @property
    def side(self) -> int:
        """Side of a block in target pixels."""
        return max(1, min(BLOCK, int(math.sqrt(BLOCK_PIXELS / (self.scale[0] * self.scale[1])))))

    def blocks(self, window: Window) -> Iterator[Window]:
        """Yield the blocks of the target that a window touches, cut where the grid ends."""
        side = self.side
        bottom, right = int(window.row_off + window.height), int(window.col_off + window.width)
        for row in range(int(window.row_off) // side * side, bottom, side):
            for col in range(int(window.col_off) // side * side, right, side):
                yield Window(
                    col, row, min(side, self.target.width - col), min(side, self.target.height - row)
                )

    @property
    def most_pixels(self) -> int:
        """Largest number of source pixels that a block needs, with their margin."""
        rows, cols = (self.side * scale + 2 * REACH * max(1.0, scale) for scale in self.scale)
        return math.ceil(rows * cols)

    def shifted(self, window: Window) -> Grid:
        """Return the grid of a window of the target, moved by the shift to where its content is."""
        row, col = window.row_off + self.shift[0], window.col_off + self.shift[1]
        return self.target.crop(Window(col, row, window.width, window.height))

    @property
    def turns(self) -> tuple[Warp, ...]:
        """This warp for each turn around the globe that brings the source onto the target; mostly one.

        Between grids in one geographic CRS nothing is transformed, so longitudes of 0 to 360 do not meet
        those of -180 to 180 unless whole turns are added to them.
        """
        turn = full_turn(self.source.crs)
        if turn is None or self.source.crs != self.target.crs:
            return (self,)
        own, other = ([x for x, _ in grid.corners()] for grid in (self.source, self.target))
        first, last = math.ceil((min(other) - max(own)) / turn), math.floor((max(other) - min(own)) / turn)
        warps = []
        for count in range(first, last + 1):
            t = self.source.transform
            moved = Affine(t.a, t.b, t.c + count * turn, t.d, t.e, t.f)
            source = dataclasses.replace(self.source, transform=moved)
            warps.append(dataclasses.replace(self, source=source) if count else self)
        return tuple(warps) or (self,)

    def needed(self, window: Window) -> Window | None:
        """Return the window of the source that a window of the target needs; None outside it."""
        rows = _along(window.row_off, window.height)
        cols = _along(window.col_off, window.width)
        lattice = [(r + self.shift[0], c + self.shift[1]) for r in rows for c in cols]
        same = self.target.crs == self.source.crs  # see turns
        row, col = _locate(self.target, self.source, np.array(lattice), wrap=not same)
        finite = np.isfinite(row) & np.isfinite(col)
        if not finite.any():
            return None
        row, col = row[finite], col[finite]
        margin = [math.ceil(REACH * max(1.0, scale)) for scale in self.scale]
        first_row, last_row = math.floor(row.min()) - margin[0], math.ceil(row.max()) + margin[0]
        first_col, last_col = math.floor(col.min()) - margin[1], math.ceil(col.max()) + margin[1]
        first_row, last_row = max(0, first_row), min(self.source.height, last_row)
        first_col, last_col = max(0, first_col), min(self.source.width, last_col)
        if first_row >= last_row or first_col >= last_col:
            return None
        return Window(first_col, first_row, last_col - first_col, last_row - first_row)


def overlap(first: Grid, second: Grid) -> float | None:
    """Return the share of the first grid that the second covers, in [0, 1]; None where that is unknown."""
    for inner, outer in ((second, first), (first, second)):
        ring = _ring(inner)
        row, col = _locate(inner, outer, ring)
        # Projections give numbers also far outside their domain: only what can be inverted counts.
        back = np.column_stack(_locate(outer, inner, np.column_stack([row, col])))
        if not np.allclose(back, ring, rtol=0, atol=1):
            continue
        outline = shapely.Polygon(np.column_stack([col, row])).buffer(0)
        whole = shapely.box(0, 0, outer.width, outer.height)
        size = whole.area if outer is first else outline.area
        return float(min(1.0, outline.intersection(whole).area / size)) if size else None
    lattice = np.array([(r, c) for r in _along(0, first.height) for c in _along(0, first.width)])
    row, col = _locate(first, second, lattice)
    with np.errstate(invalid="ignore"):
        inside = (row >= 0) & (row <= second.height) & (col >= 0) & (col <= second.width)
    return float(inside.mean()) if np.isfinite(row).any() else None


def _ring(grid: Grid, steps: int = 32) -> Float64Array:
    """Return points along the outline of a grid, as rows and columns: straight lines bend in another CRS."""
    height, width = grid.height, grid.width
    corners = [np.array(corner, float) for corner in ((0, 0), (0, width), (height, width), (height, 0))]
    ends = zip(corners, corners[1:] + corners[:1], strict=True)
    return np.array([a + (b - a) * i / steps for a, b in ends for i in range(steps)])


def _along(begin: float, length: float) -> Float64Array:
    """Return up to 129 evenly spaced positions, ``LATTICE`` pixels apart or less if that many suffice."""
    count = min(128, math.ceil(length / LATTICE)) + 1
    return np.linspace(begin, begin + length, max(2, count))


def full_turn(crs: CRS) -> float | None:
    """Return a turn around the globe in the unit of a geographic CRS; None of another."""
    if not crs.is_geographic:
        return None
    radians = crs.units_factor[1]
    return 360.0 if math.isclose(radians, math.radians(1), rel_tol=1e-9) else math.tau / radians


def _locate(
    origin: Grid, other: Grid, points: Float64Array, *, wrap: bool = True
) -> tuple[Float64Array, Float64Array]:
    """Return rows and columns in another grid of points ``(n, 2)`` of a grid; not finite where none.

    With ``wrap``, whole turns are added to longitudes, so that they are half a turn at most from the middle
    of the other grid: across the date line 180.01 and -179.99 are one place.
    """
    x, y = origin.to_xy(points[:, 1], points[:, 0])
    nan = np.full(len(points), np.nan)
    if origin.crs != other.crs:
        try:
            transformed = rasterio.warp.transform(origin.crs, other.crs, x.tolist(), y.tolist())
        except (RasterioError, CPLE_BaseError):  # rasterio lets GDAL's own errors through
            return nan, nan
        x, y = np.array(transformed[0]), np.array(transformed[1])
    if not abs(other.transform.determinant) > 0:  # pixels have no area
        return nan, nan
    if wrap and (turn := full_turn(other.crs)) is not None:
        middle = other.to_xy(other.width / 2, other.height / 2)[0]
        with np.errstate(invalid="ignore"):
            x = x - turn * np.round((x - middle) / turn)
    with np.errstate(invalid="ignore"):
        return other.to_rowcol(x, y)


def _scale(source: Grid, target: Grid) -> tuple[float, float] | None:
    """Return the height and width of a target pixel in source pixels, in the middle of the overlap."""
    lattice = np.array(
        [(r, c) for r in np.linspace(0, target.height, 65) for c in np.linspace(0, target.width, 65)]
    )
    row, col = _locate(target, source, lattice)
    with np.errstate(invalid="ignore"):
        inside = (row >= 0) & (row <= source.height) & (col >= 0) & (col <= source.width)
    if inside.any():
        row0, col0 = lattice[inside].mean(axis=0)
    else:  # less than a lattice cell, or nothing
        middle = np.array([[source.height / 2, source.width / 2]])
        row0, col0 = (float(v[0]) for v in _locate(source, target, middle))
    near = np.array([(row0, col0), (row0 + 1, col0), (row0, col0 + 1)])
    rows, cols = _locate(target, source, near)
    steps = np.array([[v[1] - v[0], v[2] - v[0]] for v in (rows, cols)])
    t, turn = source.transform, full_turn(source.crs)
    if (
        turn is not None and t.a and not (t.b or t.d)
    ):  # the two may lie on either side of the ends of the source
        with np.errstate(invalid="ignore"):
            steps[1] -= turn / abs(t.a) * np.round(steps[1] * abs(t.a) / turn)
    high, wide = (math.hypot(*step) for step in steps.tolist())
    return (high, wide) if 0 < high < math.inf and 0 < wide < math.inf else None


def _extent(grid: Grid, other: CRS) -> str:
    """Return the bounds of a grid for a message: in degrees where the other grid has another CRS."""
    x, y = (np.array(v) for v in zip(*grid.corners(), strict=True))
    unit = f"in {crs_label(grid.crs)}"
    if grid.crs != other and (degrees := grid.lonlat(x, y)) is not None:
        (x, y), unit = degrees, "degrees"
    return f"x {x.min():.10g} to {x.max():.10g}, y {y.min():.10g} to {y.max():.10g} {unit}"


__all__ = [
    "Warp",
    "full_turn",
    "overlap",
]
