"""One pair of a batch, on a worker: paths and settings come in, only a record goes back."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, TypedDict

import rasterio
from distributed import get_worker

import geocd
from geocd.batch.manifest import DoneRecord, FailedRecord, Record, load_record, save_record
from geocd.batch.pairs import Item
from geocd.batch.upload import Bucket
from geocd.config import RASTERS, Settings
from geocd.errors import ConfigError, GeocdError, GeocdWarning, OutputError, ResumeError
from geocd.findings import unexpected
from geocd.location import Location, public_text
from geocd.pipeline.resume import other_files
from geocd.pipeline.run import detect
from geocd.pipeline.tiles import begin_tiles, compute_tiles
from geocd.pipeline.transaction import lock
from geocd.raster.files import open_raster, output_errors
from geocd.raster.signed import signed_links
from geocd.report.fingerprint import Fingerprint, fingerprint, same_content, sha256
from geocd.report.products import Outputs
from geocd.report.stac import write_json
from geocd.spelling import command_line

#: Reads over the network are tried again, each time after a longer wait; what the user set is kept.
NETWORK = {"GDAL_HTTP_MAX_RETRY": "5", "GDAL_HTTP_RETRY_DELAY": "1"}
#: Beside the outputs: locked while a worker is at the pair, then holds its record. A worker that outlives
#: its client writes it too, so that the next run finds the result.
RECORD = ".record.json"
#: Seconds between two reports of the tiles of a pair.
_INTERVAL = 1.0
#: One pair at a time in a process, which shares GDAL's cache and torch's threads.
_PROCESS = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Task:
    """One pair, with all that a worker needs for it.

    Parameters
    ----------
    item : Item
    settings : Settings
    folder : str
        The folder of the batch.
    config : str
        Hash of the configuration, see :func:`configuration` and :meth:`Configuration.of_pair`.
    mem_limit : int, optional
        Memory that the worker may take, in MB of 2**20 bytes.
    upload : str, optional
        Bucket that the outputs are uploaded to, see :class:`geocd.batch.upload.Bucket`.
    topic : str, optional
        Topic of dask's events under which the worker reports its finished tiles.
    version : str
        Version of geocd on the client.
    """

    item: Item
    settings: Settings
    folder: str
    config: str
    mem_limit: int | None = None
    upload: str | None = None
    topic: str | None = None
    version: str = geocd.__version__


class _Tiles(TypedDict):
    id: str
    part: int
    pixels: int
    done: int
    total: int


class TilesDone(_Tiles, total=False):
    """What a worker reports of a pair, or of a part of it, while it fits the method and computes its tiles.

    ``pixels`` is the number of pixels of the whole raster, ``total`` the number of its tiles, or of the steps
    of the fit where ``stage`` is ``fit``.
    """

    stage: str


def work(task: Task) -> Record:
    """Detect the changes of one pair, unless another worker has just done so, and return its record.

    Errors come back as part of the record: one that cannot be pickled would be lost on its way through dask.
    """
    begin = time.time()
    item = task.item
    worker = f"{socket.gethostname()}:{os.getpid()}"
    try:
        if task.version != geocd.__version__:
            raise ConfigError(
                f"worker {worker} has geocd {geocd.__version__}, the client {task.version}. "
                "Install the same version everywhere."
            )
        with _PROCESS, signed_links(item.sign), _locked(task) as file:
            record = _finished_record(file, task)
            if record is None:
                record = _detect(task)
                record["worker"] = worker
                record["begin"] = round(begin, 3)
                record["seconds"] = round(time.time() - begin, 3)
                save_record(file, record)
            if task.upload is not None:  # should this fail, nothing need be computed again
                Bucket(task.upload).send_pair(Path(task.folder) / item.id, record["outputs"])
                record["upload"] = task.upload
            return record
    except Exception as error:  # one bad pair must not stop the others, whatever is wrong with it
        failed = failure(item.id, error, task)
        failed["worker"] = worker
        failed["seconds"] = round(time.time() - begin, 3)
        return failed


def failure(name: str, error: BaseException, task: Task) -> FailedRecord:
    """Return the record of a pair that failed."""
    message = public_text(str(error))
    record: FailedRecord = {
        "id": name,
        "state": "failed",
        "config": task.config,
        "error": type(error).__name__,
        "message": " ".join(message.split()),
    }
    if not isinstance(error, GeocdError):  # not foreseen, so the place in the code is needed
        record["traceback"] = "".join(traceback.format_tb(error.__traceback__)[-8:])
    return record


class Configuration(NamedTuple):
    """All that decides a result but the inputs: its hash (16 hexadecimal digits) and its values by name."""

    digest: str
    values: dict[str, object]

    def of_pair(self, item: Item) -> str:
        """Return the hash with what a pair is made of: its stacked assets, in their order.

        A pair of two files has that of the settings alone: the files are inputs.
        """
        if not item.stacks:
            return self.digest
        parts = [(Path(stack.path).name, stack.parts) for stack in item.stacks]
        return _digest([self.digest, parts])


def _digest(values: object) -> str:
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def configuration(
    settings: Settings, mem_limit: int | None = None, checksum: Callable[[Path], str] = sha256
) -> Configuration:
    """Return the configuration of a batch: settings, version of geocd, content of the file of weights.

    The rasters are not part of it, but inputs. ``mem_limit`` is, where tiles may be made smaller for it.
    ``checksum`` returns the SHA-256 of a file.
    """
    run_settings = settings.resolved()
    values: dict[str, object] = run_settings.as_dict()
    for name in RASTERS:
        del values[name]
    if mem_limit is not None and run_settings.tiling.adjustable:
        values["mem_limit"] = mem_limit
    values["geocd version"] = geocd.__version__
    values |= {f"file of {name}": checksum(file) for name, file in other_files(run_settings).items()}
    return Configuration(_digest(values), values)


def why_not_finished(record: Record, task: Task) -> str | None:
    """Return why a pair has to be computed again, or None while its record is up to date.

    It is when the configuration, the content of the inputs (as far as they can be read) and every byte of the
    outputs are those of the record.
    """
    if record["state"] != "done":
        return "it was not finished"
    if record["config"] != task.config:
        return f"the configuration{' or the choice of assets' if task.item.stacks else ''} has changed"
    for stack in task.item.stacks:
        stack.trust()
    folder = Path(task.folder) / task.item.id
    for name, output in record["outputs"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != output["size"] or sha256(path) != output["sha256"]:
            return f"{name} was altered"
    inputs = task.item.inputs
    if inputs.keys() != record["inputs"].keys():
        return "inputs were added or removed"
    for name, source in inputs.items():
        try:
            earlier = [Fingerprint.from_dict(file) for file in record["inputs"][name]]
            if not same_content(fingerprint(source, earlier), earlier):
                return f"the content of {name} has changed"
        except GeocdError:  # gone or out of reach: computing again would fail
            continue
    return _why_other_sources(record, task.item)


def _why_other_sources(record: DoneRecord, item: Item) -> str | None:
    """Return which local source of a stack is not in the record; the VRT on the disk may name older ones."""
    earlier = [Fingerprint.from_dict(file) for files in record["inputs"].values() for file in files]
    for _, path in (source for stack in item.stacks for source in stack.sources):
        try:
            files = fingerprint(path, earlier) if Location(path).is_local else []
        except GeocdError:  # gone, as above
            continue
        if not all(any(map(file.same_content, earlier)) for file in files):
            return f"the content of {path} has changed"
    return None


def why_not_uploaded(record: DoneRecord, task: Task) -> str | None:
    """Return why a finished pair has to be uploaded, or None when the bucket has it or none is needed.

    Raises
    ------
    UploadError
        The bucket does not answer.
    """
    if task.upload is None:
        return None
    if record.get("upload") != task.upload:
        return f"only the upload, it is not in {task.upload}"
    name = Bucket(task.upload).lacks(task.item.id, record["outputs"])
    return None if name is None else f"only the upload, {name} is not in {task.upload}"


def prepare(task: Task, least: int) -> int:
    """Prepare a pair for :func:`work_part`, and return the number of its tiles.

    0 where the pair is finished or has fewer tiles than ``least``.
    """
    stem = Path(task.folder) / task.item.id / task.item.id
    with _PROCESS, signed_links(task.item.sign), _locked(task) as file:
        if task.version != geocd.__version__ or _finished_record(file, task) is not None:
            return 0
        with _prepared(task) as settings:
            item = task.item
            begin = functools.partial(
                begin_tiles, item.before, item.after, stem,
                settings=settings, mem_limit=task.mem_limit, least=least,
            )  # fmt: skip
            try:
                total = begin()
            except ResumeError:  # as in _detect
                total = begin(resume=False)
    return total if total >= least else 0


def work_part(task: Task, part: int, parts: int) -> None:
    """Compute part ``part`` of ``parts`` of the tiles of a prepared pair; :func:`work` makes the rest.

    What fails here fails there again, and is reported there.
    """
    stem = Path(task.folder) / task.item.id / task.item.id
    # a shared lock: no run with other settings may begin or end while this one writes tiles
    with (
        _PROCESS, signed_links(task.item.sign), _locked(task, shared=True), _prepared(task) as settings
    ):  # fmt: skip
        compute_tiles(
            task.item.before,
            task.item.after,
            stem,
            (part, parts),
            settings=settings,
            mem_limit=task.mem_limit,
            progress=_reporter(task, part),
        )


@contextlib.contextmanager
def _prepared(task: Task) -> Iterator[Settings]:
    """Write the VRTs that the pair needs, and yield its settings, with GDAL set up for its network reads."""
    settings, item = task.settings, task.item
    read = dataclasses.replace(settings.read, **item.own_inputs)
    if not read.confirm:  # the newest pairs of an archive have no later dates yet
        read = dataclasses.replace(read, lasting_band=False)
    settings = dataclasses.replace(settings, read=read)
    network = {key: value for key, value in NETWORK.items() if key not in os.environ}
    with rasterio.Env(**network):
        for stack in item.stacks:
            stack.write()
        yield settings


def _finished_record(file: IO[str], task: Task) -> DoneRecord | None:
    """Return the record that a locked file holds; None unless it says, rightly, that the pair is finished."""
    record = load_record(file)
    if record is None or record["state"] != "done" or why_not_finished(record, task) is not None:
        return None
    return record


def _detect(task: Task) -> DoneRecord:
    """Detect the changes of one pair, and return its record."""
    item = task.item
    folder = Path(task.folder) / item.id
    with command_line(), _prepared(task) as settings, warnings.catch_warnings():
        run = functools.partial(
            detect,
            item.before,
            item.after,
            folder / item.id,
            settings=settings,
            overwrite=True,
            jobs=1,
            mem_limit=task.mem_limit,
            progress=_reporter(task),
        )
        warnings.simplefilter("ignore", GeocdWarning)  # findings, which the record has
        try:
            files, record = run(resume=True)
        except ResumeError:  # the interrupted run had other settings or inputs
            files, record = run()
    _add_catalog_links(files["item"])
    paths = [files[key] for key in Outputs(folder / item.id).paths() if key in files]
    return {
        "id": item.id,
        "state": "done",
        "config": task.config,
        "inputs": {name: [file.as_dict() for file in record.inputs[name]] for name in item.inputs},
        "outputs": {path.name: {"size": path.stat().st_size, "sha256": sha256(path)} for path in paths},
        "pixels": record.grid.height * record.grid.width,
        "timings": dict(record.timings),
        "polygons": record.summary.n_polygons,
        "kinds": [total.as_dict() for total in record.summary.kinds],
        "findings": [finding.as_dict() for finding in unexpected(record.findings)],
    }


def _reporter(task: Task, part: int = 0) -> Callable[[str, int, int], None] | None:
    """Return a callback that reports steps and tiles to the client, about once a second; None without one."""
    try:
        worker = get_worker()
    except ValueError:  # not on a worker
        return None
    if task.topic is None:
        return None
    topic: str = task.topic
    with open_raster(task.item.before) as dataset:
        pixels = dataset.height * dataset.width
    next_report = time.monotonic()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal next_report
        ended = stage == "tiles" and done == total
        if stage in ("fit", "tiles") and (ended or time.monotonic() >= next_report):
            next_report = time.monotonic() + _INTERVAL
            event: TilesDone = {
                "id": task.item.id, "part": part, "pixels": pixels, "done": done, "total": total,
                "stage": stage,
            }  # fmt: skip
            worker.log_event(topic, event)

    return report


def _add_catalog_links(path: Path) -> None:
    """Add to an item its links to the catalogue of the batch."""
    item = json.loads(path.read_text(encoding="utf-8"))
    catalog = {"href": "../catalog.json", "type": "application/json"}
    item["links"] = [{"rel": "root", **catalog}, {"rel": "parent", **catalog}, *item["links"]]
    write_json(path, item)


@contextlib.contextmanager
def _locked(task: Task, *, shared: bool = False) -> Iterator[IO[str]]:
    """Make the folder of a pair and lock it: one worker at a time, also of different clusters.

    A worker whose client was killed may still be at the pair; its result is worth waiting for.
    """
    folder = Path(task.folder) / task.item.id
    for path in (folder, folder / RECORD):
        if path.is_symlink():
            raise OutputError(
                f"{path}: is a symbolic link and may lead elsewhere. Remove it.", path=str(path)
            )
    with output_errors(folder):
        folder.mkdir(exist_ok=True)
        file = (folder / RECORD).open("a+", encoding="utf-8")
    with file:
        lock(file, wait=True, shared=shared)
        yield file


__all__ = [
    "Configuration",
    "Task",
    "TilesDone",
    "configuration",
    "failure",
    "prepare",
    "why_not_finished",
    "why_not_uploaded",
    "work",
    "work_part",
]
