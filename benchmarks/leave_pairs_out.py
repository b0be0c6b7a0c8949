"""What the default is worth on pairs that nothing was chosen on: networks and constants by leave-pairs-out.

    python benchmarks/leave_pairs_out.py FOLDER --cache CACHE [--weights tied] [--json scores.json]

FOLDER is that of ``accuracy.py``: one folder per pair, named SENSOR_SITE, with before.tif, after.tif and
mask.tif. The numbers at the end of a name are dropped to get its site, so that two pairs of one place are
never on both sides. Sites in alphabetical order are dealt to four folds. For every fold, from the pairs
of the other folds alone:

1. **Typical deviations**: the mean over the pairs of each distance's deviation.
2. **Constants of the closed form**: 200 random draws (one seed, the same draws in every fold) of the
   weights (``tied``: 1 for image, ir and tx, 0 to 1.5 for gd, cc and ln together; ``free``: 0 to 1.5 for
   each distance), the cap (2.5 to 6), the gate (0 to 2), the object window (none, 4.5, 9, 13.5 m) and
   its gain (0 to 0.3), on every few rows and columns (at most 70 000 pixels a pair; the windows are
   divided by the same number). A draw's decision is the best of 1.0, 1.1, ... 3.0. The ten best draws are
   averaged, which is steadier than the best one (of the object window, the value that most of them have),
   and the decision is chosen again for the average.
3. **Slopes of the probability**: the pair of a small grid with the least expected calibration error.
4. **Networks**: ``training/pretrain.py`` under these constants, without the fold's pairs.
5. **Weight of the networks**: the best of 0, 0.05, ... 0.4 on the other pairs, adapted to each.

The objective of 2 and 5: AP + F1 at the decision, each as the mean over a sensor's pairs, divided by that
of CVA on all bands on the same pairs; then the mean of Sentinel-2 and aerial. Reference maps of a fold's
pairs are read when its maps are finished. What this does *not* leave out: which distances there are,
their windows, the form of the sum and of the networks, and the schedule. These were found on all pairs.

Compared with: the constants as shipped (chosen on all pairs) with networks that did not see the fold; the
same without networks; and the controls. Some single constants are varied with all others as shipped.
"d + ir" is that of ``accuracy.py``; "smoothed" gives it the object window of the default, which is what
fine pixels gain most from; "decision left out" a fixed decision chosen on the other pairs.

One thread, half an hour. CACHE keeps the networks under a name made of the code and their constants.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import re
import runpy
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from accuracy import GROUPS, Map, labelled_pairs, line, rgb_indexes, score, sum_d_ir
from closed_form import (
    SENSORS,
    WINDOWS,
    Constants,
    Search,
    Values,
    as_prob,
    f1_at,
    read_reference,
    relative,
    sample,
    typical_std,
)

from geocd.config import MethodSettings, Settings
from geocd.method import default, distance, learning
from geocd.method.classical import ClassicalDetector
from geocd.method.decision import otsu, prob_from_distance
from geocd.method.devices import one_thread
from geocd.method.filters import gaussian
from geocd.raster.pair import Pair
from geocd.scene.sample import sample_chips

FOLDS = 4
CONTROL_DECISIONS = np.round(np.arange(2.0, 20.01, 0.25), 2)
LEARNED = tuple(np.round(np.arange(0, 0.41, 0.05), 2).tolist())
#: Single constants, to be chosen with all others as shipped.
SINGLE: dict[str, tuple[float, ...]] = {
    "object_metres": WINDOWS,
    "gate": (0.0, 0.25, 0.5, 1.0, 2.0),
    "cap": (3.0, 4.0, 5.0, 6.0),
    "object_gain": (0.0, 0.1, 0.15, 0.2, 0.3),
}
ROOT = Path(__file__).resolve().parent.parent


def folds(names: Iterable[str]) -> list[list[str]]:
    """Deal sites to folds."""
    site = {name: re.sub(r"\d+$", "", name.split("_", 1)[-1]) for name in sorted(names)}
    order = sorted(set(site.values()))
    return [[name for name in site if order.index(site[name]) % FOLDS == k] for k in range(FOLDS)]


def product_maps(folder: Path, constants: Constants, weights: Path | None) -> tuple[Values, Values, Values]:
    """Return distance, logit (0 without networks) and valid pixels, by the product's own detector."""
    method = MethodSettings(weights=str(weights) if weights else "random", iterations=None if weights else 0)
    settings = Settings(method=method).resolved().method
    with (
        constants.in_use(),
        one_thread(),
        Pair(folder / "before.tif", folder / "after.tif") as pair,
    ):
        detector = default.DefaultDetector.fit(sample_chips(pair), pair, settings, 1)
        chip = pair.read(pair.grid.window)
        scaled = detector.features.scaled(chip)
        distance = detector.features.distance(scaled)
        inputs = learning.network_input(scaled, detector.features.colour, distance)
        with torch.no_grad():
            logit = detector.logit(inputs, chip, detector.networks) if weights else torch.zeros_like(distance)
        return distance.numpy(), logit.numpy(), chip.valid


def pretrained(folder: Path, cache: Path, constants: Constants, left_out: Sequence[str]) -> Path:
    """Run the product's pretraining under constants, without pairs; kept by code and constants."""
    digest = hashlib.sha256()
    for path in sorted([*ROOT.glob("geocd/**/*.py"), ROOT / "training" / "pretrain.py"]):
        digest.update(path.read_bytes())
    digest.update(json.dumps([dataclasses.asdict(constants), sorted(left_out)], sort_keys=True).encode())
    weights = cache / f"{digest.hexdigest()[:16]}.safetensors"
    if not weights.exists():
        partial = weights.with_suffix(".partial")
        arguments = ["pretrain.py", str(folder), str(partial), "--leave-out", ",".join(left_out)]
        with constants.in_use(), mock.patch.object(sys, "argv", arguments):
            runpy.run_path(str(ROOT / "training" / "pretrain.py"), run_name="__main__")
        partial.rename(weights)
    return weights


def smoothed_control(folder: Path) -> Values:
    """Return d + ir under the object window that the default has."""
    total = sum_d_ir(folder)
    with Pair(folder / "before.tif", folder / "after.tif") as pair:
        sigma = distance.object_sigma(pair.grid.pixel_size)
    return gaussian(torch.from_numpy(total.astype(np.float32)), sigma).numpy()


def fixed_decision(names: Sequence[str], curves: dict[str, Values]) -> float:
    """Return the decision with the best F1 on pairs, relative to the best of each sensor."""
    total = np.zeros(len(CONTROL_DECISIONS))
    for prefix in SENSORS:
        mean = np.mean([curves[name] for name in names if name.startswith(prefix)], axis=0)
        total += mean / mean.max()
    return float(CONTROL_DECISIONS[int(total.argmax())])


def classical(folder: Path, method: str, visible: bool) -> Map:
    """Return the probability of CVA or IR-MAD, on all or on the visible bands."""
    indexes = rgb_indexes(folder) if visible else None
    with Pair(folder / "before.tif", folder / "after.tif", indexes=indexes) as pair:
        detector = ClassicalDetector.fit(method, sample_chips(pair))
        return detector.prob(pair.read(pair.grid.window))[0], 0.5


def controls(folder: Path, parts: Sequence[Sequence[str]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the scores of the controls."""
    names = sorted(name for part in parts for name in part)
    references = {name: read_reference(folder / name) for name in names}

    def of_distance(name: str, distance: Values, decision: float) -> dict[str, float]:
        prob = prob_from_distance(np.asarray(distance, np.float32), decision)
        return score((prob, 0.5), references[name])

    table: dict[str, dict[str, dict[str, float]]] = {}
    for method in ("cva", "irmad"):
        for label, visible in ((method, False), (f"{method} rgb", True)):
            table[label] = {
                name: score(classical(folder / name, method, visible), references[name]) for name in names
            }
    plain = {name: sum_d_ir(folder / name) for name in names}
    table["d + ir"] = {name: of_distance(name, of, otsu(of)) for name, of in plain.items()}
    # the same map under two decisions: Otsu's, and a fixed one
    smooth = {name: smoothed_control(folder / name) for name in names}
    table["d + ir, smoothed"] = {name: of_distance(name, of, otsu(of)) for name, of in smooth.items()}
    curves = {}
    for name, values in smooth.items():
        labelled = references[name] != 255
        curves[name] = f1_at(values[labelled], references[name][labelled] == 1, CONTROL_DECISIONS)
    fixed: dict[str, dict[str, float]] = {}
    for part in parts:
        decision = fixed_decision([name for name in names if name not in part], curves)
        for name in part:
            fixed[name] = of_distance(name, smooth[name], decision)
    table["d + ir, smoothed, decision left out"] = dict(sorted(fixed.items()))
    return table


def scored(distance: Values, valid: Values, constants: Constants, reference: Values) -> dict[str, float]:
    """Return the columns of the product's probability."""
    result: Map = np.where(valid, as_prob(distance, constants), np.float32(np.nan)), 0.5
    return score(result, reference)


def learned_weight(
    folder: Path, names: Sequence[str], constants: Constants, weights: Path, cva: dict[str, dict[str, float]]
) -> float:
    """Return the weight of the networks with the best objective on pairs."""
    table: dict[float, dict[str, dict[str, float]]] = {value: {} for value in LEARNED}
    for name in names:
        if name.startswith(SENSORS):
            distance, logit, valid = product_maps(folder / name, constants, weights)
            for value in LEARNED:
                moved = distance + np.float32(value) * logit
                table[value][name] = scored(moved, valid, constants, read_reference(folder / name))
    return max(LEARNED, key=lambda value: relative(table[value], cva))


def report(table: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print every method: pairs, then groups."""
    head = f"{'AUC':>8s}{'AP':>8s}{'F1':>8s}{'best F1':>9s}{'F1/best':>9s}{'ECE':>8s}"
    for method, rows in table.items():
        print(f"\n{method}\n{'':22s}{head}")
        for name, scores in rows.items():
            print(f"{name:22s}" + line(scores))
        for group, prefix in GROUPS.items():
            print(f"{'macro ' + group:22s}" + line(macro(rows, prefix)))
    for group in ("Sentinel-2", "aerial"):
        print(f"\n{group + ', macro':42s}{head}")
        for method, rows in table.items():
            print(f"{method:42s}" + line(macro(rows, GROUPS[group])))


def macro(rows: dict[str, dict[str, float]], prefix: str) -> dict[str, float]:
    """Return the mean over a sensor's pairs."""
    members = [scores for name, scores in rows.items() if name.startswith(prefix)]
    return {key: statistics.fmean(scores[key] for scores in members) for key in members[0]}


def main() -> None:
    """Choose, pretrain, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="folder for the networks of the folds")
    parser.add_argument(
        "--weights",
        choices=("tied", "free"),
        default="tied",
        help="draw one weight for gd, cc and ln together, or one for each distance",
    )
    parser.add_argument("--json", type=Path, help="write all scores, choices and draws here")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()

    def tell(text: str) -> None:
        print(f"[{time.perf_counter() - begin:5.0f} s] {text}", flush=True)

    names = [folder.name for folder in labelled_pairs(options.folder)]
    parts = folds(names)
    samples = [sample(options.folder / name) for name in names]
    tell(f"{len(samples)} pairs; folds: " + " | ".join(", ".join(part) for part in parts))
    table = controls(options.folder, parts)
    search = Search(samples, table["cva"], options.weights == "tied")
    tell("controls")
    shipped = Constants.shipped()
    ours = (
        "shipped constants, no networks",
        "shipped constants, left-out networks",
        "left-out constants, no networks",
        "left-out constants, left-out networks",
    )
    rows: dict[str, dict[str, dict[str, float]]] = {method: {} for method in ours}
    record: dict[str, Any] = {"folds": [], "single": {}}
    profile: dict[float, dict[str, dict[str, float]]] = {value: {} for value in LEARNED}
    for part in parts:
        others = [pair for pair in samples if pair.name not in part]
        start = dataclasses.replace(shipped, typical_std=typical_std(others))
        chosen, draws = search.choose(start, part)
        tell("left out: " + ", ".join(part))
        weights = pretrained(options.folder, options.cache, chosen, part)
        value = learned_weight(options.folder, [pair.name for pair in others], chosen, weights, table["cva"])
        chosen = dataclasses.replace(chosen, learned_weight=value)
        tell(f"chosen: {chosen}")
        record["folds"].append({"pairs": part, "constants": dataclasses.asdict(chosen), "draws": draws})
        of_shipped = pretrained(options.folder, options.cache, shipped, part)
        for name in part:
            reference = read_reference(options.folder / name)
            for label, constants, networks in (
                ("shipped", shipped, of_shipped),
                ("left-out", chosen, weights),
            ):
                distance, logit, valid = product_maps(options.folder / name, constants, networks)
                moved = distance + np.float32(constants.learned_weight) * logit
                rows[f"{label} constants, no networks"][name] = scored(distance, valid, constants, reference)
                rows[f"{label} constants, left-out networks"][name] = scored(
                    moved, valid, constants, reference
                )
                for value in LEARNED if label == "shipped" else ():
                    moved = distance + np.float32(value) * logit
                    profile[value][name] = scored(moved, valid, constants, reference)
        tell("scored")
    table |= {method: dict(sorted(of.items())) for method, of in rows.items()}
    report({method: {name: of[name] for name in names} for method, of in table.items()})

    print("\nshipped constants, left-out networks, by the weight of the networks; macro on left-out pairs")
    for group in ("Sentinel-2", "aerial"):
        for value, of in profile.items():
            print(f"{group:12s}{value:6.2f}    " + line(macro(of, GROUPS[group])))
    print("\nobjective of single constants, all others as shipped, decision anew; * chosen")
    for constant, values in SINGLE.items():
        for part in parts:
            reached = {
                value: search.scores(dataclasses.replace(shipped, **{constant: value}), part)
                for value in values
            }
            best = max(reached, key=lambda value: reached[value][0])
            record["single"].setdefault(constant, []).append(reached)
            print(
                f"{constant:14s} without {', '.join(part):44s}"
                + "".join(
                    f"{value:6g}{'*' if value == best else ' '}{r[0]:.3f} ({r[1]:.1f})"
                    for value, r in reached.items()
                )
            )
    tell("done")
    if options.json:
        options.json.write_text(
            json.dumps({"scores": table, "learned_weight": profile} | record, indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
