"""Direction of change: what each polygon looked like before and after, band by band.

Means are taken over the pixels of a polygon, and the indices from the means (a ratio of sums: dark pixels,
whose own ratios are noise, weigh little).

====== ======================================= ================================================
column index                                   high for
====== ======================================= ================================================
ndvi   (nir - red) / (nir + red)               vegetation
ndwi   (green - nir) / (green + nir)           open water
ndbi   (swir - nir) / (swir + nir)             buildings, bare ground; swir is the one at 1.6 um
====== ======================================= ================================================

Each has ``before_``, ``after_`` and ``diff_`` (after - before). Values must be proportional to reflectance,
as for :mod:`geocd.scene.ignore`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from rasterio.windows import Window

from geocd.raster.bands import band_key, band_positions
from geocd.raster.pair import Pair
from geocd.raster.writer import BLOCK_SIZE
from geocd.scene.ignore import normalized_difference
from geocd.types import Float64Array, IntArray

#: Bands that get columns; Sentinel-2 has as many. Of more, the first ones and those that an index needs.
MOST_BANDS = 13
#: Index: the bands of ``(one - two) / (one + two)``.
INDICES = {"ndvi": ("nir", "red"), "ndwi": ("green", "nir"), "ndbi": ("swir", "nir")}


def band_columns(names: Sequence[str]) -> list[str]:
    """Return what the columns of bands are called, after ``before_`` and ``after_``; each name is there once.

    ``red``, ``green``, ``blue``, ``nir``, ``swir`` where the names tell; ``b5`` for ``B05``, and for the
    fifth band where it has no name; otherwise the name in small letters, digits and underscores.
    """
    words = {place: word for word, place in band_positions(names).items()}
    columns: list[str] = []
    for place, name in enumerate(names):
        key = re.sub(r"[^a-z0-9]+", "_", band_key(name)).strip("_")[:24]
        column = words.get(place) or (f"b{key}" if re.match(r"\d+a?$", key) else key) or f"b{place + 1}"
        while column in columns or column in INDICES:
            column += f"_{place + 1}"
        columns.append(column)
    return columns


class BandMeans:
    """Sum a pair's bands over regions that come in pieces.

    Kept are a row of sums for each region in each block of pixels that it has a part in.

    Parameters
    ----------
    pair : Pair
        Read only where something changed, a block at a time.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        places = band_positions(pair.band_names)
        needed = [places[word] for pair_ in INDICES.values() for word in pair_ if word in places]
        order = dict.fromkeys([*needed, *range(len(pair.band_names))])
        self._places = sorted(list(order)[:MOST_BANDS])
        names = band_columns(pair.band_names)
        self._names = [names[place] for place in self._places]
        self._labels: list[IntArray] = []
        self._sums: list[Float64Array] = []

    def add(self, label: IntArray, row: IntArray, col: IntArray) -> None:
        """Add pixels, one value each per array; no pixel twice.

        Raises
        ------
        RasterReadError
        """
        blocks = 1 + self._pair.grid.width // BLOCK_SIZE
        block = row // BLOCK_SIZE * blocks + col // BLOCK_SIZE
        order = np.argsort(block, kind="stable")
        for some in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
            if some.size:
                self._add_block(label[some], row[some], col[some])

    def _add_block(self, label: IntArray, row: IntArray, col: IntArray) -> None:
        top, left = int(row.min()), int(col.min())
        chip = self._pair.read(Window(left, top, int(col.max()) - left + 1, int(row.max()) - top + 1))
        row, col = row - top, col - left
        usable = chip.valid[row, col]  # all of them, unless the probability comes from another pair
        row, col = row[usable], col[usable]
        found, number = np.unique(label[usable], return_inverse=True)
        sums = np.empty((found.size, 1 + 2 * len(self._places)))
        sums[:, 0] = np.bincount(number, minlength=found.size)
        for column, (values, place) in enumerate(
            ((values, place) for values in (chip.before, chip.after) for place in self._places), 1
        ):
            sums[:, column] = np.bincount(number, weights=values[place][row, col], minlength=found.size)
        self._labels.append(found)
        self._sums.append(sums)

    def table(self, place: IntArray, count: int) -> pd.DataFrame:
        """Return the columns, float32, NaN where not known.

        Parameters
        ----------
        place : ndarray, int64
            Position in the result of each label ever used, -1 where it is left out.
        count : int
            Rows of the result.
        """
        sums = np.zeros((count, 1 + 2 * len(self._places)))
        for label, part in zip(self._labels, self._sums, strict=True):
            kept = place[label] >= 0
            np.add.at(sums, place[label[kept]], part[kept])
        with np.errstate(invalid="ignore"):
            means = (sums[:, 1:] / sums[:, :1]).T
        before = dict(zip(self._names, means, strict=False))
        after = dict(zip(self._names, means[len(self._names) :], strict=True))
        columns = {f"before_{name}": values for name, values in before.items()}
        columns |= {f"after_{name}": values for name, values in after.items()}
        for index, (one, two) in INDICES.items():
            if one in before and two in before:
                then, now = (normalized_difference(date[one], date[two]) for date in (before, after))
                columns |= {f"before_{index}": then, f"after_{index}": now, f"diff_{index}": now - then}
        # Seven digits are more than an image has, and as many again would be digits of rounding.
        return pd.DataFrame(columns, index=range(count), dtype=np.float32)


__all__ = ["INDICES", "MOST_BANDS", "BandMeans", "band_columns"]
