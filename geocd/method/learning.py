"""What fitting has in common: seeded random numbers, shares of several devices, the bulk of a map.

Everything random is drawn from generators seeded by ``(seed, row, col)`` of the tile, never from the global
state, so a result does not depend on the order of tiles or on how many run at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geocd.method.devices import CPU, sent
from geocd.raster.pair import Chip
from geocd.types import Steps

T = TypeVar("T")
#: Called as ``on_step(iteration, loss)`` after every step.
OnStep = Callable[[int, float], None]


def recorded(curve: dict[int, float], total: int, steps: Steps | None) -> OnStep:
    """Return a callback that keeps the loss of each of ``total`` steps and reports how many are done.

    By step, because steps may be taken again.
    """

    def on_step(iteration: int, loss: float) -> None:
        curve[iteration] = loss
        if steps is not None:
            steps(iteration + 1, total)

    return on_step


def seeded(seed: int, row: int, col: int) -> torch.Generator:
    """Return a CPU generator for a tile that begins at a row and column of the scene."""
    state = np.random.SeedSequence((seed, row, col)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def share(items: Sequence[T], chip: Chip) -> T:
    """Return the item, of several equal ones, that a chip is assigned to by its position."""
    position = np.array([chip.window.row_off, chip.window.col_off], "<i8")
    return items[zlib.crc32(position.tobytes()) % len(items)]


def to_tensor(values: npt.NDArray[np.generic], device: torch.device = CPU) -> Tensor:
    """Return ``(bands, height, width)`` as ``(1, bands, height, width)`` float32, channels last."""
    return sent(values.astype(np.float32), device)[None].contiguous(memory_format=torch.channels_last)


#: The bulk of the pixels ends at median + 3 robust standard deviations.
NULL_DEVIATIONS = 3.0


def bulk(values: Tensor, valid: Tensor) -> float:
    """Return the value below which the bulk of the valid pixels lies: median + 3 x 1.4826 MAD."""
    values = values[valid > 0.5]
    median = values.median()
    return float(median + NULL_DEVIATIONS * 1.4826 * (values - median).abs().median())
