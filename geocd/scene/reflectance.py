"""Values of each date as reflectance, or as near to it as the scene tells, for rules that compare surfaces.

Where values are reflectance (by declared scale, or by their size), a haze is subtracted: of each band of each
date what its darkest pixels have too much (dark-object subtraction, Chavez 1988), but no more than clear
air adds. Other values (8-bit pictures, digital numbers) are stretched: the darkest and brightest pixels of
each band and date get the reflectance that these usually have. What is dark, bright, green or dry then means:
within this scene.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from geocd.raster.bands import band_positions
from geocd.raster.pair import Chip, Pair
from geocd.raster.scaling import MOST_REFLECTANCE, PICTURES, Scaling
from geocd.scene.sample import valid_pixels
from geocd.types import Float64Array

#: Per cent of the pixels of a band that are darker than "dark", and darker than "bright".
_DARK, _BRIGHT = 0.5, 95.0
#: What clear air adds to reflectance at most, by band, and the reflectance of the darkest surfaces: water,
#: shadow, and in red and blue dense forest.
_AIR = {"blue": 0.09, "green": 0.06, "red": 0.04, "nir": 0.02, "swir": 0.0, "swir2": 0.0}
_DARKEST = {"blue": 0.015, "green": 0.02, "red": 0.015, "nir": 0.02, "swir": 0.01, "swir2": 0.01}
#: Reflectance of the brightest pixels of a usual scene: bare ground and roofs; in the near infrared, plants.
_BRIGHTEST = {"blue": 0.105, "green": 0.13, "red": 0.165, "nir": 0.34, "swir": 0.33, "swir2": 0.26}
#: The same of a band that the names do not tell, and the number of such bands that are used.
_OTHER, _UNKNOWN = (0.015, 0.3), 4
#: Usual factor of products that store reflectance as whole numbers.
_STORED = 1e-4
#: Bright pixels of some band are in this range where values are reflectance.
_PLAUSIBLE = (0.1, 1.6)
#: At most so many pixels of the sample are used.
_PIXELS = 200_000


@dataclasses.dataclass(frozen=True)
class Reflectance:
    """How means of stored values become reflectance: ``(value - dark) x gain``.

    Attributes
    ----------
    absolute : bool
        Whether values are reflectance; False where they were stretched by the scene.
    dark, gain : tuple of mapping
        Before and after, by word (``red``, ``nir``); of values with declared scale and offset applied, as
        :meth:`geocd.raster.scaling.Scaling.level` returns them.
    positions : mapping of int
        Positions (from 0) of the bands by word.
    scalings : tuple of Scaling
        Of the pair, before and after.
    """

    absolute: bool
    dark: tuple[Mapping[str, float], Mapping[str, float]]
    gain: tuple[Mapping[str, float], Mapping[str, float]]
    positions: Mapping[str, int]
    scalings: tuple[Scaling, Scaling]

    @classmethod
    def measure(cls, chips: Sequence[Chip], pair: Pair) -> Reflectance:
        """Measure dark and bright pixels on a sample of a pair.

        Where no band is known by its name, the first ones are called ``b1``, ``b2``, ...
        """
        positions = band_positions(pair.band_names)
        if not positions:
            positions = {f"b{band + 1}": band for band in range(min(_UNKNOWN, len(pair.band_names)))}
        dark, bright = np.empty((2, len(positions))), np.empty((2, len(positions)))
        for column, band in enumerate(positions.values()):
            dates = valid_pixels(chips, slice(band, band + 1), most=_PIXELS)
            for date, (scaling, (values,)) in enumerate(zip(pair.scalings, dates, strict=True)):
                levels = scaling.level(band, values)
                dark[date, column], bright[date, column] = np.percentile(levels, [_DARK, _BRIGHT])
        units = [
            None if pair.dtypes and not PICTURES.isdisjoint(pair.dtypes) else _unit(scaling, high)
            for scaling, high in zip(pair.scalings, bright, strict=True)
        ]
        words = tuple(positions)
        if None in units:
            levels_of = [_stretched(words, *extremes) for extremes in zip(dark, bright, strict=True)]
        else:
            levels_of = [_clear(words, low, unit) for low, unit in zip(dark, units, strict=True) if unit]
        return cls(
            None not in units,
            (levels_of[0][0], levels_of[1][0]),
            (levels_of[0][1], levels_of[1][1]),
            positions,
            pair.scalings,
        )

    def of(self, date: int, word: str, values: Float64Array) -> Float64Array:
        """Return reflectance of stored values of a band.

        Parameters
        ----------
        date : int
            0 for before, 1 for after.
        word : str
            A key of ``positions``.
        values : ndarray, float64

        Returns
        -------
        ndarray, same shape, float64
            Where values were stretched, about 0 to 1.
        """
        level = self.scalings[date].level(self.positions[word], values)
        return (level - self.dark[date][word]) * self.gain[date][word]

    def haze(self, date: int, word: str) -> float:
        """Return the reflectance that :meth:`of` subtracts from a band of a date."""
        return self.dark[date][word] * self.gain[date][word]

    def with_haze(self, date: int, word: str, values: Float64Array) -> Float64Array:
        """Return reflectance as :meth:`of` does, without subtracting the haze."""
        return self.scalings[date].level(self.positions[word], values) * self.gain[date][word]


def _unit(scaling: Scaling, bright: Float64Array) -> float | None:
    """Return the factor that turns levels into reflectance; None where they are something else."""
    stored = 1.0 if bright.max() < MOST_REFLECTANCE else _STORED
    unit = scaling.scales[0] if scaling.scales else stored
    low, high = _PLAUSIBLE
    return unit if low <= bright.max() * unit <= high else None


Levels = tuple[dict[str, float], dict[str, float]]


def _clear(words: Sequence[str], dark: Float64Array, unit: float) -> Levels:
    """Return what haze adds, and the unit."""
    haze = {
        word: float(np.clip(low * unit - _DARKEST.get(word, _OTHER[0]), 0, _AIR.get(word, 0.0))) / unit
        for word, low in zip(words, dark, strict=True)
    }
    return haze, dict.fromkeys(words, unit)


def _stretched(words: Sequence[str], dark: Float64Array, bright: Float64Array) -> Levels:
    """Return levels and gains for which dark and bright pixels have their usual reflectance."""
    lows, gains = {}, {}
    for word, low, high in zip(words, dark, bright, strict=True):
        span = max(high - low, abs(high) * 1e-6, 1e-12)
        darkest = _DARKEST.get(word, _OTHER[0])
        gains[word] = float((_BRIGHTEST.get(word, _OTHER[1]) - darkest) / span)
        lows[word] = float(low) - darkest / gains[word]
    return lows, gains


__all__ = ["Reflectance"]
