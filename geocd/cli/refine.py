"""``geocd refine``: verdicts on some polygons rank the others."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geocd.cli.console import echo
from geocd.cli.options import PathType
from geocd.errors import ConfigError, OutputExistsError

if TYPE_CHECKING:
    import pandas as pd

    from geocd.report.products import Outputs
    from geocd.review.ranking import RefineReport


@click.command(short_help="Learn from verdicts on some polygons, and rank the others.")
@click.argument("stems", metavar="STEM...", nargs=-1, required=True, type=PathType())
@click.option(
    "-o",
    "--output",
    type=PathType(),
    metavar="FILE",
    help="GeoPackage to write. Default: STEM_refined.gpkg; written again each time, with its verdicts.",
)
@click.option(
    "--verdicts",
    type=PathType(),
    metavar="FILE",
    help="CSV or GeoJSON with the columns id and verdict, beside the verdicts in the layers. Default: "
    "STEM_verdicts.csv or .geojson, where there is one.",
)
@click.option(
    "--model",
    "models",
    type=PathType(),
    metavar="FILE",
    multiple=True,
    help="Verdicts on another pair of the same kind, from --save-model; repeatable.",
)
@click.option(
    "--save-model", type=PathType(), metavar="FILE", help="Also write a model for other pairs, JSON."
)
@click.option(
    "--next",
    "count",
    type=click.IntRange(0, 1000),
    default=10,
    show_default=True,
    help="Polygons to propose.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts and the ids to judge next as JSON.")
@click.pass_context
def refine(
    ctx: click.Context,
    stems: tuple[str, ...],
    output: str | None,
    verdicts: str | None,
    models: tuple[str, ...],
    save_model: str | None,
    count: int,
    as_json: bool,
) -> None:
    """Learn from a few verdicts which changes of STEM are meant, and rank the others by it.

    Judge some polygons: set verdict to yes, no or unsure in STEM_changes.gpkg, in STEM_refined.gpkg, or in
    the report, which saves a file. Then run this: it writes STEM_refined.gpkg with relevance (0 to 1) and
    judge_next (the polygons whose verdicts would teach most). Ten to forty verdicts are enough; without any,
    the order is that of the probability.

    Several STEMs are done one after the other, such as all pairs of a batch with the --model of one of them.
    Where one fails, the others are done, and the command exits with 3.
    """
    from geocd.errors import GeocdError

    if len(stems) > 1 and (output, verdicts, save_model) != (None, None, None):
        raise ConfigError(
            "--output, --verdicts and --save-model are for one STEM. Name one, or leave them out."
        )
    if save_model is not None and os.path.lexists(save_model) and not _is_model(Path(save_model)):
        raise OutputExistsError(
            f"{save_model}: exists already, and is no model. Choose another --save-model.", paths=[save_model]
        )
    failed = 0
    for stem in stems:
        try:
            report, target = _refined(stem, output, verdicts, models, save_model, count)
        except GeocdError as error:
            if len(stems) == 1:
                raise
            failed += 1
            echo(f"Error: {error}", err=True)
            continue
        if as_json:
            echo(json.dumps({**dataclasses.asdict(report), "file": str(target)}))
        elif not ctx.obj["quiet"]:
            _print(report, target)
    if failed:
        echo(f"{failed} of {len(stems)} failed.", err=True)
        sys.exit(3)


def _refined(
    stem: str,
    output: str | None,
    verdicts: str | None,
    models: tuple[str, ...],
    save_model: str | None,
    count: int,
) -> tuple[RefineReport, Path]:
    """Rank the polygons of one run; return the report and the file."""
    from geocd.report.products import Outputs, stem_of
    from geocd.report.styles import style
    from geocd.review import ranking

    results = Outputs(stem_of(stem))
    target = Path(output or f"{results.stem}_refined.gpkg")
    if target.suffix.lower() != ".gpkg":
        raise ConfigError(f"--output {target}: polygons are written as a GeoPackage; end the name in .gpkg.")
    if target.resolve() == results.path("changes").resolve():
        raise ConfigError(f"--output {target}: is what is read. Choose another name.")
    report = ranking.refine(
        results.path("changes"),
        target,
        verdicts=verdicts or _verdict_file(results.stem),
        models=models,
        evidence=_evidence(results, quiet=bool(click.get_current_context().obj["quiet"])),
        count=count,
        save_model=save_model,
        style=style("changes"),
    )
    return report, target


def _evidence(results: Outputs, *, quiet: bool) -> pd.DataFrame | None:
    """Return the means of distances and deep features; None, with a note, where they cannot be measured."""
    from geocd.cli.detect import shown_progress
    from geocd.errors import GeocdError
    from geocd.pipeline.evidence import evidence_of
    from geocd.review.ranking import read_polygons

    polygons = list(read_polygons(results.path("changes")).geometry)
    bar = "bar" if click.get_current_context().obj["progress"] else None
    try:
        with shown_progress(bar) as progress:
            file = Path(f"{results.stem}_evidence.npz")
            return evidence_of(results.path("prob"), polygons, file, progress)
    except GeocdError as error:
        if not quiet:
            echo(f"note: only the columns of the polygons are compared, no distances: {error}", err=True)
        return None


def _print(report: RefineReport, target: Path) -> None:
    """Print what was learned from, and what to do next."""
    judged = f"{report.yes} yes, {report.no} no" + (f", {report.unsure} unsure" if report.unsure else "")
    borrowed = f" and {report.borrowed} of other pairs" if report.borrowed else ""
    echo(f"{report.polygons} polygons, judged: {judged}{borrowed}.", err=True)
    if report.yes + report.no + report.borrowed:
        echo(f"{report.likely} are likely what you mean (relevance of 0.5 or more).", err=True)
    else:
        echo("Without a verdict, the order is that of the probability.", err=True)
    if report.judge_next:
        echo(f"To judge next: id {', '.join(map(str, report.judge_next))} (judge_next).", err=True)
    echo(str(target), err=True)


def _is_model(path: Path) -> bool:
    from geocd.errors import VerdictError
    from geocd.review.learning import Judged

    try:
        Judged.load(path)
    except VerdictError:
        return False
    return True


def _verdict_file(stem: Path) -> Path | None:
    """Return the file of verdicts beside the results."""
    beside = (Path(f"{stem}_verdicts{suffix}") for suffix in (".csv", ".geojson"))
    return next((path for path in beside if path.is_file()), None)
