"""What each polygon shows in one date: indices of its mean reflectance, and covers that follow from them."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from geocd.raster.bands import VISIBLE
from geocd.scene.ignore import normalized_difference
from geocd.types import BoolArray, Float64Array, PixelArray

Spectrum = Mapping[str, Float64Array]

#: Reflectance is at least this: of less, ratios are noise.
_LEAST = 0.004
#: Visible light of dark surfaces: water, forest, shadow, burnt ground.
_DIM = 0.06
#: Visible light of water and shadow, which no plants are as dark as; or as dark and as grey (whiteness).
_BLACK, _GREY = 0.015, (0.03, 0.85)
#: NDVI of ground without plants.
_BARE = 0.15
#: The two bands of each normalized difference. NDSI is MNDWI by another name.
DIFFERENCES = {
    "ndvi": ("nir", "red"),
    "mndwi": ("green", "swir"),
    "ndsi": ("green", "swir"),
    "ndwi": ("green", "nir"),
    "ndbi": ("swir", "nir"),
    "ngrdi": ("green", "red"),
}
#: Indices that are called by their letters.
INDICES = (*DIFFERENCES, "nbr")


class Surface:
    """Indices and covers of all polygons in one date.

    Parameters
    ----------
    spectrum : mapping of ndarray, (polygons,), float64
        Mean reflectance by word (``red``, ``nir``).
    count : int
        Number of polygons.
    """

    def __init__(self, spectrum: Spectrum, count: int) -> None:
        self.bands = {word: np.maximum(values, _LEAST) for word, values in spectrum.items()}
        self._unknown = np.full(count, np.nan)

    def band(self, word: str) -> Float64Array:
        """Return the reflectance of a band; NaN where there is none of this name."""
        return self.bands.get(word, self._unknown)

    def value(self, name: str) -> Float64Array:
        """Return an index, a band or ``visible``; NaN where bands are missing."""
        if name in DIFFERENCES:
            first, second = DIFFERENCES[name]
            return normalized_difference(self.band(first), self.band(second))
        if name == "nbr":
            return normalized_difference(self.band("nir"), self._longest)
        if name == "red/blue":
            ratio: Float64Array = self.band("red") / self.band("blue")
            return ratio
        if name == "visible":
            bands = [values for word, values in self.bands.items() if word in VISIBLE]
            mean: Float64Array = np.mean(bands or list(self.bands.values()), axis=0)
            return mean
        if name == "white":
            colours = np.stack([self.band(word) for word in VISIBLE])
            white: Float64Array = colours.min(axis=0) / colours.max(axis=0)
            return white
        return self.band(name)

    @property
    def _longest(self) -> Float64Array:
        """Shortwave infrared at 2.2 um, else that at 1.6 um."""
        return self.band("swir2" if "swir2" in self.bands else "swir")

    @functools.cached_property
    def colours_only(self) -> BoolArray:
        """Whether there is no infrared, so that only red, green and blue speak."""
        return np.isnan(self.band("nir"))

    @functools.cached_property
    def dim(self) -> BoolArray:
        """Dark in visible light."""
        return self.value("visible") < _DIM

    @functools.cached_property
    def snow(self) -> BoolArray:
        """Snow: NDSI above 0.3, and bright in green and near infrared."""
        return (self.value("ndsi") > 0.3) & (self.band("green") > 0.2) & (self.band("nir") > 0.15)

    @functools.cached_property
    def cloud(self) -> BoolArray:
        """Cloud: bright and white in visible light, bright in infrared."""
        infrared = np.fmin(self.band("nir"), self.band("swir") * 2)
        white = (self.value("visible") > 0.35) & (self.value("white") > 0.8)
        return white & (infrared > 0.25) & ~self.snow

    @functools.cached_property
    def water(self) -> BoolArray:
        """Water: MNDWI above 0, or black in infrared; without shortwave infrared, NDWI above 0."""
        nir, mndwi, visible = self.band("nir"), self.value("mndwi"), self.value("visible")
        index = (mndwi > 0) | (np.isnan(mndwi) & (self.value("ndwi") > 0))
        wet = (nir < 0.15) & index & ~(self.value("ndvi") > 0.3)
        blue = (visible < _DIM) & (self.value("red/blue") < 0.85)
        blue |= (visible < _BLACK) | ((visible < _GREY[0]) & (self.value("white") >= _GREY[1]))
        return (wet | ((nir < 0.1) & (self.band("swir") < 0.06)) | (self.colours_only & blue)) & ~self.snow

    @functools.cached_property
    def vegetation(self) -> BoolArray:
        """Vegetation: NDVI of 0.4 or more; without infrared, dark and greener than red."""
        index = self.value("ngrdi")
        green = (index >= 0.06) | ((index >= 0) & (self.value("red/blue") >= 1.05))
        green &= (self.value("visible") < 0.1) & ~self.water
        return (self.value("ndvi") >= 0.4) | (self.colours_only & green)

    @functools.cached_property
    def built(self) -> BoolArray:
        """Built: not green, and a flat spectrum from red to shortwave infrared."""
        flat = self.band("swir") < 1.6 * self.band("red")
        return (self.value("ndvi") < 0.3) & flat & (self.value("visible") > 0.05)

    @functools.cached_property
    def char(self) -> BoolArray:
        """Char: dark from red to near infrared, brighter in shortwave infrared."""
        dark = (self.band("red") < 0.1) & (self.band("nir") < 0.16)
        return dark & (self._longest > 1.35 * self.band("nir")) & ~self.water

    @functools.cached_property
    def cover(self) -> PixelArray:
        """What covers each polygon, in a word."""
        covers = {
            "snow": self.snow,
            "cloud": self.cloud,
            "water": self.water,
            "vegetation": self.vegetation,
            "built": self.built,
            "built or bare": self.colours_only,
        }
        return np.asarray(np.select(list(covers.values()), list(covers), "bare"), dtype=object)


def angle(before: Surface, after: Surface) -> Float64Array:
    """Return the angle between the spectra of two dates, in radians (Kruse et al. 1993).

    It is 0 where all bands became brighter or darker by one factor.
    """
    old, new = np.stack(list(before.bands.values())), np.stack(list(after.bands.values()))
    lengths = np.linalg.norm(old, axis=0) * np.linalg.norm(new, axis=0)
    angles: Float64Array = np.arccos(np.clip((old * new).sum(axis=0) / lengths, -1, 1))
    return angles


def cleared(before: Surface, after: Surface) -> Surface:
    """Return what stands where vegetation was, without the vegetation that is still mixed with it.

    A pixel of a new road is half a meadow, and an estate has gardens. The spectra of mixed pixels lie on the
    line from the old to the new surface (linear mixing, Adams et al. 1986): it is followed to where NDVI is
    that of bare ground, or three times as far.
    """
    ratio = (1 + _BARE) / (1 - _BARE)
    change = {word: after.band(word) - before.band(word) for word in ("nir", "red")}
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = (before.band("nir") - ratio * before.band("red")) / (ratio * change["red"] - change["nir"])
    steps = np.clip(np.nan_to_num(steps, nan=1.0), 1, 3)
    spectrum = {word: old + steps * (after.bands[word] - old) for word, old in before.bands.items()}
    return Surface(spectrum, len(steps))


__all__ = ["DIFFERENCES", "INDICES", "Spectrum", "Surface", "angle", "cleared"]
