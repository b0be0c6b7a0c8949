"""Which pairs a batch is to do: read from a CSV or from the attributes of a vector file."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from geocd.batch.stack import Stack
from geocd.errors import PairsError
from geocd.raster.sources import is_file, why_no_vector
from geocd.vectorize.formats import merge_formats

COLUMNS = ("id", "before", "after", "valid")
#: What the archive itself puts into its folder.
RESERVED = (
    *("catalog.json", "manifest.jsonl", "sources"),
    *(f"changes{suffix}" for suffix in merge_formats()),
)
#: The id becomes a folder and the beginning of file names, on every system.
_ID = re.compile(r"\w[\w .,+=@-]*", re.ASCII)
_LONGEST = 100
#: What Windows takes for devices, whatever follows after a dot.
_DEVICES = {"CON", "PRN", "AUX", "NUL"} | {
    f"{name}{number}" for name in ("COM", "LPT") for number in range(10)
}


def is_id(name: object) -> bool:
    """Tell whether a name can be that of a folder in the archive, on every system."""
    if not isinstance(name, str) or not _ID.fullmatch(name) or len(name) > _LONGEST or name[-1] in " .":
        return False
    return name.partition(".")[0].rstrip().upper() not in _DEVICES


@dataclasses.dataclass(frozen=True)
class Item:
    """One pair of a batch.

    Parameters
    ----------
    id : str
        Name of its folder and beginning of its files' names.
    before, after : str
        Paths or URLs.
    valid : str, optional
        Raster that is non-zero where the pair may be used.
    stacks : tuple of Stack
        What ``before`` and ``after`` are made of, where they are to be made first.

    Raises
    ------
    PairsError
        The id cannot be a file name, or leads out of the folder.
    """

    id: str
    before: str
    after: str
    valid: str | None = None
    stacks: tuple[Stack, ...] = ()

    def __post_init__(self) -> None:
        if not is_id(self.id):
            raise PairsError(
                f"id {self.id!r}: cannot be the name of a folder. Use up to {_LONGEST} letters (a to z), "
                "digits and -_.,+=@, with a letter or digit first, and no name of a device (CON, NUL).",
                id=self.id,
            )
        if self.id.casefold() in RESERVED:
            raise PairsError(f"id {self.id!r}: belongs to the archive itself. Choose another.", id=self.id)
        for name in ("before", "after"):
            if not getattr(self, name):
                raise PairsError(f"id {self.id!r}: has no {name}. Fill the column {name}.", id=self.id)

    @property
    def inputs(self) -> dict[str, str]:
        """The paths by what they are: ``before``, ``after`` and, where there is one, ``valid``."""
        found = {"before": self.before, "after": self.after}
        return found if self.valid is None else found | {"valid": self.valid}


def read_items(path: str | os.PathLike[str]) -> list[Item]:
    """Return the pairs that a file lists, in its order.

    Parameters
    ----------
    path : path
        A CSV with a header, or anything OGR reads (GeoPackage, GeoJSON); the columns are ``id``,
        ``before``, ``after`` and, if wanted, ``valid``. Others are ignored. Relative paths start from the
        folder of this file.

    Raises
    ------
    PairsError
        The file cannot be read, lacks a column, or an id is unusable, empty or there twice.
    """
    path = Path(path)
    if not is_file(path):
        raise PairsError(f"{path}: no such file. Name a CSV, GeoPackage or GeoJSON of pairs.", path=str(path))
    rows = _csv_rows(path) if path.suffix.lower() in (".csv", ".txt") else _vector_rows(path)
    items: list[Item] = []
    for place, row in rows:
        try:
            items.append(_item(row, path.parent.absolute()))
        except PairsError as error:
            raise PairsError(f"{path}, {place}: {error}", **error.details) from error
    check_unique(items, str(path))
    return items


def check_unique(items: Iterable[Item], source: str) -> None:
    """Raise :class:`PairsError` when there is no pair, or two would be written into one folder."""
    seen: dict[str, str] = {}
    for item in items:
        # On Windows and macOS names that differ in case alone are one.
        other = seen.setdefault(item.id.casefold(), item.id)
        if other is not item.id:
            raise PairsError(f"{source}: ids {other!r} and {item.id!r} are one. Ids must differ.", id=item.id)
    if not seen:
        raise PairsError(f"{source}: lists no pair.", path=source)


def located(path: str, folder: Path) -> str:
    """Return a path as it is when it is absolute, a URL or one of GDAL's own, else taken from a folder."""
    special = "://" in path or path.startswith(("/vsi", "<")) or re.match(r"[A-Za-z0-9_]{2,}:", path)
    return path if special else os.fspath(folder / path)


def _item(row: Mapping[str, Any], folder: Path) -> Item:
    values = {name: str(row.get(name) if row.get(name) is not None else "").strip() for name in COLUMNS}
    paths = {name: located(values[name], folder) if values[name] else "" for name in COLUMNS[1:]}
    return Item(values["id"], paths["before"], paths["after"], paths["valid"] or None)


def _check_columns(names: Iterable[str], path: Path) -> None:
    missing = [name for name in COLUMNS[:3] if name not in names]
    if missing:
        raise PairsError(
            f"{path}: has no column {', '.join(missing)}. The columns are id, before, after and, if wanted, "
            f"valid; here are: {', '.join(names) or 'none'}.",
            path=str(path),
        )


def _csv_rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        # what Excel writes begins with a byte order mark
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            _check_columns([name.strip() for name in reader.fieldnames or ()], path)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            return [(f"line {reader.line_num}", row) for row in reader if any(row.values())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PairsError(f"{path}: cannot be read as CSV in UTF-8 ({error}).", path=str(path)) from error


def _vector_rows(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    import pyogrio

    if (why := why_no_vector(os.fspath(path))) is not None:
        raise PairsError(f"{path}: {why}", path=str(path))
    try:
        meta, _, _, columns = pyogrio.raw.read(path, read_geometry=False)
    # pyogrio's own errors share no other root; a damaged file may hold what is no text or number
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise PairsError(
            f"{path}: neither a CSV nor a vector file that OGR can read ({error}).", path=str(path)
        ) from error
    names = [str(name) for name in meta["fields"]]
    _check_columns(names, path)
    rows = zip(*columns, strict=True)
    return [
        (f"feature {number}", dict(zip(names, row, strict=True)))
        for number, row in enumerate(rows, 1)
    ]  # fmt: skip


__all__ = ["Item", "check_unique", "is_id", "located", "read_items"]
