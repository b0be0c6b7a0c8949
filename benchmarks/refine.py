"""What verdicts teach: a simulated reviewer judges some polygons of each pair, and the rest is ranked.

    python benchmarks/refine.py FOLDER [--results RESULTS] [--label 0] [--seeds 10] [--json scores.json]

FOLDER is that of ``accuracy.py``. For each pair the changes are detected with the defaults and their
evidence is measured, as ``geocd refine`` does (or both are taken from RESULTS/<pair>_*). The reviewer, who
alone sees the reference map, says yes to a polygon that shares a pixel with a change of it, as ``geocd
evaluate`` confirms objects (``--label``: of which at least this share of the known pixels changed); he
begins with five polygons at random (the seed), and then judges what ``judge_next`` proposes, five at a
time. Polygons that are mostly unknown are left out.

Printed is the average precision of the polygons that were not judged, ranked by relevance, less that of the
same polygons ranked by ``p_mean``: after 10, 20 and 40 verdicts, mean over the seeds, then over the pairs
(those where p_mean alone has less than .4 apart). Pairs with fewer than ten polygons left, and draws that
leave none or only changed ones, are not scored. Without a verdict, the order must be that of ``p_mean``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from accuracy import labelled_pairs, read_reference
from rasterio.features import rasterize

from geocd.pipeline.evidence import evidence_of
from geocd.pipeline.run import detect
from geocd.review.features import Traits, traits_of
from geocd.review.learning import Judged, ask_next, logits, relevance
from geocd.review.ranking import read_polygons

COUNTS = (10, 20, 40)
FIRST, BATCH = 5, 5


def average_precision(changed: np.ndarray, score: np.ndarray) -> float:
    """Return the average precision of a ranking; ties in their order."""
    ranked = changed[np.argsort(-score, kind="stable")]
    return float((ranked * np.cumsum(ranked) / np.arange(1, ranked.size + 1)).sum() / ranked.sum())


def polygons_of(
    folder: Path, results: Path, label: float, plain: bool
) -> tuple[Traits, np.ndarray, np.ndarray]:
    """Return traits, mean probability and truth of the polygons of a pair that are mostly known."""
    stem = results / folder.name
    if not Path(f"{stem}_changes.gpkg").exists():
        detect(folder / "before.tif", folder / "after.tif", stem)
    frame = read_polygons(Path(f"{stem}_changes.gpkg"))
    evidence = None
    if not plain:
        evidence = evidence_of(f"{stem}_prob.tif", list(frame.geometry), Path(f"{stem}_evidence.npz"))
    reference = read_reference(folder)
    with rasterio.open(f"{stem}_prob.tif") as dataset:
        transform = dataset.transform
    labels = rasterize(
        [(shape, number) for number, shape in enumerate(frame.geometry, 1)],
        reference.shape,
        transform=transform,
    )
    size = len(frame) + 1
    known = np.bincount(labels[reference != 255], minlength=size)[1:]
    changed = np.bincount(labels[reference == 1], minlength=size)[1:]
    usable = np.flatnonzero(known > 0.5 * frame["n_pixels"].to_numpy())
    if evidence is not None:
        evidence = evidence.iloc[usable]
    frame = frame.iloc[usable]
    truth = changed[usable] >= np.maximum(label * known[usable], 1)
    return traits_of(frame, evidence), frame["p_mean"].to_numpy(), truth


def simulate(traits: Traits, p_mean: np.ndarray, truth: np.ndarray, seed: int) -> dict[int, float]:
    """Return the gain after each number of verdicts."""
    random = np.random.default_rng(seed)
    words: list[str | None] = [None] * truth.size
    asked = list(random.choice(truth.size, min(FIRST, truth.size), replace=False))
    gains = {}
    for count in COUNTS:
        if truth.size - count < 10:
            break
        while True:
            for position in asked:
                words[position] = "yes" if truth[position] else "no"
            judged = Judged.of(traits, words)
            if judged.yes.size >= count:
                break
            seen = np.array([word is not None for word in words])
            asked = ask_next(traits, judged, seen, min(BATCH, count - judged.yes.size))
        rest = np.array([word is None for word in words])
        asked = []
        if truth[rest].any() and not truth[rest].all():
            refined = logits(traits, judged)
            gains[count] = average_precision(truth[rest], refined[rest]) - average_precision(
                truth[rest], p_mean[rest]
            )
    return gains


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--results", type=Path, help="results that are there already, and their evidence")
    parser.add_argument("--label", type=float, default=0.0)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--pairs", help="names of pairs, with commas; default: all")
    parser.add_argument("--plain", action="store_true", help="columns of the polygons only, no evidence")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    print(f"{'pair':20s}{'polygons':>9s}{'p_mean':>8s}" + "".join(f"{count:>8d}" for count in COUNTS))
    with tempfile.TemporaryDirectory() as scratch:
        for folder in labelled_pairs(options.folder, options.pairs):
            results = options.results or Path(scratch)
            traits, p_mean, truth = polygons_of(folder, results, options.label, options.plain)
            if not truth.any() or truth.all():
                continue
            nothing = relevance(traits, Judged.of(traits, [None] * truth.size))
            assert (np.argsort(-nothing, kind="stable") == np.argsort(-p_mean, kind="stable")).all()
            draws = [simulate(traits, p_mean, truth, seed) for seed in range(options.seeds)]
            row = {"polygons": truth.size, "p_mean": average_precision(truth, p_mean)}
            for count in COUNTS:
                if gains := [draw[count] for draw in draws if count in draw]:
                    row[str(count)] = statistics.fmean(gains)
            rows[folder.name] = row
            cells = "".join(f"{row[str(c)]:+8.3f}" if str(c) in row else f"{'-':>8s}" for c in COUNTS)
            print(f"{folder.name:20s}{row['polygons']:9d}{row['p_mean']:8.3f}{cells}", flush=True)
    for count in map(str, COUNTS):
        gains = {name: row[count] for name, row in rows.items() if count in row}
        low = [gain for name, gain in gains.items() if rows[name]["p_mean"] < 0.4]
        values = list(gains.values())
        print(
            f"after {count}: mean {statistics.fmean(values):+.3f} over {len(values)} pairs, "
            f"{statistics.fmean(low):+.3f} over the {len(low)} where p_mean has less than .4; "
            f"worst {min(values):+.3f}, below -.01 in {sum(gain < -0.01 for gain in values)}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
