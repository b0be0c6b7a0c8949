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
from scipy import linalg, ndimage
from scipy.cluster import vq

from geocd.distances import IrMad
from geocd.normalize import Radiometry, crops
from geocd.raster import BoolArray, Chip

FloatArray = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

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
TRUNCATE = 3.0


T = TypeVar("T")
R = TypeVar("R")


def parallel(function: Callable[[T], R], items: Sequence[T], jobs: int) -> list[R]:
    """Return the function of every item, in order; scipy's filters release the interpreter lock."""
    if jobs == 1 or len(items) == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(jobs, thread_name_prefix="geocd-fit") as pool:
        return list(pool.map(function, items))


def gaussian(values: FloatArray, sigma: float, valid: BoolArray | None = None) -> FloatArray:
    """Gaussian window over the last two axes, cut at three deviations.

    With ``valid``, a normalised convolution: what is not valid has no weight (and gets a value that
    only valid neighbours made).
    """
    if sigma <= 0:
        return values
    sigmas = (0.0,) * (values.ndim - 2) + (sigma, sigma)

    def window(x: FloatArray) -> FloatArray:
        return np.asarray(ndimage.gaussian_filter(x, sigmas, truncate=TRUNCATE), dtype=np.float32)

    if valid is None or valid.all():
        return window(values)
    total = np.maximum(window(valid.astype(np.float32)[(None,) * (values.ndim - 2)]), np.float32(1e-3))
    return np.asarray(window(np.where(valid, values, np.float32(0))) / total, np.float32)


def radius(sigma: float) -> int:
    """Pixels on each side that :func:`gaussian` reaches."""
    return int(TRUNCATE * sigma + 0.5) if sigma > 0 else 0


def local_deviation(z: FloatArray, sigma: float) -> FloatArray:
    """Standard deviation under a Gaussian window, band by band."""
    mean = gaussian(z, sigma)
    variance = gaussian(z * z, sigma) - mean * mean
    return np.asarray(np.sqrt(np.maximum(variance, np.float32(1e-4))), np.float32)


def texture(z: FloatArray) -> FloatArray:
    """Log of the local deviations at two scales: ``(bands, h, w)`` to ``(2 bands, h, w)``."""
    return np.concatenate([np.log(np.float32(0.05) + local_deviation(z, s)) for s in TEXTURE])


def surroundings(z: FloatArray) -> FloatArray:
    """What the class of a place is known by: its bands near and around it, and its texture."""
    rough = np.log(local_deviation(z, 3).mean(axis=0, keepdims=True) + np.float32(0.05))
    return np.concatenate([gaussian(z, 1), np.float32(0.7) * gaussian(z, 4), rough])


def gradient_energy(z1: FloatArray, z2: FloatArray) -> FloatArray:
    """Root of the mean squared gradient of the difference, per four bands."""
    energy = np.zeros(z1.shape[1:], np.float32)
    for difference in z1 - z2:
        for order in ((0, 1), (1, 0)):
            slope = ndimage.gaussian_filter(difference, GRADIENT, order, truncate=TRUNCATE)
            energy += np.asarray(slope, np.float32) ** 2
    return np.asarray(np.sqrt(gaussian(energy, ENERGY) * np.float32(4 / len(z1))), np.float32)


def pattern_change(z1: FloatArray, z2: FloatArray) -> FloatArray:
    """One minus the local correlation, summed over bands, per four bands.

    The 0.4 that stands beside each variance keeps the correlation of two flat surfaces, which is that of
    their noise, near one.
    """
    total = np.zeros(z1.shape[1:], np.float32)
    for a, b in zip(z1, z2, strict=True):
        mean1, mean2 = gaussian(a, PATTERN), gaussian(b, PATTERN)
        var1 = np.maximum(gaussian(a * a, PATTERN) - mean1 * mean1, 0) + np.float32(0.4)
        var2 = np.maximum(gaussian(b * b, PATTERN) - mean2 * mean2, 0) + np.float32(0.4)
        both = gaussian(a * b, PATTERN) - mean1 * mean2 + np.float32(0.4)
        total += 1 - both / np.sqrt(var1 * var2)
    return np.maximum(total, 0) * np.float32(4 / len(z1))


def beyond_shift(z1: FloatArray, z2: FloatArray) -> FloatArray:
    """Return the difference that no shift by a pixel, and no blur, can make: ``(height, width)``.

    How far each date lies outside the least and greatest value of the other among the nine pixels around
    the same place; root mean square over bands, twice as ``image``, mean of both directions.
    """

    def outside(x: FloatArray, y: FloatArray) -> FloatArray:
        least = ndimage.minimum_filter(y, (1, 3, 3), mode="nearest")
        most = ndimage.maximum_filter(y, (1, 3, 3), mode="nearest")
        gap = np.maximum(np.maximum(x - most, least - x), 0)
        return np.asarray(2 * np.sqrt((gap**2).mean(axis=0)), np.float32)

    return np.asarray((outside(z1, z2) + outside(z2, z1)) / 2, np.float32)


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

    centres: FloatArray
    slopes: FloatArray
    whitening: FloatArray

    @classmethod
    def fit(cls, context: FloatArray, source: FloatArray, target: FloatArray, seed: int) -> ClassResidual:
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

    def distance(self, context: FloatArray, source: FloatArray, target: FloatArray) -> FloatArray:
        """Return the Mahalanobis length of the residual, ``(height, width)``, from ``(c, h, w)`` arrays."""
        shape = source.shape[1:]
        rows = [values.reshape(len(values), -1).T for values in (context, source, target)]
        label = vq.vq(rows[0], self.centres)[0]
        result: FloatArray = np.empty(len(label), np.float32)
        for k in range(len(self.centres)):
            inside = label == k
            residual = rows[2][inside] - rows[1][inside] @ self.slopes[k, :-1] - self.slopes[k, -1]
            result[inside] = np.sqrt(((residual @ self.whitening[k]) ** 2).sum(axis=1))
        return result.reshape(shape)


@dataclasses.dataclass(frozen=True)
class _Scaled:
    """A chip in scene units: all bands clipped narrowly, the visible ones widely; holes filled in."""

    z1: FloatArray
    z2: FloatArray
    u1: FloatArray
    u2: FloatArray
    valid: BoolArray


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
    ) -> tuple[LinearFeatures, list[tuple[Chip, FloatArray]]]:
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
            Chips computed at a time; the result does not depend on it.

        Returns
        -------
        features : LinearFeatures
        sample : list
            Chips of about ``FIT_AREA`` pixels together, each with its :meth:`distance`.
        """
        narrow = Radiometry.fit(chips)
        wide = Radiometry.fit(chips, IRMAD_PERCENTILES).select(colour[:3])
        chips = crops(chips, FIT_AREA)
        picks = _pick(chips, np.random.default_rng(seed))
        scaled = parallel(lambda chip: _scale(chip, narrow, wide, colour[:3]), chips, jobs)
        band = list(colour)

        def rows(of: Callable[[_Scaled], FloatArray]) -> FloatArray:
            """The picked pixels of all chips, ``(n, channels)``."""
            parts = [
                values.reshape(len(values), -1)[:, pick].T
                for values, pick in zip(parallel(of, scaled, jobs), picks, strict=True)
            ]
            return np.concatenate(parts)

        def irmad(one: FloatArray, two: FloatArray) -> IrMad:
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
        found = parallel(unscaled._terms, scaled, jobs)
        values = {
            name: np.concatenate([t[name][s.valid] for t, s in zip(found, scaled, strict=True)])
            for name in WEIGHTS
        }
        # Between the pair's own deviation and the typical one.
        scale = {
            name: math.sqrt(typical * float(np.clip(values[name].std(), *(typical * np.array(STD_RANGE)))))
            for name, typical in TYPICAL_STD.items()
        }
        fitted = dataclasses.replace(unscaled, scale=scale, centre=_medians(values))
        for _ in range(ROUNDS):
            distance = np.concatenate(
                [fitted.combine(t, s.valid)[s.valid] for t, s in zip(found, scaled, strict=True)]
            )
            kept = distance < KEEP
            if kept.mean() > 0.05:
                fitted = dataclasses.replace(
                    fitted, centre=_medians({name: v[kept] for name, v in values.items()})
                )
        distances = [fitted.combine(t, s.valid) for t, s in zip(found, scaled, strict=True)]
        return fitted, list(zip(chips, distances, strict=True))

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

    def terms(self, chip: Chip) -> dict[str, FloatArray]:
        """Return the six distances, each ``(height, width)`` float32, 0 or more, in their own units.

        And ``beyond``, the difference that no shift can make, under the same last window as their sum.
        """
        return self._terms(_scale(chip, self.narrow, self.wide, self.colour[:3]))

    def _terms(self, s: _Scaled) -> dict[str, FloatArray]:
        one, two = s.z1[list(self.colour)], s.z2[list(self.colour)]
        length = 2 * np.sqrt(((one - two) ** 2).mean(axis=0))
        context = surroundings(s.z1), surroundings(s.z2)
        near = gaussian(s.z1, 0.7), gaussian(s.z2, 0.7)
        unusual = np.maximum(
            self.forward.distance(context[0], near[0], near[1]),
            self.backward.distance(context[1], near[1], near[0]),
        )

        def finish(values: FloatArray) -> FloatArray:
            return gaussian(values, SMOOTH, s.valid)

        return {
            "image": finish(length),
            "ir": finish(np.log1p(gaussian(self.spectral.chi(s.u1, s.u2), 1))),
            "tx": finish(np.log1p(gaussian(self.textural.chi(texture(one), texture(two)), 1))),
            "gd": gradient_energy(one, two),
            "cc": finish(np.log1p(gaussian(unusual, 1))),
            "ln": pattern_change(one, two),
            "beyond": gaussian(finish(beyond_shift(one, two)), self.object_sigma, s.valid),
        }

    def distance(self, chip: Chip) -> FloatArray:
        """Return the weighted mean of the scaled distances, ``(height, width)`` float32.

        0 is what most of the scene has, 1 about one standard deviation of a typical pair above it.
        """
        return self.combine(self.terms(chip), chip.valid)

    def combine(
        self, terms: dict[str, FloatArray], valid: BoolArray, *, without: str | None = None
    ) -> FloatArray:
        """Return :meth:`distance` from :meth:`terms`.

        Parameters
        ----------
        terms : dict of ndarray, (height, width), float32
        valid : ndarray, (height, width), bool
        without : str, optional
            Leave this one of the six out: of the mean, whose weights still sum to one, and of the three
            that the gate looks at.
        """
        scaled = {
            name: np.minimum((terms[name] - self.centre[name]) / self.scale[name], CAP) for name in WEIGHTS
        }

        def mean(names: Iterable[str]) -> FloatArray:
            names = tuple(name for name in names if name != without)
            total = sum(WEIGHTS[name] * scaled[name] for name in names)
            return np.asarray(total / sum(WEIGHTS[name] for name in names), np.float32)

        distance: FloatArray = np.minimum(mean(WEIGHTS), GATE + mean(NARROW))
        if self.object_sigma > 0:
            gain = (1 + self.object_sigma**2 / OBJECT_PIXELS[0] ** 2) ** OBJECT_GAIN
            distance = gaussian(distance * np.float32(gain), self.object_sigma, valid)
        most = np.float32(BEYOND[0]) + np.float32(BEYOND[1]) * terms["beyond"]
        return np.asarray(np.minimum(distance, most), np.float32)


def _medians(values: dict[str, FloatArray]) -> dict[str, float]:
    return {name: float(np.median(v)) for name, v in values.items()}


def object_sigma(pixel_size: float | None) -> float:
    """Return the deviation of the last window in pixels, on top of the windows of the distances."""
    if not pixel_size:
        return 0.0
    least, most = OBJECT_PIXELS
    return math.sqrt(min(max(OBJECT_METRES / pixel_size, least), most) ** 2 - least**2)


def _scale(chip: Chip, narrow: Radiometry, wide: Radiometry, visible: Sequence[int]) -> _Scaled:
    index = list(visible)
    part = dataclasses.replace(chip, before=chip.before[index], after=chip.after[index])

    def filled(values: FloatArray) -> FloatArray:
        """Without it, the zeros of holes would be an edge, and texture."""
        if chip.valid.all():
            return values
        return np.where(chip.valid, values, gaussian(values, FILL, chip.valid))

    z1, z2 = narrow.apply(chip)
    u1, u2 = wide.apply(part)
    return _Scaled(filled(z1), filled(z2), filled(u1), filled(u2), chip.valid)


def _pick(chips: Sequence[Chip], random: np.random.Generator) -> list[npt.NDArray[np.intp]]:
    """Return flat indexes of up to FIT_PIXELS valid pixels, as many of each chip as it has a share."""
    total = sum(int(chip.valid.sum()) for chip in chips)
    picks = []
    for chip in chips:
        places = np.flatnonzero(chip.valid)
        count = min(len(places), math.ceil(FIT_PIXELS * len(places) / total))
        picks.append(random.choice(places, count, replace=False))
    return picks
