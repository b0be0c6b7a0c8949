"""The command line: options in, exit codes out.

Nothing slow is imported here; each command imports what it needs when it runs, so that ``--help`` is
instant.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Any

import click

from geocd import __version__
from geocd.errors import ConfigError, GeocdError


class Commands(click.Group):
    """A group that turns geocd's errors into one message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exit 1 when the data are at fault, 2 when the options are."""
        try:
            return super().invoke(ctx)
        except GeocdError as error:
            if ctx.params.get("verbose", 0) >= 2:
                traceback.print_exc()
            click.echo(f"Error: {error}", err=True)
            sys.exit(2 if isinstance(error, ConfigError) else 1)
        except MemoryError:
            click.echo("Error: out of memory. Choose a smaller --tile-size or fewer --jobs.", err=True)
            sys.exit(1)


@click.group(
    cls=Commands,
    context_settings={"auto_envvar_prefix": "GEOCD", "help_option_names": ["-h", "--help"]},
)
@click.option("-v", "--verbose", count=True, help="Say more; twice: show tracebacks.")
@click.option("-q", "--quiet", count=True, help="Say less; no progress bar.")
@click.version_option(__version__, prog_name="geocd")
@click.pass_context
def main(ctx: click.Context, verbose: int, quiet: int) -> None:
    """Find what changed between two satellite or aerial images, without labels."""
    level = max(logging.DEBUG, logging.WARNING - 10 * verbose + 10 * quiet)
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s", stream=sys.stderr)
    if verbose < 2:
        # GDAL prints from threads what it would hand to rasterio's log elsewhere; its errors are raised.
        os.environ.setdefault("CPL_LOG", os.devnull)
    # rasterio logs GDAL's remarks about unusual but readable files
    logging.getLogger("rasterio").setLevel(max(level, logging.ERROR - 10 * verbose))
    ctx.obj = {"progress": not quiet and sys.stderr.isatty(), "quiet": quiet}


def _register() -> None:
    from geocd.cli.detect import detect
    from geocd.cli.evaluate import evaluate

    main.add_command(detect)
    main.add_command(evaluate)


_register()
