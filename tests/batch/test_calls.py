"""Calls on the workers of a cluster, against a scheduler that is simulated step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.config
import pytest
from batch_folder import CVA, states
from distributed import KilledWorker

from geocd.batch import calls as module
from geocd.batch import dispatch
from geocd.batch.calls import Calls
from geocd.batch.dispatch import Dispatcher
from geocd.batch.manifest import Manifest
from geocd.batch.pairs import Item
from geocd.batch.work import Task, prepare, work
from geocd.errors import ClusterError


@dataclasses.dataclass(eq=False)
class Attempt:
    """Stands for a future of dask."""

    key: str
    name: str
    workers: Collection[str] | None
    status: str = "pending"
    value: Any = None
    suspicious: int = 0
    steps: int = 0
    callbacks: list[Callable[[Attempt], None]] = dataclasses.field(default_factory=list)

    def add_done_callback(self, callback: Callable[[Attempt], None]) -> None:
        self.callbacks.append(callback)

    def end(self, status: str, value: Any = None) -> None:
        self.status, self.value = status, value
        for callback in self.callbacks:
            callback(self)

    def release(self) -> None:
        if self.status == "pending":
            self.end("cancelled")

    def result(self, timeout: float) -> Any:
        return self.value

    def exception(self) -> Any:
        return self.value


class Dask:
    """Stands for client, scheduler and workers of dask, as far as the death of workers is concerned.

    Every death counts against all that was sent to the worker; what is bound to no worker goes to another.
    """

    allowed_failures = 3

    def __init__(self, *workers: str) -> None:
        self.workers = {worker: {"status": "running", "resources": {"GPU": 1}} for worker in workers}
        self.attempts: list[Attempt] = []
        self.placed: dict[str, list[Attempt]] = {worker: [] for worker in workers}
        self.status = "running"
        self.scheduler = SimpleNamespace(identity=lambda: {"workers": dict(self.workers)}, address="")

    def sync(self, function: Callable[[], Any]) -> Any:
        return function()

    def run_on_scheduler(self, function: object, name: str) -> int:
        assert (function, name) == (dask.config.get, "distributed.scheduler.allowed-failures")
        return self.allowed_failures

    def processing(self) -> dict[str, list[str]]:
        return {worker: [attempt.key for attempt in sent] for worker, sent in self.placed.items()}

    def submit(
        self, function: object, task: Task, *arguments: int, key: str, workers: Any = None, **_: Any
    ) -> Attempt:
        attempt = Attempt(key, task.item.id, workers)
        self.attempts.append(attempt)
        self.place()
        return attempt

    def place(self) -> None:
        """Send every attempt that is nowhere to a worker that it may run on."""
        self.placed = {
            worker: [attempt for attempt in self.placed.get(worker, []) if attempt.status == "pending"]
            for worker in self.workers
        }
        sent = {attempt for attempts in self.placed.values() for attempt in attempts}
        for attempt in self.attempts:
            if attempt.status == "pending" and attempt not in sent:
                usable = [
                    worker
                    for worker, identity in self.workers.items()
                    if (attempt.workers is None or worker in attempt.workers)
                    and identity["status"] == "running"
                ]
                if usable:
                    self.placed[min(usable, key=lambda worker: len(self.placed[worker]))].append(attempt)

    def kill(self, worker: str) -> None:
        del self.workers[worker]
        for attempt in self.placed.pop(worker):
            attempt.suspicious += 1
            if attempt.suspicious > self.allowed_failures and attempt.status == "pending":
                attempt.end("error", KilledWorker(attempt.key, None, self.allowed_failures))
        self.place()

    def start(self, worker: str) -> None:
        self.workers[worker] = {"status": "running", "resources": {"GPU": 1}}
        self.place()

    def of(self, name: str) -> Attempt:
        """The last attempt at a pair."""
        return [attempt for attempt in self.attempts if attempt.name == name][-1]

    def where(self, name: str) -> str | None:
        """The worker that a pair is on."""
        return next((worker for worker, sent in self.placed.items() if self.of(name) in sent), None)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.0)
    monkeypatch.setattr(dispatch, "INTERVAL", 0.0)


def pair(name: str) -> Task:
    return Task(Item(name, f"{name}_before.tif", f"{name}_after.tif"), CVA, "out", "0")


def calls_of(dask: Dask, resources: Mapping[str, float] | None = None) -> Calls:
    calls = Calls(dask, resources or {})  # type: ignore[arg-type]
    calls.look()
    return calls


def test_a_call_whose_worker_died_waits_for_an_idle_one() -> None:
    dask = Dask("a", "b")
    calls = calls_of(dask)
    calls.submit(pair("p0"), work)
    calls.submit(pair("p1"), work)
    innocent = dask.of("p0")
    assert (dask.where("p0"), dask.where("p1"), calls.idle) == ("a", "b", 0)
    for worker in ("c", "d", "e"):
        dask.kill(dask.where("p1") or "")
        assert calls.look() == 1
        assert (dask.where("p1"), calls.idle) == (None, 0)
        assert calls.names == {"p0", "p1"}
        dask.start(worker)
        assert calls.look() == 2
        assert (dask.where("p1"), calls.wait()) == (worker, None)
    dask.kill("e")
    calls.look()
    killed = calls.wait()
    assert killed is not None
    assert (killed.name, killed.killed, killed.deaths) == ("p1", True, 4)
    assert dask.of("p0") is innocent
    assert (innocent.status, innocent.suspicious) == ("pending", 0)
    innocent.end("finished", "record")
    ended = next(call for call in iter(calls.wait, 0) if call is not None)
    assert (ended.name, ended.deaths, calls.result(ended), len(calls)) == ("p0", 0, "record", 0)


def test_the_limit_is_that_of_the_scheduler() -> None:
    cluster = Dask("a")
    cluster.allowed_failures = 0
    calls = calls_of(cluster)
    calls.submit(pair("p0"), work)
    del cluster.workers["a"]
    calls.look()
    killed = calls.wait()
    assert killed is not None
    assert (killed.killed, killed.deaths) == (True, 1)


def test_a_worker_that_failed_a_call_gets_none_until_the_scheduler_is_asked() -> None:
    dask = Dask("a")
    calls = calls_of(dask)
    calls.submit(pair("p0"), work)
    dask.of("p0").end("error", KilledWorker("p0", None, 0))
    assert calls.wait() is not None
    assert calls.idle == 0
    calls.look()
    assert calls.idle == 1


def test_workers_are_chosen_by_resources_state_and_load() -> None:
    dask = Dask("busy", "small", "paused", "idle")
    dask.workers["small"]["resources"] = {}
    dask.workers["paused"]["status"] = "paused"
    dask.placed["busy"].append(Attempt("of another client", "", None))
    calls = calls_of(dask, {"GPU": 1})
    assert calls.idle == 2
    calls.submit(pair("p0"), work)
    calls.submit(pair("p1"), work)
    assert (dask.where("p0"), dask.where("p1")) == ("idle", "busy")


def test_a_call_that_a_paused_worker_did_not_begin_goes_to_another() -> None:
    dask = Dask("a")
    calls = calls_of(dask)
    dask.workers["a"]["status"] = "paused"
    calls.submit(pair("p0"), work)
    assert dask.where("p0") is None
    dask.start("b")
    calls.look()
    assert dask.where("p0") == "b"
    dask.workers["b"]["status"] = "paused"  # while it runs
    first = dask.of("p0")
    calls.look()
    assert dask.of("p0") is first


def test_a_worker_with_a_part_of_a_pair_that_was_set_aside_stays_busy() -> None:
    dask = Dask("a", "b")
    calls = calls_of(dask)
    calls.submit(pair("p0"), prepare)
    calls.submit(pair("p0"), work)
    part = dask.attempts[0]
    calls.drop("p0")
    assert (len(calls), calls.idle, calls.names) == (0, 0, set())
    dask.kill("b")
    calls.look()
    assert len(dask.attempts) == 2, "it is not made again"
    dask.start("c")
    calls.look()
    calls.submit(pair("p1"), work)
    assert dask.where("p1") == "c"
    part.end("finished")
    assert [calls.wait() for _ in range(3)] == [None] * 3
    assert calls.idle == 1


def test_a_scheduler_that_is_gone() -> None:
    cluster = Dask("a")
    calls = calls_of(cluster)
    cluster.status = "closed"
    with pytest.raises(ClusterError, match="connection to the dask scheduler"):
        calls.wait()
    cluster.scheduler = None  # type: ignore[assignment]
    with pytest.raises(ClusterError, match="connection to the dask scheduler"):
        calls.look()


class Dying(Dask):
    """A cluster on which some pairs kill every worker, and whose dead workers start slowly."""

    def __init__(self, number: int, killers: Collection[str], restart: int) -> None:
        super().__init__(*(f"w{index}" for index in range(number)))
        self.killers, self.restart = killers, restart
        self.step, self.deaths = 0, 0
        self.starts: list[int] = []

    def sync(self, function: Callable[[], Any]) -> Any:
        self.step += 1
        assert self.step < 1000, "the batch does not end"
        for worker, sent in list(self.placed.items()):
            sent = [attempt for attempt in sent if attempt.status == "pending"]
            if any(attempt.name in self.killers for attempt in sent):
                self.deaths += 1
                self.kill(worker)
                self.starts.append(self.step + self.restart)
            elif sent:
                sent[0].steps += 1
                if sent[0].steps == 2:
                    record = {"id": sent[0].name, "state": "done", "config": "0", "inputs": {}, "outputs": {}}
                    sent[0].end("finished", record if "-work-" in sent[0].key else 0)
        for step in [step for step in self.starts if step <= self.step]:
            self.starts.remove(step)
            self.start(f"w{self.step}-{len(self.starts)}")
        self.place()
        return function()


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("restart", [1, 3, 7])
@pytest.mark.parametrize("killers", [("p1",), ("p0", "p1"), ("p1", "p4", "p5")])
def test_pairs_that_kill_their_workers_are_set_aside_and_no_others(
    workers: int, restart: int, killers: tuple[str, ...], tmp_path: Path
) -> None:
    cluster = Dying(workers, killers, restart)
    tasks = {name: pair(name) for name in (f"p{number}" for number in range(6))}
    with Manifest(tmp_path) as manifest:
        dispatcher = Dispatcher(manifest, tasks, fail_fast=False, progress=None)
        cluster.cluster = None  # type: ignore[attr-defined]
        dispatcher.run(cluster, tasks, {}, worker_timeout=60)  # type: ignore[arg-type]
        failed = [record for record in manifest.records.values() if record["state"] == "failed"]
    assert states(tmp_path) == {name: "failed" if name in killers else "done" for name in tasks}
    assert cluster.deaths == 4 * len(killers)
    assert {record["error"] for record in failed} == {"KilledWorker"}
    assert all("4 workers died one after the other on this pair" in record["message"] for record in failed)
