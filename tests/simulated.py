"""Simulated chips with a change at a known position, for the tests of the methods."""

from __future__ import annotations

import numpy as np
import torch
from rasterio.windows import Window
from scipy import ndimage

from geocd.method.extractor import Lite0Features
from geocd.method.networks import initialise
from geocd.raster.pair import Chip


def simulated_chip(seed: int = 0, size: int = 96, row: int = 0, col: int = 0) -> Chip:
    """Return a chip of four bands at a position of the scene, with a patch of other values as change."""
    rng = np.random.default_rng(seed)
    x1 = ndimage.gaussian_filter(rng.normal(size=(4, size, size)), (0, 2, 2)) * 5
    x2 = x1 + rng.normal(0, 0.1, x1.shape)
    changed = np.zeros((size, size), bool)
    top, left = rng.integers(8, size - 40, 2)
    changed[top : top + 28, left : left + 28] = True
    x2[:, changed] = rng.normal(size=(4, 1)) + rng.normal(0, 0.5, (4, changed.sum()))
    valid = np.ones(changed.shape, bool)
    return Chip(x1.astype(np.float32), x2.astype(np.float32), valid, Window(col, row, size, size))


def extractor(seed: int = 1) -> Lite0Features:
    """Return D-FE with random weights."""
    network = Lite0Features()
    initialise(network, torch.Generator().manual_seed(seed))
    return network.eval().requires_grad_(False)


def with_object(scene: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scene in another light with a change in two bands, and where it is."""
    truth = np.zeros(scene.shape[1:], bool)
    truth[20:40, 30:55] = True
    after = scene * 1.2 + 50 + np.random.default_rng(1).normal(0, 20, scene.shape)
    after[:2, truth] += 6 * scene[0].std()
    return after.astype(np.float32), truth
