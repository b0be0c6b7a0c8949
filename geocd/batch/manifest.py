"""The manifest of a batch: what has become of every pair, one line of JSON for each change of state.

Lines are only ever appended, and a line is on the disk before the batch continues. A batch that was killed
may leave half a line; readers skip it.

:class:`Record` is what a line says of a pair. This module alone turns records into JSON and back.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, TypeAlias, TypedDict, TypeGuard, get_args

from geocd.batch.pairs import is_id
from geocd.errors import OutputError
from geocd.findings import Finding
from geocd.pipeline.transaction import lock
from geocd.raster.files import output_errors

NAME = "manifest.jsonl"
#: How the first line begins.
_BEGIN = b'{"time": "'
State = Literal["done", "failed", "sent", "pending"]
#: What tells whether an input is still the same, see :func:`geocd.report.fingerprint.fingerprint`.
Fingerprint: TypeAlias = list[dict[str, Any]]


class OutputFile(TypedDict):
    """Size in bytes and SHA-256 of an output."""

    size: int
    sha256: str


class _Line(TypedDict, total=False):
    """What any record may have: when its line was written (RFC 3339)."""

    time: str


class PendingRecord(_Line):
    """A pair of the list that has not been sent to the cluster yet."""

    id: str
    state: Literal["pending"]


class SentRecord(_Line):
    """A pair that is with the cluster; ``config`` is the hash of its configuration."""

    id: str
    state: Literal["sent"]
    config: str


class _Result(_Line, total=False):
    """What a record may have once a worker was at the pair.

    ``worker`` is its host and process, ``begin`` in seconds since 1970, ``seconds`` how long it took.
    """

    worker: str
    begin: float
    seconds: float


class _FailedDetails(_Result, total=False):
    """What a record of a failure may have; the traceback only of an error that geocd does not foresee."""

    config: str
    traceback: str


class FailedRecord(_FailedDetails):
    """A pair that failed; ``error`` is the name of the error's class."""

    id: str
    state: Literal["failed"]
    error: str
    message: str


class _DoneDetails(_Result, total=False):
    """What a record of a finished pair may have: counts, seconds, findings, the bucket with the outputs."""

    pixels: int
    timings: dict[str, float]
    polygons: int
    kinds: list[dict[str, object]]
    findings: list[dict[str, str]]
    upload: str


class DoneRecord(_DoneDetails):
    """A pair that is finished: fingerprints by input (``before``, ...), output files by name."""

    id: str
    state: Literal["done"]
    config: str
    inputs: dict[str, Fingerprint]
    outputs: dict[str, OutputFile]


#: What is known of a pair; ``state`` says which of these it is.
Record: TypeAlias = PendingRecord | SentRecord | FailedRecord | DoneRecord


class Manifest:
    """The manifest of a folder, open for writing by one process at a time.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the batch; must exist.

    Attributes
    ----------
    records : dict of Record
        The last record of every pair, by id.
    settings : mapping or None
        The settings of the last run; None before the first one.

    Raises
    ------
    OutputError
        The folder is not writable, or another batch is writing into it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        try:
            if self.path.is_symlink() or not _is_manifest(self.path):
                raise OutputError(
                    f"{self.path}: was not made by geocd, so nothing is written into it. Move it "
                    "elsewhere, or choose another folder.",
                    path=str(self.path),
                )
            self._file = self.path.open("a+b")
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}). Check the folder's permissions.",
                path=str(self.path),
            ) from error
        if not lock(self._file, wait=False):
            self._file.close()
            raise OutputError(
                f"{folder}: another batch is writing into this folder. Wait until it ends, or choose another "
                "folder.",
                path=str(folder),
            )
        self.records, self.settings = read(folder)
        self._file.seek(0, os.SEEK_END)
        if size := self._file.tell():
            self._file.seek(size - 1)
            self._torn = self._file.read(1) != b"\n"
        else:
            self._torn = False

    def begin(self, settings: Mapping[str, object], ids: Iterable[str], **details: int | str) -> None:
        """Note that a run begins, with its settings, and which of its pairs are new."""
        new: list[Record] = [{"id": key, "state": "pending"} for key in ids if key not in self.records]
        self._remember(new, self._write([{"run": details, "settings": settings}, *new]))

    def add(self, record: Record) -> None:
        """Add what has become of a pair; it is on the disk when this returns."""
        self._remember([record], self._write([record]))

    def _write(self, lines: Iterable[Mapping[str, object]]) -> str:
        """Append lines, and return the time that they have."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        text = "".join(json.dumps({"time": now, **line}, ensure_ascii=False) + "\n" for line in lines)
        try:
            self._file.write(("\n" if self._torn else "").encode() + text.encode())
            self._torn = True  # should this fail half way
            self._file.flush()
            os.fsync(self._file.fileno())
            self._torn = False
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}). Make room or check the permissions, "
                "then run the same command again to continue.",
                path=str(self.path),
            ) from error
        return now

    def _remember(self, records: Iterable[Record], time: str) -> None:
        for record in records:
            timed = record.copy()
            timed["time"] = time
            self.records[record["id"]] = timed

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):  # a full disk, which was an error already
            self._file.close()


def _is_manifest(path: Path) -> bool:
    """Return whether a file begins as a manifest does, be it torn; also where there is none yet."""
    if not path.exists():
        return True
    with path.open("rb") as file:
        head = file.read(len(_BEGIN))
    return _BEGIN.startswith(head)


def read(folder: Path) -> tuple[dict[str, Record], Mapping[str, object] | None]:
    """Return the last record of every pair by id, and the settings of the last run; locks nothing."""
    records: dict[str, Record] = {}
    settings = None
    for line in _lines(folder / NAME):
        if "settings" in line:
            settings = line["settings"] if isinstance(line["settings"], dict) else None
        elif is_record(line):
            records[line["id"]] = line
    return records, settings


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of a manifest that hold a JSON object."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for text in file:
            with contextlib.suppress(ValueError, RecursionError):  # torn by a kill or a full disk
                line = json.loads(text)
                if isinstance(line, dict):
                    yield line


def load_record(file: IO[str]) -> Record | None:
    """Return the record that a file holds, None where it holds none (empty, or torn by a kill)."""
    file.seek(0)
    try:
        content = json.loads(file.read())
    except (ValueError, RecursionError):
        return None
    return content if is_record(content) else None


def save_record(file: IO[str], record: Record) -> None:
    """Replace the content of a file by a record; it is on the disk when this returns."""
    with output_errors(file.name):
        file.seek(0)
        file.truncate()
        file.write(json.dumps(record))
        file.flush()
        os.fsync(file.fileno())


def is_record(content: object) -> TypeGuard[Record]:
    """Return whether JSON content is a record as a batch writes it; readers skip anything else."""
    if (
        not isinstance(content, dict)
        or content.get("state") not in get_args(State)
        or not is_id(content.get("id"))
    ):
        return False
    seconds = content.get("seconds", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not abs(seconds) < 1e15:
        return False
    required = {"failed": ("error", "message"), "done": ("config",)}.get(content["state"], ())
    if not all(isinstance(content.get(name), str) for name in required):
        return False
    if content["state"] != "done":
        return True
    inputs, outputs = content.get("inputs"), content.get("outputs")
    return (
        isinstance(inputs, dict)
        and all(map(_is_fingerprint, inputs.values()))
        and isinstance(outputs, dict)
        and all(_is_output(name, file) for name, file in outputs.items())
    )


def _is_fingerprint(content: object) -> bool:
    return isinstance(content, list) and all(
        isinstance(file, dict) and isinstance(file.get("file"), str) for file in content
    )


def _is_output(name: str, content: object) -> bool:
    """Return whether this is an output; its name must not lead out of the folder of the pair."""
    return isinstance(content, dict) and {"size", "sha256"} <= content.keys() and Path(name).name == name


def findings_of(record: Record) -> list[Finding]:
    """Return what is odd about a finished pair; what is no finding is skipped."""
    content: object = record.get("findings")
    if not isinstance(content, list):
        return []
    return [finding for finding in map(Finding.from_json, content) if finding is not None]


def status(folder: Path) -> tuple[dict[State, int], list[Record]]:
    """Return the number of pairs in each state, and the last record of every pair in the order of the list.

    Raises
    ------
    OutputError
        No batch has run in this folder.
    """
    if not (folder / NAME).exists():
        raise OutputError(f"{folder}: has no {NAME}, so no batch has run here.", path=str(folder))
    records = read(folder)[0]
    counts = Counter(record["state"] for record in records.values())
    return {state: counts[state] for state in get_args(State)}, list(records.values())


__all__ = [
    "DoneRecord",
    "FailedRecord",
    "Fingerprint",
    "Manifest",
    "OutputFile",
    "PendingRecord",
    "Record",
    "SentRecord",
    "State",
    "findings_of",
    "is_record",
    "load_record",
    "read",
    "save_record",
    "status",
]
