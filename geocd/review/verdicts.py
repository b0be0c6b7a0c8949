"""Verdicts of a person on polygons and points: read from the layer itself, or from a file beside it."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import shapely
from shapely.errors import ShapelyError

from geocd.errors import VerdictError
from geocd.quantities import enumerated
from geocd.raster.sources import is_file, why_no_vector
from geocd.types import Float64Array
from geocd.vectorize.formats import VERDICTS

#: Column of the verdicts, in layers and files; columns of where they were given.
VERDICT, PLACE = "verdict", ("x", "y")


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """The verdicts of a file; what was not judged is left out.

    Attributes
    ----------
    path : pathlib.Path
    words : dict of str
        By the id of the polygon or point.
    places : ndarray, (n, 2), float64, or None
        A point in each polygon, or each point, in the order of the words; in the CRS of what was judged. None
        where the file has ids alone.
    crs : object
        Of the places; None where the file does not say.
    """

    path: Path
    words: Mapping[int, str]
    places: Float64Array | None = None
    crs: object = None


def read_table(path: Path, layer: str | None = None) -> pd.DataFrame:
    """Return the features of a vector file, or the rows of a CSV (as text).

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
        return geopandas.read_file(path, layer=layer)
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


def read_verdicts(path: Path, layer: str | None = None) -> Verdicts:
    """Return the verdicts of a file.

    Parameters
    ----------
    path : pathlib.Path
        CSV, GeoJSON or any vector file with the columns ``id`` and ``verdict``; in a CSV, the columns ``x``
        and ``y`` are the place of each.
    layer : str, optional
        As for :func:`read_table`.

    Raises
    ------
    VerdictError
        It cannot be read, lacks a column, or has other values.
    """
    table = read_table(path, layer)
    need_columns(table, ("id", VERDICT), path)
    ids = whole_ids(table["id"].tolist(), path)
    verdicts = checked_verdicts(table[VERDICT].tolist(), path)
    rows = [row for row, word in enumerate(verdicts) if word is not None]
    table = table.iloc[rows]
    words = {ids[row]: str(verdicts[row]) for row in rows}
    if isinstance(table, geopandas.GeoDataFrame):
        shapes = shapely.point_on_surface(np.asarray(table.geometry))
        if shapely.is_missing(shapes).any() or shapely.is_empty(shapes).any():
            return Verdicts(path, words)
        return Verdicts(path, words, shapely.get_coordinates(shapes), table.crs)
    if not set(PLACE) <= set(table.columns):
        return Verdicts(path, words)
    return Verdicts(path, words, _numbers(table, path))


def _numbers(table: pd.DataFrame, path: Path) -> Float64Array:
    """Return the coordinates of the rows of a CSV.

    Raises
    ------
    VerdictError
    """
    try:
        places: Float64Array = table[list(PLACE)].astype(np.float64).to_numpy()
        if not np.isfinite(places).all():
            raise ValueError("not finite")
    except ValueError as error:
        raise VerdictError(
            f"{path}: the columns x and y must be coordinates of what was judged ({error}). Correct them, or "
            "leave both out: then verdicts are matched by id.",
            path=str(path),
        ) from error
    return places


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
    ids: Sequence[int], verdicts: Sequence[str | None], file: Verdicts, places: Float64Array | None = None
) -> list[str | None]:
    """Return the verdicts of a layer with those of a file, matched by id; where both have one, the file's.

    Parameters
    ----------
    ids, verdicts : sequence
        Of the layer.
    file : Verdicts
    places : ndarray, (n, 2), float64, optional
        Of the points of the layer.

    Raises
    ------
    VerdictError
        The file has an id that the layer lacks, or one that lies elsewhere: it belongs to another layer.
    """
    if strange := sorted(set(file.words) - set(ids)):
        raise VerdictError(
            f"{file.path}: has verdicts on id {enumerated(list(map(str, strange)))}, which the layer lacks "
            f"(its ids: {min(ids, default=0)} to {max(ids, default=0)}). Verdicts belong to the layer they "
            "were given on: pass the file of this one.",
            path=str(file.path),
        )
    if places is not None and file.places is not None and file.crs is None:
        here = dict(zip(ids, places.tolist(), strict=True))
        for number, place in zip(file.words, file.places.tolist(), strict=True):
            if not np.allclose(here[number], place, rtol=1e-7, atol=1e-6):
                there, where = (f"x {x:.10g}, y {y:.10g}" for x, y in (place, here[number]))
                raise VerdictError(
                    f"{file.path}: id {number} lies at {there} there, and at {where} in the layer. Verdicts "
                    "belong to the layer they were given on: pass the file of this one.",
                    path=str(file.path),
                )
    return [file.words.get(number, word) for number, word in zip(ids, verdicts, strict=True)]


@dataclasses.dataclass(frozen=True)
class Matched:
    """The verdicts on the polygons of a layer.

    Attributes
    ----------
    words : list
        ``yes``, ``no``, ``unsure`` or None of each.
    elsewhere : int
        Verdicts of the file that lie on no polygon.
    contradicted : int
        Polygons on which the file has different verdicts; the file says nothing of them.
    """

    words: list[str | None]
    elsewhere: int = 0
    contradicted: int = 0


def on_polygons(frame: geopandas.GeoDataFrame, words: Sequence[str | None], file: Verdicts) -> Matched:
    """Return the verdicts on polygons with those of a file, matched by place where it has places, else by id.

    Ids are those of one run. With other settings they are other polygons; places stay.

    Raises
    ------
    VerdictError
        The file belongs to polygons elsewhere, or has ids that there are not.
    """
    ids = [int(number) for number in frame["id"]]
    if file.places is None or not len(file.words):
        return Matched(combined(ids, words, file))
    points = geopandas.GeoSeries(shapely.points(file.places), crs=file.crs)
    if file.crs is not None and frame.crs is not None:
        points = points.to_crs(frame.crs)
    row, position = frame.sindex.query(points, predicate="intersects")
    on_polygon: dict[int, set[str]] = {}
    of_file = list(file.words.values())
    for verdict, polygon in zip(row.tolist(), position.tolist(), strict=True):
        on_polygon.setdefault(polygon, set()).add(of_file[verdict])
    if not on_polygon:
        raise VerdictError(
            f"{file.path}: none of the {len(file.words)} places judged lies on a polygon of this run. Pass "
            "the verdicts on this place.",
            path=str(file.path),
        )
    result = list(words)
    for polygon, verdicts in on_polygon.items():
        if len(verdicts) == 1:
            result[polygon] = next(iter(verdicts))
    contradicted = sum(len(verdicts) > 1 for verdicts in on_polygon.values())
    return Matched(result, len(file.words) - len(set(row.tolist())), contradicted)


__all__ = [
    "PLACE",
    "VERDICT",
    "Matched",
    "Verdicts",
    "checked_verdicts",
    "combined",
    "need_columns",
    "on_polygons",
    "read_table",
    "read_verdicts",
    "verdict_file",
    "whole_ids",
]
