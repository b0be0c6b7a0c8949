"""Hand the pairs of a batch out to a dask cluster, and write down what becomes of them."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.config
from distributed import Client, Future, KilledWorker, LocalCluster

from geocd.batch.archive import upload_catalog, write_catalog
from geocd.batch.manifest import Manifest, Record
from geocd.batch.pairs import Item, check_unique
from geocd.batch.upload import Bucket
from geocd.batch.work import (
    Task,
    configuration,
    failure,
    prepare,
    why_not_finished,
    why_not_uploaded,
    work,
    work_part,
)
from geocd.config import Settings
from geocd.errors import ClusterError, ConfigError, GeocdError, OutputError
from geocd.pipeline.checkpoint import differences
from geocd.raster.files import output_errors

LOG = logging.getLogger("geocd")

#: A pair that brought down this many workers, one after the other, is set aside.
DEATHS = 4
#: So many pairs in a row that could not be written: the folder is at fault, not the pairs.
FULL = 3
#: A pair of so many tiles is spread over workers that would be idle, with at least so many for each: each
#: of them has to fit to the scene first, and the one that makes the outputs again (some 15 tiles' time).
SPREAD, LEAST_PART = 64, 16
#: Seconds between two looks at the cluster.
_LOOK = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where to compute: one of these, or what dask's own configuration says, or one worker per processor.

    Parameters
    ----------
    workers : int, optional
        Start so many workers on this machine.
    scheduler : str, optional
        Address of a running scheduler: ``tcp://host:8786``.
    scheduler_file : str, optional
        The file that ``dask scheduler --scheduler-file`` wrote.
    resources : mapping
        What a pair needs of its worker, as the worker was told to have: ``{"GPU": 1}``.

    Raises
    ------
    ConfigError
        More than one is given.
    """

    workers: int | None = None
    scheduler: str | None = None
    scheduler_file: str | None = None
    resources: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        names = ("workers", "scheduler", "scheduler_file")
        given = ["--" + name.replace("_", "-") for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)}: choose one of them.")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"--workers {self.workers}: must be 1 or more.")

    @contextlib.contextmanager
    def connect(self) -> Iterator[Client]:
        """Give a client of the cluster; one that was started for it ends with it.

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
            # a scheduler that has gone is told at once; waiting for it would not bring it back
            client = _client(address, self.scheduler_file)
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"{where}: cannot be reached ({error}). Check that 'dask scheduler' runs there, or leave it "
                "out to use this machine.",
                scheduler=where,
            ) from error
        with client:
            yield client

    @contextlib.contextmanager
    def _local(self) -> Iterator[LocalCluster]:
        settings = {"distributed.scheduler.allowed-failures": DEATHS - 1}
        # one pair, one process, one thread: what GDAL or a driver breaks, breaks alone
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


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a batch is.

    Attributes
    ----------
    total : int
        Pairs of the list.
    done, failed : int
        Of these; pairs that were done before count.
    running : int
        Pairs that are with the cluster.
    workers : int
        Threads of the cluster.
    tiles, of_tiles : int
        Of the pairs that are running, as far as they have told.
    pixels : int
        Done in this run, those of finished tiles among them.
    seconds : float
        Since this run began.
    left : float or None
        Seconds to the expected end; None while nothing is known.
    """

    total: int
    done: int
    failed: int
    running: int
    workers: int
    tiles: int
    of_tiles: int
    pixels: int
    seconds: float
    left: float | None


@dataclasses.dataclass(frozen=True)
class Summary:
    """What has become of the pairs of a list.

    Attributes
    ----------
    done : list of str
        Ids.
    failed : dict
        Last record by id.
    left : int
        Pairs that were not begun or not finished (``fail_fast``).
    computed : int
        Pairs done in this run.
    """

    done: list[str]
    failed: dict[str, Record]
    left: int
    computed: int


def run(
    items: Sequence[Item],
    folder: Path,
    *,
    settings: Settings | None = None,
    cluster: Cluster | None = None,
    retry_failed: bool = False,
    fail_fast: bool = False,
    mem_limit: int | None = None,
    upload: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Find the changes of many pairs; go on where an earlier run of the same folder has ended.

    Parameters
    ----------
    items : sequence of Item
    folder : pathlib.Path
        Made when it is missing. Every pair is written into ``<folder>/<id>/<id>_prob.tif`` and so on, beside
        ``manifest.jsonl`` and ``catalog.json``.
    settings : Settings, optional
    cluster : Cluster, optional
    retry_failed : bool
        Whether pairs that failed before, with the same configuration, are tried again.
    fail_fast : bool
        Whether the first failure ends the run.
    mem_limit : int, optional
        Megabytes that each worker may take, see :func:`geocd.pipeline.run.detect`.
    upload : str, optional
        ``s3://bucket/folder`` that gets the outputs and the catalogue too.
    progress : callable, optional
        Told about once a second how far the run is.

    Returns
    -------
    Summary

    Raises
    ------
    PairsError
        Two ids are one.
    OutputError
        The folder cannot be written to, or another batch is at work in it.
    ClusterError
        The scheduler cannot be reached or has gone. What was finished is kept.
    UploadError
        The bucket cannot be reached or does not exist. Of a single pair it is a failure like others.
    """
    settings = settings or Settings()
    cluster = cluster or Cluster()
    check_unique(items, "the list")
    config, values = configuration(settings, mem_limit)
    bucket = None if upload is None else Bucket(upload)
    if bucket is not None:
        bucket.check()
    folder = folder.absolute()  # workers may stand elsewhere
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    tasks = {item.id: Task(item, settings, str(folder), config, mem_limit, upload) for item in items}
    with Manifest(folder) as manifest:
        if manifest.settings is not None and (other := differences(manifest.settings, values)):
            LOG.warning("the configuration is another than in the run before: it had %s", "; ".join(other))
        todo = _todo(tasks, manifest, retry_failed)
        manifest.begin(values, tasks, pairs=len(tasks), to_do=len(todo), config=config)
        run = _Run(manifest, tasks, fail_fast, progress)
        try:
            if todo:
                with cluster.connect() as client:
                    LOG.info("dask dashboard: %s", client.dashboard_link)
                    try:
                        run.hand_out(client, deque(todo), cluster.resources)
                    except GeocdError:
                        raise
                    except (OSError, CancelledError) as error:  # in the middle of a question to the scheduler
                        raise _gone(client) from error
        finally:
            done = [name for name, record in manifest.records.items() if record["state"] == "done"]
            write_catalog(folder, done)
        if bucket is not None:
            there = [name for name in done if manifest.records[name].get("upload") == upload]
            upload_catalog(folder, there, bucket)
        return run.summary()


def _todo(tasks: Mapping[str, Task], manifest: Manifest, retry_failed: bool) -> list[str]:
    """Return the ids that are to be done, and say why what was finished is not enough."""
    records = manifest.records
    finished = [name for name in tasks if records.get(name, {}).get("state") == "done"]
    with ThreadPoolExecutor(8, thread_name_prefix="geocd-check") as pool:
        reasons = pool.map(lambda name: _why_again(records[name], tasks[name]), finished)
        again = {name: why for name, why in zip(finished, reasons, strict=True) if why is not None}
    for name, why in again.items():
        LOG.info("%s is done again: %s", name, why)
    kept = set(finished) - again.keys()
    aside = set()
    for name, task in tasks.items():
        record = records.get(name, {})
        if record.get("state") == "failed" and not retry_failed and record.get("config") == task.config:
            # a full disk was not the pair's fault
            aside |= {name} if record["error"] != OutputError.__name__ else set()
    if kept:
        LOG.info("%d of %d pairs were finished before", len(kept), len(tasks))
    if aside:
        LOG.warning("%d pairs failed before and are left out; --retry-failed tries them again", len(aside))
    return [name for name in tasks if name not in kept and name not in aside]


def _why_again(record: Record, task: Task) -> str | None:
    return why_not_finished(record, task) or why_not_uploaded(record, task)


class _Run:
    """The state of one run, on the side of the client."""

    def __init__(
        self,
        manifest: Manifest,
        tasks: Mapping[str, Task],
        fail_fast: bool,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._manifest = manifest
        self._tasks = tasks
        self._fail_fast = fail_fast
        self._progress = progress
        self._begin = time.monotonic()
        self._computed = self._pixels = self._ended = self._unwritten = 0
        #: What running pairs, and parts of them, have told last.
        self._tiles: dict[str, dict[int, Mapping[str, Any]]] = {}

    def hand_out(self, client: Client, todo: deque[str], resources: Mapping[str, float]) -> None:
        """Do all of these; as many are with the cluster as it has threads, so that nothing piles up.

        No pair waits on a worker behind another one, and so none is blamed when that one kills the worker.
        Where fewer pairs are left than threads, a pair of many tiles is first spread over those that would
        be idle; what they compute, :func:`work` finds done.
        """
        ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        running: dict[Future[Any], tuple[str, Callable[..., Any]]] = {}
        token = uuid.uuid4().hex[:8]  # another client may be doing a pair of the same name
        topic = f"geocd-{token}"
        if self._progress is not None:
            client.subscribe_topic(topic, self._hear)

        def submit(name: str, call: Callable[..., Any], *args: int) -> None:
            task = dataclasses.replace(self._tasks[name], topic=topic if self._progress else None)
            key = "-".join(map(str, (name, token, call.__name__, *args)))
            future = client.submit(call, task, *args, key=key, pure=False, resources=resources or None)
            running[future] = name, call
            future.add_done_callback(ended.put)

        look, threads = 0.0, 0
        count = len(todo)
        while todo or running:
            if time.monotonic() >= look:
                threads = sum(client.nthreads().values())
                self._tell({name for name, _ in running.values()}, threads, count)
                look = time.monotonic() + _LOOK
            while todo and len(running) < threads:
                idle = threads - len(running) - len(todo)
                name = todo.popleft()
                self._manifest.add({"id": name, "state": "sent", "config": self._tasks[name].config})
                if idle > 0:
                    submit(name, prepare, SPREAD)
                else:
                    submit(name, work)
            try:
                future = ended.get(timeout=_LOOK)
            except queue.Empty:
                if client.status != "running":
                    raise _gone(client) from None
                continue
            if future not in running:  # part of a pair that was set aside
                continue
            name, call = running.pop(future)
            killed = future.status == "error" and isinstance(future.exception(), KilledWorker)
            if call is work or killed or future.status not in ("finished", "error"):
                if self._settle(name, self._record(client, name, future)) and self._fail_fast:
                    return
                for other in [other for other, (whose, _) in running.items() if whose == name]:
                    del running[other]
                    other.release()
            elif call is prepare:
                # an error comes again, and is told, when the pair is done
                tiles = future.result() if future.status == "finished" else 0
                parts = min(threads - len(running) - len(todo), tiles // LEAST_PART)
                if parts > 1:
                    LOG.info("%s: %d tiles are spread over %d workers", name, tiles, parts)
                    for part in range(parts):
                        submit(name, work_part, part, parts)
                else:
                    submit(name, work)
            elif all(whose != name for whose, _ in running.values()):  # the last part
                self._tiles.pop(name, None)
                submit(name, work)
            future.release()
        self._tell((), threads, count)

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """Take what a worker tells of its tiles (in dask's thread)."""
        self._tiles.setdefault(event[1]["id"], {})[event[1]["part"]] = event[1]

    def _record(self, client: Client, name: str, future: Future[Any]) -> Record:
        """Return what a future brings; errors of dask, not of the pair, become a record too."""
        if future.status == "finished":
            record: Record = future.result()
            return record
        if future.status != "error":  # cancelled, lost: not by us
            raise _gone(client)
        error = future.exception()
        record = failure(name, error, self._tasks[name])
        if isinstance(error, KilledWorker):
            record["message"] = (
                f"{error.allowed_failures + 1} workers died one after the other while they did this pair: "
                "out of memory, or a file that crashes what reads it. Try it alone with geocd detect."
            )
        return record

    def _settle(self, name: str, record: Record) -> bool:
        """Write down what has become of a pair; tell whether it failed."""
        self._manifest.add(record)
        self._ended += 1
        if record["state"] == "done":
            self._computed += 1
            self._pixels += record["pixels"]
            self._unwritten = 0
            return False
        LOG.warning("%s failed: %s", name, record["message"])
        self._unwritten = self._unwritten + 1 if record["error"] == OutputError.__name__ else 0
        if self._unwritten >= FULL:
            raise OutputError(
                f"{FULL} pairs in a row could not be written, the last one: {record['message']} "
                "The same command goes on with them."
            )
        return True

    def _tell(self, running: Collection[str], threads: int, count: int) -> None:
        if self._progress is None:
            return
        seconds = time.monotonic() - self._begin
        tiles = of_tiles = 0
        ended, pixels = float(self._ended), float(self._pixels)
        for parts in [list(self._tiles[name].values()) for name in running if name in self._tiles]:
            done, total = sum(part["done"] for part in parts), parts[0]["total"]
            tiles, of_tiles = tiles + done, of_tiles + total
            ended, pixels = ended + done / total, pixels + parts[0]["pixels"] * done / total
        summary = self.summary()
        self._progress(
            Progress(
                total=len(self._tasks),
                done=len(summary.done),
                failed=len(summary.failed),
                running=len(running),
                workers=threads,
                tiles=tiles,
                of_tiles=of_tiles,
                pixels=round(pixels),
                seconds=seconds,
                left=seconds / ended * (count - ended) if ended else None,
            )
        )

    def summary(self) -> Summary:
        """Return what has become of the pairs of the list."""
        records = {name: self._manifest.records[name] for name in self._tasks}
        done = [name for name, record in records.items() if record["state"] == "done"]
        failed = {name: record for name, record in records.items() if record["state"] == "failed"}
        return Summary(done, failed, len(records) - len(done) - len(failed), self._computed)


def _gone(client: Client) -> GeocdError:
    return ClusterError(
        f"the connection to the dask scheduler {getattr(client.scheduler, 'address', '')} is lost. What "
        "was finished is kept; start it anew if it has gone, and run the same command again: it goes on.",
    )


__all__ = ["Cluster", "Progress", "Summary", "run"]
