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

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rasterio.windows import Window

from geocd.raster.bands import band_key, band_positions
from geocd.raster.pair import Chip, Pair
from geocd.raster.writer import BLOCK_SIZE
from geocd.scene.ignore import normalized_difference
from geocd.scene.reflectance import Reflectance
from geocd.types import Float64Array, IntArray
from geocd.vectorize.edges import REACH, SHIFTS, residual, shifted_differences
from geocd.vectorize.surfaces import DIFFERENCES, Spectrum

if TYPE_CHECKING:
    import pandas as pd

#: Largest number of bands that get columns; Sentinel-2 has as many. Of more bands, those that an index needs
#: come first.
MOST_BANDS = 13
#: The two bands of each index with columns, ``(first - second) / (first + second)``.
INDICES = {name: DIFFERENCES[name] for name in ("ndvi", "ndwi", "ndbi")}


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


def by_block(row: IntArray, col: IntArray, width: int) -> Iterator[IntArray]:
    """Yield the indexes of pixels, block by block of a raster of this width."""
    block = row // BLOCK_SIZE * (1 + width // BLOCK_SIZE) + col // BLOCK_SIZE
    order = np.argsort(block, kind="stable")
    for pixels in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
        if pixels.size:
            yield pixels


@dataclasses.dataclass(frozen=True)
class RegionBands:
    """What the images show in each region.

    Attributes
    ----------
    columns : pandas.DataFrame, (regions, columns), float32
        Means and indices, NaN where a region has no valid pixel, or where both bands of an index are 0 or
        less.
    spectra : tuple of mapping of ndarray, (regions,), float64
        Mean reflectance by word, before and after, of the pixels that changed most; empty where kinds of
        change are not asked for.
    residual : ndarray, (regions,), float64
        See :func:`geocd.vectorize.edges.residual`.
    """

    columns: pd.DataFrame
    spectra: tuple[Spectrum, Spectrum]
    residual: Float64Array


class BandMeans:
    """Sum the bands of a pair over regions that are added in parts.

    In memory is a row of sums for each region in each block of pixels that it has a part in.

    Parameters
    ----------
    pair : Pair
        Read only where something changed, block by block.
    reflectance : Reflectance, optional
        With it, what the kinds of change are told from is measured too.
    """

    def __init__(self, pair: Pair, reflectance: Reflectance | None = None) -> None:
        self._pair = pair.without_features()
        self.reflectance = reflectance
        named = band_positions(pair.band_names)
        needed = [named[word] for words in INDICES.values() for word in words if word in named]
        order = dict.fromkeys([*needed, *named.values(), *range(len(pair.band_names))])
        self._bands = sorted(list(order)[:MOST_BANDS])
        columns = band_columns(pair.band_names)
        self._names = [columns[band] for band in self._bands]
        self._labels: list[IntArray] = []
        self._sums: list[Float64Array] = []
        self._width = 1 + 2 * len(self._bands)
        if reflectance is not None:
            self._width += len(SHIFTS) + 1 + 2 * len(reflectance.positions)

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
        for pixels in by_block(row, col, self._pair.grid.width):
            self._add_block(label[pixels], row[pixels], col[pixels])

    def _add_block(self, label: IntArray, row: IntArray, col: IntArray) -> None:
        """Add pixels of one block."""
        around, grid = 0 if self.reflectance is None else REACH, self._pair.grid
        top, left = max(int(row.min()) - around, 0), max(int(col.min()) - around, 0)
        bottom = min(int(row.max()) + around + 1, grid.height)
        right = min(int(col.max()) + around + 1, grid.width)
        chip = self._pair.read(Window(left, top, right - left, bottom - top))
        row, col = row - top, col - left
        valid = chip.valid[row, col]  # all of them, unless the probability comes from another pair
        row, col = row[valid], col[valid]
        labels, index = np.unique(label[valid], return_inverse=True)
        sums = np.empty((labels.size, self._width))
        sums[:, 0] = np.bincount(index, minlength=labels.size)
        images = [image[band] for image in (chip.before, chip.after) for band in self._bands]
        for column, image in enumerate(images, 1):
            sums[:, column] = np.bincount(index, weights=image[row, col], minlength=labels.size)
        if self.reflectance is not None:
            shifted = shifted_differences(chip, row, col, self.reflectance)
            spectra = self._weighted(chip, row, col, self.reflectance)
            for column, weights in enumerate((*shifted, *spectra), 1 + len(images)):
                sums[:, column] = np.bincount(index, weights=weights, minlength=labels.size)
        self._labels.append(labels)
        self._sums.append(sums)

    @staticmethod
    def _weighted(chip: Chip, row: IntArray, col: IntArray, reflectance: Reflectance) -> Float64Array:
        """Return weights of pixels, and reflectance times these, before and after: ``(1 + 2 bands, n)``.

        A weight is the fourth power of the difference of the dates: where an outline reaches beyond what
        changed, or runs through mixed pixels, these count for little.
        """
        before, after = (
            np.stack(
                [
                    reflectance.of(date, word, image[band][row, col].astype(np.float64))
                    for word, band in reflectance.positions.items()
                ]
            )
            for date, image in enumerate((chip.before, chip.after))
        )
        weights = ((after - before) ** 2).sum(axis=0) ** 2 + 1e-18
        return np.concatenate([weights[None], before * weights, after * weights])

    def measured(self, index: IntArray, count: int) -> RegionBands:
        """Return means and indices of all regions.

        Parameters
        ----------
        index : ndarray, (labels,), int64
            Row of the result for each label used so far, -1 where its region is left out.
        count : int
            Number of rows of the result.
        """
        import pandas as pd

        sums = np.zeros((count, self._width))
        for labels, part in zip(self._labels, self._sums, strict=True):
            included = index[labels] >= 0
            np.add.at(sums, index[labels[included]], part[included])
        bands = len(self._bands)
        with np.errstate(invalid="ignore"):
            means = (sums[:, 1 : 1 + 2 * bands] / sums[:, :1]).T
        columns = self._columns(means[:bands], means[bands:])
        # Seven digits are more than an image has; further digits would be rounding.
        frame = pd.DataFrame(columns, index=range(count), dtype=np.float32)
        if self.reflectance is None:
            return RegionBands(frame, ({}, {}), np.full(count, np.nan))
        words = tuple(self.reflectance.positions)
        shifted, weighted = np.split(sums[:, 1 + 2 * bands :].T, [len(SHIFTS)])
        with np.errstate(invalid="ignore"):
            spectra = weighted[1:] / weighted[0]
        before, after = (dict(zip(words, part, strict=True)) for part in np.split(spectra, 2))
        return RegionBands(frame, (before, after), residual(shifted))

    def _columns(self, old: Float64Array, new: Float64Array) -> dict[str, Float64Array]:
        """Return the columns of means, before and after ``(bands, regions)``, and of indices."""
        before, after = (dict(zip(self._names, means, strict=True)) for means in (old, new))
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
                first_date, last_date = (normalized_difference(date[first], date[second]) for date in levels)
                columns |= {
                    f"before_{name}": first_date,
                    f"after_{name}": last_date,
                    f"diff_{name}": last_date - first_date,
                }
        return columns


__all__ = ["INDICES", "MOST_BANDS", "BandMeans", "RegionBands", "band_columns", "by_block"]
