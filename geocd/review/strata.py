"""Strata of a probability raster: changed, unchanged near the decision, unchanged; points of each.

Few of the unchanged pixels changed after all, but there are so many that they decide how uncertain the area
of change is. Most of them are near the decision, so these have a stratum of their own: a buffer, as
Olofsson et al., "Mitigating the effects of omission errors on area and area change estimates", Remote
Sensing of Environment 236 (2020), recommend.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from geocd.raster.files import grid_of, open_raster
from geocd.raster.grid import Grid
from geocd.types import Float32Array, Float64Array, IntArray
from geocd.vectorize.pixelsize import PixelSize
from geocd.vectorize.polygons import probability_rows

#: Strata by name, in their order.
CHANGED, NEAR, UNCHANGED = "changed", "near", "unchanged"
#: Share of the unchanged area that is near the decision: that with the highest probability.
NEAR_SHARE = 0.1
#: Share of each stratum that is expected to be right in the map, for the size of the sample: S_i of eq. 13 of
#: Olofsson et al. (2014) is the square root of U_i (1 - U_i).
EXPECTED = {CHANGED: 0.7, NEAR: 0.9, UNCHANGED: 0.98}
#: Standard error of the overall accuracy that the sample is to reach; that of the paper's example.
STANDARD_ERROR = 0.01
#: Points of a stratum, unless the sample is small: 50 to 100 for a rare class, as the paper has it.
LEAST = 75
#: Columns whose pixels are taken to be of one size in a row; a ten-thousandth at most is lost.
SLAB = 256
#: The upper 16 bits of a probability in float32 are its bin: bins as wide as 1/128 of the probability.
BINS = (int(np.float32(1).view(np.uint32)) >> 16) + 1


@dataclasses.dataclass(frozen=True)
class Stratum:
    """Pixels with a probability from ``low`` up to, but below, ``high``.

    Attributes
    ----------
    name : str
    low, high : float
        Limits of the probability.
    pixels : int
    area : float
        On the ellipsoid, in square metres.
    """

    name: str
    low: float
    high: float
    pixels: int
    area: float

    @property
    def map_class(self) -> str:
        """What the map says of it."""
        return CHANGED if self.name == CHANGED else UNCHANGED


@dataclasses.dataclass(frozen=True)
class ProbRows:
    """Whole rows of a probability raster.

    Attributes
    ----------
    row : int
        The first of them.
    prob : ndarray, (rows, width), float32
        NaN where not valid.
    size : PixelSize
    """

    row: int
    prob: Float32Array
    size: PixelSize

    def slabs(self) -> Iterator[tuple[int, Float32Array, Float64Array]]:
        """Yield first column, probability and the area of a pixel of each row, for some columns at a time."""
        rows = np.arange(self.row, self.row + len(self.prob), dtype=np.float64)
        for col in range(0, self.prob.shape[1], SLAB):
            part = self.prob[:, col : col + SLAB]
            middle = np.full(rows.size, col + (part.shape[1] - 1) / 2)
            yield col, part, self.size.area(rows, middle)


def prob_rows(path: str) -> Iterator[ProbRows]:
    """Yield a probability raster by strips of rows, from the top.

    Raises
    ------
    RasterOpenError, RasterReadError, GridError
    """
    size, row = PixelSize(grid_at(path)), 0
    for prob in probability_rows(path):
        yield ProbRows(row, prob, size)
        row += len(prob)


def grid_at(path: str) -> Grid:
    """Return the grid of a raster file.

    Raises
    ------
    RasterOpenError, GridError
    """
    with open_raster(path) as dataset:
        return grid_of(dataset, path)


def strata_of(path: str, threshold: float, near_share: float = NEAR_SHARE) -> list[Stratum]:
    """Return the strata of a probability raster that have a pixel.

    Parameters
    ----------
    path : str
        Its first band is the change probability, in [0, 1].
    threshold : float
        Changed where the probability is at least this.
    near_share : float
        Share of the unchanged area that counts as near the decision, to within the width of a bin.

    Raises
    ------
    RasterOpenError, RasterReadError, GridError
    """
    # three rows: pixels and area by bin below the threshold, and the two of the changed
    below, changed = np.zeros((2, BINS)), np.zeros(2)
    limit = np.float32(threshold)
    for rows in prob_rows(path):
        for _, prob, area in rows.slabs():
            areas = np.broadcast_to(area[:, None], prob.shape)
            is_changed = prob >= limit
            changed += is_changed.sum(), areas[is_changed].sum()
            unchanged = prob < limit
            bins = (prob[unchanged].clip(0, 1) + np.float32(0)).view(np.uint32) >> 16  # no negative zero
            below[0] += np.bincount(bins, minlength=BINS)
            below[1] += np.bincount(bins, areas[unchanged], minlength=BINS)
    first = _first_near(below[1], near_share)
    start = float(np.uint32(first << 16).view(np.float32)) if first < BINS else float(limit)
    sums = {CHANGED: changed, NEAR: below[:, first:].sum(axis=1), UNCHANGED: below[:, :first].sum(axis=1)}
    limits = {CHANGED: (float(limit), math.inf), NEAR: (start, float(limit)), UNCHANGED: (-math.inf, start)}
    return [
        Stratum(name, *limits[name], int(pixels), float(area))
        for name, (pixels, area) in sums.items()
        if pixels
    ]


def _first_near(area: Float64Array, share: float) -> int:
    """Return the first bin of the stratum near the decision: all bins from it have at most this share."""
    above = np.cumsum(area[::-1])[::-1]
    return int(np.count_nonzero(above > share * area.sum()))


def sample_sizes(
    strata: Sequence[Stratum], *, size: int | None = None, standard_error: float = STANDARD_ERROR
) -> list[int]:
    """Return the number of points of each stratum: all of them together by eq. 13, then divided.

    Strata other than the unchanged one get ``LEAST`` points (less, where ``size`` is small), the unchanged
    one the rest, and at least as many. No stratum has more points than pixels.

    Parameters
    ----------
    strata : sequence of Stratum
    size : int, optional
        Number of points; default: n = (sum of W_i S_i / ``standard_error``)**2.
    standard_error : float
        That the overall accuracy is to have.
    """
    total = sum(stratum.area for stratum in strata)
    if size is None:
        spread = sum(
            stratum.area / total * math.sqrt(EXPECTED[stratum.name] * (1 - EXPECTED[stratum.name]))
            for stratum in strata
        )
        size, least = math.ceil((spread / standard_error) ** 2), LEAST
    else:
        least = max(2, min(LEAST, size // (len(strata) + 1)))
    others = [stratum for stratum in strata if stratum.name != UNCHANGED]
    points = {stratum.name: least for stratum in others}
    points[UNCHANGED] = max(least, size - least * len(others))
    return [min(points[stratum.name], stratum.pixels) for stratum in strata]


def indexes_of(prob: Float32Array, strata: Sequence[Stratum]) -> IntArray:
    """Return the position of each pixel's stratum, -1 where not valid."""
    index = np.full(prob.shape, -1, dtype=np.int64)
    for position, stratum in enumerate(strata):
        index[(prob >= np.float32(stratum.low)) & (prob < np.float32(stratum.high))] = position
    return index


__all__ = [
    "CHANGED",
    "NEAR",
    "UNCHANGED",
    "ProbRows",
    "Stratum",
    "grid_at",
    "indexes_of",
    "prob_rows",
    "sample_sizes",
    "strata_of",
]
