"""Run `geocd batch` on many small crops of real pairs, disturb it, and check that nothing is lost.

    python benchmarks/batch.py FOLDER [--pairs 200] [--side 128] [--method cva] [--seed 0] [--keep OUTDIR]
        [--throughput]

FOLDER holds <pair>/before.tif and after.tif. Prints wall and CPU time of two serial halves side by side and
of a batch on two workers, and the memory of the client as it goes on; then compares the bytes of all outputs
between serial runs, one worker, two workers and a cluster of separate `dask scheduler` and `dask worker`
processes; puts five bad pairs among the good ones; and kills, at random moments and with SIGKILL, a worker,
the scheduler and the client, each followed by the same command again. Exits 1 when anything is lost, done
twice or other than in the undisturbed run. With --throughput it stops after the batch on two workers.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import rasterio
from rasterio.windows import Window

SUFFIXES = ("_prob.tif", "_prob.qml", "_changes.gpkg", "_changes.qml", "_quicklook.png")
GEOCD = [sys.executable, "-c", "import sys; from geocd.cli import main; main(sys.argv[1:])"]
#: What a serial user would write: a loop in one process. As in dask's workers, one thread for each.
SERIAL = """
import csv, sys
from pathlib import Path
from geocd.config import Settings
from geocd.pipeline.run import detect
pairs, out, method, part, parts = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:])
for row in list(csv.DictReader(pairs.open()))[part::parts]:
    folder = out / row["id"]
    folder.mkdir(parents=True)
    before, after = (pairs.parent / row[name] for name in ("before", "after"))
    detect(before, after, folder / row["id"], settings=Settings.from_flat({"method": method}), jobs=1)
"""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def crop(folder: Path, out: Path, count: int, side: int, chance: random.Random) -> list[dict[str, str]]:
    """Cut squares out of the pairs, in turn, at random places; return the rows of the list."""
    out.mkdir()
    sources = sorted(folder.glob("*/before.tif"))
    rows = []
    for number in range(count):
        source = sources[number % len(sources)]
        name = f"{number:04d}_{source.parent.name}"
        with rasterio.open(source) as dataset:
            row, col = (chance.randrange(max(1, size - side)) for size in dataset.shape)
        for which in ("before", "after"):
            with rasterio.open(source.with_name(f"{which}.tif")) as dataset:
                window = Window(col, row, min(side, dataset.width), min(side, dataset.height))
                profile = {
                    "driver": "GTiff",
                    "crs": dataset.crs,
                    "transform": dataset.window_transform(window),
                    "count": dataset.count,
                    "dtype": dataset.dtypes[0],
                    "nodata": dataset.nodata,
                    "height": window.height,
                    "width": window.width,
                }
                with rasterio.open(out / f"{name}_{which}.tif", "w", **profile) as sink:
                    sink.write(dataset.read(window=window))
        rows.append({"id": name, "before": f"{name}_before.tif", "after": f"{name}_after.tif"})
    return rows


def write_list(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    """Write the rows as a CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "before", "after"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def spoil(folder: Path, rows: list[dict[str, str]]) -> dict[str, str]:
    """Put five bad pairs among the rows; return the error that each must end in."""
    good = rows[0]
    content = (folder / good["before"]).read_bytes()
    (folder / "cut.tif").write_bytes(content[: len(content) // 2])
    with rasterio.open(folder / good["before"]) as dataset:
        profile, values = dataset.profile, dataset.read()
    with rasterio.open(folder / "grid.tif", "w", **{**profile, "width": 9, "height": 9}) as sink:
        sink.write(values[:, :9, :9])
    with rasterio.open(folder / "empty.tif", "w", **{**profile, "nodata": 0}) as sink:
        sink.write(0 * values)
    bad = {
        "missing": ("gone.tif", "RasterOpenError"),
        "truncated": ("cut.tif", "RasterReadError"),
        "other-grid": ("grid.tif", "GridError"),
        "no-valid-pixel": ("empty.tif", "NoValidPixelError"),
        "remote": ("http://127.0.0.1:9/x.tif", "RasterOpenError"),
    }
    for number, (name, (path, _)) in enumerate(bad.items()):
        rows.insert((number + 1) * len(rows) // 7, {"id": name, "before": path, "after": good["after"]})
    return {name: error for name, (_, error) in bad.items()}


def contents(out: Path) -> dict[str, bytes]:
    """Return the bytes of every output but the items, which hold times."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.glob("*/*")
        if path.name.endswith(SUFFIXES)
    }


def records(out: Path) -> list[dict[str, Any]]:
    """Return the lines of a manifest, as far as they are whole."""
    lines = []
    with contextlib.suppress(FileNotFoundError):
        for line in (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
    return lines


def finished(out: Path) -> Counter[str]:
    """Return how often each pair was done."""
    return Counter(line["id"] for line in records(out) if line.get("state") == "done")


def cpu() -> float:
    """Return the CPU seconds of all ended children, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def batch(pairs: Path, out: Path, method: str, *where: str) -> tuple[int, float, float, list[float]]:
    """Run the command; return exit code, wall and CPU seconds, and the client's MB of memory by second."""
    begin, used = time.perf_counter(), cpu()
    command = [*GEOCD, "-qq", "batch", str(pairs), str(out), "--method", method, *where]
    memory = []
    with subprocess.Popen(command, env=os.environ | {"GDAL_HTTP_MAX_RETRY": "1"}) as client:
        process = psutil.Process(client.pid)
        while client.poll() is None:
            with contextlib.suppress(psutil.Error):
                memory.append(process.memory_info().rss / 2**20)
            time.sleep(1)
    return client.returncode, time.perf_counter() - begin, cpu() - used, memory


@contextlib.contextmanager
def separate(folder: Path, workers: int = 2) -> Iterator[tuple[Path, list[subprocess.Popen[bytes]]]]:
    """Start a scheduler and workers as processes of their own; give the scheduler's file and all of them."""
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    dask = [sys.executable, "-m", "dask"]
    common = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    processes = [subprocess.Popen([*dask, "scheduler", *common, "--port", "0"], **quiet)]
    try:
        while not file.exists():
            time.sleep(0.1)
        worker = [*dask, "worker", *common, "--nthreads", "1"]
        processes += [subprocess.Popen(worker, **quiet) for _ in range(workers)]
        yield file, processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def kill_at_random(
    whom: str, scratch: Path, out: Path, command: list[str], count: int, chance: random.Random
) -> str:
    """Start a batch on a cluster of its own and kill a part of it after a random number of pairs."""
    with separate(scratch) as (file, processes):
        with subprocess.Popen([*command, "--scheduler-file", str(file)], stderr=subprocess.DEVNULL) as client:
            moment = chance.randrange(1, max(2, count * 3 // 4))
            while len(finished(out)) < moment and client.poll() is None:
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 0.3))
            if whom == "client":
                client.kill()
            elif whom == "scheduler":
                processes[0].kill()
            else:  # not the nanny: the process that computes
                chance.choice(psutil.Process(processes[1].pid).children()).kill()
        done = len(finished(out))
        return f"{whom} killed after {moment} of {count}: exit {client.returncode}, {done} were done"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--method", default="cva")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="work here instead of in a folder that goes")
    parser.add_argument("--throughput", action="store_true", help="measure, and disturb nothing")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    os.environ |= ONE_THREAD
    problems: list[str] = []

    def check(good: bool, what: str) -> None:
        print(f"{'ok' if good else 'WRONG':6s}{what}", flush=True)
        if not good:
            problems.append(what)

    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.keep or Path(temporary)
        scratch.mkdir(exist_ok=True)
        rows = crop(options.folder, scratch / "in", options.pairs, options.side, chance)
        pairs = write_list(scratch / "in" / "pairs.csv", rows)
        method, count = options.method, len(rows)

        begin, used = time.perf_counter(), cpu()
        command = [sys.executable, "-c", SERIAL, str(pairs), str(scratch / "serial"), method]
        halves = [subprocess.Popen([*command, str(part), "2"]) for part in range(2)]
        codes = [half.wait() for half in halves]
        wall, seconds = time.perf_counter() - begin, cpu() - used
        print(f"two serial halves     {wall:7.1f} s wall {seconds:7.1f} s CPU", flush=True)
        expected = contents(scratch / "serial")
        check(codes == [0, 0] and len(expected) == count * len(SUFFIXES), "serial halves")

        for workers in (2,) if options.throughput else (2, 1):
            out = scratch / f"workers-{workers}"
            code, took, spent, memory = batch(pairs, out, method, "--workers", str(workers))
            print(f"geocd batch, {workers} workers {took:6.1f} s wall {spent:7.1f} s CPU", flush=True)
            if workers == 2:
                times = [line["time"] for line in records(out) if line.get("state") in ("sent", "done")]
                begin, end = (datetime.datetime.fromisoformat(times[at].rstrip("Z")) for at in (0, -1))
                span = (end - begin).total_seconds()
                print(
                    f"  {span:.1f} s from the first pair sent to the last one done; against the halves: ",
                    end="",
                )
                print(f"{span / wall - 1:+.1%}, with start and end {took / wall - 1:+.1%}, ", end="")
                print(f"CPU {spent / seconds - 1:+.1%}")
                part = [memory[len(memory) * step // 5] for step in range(1, 5)]
                print(
                    "  memory of the client (MB) at 20, 40, 60, 80 %: ", *(f"{value:.0f}" for value in part)
                )
                check(part[-1] < 1.1 * part[0], "memory of the client is flat")
            check(code == 0 and contents(out) == expected, f"{workers} workers: the bytes of the serial runs")
        if options.throughput:
            sys.exit(bool(problems))
        with separate(scratch) as (file, _):
            code, took, _, _ = batch(pairs, scratch / "separate", method, "--scheduler-file", str(file))
        good = code == 0 and contents(scratch / "separate") == expected
        check(good, f"separate scheduler and workers: the bytes of the serial runs ({took:.1f} s)")

        spoilt = list(rows)
        bad = spoil(scratch / "in", spoilt)
        out = scratch / "spoilt"
        code, *_ = batch(write_list(scratch / "in" / "spoilt.csv", spoilt), out, method, "--workers", "2")
        failed = {line["id"]: line["error"] for line in records(out) if line.get("state") == "failed"}
        check(code == 3 and failed == bad, f"five bad pairs: exit {code}, {failed}")
        check(contents(out) == expected, "the others are done")
        said = subprocess.run(
            [*GEOCD, "batch", "--status", str(out)], capture_output=True, text=True, check=False
        ).stdout
        check(
            all(f"{error}: " in said and name in said for name, error in bad.items()), "--status names them"
        )

        for whom in ("worker", "scheduler", "client"):
            out = scratch / f"killed-{whom}"
            command = [*GEOCD, "-q", "batch", str(pairs), str(out), "--method", method]
            print(kill_at_random(whom, scratch, out, command, count, chance), flush=True)
            code, *_ = batch(pairs, out, method, "--workers", "2")
            twice = [name for name, times in finished(out).items() if times > 1]
            check(code == 0 and not twice, f"the same command again: exit {code}, done twice: {twice}")
            check(contents(out) == expected, f"{whom} killed: the bytes of the serial runs")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
