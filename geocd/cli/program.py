"""The program: the group of all commands, logging, exit codes and signals.

Nothing slow is imported here. Each command imports what it needs when it runs, so that ``--help`` is instant.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from geocd import __version__
from geocd.cli.console import Formatter, echo, shown
from geocd.errors import ConfigError, GeocdError, GeocdWarning, Interrupted
from geocd.spelling import command_line

if TYPE_CHECKING:
    from sys import UnraisableHookArgs
    from types import TracebackType


class Commands(click.Group):
    """A group of commands that turns geocd's errors into one message and an exit code."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Parse the command line; usage errors quote it, so they are made printable."""
        with _printable_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command, and exit with 1 when the data are at fault, with 2 when an option is.

        After an interruption the exit code is 128 plus the number of the signal, as in a shell: 130 after
        Ctrl-C, 143 after SIGTERM.
        """
        try:
            with _terminable(), _printable_errors(), command_line():
                result: object = super().invoke(ctx)
                return result
        except KeyboardInterrupt as interrupt:
            cause: BaseException | None = interrupt
            while cause is not None and not isinstance(cause, _Terminated):
                cause = cause.__cause__
            unfinished = "no unfinished file is left, and what was finished before is kept"
            state = str(interrupt) if isinstance(interrupt, Interrupted) else unfinished
            echo(f"interrupted: {state}", err=True)
            sys.exit(128 + (signal.SIGINT if cause is None else signal.SIGTERM))
        except GeocdError as error:
            if ctx.params.get("verbose", 0) >= 2:
                echo(traceback.format_exc(), err=True, nl=False)
            echo(f"Error: {error}", err=True)
            sys.exit(2 if isinstance(error, ConfigError) else 1)
        except MemoryError:
            echo(
                "Error: out of memory. Pass a --mem-limit or fewer --jobs (with --resume, finished tiles are "
                "reused), or a smaller --tile-size.",
                err=True,
            )
            sys.exit(1)


@contextlib.contextmanager
def _printable_errors() -> Iterator[None]:
    """Make the messages of click's own errors printable."""
    try:
        yield
    except click.ClickException as error:
        error.__dict__["message"] = shown(error.message)  # declared final
        raise


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return the line of a Python warning; where it arose does not matter to a user."""
    del filename, lineno, line
    return shown(f"{category.__name__}: {message}") + "\n"


def _unraisable(error: UnraisableHookArgs) -> None:
    """Ignore messages of GDAL about a damaged file that rasterio cannot decode; they stop nothing."""
    if error.object != "rasterio._env.log_error":
        echo(f"{error.err_msg or 'Exception ignored in'}: {error.object!r}", err=True)
        _print_traceback(error.exc_type, error.exc_value, error.exc_traceback)


def _bug(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Print the traceback of an error that geocd did not foresee, and what to do with it."""
    _print_traceback(kind, error, trace)
    if issubclass(kind, Exception):
        echo(
            f"Error: {kind.__name__}, which geocd did not expect: this is a bug. Please report it to the "
            "maintainers of geocd with all of the text above, the command and what 'geocd env' prints.",
            err=True,
        )


def _bug_in_thread(error: threading.ExceptHookArgs) -> None:
    if error.exc_type is not SystemExit:
        _bug(error.exc_type, error.exc_value, error.exc_traceback)


def _print_traceback(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    echo("".join(traceback.format_exception(kind, error, trace)), err=True, nl=False)


class _Terminated(KeyboardInterrupt):
    """The process received SIGTERM."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM interrupt a run as Ctrl-C does, so that finished tiles are kept."""

    def stop(number: int, frame: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # others cannot handle signals
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@click.group(
    "geocd",  # also as a plug-in of rio
    cls=Commands,
    context_settings={"auto_envvar_prefix": "GEOCD", "help_option_names": ["-h", "--help"]},
)
@click.option("-v", "--verbose", count=True, help="More output (twice: tracebacks).")
@click.option("-q", "--quiet", count=True, help="Less output, no progress bar.")
@click.version_option(__version__, prog_name="geocd")
@click.pass_context
def main(ctx: click.Context, verbose: int, quiet: int) -> None:
    """Detect changes between two satellite or aerial images, without training labels."""
    level = max(logging.DEBUG, logging.WARNING - 10 * verbose + 10 * quiet)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    warnings.formatwarning = _warning
    # geocd's own messages are few and meant for the user, such as what --resume continues
    logging.getLogger("geocd").setLevel(max(logging.DEBUG, level - 10))
    # rasterio warns of a file without georeferencing beside geocd's own error, which has the remedy
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
    warnings.filterwarnings("ignore", category=GeocdWarning)  # findings, which the commands print
    # from its threads GDAL prints, raw, what otherwise goes to rasterio's log; its errors are raised anyway
    os.environ.setdefault("CPL_LOG", os.devnull)
    sys.unraisablehook, sys.excepthook = _unraisable, _bug
    if threading.excepthook is threading.__excepthook__:  # another is that of a program that runs geocd
        threading.excepthook = _bug_in_thread
    # rasterio logs GDAL's messages about unusual but readable files
    logging.getLogger("rasterio").setLevel(max(level, logging.ERROR - 10 * verbose))
    if verbose < 2:
        logging.getLogger("pyogrio").setLevel(logging.WARNING)  # or it says how many records it created
    ctx.obj = {"progress": not quiet and sys.stderr.isatty(), "quiet": quiet, "verbose": verbose}


def _register() -> None:
    from geocd.cli.batch import batch
    from geocd.cli.check import check
    from geocd.cli.completion import completion
    from geocd.cli.config import config
    from geocd.cli.detect import detect
    from geocd.cli.env import env
    from geocd.cli.estimate import estimate
    from geocd.cli.evaluate import evaluate
    from geocd.cli.polygonize import polygonize
    from geocd.cli.refine import refine
    from geocd.cli.rerun import rerun
    from geocd.cli.sample import sample
    from geocd.cli.series import series

    everyday = (check, detect, polygonize, refine, sample, estimate, evaluate, batch, series)
    for command in (*everyday, completion, config, env, rerun):
        main.add_command(command)


_register()
