"""What ``--ignore`` takes out: water, cloud and vegetation, by simple rules on bands whose names tell.

A pixel that a rule takes out is not valid any more: it is left out of the statistics and NaN in the outputs,
like one that is nodata.

============== ====================================================================================
``water``      NDWI = (green - nir) / (green + nir) above 0.05 in both dates
``vegetation`` NDVI = (nir - red) / (nir + red) above 0.4 in both dates
``cloud``      in either date blue is far above the scene's median, and the pixel is nearly white
============== ====================================================================================

Water and vegetation must be there in both dates, because a new lake and a cleared wood are changes. A
cloud in one date hides the ground, so one is enough. What is found counts only where it fills a square: of 3
pixels for water and vegetation, of 9 for cloud. Single pixels in the shadow of houses look like water, and
white roofs like cloud: without the square, the cloud rule takes new halls, which are real changes, out of
scenes that have no cloud.

The rules need values that are proportional to reflectance, whatever the factor: reflectance, Sentinel-2's
reflectance x 10 000, top-of-atmosphere radiance scaled alike for all bands. An offset moves the indices
towards 0 and little or nothing is found: rescale Landsat Collection 2 (x 0.0000275 - 0.2) and
Sentinel-2 of processing baseline 04.00 and later (1000 is added) first. Eight-bit images that were
stretched for the eye, band by band, have lost the proportion: what is found there is arbitrary. The share
that each rule takes out is reported. The rules see neither thin or small cloud nor shadow, and take snow and
wide white roofs for cloud; where it matters, pass a raster made by a classifier with ``--valid``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from geocd.errors import ConfigError, NoValidPixelError
from geocd.raster.bands import band_positions
from geocd.raster.pair import Chip, Pair
from geocd.scene.sample import sample_chips, valid_pixels
from geocd.types import BoolArray, Float64Array, PixelArray

#: Indices above these are water and vegetation. Water has an NDWI above 0; wet soil, shadow and roofs
#: come close to it. Dense vegetation has an NDVI above 0.4; lawns and crops in spring lie around it.
WATER, VEGETATION = 0.05, 0.4
#: Cloud is brighter in blue than the median by so many robust deviations of the scene, and by such a
#: share of the median at least: above forest or sea the deviation is that of noise, and every house
#: would be a cloud.
CLOUD_DEVIATIONS, CLOUD_LEAST = 4.0, 0.5
#: Cloud is white: its spread of red, green and blue, over their mean, is below this share of the
#: scene's median spread.
CLOUD_SPREAD = 0.5


@dataclasses.dataclass(frozen=True)
class Kind:
    """What can be ignored.

    Attributes
    ----------
    bands : tuple of str
        Those that the rule needs.
    side : int
        Side, in pixels, of the square that must be all of this kind.
    description : str
        The rule in the words of a message.
    """

    bands: tuple[str, ...]
    side: int
    description: str


KINDS: Mapping[str, Kind] = {
    "water": Kind(("green", "nir"), 3, f"NDWI above {WATER:g} in both dates"),
    "cloud": Kind(
        ("red", "green", "blue"), 9, "far brighter in blue than the scene and nearly white, in either date"
    ),
    "vegetation": Kind(("red", "nir"), 3, f"NDVI above {VEGETATION:g} in both dates"),
}


def normalized_difference(first: PixelArray, second: PixelArray) -> Float64Array:
    """Return ``(first - second) / (first + second)``, float64 in [-1, 1], NaN where both are 0 or less.

    Values below 0, which an atmospheric correction leaves on dark water, count as 0.
    """
    first, second = (np.maximum(values.astype(np.float64), 0) for values in (first, second))
    total = first + second
    index = np.full(total.shape, np.nan)
    np.divide(first - second, total, out=index, where=total > 0)
    return index


def colour_spread(colours: PixelArray) -> Float64Array:
    """Return the range of ``(3, ...)`` colours over their mean: 0 is white or grey, 3 is one pure colour.

    Infinite where the mean is 0 or less.
    """
    colours = colours.astype(np.float64)
    mean = colours.mean(axis=0)
    spread = colours.max(axis=0) - colours.min(axis=0)
    relative = np.full(mean.shape, np.inf)
    np.divide(spread, mean, out=relative, where=mean > 0)
    return relative


def filled(mask: BoolArray, valid: BoolArray, side: int) -> BoolArray:
    """Return the part of ``mask`` that fills squares of ``side`` pixels (a morphological opening).

    What is not valid, and what lies outside the array, may be part of a square: a lake that the scene cuts
    off is a lake. A pixel depends on the ``side - 1`` pixels around it.
    """
    square = (mask | ~valid).astype(np.uint8)
    inside = ndimage.minimum_filter(square, side, mode="constant", cval=1)
    opened = ndimage.maximum_filter(inside, side, mode="constant", cval=0)
    return np.asarray(mask & valid & (opened > 0))


@dataclasses.dataclass(frozen=True)
class CloudRule:
    """Bright and white, as measured by one date of the scene.

    Attributes
    ----------
    blue : float
        Cloud is above this value of the blue band.
    spread : float
        And below this :func:`colour_spread`.
    """

    blue: float
    spread: float

    @classmethod
    def fit(cls, colours: PixelArray) -> CloudRule:
        """Take the levels of one date from ``(3, n)`` valid pixels: red, green, blue.

        A scene of which more than half is cloud has the cloud's own median, and none is found.
        """
        blue = colours[2]
        median = float(np.median(blue))
        deviation = 1.4826 * float(np.median(np.abs(blue - median)))
        above = max(CLOUD_DEVIATIONS * deviation, CLOUD_LEAST * abs(median))
        spread = float(np.median(colour_spread(colours)))
        # Of a scene that is mostly 0 or less (decibels, say) nothing is known to be white.
        return cls(median + above, CLOUD_SPREAD * spread if np.isfinite(spread) else 0.0)

    def mask(self, colours: PixelArray) -> BoolArray:
        """Tell where ``(3, height, width)`` red, green and blue are cloud."""
        return np.asarray((colours[2] > self.blue) & (colour_spread(colours) < self.spread))


@dataclasses.dataclass(frozen=True)
class Rules:
    """The rules that were asked for, on the bands of one pair: a :class:`geocd.raster.pair.ValidityRule`.

    Attributes
    ----------
    positions : mapping
        By kind, the positions (from 0) of the bands that the rule needs.
    clouds : tuple of CloudRule, optional
        Before and after; needed for ``cloud``.
    """

    positions: Mapping[str, tuple[int, ...]]
    clouds: tuple[CloudRule, CloudRule] | None = None

    @classmethod
    def of(cls, kinds: Sequence[str], names: Sequence[str]) -> Rules:
        """Choose the bands of some kinds by their names.

        Raises
        ------
        ConfigError
            The names do not tell. The message has them, and what to do.
        """
        named = band_positions(names)
        positions = {}
        for kind in kinds:
            bands = KINDS[kind].bands
            missing = [band for band in bands if band not in named]
            if missing:
                raise ConfigError(
                    f"--ignore {kind}: needs the bands {', '.join(bands)} by their names, and "
                    f"{', '.join(missing)} cannot be told among the chosen bands: {', '.join(names)}. Choose "
                    "more bands with --bidx; or name them red, green, blue and nir, for instance "
                    f"rio edit-info --bidx 1 --description {missing[0]} before.tif; or pass a raster of "
                    "your own with --valid.",
                    kind=kind,
                    missing=missing,
                    names=tuple(names),
                )
            positions[kind] = tuple(named[band] for band in bands)
        return cls(positions)

    def fit(self, chips: Sequence[Chip]) -> Rules:
        """Return the rules with the scene's levels for cloud, from a sample with a valid pixel at least."""
        colours = list(self.positions["cloud"])
        before, after = (CloudRule.fit(values[colours]) for values in valid_pixels(chips))
        return dataclasses.replace(self, clouds=(before, after))

    def fitted_to(self, pair: Pair) -> Rules:
        """Return the rules with what they take from the scene, of which a sample is read if need be."""
        return self.fit(sample_chips(pair)) if "cloud" in self.positions else self

    def masks(self, chip: Chip) -> dict[str, BoolArray]:
        """Tell where the chip is what, ``(height, width)`` bool by kind; nowhere that is not valid."""
        dates = chip.before, chip.after
        masks: dict[str, BoolArray] = {}
        for kind, positions in self.positions.items():
            side = KINDS[kind].side
            if kind == "cloud":
                assert self.clouds is not None, "cloud levels are the scene's: fit first"
                clouds = [
                    filled(rule.mask(values[list(positions)]), chip.valid, side)
                    for rule, values in zip(self.clouds, dates, strict=True)
                ]
                masks[kind] = clouds[0] | clouds[1]
            elif kind == "water":
                green, nir = positions
                high = [normalized_difference(values[green], values[nir]) > WATER for values in dates]
                masks[kind] = filled(high[0] & high[1], chip.valid, side)
            else:
                red, nir = positions
                high = [normalized_difference(values[nir], values[red]) > VEGETATION for values in dates]
                masks[kind] = filled(high[0] & high[1], chip.valid, side)
        return masks

    @property
    def reach(self) -> int:
        """Pixels around a pixel that its verdict depends on."""
        return max(KINDS[kind].side for kind in self.positions) - 1

    def apply(self, chip: Chip) -> Chip:
        """Return the chip with a smaller valid area, and what was taken out of it in ``ignored``."""
        masks = self.masks(chip)
        valid = chip.valid & ~np.logical_or.reduce(list(masks.values()))
        return Chip(
            np.where(valid, chip.before, 0).astype(chip.before.dtype),
            np.where(valid, chip.after, 0).astype(chip.after.dtype),
            valid,
            chip.window,
            masks,
        )

    def nothing_left(self, before: str, after: str) -> NoValidPixelError:
        """Return the error for a pair of which no pixel is left."""
        kinds = ",".join(self.positions)
        return NoValidPixelError(
            f"--ignore {kinds} left nothing of {before} and {after}: every pixel that is "
            "valid in both is "
            + ", or ".join(f"{kind} ({KINDS[kind].description})" for kind in self.positions)
            + ". Ignore less, or pass a raster of what may be used with --valid.",
            before=before,
            after=after,
            ignore=tuple(self.positions),
        )


def ignored_counts(chip: Chip, part: tuple[slice, slice]) -> dict[str, int]:
    """Count what was ignored in a part of a chip: pixels by kind, and ``usable``, all that were valid before.

    Empty where nothing was to be ignored.
    """
    if not chip.ignored:
        return {}
    usable = np.logical_or.reduce([chip.valid, *chip.ignored.values()])
    counts = {kind: int(mask[part].sum()) for kind, mask in chip.ignored.items()}
    return {"usable": int(usable[part].sum()), **counts}


class Tally:
    """Sums what was ignored over the tiles."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, counts: Mapping[str, int]) -> None:
        """Add the counts of a part of the scene that no other part shares a pixel with."""
        for kind, count in counts.items():
            self._counts[kind] = self._counts.get(kind, 0) + count

    def shares(self) -> dict[str, float]:
        """Return the share of the otherwise valid pixels by kind; empty where nothing was to be ignored."""
        usable = max(self._counts.get("usable", 0), 1)
        return {kind: count / usable for kind, count in self._counts.items() if kind != "usable"}
