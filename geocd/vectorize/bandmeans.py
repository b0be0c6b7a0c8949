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
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from geocd.raster.bands import VISIBLE, band_key, band_positions
from geocd.raster.pair import Chip, Pair
from geocd.scene.ignore import normalized_difference
from geocd.scene.reflectance import Reflectance
from geocd.types import Float64Array, IntArray, PixelArray
from geocd.vectorize.edges import REACH, SHIFTS, residual, shifted_differences
from geocd.vectorize.regionsums import RegionSums
from geocd.vectorize.surfaces import DIFFERENCES, Spectrum

if TYPE_CHECKING:
    import pandas as pd

#: Largest number of bands that get columns; Sentinel-2 has as many. Of more bands, those that an index needs
#: come first.
MOST_BANDS = 13
#: The two bands of each index with columns, ``(first - second) / (first + second)``.
INDICES = {name: DIFFERENCES[name] for name in ("ndvi", "ndwi", "ndbi")}
#: Brightness is at least this where factors are compared.
_DARKEST = 0.01


def band_columns(names: Sequence[str]) -> list[str]:
    """Return the names of the columns of bands, without ``before_`` and ``after_``; no two are the same.

    ``red``, ``green``, ``blue``, ``nir``, ``swir`` or ``swir2`` where the names of the bands identify them;
    ``b5`` for ``B05``, and for the fifth band where it has no name; otherwise the name in lower-case letters,
    digits and underscores.

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
    spread : ndarray, (regions,), float64
        Standard deviation of the logarithm of brightness after over before, in visible light, of the pixels
        that changed most: 0 where all of a region became brighter or darker by one factor.
    """

    columns: pd.DataFrame
    spectra: tuple[Spectrum, Spectrum]
    residual: Float64Array
    spread: Float64Array


class BandMeans(RegionSums):
    """Sum the bands of a pair over regions that are added in parts.

    Parameters
    ----------
    pair : Pair
    reflectance : Reflectance, optional
        With it, what the kinds of change are told from is measured too.
    """

    def __init__(self, pair: Pair, reflectance: Reflectance | None = None) -> None:
        self.reflectance = reflectance
        named = band_positions(pair.band_names)
        needed = [named[word] for words in INDICES.values() for word in words if word in named]
        order = dict.fromkeys([*needed, *named.values(), *range(len(pair.band_names))])
        self._bands = sorted(list(order)[:MOST_BANDS])
        columns = band_columns(pair.band_names)
        self._names = [columns[band] for band in self._bands]
        width, reach = 2 * len(self._bands), 0
        if reflectance is not None:
            width, reach = width + len(SHIFTS) + 3 + 2 * len(reflectance.positions), REACH
        super().__init__(pair, width, reach)

    def values(self, chip: Chip, row: IntArray, col: IntArray) -> Iterator[PixelArray]:
        """Yield what is summed: bands, before and after, and what the kinds of change are told from."""
        for image in (chip.before, chip.after):
            for band in self._bands:
                yield image[band][row, col]
        if self.reflectance is not None:
            yield from shifted_differences(chip, row, col, self.reflectance)
            yield from self._weighted(chip, row, col, self.reflectance)

    @staticmethod
    def _weighted(chip: Chip, row: IntArray, col: IntArray, reflectance: Reflectance) -> Float64Array:
        """Return weights of pixels, and what is averaged times these: ``(3 + 2 bands, n)``.

        Averaged are the logarithm of brightness after over before, its square, and reflectance before and
        after. A weight is the fourth power of the difference of the dates: where an outline reaches beyond
        what changed, or runs through mixed pixels, these count for little.
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
        light = brightness(reflectance.positions, after) - brightness(reflectance.positions, before)
        return np.concatenate(
            [np.stack([weights, light * weights, light**2 * weights]), before * weights, after * weights]
        )

    def measured(self, index: IntArray, count: int) -> RegionBands:
        """Return means and indices of all regions; the parameters are those of :meth:`RegionSums.total`."""
        import pandas as pd

        sums = self.total(index, count)
        bands = len(self._bands)
        with np.errstate(invalid="ignore"):
            means = (sums[:, 1 : 1 + 2 * bands] / sums[:, :1]).T
        columns = self._columns(means[:bands], means[bands:])
        # Seven digits are more than an image has; further digits would be rounding.
        frame = pd.DataFrame(columns, index=range(count), dtype=np.float32)
        if self.reflectance is None:
            nothing = np.full(count, np.nan)
            return RegionBands(frame, ({}, {}), nothing, nothing)
        words = tuple(self.reflectance.positions)
        shifted, weighted = np.split(sums[:, 1 + 2 * bands :].T, [len(SHIFTS)])
        with np.errstate(invalid="ignore"):
            light, square, *spectra = weighted[1:] / weighted[0]
        before, after = (dict(zip(words, part, strict=True)) for part in np.split(np.stack(spectra), 2))
        spread = np.sqrt(np.maximum(square - light**2, 0))
        return RegionBands(frame, (before, after), residual(shifted), spread)

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


def brightness(words: Iterable[str], bands: Float64Array) -> Float64Array:
    """Return the logarithm of brightness in visible light, or over all bands where none is visible.

    Parameters
    ----------
    words : iterable of str
        What each band is.
    bands : ndarray, (bands, n), float64
        Reflectance.
    """
    visible = [row for row, word in zip(bands, words, strict=True) if word in VISIBLE]
    mean: Float64Array = np.mean(visible or bands, axis=0)
    return np.log(np.maximum(mean, _DARKEST))


__all__ = ["INDICES", "MOST_BANDS", "BandMeans", "RegionBands", "band_columns"]
