"""The calls that a dask cluster makes for the pairs of a batch: one at a time on each worker."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import queue
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import dask.config
from distributed import Client, Future

from geocd.batch.cluster import connection_lost
from geocd.batch.work import Task

#: Seconds between two looks at the cluster.
INTERVAL = 1.0
#: Seconds to wait for the result of a finished call, a record of some kB.
FETCH = 30.0


@dataclasses.dataclass(eq=False)
class Call:
    """A function that the cluster runs for a pair: ``prepare``, ``work_part`` or ``work``.

    Attributes
    ----------
    deaths : int
        Workers that have died while they had it.
    killed : bool
        Whether these are too many for another attempt.
    dropped : bool
        Whether its pair was set aside while it was running.
    future : distributed.Future
        Of the last attempt.
    worker : str
        Address of the worker of the last attempt.
    """

    task: Task
    function: Callable[..., Any]
    arguments: tuple[int, ...] = ()
    deaths: int = 0
    killed: bool = False
    dropped: bool = False
    future: Future[Any] = dataclasses.field(init=False)
    worker: str = dataclasses.field(init=False)

    @property
    def name(self) -> str:
        """The id of the pair."""
        return self.task.item.id


class Calls:
    """Makes calls on the workers of a cluster, one at a time on each, and makes them again when one dies.

    Dask would send a call whose worker has died to another one that is busy with the next pair. Where the
    first pair kills every worker, the second would count as killing them too, so every call is bound to a
    worker that has no other one, and waits here until there is one.

    Parameters
    ----------
    client : distributed.Client
    resources : mapping
        Resources that each call needs.

    Attributes
    ----------
    token : str
        Part of every key: another client may be doing a pair of the same name.
    """

    def __init__(self, client: Client, resources: Mapping[str, float]) -> None:
        self._client = client
        self._resources = dict(resources)
        self._limit = client.run_on_scheduler(dask.config.get, "distributed.scheduler.allowed-failures") + 1
        #: Addresses of the workers that can take a call, those with least to do first.
        self._workers: list[str] = []
        self._queue: deque[Call] = deque()
        self._killed: deque[Call] = deque()
        self._running: dict[Future[Any], Call] = {}
        self._ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self.token = uuid.uuid4().hex[:8]
        self._count = itertools.count()

    def _calls(self) -> list[Call]:
        running = (call for call in self._running.values() if not call.dropped)
        return [*self._queue, *self._killed, *running]

    def __len__(self) -> int:
        return len(self._calls())

    @property
    def names(self) -> set[str]:
        """The ids of the pairs that calls are made for."""
        return {call.name for call in self._calls()}

    @property
    def idle(self) -> int:
        """Number of further calls that the workers could begin now."""
        return max(0, len(self._free()) - len(self._queue))

    def _free(self) -> list[str]:
        busy = {call.worker for call in self._running.values()}
        return [worker for worker in self._workers if worker not in busy]

    def look(self) -> int:
        """Ask for the workers, take calls back from those that have died, and return how many there are.

        Raises
        ------
        ClusterError
            There is no scheduler any more.
        """
        scheduler = self._client.scheduler
        if scheduler is None:
            raise connection_lost(self._client)
        workers = self._client.sync(scheduler.identity)["workers"]
        processing = self._client.processing()  # also for other clients
        usable = [address for address, worker in workers.items() if self._suits(worker)]
        self._workers = sorted(usable, key=lambda address: len(processing.get(address, ())))
        for call in list(self._running.values()):
            if call.future.status not in ("pending", "lost"):  # has just ended
                continue
            if call.worker not in workers:
                self.lose(call)
            elif call.worker not in usable and call.future.key not in processing.get(call.worker, ()):
                self._take_back(call)  # the worker was paused before the call began
        self._send()
        return len(workers)

    def _suits(self, worker: Mapping[str, Any]) -> bool:
        supply = worker["resources"]
        enough = all(supply.get(name, 0) >= amount for name, amount in self._resources.items())
        return enough and worker["status"] == "running"

    def submit(self, task: Task, function: Callable[..., Any], *arguments: int) -> None:
        """Let a worker call a function with a task and further arguments, as soon as one is idle."""
        self._queue.append(Call(task, function, arguments))
        self._send()

    def _send(self) -> None:
        for worker, call in zip(self._free(), list(self._queue), strict=False):
            self._queue.popleft()
            call.worker = worker
            key = "-".join(map(str, (call.name, self.token, call.function.__name__, next(self._count))))
            call.future = self._client.submit(
                call.function,
                call.task,
                *call.arguments,
                key=key,
                pure=False,
                workers=[worker],
                resources=self._resources or None,
            )
            self._running[call.future] = call
            call.future.add_done_callback(self._ended.put)

    def wait(self) -> Call | None:
        """Return a call that has ended or was lost too often, None where there is none within a second.

        Raises
        ------
        ClusterError
            The scheduler does not answer any more.
        """
        if self._killed:
            return self._killed.popleft()
        try:
            future = self._ended.get(timeout=INTERVAL)
        except queue.Empty:
            if self._client.status != "running":
                raise connection_lost(self._client) from None
            return None
        call = self._running.pop(future, None)  # None: taken back
        if call is None:
            return None
        if future.status != "finished":
            self._avoid(call.worker)
        self._send()
        return None if call.dropped else call

    def result(self, call: Call) -> Any:
        """Return what a finished call returned, None where its worker died before that was fetched.

        Dask itself would wait until a worker has run the call again, which may be never.
        """
        end = time.monotonic() + FETCH
        while call.future.status == "finished" and time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                return call.future.result(timeout=2 * INTERVAL)
        return None

    def lose(self, call: Call) -> None:
        """Make a call again whose worker has died; once too many have, :meth:`wait` returns it as killed."""
        self._avoid(call.worker)
        call.deaths += 1
        call.killed = call.deaths >= self._limit
        self._take_back(call)

    def _take_back(self, call: Call) -> None:
        self._running.pop(call.future, None)
        call.future.release()
        if not call.dropped:
            (self._killed if call.killed else self._queue).append(call)

    def _avoid(self, worker: str) -> None:
        """Send nothing to a worker that may be dead until the scheduler has been asked again."""
        if worker in self._workers:
            self._workers.remove(worker)

    def drop(self, name: str) -> None:
        """Forget the calls for a pair; workers that run one get no other until it has ended."""
        for calls in (self._queue, self._killed):
            for call in [call for call in calls if call.name == name]:
                calls.remove(call)
        for call in self._running.values():
            call.dropped = call.dropped or call.name == name


__all__ = ["Call", "Calls"]
