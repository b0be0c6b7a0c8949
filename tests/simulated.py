"""Simulated chips with a change at a known position, for the tests of the learned method."""

from __future__ import annotations

import numpy as np
import torch
from rasterio.windows import Window
from scipy import ndimage

from geocd.method import learning
from geocd.method.networks import CompactPair, initialise
from geocd.raster.pair import Chip


def simulated_input(seed: int = 0, size: int = 96) -> learning.NetworkInput:
    """Return a chip in which change is a patch of other values, with a distance that shows it."""
    rng = np.random.default_rng(seed)
    x1 = ndimage.gaussian_filter(rng.normal(size=(4, size, size)), (0, 2, 2)) * 5
    x2 = x1 + rng.normal(0, 0.1, x1.shape)
    changed = np.zeros((size, size), bool)
    row, col = rng.integers(8, size - 40, 2)
    changed[row : row + 28, col : col + 28] = True
    x2[:, changed] = rng.normal(size=(4, 1)) + rng.normal(0, 0.5, (4, changed.sum()))
    distance = np.where(changed, 3.5, 0.2) + rng.normal(0, 0.1, changed.shape)
    values = [torch.from_numpy(v.astype(np.float32)) for v in (x1, x2, distance)]
    return learning.NetworkInput(*values, torch.ones(changed.shape, dtype=torch.bool))


def chip_at(inputs: learning.NetworkInput, row: int = 0, col: int = 0) -> Chip:
    """Return the chip of these inputs, at a position of the scene."""
    height, width = inputs.valid.shape
    return Chip(inputs.x1.numpy(), inputs.x2.numpy(), inputs.valid.numpy(), Window(col, row, width, height))


def fresh(seed: int = 1) -> CompactPair:
    """Return networks that have learned nothing."""
    networks = CompactPair()
    initialise(networks, torch.Generator().manual_seed(seed))
    return networks


def with_object(scene: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scene in another light with a change in two bands, and where it is."""
    truth = np.zeros(scene.shape[1:], bool)
    truth[20:40, 30:55] = True
    after = scene * 1.2 + 50 + np.random.default_rng(1).normal(0, 20, scene.shape)
    after[:2, truth] += 6 * scene[0].std()
    return after.astype(np.float32), truth
