"""The metric that is learned on the pair: what it takes as unchanged, and what as change."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage
from simulated import extractor, simulated_chip

from geocd.method.deep import DeepChange, LevelMaps, Residual, drawn, learned_residual
from geocd.method.scaled import FitSample, Scaling
from geocd.raster.pair import Chip


def test_what_one_date_says_of_the_other_is_no_change() -> None:
    """Any linear relation between the dates, and noise of any shape: only the changed rows stand out."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 4))
    noise = rng.normal(size=(5000, 4)) @ np.diag([0.4, 0.6, 0.8, 1.0])
    y = x @ rng.normal(size=(4, 4)) + 3 + noise
    y[:250] += rng.normal(0, 8, (250, 4))
    slope, constant, whitening = learned_residual(x, y)
    length = np.linalg.norm((y - x @ slope - constant) @ whitening, axis=1)
    assert np.median(length[:250]) > 3 * np.median(length[250:])
    # weak directions of the noise are as far away as strong ones: the metric follows the pair
    covariance = np.cov(((y - x @ slope - constant) @ whitening)[250:].T)
    assert np.allclose(np.diag(covariance), np.diag(covariance).mean(), rtol=0.4)


def test_constant_dates_have_a_finite_metric() -> None:
    slope, constant, whitening = learned_residual(np.zeros((50, 3)), np.zeros((50, 3)))
    assert all(np.isfinite(values).all() for values in (slope, constant, whitening))


def test_a_residual_is_that_of_its_formula() -> None:
    rng = np.random.default_rng(0)
    residual = Residual(*(rng.normal(size=shape).astype(np.float32) for shape in ((3, 5), (3, 5), (3,))))
    x, y = (rng.normal(size=(5, 7)).astype(np.float32) for _ in range(2))
    expected = np.linalg.norm(residual.target @ y + residual.source @ x + residual.constant[:, None], axis=0)
    np.testing.assert_allclose(residual.length(torch.from_numpy(x), torch.from_numpy(y)), expected, rtol=1e-5)


def sample_of(chip: Chip, seed: int = 0) -> FitSample:
    scaling = Scaling.fit([chip], (0, 1, 2, 3), extractor(), 2)
    return FitSample.draw([chip], scaling, seed=seed, jobs=1, device=torch.device("cpu"))


def ground(size: int = 192) -> np.ndarray:
    rng = np.random.default_rng(4)
    return 1000 + 300 * ndimage.gaussian_filter(rng.normal(size=(4, size, size)), (0, 1.5, 1.5))


@pytest.mark.parametrize("level", [0, 1])
def test_a_new_object_is_far_and_another_light_near(level: int) -> None:
    before = ground()
    after = before * 1.3 + 50 + np.random.default_rng(5).normal(0, 5, before.shape)
    after[:, 64:96, 96:128] = 1500 + 300 * np.random.default_rng(6).normal(size=(4, 32, 32))
    whole = simulated_chip(size=192)
    chip = dataclasses.replace(whole, before=before.astype(np.float32), after=after.astype(np.float32))
    sample = sample_of(chip)
    distance = DeepChange.fitting(LevelMaps(level), 1.0)(sample)(sample.pairs[0]).numpy()
    assert distance.shape == (192, 192)
    assert np.median(distance[68:92, 100:124]) > np.percentile(distance[130:, :90], 99)


def test_places_that_are_not_valid_are_not_learned_from() -> None:
    chip = simulated_chip(size=96)
    valid = chip.valid.copy()
    valid[:, 40:] = False
    before, after = drawn(sample_of(dataclasses.replace(chip, valid=valid)), LevelMaps(1))
    assert before.shape == after.shape == (12 * 5, 40)
    nearly_none = np.zeros_like(valid)
    nearly_none[5, 5] = True
    before, _ = drawn(sample_of(dataclasses.replace(chip, valid=nearly_none)), LevelMaps(1))
    assert len(before) == 144, "no place is mostly valid: all of them"


def test_learning_repeats() -> None:
    chip = simulated_chip(size=96)
    first, second = (DeepChange.fitting(LevelMaps(1), 1.0)(sample_of(chip)) for _ in range(2))
    assert np.array_equal(first.forward.target, second.forward.target)
    assert np.array_equal(first.backward.constant, second.backward.constant)


def test_a_scene_of_a_few_pixels_has_a_finite_distance() -> None:
    """One place: nothing varies, so nothing can be learned."""
    tiny = simulated_chip(size=96).part(slice(0, 3), slice(0, 3))
    sample = sample_of(tiny)
    for level in (0, 1):
        distance = DeepChange.fitting(LevelMaps(level), 1.0)(sample)(sample.pairs[0])
        assert distance.shape == (3, 3)
        assert torch.isfinite(distance).all()
