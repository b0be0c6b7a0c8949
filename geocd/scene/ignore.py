"""Surfaces that ``--ignore`` masks: water, cloud and vegetation, by simple rules on bands known by name.

A masked pixel is no longer valid: it is excluded from the statistics and NaN in the outputs, like nodata.

============== ====================================================================================
``water``      NDWI = (green - nir) / (green + nir) above 0.05 in both dates
``vegetation`` NDVI = (nir - red) / (nir + red) above 0.4 in both dates
``cloud``      blue far above the scene's median and nearly white, in either date
============== ====================================================================================

Water and vegetation must be present in both dates, because a new lake and a cleared forest are changes. A
cloud in either date hides the ground. A mask is reduced to the parts that fill a square: of 3 pixels for
water and vegetation, of 9 for cloud. Single pixels in the shadow of houses look like water, and white roofs
like cloud: without the square, the cloud rule masks new halls, which are real changes, in scenes without
cloud.

The rules need values proportional to reflectance, by any factor: reflectance, Sentinel-2's reflectance x 10
000, top-of-atmosphere radiance scaled equally in all bands. An offset moves the indices towards 0, and little
or nothing is masked: Landsat Collection 2 (x 0.0000275 - 0.2) and Sentinel-2 of processing baseline 04.00 and
later (1000 is added) have one. Where the files declare it (:mod:`geocd.raster.scaling`), it is removed here,
date by date; where they seem to have one that is not declared, a finding says so. In 8-bit images that were
stretched for display, band by band, the ratios are lost and the masks arbitrary. The share that each rule
masks is reported. The rules miss thin and small clouds and shadow, and take snow and wide white roofs for
cloud. Where ``geocd[clouds]`` is installed and suits the pair, a network finds cloud and its shadow instead
(:mod:`geocd.scene.clouds`); which of the two decided is reported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from geocd.config import CloudChoice
from geocd.errors import NoValidPixelError
from geocd.raster.bands import require_bands
from geocd.raster.pair import Chip, Pair
from geocd.raster.quality import DESCRIPTIONS, MASKED
from geocd.raster.scaling import Scaling
from geocd.scene.clouds import CloudDetector, CloudMask, detect_clouds
from geocd.scene.sample import sample_chips, valid_pixels
from geocd.types import BoolArray, Float64Array, Part, PixelArray

#: Thresholds of NDWI for water and of NDVI for vegetation. Water has an NDWI above 0; wet soil, shadow and
#: roofs come close to it. Dense vegetation has an NDVI above 0.4; lawns and crops in spring lie around it.
WATER, VEGETATION = 0.05, 0.4
#: Cloud exceeds the median of blue by this many robust standard deviations of the scene, and by at least this
#: share of the median: over forest or sea the deviation is that of noise, and every house would be a cloud.
CLOUD_DEVIATIONS, CLOUD_LEAST = 4.0, 0.5
#: Cloud is white: its spread of red, green and blue, over their mean, is below this share of the
#: scene's median spread.
CLOUD_SPREAD = 0.5


@dataclasses.dataclass(frozen=True)
class Kind:
    """A surface that can be ignored.

    Attributes
    ----------
    bands : tuple of str
        Names of the bands that the rule needs.
    side : int
        Side, in pixels, of the square that the surface must fill.
    description : str
        The rule as described in messages.
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
    """Return the range of red, green and blue over their mean.

    Parameters
    ----------
    colours : ndarray, (3, ...)

    Returns
    -------
    ndarray, (...), float64
        From 0 (white or grey) to 3 (a pure colour) for values of 0 or more; infinite where the mean is 0 or
        less.
    """
    colours = colours.astype(np.float64)
    mean = colours.mean(axis=0)
    spread = colours.max(axis=0) - colours.min(axis=0)
    relative = np.full(mean.shape, np.inf)
    np.divide(spread, mean, out=relative, where=mean > 0)
    return relative


def filled(mask: BoolArray, valid: BoolArray, side: int) -> BoolArray:
    """Return the part of ``mask`` that fills squares of ``side`` pixels (a morphological opening).

    Invalid pixels and those outside the array may be part of a square, so that a lake at the edge of the
    scene is not lost. A pixel depends on those up to ``side - 1`` pixels away.
    """
    square = (mask | ~valid).astype(np.uint8)
    inside = ndimage.minimum_filter(square, side, mode="constant", cval=1)
    opened = ndimage.maximum_filter(inside, side, mode="constant", cval=0)
    return np.asarray(mask & valid & (opened > 0))


@dataclasses.dataclass(frozen=True)
class CloudRule:
    """Thresholds for cloud in one date of a scene.

    Attributes
    ----------
    blue : float
        Cloud is brighter than this value of the blue band.
    spread : float
        The :func:`colour_spread` of cloud is less than this.
    """

    blue: float
    spread: float

    @classmethod
    def fit(cls, colours: PixelArray) -> CloudRule:
        """Determine the thresholds of one date.

        In a scene of which more than half is cloud, the median is that of cloud, and no cloud is detected.

        Parameters
        ----------
        colours : ndarray, (3, n)
            Red, green and blue of valid pixels.
        """
        blue = colours[2]
        median = float(np.median(blue))
        deviation = 1.4826 * float(np.median(np.abs(blue - median)))
        above = max(CLOUD_DEVIATIONS * deviation, CLOUD_LEAST * abs(median))
        spread = float(np.median(colour_spread(colours)))
        # In a scene that is mostly 0 or less (decibels, say), no pixel can be called white.
        return cls(median + above, CLOUD_SPREAD * spread if np.isfinite(spread) else 0.0)

    def mask(self, colours: PixelArray) -> BoolArray:
        """Return where there is cloud, ``(height, width)``, in ``(3, height, width)`` red, green and blue."""
        return np.asarray((colours[2] > self.blue) & (colour_spread(colours) < self.spread))


@dataclasses.dataclass(frozen=True)
class Rules:
    """The requested rules for the bands of a pair: a :class:`geocd.raster.pair.ValidityRule`.

    Attributes
    ----------
    positions : mapping
        By kind, the positions (from 0) of the bands that the rule needs.
    clouds : tuple of CloudRule, optional
        Before and after; needed for ``cloud`` by the rule.
    cloud_mask : CloudMask, optional
        What the network calls cloud and shadow: it decides instead of the rule.
    cloud_detector : CloudDetector, optional
        Which of the two decides; None before the rules are fitted, and without ``cloud``.
    scalings : tuple of Scaling
        Scale and offset of the bands of the pair, before and after.
    """

    positions: Mapping[str, tuple[int, ...]]
    clouds: tuple[CloudRule, CloudRule] | None = None
    scalings: tuple[Scaling, Scaling] = (Scaling(), Scaling())
    cloud_mask: CloudMask | None = None
    cloud_detector: CloudDetector | None = None

    @classmethod
    def of(
        cls,
        kinds: Sequence[str],
        names: Sequence[str],
        scalings: tuple[Scaling, Scaling] = (Scaling(), Scaling()),
    ) -> Rules:
        """Select the bands that the rules need by their names.

        Parameters
        ----------
        kinds : sequence of str
            Keys of ``KINDS``.
        names : sequence of str
            Names of the bands of the pair.
        scalings : tuple of Scaling
            Their scale and offset, before and after.

        Raises
        ------
        ConfigError
            A band cannot be identified by its name. The message has the names and the remedy.
        """
        remedy = "pass a mask of your own with --valid"
        positions = {
            kind: require_bands(f"--ignore {kind}", KINDS[kind].bands, names, remedy, kind=kind)
            for kind in kinds
        }
        return cls(positions, scalings=scalings)

    def fit(self, chips: Sequence[Chip]) -> Rules:
        """Return the rules with thresholds for cloud, fitted to a sample with at least one valid pixel."""
        before, after = map(CloudRule.fit, self._levels("cloud", valid_pixels(chips)))
        return dataclasses.replace(self, clouds=(before, after))

    def fitted_to(self, pair: Pair, choice: CloudChoice = "auto") -> Rules:
        """Return the rules with what they need of the pair: thresholds for cloud, or a mask of it.

        ``choice`` is the setting ``cloud_detector``.

        Raises
        ------
        ConfigError
            The network was chosen, and cannot say anything of the pair.
        RasterReadError
        """
        if "cloud" not in self.positions:
            return self
        chips = sample_chips(pair)
        clouds = detect_clouds(pair, chips, choice)
        if isinstance(clouds, CloudMask):
            return dataclasses.replace(self, cloud_mask=clouds, cloud_detector=clouds.detector)
        return dataclasses.replace(self.fit(chips), cloud_detector=clouds)

    def masks(self, chip: Chip) -> dict[str, BoolArray]:
        """Return the mask of every kind, ``(height, width)`` bool, False where the chip is not valid."""
        masks: dict[str, BoolArray] = {}
        for kind in self.positions:
            side, dates = KINDS[kind].side, self._levels(kind, (chip.before, chip.after))
            if kind == "cloud" and self.cloud_mask is not None:
                masks[kind] = self.cloud_mask.read(chip.window) & chip.valid
            elif kind == "cloud":
                assert self.clouds is not None, "thresholds for cloud depend on the scene: fit first"
                clouds = [
                    filled(rule.mask(values), chip.valid, side)
                    for rule, values in zip(self.clouds, dates, strict=True)
                ]
                masks[kind] = clouds[0] | clouds[1]
            elif kind == "water":
                high = [normalized_difference(green, nir) > WATER for green, nir in dates]
                masks[kind] = filled(high[0] & high[1], chip.valid, side)
            else:
                high = [normalized_difference(nir, red) > VEGETATION for red, nir in dates]
                masks[kind] = filled(high[0] & high[1], chip.valid, side)
        return masks

    def _levels(self, kind: str, dates: tuple[PixelArray, PixelArray]) -> list[PixelArray]:
        """Return the bands of a rule, before and after, in proportion to reflectance."""
        return [
            np.stack([scaling.level(band, values[band]) for band in self.positions[kind]])
            for scaling, values in zip(self.scalings, dates, strict=True)
        ]

    @property
    def reach(self) -> int:
        """Distance, in pixels, up to which the mask of a pixel depends on others."""
        return max(KINDS[kind].side for kind in self.positions) - 1

    def apply(self, chip: Chip) -> Chip:
        """Return the chip with the masked pixels made invalid, and the masks in ``ignored``."""
        masks = self.masks(chip)
        valid = chip.valid & ~np.logical_or.reduce(list(masks.values()))
        return dataclasses.replace(
            chip,
            before=np.where(valid, chip.before, 0).astype(chip.before.dtype),
            after=np.where(valid, chip.after, 0).astype(chip.after.dtype),
            valid=valid,
            ignored={**chip.ignored, **masks},
        )

    def nothing_left(self, before: str, after: str) -> NoValidPixelError:
        """Return the error for a pair without a pixel left."""
        kinds = ",".join(self.positions)
        return NoValidPixelError(
            f"--ignore {kinds}: no pixel of {before} and {after} is left: every pixel that is valid in both "
            "is "
            + ", or ".join(described(kind, self.cloud_detector) for kind in self.positions)
            + ". Ignore less, or pass a mask of usable pixels with --valid.",
            before=before,
            after=after,
            ignore=tuple(self.positions),
        )


def described(kind: str, clouds: CloudDetector | None = None) -> str:
    """Return the name of a kind of ignored pixels, of a rule or of a quality mask, with what it is.

    ``clouds``: what decided which pixels are cloud; None for the simple rule.
    """
    if kind == "cloud" and clouds is not None and not clouds.why:
        return f"cloud (with its shadow, in either date, by {clouds.name})"
    what = KINDS[kind].description if kind in KINDS else DESCRIPTIONS[kind]
    return f"{kind.removeprefix(MASKED)} ({what})"


def ignoring(pair: Pair, kinds: Sequence[str], choice: CloudChoice = "auto") -> Pair:
    """Return a pair without what the rules of some kinds mask, fitted to it; see :meth:`Rules.fitted_to`.

    Raises
    ------
    ConfigError
        The bands that a rule needs cannot be identified by name; or the network was chosen, and cannot say
        anything of the pair.
    RasterReadError
    """
    if not kinds:
        return pair
    return pair.ignoring(Rules.of(kinds, pair.band_names, pair.scalings).fitted_to(pair, choice))


def cloud_detector(pair: Pair) -> CloudDetector | None:
    """Return what decided which pixels of a pair are cloud; None where cloud is not ignored."""
    return pair.rule.cloud_detector if isinstance(pair.rule, Rules) else None


def ignored_counts(chip: Chip, part: Part) -> dict[str, int]:
    """Count the ignored pixels in a part of a chip.

    Parameters
    ----------
    chip : Chip
    part : tuple of slice
        Rows and columns to count in.

    Returns
    -------
    dict of int
        Pixels by kind, and as ``usable`` all that were valid before masking; empty where no rule was applied.
    """
    if not chip.ignored:
        return {}
    usable = np.logical_or.reduce([chip.valid, *chip.ignored.values()])
    counts = {kind: int(mask[part].sum()) for kind, mask in chip.ignored.items()}
    return {"usable": int(usable[part].sum()), **counts}


class Tally:
    """Sums the counts of ignored pixels over the tiles."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, counts: Mapping[str, int]) -> None:
        """Add the counts of a part of the scene, as from :func:`ignored_counts`; parts must not overlap."""
        for kind, count in counts.items():
            self._counts[kind] = self._counts.get(kind, 0) + count

    def shares(self) -> dict[str, float]:
        """Return the share of the otherwise valid pixels by kind, in [0, 1]; empty without rules."""
        usable = max(self._counts.get("usable", 0), 1)
        return {kind: count / usable for kind, count in self._counts.items() if kind != "usable"}
