"""The command line: options in, exit codes out.

Nothing slow is imported here; each command imports what it needs when it runs, so that ``--help`` is
instant.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import click

from geocd import __version__
from geocd.errors import ConfigError, GeocdError, Interrupted


class Commands(click.Group):
    """A group that turns geocd's errors into one message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exit 1 when the data are at fault, 2 when the options are.

        Interrupted, exit with 128 and the number of the signal, as a shell does: 130 after Ctrl-C, 143 after
        SIGTERM.
        """
        try:
            with _terminable():
                return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            cause: BaseException | None = interrupt
            while cause is not None and not isinstance(cause, _Terminated):
                cause = cause.__cause__
            kept = str(interrupt) if isinstance(interrupt, Interrupted) else "nothing is kept"
            click.echo(f"interrupted: {kept}", err=True)
            sys.exit(128 + (signal.SIGINT if cause is None else signal.SIGTERM))
        except GeocdError as error:
            if ctx.params.get("verbose", 0) >= 2:
                traceback.print_exc()
            click.echo(f"Error: {printable(str(error))}", err=True)
            sys.exit(2 if isinstance(error, ConfigError) else 1)
        except MemoryError:
            click.echo(
                "Error: out of memory. Choose a --mem-limit or fewer --jobs (with --resume, finished "
                "tiles are used), or a smaller --tile-size.",
                err=True,
            )
            sys.exit(1)


#: What would move the cursor of a terminal, colour it or turn its text around.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return a text that may hold names of files, as a terminal can show it."""
    text = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
    return text.encode("utf-8", "backslashreplace").decode()


def _unraisable(told: Any) -> None:
    """Pass over what rasterio cannot decode of a remark of GDAL about a damaged file; it goes on."""
    if told.object != "rasterio._env.log_error":
        sys.__unraisablehook__(told)


class _Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does: what is finished is kept."""

    def stop(number: int, frame: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's alone
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@click.group(
    "geocd",  # rio calls it so too
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
    # its own remarks are few, and meant for the user (what --resume found)
    logging.getLogger("geocd").setLevel(max(logging.DEBUG, level - 10))
    # rasterio's warning about a file without a place stands beside our own error, which says what to do
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
    if verbose < 2:
        # GDAL prints from threads what it would hand to rasterio's log elsewhere; its errors are raised.
        os.environ.setdefault("CPL_LOG", os.devnull)
    sys.unraisablehook = _unraisable
    # rasterio logs GDAL's remarks about unusual but readable files
    logging.getLogger("rasterio").setLevel(max(level, logging.ERROR - 10 * verbose))
    ctx.obj = {"progress": not quiet and sys.stderr.isatty(), "quiet": quiet, "verbose": verbose}


def _register() -> None:
    from geocd.cli.batch import batch
    from geocd.cli.check import check
    from geocd.cli.completion import completion
    from geocd.cli.config import config
    from geocd.cli.detect import detect
    from geocd.cli.env import env
    from geocd.cli.evaluate import evaluate
    from geocd.cli.polygonize import polygonize
    from geocd.cli.rerun import rerun

    for command in (batch, check, completion, config, detect, env, evaluate, polygonize, rerun):
        main.add_command(command)


_register()
