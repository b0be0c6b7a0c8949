"""``geocd evaluate``: agreement with a reference map."""

from __future__ import annotations

import json

import click

from geocd.cli.console import echo
from geocd.cli.options import NumberOrWord, PathType


@click.command(short_help="Score a probability raster against a reference map.")
@click.argument("prob", type=PathType())
@click.argument("reference", type=PathType())
@click.option(
    "--threshold",
    type=NumberOrWord(auto=None),
    default=None,
    metavar="FLOAT|auto",
    help="Probability from which a pixel counts as changed. Default: the threshold of the run.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def evaluate(prob: str, reference: str, threshold: float | None, as_json: bool) -> None:
    """Score the probability raster PROB against a REFERENCE map, raster or vector.

    A reference raster has the values 0 (unchanged) and 1 (changed); 255 and nodata are unknown and left out.
    In a vector reference, polygons are the changed area.
    """
    from geocd.evaluate import evaluate_files

    scores = evaluate_files(prob, reference, threshold=threshold).as_dict()
    if as_json:
        echo(json.dumps(scores, allow_nan=False))
        return
    objects = scores.pop("objects")
    rows = list(scores.items())
    if isinstance(objects, dict):
        rows += [(f"objects {key}", value) for key, value in objects.items()]
    for name, value in rows:
        text = "-" if value is None else f"{value:.4f}" if isinstance(value, float) else value
        echo(f"{name:22s} {text}")
