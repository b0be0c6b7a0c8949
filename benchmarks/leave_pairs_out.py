"""What the default is worth on sites that nothing was chosen on: its constants by leave-sites-out.

    python benchmarks/leave_pairs_out.py FOLDER [--draws 120] [--groups Sentinel-2] [--distances ir,gd,...]
        [--ablation] [--json FILE]

FOLDER is that of ``accuracy.py``: one folder per pair, named SENSOR_SITE. The numbers at the end of a name
are dropped to get its site, so that two pairs of one place are never on both sides. For every site, from the
other sites of its sensor alone:

1. **Typical deviations**: the mean over the pairs of each distance's deviation.
2. **Weights, cap and gate**: random draws (one seed, the same draws for every site) of a weight of 0, .5 or 1
   for each distance of the table, the cap (3, 4, 5) and the gate (.25, .5, 1). A draw's decision is the best
   of 1.5, 1.6, ... 2.6. The ten best draws are averaged, which is steadier than the best one, and the
   decision is chosen again for the average.

The objective: AP + F1 at the decision, the mean over the other sites' pairs. What this does *not* leave out:
which distances there are and their windows, the layers of D-FE, the constants of the metric, the object
window and its gain, and the slopes of the probability. Sites of a sensor with no other site are not scored.

Beside it: the constants as shipped, which were chosen on all of these pairs, and the controls of
``accuracy.py``. One thread, a quarter of an hour. ``--ablation`` takes each distance, and all deep ones, out
of the averaged weights of each site, and chooses the decision again, on the other sites as before; with
random weights, a plain distance, and ``ir`` not limited by ``cc`` too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from ablation import variants
from accuracy import GROUPS, METHODS, labelled_pairs, line, macro, read_reference, score
from whole import OF_IMAGES, Whole

from geocd.method import default, distance, terms
from geocd.method.decision import logistic_prob

DECISIONS = np.round(np.arange(1.5, 2.61, 0.1), 1)
WEIGHTS, CAPS, GATES = (0.0, 0.5, 1.0), (3.0, 4.0, 5.0), (0.25, 0.5, 1.0)
BEST = 10


@dataclasses.dataclass(frozen=True)
class Constants:
    """What is chosen."""

    weight: dict[str, float]
    cap: float
    gate: float

    @classmethod
    def draw(cls, random: np.random.Generator, names: Sequence[str]) -> Constants:
        """Draw at random; at least two distances of these, one of them with a narrow window, count."""
        while True:
            weight = {
                term.name: float(random.choice(WEIGHTS)) if term.name in names else 0.0 for term in OF_IMAGES
            }
            narrow = any(weight[term.name] for term in OF_IMAGES if term.narrow)
            if narrow and sum(map(bool, weight.values())) > 1:
                return cls(weight, float(random.choice(CAPS)), float(random.choice(GATES)))

    @classmethod
    def mean(cls, several: Sequence[Constants]) -> Constants:
        """Average."""
        return cls(
            {name: statistics.fmean(one.weight[name] for one in several) for name in several[0].weight},
            statistics.fmean(one.cap for one in several),
            statistics.fmean(one.gate for one in several),
        )

    def without(self, names: Sequence[str]) -> Constants:
        """Return the same with some weights of 0."""
        weight = {name: 0.0 if name in names else value for name, value in self.weight.items()}
        return dataclasses.replace(self, weight=weight)


class Sample:
    """The distances of a pair, on every few rows and columns, and its reference."""

    def __init__(
        self,
        folder: Path,
        entries: Sequence[terms.Term] = OF_IMAGES,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        everywhere = [dataclasses.replace(term, weights=(1.0, 1.0, 1.0)) for term in entries]
        with mock.patch.object(terms, "TERMS", tuple(everywhere)):
            whole = Whole.read(folder, **settings or {})
            maps = whole.maps()
        # with an object window after the sum, all of them
        step = 1 if whole.detector.features.object_sigma else 2
        every = slice(None, None, step), slice(None, None, step)
        self.name, self.scene, self.entries = folder.name, whole.detector.features, tuple(entries)
        self.maps = {name: values[every].contiguous() for name, values in maps.items()}
        self.valid = torch.from_numpy(whole.chip.valid[every].copy())
        self.reference = read_reference(folder)[every]
        self.deviation = {term.name: float(self.maps[term.name][self.valid].std()) for term in OF_IMAGES}

    def distance(self, constants: Constants, typical: dict[str, float]) -> np.ndarray:
        """Return the sum under constants, calibrated as :class:`~geocd.method.distance.SceneDistance` is."""
        weight = {name: value for name, value in constants.weight.items() if value}
        least, most = distance.STD_RANGE
        scale = {
            name: (typical[name] * np.clip(self.deviation[name], least * typical[name], most * typical[name]))
            ** 0.5
            for name in weight
        }
        centre = {name: float(self.maps[name][self.valid].median()) for name in weight}
        mask = None if self.valid.all() else self.valid
        with (
            mock.patch.object(terms, "TERMS", self.entries),
            mock.patch.object(distance, "CAP", constants.cap),
            mock.patch.object(distance, "GATE", constants.gate),
        ):
            scene = dataclasses.replace(self.scene, weight=weight, scale=scale, centre=centre)
            for _ in range(distance.ROUNDS):
                low = scene.combine(self.maps, mask)[self.valid] < distance.KEEP
                if low.float().mean() > 0.05:
                    centre = {name: float(self.maps[name][self.valid][low].median()) for name in weight}
                    scene = dataclasses.replace(scene, centre=centre)
            return scene.combine(self.maps, mask).numpy()

    def scores(self, values: np.ndarray, decision: float) -> dict[str, float]:
        """Return the columns of a distance under a decision."""
        prob = logistic_prob(values, decision, default.SLOPE_BELOW, default.SLOPE_ABOVE)
        return score((np.where(self.valid.numpy(), prob, np.float32(np.nan)), 0.5), self.reference)

    def objective(self, values: np.ndarray) -> np.ndarray:
        """Return AP + F1 at each of ``DECISIONS``."""
        known = (self.reference != 255) & self.valid.numpy()
        changed, ranked = self.reference[known] == 1, values[known]
        precision = self.scores(values, 2.0)["average_precision"]
        f1 = [
            2 * (changed & above).sum() / max(changed.sum() + above.sum(), 1)
            for above in (ranked > decision for decision in DECISIONS)
        ]
        return precision + np.asarray(f1)


def site(name: str) -> str:
    """Return the site of a pair."""
    return re.sub(r"\d+$", "", name.split("_", 1)[-1])


def left_out(
    samples: Sequence[Sample],
    draws: Sequence[Constants],
    others: Mapping[str, Sequence[Sample]],
    ablation: bool,
) -> dict[str, dict[str, dict[str, float]]]:
    """Score every pair of a sensor, by method, under constants chosen on its other sites.

    ``others`` are the same pairs with other distances: their weights are those of ``samples``.
    """
    every = _typical(samples)
    # the typical deviations of a draw's objective are those of all pairs: they differ little, and cost most
    objectives = np.array([[s.objective(s.distance(draw, every)) for s in samples] for draw in draws])
    methods: dict[str, tuple[Sequence[Sample], list[str]]] = {"constants left out": (samples, [])}
    if ablation:
        drawn = [name for name in draws[0].weight if any(draw.weight[name] for draw in draws)]
        methods |= {f"without {name}": (samples, [name]) for name in drawn}
        methods["without deep distances"] = samples, [term.name for term in OF_IMAGES if term.deep]
        methods |= {name: (same, []) for name, same in others.items()}
    rows: dict[str, dict[str, dict[str, float]]] = {method: {} for method in methods}
    for place in sorted({site(s.name) for s in samples}):
        elsewhere = [k for k, s in enumerate(samples) if site(s.name) != place]
        if not elsewhere:
            continue
        of_others = objectives[:, elsewhere].mean(axis=1).max(axis=1)
        averaged = Constants.mean([draws[k] for k in np.argsort(-of_others)[:BEST]])
        for method, (members, names) in methods.items():
            chosen = averaged.without(names)
            typical = _typical([members[k] for k in elsewhere])
            again = np.mean(
                [members[k].objective(members[k].distance(chosen, typical)) for k in elsewhere], axis=0
            )
            decision = float(DECISIONS[again.argmax()])
            if method == "constants left out":
                weights = ", ".join(f"{name} {value:.2f}" for name, value in chosen.weight.items())
                limits = f"cap {chosen.cap:.1f}, gate {chosen.gate:.2f}"
                print(f"without {place}: {weights}; {limits}, decision {decision}", flush=True)
            for s in members:
                if site(s.name) == place:
                    rows[method][s.name] = s.scores(s.distance(chosen, typical), decision)
    return rows


def _typical(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the mean deviation of each distance."""
    return {term.name: statistics.fmean(s.deviation[term.name] for s in samples) for term in OF_IMAGES}


def main() -> None:
    """Choose, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=120)
    parser.add_argument("--groups", default=",".join(GROUPS), help="with commas; default: all")
    names = [term.name for term in OF_IMAGES]
    parser.add_argument("--distances", default=",".join(names), help="with commas; default: all")
    parser.add_argument("--ablation", action="store_true", help="leave each distance out, too")
    parser.add_argument("--json", type=Path, help="write all scores here")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    draws = [Constants.draw(random, options.distances.split(",")) for _ in range(options.draws)]
    groups = {name: GROUPS[name] for name in options.groups.split(",")}
    folders = [f for f in labelled_pairs(options.folder) if f.name.startswith(tuple(groups.values()))]
    table: dict[str, dict[str, dict[str, float]]] = {}
    for prefix in groups.values():
        members = [folder for folder in folders if folder.name.startswith(prefix)]
        samples = [Sample(folder) for folder in members]
        others = {
            name: [Sample(folder, entries, settings) for folder in members]
            for name, (settings, entries) in (variants(3) if options.ablation else {}).items()
            if name.startswith(("random", "plain", "unlimited"))
        }
        for method, rows in left_out(samples, draws, others, options.ablation).items():
            table.setdefault(method, {}).update(rows)
    table["as shipped"] = {}
    for folder in folders:
        reference = read_reference(folder)
        table["as shipped"][folder.name] = score((Whole.read(folder).prob(), 0.5), reference)
        for control in ("cva", "irmad", "d + ir"):
            table.setdefault(control, {})[folder.name] = score(METHODS[control](folder, 0), reference)
    head = f"{'AUC':>8s}{'AP':>8s}{'F1':>8s}{'best F1':>9s}{'F1/best':>9s}{'ECE':>8s}"
    for group, prefix in groups.items():
        print(f"\n{group + ', macro':42s}{head}")
        for method, rows in table.items():
            if any(name.startswith(prefix) for name in rows):
                print(f"{method:42s}" + line(macro(rows, prefix)))
    if options.json:
        options.json.write_text(json.dumps(table, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
