"""The learned method: both networks optimised on the pair itself, without labels.

Everything random is drawn from generators seeded by ``(seed, row, col)`` of the place, never from the
global state, so a result does not depend on the order of tiles or on how many run at a time.
"""

from __future__ import annotations

import copy
import dataclasses
import zlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geocd import losses
from geocd.bands import colour_bands
from geocd.config import MethodSettings
from geocd.decision import logistic_prob
from geocd.devices import CPU, choose_device, in_room, log, mixed_precision, release, replicas, sent, spread
from geocd.errors import ConfigError
from geocd.features import FIT_AREA, WEIGHTS, LinearFeatures, ScaledPair
from geocd.networks import (
    CompactPair,
    ResidualGenerator,
    Vgg16Features,
    embedded_weights,
    fetch_imagenet,
    initialise,
    load_weights,
    read_weights,
)
from geocd.normalize import Radiometry, crops
from geocd.raster import Chip, Pair
from geocd.types import Float32Array

T = TypeVar("T")
#: Called as ``told(iteration, loss)`` after every step.
Told = Callable[[int, float], None]


def _untold(iteration: int, value: float) -> None:
    """Nobody asked."""


def seeded(seed: int, row: int, col: int) -> torch.Generator:
    """Return a CPU generator for one place of the scene."""
    state = np.random.SeedSequence((seed, row, col)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def share(items: Sequence[T], chip: Chip) -> T:
    """Return the one of several equal helpers that does a chip: by its place, never by who is free."""
    place = np.array([chip.window.row_off, chip.window.col_off], "<i8")
    return items[zlib.crc32(place.tobytes()) % len(items)]


def to_tensor(values: npt.NDArray[np.generic], device: torch.device = CPU) -> Tensor:
    """``(bands, height, width)`` to ``(1, bands, height, width)`` float32, channels last."""
    return sent(values.astype(np.float32), device)[None].contiguous(memory_format=torch.channels_last)


#: The bulk of the pixels ends at median + 3 robust standard deviations.
NULL_DEVIATIONS = 3.0
#: Null distances are not smaller than this, in scene standard deviations: differences that small are
#: rounding and resampling.
LEAST_NULL = 0.05


def bulk(values: Tensor, valid: Tensor) -> float:
    """Return the value below which the bulk of the valid pixels lies: median + 3 x 1.4826 MAD."""
    known = values[valid > 0.5]
    median = known.median()
    return float(median + NULL_DEVIATIONS * 1.4826 * (known - median).abs().median())


def decision(logit: Float32Array) -> float:
    """Return the logit that the preset ``reference`` decides at: where the bulk ends, and not below 0."""
    values = torch.from_numpy(logit)
    return max(0.0, bulk(values, torch.ones_like(values)))


def null_distance(distance: Tensor, valid: Tensor) -> float:
    """Return the distance that unchanged pixels of a batch hardly exceed."""
    return max(bulk(distance, valid), LEAST_NULL)


@dataclasses.dataclass(frozen=True)
class ReferenceDetector:
    """The published method: VGG16 and the residual generator, optimised on every tile from the start.

    80 steps of Adam at 1e-4 on L = sum over scales of (L_s + L_d) + consistency + regulariser, all
    weights 1, P gated at 0.5. Departures from the reference implementation, beside those that
    :mod:`geocd.losses` and :class:`~geocd.networks.ResidualGenerator` name:

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
    settings: MethodSettings
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
    def fit(cls, chips: Sequence[Chip], settings: MethodSettings) -> ReferenceDetector:
        """Take the scene's radiometry and the starting weights; with ``--fit scene``, learn."""
        device = choose_device(settings.device)
        radiometry = Radiometry.fit(chips)
        name = settings.weights
        weights = None
        if name == "imagenet":
            weights = fetch_imagenet()
        elif name is not None and name != "random":
            weights = read_weights(name)
        bands = len(chips[0].before)
        if weights is not None:
            load_weights(Vgg16Features(bands), weights, str(name))  # fail now, not in a tile
        detector = cls(radiometry, settings, weights, device)
        if settings.fit != "scene":
            return detector
        known = [chip for chip in crops(chips, FIT_AREA) if chip.valid.any()]
        curve: dict[int, float] = {}
        generator, logits = detector._optimise(known, (0, 0), curve.__setitem__)
        values = [logit[chip.valid] for logit, chip in zip(logits, known, strict=True)]
        everywhere = replicas(generator, device)
        fitted = everywhere, decision(np.concatenate(values))
        return dataclasses.replace(detector, fitted=fitted, losses=tuple(curve.values()))

    def prob(self, chip: Chip) -> Float32Array:
        """Return the change probability of a chip, ``(1, height, width)``; optimises, unless that is done."""
        if not chip.valid.any():
            return np.full((1, *chip.valid.shape), np.nan, np.float32)
        if self.fitted is None:
            place = int(chip.window.row_off), int(chip.window.col_off)
            _, (logit,) = self._optimise([chip], place)
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
        self, chips: Sequence[Chip], place: tuple[int, int], told: Told = _untold
    ) -> tuple[ResidualGenerator, list[Float32Array]]:
        """Optimise both networks on chips, one of them in each step; return D-CPG and its logits.

        Falls back to the CPU where the device has no room for a chip.
        """
        device = share(spread(self.device), chips[0])
        try:
            generator = self._optimised(chips, place, device, told)
        except torch.OutOfMemoryError:
            release(device)
            log.warning(
                "%s has no room to optimise %d x %d px: done on the CPU; a smaller --tile-size may fit",
                device,
                *chips[0].valid.shape[::-1],
            )
            generator = self._optimised(chips, place, CPU, told).to(device)
        return generator, [self._logit(generator, chip, device) for chip in chips]

    def _optimised(
        self, chips: Sequence[Chip], place: tuple[int, int], device: torch.device, told: Told
    ) -> ResidualGenerator:
        assert self.settings.iterations is not None  # resolved by the preset
        assert self.settings.learning_rate is not None
        random = seeded(self.settings.seed, *place)
        bands = len(chips[0].before)
        generator = ResidualGenerator(bands)
        extractor = Vgg16Features(bands)
        initialise(generator, random)
        torch.nn.init.zeros_(generator.tail.weight)
        initialise(extractor, random)
        if self.weights is not None:
            load_weights(extractor, self.weights, str(self.settings.weights))
        networks = torch.nn.ModuleList([generator, extractor])
        networks.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.Adam(networks.parameters(), lr=self.settings.learning_rate)
        for step in range(self.settings.iterations):
            chip = chips[step % len(chips)]
            x1, x2 = (to_tensor(x, device) for x in self.radiometry.apply(chip))
            valid = to_tensor(chip.valid[None], device)
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
            loss = (
                torch.stack(terms).sum()
                + losses.consistency(features2, jittered, valid)
                + losses.regulariser(prob, valid)
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            told(step, float(loss.detach()))
        return generator.requires_grad_(False)


#: Distance at which the decision lies, and the slopes of the probability on both sides of it.
DECISION, SLOPE_BELOW, SLOPE_ABOVE = 2.0, 4.0, 1.0
#: What one unit of the networks' logit moves the distance, and how far the logit may go. Small, because
#: left out of training and choice of constants they added nothing that could be measured, and a larger
#: weight costs own F1 on aerial pairs (docs/method.md, leave-pairs-out).
LEARNED_WEIGHT, LOGIT_RANGE = 0.05, 6.0
#: Chips of one optimisation step, and their side in pixels.
BATCH, SIDE = 8, 96
#: With ``--fit tile``, a tile takes this share of the scene's steps, at this share of its learning rate.
TILE_SHARE = 4
#: Weights of the loss: attachment 1, similarity and dissimilarity together, consistency.
SIMILARITY_WEIGHT, CONSISTENCY_WEIGHT = 0.1, 0.05


@dataclasses.dataclass(frozen=True)
class Lesson:
    """A chip to learn from: what the networks see, and the distance that teaches them.

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


def lesson(pair: ScaledPair, colour: Sequence[int], distance: Tensor) -> Lesson:
    """Return what the networks see of a chip, and its distance, all on the chip's device."""
    dates = []
    for z in (pair.z1, pair.z2):
        seen = z.new_zeros((CompactPair.BANDS, *z.shape[1:]))
        seen[: len(colour)] = z[list(colour)].masked_fill_(~pair.valid, 0)  # not what fills the holes
        dates.append(seen)
    return Lesson(dates[0], dates[1], distance, pair.valid)


def draw(
    lessons: Sequence[Lesson], random: np.random.Generator, device: torch.device, size: int = BATCH
) -> list[Tensor]:
    """Draw a batch of ``size``: random squares of random lessons, turned and mirrored at random.

    Returns
    -------
    list of Tensor
        x1, x2 (N, 4, side, side), distance, valid (N, 1, side, side).
    """
    side = min(SIDE, *(min(one.valid.shape) for one in lessons))
    batch: list[list[Tensor]] = [[], [], [], []]
    for _ in range(size):
        one = lessons[int(random.integers(len(lessons)))]
        row, col = (int(random.integers(0, n - side + 1)) for n in one.valid.shape)
        turns, mirror = int(random.integers(4)), bool(random.integers(2))
        for place, values in enumerate((one.x1, one.x2, one.distance[None], one.valid[None])):
            cut = torch.rot90(values[:, row : row + side, col : col + side], turns, (1, 2))
            batch[place].append(cut.flip(-1) if mirror else cut)
    return [torch.stack(values).to(device, torch.float32) for values in batch]


def loss(networks: CompactPair, batch: Sequence[Tensor], jitter: torch.Generator) -> Tensor:
    """Return the similarity-dissimilarity loss of a batch for both networks, a scalar.

    * In the image: the closed-form distance, with the margin at its decision, and the attachment of P to
      the probability that it gives.
    * In the features: D-FE's distances at three scales, in units of their null distance; pulled together
      where P says no change, pushed apart to twice the null distance where it says change.
    * Consistency: features of a date and of its copy in another light.

    Both dates are seen in a light of their own, so that the networks learn content.
    """
    x1, x2, distance, valid = batch
    light1 = losses.radiometric_jitter(x1, jitter, gain=0.15, offset=0.15) * valid
    light2 = losses.radiometric_jitter(x2, jitter, gain=0.15, offset=0.15) * valid
    features1, features2 = networks.extractor(light1), networks.extractor(light2)
    prob = torch.sigmoid(networks.generator(features1, features2))  # (N, 1, side/2, side/2)

    known = (losses.to_scale(valid, prob) > 0.5).to(prob.dtype)
    scale = losses.to_scale(distance, prob) - DECISION
    prior = torch.sigmoid(torch.where(scale < 0, SLOPE_BELOW * scale, SLOPE_ABOVE * scale))
    attached = losses.attachment(prob, prior, known)

    unit = [((scale + DECISION) / DECISION).clamp(0, 2)]
    for found in losses.feature_distances(features1, features2, valid):
        v = (losses.to_scale(valid, found) > 0.5).to(found.dtype)
        if (v > 0.5).any():
            unit.append((found / null_distance(found.detach(), v)).clamp(max=2))
    terms = []
    for d in unit:
        p, v = losses.to_scale(prob, d), (losses.to_scale(valid, d) > 0.5).to(d.dtype)
        terms.append(losses.similarity(p, d, v) + losses.dissimilarity(p, d, v, margin=2.0))
    steady = losses.consistency(networks.extractor(x2), features2, valid)
    return attached + SIMILARITY_WEIGHT * torch.stack(terms).mean() + CONSISTENCY_WEIGHT * steady


def learn(
    networks: CompactPair,
    lessons: Sequence[Lesson],
    *,
    iterations: int,
    learning_rate: float,
    seed: int,
    device: torch.device,
    batch: int = BATCH,
    told: Told = _untold,
) -> None:
    """Optimise both networks on lessons: the adaptation to a pair, and the pretraining on many.

    Parameters
    ----------
    networks : CompactPair
        Changed in place; on ``device``.
    lessons : sequence of Lesson
        Of one pair, or of many.
    iterations : int
        Steps of Adam under a one-cycle learning rate.
    learning_rate : float
        Its peak.
    seed : int
    device : torch.device
    batch : int
        Squares in a step.
    told : callable, optional
        Called as ``told(iteration, loss)``.
    """
    if iterations == 0:
        return
    random, jitter = np.random.default_rng(seed), seeded(seed, 0, 0)
    optimiser = torch.optim.Adam(networks.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=max(iterations, 2), pct_start=0.2
    )
    for iteration in range(iterations):
        value = loss(networks, draw(lessons, random, device, batch), jitter)
        optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        told(iteration, float(value.detach()))


@torch.enable_grad()
def adapt(
    networks: CompactPair,
    lessons: Sequence[Lesson],
    *,
    iterations: int,
    learning_rate: float,
    seed: int,
    device: torch.device,
    told: Told = _untold,
) -> CompactPair:
    """Return a copy of networks that :func:`learn` optimised, on ``device``.

    Where the device has no room for a batch, it is halved, and at last the CPU does it; ``told`` then hears
    of the same steps again.
    """
    tries = [(device, BATCH >> halvings) for halvings in range(BATCH.bit_length())] + [(CPU, BATCH)]
    for place, (where, batch) in enumerate(tries):
        adapted = copy.deepcopy(networks).to(where)
        try:
            learn(
                adapted,
                lessons,
                iterations=iterations,
                learning_rate=learning_rate,
                seed=seed,
                device=where,
                batch=batch,
                told=told,
            )
            break
        except torch.OutOfMemoryError:
            release(where)
            if place + 1 == len(tries):
                raise
            following = "done on the CPU" if batch == 1 else f"halved to {batch // 2}"
            log.warning("%s has no room for a batch of %d: %s", where, batch, following)
    return adapted.to(device).eval().requires_grad_(False)


def jackknife(probs: Float32Array) -> Float32Array:
    """Return the jackknife standard error of a probability, ``(height, width)`` float32 in [0, 1].

    ``sqrt((n - 1) / n * sum((P_i - mean P)**2))``, where ``P_i`` is the probability without the i-th
    piece of evidence; Tukey 1958, in the form of Efron and Stein, "The Jackknife Estimate of Variance",
    Annals of Statistics 9 (1981). What would be above 1 is 1.

    It says how far the map hangs on single pieces of evidence: near 0 they agree, or all are far from the
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


@dataclasses.dataclass(frozen=True)
class DefaultDetector:
    """The default: closed-form features of the scene, and two small networks adapted to it.

    The distance of :class:`~geocd.features.LinearFeatures`, moved by the logit of D-CPG, decides. The
    networks start from weights learned on other pairs without labels, and take some steps of the
    similarity-dissimilarity loss on a sample of this one. They are fitted to the scene and read with enough
    surroundings, so the probability does not depend on the tiling. With ``fit="tile"`` they take
    ``1 / TILE_SHARE`` as many steps again on every tile.

    With ``uncertainty`` there is a second band: the :func:`jackknife` over the six closed-form distances.
    """

    features: LinearFeatures
    networks: CompactPair
    device: torch.device
    settings: MethodSettings
    #: Of every step on the scene.
    losses: tuple[float, ...] = ()

    @classmethod
    def fit(cls, chips: Sequence[Chip], pair: Pair, settings: MethodSettings, jobs: int) -> DefaultDetector:
        """Fit everything to a sample of the scene."""
        assert settings.iterations is not None  # resolved by the preset
        assert settings.learning_rate is not None
        device = choose_device(settings.device)
        networks = cls._start(settings)

        def fitted(where: torch.device) -> tuple[LinearFeatures, list[Lesson]]:
            features, sample = LinearFeatures.fit(
                chips,
                colour=colour_bands(pair.band_names),
                pixel_size=pair.grid.pixel_size,
                seed=settings.seed,
                jobs=jobs,
                device=where,
            )
            known = [one for one in sample if one[0].valid.any()]
            return features, [lesson(one, features.colour, distance) for one, distance in known]

        try:
            features, lessons = fitted(device)
        except torch.OutOfMemoryError:
            release(device)
            log.warning("%s has no room for the sample: fitted on the CPU", device)
            features, lessons = fitted(CPU)
        curve: dict[int, float] = {}  # by step, because steps may be taken again
        networks = adapt(
            networks,
            lessons,
            iterations=settings.iterations,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            device=device,
            told=curve.__setitem__,
        )
        return cls(features, networks, device, settings, tuple(curve.values()))

    @staticmethod
    def _start(settings: MethodSettings) -> CompactPair:
        name = str(settings.weights)
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

    @cached_property
    def _everywhere(self) -> list[tuple[torch.device, CompactPair]]:
        """The networks on each device that takes part."""
        return replicas(self.networks, self.device)

    @property
    def margin(self) -> int:
        """Pixels around a pixel that its probability depends on."""
        return max(self.features.margin, CompactPair.MARGIN)

    def prob(self, chip: Chip) -> Float32Array:
        """Return the change probability and, on request, its uncertainty.

        Returns
        -------
        ndarray, (1 or 2, height, width), float32
            In [0, 1], NaN where not valid.
        """
        if not chip.valid.any():
            return np.full((1 + self.settings.uncertainty, *chip.valid.shape), np.nan, np.float32)
        device, networks = share(self._everywhere, chip)

        def compute(part: Chip, where: torch.device) -> Float32Array:
            here = networks if where == device else copy.deepcopy(networks).to(where)
            return self._bands(part, here, where)

        bands = in_room(compute, chip, device, margin=self.margin)
        return np.where(chip.valid, bands, np.float32(np.nan))

    def _bands(self, chip: Chip, networks: CompactPair, device: torch.device) -> Float32Array:
        pair = self.features.scaled(chip, device)
        terms = self.features.terms(pair)
        seen = lesson(pair, self.features.colour, self.features.combine(terms, pair.weight))
        del pair
        learned = LEARNED_WEIGHT * self.logit(seen, chip, networks)

        def decide(distance: Tensor) -> Float32Array:
            distances = (distance + learned).cpu().numpy()
            return logistic_prob(distances, DECISION, SLOPE_BELOW, SLOPE_ABOVE)

        bands = [decide(seen.distance)]
        if self.settings.uncertainty:
            weight = None if chip.valid.all() else seen.valid
            left_out = [decide(self.features.combine(terms, weight, without=name)) for name in WEIGHTS]
            bands.append(jackknife(np.stack(left_out)))
        return np.stack(bands)

    def logit(self, seen: Lesson, chip: Chip, networks: CompactPair) -> Tensor:
        """Return the logit of D-CPG, ``(height, width)`` float32, within ``LOGIT_RANGE``."""
        # The strides begin at multiples of 8 of the scene, wherever the tile begins.
        stride, (height, width) = CompactPair.STRIDE, chip.valid.shape
        top, left = int(chip.window.row_off) % stride, int(chip.window.col_off) % stride
        pad = (left, -(left + width) % stride, top, -(top + height) % stride)
        dates = [
            torch.nn.functional.pad(
                x[None].contiguous(memory_format=torch.channels_last), pad, mode="replicate"
            )
            for x in (seen.x1, seen.x2)
        ]
        device = seen.x1.device
        if self.settings.fit == "tile":
            networks = self._adapted(networks, seen, chip, device)
        with mixed_precision(device):
            full = networks(*dates)
        values: Tensor = full[0, 0, top : top + height, left : left + width].float()
        return values.clamp(-LOGIT_RANGE, LOGIT_RANGE)

    def _adapted(self, networks: CompactPair, seen: Lesson, chip: Chip, device: torch.device) -> CompactPair:
        """Return networks that went on from the scene's on one tile."""
        assert self.settings.iterations is not None  # resolved by the preset
        assert self.settings.learning_rate is not None
        place = self.settings.seed, int(chip.window.row_off), int(chip.window.col_off)
        return adapt(
            copy.deepcopy(networks).requires_grad_(True),
            [seen],
            iterations=self.settings.iterations // TILE_SHARE,
            learning_rate=self.settings.learning_rate / TILE_SHARE,
            seed=int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]) >> 1,
            device=device,
        )


def fit(
    chips: Sequence[Chip], pair: Pair, settings: MethodSettings, jobs: int = 1
) -> ReferenceDetector | DefaultDetector:
    """Fit the learned method to a sample of the scene, as the preset says; ``jobs`` chips at a time."""
    if settings.preset == "reference":
        return ReferenceDetector.fit(chips, settings)
    return DefaultDetector.fit(chips, pair, settings, jobs)
