"""Decisions without labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geocd.method.decision import otsu, prob_from_distance

DISTANCES = arrays(np.float32, st.integers(2, 60), elements=st.floats(0, 1e4, width=32))


def test_otsu_separates_two_heaps() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(1, 0.1, 900), rng.normal(3, 0.2, 100)])
    assert 1.4 < otsu(values) < 2.6


def test_otsu_of_equal_values_changes_nothing() -> None:
    assert otsu(np.full(10, 3.0)) == np.inf
    assert (prob_from_distance(np.full(10, 3.0, np.float32), np.inf) == 0).all()


@given(DISTANCES, st.floats(0.01, 100))
def test_probability_keeps_the_order_and_the_decision(values: np.ndarray, threshold: float) -> None:
    prob = prob_from_distance(values, threshold)
    assert prob.dtype == np.float32
    assert ((prob >= 0) & (prob <= 1)).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(prob[order]) >= 0).all()
    away = np.abs(values / threshold - 1) > 1e-5
    assert ((prob >= 0.5) == (values >= threshold))[away].all()


def test_probability_does_not_saturate_where_distances_differ() -> None:
    prob = prob_from_distance(np.array([5.0, 10.0, 20.0], np.float32), 1.0)
    assert prob[0] < prob[1] < prob[2] < 1


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_otsu_follows_the_unit(scale: float) -> None:
    values = np.random.default_rng(1).gamma(2, 1, 5000)
    assert otsu(values * scale) == pytest.approx(otsu(values) * scale, rel=1e-6)
