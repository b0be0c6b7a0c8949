"""Traits of polygons: comparable between pairs, and nothing that is not finite."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geocd.review.features import standard, traits_of


def polygons(count: int = 50, scale: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    red, nir = rng.uniform(100, 3000, (2, count)), rng.uniform(100, 3000, (2, count))
    return pd.DataFrame(
        {
            "p_mean": rng.uniform(0.5, 1, count),
            "before_red": scale * red[0],
            "after_red": scale * red[1],
            "before_nir": scale * nir[0],
            "after_nir": scale * nir[1],
            "before_ndvi": (nir[0] - red[0]) / (nir[0] + red[0]),
            "after_ndvi": (nir[1] - red[1]) / (nir[1] + red[1]),
            "diff_ndvi": 0.0,
            "before_only": 1.0,
        }
    )


def test_groups_and_their_traits() -> None:
    traits = traits_of(polygons())
    assert {group: sorted(columns) for group, columns in traits.groups.items()} == {
        "indices": ["after ndvi", "before ndvi", "difference ndvi"],
        "bands": sorted(
            f"{what} {band}" for what in ("before", "after", "difference") for band in ("red", "nir")
        ),
    }
    for columns in traits.groups.values():
        for values in columns.values():
            assert values.mean() == pytest.approx(0, abs=0.02)
            assert values.std() == pytest.approx(1, abs=0.05)


def test_the_prior_is_the_order_of_the_probability() -> None:
    frame = polygons()
    prior = traits_of(frame).prior
    np.testing.assert_array_equal(np.argsort(prior), np.argsort(frame["p_mean"]))
    assert (prior.mean(), prior.std()) == pytest.approx((0, 1), abs=0.05)
    same = traits_of(frame.assign(p_mean=0.7)).prior
    np.testing.assert_allclose(same, same[0])


def test_units_do_not_matter() -> None:
    first, second = traits_of(polygons()), traits_of(polygons(scale=1e-4))
    for name, values in first.groups["bands"].items():
        np.testing.assert_allclose(second.groups["bands"][name], values)


def test_evidence_of_one_and_of_both_dates() -> None:
    evidence = pd.DataFrame(
        {
            "distances:image": np.arange(50),
            "deep:before:0": np.arange(50),
            "deep:after:0": 2.0 * np.arange(50),
        }
    )
    groups = traits_of(polygons()[["p_mean"]], evidence).groups
    assert sorted(groups) == ["deep", "distances"]
    assert list(groups["distances"]) == ["image"]
    assert list(groups["deep"]) == ["before 0", "after 0", "difference 0"]
    np.testing.assert_allclose(groups["deep"]["difference 0"], groups["distances"]["image"])


def test_what_is_not_finite_is_in_the_middle_and_what_is_far_is_clipped() -> None:
    values = standard(np.array([0.0, 1.0, 2.0, np.nan, np.inf]))
    assert np.isfinite(values).all()
    assert values[3] == values[4] == values[1]
    assert standard(np.r_[np.zeros(99), 1e9]).max() == 3
    assert not standard(np.full(5, 7.3)).any()
    assert not standard(np.full(5, np.nan)).any()


def test_values_that_are_not_positive_are_taken_as_they_are() -> None:
    frame = polygons()
    frame[["before_red", "after_red"]] -= 1500
    traits = traits_of(frame).groups["bands"]
    np.testing.assert_allclose(traits["before red"], standard(frame["before_red"].to_numpy()))
