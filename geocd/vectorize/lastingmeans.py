"""Columns of `--confirm`: how lasting each polygon is, and when it was last seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rasterio.windows import Window

from geocd.raster.pair import Pair
from geocd.scene.lasting import Lasting
from geocd.types import Float64Array, IntArray
from geocd.vectorize.bandmeans import by_block

if TYPE_CHECKING:
    import pandas as pd

#: A later date counts for a polygon where at least this share of its pixels is valid.
LEAST_VALID = 0.5
#: From this share on, a later date looks more like the after image than like the before image.
STILL_THERE = 0.5
#: Names of the columns.
COLUMNS = ("lasting", "last_seen")


class LastingMeans:
    """Sum over regions, which are added in parts, how far later dates depart from either date of the pair.

    In memory is a row of sums for each region in each block of pixels that it has a part in.

    Parameters
    ----------
    pair : Pair
        Read only where something changed, block by block.
    lasting : Lasting
    names : sequence of str
        Dates of the after image and of the later ones, or their file names.
    """

    def __init__(self, pair: Pair, lasting: Lasting, names: Sequence[str]) -> None:
        self._pair, self._lasting, self._names = pair.without_features(), lasting, list(names)
        self._labels: list[IntArray] = []
        self._sums: list[Float64Array] = []

    def add(self, label: IntArray, row: IntArray, col: IntArray) -> None:
        """Add pixels, none of them twice; see :meth:`geocd.vectorize.bandmeans.BandMeans.add`."""
        for pixels in by_block(row, col, self._pair.grid.width):
            self._add_block(label[pixels], row[pixels], col[pixels])

    def _add_block(self, label: IntArray, row: IntArray, col: IntArray) -> None:
        top, left = int(row.min()), int(col.min())
        chip = self._pair.read(Window(left, top, int(col.max()) - left + 1, int(row.max()) - top + 1))
        row, col = row - top, col - left
        labels, index = np.unique(label, return_inverse=True)
        count = len(self._lasting.later)
        sums = np.zeros((labels.size, 1 + 3 * count))
        sums[:, 0] = np.bincount(index, minlength=labels.size)
        for later in range(count):
            departures = self._lasting.departures(chip, later)
            valid = departures.valid[row, col]
            parts = valid, departures.from_before[row, col], departures.from_after[row, col]
            for column, values in enumerate(parts, 1 + 3 * later):
                sums[:, column] = np.bincount(index[valid], values[valid], labels.size)
        self._labels.append(labels)
        self._sums.append(sums)

    def table(self, index: IntArray, count: int) -> pd.DataFrame:
        """Return the columns of all regions; the parameters are those of ``BandMeans.table``.

        Returns
        -------
        pandas.DataFrame
            ``lasting``, float32 in [0, 1], NaN where no later date is valid: mean over the later dates of the
            share that the departure from the before image has in the departures from both. ``last_seen``,
            str: the last date on which that share is above one half, or that of the after image.
        """
        import pandas as pd

        sums = np.zeros((count, 1 + 3 * len(self._lasting.later)))
        for labels, part in zip(self._labels, self._sums, strict=True):
            included = index[labels] >= 0
            np.add.at(sums, index[labels[included]], part[included])
        valid, from_before, from_after = (sums[:, first::3] for first in (1, 2, 3))
        counts = valid >= np.maximum(LEAST_VALID * sums[:, :1], 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(counts, from_before / (from_before + from_after), np.nan)
            seen = share >= STILL_THERE
            lasting = np.where(counts, share, 0).sum(axis=1) / counts.sum(axis=1)
        last = np.where(seen, np.arange(1, 1 + share.shape[1]), 0).max(axis=1, initial=0)
        seen_on = pd.Series([self._names[date] for date in last], dtype="object")
        return pd.DataFrame({"lasting": lasting.astype(np.float32), "last_seen": seen_on})


__all__ = ["COLUMNS", "LastingMeans"]
