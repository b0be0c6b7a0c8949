"""How the brightness of the two dates compares: gain, offset and correlation, from a sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from geocd.raster.pair import Chip, Pair
from geocd.scene.levels import Levels
from geocd.scene.sample import valid_pixels
from geocd.types import Float64Array

#: At most so many pixels of the sample are used.
_PIXELS = 200_000


@dataclasses.dataclass(frozen=True)
class Brightness:
    """Linear relation of the dates, medians over the bands that vary in both.

    Attributes
    ----------
    varies : tuple of bool
        By band, whether both dates vary.
    gain, offset : float or None
        after = gain x before + offset, from means and standard deviations; None where no band varies.
    correlation : float or None
        Correlation of the dates.
    light : tuple of float or None
        Gain, offset, and level: the difference of the medians over the interquartile range of the before
        image. From quartiles, which hardly depend on what has changed; None where they coincide.
    levels : Levels
        How dark each date gets.
    """

    varies: tuple[bool, ...]
    gain: float | None = None
    offset: float | None = None
    correlation: float | None = None
    light: tuple[float, float, float] | None = None
    levels: Levels = dataclasses.field(default_factory=Levels)

    @classmethod
    def measure(cls, chips: Sequence[Chip], pair: Pair) -> Brightness:
        """Measure the relation on a sample of a pair, band by band to save memory."""
        levels = Levels.measure(chips, pair)
        varies, relations, lights = [], [], []
        for band in range(chips[0].before.shape[0]):
            (before,), (after,) = valid_pixels(chips, slice(band, band + 1), most=_PIXELS)
            spread = before.std(), after.std()
            varies.append(bool(spread[0] > 0 and spread[1] > 0))
            if varies[-1]:
                gain = spread[1] / spread[0]
                correlation = np.corrcoef(before, after)[0, 1]
                relations.append((gain, after.mean() - gain * before.mean(), correlation))
                lights += _light(before, after)
        if not relations:
            return cls(tuple(varies), levels=levels)
        gain, offset, correlation = (float(value) for value in np.median(relations, axis=0))
        light = None
        if lights:
            ratio, shift, level = (float(value) for value in np.median(lights, axis=0))
            light = ratio, shift, level
        return cls(tuple(varies), gain, offset, correlation, light, levels)


def _light(before: Float64Array, after: Float64Array) -> list[tuple[float, float, float]]:
    """Return gain, offset and level of a band from its quartiles; none where they coincide."""
    low, middle, high = np.percentile([before, after], [25, 50, 75], axis=1)
    spans = high - low
    if not (spans > 0).all():
        return []
    gain = spans[1] / spans[0]
    return [(gain, middle[1] - gain * middle[0], (middle[1] - middle[0]) / spans[0])]


__all__ = ["Brightness"]
