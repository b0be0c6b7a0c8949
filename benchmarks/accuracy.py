"""Agreement with reference maps: geocd's methods and the controls that they must beat.

    python benchmarks/accuracy.py FOLDER [--seeds 5] [--methods default,cva] [--json scores.json]

FOLDER holds one folder per pair with before.tif, after.tif and mask.tif (0 unchanged, 1 changed, 255
unknown). Every method sees before and after alone; mask.tif is read after its map is finished. Prints AUC,
AP, F1 at the method's own decision and best F1 over all thresholds, per pair and as the mean over the
pairs of a group.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window
from scipy import ndimage

from geocd.config import Settings
from geocd.method.classical import smooth
from geocd.method.decision import otsu, prob_from_distance
from geocd.method.irmad import IrMad
from geocd.metrics import evaluate
from geocd.pipeline.run import detect
from geocd.scene.radiometry import BandScale

GROUPS = {"Sentinel-2": "oscd_", "aerial": "sztaki_", "Landsat": "landsat_"}
COLUMNS = ("auc", "average_precision", "f1", "best_f1")
Map = tuple[np.ndarray, float]  # a map, and the value from which a pixel is changed


def run_geocd(folder: Path, *, mem_limit: int | None = None, **settings: Any) -> Map:
    """Run the pipeline into a folder that is thrown away; return the probability."""
    with tempfile.TemporaryDirectory() as scratch:
        files, record = detect(
            folder / "before.tif",
            folder / "after.tif",
            Path(scratch) / "run",
            settings=Settings.from_flat(settings),
            mem_limit=mem_limit,
        )
        with rasterio.open(files["prob"]) as dataset:
            return dataset.read(1), record.threshold


def labelled_pairs(folder: Path, names: str | None = None) -> list[Path]:
    """Return the folders of the pairs that have a reference map, in order; of these names, with commas."""
    chosen = names.split(",") if names else None
    return sorted(
        path.parent for path in folder.glob("*/mask.tif") if not chosen or path.parent.name in chosen
    )


def read_reference(folder: Path) -> np.ndarray:
    """Return the reference map: 0 unchanged, 1 changed, 255 unknown."""
    with rasterio.open(folder / "mask.tif") as dataset:
        return np.asarray(dataset.read(1))


def read_pair(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return both dates whole; the controls below are three lines of numpy on arrays."""
    dates = []
    for name in ("before", "after"):
        with rasterio.open(folder / f"{name}.tif") as dataset:
            dates.append(dataset.read().astype(np.float64))
    return dates[0], dates[1]


def colour_bands(folder: Path) -> list[int]:
    """Return R, G, B and, where there is one, NIR, as array indexes."""
    with rasterio.open(folder / "before.tif") as dataset:
        return [2, 1, 0, 3] if dataset.count >= 4 else [0, 1, 2][: dataset.count]


def sum_d_ir(folder: Path) -> np.ndarray:
    """Return the distance of the control d + ir: clipped CVA on RGB + NIR, IR-MAD on RGB, in deviations."""
    before, after = read_pair(folder)
    bands = colour_bands(folder)
    scaled = [
        BandScale.fit(date[bands].reshape(len(bands), -1)).apply(date[bands]) for date in (before, after)
    ]
    everywhere = np.ones(before.shape[1:], bool)
    d = smooth(np.sqrt(((scaled[0] - scaled[1]) ** 2).sum(axis=0)), everywhere, 2)
    rgb = bands[:3]
    irmad = IrMad.fit(before[rgb].reshape(len(rgb), -1), after[rgb].reshape(len(rgb), -1))
    chi = ndimage.gaussian_filter(irmad.chi(before[rgb], after[rgb]), 1)
    ir = smooth(np.log1p(chi), everywhere, 2)
    return d / d.std() + ir / ir.std()


def d_plus_ir(folder: Path) -> Map:
    """Return the control d + ir."""
    total = sum_d_ir(folder)
    return prob_from_distance(total, otsu(total)), 0.5  # the same order and decision, within [0, 1]


def has_reflectance(folder: Path) -> bool:
    """Return whether a pair has what ``--focus built`` needs: infrared, and more than 8 bits."""
    with rasterio.open(folder / "before.tif") as dataset:
        return dataset.count >= 4 and dataset.dtypes[0] != "uint8"


def rgb_indexes(folder: Path) -> tuple[int, ...]:
    """Return the band numbers of R, G and B."""
    return tuple(sorted(i + 1 for i in colour_bands(folder)[:3]))


METHODS: dict[str, Callable[[Path, int], Map]] = {
    "default": lambda folder, seed: run_geocd(folder, seed=seed),
    "default --focus built": lambda folder, seed: run_geocd(
        folder, seed=seed, focus="built" if has_reflectance(folder) else "any"
    ),
    "cva": lambda folder, seed: run_geocd(folder, method="cva"),
    "cva rgb": lambda folder, seed: run_geocd(folder, method="cva", bidx=rgb_indexes(folder)),
    "irmad": lambda folder, seed: run_geocd(folder, method="irmad"),
    "irmad rgb": lambda folder, seed: run_geocd(folder, method="irmad", bidx=rgb_indexes(folder)),
    "d + ir": lambda folder, seed: d_plus_ir(folder),
    "reference": lambda folder, seed: run_geocd(folder, preset="reference", seed=seed),
    "reference with random VGG16": lambda folder, seed: run_geocd(
        folder, preset="reference", weights="random", seed=seed
    ),
    "reference in one tile": lambda folder, seed: run_geocd(  # of a --crop no larger than the tile
        folder, preset="reference", weights="random", seed=seed, tile_size=512, mem_limit=16000
    ),
}
RANDOM = {"default", *(name for name in METHODS if "reference" in name)}


def score(result: Map, reference: np.ndarray) -> dict[str, float]:
    """Return the four columns, over the pixels that the reference knows."""
    values, threshold = result
    valid = (reference != 255) & np.isfinite(values)
    # Controls are distances; the scores but the calibration hold for any ranking.
    scores = evaluate(
        np.asarray(values[valid], np.float32), reference[valid] == 1, threshold=float(threshold)
    )
    return {column: float(getattr(scores, column)) for column in COLUMNS} | {
        "ece": float(scores.ece),
        "share": float((reference[valid] == 1).mean()),
    }


def crop(folder: Path, size: int, destination: Path) -> Path:
    """Write the crop with most known, changed pixels, for methods too slow for the whole pair."""
    with rasterio.open(folder / "mask.tif") as dataset:
        changed = (dataset.read(1) == 1).astype(np.float32)
    side = [min(size, n) for n in changed.shape]
    density = ndimage.uniform_filter(changed, side, mode="constant")
    centre = np.unravel_index(density.argmax(), density.shape)
    row, col = (
        int(np.clip(c - s // 2, 0, n - s)) for c, s, n in zip(centre, side, changed.shape, strict=True)
    )
    window = Window(col, row, side[1], side[0])
    target = destination / folder.name
    target.mkdir()
    for name in ("before", "after", "mask"):
        with rasterio.open(folder / f"{name}.tif") as source:
            profile = source.profile | {
                "height": side[0],
                "width": side[1],
                "transform": source.window_transform(window),
            }
            with rasterio.open(target / f"{name}.tif", "w", **profile) as sink:
                sink.write(source.read(window=window))
                sink.descriptions = source.descriptions
                sink.colorinterp = source.colorinterp
    return target


def report(name: str, rows: dict[str, list[dict[str, float]]]) -> None:
    """Print one method: pairs, then groups with the deviation over seeds."""
    print(f"\n{name}\n{'':22s}{'AUC':>8s}{'AP':>8s}{'F1':>8s}{'best F1':>9s}{'F1/best':>9s}{'ECE':>8s}")
    for pair, runs in rows.items():
        mean = {key: statistics.fmean(run[key] for run in runs) for key in runs[0]}
        print(f"{pair:22s}" + line(mean))
    for group, prefix in GROUPS.items():
        members = [runs for pair, runs in rows.items() if pair.startswith(prefix)]
        if not members:
            continue
        seeds = [
            {
                key: statistics.fmean(runs[min(k, len(runs) - 1)][key] for runs in members)
                for key in members[0][0]
            }
            for k in range(max(map(len, members)))
        ]
        mean = {key: statistics.fmean(s[key] for s in seeds) for key in seeds[0]}
        text = f"{'macro ' + group:22s}" + line(mean)
        if len(seeds) > 1:
            text += "   seeds: " + " ".join(
                f"{statistics.stdev(s[key] for s in seeds):.4f}" for key in COLUMNS
            )
        print(text)
    sys.stdout.flush()


def line(scores: dict[str, float]) -> str:
    """Return one row of the table."""
    auc, ap, f1, best = (scores[key] for key in COLUMNS)
    return f"{auc:8.3f}{ap:8.3f}{f1:8.3f}{best:9.3f}{f1 / best:9.2f}{scores['ece']:8.3f}"


def macro(rows: dict[str, dict[str, float]], prefix: str) -> dict[str, float]:
    """Return the mean over a sensor's pairs."""
    members = [scores for name, scores in rows.items() if name.startswith(prefix)]
    return {key: statistics.fmean(scores[key] for scores in members) for key in members[0]}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--methods",
        default="cva,cva rgb,irmad,irmad rgb,d + ir,default",
        help=f"comma-separated, of: {', '.join(METHODS)}",
    )
    parser.add_argument("--pairs", help="comma-separated names of folders; default: all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--crop", type=int, help="score a crop of this size instead of the whole pair")
    parser.add_argument("--json", type=Path, help="write all scores here")
    options = parser.parse_args()
    pairs = labelled_pairs(options.folder, options.pairs)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if options.crop:
            pairs = [crop(pair, options.crop, Path(scratch)) for pair in pairs]
        for name in options.methods.split(","):
            method = METHODS[name]
            rows: dict[str, list[dict[str, float]]] = {}
            begin, cpu_begin = time.perf_counter(), time.process_time()
            for pair in pairs:
                seeds = range(options.seeds if name in RANDOM else 1)
                rows[pair.name] = [score(method(pair, seed), read_reference(pair)) for seed in seeds]
            wall, cpu = time.perf_counter() - begin, time.process_time() - cpu_begin
            report(f"{name} ({wall:.0f} s, {cpu:.0f} CPU s)", rows)
            results[name] = rows
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
