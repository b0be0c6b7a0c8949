"""A place through its seasons, for the tests of other dates."""

from __future__ import annotations

import numpy as np
from conftest import ground
from scipy import ndimage

#: Where :func:`with_object` puts something new.
OBJECT = (slice(40, 52), slice(60, 74))


def seasons(count: int, size: int = 128, bands: int = 4, seed: int = 0) -> list[np.ndarray]:
    """Return so many dates of a place of fields with six crops, where nothing but the seasons happens.

    Three weathers make up each date, and every crop answers to them in its own way.
    """
    rng = np.random.default_rng(seed)
    base = 10 * ground(seed, bands, size)
    fields = ground(seed + 1, 1, size)[0]
    crop = np.digitize(fields, np.percentile(fields, [15, 30, 45, 60, 80]))
    answers = rng.normal(0, 60, (6, bands, 3))
    dates = []
    for _ in range(count):
        growth = (answers @ rng.normal(0, 1, 3))[crop].transpose(2, 0, 1)
        growth = ndimage.gaussian_filter(growth, (0, 0.7, 0.7))
        dates.append((base + growth + rng.normal(0, 6, base.shape)).astype(np.float32))
    return dates


def with_object(image: np.ndarray, deviations: float = 2.0) -> np.ndarray:
    """Return the image with something new in it, by deviations of each band, up and down in turn."""
    image = image.copy()
    signs = np.where(np.arange(len(image)) % 2, -1, 1)
    image[(slice(None), *OBJECT)] += (deviations * signs * image.std(axis=(1, 2)))[:, None, None]
    return image
