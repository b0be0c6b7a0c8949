from __future__ import annotations

import dataclasses

import numpy as np
from conftest import chip

from geocd.method.seasonal import SeasonalDetector
from geocd.raster.pair import Chip


@dataclasses.dataclass
class Fixed:
    bands: np.ndarray
    margin: int
    losses: tuple[float, ...] = ()

    def prob(self, chip: Chip) -> np.ndarray:
        return self.bands


class Nothing:
    def apply(self, chip: Chip) -> Chip:
        return chip


def test_the_detector_that_finds_less_decides_with_its_own_uncertainty() -> None:
    plain = Fixed(np.array([[[0.9, 0.2, np.nan]], [[0.1, 0.2, np.nan]]], np.float32), 3)
    seasonal = Fixed(np.array([[[0.4, 0.6, np.nan]], [[0.3, 0.4, np.nan]]], np.float32), 5)
    detector = SeasonalDetector(plain, seasonal, Nothing())  # type: ignore[arg-type]
    image = np.zeros((1, 1, 3), np.float32)
    prob = detector.prob(chip(image, image))
    np.testing.assert_array_equal(prob, np.array([[[0.4, 0.2, np.nan]], [[0.3, 0.2, np.nan]]], np.float32))
    assert detector.margin == 5
