"""IR-MAD against its definition."""

from __future__ import annotations

import numpy as np
from scipy import stats
from simulated import with_object

from geocd.method.irmad import IrMad


def test_irmad_variates_are_canonical(scene: np.ndarray) -> None:
    """Unit variance, and chi-squared with as many degrees of freedom as bands, under no change."""
    rng = np.random.default_rng(2)
    common = rng.normal(size=(4, 20_000))
    before = common + 0.5 * rng.normal(size=common.shape)
    after = np.array([2.0, 0.5, 10, 1])[:, None] * common[::-1] + 3
    after = after + after.std(axis=1, keepdims=True) * 0.5 * rng.normal(size=common.shape)
    fitted = IrMad.fit(before, after, iterations=1)
    assert np.allclose(np.cov(fitted.left @ before), np.eye(4), atol=0.01)
    assert np.allclose(np.cov(fitted.right @ after), np.eye(4), atol=0.01)
    chi2 = fitted.chi(before[:, :, None], after[:, :, None]) ** 2
    assert stats.kstest(chi2.ravel(), stats.chi2(4).cdf).statistic < 0.02


def test_irmad_ignores_any_linear_mixing_of_bands(scene: np.ndarray) -> None:
    after, _ = with_object(scene)
    mix = np.random.default_rng(3).normal(size=(4, 4)) + 2 * np.eye(4)
    flat = [scene.reshape(4, -1).astype(float), after.reshape(4, -1).astype(float)]
    mixed = (np.tensordot(mix, after, 1) + 77).astype(np.float64)
    one = IrMad.fit(*flat).chi(scene, after)
    two = IrMad.fit(flat[0], mixed.reshape(4, -1)).chi(scene, mixed)
    assert np.allclose(one, two, rtol=0.02, atol=0.02)
