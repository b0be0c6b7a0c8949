"""Kill `geocd detect` at random moments, go on with --resume, and compare every byte.

    python benchmarks/resume.py BEFORE AFTER [--kills 10] [--seed 0] [-- OPTIONS OF GEOCD DETECT]

Runs the pair once undisturbed, then again and again: each round starts from nothing, is ended by `kill -9` a
moment after a random number of tiles is finished (none: while it reads or fits; all: while it makes the
outputs from them), and goes on to its end. The moment is up to a second long.
Exits 1 when any output differs (STAC item and report hold times, and are left out).
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAME = ("_prob.tif", "_changes.gpkg", "_quicklook.png", "_prob.qml", "_changes.qml")


def finished(stem: Path) -> int:
    """Return the number of tiles that a run has finished so far."""
    return len(list(stem.parent.glob(f".{stem.name}.geocd/*.tile")))


def run(
    command: list[str], stem: Path, tiles: int | None = None, moment: float = 0
) -> tuple[int, int, float]:
    """Run a command; with ``tiles``, kill it a moment after so many are finished.

    Returns exit code, the number of tiles finished when it was last looked, and seconds.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = 0
    while process.poll() is None:
        done = max(done, finished(stem))
        if tiles is not None and done >= tiles:
            time.sleep(moment)
            process.kill()
        time.sleep(0.01)
    return process.returncode, done, time.perf_counter() - begin


def different(expected: Path, actual: Path) -> list[str]:
    """Return the outputs of two stems that are not equal."""

    def content(stem: Path, suffix: str) -> bytes:
        path = stem.with_name(stem.name + suffix)
        return path.read_bytes() if path.exists() else b"missing"

    return [suffix for suffix in SAME if content(expected, suffix) != content(actual, suffix)]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, options = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    geocd = shutil.which("geocd", path=str(Path(sys.executable).parent)) or "geocd"
    random_numbers = random.Random(arguments.seed)
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:

        def command(stem: Path) -> list[str]:
            stem.parent.mkdir(exist_ok=True)
            inputs = [str(Path(path).absolute()) for path in (arguments.before, arguments.after)]
            return [geocd, "-q", "detect", *inputs, "-o", str(stem), "--resume", *options]

        whole = Path(scratch, "whole", "run")
        code, total, seconds = run(command(whole), whole)
        if code:
            sys.exit(f"geocd exits with {code}; run it by hand to see why")
        print(f"undisturbed: {total} tiles, {seconds:.1f} s\n")
        print(f"{'killed after s':>15s}{'tiles kept':>12s}{'then s':>8s}  outputs")
        for number in range(arguments.kills):
            stem = Path(scratch, f"{number}", "run")
            tiles, moment = random_numbers.randint(0, total), random_numbers.uniform(0, 1)
            code, _, before = run(command(stem), stem, tiles, moment)
            if not stem.with_name(f".{stem.name}.geocd").exists() and not different(whole, stem):
                code = 0  # killed after its last result was in place
            tiles_kept, after = str(finished(stem)) if code else "(done)", 0.0
            if code:
                code, _, after = run(command(stem), stem)
            wrong = different(whole, stem) or [f"exit {code}"] * (code != 0)
            bad += bool(wrong)
            verdict = "differ: " + ", ".join(wrong) if wrong else "identical"
            print(f"{before:15.1f}{tiles_kept:>12s}{after:8.1f}  {verdict}", flush=True)
            shutil.rmtree(stem.parent)
    print(f"\n{arguments.kills - bad} of {arguments.kills} identical")
    sys.exit(int(bad > 0))


if __name__ == "__main__":
    main()
