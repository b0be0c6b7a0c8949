"""How often the intervals of ``geocd estimate`` hold the true area: samples drawn again and again.

    python benchmarks/estimate.py FOLDER [--draws 20000] [--maps MAPS] [--json scores.json]

FOLDER is that of ``accuracy.py``. For each labelled pair the map is made with the defaults (or read from
MAPS/<pair>_prob.tif), the sample is sized as ``geocd sample`` does, and drawn so many times; the reference
map judges the points. Printed are, for every pair, the changed area in the map, in truth and as estimated
on average, and the share of the draws whose 95 % interval holds the truth: Jeffreys (the default) and Wald
(as published). 93 to 97 of 100 is what is aimed at. Unknown pixels of the reference are left out of
everything.
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

from geocd.pipeline.run import detect
from geocd.review.estimation import JudgedSample
from geocd.review.strata import CHANGED, indexes_of, sample_sizes, strata_of


def probability(folder: Path, maps: Path | None) -> tuple[np.ndarray, dict[str, object]]:
    """Return the probability of a pair, and the profile of its raster."""
    with tempfile.TemporaryDirectory() as scratch:
        path = None if maps is None else maps / f"{folder.name}_prob.tif"
        if path is None:
            files, _ = detect(folder / "before.tif", folder / "after.tif", Path(scratch) / "run")
            path = files["prob"]
        with rasterio.open(path) as dataset:
            return dataset.read(1), dict(dataset.profile)


def drawn(changed: list[int], pixels: list[int], sizes: list[int], draws: int) -> list[tuple[list[int], int]]:
    """Return how many changed pixels samples have in each stratum, and how often that was drawn."""
    random = np.random.default_rng(0)
    counts = np.stack(
        [
            random.hypergeometric(yes, every - yes, size, draws)
            for yes, every, size in zip(changed, pixels, sizes, strict=True)
        ],
        axis=1,
    )
    unique, times = np.unique(counts, axis=0, return_counts=True)
    return list(zip(unique.tolist(), times.tolist(), strict=True))


def coverage(folder: Path, maps: Path | None, draws: int) -> dict[str, float]:
    """Return the figures of a pair."""
    prob, profile = probability(folder, maps)
    reference = read_reference(folder)
    prob[reference == 255] = np.nan
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "prob.tif"
        with rasterio.open(path, "w", **profile) as dataset:
            dataset.write(prob, 1)
        strata = strata_of(str(path), 0.5)
    sizes = sample_sizes(strata)
    index, valid = indexes_of(prob, strata), np.isfinite(prob)
    truth = [reference[valid & (index == k)] == 1 for k in range(len(strata))]
    areas = np.array([stratum.area for stratum in strata])
    true = sum(area * of.mean() for area, of in zip(areas, truth, strict=True)) / areas.sum()
    stratum = np.repeat(np.arange(len(strata)), sizes)
    mapped = np.array([strata[k].map_class for k in stratum])
    held, estimates, errors = {"jeffreys": 0, "wald": 0}, 0.0, 0.0
    for counts, times in drawn([int(of.sum()) for of in truth], [of.size for of in truth], sizes, draws):
        parts = [np.arange(size) < count for size, count in zip(sizes, counts, strict=True)]
        changed = np.concatenate(parts)
        sample = JudgedSample(areas, stratum, mapped, np.where(changed, CHANGED, "unchanged"))
        for interval in ("jeffreys", "wald"):
            share = sample.share(changed, interval)
            held[interval] += times * (share.low <= true <= share.high)
        estimates += times * share.estimate
        errors += times * share.standard_error
    return {
        "points": sum(sizes),
        "mapped": sum(s.area for s in strata if s.map_class == CHANGED) / areas.sum(),
        "true": true,
        "estimated": estimates / draws,
        "standard_error": errors / draws,
        **{name: count / draws for name, count in held.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=20000)
    parser.add_argument("--maps", type=Path, help="probability rasters that are there already")
    parser.add_argument("--pairs", help="names of pairs, with commas; default: all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    heads = "".join(f"{head:>9s}" for head in ("points", "in map", "true", "estimate", "jeffreys", "wald"))
    print(f"{'pair':20s}{heads}")
    for folder in labelled_pairs(options.folder, options.pairs):
        row = rows[folder.name] = coverage(folder, options.maps, options.draws)
        shares = "".join(f"{row[name]:9.2%}" for name in ("mapped", "true", "estimated"))
        held = f"{row['jeffreys']:9.1%}{row['wald']:9.1%}"
        print(f"{folder.name:20s}{row['points']:9d}{shares}{held}", flush=True)
    for name in ("jeffreys", "wald"):
        values = sorted(row[name] for row in rows.values())
        inside = sum(0.93 <= value <= 0.97 for value in values)
        print(
            f"{name}: {values[0]:.1%} to {values[-1]:.1%}, mean {statistics.fmean(values):.1%}; "
            f"93 to 97 % in {inside} of {len(values)} pairs"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
