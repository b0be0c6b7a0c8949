"""Radiometric statistics: taken once for the whole scene, applied to every tile.

Statistics per tile would give every tile another idea of what is bright, and the mosaic seams. They are
taken from a bounded sample of the jointly valid pixels, so that their cost does not grow with the raster.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from geocd.raster.pair import Chip
from geocd.scene.sample import valid_pixels
from geocd.types import Float32Array, Float64Array

#: Percentiles between which the values of a date are clipped. Clouds, glint and fill values sit outside;
#: of all normalisations measured, this clipping was the largest single gain.
CLIP_PERCENTILES = (2.0, 98.0)


#: A band that is saturated in more than this share of a date is left out.
MOST_SATURATED = 0.75
#: Largest values of the integer types that images come in.
TOPS = (255.0, 32767.0, 65535.0)


def saturated_share(values: Float64Array) -> Float64Array:
    """Return the share of pixels at the top of an integer type, for each band of ``(bands, n)``.

    0 for a band that has nothing else: it is constant, not saturated.
    """
    top = values.max(axis=1, keepdims=True)
    share = np.where(np.isin(top[:, 0], TOPS), (values == top).mean(axis=1), 0.0)
    return np.where(share < 1, share, 0.0)


@dataclasses.dataclass(frozen=True)
class BandScale:
    """Clip to ``[low, high]``, subtract ``mean`` and multiply by ``gain``: one date, band by band.

    Attributes
    ----------
    low, high, mean, gain : ndarray, (bands,), float64
        ``gain`` is one over the standard deviation of the clipped values, and 0 for a constant band.
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
        """Take the statistics of ``(bands, n)`` valid pixels.

        ``percentiles=None`` clips nothing. ``saturated`` is a share of pixels for each band, clipped at
        the top at least.
        """
        low, high = values.min(axis=1), values.max(axis=1)
        if percentiles is not None:
            tight_low, tight_high = np.percentile(values, percentiles, axis=1)
            for band, share in enumerate(() if saturated is None else saturated):
                if 1 - share < percentiles[1] / 100:
                    tight_high[band] = np.quantile(values[band], 1 - share)
            # A band that is constant but for a few pixels would lose them to the clipping.
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
        """Return the scale of all bands from those of some each."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def apply(self, values: npt.NDArray[np.generic]) -> Float32Array:
        """Return ``(bands, height, width)`` float32: zero mean and unit variance over the scene."""
        scaled: Float32Array = np.empty(values.shape, np.float32)
        for band, place in enumerate(scaled):  # in float64, but never all bands of it
            clipped = np.clip(values[band].astype(np.float64), self.low[band], self.high[band])
            clipped -= self.mean[band]
            clipped *= self.gain[band]
            place[:] = clipped
        return scaled


def _fit_bands(
    chips: Sequence[Chip], bands: slice, percentiles: tuple[float, float] | None
) -> tuple[tuple[BandScale, BandScale], Float64Array]:
    """Return the scales of some bands in both dates, and the share of pixels saturated in either."""
    dates = valid_pixels(chips, bands)
    # Where one date is saturated, the other is clipped at the same share of its pixels: beyond it, the
    # two cannot be compared, and a gain that drove one into saturation is not change.
    saturated = np.maximum(*(saturated_share(values) for values in dates))
    one, two = (BandScale.fit(values, percentiles, saturated) for values in dates)
    return (one, two), saturated


@dataclasses.dataclass(frozen=True)
class Radiometry:
    """The scales of both dates.

    Each date has its own: any gain and offset between the dates is gone after :meth:`apply`, which is
    what lets images of other light, atmosphere or sensor be compared.
    """

    before: BandScale
    after: BandScale

    @classmethod
    def fit(
        cls, chips: Sequence[Chip], percentiles: tuple[float, float] | None = CLIP_PERCENTILES
    ) -> Radiometry:
        """Take the statistics of the jointly valid pixels of a sample.

        A band that is constant or mostly saturated in one date is left out of both (gain 0): it says
        nothing about change.
        """
        # One band at a time: statistics take several copies of what they are taken from.
        bands = range(len(chips[0].before))
        parts = [_fit_bands(chips, slice(band, band + 1), percentiles) for band in bands]
        one, two = (BandScale.join([scales[date] for scales, _ in parts]) for date in (0, 1))
        saturated = np.concatenate([share for _, share in parts])
        both = (one.gain > 0) & (two.gain > 0) & (saturated < MOST_SATURATED)
        return cls(
            dataclasses.replace(one, gain=one.gain * both), dataclasses.replace(two, gain=two.gain * both)
        )

    def select(self, bands: Sequence[int]) -> Radiometry:
        """Return the scales of some bands, numbered from 0."""
        index = list(bands)

        def pick(scale: BandScale) -> BandScale:
            return BandScale(scale.low[index], scale.high[index], scale.mean[index], scale.gain[index])

        return Radiometry(pick(self.before), pick(self.after))

    def apply(self, chip: Chip) -> tuple[Float32Array, Float32Array]:
        """Return both dates, ``(bands, height, width)`` float32, z-scored; 0 where not valid."""
        x1, x2 = self.before.apply(chip.before), self.after.apply(chip.after)
        x1[:, ~chip.valid] = 0
        x2[:, ~chip.valid] = 0
        return x1, x2
