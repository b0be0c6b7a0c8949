"""The polygons of a run, ranked by what a reviewer's verdicts say, and which of them to judge next."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geocd.errors import VerdictError
from geocd.raster.files import output_errors
from geocd.replacing import write as write_bytes
from geocd.review.features import traits_of
from geocd.review.learning import Judged, ask_next, relevance
from geocd.review.verdicts import (
    VERDICT,
    Matched,
    checked_verdicts,
    need_columns,
    on_polygons,
    read_verdicts,
    whole_ids,
)
from geocd.vectorize.files import timestamp, write
from geocd.vectorize.formats import LAYER

if TYPE_CHECKING:
    import geopandas
    import pandas as pd
    from shapely.geometry.base import BaseGeometry

#: Columns that are added.
RELEVANCE, NEXT = "relevance", "judge_next"
#: Polygons that are proposed.
COUNT = 10


@dataclasses.dataclass(frozen=True)
class RefineReport:
    """What :func:`refine` has learned from, and what it proposes.

    Attributes
    ----------
    polygons : int
    yes, no, unsure : int
        Verdicts on them.
    borrowed : int
        Verdicts on other pairs, of the models.
    likely : int
        Polygons that are more likely than not what is meant, the judged ones included.
    judge_next : tuple of int
        Ids to judge next, the first one first.
    elsewhere, contradicted : int
        Verdicts of a file that lie on no polygon, and polygons on which it has different ones: left out.
    """

    polygons: int
    yes: int
    no: int
    unsure: int
    borrowed: int
    likely: int
    judge_next: tuple[int, ...]
    elsewhere: int = 0
    contradicted: int = 0


def refine(
    changes: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    verdicts: str | os.PathLike[str] | None = None,
    models: Sequence[str | os.PathLike[str]] = (),
    evidence: pd.DataFrame | None = None,
    count: int = COUNT,
    save_model: str | os.PathLike[str] | None = None,
    style: bytes | None = None,
) -> RefineReport:
    """Rank the polygons of a run by the verdicts on some of them, and write them with their relevance.

    Parameters
    ----------
    changes : path
        Polygons of a run, with the column ``verdict``.
    destination : path
        Vector file to write: the same polygons and columns, ``relevance`` (0 to 1; 1 and 0 for the verdicts
        yes and no) and ``judge_next`` (1 for the first to judge next, null for the others). An older one's
        verdicts, and columns that somebody has added to it, are taken over.
    verdicts : path, optional
        File with the columns ``id`` and ``verdict``, which count before those of the polygons. Where it has
        places (a vector file; ``x`` and ``y`` in a CSV), these say which polygon is meant.
    models : sequence of path, optional
        Models of other pairs, written with ``save_model``.
    evidence : pandas.DataFrame, optional
        Traits that are no columns of the polygons, in their order; see
        :func:`geocd.review.features.traits_of`.
    count : int
        How many polygons to propose.
    save_model : path, optional
        Write the verdicts with the traits of their polygons, all that ``models`` needs.
    style : bytes, optional
        QML for QGIS, written beside the destination.

    Returns
    -------
    RefineReport

    Raises
    ------
    VerdictError
        A file cannot be read, or belongs to other polygons.
    OutputError
    """
    source, target = Path(changes), Path(destination)
    frame = read_polygons(source)
    if target.is_file():
        frame = _taken_over(frame, read_polygons(target), source, target)
    whole_ids(frame["id"].tolist(), source)
    matched = Matched(checked_verdicts(frame[VERDICT].tolist(), source))
    if verdicts is not None:
        matched = on_polygons(frame, matched.words, read_verdicts(Path(verdicts), LAYER))
    words = matched.words
    traits = traits_of(frame, evidence)
    own = judged = Judged.of(traits, words)
    for model in models:
        judged = judged.joined(Judged.load(Path(model)))
    values = relevance(traits, judged)
    values[[word == "yes" for word in words]] = 1.0
    values[[word == "no" for word in words]] = 0.0
    seen = np.array([word is not None for word in words], dtype=bool)
    asked = ask_next(traits, judged, seen, count)
    numbers = np.full(len(frame), np.nan)
    numbers[asked] = np.arange(1, len(asked) + 1)
    frame[VERDICT] = np.array(words, dtype=object)
    frame[RELEVANCE] = np.round(values, 6)
    frame[NEXT] = numbers
    frame[NEXT] = frame[NEXT].astype("Int64")
    columns = [name for name in frame.columns if name not in ("geometry", RELEVANCE, NEXT)]
    write(frame[[*columns, RELEVANCE, NEXT, "geometry"]], target, timestamp(None), style=style)
    if save_model is not None:
        with output_errors(save_model):
            write_bytes(Path(save_model), own.save())
    return RefineReport(
        polygons=len(frame),
        yes=words.count("yes"),
        no=words.count("no"),
        unsure=words.count("unsure"),
        borrowed=int(judged.yes.size - own.yes.size),
        likely=int((values >= 0.5).sum()),
        judge_next=tuple(int(frame["id"].iloc[position]) for position in asked),
        elsewhere=matched.elsewhere,
        contradicted=matched.contradicted,
    )


def adding_relevance(
    judged: Judged, evidence: Callable[[list[BaseGeometry]], pd.DataFrame | None]
) -> Callable[[geopandas.GeoDataFrame], geopandas.GeoDataFrame]:
    """Return a function that adds the column ``relevance`` to the polygons of a run that nobody has judged.

    Parameters
    ----------
    judged : Judged
        Verdicts on polygons of other pairs.
    evidence : callable
        Returns the evidence of polygons, as for :func:`refine`.
    """

    def added(frame: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
        columns = [name for name in frame.columns if name != "geometry"]
        values = np.zeros(0)
        if len(frame):
            values = relevance(traits_of(frame, evidence(list(frame.geometry))), judged)
        frame[RELEVANCE] = np.round(values, 6)
        return frame[[*columns, RELEVANCE, "geometry"]]

    return added


def read_polygons(path: Path) -> geopandas.GeoDataFrame:
    """Return the polygons of a run, with an empty column ``verdict`` where they have none.

    Raises
    ------
    VerdictError
        It is missing, or has no polygons of a run.
    """
    frame = read_changes(path)
    need_columns(frame, ("id", "p_mean", "area_m2"), path)
    if VERDICT not in frame.columns:
        frame[VERDICT] = None
    return frame


def read_changes(path: Path) -> geopandas.GeoDataFrame:
    """Return the layer of changes of a file, whatever its columns.

    Raises
    ------
    VerdictError
        It is missing, or cannot be read.
    """
    import geopandas

    if not path.is_file():
        raise VerdictError(f"{path}: no such file. Make it first: geocd detect.", path=str(path))
    try:
        # a GeoPackage of QGIS has a layer of styles, too
        return geopandas.read_file(path, layer=LAYER if path.suffix.lower() == ".gpkg" else None)
    except (RuntimeError, ValueError) as error:  # pyogrio's errors share no other root
        raise VerdictError(
            f"{path}: its polygons cannot be read ({' '.join(str(error).split())[:200]}).", path=str(path)
        ) from error


def _taken_over(
    frame: geopandas.GeoDataFrame, older: geopandas.GeoDataFrame, source: Path, target: Path
) -> geopandas.GeoDataFrame:
    """Return the polygons with the verdicts and added columns of an older result.

    Raises
    ------
    VerdictError
        The older one is of other polygons.
    """
    same = len(frame) == len(older) and frame["id"].tolist() == older["id"].tolist()
    if not same or not np.allclose(frame["area_m2"], older["area_m2"], equal_nan=True):
        raise VerdictError(
            f"{target}: has other polygons than {source}; it is of an earlier run. Rename it, and pass "
            "it as --verdicts: they are matched by place.",
            path=str(target),
        )
    words = checked_verdicts(frame[VERDICT].tolist(), source)
    newer = checked_verdicts(older[VERDICT].tolist(), target)
    frame[VERDICT] = np.array([new or word for new, word in zip(newer, words, strict=True)], dtype=object)
    for column in older.columns:
        if column not in frame.columns and column not in (RELEVANCE, NEXT):
            frame[column] = older[column]
    return frame


__all__ = ["RefineReport", "adding_relevance", "read_changes", "read_polygons", "refine"]
