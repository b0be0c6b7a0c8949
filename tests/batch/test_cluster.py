"""Where a batch computes."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from batch_folder import invoke
from distributed import Nanny, Status

from geocd.batch import cluster as clusters
from geocd.batch.cluster import Watch, let_end
from geocd.batch.pairs import read_items
from geocd.batch.run import Cluster
from geocd.batch.run import run as run_batch
from geocd.errors import ClusterError, ConfigError


def test_a_scheduler_that_is_not_there(write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    import dask.config

    pairs = write_pairs(1)
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        result = invoke("batch", pairs, tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9")
        assert result.exit_code == 1
        assert "tcp://127.0.0.1:9: cannot be reached" in result.stderr
    with pytest.raises(ClusterError, match="no such file"):
        run_batch(read_items(pairs), tmp_path / "out", cluster=Cluster(scheduler_file=str(tmp_path / "none")))


def test_options_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--workers and --scheduler: choose one"):
        Cluster(workers=1, scheduler="tcp://127.0.0.1:9")
    assert invoke("batch", "pairs.csv").exit_code == 2
    assert "write NAME=AMOUNT" in invoke("batch", "a", "b", "--resource", "GPU").stderr


def test_the_example_for_slurm(cluster: str, write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    path = Path(__file__).resolve().parents[2] / "examples" / "batch_slurm.py"
    spec = importlib.util.spec_from_file_location("batch_slurm", path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    scaled = []

    class Queue:
        """In the place of dask-jobqueue's cluster."""

        scheduler_address = cluster

        def __init__(self, **job: Any) -> None:
            assert job["cores"] == job["processes"] == 1

        def __enter__(self) -> Queue:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def scale(self, jobs: int) -> None:
            scaled.append(jobs)

    pairs = write_pairs(2)
    given = [str(pairs), str(tmp_path / "out"), "--jobs", "3", "--method", "cva"]
    assert len(example.batch(example.arguments(given), Queue).done) == 2
    assert scaled == [3]
    gpu = example.job(example.arguments([*given, "--gpu"]))
    assert gpu["worker_extra_args"][-2:] == ["--resources", "GPU=1"]
    if importlib.util.find_spec("dask_jobqueue") is not None:
        from dask_jobqueue import SLURMCluster

        with SLURMCluster(**gpu, scheduler_options={"host": "127.0.0.1", "dashboard_address": ":0"}) as queue:
            script = queue.job_script()
        assert "#SBATCH --gres=gpu:1" in script
        assert "--resources GPU=1" in script


def test_a_script_without_a_guard(write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    script, pairs = tmp_path / "script.py", str(write_pairs(1))
    script.write_text(
        "from pathlib import Path\n"
        "from geocd.batch.pairs import read_items\n"
        "from geocd.batch.run import Cluster, run\n"
        f"run(read_items({pairs!r}), Path({str(tmp_path / 'out')!r}), cluster=Cluster(workers=1))\n"
    )
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=200)
    assert result.returncode == 1
    assert result.stderr.rstrip().endswith("below the line: if __name__ == '__main__':")
    assert f"{script}: the workers run this script again" in result.stderr
    assert "another batch" not in result.stderr


class Workers:
    """In the place of dask's local cluster: two workers by its plan, one of which is gone for good."""

    def __init__(self) -> None:
        self.loop = SimpleNamespace(add_callback=lambda call, *arguments: call(*arguments))
        self.worker_spec = {0: {}, 1: {}}
        self.workers = {0: SimpleNamespace(status=Status.closed), 1: SimpleNamespace(status=Status.running)}
        self.status = Status.running
        self.scaled: list[tuple[int, list[int]]] = []

    def scale(self, n: int) -> None:
        self.scaled.append((n, list(self.workers)))


def test_local_workers_that_are_gone_are_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "LocalCluster", Workers)
    workers = Workers()
    watch = Watch(SimpleNamespace(cluster=workers))
    watch.look(2)
    assert workers.scaled == [], "all are there"
    watch.look(1)
    assert workers.scaled == [(2, [1])], "the running one is left alone"
    watch.look(0)
    monkeypatch.setattr(clusters, "PATIENCE", -1.0)
    with pytest.raises(ClusterError, match="have died and could not be started again"):
        watch.look(0)


def test_a_scheduler_without_workers_is_waited_for_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clusters, "WAIT", -1.0)
    watch = Watch(SimpleNamespace(cluster=None))
    for _ in range(3):
        watch.look(0)
    assert caplog.text.count("has had no worker") == 1
    assert "waits for up to 3600 s (--worker-timeout)" in caplog.text


def test_a_scheduler_that_never_has_a_worker_ends_the_batch(
    write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        result = invoke("batch", write_pairs(1), tmp_path / "out", "--scheduler", cluster.scheduler_address,
                        "--worker-timeout", "0.5", "--method", "cva")  # fmt: skip
    assert result.exit_code == 1
    assert "the scheduler has had no worker for" in result.stderr
    assert "pass a longer --worker-timeout" in result.stderr


def test_workers_that_die_while_they_start(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []

    def start(**options: object) -> Workers:
        attempts.append(options["n_workers"])
        if len(attempts) < times:
            raise RuntimeError("Nanny failed to start.")
        return Workers()

    monkeypatch.setattr(clusters, "LocalCluster", start)
    times = 3
    assert isinstance(Cluster(workers=2)._start(), Workers)
    assert attempts == [2, 2, 2]
    times = 99
    with pytest.raises(ClusterError, match="could not be started in 3 attempts"):
        Cluster(workers=2)._start()


def test_workers_that_have_nothing_left_to_do_may_take_their_time_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dask would kill them after 4 seconds, and say so; those that a failure leaves busy, it may."""

    class Local(SimpleNamespace):
        """In the place of dask's cluster of this machine."""

    async def close(self: Nanny, timeout: float = 5, reason: str = "") -> float:
        return timeout

    monkeypatch.setattr(Nanny, "close", close)
    monkeypatch.setattr(clusters, "LocalCluster", Local)
    nanny = object.__new__(clusters._Nanny)
    assert asyncio.run(nanny.close()) == 5
    let_end(SimpleNamespace(cluster=Local(workers={0: nanny})))
    assert asyncio.run(nanny.close()) == clusters.END
    let_end(SimpleNamespace(cluster=None))
