"""What ``--ignore`` takes out: water, cloud and vegetation, by simple rules on bands whose names tell.

A pixel that a rule finds is not valid any more: it is left out of the statistics and NaN in the outputs,
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
that each rule found is told. The rules see neither thin or small cloud nor shadow, and take snow and wide
white roofs for cloud; where it matters, give a raster made by a classifier to ``--valid``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rasterio.windows import Window
from scipy import ndimage

from geocd.errors import ConfigError, NoValidPixelError
from geocd.raster.bands import named_places
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
#: Side, in pixels, of the square that must be all of one kind.
SIDES = {"water": 3, "cloud": 9, "vegetation": 3}

#: The bands that each rule needs, and the rule in the words of a message.
NEEDS: dict[str, tuple[str, ...]] = {
    "water": ("green", "nir"),
    "cloud": ("red", "green", "blue"),
    "vegetation": ("red", "nir"),
}
WORDS = {
    "water": f"NDWI above {WATER:g} in both dates",
    "cloud": "far brighter in blue than the scene and nearly white, in either date",
    "vegetation": f"NDVI above {VEGETATION:g} in both dates",
}


def normalized_difference(one: PixelArray, two: PixelArray) -> Float64Array:
    """Return ``(one - two) / (one + two)``, float64 in [-1, 1], NaN where both are 0 or less.

    Values below 0, which an atmospheric correction leaves on dark water, count as 0.
    """
    one, two = (np.maximum(values.astype(np.float64), 0) for values in (one, two))
    total = one + two
    index = np.full(total.shape, np.nan)
    np.divide(one - two, total, out=index, where=total > 0)
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


def filled(found: BoolArray, valid: BoolArray, side: int) -> BoolArray:
    """Return the part of ``found`` that fills squares of ``side`` pixels (a morphological opening).

    What is not valid, and what lies outside the array, may be part of a square: a lake that the scene cuts
    off is a lake. A pixel depends on the ``side - 1`` pixels around it.
    """
    square = (found | ~valid).astype(np.uint8)
    inside = ndimage.minimum_filter(square, side, mode="constant", cval=1)
    opened = ndimage.maximum_filter(inside, side, mode="constant", cval=0)
    return np.asarray(found & valid & (opened > 0))


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

    def found(self, colours: PixelArray) -> BoolArray:
        """Tell where ``(3, height, width)`` red, green and blue are cloud."""
        return np.asarray((colours[2] > self.blue) & (colour_spread(colours) < self.spread))


@dataclasses.dataclass(frozen=True)
class Rules:
    """The rules that were asked for, on the bands of one pair.

    Attributes
    ----------
    places : mapping
        By kind, the places (from 0) of the bands in ``NEEDS``.
    clouds : tuple of CloudRule, optional
        Before and after; needed for ``cloud``.
    """

    places: Mapping[str, tuple[int, ...]]
    clouds: tuple[CloudRule, CloudRule] | None = None

    @classmethod
    def of(cls, kinds: Sequence[str], names: Sequence[str]) -> Rules:
        """Find the bands of some kinds by their names.

        Raises
        ------
        ConfigError
            The names do not tell. The message has them, and what to do.
        """
        known = named_places(names)
        places = {}
        for kind in kinds:
            missing = [colour for colour in NEEDS[kind] if colour not in known]
            if missing:
                raise ConfigError(
                    f"--ignore {kind}: needs the bands {', '.join(NEEDS[kind])} by their names, and "
                    f"{', '.join(missing)} cannot be told among the chosen bands: {', '.join(names)}. Choose "
                    "more bands with --bidx; or name them red, green, blue and nir, for instance "
                    f"rio edit-info --bidx 1 --description {missing[0]} before.tif; or give a raster of "
                    "your own to --valid.",
                    kind=kind,
                    missing=missing,
                    names=tuple(names),
                )
            places[kind] = tuple(known[colour] for colour in NEEDS[kind])
        return cls(places)

    def fit(self, chips: Sequence[Chip]) -> Rules:
        """Return the rules with the scene's levels for cloud, from a sample with a valid pixel at least."""
        colours = list(self.places["cloud"])
        before, after = (CloudRule.fit(values[colours]) for values in valid_pixels(chips))
        return dataclasses.replace(self, clouds=(before, after))

    def found(self, chip: Chip) -> dict[str, BoolArray]:
        """Tell where the chip is what, ``(height, width)`` bool by kind; nowhere that is not valid."""
        dates = chip.before, chip.after
        found: dict[str, BoolArray] = {}
        for kind, places in self.places.items():
            if kind == "cloud":
                assert self.clouds is not None, "cloud levels are the scene's: fit first"
                parts = [
                    rule.found(values[list(places)]) for rule, values in zip(self.clouds, dates, strict=True)
                ]
                filling = [filled(part, chip.valid, SIDES[kind]) for part in parts]
                found[kind] = filling[0] | filling[1]
            elif kind == "water":
                green, nir = places
                parts = [normalized_difference(values[green], values[nir]) > WATER for values in dates]
                found[kind] = filled(parts[0] & parts[1], chip.valid, SIDES[kind])
            else:
                red, nir = places
                parts = [normalized_difference(values[nir], values[red]) > VEGETATION for values in dates]
                found[kind] = filled(parts[0] & parts[1], chip.valid, SIDES[kind])
        return found

    @property
    def reach(self) -> int:
        """Pixels around a pixel that its verdict depends on."""
        return max(SIDES[kind] for kind in self.places) - 1

    def keep(self, chip: Chip) -> KeptChip:
        """Return the chip with a smaller valid area, and what it lost."""
        found = self.found(chip)
        valid = chip.valid & ~np.logical_or.reduce(list(found.values()))
        return KeptChip(
            np.where(valid, chip.before, 0).astype(chip.before.dtype),
            np.where(valid, chip.after, 0).astype(chip.after.dtype),
            valid,
            chip.window,
            found,
        )


@dataclasses.dataclass(frozen=True)
class KeptChip(Chip):
    """A chip without what is ignored.

    Attributes
    ----------
    ignored : mapping of ndarray, (height, width), bool
        By kind; the pixels were valid before, and may be of several kinds.
    """

    ignored: Mapping[str, BoolArray]


class KeptPair(Pair):
    """A pair without what is ignored: everything that is read passes through the rules.

    Parameters
    ----------
    before, after, indexes, nodata, valid
        As for :class:`~geocd.raster.pair.Pair`.
    ignore : sequence of str
        Kinds of ``NEEDS``.

    Raises
    ------
    ConfigError
        The bands' names do not tell what a rule needs.
    """

    def __init__(self, *args: Any, ignore: Sequence[str], **options: Any) -> None:
        self._fitted = False
        self._any_usable = False
        super().__init__(*args, **options)
        try:
            self.rules = Rules.of(ignore, self.band_names)
        except ConfigError:
            self.close()
            raise

    def fit(self) -> None:
        """Take the levels of the scene; until then the pair is read as it is."""
        if "cloud" in self.rules.places:
            self.rules = self.rules.fit(sample_chips(self))
        self._fitted = True

    def read(self, window: Window) -> Chip:
        """Read the pixels inside a window; valid is what is left."""
        if not self._fitted:
            return super().read(window)
        # with surroundings, so that the verdict on a pixel is the same in every window
        top, left = int(window.row_off), int(window.col_off)
        bottom, right = top + int(window.height), left + int(window.width)
        first_row, first_col = max(0, top - self.rules.reach), max(0, left - self.rules.reach)
        last_row = min(self.grid.height, bottom + self.rules.reach)
        last_col = min(self.grid.width, right + self.rules.reach)
        wide = super().read(Window(first_col, first_row, last_col - first_col, last_row - first_row))
        if wide.valid.any():
            self._any_usable = True
        kept = self.rules.keep(wide)
        part = slice(top - first_row, bottom - first_row), slice(left - first_col, right - first_col)
        return KeptChip(
            kept.before[(slice(None), *part)],
            kept.after[(slice(None), *part)],
            kept.valid[part],
            window,
            {kind: found[part] for kind, found in kept.ignored.items()},
        )

    def no_valid_pixel(self) -> NoValidPixelError:
        """Return the error for a pair of which nothing is left."""
        if not self._any_usable:
            return super().no_valid_pixel()
        kinds = ",".join(self.rules.places)
        return NoValidPixelError(
            f"--ignore {kinds} left nothing of {self.before_path} and {self.after_path}: every pixel that is "
            "valid in both is "
            + ", or ".join(f"{kind} ({WORDS[kind]})" for kind in self.rules.places)
            + ". Ignore less, or give a raster of what may be used to --valid.",
            before=self.before_path,
            after=self.after_path,
            ignore=tuple(self.rules.places),
        )


def ignored_counts(chip: Chip, part: tuple[slice, slice]) -> dict[str, int]:
    """Count what was ignored in a part of a chip: pixels by kind, and ``usable``, all that were valid before.

    Empty where nothing was asked for.
    """
    if not isinstance(chip, KeptChip):
        return {}
    usable = np.logical_or.reduce([chip.valid, *chip.ignored.values()])
    counts = {kind: int(found[part].sum()) for kind, found in chip.ignored.items()}
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
        """Return the share of the otherwise valid pixels by kind; empty where nothing was asked for."""
        usable = max(self._counts.get("usable", 0), 1)
        return {kind: count / usable for kind, count in self._counts.items() if kind != "usable"}
