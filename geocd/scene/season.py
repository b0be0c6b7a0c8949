"""`--baseline`: the after image without what earlier dates say that its place does by itself.

A road grows bright in summer and a field is bare in autumn, and so they did before. The after image is
predicted from all earlier dates at a pixel, by one linear prediction for the scene that places which departed
lose their weight in: places that went through the seasons together predict each other. What is left of the
after image, on top of the before image, is all that a second detector sees. Something new is in no earlier
date, so that it is left entirely; and noise and season are less than between two dates.

Not every place follows the others: a pond that is drained, a field of its own crop. Where at least two
earlier dates depart from what the before image predicts of them, what is left of the after image is divided
by their departure: a null from the place.

A date that is not valid at a pixel (nodata, clouds that were masked) is replaced there by what the before
image predicts of it, and what departs a lot from that (a cloud that was not masked) counts for little.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from geocd.raster.pair import Chip
from geocd.scene.otherdates import DrawnPixels, OtherDate
from geocd.scene.prediction import LIMIT, DateScale, Prediction
from geocd.types import BoolArray, Float32Array

#: An earlier date departs by at most so many deviations from what the before image predicts of it.
MOST_DEPARTURE = 4.0
#: Mean square departure of earlier dates, of which most of the scene has 1, up to which a place is as steady
#: as any.
STEADY = 4.0


@dataclasses.dataclass(frozen=True)
class Season:
    """What a place does by itself, fitted to a sample of the scene.

    Attributes
    ----------
    dates : tuple of OtherDate
        Earlier ones.
    before, after : DateScale
    others : tuple of DateScale
        Of each earlier date.
    usual : tuple of Prediction
        Of each earlier date from the before image.
    expected : Prediction
        Of the after image from the before image and all earlier dates, in this order.
    valid_shares : mapping of float
        By the name of each earlier date, also of those left out, the share of the scene on which it is valid.
    """

    dates: tuple[OtherDate, ...]
    before: DateScale
    after: DateScale
    others: tuple[DateScale, ...]
    usual: tuple[Prediction, ...]
    expected: Prediction
    valid_shares: Mapping[str, float]

    @classmethod
    def fit(cls, chips: Sequence[Chip], dates: Sequence[OtherDate]) -> Season:
        """Fit to a sample of the scene. Earlier dates without a valid pixel in it are left out.

        Raises
        ------
        RasterReadError
        """
        pixels = DrawnPixels.draw(list(chips), tuple(dates))
        before, after = DateScale.fit(pixels.before), DateScale.fit(pixels.after)
        first = before.apply(pixels.before.T)
        used, scales, usual, sources = [], [], [], [first]
        for date, values, valid in zip(dates, pixels.others, pixels.valid, strict=True):
            if not valid.any():
                continue
            scale = DateScale.fit(values[valid])
            other = scale.apply(values.T)
            prediction = Prediction.fit(first.T.astype(np.float64), other.T.astype(np.float64), valid)
            used.append(date)
            scales.append(scale)
            usual.append(prediction)
            sources.append(_filled(other, valid, prediction, first))
        last = after.apply(pixels.after.T)
        expected = Prediction.fit(np.concatenate(sources).T.astype(np.float64), last.T.astype(np.float64))
        dates_used = tuple(used), before, after, tuple(scales), tuple(usual)
        return cls(*dates_used, expected, pixels.valid_shares)

    def apply(self, chip: Chip) -> Chip:
        """Return a chip whose after image is the before image and what was not to be expected.

        It depends on each pixel alone.

        Raises
        ------
        RasterReadError
        """
        first, bands = self.before.apply(chip.before), len(chip.before)
        parts = [self.expected.matrix[:, i : i + bands] for i in range(0, len(self.expected.matrix.T), bands)]
        left = self.after.apply(chip.after, limit=None)
        left += self.before.apply(chip.before, limit=None)
        left -= self.expected.offset[:, None, None]
        left -= _product(parts[0], first)
        departures = []
        for date, scale, usual, part in zip(self.dates, self.others, self.usual, parts[1:], strict=True):
            values, valid = date.read(chip.window)
            other = scale.apply(values)
            departures.append(np.where(valid, usual.lengths(other - usual.apply(first)), 0))
            left -= _product(part, _filled(other, valid, usual, first))
        steady = self.before.apply(chip.before, limit=None)
        left = steady + (left - steady) * _steadiness(departures)
        after = np.array(chip.after, np.result_type(chip.after.dtype, np.float32))
        for band, target in enumerate(after):
            if (undone := self.after.undone(left[band], band)) is not None:
                target[...] = undone
        after[:, ~chip.valid] = 0
        return dataclasses.replace(chip, after=after)


def _steadiness(departures: Sequence[Float32Array]) -> Float32Array:
    """Return by what the rest of the after image is multiplied, in (0, 1], from departures of earlier dates.

    The lower median of the dates decides, of two the lesser: one date alone may show a cloud.
    """
    if len(departures) < 2:
        return np.ones_like(departures[0]) if departures else np.ones((), np.float32)
    middle = (len(departures) - 1) // 2
    typical = np.partition(np.stack(departures), middle, axis=0)[middle]
    return np.asarray(np.sqrt(STEADY / np.maximum(typical, STEADY)), np.float32)


def _product(matrix: Float32Array, values: Float32Array) -> Float32Array:
    """Return a matrix times the bands of an image."""
    return (matrix @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])


def _filled(values: Float32Array, valid: BoolArray, usual: Prediction, first: Float32Array) -> Float32Array:
    """Return an earlier date with what is usual in place of what is not valid, and nearer to it elsewhere."""
    expected = usual.apply(first)
    departure = values - expected
    departure *= np.minimum(1, MOST_DEPARTURE / np.sqrt(np.maximum(usual.lengths(departure), 1e-6)))
    departure[:, ~valid] = 0
    expected += departure
    return np.clip(expected, -LIMIT, LIMIT)


__all__ = ["Season"]
