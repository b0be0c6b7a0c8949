"""Workers, clients and schedulers that are killed: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_folder import CVA, TILED, contents, invoke, lines, states
from distributed import WorkerPlugin

from geocd.batch.pairs import read_items
from geocd.batch.run import Cluster
from geocd.batch.run import run as run_batch


def until(condition: Callable[[], object], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


class Kill(WorkerPlugin):
    """A dask plugin: pairs of one id kill their worker, ``times`` times (counted in a file) or always."""

    def __init__(self, name: str, count: Path, times: int, call: str = "detect") -> None:
        self.name = f"kill-{name}"
        self.id, self.count, self.times, self.call = name, count, times, call

    def setup(self, worker: object) -> None:
        from geocd.batch import work as module

        original = getattr(module, self.call)

        def call(*args: Any, **kwargs: Any) -> Any:
            if Path(args[2]).name == self.id and self.count.stat().st_size < self.times:
                with self.count.open("a") as file:
                    file.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(module, self.call, call)


@pytest.mark.parametrize(
    ("times", "state"), [(1, "done"), pytest.param(99, "failed", marks=pytest.mark.slow)]
)
def test_a_worker_that_dies_costs_no_other_pair(
    times: int, state: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    items = read_items(write_pairs(4))
    (tmp_path / "count").touch()
    out = tmp_path / "out"
    with Cluster(workers=2).connect() as client:
        address = client.scheduler_info()["address"]
        client.register_plugin(Kill("p1", tmp_path / "count", times), name="kill-p1")
        summary = run_batch(items, out, settings=CVA, cluster=Cluster(scheduler=address))
    assert states(out) == {"p0": "done", "p1": state, "p2": "done", "p3": "done"}
    assert summary.left == 0
    if state == "failed":
        assert summary.failed["p1"]["error"] == "KilledWorker"
        assert "4 workers died one after the other" in summary.failed["p1"]["message"]
        assert (tmp_path / "count").stat().st_size == 4


@pytest.mark.parametrize(
    ("times", "state"), [(1, "done"), pytest.param(99, "failed", marks=pytest.mark.slow)]
)
def test_a_worker_that_dies_with_a_part_of_a_scene(
    times: int, state: str, cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    items = read_items(write_pairs(1, side=512))
    (tmp_path / "count").touch()
    with Cluster(workers=2).connect() as client:
        where = Cluster(scheduler=client.scheduler_info()["address"])
        client.register_plugin(Kill("p0", tmp_path / "count", times, "compute_tiles"), name="kill-p0")
        summary = run_batch(items, tmp_path / "out", settings=TILED, cluster=where)
    assert (tmp_path / "count").stat().st_size >= 1
    assert states(tmp_path / "out") == {"p0": state}
    if state == "failed":
        assert summary.failed["p0"]["error"] == "KilledWorker"
        return
    run_batch(items, tmp_path / "calm", settings=TILED, cluster=Cluster(scheduler=cluster))
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")


def test_a_killed_client_loses_nothing(
    cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    pairs = write_pairs(5)
    command = ["batch", pairs, tmp_path / "out", "--workers", 1, "--method", "cva"]
    code = "import sys; from geocd.cli import main; main(sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, command)], stderr=subprocess.DEVNULL, start_new_session=True
    ) as client:
        until(lambda: (tmp_path / "out" / "manifest.jsonl").exists() and lines(tmp_path / "out", "done"))
        client.kill()
    finished = {line["id"] for line in lines(tmp_path / "out", "done")}
    assert 1 <= len(finished) < 5
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    done = [line["id"] for line in lines(tmp_path / "out", "done")]
    assert sorted(done) == [f"p{number}" for number in range(5)], "each was done once"
    run_batch(read_items(pairs), tmp_path / "calm", settings=CVA, cluster=Cluster(scheduler=cluster))
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")
    assert len(contents(tmp_path / "calm")) == 25


@pytest.mark.slow
def test_a_killed_scheduler_is_told_and_the_same_command_goes_on(
    cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    pairs = write_pairs(6, side=256)
    file = tmp_path / "sched.json"
    command = ["batch", pairs, tmp_path / "out", "--scheduler-file", file, "--method", "cva"]

    def start() -> list[subprocess.Popen[str]]:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
        dask = [sys.executable, "-m", "dask"]
        where = ["--scheduler-file", str(file)]
        scheduler = subprocess.Popen(
            [*dask, "scheduler", *where, "--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0"],
            **quiet,
        )
        until(file.exists)
        worker = [
            *dask,
            "worker",
            *where,
            "--nthreads",
            "1",
            "--host",
            "127.0.0.1",
            "--dashboard-address",
            ":0",
        ]
        return [scheduler, *(subprocess.Popen(worker, **quiet) for _ in range(2))]

    processes = start()
    try:
        code = "import sys; from geocd.cli import main; main(sys.argv[1:])"
        with subprocess.Popen(
            [sys.executable, "-c", code, *map(str, command)], stderr=subprocess.PIPE, text=True
        ) as client:
            until(lambda: (tmp_path / "out" / "manifest.jsonl").exists() and lines(tmp_path / "out", "done"))
            processes[0].kill()
            _, said = client.communicate(timeout=240)
        assert client.returncode == 1, said
        assert "connection to the dask scheduler" in said
        assert "the same command again" in said
        assert "Traceback" not in said
        file.unlink()
        processes += start()
        result = invoke("-v", *command)
        assert result.exit_code == 0, result.output
        assert "is done again" not in result.stderr, result.stderr
    finally:
        for process in processes:
            process.terminate()
            process.wait(60)
    done = [line["id"] for line in lines(tmp_path / "out", "done")]
    assert sorted(done) == [f"p{number}" for number in range(6)], "each was done once"
    run_batch(read_items(pairs), tmp_path / "calm", settings=CVA, cluster=Cluster(scheduler=cluster))
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")


PRELOAD = """
import os, signal
from pathlib import Path
from geocd.batch import work

detect = work.original = getattr(work, "original", work.detect)  # dask runs this twice

def kill(*arguments, **options):
    if Path(arguments[2]).name == "p1":
        os.kill(os.getpid(), signal.SIGKILL)
    return detect(*arguments, **options)

work.detect = kill
"""


@pytest.mark.slow
def test_local_workers_that_dask_gives_up_at_once(write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    """Dask drops workers that are not back in half a second; new ones are started, and nothing is printed."""
    pairs, out = write_pairs(3), tmp_path / "out"
    (tmp_path / "preload.py").write_text(PRELOAD)
    environment = os.environ | {
        "DASK_DISTRIBUTED__WORKER__PRELOAD": str(tmp_path / "preload.py"),
        "DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "500ms",
    }
    code = "import sys; from geocd.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "batch", pairs, out, "--workers", "1", "--method", "cva"]
    result = subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True, timeout=200
    )
    assert result.returncode == 3, result.stderr
    assert states(out) == {"p0": "done", "p1": "failed", "p2": "done"}
    assert "2 pairs done (2 in this run), 1 failed" in result.stderr
    assert "Traceback" not in result.stderr
    assert "distributed" not in result.stderr
