"""What of a run is serial: CPU seconds of the main thread before the first tile and after the last.

    python benchmarks/serial.py BEFORE AFTER [-j 2] [--method default]

Other cores, or a GPU, have nothing to do meanwhile. What the main thread does while tiles are computed
(blending, polygons of finished rows) is not counted. Of what a helper thread does beside it (the sample while
torch is imported, the pictures), that counts for which the main thread waits; on a busy
machine it waits longer. The run is a process of its own, so that imports count. All sums are CPU seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

RUN = "--run"


def run(before: str, after: str, stem: str, jobs: int, method: str) -> None:
    """Run a pair in this process and print its account."""
    from geocd.config import Settings
    from geocd.pipeline import run as pipeline
    from geocd.pipeline.beside import Start, beside

    marks = {"waited": 0.0}

    @contextlib.contextmanager
    def watched(jobs: int) -> Iterator[Start]:
        """Yield what ``beside`` yields, and count the CPU time of its thread while this one waits for it."""
        clocks: list[int] = []

        def cpu_s() -> float:
            return time.clock_gettime(clocks[0]) if clocks else 0.0

        def begin(call: Callable[[], T]) -> Callable[[], T]:
            def work() -> T:
                if jobs > 1 and not clocks:
                    clocks.append(time.pthread_getcpuclockid(threading.get_ident()))
                return call()

            def wait() -> T:
                before = cpu_s()
                value = result()
                marks["waited"] += cpu_s() - before
                return value

            result = start(work)
            return wait

        with beside(jobs) as start:
            yield begin

    pipeline.beside = watched

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "tiles" and done == 0:
            marks["first"] = time.thread_time()
        if stage == "tiles" and done == total:
            marks["last"] = time.thread_time()

    imported = time.thread_time()
    settings = Settings.from_flat({} if method == "default" else {"method": method})
    pipeline.detect(before, after, stem, settings=settings, jobs=jobs, progress=progress)
    end, total = time.thread_time(), time.process_time()
    fit, rest, waited = marks["first"], end - marks["last"], marks["waited"]
    print(f"imports {imported:.1f}, up to the first tile {fit:.1f}, after the last {rest:.1f} CPU s")
    print(f"waited for {waited:.1f} CPU s of the thread beside")
    print(f"serial: {100 * (fit + rest + waited) / total:.0f} % of {total:.1f} CPU s")


def main() -> None:
    """Run the benchmark."""
    if sys.argv[1:2] == [RUN]:
        before, after, stem, jobs, method = sys.argv[2:]
        run(before, after, stem, int(jobs), method)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--method", default="default")
    options = parser.parse_args()
    pair = str(options.before.absolute()), str(options.after.absolute())
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", __file__, RUN, *pair, f"{folder}/run"]
        subprocess.run([*command, str(options.jobs), options.method], check=True)


if __name__ == "__main__":
    main()
