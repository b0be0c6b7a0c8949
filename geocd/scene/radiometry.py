"""Radiometric normalisation: statistics of the whole scene, applied to every tile.

Statistics per tile would normalise each tile differently and give the mosaic seams. They are computed from a
bounded sample of the jointly valid pixels, so that their cost does not grow with the raster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from geocd.raster.pair import Chip
from geocd.scene.sample import valid_pixels
from geocd.types import Float32Array, Float64Array

#: Percentiles to which the values of a date are clipped. Clouds, glint and fill values lie outside; of all
#: normalisations measured, this clipping was the largest single gain.
CLIP_PERCENTILES = (2.0, 98.0)
#: A band is left out where at least this share of a date is saturated.
MOST_SATURATED = 0.75
#: Largest values of the integer types of images.
TOPS = (255.0, 32767.0, 65535.0)


def saturated_share(values: Float64Array) -> Float64Array:
    """Return the share of saturated pixels: those with the largest value of an integer type.

    Parameters
    ----------
    values : ndarray, (bands, n), float64

    Returns
    -------
    ndarray, (bands,), float64
        In [0, 1). 0 for a band that has no other value: it is constant, not saturated.
    """
    top = values.max(axis=1, keepdims=True)
    share = np.where(np.isin(top[:, 0], TOPS), (values == top).mean(axis=1), 0.0)
    return np.where(share < 1, share, 0.0)


@dataclasses.dataclass(frozen=True)
class BandScale:
    """The normalisation of one date: per band, clip to ``[low, high]``, subtract ``mean``, times ``gain``.

    Attributes
    ----------
    low, high, mean, gain : ndarray, (bands,), float64
        ``gain`` is the reciprocal of the standard deviation of the clipped values, 0 for a constant band.
    """

    low: Float64Array
    high: Float64Array
    mean: Float64Array
    gain: Float64Array

    @classmethod
    def fit(
        cls,
        values: Float64Array,
        percentiles: tuple[float, float] | None = CLIP_PERCENTILES,
        saturated: Float64Array | None = None,
    ) -> BandScale:
        """Compute the scale from valid pixels.

        Parameters
        ----------
        values : ndarray, (bands, n), float64
        percentiles : tuple of float or None
            Percentiles to clip to; None clips nothing.
        saturated : ndarray, (bands,), float64, optional
            Least share of pixels to clip at the top.
        """
        low, high = values.min(axis=1), values.max(axis=1)
        if percentiles is not None:
            if percentiles == (0.0, 100.0):  # a percentile takes a sort
                tight_low, tight_high = low.copy(), high.copy()
            else:
                tight_low, tight_high = np.percentile(values, percentiles, axis=1)
            for band, share in enumerate(() if saturated is None else saturated):
                if 1 - share < percentiles[1] / 100:
                    tight_high[band] = np.quantile(values[band], 1 - share)
            # Clipping would make a band constant that is so except for a few pixels.
            spread = tight_high > tight_low
            low, high = np.where(spread, tight_low, low), np.where(spread, tight_high, high)
        clipped = np.clip(values, low[:, None], high[:, None])
        mean, std = clipped.mean(axis=1), clipped.std(axis=1)
        # A constant band has a standard deviation of float64 rounding errors, not of zero.
        varies = std > 1e-12 * np.maximum(np.abs(mean), 1e-300)
        gain = np.where(varies, 1 / np.where(varies, std, 1), 0.0)
        return cls(low, high, mean, gain)

    @classmethod
    def join(cls, parts: Sequence[BandScale]) -> BandScale:
        """Return the scale of all bands from scales of some bands each, in their order."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def apply(self, values: npt.NDArray[np.generic]) -> Float32Array:
        """Return ``(bands, height, width)`` as float32 z-scores: mean 0 and variance 1 over the scene."""
        scaled: Float32Array = np.empty(values.shape, np.float32)
        for band, target in enumerate(scaled):  # in float64, one band at a time to save memory
            clipped = np.clip(values[band].astype(np.float64), self.low[band], self.high[band])
            clipped -= self.mean[band]
            clipped *= self.gain[band]
            target[:] = clipped
        return scaled


def _fit_bands(
    chips: Sequence[Chip], bands: slice, percentiles: tuple[float, float] | None, most: int | None
) -> tuple[tuple[BandScale, BandScale], Float64Array]:
    """Return the scales of some bands in both dates, and the larger of their saturated shares."""
    dates = valid_pixels(chips, bands, most=most)
    # Where one date is saturated, the other is clipped at the same share of its pixels: brighter pixels
    # cannot be compared, and a gain that drives one date into saturation is not change.
    saturated = np.maximum(*(saturated_share(values) for values in dates))
    before, after = (BandScale.fit(values, percentiles, saturated) for values in dates)
    return (before, after), saturated


@dataclasses.dataclass(frozen=True)
class Radiometry:
    """The normalisation of both dates.

    Each date has its own scale, so :meth:`apply` removes any gain and offset between them, and images of
    different illumination, atmosphere or sensors can be compared.

    Attributes
    ----------
    before, after : BandScale
    """

    before: BandScale
    after: BandScale

    @classmethod
    def fit(
        cls,
        chips: Sequence[Chip],
        percentiles: tuple[float, float] | None = CLIP_PERCENTILES,
        bands: Sequence[int] | None = None,
        most: int | None = None,
    ) -> Radiometry:
        """Compute the scales from the jointly valid pixels of a sample.

        A band that is constant or mostly saturated in one date is left out of both (gain 0), because it
        carries no information about change.

        Parameters
        ----------
        chips : sequence of Chip
        percentiles : tuple of float or None
            Percentiles to clip to; None clips nothing.
        bands : sequence of int, optional
            The scales of some bands only, from 0.
        most : int, optional
            No more pixels than these, evenly spread, are used.
        """
        # One band at a time, because the statistics need several copies of the values.
        bands = range(len(chips[0].before)) if bands is None else bands
        parts = [_fit_bands(chips, slice(band, band + 1), percentiles, most) for band in bands]
        before, after = (BandScale.join([scales[date] for scales, _ in parts]) for date in (0, 1))
        saturated = np.concatenate([share for _, share in parts])
        usable = (before.gain > 0) & (after.gain > 0) & (saturated < MOST_SATURATED)
        return cls(
            dataclasses.replace(before, gain=before.gain * usable),
            dataclasses.replace(after, gain=after.gain * usable),
        )

    def apply(self, chip: Chip) -> tuple[Float32Array, Float32Array]:
        """Return z-scores of before and after, each ``(bands, height, width)`` float32; 0 where not valid."""
        before, after = self.before.apply(chip.before), self.after.apply(chip.after)
        before[:, ~chip.valid] = 0
        after[:, ~chip.valid] = 0
        return before, after
