"""``geocd env``: versions, devices, memory and problems."""

from __future__ import annotations

import dataclasses
import json

import click

from geocd.cli.console import echo


@click.command(short_help="Show versions, devices, memory and problems.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def env(ctx: click.Context, as_json: bool) -> None:
    """Show versions, devices and memory, and problems with the data of GDAL and PROJ.

    Please add the output to bug reports. Exits with 1 when there is a problem.
    """
    from geocd.environment import inspect_environment

    environment = inspect_environment()
    if as_json:
        echo(json.dumps(dataclasses.asdict(environment)))
    else:
        rows = [*environment.versions.items(), ("platform", environment.platform)]
        for device in environment.devices:
            memory = f", {device['memory']} MB" if device["memory"] is not None else ""
            rows.append(("device", f"{device['name']} ({device['what']}{memory})"))
        threads = "" if environment.threads is None else f", {environment.threads} threads of torch"
        rows.append(("processors", f"{environment.processors}{threads}"))
        if environment.memory is not None:
            free = "" if environment.free is None else f", {environment.free} MB of it free"
            limit = "" if environment.limit is None else f", {environment.limit} MB allowed here"
            rows.append(("memory", f"{environment.memory} MB{free}{limit}"))
        rows += list(environment.variables.items())
        rows += [("problem", problem) for problem in environment.troubles] or [("problem", "none found")]
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            echo(f"{name:{width}s}  {value}")
    if environment.troubles:
        ctx.exit(1)
