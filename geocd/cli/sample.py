"""``geocd sample``: points to judge."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from geocd.cli.console import echo
from geocd.cli.options import NumberOrWord, PathType
from geocd.errors import ConfigError, OutputExistsError


@click.command(short_help="Draw points to judge, for 'geocd estimate'.")
@click.argument("stem", type=PathType())
@click.option(
    "-o",
    "--output",
    type=PathType(),
    metavar="FILE",
    help="GeoPackage to write; a CSV of the same points lies beside it. Default: STEM_sample.gpkg.",
)
@click.option(
    "--size",
    type=NumberOrWord(auto=None),
    default=None,
    metavar="INTEGER|auto",
    help="Number of points. auto: as many as --standard-error needs, at least 75 for each stratum.",
)
@click.option(
    "--standard-error",
    type=float,
    default=0.01,
    show_default=True,
    help="Standard error that the overall accuracy is to have (0.001 to 0.1).",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draw.")
@click.option("--overwrite", is_flag=True, help="Replace existing files, and the verdicts in them.")
@click.option("--json", "as_json", is_flag=True, help="Print the strata and the files as JSON.")
@click.pass_context
def sample(
    ctx: click.Context,
    stem: str,
    output: str | None,
    size: float | None,
    standard_error: float,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw a random sample of the results STEM: points to judge, from which 'geocd estimate' computes areas.

    STEM is what 'geocd detect' was given as --output, or one of its files. Points are drawn from three
    strata: changed, unchanged near the decision, unchanged. Open the GeoPackage in QGIS, or the CSV in a
    spreadsheet, look at each point in both images (and better ones, if there are), in the order of the ids,
    and set verdict: yes if the place changed, no if not, unsure if you cannot tell.
    """
    from geocd.quantities import area_in_words
    from geocd.raster import files
    from geocd.report.products import Outputs, stem_of
    from geocd.report.styles import style
    from geocd.review import sampling

    if size is not None and not size.is_integer():
        raise ConfigError(f"--size {size:g}: must be a whole number.", size=size)
    results = Outputs(stem_of(stem))
    prob, changes = results.path("prob"), results.path("changes")
    target = Path(output or f"{results.stem}_sample.gpkg")
    if target.suffix.lower() != ".gpkg":
        raise ConfigError(f"--output {target}: points are written as a GeoPackage; end the name in .gpkg.")
    existing = [path for path in (target, target.with_suffix(".csv")) if os.path.lexists(path)]
    if existing and not overwrite:
        raise OutputExistsError(
            f"{existing[0]}: exists already, maybe with verdicts. Pass --overwrite to replace it, or choose "
            "another --output.",
            paths=[str(path) for path in existing],
        )
    threshold = files.provenance(prob).get("threshold")
    with files.bounded_cache():
        report = sampling.sample(
            prob,
            target,
            threshold=float(threshold) if isinstance(threshold, int | float) else 0.5,
            changes=changes if changes.is_file() else None,
            size=None if size is None else int(size),
            standard_error=standard_error,
            seed=seed,
            style=style("sample"),
        )
    strata = list(zip(report.strata, report.points, strict=True))
    if as_json:
        rows = [
            {"name": s.name, "points": points, "pixels": s.pixels, "area_m2": s.area} for s, points in strata
        ]
        echo(json.dumps({"strata": rows, "files": [str(path) for path in report.files]}))
    elif not ctx.obj["quiet"]:
        for stratum, points in strata:
            echo(f"{stratum.name:10s} {points:5d} points of {area_in_words(stratum.area)}", err=True)
        echo(
            f"{report.files[0]}\n{report.files[1]}\nJudge the points in the order of their ids (verdict: "
            f"yes, no or unsure), then run: geocd estimate {stem if output is None else target}",
            err=True,
        )
