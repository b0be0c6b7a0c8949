"""Kill `geocd detect` at random moments, go on with --resume, and compare every byte.

    python benchmarks/resume.py BEFORE AFTER [--kills 10] [--seed 0] [-- OPTIONS OF GEOCD DETECT]

Runs the pair once undisturbed, then again and again with `kill -9` at a random moment of a random run: each
round starts from nothing, is killed once, and goes on to its end. Prints how far each was when it was killed.
Exits 1 when any output differs (the STAC item holds times and checksums of itself, and is left out).
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


def run(command: list[str], kill_after: float | None = None) -> tuple[int, float]:
    """Run a command, or the beginning of it; return its exit code and seconds."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return process.returncode, time.perf_counter() - begin


def different(one: Path, two: Path) -> list[str]:
    """Return the outputs of two stems that are not equal."""

    def content(stem: Path, suffix: str) -> bytes:
        path = stem.with_name(stem.name + suffix)
        return path.read_bytes() if path.exists() else b"missing"

    return [suffix for suffix in SAME if content(one, suffix) != content(two, suffix)]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given, options = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    geocd = shutil.which("geocd", path=str(Path(sys.executable).parent)) or "geocd"
    moments = random.Random(given.seed)
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:

        def command(stem: Path) -> list[str]:
            stem.parent.mkdir(exist_ok=True)
            inputs = [str(Path(path).absolute()) for path in (given.before, given.after)]
            return [geocd, "-q", "detect", *inputs, "-o", str(stem), "--resume", *options]

        whole = Path(scratch, "whole", "run")
        code, seconds = run(command(whole))
        if code:
            sys.exit(f"geocd exits with {code}; run it by hand to see why")
        print(
            f"undisturbed: {seconds:.1f} s\n\n{'killed at s':>11s}{'tiles kept':>12s}{'then s':>8s}  outputs"
        )
        for number in range(given.kills):
            stem = Path(scratch, f"{number}", "run")
            moment = moments.uniform(0, seconds)
            code, _ = run(command(stem), moment)
            kept = len(list(stem.parent.glob(".run.geocd/*.tile")))
            state = f"{kept:12d}" if code else f"{'(done)':>12s}"
            code, rest = run(command(stem)) if code else (0, 0.0)
            wrong = different(whole, stem) or [f"exit {code}"] * (code != 0)
            bad += bool(wrong)
            verdict = "differ: " + ", ".join(wrong) if wrong else "identical"
            print(f"{moment:11.1f}{state}{rest:8.1f}  {verdict}", flush=True)
            shutil.rmtree(stem.parent)
    print(f"\n{given.kills - bad} of {given.kills} identical")
    sys.exit(int(bad > 0))


if __name__ == "__main__":
    main()
