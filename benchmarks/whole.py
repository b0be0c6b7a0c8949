"""Whole labelled pairs through the parts of the default, for benchmarks that take it apart."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geocd.config import Settings
from geocd.method import terms
from geocd.method.default import DefaultDetector
from geocd.method.devices import one_thread
from geocd.raster.pair import Chip, Pair
from geocd.scene.sample import sample_chips

#: The distances that a pair of images has: without those between features that were made elsewhere.
OF_IMAGES = tuple(term for term in terms.TERMS if term.stride is None)


@dataclasses.dataclass(frozen=True)
class Whole:
    """A pair, its detector and all its pixels at once."""

    name: str
    detector: DefaultDetector
    chip: Chip

    @classmethod
    def read(cls, folder: Path, **settings: Any) -> Whole:
        """Fit the default to a pair; the reference map is not read."""
        resolved = Settings.from_flat(settings).resolved().method
        with one_thread(), Pair(folder / "before.tif", folder / "after.tif") as pair:
            detector = DefaultDetector.fit(sample_chips(pair), pair, resolved, 1)
            return cls(folder.name, detector, pair.read(pair.grid.window))

    def prob(self) -> np.ndarray:
        """Return the probability, ``(height, width)``, NaN where not valid."""
        with one_thread():
            return self.detector.prob(self.chip)[0]

    @torch.no_grad()
    def maps(self) -> dict[str, torch.Tensor]:
        """Return the distances by name, ``(height, width)`` each, in their own units."""
        with one_thread():
            return self.detector.features.terms(self.detector.features.scaled(self.chip))
