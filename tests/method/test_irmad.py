"""IR-MAD against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats
from simulated import with_object

from geocd.method.irmad import PIECE, IrMad, chi2_survival


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


@pytest.mark.parametrize("degrees", [1, 2, 3, 6, 13, 40])
def test_the_chi_squared_distribution_is_that_of_scipy(degrees: int) -> None:
    chi2 = np.append(0, np.geomspace(1e-9, 300, 1000))
    assert np.allclose(chi2_survival(degrees, chi2), special.chdtrc(degrees, chi2), rtol=1e-12, atol=1e-100)


def test_the_statistic_does_not_depend_on_the_pieces(scene: np.ndarray) -> None:
    """The fit is the same from the pixels as stored, and the statistic is that of the definition."""
    after, _ = with_object(scene)
    before, after = (date.reshape(4, -1).astype(np.float32) for date in (scene, after))
    assert before.shape[1] % PIECE, "the last piece is a part of one"
    fitted, same = IrMad.fit(before, after), IrMad.fit(before.astype(float), after.astype(float))
    assert np.allclose(fitted.left, same.left, rtol=1e-9)
    variates = same.left @ before - same.right @ after - same.offset[:, None]
    expected = np.sqrt((variates**2 / same.variance[:, None]).sum(axis=0))
    assert np.allclose(fitted.chi(before[:, None], after[:, None])[0], expected, rtol=1e-5)
