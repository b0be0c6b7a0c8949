"""Columns of `--confirm`: how lasting each polygon is, and when it was last seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from geocd.raster.pair import Chip, Pair
from geocd.scene.lasting import Lasting
from geocd.types import IntArray, PixelArray
from geocd.vectorize.regionsums import RegionSums

if TYPE_CHECKING:
    import pandas as pd

#: A later date counts for a polygon where at least this share of its pixels is valid.
LEAST_VALID = 0.5
#: From this share on, a later date looks more like the after image than like the before image.
STILL_THERE = 0.5
#: Names of the columns.
COLUMNS = ("lasting", "last_seen")


class LastingMeans(RegionSums):
    """Sum over regions, which are added in parts, how far later dates depart from either date of the pair.

    Parameters
    ----------
    pair : Pair
    lasting : Lasting
    names : sequence of str
        Dates of the after image and of the later ones, or their file names.
    """

    def __init__(self, pair: Pair, lasting: Lasting, names: Sequence[str]) -> None:
        self._lasting, self._names = lasting, list(names)
        super().__init__(pair, 3 * len(lasting.later))

    def values(self, chip: Chip, row: IntArray, col: IntArray) -> Iterator[PixelArray]:
        """Yield what is summed of each later date: whether it is valid, and there its departures."""
        for departures in self._lasting.departures(chip):
            valid = departures.valid[row, col]
            yield valid
            for values in (departures.from_before, departures.from_after):
                yield np.where(valid, values[row, col], 0)

    def table(self, index: IntArray, count: int) -> pd.DataFrame:
        """Return the columns of all regions; the parameters are those of :meth:`RegionSums.total`.

        Returns
        -------
        pandas.DataFrame
            ``lasting``, float32 in [0, 1], NaN where no later date is valid: mean over the later dates of the
            share that the departure from the before image has in the departures from both. ``last_seen``,
            str: the last date on which that share is at least one half, or that of the after image.
        """
        import pandas as pd

        sums = self.total(index, count)
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
