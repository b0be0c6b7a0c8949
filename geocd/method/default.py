"""The default preset: distances of the scene, closed-form and deep, and a fixed decision on their sum."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from geocd.config import RunMethodSettings
from geocd.errors import ConfigError
from geocd.method.backbone import load_backbone
from geocd.method.cover import CoverPrior
from geocd.method.decision import logistic_prob
from geocd.method.devices import CPU, choose_device, in_room, log, release, spread
from geocd.method.distance import FIT_AREA, SceneDistance, widened
from geocd.method.extractor import Extractor, Lite0Features
from geocd.method.filters import radius
from geocd.method.learning import seeded, share
from geocd.method.networks import initialise
from geocd.method.weights import embedded_weights, load_weights, read_weights
from geocd.raster.bands import colour_bands
from geocd.raster.pair import Chip, Pair
from geocd.scene.sample import crops
from geocd.types import Float32Array, Steps

#: Distance at which the decision lies, and the slopes of the probability on both sides of it.
DECISION, SLOPE_BELOW, SLOPE_ABOVE = 2.0, 4.0, 1.0


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


def feature_extractor(settings: RunMethodSettings) -> Extractor | None:
    """Return D-FE: ``settings.backbone``, else with the weights of ``settings.weights``; None for ``none``.

    Raises
    ------
    ConfigError
        The weights are those of another preset.
    WeightsError
        They cannot be read, or do not fit.
    """
    if settings.backbone is not None:
        return load_backbone(settings.backbone)
    name = settings.weights
    if name == "none":
        return None
    extractor = Lite0Features()
    if name == "random":
        initialise(extractor, seeded(settings.seed, 0, 0))
    elif name == "imagenet":
        raise ConfigError(
            "--weights imagenet: these are VGG16's, and the default preset has another network (whose "
            "weights, embedded, are of ImageNet too). Choose --preset reference, or other weights."
        )
    else:
        state = embedded_weights() if name == "embedded" else read_weights(name)
        load_weights(extractor, state, name)
    return extractor.eval().requires_grad_(False)


@dataclasses.dataclass(frozen=True)
class DefaultDetector:
    """The default: the distance of :class:`~geocd.method.distance.SceneDistance`, decided at ``DECISION``.

    Everything is fitted to a sample of the scene and read with enough surroundings, so the probability does
    not depend on the tiling.

    With ``uncertainty`` there is a second band: the :func:`jackknife` over the distances.
    """

    features: SceneDistance
    device: torch.device
    settings: RunMethodSettings
    #: With ``--focus built``.
    prior: CoverPrior | None = None

    #: Nothing is optimised step by step.
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
        """Fit everything to a sample of the scene; ``steps(done, total)`` is called after each distance."""
        device = choose_device(settings.device)
        prior = CoverPrior.of(pair) if settings.focus == "built" else None
        embedding = settings.kind == "embedding"
        extractor = None if embedding else feature_extractor(settings)

        @torch.no_grad()
        def fitted(where: torch.device) -> tuple[SceneDistance, CoverPrior | None]:
            features, sample = SceneDistance.fit(
                chips,
                colour=() if embedding else colour_bands(pair.band_names),
                pixel_size=pair.grid.pixel_size,
                extractor=extractor,
                seed=settings.seed,
                jobs=jobs,
                device=where,
                steps=steps,
            )
            if prior is None:
                return features, None
            under = [
                (chip, prior.apply(distance, chip))
                for chip, (_, distance) in zip(crops(chips, FIT_AREA), sample, strict=True)
            ]
            return features, prior.fitted(under, DECISION)

        try:
            features, of_scene = fitted(device)
        except torch.OutOfMemoryError:
            release(device)
            log.warning("%s has no room for the sample: fitted on the CPU", device)
            features, of_scene = fitted(CPU)
        return cls(features, device, settings, of_scene)

    @cached_property
    def _devices(self) -> list[torch.device]:
        """The devices that take part."""
        return spread(self.device)

    @property
    def margin(self) -> int:
        """Pixels around a pixel that its probability depends on."""
        return max(self.features.margin, 0 if self.prior is None else CoverPrior.REACH)

    def prob(self, chip: Chip) -> Float32Array:
        """Return the change probability and, with ``uncertainty``, its jackknife standard error.

        Returns
        -------
        ndarray, (1 or 2, height, width), float32
            In [0, 1], NaN where not valid, and where it is not ``needed``.
        """
        if not chip.valid.any():
            return np.full((1 + self.settings.uncertainty, *chip.valid.shape), np.nan, np.float32)
        bands = in_room(self._bands, chip, share(self._devices, chip), margin=self.margin)
        return np.where(chip.valid, bands, np.float32(np.nan))

    def _bands(self, chip: Chip, device: torch.device) -> Float32Array:
        pair = self.features.scaled(chip, device)
        needed = chip.needed or (slice(None), slice(None))
        reach = max(radius(self.features.object_sigma), 0 if self.prior is None else CoverPrior.REACH)
        around, within = widened(needed, reach, pair.shape)
        maps, weight = self.features.terms(pair, around), None if pair.whole else pair.valid[around]
        del pair

        def decide(distance: Tensor) -> Float32Array:
            if self.prior is not None:
                distance = self.prior.apply(distance, chip.part(*around))
            values = distance[within].cpu().numpy()
            prob = np.full(chip.valid.shape, np.nan, np.float32)
            prob[needed] = logistic_prob(values, DECISION, SLOPE_BELOW, SLOPE_ABOVE)
            return prob

        bands = [decide(self.features.combine(maps, weight))]
        if self.settings.uncertainty:
            left_out = [decide(distance) for distance in self.features.leaving_one_out(maps, weight)]
            bands.append(jackknife(np.stack(left_out)))
        return np.stack(bands)
