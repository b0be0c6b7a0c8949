"""The changed places as the report's map has them: measures, outlines in pixels, positions on Earth."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely

from geocd.raster.grid import Grid
from geocd.types import Float64Array, PixelArray
from geocd.vectorize.files import largest

if TYPE_CHECKING:
    from pandas import DataFrame

#: Most places in the list, and most corners of all their outlines.
MOST_PLACES, MOST_CORNERS = 5000, 100_000
#: Where there are more corners, outlines are simplified to within this distance, in pixels of the overview.
TOLERANCE = 0.75
#: Columns of a place, with their decimals; after them those that are there only in some results.
NUMBERS = {"id": 0, "area_m2": 1, "n_pixels": 0, "p_mean": 3, "p_max": 3, "centroid_x": 6, "centroid_y": 6}
OPTIONAL = ("kind", "became", "kind_why", "relevance", "lasting", "last_seen", "verdict")
#: Nodes of a lattice along a side, tried in this order, and how far it may be off, in pixels: the last of
#: them further, near the poles and on grids of continents.
_NODES, _LATTICE_ERROR, _LAST_ERROR = (2, 3, 5, 9, 17, 33, 65), 0.02, 0.5

Column = list[float | None] | list[str | None]


@dataclasses.dataclass(frozen=True)
class Lattice:
    """Longitude and latitude (WGS 84, degrees) at nodes spread evenly over a grid, its corners included.

    Between the nodes both are bilinear: to within a fiftieth of a pixel, on very large grids half a pixel.
    Longitudes do not jump at 180 degrees.

    Attributes
    ----------
    rows, cols : int
        Number of nodes.
    lon, lat : list of float
        Row by row.
    """

    rows: int
    cols: int
    lon: list[float]
    lat: list[float]

    @classmethod
    def of(cls, grid: Grid) -> Lattice | None:
        """Return the coarsest lattice that is exact enough; None where there is none."""
        for nodes in _NODES:
            fine = _lonlat_nodes(grid, 2 * nodes - 1)
            if fine is None:
                return None
            coarse = fine[:, ::2, ::2]
            # a pixel in degrees, for longitude and latitude, from the longest step along rows and columns
            across = np.abs(np.diff(fine, axis=2)).max(axis=(1, 2)) * 2 * (nodes - 1) / grid.width
            down = np.abs(np.diff(fine, axis=1)).max(axis=(1, 2)) * 2 * (nodes - 1) / grid.height
            between = np.abs(_halved(coarse) - fine).max(axis=(1, 2))
            most = _LAST_ERROR if nodes == _NODES[-1] else _LATTICE_ERROR
            if (between <= most * np.maximum(across, down)).all():
                lon, lat = (np.round(values, 8).ravel().tolist() for values in coarse)
                return cls(nodes, nodes, lon, lat)
        return None


def _lonlat_nodes(grid: Grid, nodes: int) -> Float64Array | None:
    """Return longitude and latitude, (2, nodes, nodes), from the corners of a grid on; None without any."""
    cols, rows = np.meshgrid(np.linspace(0, grid.width, nodes), np.linspace(0, grid.height, nodes))
    x, y = grid.to_xy(cols.ravel(), rows.ravel())
    degrees = grid.lonlat(x, y)
    if degrees is None:
        return None
    lon, lat = (values.reshape(nodes, nodes) for values in degrees)
    centre = lon[nodes // 2, nodes // 2]
    return np.stack([centre + (lon - centre + 180) % 360 - 180, lat])


def _halved(nodes: Float64Array) -> Float64Array:
    """Return ``(2, n, n)`` with a bilinear value between each two neighbours: ``(2, 2 n - 1, 2 n - 1)``."""
    size = 2 * nodes.shape[1] - 1
    fine = np.empty((2, size, size))
    fine[:, ::2, ::2] = nodes
    fine[:, 1::2, ::2] = (nodes[:, 1:] + nodes[:, :-1]) / 2
    fine[:, :, 1::2] = (fine[:, :, 2::2] + fine[:, :, :-2:2]) / 2
    return fine


@dataclasses.dataclass(frozen=True)
class Places:
    """The largest places of a result, the largest first.

    Attributes
    ----------
    columns : dict of list
        Values by column: those of the polygons, ``x`` and ``y`` of a point in each, and ``lon`` and ``lat``
        of their centroids where the grid can be transformed to longitude and latitude; None for what is not
        there.
    outlines : list of str
        SVG path data of each, in pixels of the grid.
    bounds, middles : ndarray, (n, 4) and (n, 2), float64
        Of each: first column, first row, last column, last row; a column and a row inside it.
    simplified : float
        Tolerance, in pixels of the grid, to which the outlines were simplified; 0 where they are exact.
    """

    columns: dict[str, Column]
    outlines: list[str]
    bounds: Float64Array
    middles: Float64Array
    simplified: float

    def __len__(self) -> int:
        return len(self.outlines)

    @classmethod
    def of(cls, changes: Path, grid: Grid, overview: tuple[int, int]) -> Places:
        """Return the places of a GeoPackage.

        Parameters
        ----------
        changes : pathlib.Path
        grid : Grid
        overview : tuple of int
            Height and width of the overview, in which they are drawn.

        Raises
        ------
        OutputError
            The file cannot be read.
        """
        table = largest(changes, MOST_PLACES)
        geometry: PixelArray = shapely.transform(np.asarray(table.geometry), _to_pixels(grid))
        tolerance = 0.0
        if shapely.get_num_coordinates(geometry).sum() > MOST_CORNERS:
            tolerance = TOLERANCE * max(1.0, grid.height / overview[0], grid.width / overview[1])
            geometry = _simplified(geometry, tolerance)
            corners = np.cumsum(shapely.get_num_coordinates(geometry))
            count = max(1, int(np.searchsorted(corners, MOST_CORNERS, side="right")))
            table, geometry = table[:count], geometry[:count]
        return cls(
            columns=_columns(table, grid),
            outlines=path_data(geometry),
            bounds=shapely.bounds(geometry).reshape(-1, 4),
            middles=shapely.get_coordinates(shapely.point_on_surface(geometry)).reshape(-1, 2),
            simplified=tolerance,
        )


def _to_pixels(grid: Grid) -> Callable[[Float64Array], Float64Array]:
    """Return a function from coordinates ``(n, 2)`` of the grid to columns and rows, in fractions."""

    def to_pixels(points: Float64Array) -> Float64Array:
        row, col = grid.to_rowcol(points[:, 0], points[:, 1])
        return np.stack([col, row], axis=1)

    return to_pixels


def _simplified(geometry: PixelArray, tolerance: float) -> PixelArray:
    """Return polygons with fewer corners; a square where less than one of the tolerance's size remains."""
    simple: PixelArray = shapely.simplify(geometry, tolerance, preserve_topology=False)
    lost = shapely.is_empty(simple) | (shapely.area(simple) < tolerance**2)
    centre = shapely.get_coordinates(shapely.centroid(shapely.envelope(geometry[lost]))).T
    simple[lost] = shapely.box(*(centre - tolerance), *(centre + tolerance))
    return simple


def _columns(table: DataFrame, grid: Grid) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for name, decimals in NUMBERS.items():
        values = np.round(table[name].to_numpy(np.float64), decimals).tolist()
        columns[name] = [_number(value) for value in values]
    for name in OPTIONAL:
        if name in table:
            missing = table[name].isna()
            values = [_optional(value) for value in table[name]]
            columns[name] = [None if no else value for value, no in zip(values, missing, strict=True)]
    inside = shapely.get_coordinates(shapely.point_on_surface(np.asarray(table["geometry"])))
    for name, values in zip(("x", "y"), inside.T, strict=True):
        columns[name] = np.round(values, 7).tolist()
    x, y = (table[name].to_numpy(np.float64) for name in ("centroid_x", "centroid_y"))
    if len(table) and (degrees := grid.lonlat(x, y)) is not None:
        columns["lon"], columns["lat"] = (np.round(values, 6).tolist() for values in degrees)
    return columns


def _optional(value: object) -> float | str:
    """Return a value as JSON has it: a share to a thousandth, dates of whatever type as texts."""
    return round(float(value), 3) if isinstance(value, float | np.floating) else str(value)


def _number(value: float) -> float | None:
    """Return a number as JSON has it: whole ones without a fraction, what is not finite as null."""
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() else value


def path_data(polygons: Sequence[shapely.Polygon | shapely.MultiPolygon] | PixelArray) -> list[str]:
    """Return the outlines of polygons as SVG path data: relative steps, to a hundredth of a unit.

    ``Z`` closes an outer ring, ``z`` a hole of the one before.
    """
    parts, owners = shapely.get_parts(polygons, return_index=True)
    rings, indexes = shapely.get_rings(parts, return_index=True)
    outer = np.diff(indexes, prepend=-1) > 0  # the first ring of each part
    coordinates, of_ring = shapely.get_coordinates(rings, return_index=True)
    points = np.round(coordinates * 100).astype(np.int64)
    steps = np.diff(points, axis=0).tolist()
    starts = np.searchsorted(of_ring, np.arange(len(rings) + 1)).tolist()
    paths: list[list[str]] = [[] for _ in range(len(polygons))]
    for ring, owner in enumerate(owners[indexes].tolist()):
        begin, end = starts[ring], starts[ring + 1]
        words = [_step(col, row) for col, row in steps[begin : end - 2]]  # the last corner is the first
        start = _hundredths(*points[begin].tolist())
        paths[owner].append(f"M{start}{''.join(words)}{'Z' if outer[ring] else 'z'}")
    return ["".join(path) for path in paths]


@functools.lru_cache(maxsize=4096)
def _step(col: int, row: int) -> str:
    if not row:
        return f"h{_hundredths(col)}"
    return f"l{_hundredths(col, row)}" if col else f"v{_hundredths(row)}"


def _hundredths(*values: int) -> str:
    """Return numbers that are given in hundredths, as short as they can be written."""
    return " ".join(str(v // 100) if v % 100 == 0 else f"{v / 100:.2f}".rstrip("0") for v in values)


__all__ = ["Lattice", "Places", "path_data"]
