"""``geocd rerun``."""

from __future__ import annotations

import dataclasses
import json

import click

from geocd.cli.detect import shown_progress
from geocd.cli.options import PathType


@click.command()
@click.argument("item", type=PathType(), metavar="STEM.json")
@click.option(
    "-o",
    "--output",
    type=PathType(),
    metavar="STEM",
    help="Keep the new outputs under this name. Default: they are compared and deleted.",
)
@click.option("-j", "--jobs", type=click.IntRange(1), metavar="N", help="Tiles computed at a time.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist under --output.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.pass_context
def rerun(
    ctx: click.Context, item: str, output: str | None, jobs: int | None, overwrite: bool, as_json: bool
) -> None:
    """Make a run again from its STAC item, and say whether the same bytes come out.

    Takes inputs and settings from STEM.json, as geocd detect has written it, and compares every output but
    those that say when they were made. Exits with 1 when one differs. Bytes are promised to be the same with
    the same inputs, software and kind of device; what of these is another is said.
    """
    from geocd.rerun import rerun

    with shown_progress("bar" if ctx.obj["progress"] else None) as progress:
        found = rerun(item, output, overwrite=overwrite, jobs=jobs, progress=progress)
    if as_json:
        told = dataclasses.asdict(found) | {"identical": found.identical}
        told["files"] = {key: str(path) for key, path in found.files.items()}
        click.echo(json.dumps(told))
    else:
        for name, same in found.inputs.items():
            if not same:
                click.echo(f"{name}: another content than then")
        for name in found.then:
            click.echo(f"{name}: {found.then[name]} then, {found.now[name]} now")
        for key, same in found.same.items():
            click.echo(f"{key}: {'identical' if same else 'different bytes'}")
    if not found.identical:
        ctx.exit(1)
