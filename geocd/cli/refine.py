"""``geocd refine``: verdicts on some polygons rank the others."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geocd.cli.console import echo
from geocd.cli.options import PathType
from geocd.errors import ConfigError

if TYPE_CHECKING:
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
    help="CSV or vector file with the columns id and verdict, beside the verdicts in the layers; of another "
    "run of the place, too, where it has x and y or shapes. Default: STEM_verdicts.csv or "
    ".geojson, where there is one.",
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
    from geocd.cli.detect import shown_progress
    from geocd.pipeline.refine import refine
    from geocd.report.products import Outputs, stem_of

    results = Outputs(stem_of(stem))
    target = Path(output or f"{results.stem}_refined.gpkg")
    if target.suffix.lower() != ".gpkg":
        raise ConfigError(f"--output {target}: polygons are written as a GeoPackage; end the name in .gpkg.")
    if target.resolve() == results.path("changes").resolve():
        raise ConfigError(f"--output {target}: is what is read. Choose another name.")
    ctx = click.get_current_context()
    with shown_progress("bar" if ctx.obj["progress"] else None) as progress:
        refined = refine(
            results,
            target,
            verdicts=verdicts,
            models=models,
            count=count,
            save_model=save_model,
            progress=progress,
        )
    if refined.missing is not None and not ctx.obj["quiet"]:
        echo(
            f"note: only the columns of the polygons are compared, no distances: {refined.missing}", err=True
        )
    return refined.report, target


def _print(report: RefineReport, target: Path) -> None:
    """Print what was learned from, and what to do next."""
    judged = f"{report.yes} yes, {report.no} no" + (f", {report.unsure} unsure" if report.unsure else "")
    borrowed = f" and {report.borrowed} of other pairs" if report.borrowed else ""
    echo(f"{report.polygons} polygons, judged: {judged}{borrowed}.", err=True)
    if report.elsewhere or report.contradicted:
        echo(
            "note: the verdicts are of another run, and are matched by place: "
            f"{report.elsewhere} lie on no polygon of this one, {report.contradicted} polygons have "
            "different ones. These are left out.",
            err=True,
        )
    if report.yes + report.no + report.borrowed:
        echo(f"{report.likely} are likely what you mean (relevance of 0.5 or more).", err=True)
    else:
        echo("Without a verdict, the order is that of the probability.", err=True)
    if report.judge_next:
        echo(f"To judge next: id {', '.join(map(str, report.judge_next))} (judge_next).", err=True)
    echo(str(target), err=True)
