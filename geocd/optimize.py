"""The learned method: both networks optimised on the pair itself, without labels.

Everything random is drawn from generators seeded by ``(seed, row, col)`` of the place, never from the
global state, so a result does not depend on the order of tiles or on how many run at a time.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geocd import losses
from geocd.bands import colour_bands
from geocd.config import MethodSettings
from geocd.decision import logistic_prob
from geocd.errors import DeviceError
from geocd.features import LinearFeatures
from geocd.networks import (
    ResidualGenerator,
    Vgg16Features,
    fetch_imagenet,
    initialise,
    load_weights,
    read_weights,
)
from geocd.normalize import Radiometry
from geocd.raster import Chip, Pair

FloatArray = npt.NDArray[np.float32]


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    DeviceError
        No such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    found = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    try:
        device = torch.device(name)
        known = device.type == "cpu" or f"{device.type}:{device.index or 0}" in found or name in found
    except RuntimeError:
        known = False
    if not known:
        raise DeviceError(
            f"--device {name}: no such device here. Choose auto or one of: {', '.join(found)}.",
            device=name,
            found=found,
        )
    return device


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch's operators to one thread each, in this thread and in those begun inside.

    Sums over threads are rounded differently for other numbers of threads; the tiles run in parallel
    instead. The setting is the process's: it is put back afterwards.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seeded(seed: int, row: int, col: int) -> torch.Generator:
    """Return a CPU generator for one place of the scene."""
    state = np.random.SeedSequence((seed, row, col)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def to_tensor(values: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """``(bands, height, width)`` to ``(1, bands, height, width)`` float32, channels last."""
    tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None].to(device)
    return tensor.contiguous(memory_format=torch.channels_last)


#: A distance is in units of its null distance: median + 3 robust standard deviations.
NULL_DEVIATIONS = 3.0
#: Null distances are not smaller than this, in scene standard deviations: differences that small are
#: rounding and resampling.
LEAST_NULL = 0.05


def null_distance(distance: Tensor, valid: Tensor) -> float:
    """Return the distance below which a chip's own bulk of pixels lies: median + 3 x 1.4826 MAD."""
    values = distance[valid > 0.5]
    median = values.median()
    spread = 1.4826 * (values - median).abs().median()
    return max(float(median + NULL_DEVIATIONS * spread), LEAST_NULL)


@dataclasses.dataclass(frozen=True)
class ReferenceDetector:
    """The published method: VGG16 and the residual generator, optimised on every tile from the start.

    80 steps of Adam at 1e-4 on L = sum over scales of (L_s + L_d) + consistency + regulariser, all
    weights 1, P gated at 0.5. Departures from the reference implementation, beside those that
    :mod:`geocd.losses` and :class:`~geocd.networks.ResidualGenerator` name:

    * Both networks are optimised (there, the extractor never reaches the optimiser).
    * The last iteration is kept, not the one with the best score against the labels, and the decision
      is P = 0.5, not a threshold set by hand for each image.
    * Scene-wide robust z-scores replace its chain of linear matching, min-max (which undoes the
      matching) and a polynomial that mixes neighbouring pixels as if they were bands.
    * Each distance is divided by its null distance on this tile (:func:`null_distance`), and the mean
      over image and scales replaces the sum. With the regulariser, the published loss is a fixed
      threshold near 1 on the summed distance; that number fits one image. In units of the null
      distance it is where a distance leaves the bulk.
    * Seeded; weights load strictly.
    """

    radiometry: Radiometry
    settings: MethodSettings
    weights: dict[str, Tensor] | None
    device: torch.device

    #: Every tile is optimised by itself, so no part of it agrees exactly with its neighbour's: blend
    #: over all of the overlap.
    margin = 0

    @classmethod
    def fit(cls, chips: Sequence[Chip], settings: MethodSettings) -> ReferenceDetector:
        """Take the scene's radiometry and the starting weights; nothing is learned yet."""
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
        return cls(radiometry, settings, weights, device)

    def prob(self, chip: Chip) -> FloatArray:
        """Optimise both networks on a chip and return its change probability, ``(1, height, width)``."""
        if not chip.valid.any():
            return np.full((1, *chip.valid.shape), np.nan, np.float32)
        return np.where(chip.valid, self._optimise(chip), np.float32(np.nan))[None]

    def _optimise(self, chip: Chip) -> FloatArray:
        assert self.settings.iterations is not None  # resolved by the preset
        assert self.settings.learning_rate is not None
        place = int(chip.window.row_off), int(chip.window.col_off)
        random = seeded(self.settings.seed, *place)
        one, two = self.radiometry.apply(chip)
        x1, x2 = to_tensor(one, self.device), to_tensor(two, self.device)
        valid = to_tensor(chip.valid[None], self.device)

        generator = ResidualGenerator(len(one))
        extractor = Vgg16Features(len(one))
        initialise(generator, random)
        initialise(extractor, random)
        if self.weights is not None:
            load_weights(extractor, self.weights, str(self.settings.weights))
        networks = torch.nn.ModuleList([generator, extractor])
        networks.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.Adam(networks.parameters(), lr=self.settings.learning_rate)

        d0 = losses.image_distance(x1, x2)
        nulls: list[float] = []
        for _ in range(self.settings.iterations):
            prob = generator(x1, x2)
            features1, features2 = extractor(x1), extractor(x2)
            distances = [d0, *losses.feature_distances(features1, features2, valid)]
            scales = [(losses.to_scale(valid, d) > 0.5).to(d.dtype) for d in distances]
            if not nulls:
                nulls = [
                    null_distance(d.detach(), v) if (v > 0.5).any() else LEAST_NULL
                    for d, v in zip(distances, scales, strict=True)
                ]
            terms = []
            for distance, null, v in zip(distances, nulls, scales, strict=True):
                p = losses.to_scale(prob, distance)
                terms.append(losses.similarity(p, distance / null, v, gated=True))
                terms.append(losses.dissimilarity(p, distance / null, v, gated=True))
            jittered = extractor(losses.radiometric_jitter(x2, random) * valid)
            loss = (
                torch.stack(terms).sum() / len(distances)
                + losses.consistency(features2, jittered, valid)
                + losses.regulariser(prob, valid)
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.no_grad():
            result: FloatArray = generator(x1, x2)[0, 0].cpu().numpy()
        return result


#: Distance at which the decision lies, and the slopes of the probability on both sides of it.
DECISION, SLOPE_BELOW, SLOPE_ABOVE = 1.9, 4.0, 1.0


@dataclasses.dataclass(frozen=True)
class DefaultDetector:
    """The default: closed-form features of the scene, and a calibrated probability."""

    features: LinearFeatures

    @classmethod
    def fit(cls, chips: Sequence[Chip], pair: Pair, settings: MethodSettings) -> DefaultDetector:
        """Fit everything to a sample of the scene."""
        features = LinearFeatures.fit(
            chips,
            colour=colour_bands(pair.band_names),
            pixel_size=pair.grid.pixel_size,
            seed=settings.seed,
        )
        return cls(features)

    @property
    def margin(self) -> int:
        """Pixels around a pixel that its probability depends on."""
        return self.features.margin

    def prob(self, chip: Chip) -> FloatArray:
        """Return the change probability, ``(1, height, width)`` float32, NaN where not valid."""
        if not chip.valid.any():
            return np.full((1, *chip.valid.shape), np.nan, np.float32)
        prob = logistic_prob(self.features.distance(chip), DECISION, SLOPE_BELOW, SLOPE_ABOVE)
        return np.where(chip.valid, prob, np.float32(np.nan))[None]


def fit(chips: Sequence[Chip], pair: Pair, settings: MethodSettings) -> ReferenceDetector | DefaultDetector:
    """Fit the learned method to a sample of the scene, as the preset says."""
    if settings.preset == "reference":
        return ReferenceDetector.fit(chips, settings)
    return DefaultDetector.fit(chips, pair, settings)
