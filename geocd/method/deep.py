"""The learned method, as its preset says."""

from __future__ import annotations

from collections.abc import Sequence

from geocd.config import MethodSettings
from geocd.method.default import DefaultDetector
from geocd.method.reference import ReferenceDetector
from geocd.raster.pair import Chip, Pair


def fit(
    chips: Sequence[Chip], pair: Pair, settings: MethodSettings, jobs: int = 1
) -> ReferenceDetector | DefaultDetector:
    """Fit the learned method to a sample of the scene, as the preset says; ``jobs`` chips at a time."""
    if settings.preset == "reference":
        return ReferenceDetector.fit(chips, settings)
    return DefaultDetector.fit(chips, pair, settings, jobs)
