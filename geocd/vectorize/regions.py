"""Connected regions of a raster that is read in strips: connected across strips, and measured.

Pixels are summed up in integers, so memory depends on the regions and not on the raster, and the result does
not depend on the height of a strip.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
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
from geocd.vectorize.kinds import Evidence, kinds
from geocd.vectorize.lastingmeans import LastingMeans
from geocd.vectorize.outlines import FIRST, SECOND, Corners, Turns, link_outlines
from geocd.vectorize.pixelsize import PixelSize

if TYPE_CHECKING:
    import pandas as pd

#: Probabilities are summed in units of this, and areas in units of a fraction of the largest pixel: sums of
#: integers do not depend on the order or the grouping of their terms.
UNIT = 2.0**-26
#: In regions of more pixels than this, quartiles are those of probabilities rounded to multiples of its
#: reciprocal. Exact ones need every value until a region ends, and a region may cover the whole raster.
EXACT = 2048
#: Columns of a row of blocks whose pixels are measured at once.
SLAB = BLOCK_SIZE
#: Pixels of rows that are added at once, unless one row has more.
PIECE = 2**20
#: Corners of outlines that are linked at once, unless one region has more.
CORNERS = 2**18


@dataclasses.dataclass
class _Tally:
    """Sums, extremes and values of regions or of parts of them; the smallest part is a pixel.

    Attributes
    ----------
    label : ndarray, (regions,), int64
    sums : ndarray, (regions, 6), int64
        Over the pixels: 1, row, column, probability in ``UNIT``, area in the unit of :class:`PixelSize`, and
        1 where there is no area.
    first : ndarray, (regions,), int64
        Index of the first pixel, counted by row and then column.
    low, high : ndarray, (regions,), float32
        Smallest and largest probability.
    owner, value, count : ndarray, (values,), int64, float32, int64
        Label of a region, a probability in it, and the number of its pixels with this probability.
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
        finite = np.isfinite(area)
        ones = np.ones_like(label)
        units = np.rint(prob / UNIT), np.rint(np.where(finite, area, 0) / size.unit), ~finite
        sums = np.stack([ones, row, col, *(term.astype(np.int64) for term in units)], axis=1)
        return cls.combined([cls(label, sums, row * size.width + col, prob, prob, label, prob, ones)])

    @classmethod
    def combined(cls, tallies: Sequence[_Tally]) -> _Tally:
        """Return one tally with each label once, in ascending order."""

        def gather(name: str) -> PixelArray:
            """Return one attribute of all tallies."""
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
        # By region, then value: non-negative floats sort like their bits. Tallies are sorted already.
        order = np.argsort(owner << 32 | value.view(np.int32), kind="stable")
        owner, value = owner[order], value[order]
        starts = np.flatnonzero((np.diff(owner, prepend=-1) != 0) | (np.diff(value, prepend=-1) != 0))
        count = np.add.reduceat(gather("count")[order], starts)
        return cls(label, sums, first, low, high, owner[starts], value[starts], count)

    def select(self, selected: BoolArray) -> _Tally:
        """Return the tally of some labels.

        Parameters
        ----------
        selected : ndarray, (labels,), bool
            One value for every label used so far.
        """
        region, value = selected[self.label], selected[self.owner]
        return _Tally(
            self.label[region],
            self.sums[region],
            self.first[region],
            self.low[region],
            self.high[region],
            self.owner[value],
            self.value[value],
            self.count[value],
        )

    def quantile(self, q: float) -> Float64Array:
        """Return a quantile of the probabilities of each region, interpolated linearly between values."""
        n = self.sums[:, 0]
        ends = np.cumsum(self.count)  # of values; ranks are counted over all regions
        position = q * (n - 1)
        rank = np.floor(position).astype(np.int64)
        begin = np.cumsum(n) - n
        below, above = (
            self.value[np.searchsorted(ends, begin + neighbour, side="right")].astype(np.float64)
            for neighbour in (rank, np.minimum(rank + 1, n - 1))
        )
        quantiles: Float64Array = np.clip(below + (above - below) * (position - rank), self.low, self.high)
        return quantiles


class Regions:
    """Find the connected regions of a raster that is read in strips, measure them and trace their outlines.

    In memory between strips are the corners of all outlines, one row of labels, and the tallies of regions
    that reach the last row; regions that ended above it have been measured.

    Parameters
    ----------
    grid : Grid
        The whole raster.
    means : BandMeans, optional
        Receives the pixels of each region.
    lasting : LastingMeans, optional
        Likewise.

    Attributes
    ----------
    grid : Grid
    size : PixelSize
    """

    def __init__(
        self, grid: Grid, means: BandMeans | None = None, lasting: LastingMeans | None = None
    ) -> None:
        self.grid = grid
        self._means = means
        self._measures = [measures for measures in (means, lasting) if measures is not None]
        self._lasting = lasting
        self.size = PixelSize(grid)
        self._row = 0
        self._above = np.zeros(grid.width, dtype=np.int64)  # labels in the last row so far
        self._parents: list[tuple[IntArray, IntArray]] = []  # label that was merged, label it went into
        self._next = 1  # labels begin at 1, 0 is "not changed"
        empty = np.zeros(0, dtype=np.int64)
        self._open = _Tally.of_pixels(empty, empty, empty, empty.astype(np.float32), self.size)
        self._corners: list[Corners] = []
        self._tables: list[Mapping[str, PixelArray]] = []

    def add(self, prob: Float32Array, changed: BoolArray) -> None:
        """Add the next rows.

        Parameters
        ----------
        prob : ndarray, (rows, width), float32
            Change probability in [0, 1]; not used where not changed.
        changed : ndarray, (rows, width), bool
        """
        rows = max(1, PIECE // self.grid.width)
        for start in range(0, changed.shape[0], rows):
            self._add(prob[start : start + rows], changed[start : start + rows])

    def _add(self, prob: Float32Array, changed: BoolArray) -> None:
        """Add rows that fit into memory together with what is computed of them."""
        height = changed.shape[0]
        if changed.any() or self._above.any():
            # The last row above connects the strips; an unchanged column on each side closes the outlines.
            stacked = np.zeros((height + 1, self.grid.width + 2), dtype=bool)
            stacked[0, 1:-1] = self._above > 0
            stacked[1:, 1:-1] = changed
            local, count = ndimage.label(stacked)  # 4-connected
            labels, merged = self._join(local[0, 1:-1], count)
            self._open.label, self._open.owner = merged[self._open.label], merged[self._open.owner]
            tallies = [self._open]
            inner = local[1:, 1:-1]
            tops, lefts = range(0, height, BLOCK_SIZE), range(0, self.grid.width, SLAB)
            for top, left in itertools.product(tops, lefts):
                part = slice(top, top + BLOCK_SIZE), slice(left, left + SLAB)
                row, col = np.nonzero(changed[part])
                if not row.size:  # most blocks of most scenes
                    continue
                label = labels[inner[part][row, col]]
                probs = prob[part][row, col].astype(np.float32)
                row, col = row + top + self._row, col + left
                for measures in self._measures:
                    measures.add(label, row, col)
                tallies.append(_Tally.of_pixels(label, row, col, probs, self.size))
            self._open = _Tally.combined(tallies)
            self._find_corners(stacked, local, labels)
            self._above = labels[local[-1, 1:-1]]
            self._close()
        self._row += height

    def _join(self, above: npt.NDArray[np.int32], count: int) -> tuple[IntArray, IntArray]:
        """Label the regions of a strip, and merge regions that the strip connects.

        Parameters
        ----------
        above : ndarray, (width,), int32
            Local regions, from 1, in the last row above the strip; 0 where not changed.
        count : int
            Number of local regions.

        Returns
        -------
        labels : ndarray, (count + 1,), int64
            Label of each local region, 0 for 0. Of labels that are merged the lowest remains.
        merged : ndarray, int64
            The label into which each label used so far was merged, or itself.
        """
        changed = above > 0
        old, old_index = np.unique(self._above[changed], return_inverse=True)
        nodes = count + len(old)
        links = sparse.coo_array(
            (np.ones(old_index.size, dtype=np.int32), (above[changed] - 1, count + old_index)),
            shape=(nodes, nodes),
        )
        number, component = csgraph.connected_components(links, directed=False)
        label = np.full(number, np.iinfo(np.int64).max)
        np.minimum.at(label, component[count:], old)
        new = label == np.iinfo(np.int64).max
        label[new] = self._next + np.arange(np.count_nonzero(new))
        merged = np.arange(self._next)
        merged[old] = label[component[count:]]
        self._parents.append((old, merged[old]))
        self._next += int(np.count_nonzero(new))
        return np.concatenate([[0], label[component[:count]]]), merged

    def _find_corners(self, stacked: BoolArray, local: npt.NDArray[np.int32], labels: IntArray) -> None:
        """Find the corners of the outlines above and in a strip, see :meth:`add`."""
        bits = stacked.view(np.uint8)
        code = bits[:-1, :-1] | bits[:-1, 1:] << 1 | bits[1:, :-1] << 2 | bits[1:, 1:] << 3
        for table in (FIRST, SECOND):
            row, col = np.nonzero((table[:, 0] >= 0)[code])
            corner = code[row, col]
            pixel, incoming, outgoing = table[corner].T
            label = labels[local[row + (pixel >> 1), col + (pixel & 1)]]
            # The pixel opposite is changed, without a shared side here, only where the two touch.
            opposite = labels[local[row + 1 - (pixel >> 1), col + 1 - (pixel & 1)]]
            opposite = np.where((corner == 9) | (corner == 6), opposite, 0)
            turns = Turns((row + self._row).astype(np.int32), col.astype(np.int32), incoming, outgoing)
            self._corners.append(Corners(label, opposite, turns))

    def _close(self) -> None:
        """Measure the regions that do not reach the last row; the others stay open."""
        is_open = np.zeros(self._next, dtype=bool)
        is_open[self._above] = True
        closed, self._open = self._open.select(~is_open), self._open.select(is_open)
        if closed.label.size:
            self._tables.append(self._measure(closed))

    def _measure(self, tally: _Tally) -> dict[str, PixelArray]:
        """Return the measures of regions by column, one value for each."""
        n, row, col, prob, area, no_area = tally.sums.T
        x, y = self.grid.to_xy(col / n + 0.5, row / n + 0.5)
        return {
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

    def finish(self, settings: PolygonSettings | None = None) -> pd.DataFrame:
        """Return the regions, after all rows were added.

        Parameters
        ----------
        settings : PolygonSettings, optional
            Smallest area, and how outlines are generalized.

        Returns
        -------
        pandas.DataFrame
            The measured columns of ``COLUMNS``, those of the means, and ``geometry``; one row for each
            region, ordered by its first pixel.

        Raises
        ------
        ValueError
            Rows are missing.
        """
        import pandas as pd  # only now: tiles need the memory that it takes

        settings = settings or PolygonSettings()
        if self._row != self.grid.height:
            raise ValueError(f"{self._row} of {self.grid.height} rows were added")
        unchanged = np.zeros((1, self.grid.width), dtype=bool)
        self.add(unchanged.astype(np.float32), unchanged)  # closes the outlines of the last row
        # Now no region is open, so that the open ones give a table with all columns and no row.
        tables = self._tables or [self._measure(self._open)]
        table = pd.DataFrame({name: np.concatenate([part[name] for part in tables]) for name in tables[0]})
        del tables
        self._tables.clear()
        # A region outside the domain of its projection has no area (NaN) and is kept.
        table = table[~(table["area_m2"] < settings.min_area)].sort_values("first", ignore_index=True)
        table.insert(0, "id", np.arange(1, len(table) + 1))
        index = np.full(self._next, -1)
        index[table["label"]] = np.arange(len(table))
        index = index[self._roots()]
        if self._lasting is not None:
            table = pd.concat([table, self._lasting.table(index, len(table))], axis=1)
        if self._means is not None:
            bands = self._means.measured(index, len(table))
            table = pd.concat([table, bands.columns], axis=1)
        generalize = bool(settings.fill_holes or settings.simplify or settings.smooth) and len(table) > 0
        pixels = dataclasses.replace(self.grid, transform=Affine.identity())
        geometry, perimeter = self._trace(index, pixels if generalize else self.grid)
        table.insert(2, "perimeter_m", perimeter)
        if self._means is not None and self._means.reflectance is not None:
            side = float(np.sqrt(np.prod(self.size.sides)))
            width = 2 * table["area_m2"].to_numpy() / (perimeter * side)
            evidence = Evidence(
                bands.spectra, bands.residual, bands.spread, width, table["n_pixels"].to_numpy()
            )
            table = pd.concat([table, kinds(evidence)], axis=1)
        table["geometry"] = self._generalize(table, geometry, settings) if generalize else geometry
        return table.drop(columns=["label", "first"])

    def _generalize(self, table: pd.DataFrame, outlines: PixelArray, settings: PolygonSettings) -> PixelArray:
        """Return generalized polygons in the CRS; in ``table``, replace the measures of those that changed.

        Parameters
        ----------
        table : pandas.DataFrame
        outlines : ndarray of shapely.Polygon
            In pixels, ``(col, row)``.
        settings : PolygonSettings
        """
        general = outlines
        if settings.fill_holes:
            general = fill_holes(general, settings.fill_holes, self.size.area)
        if settings.simplify:
            general = simplify(general, settings.simplify, self.size.sides)
        if settings.smooth:
            general = smooth(general, settings.smooth)
        altered = ~shapely.equals_exact(general, outlines, normalize=True)

        def to_xy(points: Float64Array) -> Float64Array:
            return np.stack(self.grid.to_xy(*points.T), axis=1)

        polygons: PixelArray = shapely.orient_polygons(shapely.transform(general, to_xy))
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
        """Return the label that each label used so far was merged into in the end, or itself."""
        roots = np.arange(self._next)
        for old, new in reversed(self._parents):  # last merge first, so that the new label has its root
            roots[old] = roots[new]
        return roots

    def _trace(self, index: IntArray, grid: Grid) -> tuple[PixelArray, Float64Array]:
        """Link the corners to rings and the rings to polygons.

        Parameters
        ----------
        index : ndarray, (labels,), int64
            Row of the result for each label used so far, -1 where its region is left out.
        grid : Grid
            From corners of pixels to the coordinates of the polygons.

        Returns
        -------
        polygons : ndarray of shapely.Polygon
        perimeter : ndarray, float64
            In metres.
        """
        count = int(index.max(initial=-1)) + 1
        if not count:
            return np.zeros(0, dtype=object), np.zeros(0)
        label = np.concatenate([corners.label for corners in self._corners])
        opposite = np.concatenate([corners.opposite for corners in self._corners])
        turns = Turns.concatenate([corners.turns for corners in self._corners])
        self._corners.clear()
        region = index[label]
        # Two pixels touch by the corner. Of two regions, each outline stays with its own pixel. Of one
        # region, which then surrounds a hole, the outline must stay with the background instead: the
        # outer ring passes the corner, the hole touches it, and neither touches itself. Only now is it
        # certain which of the two it is, because a later strip may have connected the two pixels.
        turns.outgoing[(opposite > 0) & (index[opposite] == region)] ^= 2
        del label, opposite
        order = np.argsort(region, kind="stable")
        ends = np.searchsorted(region, np.arange(count + 1), sorter=order)  # regions left out come first
        polygons, perimeters, first = [], [], 0
        while first < count:  # in chunks: linking takes ten times the memory of the corners
            last = max(first + 1, int(np.searchsorted(ends, ends[first] + CORNERS, side="right")) - 1)
            chunk = order[ends[first] : ends[last]]
            outlines = link_outlines(region[chunk] - first, turns.take(chunk), grid, self.size)
            polygons.append(outlines[0])
            perimeters.append(outlines[1])
            first = last
        return np.concatenate(polygons), np.concatenate(perimeters)


__all__ = ["Regions"]
