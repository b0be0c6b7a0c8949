"""The closed-form feature extractor: linear features with spatial context, and the distance they give.

The first member of D-FE, fitted to the pair in seconds and without iterations over the raster. Six
distances between the dates, each blind to something the others see; each is taken over a window, because
single pixels cannot tell a new building from a field in another season. Divided by their scale and summed
they are the distance that the learned part starts from.

========= ======================================================================================
``image`` root mean square difference of the clipped z-scores (the loss's image term)
``ir``    IR-MAD on the visible bands: change against any linear relation between the dates
``tx``    IR-MAD on the local deviations of the bands at two scales: change of texture
``gd``    energy of the difference's gradient: edges that came or went, not smooth brightening
``cc``    how unusual one date is given the class of the other: a whole class may change together
``ln``    one minus the local correlation: change of pattern, whatever its contrast
========= ======================================================================================

The constants were chosen on the labelled public pairs, one setting for all; ``docs/method.md`` says how
each was measured.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy import linalg
from scipy.cluster import vq
from torch import Tensor

from geocd.devices import CPU, sent
from geocd.distances import IrMad
from geocd.normalize import Radiometry, crops
from geocd.raster import Chip
from geocd.types import Float32Array
from geocd.windows import gaussian, gradient, greatest, least, local_deviation, radius

#: Weights of the sum, and the typical standard deviation of each distance over real pairs.
WEIGHTS = {"image": 1.0, "ir": 1.0, "tx": 1.0, "gd": 0.7, "cc": 0.7, "ln": 0.4}
TYPICAL_STD = {"image": 0.586, "ir": 0.331, "tx": 0.384, "gd": 0.099, "cc": 0.244, "ln": 0.406}
#: A pair's own deviation counts as between these shares of the typical one. A pair in which nothing
#: changed has small deviations, and dividing by them would turn its noise into change; one in which half
#: changed has large ones, and dividing by them would hide the change.
STD_RANGE = (0.7, 1.6)
#: No single distance counts for more than this many deviations, and the sum no more than GATE above that
#: of the three distances with narrow windows: wide windows alone would draw a halo around each change.
CAP, GATE = 4.0, 0.5
NARROW = ("image", "ir", "cc")
#: And no more than BEYOND[0] + BEYOND[1] times what lies beyond a shift by one pixel (``beyond_shift``):
#: misregistration and blur make differences at every edge, but hardly any of this kind.
BEYOND = (0.2, 8.0)
#: The zero of each distance is its median over the pixels below KEEP, found in so many rounds, so that a
#: large change does not raise it.
KEEP, ROUNDS = 1.2, 6
#: IR-MAD looks at visible bands whose clipping is wider: its weights need the tails.
IRMAD_PERCENTILES = (0.2, 99.8)
IRMAD_MAX_CORRELATION = 0.97
IRMAD_RIDGE = 1e-3
#: Deviations of windows, in pixels: of the finished distances, of the two texture scales, of the
#: gradient and its energy, of the local correlation.
SMOOTH = 1.5
TEXTURE = (2.0, 5.0)
GRADIENT, ENERGY = 2.0, 6.0
PATTERN = 3.0
#: Deviation of the window, in pixels, that fills holes from their surroundings.
FILL = 4.0
#: Objects that people map are some metres wide: on finer pixels the sum is smoothed until its window is
#: this many metres (within OBJECT_PIXELS), which makes it smaller; OBJECT_GAIN makes up for that.
OBJECT_METRES, OBJECT_PIXELS, OBJECT_GAIN = 9.0, (2.0, 8.0), 0.15
CLASSES = 8
#: Pixels whose windows are computed for the fit, and the valid ones among them that the fit sees.
FIT_AREA, FIT_PIXELS = 524_288, 60_000


T = TypeVar("T")
R = TypeVar("R")


def parallel(function: Callable[[T], R], items: Sequence[T], jobs: int) -> list[R]:
    """Return the function of every item, in order; torch's operators release the interpreter lock."""
    if jobs == 1 or len(items) == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(jobs, thread_name_prefix="geocd-fit") as pool:
        return list(pool.map(function, items))


def texture(z: Tensor) -> Tensor:
    """Log of the local deviations at two scales: ``(bands, h, w)`` to ``(2 bands, h, w)``."""
    return torch.cat([local_deviation(z, sigma).add_(0.05).log_() for sigma in TEXTURE])


def surroundings(z: Tensor) -> Tensor:
    """What the class of a place is known by: its bands near and around it, and its texture."""
    rough = local_deviation(z, 3).mean(dim=0, keepdim=True).add_(0.05).log_()
    return torch.cat([gaussian(z, 1), gaussian(z, 4).mul_(0.7), rough])


def gradient_energy(z1: Tensor, z2: Tensor) -> Tensor:
    """Root of the mean squared gradient of the difference, per four bands."""
    energy = torch.zeros_like(z1[0])
    for one, two in zip(z1, z2, strict=True):
        for slope in gradient(one - two, GRADIENT):
            energy.addcmul_(slope, slope)
    return gaussian(energy, ENERGY).mul_(4 / len(z1)).sqrt_()


def pattern_change(z1: Tensor, z2: Tensor) -> Tensor:
    """One minus the local correlation, summed over bands, per four bands.

    The 0.4 that stands beside each variance keeps the correlation of two flat surfaces, which is that of
    their noise, near one.
    """
    total = torch.zeros_like(z1[0])
    for a, b in zip(z1, z2, strict=True):
        mean1, mean2 = gaussian(a, PATTERN), gaussian(b, PATTERN)
        var1 = (gaussian(a * a, PATTERN) - mean1 * mean1).clamp_(min=0).add_(0.4)
        var2 = (gaussian(b * b, PATTERN) - mean2 * mean2).clamp_(min=0).add_(0.4)
        both = (gaussian(a * b, PATTERN) - mean1 * mean2).add_(0.4)
        total += 1 - both / (var1 * var2).sqrt_()
    return total.clamp_(min=0).mul_(4 / len(z1))


def beyond_shift(z1: Tensor, z2: Tensor) -> Tensor:
    """Return the difference that no shift by a pixel, and no blur, can make: ``(height, width)``.

    How far each date lies outside the least and greatest value of the other among the nine pixels around
    the same place; root mean square over bands, twice as ``image``, mean of both directions.
    """

    def outside(x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros_like(x[0])
        for here, there in zip(x, y, strict=True):
            gap = torch.maximum(here - greatest(there), least(there) - here).clamp_(min=0)
            total.addcmul_(gap, gap)
        return total.div_(len(x)).sqrt_().mul_(2)

    return (outside(z1, z2) + outside(z2, z1)).div_(2)


@dataclasses.dataclass(frozen=True)
class ClassResidual:
    """How unusual a target is, given the class and the bands of the same place in the other date.

    Classes by k-means; in each a robust affine prediction of the target and the covariance of its
    residual (re-weighted as under a t-distribution, so that changed pixels do not widen it). What the
    whole class does between the dates is predicted, and only what departs from it remains.

    Attributes
    ----------
    centres : ndarray, (classes, context)
    slopes : ndarray, (classes, bands + 1, bands)
        Affine prediction; the last row is the constant.
    whitening : ndarray, (classes, bands, bands)
    """

    centres: Float32Array
    slopes: Float32Array
    whitening: Float32Array

    @classmethod
    def fit(
        cls, context: Float32Array, source: Float32Array, target: Float32Array, seed: int
    ) -> ClassResidual:
        """Fit to samples in rows: ``(n, context)``, ``(n, bands)`` and ``(n, bands)``."""
        count = min(CLASSES, len(context))
        start = np.random.default_rng(seed).choice(len(context), count, replace=False)
        with warnings.catch_warnings():
            # Of equal places (a constant image) some classes stay empty; their fit is the ridge alone.
            warnings.filterwarnings("ignore", message="One of the clusters is empty")
            centres = vq.kmeans2(context, context[start], iter=15, minit="matrix")[0].astype(np.float32)
        label = vq.vq(context, centres)[0]
        bands = target.shape[1]
        padded = np.concatenate([source, np.ones((len(source), 1), np.float32)], axis=1).astype(np.float64)
        slopes, whitening = [], []
        for k in range(count):
            x, y = padded[label == k], target[label == k].astype(np.float64)
            weight = np.ones(len(x))
            for _ in range(4):
                xw = x * weight[:, None]
                slope = linalg.solve(xw.T @ x + np.eye(bands + 1), xw.T @ y, assume_a="pos")
                residual = y - x @ slope
                # The ridge is what sensors and resampling leave; it also serves classes of few pixels.
                total = 20 + weight.sum()
                covariance = ((residual * weight[:, None]).T @ residual) / total + 0.02 * np.eye(bands)
                whiten = linalg.cholesky(linalg.inv(covariance), lower=True)
                weight = 1 / (1 + ((residual @ whiten) ** 2).mean(axis=1))
            slopes.append(slope)
            whitening.append(whiten)
        return cls(centres, np.asarray(slopes, np.float32), np.asarray(whitening, np.float32))

    def distance(self, context: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Return the Mahalanobis length of the residual, ``(height, width)``, from ``(c, h, w)`` tensors."""
        label = self._labels(context).flatten()
        x, y = source.flatten(1), target.flatten(1)
        slopes, whitening = (torch.from_numpy(a).to(x.device) for a in (self.slopes, self.whitening))
        result = torch.empty_like(x[0])
        for k, (slope, white) in enumerate(zip(slopes, whitening, strict=True)):
            inside = (label == k).nonzero().squeeze(1)
            predicted = slope[:-1].T @ x.index_select(1, inside) + slope[-1, :, None]
            residual = white.T @ (y.index_select(1, inside) - predicted)
            result[inside] = residual.square_().sum(dim=0).sqrt_()
        return result.reshape(source.shape[1:])

    def _labels(self, context: Tensor) -> Tensor:
        """Return the nearest centre of each place; squared distances, less what all have in common."""
        best = torch.full_like(context[0], math.inf)
        label = torch.zeros_like(context[0], dtype=torch.uint8)
        for k, centre in enumerate(self.centres.astype(np.float64)):
            apart = torch.full_like(best, float(centre @ centre))
            for values, place in zip(context, centre.tolist(), strict=True):
                apart.add_(values, alpha=-2 * place)
            label.masked_fill_(apart < best, k)
            best = torch.minimum(best, apart)
        return label


def chi(irmad: IrMad, x: Tensor, y: Tensor) -> Tensor:
    """As :meth:`geocd.distances.IrMad.chi`, in float32 on any device: these bands are scaled already."""
    left, right, offset, variance = (
        torch.from_numpy(values.astype(np.float32)).to(x.device)
        for values in (irmad.left, irmad.right, irmad.offset, irmad.variance)
    )
    variates = left @ x.flatten(1) - right @ y.flatten(1) - offset[:, None]
    return variates.square_().div_(variance[:, None]).sum(dim=0).sqrt_().reshape(x.shape[1:])


@dataclasses.dataclass(frozen=True)
class ScaledPair:
    """A chip in scene units, on the device that computes.

    Attributes
    ----------
    z1, z2 : Tensor, (bands, height, width), float32
        All bands of before and after, clipped narrowly; holes are filled from around them.
    u1, u2 : Tensor, (up to 3, height, width), float32
        The visible bands, clipped widely; likewise.
    valid : Tensor, (height, width), bool
    whole : bool
        Whether all of it is valid.
    """

    z1: Tensor
    z2: Tensor
    u1: Tensor
    u2: Tensor
    valid: Tensor
    whole: bool

    @property
    def weight(self) -> Tensor | None:
        """``valid`` as :func:`geocd.windows.gaussian` takes it."""
        return None if self.whole else self.valid


@dataclasses.dataclass(frozen=True)
class LinearFeatures:
    """The six distances, fitted to a scene.

    Attributes
    ----------
    narrow, wide : Radiometry
        Clipped z-scores: of all bands for all distances but ``ir``; of the visible bands for ``ir``.
    colour : tuple of int
        Bands (from 0) of all distances but ``cc``, which takes all bands; ``ir`` takes the first three.
    spectral, textural : IrMad
    forward, backward : ClassResidual
        After given before, and before given after.
    centre, scale : dict of float
        Zero and unit of each distance, from the scene's sample.
    object_sigma : float
        Deviation of the last window, in pixels; 0 for none.
    """

    narrow: Radiometry
    wide: Radiometry
    colour: tuple[int, ...]
    spectral: IrMad
    textural: IrMad
    forward: ClassResidual
    backward: ClassResidual
    centre: dict[str, float]
    scale: dict[str, float]
    object_sigma: float

    @classmethod
    def fit(
        cls,
        chips: Sequence[Chip],
        *,
        colour: Sequence[int],
        pixel_size: float | None,
        seed: int = 0,
        jobs: int = 1,
        device: torch.device = CPU,
    ) -> tuple[LinearFeatures, list[tuple[ScaledPair, Tensor]]]:
        """Fit to a bounded sample of the scene.

        Parameters
        ----------
        chips : sequence of Chip
            With at least one valid pixel.
        colour : sequence of int
            Bands, from 0: red, green, blue and, where there is one, near infrared.
        pixel_size : float, optional
            Metres; None where it is not known, which means no larger window.
        seed : int
            Seed of the subsample and of the classes.
        jobs : int
            Chips computed at a time on a CPU; the result does not depend on it.
        device : torch.device
            Computes the windows; the statistics are taken on the CPU.

        Returns
        -------
        features : LinearFeatures
        sample : list
            Chips of about ``FIT_AREA`` pixels together, :meth:`scaled`, each with its :meth:`distance`.
        """
        narrow = Radiometry.fit(chips)
        wide = Radiometry.fit(chips, IRMAD_PERCENTILES).select(colour[:3])
        chips = crops(chips, FIT_AREA)
        picks = [torch.from_numpy(pick).to(device) for pick in _pick(chips, np.random.default_rng(seed))]
        jobs = jobs if device.type == "cpu" else 1
        scaled = parallel(lambda chip: _scale(chip, narrow, wide, colour[:3], device), chips, jobs)
        band = list(colour)

        def rows(of: Callable[[ScaledPair], Tensor]) -> Float32Array:
            """The picked pixels of all chips, ``(n, channels)``."""
            parts = zip(parallel(of, scaled, jobs), picks, strict=True)
            return (
                torch.cat([values.flatten(1).index_select(1, pick) for values, pick in parts], 1)
                .T.cpu()
                .numpy()
            )

        def irmad(one: Float32Array, two: Float32Array) -> IrMad:
            return IrMad.fit(
                one.T.astype(np.float64),
                two.T.astype(np.float64),
                tolerance=2e-3,
                ridge=IRMAD_RIDGE,
                max_correlation=IRMAD_MAX_CORRELATION,
            )

        spectral = irmad(rows(lambda s: s.u1), rows(lambda s: s.u2))
        textural = irmad(rows(lambda s: texture(s.z1[band])), rows(lambda s: texture(s.z2[band])))
        before, after = rows(lambda s: gaussian(s.z1, 0.7)), rows(lambda s: gaussian(s.z2, 0.7))
        unscaled = cls(
            narrow=narrow,
            wide=wide,
            colour=tuple(colour),
            spectral=spectral,
            textural=textural,
            forward=ClassResidual.fit(rows(lambda s: surroundings(s.z1)), before, after, seed),
            backward=ClassResidual.fit(rows(lambda s: surroundings(s.z2)), after, before, seed),
            centre=dict.fromkeys(WEIGHTS, 0.0),
            scale=dict.fromkeys(WEIGHTS, 1.0),
            object_sigma=object_sigma(pixel_size),
        )
        found = parallel(unscaled.terms, scaled, jobs)

        def known(maps: Iterable[Tensor]) -> Float32Array:
            """The valid pixels of a map of each chip, one after the other."""
            return torch.cat([m[s.valid] for m, s in zip(maps, scaled, strict=True)]).cpu().numpy()

        values = {name: known(terms[name] for terms in found) for name in WEIGHTS}
        # Between the pair's own deviation and the typical one.
        scale = {
            name: math.sqrt(typical * float(np.clip(values[name].std(), *(typical * np.array(STD_RANGE)))))
            for name, typical in TYPICAL_STD.items()
        }
        fitted = dataclasses.replace(unscaled, scale=scale, centre=_medians(values))

        def distances() -> list[Tensor]:
            return [fitted.combine(terms, s.weight) for terms, s in zip(found, scaled, strict=True)]

        for _ in range(ROUNDS):
            kept = known(distances()) < KEEP
            if kept.mean() > 0.05:
                fitted = dataclasses.replace(
                    fitted, centre=_medians({name: v[kept] for name, v in values.items()})
                )
        return fitted, list(zip(scaled, distances(), strict=True))

    @property
    def margin(self) -> int:
        """Pixels around a pixel that its distance depends on."""
        after = radius(1) + radius(SMOOTH)
        holes = radius(FILL)  # what stands in a hole comes from around it, before any other window
        reach = max(
            radius(max(TEXTURE)) + after,  # tx
            radius(4) + after,  # cc
            radius(GRADIENT) + radius(ENERGY),  # gd
            radius(PATTERN),  # ln
        )
        return holes + reach + radius(self.object_sigma)

    def scaled(self, chip: Chip, device: torch.device = CPU) -> ScaledPair:
        """Return a chip in the units of the scene, on a device."""
        return _scale(chip, self.narrow, self.wide, self.colour[:3], device)

    def terms(self, pair: ScaledPair) -> dict[str, Tensor]:
        """Return the six distances, each ``(height, width)`` float32, 0 or more, in their own units.

        And ``beyond``, the difference that no shift can make, under the same last window as their sum.
        """
        one, two = (z[list(self.colour)] for z in (pair.z1, pair.z2))
        length = (one - two).square_().mean(dim=0).sqrt_().mul_(2)
        context = surroundings(pair.z1), surroundings(pair.z2)
        near = gaussian(pair.z1, 0.7), gaussian(pair.z2, 0.7)
        unusual = torch.maximum(
            self.forward.distance(context[0], near[0], near[1]),
            self.backward.distance(context[1], near[1], near[0]),
        )

        def finish(values: Tensor) -> Tensor:
            return gaussian(values, SMOOTH, pair.weight)

        return {
            "image": finish(length),
            "ir": finish(gaussian(chi(self.spectral, pair.u1, pair.u2), 1).log1p_()),
            "tx": finish(gaussian(chi(self.textural, texture(one), texture(two)), 1).log1p_()),
            "gd": gradient_energy(one, two),
            "cc": finish(gaussian(unusual, 1).log1p_()),
            "ln": pattern_change(one, two),
            "beyond": gaussian(finish(beyond_shift(one, two)), self.object_sigma, pair.weight),
        }

    def distance(self, pair: ScaledPair) -> Tensor:
        """Return the weighted mean of the scaled distances, ``(height, width)`` float32.

        0 is what most of the scene has, 1 about one standard deviation of a typical pair above it.
        """
        return self.combine(self.terms(pair), pair.weight)

    def combine(
        self, terms: dict[str, Tensor], valid: Tensor | None = None, *, without: str | None = None
    ) -> Tensor:
        """Return :meth:`distance` from :meth:`terms`.

        Parameters
        ----------
        terms : dict of Tensor, (height, width), float32
        valid : Tensor, (height, width), bool, optional
            Leave it out where all are.
        without : str, optional
            Leave this one of the six out: of the mean, whose weights still sum to one, and of the three
            that the gate looks at.
        """
        scaled = {
            name: (terms[name] - self.centre[name]).div_(self.scale[name]).clamp_(max=CAP) for name in WEIGHTS
        }

        def mean(names: Iterable[str]) -> Tensor:
            names = [name for name in names if name != without]
            total = torch.zeros_like(scaled[names[0]])
            for name in names:
                total.add_(scaled[name], alpha=WEIGHTS[name])
            return total.div_(sum(WEIGHTS[name] for name in names))

        distance = torch.minimum(mean(WEIGHTS), mean(NARROW).add_(GATE))
        if self.object_sigma > 0:
            gain = (1 + self.object_sigma**2 / OBJECT_PIXELS[0] ** 2) ** OBJECT_GAIN
            distance = gaussian(distance.mul_(gain), self.object_sigma, valid)
        return torch.minimum(distance, BEYOND[0] + BEYOND[1] * terms["beyond"])


def _medians(values: dict[str, Float32Array]) -> dict[str, float]:
    return {name: float(np.median(v)) for name, v in values.items()}


def object_sigma(pixel_size: float | None) -> float:
    """Return the deviation of the last window in pixels, on top of the windows of the distances."""
    if not pixel_size:
        return 0.0
    least, most = OBJECT_PIXELS
    return math.sqrt(min(max(OBJECT_METRES / pixel_size, least), most) ** 2 - least**2)


def _scale(
    chip: Chip, narrow: Radiometry, wide: Radiometry, visible: Sequence[int], device: torch.device
) -> ScaledPair:
    index, whole = list(visible), bool(chip.valid.all())
    part = dataclasses.replace(chip, before=chip.before[index], after=chip.after[index])
    valid = sent(chip.valid, device)

    def filled(values: Float32Array) -> Tensor:
        """Without it, the zeros of holes would be an edge, and texture."""
        tensor = sent(values, device)
        return tensor if whole else torch.where(valid, tensor, gaussian(tensor, FILL, valid))

    z1, z2 = map(filled, narrow.apply(chip))
    u1, u2 = map(filled, wide.apply(part))
    return ScaledPair(z1, z2, u1, u2, valid, whole)


def _pick(chips: Sequence[Chip], random: np.random.Generator) -> list[npt.NDArray[np.intp]]:
    """Return flat indexes of up to FIT_PIXELS valid pixels, as many of each chip as it has a share."""
    total = sum(int(chip.valid.sum()) for chip in chips)
    picks = []
    for chip in chips:
        places = np.flatnonzero(chip.valid)
        count = min(len(places), math.ceil(FIT_PIXELS * len(places) / total))
        picks.append(random.choice(places, count, replace=False))
    return picks
