"""`--confirm`: whether later dates look like the after image, or like the before image again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import ndimage

from geocd.raster.pair import Chip
from geocd.scene.otherdates import DrawnPixels, OtherDate
from geocd.scene.prediction import DateScale, Prediction
from geocd.types import BoolArray, Float32Array

#: Standard deviation in pixels of the Gaussian window over departures, which single pixels are too noisy for;
#: and the pixels around a pixel that it takes in.
SMOOTH, REACH = 1.0, 3
#: Side in pixels of the windows that a raster of it is computed in. They lie on the grid whatever the tiles.
SIDE = 256


@dataclasses.dataclass(frozen=True)
class Departures:
    """How far a later date departs from what either date of the pair predicts of it, at each pixel.

    Attributes
    ----------
    from_before, from_after : ndarray, (height, width), float32
        Mean square of the whitened residual, about 1 where nothing changed.
    valid : ndarray, (height, width), bool
        Where the later date is valid, too.
    """

    from_before: Float32Array
    from_after: Float32Array
    valid: BoolArray


@dataclasses.dataclass(frozen=True)
class Later:
    """A later date, and its predictions.

    Attributes
    ----------
    date : OtherDate
    scale : DateScale
    from_before, from_after : Prediction
        By place, light and season as most of the scene has them, whatever lies between the dates.
    """

    date: OtherDate
    scale: DateScale
    from_before: Prediction
    from_after: Prediction


@dataclasses.dataclass(frozen=True)
class Lasting:
    """What later dates say of a change, fitted to a sample of the scene.

    Attributes
    ----------
    before, after : DateScale
    later : tuple of Later
        Later dates that have a valid pixel in the sample.
    valid_shares : mapping of float
        By the name of each later date, also of those left out, the share of the scene on which it is valid.
    """

    before: DateScale
    after: DateScale
    later: tuple[Later, ...]
    valid_shares: Mapping[str, float]

    @classmethod
    def fit(cls, chips: Sequence[Chip], dates: Sequence[OtherDate]) -> Lasting:
        """Fit to a sample of the scene.

        Raises
        ------
        RasterReadError
        """
        pixels = DrawnPixels.draw(chips, dates)
        before, after = DateScale.fit(pixels.before), DateScale.fit(pixels.after)
        first, second = (
            scale.apply(values.T).T.astype(np.float64)
            for scale, values in ((before, pixels.before), (after, pixels.after))
        )
        later = []
        for date, scale, scores, valid in pixels.scaled():
            own = scores.T.astype(np.float64)
            predictions = Prediction.fit(first, own, valid), Prediction.fit(second, own, valid)
            later.append(Later(date, scale, *predictions))
        return cls(before, after, tuple(later), pixels.valid_shares)

    def departures(self, chip: Chip) -> Iterator[Departures]:
        """Yield how far each of the later dates departs from both dates of a chip.

        Raises
        ------
        RasterReadError
        """
        before, after = self.before.apply(chip.before), self.after.apply(chip.after)
        for later in self.later:
            values, valid = later.date.read(chip)
            own = later.scale.apply(values)
            yield Departures(
                later.from_before.lengths(own - later.from_before.apply(before)),
                later.from_after.lengths(own - later.from_after.apply(after)),
                valid,
            )

    def shares(self, chip: Chip) -> Float32Array:
        """Return how lasting a change would be at each pixel of a chip: the mean over its later dates.

        Of each date it is the share that the departure from the before image has in both departures, as
        polygons have it (:mod:`geocd.vectorize.lastingmeans`), under a Gaussian window of ``SMOOTH``.

        Returns
        -------
        ndarray, (height, width), float32
            In [0, 1]; NaN where no later date is valid. It depends on the pixels up to ``REACH`` around.

        Raises
        ------
        RasterReadError
        """
        total, dates = np.zeros(chip.valid.shape, np.float32), np.zeros(chip.valid.shape, np.float32)
        for departures in self.departures(chip):
            valid = departures.valid
            before, after = (
                ndimage.gaussian_filter(np.where(valid, values, 0), SMOOTH, radius=REACH)
                for values in (departures.from_before, departures.from_after)
            )
            both = before + after
            share = np.divide(before, both, out=np.full_like(both, 0.5), where=both > 0)
            total += np.where(valid, share, 0)
            dates += valid
        return np.divide(total, dates, out=np.full_like(total, np.nan), where=dates > 0)


__all__ = ["Departures", "Lasting", "Later"]
