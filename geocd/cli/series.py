"""``geocd series``: changes of many dates of a place, and which of them last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from geocd.cli.batch import (
    Running,
    batch,
    checked_folder,
    print_summary,
    refuse_lists,
    run_pairs,
    source_options,
)
from geocd.cli.options import CONFIG, PathType

if TYPE_CHECKING:
    from geocd.batch.pairs import Item
    from geocd.batch.series import Series

F = TypeVar("F", bound=Callable[..., Any])

#: Options of ``geocd batch`` that have no meaning for dates.
_NOT_SHARED = frozenset({"dates", "confirm_days", "merge", "status", "confirm", "baseline", "upload"})


def _options_of_batch(command: F) -> F:
    """Add the options that a series has in common with a batch."""
    shared = [
        param
        for param in batch.params
        if isinstance(param, click.Option) and param.name not in _NOT_SHARED and param.name != "help"
    ]
    own = getattr(command, "__click_params__", [])
    command.__click_params__ = [*reversed(shared), *own]  # type: ignore[attr-defined]
    return command


@click.command(short_help="Detect changes in many dates of a place, and which of them last.")
@click.argument("dates", type=PathType())
@click.argument("outdir", type=PathType())
@click.option(
    "--confirmations",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    metavar="N",
    help="Compare each date with as many later ones, beside the next: a change lasts where at least half of "
    "them show it.",
)
@_options_of_batch
@click.pass_context
def series(
    ctx: click.Context,
    /,
    dates: str,
    outdir: str,
    confirmations: int,
    workers: int | None,
    scheduler: str | None,
    scheduler_file: str | None,
    resources: tuple[tuple[str, float], ...],
    worker_timeout: float,
    mem_limit: int | None,
    retry_failed: bool,
    fail_fast: bool,
    dry_run: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Detect the changes between many DATES of a place, tell lasting ones from passing ones, and date them.

    DATES is a folder of images of one place; a CSV, GeoPackage or GeoJSON with the column image and,
    optionally, date, place, mask and features; a STAC ItemCollection or catalogue; or the address of a STAC
    API. Dates that are not listed are those of the images' tags or names.

    Each date is paired with the next ones. The pairs are written as by geocd batch, with the same manifest
    and catalogue; run the same command again to continue, or to add dates, which costs only their own pairs.
    For each place, OUTDIR/<place>_series.tif has the first date of lasting change, <place>_series.gpkg its
    polygons with date_from, date_to and lasting.

    Exit codes: as of geocd batch.
    """
    folder = checked_folder(dates, outdir, None)
    refuse_lists([dates, values["intersects"], *ctx.meta.get(CONFIG, [])], folder, None)
    from geocd.batch.series import read_series, write_series
    from geocd.config import Settings

    options = source_options(values | {"dates": None, "confirm_days": 0})
    settings = Settings.from_flat(
        {name: value for name, value in values.items() if name not in options.names()}
    )
    running: Running = {
        "workers": workers, "scheduler": scheduler, "scheduler_file": scheduler_file, "resources": resources,
        "mem_limit": mem_limit, "worker_timeout": worker_timeout, "retry_failed": retry_failed,
        "fail_fast": fail_fast, "upload": None, "dry_run": dry_run, "as_json": as_json,
    }  # fmt: skip
    every: list[Series] = []

    def read(sources: Path) -> list[Item]:
        every.extend(read_series(dates, sources, options, confirmations))
        return [item for series in every for item in series.items.values()]

    summary = run_pairs(ctx, read, folder, settings, running)
    if summary is None:
        return
    threshold, polygons = settings.resolved().method.decision, settings.polygons
    written = [
        write_series(folder, series, summary.done, threshold=threshold, settings=polygons) for series in every
    ]
    files = [path for paths in written if paths is not None for path in paths]
    print_summary(summary, folder, files, quiet=ctx.obj["quiet"])
