"""Feed damaged files to every reader: no traceback, no hang, no crash, no unbounded memory.

    python benchmarks/fuzz.py [--count N] [--seed 0] [--kinds geotiff,vrt] [--keep FOLDER] [--json FILE]

Small valid files are damaged (bits flipped, cut short, pieces swapped, fields of headers and values of
JSON replaced) and given to the command that reads them, each in a forked child with everything imported.
Counted:

* tracebacks: anything raised that is not a ``GeocdError``;
* crashes: the child died of a signal (a segmentation fault inside a library);
* hangs: no end within 10 s;
* heavy: a peak above 1 GB of resident memory.

Prints the figures by kind and the first lines of each finding, and exits with 1 when there is one. The same
seed gives the same files; ``--keep`` keeps those that found something. Needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GDAL_HTTP_TIMEOUT", "2")  # a mutation may write an address

import torch
from fuzz_damage import damaged
from fuzz_seeds import REFUSED, Seeds

from geocd.errors import GeocdError

SECONDS, MEGABYTES = 10, 1024
#: A child that reserves more is stopped by the system; what it then raises counts like all else.
RESERVED = 16 * 2**30
RAISED = 99


def attempt(read: Callable[[Path, int], None], path: Path, number: int) -> tuple[str, str]:
    """Let a child read a file; return what came of it, and the last it said."""
    output = path.parent / "said"
    child = os.fork()
    if child == 0:
        status = RAISED
        try:
            with output.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            resource.setrlimit(resource.RLIMIT_AS, (RESERVED, RESERVED))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            warnings.simplefilter("ignore")
            try:
                read(path, number)
                status = 0
            except GeocdError as error:
                os.write(2, f"Error: {error}".encode("utf-8", "replace"))
                status = 1
            except SystemExit as end:
                sys.stdout.flush()
                sys.stderr.flush()
                status = end.code if isinstance(end.code, int) else 0
            except BaseException:
                os.write(2, traceback.format_exc().encode("utf-8", "replace"))
        finally:
            os._exit(status)
    _, status, used = os.wait4(child, 0)
    text = output.read_text(errors="replace") if output.exists() else ""
    peak = used.ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return (
            "hang" if number == signal.SIGALRM else "crash"
        ), f"{signal.Signals(number).name} {text[-300:]}"
    if os.WEXITSTATUS(status) not in (0, 1, 2, 3) or "Traceback (most recent" in text:
        return "traceback", text[-1500:]
    if peak > MEGABYTES:
        return "heavy", f"{peak:.0f} MB {text[-300:]}"
    return ("read" if os.WEXITSTATUS(status) == 0 else "refused"), text


def fuzz(seeds: Seeds, kind: str, count: int, seed: int, begin: int, keep: Path | None) -> Counter[str]:
    """Try ``count`` files of a kind; print what is found, once for each place in the code."""
    files, read = seeds.kinds[kind]
    contents = [path.read_bytes() for path in files]
    counts: Counter[str] = Counter()
    repeats: Counter[str] = Counter()
    for number in [*range(-len(files), 0), *range(begin, begin + count)]:
        rng = random.Random(f"{seed} {kind} {number}")
        which = rng.randrange(len(files)) if number >= 0 else number
        content = contents[which]
        if number >= 0:
            content = damaged(content, rng.choice(contents), files[which].suffix, rng)
        with tempfile.TemporaryDirectory(dir=seeds.folder) as folder:
            path = Path(folder) / files[which].name
            path.write_bytes(content)
            for name in (
                "before.tif",
                "after.tif",
                "item-a.json",
                "item-b.json",
            ):  # what VRTs and catalogues name
                (Path(folder) / name).symlink_to(seeds.folder / name)
            outcome, text = attempt(read, path, max(number, 0))
        if number < 0:
            if (outcome != "read" or text.startswith("Error")) and files[which].name not in REFUSED:
                raise RuntimeError(f"{files[which].name} is not read as it is ({outcome}): {text}")
            continue
        counts[outcome] += 1
        if outcome in ("read", "refused"):
            continue
        where = re.findall(r'File "[^"]*/(geocd/[^"]+", line \d+)', text)
        last = (text.strip().splitlines() or [""])[-1]
        finding = f"{outcome} {(where or [text[:60]])[-1]} {last[:40]}"
        repeats[finding] += 1
        if repeats[finding] == 1:
            print(f"\n{kind} {number} ({files[which].name}): {outcome}\n{text.strip()[-1200:]}", flush=True)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{kind}-{number}-{files[which].name}").write_bytes(content)
    return counts


def run() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="files in all (default 1000)")
    parser.add_argument("--begin", type=int, default=0, help="number of the first file of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", help="only these, with commas between them")
    parser.add_argument("--keep", type=Path, help="folder for the files that found something")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    table: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory(prefix="geocd-fuzz-") as folder:
        seeds = Seeds(Path(folder))
        kinds = options.kinds.split(",") if options.kinds else list(seeds.kinds)
        for kind in kinds:
            count = -(-options.count // len(kinds))
            table[kind] = dict(fuzz(seeds, kind, count, options.seed, options.begin, options.keep))
            print(f"{kind:10s} {count:6d} files: {table[kind]}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))
    bad = sum(
        n for counts in table.values() for outcome, n in counts.items() if outcome not in ("read", "refused")
    )
    print(f"{sum(map(sum, (counts.values() for counts in table.values())))} files, {bad} findings")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(run())
