"""Chips in the units of the scene, and the sample of them that the distances are fitted to."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from geocd.method.devices import CPU, constants, in_pieces, on_device, sent
from geocd.method.extractor import Extractor
from geocd.method.filters import gaussian, radius
from geocd.method.lattice import Lattice, Stack
from geocd.raster.features import FeatureChip
from geocd.raster.pair import Chip
from geocd.scene.radiometry import BandScale, Radiometry
from geocd.types import Float32Array

#: IR-MAD gets visible bands whose clipping is wider: its weights need the tails.
IRMAD_PERCENTILES = (0.2, 99.8)
#: Standard deviation, in pixels, of the window that fills holes from their surroundings.
FILL = 4.0
#: Widest window over all bands, and the strides of the lattices that it is computed on.
WIDEST, STRIDES = 4.0, (2, 4)
#: The same in places, for those without features.
HOLE = 1.0
#: At most so many valid pixels of the sample are drawn for the statistics of the distances.
FIT_PIXELS = 60_000
#: At most so many valid pixels are used for limits, means and deviations of the bands.
SCALE_PIXELS = 524_288

T = TypeVar("T")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class FeatureMaps:
    """Features of both dates on one lattice of places, which are squares of pixels, over a chip.

    Attributes
    ----------
    before, after : Tensor, (channels, rows, cols), float32
    stride : int
        Pixels along the side of a place.
    offset : tuple of int
        Pixels from the corner of the first place to that of the chip, down and to the right.
    shape : tuple of int
        Height and width of the chip.
    valid : Tensor, (rows, cols), bool, optional
        Places that have features; None where all have.
    """

    before: Tensor
    after: Tensor
    stride: int
    offset: tuple[int, int]
    shape: tuple[int, int]
    valid: Tensor | None = None

    def interpolated(self, values: Tensor) -> Tensor:
        """Return a map of places, ``(rows, cols)``, at every pixel, ``(height, width)``: bilinearly.

        Where a place has no features, it has what is around it.
        """
        (top, left), (height, width) = self.offset, self.shape
        if self.valid is not None:
            values = torch.where(self.valid, values, gaussian(values, HOLE, self.valid))
        if self.stride > 1:
            values = F.interpolate(
                values[None, None], scale_factor=self.stride, mode="bilinear", align_corners=False
            )[0, 0]
        return values[top : top + height, left : left + width].contiguous()

    def valid_places(self, valid: Tensor) -> Tensor:
        """Return where most pixels of a place are valid, ``(rows, cols)`` bool.

        Parameters
        ----------
        valid : Tensor, (height, width), bool
            Of the chip.
        """
        (top, left), (rows, cols) = self.offset, self.before.shape[1:]
        below, right = (
            count * self.stride - begin - size
            for count, begin, size in zip((rows, cols), self.offset, self.shape, strict=True)
        )
        padded = F.pad(valid[None, None].float(), (left, right, top, below))
        places = F.avg_pool2d(padded, self.stride)[0, 0] > 0.5
        return places if self.valid is None else places & self.valid


@dataclasses.dataclass(frozen=True)
class ScaledPair:
    """A chip in the units of the scene, on the device that computes.

    Attributes
    ----------
    z1, z2 : Tensor, (bands, height, width), float32
        Z-scores of all bands of before and after, clipped narrowly; holes are filled from around them.
    u1, u2 : Tensor, (up to 3, height, width), float32
        The same of the visible bands, clipped widely.
    valid : Tensor, (height, width), bool
    whole : bool
        Whether all of it is valid.
    colour_indexes : tuple of int
        Positions of the colour bands in ``z1`` and ``z2``, from 0.
    origin : tuple of int
        Row and column of its first pixel in the scene, to which the lattice of the features belongs.
    extractor : Extractor or None
        D-FE, on the device of the tensors; None without deep distances.
    depth : int
        Levels of it that are needed.
    rasters : FeatureMaps or None
        Features that were made elsewhere.
    """

    z1: Tensor
    z2: Tensor
    u1: Tensor
    u2: Tensor
    valid: Tensor
    whole: bool
    colour_indexes: tuple[int, ...]
    origin: tuple[int, int] = (0, 0)
    extractor: Extractor | None = None
    depth: int = 0
    rasters: FeatureMaps | None = None

    @cached_property
    def colour(self) -> tuple[Tensor, Tensor]:
        """Colour bands of ``z1`` and ``z2``: two tensors, (up to 4, height, width), float32."""
        indexes = list(self.colour_indexes)
        return self.z1[indexes], self.z2[indexes]

    def stack(self, rows: slice = slice(None)) -> Stack:
        """Return all bands of ``z1``, then those of ``z2``, for windows of up to ``WIDEST``."""
        return Stack.of((self.z1, self.z2), self.origin, WIDEST, max(STRIDES), rows)

    def lattice(self, stride: int) -> Lattice:
        """Return every ``stride``-th row and column of the scene, over the chip."""
        return Lattice(self.origin, self.shape, stride)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.valid.shape
        return height, width

    @cached_property
    def features(self) -> list[FeatureMaps]:
        """Features of D-FE of both dates: one for each level needed."""
        assert self.extractor is not None
        stride, (height, width) = self.extractor.LEVELS[self.depth - 1].stride, self.shape
        top, left = (start % stride for start in self.origin)
        padding = left, -(left + width) % stride, top, -(top + height) % stride
        dates = (self._features(z, padding) for z in (self.z1, self.z2))
        return [
            FeatureMaps(before, after, level.stride, (top, left), (height, width))
            for before, after, level in zip(*dates, self.extractor.LEVELS, strict=False)
        ]

    def _features(self, z: Tensor, padding: tuple[int, ...]) -> list[Tensor]:
        assert self.extractor is not None
        colour = list(self.colour_indexes)
        if len(colour) == 4:  # colour infrared: water and vegetation differ in it far more than in blue
            bands = [colour[3], *colour[:2]]
        else:  # of one or two bands a grey image
            bands = colour if len(colour) == 3 else colour[:1] * 3
        padded = F.pad(z[bands][None], padding, mode="replicate")
        maps = self.extractor(padded.contiguous(memory_format=torch.channels_last), self.depth)
        return [values[0].float() for values in maps]

    @property
    def weight(self) -> Tensor | None:
        """``valid`` as :func:`geocd.method.filters.gaussian` takes it: None where all is valid."""
        return None if self.whole else self.valid

    def part(self, rows: slice, cols: slice, *, deep: bool = False) -> ScaledPair:
        """Return some rows and columns, with D-FE or without deep features: views, not copies."""
        z1, z2, u1, u2 = (values[:, rows, cols] for values in (self.z1, self.z2, self.u1, self.u2))
        origin = self.origin[0] + (rows.start or 0), self.origin[1] + (cols.start or 0)
        network = (self.extractor, self.depth) if deep else (None, 0)
        valid = self.valid[rows, cols]
        return ScaledPair(z1, z2, u1, u2, valid, self.whole, self.colour_indexes, origin, *network)

    def uncached(self) -> ScaledPair:
        """Return a copy of the same tensors; what it caches is freed with it.

        Deep features that this pair has already are shared: of the sample they are needed more than once.
        """
        pair = dataclasses.replace(self)
        if "features" in vars(self):
            vars(pair)["features"] = self.features
        return pair


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Brings chips into the units of the scene.

    Attributes
    ----------
    narrow, wide : Radiometry
        Clipped z-scores: of all bands, and, clipped more widely, of the visible bands.
    colour : tuple of int
        Colour bands, from 0: red, green, blue and, where there is one, near infrared.
    extractor : Extractor or None
        D-FE; None without deep distances.
    depth : int
        Levels of it that are needed.
    """

    narrow: Radiometry
    wide: Radiometry
    colour: tuple[int, ...]
    extractor: Extractor | None = None
    depth: int = 0

    #: Pixels around a hole that fill it.
    REACH = radius(FILL)

    @classmethod
    def fit(
        cls, chips: Sequence[Chip], colour: Sequence[int], extractor: Extractor | None = None, depth: int = 0
    ) -> Scaling:
        """Fit to a sample of the scene with at least one valid pixel."""
        narrow = Radiometry.fit(chips, most=SCALE_PIXELS)
        wide = Radiometry.fit(chips, IRMAD_PERCENTILES, colour[:3], most=SCALE_PIXELS)
        return cls(narrow, wide, tuple(colour), extractor if depth else None, depth)

    def apply(self, chip: Chip, device: torch.device = CPU) -> ScaledPair:
        """Return a chip in the units of the scene, on a device, which has the extractor."""
        valid, whole = sent(chip.valid, device), bool(chip.valid.all())
        before, after = self._sent(chip.before, 0, device), self._sent(chip.after, 1, device)
        values = torch.cat([before[0], after[0], before[1], after[1]])
        if not whole:  # the zeros of holes would be an edge, and texture
            values = torch.where(valid, values, 0.0)
            values = torch.where(valid, values, gaussian(values, FILL, valid))
        bands, visible = len(chip.before), len(self.colour[:3])
        z1, z2, u1, u2 = torch.split(values, [bands, bands, visible, visible])
        origin = int(chip.window.row_off), int(chip.window.col_off)
        extractor = None if self.extractor is None else on_device(self.extractor, device)
        rasters = None if chip.features is None else raster_maps(chip, chip.features, device)
        return ScaledPair(z1, z2, u1, u2, valid, whole, self.colour, origin, extractor, self.depth, rasters)

    def _sent(self, values: npt.NDArray[np.generic], date: int, device: torch.device) -> list[Tensor]:
        """Return one date in both scales, ``(bands, height, width)`` float32, from its stored values.

        As whole numbers of 16 bits they are half the bytes; scaled on the device, two at a time.
        """
        scales = [(scale.before, scale.after)[date] for scale in (self.narrow, self.wide)]
        visible = list(self.colour[:3])
        if values.dtype not in EXACT:  # in float32 they would lose digits
            return [
                sent(scale.apply(part), device)
                for scale, part in zip(scales, (values, values[visible]), strict=True)
            ]

        def make() -> list[Float32Array]:
            return [array for scale in scales for array in _in_float32(scale)]

        arrays = constants(scales[0], device, make)
        if device.type not in ("cpu", "cuda"):  # MPS knows fewer types
            values = values.astype(np.float32)
        elif not in_pieces(device):
            values = _in_16_bits(values)
        numbers = sent(values, device).to(torch.float32)
        scaled = []
        for part, (low, high, mean, rest, gain) in ((numbers, arrays[:5]), (numbers[visible], arrays[5:])):
            scaled.append(torch.clamp(part, low, high).sub_(mean).sub_(rest).mul_(gain))
        return scaled


def raster_maps(chip: Chip, features: FeatureChip, device: torch.device) -> FeatureMaps:
    """Return features that were made elsewhere, on a device."""
    before, after = sent(features.before, device), sent(features.after, device)
    offset = (
        int(chip.window.row_off) - features.row * features.stride,
        int(chip.window.col_off) - features.col * features.stride,
    )
    valid = None if features.valid.all() else sent(features.valid, device)
    return FeatureMaps(before, after, features.stride, offset, chip.valid.shape, valid)


@dataclasses.dataclass(frozen=True)
class EmbeddingScaling:
    """Stands for :class:`Scaling` where the bands are features themselves: they are taken as they are."""

    colour: tuple[int, ...] = ()
    extractor: Extractor | None = None

    #: Holes are filled in the finished map.
    REACH = 0

    def apply(self, chip: Chip, device: torch.device = CPU) -> ScaledPair:
        """Return a chip on a device, without any image."""
        before, after, valid = (sent(values, device) for values in (chip.before, chip.after, chip.valid))
        none, whole = before[:0].float(), bool(chip.valid.all())
        origin = int(chip.window.row_off), int(chip.window.col_off)
        maps = FeatureMaps(before.float(), after.float(), 1, (0, 0), chip.valid.shape)
        return ScaledPair(none, none, none, none, valid, whole, (), origin, rasters=maps)


#: Types whose values are exact in float32.
EXACT = tuple(map(np.dtype, ("uint8", "int8", "uint16", "int16", "float32")))


def _in_16_bits(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return values as whole numbers of 16 bits where that changes none of them, else as they are."""
    for dtype in (np.uint16, np.int16):
        with np.errstate(invalid="ignore"):
            numbers = values.astype(dtype)
        if np.array_equal(numbers, values):
            return numbers
    return values


def _in_float32(scale: BandScale) -> list[Float32Array]:
    """Return limits, mean and gain for float32: the mean in two parts, since its digits count."""
    mean = scale.mean.astype(np.float32)
    rest = scale.mean - mean
    arrays = scale.low, scale.high, mean, rest, scale.gain
    return [np.asarray(values, np.float32)[:, None, None] for values in arrays]


#: Describes both dates of a chip: two tensors, (channels, height, width).
Features = Callable[[ScaledPair], tuple[Tensor, Tensor]]


@dataclasses.dataclass(frozen=True)
class FitSample:
    """What the distances are fitted to: scaled chips of the scene, and pixels drawn from them.

    Attributes
    ----------
    pairs : list of ScaledPair
    picks : list of Tensor, (n,), int64
        Flat indexes of the pixels drawn from each chip; all are valid.
    seed : int
        Seed of what a fit draws.
    jobs : int
        Chips computed at a time.
    """

    pairs: list[ScaledPair]
    picks: list[Tensor]
    seed: int
    jobs: int

    @classmethod
    def draw(
        cls,
        chips: Sequence[Chip],
        scaling: Scaling | EmbeddingScaling,
        *,
        seed: int,
        jobs: int,
        device: torch.device,
    ) -> FitSample:
        """Scale chips on a device and draw about ``FIT_PIXELS`` of their valid pixels."""
        picks = [torch.from_numpy(pick).to(device) for pick in _pick(chips, np.random.default_rng(seed))]
        pairs = parallel(lambda chip: scaling.apply(chip, device), chips, jobs)
        return cls(pairs, picks, seed, jobs)

    def rows(self, features: Features) -> tuple[Float32Array, Float32Array]:
        """Return features of the drawn pixels of both dates, two arrays ``(n, channels)`` float32."""

        def picked(item: tuple[ScaledPair, Tensor]) -> list[Tensor]:
            pair, pick = item
            return [values.flatten(1).index_select(1, pick) for values in features(pair.uncached())]

        chips = parallel(picked, list(zip(self.pairs, self.picks, strict=True)), self.jobs)
        before, after = (torch.cat(date, 1).T.cpu().numpy() for date in zip(*chips, strict=True))
        return before, after

    def valid_values(self, maps: Sequence[Tensor]) -> Float32Array:
        """Return the valid pixels of one map ``(height, width)`` for each chip, one chip after the other."""
        return torch.cat([m[pair.valid] for m, pair in zip(maps, self.pairs, strict=True)]).cpu().numpy()


def parallel(function: Callable[[T], R], items: Sequence[T], jobs: int) -> list[R]:
    """Return the function of every item, in order; torch's operators release the interpreter lock."""
    if jobs == 1 or len(items) == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(jobs, thread_name_prefix="geocd-fit") as pool:
        return list(pool.map(function, items))


def _pick(chips: Sequence[Chip], random: np.random.Generator) -> list[npt.NDArray[np.intp]]:
    """Return flat indexes of up to ``FIT_PIXELS`` valid pixels, from each chip in proportion to its own."""
    total = sum(int(chip.valid.sum()) for chip in chips)
    picks = []
    for chip in chips:
        indexes = np.flatnonzero(chip.valid)
        count = min(len(indexes), math.ceil(FIT_PIXELS * len(indexes) / total))
        picks.append(random.choice(indexes, count, replace=False))
    return picks
