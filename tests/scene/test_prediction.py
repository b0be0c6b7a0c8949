from __future__ import annotations

import numpy as np

from geocd.scene.prediction import DateScale, Prediction


def test_a_constant_band_has_no_gain_and_is_not_undone() -> None:
    scale = DateScale.fit(np.stack([np.full(100, 7.0), np.arange(100.0)], axis=1))
    scaled = scale.apply(np.array([[7.0, 8.0], [0.0, 99.0]]))
    assert (scaled[0] == 0).all()
    assert abs(scaled[1].mean()) < 1e-6
    assert scale.undone(scaled, 0) is None
    np.testing.assert_allclose(scale.undone(scaled[1], 1), [0, 99], atol=1e-5)


def test_extremes_neither_scale_nor_count_for_more_than_the_limit() -> None:
    values = np.random.default_rng(0).normal(0, 1, (2000, 1))
    values[0] = 1e6
    scale = DateScale.fit(values)
    assert abs(1 / scale.gain[0] - 1) < 0.1
    assert scale.apply(values.T).max() == 6
    assert scale.apply(values.T, limit=None).max() > 9e5


def test_places_that_departed_do_not_bend_the_prediction() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 2))
    y = x @ np.array([[1.0, 0.5], [-0.3, 2.0]]) + [0.1, -0.2] + rng.normal(0, 0.05, (4000, 2))
    y[:400] += 5
    fitted = Prediction.fit(x, y)
    np.testing.assert_allclose(fitted.matrix, [[1, -0.3], [0.5, 2]], atol=0.02)
    np.testing.assert_allclose(fitted.offset, [0.1, -0.2], atol=0.03)
    residual = y.T.astype(np.float32) - fitted.apply(x.T.astype(np.float32))
    lengths = fitted.lengths(residual)
    assert np.median(lengths[400:]) < 2
    assert lengths[:400].min() > 100


def test_pixels_that_are_not_usable_do_not_count() -> None:
    x, y = np.ones((50, 1)), np.ones((50, 1))
    assert Prediction.fit(x, y, np.zeros(50, bool)).apply(np.ones((1, 3), np.float32)).tolist() == [[0, 0, 0]]
