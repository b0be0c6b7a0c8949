"""The distances between the dates: one table entry each, and the functions they are made of.

Each distance is blind to something the others see. Each is taken over a window, because single pixels cannot
tell a new building from a field in another season. What tells change apart depends on how much ground a pixel
covers, so each distance has weights by pixel size. To add a distance, add an entry to :data:`TERMS`: weights,
scale, gate, margins, uncertainty and the list in the documentation follow from it.

The constants were chosen on the labelled public pairs, one setting for all; ``docs/method.md`` says how each
was measured.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from geocd.method import devices
from geocd.method.deep import DeepChange, LevelMaps
from geocd.method.extractor import Level
from geocd.method.filters import gaussian, greatest, least, radius
from geocd.method.irmad import IrMad
from geocd.method.lattice import Stack
from geocd.method.residual import Classes, ClassResidual, longest
from geocd.method.scaled import STRIDES, WIDEST, FeatureMaps, Features, FitSample, ScaledPair
from geocd.raster.features import MOST_PIXELS
from geocd.types import Float32Array

#: Standard deviations of Gaussian windows, in pixels: of finished distances, of the two texture scales, of
#: the gradient and its energy, of the bands near a pixel and in its surroundings, of the deep distances.
SMOOTH = 1.5
TEXTURE = (2.0, 5.0)
GRADIENT, ENERGY = 2.0, 6.0
NEAR, AROUND, ROUGHNESS = 0.7, WIDEST, 3.0
#: Rows whose classes are computed at a time on a CPU.
ROWS = 128
#: Strides of the lattices of the scene on which wide windows are computed.
FINE, COARSE = STRIDES
SHALLOW, MIDDLE = 1.5, 1.0
#: Pixel sizes, in metres, that a term has a weight for. Between them it goes with the logarithm of the size,
#: beyond them it stays; a size that is not known counts as UNKNOWN_SIZE.
SIZES = (2.0, 10.0, 30.0)
UNKNOWN_SIZE = 10.0
#: A smaller weight counts as none: pixels of 9.99 m shall not cost a distance that hardly counts.
LEAST_WEIGHT = 0.1
#: For IR-MAD on scaled bands: limit of the canonical correlations, and ridge.
IRMAD_MAX_CORRELATION = 0.97
IRMAD_RIDGE = 1e-3

#: Distance of a scaled chip, (height, width) float32, 0 or more, in its own units. It travels to workers, so
#: it must be picklable: a function of a module, or an instance of a class of one.
Distance = Callable[[ScaledPair], Tensor]


@dataclasses.dataclass(frozen=True)
class Term:
    """One distance of the weighted sum.

    Attributes
    ----------
    name : str
    weights : tuple of float
        Weights in the sum at pixels of ``SIZES``; 0 where it is not needed.
    typical_std : float
        Typical standard deviation over real pairs, in the distance's own units.
    narrow : bool
        Whether its window is narrow: the gate looks at these distances only.
    edges : bool
        Whether it sees edges and not smooth brightening, such as a veil of haze.
    limited_by : str or None
        Name of a distance: it counts for no more deviations than that.
    reach : int
        Pixels around a pixel that its distance depends on, all windows included; of a deep distance without
        the reach of its level.
    description : str
        One line for the documentation.
    level : int or None
        Of a deep distance: level of the extractor, from 0.
    stride : tuple of int or None
        Of a distance between features that were made elsewhere: least and greatest width of their places, in
        pixels, for which it is meant.
    fit : callable
        ``fit(sample)`` fits it to a :class:`~geocd.method.scaled.FitSample` and returns the distance, a
        callable that takes a :class:`~geocd.method.scaled.ScaledPair`.
    """

    name: str
    weights: tuple[float, float, float]
    typical_std: float
    narrow: bool
    reach: int
    description: str
    fit: Callable[[FitSample], Distance]
    level: int | None = None
    stride: tuple[int, int] | None = None
    edges: bool = False
    limited_by: str | None = None

    @property
    def deep(self) -> bool:
        """Whether it compares features, of D-FE or made elsewhere, whose surroundings are wide."""
        return self.level is not None or self.stride is not None

    def weight(self, pixel_size: float | None) -> float:
        """Return the weight in the sum for a pixel size in metres: 0, or ``LEAST_WEIGHT`` or more."""
        position = math.log(pixel_size or UNKNOWN_SIZE)
        weight = float(np.interp(position, np.log(SIZES), self.weights))
        return weight if weight >= LEAST_WEIGHT else 0.0

    def margin(self, levels: Sequence[Level]) -> int:
        """Return how many pixels around a pixel its distance depends on, with these levels of D-FE."""
        return self.reach + (0 if self.level is None else levels[self.level].reach)

    def included(self, pixel_size: float | None, depth: int, stride: int | None) -> bool:
        """Return whether it is in the sum.

        Parameters
        ----------
        pixel_size : float or None
            In metres; None where it is not known.
        depth : int
            Levels that D-FE has; 0 without one.
        stride : int or None
            Width of the places of features that were made elsewhere, in pixels; None without any.
        """
        if self.level is not None and self.level >= depth:
            return False
        if self.stride is not None and (stride is None or not self.stride[0] <= stride <= self.stride[1]):
            return False
        return self.weight(pixel_size) > 0


def unfitted(distance: Distance) -> Callable[[FitSample], Distance]:
    """Return the ``fit`` of a distance that has nothing to fit."""
    return lambda sample: distance


def finished(values: Tensor, pair: ScaledPair) -> Tensor:
    """Return a map under the last window of most distances."""
    return gaussian(values, SMOOTH, pair.weight)


def image_difference(pair: ScaledPair) -> Tensor:
    """Root mean square difference of the clipped z-scores, times 2."""
    before, after = pair.colour
    return finished((before - after).square_().mean(dim=0).sqrt_().mul_(2), pair)


def visible(pair: ScaledPair) -> tuple[Tensor, Tensor]:
    """Return the visible bands of both dates."""
    return pair.u1, pair.u2


def textures(pair: ScaledPair, stride: int = 1) -> tuple[Tensor, Tensor]:
    """Return the log of local deviations of the colour bands at two scales, on a lattice."""
    stack = Stack.of(pair.colour, pair.origin, max(TEXTURE), stride)
    squared, bands = stack.squared(), len(pair.colour[0])
    scales = [stack.deviation(sigma, stride, squared).add_(0.05).log_().permute(2, 0, 1) for sigma in TEXTURE]
    before, after = (torch.cat([scale[date] for scale in scales]) for date in _dates(bands))
    return before, after


def _dates(bands: int) -> tuple[slice, slice]:
    """Return the channels of both dates in a stack of them."""
    return slice(0, bands), slice(bands, 2 * bands)


def chi(irmad: IrMad, x: Tensor, y: Tensor) -> Tensor:
    """As :meth:`geocd.method.irmad.IrMad.chi`, in float32 on any device: these bands are scaled already."""

    def make() -> list[Float32Array]:
        of_deviation = 1 / np.sqrt(irmad.variance)
        arrays = (irmad.left.T * of_deviation, -irmad.right.T * of_deviation, -irmad.offset * of_deviation)
        return [values.T.astype(np.float32) for values in arrays]

    left, right, offset = devices.constants(irmad, x.device, make)
    variates = torch.addmm(offset[:, None], left, x.flatten(1)).addmm_(right, y.flatten(1))
    return variates.square_().sum(dim=0).sqrt_().reshape(x.shape[1:])


@dataclasses.dataclass(frozen=True)
class RelationChange:
    """Departure from the linear relation between features of both dates: IR-MAD's chi under a window."""

    irmad: IrMad
    features: Features
    #: Of the lattice of the features.
    stride: int = 1

    @classmethod
    def fitting(
        cls, features: Features, stride: int = 1, on_lattice: Features | None = None
    ) -> Callable[[FitSample], Distance]:
        """Return the ``fit`` of a term that compares these features, in maps those of a lattice."""

        def fit(sample: FitSample) -> RelationChange:
            before, after = sample.rows(features)
            irmad = IrMad.fit(
                before.T.astype(np.float64),
                after.T.astype(np.float64),
                tolerance=2e-3,
                ridge=IRMAD_RIDGE,
                max_correlation=IRMAD_MAX_CORRELATION,
            )
            return cls(irmad, on_lattice or features, stride)

        return fit

    def __call__(self, pair: ScaledPair) -> Tensor:
        """Return the distance, ``(height, width)`` float32."""
        length = chi(self.irmad, *self.features(pair))
        logged = gaussian(length, 1 / self.stride).log1p_()
        return finished(pair.lattice(self.stride).at_pixels(logged), pair)


def gradient_energy(pair: ScaledPair) -> Tensor:
    """Root of the mean squared gradient of the difference, per four colour bands; on the lattice ``FINE``."""
    before, after = pair.colour
    stack = Stack.of([before - after], pair.origin, GRADIENT, FINE)
    slopes = stack.gradient(GRADIENT, FINE).square_()
    energy = slopes @ slopes.new_ones(slopes.shape[2])  # their sum, which is slow over the last axis
    return pair.lattice(FINE).at_pixels(gaussian(energy, ENERGY / FINE).mul_(4 / len(before)).sqrt_())


def contexts(pair: ScaledPair) -> tuple[Tensor, Tensor]:
    """Describe pixels for their class, in both dates: bands at two scales, and texture.

    Returns
    -------
    before, after : Tensor, (2 bands + 1, height, width), float32
    """
    stack = pair.stack()
    close, wide = stack.gaussian(1).permute(2, 0, 1), wide_context(stack, 1)
    before, after = (
        torch.cat([close[date], wide[2:][date], wide[index][None]])
        for index, date in enumerate(_dates(len(pair.z1)))
    )
    return before, after


def wide_context(stack: Stack, stride: int) -> Tensor:
    """Return texture and wide means of both dates on a lattice, ``(2 + 2 bands, rows, cols)``."""
    deviation = stack.deviation(ROUGHNESS, stride, stack.squared())
    rough = torch.stack([deviation[:, :, date].mean(dim=2) for date in _dates(deviation.shape[2] // 2)])
    around = stack.gaussian(AROUND, stride).mul_(0.7).permute(2, 0, 1)
    return torch.cat([rough.add_(0.05).log_(), around])


def near(pair: ScaledPair) -> tuple[Tensor, Tensor]:
    """Return all bands of both dates under a window that takes the noise off."""
    values = pair.stack().gaussian(NEAR).permute(2, 0, 1)
    before, after = (values[date] for date in _dates(len(pair.z1)))
    return before, after


@dataclasses.dataclass(frozen=True)
class ClassChange:
    """How unusual one date is given the class of the other, the larger of both directions.

    Attributes
    ----------
    forward, backward : ClassResidual
        After given before, and before given after.
    """

    forward: ClassResidual
    backward: ClassResidual

    @classmethod
    def fit(cls, sample: FitSample) -> ClassChange:
        """Fit both directions to the drawn pixels."""
        before, after = sample.rows(near)
        context_before, context_after = sample.rows(contexts)
        return cls(
            forward=ClassResidual.fit(context_before, before, after, sample.seed),
            backward=ClassResidual.fit(context_after, after, before, sample.seed),
        )

    def __call__(self, pair: ScaledPair) -> Tensor:
        """Return the distance, ``(height, width)`` float32."""
        classes = Classes(*devices.constants(self, pair.z1.device, self._classes))
        height, parts = pair.shape[0], []
        step = ROWS if devices.in_pieces(pair.z1.device) else height
        for begin in range(0, height, step):  # or all bands under all windows are in memory at once
            stack = pair.stack(slice(begin, begin + step))
            coarse = wide_context(stack, COARSE)
            # linear in the context: first the distances, then between the points of the lattice
            rest = torch.addmm(classes.squared[:, None], classes.wide, coarse.flatten(1))
            rest = rest.view(-1, *coarse.shape[1:])
            wide = stack.lattice(COARSE).on(stack.lattice(1), rest)
            parts.append(longest(classes, stack.gaussian(1), wide, stack.gaussian(NEAR)))
        unusual = torch.cat(parts)
        return finished(gaussian(unusual, 1).log1p_(), pair)

    def _classes(self) -> list[Float32Array]:
        """Return the arrays of :class:`~geocd.method.residual.Classes`."""
        forward, backward = self.forward.whitened(), self.backward.whitened()
        residual = np.block([[forward.source, forward.target], [backward.target, backward.source]])
        constant = np.concatenate([forward.constant, backward.constant])
        centres = [direction.centres.astype(np.float64) for direction in (self.forward, self.backward)]
        (count, length), bands = centres[0].shape, residual.shape[1] // 2
        close, wide = np.zeros((2, count, 2 * bands)), np.zeros((2, count, 2 + 2 * bands))
        for date, centre in enumerate(centres):  # in the order of `contexts`
            close[date][:, _dates(bands)[date]] = -2 * centre[:, :bands]
            wide[date][:, 2:][:, _dates(bands)[date]] = -2 * centre[:, bands : length - 1]
            wide[date][:, date] = -2 * centre[:, -1]
        squared = (np.concatenate(centres) ** 2).sum(axis=1)
        arrays = residual, constant, close.reshape(2 * count, -1), wide.reshape(2 * count, -1), squared
        return [values.astype(np.float32) for values in arrays]


def beyond_shift(z1: Tensor, z2: Tensor) -> Tensor:
    """Return the difference that no shift by a pixel, and no blur, can make: ``(height, width)``.

    How far each date lies outside the least and greatest value of the other among the nine pixels around
    the same position; root mean square over bands, twice as ``image``, mean of both directions.
    """

    def outside(x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros_like(x[0])
        for part, other in zip(pieces(x), pieces(y), strict=True):
            gap = torch.maximum(part - greatest(other), least(other) - part).clamp_(min=0)
            for band in gap.view(-1, *total.shape):
                total.addcmul_(band, band)
        return total.div_(len(x)).sqrt_().mul_(2)

    def pieces(z: Tensor) -> Sequence[Tensor]:
        return z.unbind() if devices.in_pieces(z.device) else [z]

    return (outside(z1, z2) + outside(z2, z1)).div_(2)


#: Pixels around a pixel that :func:`beyond_shift`, finished, depends on.
BEYOND_REACH = 1 + radius(SMOOTH)
_LOGGED = radius(1) + radius(SMOOTH)  # windows before and after the logarithm


def made_elsewhere(pair: ScaledPair) -> FeatureMaps:
    """Return features that were made elsewhere."""
    assert pair.rasters is not None
    return pair.rasters


#: Every distance, in the order of the sum. Looked up when it is used.
TERMS: tuple[Term, ...] = (
    Term(
        name="image",
        weights=(1.0, 0.0, 1.0),
        typical_std=0.586,
        narrow=True,
        reach=radius(SMOOTH),
        description="difference of the colour bands: change of colour and brightness",
        fit=unfitted(image_difference),
    ),
    Term(
        name="ir",
        weights=(0.0, 1.0, 1.0),
        typical_std=0.331,
        narrow=True,
        reach=_LOGGED,
        description="IR-MAD on the visible bands: change against any linear relation between the dates",
        fit=RelationChange.fitting(visible),
        limited_by="cc",  # a class that changes as a whole departs from a relation of the scene
    ),
    Term(
        name="tx",
        weights=(1.0, 0.0, 0.0),
        typical_std=0.384,
        narrow=False,
        reach=radius(max(TEXTURE)) + FINE * radius(1 / FINE) + radius(SMOOTH) + FINE - 1,
        description="IR-MAD on the local deviations of the colour bands at two scales: change of texture",
        fit=RelationChange.fitting(textures, FINE, functools.partial(textures, stride=FINE)),
    ),
    Term(
        name="gd",
        weights=(1.0, 1.0, 1.0),
        typical_std=0.099,
        narrow=False,
        reach=radius(GRADIENT) + FINE * radius(ENERGY / FINE) + FINE - 1,
        description="energy of the difference's gradient: edges that come or go, not smooth brightening",
        fit=unfitted(gradient_energy),
        edges=True,
    ),
    Term(
        name="cc",
        weights=(1.0, 1.0, 1.0),
        typical_std=0.244,
        narrow=True,
        reach=radius(AROUND) + COARSE - 1 + _LOGGED,
        description="how unusual one date is given the class of the other: a whole class may change together",
        fit=ClassChange.fit,
    ),
    Term(
        name="shallow",
        weights=(0.0, 1.0, 1.0),
        typical_std=0.203,
        narrow=True,
        reach=radius(SHALLOW),
        description="deep features at stride 2 under the metric of the pair: materials and fine structure",
        fit=DeepChange.fitting(LevelMaps(0), SHALLOW),
        level=0,
    ),
    Term(
        name="middle",
        weights=(0.0, 1.0, 0.0),
        typical_std=0.167,
        narrow=False,
        reach=radius(MIDDLE),
        description="deep features at stride 8 under the metric of the pair: arrangement of the surroundings",
        fit=DeepChange.fitting(LevelMaps(1), MIDDLE),
        level=1,
    ),
    # Rasters of features count as the level of D-FE whose places are nearest in size.
    Term(
        name="fine",
        weights=(1.0, 1.0, 1.0),
        typical_std=0.203,
        narrow=True,
        reach=radius(SHALLOW),
        description="features made elsewhere, of places up to 4 pixels wide, under the metric of the pair",
        fit=DeepChange.fitting(made_elsewhere, SHALLOW),
        stride=(1, 4),
    ),
    Term(
        name="coarse",
        weights=(1.0, 1.0, 1.0),
        typical_std=0.167,
        narrow=False,
        reach=radius(MIDDLE),
        description="features made elsewhere, of larger places, under the metric of the pair",
        fit=DeepChange.fitting(made_elsewhere, MIDDLE),
        stride=(5, MOST_PIXELS),
    ),
)
