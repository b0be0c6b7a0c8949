"""The published method, both of its networks optimised on every tile, without labels."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geocd.config import RunMethodSettings
from geocd.method import losses
from geocd.method.devices import (
    CPU,
    choose_device,
    deterministic,
    in_room,
    log,
    mixed_precision,
    release,
    replicas,
    spread,
)
from geocd.method.distance import FIT_AREA
from geocd.method.learning import OnStep, bulk, recorded, seeded, share, to_tensor
from geocd.method.networks import ResidualGenerator, Vgg16Features, initialise
from geocd.method.weights import fetch_imagenet, load_weights, read_weights
from geocd.raster.pair import Chip
from geocd.scene.radiometry import Radiometry
from geocd.scene.sample import crops
from geocd.types import Float32Array, Steps


def decision(logit: Float32Array) -> float:
    """Return the logit that the preset ``reference`` decides at: where the bulk ends, and not below 0."""
    values = torch.from_numpy(logit)
    return max(0.0, bulk(values, torch.ones_like(values)))


def published_loss(
    generator: ResidualGenerator,
    extractor: Vgg16Features,
    dates: tuple[Tensor, Tensor],
    valid: Tensor,
    random: torch.Generator,
) -> Tensor:
    """Return the published loss of one chip for both networks, a scalar.

    Parameters
    ----------
    generator : ResidualGenerator
    extractor : Vgg16Features
    dates : two Tensors, (1, bands, height, width), float32
        Scaled images of before and after.
    valid : Tensor, (1, 1, height, width), float32
        0 or 1.
    random : torch.Generator
        Draws the jitter of the consistency term.
    """
    x1, x2 = dates
    prob = torch.sigmoid(generator(x1, x2))
    features1, features2 = extractor(x1), extractor(x2)
    image = losses.image_distance(x1, x2)
    distances = [image, *losses.feature_distances(features1, features2, valid)]
    scales = [(losses.to_scale(valid, d) > 0.5).to(d.dtype) for d in distances]
    terms = []
    for distance, v in zip(distances, scales, strict=True):
        p = losses.to_scale(prob, distance)
        terms.append(losses.similarity(p, distance, v, gated=True))
        terms.append(losses.dissimilarity(p, distance, v, gated=True))
    jittered = extractor(losses.radiometric_jitter(x2, random) * valid)
    return (
        torch.stack(terms).sum()
        + losses.consistency(features2, jittered, valid)
        + losses.regulariser(prob, valid)
    )


@dataclasses.dataclass(frozen=True)
class ReferenceDetector:
    """The published method: VGG16 and the residual generator, optimised on every tile from the start.

    80 steps of Adam at 1e-4 on L = sum over scales of (L_s + L_d) + consistency + regulariser, all
    weights 1, P gated at 0.5. Departures from the reference implementation, beside those that
    :mod:`geocd.method.losses` and :class:`~geocd.method.networks.ResidualGenerator` name:

    * Both networks are optimised (there, the extractor never reaches the optimiser).
    * The last iteration is kept, not the one with the best score against the labels. Where most of a
      tile ends above P = 0.5, as the published loss makes it, the threshold is not set by hand for each
      image: the decision is the median plus three robust deviations of the tile's logit, and no lower
      than P = 0.5. The logit is moved so that this becomes P = 0.5, which keeps the order of pixels.
    * Scene-wide robust z-scores replace its chain of linear matching, min-max (which undoes the
      matching) and a polynomial that mixes neighbouring pixels as if they were bands.
    * The last layer starts from zero. With a random start its sign decides whether large differences
      begin as "change" or as "no change", and 80 steps do not always turn it.
    * Seeded; weights load strictly.
    """

    radiometry: Radiometry
    settings: RunMethodSettings
    weights: dict[str, Tensor] | None
    device: torch.device
    #: With ``--fit scene``: the generator on each device, and the logit at which it decides.
    fitted: tuple[list[tuple[torch.device, ResidualGenerator]], float] | None = None
    #: With ``--fit scene``: the loss of every step.
    losses: tuple[float, ...] = ()

    @property
    def margin(self) -> int:
        """Pixels that a probability depends on and that are left out of the blend.

        0 where every tile is optimised by itself: no part of it agrees exactly with its neighbour's, so
        all of the overlap is blended.
        """
        return 0 if self.fitted is None else ResidualGenerator.MARGIN

    @classmethod
    def fit(
        cls, chips: Sequence[Chip], settings: RunMethodSettings, steps: Steps | None = None
    ) -> ReferenceDetector:
        """Fit the scene's radiometry and load the starting weights; with ``--fit scene``, optimise.

        ``steps(done, total)`` hears of each step.
        """
        device = choose_device(settings.device)
        radiometry = Radiometry.fit(chips)
        name = settings.weights
        weights = None
        if name == "imagenet":
            weights = fetch_imagenet()
        elif name != "random":
            weights = read_weights(name)
        bands = len(chips[0].before)
        if weights is not None:
            load_weights(Vgg16Features(bands), weights, name)  # fail now, not in a tile
        detector = cls(radiometry, settings, weights, device)
        if settings.fit != "scene":
            return detector
        sample = [chip for chip in crops(chips, FIT_AREA) if chip.valid.any()]
        curve: dict[int, float] = {}
        generator, logits = detector._optimise(sample, (0, 0), recorded(curve, settings.iterations, steps))
        values = [logit[chip.valid] for logit, chip in zip(logits, sample, strict=True)]
        everywhere = replicas(generator, device)
        fitted = everywhere, decision(np.concatenate(values))
        return dataclasses.replace(detector, fitted=fitted, losses=tuple(curve.values()))

    def prob(self, chip: Chip) -> Float32Array:
        """Return the change probability of a chip, ``(1, height, width)`` float32, NaN where not valid.

        Optimises the networks on the chip, unless they are fitted to the scene.
        """
        if not chip.valid.any():
            return np.full((1, *chip.valid.shape), np.nan, np.float32)
        if self.fitted is None:
            origin = int(chip.window.row_off), int(chip.window.col_off)
            _, (logit,) = self._optimise([chip], origin)
            least = decision(logit[chip.valid])
        else:
            everywhere, least = self.fitted
            device, generator = share(everywhere, chip)
            logit = self._logit(generator, chip, device)
        prob = torch.sigmoid(torch.from_numpy(logit) - least).numpy()
        return np.where(chip.valid, prob, np.float32(np.nan))[None]

    def _logit(self, generator: ResidualGenerator, chip: Chip, device: torch.device) -> Float32Array:
        def compute(part: Chip, where: torch.device) -> Float32Array:
            network = generator if where == device else copy.deepcopy(generator).to(where)
            dates = [to_tensor(x, where) for x in self.radiometry.apply(part)]
            with mixed_precision(where):
                logit = network(*dates)
            return np.asarray(logit[0].float().cpu())

        logit: Float32Array = in_room(compute, chip, device, margin=ResidualGenerator.MARGIN)[0]
        return logit

    def _optimise(
        self, chips: Sequence[Chip], origin: tuple[int, int], on_step: OnStep | None = None
    ) -> tuple[ResidualGenerator, list[Float32Array]]:
        """Optimise both networks on chips, one chip in each step; return D-CPG and its logits.

        Falls back to the CPU where the device runs out of memory.
        """
        device = share(spread(self.device), chips[0])
        try:
            with deterministic(device):
                generator = self._optimised(chips, origin, device, on_step)
        except torch.OutOfMemoryError:
            release(device)
            log.warning(
                "%s has no room to optimise %d x %d px: done on the CPU; a smaller --tile-size may fit",
                device,
                *chips[0].valid.shape[::-1],
            )
            generator = self._optimised(chips, origin, CPU, on_step).to(device)
        return generator, [self._logit(generator, chip, device) for chip in chips]

    def _optimised(
        self,
        chips: Sequence[Chip],
        origin: tuple[int, int],
        device: torch.device,
        on_step: OnStep | None,
    ) -> ResidualGenerator:
        random = seeded(self.settings.seed, *origin)
        bands = len(chips[0].before)
        generator = ResidualGenerator(bands)
        extractor = Vgg16Features(bands)
        initialise(generator, random)
        torch.nn.init.zeros_(generator.tail.weight)
        initialise(extractor, random)
        if self.weights is not None:
            load_weights(extractor, self.weights, self.settings.weights)
        networks = torch.nn.ModuleList([generator, extractor])
        networks.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.Adam(networks.parameters(), lr=self.settings.learning_rate)
        for step in range(self.settings.iterations):
            chip = chips[step % len(chips)]
            x1, x2 = (to_tensor(x, device) for x in self.radiometry.apply(chip))
            valid = to_tensor(chip.valid[None], device)
            loss = published_loss(generator, extractor, (x1, x2), valid, random)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if on_step is not None:
                on_step(step, float(loss.detach()))
        return generator.requires_grad_(False)
