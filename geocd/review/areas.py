"""Error-adjusted areas of change, with intervals, from the points of a sample that were judged."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from geocd.errors import VerdictError
from geocd.review.estimation import (
    ClassEstimate,
    Interval,
    JudgedSample,
    Quantity,
    class_estimates,
    overall_accuracy,
)
from geocd.review.intervals import LEVEL
from geocd.review.strata import CHANGED, UNCHANGED
from geocd.review.verdicts import (
    PLACE,
    VERDICT,
    checked_verdicts,
    combined,
    need_columns,
    read_table,
    read_verdicts,
    whole_ids,
)

#: Kind of a change that the map does not have, and that the reviewer gave no kind.
NO_KIND = "kind not judged"
#: Share of the points looked at that are unsure from which on a note says so.
UNSURE = 0.05
#: Judged points of a stratum below which a note says so.
FEW = 30


@dataclasses.dataclass(frozen=True)
class AreaReport:
    """Areas in square metres and accuracies, with their intervals.

    Attributes
    ----------
    points, judged, unsure : int
        Points of the sample; those with the verdict yes or no, which count; those with unsure.
    total_m2 : float
        Area of all strata.
    mapped_m2 : dict of float
        Area of each class in the map, where a class consists of whole strata.
    classes : tuple of ClassEstimate
        Changed and unchanged; or the classes of the sample, where it has others.
    kinds : tuple of ClassEstimate
        The kinds of change, where the sample has them.
    overall : Quantity
        Overall accuracy, in [0, 1].
    matrix : dict of dict of int
        Judged points by class in the map and as judged.
    interval : {"jeffreys", "wald"}
    notes : tuple of str
        What to beware of.
    """

    points: int
    judged: int
    unsure: int
    total_m2: float
    mapped_m2: Mapping[str, float]
    classes: tuple[ClassEstimate, ...]
    kinds: tuple[ClassEstimate, ...]
    overall: Quantity
    matrix: Mapping[str, Mapping[str, int]]
    interval: Interval
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Return all for JSON: None where a value is not defined."""
        return {
            "points": self.points,
            "judged": self.judged,
            "unsure": self.unsure,
            "total_m2": self.total_m2,
            "level": LEVEL,
            "interval": self.interval,
            "mapped_m2": dict(self.mapped_m2),
            "classes": [_class_dict(entry) for entry in self.classes],
            "kinds": [_class_dict(entry) for entry in self.kinds],
            "overall_accuracy": _quantity_dict(self.overall),
            "matrix": {mapped: dict(row) for mapped, row in self.matrix.items()},
            "notes": list(self.notes),
        }

    def as_csv(self) -> str:
        """Return all estimates as a table, a line for each."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["measure", "class", "estimate", "standard_error", "low", "high", "unit"])

        def line(measure: str, name: str, quantity: Quantity, unit: str) -> None:
            values = ("" if math.isnan(value) else value for value in dataclasses.astuple(quantity))
            writer.writerow([measure, name, *values, unit])

        for entry in (*self.classes, *self.kinds):
            line("area", entry.name, entry.area, "m2")
            line("users_accuracy", entry.name, entry.users, "share")
            line("producers_accuracy", entry.name, entry.producers, "share")
        line("overall_accuracy", "", self.overall, "share")
        return text.getvalue()


def _quantity_dict(quantity: Quantity) -> dict[str, float | None]:
    values = dataclasses.asdict(quantity)
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _class_dict(entry: ClassEstimate) -> dict[str, object]:
    return {
        "name": entry.name,
        "mapped_points": entry.mapped_points,
        "judged_points": entry.judged_points,
        "area_m2": _quantity_dict(entry.area),
        "users_accuracy": _quantity_dict(entry.users),
        "producers_accuracy": _quantity_dict(entry.producers),
    }


def estimate(
    sample: str | os.PathLike[str],
    *,
    verdicts: str | os.PathLike[str] | None = None,
    interval: Interval = "jeffreys",
) -> AreaReport:
    """Estimate areas of change and accuracies from the judged points of a sample.

    Parameters
    ----------
    sample : path
        The points that :func:`~geocd.review.sampling.sample` drew, GeoPackage or CSV, with the column
        ``verdict`` filled in. Or a sample of any other map with the columns ``stratum``, ``stratum_m2``,
        ``map_class`` and ``reference``, the judged class.
    verdicts : path, optional
        File with the columns ``id`` and ``verdict``, which count beside those of the sample.
    interval : {"jeffreys", "wald"}
        Intervals that hold where errors are rare, or plus or minus 1.96 standard errors, as published.

    Returns
    -------
    AreaReport

    Raises
    ------
    VerdictError
        A file cannot be read, has other values, or a stratum has fewer than two judged points.
    """
    path = Path(sample)
    table = read_table(path, "sample")
    need_columns(table, ("stratum", "stratum_m2", "map_class"), path)
    if "reference" in table.columns:
        points = Points.with_reference(table, path)
    else:
        points = Points.with_verdicts(table, path, None if verdicts is None else Path(verdicts))
    judged = points.judged_sample(points.mapped, points.reference)
    names = points.names(points.mapped, points.reference)
    kinds: tuple[ClassEstimate, ...] = ()
    if points.kind is not None:
        by_kind = points.judged_sample(points.mapped_kind, points.kind)
        present = points.names(points.mapped_kind, points.kind)
        kinds = tuple(class_estimates(by_kind, [n for n in present if n != UNCHANGED], interval))
    return AreaReport(
        points=len(table),
        judged=int(points.counted.sum()),
        unsure=points.unsure,
        total_m2=judged.total,
        mapped_m2=points.mapped_areas(),
        classes=tuple(class_estimates(judged, names, interval)),
        kinds=kinds,
        overall=overall_accuracy(judged, interval),
        matrix=_matrix(judged, names),
        interval=interval,
        notes=tuple(points.notes()),
    )


def _matrix(judged: JudgedSample, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the judged points by class in the map and as judged."""
    return {
        mapped: {
            reference: int(((judged.mapped == mapped) & (judged.reference == reference)).sum())
            for reference in names
        }
        for mapped in names
    }


@dataclasses.dataclass(frozen=True)
class Points:
    """The points of a sample with what was judged.

    Attributes
    ----------
    path : pathlib.Path
        For messages.
    stratum, mapped, reference : list of str
        Of each point; the reference is empty where it was not judged.
    areas : dict of float
        Area of each stratum, by name.
    mapped_kind, kind : list of str, optional
        Kinds in the map and as judged; None where the map has none.
    unsure : int
    """

    path: Path
    stratum: list[str]
    mapped: list[str]
    reference: list[str]
    areas: Mapping[str, float]
    mapped_kind: list[str]
    kind: list[str] | None
    unsure: int

    @classmethod
    def with_reference(cls, table: pd.DataFrame, path: Path) -> Points:
        """Return the points of a sample whose classes were judged."""
        reference = _words(table["reference"])
        strata, mapped = _words(table["stratum"]), _words(table["map_class"])
        return cls(path, strata, mapped, reference, _areas(table, strata, path), mapped, None, 0)

    @classmethod
    def with_verdicts(cls, table: pd.DataFrame, path: Path, file: Path | None) -> Points:
        """Return the points of a sample of ``geocd sample``."""
        need_columns(table, ("id", VERDICT), path)
        words = checked_verdicts(table[VERDICT].tolist(), path)
        if file is not None:
            places = table[list(PLACE)].to_numpy(np.float64) if set(PLACE) <= set(table.columns) else None
            words = combined(whole_ids(table["id"].tolist(), path), words, read_verdicts(file), places)
        strata, mapped = _words(table["stratum"]), _words(table["map_class"])
        reference = [{"yes": CHANGED, "no": UNCHANGED}.get(word or "", "") for word in words]
        none = [""] * len(table)
        mapped_kind = _words(table["map_kind"]) if "map_kind" in table.columns else none
        judged_kind = _words(table["kind"]) if "kind" in table.columns else none
        kind = None
        if any(mapped_kind):
            kind = [
                own or of_map or NO_KIND if word == CHANGED else word
                for word, own, of_map in zip(reference, judged_kind, mapped_kind, strict=True)
            ]
            mapped_kind = [of_map or UNCHANGED for of_map in mapped_kind]
        areas = _areas(table, strata, path)
        return cls(path, strata, mapped, reference, areas, mapped_kind, kind, words.count("unsure"))

    @property
    def counted(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which points count: those that were judged and are not unsure."""
        return np.array([bool(word) for word in self.reference], dtype=bool)

    def judged_sample(self, mapped: Sequence[str], reference: Sequence[str]) -> JudgedSample:
        """Return the points that count, under some classes.

        Raises
        ------
        VerdictError
            A stratum has fewer than two of them.
        """
        names = list(self.areas)
        counted = self.counted
        index = np.array([names.index(name) for name in self.stratum], dtype=np.int64)
        points = np.bincount(index[counted], minlength=len(names))
        for name, count in zip(names, points, strict=True):
            if count < 2:
                raise VerdictError(
                    f"{self.path}: {count} of the {self.stratum.count(name)} points of the stratum {name!r} "
                    "are judged yes or no, and each stratum needs at least 2. Judge more points, in the "
                    "order of their ids: verdict is yes, no or unsure.",
                    path=str(self.path),
                    stratum=name,
                )
        return JudgedSample(
            np.array([self.areas[name] for name in names]),
            index[counted],
            np.array(mapped, dtype=np.str_)[counted],
            np.array(reference, dtype=np.str_)[counted],
        )

    def names(self, mapped: Sequence[str], reference: Sequence[str]) -> list[str]:
        """Return the classes, those of the map first."""
        present = [word for word, counts in zip(reference, self.counted, strict=True) if counts]
        first = [CHANGED, UNCHANGED] if {*mapped, *present} <= {CHANGED, UNCHANGED} else []
        return list(dict.fromkeys([*first, *mapped, *sorted(present)]))

    def mapped_areas(self) -> dict[str, float]:
        """Return the area of each class that consists of whole strata."""
        classes: dict[str, set[str]] = {}
        for name, mapped in zip(self.stratum, self.mapped, strict=True):
            classes.setdefault(name, set()).add(mapped)
        areas: dict[str, float] = {}
        for name, of_stratum in classes.items():
            if len(of_stratum) > 1:
                return {}
            (mapped_class,) = of_stratum
            areas[mapped_class] = areas.get(mapped_class, 0) + self.areas[name]
        return areas

    def notes(self) -> list[str]:
        """Return what to beware of."""
        counted = self.counted
        seen = int(counted.sum()) + self.unsure
        notes = []
        if self.unsure > UNSURE * seen:
            notes.append(
                f"{self.unsure} of {seen} points are unsure and left out, as if they were like the others. "
                "If unsure points are more often change, or less often, the areas are biased: look again, "
                "with better images."
            )
        for name in self.areas:
            own = [word for word, of in zip(self.reference, self.stratum, strict=True) if of == name and word]
            if len(own) < FEW:
                notes.append(f"Stratum {name!r} has {len(own)} judged points: its share is hardly known.")
        if self.kind is not None and NO_KIND in self.kind:
            notes.append(
                f"{self.kind.count(NO_KIND)} points changed that the map has as unchanged, and have no kind. "
                "Fill in the column kind for them."
            )
        return notes


def _words(column: pd.Series[str]) -> list[str]:
    """Return a column as text, empty where it is null."""
    return ["" if pd.isna(value) else str(value).strip() for value in column]


def _areas(table: pd.DataFrame, strata: Sequence[str], path: Path) -> dict[str, float]:
    """Return the area of each stratum.

    Raises
    ------
    VerdictError
        It is no positive number, or not the same at all points of a stratum.
    """
    areas: dict[str, float] = {}
    for row, (name, value) in enumerate(zip(strata, table["stratum_m2"], strict=True), 1):
        try:
            area = float(value)
        except (TypeError, ValueError):
            area = math.nan
        if not area > 0 or not math.isfinite(area) or not math.isclose(areas.get(name, area), area):
            raise VerdictError(
                f"{path}: stratum_m2 in row {row} is {value!r}; it must be the area of the stratum {name!r}, "
                "in square metres, and the same in all of its rows.",
                path=str(path),
            )
        areas.setdefault(name, area)
    if not areas:
        raise VerdictError(f"{path}: has no points. Draw them with geocd sample.", path=str(path))
    return areas


__all__ = ["AreaReport", "estimate"]
