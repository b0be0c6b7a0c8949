"""The distance between the dates: several distances, scaled to the scene and summed.

Fitted to the pair in seconds and without iterations over the raster. The distances are those of
:data:`geocd.method.terms.TERMS`.

The constants were chosen on the labelled public pairs, one setting for all; ``docs/method.md`` says how each
was measured.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from geocd.method import terms
from geocd.method.devices import CPU
from geocd.method.extractor import Extractor
from geocd.method.filters import gaussian, radius
from geocd.method.scaled import EmbeddingScaling, FitSample, ScaledPair, Scaling, parallel
from geocd.raster.pair import Chip
from geocd.scene.sample import crops
from geocd.types import Float32Array, Part, Steps

#: A pair's own standard deviation counts as between these shares of the typical one. A pair in which nothing
#: changed has small deviations, and dividing by them would turn its noise into change; one in which half
#: changed has large ones, and dividing by them would hide the change.
STD_RANGE = (0.7, 1.6)
#: No single distance counts for more than this many deviations, and the sum no more than GATE above that
#: of the distances with narrow windows: wide windows alone would draw a halo around each change.
CAP, GATE = 4.0, 0.5
#: And no more than BEYOND[0] + BEYOND[1] times what lies beyond a shift by one pixel (``beyond_shift``):
#: misregistration and blur make differences at every edge, but hardly any of this kind.
BEYOND = (0.2, 8.0)
#: And no more than VEIL[0] times that, plus VEIL[1] times the distance between edges: a veil of haze makes a
#: small difference and no edges, which the other distances may follow where there is little to see. "That" is
#: the larger of two here, the other from values that are clipped widely: a bright object on bright ground
#: differs only in what the narrow clipping takes away.
VEIL = (2.7, 1.4)
#: The zero of each distance is its median over the pixels below KEEP, found in so many rounds, so that a
#: large change does not raise it.
KEEP, ROUNDS = 1.2, 6
#: Objects that people map are some metres wide: on finer pixels the sum is smoothed until its window is
#: this many metres (within OBJECT_PIXELS), which makes it smaller; OBJECT_GAIN makes up for that. What is
#: above OBJECT_CAP would only draw the outline of a strong change wider.
OBJECT_METRES, OBJECT_PIXELS, OBJECT_GAIN, OBJECT_CAP = 9.0, (2.0, 8.0), 0.15, 2.8
#: Of rows and columns.
EVERYTHING = slice(None), slice(None)
#: Pixels whose windows are computed for the fit.
FIT_AREA = 524_288


@dataclasses.dataclass(frozen=True)
class SceneDistance:
    """The distances of ``TERMS``, fitted to a scene, and their sum.

    Attributes
    ----------
    scaling : Scaling or EmbeddingScaling
        Brings chips into the units of the scene; the latter where the bands are features themselves.
    distances : dict of str to callable
        Each fitted distance by its name.
    centre, scale : dict of str to float
        Zero and unit of each distance, from the scene's sample.
    weight : dict of str to float
        Its weight in the sum; those of weight 0 are left out.
    object_sigma : float
        Standard deviation of the last window, in pixels; 0 for none.
    """

    scaling: Scaling | EmbeddingScaling
    distances: Mapping[str, terms.Distance]
    centre: Mapping[str, float]
    scale: Mapping[str, float]
    weight: Mapping[str, float]
    object_sigma: float

    @classmethod
    def fit(
        cls,
        chips: Sequence[Chip],
        *,
        colour: Sequence[int],
        pixel_size: float | None,
        extractor: Extractor | None = None,
        seed: int = 0,
        jobs: int = 1,
        device: torch.device = CPU,
        steps: Steps | None = None,
    ) -> tuple[SceneDistance, list[tuple[ScaledPair, Tensor]]]:
        """Fit to a bounded sample of the scene.

        Parameters
        ----------
        chips : sequence of Chip
            With at least one valid pixel.
        colour : sequence of int
            Bands, from 0: red, green, blue and, where there is one, near infrared. None where the bands are
            features that were made elsewhere, which are all that is compared.
        pixel_size : float, optional
            Metres; None where it is not known, which means no larger window.
        extractor : Extractor, optional
            D-FE of the deep distances; None leaves them out.
        seed : int
            Seed of the subsample and of the classes.
        jobs : int
            Chips computed at a time on a CPU; the result does not depend on it.
        device : torch.device
            Computes the windows; the statistics are taken on the CPU.
        steps : callable, optional
            Called as ``steps(done, total)`` after each distance.

        Returns
        -------
        fitted : SceneDistance
        sample : list
            Chips of about ``FIT_AREA`` pixels together, :meth:`scaled`, each with its :meth:`distance`.
        """
        levels = 0 if extractor is None else len(extractor.LEVELS)
        features = chips[0].features
        embedding = not colour
        stride = 1 if embedding else None if features is None else features.stride
        included = [
            term
            for term in terms.TERMS
            if term.included(pixel_size, levels, stride) and (not embedding or term.stride is not None)
        ]
        depth = max((term.level + 1 for term in included if term.level is not None), default=0)
        scaling = EmbeddingScaling() if embedding else Scaling.fit(chips, colour, extractor, depth)
        jobs = jobs if device.type == "cpu" else 1
        sample = FitSample.draw(crops(chips, FIT_AREA), scaling, seed=seed, jobs=jobs, device=device)
        distances: dict[str, terms.Distance] = {}
        for term in included:
            distances[term.name] = term.fit(sample)
            if steps is not None:
                steps(len(distances), len(included))
        unscaled = cls(
            scaling=scaling,
            distances=distances,
            centre={term.name: 0.0 for term in included},
            scale={term.name: 1.0 for term in included},
            weight={term.name: term.weight(pixel_size) for term in included},
            object_sigma=object_sigma(pixel_size),
        )
        fitted, maps = unscaled._calibrated(sample)
        return fitted, list(zip(sample.pairs, maps, strict=True))

    def _calibrated(self, sample: FitSample) -> tuple[SceneDistance, list[Tensor]]:
        """Return this with centre and scale of a sample, and the distance of each of its chips."""
        maps = parallel(self.terms, sample.pairs, sample.jobs)
        values = {term.name: sample.valid_values([m[term.name] for m in maps]) for term in self.included}
        # Between the pair's own deviation and the typical one.
        scale = {
            term.name: math.sqrt(
                term.typical_std
                * float(np.clip(values[term.name].std(), *(term.typical_std * np.array(STD_RANGE))))
            )
            for term in self.included
        }
        fitted = dataclasses.replace(self, scale=scale, centre=_medians(values))

        def distances() -> list[Tensor]:
            return [fitted.combine(m, pair.weight) for m, pair in zip(maps, sample.pairs, strict=True)]

        for _ in range(ROUNDS):
            unchanged = sample.valid_values(distances()) < KEEP
            if unchanged.mean() > 0.05:
                centre = _medians({name: v[unchanged] for name, v in values.items()})
                fitted = dataclasses.replace(fitted, centre=centre)
        return fitted, distances()

    @property
    def included(self) -> list[terms.Term]:
        """The terms of the sum."""
        return [term for term in terms.TERMS if term.name in self.weight]

    @property
    def colour(self) -> tuple[int, ...]:
        """Colour bands, from 0: red, green, blue and, where there is one, near infrared."""
        return self.scaling.colour

    @property
    def margin(self) -> int:
        """Pixels around a pixel that its distance depends on."""
        extractor = self.scaling.extractor
        levels = () if extractor is None else extractor.LEVELS
        reach = max(terms.BEYOND_REACH, *(term.margin(levels) for term in self.included))
        # what fills a hole comes from around it, before any other window
        return self.scaling.REACH + reach + radius(self.object_sigma)

    def scaled(self, chip: Chip, device: torch.device = CPU) -> ScaledPair:
        """Return a chip in the units of the scene, on a device."""
        return self.scaling.apply(chip, device)

    def terms(self, pair: ScaledPair, part: Part | None = None) -> dict[str, Tensor]:
        """Return all distances by name, each ``(height, width)`` float32, 0 or more, in their own units.

        And, of images, ``beyond``, the difference that no shift can make, under the same last window as
        their sum, and ``beyond_wide``, the larger of it and of the same with values clipped widely.

        Parameters
        ----------
        pair : ScaledPair
        part : tuple of slice, optional
            Rows and columns to return; default: all. Deep distances need wide surroundings, the others are
            computed without what only those need.
        """
        shape, part = pair.shape, part or EVERYTHING
        pair = pair.uncached()  # what several distances share is computed once, and freed
        maps = self._deep(pair, part)
        if not pair.colour_indexes:  # an embedding: a shift does not make differences of one kind
            return maps
        near = [term for term in terms.TERMS if not term.deep and term.name in self.distances]
        reach = max(terms.BEYOND_REACH + radius(self.object_sigma), *(term.reach for term in near))
        around, within = widened(part, reach, shape)
        pair = pair.part(*around)
        for term in near:
            maps[term.name] = self.distances[term.name](pair)[within].contiguous()

        def beyond(before: Tensor, after: Tensor) -> Tensor:
            finished = terms.finished(terms.beyond_shift(before, after), pair)
            return gaussian(finished, self.object_sigma, pair.weight)[within].contiguous()

        maps["beyond"] = beyond(*pair.colour)
        maps["beyond_wide"] = beyond(pair.u1, pair.u2)
        torch.maximum(maps["beyond"], maps["beyond_wide"], out=maps["beyond_wide"])
        return maps

    def _deep(self, pair: ScaledPair, part: Part) -> dict[str, Tensor]:
        """Return the deep distances of a part, from no more of the pair than they depend on."""
        deep = [term for term in terms.TERMS if term.deep and term.name in self.distances]
        within = part
        if deep and pair.extractor is not None and pair.rasters is None and part != EVERYTHING:
            reach = max(term.margin(pair.extractor.LEVELS) for term in deep)
            around, within = widened(part, reach, pair.shape)
            pair = pair.part(*around, deep=True)
        return {term.name: self.distances[term.name](pair)[within].contiguous() for term in deep}

    def distance(self, pair: ScaledPair) -> Tensor:
        """Return the weighted mean of the scaled distances, ``(height, width)`` float32.

        0 is what most of the scene has, 1 about one standard deviation of a typical pair above it.
        """
        return self.combine(self.terms(pair), pair.weight)

    def combine(
        self, maps: Mapping[str, Tensor], valid: Tensor | None = None, *, without: str | None = None
    ) -> Tensor:
        """Return :meth:`distance` from :meth:`terms`.

        Parameters
        ----------
        maps : dict of Tensor, (height, width), float32
        valid : Tensor, (height, width), bool, optional
            Leave it out where all are.
        without : str, optional
            Leave this distance out: of the mean, whose weights still sum to one, and of the narrow ones
            that the gate looks at.
        """
        included = [term for term in self.included if term.name != without]
        scaled = {
            term.name: (maps[term.name] - self.centre[term.name]).div_(self.scale[term.name]).clamp_(max=CAP)
            for term in included
        }
        for term in included:
            if term.limited_by in scaled:
                torch.minimum(scaled[term.name], scaled[term.limited_by], out=scaled[term.name])

        def mean(members: Sequence[terms.Term]) -> Tensor:
            total = torch.zeros_like(scaled[members[0].name])
            for term in members:
                total.add_(scaled[term.name], alpha=self.weight[term.name])
            return total.div_(sum(self.weight[term.name] for term in members))

        narrow = [term for term in included if term.narrow]
        distance = torch.minimum(mean(included), mean(narrow).add_(GATE))
        if self.object_sigma > 0:
            gain = (1 + self.object_sigma**2 / OBJECT_PIXELS[0] ** 2) ** OBJECT_GAIN
            distance = gaussian(distance.clamp_(max=OBJECT_CAP).mul_(gain), self.object_sigma, valid)
        if "beyond" not in maps:
            return distance
        distance = torch.minimum(distance, BEYOND[0] + BEYOND[1] * maps["beyond"])
        if edges := [term for term in included if term.edges]:
            no_veil = mean(edges).clamp_(min=0).mul_(VEIL[1]).add_(maps["beyond_wide"], alpha=VEIL[0])
            distance = torch.minimum(distance, no_veil)
        return distance

    def leaving_one_out(self, maps: Mapping[str, Tensor], valid: Tensor | None = None) -> Iterator[Tensor]:
        """Yield :meth:`combine` without each of the distances in turn."""
        for term in self.included:
            yield self.combine(maps, valid, without=term.name)


#: Its name in version 0.1, which programs still import from ``geocd.features``.
LinearFeatures = SceneDistance


def widened(part: Part, reach: int, shape: tuple[int, int]) -> tuple[Part, Part]:
    """Return a part of an image with ``reach`` pixels around it, and where the part is in that."""
    around, within = [], []
    for span, length in zip(part, shape, strict=True):
        first, last, _ = span.indices(length)
        begin, end = max(0, first - reach), min(length, last + reach)
        around.append(slice(begin, end))
        within.append(slice(first - begin, last - begin))
    return (around[0], around[1]), (within[0], within[1])


def _medians(values: Mapping[str, Float32Array]) -> dict[str, float]:
    return {name: float(np.median(v)) for name, v in values.items()}


def object_sigma(pixel_size: float | None) -> float:
    """Return the standard deviation of the last window in pixels, on top of the windows of the distances."""
    if not pixel_size:
        return 0.0
    least, most = OBJECT_PIXELS
    return math.sqrt(min(max(OBJECT_METRES / pixel_size, least), most) ** 2 - least**2)
