"""``geocd polygonize``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from geocd.cli.options import NumberOrWord, PathType, stage_options
from geocd.errors import ConfigError, GeocdError, OutputExistsError
from geocd.location import Location


@click.command()
@click.argument("prob", type=PathType())
@click.option(
    "-o",
    "--output",
    type=PathType(),
    metavar="FILE",
    help="File to write: .gpkg, .geojson, .fgb, .parquet or .shp. Default: STEM_changes.gpkg beside PROB.",
)
@click.option(
    "--threshold",
    type=NumberOrWord("auto", None),
    default=None,
    metavar="FLOAT|auto",
    help="Probability from which a pixel is changed; auto: that of the run.",
)
@stage_options("polygons")
@click.option(
    "--pair",
    nargs=2,
    metavar="BEFORE AFTER",
    help="The two images, for the columns that say what became what. Default: where the run found them.",
)
@click.option("--no-bands", is_flag=True, help="Leave these columns out; the images are not read.")
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@click.pass_context
def polygonize(
    ctx: click.Context,
    /,
    prob: str,
    output: str | None,
    threshold: float | None,
    pair: tuple[str, str] | None,
    no_bands: bool,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Make the polygons of the probability raster PROB again: another threshold, fewer and quieter polygons.

    Nothing is computed anew. The format follows the name of the output. The style for QGIS is written beside
    the polygons.
    """
    from geocd.config import PolygonSettings
    from geocd.pipeline import prepared
    from geocd.raster import files
    from geocd.report.styles import style
    from geocd.vectorize import files as layers
    from geocd.vectorize import polygons

    if pair and no_bands:
        raise ConfigError("--pair and --no-bands: the images are read, or they are not. Leave one out.")
    made: dict[str, Any] = files.provenance(prob)
    if threshold is None:
        threshold = made.get("threshold")
    if not isinstance(threshold, int | float):
        raise ConfigError(
            f"{prob}: does not say which threshold it was made with. Say it with --threshold, for instance "
            "--threshold 0.5.",
            path=prob,
        )
    target = Path(output) if output is not None else _beside(prob)
    layers.check_format(target)
    if target.exists() and not overwrite:
        raise OutputExistsError(
            f"{target}: exists already. Pass --overwrite to replace it, or choose another --output.",
            paths=[str(target)],
        )
    dates = made.get("dates") or (None, None)
    with files.bounded_cache(), contextlib.ExitStack() as stack:
        images = None
        if not no_bands:
            try:
                images = stack.enter_context(prepared.open_sources(prob, made, pair or None))
            except GeocdError as error:
                if pair:
                    raise
                if not ctx.obj["quiet"]:
                    click.echo(
                        f"note: no columns of bands and indices: {error} Or name the images with --pair.",
                        err=True,
                    )
        summary = polygons.polygonize(
            prob,
            target,
            threshold=threshold,
            settings=PolygonSettings(**settings),
            pair=images,
            date_before=dates[0],
            date_after=dates[1],
            style=style("changes"),
        )
    if not ctx.obj["quiet"]:
        click.echo(
            f"{summary.changed_share:.2%} of the valid area: {summary.count} polygons, "
            f"{summary.area_m2 / 1e4:.4g} ha (probability of {threshold:g} or more).\n{target}",
            err=True,
        )
        if outdated := _outdated(prob, target):
            click.echo(
                f"note: {' and '.join(path.name for path in outdated)} beside it, and the quick-look, "
                "still show the polygons of the run itself. To have them agree, run geocd detect again with "
                "the new options; to keep both, write these to another --output.",
                err=True,
            )


def _outdated(prob: str, target: Path) -> list[Path]:
    """Return report and item of the run of PROB where they do not name the checksum of the new polygons."""
    from geocd.products import sha256
    from geocd.report.products import product

    if target.resolve() != _beside(prob).resolve():
        return []
    stem = target.name.removesuffix(product("changes").suffix)
    files = [target.with_name(stem + product(which).suffix) for which in ("report", "item")]
    new = sha256(target)
    return [path for path in files if path.is_file() and new not in path.read_text("utf-8", "replace")]


def _beside(prob: str) -> Path:
    """Return the name that ``geocd detect`` gives the polygons; in this folder where PROB is remote."""
    target = f"{Location(prob).stem.removesuffix('_prob')}_changes.gpkg"
    local = Path(prob)
    return local.with_name(target) if local.exists() else Path(target)
