"""What the default method sees at each pixel, beyond its probability: distances and deep features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from geocd.method.default import DefaultDetector
from geocd.raster.pair import Chip
from geocd.types import Float32Array

#: Names of the levels of D-FE, from the finest.
LEVELS = ("shallow", "middle")


def seen(detector: DefaultDetector, chip: Chip) -> Iterator[tuple[str, Float32Array]]:
    """Yield maps of a chip by their names, one at a time.

    Parameters
    ----------
    detector : DefaultDetector
        Fitted to the scene.
    chip : Chip
        With the detector's margin around the pixels that count.

    Yields
    ------
    name : str
        ``distances:NAME``, or ``LEVEL:before:CHANNEL`` and ``LEVEL:after:CHANNEL``.
    values : ndarray, (height, width), float32
    """
    with torch.no_grad():
        pair = detector.features.scaled(chip)
        for name, distance in detector.features.terms(pair).items():
            yield f"distances:{name}", distance.numpy()
        if pair.extractor is None:
            return
        for level, maps in zip(LEVELS, pair.features, strict=False):
            rows, cols = (
                (np.arange(size) + offset) // maps.stride
                for size, offset in zip(maps.shape, maps.offset, strict=True)
            )
            for date, features in (("before", maps.before), ("after", maps.after)):
                for channel, values in enumerate(features.numpy()):
                    yield f"{level}:{date}:{channel}", values[np.ix_(rows, cols)]


__all__ = ["LEVELS", "seen"]
