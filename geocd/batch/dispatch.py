"""Hand the pairs of a batch out to a dask cluster, and write down what becomes of them."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping

from distributed import Client, KilledWorker

from geocd.batch.calls import INTERVAL, Call, Calls
from geocd.batch.cluster import Watch, connection_lost, let_end
from geocd.batch.manifest import FailedRecord, Manifest, Record
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
        """Do these pairs; as many are with the cluster as it has workers, so that nothing piles up.

        No pair waits on a worker behind another one, so none is blamed when that one kills the worker. Where
        fewer pairs are left than workers, a pair of many tiles is first spread over those that would be idle;
        :func:`~geocd.batch.work.work` then finds these tiles done.
        """
        calls = Calls(client, resources)
        meter = Meter(len(todo))
        waiting = deque(todo)
        topic = None
        if self._progress is not None:
            topic = f"geocd-{calls.token}"
            client.subscribe_topic(topic, meter.report)
        tasks = {name: dataclasses.replace(self._tasks[name], topic=topic) for name in todo}
        watch = Watch(client, worker_timeout)
        next_look, workers = 0.0, 0
        while waiting or calls:
            if time.monotonic() >= next_look:
                workers = calls.look()
                watch.look(workers)
                self._report(meter, calls.names, workers)
                next_look = time.monotonic() + INTERVAL
            while waiting and calls.idle:
                spare = calls.idle - len(waiting)
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
                if record is None:  # another worker finds the pair finished, or finishes it
                    calls.lose(call)
                    continue
                calls.drop(call.name)
                if self._settle(record, meter) and self._fail_fast:
                    return
            else:
                _continue(call, calls, meter, calls.idle - len(waiting))
            call.future.release()
        self._report(meter, (), workers)
        let_end(client)

    def _record(self, client: Client, call: Call, calls: Calls) -> Record | None:
        """Return the record that a call brings, None where it was lost with its worker.

        Errors of dask, not of the pair, become a record too.
        """
        if call.killed:
            return _killed(call.task, call.deaths)
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
        if isinstance(error, KilledWorker):  # where the scheduler allows fewer deaths
            return _killed(call.task, call.deaths + error.allowed_failures + 1)
        return failure(call.name, error, call.task)

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

    def _report(self, meter: Meter, running: Collection[str], workers: int) -> None:
        if self._progress is None:
            return
        states = Counter(self._manifest.records[name]["state"] for name in self._tasks)
        self._progress(
            meter.progress(
                running,
                total=len(self._tasks),
                done=states["done"],
                failed=states["failed"],
                workers=workers,
            )
        )


def _missing_module(error: BaseException | None) -> str | None:
    """Return the module that a worker lacks to begin a call at all, None for any other error."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            return error.name or str(error)
        error = error.__cause__ or error.__context__
    return None


def _killed(task: Task, deaths: int) -> FailedRecord:
    """Return the record of a pair that is set aside because its workers died."""
    return {
        "id": task.item.id,
        "state": "failed",
        "config": task.config,
        "error": KilledWorker.__name__,
        "message": f"{deaths} workers died one after the other on this pair: out of memory, or a file that "
        "crashes its reader. Try it alone with geocd detect.",
    }


def _settles(call: Call) -> bool:
    """Return whether a call that has ended decides what becomes of its pair.

    Errors of the others come again when the pair is done, unless they killed the worker or the call is lost.
    """
    status = call.future.status
    killed = status == "error" and isinstance(call.future.exception(), KilledWorker)
    return call.killed or call.function is work or killed or status not in ("finished", "error")


def _continue(call: Call, calls: Calls, meter: Meter, spare: int) -> None:
    """Submit what follows on ``prepare`` or on the last part of a pair; ``spare`` workers would be idle."""
    if call.function is prepare:
        tiles = calls.result(call) or 0
        parts = min(spare, tiles // LEAST_PART)
        if parts > 1:
            LOG.info("%s: %d tiles are spread over %d workers", call.name, tiles, parts)
            for part in range(parts):
                calls.submit(call.task, work_part, part, parts)
        else:
            calls.submit(call.task, work)
    elif call.name not in calls.names:  # the last part
        meter.forget_tiles(call.name)
        calls.submit(call.task, work)


__all__ = ["Dispatcher"]
