"""The similarity-dissimilarity loss taken to a sample of the pair: what the default preset learns, and how.

Everything random is drawn from generators seeded by ``(seed, row, col)`` of the tile, never from the global
state, so a result does not depend on the order of tiles or on how many run at a time.
"""

from __future__ import annotations

import copy
import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geocd.method import losses
from geocd.method.devices import CPU, log, release, sent
from geocd.method.networks import CompactPair
from geocd.method.scaled import ScaledPair
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
#: Null distances are not smaller than this, in scene standard deviations: differences that small are
#: rounding and resampling.
LEAST_NULL = 0.05


def bulk(values: Tensor, valid: Tensor) -> float:
    """Return the value below which the bulk of the valid pixels lies: median + 3 x 1.4826 MAD."""
    values = values[valid > 0.5]
    median = values.median()
    return float(median + NULL_DEVIATIONS * 1.4826 * (values - median).abs().median())


def null_distance(distance: Tensor, valid: Tensor) -> float:
    """Return the distance that unchanged pixels of a batch hardly exceed."""
    return max(bulk(distance, valid), LEAST_NULL)


#: Distance at which the decision lies, and the slopes of the probability on both sides of it.
DECISION, SLOPE_BELOW, SLOPE_ABOVE = 2.0, 4.0, 1.0
#: Chips of one optimisation step, and their side in pixels.
BATCH, SIDE = 8, 96
#: Weights of the loss: attachment 1, similarity and dissimilarity together, consistency.
SIMILARITY_WEIGHT, CONSISTENCY_WEIGHT = 0.1, 0.05


@dataclasses.dataclass(frozen=True)
class NetworkInput:
    """What the networks see of a chip, and the distance that they learn from.

    Attributes
    ----------
    x1, x2 : Tensor, (4, height, width), float32
        Both dates, z-scored; 0 where not valid.
    distance : Tensor, (height, width), float32
        Closed-form distance, decided at ``DECISION``.
    valid : Tensor, (height, width), bool
    """

    x1: Tensor
    x2: Tensor
    distance: Tensor
    valid: Tensor


def network_input(pair: ScaledPair, colour: Sequence[int], distance: Tensor) -> NetworkInput:
    """Return what the networks see of a chip, and its distance, all on the chip's device."""
    dates = []
    for z in (pair.z1, pair.z2):
        bands = z.new_zeros((CompactPair.BANDS, *z.shape[1:]))
        bands[: len(colour)] = z[list(colour)].masked_fill_(~pair.valid, 0)  # not what fills the holes
        dates.append(bands)
    return NetworkInput(dates[0], dates[1], distance, pair.valid)


def draw(
    inputs: Sequence[NetworkInput], random: np.random.Generator, device: torch.device, size: int = BATCH
) -> list[Tensor]:
    """Draw a batch of ``size``: random squares of random inputs, rotated and mirrored at random.

    Returns
    -------
    list of Tensor
        x1, x2 (N, 4, side, side), distance, valid (N, 1, side, side).
    """
    side = min(SIDE, *(min(chip.valid.shape) for chip in inputs))
    batch: list[list[Tensor]] = [[], [], [], []]
    for _ in range(size):
        chip = inputs[int(random.integers(len(inputs)))]
        row, col = (int(random.integers(0, n - side + 1)) for n in chip.valid.shape)
        turns, mirror = int(random.integers(4)), bool(random.integers(2))
        layers = chip.x1, chip.x2, chip.distance[None], chip.valid[None]
        for squares, values in zip(batch, layers, strict=True):
            square = torch.rot90(values[:, row : row + side, col : col + side], turns, (1, 2))
            squares.append(square.flip(-1) if mirror else square)
    return [torch.stack(values).to(device, torch.float32) for values in batch]


def loss(networks: CompactPair, batch: Sequence[Tensor], jitter: torch.Generator) -> Tensor:
    """Return the similarity-dissimilarity loss of a batch for both networks, a scalar.

    * In the image: the closed-form distance, with the margin at its decision, and the attachment of P to
      the probability that it gives.
    * In the features: D-FE's distances at three scales, in units of their null distance; pulled together
      where P says no change, pushed apart to twice the null distance where it says change.
    * Consistency: features of a date and of its copy under another illumination.

    Each date gets a random illumination of its own, so that the networks learn content.
    """
    x1, x2, distance, valid = batch
    light1 = losses.radiometric_jitter(x1, jitter, gain=0.15, offset=0.15) * valid
    light2 = losses.radiometric_jitter(x2, jitter, gain=0.15, offset=0.15) * valid
    features1, features2 = networks.extractor(light1), networks.extractor(light2)
    prob = torch.sigmoid(networks.generator(features1, features2))  # (N, 1, side/2, side/2)

    valid_coarse = (losses.to_scale(valid, prob) > 0.5).to(prob.dtype)
    scale = losses.to_scale(distance, prob) - DECISION
    prior = torch.sigmoid(torch.where(scale < 0, SLOPE_BELOW * scale, SLOPE_ABOVE * scale))
    attached = losses.attachment(prob, prior, valid_coarse)

    unit = [((scale + DECISION) / DECISION).clamp(0, 2)]
    for d in losses.feature_distances(features1, features2, valid):
        v = (losses.to_scale(valid, d) > 0.5).to(d.dtype)
        if (v > 0.5).any():
            unit.append((d / null_distance(d.detach(), v)).clamp(max=2))
    terms = []
    for d in unit:
        p, v = losses.to_scale(prob, d), (losses.to_scale(valid, d) > 0.5).to(d.dtype)
        terms.append(losses.similarity(p, d, v) + losses.dissimilarity(p, d, v, margin=2.0))
    steady = losses.consistency(networks.extractor(x2), features2, valid)
    return attached + SIMILARITY_WEIGHT * torch.stack(terms).mean() + CONSISTENCY_WEIGHT * steady


def learn(
    networks: CompactPair,
    inputs: Sequence[NetworkInput],
    *,
    iterations: int,
    learning_rate: float,
    seed: int,
    device: torch.device,
    batch: int = BATCH,
    on_step: OnStep | None = None,
) -> None:
    """Optimise both networks on inputs: the adaptation to a pair, and the pretraining on many.

    Parameters
    ----------
    networks : CompactPair
        Changed in place; on ``device``.
    inputs : sequence of NetworkInput
        Chips of one pair, or of many.
    iterations : int
        Steps of Adam under a one-cycle learning rate.
    learning_rate : float
        Its peak.
    seed : int
    device : torch.device
    batch : int
        Squares in a step.
    on_step : callable, optional
        Called as ``on_step(iteration, loss)`` after every step.
    """
    if iterations == 0:
        return
    random, jitter = np.random.default_rng(seed), seeded(seed, 0, 0)
    optimiser = torch.optim.Adam(networks.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=max(iterations, 2), pct_start=0.2
    )
    for iteration in range(iterations):
        value = loss(networks, draw(inputs, random, device, batch), jitter)
        optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if on_step is not None:
            on_step(iteration, float(value.detach()))


@torch.enable_grad()
def adapt(
    networks: CompactPair,
    inputs: Sequence[NetworkInput],
    *,
    iterations: int,
    learning_rate: float,
    seed: int,
    device: torch.device,
    on_step: OnStep | None = None,
) -> CompactPair:
    """Return a copy of networks that :func:`learn` optimised, on ``device``.

    Where the device runs out of memory, the batch is halved, and as the last resort the CPU is used;
    ``on_step`` is then called again for the same steps.
    """
    tries = [(device, BATCH >> halvings) for halvings in range(BATCH.bit_length())] + [(CPU, BATCH)]
    for attempt, (where, batch) in enumerate(tries, 1):
        adapted = copy.deepcopy(networks).to(where)
        try:
            learn(
                adapted,
                inputs,
                iterations=iterations,
                learning_rate=learning_rate,
                seed=seed,
                device=where,
                batch=batch,
                on_step=on_step,
            )
            break
        except torch.OutOfMemoryError:
            release(where)
            if attempt == len(tries):
                raise
            following = "done on the CPU" if batch == 1 else f"halved to {batch // 2}"
            log.warning("%s has no room for a batch of %d: %s", where, batch, following)
    return adapted.to(device).eval().requires_grad_(False)
