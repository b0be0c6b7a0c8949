"""Edges that moved are told from thin things that are new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geocd.raster.pair import Pair
from geocd.scene.reflectance import Reflectance
from geocd.scene.sample import sample_chips
from geocd.vectorize.edges import SHIFTS, residual, shifted_differences

MakePair = Callable[..., tuple[Path, Path]]


def share(make_pair: MakePair, before: np.ndarray, after: np.ndarray, at: np.ndarray) -> float:
    """Return what is left of the difference at some pixels."""
    with Pair(*make_pair(before[None], after[None], names=("red",))) as pair:
        (chip,) = sample_chips(pair)
        sums = shifted_differences(chip, *np.nonzero(at), Reflectance.measure([chip], pair))
    assert sums.shape == (len(SHIFTS), at.sum())
    return float(residual(sums.sum(axis=1, keepdims=True))[0])


def ground(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.2, 0.002, (40, 40)).astype("f4")


@pytest.mark.parametrize(("down", "right"), [(0, 1), (2, 0), (1, -2)])
def test_the_edge_of_a_roof_that_lies_elsewhere(make_pair: MakePair, down: int, right: int) -> None:
    before = ground()
    before[10:25, 12:28] = 0.4
    after = np.roll(before, (down, right), (0, 1))
    assert share(make_pair, before, after, np.abs(after - before) > 0.1) < 0.05


def test_a_new_road_is_no_edge(make_pair: MakePair) -> None:
    """Shifted away it leaves the ground as it was; but nothing before looks like it."""
    after = ground(1)
    after[:, 20] = 0.4
    assert share(make_pair, ground(), after, after > 0.3) == pytest.approx(0.5, abs=0.02)


def test_a_new_field_is_no_edge(make_pair: MakePair) -> None:
    after = ground(1)
    after[10:25, 12:28] = 0.4
    assert share(make_pair, ground(), after, after > 0.3) > 0.8
