"""A scene for the tests of the closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage


@pytest.fixture
def scene() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth_noise = ndimage.gaussian_filter(rng.normal(size=(4, 80, 90)), (0, 3, 3))
    return (1000 + 3000 * smooth_noise).astype(np.float32)
