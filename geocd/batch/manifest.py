"""The memory of a batch: one line of JSON for every change of state, only ever added to.

A line is on the disk before the batch goes on. A batch that was killed may leave half a line; it is read
as if it were not there.
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
from typing import Any, Literal, get_args

from geocd.batch.pairs import is_id
from geocd.errors import OutputError
from geocd.pipeline.transaction import lock

NAME = "manifest.jsonl"
State = Literal["pending", "sent", "done", "failed"]
Record = dict[str, Any]


class Manifest:
    """The manifest of one folder, open for writing; one process at a time.

    Parameters
    ----------
    folder : pathlib.Path
        Must exist.

    Attributes
    ----------
    records : dict
        The last line of every pair, by id.
    settings : mapping or None
        The settings of the last run.

    Raises
    ------
    OutputError
        The folder is not writable, or another batch is at work in it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        try:
            self._file = self.path.open("a+b")
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}). Check the folder's permissions.",
                path=str(self.path),
            ) from error
        if not lock(self._file, wait=False):
            self._file.close()
            raise OutputError(
                f"{folder}: another batch is writing into this folder. Wait until it has ended, or choose "
                "another folder.",
                path=str(folder),
            )
        self.records, self.settings = read(folder)
        self._file.seek(0, os.SEEK_END)
        if size := self._file.tell():
            self._file.seek(size - 1)
            self._torn = self._file.read(1) != b"\n"
        else:
            self._torn = False

    def begin(self, settings: Mapping[str, Any], ids: Iterable[str], **details: Any) -> None:
        """Note that a run begins, and the pairs that were not known before."""
        new = [key for key in ids if key not in self.records]
        self._write(
            [{"run": details, "settings": settings}, *({"id": key, "state": "pending"} for key in new)]
        )

    def add(self, record: Record) -> None:
        """Add what has become of a pair (``id``, ``state``, ...); it is on the disk when this returns."""
        self._write([record])

    def _write(self, records: Iterable[Record]) -> None:
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lines = [{"time": now} | record for record in records]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        try:
            self._file.write(("\n" if self._torn else "").encode() + text.encode())
            self._torn = True  # should this fail half way
            self._file.flush()
            os.fsync(self._file.fileno())
            self._torn = False
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}). Make room or check the permissions, "
                "then run the same command again: it goes on.",
                path=str(self.path),
            ) from error
        for line in lines:
            if "id" in line:
                self.records[line["id"]] = line

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):  # a full disk, which has been told
            self._file.close()


def read(folder: Path) -> tuple[dict[str, Record], Mapping[str, Any] | None]:
    """Return the last line of every pair by id, and the settings of the last run; nothing is locked."""
    records: dict[str, Record] = {}
    settings = None
    for line in _lines(folder / NAME):
        if "settings" in line:
            settings = line["settings"] if isinstance(line["settings"], dict) else None
        elif is_record(line):
            records[line["id"]] = line
    return records, settings


def is_record(line: Any) -> bool:
    """Tell whether a value is a record of a pair as a batch writes it; what is not counts as not there."""
    if not isinstance(line, dict) or line.get("state") not in get_args(State) or not is_id(line.get("id")):
        return False
    seconds = line.get("seconds", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not abs(seconds) < 1e15:
        return False
    needed = {"failed": ("error", "message"), "done": ("config",)}.get(line["state"], ())
    if not all(isinstance(line.get(name), str) for name in needed):
        return False
    if line["state"] != "done":
        return True
    inputs, outputs = line.get("inputs"), line.get("outputs")
    return (
        isinstance(inputs, dict)
        and all(isinstance(files, list) and all(map(_is_file, files)) for files in inputs.values())
        and isinstance(outputs, dict)
        and all(
            isinstance(told, dict) and {"size", "sha256"} <= told.keys() and Path(name).name == name
            for name, told in outputs.items()
        )
    )


def _is_file(entry: Any) -> bool:
    """Tell whether a value is part of a fingerprint."""
    return isinstance(entry, dict) and isinstance(entry.get("file"), str)


def _lines(path: Path) -> Iterator[Record]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for text in file:
            with contextlib.suppress(ValueError, RecursionError):  # torn by a kill or a full disk
                line = json.loads(text)
                if isinstance(line, dict):
                    yield line


def status(folder: Path) -> tuple[dict[State, int], list[Record]]:
    """Return how many pairs are in each state, and the last line of every pair in the order they came.

    Raises
    ------
    OutputError
        There was no batch in this folder.
    """
    if not (folder / NAME).exists():
        raise OutputError(f"{folder}: holds no {NAME}, so no batch has run here.", path=str(folder))
    records = read(folder)[0]
    counts = Counter(record["state"] for record in records.values())
    states: tuple[State, ...] = ("done", "failed", "sent", "pending")
    return {state: counts[state] for state in states}, list(records.values())


__all__ = ["Manifest", "Record", "State", "is_record", "lock", "read", "status"]
