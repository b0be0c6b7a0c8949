"""Direction of change: mean of each band in each polygon, before and after.

Means are taken over the pixels of a polygon, and spectral indices are computed from the means (a ratio of
sums, in which dark pixels, whose own ratios are noisy, have little weight).

====== ======================================= ================================================
column index                                   high for
====== ======================================= ================================================
ndvi   (nir - red) / (nir + red)               vegetation
ndwi   (green - nir) / (green + nir)           open water
ndbi   (swir - nir) / (swir + nir)             buildings, bare ground; swir is the one at 1.6 um
====== ======================================= ================================================

Each has ``before_``, ``after_`` and ``diff_`` (after - before). Values must be proportional to reflectance,
as for :mod:`geocd.scene.ignore`; a declared scale and offset (:mod:`geocd.raster.scaling`) is applied for the
indices. The means of bands are those of the values as they are stored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rasterio.windows import Window

from geocd.raster.bands import band_key, band_positions
from geocd.raster.pair import Pair
from geocd.raster.writer import BLOCK_SIZE
from geocd.scene.ignore import normalized_difference
from geocd.types import Float64Array, IntArray

if TYPE_CHECKING:
    import pandas as pd

#: Largest number of bands that get columns; Sentinel-2 has as many. Of more bands, those that an index needs
#: come first.
MOST_BANDS = 13
#: The two bands of each normalized difference, ``(first - second) / (first + second)``.
INDICES = {"ndvi": ("nir", "red"), "ndwi": ("green", "nir"), "ndbi": ("swir", "nir")}


def band_columns(names: Sequence[str]) -> list[str]:
    """Return the names of the columns of bands, without ``before_`` and ``after_``; no two are the same.

    ``red``, ``green``, ``blue``, ``nir`` or ``swir`` where the names of the bands identify them; ``b5`` for
    ``B05``, and for the fifth band where it has no name; otherwise the name in lower-case letters, digits and
    underscores.

    Parameters
    ----------
    names : sequence of str
        Names of all bands of an image.
    """
    words = {band: word for word, band in band_positions(names).items()}
    columns: list[str] = []
    for band, name in enumerate(names):
        key = re.sub(r"[^a-z0-9]+", "_", band_key(name)).strip("_")[:24]
        column = words.get(band) or (f"b{key}" if re.match(r"\d+a?$", key) else key) or f"b{band + 1}"
        while column in columns or column in INDICES or (column in words.values() and band not in words):
            column += f"_{band + 1}"
        columns.append(column)
    return columns


class BandMeans:
    """Sum the bands of a pair over regions that are added in parts.

    In memory is a row of sums for each region in each block of pixels that it has a part in.

    Parameters
    ----------
    pair : Pair
        Read only where something changed, block by block.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair.without_features()
        named = band_positions(pair.band_names)
        needed = [named[word] for words in INDICES.values() for word in words if word in named]
        order = dict.fromkeys([*needed, *range(len(pair.band_names))])
        self._bands = sorted(list(order)[:MOST_BANDS])
        columns = band_columns(pair.band_names)
        self._names = [columns[band] for band in self._bands]
        self._labels: list[IntArray] = []
        self._sums: list[Float64Array] = []

    def add(self, label: IntArray, row: IntArray, col: IntArray) -> None:
        """Add pixels, none of them twice.

        Parameters
        ----------
        label, row, col : ndarray, (n,), int64
            Region and position of each pixel.

        Raises
        ------
        RasterReadError
            An image cannot be read.
        """
        blocks = 1 + self._pair.grid.width // BLOCK_SIZE
        block = row // BLOCK_SIZE * blocks + col // BLOCK_SIZE
        order = np.argsort(block, kind="stable")
        for pixels in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
            if pixels.size:
                self._add_block(label[pixels], row[pixels], col[pixels])

    def _add_block(self, label: IntArray, row: IntArray, col: IntArray) -> None:
        """Add pixels of one block."""
        top, left = int(row.min()), int(col.min())
        chip = self._pair.read(Window(left, top, int(col.max()) - left + 1, int(row.max()) - top + 1))
        row, col = row - top, col - left
        valid = chip.valid[row, col]  # all of them, unless the probability comes from another pair
        row, col = row[valid], col[valid]
        labels, index = np.unique(label[valid], return_inverse=True)
        sums = np.empty((labels.size, 1 + 2 * len(self._bands)))
        sums[:, 0] = np.bincount(index, minlength=labels.size)
        images = [image[band] for image in (chip.before, chip.after) for band in self._bands]
        for column, image in enumerate(images, 1):
            sums[:, column] = np.bincount(index, weights=image[row, col], minlength=labels.size)
        self._labels.append(labels)
        self._sums.append(sums)

    def table(self, index: IntArray, count: int) -> pd.DataFrame:
        """Return means and indices of all regions.

        Parameters
        ----------
        index : ndarray, (labels,), int64
            Row of the result for each label used so far, -1 where its region is left out.
        count : int
            Number of rows of the result.

        Returns
        -------
        pandas.DataFrame, (count, columns), float32
            NaN where a region has no valid pixel, or where both bands of an index are 0 or less.
        """
        import pandas as pd

        sums = np.zeros((count, 1 + 2 * len(self._bands)))
        for labels, part in zip(self._labels, self._sums, strict=True):
            included = index[labels] >= 0
            np.add.at(sums, index[labels[included]], part[included])
        with np.errstate(invalid="ignore"):
            means = (sums[:, 1:] / sums[:, :1]).T
        before = dict(zip(self._names, means, strict=False))
        after = dict(zip(self._names, means[len(self._names) :], strict=True))
        columns = {f"before_{name}": values for name, values in before.items()}
        columns |= {f"after_{name}": values for name, values in after.items()}
        levels = [
            {
                name: scaling.level(band, date[name])
                for name, band in zip(self._names, self._bands, strict=True)
            }
            for scaling, date in zip(self._pair.scalings, (before, after), strict=True)
        ]
        for name, (first, second) in INDICES.items():
            if first in before and second in before:
                old, new = (normalized_difference(date[first], date[second]) for date in levels)
                columns |= {f"before_{name}": old, f"after_{name}": new, f"diff_{name}": new - old}
        # Seven digits are more than an image has; further digits would be rounding.
        return pd.DataFrame(columns, index=range(count), dtype=np.float32)


__all__ = ["INDICES", "MOST_BANDS", "BandMeans", "band_columns"]
