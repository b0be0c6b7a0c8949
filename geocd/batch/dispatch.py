"""Hand the pairs of a batch out to a dask cluster, and write down what becomes of them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import queue
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from distributed import Client, Future, KilledWorker

from geocd.batch.cluster import Watch, connection_lost
from geocd.batch.manifest import Manifest, Record
from geocd.batch.progress import Meter, Progress
from geocd.batch.work import Task, failure, prepare, work, work_part
from geocd.errors import ClusterError, OutputError

LOG = logging.getLogger("geocd")

#: After this many failures to write in a row the folder is at fault, not the pairs.
UNWRITABLE = 3
#: A pair of at least ``SPREAD`` tiles is spread over workers that would be idle, with at least ``LEAST_PART``
#: for each: every worker has to fit to the scene first, and the one that makes the outputs does so again
#: (which takes as long as some 15 tiles).
SPREAD, LEAST_PART = 64, 16
#: Seconds between two looks at the cluster.
_INTERVAL = 1.0
#: Seconds to wait for the result of a finished call, a record of some kB.
_FETCH = 30.0


@dataclasses.dataclass(frozen=True)
class _Call:
    """A function that the cluster runs for a pair: ``prepare``, ``work_part`` or ``work``."""

    name: str
    function: Callable[..., Any]
    future: Future[Any]


class _Calls:
    """The calls that are with the cluster.

    Parameters
    ----------
    client : distributed.Client
    resources : mapping
        Resources that each call needs.
    """

    def __init__(self, client: Client, resources: Mapping[str, float]) -> None:
        self._client = client
        self._resources = resources or None
        self._running: dict[Future[Any], _Call] = {}
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        #: Part of every key: another client may be doing a pair of the same name.
        self.token = uuid.uuid4().hex[:8]
        self._count = itertools.count()

    def __len__(self) -> int:
        return len(self._running)

    @property
    def names(self) -> set[str]:
        """The ids of the pairs that calls are running for."""
        return {call.name for call in self._running.values()}

    def submit(self, task: Task, function: Callable[..., Any], *arguments: int) -> None:
        """Let the cluster call a function with a task and further arguments."""
        key = "-".join(map(str, (task.item.id, self.token, function.__name__, next(self._count))))
        future = self._client.submit(
            function, task, *arguments, key=key, pure=False, resources=self._resources
        )
        self._running[future] = _Call(task.item.id, function, future)
        future.add_done_callback(self._ended.put)

    def wait(self) -> _Call | None:
        """Return a call that has ended, None where none has within a second.

        Raises
        ------
        ClusterError
            The scheduler does not answer any more.
        """
        try:
            future = self._ended.get(timeout=_INTERVAL)
        except queue.Empty:
            if self._client.status != "running":
                raise connection_lost(self._client) from None
            return None
        return self._running.pop(future, None)  # None: a part of a pair that was set aside

    def result(self, call: _Call) -> Any:
        """Return what a finished call returned, None where its worker died before that was fetched.

        Dask itself would wait until a worker has run the call again, which may be never.
        """
        end = time.monotonic() + _FETCH
        while call.future.status == "finished" and time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                return call.future.result(timeout=2 * _INTERVAL)
        return None

    def drop(self, name: str) -> None:
        """Forget the calls that are still running for a pair."""
        for call in [call for call in self._running.values() if call.name == name]:
            del self._running[call.future]
            call.future.release()


class Dispatcher:
    """Does the pairs of one run on a cluster, on the side of the client.

    Parameters
    ----------
    manifest : Manifest
    tasks : mapping of Task
        All pairs of the list, by id.
    fail_fast : bool
        Whether the first failure ends the run.
    progress : callable, optional
        Called about once a second with the :class:`~geocd.batch.progress.Progress`.

    Attributes
    ----------
    computed : int
        Pairs done so far in this run.
    """

    def __init__(
        self,
        manifest: Manifest,
        tasks: Mapping[str, Task],
        *,
        fail_fast: bool,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._manifest = manifest
        self._tasks = tasks
        self._fail_fast = fail_fast
        self._progress = progress
        self._unwritten = 0
        self.computed = 0

    def run(
        self, client: Client, todo: Collection[str], resources: Mapping[str, float], worker_timeout: float
    ) -> None:
        """Do these pairs; as many are with the cluster as it has threads, so that nothing piles up.

        No pair waits on a worker behind another one, so none is blamed when that one kills the worker. Where
        fewer pairs are left than threads, a pair of many tiles is first spread over those that would be idle;
        :func:`~geocd.batch.work.work` then finds these tiles done.
        """
        calls = _Calls(client, resources)
        meter = Meter(len(todo))
        waiting = deque(todo)
        topic = None
        if self._progress is not None:
            topic = f"geocd-{calls.token}"
            client.subscribe_topic(topic, meter.report)
        tasks = {name: dataclasses.replace(self._tasks[name], topic=topic) for name in todo}
        watch = Watch(client, worker_timeout)
        next_look, threads = 0.0, 0
        while waiting or calls:
            if time.monotonic() >= next_look:
                threads = sum(client.nthreads().values())
                watch.look(threads)
                self._report(meter, calls.names, threads)
                next_look = time.monotonic() + _INTERVAL
            while waiting and len(calls) < threads:
                spare = threads - len(calls) - len(waiting)
                task = tasks[waiting.popleft()]
                self._manifest.add({"id": task.item.id, "state": "sent", "config": task.config})
                if spare > 0:
                    calls.submit(task, prepare, SPREAD)
                else:
                    calls.submit(task, work)
            call = calls.wait()
            if call is None:
                continue
            if _settles(call):
                record = self._record(client, call, calls)
                calls.drop(call.name)
                if record is None:  # another worker finds the pair finished, or finishes it
                    calls.submit(tasks[call.name], work)
                elif self._settle(record, meter) and self._fail_fast:
                    return
            else:
                _continue(call, tasks[call.name], calls, meter, threads - len(calls) - len(waiting))
            call.future.release()
        self._report(meter, (), threads)

    def _record(self, client: Client, call: _Call, calls: _Calls) -> Record | None:
        """Return the record that a call brings, None where it was lost with its worker.

        Errors of dask, not of the pair, become a record too.
        """
        if call.future.status == "cancelled" or client.status != "running":  # not by us
            raise connection_lost(client)
        if call.future.status != "error":
            record: Record | None = calls.result(call)
            return record
        error = call.future.exception()
        if (module := _missing_module(error)) is not None:  # not within the pair, whose errors are a record
            raise ClusterError(
                f"the workers have no module {module!r}, so no pair can be computed, and none counts "
                "as failed. Install geocd[batch] for the workers, the same version as here, "
                "start them again, then run the same command again."
            )
        failed = failure(call.name, error, self._tasks[call.name])
        if isinstance(error, KilledWorker):
            failed["message"] = (
                f"{error.allowed_failures + 1} workers died one after the other on this pair: out of memory, "
                "or a file that crashes its reader. Try it alone with geocd detect."
            )
        return failed

    def _settle(self, record: Record, meter: Meter) -> bool:
        """Write down what has become of a pair, and return whether it failed.

        Raises
        ------
        OutputError
            Several pairs in a row could not be written.
        """
        self._manifest.add(record)
        meter.end_pair(record.get("pixels", 0) if record["state"] == "done" else 0)
        if record["state"] != "failed":
            self.computed += 1
            self._unwritten = 0
            return False
        LOG.warning("%s failed: %s", record["id"], record["message"])
        self._unwritten = self._unwritten + 1 if record["error"] == OutputError.__name__ else 0
        if self._unwritten >= UNWRITABLE:
            raise OutputError(
                f"{UNWRITABLE} pairs in a row could not be written, the last one: {record['message']} Then "
                "run the same command again to continue."
            )
        return True

    def _report(self, meter: Meter, running: Collection[str], threads: int) -> None:
        if self._progress is None:
            return
        states = Counter(self._manifest.records[name]["state"] for name in self._tasks)
        self._progress(
            meter.progress(
                running,
                total=len(self._tasks),
                done=states["done"],
                failed=states["failed"],
                workers=threads,
            )
        )


def _missing_module(error: BaseException | None) -> str | None:
    """Return the module that a worker lacks to begin a call at all, None for any other error."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            return error.name or str(error)
        error = error.__cause__ or error.__context__
    return None


def _settles(call: _Call) -> bool:
    """Return whether a call that has ended decides what becomes of its pair.

    Errors of the others come again when the pair is done, unless they killed the worker or the call is lost.
    """
    status = call.future.status
    killed = status == "error" and isinstance(call.future.exception(), KilledWorker)
    return call.function is work or killed or status not in ("finished", "error")


def _continue(call: _Call, task: Task, calls: _Calls, meter: Meter, spare: int) -> None:
    """Submit what follows on ``prepare`` or on the last part of a pair; ``spare`` threads would be idle."""
    if call.function is prepare:
        tiles = calls.result(call) or 0
        parts = min(spare, tiles // LEAST_PART)
        if parts > 1:
            LOG.info("%s: %d tiles are spread over %d workers", call.name, tiles, parts)
            for part in range(parts):
                calls.submit(task, work_part, part, parts)
        else:
            calls.submit(task, work)
    elif call.name not in calls.names:  # the last part
        meter.forget_tiles(call.name)
        calls.submit(task, work)


__all__ = ["Dispatcher"]
