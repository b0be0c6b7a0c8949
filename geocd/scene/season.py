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
#: as any: two deviations, as far as a change is from what is usual.
STEADY = 4.0


@dataclasses.dataclass(frozen=True)
class Earlier:
    """An earlier date, and what is usual of it.

    Attributes
    ----------
    date : OtherDate
    scale : DateScale
    usual : Prediction
        Of it from the before image.
    """

    date: OtherDate
    scale: DateScale
    usual: Prediction

    def filled(
        self, values: Float32Array, valid: BoolArray, first: Float32Array
    ) -> tuple[Float32Array, Float32Array]:
        """Return z-scores with what is usual in place of what is not valid, and nearer to it elsewhere.

        Parameters
        ----------
        values, first : ndarray, (bands, ...), float32
            Z-scores of this date and of the before image.
        valid : ndarray, (...), bool

        Returns
        -------
        filled : ndarray, (bands, ...), float32
        departure : ndarray, (...), float32
            Mean square of the whitened difference from what is usual, 0 where not valid.
        """
        expected = self.usual.apply(first)
        difference = values - expected
        departure = self.usual.lengths(difference)
        difference *= np.minimum(1, MOST_DEPARTURE / np.sqrt(np.maximum(departure, 1e-6)))
        difference[:, ~valid] = 0
        expected += difference
        return np.clip(expected, -LIMIT, LIMIT), np.where(valid, departure, 0)


@dataclasses.dataclass(frozen=True)
class Season:
    """What a place does by itself, fitted to a sample of the scene.

    Attributes
    ----------
    before, after : DateScale
    earlier : tuple of Earlier
        Earlier dates that have a valid pixel in the sample.
    expected : Prediction
        Of the after image from the before image and all earlier dates, in this order.
    valid_shares : mapping of float
        By the name of each earlier date, also of those left out, the share of the scene on which it is valid.
    """

    before: DateScale
    after: DateScale
    earlier: tuple[Earlier, ...]
    expected: Prediction
    valid_shares: Mapping[str, float]

    @classmethod
    def fit(cls, chips: Sequence[Chip], dates: Sequence[OtherDate]) -> Season:
        """Fit to a sample of the scene.

        Raises
        ------
        RasterReadError
        """
        pixels = DrawnPixels.draw(chips, dates)
        before, after = DateScale.fit(pixels.before), DateScale.fit(pixels.after)
        first = before.apply(pixels.before.T)
        earlier, sources = [], [first]
        for date, scale, other, valid in pixels.scaled():
            usual = Prediction.fit(first.T.astype(np.float64), other.T.astype(np.float64), valid)
            earlier.append(Earlier(date, scale, usual))
            sources.append(earlier[-1].filled(other, valid, first)[0])
        last = after.apply(pixels.after.T)
        expected = Prediction.fit(np.concatenate(sources).T.astype(np.float64), last.T.astype(np.float64))
        return cls(before, after, tuple(earlier), expected, pixels.valid_shares)

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
        for earlier, part in zip(self.earlier, parts[1:], strict=True):
            values, valid = earlier.date.read(chip)
            filled, departure = earlier.filled(earlier.scale.apply(values), valid, first)
            departures.append(departure)
            left -= _product(part, filled)
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
        return np.ones((), np.float32)
    middle = (len(departures) - 1) // 2
    typical = np.partition(np.stack(departures), middle, axis=0)[middle]
    return np.asarray(np.sqrt(STEADY / np.maximum(typical, STEADY)), np.float32)


def _product(matrix: Float32Array, values: Float32Array) -> Float32Array:
    """Return a matrix times the bands of an image."""
    return (matrix @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])


__all__ = ["Earlier", "Season"]
