"""Intervals: values of the papers, and that they hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from geocd.review.intervals import jeffreys, share_limits, sum_limits


def test_jeffreys() -> None:
    """Quantiles of Beta(x + 1/2, n - x + 1/2), but 0 and 1 at the ends; the same turned round."""
    counts, points = np.array([0, 3, 6, 12]), np.full(4, 12)
    low, high = jeffreys(counts, points)
    posterior = stats.beta(counts + 0.5, points - counts + 0.5)
    assert low == pytest.approx([0, *posterior.ppf(0.025)[1:]])
    assert high == pytest.approx([*posterior.ppf(0.975)[:-1], 1])
    assert jeffreys(points - counts, points)[0] == pytest.approx(1 - high)
    assert jeffreys(np.array([0]), np.array([0])) == (0, 1)


def test_sums_have_a_width_where_no_error_was_seen() -> None:
    weights, shares = np.array([0.9, 0.1]), np.array([0.0, 0.5])
    counts, points = np.array([0, 25]), np.array([100, 50])
    low, high = sum_limits(weights, shares, *jeffreys(counts, points))
    assert low == pytest.approx(0.05 - 0.1 * (0.5 - jeffreys(counts, points)[0][1]))
    assert high > 0.05 + 0.9 * 0.024


def test_shares_of_two_parts() -> None:
    low, high = share_limits(3.0, 1.0, (2.0, 4.0), (0.5, 2.0))
    assert 0.5 < low < 0.75 < high < 0.9
    # turned round, it is the rest of the same
    assert share_limits(1.0, 3.0, (0.5, 2.0), (2.0, 4.0)) == pytest.approx((1 - high, 1 - low))
    assert share_limits(0.0, 1.0, (0.0, 0.1), (0.9, 1.1))[0] == 0
    assert share_limits(1.0, 0.0, (0.9, 1.1), (0.0, 0.1))[1] == 1
    assert share_limits(0.0, 0.0, (0.0, 0.1), (0.0, 0.1)) == (0, 1)


def test_they_hold_where_the_published_ones_do_not() -> None:
    """Changed 40 of 100 in 2 % of the area, 4 of 1000 in the rest: exact coverage, over all outcomes."""
    weights, truth, points = np.array([0.02, 0.98]), np.array([0.4, 0.004]), np.array([75, 200])
    true = float(weights @ truth)
    held = {"jeffreys": 0.0, "wald": 0.0}
    chance = [stats.binom.pmf(np.arange(n + 1), n, p) for n, p in zip(points, truth, strict=True)]
    for first in range(10, 60):
        for second in range(12):
            counts = np.array([first, second])
            shares = counts / points
            low, high = sum_limits(weights, shares, *jeffreys(counts, points))
            error = np.sqrt((weights**2 * shares * (1 - shares) / (points - 1)).sum())
            weight = chance[0][first] * chance[1][second]
            held["jeffreys"] += weight * (low <= true <= high)
            held["wald"] += weight * (abs(weights @ shares - true) <= 1.96 * error)
    assert 0.93 <= held["jeffreys"] <= 0.975
    assert held["wald"] < 0.85
