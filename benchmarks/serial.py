"""What of a run is serial: CPU seconds of the main thread before the first tile and after the last.

    python benchmarks/serial.py BEFORE AFTER [-j 2] [--method default]

Other cores, or a GPU, have nothing to do meanwhile. What the main thread does while tiles are computed
(blending, polygons of finished rows) is not counted, nor what helper threads do beside it. The run is a
process of its own, so that imports count. Both sums are CPU seconds: a busy machine gives the same share.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN = "--run"


def run(before: str, after: str, stem: str, jobs: int, method: str) -> None:
    """Run a pair in this process and print its account."""
    from geocd.config import Settings
    from geocd.pipeline.run import detect

    marks: dict[str, float] = {}

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "tiles" and done == 0:
            marks["first"] = time.thread_time()
        if stage == "tiles" and done == total:
            marks["last"] = time.thread_time()

    imported = time.thread_time()
    settings = Settings.from_flat({} if method == "default" else {"method": method})
    detect(before, after, stem, settings=settings, jobs=jobs, progress=progress)
    end, total = time.thread_time(), time.process_time()
    fit, rest = marks["first"], end - marks["last"]
    print(f"imports {imported:.1f}, up to the first tile {fit:.1f}, after the last {rest:.1f} CPU s")
    print(f"serial: {100 * (fit + rest) / total:.0f} % of {total:.1f} CPU s")


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
