"""The default's closed form under other constants, and a random search for them (``leave_pairs_out.py``)."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import rasterio
import torch
from accuracy import GROUPS

from geocd.method import default, distance, learning, terms
from geocd.method.decision import logistic_prob
from geocd.method.distance import SceneDistance
from geocd.metrics import evaluate
from geocd.raster.bands import colour_bands
from geocd.raster.pair import Pair
from geocd.scene.sample import sample_chips

Values = np.ndarray
SEED = 0
DRAWS, AVERAGED = 200, 10
MOST_PIXELS = 70_000
WINDOWS = (0.0, 4.5, 9.0, 13.5)
DECISIONS = np.round(np.arange(1.0, 3.01, 0.1), 2)
SLOPES = tuple((below, above) for below in (2.0, 3.0, 4.0, 5.0, 6.0) for above in (0.5, 1.0, 1.5, 2.0))
#: Distances that stand with weight 1 where the weights are tied: colour, light and texture. The other
#: three look at the same things again, through wider windows or by class.
FIRST = ("image", "ir", "tx")
#: Constants of :class:`Constants` that belong to the table of distances.
OF_TERMS = ("weights", "typical_std")
SENSORS = tuple(GROUPS[group] for group in ("Sentinel-2", "aerial"))


def _home(name: str) -> ModuleType:
    """Return the module that defines a constant."""
    return next(module for module in (distance, learning, default) if hasattr(module, name))


def _shipped_terms(attribute: str) -> dict[str, float]:
    """Return an attribute of every distance, by name."""
    return {term.name: getattr(term, attribute) for term in terms.TERMS}


@dataclasses.dataclass(frozen=True)
class Constants:
    """What is chosen, under the names that the modules have for it; ``OF_TERMS`` by distance."""

    weights: dict[str, float]
    typical_std: dict[str, float]
    cap: float
    gate: float
    object_metres: float
    object_gain: float
    decision: float
    slope_below: float
    slope_above: float
    learned_weight: float

    @classmethod
    def shipped(cls) -> Constants:
        """Return those of the code."""
        names = [field.name for field in dataclasses.fields(cls) if field.name not in OF_TERMS]
        single = {name: getattr(_home(name.upper()), name.upper()) for name in names}
        return cls(weights=_shipped_terms("weight"), typical_std=_shipped_terms("typical_std"), **single)

    @contextlib.contextmanager
    def in_use(self, stride: int = 1) -> Iterator[None]:
        """Put these constants into the product's modules; with ``stride``, for thinned pixels."""
        names = [field.name for field in dataclasses.fields(self) if field.name not in OF_TERMS]
        values = {name.upper(): getattr(self, name) for name in names}
        values["OBJECT_PIXELS"] = tuple(n / stride for n in distance.OBJECT_PIXELS)
        table = tuple(
            dataclasses.replace(term, weight=self.weights[term.name], typical_std=self.typical_std[term.name])
            for term in terms.TERMS
        )
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(terms, "TERMS", table))
            for name, value in values.items():
                stack.enter_context(mock.patch.object(_home(name), name, value))
            yield


@dataclasses.dataclass(frozen=True)
class Sample:
    """A pair on every few rows and columns: its distances, and what the reference says."""

    name: str
    fitted: SceneDistance
    terms: dict[str, Values]
    deviation: dict[str, float]
    valid: Values
    reference: Values
    pixel_size: float | None
    stride: int

    @property
    def scorable(self) -> Values:
        """Pixels to score."""
        return self.valid & (self.reference != 255)

    def distance(self, constants: Constants) -> Values:
        """Return the distance under other constants: the end of ``SceneDistance.fit`` and its sum."""
        with constants.in_use(self.stride):
            size = self.pixel_size and self.pixel_size * self.stride
            values = {name: self.terms[name][self.valid] for name in constants.weights}
            scale = {}
            for name, typical in constants.typical_std.items():
                low, high = (share * typical for share in distance.STD_RANGE)
                scale[name] = math.sqrt(typical * min(max(self.deviation[name], low), high))
            fitted = dataclasses.replace(
                self.fitted,
                scale=scale,
                centre=medians(values),
                object_sigma=distance.object_sigma(size),
            )
            for _ in range(distance.ROUNDS):
                unchanged = combined(fitted, self.terms, self.valid)[self.valid] < distance.KEEP
                if unchanged.mean() > 0.05:
                    centre = medians({name: value[unchanged] for name, value in values.items()})
                    fitted = dataclasses.replace(fitted, centre=centre)
            return combined(fitted, self.terms, self.valid)


def combined(fitted: SceneDistance, maps: dict[str, Values], valid: Values) -> Values:
    """Return the sum of the distances."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in maps.items()}
    weight = None if valid.all() else torch.from_numpy(np.ascontiguousarray(valid))
    return fitted.combine(tensors, weight).numpy()


def medians(values: dict[str, Values]) -> dict[str, float]:
    """Return the median of each."""
    return {name: float(np.median(value)) for name, value in values.items()}


def read_reference(folder: Path) -> Values:
    """Return mask.tif."""
    with rasterio.open(folder / "mask.tif") as dataset:
        return dataset.read(1)


def sample(folder: Path) -> Sample:
    """Fit the product's features to a pair and thin its distances."""
    with Pair(folder / "before.tif", folder / "after.tif") as pair:
        chip = pair.read(pair.grid.window)
        size = pair.grid.pixel_size
        fitted, _ = SceneDistance.fit(
            sample_chips(pair), colour=colour_bands(pair.band_names), pixel_size=size
        )
    stride = math.ceil(math.sqrt(chip.valid.size / MOST_PIXELS))
    thin = (slice(stride // 2, None, stride),) * 2
    maps = {name: values.numpy() for name, values in fitted.terms(fitted.scaled(chip)).items()}
    return Sample(
        name=folder.name,
        fitted=fitted,
        terms={name: values[thin] for name, values in maps.items()},
        deviation={name: float(maps[name][chip.valid].std()) for name in fitted.distances},
        valid=chip.valid[thin],
        reference=read_reference(folder)[thin],
        pixel_size=size,
        stride=stride,
    )


def as_prob(distance: Values, constants: Constants) -> Values:
    """Return the probability, as :class:`geocd.method.default.DefaultDetector` makes it."""
    return logistic_prob(
        np.asarray(distance, np.float32), constants.decision, constants.slope_below, constants.slope_above
    )


def relative(scores: dict[str, dict[str, float]], cva: dict[str, dict[str, float]]) -> float:
    """Return the objective of pairs: AP + F1 over that of CVA, mean of the sensors."""
    shares = []
    for prefix in SENSORS:
        members = [name for name in scores if name.startswith(prefix)]
        ours, theirs = (
            statistics.fmean(of[name]["average_precision"] + of[name]["f1"] for name in members)
            for of in (scores, cva)
        )
        shares.append(ours / theirs)
    return statistics.fmean(shares)


def f1_at(distance: Values, changed: Values, decisions: Values) -> Values:
    """Return F1 at each decision."""
    positive, negative = np.sort(distance[changed]), np.sort(distance[~changed])
    hits = len(positive) - np.searchsorted(positive, decisions)
    false = len(negative) - np.searchsorted(negative, decisions)
    return 2 * hits / (hits + false + len(positive))


class Search:
    """Random search over the closed form."""

    def __init__(self, samples: Sequence[Sample], cva: dict[str, dict[str, float]], tied: bool) -> None:
        self.samples = [s for s in samples if s.name.startswith(SENSORS)]
        self.cva = cva
        self.tied = tied

    def weights(self, random: np.random.Generator) -> dict[str, float]:
        """Draw the weights of the distances."""
        if self.tied:
            wide = float(random.uniform(0, 1.5))
            return {term.name: 1.0 if term.name in FIRST else wide for term in terms.TERMS}
        return {term.name: float(random.uniform(0, 1.5)) for term in terms.TERMS}

    def scores(self, constants: Constants, left_out: Sequence[str]) -> tuple[float, float]:
        """Return the objective on the pairs not left out, and the decision that reaches it."""
        table: dict[str, tuple[float, Values]] = {}
        for pair in self.samples:
            if pair.name in left_out:
                continue
            distance = pair.distance(constants)[pair.scorable]
            changed = pair.reference[pair.scorable] == 1
            precision = evaluate(as_prob(distance, constants), changed, threshold=0.5).average_precision
            table[pair.name] = precision, f1_at(distance, changed, DECISIONS)
        reached = [
            relative(
                {name: {"average_precision": ap, "f1": f1[k]} for name, (ap, f1) in table.items()}, self.cva
            )
            for k in range(len(DECISIONS))
        ]
        best = int(np.argmax(reached))
        return reached[best], float(DECISIONS[best])

    def choose(self, start: Constants, left_out: Sequence[str]) -> tuple[Constants, list[dict[str, Any]]]:
        """Return the average of the best draws, decided anew, and all draws."""
        random = np.random.default_rng(SEED)
        draws = []
        for _ in range(DRAWS):
            drawn = dataclasses.replace(
                start,
                weights=self.weights(random),
                cap=random.uniform(2.5, 6),
                gate=random.uniform(0, 2),
                object_metres=float(random.choice(WINDOWS)),
                object_gain=random.uniform(0, 0.3),
            )
            value, decision = self.scores(drawn, left_out)
            draws.append((value, dataclasses.replace(drawn, decision=decision)))
        best = [drawn for _, drawn in sorted(draws, key=lambda draw: -draw[0])[:AVERAGED]]
        metres = [drawn.object_metres for drawn in best]
        chosen = dataclasses.replace(
            start,
            weights={name: statistics.fmean(d.weights[name] for d in best) for name in start.weights},
            cap=statistics.fmean(d.cap for d in best),
            gate=statistics.fmean(d.gate for d in best),
            object_metres=max(metres, key=metres.count),
            object_gain=statistics.fmean(d.object_gain for d in best),
        )
        chosen = dataclasses.replace(chosen, decision=self.scores(chosen, left_out)[1])
        return self.sloped(chosen, left_out), [
            {"objective": value} | dataclasses.asdict(drawn) for value, drawn in draws
        ]

    def sloped(self, constants: Constants, left_out: Sequence[str]) -> Constants:
        """Choose the slopes by the calibration error, mean of the sensors."""
        pairs = [pair for pair in self.samples if pair.name not in left_out]
        distances = [(pair, pair.distance(constants)[pair.scorable]) for pair in pairs]

        def error(slopes: tuple[float, float]) -> float:
            tried = dataclasses.replace(constants, slope_below=slopes[0], slope_above=slopes[1])
            return statistics.fmean(
                statistics.fmean(
                    evaluate(as_prob(d, tried), pair.reference[pair.scorable] == 1, threshold=0.5).ece
                    for pair, d in distances
                    if pair.name.startswith(prefix)
                )
                for prefix in SENSORS
            )

        below, above = min(SLOPES, key=error)
        return dataclasses.replace(constants, slope_below=below, slope_above=above)


def typical_std(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the mean deviation of each distance."""
    return {
        name: statistics.fmean(s.deviation[name] for s in samples) for name in _shipped_terms("typical_std")
    }
