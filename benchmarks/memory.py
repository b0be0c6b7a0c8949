"""Whether runs stay within their memory: peak of whole runs, as the kernel sees it, beside limit and plan.

    python benchmarks/memory.py PAIR [--cases "16Mpx;row"] [--scratch DIR]

PAIR is a folder with before.tif and after.tif, whose pixels are mirrored to other shapes. A torch that was
built for GPUs takes some 400 MB more than the limits without an option below allow for. Exits 1 where a run
takes more than its limit.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from measuring import HERE, detect, make_pair, measured

#: Prints the forecast of a run: tile size, jobs and peak.
FORECAST = """
import json, sys
from geocd.config import Settings
from geocd.pipeline.estimate import forecast
settings, limit = json.loads(sys.argv[3]), json.loads(sys.argv[4])
plan = forecast(*sys.argv[1:3], settings=Settings.from_flat(settings), mem_limit=limit, measure=False)
print(f"{plan.tile_size} {plan.jobs} {plan.peak}")
"""
#: So low that noise is change.
NOISE = 0.005
COLUMNS = (
    "case",
    "rows x columns",
    "bands",
    "tile",
    "jobs",
    "limit",
    "plan",
    "peak",
    "CPU s",
    "polygons",
    "within",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A run and the memory that it may take.

    Attributes
    ----------
    shape : tuple of int
        Height and width, in pixels.
    allowed : int
        Megabytes.
    limited : bool
        Whether that is passed as ``--mem-limit``; otherwise the run has no limit of the user.
    bands : int or None
        Number of bands; None for those of the pair.
    settings : mapping
        By name.
    """

    shape: tuple[int, int]
    allowed: int = 1000
    limited: bool = True
    bands: int | None = None
    settings: dict[str, str | float] = dataclasses.field(default_factory=dict)


CASES = {
    "4Mpx": Case((2000, 2000), limited=False),
    "16Mpx": Case((4000, 4000), limited=False),
    "120Mpx": Case((10954, 10954), 1100, limited=False),
    "64Mpx": Case((8000, 8000)),
    "row": Case((1, 4_000_000)),
    "column": Case((4_000_000, 1)),
    "wide": Case((600, 40_000)),
    "13 bands": Case((3000, 3000), bands=13),
    "polygons": Case((8000, 8000), settings={"threshold": NOISE}),
    "cva": Case((4000, 4000), 640, settings={"method": "cva"}),
    "irmad": Case((4000, 4000), 700, settings={"method": "irmad"}),
    "irmad, 13 bands": Case((3000, 3000), bands=13, settings={"method": "irmad"}),
    "reference": Case(
        (256, 256), 2000, settings={"preset": "reference", "weights": "random", "iterations": 2}
    ),
}


def with_bands(source: Path, target: Path, count: int) -> Path:
    """Write the pair with so many bands: its own in turn, each with another gain, in one small raster."""
    target.mkdir()
    for name in ("before.tif", "after.tif"):
        with rasterio.open(source / name) as dataset:
            values = dataset.read()
            gains = 1 - 0.05 * (np.arange(count) // len(values))
            more = (values[np.arange(count) % len(values)] * gains[:, None, None]).astype(values.dtype)
            profile = dataset.profile | {"count": count}
            with rasterio.open(target / name, "w", **profile) as sink:
                sink.write(more)
    return target


def run(name: str, case: Case, source: Path, scratch: Path) -> tuple[list[str], bool]:
    """Run a case; return its line of the table, and whether it kept within what is allowed."""
    if case.bands is not None:
        source = with_bands(source, scratch / "bands", case.bands)
    pair = make_pair(source, scratch / "pair", *case.shape)
    limit = case.allowed if case.limited else None
    plan = measured(
        [sys.executable, "-c", FORECAST, *pair, json.dumps(case.settings), json.dumps(limit)], HERE
    )
    if plan.code:
        print(f"{name}: {plan.said}", file=sys.stderr)
    tile, jobs, peak = plan.said.split() if not plan.code else ["", "", "refused"]
    options = [f"--{key}={value}" for key, value in case.settings.items()]
    options += ["--mem-limit", str(limit)] if limit is not None else []
    done = measured(detect(pair, scratch / "out", *options))
    polygons = ""
    if not done.code:
        item = json.loads((scratch / "out.json").read_text(encoding="utf-8"))
        polygons = str(item["properties"]["geocd:summary"]["n_polygons"])
    else:
        print(f"{name}: {done.said}", file=sys.stderr)
    with rasterio.open(pair[0]) as dataset:
        bands = dataset.count
    within = not done.code and done.memory_mb <= case.allowed
    shape = f"{case.shape[0]} x {case.shape[1]}"
    words = [
        name,
        shape,
        str(bands),
        tile,
        jobs,
        str(case.allowed) + ("" if case.limited else " (default)"),
        peak,
    ]
    words += [f"{done.memory_mb:.0f}", f"{done.cpu_s:.1f}", polygons, "yes" if within else "NO"]
    return words, within


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--scratch", type=Path, help="folder for the pairs (up to 6 GB for 120 Mpx)")
    options = parser.parse_args()
    names = [name.strip() for name in options.cases.split(";")] if options.cases else list(CASES)
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---|---" + "|--:" * (len(COLUMNS) - 2) + "|", flush=True)
    right = True
    for name in names:
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            words, within = run(name, CASES[name], options.folder, Path(scratch))
        right = right and within
        print("| " + " | ".join(words) + " |", flush=True)
    sys.exit(not right)


if __name__ == "__main__":
    main()
