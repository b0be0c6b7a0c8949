"""`--baseline`: what changed from the before image, and not by what the place does by itself."""

from __future__ import annotations

import dataclasses

import numpy as np

from geocd.method.detector import Detector
from geocd.raster.pair import Chip
from geocd.scene.season import Season
from geocd.types import Float32Array


@dataclasses.dataclass(frozen=True)
class SeasonalDetector:
    """The lesser of two probabilities: of the pair, and of what the season leaves of its after image.

    So earlier dates take away, and never add: what is called changed differs from the before image, and from
    what was to be expected of the place.

    Attributes
    ----------
    plain : Detector
        Fitted to the pair.
    seasonal : Detector
        Fitted to the pair without the season.
    season : Season
    """

    plain: Detector
    seasonal: Detector
    season: Season

    @property
    def margin(self) -> int:
        """Pixels around a pixel that its probability depends on."""
        return max(self.plain.margin, self.seasonal.margin)

    @property
    def losses(self) -> tuple[float, ...]:
        """Loss of every optimisation step on the scene."""
        return self.plain.losses

    def prob(self, chip: Chip) -> Float32Array:
        """Return the bands of a chip, those of the detector that finds less, pixel by pixel."""
        plain, seasonal = self.plain.prob(chip), self.seasonal.prob(self.season.apply(chip))
        return np.where(seasonal[:1] < plain[:1], seasonal, plain)


__all__ = ["SeasonalDetector"]
