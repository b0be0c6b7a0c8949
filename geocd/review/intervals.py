"""Intervals for shares of strata, and for sums and ratios of them, that hold where errors are rare.

Of a stratum in which no error was seen, the usual interval (estimate plus or minus 1.96 standard errors,
Wald) has no width, though the next point might be one. The unchanged area is such a stratum in most pairs,
and it is nearly all of the area, so the Wald interval of the changed area is too short far more often than
one time in twenty. Here the share of each stratum has its Jeffreys interval, and the limits of sums and
ratios are recovered from those of their parts.

Sources: Jeffreys interval of a proportion: Brown, Cai and DasGupta, "Interval Estimation for a Binomial
Proportion", Statistical Science 16 (2001). Sums: Zou, Huang and Zhang, "A note on confidence interval
estimation for a linear function of binomial proportions", Computational Statistics and Data Analysis 53
(2009). Ratios: Donner and Zou, "Closed-form confidence intervals for functions of the normal mean and
standard deviation", Statistical Methods in Medical Research 21 (2012).
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from geocd.types import Float64Array, IntArray

#: Share of the samples whose interval is to hold the true value.
LEVEL = 0.95

Limits = tuple[float, float]


def jeffreys(
    successes: IntArray, trials: IntArray, level: float = LEVEL
) -> tuple[Float64Array, Float64Array]:
    """Return the lower and upper limits of proportions, in [0, 1].

    Parameters
    ----------
    successes, trials : ndarray, (n,), int64
        ``0 <= successes <= trials``. Without a trial, the limits are 0 and 1.
    level : float
        In (0, 1).
    """
    tail = (1 - level) / 2
    a, b = successes + 0.5, trials - successes + 0.5
    low: Float64Array = np.where(successes == 0, 0.0, special.betaincinv(a, b, tail))
    high: Float64Array = np.where(successes == trials, 1.0, special.betaincinv(a, b, 1 - tail))
    return low, high


def sum_limits(weights: Float64Array, shares: Float64Array, low: Float64Array, high: Float64Array) -> Limits:
    """Return the limits of ``sum(weights * shares)`` from those of the shares, which are independent.

    Parameters
    ----------
    weights : ndarray, (strata,), float64
        0 or more.
    shares, low, high : ndarray, (strata,), float64
        Estimates with their limits.
    """
    total = float(weights @ shares)
    return (
        total - math.sqrt(float((weights**2 * (shares - low) ** 2).sum())),
        total + math.sqrt(float((weights**2 * (high - shares) ** 2).sum())),
    )


def share_limits(part: float, rest: float, of_part: Limits, of_rest: Limits) -> Limits:
    """Return the limits of ``part / (part + rest)`` from those of both, which are independent.

    All are 0 or more; the limits are in [0, 1].
    """

    def bent(value: float, limit: float) -> float:
        return limit * (2 * value - limit)

    product = part * rest
    low_part, high_rest = bent(part, of_part[0]), bent(rest, of_rest[1])
    high_part, low_rest = bent(part, of_part[1]), bent(rest, of_rest[0])
    low = product + math.sqrt(max(product**2 - low_part * high_rest, 0))
    least = low_part / low if low > 0 else 0.0  # of part / rest
    if low_rest <= 0:
        return least / (1 + least), 1.0
    most = (product + math.sqrt(max(product**2 - high_part * low_rest, 0))) / low_rest
    return least / (1 + least), most / (1 + most)


__all__ = ["LEVEL", "Limits", "jeffreys", "share_limits", "sum_limits"]
