"""One pair of a batch, on a worker: only paths and settings come here, only a record goes back."""

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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import rasterio
from distributed import get_worker

import geocd
from geocd.batch.manifest import Record, is_record
from geocd.batch.pairs import Item
from geocd.batch.upload import Bucket
from geocd.config import Settings
from geocd.errors import ConfigError, GeocdError, OutputError, ResumeError
from geocd.pipeline.resume import weights_file
from geocd.pipeline.run import detect
from geocd.pipeline.tiles import begin_tiles, compute_tiles
from geocd.pipeline.transaction import lock
from geocd.raster.files import open_raster, output_errors
from geocd.report.fingerprint import Fingerprint, fingerprint, same_content, sha256
from geocd.report.links import source_href
from geocd.report.products import Outputs
from geocd.report.stac import write_json

#: Reads over the network are tried again, each time after a longer wait; what the user set is kept.
NETWORK = {"GDAL_HTTP_MAX_RETRY": "5", "GDAL_HTTP_RETRY_DELAY": "1"}
#: Beside the outputs: locked while a worker is at the pair, then holds what came out. A worker that
#: outlives its client writes it too, so that the next run knows.
RECORD = ".record.json"
#: Seconds between two words about the tiles of a pair.
_TELL = 1.0
#: One pair at a time in a process: GDAL's cache and torch's threads belong to all of it.
_ONE = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Task:
    """What a worker is told.

    Parameters
    ----------
    item : Item
    settings : Settings
    folder : str
        The folder of the batch.
    config : str
        Hash of the configuration, see :func:`configuration`.
    mem_limit : int, optional
        Megabytes that the worker may take.
    upload : str, optional
        Bucket that gets the outputs too, see :class:`geocd.batch.upload.Bucket`.
    topic : str, optional
        Under this name of dask's events it is told how many tiles are done.
    version : str
        geocd of the client.
    """

    item: Item
    settings: Settings
    folder: str
    config: str
    mem_limit: int | None = None
    upload: str | None = None
    topic: str | None = None
    version: str = geocd.__version__


def work(task: Task) -> Record:
    """Do one pair, unless another worker has just done it; return what has become of it.

    Errors come back as part of the record: one that does not survive the way through dask would be lost.
    """
    begin = time.time()
    item = task.item
    place = {"worker": f"{socket.gethostname()}:{os.getpid()}"}
    try:
        if task.version != geocd.__version__:
            raise ConfigError(
                f"worker {place['worker']} has geocd {geocd.__version__}, the client {task.version}. "
                "Install one version everywhere."
            )
        with _ONE, _locked(task) as file:
            record = _load(file)
            if record is None or why_not_finished(record, task):
                record = _do(task) | place | {"begin": round(begin, 3)}
                record["seconds"] = round(time.time() - begin, 3)
                _save(file, record)
            if task.upload is not None:  # what fails now need not be computed again
                Bucket(task.upload).send_pair(Path(task.folder) / item.id, record["outputs"])
                record["upload"] = task.upload
            return record
    except Exception as error:  # one bad pair must not stop the others, whatever is wrong with it
        return failure(item.id, error, task) | place | {"seconds": round(time.time() - begin, 3)}


def failure(name: str, error: BaseException, task: Task) -> Record:
    """Return the record of a pair that failed."""
    message = str(error)
    sources = [path for stack in task.item.stacks for _, path in stack.sources]
    for path in (*task.item.inputs.values(), *sources):  # a signed URL must not be written down
        if "://" in path:
            message = message.replace(path, source_href(path, Path(task.folder)))
    record: Record = {"id": name, "state": "failed", "config": task.config, "error": type(error).__name__}
    record["message"] = " ".join(message.split())
    if not isinstance(error, GeocdError):  # not foreseen: whoever looks into it needs to know where
        record["traceback"] = "".join(traceback.format_tb(error.__traceback__)[-8:])
    return record


def configuration(settings: Settings, mem_limit: int | None = None) -> tuple[str, dict[str, Any]]:
    """Return the hash and the values of all that decides a result, but for the inputs.

    geocd's version is part of it; ``valid`` is an input.
    """
    run_settings = settings.resolved()
    values = run_settings.as_dict()
    del values["valid"]
    if mem_limit is not None and run_settings.tiling.adjustable:  # tiles may be made smaller for it
        values["mem_limit"] = mem_limit
    values["geocd version"] = geocd.__version__
    if (weights := weights_file(run_settings)) is not None:
        values["file of weights"] = sha256(weights)
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16], values


def why_not_finished(record: Mapping[str, Any], task: Task) -> str | None:
    """Return why a pair has to be done again, or None when its record still holds.

    It holds when the configuration, the content of the inputs (as far as they can be read) and every byte of
    the outputs are those of the record.
    """
    if record.get("state") != "done":
        return "it was not finished"
    if record["config"] != task.config:
        return "the configuration is another"
    for stack in task.item.stacks:
        stack.trust()
    folder = Path(task.folder) / task.item.id
    for name, told in record["outputs"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != told["size"] or sha256(path) != told["sha256"]:
            return f"{name} was altered"
    inputs = task.item.inputs
    if inputs.keys() != record["inputs"].keys():
        return "the inputs are others"
    for name, path in inputs.items():
        try:
            earlier = [Fingerprint.from_dict(file) for file in record["inputs"][name]]
            if not same_content(fingerprint(path, earlier), earlier):
                return f"{name} is another"
        except GeocdError:  # gone or out of reach: nothing better could be made now
            continue
    return None


def why_not_uploaded(record: Mapping[str, Any], task: Task) -> str | None:
    """Return why a finished pair has to be uploaded, or None when it is where it should be.

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
    """Make a pair ready for :func:`work_part`, and return how many tiles it has.

    0 where nothing is to be done, or too little: fewer tiles than ``least``.
    """
    stem = Path(task.folder) / task.item.id / task.item.id
    with _ONE, _locked(task) as file:
        record = _load(file)
        if task.version != geocd.__version__ or (record and why_not_finished(record, task) is None):
            return 0
        with _ready(task) as settings:
            item = task.item
            begin = functools.partial(
                begin_tiles, item.before, item.after, stem,
                settings=settings, mem_limit=task.mem_limit, least=least,
            )  # fmt: skip
            try:
                total = begin()
            except ResumeError:  # as in _do
                total = begin(resume=False)
    return total if total >= least else 0


def work_part(task: Task, part: int, parts: int) -> None:
    """Compute a part of the tiles of a pair that is ready; :func:`work` makes the rest of them.

    What fails here fails there again, and is told there.
    """
    stem = Path(task.folder) / task.item.id / task.item.id
    # shared: of a run with other settings, nobody may begin or end while a tile of this one may come
    with _ONE, _locked(task, shared=True), _ready(task) as settings:
        compute_tiles(
            task.item.before,
            task.item.after,
            stem,
            (part, parts),
            settings=settings,
            mem_limit=task.mem_limit,
            progress=_teller(task, part),
        )


@contextlib.contextmanager
def _ready(task: Task) -> Iterator[Settings]:
    """Make what the inputs are made of, and give the settings of this pair, in GDAL's environment for it."""
    settings = task.settings
    if task.item.valid is not None:
        read_settings = dataclasses.replace(settings.read, valid=task.item.valid)
        settings = dataclasses.replace(settings, read=read_settings)
    network = {key: value for key, value in NETWORK.items() if key not in os.environ}
    with rasterio.Env(**network):
        for stack in task.item.stacks:
            stack.write()
        yield settings


def _do(task: Task) -> Record:
    """Find the changes of one pair and return its record."""
    item = task.item
    folder = Path(task.folder) / item.id
    with _ready(task) as settings:
        find = functools.partial(
            detect,
            item.before,
            item.after,
            folder / item.id,
            settings=settings,
            overwrite=True,
            jobs=1,
            mem_limit=task.mem_limit,
            progress=_teller(task),
        )
        try:
            files, record = find(resume=True)
        except ResumeError:  # what is left of an interrupted run had other settings or inputs
            files, record = find()
    _link(files["item"])
    outputs = {
        path.name: {"size": path.stat().st_size, "sha256": sha256(path)}
        for key in Outputs(folder / item.id).paths()
        if (path := files.get(key)) is not None
    }
    return {
        "id": item.id,
        "state": "done",
        "config": task.config,
        "inputs": {name: [file.as_dict() for file in record.inputs[name]] for name in item.inputs},
        "outputs": outputs,
        "pixels": record.grid.height * record.grid.width,
        "timings": dict(record.timings),
        "polygons": record.summary.n_polygons,
    }


def _teller(task: Task, part: int = 0) -> Callable[[str, int, int], None] | None:
    """Return what tells the client how many tiles are done, about once a second."""
    try:
        worker = get_worker()
    except ValueError:  # not on a worker
        return None
    if task.topic is None:
        return None
    topic: str = task.topic
    with open_raster(task.item.before) as dataset:
        known = {"id": task.item.id, "part": part, "pixels": dataset.height * dataset.width}
    after = time.monotonic()

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal after
        if stage == "tiles" and (done == total or time.monotonic() >= after):
            after = time.monotonic() + _TELL
            worker.log_event(topic, {**known, "done": done, "total": total})

    return tell


def _link(path: Path) -> None:
    """Write into an item the way up to the catalogue."""
    item = json.loads(path.read_text(encoding="utf-8"))
    catalog = {"href": "../catalog.json", "type": "application/json"}
    item["links"] = [{"rel": "root", **catalog}, {"rel": "parent", **catalog}, *item["links"]]
    unfinished = path.with_name(f".{path.name}")
    write_json(unfinished, item)
    with output_errors(path):
        unfinished.replace(path)


@contextlib.contextmanager
def _locked(task: Task, *, shared: bool = False) -> Iterator[IO[Any]]:
    """Make the folder of a pair and hold it: one worker at a time, also of different clusters.

    A worker whose client was killed may still be at it; its result is worth waiting for.
    """
    folder = Path(task.folder) / task.item.id
    if folder.is_symlink():
        raise OutputError(f"{folder}: is a link and may lead elsewhere. Remove it.", path=str(folder))
    with output_errors(folder):
        folder.mkdir(exist_ok=True)
        file = (folder / RECORD).open("a+", encoding="utf-8")
    with file:
        lock(file, wait=True, shared=shared)
        yield file


def _load(file: IO[Any]) -> Record | None:
    file.seek(0)
    try:
        record = json.loads(file.read())
    except (ValueError, RecursionError):  # empty or torn
        return None
    return record if is_record(record) else None


def _save(file: IO[Any], record: Record) -> None:
    with output_errors(file.name):
        file.seek(0)
        file.truncate()
        file.write(json.dumps(record))
        file.flush()
        os.fsync(file.fileno())


__all__ = [
    "Task",
    "configuration",
    "failure",
    "prepare",
    "why_not_finished",
    "why_not_uploaded",
    "work",
    "work_part",
]
