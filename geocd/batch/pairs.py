"""The pairs of a batch, and lists of them: a CSV, or the attributes of a vector file."""

from __future__ import annotations

import csv
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from geocd.batch.columns import Values, located, merged, row_settings, setting_columns
from geocd.batch.stack import Stack
from geocd.config import NO_MASK, OTHER_DATES, RASTERS, Settings, check_masks, numbered
from geocd.errors import ConfigError, PairsError
from geocd.location import Location
from geocd.quantities import enumerated
from geocd.raster.sources import is_file, why_no_vector
from geocd.vectorize.formats import merge_formats

#: Columns that a list must have, and those that it may have.
NEEDED = ("id", "before", "after")
COLUMNS = (*NEEDED, *RASTERS, *OTHER_DATES)
#: Where a row stands in its file ("line 3"), and its values by column.
Row: TypeAlias = tuple[str, Mapping[str, object]]
#: Names that the batch itself uses in its folder.
RESERVED = (
    *("catalog.json", "index.html", "manifest.jsonl", "sources"),
    *(f"changes{suffix}" for suffix in merge_formats()),
)
#: The id becomes the name of a folder and the beginning of file names, on every system.
_ID = re.compile(r"\w[\w .,+=@-]*", re.ASCII)
_LONGEST = 100
#: Names that are devices on Windows, whatever follows after a dot.
_DEVICES = {"CON", "PRN", "AUX", "NUL"} | {
    f"{name}{number}" for name in ("COM", "LPT") for number in range(10)
}


def is_id(name: object) -> bool:
    """Return whether a name can be that of a pair's folder, on every system."""
    if not isinstance(name, str) or not _ID.fullmatch(name) or len(name) > _LONGEST or name[-1] in " .":
        return False
    return name.partition(".")[0].rstrip().upper() not in _DEVICES


@dataclasses.dataclass(frozen=True)
class Item:
    """One pair of a batch.

    Parameters
    ----------
    id : str
        Name of the pair's folder and beginning of the names of its files.
    before, after : str
        Paths or URLs.
    valid : str, optional
        Path or URL of a raster that is non-zero where the pair may be used.
    mask_before, mask_after : str, optional
        Paths or URLs of the quality masks of the images.
    features_before, features_after : str, optional
        Paths or URLs of rasters of features that were made elsewhere.
    baseline, confirm : tuple of str
        Paths or URLs of images of earlier and of later dates.
    mask_baseline, mask_confirm : tuple of str
        Paths or URLs of their quality masks, in their order, :data:`geocd.config.NO_MASK` for one without;
        empty where none has any.
    stacks : tuple of Stack
        The VRTs among these paths that have to be written first.
    settings : tuple of (str, object)
        Settings of this pair by name, which replace those of the batch.
    sign : str, optional
        What signs its links when they are read, see :func:`geocd.signing.signer`.
    area : str, optional
        The area of the search that found it, as ``--aoi`` takes it, unless settings name another.

    Raises
    ------
    PairsError
        The id cannot be the name of a folder, ``before`` or ``after`` is empty, there are features of one
        date alone, or not as many masks as images of other dates.
    """

    id: str
    before: str
    after: str
    valid: str | None = None
    mask_before: str | None = None
    mask_after: str | None = None
    features_before: str | None = None
    features_after: str | None = None
    baseline: tuple[str, ...] = ()
    confirm: tuple[str, ...] = ()
    mask_baseline: tuple[str, ...] = ()
    mask_confirm: tuple[str, ...] = ()
    stacks: tuple[Stack, ...] = ()
    settings: Values = ()
    area: str | None = None
    sign: str | None = None

    def __post_init__(self) -> None:
        if not is_id(self.id):
            raise PairsError(
                f"id {self.id!r}: cannot be the name of a folder. Use up to {_LONGEST} letters (a to z), "
                "digits and -_.,+=@, with a letter or digit first, and no name of a device (CON, NUL).",
                id=self.id,
            )
        if self.id.casefold() in RESERVED:
            raise PairsError(f"id {self.id!r}: is reserved for the batch itself. Choose another.", id=self.id)
        for name in ("before", "after"):
            if not getattr(self, name):
                raise PairsError(f"id {self.id!r}: has no {name}. Fill the column {name}.", id=self.id)
        for name, other in (("before", "after"), ("after", "before")):
            if getattr(self, f"features_{other}") and not getattr(self, f"features_{name}"):
                raise PairsError(
                    f"id {self.id!r}: has features_{other} and no features_{name} to compare them with. Fill "
                    "both columns, or none.",
                    id=self.id,
                )

        for name in ("baseline", "confirm"):
            try:
                check_masks(name, getattr(self, name), getattr(self, f"mask_{name}"))
            except ConfigError as error:
                raise PairsError(f"id {self.id!r}: {error}", id=self.id) from error

    def merged(self, settings: Settings) -> Settings:
        """Return the settings of a batch with those of this pair.

        Raises
        ------
        PairsError
            A value of the pair does not go with one of the batch, or with another one of the pair.
        """
        own = self.settings
        if self.area is not None and settings.read.aoi is None and "aoi" not in dict(own):
            own = (*own, ("aoi", self.area))
        return merged(settings, own, self.id)

    def completed(self, settings: Settings) -> Item:
        """Return this pair with the rasters of a batch where it has none of its own: they are its inputs."""
        names = {*RASTERS, *OTHER_DATES} - self.own_inputs.keys()
        return dataclasses.replace(self, **{name: getattr(settings.read, name) for name in names})

    def signed(self, sign: str) -> Item:
        """Return this pair with links that are signed when they are read, and without older signatures."""
        links: dict[str, Any] = {
            name: Location(path).public
            for name, path in {"before": self.before, "after": self.after, **self.rasters}.items()
        }
        for name in OTHER_DATES:
            links[name] = tuple(Location(path).public for path in getattr(self, name))
        stacks = tuple(stack.without_signatures() for stack in self.stacks)
        return dataclasses.replace(self, **links, stacks=stacks, sign=sign)

    @property
    def inputs(self) -> dict[str, str]:
        """The paths by what they are: ``before``, ``after``, and those of the columns that may be empty."""
        others = numbered(**{name: getattr(self, name) for name in OTHER_DATES})
        return {"before": self.before, "after": self.after, **self.rasters, **others}

    @property
    def own_inputs(self) -> dict[str, Any]:
        """What replaces settings of a batch, by their names: images of other dates with all their masks."""
        own: dict[str, Any] = dict(self.rasters)
        for name in ("baseline", "confirm"):
            if getattr(self, name):
                own |= {part: getattr(self, part) for part in (name, f"mask_{name}")}
        return own

    @property
    def rasters(self) -> dict[str, str]:
        """The paths beside the two images that there are, by the names of their settings."""
        return {name: path for name in RASTERS if (path := getattr(self, name)) is not None}


def read_items(path: str | os.PathLike[str]) -> list[Item]:
    """Return the pairs that a file lists, in its order.

    Parameters
    ----------
    path : path
        A CSV with a header, or any vector file that OGR reads (GeoPackage, GeoJSON). The columns are ``id``,
        ``before``, ``after`` and, optionally, ``valid``, ``mask_before``, ``mask_after``,
        ``features_before``, ``features_after``, ``baseline`` and ``confirm`` (several paths separated by
        ``;``, or a list where the format has lists), ``mask_baseline`` and ``mask_confirm`` likewise, and any
        of :data:`geocd.batch.columns.SETTINGS`; others are ignored. Relative paths start from the folder of
        this file.

    Returns
    -------
    list of Item

    Raises
    ------
    PairsError
        The file cannot be read or lacks a column, an id is unusable, empty or used twice, or a value is not
        one of its setting.
    """
    return read_csv(path) if is_csv(path) else read_vector(path)


def is_csv(path: str | os.PathLike[str]) -> bool:
    """Return whether a list of pairs is a CSV, by its name."""
    return Path(path).suffix.lower() in (".csv", ".txt")


def read_csv(path: str | os.PathLike[str]) -> list[Item]:
    """Return the pairs that a CSV lists, see :func:`read_items`."""
    return _items(Path(path), csv=True)


def read_vector(path: str | os.PathLike[str]) -> list[Item]:
    """Return the pairs that the attributes of a vector file list, see :func:`read_items`."""
    return _items(Path(path), csv=False)


def read_rows(path: Path, needed: Sequence[str], optional: Sequence[str]) -> list[Row]:
    """Return the rows of a list with these columns, in their order, each with its position in the file.

    Raises
    ------
    PairsError
        The file cannot be read, or lacks a column.
    """
    return _rows(path, needed, optional, csv=is_csv(path))


def _rows(path: Path, needed: Sequence[str], optional: Sequence[str], *, csv: bool) -> list[Row]:
    if not is_file(path):
        raise PairsError(f"{path}: no such file. Name a CSV, GeoPackage or GeoJSON.", path=str(path))
    check = functools.partial(_check_columns, path=path, needed=needed, optional=optional)
    return _csv_rows(path, check) if csv else _vector_rows(path, check)


def _items(path: Path, *, csv: bool) -> list[Item]:
    items: list[Item] = []
    for position, row in _rows(path, NEEDED, COLUMNS[len(NEEDED) :], csv=csv):
        try:
            items.append(_item(row, path.parent.absolute()))
        except PairsError as error:
            raise PairsError(f"{path}, {position}: {error}", **error.details) from error
    check_unique(items, str(path))
    return items


def check_unique(items: Iterable[Item], source: str) -> None:
    """Raise :class:`PairsError` when there is no pair, or two would be written into the same folder."""
    ids: dict[str, str] = {}
    for item in items:
        # on Windows and macOS, names that differ in case alone are the same
        other = ids.setdefault(item.id.casefold(), item.id)
        if other is not item.id:
            raise PairsError(
                f"{source}: ids {other!r} and {item.id!r} are the same. Ids must differ in more than case.",
                id=item.id,
            )
    if not ids:
        raise PairsError(f"{source}: lists no pair.", path=source)


def _item(row: Mapping[str, object], folder: Path) -> Item:
    single = (*NEEDED, *RASTERS)
    values = {name: str(row.get(name) if row.get(name) is not None else "").strip() for name in single}
    paths = {name: located(values[name], folder) for name in single[1:] if values[name]}
    others = {
        name: tuple(
            path if path == NO_MASK and name.startswith("mask_") else located(path, folder)
            for path in several(row.get(name))
        )
        for name in OTHER_DATES
    }
    return Item(
        values["id"],
        paths.get("before", ""),
        paths.get("after", ""),
        valid=paths.get("valid"),
        mask_before=paths.get("mask_before"),
        mask_after=paths.get("mask_after"),
        features_before=paths.get("features_before"),
        features_after=paths.get("features_after"),
        baseline=others["baseline"],
        confirm=others["confirm"],
        mask_baseline=others["mask_baseline"],
        mask_confirm=others["mask_confirm"],
        settings=row_settings(row, folder),
    )


def several(value: object) -> list[str]:
    """Return the paths of a column of several: a text that separates them by ``;``, or a list."""
    if value is None:
        return []
    parts = value.split(";") if isinstance(value, str) else value if isinstance(value, Iterable) else [value]
    return [text for part in parts if part is not None and (text := str(part).strip())]


def _check_columns(names: Iterable[str], path: Path, needed: Sequence[str], optional: Sequence[str]) -> None:
    names = list(names)
    twice = sorted({name for name in (*needed, *optional, *setting_columns(names)) if names.count(name) > 1})
    if twice:
        raise PairsError(
            f"{path}: has the column {', '.join(twice)} more than once ({', '.join(names)}). Rename or "
            "remove the one that is not meant.",
            path=str(path),
        )
    missing = [name for name in needed if name not in names]
    if missing:
        columns = f"{', '.join(needed)} and, optionally, {enumerated(optional, len(optional))}"
        raise PairsError(
            f"{path}: has no column {', '.join(missing)}. The columns are {columns}; this file has: "
            f"{', '.join(names) or 'none'}.",
            path=str(path),
        )


def _csv_rows(path: Path, check: Callable[[Iterable[str]], None]) -> list[Row]:
    try:
        # files that Excel writes begin with a byte order mark
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=header.count)  # as spreadsheets write where the comma is decimal
            reader = csv.DictReader(file, skipinitialspace=True, delimiter=delimiter)
            check([name.strip() for name in reader.fieldnames or ()])
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            return [(f"line {reader.line_num}", row) for row in reader if any(row.values())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PairsError(f"{path}: cannot be read as CSV in UTF-8 ({error}).", path=str(path)) from error


def _vector_rows(path: Path, check: Callable[[Iterable[str]], None]) -> list[Row]:
    import pyogrio

    if (why := why_no_vector(os.fspath(path))) is not None:
        raise PairsError(f"{path}: {why}", path=str(path))
    try:
        layers = [str(name) for name, _ in pyogrio.list_layers(path)]
        if not layers:
            raise PairsError(
                f"{path}: has no layer, so it lists nothing. Save a layer with a list to it.",
                path=str(path),
            )
        meta, _, _, columns = pyogrio.raw.read(path, layer=layers[0], read_geometry=False)
    # pyogrio's own errors have no other root in common; values of a damaged file may not be decodable
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, PairsError):
            raise
        raise PairsError(
            f"{path}: neither a CSV nor a vector file that OGR can read ({error}).", path=str(path)
        ) from error
    names = [str(name) for name in meta["fields"]]
    check(names)
    rows = zip(*columns, strict=True)
    return [
        (f"feature {number}", dict(zip(names, row, strict=True)))
        for number, row in enumerate(rows, 1)
    ]  # fmt: skip


__all__ = [
    "Item",
    "check_unique",
    "is_csv",
    "is_id",
    "read_csv",
    "read_items",
    "read_rows",
    "read_vector",
]
