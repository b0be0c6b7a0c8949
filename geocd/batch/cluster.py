"""The dask cluster that a batch computes on."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import dask.config
from distributed import Client, LocalCluster

from geocd.errors import ClusterError, ConfigError

#: A pair that brought down this many workers, one after the other, is set aside.
DEATHS = 4


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
        settings = {"distributed.scheduler.allowed-failures": DEATHS - 1}
        # one pair, one process, one thread: a crash in GDAL or a driver costs one pair
        resources = {"resources": dict(self.resources)} if self.resources else {}
        with (
            dask.config.set(settings),
            LocalCluster(
                n_workers=self.workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                **resources,
            ) as cluster,
        ):
            yield cluster


def _client(address: str | LocalCluster | None = None, scheduler_file: str | None = None) -> Client:
    return Client(address, scheduler_file=scheduler_file, set_as_default=False)


def connection_lost(client: Client) -> ClusterError:
    """Return the error for a scheduler that does not answer any more."""
    return ClusterError(
        f"the connection to the dask scheduler {getattr(client.scheduler, 'address', '')} is lost. Finished "
        "pairs are kept. Start the scheduler again if it has ended, then run the same command again to "
        "continue.",
    )


__all__ = ["Cluster", "connection_lost"]
