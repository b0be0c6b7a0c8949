"""``geocd rerun``: a run repeated and compared."""

from __future__ import annotations

import json

import click

from geocd.cli.console import echo
from geocd.cli.detect import shown_progress
from geocd.cli.options import PathType


@click.command(short_help="Repeat a run from its STAC item and compare the outputs.")
@click.argument("item", type=PathType(), metavar="STEM.json")
@click.option(
    "-o",
    "--output",
    type=PathType(),
    metavar="STEM",
    help="Keep the new outputs under this name. Default: compare and delete them.",
)
@click.option("-j", "--jobs", type=click.IntRange(1), metavar="N", help="Number of tiles computed at a time.")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs under --output.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.pass_context
def rerun(
    ctx: click.Context, item: str, output: str | None, jobs: int | None, overwrite: bool, as_json: bool
) -> None:
    """Repeat a run from its STAC item, and check whether the outputs are the same byte for byte.

    Takes inputs and settings from STEM.json, as written by geocd detect, and compares all outputs except
    those that contain the time of the run. Exits with 1 when one differs. Outputs are the same for the same
    inputs, software and kind of device; differences in these are listed.
    """
    from geocd.rerun import rerun

    with shown_progress("bar" if ctx.obj["progress"] else None) as progress:
        result = rerun(item, output, overwrite=overwrite, jobs=jobs, progress=progress)
    if as_json:
        content = {
            "same": result.same,
            "inputs": result.inputs,
            "then": result.recorded,
            "now": result.current,
            "files": {key: str(path) for key, path in result.files.items()},
            "identical": result.identical,
        }
        echo(json.dumps(content))
    else:
        for name, same in result.inputs.items():
            if not same:
                echo(f"{name}: content has changed")
        for name in result.recorded:
            echo(f"{name}: {result.recorded[name]} before, {result.current[name]} now")
        for key, same in result.same.items():
            echo(f"{key}: {'identical' if same else 'different bytes'}")
    if not result.identical:
        ctx.exit(1)
