"""Verdicts of a person on polygons and points: read from the layer itself, or from a file beside it."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import geopandas
import pandas as pd
import pyogrio
from shapely.errors import ShapelyError

from geocd.errors import VerdictError
from geocd.quantities import enumerated
from geocd.raster.sources import is_file, why_no_vector
from geocd.vectorize.formats import VERDICTS

#: Column of the verdicts, in layers and files.
VERDICT = "verdict"


def read_table(path: Path, layer: str | None = None) -> pd.DataFrame:
    """Return the attributes of a vector file, or the rows of a CSV (as text), without geometry.

    Parameters
    ----------
    path : pathlib.Path
    layer : str, optional
        Layer of a vector file; default: its only one.

    Raises
    ------
    VerdictError
        The file is missing or cannot be read as either.
    """
    if not is_file(path):
        raise VerdictError(f"{path}: no such file. Check the path.", path=str(path))
    if path.suffix.lower() in (".csv", ".txt"):
        return _read_csv(path)
    if (why := why_no_vector(os.fspath(path))) is not None:
        raise VerdictError(f"{path}: {why}", path=str(path))
    try:
        layers = [str(name) for name, _ in pyogrio.list_layers(path)]
        if layer not in layers:
            if len(layers) != 1:
                wanted = f"none is called {layer}" if layer else "one is needed"
                raise VerdictError(
                    f"{path}: has {len(layers)} layers ({enumerated(layers)}), and {wanted}. Save the layer "
                    "that was judged to a file of its own.",
                    path=str(path),
                )
            layer = layers[0]
        return pd.DataFrame(geopandas.read_file(path, layer=layer, ignore_geometry=True))
    except (RuntimeError, ValueError, TypeError, ShapelyError) as error:  # of pyogrio, which share no root
        if isinstance(error, VerdictError):
            raise
        raise VerdictError(
            f"{path}: cannot be read ({' '.join(str(error).split())[:200]}). Pass a CSV, GeoJSON or "
            "GeoPackage.",
            path=str(path),
        ) from error


def _read_csv(path: Path) -> pd.DataFrame:
    """Return the rows of a CSV with commas, semicolons or tabs."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise VerdictError(
            f"{path}: cannot be read ({error}). Save it as CSV in UTF-8.", path=str(path)
        ) from error
    lines = text.splitlines()
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    rows = list(csv.reader(lines, delimiter=delimiter))
    names = [name.strip() for name in rows[0]] if rows else []
    if not names or len(set(names)) < len(names):
        raise VerdictError(
            f"{path}: its first line must name the columns, each once, and is {header[:100]!r}.",
            path=str(path),
        )
    body = [row for row in rows[1:] if any(cell.strip() for cell in row)]
    for number, row in enumerate(body, 2):
        if len(row) != len(names):
            raise VerdictError(
                f"{path}: line {number} has {len(row)} values, and the first line names {len(names)} "
                "columns.",
                path=str(path),
            )
    return pd.DataFrame(body, columns=names, dtype="object")


def checked_verdicts(values: Sequence[object], path: Path) -> list[str | None]:
    """Return verdicts in small letters, None where there is none yet.

    Parameters
    ----------
    values : sequence
        As read; blank, null and NaN are no verdict.
    path : pathlib.Path
        For the message.

    Raises
    ------
    VerdictError
        There is another word.
    """
    words = [None if pd.isna(value) else str(value).strip().lower() or None for value in values]
    for row, word in enumerate(words, 1):
        if word is not None and word not in VERDICTS:
            raise VerdictError(
                f"{path}: the verdict in row {row} is {values[row - 1]!r}; it must be one of "
                f"{', '.join(VERDICTS)}, or empty.",
                path=str(path),
                value=word,
            )
    return words


def verdict_file(stem: Path) -> Path | None:
    """Return the file of verdicts beside what was judged, None where there is none."""
    beside = (Path(f"{stem}_verdicts{suffix}") for suffix in (".csv", ".geojson"))
    return next((path for path in beside if path.is_file()), None)


def read_verdicts(path: Path) -> dict[int, str]:
    """Return the verdicts of a file by the id of the polygon or point; those not judged are left out.

    Parameters
    ----------
    path : pathlib.Path
        CSV, GeoJSON or any vector file with the columns ``id`` and ``verdict``.

    Raises
    ------
    VerdictError
        It cannot be read, lacks a column, or has other values.
    """
    table = read_table(path)
    need_columns(table, ("id", VERDICT), path)
    ids = whole_ids(table["id"].tolist(), path)
    verdicts = checked_verdicts(table[VERDICT].tolist(), path)
    return {number: word for number, word in zip(ids, verdicts, strict=True) if word is not None}


def need_columns(table: pd.DataFrame, columns: Sequence[str], path: Path) -> None:
    """Raise an error where a table lacks a column.

    Raises
    ------
    VerdictError
    """
    if missing := [column for column in columns if column not in table.columns]:
        raise VerdictError(
            f"{path}: has no column {' and no column '.join(missing)} (it has: "
            f"{enumerated([str(name) for name in table.columns], 8)}).",
            path=str(path),
            missing=missing,
        )


def whole_ids(values: Sequence[object], path: Path) -> list[int]:
    """Return ids as whole numbers, each of which occurs once.

    Raises
    ------
    VerdictError
    """
    ids: list[int] = []
    for row, value in enumerate(values, 1):
        try:
            number = float(str(value))
            ids.append(int(number))
        except (ValueError, OverflowError):
            number = 0.5
        if not number.is_integer():
            raise VerdictError(
                f"{path}: the id in row {row} is {value!r}, and must be a whole number.", path=str(path)
            )
    if len(set(ids)) < len(ids):
        twice = next(number for number in ids if ids.count(number) > 1)
        raise VerdictError(
            f"{path}: id {twice} occurs more than once. Keep one verdict for each.", path=str(path)
        )
    return ids


def combined(
    ids: Sequence[int], verdicts: Sequence[str | None], file: Mapping[int, str], path: Path
) -> list[str | None]:
    """Return the verdicts of a layer with those of a file, which count where both have one.

    Raises
    ------
    VerdictError
        The file has an id that the layer lacks: it belongs to another one.
    """
    if strange := sorted(set(file) - set(ids)):
        raise VerdictError(
            f"{path}: has verdicts on id {enumerated(list(map(str, strange)))}, which the layer lacks "
            f"(its ids: {min(ids, default=0)} to {max(ids, default=0)}). Verdicts belong to the layer they "
            "were given on: pass the file of this one.",
            path=str(path),
        )
    return [file.get(number, word) for number, word in zip(ids, verdicts, strict=True)]


__all__ = [
    "VERDICT",
    "checked_verdicts",
    "combined",
    "need_columns",
    "read_table",
    "read_verdicts",
    "verdict_file",
    "whole_ids",
]
