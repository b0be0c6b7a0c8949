"""The classical detectors, the baselines of the learned one: change vector analysis and IR-MAD.

Pure functions of arrays, fitted on a bounded sample of the scene and applied window by window.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from geocd.method.decision import otsu, prob_from_distance
from geocd.method.irmad import IrMad
from geocd.raster.pair import Chip
from geocd.scene.radiometry import Radiometry
from geocd.scene.sample import valid_pixels
from geocd.types import BoolArray, Float32Array

#: Standard deviation of the Gaussian window of both classical detectors, in pixels.
SIGMA = 2.0


def smooth(values: Float32Array, valid: BoolArray, sigma: float) -> Float32Array:
    """Return values under a Gaussian window that leaves out what is not valid.

    Normalised convolution: values outside the valid area have weight 0, so nodata does not leak in and
    the edge of the valid area is not darkened.

    Parameters
    ----------
    values : ndarray, (height, width), float32
    valid : ndarray, (height, width), bool
    sigma : float
        Standard deviation in pixels; the window is cut at four of them.

    Returns
    -------
    ndarray, (height, width), float32
        0 where not valid.
    """
    if valid.all():  # the weights would all be one
        return np.asarray(ndimage.gaussian_filter(values, sigma, mode="nearest"), dtype=np.float32)
    weight = valid.astype(np.float32)
    total = ndimage.gaussian_filter(weight, sigma, mode="nearest")
    weighted = ndimage.gaussian_filter(values * weight, sigma, mode="nearest")
    # Far from any valid pixel the total is below what float32 resolves; nothing valid lies there.
    return np.where(valid, weighted / np.maximum(total, 1e-6), 0).astype(np.float32)


def smoothing_margin(*sigmas: float) -> int:
    """Return how many pixels around a pixel take part in Gaussian windows applied one after another."""
    return sum(int(4 * sigma + 0.5) for sigma in sigmas)


@dataclasses.dataclass(frozen=True)
class Cva:
    """Change vector analysis: length of the difference of the z-scored bands.

    The control "three lines of numpy": z-score per band and date, Euclidean length, Gaussian window.
    """

    radiometry: Radiometry

    margin = smoothing_margin(SIGMA)

    @property
    def least(self) -> float:
        """Smallest threshold, whatever the histogram says: what rounding of 8-bit values may leave."""
        return 0.05

    @classmethod
    def fit(cls, chips: Sequence[Chip]) -> Cva:
        """Take mean and deviation of each band and date (of all values, as the textbook does)."""
        return cls(Radiometry.fit(chips, percentiles=None))

    def distance(self, chip: Chip) -> Float32Array:
        """Return the distance, ``(height, width)`` float32, in scene standard deviations."""
        x1, x2 = self.radiometry.apply(chip)
        return smooth(np.sqrt(((x1 - x2) ** 2).sum(axis=0)), chip.valid, SIGMA)


@dataclasses.dataclass(frozen=True)
class IrMadDistance:
    """IR-MAD as a detector: ``log1p`` of the chi statistic under a Gaussian window."""

    irmad: IrMad

    margin = smoothing_margin(SIGMA)

    @property
    def least(self) -> float:
        """Smallest threshold, whatever the histogram says: the distance expected where nothing changed."""
        return math.log1p(math.sqrt(len(self.irmad.variance)))

    @classmethod
    def fit(cls, chips: Sequence[Chip]) -> IrMadDistance:
        """Fit the canonical variates to the jointly valid pixels of a sample."""
        return cls(IrMad.fit(*valid_pixels(chips)))

    def distance(self, chip: Chip) -> Float32Array:
        """Return the distance, ``(height, width)`` float32, no unit."""
        chi = self.irmad.chi(chip.before, chip.after)
        return smooth(np.log1p(chi), chip.valid, SIGMA)


@dataclasses.dataclass(frozen=True)
class ClassicalDetector:
    """A classical distance with Otsu's decision, taken once for the whole scene.

    Parameters
    ----------
    distance : Cva or IrMadDistance
    threshold : float
        Distance at which the probability is 0.5.
    """

    distance: Cva | IrMadDistance
    threshold: float
    #: A closed form has none.
    losses: tuple[float, ...] = ()

    @classmethod
    def fit(cls, method: str, chips: Sequence[Chip]) -> ClassicalDetector:
        """Fit ``cva`` or ``irmad`` and its threshold to a sample of the scene."""
        kind: type[Cva | IrMadDistance] = Cva if method == "cva" else IrMadDistance
        distance = kind.fit(chips)
        values = np.concatenate([distance.distance(chip)[chip.valid] for chip in chips])
        return cls(distance, max(otsu(values), distance.least))

    @property
    def margin(self) -> int:
        """Pixels around a pixel that its probability depends on."""
        return self.distance.margin

    def prob(self, chip: Chip) -> Float32Array:
        """Return the change probability, ``(1, height, width)`` float32, NaN where not valid.

        A score that keeps the order of the distances, 0.5 at the threshold; not calibrated.
        """
        prob = prob_from_distance(self.distance.distance(chip), self.threshold)
        return np.where(chip.valid, prob, np.float32(np.nan))[None]
