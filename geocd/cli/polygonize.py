"""``geocd polygonize``."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geocd.cli.console import echo
from geocd.cli.options import CONFIG, NumberOrWord, PathType, stage_options
from geocd.errors import ConfigError, GeocdError
from geocd.location import Location
from geocd.vectorize.formats import FORMATS

if TYPE_CHECKING:
    from geocd.raster.pair import Pair
    from geocd.vectorize.lastingmeans import LastingMeans
    from geocd.vectorize.polygons import PolygonSummary


@click.command(short_help="Make polygons from the probability raster of a run.")
@click.argument("prob", type=PathType())
@click.option(
    "-o",
    "--output",
    type=PathType(),
    metavar="FILE",
    help=f"File to write; its suffix decides the format: {', '.join(FORMATS)}. "
    "Default: STEM_changes.gpkg beside PROB.",
)
@click.option(
    "--threshold",
    type=NumberOrWord(auto=None),
    default=None,
    metavar="FLOAT|auto",
    help="Probability from which a pixel is changed; auto: the threshold of the run.",
)
@stage_options("polygons")
@click.option(
    "--pair",
    nargs=2,
    metavar="BEFORE AFTER",
    help="The two images, for the columns of bands and indices. Default: where the run read them.",
)
@click.option("--no-bands", is_flag=True, help="Omit the columns of bands and indices; images are not read.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
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
    """Make polygons from the probability raster PROB again: another threshold, smallest area or format.

    The probability is not computed again. The suffix of the output decides the format. The style for QGIS is
    written beside the polygons. Later dates of the run (--confirm) are read again, for the columns lasting
    and last_seen. The column relevance of --refine MODEL comes with geocd refine STEM --model MODEL.
    """
    from geocd.config import PolygonSettings
    from geocd.pipeline.polygons import check_output, dates_of, threshold_of
    from geocd.raster import files
    from geocd.report.styles import style
    from geocd.vectorize.names import refuse_unusable_name
    from geocd.vectorize.polygons import polygons_of

    if pair and no_bands:
        raise ConfigError("--pair and --no-bands exclude each other. Pass only one of them.")
    run = files.provenance(prob)
    threshold = threshold_of(prob, run, threshold)
    target = Path(output) if output is not None else _default_output(prob)
    look = style("changes")
    inputs = [file for path in (prob, *(pair or ())) for file in files.local_files(path)]
    check_output(target, [*ctx.meta.get(CONFIG, []), *inputs], look, overwrite=overwrite)
    refuse_unusable_name(target)  # before any work is done
    with files.bounded_cache(), contextlib.ExitStack() as stack:
        quiet = ctx.obj["quiet"]
        images = None if no_bands else _open_images(stack, prob, run, pair, quiet=quiet)
        later = None if images is None else _open_later(stack, prob, run, images, quiet=quiet)
        polygons = polygons_of(prob, threshold, images, later)
        summary = polygons.write(target, PolygonSettings(**settings), dates_of(run), style=look)
    if not ctx.obj["quiet"]:
        _print_summary(summary, threshold, prob, target)


def _open_images(
    stack: contextlib.ExitStack,
    prob: str,
    run: Mapping[str, object],
    files: tuple[str, str] | None,
    *,
    quiet: bool,
) -> Pair | None:
    """Return the images of the run; None, with a note, where they cannot be opened and were not passed."""
    from geocd.pipeline import prepared

    try:
        return stack.enter_context(prepared.open_sources(prob, run, files or None))
    except GeocdError as error:
        if files:
            raise
        if not quiet:
            echo(f"note: no columns of bands and indices: {error} Or pass the images with --pair.", err=True)
        return None


def _open_later(
    stack: contextlib.ExitStack, prob: str, run: Mapping[str, object], images: Pair, *, quiet: bool
) -> LastingMeans | None:
    """Return the later dates of the run; None where it had none, and, with a note, where they do not open."""
    from geocd.pipeline.polygons import later_dates

    try:
        return stack.enter_context(later_dates(images, run, Path(prob).parent))
    except GeocdError as error:
        if not quiet:
            echo(f"note: no columns of later dates (lasting, last_seen): {error}", err=True)
        return None


def _print_summary(summary: PolygonSummary, threshold: float, prob: str, target: Path) -> None:
    """Print what was written, and which files of the run no longer agree with it."""
    from geocd.vectorize.kinds import in_words

    echo(
        f"{summary.changed_share:.2%} of the valid area: {summary.count} polygons, "
        f"{summary.area_m2 / 1e4:.4g} ha (probability of {threshold:g} or more).\n"
        f"{in_words(summary.kinds)}{target}",
        err=True,
    )
    if outdated := _outdated(prob, target):
        echo(
            f"note: {' and '.join(path.name for path in outdated)} beside it, and the quick-look, "
            "still show the polygons of the run itself. To update them, run geocd detect again with "
            "the new options; to keep both, write these polygons to another --output.",
            err=True,
        )


def _outdated(prob: str, target: Path) -> list[Path]:
    """Return report and item of the run of PROB where they lack the checksum of the new polygons."""
    from geocd.report.fingerprint import sha256
    from geocd.report.products import product

    if target.resolve() != _default_output(prob).resolve():
        return []
    stem = target.name.removesuffix(product("changes").suffix)
    files = [target.with_name(stem + product(which).suffix) for which in ("report", "item")]
    checksum = sha256(target)
    return [path for path in files if path.is_file() and checksum not in path.read_text("utf-8", "replace")]


def _default_output(prob: str) -> Path:
    """Return the name that ``geocd detect`` gives the polygons; in this folder where PROB is remote."""
    target = f"{Location(prob).stem.removesuffix('_prob')}_changes.gpkg"
    local = Path(prob)
    return local.with_name(target) if local.exists() else Path(target)
