"""From a distance to a decision, without labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from geocd.types import Float32Array


def otsu(values: npt.NDArray[np.floating], bins: int = 512) -> float:
    """Return the threshold that separates two classes with the largest variance between them.

    Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE Trans. SMC 9 (1979).

    Parameters
    ----------
    values : ndarray
        Any shape, finite.

    Returns
    -------
    float
        Infinite where all values are equal: there is nothing to separate.
    """
    count, edges = np.histogram(values, bins)
    if values.min() == values.max():
        return float("inf")
    centre = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(count).astype(np.float64)
    moment = np.cumsum(count * centre)
    above = below[-1] - below
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (moment / below - (moment[-1] - moment) / above) ** 2
    between = np.where((above > 0) & (below > 0), between, 0)  # a class of no pixel separates nothing
    # All thresholds within an empty gap are equally good: take the middle of the gap.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(edges[1:][[best[0], best[-1]]].mean())


def prob_from_distance(distance: Float32Array, threshold: float, steepness: float = 4.0) -> Float32Array:
    """Map a distance to [0, 1] so that ``threshold`` becomes 0.5, keeping the order of all values.

    ``d**k / (d**k + t**k)``, the log-logistic curve: unlike a logistic one it does not round to 1 in
    float32 for large distances, so a ranking by probability stays a ranking by distance. It is a
    convention, not a calibration.

    Parameters
    ----------
    distance : ndarray, float32, 0 or more
    threshold : float
        Distance of the decision; infinite means that nothing is changed.
    steepness : float
        The exponent k.
    """
    if not np.isfinite(threshold):
        return np.zeros_like(distance)
    ratio = (np.maximum(distance, 0) / np.float32(max(threshold, 1e-30))).astype(np.float64)
    powered = np.minimum(ratio, 1e30) ** steepness
    return (powered / (1 + powered)).astype(np.float32)


def logistic_prob(
    distance: Float32Array, threshold: float, slope_below: float, slope_above: float
) -> Float32Array:
    """Map a distance in units that mean the same in every scene to a probability, 0.5 at ``threshold``.

    A logistic curve with a slope of its own on each side of the threshold.
    """
    from_threshold = distance.astype(np.float64) - threshold
    slope = np.where(from_threshold < 0, slope_below, slope_above)
    return np.asarray(special.expit(slope * from_threshold), dtype=np.float32)
