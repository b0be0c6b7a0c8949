"""``geocd env``."""

from __future__ import annotations

import dataclasses
import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def env(ctx: click.Context, as_json: bool) -> None:
    """Say what geocd runs on: versions, devices, memory, and trouble with the data of GDAL and PROJ.

    Put it into a bug report. Exits with 1 when there is trouble.
    """
    from geocd.environment import look_around

    found = look_around()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found)))
    else:
        rows = [*found.versions.items(), ("platform", found.platform)]
        for device in found.devices:
            memory = f", {device['memory']} MB" if device["memory"] is not None else ""
            rows.append(("device", f"{device['name']} ({device['what']}{memory})"))
        threads = "" if found.threads is None else f", {found.threads} threads of torch"
        rows.append(("processors", f"{found.processors}{threads}"))
        if found.memory is not None:
            free = "" if found.free is None else f", {found.free} MB of it free"
            limit = "" if found.limit is None else f", {found.limit} MB allowed here"
            rows.append(("memory", f"{found.memory} MB{free}{limit}"))
        rows += list(found.variables.items())
        rows += [("trouble", trouble) for trouble in found.troubles] or [("trouble", "none found")]
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            click.echo(f"{name:{width}s}  {value}")
    if found.troubles:
        ctx.exit(1)
