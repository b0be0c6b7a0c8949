"""Pairs and tiles handed out to workers, and what is told of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_folder import CVA, TILED, contents, states
from distributed import Client

from geocd.batch import calls as calls_module
from geocd.batch import dispatch
from geocd.batch.calls import Call, Calls
from geocd.batch.pairs import read_items
from geocd.batch.progress import Meter, Progress
from geocd.batch.run import Cluster
from geocd.batch.run import run as run_batch
from geocd.cli.batch import progress_words
from geocd.config import Settings
from geocd.errors import ClusterError
from geocd.pipeline.run import detect


def test_tiles_are_told_while_pairs_run(
    cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    settings = Settings.from_flat({"method": "cva", "tile_size": 64, "overlap": 16})
    items = read_items(write_pairs(2, side=128))
    told: list[Progress] = []
    where = Cluster(scheduler=cluster)
    run_batch(items, tmp_path / "out", settings=settings, cluster=where, progress=told.append)
    with Client(cluster, set_as_default=False) as client:
        events = [
            one for topic, found in client.get_events().items() if topic[:6] == "geocd-" for one in found
        ]
    last = {event["id"]: event for _, event in events}
    assert last["p1"].items() >= {"done": 9, "total": 9, "pixels": 128 * 128}.items()
    assert told[-1].pixels == 2 * 128 * 128


def test_half_of_a_running_pair_counts_as_half() -> None:
    meter = Meter(2)
    for name, part in (("p1", 0), ("p1", 1), ("gone", 0)):
        meter.report((0.0, {"id": name, "part": part, "done": 1, "total": 6, "pixels": 2_000_000}))
    meter.report((1.0, {"id": "p1", "part": 1, "done": 2, "total": 6, "pixels": 2_000_000}))
    now = meter.progress(["p0", "p1"], total=2, done=0, failed=0, workers=4)
    assert (now.running, now.tiles, now.of_tiles, now.pixels) == (2, 3, 6, 1_000_000)
    assert now.left == pytest.approx(3 * now.seconds)
    words = progress_words(dataclasses.replace(now, seconds=10.0))
    assert words.startswith(
        "0 of 2 pairs done, 0 failed, 2 running on 4 workers (tile 3 of 6), 0.1 Mpx/s, end about "
    )


def test_steps_of_the_fit_count_until_there_are_tiles() -> None:
    meter = Meter(2)
    for name, stage, done, total in (("p0", "fit", 12, 40), ("p1", "fit", 40, 40), ("p1", "tiles", 1, 4)):
        meter.report(
            (0.0, {"id": name, "part": 0, "done": done, "total": total, "pixels": 8, "stage": stage})
        )
    now = meter.progress(["p0", "p1"], total=2, done=0, failed=0, workers=4)
    assert (now.steps, now.of_steps, now.tiles, now.of_tiles) == (12, 40, 1, 4)
    assert "2 running on 4 workers (fitting, step 12 of 40; tile 1 of 4)" in progress_words(now)


def test_a_large_scene_is_spread_over_idle_workers(
    cluster: str,
    write_pairs: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "geocd")
    (item,) = read_items(write_pairs(1, side=512))
    where = Cluster(scheduler=cluster)
    run_batch([item], tmp_path / "out", settings=TILED, cluster=where)
    assert "p0: 121 tiles are spread over 2 workers" in caplog.text
    stem = tmp_path / "serial" / "p0" / "p0"
    stem.parent.mkdir(parents=True)
    detect(item.before, item.after, stem, settings=TILED)
    assert contents(tmp_path / "out") == contents(tmp_path / "serial")
    assert len(contents(tmp_path / "out")) == 5
    assert not (tmp_path / "out" / "p0" / ".p0.geocd").exists()

    monkeypatch.setattr(dispatch, "SPREAD", 122)
    caplog.clear()
    run_batch([item], tmp_path / "less", settings=TILED, cluster=where)
    assert "spread" not in caplog.text
    assert contents(tmp_path / "less") == contents(tmp_path / "serial")


def test_a_record_that_is_lost_with_its_worker(
    cluster: str, write_pairs: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask would wait for a worker that may never come; the pair is given to another one instead."""
    original, lost = Calls.result, []

    def result(calls: Calls, call: Call) -> object:
        if call.function is not dispatch.work or call.name in lost:
            return original(calls, call)
        lost.append(call.name)
        monkeypatch.setattr(call.future, "result", never, raising=False)
        monkeypatch.setattr(calls_module, "FETCH", 0.1)
        return original(calls, call)

    def never(timeout: float) -> object:
        time.sleep(0.1)
        raise TimeoutError

    monkeypatch.setattr(Calls, "result", result)
    items = read_items(write_pairs(2))
    summary = run_batch(items, tmp_path / "out", settings=CVA, cluster=Cluster(scheduler=cluster))
    assert sorted(lost) == summary.done == ["p0", "p1"]


def test_workers_without_geocd_are_named_and_no_pair_has_failed(
    cluster: str, write_pairs: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(task: object) -> None:
        try:
            raise ModuleNotFoundError("No module named 'geocd'", name="geocd")
        except ModuleNotFoundError as error:
            raise RuntimeError("Error during deserialization of the task graph.") from error

    monkeypatch.setattr(dispatch, "work", work)
    items, out = read_items(write_pairs(2)), tmp_path / "out"
    with pytest.raises(ClusterError, match=r"the workers have no module 'geocd'.*Install geocd\[batch\]"):
        run_batch(items, out, settings=CVA, cluster=Cluster(scheduler=cluster))
    assert "failed" not in states(out).values()
