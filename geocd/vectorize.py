"""Probability raster to polygons: threshold, join, measure.

The raster is read in strips of whole rows and every number is summed per pixel, so memory depends on the
polygons and not on the raster, and the result does not depend on the height of a strip.

The outlines are traced here rather than taken from ``rasterio.features.shapes``: that function needs the
whole band at once, and joining the polygons of its pieces takes a geometric union per polygon. A tracer
needs only the corners of the outlines, which are the same whichever strip they are found in.
"""

from __future__ import annotations

import array
import dataclasses
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import geopandas
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely
from rasterio.transform import Affine
from rasterio.windows import Window
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from geocd.config import PolygonSettings
from geocd.direction import BandMeans
from geocd.errors import BandError, ConfigError
from geocd.generalize import fill_holes, simplify, smooth
from geocd.layers import check_format, timestamp, write
from geocd.memory import STRIP_PIXELS, release
from geocd.raster import BLOCK_SIZE, Grid, Pair, check_same_grid, grid_of, open_raster, read
from geocd.types import BoolArray, Float32Array, Float64Array, IntArray, PixelArray

#: Columns of every layer, in their order. Those of :mod:`geocd.direction` follow where the images are known;
#: the geometry comes last.
COLUMNS = (
    "id",
    "area_m2",
    "perimeter_m",
    "n_pixels",
    "p_mean",
    "p_max",
    "p_min",
    "p_q25",
    "p_q50",
    "p_q75",
    "centroid_x",
    "centroid_y",
    "date_before",
    "date_after",
)


@dataclasses.dataclass(frozen=True)
class PolygonSummary:
    """What :func:`polygonize` wrote.

    Attributes
    ----------
    count : int
        Polygons in the layer.
    area_m2 : float
        Their area on the ellipsoid.
    n_pixels : int
        Pixels inside them.
    changed_share : float
        ``n_pixels`` as a share of the valid pixels, in [0, 1]; 0 where no pixel is valid.
    """

    count: int
    area_m2: float
    n_pixels: int
    changed_share: float


def polygonize(
    prob: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    threshold: float,
    settings: PolygonSettings | None = None,
    pair: Pair | None = None,
    date_before: str | None = None,
    date_after: str | None = None,
    style: bytes | None = None,
) -> PolygonSummary:
    """Write the polygons of everything at or above a threshold.

    Two changed pixels belong to one polygon when they are joined by shared sides (not by corners alone).
    The polygons are valid, do not overlap, follow the pixels' sides exactly unless the settings say
    otherwise, and come in the order of their first pixel, by row and then by column. The same input gives the
    same bytes.

    Parameters
    ----------
    prob : path
        Raster whose band 1 is the change probability, in [0, 1]; NaN or nodata where not valid.
    destination : path
        A file of ``layers.FORMATS``, replaced where it exists. It appears under this name when it is
        complete.
    threshold : float
        A pixel is changed when ``prob >= threshold``, in (0, 1].
    settings : PolygonSettings, optional
        Smallest area, and how outlines are made quieter.
    pair : Pair, optional
        The images on the grid of ``prob``; with them the layer has the columns of :mod:`geocd.direction`.
    date_before, date_after : str, optional
        ISO 8601; written with every polygon, null where unknown.
    style : bytes, optional
        QML for QGIS, written beside the destination.

    Returns
    -------
    PolygonSummary

    Raises
    ------
    ConfigError
        Threshold out of range, or a format that cannot be written.
    RasterOpenError, RasterReadError
    GridError
        The raster has no CRS, or the pair lies on another grid.
    BandError
        Band 1 has valid values outside [0, 1].
    OutputError
        The destination cannot be written.

    Notes
    -----
    Areas and lengths are measured on the ellipsoid of the raster's CRS, in every CRS, along the sides of
    the pixels; the perimeter includes that of holes. Where a CRS has no ellipsoid (a local engineering
    grid), they are those of the plane.

    Where an outline was altered, area, perimeter and centroid are of the polygon as it is written. The number
    of pixels, the probabilities and the bands are always of the changed pixels, and so is the area that
    the smallest area is compared with.
    """
    settings = settings or PolygonSettings()
    destination = Path(destination)
    check_format(destination)
    if not 0 < threshold <= 1:
        raise ConfigError(
            f"threshold {threshold:g} is not a probability above 0 and up to 1. Choose one in between, "
            "for instance 0.5.",
            threshold=threshold,
        )
    path = os.fspath(prob)
    with open_raster(path) as dataset:
        grid = grid_of(dataset, path)
        if pair is not None:
            check_same_grid(grid, pair.grid, (path, pair.before_path))
        means = None if pair is None else BandMeans(pair)
        regions = Regions(grid, means)
        valid = 0
        for window in strips(grid):
            # masked: nodata, alpha and NaN alike come back as "not valid"
            masked = read(dataset, path, window, indexes=1, masked=True).astype(np.float32)
            values = np.ma.filled(masked, np.nan)
            valid += int(np.count_nonzero(~np.isnan(values)))
            _check_probability(values, path)
            with np.errstate(invalid="ignore"):
                regions.add(values, values >= np.float32(threshold))
            release()  # or the heap, full of holes, grows with every strip
    table = regions.finish(settings)
    table["date_before"] = pd.Series(date_before, index=table.index, dtype="object")
    table["date_after"] = pd.Series(date_after, index=table.index, dtype="object")
    bands = [column for column in table.columns if column not in (*COLUMNS, "geometry")]
    frame = geopandas.GeoDataFrame(
        table[[*COLUMNS, *bands, "geometry"]],
        geometry="geometry",
        crs=pyproj.CRS.from_wkt(grid.crs.to_wkt()),
    )
    pixel = math.sqrt(math.prod(regions.size.sides))
    del regions, table
    release()  # of the corners: the frame is copied as it is written
    write(frame, destination, timestamp(date_after or date_before), style=style, pixel=pixel)
    n_pixels = int(frame["n_pixels"].sum())
    return PolygonSummary(
        count=len(frame),
        area_m2=float(frame["area_m2"].sum()),
        n_pixels=n_pixels,
        changed_share=n_pixels / valid if valid else 0.0,
    )


def _check_probability(values: Float32Array, path: str) -> None:
    """Refuse another raster early: thousands of polygons of raw reflectance help nobody."""
    low, high = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
    if low < -1e-3 or high > 1 + 1e-3:  # a blend of float32 may pass 1 in its last digit
        raise BandError(
            f"{path}: band 1 is no change probability, its values reach from {low:g} to {high:g} and "
            "should lie in 0 to 1. Name the file ending in _prob.tif.",
            path=path,
            range=(float(low), float(high)),
        )


def strips(grid: Grid) -> Iterator[Window]:
    """Cut a grid into strips of whole block rows, from the top."""
    rows = max(1, STRIP_PIXELS // grid.width // BLOCK_SIZE) * BLOCK_SIZE
    for row in range(0, grid.height, rows):
        yield Window(0, row, grid.width, min(rows, grid.height - row))


class PixelSize:
    """How large the pixels of a grid are on the ellipsoid.

    Area and sides change so slowly from pixel to pixel that they are computed at the nodes of a coarse
    lattice and interpolated (error below 1e-5 for pixels up to a few kilometres).

    Measuring each polygon as a geodesic one would be worse, and not only slower: its corners would be
    joined by geodesics where the pixels' sides are parallels or straight lines of the projection. A region
    one pixel high and 10 km long at 60 degrees north loses a fifth of its area that way. Sums over
    pixels also add up: two halves have the area of the whole.

    Parameters
    ----------
    grid : Grid
    """

    def __init__(self, grid: Grid) -> None:
        #: Number of columns.
        self.width: int = grid.width
        self._height = grid.height
        self._transform = grid.transform
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
        #: Width and height of the middle pixel, in metres.
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
        #: Areas are whole multiples of this, in square metres: some 2**-26 of a pixel.
        self.unit = 2.0 ** (math.ceil(math.log2(largest)) - 26) if largest else 1.0

    def _measure(self, row: Float64Array, col: Float64Array) -> Float64Array:
        """Area, length of the side along the row, length of the side along the column; any shape."""
        right = self._position(row, col + 0.5) - self._position(row, col - 0.5)
        down = self._position(row + 0.5, col) - self._position(row - 0.5, col)
        area = np.linalg.norm(np.cross(right, down), axis=-1)
        return np.stack([area, np.linalg.norm(right, axis=-1), np.linalg.norm(down, axis=-1)])

    def _position(self, row: Float64Array, col: Float64Array) -> Float64Array:
        """Points in space, in metres from the centre of the earth: no pole and no date line there."""
        t = self._transform
        x, y = t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f
        if self._to_lonlat is None:
            return np.stack([x, y, np.zeros_like(x)], axis=-1) * self._unit
        lon, lat = np.radians(self._to_lonlat.transform(x, y))
        with np.errstate(invalid="ignore"):  # infinite where the projection does not reach
            normal = self._a / np.sqrt(1 - self._e2 * np.sin(lat) ** 2)
            x, y = normal * np.cos(lat) * np.cos(lon), normal * np.cos(lat) * np.sin(lon)
            return np.stack([x, y, normal * (1 - self._e2) * np.sin(lat)], axis=-1)

    def _at(self, which: int, row: PixelArray, col: PixelArray) -> Float64Array:
        at = np.stack([row * self._per_row, col * self._per_col])
        return cast(Float64Array, ndimage.map_coordinates(self._lattice[which], at, order=1, mode="nearest"))

    def area(self, row: PixelArray, col: PixelArray) -> Float64Array:
        """Return the area of pixels, in square metres."""
        return self._at(0, row, col)

    def length(
        self,
        row: PixelArray,
        col: PixelArray,
        next_row: PixelArray,
        next_col: PixelArray,
    ) -> Float64Array:
        """Return the length of lines along pixels' sides, between two pixel corners each, in metres."""
        middle = (row + next_row) / 2 - 0.5, (col + next_col) / 2 - 0.5
        across, down = np.abs(next_col - col), np.abs(next_row - row)
        # One of the two is zero; both are computed because that is cheaper than choosing.
        lengths: Float64Array = across * self._at(1, *middle) + down * self._at(2, *middle)
        return lengths

    def measure(self, polygons: PixelArray) -> tuple[Float64Array, Float64Array]:
        """Return areas and perimeters (with those of holes) of any polygons in the CRS of the grid.

        They are measured as geodesic polygons whose sides are first cut into pieces so short that a geodesic
        leaves the straight line by no more than a ten-thousandth of a pixel.

        Returns
        -------
        area, perimeter : ndarray, (n,)
            In square metres and metres; NaN outside the domain of the projection.
        """
        if self._to_lonlat is None:
            return shapely.area(polygons) * self._unit**2, shapely.length(polygons) * self._unit
        t = self._transform
        pixel = math.sqrt(math.prod(self.sides))
        piece = math.sqrt(1000 * pixel) * math.sqrt(abs(t.determinant)) / pixel
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


#: Directions of an outline, clockwise.
EAST, SOUTH, WEST, NORTH = range(4)
#: A pixel corner touches four pixels: upper left (bit 1), upper right (2), lower left (4), lower right (8).
#: By the changed ones among them: which pixel's region turns here, and the directions in which its outline
#: (the region on its right hand) comes and goes. No entry, no turn.
TURNS = {
    1: (0, SOUTH, WEST),
    2: (1, WEST, NORTH),
    4: (2, EAST, SOUTH),
    8: (3, NORTH, EAST),
    7: (0, WEST, SOUTH),
    11: (0, NORTH, WEST),
    13: (0, SOUTH, EAST),
    14: (3, EAST, NORTH),
    9: (0, SOUTH, WEST),
    6: (1, WEST, NORTH),
}
#: Where two changed pixels meet by the corner alone, the second one has its own turn.
SECOND_TURNS = {9: (3, NORTH, EAST), 6: (2, EAST, SOUTH)}


def _lookup(turns: dict[int, tuple[int, int, int]]) -> npt.NDArray[np.int8]:
    found = np.full((16, 3), -1, dtype=np.int8)
    for code, turn in turns.items():
        found[code] = turn
    return found


_FIRST, _SECOND = _lookup(TURNS), _lookup(SECOND_TURNS)


#: Probabilities are added up in units of this, and areas in units of a part of the largest pixel: sums of
#: whole numbers are the same in whatever order and in whatever pieces their terms come.
UNIT = 2.0**-26
#: Quartiles of regions of more pixels than this are of probabilities rounded to one part in as many. Those
#: of all pixels would have to be kept until a region ends, and a region may cover the whole raster.
EXACT = 2048
#: Columns of a row of blocks whose pixels are measured at a time.
SLAB = BLOCK_SIZE
#: Corners of outlines that are linked at a time, if one region does not have more.
CORNERS = 2**18


@dataclasses.dataclass
class _Tally:
    """What is known of regions, or of parts of them; a pixel is the smallest.

    Attributes
    ----------
    label : ndarray, (regions,), int64
    sums : ndarray, (regions, 6), int64
        Over the pixels: 1, row, column, probability in ``UNIT``, area in the unit of :class:`PixelSize`, and
        1 where there is no area.
    first : ndarray, (regions,), int64
        Place of the first pixel, by row and then column.
    low, high : ndarray, (regions,), float32
        Extremes of the probability.
    owner, value, count : ndarray, (values,), int64, float32, int64
        How often a region (by its label) has a probability.
    """

    label: IntArray
    sums: IntArray
    first: IntArray
    low: Float32Array
    high: Float32Array
    owner: IntArray
    value: Float32Array
    count: IntArray

    @classmethod
    def of_pixels(
        cls, label: IntArray, row: IntArray, col: IntArray, prob: Float32Array, size: PixelSize
    ) -> _Tally:
        """Return the tally of the regions that these pixels belong to."""
        area = size.area(row, col)
        known = np.isfinite(area)
        ones = np.ones_like(label)
        units = np.rint(prob / UNIT), np.rint(np.where(known, area, 0) / size.unit), ~known
        sums = np.stack([ones, row, col, *(each.astype(np.int64) for each in units)], axis=1)
        return cls.together([cls(label, sums, row * size.width + col, prob, prob, label, prob, ones)])

    @classmethod
    def together(cls, tallies: Sequence[_Tally]) -> _Tally:
        """Return one tally, in which each label is there once, in order."""

        def gather(name: str) -> PixelArray:
            return np.concatenate([getattr(tally, name) for tally in tallies])

        label = gather("label")
        order = np.argsort(label, kind="stable")
        label = label[order]
        starts = np.flatnonzero(np.diff(label, prepend=-1))
        label, sums = label[starts], np.add.reduceat(gather("sums")[order], starts, axis=0)
        first = np.minimum.reduceat(gather("first")[order], starts)
        low = np.minimum.reduceat(gather("low")[order], starts)
        high = np.maximum.reduceat(gather("high")[order], starts)
        owner, value = gather("owner"), gather("value")
        large = sums[np.searchsorted(label, owner), 0] > EXACT
        value[large] = np.rint(value[large] * EXACT) / EXACT
        # By region, then value: floats of one sign are in the order of their bits. Runs are sorted already.
        order = np.argsort(owner << 32 | value.view(np.int32), kind="stable")
        owner, value = owner[order], value[order]
        starts = np.flatnonzero((np.diff(owner, prepend=-1) != 0) | (np.diff(value, prepend=-1) != 0))
        count = np.add.reduceat(gather("count")[order], starts)
        return cls(label, sums, first, low, high, owner[starts], value[starts], count)

    def where(self, keep: BoolArray) -> _Tally:
        """Return the tally of some labels; ``keep`` has a value for every label ever used."""
        some, values = keep[self.label], keep[self.owner]
        return _Tally(
            *(self.label[some], self.sums[some], self.first[some], self.low[some], self.high[some]),
            *(self.owner[values], self.value[values], self.count[values]),
        )

    def quantile(self, q: float) -> Float64Array:
        """Return a quantile of each region's probabilities, linear between neighbours."""
        n = self.sums[:, 0]
        ends = np.cumsum(self.count)  # of values; ranks are counted over all regions
        at = q * (n - 1)
        rank = np.floor(at).astype(np.int64)
        begin = np.cumsum(n) - n
        below, above = (
            self.value[np.searchsorted(ends, begin + each, side="right")].astype(np.float64)
            for each in (rank, np.minimum(rank + 1, n - 1))
        )
        found: Float64Array = np.clip(below + (above - below) * (at - rank), self.low, self.high)
        return found


@dataclasses.dataclass
class _Corners:
    """Turns of the outlines: one value each per array.

    ``twin`` is the label of the other region where two pixels meet by the corner alone, else 0.
    """

    label: IntArray
    twin: IntArray
    row: npt.NDArray[np.int32]
    col: npt.NDArray[np.int32]
    come: npt.NDArray[np.int8]
    go: npt.NDArray[np.int8]


class Regions:
    """Find the connected regions of a raster that comes in strips, measure them and trace their outlines.

    Kept between strips are the corners of all outlines, one row of labels, and the sums of those regions
    that reach the last row, with how often each probability is among them: what ended above is measured.

    Parameters
    ----------
    grid : Grid
        The whole raster.
    means : BandMeans, optional
        Told which pixels are whose.

    Attributes
    ----------
    size : PixelSize
    """

    def __init__(self, grid: Grid, means: BandMeans | None = None) -> None:
        self._grid = grid
        self._means = means
        self.size = PixelSize(grid)
        self._row = 0
        self._above = np.zeros(grid.width, dtype=np.int64)  # labels in the last row so far
        self._parents: list[tuple[IntArray, IntArray]] = []  # label that was merged, label it went into
        self._next = 1  # labels begin at 1, 0 is "not changed"
        none = np.zeros(0, dtype=np.int64)
        self._open = _Tally.of_pixels(none, none, none, none.astype(np.float32), self.size)
        self._corners: list[_Corners] = []
        self._tables: list[pd.DataFrame] = []

    def add(self, prob: Float32Array, changed: BoolArray) -> None:
        """Add the next rows.

        Parameters
        ----------
        prob : ndarray, (rows, width), float32
        changed : ndarray, (rows, width), bool
        """
        height = changed.shape[0]
        if changed.any() or self._above.any():
            # One row of what came before makes the joins, one unchanged column on each side the outlines.
            stacked = np.zeros((height + 1, self._grid.width + 2), dtype=bool)
            stacked[0, 1:-1] = self._above > 0
            stacked[1:, 1:-1] = changed
            local, count = ndimage.label(stacked)  # by sides alone
            names, merged = self._join(local[0, 1:-1], count)
            self._open.label, self._open.owner = merged[self._open.label], merged[self._open.owner]
            tallies = [self._open]
            inner = local[1:, 1:-1]
            tops, lefts = range(0, height, BLOCK_SIZE), range(0, self._grid.width, SLAB)
            for top, left in itertools.product(tops, lefts):
                part = slice(top, top + BLOCK_SIZE), slice(left, left + SLAB)
                row, col = np.nonzero(changed[part])
                if not row.size:  # most blocks of most scenes
                    continue
                label = names[inner[part][row, col]]
                probs = prob[part][row, col].astype(np.float32)
                row, col = row + top + self._row, col + left
                if self._means is not None:
                    self._means.add(label, row, col)
                tallies.append(_Tally.of_pixels(label, row, col, probs, self.size))
            self._open = _Tally.together(tallies)
            self._find_corners(stacked, local, names)
            self._above = names[local[-1, 1:-1]]
            self._close()
        self._row += height

    def _join(self, above: npt.NDArray[np.int32], count: int) -> tuple[IntArray, IntArray]:
        """Name the regions of a strip, joining those that were apart above it.

        Returns
        -------
        names : ndarray, (count + 1,), int64
            Label of each local region, 0 for 0. The lowest of those that are joined lives on.
        merged : ndarray, int64
            Label that each label used so far goes by now.
        """
        seen = above > 0
        old, place = np.unique(self._above[seen], return_inverse=True)
        nodes = count + len(old)
        links = sparse.coo_array(
            (np.ones(place.size, dtype=np.int32), (above[seen] - 1, count + place)), shape=(nodes, nodes)
        )
        number, component = csgraph.connected_components(links, directed=False)
        name = np.full(number, np.iinfo(np.int64).max)
        np.minimum.at(name, component[count:], old)
        fresh = name == np.iinfo(np.int64).max
        name[fresh] = self._next + np.arange(np.count_nonzero(fresh))
        merged = np.arange(self._next)
        merged[old] = name[component[count:]]
        self._parents.append((old, merged[old]))
        self._next += int(np.count_nonzero(fresh))
        return np.concatenate([[0], name[component[:count]]]), merged

    def _find_corners(self, stacked: BoolArray, local: npt.NDArray[np.int32], names: IntArray) -> None:
        bits = stacked.view(np.uint8)
        code = bits[:-1, :-1] | bits[:-1, 1:] << 1 | bits[1:, :-1] << 2 | bits[1:, 1:] << 3
        for table in (_FIRST, _SECOND):
            row, col = np.nonzero((table[:, 0] >= 0)[code])
            found = code[row, col]
            pixel, come, go = table[found].T
            label = names[local[row + (pixel >> 1), col + (pixel & 1)]]
            # The pixel opposite: changed, and not joined to this one here, only where the two touch.
            other = names[local[row + 1 - (pixel >> 1), col + 1 - (pixel & 1)]]
            twin = np.where((found == 9) | (found == 6), other, 0)
            self._corners.append(
                _Corners(label, twin, (row + self._row).astype(np.int32), col.astype(np.int32), come, go)
            )

    def _close(self) -> None:
        """Measure the regions that do not reach the last row, keep the others' sums."""
        reaches = np.zeros(self._next, dtype=bool)
        reaches[self._above] = True
        done, self._open = self._open.where(~reaches), self._open.where(reaches)
        if done.label.size:
            self._tables.append(self._measure(done))

    def _measure(self, tally: _Tally) -> pd.DataFrame:
        """One row per region."""
        n, row, col, prob, area, no_area = tally.sums.T
        t = self._grid.transform
        x, y = col / n + 0.5, row / n + 0.5
        return pd.DataFrame(
            {
                "label": tally.label,
                "first": tally.first,
                "area_m2": np.where(no_area, np.nan, area * self.size.unit),
                "n_pixels": n,
                # Rounding must not push the mean out of the range of the values.
                "p_mean": np.clip(prob * UNIT / n, tally.low, tally.high),
                "p_max": tally.high.astype(np.float64),
                "p_min": tally.low.astype(np.float64),
                "p_q25": tally.quantile(0.25),
                "p_q50": tally.quantile(0.5),
                "p_q75": tally.quantile(0.75),
                "centroid_x": t.a * x + t.b * y + t.c,
                "centroid_y": t.d * x + t.e * y + t.f,
            }
        )

    def finish(self, settings: PolygonSettings | None = None) -> pd.DataFrame:
        """Return the regions, all rows having come.

        Parameters
        ----------
        settings : PolygonSettings, optional
            Smallest area, and how outlines are made quieter.

        Returns
        -------
        pandas.DataFrame
            The measured columns of ``COLUMNS``, those of the means, and ``geometry``, in the order of the
            first pixel.
        """
        settings = settings or PolygonSettings()
        if self._row != self._grid.height:
            raise ValueError(f"{self._row} of {self._grid.height} rows came")
        nothing = np.zeros((1, self._grid.width), dtype=bool)
        self.add(nothing.astype(np.float32), nothing)  # the lower sides of the last row
        # By now no region is open; measured, that is a table with all columns and no row.
        table = pd.concat(self._tables or [self._measure(self._open)], ignore_index=True)
        # A region outside the domain of its projection has no area (NaN) and is kept.
        table = table[~(table["area_m2"] < settings.min_area)].sort_values("first", ignore_index=True)
        table.insert(0, "id", np.arange(1, len(table) + 1))
        place = np.full(self._next, -1)
        place[table["label"]] = np.arange(len(table))
        place = place[self._roots()]
        if self._means is not None:
            table = pd.concat([table, self._means.table(place, len(table))], axis=1)
        quieter = bool(settings.fill_holes or settings.simplify or settings.smooth) and len(table) > 0
        geometry, perimeter = self._trace(place, Affine.identity() if quieter else self._grid.transform)
        table.insert(2, "perimeter_m", perimeter)
        table["geometry"] = self._generalize(table, geometry, settings) if quieter else geometry
        return table.drop(columns=["label", "first"])

    def _generalize(self, table: pd.DataFrame, outlines: PixelArray, settings: PolygonSettings) -> PixelArray:
        """Return quieter polygons in the CRS, and write the measures of those that were altered."""
        quiet = outlines  # in pixels, until all is done
        if settings.fill_holes:
            quiet = fill_holes(quiet, settings.fill_holes, self.size.area)
        if settings.simplify:
            quiet = simplify(quiet, settings.simplify, self.size.sides)
        if settings.smooth:
            quiet = smooth(quiet, settings.smooth)
        altered = ~shapely.equals_exact(quiet, outlines, normalize=True)
        t = self._grid.transform

        def place(points: Float64Array) -> Float64Array:
            x, y = points.T
            return np.stack([t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f], axis=1)

        polygons: PixelArray = shapely.orient_polygons(shapely.transform(quiet, place))
        area, perimeter = self.size.measure(polygons[altered])
        centre = shapely.get_coordinates(shapely.centroid(polygons[altered]))
        for column, values in (
            ("area_m2", area),
            ("perimeter_m", perimeter),
            ("centroid_x", centre[:, 0]),
            ("centroid_y", centre[:, 1]),
        ):
            table.loc[altered, column] = values
        return polygons

    def _roots(self) -> IntArray:
        """Label that lives on, for every label ever used."""
        roots = np.arange(self._next)
        for old, new in reversed(self._parents):  # what a label went into is settled before it
            roots[old] = roots[new]
        return roots

    def _trace(self, place: IntArray, transform: Affine) -> tuple[PixelArray, Float64Array]:
        """Link the corners to rings and the rings to polygons.

        Parameters
        ----------
        place : ndarray, int64
            Position of each label's region in the result, -1 where it is left out.
        transform : affine.Affine
            From corners of pixels to the coordinates of the polygons.

        Returns
        -------
        polygons : ndarray of shapely.Polygon
        perimeter : ndarray, float64
            In metres.
        """
        count = int(place.max(initial=-1)) + 1
        if not count:
            return np.zeros(0, dtype=object), np.zeros(0)
        label, twin, row, col, come, go = (
            np.concatenate([getattr(corners, field.name) for corners in self._corners])
            for field in dataclasses.fields(_Corners)
        )
        self._corners.clear()
        region = place[label]
        # Two pixels touch by the corner. Of two regions, each outline stays with its own pixel. Of one
        # region, which then surrounds a hole, the outline must stay with the background instead: the
        # outer ring passes the corner, the hole touches it, and neither touches itself. That is known
        # only now, because the two pixels may have been joined by a later strip.
        go[(twin > 0) & (place[twin] == region)] ^= 2
        del label, twin
        order = np.argsort(region, kind="stable")
        ends = np.searchsorted(region, np.arange(count + 1), sorter=order)  # before them, those left out
        polygons, perimeters, first = [], [], 0
        while first < count:  # some regions at a time: what is needed beside the corners is ten times as much
            last = max(first + 1, int(np.searchsorted(ends, ends[first] + CORNERS, side="right")) - 1)
            some = order[ends[first] : ends[last]]
            outlines = _outlines(
                region[some] - first, row[some], col[some], come[some], go[some], transform, self.size
            )
            polygons.append(outlines[0])
            perimeters.append(outlines[1])
            first = last
        return np.concatenate(polygons), np.concatenate(perimeters)


def _outlines(
    region: IntArray,
    row: npt.NDArray[np.int32],
    col: npt.NDArray[np.int32],
    come: npt.NDArray[np.int8],
    go: npt.NDArray[np.int8],
    transform: Affine,
    size: PixelSize,
) -> tuple[PixelArray, Float64Array]:
    """Link all corners of some regions, which are numbered from 0, to polygons, and measure their sides."""
    by_row = np.lexsort((col, row))
    region, row, col, come, go = region[by_row], row[by_row], col[by_row], come[by_row], go[by_row]

    # Along a row of corners, lines that run east begin and end in turn; likewise the other three.
    before = np.zeros(region.size, dtype=np.int64)
    by_col = np.lexsort((row, col))
    for direction, order in (
        (EAST, np.arange(region.size)),
        (WEST, np.arange(region.size)),
        (SOUTH, by_col),
        (NORTH, by_col),
    ):
        before[order[come[order] == direction]] = order[go[order] == direction]

    perimeter = np.bincount(region, weights=size.length(row[before], col[before], row, col))

    order, ring = _cycles(before)  # backwards: outer rings counter-clockwise on a north-up map
    t = transform
    x, y = col[order].astype(np.float64), row[order].astype(np.float64)
    points = np.stack([t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f], axis=1)
    rings = shapely.linearrings(points, indices=ring)
    # A region's upper left corner lies on its outer ring, so of its rings that one was found first.
    starts = np.flatnonzero(np.diff(ring, prepend=-1))
    owner = region[order[starts]]
    by_owner = np.argsort(owner, kind="stable")
    polygons: PixelArray = shapely.polygons(rings[by_owner], indices=owner[by_owner])
    return polygons, perimeter.astype(np.float64, copy=False)


def _cycles(following: IntArray) -> tuple[IntArray, IntArray]:
    """Walk the cycles of a permutation.

    Returns
    -------
    order : ndarray, int64
        The elements, cycle after cycle, each beginning with its lowest element, in the order of these.
    cycle : ndarray, int64
        Number of the cycle, from 0, for each element of ``order``.
    """
    # array instead of list: 8 bytes an element
    onward = array.array("q", np.ascontiguousarray(following, dtype=np.int64).tobytes())
    order, lengths = array.array("q"), array.array("q")
    for start in range(len(onward)):
        at, length = start, 0
        while onward[at] >= 0:
            order.append(at)
            length += 1
            after = onward[at]
            onward[at] = -1  # been here
            at = after
        if length:
            lengths.append(length)
    each = np.frombuffer(lengths, dtype=np.int64)
    return np.frombuffer(order, dtype=np.int64), np.repeat(np.arange(each.size), each)


__all__ = [
    "COLUMNS",
    "PixelSize",
    "PolygonSummary",
    "Regions",
    "polygonize",
    "strips",
]
