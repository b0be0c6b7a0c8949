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
#: Least distance of the decision of CVA, in scene standard deviations of each band.
LEAST_CONTRAST = 0.4
#: Share of the pixels whose noise may be larger than what is taken for the noise of the scene: an image and
#: its JPEG copy differ where there is texture, which may be in a small part of the scene only.
LOUDEST = 0.005
#: The decision of CVA is no lower than so many times the noise of the scene: noise with a grain coarser than
#: a pixel, as that of JPEG, is underestimated.
NOISE_FACTOR = 1.6


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


def noise_lengths(difference: Float32Array, valid: BoolArray) -> Float32Array:
    """Return how large the noise of a difference of two dates is at each pixel.

    A second difference along rows and columns, divided by what it multiplies the deviation of white noise by
    (Immerkaer, "Fast Noise Variance Estimation", Computer Vision and Image Understanding 64, 1996). It is 0
    wherever the difference is smooth or has a straight edge, so that few pixels of a change count.

    Parameters
    ----------
    difference : ndarray, (bands, height, width), float32
    valid : ndarray, (height, width), bool

    Returns
    -------
    ndarray, (n,), float32
        Length over all bands, in the unit of the difference, of each pixel with 3 x 3 valid ones around it.
    """
    if min(valid.shape) < 3:
        return np.zeros(0, np.float32)
    squared = np.zeros((valid.shape[0] - 2, valid.shape[1] - 2), np.float32)
    for band in difference:  # one at a time, to save memory
        along = band[2:] - 2 * band[1:-1] + band[:-2]
        residual = along[:, 2:] - 2 * along[:, 1:-1] + along[:, :-2]
        squared += residual * residual
    if valid.all():
        return np.asarray(np.sqrt(squared).ravel() / 6, dtype=np.float32)
    inner = ndimage.binary_erosion(valid, np.ones((3, 3)))[1:-1, 1:-1]
    return np.asarray(np.sqrt(squared[inner]) / 6, dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class Cva:
    """Change vector analysis: length of the difference of the z-scored bands.

    The control "three lines of numpy": z-score per band and date, Euclidean length, Gaussian window.
    """

    radiometry: Radiometry

    margin = smoothing_margin(SIGMA)

    @classmethod
    def fit(cls, chips: Sequence[Chip]) -> Cva:
        """Take mean and deviation of each band and date: of all values, as the textbook does.

        Only where one date is saturated, the other is clipped at the same share of its pixels.
        """
        return cls(Radiometry.fit(chips, percentiles=(0, 100)))

    def difference(self, chip: Chip) -> Float32Array:
        """Return before minus after, ``(bands, height, width)`` float32, in scene standard deviations."""
        x1, x2 = self.radiometry.apply(chip)
        x1 -= x2
        return x1

    def distance(self, chip: Chip) -> Float32Array:
        """Return the distance, ``(height, width)`` float32, in scene standard deviations."""
        return _length(self.difference(chip), chip.valid)

    def decision(self, chips: Sequence[Chip]) -> tuple[float, float]:
        """Return the distance from which a pixel counts as changed, and the share of the sample that does.

        Otsu's threshold assumes two classes. Between two images without change there is one, which it cuts
        in half; so the decision is no lower than noise and small differences in tone reach.
        """
        distances, noises = [], []
        for chip in chips:
            difference = self.difference(chip)
            distances.append(_length(difference, chip.valid)[chip.valid])
            noises.append(noise_lengths(difference, chip.valid))
        values, noise = np.concatenate(distances), np.concatenate(noises)
        threshold = max(
            otsu(values),
            LEAST_CONTRAST * math.sqrt(np.count_nonzero(self.radiometry.before.gain)),
            NOISE_FACTOR * float(np.quantile(noise, 1 - LOUDEST)) if len(noise) else 0.0,
        )
        return threshold, float((values >= threshold).mean())


def _length(difference: Float32Array, valid: BoolArray) -> Float32Array:
    """Return the length of a difference under the Gaussian window."""
    return smooth(np.sqrt((difference**2).sum(axis=0)), valid, SIGMA)


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
        return cls(IrMad.fit(*valid_pixels(chips, as_stored=True)))

    def distance(self, chip: Chip) -> Float32Array:
        """Return the distance, ``(height, width)`` float32, no unit."""
        chi = self.irmad.chi(chip.before, chip.after)
        return smooth(np.log1p(chi), chip.valid, SIGMA)

    def decision(self, chips: Sequence[Chip], share: float) -> float:
        """Return the distance from which a pixel counts as changed: that of this share of the sample.

        The statistic is in units of what does not change, however small that is: between an image and its
        copy it is as large as between two dates. So CVA, which is in the units of the scene, decides how
        much has changed, and IR-MAD where.

        Parameters
        ----------
        chips : sequence of Chip
        share : float
            In [0, 1].
        """
        values = np.concatenate([self.distance(chip)[chip.valid] for chip in chips])
        above = float(np.quantile(values, 1 - share)) if share else 1.01 * float(values.max())
        return max(self.least, above)


@dataclasses.dataclass(frozen=True)
class ClassicalDetector:
    """A classical distance with a decision that is taken once for the whole scene.

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
        cva = Cva.fit(chips)
        threshold, share = cva.decision(chips)
        if method == "cva":
            return cls(cva, threshold)
        irmad = IrMadDistance.fit(chips)
        return cls(irmad, irmad.decision(chips, share))

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
