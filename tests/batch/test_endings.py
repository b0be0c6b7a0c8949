"""Batches whose workers are killed all end: many times over, as whole programs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_folder import states

#: Seconds that a batch may take; some 20 on an idle machine.
LIMIT = 1200

PRELOAD = """
import os
import signal
from pathlib import Path

def die(count, times):
    path = Path(os.environ[count])
    if path.stat().st_size < times:
        with path.open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

def dask_setup(worker):
    from geocd.batch import work

    die("GEOCD_TEST_STARTS", int(os.environ["GEOCD_TEST_KILLED_STARTS"]))
    original = work.detect

    def detect(before, after, output, *args, **kwargs):
        if Path(output).name == "p1":
            die("GEOCD_TEST_PAIRS", 10**6)
        return original(before, after, output, *args, **kwargs)

    work.detect = detect
"""


@pytest.mark.slow
@pytest.mark.parametrize(("batches", "killed_starts"), [(20, 0), (5, 2)])
def test_every_batch_ends(
    batches: int, killed_starts: int, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    """A pair that kills its worker each time is set aside and the others are done, exit code 3.

    With ``killed_starts``, all (two) workers are killed while they start.
    """
    pairs = write_pairs(3)
    preload = tmp_path / "preload.py"
    preload.write_text(PRELOAD)
    endings = []
    for number in range(batches):
        counts = {name: tmp_path / f"{name}{number}" for name in ("GEOCD_TEST_STARTS", "GEOCD_TEST_PAIRS")}
        for path in counts.values():
            path.touch()
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "geocd", "batch", pairs, tmp_path / f"out{number}", "--workers", "2",
             "--method", "cva"],
            env=os.environ
            | {name: str(path) for name, path in counts.items()}
            | {
                "DASK_DISTRIBUTED__WORKER__PRELOAD": f"['{preload}']",
                "GEOCD_TEST_KILLED_STARTS": str(killed_starts),
            },
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )  # fmt: skip
        deaths = tuple(path.stat().st_size for path in counts.values())
        endings.append((done.returncode, round(time.monotonic() - begin, 1), *deaths))
        print(*endings[-1], flush=True)
        assert done.returncode == 3, done.stderr
        assert states(tmp_path / f"out{number}") == {"p0": "done", "p1": "failed", "p2": "done"}
        assert "4 workers died one after the other" in done.stderr
        assert "Traceback" not in done.stderr
        assert deaths == (killed_starts, 4)
    seconds = [ending[1] for ending in endings]
    print(f"{len(endings)} of {batches} ended with 3, {min(seconds)} to {max(seconds)} s")
