"""Connected regions of a raster that comes in strips: joined, and measured.

Every number is summed per pixel in whole numbers, so memory depends on the regions and not on the raster, and
the result does not depend on the height of a strip.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from rasterio.transform import Affine
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from geocd.config import PolygonSettings
from geocd.raster.grid import Grid
from geocd.raster.writer import BLOCK_SIZE
from geocd.types import BoolArray, Float32Array, Float64Array, IntArray, PixelArray
from geocd.vectorize.bandmeans import BandMeans
from geocd.vectorize.generalize import fill_holes, simplify, smooth
from geocd.vectorize.outlines import FIRST, SECOND, Corners, link_outlines
from geocd.vectorize.pixelsize import PixelSize

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
        self._corners: list[Corners] = []
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
        for table in (FIRST, SECOND):
            row, col = np.nonzero((table[:, 0] >= 0)[code])
            found = code[row, col]
            pixel, come, go = table[found].T
            label = names[local[row + (pixel >> 1), col + (pixel & 1)]]
            # The pixel opposite: changed, and not joined to this one here, only where the two touch.
            other = names[local[row + 1 - (pixel >> 1), col + 1 - (pixel & 1)]]
            twin = np.where((found == 9) | (found == 6), other, 0)
            self._corners.append(
                Corners(label, twin, (row + self._row).astype(np.int32), col.astype(np.int32), come, go)
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
        x, y = self._grid.to_xy(col / n + 0.5, row / n + 0.5)
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
                "centroid_x": x,
                "centroid_y": y,
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
        pixels = dataclasses.replace(self._grid, transform=Affine.identity())
        geometry, perimeter = self._trace(place, pixels if quieter else self._grid)
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

        def to_xy(points: Float64Array) -> Float64Array:
            return np.stack(self._grid.to_xy(*points.T), axis=1)

        polygons: PixelArray = shapely.orient_polygons(shapely.transform(quiet, to_xy))
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

    def _trace(self, place: IntArray, grid: Grid) -> tuple[PixelArray, Float64Array]:
        """Link the corners to rings and the rings to polygons.

        Parameters
        ----------
        place : ndarray, int64
            Position of each label's region in the result, -1 where it is left out.
        grid : Grid
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
            for field in dataclasses.fields(Corners)
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
            outlines = link_outlines(
                region[some] - first, row[some], col[some], come[some], go[some], grid, self.size
            )
            polygons.append(outlines[0])
            perimeters.append(outlines[1])
            first = last
        return np.concatenate(polygons), np.concatenate(perimeters)


__all__ = [
    "Regions",
]
