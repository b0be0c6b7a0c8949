"""``geocd series``: changes of many dates of a place, and which of them last."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geocd.cli.batch import (
    batch,
    checked_folder,
    print_summary,
    refuse_lists,
    run_pairs,
    running_options,
    source_options,
)
from geocd.cli.options import CONFIG, PathType

if TYPE_CHECKING:
    from geocd.batch.pairs import Item
    from geocd.batch.series import Series

#: Options of ``geocd batch`` that have no meaning for dates.
_NOT_SHARED = frozenset(
    {
        *("dates", "confirm_days", "merge", "status", "confirm", "baseline", "mask_confirm", "mask_baseline"),
        *("lasting_band", "refine", "upload"),
    }
)
#: Options of a series alone, and those that mean something else than for a batch.
_OWN = (
    click.Option(
        ["--confirmations"],
        type=click.IntRange(0),
        default=2,
        show_default=True,
        metavar="N",
        help="Compare each date with as many later ones, beside the next: a change lasts where at least half "
        "of them show it.",
    ),
    click.Option(
        ["--datetime", "interval"],
        metavar="FROM/TO",
        help="STAC API: search items in this interval, such as 2023-01-01/2024-12-31.",
    ),
    click.Option(
        ["--season-days"],
        type=int,
        metavar="N",
        help="Compare only dates of one season, at most N days of the year apart, of whatever years.",
    ),
    click.Option(
        ["--baseline-years"],
        type=int,
        default=0,
        metavar="N",
        help="The dates of up to N years before each pair, of its seasons, are its baseline: they tell what "
        "the place does by itself.",
    ),
    click.Option(["--json", "as_json"], is_flag=True, help="Print what --dry-run prints as JSON."),
)


def _options() -> list[click.Parameter]:
    """Return the options: first that of a series alone, then those of a batch in their order."""
    own = {option.name: option for option in _OWN}
    of_batch = [
        own.pop(param.name, param)
        for param in batch.params
        if isinstance(param, click.Option) and param.name not in _NOT_SHARED
    ]
    return [*own.values(), *of_batch]


@click.command(
    params=_options(), short_help="Detect changes in many dates of a place, and which of them last."
)
@click.argument("dates", type=PathType())
@click.argument("outdir", type=PathType())
@click.pass_context
def series(
    ctx: click.Context,
    /,
    dates: str,
    outdir: str,
    confirmations: int,
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

    running = running_options(values)
    values |= {"dates": None, "confirm_days": 0}  # of a batch alone
    options = source_options(values)
    settings = Settings.from_flat(values)
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
