"""The default preset: closed-form distances of the scene, and two small networks adapted to it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from geocd.config import RunMethodSettings
from geocd.errors import ConfigError
from geocd.method.decision import logistic_prob
from geocd.method.devices import CPU, choose_device, in_room, log, mixed_precision, release, replicas
from geocd.method.distance import SceneDistance
from geocd.method.learning import (
    DECISION,
    SLOPE_ABOVE,
    SLOPE_BELOW,
    NetworkInput,
    adapt,
    network_input,
    recorded,
    seeded,
    share,
)
from geocd.method.networks import CompactPair, initialise
from geocd.method.weights import embedded_weights, load_weights, read_weights
from geocd.raster.bands import colour_bands
from geocd.raster.pair import Chip, Pair
from geocd.types import Float32Array, Steps

#: What one unit of the networks' logit moves the distance, and how far the logit may go. Small, because
#: left out of training and choice of constants they added nothing that could be measured, and a larger
#: weight costs own F1 on aerial pairs (docs/method.md, leave-pairs-out).
LEARNED_WEIGHT, LOGIT_RANGE = 0.05, 6.0
#: With ``--fit tile``, a tile takes this share of the scene's steps, at this share of its learning rate.
TILE_SHARE = 4


def jackknife(probs: Float32Array) -> Float32Array:
    """Return the jackknife standard error of a probability, ``(height, width)`` float32 in [0, 1].

    ``sqrt((n - 1) / n * sum((P_i - mean P)**2))``, where ``P_i`` is the probability without the i-th
    piece of evidence; Tukey 1958, in the form of Efron and Stein, "The Jackknife Estimate of Variance",
    Annals of Statistics 9 (1981). What would be above 1 is 1.

    It says how far the map depends on single pieces of evidence: near 0 they agree, or all are far from the
    decision; large where one of them decides alone. It is no confidence interval: the pieces see the same
    two images and are not independent, so what deceives all of them (haze, a shift) does not show, and
    neither does the noise of a pixel.

    Parameters
    ----------
    probs : ndarray, (n, height, width), float32
        In [0, 1]; one for each piece left out.
    """
    count = len(probs)
    apart = probs.astype(np.float64) - probs.mean(axis=0, dtype=np.float64)
    error = np.sqrt((count - 1) / count * (apart**2).sum(axis=0))
    return np.asarray(np.minimum(error, 1), np.float32)


def starting_networks(settings: RunMethodSettings) -> CompactPair:
    """Return the networks with the weights that ``settings.weights`` names, before any adaptation.

    Raises
    ------
    ConfigError
        The weights are those of another preset.
    WeightsError
        They cannot be read, or do not fit.
    """
    name = settings.weights
    networks = CompactPair()
    if name == "random":
        initialise(networks, seeded(settings.seed, 0, 0))
    elif name == "imagenet":
        raise ConfigError(
            "--weights imagenet: these are VGG16's, and the default preset has networks of its own. "
            "Choose --preset reference, or other weights."
        )
    else:
        state = embedded_weights() if name == "embedded" else read_weights(name)
        load_weights(networks, state, name)
    return networks


@dataclasses.dataclass(frozen=True)
class DefaultDetector:
    """The default: a closed-form distance of the scene, and two small networks adapted to it.

    The distance of :class:`~geocd.method.distance.SceneDistance`, moved by the logit of D-CPG, decides. The
    networks start from weights learned on other pairs without labels, and take some steps of the
    similarity-dissimilarity loss on a sample of this one. They are fitted to the scene and read with enough
    surroundings, so the probability does not depend on the tiling. With ``fit="tile"`` they take
    ``1 / TILE_SHARE`` as many steps again on every tile.

    With ``uncertainty`` there is a second band: the :func:`jackknife` over the closed-form distances.
    """

    features: SceneDistance
    networks: CompactPair
    device: torch.device
    settings: RunMethodSettings
    #: Of every step on the scene.
    losses: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls,
        chips: Sequence[Chip],
        pair: Pair,
        settings: RunMethodSettings,
        jobs: int,
        steps: Steps | None = None,
    ) -> DefaultDetector:
        """Fit everything to a sample of the scene; ``steps(done, total)`` hears of each step."""
        device = choose_device(settings.device)
        networks = starting_networks(settings)

        def fitted(where: torch.device) -> tuple[SceneDistance, list[NetworkInput]]:
            features, sample = SceneDistance.fit(
                chips,
                colour=colour_bands(pair.band_names),
                pixel_size=pair.grid.pixel_size,
                seed=settings.seed,
                jobs=jobs,
                device=where,
            )
            return features, [
                network_input(pair, features.colour, distance)
                for pair, distance in sample
                if pair.valid.any()
            ]

        try:
            features, inputs = fitted(device)
        except torch.OutOfMemoryError:
            release(device)
            log.warning("%s has no room for the sample: fitted on the CPU", device)
            features, inputs = fitted(CPU)
        curve: dict[int, float] = {}
        networks = adapt(
            networks,
            inputs,
            iterations=settings.iterations,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            device=device,
            on_step=recorded(curve, settings.iterations, steps),
        )
        return cls(features, networks, device, settings, tuple(curve.values()))

    @cached_property
    def _replicas(self) -> list[tuple[torch.device, CompactPair]]:
        """The networks on each device that takes part."""
        return replicas(self.networks, self.device)

    @property
    def margin(self) -> int:
        """Pixels around a pixel that its probability depends on."""
        return max(self.features.margin, CompactPair.MARGIN)

    def prob(self, chip: Chip) -> Float32Array:
        """Return the change probability and, with ``uncertainty``, its jackknife standard error.

        Returns
        -------
        ndarray, (1 or 2, height, width), float32
            In [0, 1], NaN where not valid.
        """
        if not chip.valid.any():
            return np.full((1 + self.settings.uncertainty, *chip.valid.shape), np.nan, np.float32)
        device, networks = share(self._replicas, chip)

        def compute(part: Chip, where: torch.device) -> Float32Array:
            local = networks if where == device else copy.deepcopy(networks).to(where)
            return self._bands(part, local, where)

        bands = in_room(compute, chip, device, margin=self.margin)
        return np.where(chip.valid, bands, np.float32(np.nan))

    def _bands(self, chip: Chip, networks: CompactPair, device: torch.device) -> Float32Array:
        pair = self.features.scaled(chip, device)
        maps = self.features.terms(pair)
        inputs = network_input(pair, self.features.colour, self.features.combine(maps, pair.weight))
        del pair
        learned = LEARNED_WEIGHT * self.logit(inputs, chip, networks)

        def decide(distance: Tensor) -> Float32Array:
            distances = (distance + learned).cpu().numpy()
            return logistic_prob(distances, DECISION, SLOPE_BELOW, SLOPE_ABOVE)

        bands = [decide(inputs.distance)]
        if self.settings.uncertainty:
            weight = None if chip.valid.all() else inputs.valid
            left_out = [decide(distance) for distance in self.features.leaving_one_out(maps, weight)]
            bands.append(jackknife(np.stack(left_out)))
        return np.stack(bands)

    def logit(self, inputs: NetworkInput, chip: Chip, networks: CompactPair) -> Tensor:
        """Return the logit of D-CPG, ``(height, width)`` float32, within ``LOGIT_RANGE``."""
        # The strides begin at multiples of 8 of the scene, wherever the tile begins.
        stride, (height, width) = CompactPair.STRIDE, chip.valid.shape
        top, left = int(chip.window.row_off) % stride, int(chip.window.col_off) % stride
        pad = (left, -(left + width) % stride, top, -(top + height) % stride)
        dates = [
            torch.nn.functional.pad(
                x[None].contiguous(memory_format=torch.channels_last), pad, mode="replicate"
            )
            for x in (inputs.x1, inputs.x2)
        ]
        device = inputs.x1.device
        if self.settings.fit == "tile":
            networks = self._adapted(networks, inputs, chip, device)
        with mixed_precision(device):
            full = networks(*dates)
        values: Tensor = full[0, 0, top : top + height, left : left + width].float()
        return values.clamp(-LOGIT_RANGE, LOGIT_RANGE)

    def _adapted(
        self, networks: CompactPair, inputs: NetworkInput, chip: Chip, device: torch.device
    ) -> CompactPair:
        """Return a copy of the scene's networks, adapted further to one tile."""
        entropy = self.settings.seed, int(chip.window.row_off), int(chip.window.col_off)
        return adapt(
            copy.deepcopy(networks).requires_grad_(True),
            [inputs],
            iterations=self.settings.iterations // TILE_SHARE,
            learning_rate=self.settings.learning_rate / TILE_SHARE,
            seed=int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) >> 1,
            device=device,
        )
