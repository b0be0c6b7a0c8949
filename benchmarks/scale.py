"""Speed, memory and seams from 1 to 120 Mpx, beside what else could be run on the same files.

    python benchmarks/scale.py PAIR [--sizes 1,4,16,64,120] [--json scale.json] [--markdown]
    python benchmarks/scale.py PAIR --tiles         (does the map depend on the tile size?)

PAIR is a folder with before.tif and after.tif. Larger pairs are made of its pixels by mirroring, so that
they have no borders of their own, and are written as tiled GeoTIFFs. In one run, each command is a process
of its own, and memory (peak resident) and CPU time are what the kernel says of it:

- default    geocd detect
- irmad      geocd detect --method irmad
- reference  geocd detect --preset reference --weights random on N x N pixels, beside the default on the
             same, and multiplied up to the other sizes (only with --reference-crop N; many minutes).
             Random weights cost what those of ImageNet do
- otb        otbcli_MultivariateAlterationDetector of the Orfeo ToolBox (Debian: otb-bin), where installed
- floor      read both rasters and write one, by the same blocks: what no method can do without
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

GEOCD = [sys.executable, "-c", "from geocd.cli import main; main()", "-q", "detect"]
OTB = "otbcli_MultivariateAlterationDetector"
BLOCK = 512
COLUMNS = (
    *("s", "s/Mpx", "s/further Mpx", "Mpx/s", "CPU s/Mpx", "MB", "seam score"),
    *("x floor", "x default", "CPU x default"),
)


def measured(command: list[str]) -> dict[str, Any]:
    """Run a command; return wall and CPU seconds, peak memory in MB, exit code and stderr.

    The kernel also counts what this process held as it began the other, so less than 100 MB is never seen.
    """
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().strip()
    return {
        "code": process.returncode,
        "wall_s": time.perf_counter() - begin,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "memory_mb": usage.ru_maxrss / 1024,
        "said": text[-2000:],
    }


def mirrored(begin: int, length: int, size: int) -> np.ndarray:
    """Return which of ``size`` pixels stand at ``begin``... of an axis that goes to and fro."""
    positions = np.arange(begin, begin + length) % (2 * size)
    return np.where(positions < size, positions, 2 * size - 1 - positions)


def enlarge(source: Path, target: Path, height: int, width: int) -> None:
    """Write a raster of any size from the pixels of another, a row of blocks at a time."""
    with rasterio.open(source) as dataset:
        values = dataset.read()
        profile = {
            "driver": "GTiff",
            "crs": dataset.crs,
            "transform": dataset.transform,
            "nodata": dataset.nodata,
            "count": dataset.count,
            "dtype": dataset.dtypes[0],
            "height": height,
            "width": width,
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "compress": "deflate",
            "zlevel": 1,
            "predictor": 2 if np.dtype(dataset.dtypes[0]).kind in "iu" else 3,
            "interleave": "band",
            "bigtiff": "if_safer",
        }
        descriptions, tags = dataset.descriptions, dataset.tags()
    cols = mirrored(0, width, values.shape[2])
    with rasterio.open(target, "w", **profile) as sink:
        sink.descriptions = descriptions
        sink.update_tags(**{k: v for k, v in tags.items() if k != "AREA_OR_POINT"})
        for row in range(0, height, BLOCK):
            rows = mirrored(row, min(BLOCK, height - row), values.shape[1])
            strip = values[:, rows[:, None], cols[None, :]]
            sink.write(strip, window=Window(0, row, width, len(rows)))


def make_pair(folder: Path, target: Path, megapixels: float) -> tuple[Path, Path]:
    """Write a square pair of so many megapixels."""
    side = round(math.sqrt(megapixels * 1e6))
    target.mkdir(parents=True, exist_ok=True)
    paths = target / "before.tif", target / "after.tif"
    for path in paths:
        if not path.exists():
            enlarge(folder / path.name, path, side, side)
    return paths


def floor(before: str, after: str, target: str) -> None:
    """Read both rasters and write one band of float32, by blocks, compressed as a result is."""
    with (
        rasterio.Env(GDAL_CACHEMAX=128),
        rasterio.open(before) as before_image,
        rasterio.open(after) as after_image,
    ):
        profile = {
            "driver": "GTiff",
            "crs": before_image.crs,
            "transform": before_image.transform,
            "count": 1,
            "dtype": "float32",
            "height": before_image.height,
            "width": before_image.width,
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "compress": "deflate",
            "predictor": 3,
            "bigtiff": "if_safer",
        }
        with rasterio.open(target, "w", **profile) as sink:
            for row in range(0, before_image.height, BLOCK):
                for col in range(0, before_image.width, BLOCK):
                    window = Window(
                        col, row, min(BLOCK, before_image.width - col), min(BLOCK, before_image.height - row)
                    )
                    # Something that must be computed from all bands of both and compresses like a map.
                    apart = (before_image.read(window=window) > after_image.read(window=window)).mean(axis=0)
                    sink.write(apart.astype(np.float32), 1, window=window)


def commands(before: Path, after: Path, out: Path, methods: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield what is to be measured on one pair."""
    pair = [str(before), str(after)]
    for method in methods:
        stem = ["-o", str(out / method), "--overwrite"]
        if method == "floor":
            yield method, [sys.executable, __file__, "--floor", *pair, str(out / "floor.tif")]
        elif method == "default":
            yield method, [*GEOCD, *pair, *stem]
        elif method == "irmad":
            yield method, [*GEOCD, *pair, *stem, "--method", "irmad"]
        elif method == "otb" and shutil.which(OTB):
            yield method, [OTB, "-in1", pair[0], "-in2", pair[1], "-out", str(out / "otb.tif"), "float"]


def reported(stem: Path) -> dict[str, Any]:
    """Return what a run of geocd says of itself: seam score, seconds by stage."""
    path = stem.with_name(stem.name + ".json")
    if not path.exists():
        return {"seam_score": None}
    properties = json.loads(path.read_text(encoding="utf-8"))["properties"]
    return {
        "seam_score": properties["geocd:summary"]["seam_score"],
        "stages": properties.get("geocd:timings"),
    }


def measure(
    folder: Path, sizes: list[float], methods: list[str], crop: int | None, scratch: Path, record: Path | None
) -> list[dict[str, Any]]:
    """Measure all methods on all sizes; the reference on one crop, for all sizes. Save as it goes on."""
    rows: list[dict[str, Any]] = []
    reference = None
    if crop is not None:
        pair = [str(path) for path in make_pair(folder, scratch / "crop", crop * crop / 1e6)]
        for method, extra in (
            ("default", []),
            ("reference", ["--preset", "reference", "--weights", "random"]),
        ):
            stem = scratch / "crop" / method
            row = measured([*GEOCD, *pair, "-o", str(stem), "--overwrite", *extra])
            row |= {"method": method, "megapixels": crop * crop / 1e6} | reported(stem)
            rows.append(row)
            report(method, row)
        reference = rows[-1]
    for size in sizes:
        where = scratch / f"{size:g}"
        before, after = make_pair(folder, where, size)
        with rasterio.open(before) as dataset:
            megapixels = dataset.height * dataset.width / 1e6
            bands, kind = dataset.count, dataset.dtypes[0]
        for method, command in commands(before, after, where, methods):
            row = measured(command) | {"method": method, "megapixels": megapixels}
            rows.append(row | {"bands": bands, "dtype": kind} | reported(where / method))
            report(method, row)
            save(rows, record)
        if reference is not None and reference["code"] == 0:
            share = megapixels / reference["megapixels"]
            extrapolated = {key: reference[key] * share for key in ("wall_s", "cpu_s")}
            rows.append(
                reference
                | extrapolated
                | {"method": f"reference, from {crop} x {crop}", "megapixels": megapixels}
            )
        shutil.rmtree(where)
    return rows


def report(method: str, row: dict[str, Any]) -> None:
    """Say how a measurement went, on stderr."""
    what = f"{row['wall_s']:.1f} s, {row['memory_mb']:.0f} MB" if row["code"] == 0 else row["said"]
    print(f"{row['megapixels']:g} Mpx, {method}: {what}", file=sys.stderr, flush=True)


def save(rows: list[dict[str, Any]], path: Path | None) -> None:
    """Write all that was measured, and how busy the machine is."""
    if path is not None:
        record = {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg(), "rows": rows}
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the rows as text, with the ratios to the floor and to the default of the same size.

    ``s/further Mpx`` is the slope from the next smaller size: what a run costs once is not in it.
    """
    lines = []
    for row in rows:
        size = row["megapixels"]
        name = [f"{size:.3g}", row["method"]]
        if row["code"] != 0:
            lines.append([*name, f"exit {row['code']}", *[""] * (len(COLUMNS) - 1)])
            continue
        further = ""
        alike = [
            r for r in rows if r["method"] == row["method"] and r["code"] == 0 and r["megapixels"] < size
        ]
        if alike:
            smaller = max(alike, key=lambda r: float(r["megapixels"]))
            further = f"{(row['wall_s'] - smaller['wall_s']) / (size - smaller['megapixels']):.3g}"
        like = {r["method"]: r for r in rows if r["megapixels"] == size and r["code"] == 0}
        ratios = [
            f"{row[key] / like[other][key]:.3g}" if other in like else ""
            for key, other in (("wall_s", "floor"), ("wall_s", "default"), ("cpu_s", "default"))
        ]
        seam = row["seam_score"]
        lines.append(
            [
                *name,
                f"{row['wall_s']:.1f}",
                f"{row['wall_s'] / size:.3g}",
                further,
                f"{size / row['wall_s']:.3g}",
                f"{row['cpu_s'] / size:.3g}",
                f"{row['memory_mb']:.0f}",
                "" if seam is None else f"{seam:.3f}",
                *ratios,
            ]
        )
    return lines


def show(head: list[str], lines: list[list[str]], markdown: bool) -> None:
    """Print a table, as text or as markdown."""
    if markdown:
        print("| " + " | ".join(head) + " |")
        print("|" + "|".join("---" if i < 2 else "--:" for i in range(len(head))) + "|")
        for line in lines:
            print("| " + " | ".join(line) + " |")
        return
    width = [max(len(line[i]) for line in [head, *lines]) + 2 for i in range(len(head))]
    for line in [head, *lines]:
        print("".join(text.rjust(n) for text, n in zip(line, width, strict=True)))


def compare_tiles(folder: Path, side: int, scratch: Path) -> list[dict[str, Any]]:
    """Run the default method with several tile sizes, and compare with one whole tile."""
    pair = []
    for name in ("before.tif", "after.tif"):
        with rasterio.open(folder / name) as source:
            if min(source.shape) < side:
                raise SystemExit(f"{folder / name}: smaller than {side} x {side} px. Choose another --side.")
            profile = source.profile | {"height": side, "width": side}
            with rasterio.open(scratch / name, "w", **profile) as sink:
                sink.write(source.read(window=Window(0, 0, side, side)))
                sink.descriptions = source.descriptions
        pair.append(str(scratch / name))
    maps: dict[int, np.ndarray] = {}
    rows = []
    for size in (side, 512, 256):
        stem = scratch / f"tiles{size}"
        row = measured([*GEOCD, *pair, "-o", str(stem), "--overwrite", "--tile-size", str(size)])
        if row["code"] != 0:
            raise SystemExit(row["said"])
        with rasterio.open(stem.with_name(stem.name + "_prob.tif")) as dataset:
            maps[size] = dataset.read(1)
        tiled, whole = maps[size], maps[side]
        changed, reference = tiled >= 0.5, whole >= 0.5
        row |= {
            "tile_size": size,
            "megapixels": side * side / 1e6,
            **reported(stem),
            "mean_abs_difference": float(np.nanmean(np.abs(tiled - whole))),
            "largest_difference": float(np.nanmax(np.abs(tiled - whole))),
            "iou": float((changed & reference).sum() / max((changed | reference).sum(), 1)),
        }
        report(f"tiles of {size}", row)
        rows.append(row)
    return rows


def main() -> None:
    """Run the benchmark."""
    if sys.argv[1:2] == ["--floor"]:  # as a process of its own, to be measured
        floor(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", default="1,4,16", help="megapixels; default 1,4,16")
    parser.add_argument("--methods", default="floor,default,irmad,otb")
    parser.add_argument("--reference-crop", type=int, metavar="N", help="run preset reference on N x N px")
    parser.add_argument("--tiles", action="store_true", help="compare tile sizes instead")
    parser.add_argument("--side", type=int, default=1024, help="of the window for --tiles")
    parser.add_argument("--scratch", type=Path, help="folder for the pairs (up to 6 GB for 120 Mpx)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    methods = options.methods.split(",")
    if "otb" in methods and not shutil.which(OTB):
        print(f"{OTB} is not installed (Debian: otb-bin), left out.", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        if options.tiles:
            rows = compare_tiles(options.folder, options.side, Path(scratch))
            head = ["tile size", "tiles' seam score", "mean difference", "largest", "IoU of changed"]
            lines = [
                [
                    str(row["tile_size"]),
                    "" if row["seam_score"] is None else f"{row['seam_score']:.3f}",
                    f"{row['mean_abs_difference']:.2g}",
                    f"{row['largest_difference']:.2g}",
                    f"{row['iou']:.4f}",
                ]
                for row in rows
            ]
        else:
            sizes = [float(size) for size in options.sizes.split(",")]
            rows = measure(
                options.folder, sizes, methods, options.reference_crop, Path(scratch), options.json
            )
            head, lines = ["Mpx", "what", *COLUMNS], table(rows)
    show(head, lines, options.markdown)
    save(rows, options.json)
    sys.exit(int(any(row["code"] != 0 for row in rows)))


if __name__ == "__main__":
    main()
