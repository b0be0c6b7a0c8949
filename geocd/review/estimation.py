"""Areas and accuracies from a stratified random sample of judged points, on plain arrays.

The estimators are those of Olofsson et al., "Good practices for estimating area and assessing accuracy of
land change", Remote Sensing of Environment 148 (2014), eq. 1 to 11, in the more general form of Stehman,
"Estimating area and map accuracy for stratified random sampling when the strata are different from the map
classes", International Journal of Remote Sensing 35 (2014), which allows several strata for one class of
the map: the unchanged area near the decision has a stratum of its own. Where every class is one stratum,
both are the same.

Standard errors are as published. Intervals are either the published ones, plus or minus 1.96 standard errors
(``wald``), or those of :mod:`geocd.review.intervals` (``jeffreys``), which hold where errors are rare.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from geocd.review.intervals import LEVEL, Limits, jeffreys, share_limits, sum_limits
from geocd.types import BoolArray, Float64Array, IntArray

Interval = Literal["jeffreys", "wald"]
Words = npt.NDArray[np.str_]


@dataclasses.dataclass(frozen=True)
class Quantity:
    """An estimate with its standard error and interval; NaN where the sample cannot tell.

    Attributes
    ----------
    estimate, standard_error, low, high : float
    """

    estimate: float
    standard_error: float
    low: float
    high: float

    def times(self, factor: float) -> Quantity:
        """Return it in another unit."""
        return Quantity(*(factor * value for value in dataclasses.astuple(self)))


UNKNOWN = Quantity(math.nan, math.nan, math.nan, math.nan)


@dataclasses.dataclass(frozen=True)
class JudgedSample:
    """Judged points, drawn at random from each stratum.

    Attributes
    ----------
    areas : ndarray, (strata,), float64
        Area of each stratum.
    stratum : ndarray, (n,), int64
        Stratum of each point, from 0; every stratum has at least two points.
    mapped, reference : ndarray, (n,), str
        Class of each point in the map, and as it was judged.
    """

    areas: Float64Array
    stratum: IntArray
    mapped: Words
    reference: Words

    @property
    def total(self) -> float:
        """Area of all strata."""
        return float(self.areas.sum())

    @property
    def weights(self) -> Float64Array:
        """Share of each stratum in the area."""
        return np.asarray(self.areas / self.areas.sum(), np.float64)

    def counts(self, member: BoolArray) -> IntArray:
        """Return how many of some points each stratum has."""
        return np.bincount(self.stratum[member], minlength=self.areas.size).astype(np.int64)

    @property
    def points(self) -> IntArray:
        """Number of points in each stratum."""
        return self.counts(np.ones(self.stratum.size, dtype=bool))

    def share(self, member: BoolArray, interval: Interval = "jeffreys") -> Quantity:
        """Return the share of the area where points are members: eq. 9 and 10 of Olofsson et al.

        Parameters
        ----------
        member : ndarray, (n,), bool
        interval : {"jeffreys", "wald"}
        """
        points, weights = self.points, self.weights
        shares = self.counts(member) / points
        estimate = float(weights @ shares)
        error = math.sqrt(float((weights**2 * shares * (1 - shares) / (points - 1)).sum()))
        if interval == "wald":
            return _wald(estimate, error)
        limits = jeffreys(self.counts(member), points)
        return Quantity(estimate, error, *sum_limits(weights, shares, *limits))

    def users(self, mapped: BoolArray, right: BoolArray, interval: Interval = "jeffreys") -> Quantity:
        """Return the share of the area of a class of the map that is right: eq. 2 and 6.

        Parameters
        ----------
        mapped : ndarray, (n,), bool
            Points of the class in the map.
        right : ndarray, (n,), bool
            Points whose class in the map is the judged one.
        """
        members, successes = self.counts(mapped), self.counts(mapped & right)
        present = members > 0
        if not present.any():
            return UNKNOWN
        estimate, error = self._ratio(mapped & right, mapped)
        if interval == "wald":
            return _wald(estimate, error)
        parts = (self.weights * members / self.points)[present]
        shares = successes[present] / members[present]
        limits = jeffreys(successes[present], members[present])
        return Quantity(estimate, error, *sum_limits(parts / parts.sum(), shares, *limits))

    def producers(self, reference: BoolArray, right: BoolArray, interval: Interval = "jeffreys") -> Quantity:
        """Return the share of the true area of a class that the map has: eq. 3 and 7.

        Parameters
        ----------
        reference : ndarray, (n,), bool
            Points that were judged to be of the class.
        right : ndarray, (n,), bool
            Points whose class in the map is the judged one.
        """
        if not reference.any():
            return UNKNOWN
        estimate, error = self._ratio(reference & right, reference)
        if interval == "wald":
            return _wald(estimate, error)
        hit, missed = self._part(reference & right, right), self._part(reference & ~right, ~right)
        limits = share_limits(hit.estimate, missed.estimate, (hit.low, hit.high), (missed.low, missed.high))
        return Quantity(estimate, error, *limits)

    def _part(self, member: BoolArray, where: BoolArray) -> Quantity:
        """Return the share of the area of some points; strata where none could be are left out."""
        possible = self.counts(where) > 0
        counts, points = self.counts(member)[possible], self.points[possible]
        if not possible.any():
            return Quantity(0.0, 0.0, 0.0, 0.0)
        weights, shares = self.weights[possible], counts / points
        low, high = sum_limits(weights, shares, *jeffreys(counts, points))
        return Quantity(float(weights @ shares), math.nan, low, high)

    def _ratio(self, part: BoolArray, whole: BoolArray) -> tuple[float, float]:
        """Return the area of a part of some points over that of all, and its standard error.

        The ratio estimator of Stehman 2014, with ``part`` within ``whole`` and without a correction for a
        finite population.
        """
        points, weights = self.points, self.weights
        y, x = self.counts(part) / points, self.counts(whole) / points
        area = float(weights @ x)
        ratio = float(weights @ y) / area
        # of two indicators, one within the other: variances y (1 - y), x (1 - x), covariance y (1 - x)
        spread = y * (1 - y) + ratio**2 * x * (1 - x) - 2 * ratio * y * (1 - x)
        variance = float((weights**2 * spread / (points - 1)).sum()) / area**2
        return ratio, math.sqrt(max(variance, 0))


def _wald(estimate: float, error: float) -> Quantity:
    """Return the published interval."""
    z = float(special.ndtri((1 + LEVEL) / 2))
    return Quantity(estimate, error, estimate - z * error, estimate + z * error)


@dataclasses.dataclass(frozen=True)
class ClassEstimate:
    """What a judged sample says of one class.

    Attributes
    ----------
    name : str
    mapped_points, judged_points : int
        Points of this class in the map, and as judged.
    area : Quantity
        In the unit of the strata's areas.
    users, producers : Quantity
        Accuracies, in [0, 1]; NaN without a point.
    """

    name: str
    mapped_points: int
    judged_points: int
    area: Quantity
    users: Quantity
    producers: Quantity


def class_estimates(
    sample: JudgedSample, names: Sequence[str], interval: Interval = "jeffreys"
) -> list[ClassEstimate]:
    """Return the estimates of each class."""
    right = sample.mapped == sample.reference
    estimates = []
    for name in names:
        mapped, reference = sample.mapped == name, sample.reference == name
        estimates.append(
            ClassEstimate(
                name,
                int(mapped.sum()),
                int(reference.sum()),
                sample.share(reference, interval).times(sample.total),
                sample.users(mapped, right, interval),
                sample.producers(reference, right, interval),
            )
        )
    return estimates


def overall_accuracy(sample: JudgedSample, interval: Interval = "jeffreys") -> Quantity:
    """Return the share of the area whose class in the map is right: eq. 1 and 5."""
    return sample.share(sample.mapped == sample.reference, interval)


__all__ = [
    "ClassEstimate",
    "Interval",
    "JudgedSample",
    "Limits",
    "Quantity",
    "class_estimates",
    "overall_accuracy",
]
