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
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geocd.method.devices import CPU, sent
from geocd.method.filters import gaussian, radius
from geocd.method.irmad import IrMad
from geocd.method.terms import (
    ENERGY,
    GRADIENT,
    PATTERN,
    TEXTURE,
    ClassResidual,
    beyond_shift,
    chi,
    gradient_energy,
    pattern_change,
    surroundings,
    texture,
)
from geocd.raster.pair import Chip
from geocd.scene.radiometry import Radiometry
from geocd.scene.sample import crops
from geocd.types import Float32Array

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
#: Deviation of the window, in pixels, that fills holes from their surroundings.
FILL = 4.0
#: Objects that people map are some metres wide: on finer pixels the sum is smoothed until its window is
#: this many metres (within OBJECT_PIXELS), which makes it smaller; OBJECT_GAIN makes up for that.
OBJECT_METRES, OBJECT_PIXELS, OBJECT_GAIN = 9.0, (2.0, 8.0), 0.15
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
        """``valid`` as :func:`geocd.method.filters.gaussian` takes it."""
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
