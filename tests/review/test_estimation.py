"""The estimators against the worked example of the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from geocd.review.estimation import JudgedSample, class_estimates, overall_accuracy

CLASSES = ("deforestation", "forest gain", "stable forest", "stable non-forest")
#: Table 8 of Olofsson et al. (2014): rows are classes of the map, columns those of the reference.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
#: Pixels of 30 m in the map, as hectares.
AREAS = np.array([200_000, 150_000, 3_200_000, 6_450_000]) * 0.09


@pytest.fixture(scope="module")
def example() -> JudgedSample:
    stratum = np.repeat(np.repeat(np.arange(4), 4), COUNTS.ravel())
    reference = np.repeat(np.array(CLASSES * 4), COUNTS.ravel())
    return JudgedSample(AREAS, stratum, np.array(CLASSES)[stratum], reference)


def test_the_example_of_olofsson(example: JudgedSample) -> None:
    """Areas, accuracies and their margins, to the printed digits."""
    estimates = class_estimates(example, CLASSES, "wald")
    assert [round(e.area.estimate) for e in estimates] == [21_158, 11_686, 285_770, 581_386]
    margins = [1.96 * e.area.standard_error for e in estimates]
    assert [round(margin) for margin in margins] == [6_158, 3_756, 15_510, 16_282]
    assert round(estimates[0].area.estimate / 0.09) == 235_086
    assert margins[0] / 0.09 == pytest.approx(68_418, abs=1)
    assert [round(e.users.estimate, 2) for e in estimates] == [0.88, 0.73, 0.93, 0.96]
    assert [round(1.96 * e.users.standard_error, 2) for e in estimates] == [0.07, 0.10, 0.04, 0.02]
    assert [round(e.producers.estimate, 2) for e in estimates] == [0.75, 0.85, 0.93, 0.96]
    overall = overall_accuracy(example, "wald")
    assert (round(overall.estimate, 2), round(1.96 * overall.standard_error, 2)) == (0.95, 0.02)
    low, high = estimates[0].area.low, estimates[0].area.high
    assert (low, high) == pytest.approx((21_158 - 6_158, 21_158 + 6_158), abs=1)


def test_the_error_of_producers_accuracy_is_equation_7(example: JudgedSample) -> None:
    points, shares = COUNTS.sum(axis=1), COUNTS / COUNTS.sum(axis=1, keepdims=True)
    users = np.diag(shares)
    for j, entry in enumerate(class_estimates(example, CLASSES, "wald")):
        total, producers = AREAS @ shares[:, j], entry.producers.estimate
        own = AREAS[j] ** 2 * (1 - producers) ** 2 * users[j] * (1 - users[j]) / (points[j] - 1)
        others = [
            AREAS[i] ** 2 * shares[i, j] * (1 - shares[i, j]) / (points[i] - 1) for i in range(4) if i != j
        ]
        expected = math.sqrt(own + producers**2 * sum(others)) / total
        assert entry.producers.standard_error == pytest.approx(expected)


def test_the_other_intervals_hold_the_same_estimates_and_stay_within_bounds(example: JudgedSample) -> None:
    wald, jeffreys = (class_estimates(example, CLASSES, name) for name in ("wald", "jeffreys"))
    for first, second in zip(wald, jeffreys, strict=True):
        assert second.area.estimate == first.area.estimate
        assert second.area.low < second.area.estimate < second.area.high
        for accuracy in (second.users, second.producers):
            assert 0 <= accuracy.low < accuracy.estimate < accuracy.high <= 1
    assert jeffreys[1].producers.high < 1 < wald[1].producers.high


def test_strata_that_share_a_class() -> None:
    """Two unchanged strata, by hand: 2 of 10 and 1 of 20 changed; of the changed one, 8 of 10."""
    areas = np.array([100.0, 200.0, 700.0])
    stratum = np.repeat([0, 1, 2], [10, 10, 20])
    changed = np.concatenate([[1] * 8 + [0] * 2, [1] * 2 + [0] * 8, [1] + [0] * 19]).astype(bool)
    mapped = np.where(stratum == 0, "changed", "unchanged")
    sample = JudgedSample(areas, stratum, mapped, np.where(changed, "changed", "unchanged"))
    first, second = class_estimates(sample, ("changed", "unchanged"))
    assert first.area.estimate == pytest.approx(80 + 40 + 35)
    assert first.users.estimate == pytest.approx(0.8)
    assert first.producers.estimate == pytest.approx(80 / 155)
    assert second.users.estimate == pytest.approx((160 + 665) / 900)
    variance = 200**2 * 0.8 * 0.2 / 9 + 700**2 * 0.95 * 0.05 / 19
    assert second.users.standard_error == pytest.approx(math.sqrt(variance) / 900)


def test_a_class_that_no_point_has_is_unknown(example: JudgedSample) -> None:
    (entry,) = class_estimates(example, ["water"])
    assert entry.area.estimate == 0
    assert entry.area.high > 0, "it may be there all the same"
    assert math.isnan(entry.users.estimate)
    assert math.isnan(entry.producers.low)
