"""A whole batch: find out what is to be done, do it on a cluster, and leave a catalogue."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import multiprocessing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

from geocd.batch.archive import upload_catalog, write_catalog
from geocd.batch.cluster import Cluster, connection_lost
from geocd.batch.columns import Values
from geocd.batch.dispatch import Dispatcher
from geocd.batch.manifest import NAME, DoneRecord, FailedRecord, Manifest, Record, load_record
from geocd.batch.manifest import read as read_manifest
from geocd.batch.overview import write_overview
from geocd.batch.pairs import RESERVED, Item, check_unique
from geocd.batch.progress import Progress
from geocd.batch.upload import Bucket
from geocd.batch.work import RECORD, Configuration, Task, configuration, why_not_finished, why_not_uploaded
from geocd.config import Settings
from geocd.errors import BatchInterrupted, GeocdError, OutputError
from geocd.location import Location
from geocd.pipeline.checkpoint import differences
from geocd.pipeline.edited import keep_edited, unrecorded_checksums
from geocd.pipeline.inputs import model_of, refuse_inputs
from geocd.raster.files import output_errors
from geocd.raster.projections import check_projections
from geocd.raster.signed import signed_links
from geocd.report.fingerprint import sha256
from geocd.report.products import Outputs
from geocd.vectorize.names import refuse_unusable_name

LOG = logging.getLogger("geocd")


@dataclasses.dataclass(frozen=True)
class Summary:
    """What has become of the pairs of a list.

    Attributes
    ----------
    done : list of str
        Ids of the finished pairs, in the order of the list.
    failed : dict of FailedRecord
        Records of the failed pairs, by id.
    left : int
        Pairs that were not begun or not finished (``fail_fast``).
    computed : int
        Pairs done in this run.
    """

    done: list[str]
    failed: dict[str, FailedRecord]
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
    upload: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Detect the changes of many pairs; continue where an earlier run in the same folder has ended.

    Parameters
    ----------
    items : sequence of Item
    folder : pathlib.Path
        Made when it is missing. Every pair is written into ``<folder>/<id>/<id>_prob.tif`` and so on, beside
        ``manifest.jsonl`` and ``catalog.json``.
    settings : Settings, optional
        Of all pairs; where a pair has its own, these replace them.
    cluster : Cluster, optional
        Where to compute, and how much memory each worker may take.
    retry_failed : bool
        Whether pairs that failed before, with the same configuration, are tried again.
    fail_fast : bool
        Whether the first failure ends the run.
    upload : str, optional
        ``s3://bucket/folder`` that the outputs and the catalogue are uploaded to as well.
    progress : callable, optional
        Called about once a second with the :class:`~geocd.batch.progress.Progress`.

    Returns
    -------
    Summary

    Raises
    ------
    PairsError
        There is no pair, two have the same id, or settings of a pair do not go with the others.
    ConfigError
        The band of later dates is asked for, and no pair has any.
    OutputError
        The folder cannot be written to, or another batch is writing into it.
    ClusterError
        The scheduler cannot be reached, or the connection to it is lost. Finished pairs are kept.
    BatchInterrupted
        The run was interrupted, by Ctrl-C for instance. Finished pairs are kept.
    UploadError
        The bucket cannot be reached or does not exist. Failing to upload one pair is a failure of that pair.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # a worker that starts runs the user's script again, which has no guard; Cluster says so
        raise SystemExit(1)
    check_projections()
    settings = settings or Settings()
    cluster = cluster or Cluster()
    check_unique(items, "the list")
    if not any(item.confirm for item in items):
        settings.read.check_lasting_band()
    config = configuration(settings, cluster.mem_limit)
    values = config.values | _assets(items)
    folder = folder.absolute()  # workers may have another working directory
    tasks = _tasks(items, folder, settings, cluster.mem_limit, upload)
    bucket = None if upload is None else Bucket(upload)
    if bucket is not None:
        bucket.check()
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    longest = max((item.id for item in items), key=len)
    refuse_unusable_name(folder / Outputs(Path(longest)).path("changes"))  # before all pairs fail
    _refuse_inputs(items, folder)
    with signed_links(items[0].sign), Manifest(folder) as manifest, _interruptible(manifest, tasks):
        if manifest.settings is not None and (changes := differences(manifest.settings, values)):
            LOG.warning("the configuration has changed since the last run: %s", "; ".join(changes))
        plan = _plan(tasks, manifest.records, retry_failed)
        plan.log()
        todo = list(plan.todo)
        manifest.begin(values, tasks, pairs=len(tasks), to_do=len(todo), config=config.digest)
        for name in todo:
            _keep_edited(tasks[name], manifest.records.get(name))
        dispatcher = Dispatcher(manifest, tasks, fail_fast=fail_fast, progress=progress)
        try:
            if todo:
                _compute(dispatcher, todo, cluster)
        finally:
            done = {name: record for name, record in manifest.records.items() if record["state"] == "done"}
            write_catalog(folder, done, manifest.records)
            write_overview(folder, manifest.records)
        if bucket is not None:
            uploaded = [name for name, record in done.items() if record.get("upload") == upload]
            upload_catalog(folder, uploaded, bucket)
        return _summary({name: manifest.records[name] for name in tasks}, dispatcher.computed)


def _refuse_inputs(items: Sequence[Item], folder: Path) -> None:
    """Raise :class:`OutputError` where a file of the batch would replace the input of any pair."""
    local = [Path(path) for item in items for path in item.inputs.values() if Location(path).is_local]
    inside = [path for path in local if path.absolute().is_relative_to(folder)]
    if inside:  # hardly ever
        outputs = [path for item in items for path in Outputs(folder / item.id / item.id).paths().values()]
        refuse_inputs([*outputs, *(folder / name for name in RESERVED)], inside)


@contextlib.contextmanager
def _interruptible(manifest: Manifest, tasks: Mapping[str, Task]) -> Iterator[None]:
    """Let an interrupt say which of the pairs are finished; those are kept."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        records = [manifest.records.get(name) for name in tasks]
        finished = sum(record is not None and record["state"] == "done" for record in records)
        raise BatchInterrupted(str(manifest.path.parent), finished, len(tasks)) from interrupt


def _assets(items: Sequence[Item]) -> dict[str, object]:
    """Return the stacked assets of a list as an entry of its configuration; none where it has no stacks."""
    keys = {",".join(name for name, _ in stack.parts) for item in items for stack in item.stacks}
    return {"assets": " or ".join(sorted(keys))} if keys else {}


def _keep_edited(task: Task, record: Record | None) -> None:
    """Keep the results of a pair that were edited since they were written, before it is done again."""
    folder = Path(task.folder) / task.item.id
    if (record is None or record["state"] != "done") and (folder / RECORD).is_file():
        with (folder / RECORD).open(encoding="utf-8") as file:
            record = load_record(file)
    if folder.is_symlink():  # which the worker refuses
        return
    checksums = unrecorded_checksums(Outputs(folder / task.item.id))
    if record is not None and record["state"] == "done":
        checksums |= {name: output["sha256"] for name, output in record["outputs"].items()}
    keep_edited(folder, checksums)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run of a batch would do.

    Attributes
    ----------
    todo : dict of str
        Why each pair to compute is to be computed, by its id.
    finished : list of str
        Ids of the pairs that are up to date.
    skipped : list of str
        Ids of the pairs that failed before, which are not tried again.
    """

    todo: dict[str, str]
    finished: list[str]
    skipped: list[str]

    def log(self) -> None:
        """Log what is done again, and what is not done."""
        for name, why in self.todo.items():
            if why != "new":
                LOG.info("%s is done again: %s", name, why)
        if self.finished:
            total = len(self.todo) + len(self.finished) + len(self.skipped)
            LOG.info("%d of %d pairs were finished before", len(self.finished), total)
        if self.skipped:
            LOG.warning(
                "%d pairs failed before and are skipped; --retry-failed tries them again", len(self.skipped)
            )


def _compute(dispatcher: Dispatcher, todo: Collection[str], cluster: Cluster) -> None:
    with cluster.connect() as client:
        LOG.info("dask dashboard: %s", client.dashboard_link)
        try:
            dispatcher.run(client, todo, cluster.resources, cluster.worker_timeout)
        except GeocdError:
            raise
        except (OSError, CancelledError) as error:  # while the scheduler was asked for something
            raise connection_lost(client) from error


def _summary(records: Mapping[str, Record], computed: int) -> Summary:
    done = [name for name, record in records.items() if record["state"] == "done"]
    failed = {name: record for name, record in records.items() if record["state"] == "failed"}
    return Summary(done, failed, len(records) - len(done) - len(failed), computed)


def planned(
    items: Sequence[Item],
    folder: Path,
    *,
    settings: Settings | None = None,
    mem_limit: int | None = None,
    retry_failed: bool = False,
    upload: str | None = None,
) -> Plan:
    """Return what :func:`run` would do with these arguments; nothing is computed or written.

    Raises
    ------
    PairsError
        There is no pair, or two have the same id.
    """
    check_unique(items, "the list")
    folder = folder.absolute()
    records = read_manifest(folder)[0] if (folder / NAME).exists() else {}
    tasks = _tasks(items, folder, settings or Settings(), mem_limit, upload)
    with signed_links(items[0].sign):  # all are of one source
        return _plan(tasks, records, retry_failed)


def _tasks(
    items: Sequence[Item], folder: Path, settings: Settings, mem_limit: int | None, upload: str | None
) -> dict[str, Task]:
    """Return the tasks of all pairs by id, each with the settings of its pair."""
    checksum = functools.cache(sha256)  # pairs with settings of their own have the weights in common
    configurations: dict[tuple[Values, str | None], tuple[Settings, Configuration]] = {}
    tasks = {}
    for item in items:
        own = item.settings, item.area
        if own not in configurations:
            of_pair = item.merged(settings)
            model_of(of_pair.read)  # each pair would say so
            configurations[own] = of_pair, configuration(of_pair, mem_limit, checksum)
        of_pair, config = configurations[own]
        item = item.completed(of_pair)
        tasks[item.id] = Task(item, of_pair, str(folder), config.of_pair(item), mem_limit, upload)
    return tasks


def _plan(tasks: Mapping[str, Task], records: Mapping[str, Record], retry_failed: bool) -> Plan:
    """Return the pairs to do, those that are up to date, and those that failed before."""
    finished = {
        name: record
        for name in tasks
        if (record := records.get(name)) is not None and record["state"] == "done"
    }
    with ThreadPoolExecutor(8, thread_name_prefix="geocd-check") as pool:
        reasons = pool.map(lambda name: _why_again(finished[name], tasks[name]), finished)
        outdated = {name: why for name, why in zip(finished, reasons, strict=True) if why is not None}
    failed = {name for name, task in tasks.items() if _failed_before(records.get(name), task)}
    skipped = set() if retry_failed else failed
    todo = {
        name: outdated.get(name, "it failed before" if name in failed else "new")
        for name in tasks
        if name not in skipped and (name not in finished or name in outdated)
    }
    up_to_date = [name for name in finished if name not in outdated]
    return Plan(todo, up_to_date, [name for name in tasks if name in skipped])


def _why_again(record: DoneRecord, task: Task) -> str | None:
    return why_not_finished(record, task) or why_not_uploaded(record, task)


def _failed_before(record: Record | None, task: Task) -> bool:
    """Return whether a pair failed with this configuration, and not because it could not be written."""
    if record is None or record["state"] != "failed":
        return False
    return record.get("config") == task.config and record["error"] != OutputError.__name__


__all__ = ["Cluster", "Plan", "Progress", "Summary", "planned", "run"]
