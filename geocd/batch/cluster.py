"""The dask cluster that a batch computes on."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import dask.config
from distributed import Client, LocalCluster, Nanny, Status

from geocd.errors import ClusterError, ConfigError

LOG = logging.getLogger("geocd")

#: A pair that brought down this many workers, one after the other, is set aside.
DEATHS = 4
#: Local workers that cannot be started are tried again this often.
STARTS = 3
#: Seconds after which dask gives up a local worker that has died and is not back; under load one takes longer
#: than dask's own 15 to start.
LOST = 60
#: Seconds that a local worker may take to start.
START = 60
#: Seconds that a local worker may take to end once it has nothing left to do.
END = 30.0
#: Seconds without any local worker after which a batch ends, and without any of a scheduler elsewhere, whose
#: workers may be in the queue of a cluster.
PATIENCE, WORKER_TIMEOUT = 180.0, 3600.0
#: Seconds without any worker of a scheduler that runs elsewhere after which this is said.
WAIT = 30.0
_GONE = (Status.closing, Status.closed, Status.failed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where a batch computes.

    By default on the scheduler that dask's own configuration names, else on one worker per processor of this
    machine.

    Parameters
    ----------
    workers : int, optional
        Number of workers to start on this machine.
    scheduler : str, optional
        Address of a running scheduler: ``tcp://host:8786``.
    scheduler_file : str, optional
        The file that ``dask scheduler --scheduler-file`` wrote.
    resources : mapping
        Resources of dask that a pair needs, as workers declare them: ``{"GPU": 1}``.
    mem_limit : int, optional
        Memory that each worker may take, in MB of 2**20 bytes, see :func:`geocd.pipeline.run.detect`.
    worker_timeout : float
        Seconds without any worker of a scheduler that runs elsewhere after which the batch ends.

    Raises
    ------
    ConfigError
        More than one of ``workers``, ``scheduler`` and ``scheduler_file`` is given, or no worker.
    """

    workers: int | None = None
    scheduler: str | None = None
    scheduler_file: str | None = None
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)
    mem_limit: int | None = None
    worker_timeout: float = WORKER_TIMEOUT

    def __post_init__(self) -> None:
        names = ("workers", "scheduler", "scheduler_file")
        options = ["--" + name.replace("_", "-") for name in names if getattr(self, name) is not None]
        if len(options) > 1:
            raise ConfigError(f"{' and '.join(options)}: choose one of them.")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"--workers {self.workers}: must be 1 or more.")

    @contextlib.contextmanager
    def connect(self) -> Iterator[Client]:
        """Yield a client of the cluster; a cluster that was started for it is stopped with it.

        Raises
        ------
        ClusterError
            The scheduler cannot be reached.
        """
        address = self.scheduler
        if self.workers is None and self.scheduler_file is None and address is None:
            address = dask.config.get("scheduler-address", None)  # DASK_SCHEDULER_ADDRESS
        if address is None and self.scheduler_file is None:
            with self._local() as cluster, _client(cluster) as client:
                yield client
            return
        where = address if address is not None else f"the scheduler of {self.scheduler_file}"
        try:
            if address is None and not Path(str(self.scheduler_file)).is_file():
                raise OSError("no such file")
            # fails at once where no scheduler runs; waiting would not bring it back
            client = _client(address, self.scheduler_file)
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"{where}: cannot be reached ({error}). Check that 'dask scheduler' is running there, or "
                "leave the option out to use this machine.",
                scheduler=where,
            ) from error
        with client:
            yield client

    @contextlib.contextmanager
    def _local(self) -> Iterator[LocalCluster]:
        settings: dict[str, object] = {"distributed.scheduler.allowed-failures": DEATHS - 1}
        if dask.config.get("distributed.deploy.lost-worker-timeout") == "15s":  # dask's own, not the user's
            settings["distributed.deploy.lost-worker-timeout"] = f"{LOST}s"
        with dask.config.set(settings), self._start() as cluster:
            yield cluster

    def _start(self) -> LocalCluster:
        # one pair, one process, one thread: a crash in GDAL or a driver costs one pair
        resources = {"resources": dict(self.resources)} if self.resources else {}
        for attempt in range(1, STARTS + 1):
            try:
                return LocalCluster(
                    n_workers=self.workers,
                    threads_per_worker=1,
                    processes=True,
                    worker_class=_Nanny,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    death_timeout=START,  # without one, dask may wait for ever
                    silence_logs=max(logging.getLogger("distributed").level, logging.WARNING),
                    **resources,
                )
            except RuntimeError as error:  # a worker died while it started
                if (script := _script_without_guard()) is not None:
                    raise ClusterError(
                        f"{script}: the workers run this script again as they start. Put what it does below "
                        "the line: if __name__ == '__main__':"
                    ) from None
                if attempt == STARTS:
                    raise _no_workers(f"could not be started in {STARTS} attempts") from error
                LOG.info("the workers could not be started (%s); trying again", error)
        raise AssertionError("unreachable")


def _script_without_guard() -> str | None:
    """Return the script that this process runs where it does not ask whether it is the main module."""
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path is None or getattr(main, "__spec__", None) is not None:  # interactive, or python -m
        return None
    try:
        return None if "__main__" in Path(path).read_text(encoding="utf-8", errors="replace") else str(path)
    except OSError:
        return None


class _Nanny(Nanny):
    """Starts a worker and ends it; one that has nothing left to do may take its time for that.

    A process that has loaded torch takes seconds to end on a busy machine; dask would kill it, and say so.
    """

    patience = 0.0

    async def close(  # type: ignore[override]  # as dask's own
        self, timeout: float = 5, reason: str = "nanny-close"
    ) -> Literal["OK"]:
        """End the worker, and kill it where it has not ended by then."""
        return await super().close(max(timeout, self.patience), reason)


def let_end(client: Client) -> None:
    """Give the workers of this machine, which have nothing left to do, the time that they take to end."""
    if isinstance(client.cluster, LocalCluster):
        for nanny in list(client.cluster.workers.values()):
            nanny.patience = END


class Watch:
    """Watches the number of workers: starts local ones again that dask has given up.

    Parameters
    ----------
    client : distributed.Client
    timeout : float
        Seconds without any worker of a scheduler that runs elsewhere after which the batch ends.
    """

    def __init__(self, client: Client, timeout: float = WORKER_TIMEOUT) -> None:
        self._timeout = timeout
        self._cluster = client.cluster if isinstance(client.cluster, LocalCluster) else None
        self._since: float | None = None
        self._warned = False

    def look(self, workers: int) -> None:
        """Take the number of workers that the cluster has now.

        Raises
        ------
        ClusterError
            For ``PATIENCE`` seconds there has been no local worker, or for the timeout none elsewhere.
        """
        if self._cluster is not None and workers < len(self._cluster.worker_spec):
            loop = self._cluster.loop
            assert loop is not None  # the cluster runs
            loop.add_callback(_start_again, self._cluster)
        if workers:
            self._since, self._warned = None, False
            return
        self._since = time.monotonic() if self._since is None else self._since
        seconds = time.monotonic() - self._since
        if self._cluster is not None and seconds > PATIENCE:
            raise _no_workers(f"have died and could not be started again for {seconds:.0f} s")
        if self._cluster is None and seconds > self._timeout:
            raise ClusterError(
                f"the scheduler has had no worker for {seconds:.0f} s. Finished pairs are kept. Start "
                "workers with 'dask worker ADDRESS', then run the same command again to continue; where they "
                "take longer to start, pass a longer --worker-timeout.",
            )
        if self._cluster is None and seconds > WAIT and not self._warned:
            self._warned = True
            LOG.warning(
                "the scheduler has had no worker for %.0f s; the batch waits for up to %.0f s "
                "(--worker-timeout). Start one with 'dask worker ADDRESS', or stop with Ctrl-C and run the "
                "same command again later.",
                seconds,
                self._timeout,
            )


def _start_again(cluster: LocalCluster) -> None:
    """Start the workers of a cluster that are gone, in its event loop; those being started are left alone."""
    for name, nanny in list(cluster.workers.items()):
        if nanny.status in _GONE:
            del cluster.workers[name]
    if cluster.status == Status.running:
        cluster.scale(len(cluster.worker_spec))


def _no_workers(what: str) -> ClusterError:
    return ClusterError(
        f"the workers on this machine {what}. Finished pairs are kept. Make room in memory or pass fewer "
        "--workers, then run the same command again to continue; -v shows what dask says.",
    )


def _client(address: str | LocalCluster | None = None, scheduler_file: str | None = None) -> Client:
    return Client(address, scheduler_file=scheduler_file, set_as_default=False)


def connection_lost(client: Client) -> ClusterError:
    """Return the error for a scheduler that does not answer any more."""
    return ClusterError(
        f"the connection to the dask scheduler {getattr(client.scheduler, 'address', '')} is lost. Finished "
        "pairs are kept. Start the scheduler again if it has ended, then run the same command again to "
        "continue.",
    )


__all__ = ["Cluster", "Watch", "connection_lost", "let_end"]
