"""Settings of single pairs: columns of a list that have the name of a setting."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from geocd.config import OTHER_DATES, PATHS, RASTERS, STAGES, Settings, stage_of, typed, typed_text
from geocd.errors import ConfigError, PairsError
from geocd.location import local_path
from geocd.raster.area import is_area_text

#: Settings of a pair by name, in the order of the columns: a tuple, which can be hashed.
Values: TypeAlias = tuple[tuple[str, object], ...]
#: Settings that belong to the whole batch: to its machines, or they name files that run code.
WHOLE_BATCH = frozenset({"device", "weights", "backbone"})
#: Columns of rasters, and of several, which :class:`geocd.batch.pairs.Item` has by name.
_BY_NAME = frozenset({*RASTERS, *OTHER_DATES})
#: Settings that may be columns.
SETTINGS = tuple(
    field.name
    for kind in STAGES.values()
    for field in dataclasses.fields(kind)
    if field.name not in WHOLE_BATCH and field.name not in _BY_NAME
)


def located(path: str, folder: Path) -> str:
    """Return a path of a list: relative ones start from a folder; URLs and GDAL's own stay as they are."""
    if path.startswith("file:"):
        return local_path(path)
    if path.startswith("~/"):  # as a shell does
        return os.fspath(Path.home() / path[2:])
    special = "://" in path or path.startswith(("/vsi", "<")) or re.match(r"[A-Za-z0-9_]{2,}:", path)
    return path if special else os.fspath(folder / path)


def setting_columns(names: Iterable[str]) -> list[str]:
    """Return the columns of a list that hold settings."""
    return [name for name in names if name in SETTINGS]


def row_settings(row: Mapping[str, object], folder: Path) -> Values:
    """Return the settings that a row of a list has; empty cells leave a setting to the command.

    Parameters
    ----------
    row : mapping
        Cells by column: texts of a CSV, or values of a vector file.
    folder : pathlib.Path
        Where relative paths start.

    Raises
    ------
    PairsError
        A value is of the wrong type, or cannot work.
    """
    values: dict[str, object] = {}
    for name in setting_columns(row):
        cell = _plain(row[name])
        if cell is None:
            continue
        try:
            value = typed_text(name, cell) if isinstance(cell, str) else typed(name, cell)
            if isinstance(value, str) and name in PATHS and not (name == "aoi" and is_area_text(value)):
                value = located(value, folder)
            STAGES[stage_of(name)](**{name: value})
        except ConfigError as error:
            remedy = error.details.get("remedy")
            reason = f"{name} = {cell}: {remedy}" if remedy is not None else str(error)
            raise PairsError(
                f"{reason} The column {name} is a setting of the pair; rename it where it is none.", name=name
            ) from error
        values[name] = value
    return tuple(values.items())


def _plain(cell: object) -> object:
    """Return a cell as JSON would have it: numbers of Python, stripped texts, None where it is empty."""
    if hasattr(cell, "item"):  # of numpy
        cell = cell.item()
    if isinstance(cell, str):
        return cell.strip() or None
    if isinstance(cell, float) and math.isnan(cell):
        return None
    if isinstance(cell, float) and cell.is_integer():  # a column of integers in which cells are empty
        return int(cell)
    return cell


def merged(settings: Settings, values: Values, name: str) -> Settings:
    """Return the settings of a batch with those of one pair; ``name`` is the pair's, for messages.

    Raises
    ------
    PairsError
        A value of the pair does not go with one of the batch, or with another one of the pair.
    """
    if not values:
        return settings
    try:
        replaced = settings.replaced(dict(values))
        replaced.resolved()
    except ConfigError as error:
        raise PairsError(f"id {name!r}: with the settings of its columns: {error}", id=name) from error
    return replaced


__all__ = ["SETTINGS", "Values", "located", "merged", "row_settings", "setting_columns"]
