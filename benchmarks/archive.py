"""Measure what a batch of very many pairs costs apart from the pairs themselves.

    python benchmarks/archive.py [--pairs 10000] [--keep OUTDIR]

Writes the manifest and the items of so many finished pairs (made up: one item each, of some kB), and prints
the CPU seconds of `geocd batch --status`, of its `--json`, of index.html and of the catalogue, each a process
of its own or a call in one, and the memory of this process with all records. With --keep, OUTDIR is left, to
open its index.html in a browser. Exits 1 where `--status` takes 3 s of CPU or more.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from geocd.batch.archive import write_catalog
from geocd.batch.manifest import read
from geocd.batch.overview import write_overview

GEOCD = [sys.executable, "-c", "import sys; from geocd.cli import main; main(sys.argv[1:])"]


def write_archive(folder: Path, count: int) -> None:
    """Write the manifest and the items of finished pairs, spread over a continent."""
    with (folder / "manifest.jsonl").open("w") as manifest:
        for number in range(count):
            name = f"pair-{number:05d}"
            west, south = -10 + number % 200 * 0.2, 36 + number // 200 * 0.2
            outputs = {
                f"{name}{suffix}": {"size": 1000, "sha256": "0" * 64}
                for suffix in ("_prob.tif", "_changes.gpkg", "_quicklook.png", "_report.html", ".json")
            }
            files = [{"file": "scene.tif", "size": 1, "mtime_ns": 1, "sha256": "0" * 64}]
            record = {
                "time": "2024-01-01T00:00:00.000000Z", "id": name, "state": "done", "config": "0" * 16,
                "inputs": {"before": files, "after": files}, "outputs": outputs, "pixels": 4_000_000,
                "timings": {"fit": 10.0, "tiles": 20.0}, "polygons": 40, "findings": [], "seconds": 31.5,
            }  # fmt: skip
            manifest.write(json.dumps(record) + "\n")
            summary = {"area_m2": 1e4 * (number * 7919 % 1000), "changed_share": 0.01, "n_polygons": 40}
            item = {
                "type": "Feature", "id": name, "bbox": [west, south, west + 0.15, south + 0.15],
                "properties": {"geocd:summary": summary, "geocd:date_before": "2023-06-01T00:00:00Z",
                               "geocd:date_after": "2024-06-01T00:00:00Z", "other": "y" * 2000},
            }  # fmt: skip
            (folder / name).mkdir()
            (folder / name / f"{name}.json").write_text(json.dumps(item))


def cpu(who: int) -> float:
    """Return the CPU seconds so far of this process or of its ended children."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def command(*words: str) -> float:
    """Run the command, and return its CPU seconds."""
    begin = cpu(resource.RUSAGE_CHILDREN)
    subprocess.run([*GEOCD, *words], stdout=subprocess.DEVNULL, check=True)
    return cpu(resource.RUSAGE_CHILDREN) - begin


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="work here instead of in a folder that goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_archive(folder, options.pairs)
        nothing = command("--version")
        status = command("batch", "--status", str(folder))
        as_json = command("batch", "--status", str(folder), "--json")
        print(f"geocd --version          {nothing:6.2f} s CPU")
        print(f"--status                 {status:6.2f} s CPU")
        print(f"--status --json          {as_json:6.2f} s CPU")
        begin, before = cpu(resource.RUSAGE_SELF), time.perf_counter()
        records, _ = read(folder)
        print(f"the manifest, read       {cpu(resource.RUSAGE_SELF) - begin:6.2f} s CPU", end=", ")
        print(f"memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
        for name, write in (("index.html", write_overview), ("catalog.json", write_catalog)):
            begin = cpu(resource.RUSAGE_SELF)
            path = write(folder, records)
            assert path is not None
            size = path.stat().st_size / 1e6
            print(f"{name:24s} {cpu(resource.RUSAGE_SELF) - begin:6.2f} s CPU, {size:.1f} MB")
        print(f"{time.perf_counter() - before:.1f} s for the last three, by the clock")
        sys.exit(status >= 3)


if __name__ == "__main__":
    main()
