"""Let every file-system call on the output side of a run fail, or be the last one before `kill -9`.

    python benchmarks/faults.py [--every K] [--kills 50] [--start empty] [--calls write,rename] [--json FILE]

A small run is traced once with ``strace`` (Linux; Debian's package of this name), and every call that touches
a file under its output folder is noted. Then the run is repeated for each of these calls: with the call
failing (ENOSPC, EIO, EACCES, whichever it may return), or with SIGKILL at it; into an empty folder, and over
the results of an earlier run. Then SIGKILL comes at random moments. After each:

* the run ended with one message and no traceback, or, where the failed call did not matter, well;
* under the final names stand all results or none (before: or all of the earlier run); a killed run may have
  moved some of its files, but each file is one of the two, whole, and none of the earlier run is missing;
* the same command again, undisturbed, gives the bytes of an undisturbed run and leaves nothing else behind.

Prints what was not so, and exits with 1. A fault that did not happen is counted as "not reached" and shows
nothing. ``--every K`` tries every K-th call only; ``--kills N`` as many random moments for each start;
``--start`` one of the two starts, so that both may run at a time; ``--calls`` these kinds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

#: Calls that change a file system, and what each may fail with.
SPACE, ACCESS = ("ENOSPC", "EIO"), ("EACCES", "EIO")
CALLS = {
    "openat": ("ENOSPC", "EACCES"),
    "mkdir": ("ENOSPC", "EACCES"),
    "rename": ACCESS,
    "unlink": ACCESS,
    "unlinkat": ACCESS,
    "rmdir": ACCESS,
    "write": SPACE,
    "pwrite64": SPACE,
    "ftruncate": SPACE,
    "fallocate": SPACE,
    "fsync": ("EIO",),
    "fdatasync": ("EIO",),
    "flock": ("EIO",),
    "close": ("EIO",),
}
#: A run that takes longer hangs.
TIMEOUT = 60.0
ENDED_WELL, ENDED_BADLY = 0, 1
#: What the folder for the results holds at first.
STARTS = ("empty", "older")


def make_pair(folder: Path) -> list[str]:
    """Write a small pair with one change."""
    random = np.random.default_rng(0)
    paths = []
    for name, step in (("before", 0), ("after", 400)):
        values = random.normal(1000, 30, (3, 150, 200))
        values[:, 40:80, 50:100] += step
        profile = {"driver": "GTiff", "width": 200, "height": 150, "count": 3, "dtype": "uint16"}
        georeference = {"crs": 32633, "transform": from_origin(5e5, 4e6, 10, 10)}
        with rasterio.open(folder / f"{name}.tif", "w", **profile, **georeference) as dataset:
            dataset.write(values.astype(np.uint16))
        paths.append(str(folder / f"{name}.tif"))
    return paths


class Runner:
    """Runs the command line in forked children, each under strace from its first call on."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        from geocd.cli import main

        self._main = main
        self.folder = folder
        self.arguments = arguments

    def run(self, *strace: str, kill_after: float | None = None) -> tuple[int, str]:
        """Return exit status (negative: the signal) and what was printed; ``kill_after`` is in seconds."""
        said = self.folder / "said.txt"
        child = os.fork()
        if child == 0:
            self._child(said)
        tracer = None
        try:
            os.waitpid(child, os.WUNTRACED)
            if strace:
                tracer = subprocess.Popen(
                    ["strace", "-f", "-qq", "-p", str(child), *strace], stderr=subprocess.PIPE, text=True
                )
                while f"TracerPid:\t{tracer.pid}" not in Path(f"/proc/{child}/status").read_text():
                    if tracer.poll() is not None:
                        raise SystemExit(f"strace: {tracer.communicate()[1]}")
            os.kill(child, signal.SIGCONT)
            signal.alarm(int(TIMEOUT))
            if kill_after is not None:
                time.sleep(kill_after)
                os.kill(child, signal.SIGKILL)  # of one that has ended, nothing
            _, status = os.waitpid(child, 0)
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return -signal.SIGALRM, said.read_text()
        finally:
            signal.alarm(0)
            if tracer is not None:
                tracer.communicate()
        return os.waitstatus_to_exitcode(status), said.read_text()

    def _child(self, said: Path) -> None:
        code = 70
        try:
            # strace tells files apart by their names: those made up at random must be the same each time
            tempfile._name_sequence = (f"{number:08d}" for number in itertools.count())  # type: ignore[attr-defined]
            handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            os.kill(os.getpid(), signal.SIGSTOP)
            try:
                self._main(self.arguments)
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 0
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def alike(before: bytes, after: bytes, name: str) -> bool:
    """Tell whether two results are the same, but for the times in an item and a report."""
    if name.endswith((".json", ".html")):
        return bool(before and after) and timeless(before) == timeless(after)
    return before == after


def timeless(content: bytes) -> str:
    """Return text without digits: times and the checksums of files with times differ."""
    return re.sub(r"[0-9a-f]{16,}|[\d.:TZe+-]+", "", content.decode())


def results(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by name, but for hidden ones."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def same(before: dict[str, bytes], after: dict[str, bytes]) -> bool:
    """Tell whether two folders hold the same results."""
    return before.keys() == after.keys() and all(alike(before[name], after[name], name) for name in before)


def calls_of(trace: Path, folder: Path) -> tuple[Counter[str], list[str]]:
    """Return how often each call touched the folder, and the paths."""
    count: Counter[str] = Counter()
    paths: set[str] = set()
    for line in trace.read_text().splitlines():
        call = re.search(r"(\w+)\(", line)
        if call and call[1] in CALLS and str(folder) in line:
            count[call[1]] += 1
            paths.update(re.findall(rf"{re.escape(str(folder))}[^\"<>]*", line))
    return count, sorted(path.removesuffix(" (deleted)") for path in paths)


def trials(count: Counter[str], calls: list[str], every: int) -> Iterator[tuple[str, int, str]]:
    """Yield call, its number from 1, and what happens to it."""
    for call in calls:
        for number in range(1, count[call] + 1, every):
            for error in CALLS[call]:
                yield call, number, f"error={error}"
            yield call, number, "signal=SIGKILL"


def refill(folder: Path, content: dict[str, bytes]) -> None:
    """Empty a folder and put files into it."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    folder.mkdir()
    for name, data in content.items():
        (folder / name).write_bytes(data)


class Verdicts:
    """Looks at the folder after each fault, and says what is wrong."""

    def __init__(self, runner: Runner, out: Path, good: dict[str, bytes]) -> None:
        self.runner, self.out, self.good = runner, out, good
        self.tally: Counter[str] = Counter()
        self.wrong: list[str] = []

    def judge(self, label: str, before: dict[str, bytes], end: tuple[int, str], *, kill: bool) -> str:
        """Compare what is there now with what was there before; return how the run ended."""
        now, (code, said) = results(self.out), end
        if kill and code != ENDED_WELL:
            whole = before.keys() <= now.keys() and all(
                alike(found, self.good[key], key) or alike(found, before.get(key, b""), key)
                for key, found in now.items()
            )
            if not whole or code != -signal.SIGKILL:
                self._say(f"{label}: after the kill ({code}) a file is missing, or neither old nor new")
            return "killed"
        if code == ENDED_WELL:
            if not same(now, self.good):
                self._say(f"{label}: ended well, but the results are wrong")
            return "did not matter"
        lines = said.splitlines() or [""]  # libtiff may have printed its own before
        if code != ENDED_BADLY or not lines[-1].startswith("Error: ") or "Traceback" in said:
            self._say(f"{label}: exit {code}: {said[-600:]}")
        if not same(now, before):
            self._say(f"{label}: after the error the folder holds other results: {sorted(now)}")
        return "refused"

    def count(
        self, label: str, before: dict[str, bytes], end: tuple[int, str], *, kill: bool, happened: bool
    ) -> None:
        """Judge a fault, and the same command after it."""
        kind = self.judge(label, before, end, kill=kill)
        self.tally[kind if happened else "not reached"] += 1
        code, said = self.runner.run()
        if code != 0:
            self._say(f"{label}: the same command again: exit {code}: {said[-400:]}")
        elif not same(results(self.out), self.good) or any(
            path.name.startswith(".") for path in self.out.iterdir()
        ):
            left = sorted(path.name for path in self.out.iterdir())
            self._say(f"{label}: after the same command again: {left}")

    def _say(self, line: str) -> None:
        self.wrong.append(line)
        print(line, flush=True)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--every", type=int, default=1, metavar="K")
    parser.add_argument("--kills", type=int, default=50, metavar="N")
    parser.add_argument("--start", choices=STARTS, action="append", help="default: both")
    parser.add_argument("--calls", help=f"comma-separated, of: {', '.join(CALLS)}; default: all")
    parser.add_argument("--method", default="cva")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if shutil.which("strace") is None:
        print("strace is not installed", file=sys.stderr)
        return 2

    def late(number: int, frame: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    os.environ["GDAL_NUM_THREADS"] = "1"
    calls = options.calls.split(",") if options.calls else list(CALLS)
    moments = random.Random(0)
    with tempfile.TemporaryDirectory(prefix="geocd-faults-") as name:
        folder = Path(name).resolve()
        out = folder / "out"
        out.mkdir()
        command = ["-q", "detect", *make_pair(folder), "-o", str(out / "x")]
        command += ["--method", options.method, "--tile-size", "128", "--jobs", "1", "--overwrite"]
        runner = Runner(folder, command)
        old_runner = Runner(folder, [*command, "--threshold", "0.9"])
        for each in (runner, old_runner, runner):
            begin = time.perf_counter()
            code, said = each.run()
            seconds = time.perf_counter() - begin
            assert code == 0, said
            if each is old_runner:
                old = results(out)
        verdicts = Verdicts(runner, out, results(out))
        assert not same(verdicts.good, old)
        for start in options.start or STARTS:
            content = {"empty": {}, "older": old}[start]
            refill(out, content)
            trace = folder / "trace"
            code, said = runner.run("-y", "-e", f"trace={','.join(CALLS)}", "-o", str(trace))
            assert code == 0, said
            count, paths = calls_of(trace, out)
            print(f"{start}: {sum(count.values())} calls: {dict(count)}", flush=True)
            chosen = [part for path in paths for part in ("-P", path)]
            for call, number, what in trials(count, calls, options.every):
                refill(out, content)
                inject = ["-e", f"trace={call}", "-e", f"inject={call}:{what}:when={number}"]
                end = runner.run(*chosen, "-o", str(trace), *inject)
                happened = re.search(r"\(INJECTED\)|\+\+\+ killed by SIGKILL", trace.read_text())
                label = f"{start}, {call} {number}, {what}"
                kill = what == "signal=SIGKILL"
                verdicts.count(label, content, end, kill=kill, happened=bool(happened))
            for number in range(1, options.kills + 1):
                refill(out, content)
                moment = moments.uniform(0, seconds)
                end = runner.run(kill_after=moment)
                label = f"{start}, kill {number} after {moment:.2f} s"
                verdicts.count(label, content, end, kill=True, happened=end[0] != ENDED_WELL)
    tally, wrong = verdicts.tally, verdicts.wrong
    print(f"{sum(tally.values())} faults: {dict(tally)}; {len(wrong)} wrong")
    if options.json:
        options.json.write_text(json.dumps({"tally": tally, "wrong": wrong}, indent=1), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
