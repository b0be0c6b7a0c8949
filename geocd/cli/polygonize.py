"""``geocd polygonize``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from geocd.cli.options import NumberOrWord
from geocd.errors import ConfigError, OutputExistsError


@click.command()
@click.argument("prob")
@click.option(
    "-o", "--output", metavar="FILE.gpkg", help="GeoPackage to write. Default: STEM_changes.gpkg beside PROB."
)
@click.option(
    "--threshold",
    type=NumberOrWord("auto", None),
    default=None,
    metavar="FLOAT|auto",
    help="Probability from which a pixel is changed; auto: that of the run.",
)
@click.option(
    "--min-area",
    type=float,
    default=0.0,
    show_default=True,
    metavar="M2",
    help="Leave out polygons smaller than this, in square metres.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@click.pass_context
def polygonize(
    ctx: click.Context,
    prob: str,
    output: str | None,
    threshold: float | None,
    min_area: float,
    overwrite: bool,
) -> None:
    """Make the polygons of the probability raster PROB again, with another threshold or smallest area.

    Nothing is computed anew. The style for QGIS is written beside the polygons.
    """
    from geocd import raster, vectorize
    from geocd.styles import style

    made: dict[str, Any] = raster.provenance(prob)
    if threshold is None:
        threshold = made.get("threshold")
    if not isinstance(threshold, int | float):
        raise ConfigError(
            f"{prob}: does not say which threshold it was made with. Say it with --threshold, for instance "
            "--threshold 0.5.",
            path=prob,
        )
    target = Path(output) if output is not None else _beside(prob)
    if target.suffix.lower() != ".gpkg":
        raise ConfigError(f"--output {target}: polygons are written as .gpkg only.", path=str(target))
    if target.exists() and not overwrite:
        raise OutputExistsError(
            f"{target}: exists already. Pass --overwrite to replace it, or choose another --output.",
            paths=[str(target)],
        )
    dates = made.get("dates") or (None, None)
    with raster.bounded_cache():
        summary = vectorize.polygonize(
            prob, target, threshold=threshold, min_area=min_area, date_before=dates[0], date_after=dates[1]
        )
    with raster.output_errors(target):
        target.with_suffix(".qml").write_bytes(style("changes"))
    if not ctx.obj["quiet"]:
        click.echo(
            f"{summary.changed_share:.2%} of the valid area: {summary.count} polygons, "
            f"{summary.area_m2 / 1e4:.4g} ha (probability of {threshold:g} or more).\n{target}",
            err=True,
        )


def _beside(prob: str) -> Path:
    """Return the name that ``geocd detect`` gives the polygons; in this folder where PROB is remote."""
    name = prob.split("?")[0].rstrip("/").replace("\\", "/").rsplit("/", 1)[-1]
    target = f"{Path(name).stem.removesuffix('_prob')}_changes.gpkg"
    local = Path(prob)
    return local.with_name(target) if local.exists() else Path(target)
