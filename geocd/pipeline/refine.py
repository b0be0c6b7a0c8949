"""The polygons of a finished run, ranked by verdicts on some of them, with all that its files tell."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from geocd.errors import GeocdError, OutputExistsError, VerdictError
from geocd.pipeline.evidence import evidence_of
from geocd.report.products import Outputs
from geocd.report.styles import style
from geocd.review import ranking
from geocd.review.learning import Judged
from geocd.review.ranking import COUNT, RefineReport, read_polygons
from geocd.review.verdicts import read_verdicts, verdict_file
from geocd.types import Progress
from geocd.vectorize.formats import LAYER


@dataclasses.dataclass(frozen=True)
class Refined:
    """What :func:`refine` has done.

    Attributes
    ----------
    report : RefineReport
    missing : GeocdError or None
        Why distances and deep features were not compared; None where they were.
    """

    report: RefineReport
    missing: GeocdError | None


def refine(
    results: Outputs,
    destination: Path,
    *,
    verdicts: str | os.PathLike[str] | None = None,
    models: Sequence[str | os.PathLike[str]] = (),
    count: int = COUNT,
    save_model: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Refined:
    """Rank the polygons of a run by verdicts on some of them.

    Parameters
    ----------
    results : Outputs
        Of the run.
    destination, models, count
        As for :func:`geocd.review.ranking.refine`.
    verdicts : path, optional
        Default: ``STEM_verdicts.csv`` or ``.geojson``, where there is one.
    save_model : path, optional
        An older model there is replaced, nothing else.
    progress : callable, optional
        Called with the stage ``evidence``.

    Raises
    ------
    OutputExistsError
        ``save_model`` is there already, and is no model.
    VerdictError
        The verdicts beside the run are older than it, and have no places.
    GeocdError
        See :func:`geocd.review.ranking.refine`.
    """
    if save_model is not None and os.path.lexists(save_model) and not _is_model(Path(save_model)):
        raise OutputExistsError(
            f"{save_model}: exists already, and is no model. Choose another name.",
            paths=[os.fspath(save_model)],
        )
    polygons = list(read_polygons(results.path("changes")).geometry)
    evidence, missing = None, None
    try:
        file = Path(f"{results.stem}_evidence.npz")
        evidence = evidence_of(results.path("prob"), polygons, file, progress)
    except GeocdError as error:
        missing = error
    report = ranking.refine(
        results.path("changes"),
        destination,
        verdicts=verdicts or _own_verdicts(results),
        models=models,
        evidence=evidence,
        count=count,
        save_model=save_model,
        style=style("changes"),
    )
    return Refined(report, missing)


def _own_verdicts(results: Outputs) -> Path | None:
    """Return the file of verdicts of a run, None where there is none.

    Raises
    ------
    VerdictError
        It has ids alone, and is older than the run: its ids may be those of other polygons.
    """
    path = verdict_file(results.stem)
    item = results.path("item")
    if path is None or not item.is_file() or read_verdicts(path, LAYER).places is not None:
        return path
    if path.stat().st_mtime < item.stat().st_mtime:
        raise VerdictError(
            f"{path}: is older than the run, and has ids alone, which may be those of other polygons. Where "
            f"they fit, pass --verdicts {path}; else move it away. Files that the report saves have places.",
            path=str(path),
        )
    return path


def _is_model(path: Path) -> bool:
    try:
        Judged.load(path)
    except VerdictError:
        return False
    return True


__all__ = ["Refined", "refine"]
