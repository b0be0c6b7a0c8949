"""``geocd batch``."""

from __future__ import annotations

import datetime
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geocd.cli.options import PathType, settings_options
from geocd.vectorize.formats import FORMATS, merge_formats

if TYPE_CHECKING:
    from geocd.batch.pairs import Item
    from geocd.batch.run import Progress

#: Seconds between two lines of progress where nobody is looking.
_MINUTE = 60


class Resources(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """``NAME=AMOUNT``."""

    name = "resource"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return name and amount."""
        if isinstance(value, tuple):
            return value
        name, _, amount = value.partition("=")
        try:
            return name, float(amount)
        except ValueError:
            self.fail(f"{value!r}: write NAME=AMOUNT, for instance GPU=1.", param, ctx)


@click.command()
@click.argument("pairs", type=PathType(), required=False)
@click.argument("outdir", type=PathType(), required=False)
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Start N workers on this machine.")
@click.option("--scheduler", metavar="ADDRESS", help="Use a running dask scheduler: tcp://host:8786.")
@click.option(
    "--scheduler-file", type=PathType(), metavar="FILE", help="Use the scheduler that wrote this file."
)
@click.option(
    "--resource",
    "resources",
    type=Resources(),
    multiple=True,
    metavar="NAME=AMOUNT",
    help="What a pair needs of its worker, as workers were told to have: GPU=1.",
)
@click.option("--collection", metavar="ID", help="STAC API: the collection to search.")
@click.option(
    "--bbox", nargs=4, type=float, metavar="W S E N", help="STAC API: items that touch this box (degrees)."
)
@click.option(
    "--intersects", type=PathType(), metavar="FILE", help="STAC API: items that touch this GeoJSON."
)
@click.option(
    "--datetime",
    "interval",
    metavar="FROM/TO",
    help="STAC API: items of this time, 2023-01-01/2024-12-31. Default: 30 days around each of --dates.",
)
@click.option("--assets", metavar="KEYS", help="STAC: assets whose bands are compared: B02,B03,B04.")
@click.option(
    "--dates",
    nargs=2,
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="BEFORE AFTER",
    help="STAC: pair the items nearest to two days, YYYY-MM-DD. Default: each with the next one.",
)
@click.option("--max-cloud", type=float, metavar="PERCENT", help="STAC: leave out items with more cloud.")
@click.option("--mem-limit", type=click.IntRange(1), metavar="MB", help="Memory that each worker may take.")
@click.option("--retry-failed", is_flag=True, help="Try pairs again that failed before.")
@click.option("--fail-fast", is_flag=True, help="End at the first failure.")
@click.option(
    "--merge",
    type=click.Choice([suffix[1:] for suffix in merge_formats()]),
    is_flag=False,
    flag_value="gpkg",
    help="Also write all changes into one file in OUTDIR: "
    + " or ".join(f"changes{suffix} ({fmt.name})" for suffix, fmt in merge_formats().items())
    + ". Without a value: gpkg.",
)
@click.option("--upload", metavar="s3://BUCKET/FOLDER", help="Put every finished pair into a bucket too.")
@click.option(
    "--status",
    type=PathType(),
    metavar="OUTDIR",
    help="Print what has become of the pairs of a folder, and end.",
)
@settings_options()
@click.pass_context
def batch(
    ctx: click.Context,
    /,
    pairs: str | None,
    outdir: str | None,
    workers: int | None,
    scheduler: str | None,
    scheduler_file: str | None,
    resources: tuple[tuple[str, float], ...],
    collection: str | None,
    bbox: tuple[float, float, float, float] | None,
    intersects: str | None,
    interval: str | None,
    assets: str | None,
    dates: tuple[datetime.datetime, datetime.datetime] | None,
    max_cloud: float | None,
    mem_limit: int | None,
    retry_failed: bool,
    fail_fast: bool,
    merge: str | None,
    upload: str | None,
    status: str | None,
    **settings: Any,
) -> None:
    """Find the changes of many PAIRS on a dask cluster; the same command goes on after any interruption.

    PAIRS is a CSV, GeoPackage or GeoJSON with the columns id, before, after and, if wanted, valid; or a STAC
    ItemCollection or catalogue, or the address of a STAC API to search, whose items of one tile are paired by
    --dates or each with the next. Every pair is written into OUTDIR/<id>/ as by geocd detect, beside a
    catalogue (STAC) of all of them and a manifest of what has happened. Without a scheduler, one worker per
    processor is started here.

    Exit codes: 0 all done, 1 the run could not go on, 2 the options are at fault, 3 some pairs failed.
    """
    if status is not None:
        _print_status(Path(status))
        return
    if pairs is None or outdir is None:
        raise click.UsageError("PAIRS and OUTDIR are needed (or --status OUTDIR).")
    if "://" in outdir or outdir.startswith("/vsi"):
        raise click.UsageError(
            f"OUTDIR {outdir}: must be a folder of a file system. For a bucket, give a folder and "
            f"--upload {outdir}"
        )
    try:
        from geocd.batch import run as batches
    except ModuleNotFoundError as error:
        if error.name not in ("dask", "distributed"):
            raise
        raise click.UsageError("dask is not installed here: pip install 'geocd[batch]'.") from error
    if merge is not None and not (fmt := FORMATS[f".{merge}"]).installed:  # now, not after all pairs
        raise click.UsageError(
            f"--merge {merge} needs {fmt.requires}: pip install 'geocd[batch,{fmt.extra}]'."
        )
    # of what dies dask says more than a user needs (-v shows it); what it comes to we say ourselves
    quiet = logging.CRITICAL - 10 * ctx.obj["verbose"]
    for name in ("distributed", "distributed.client"):  # dask gives the second a level of its own
        logging.getLogger(name).setLevel(max(logging.getLogger().level, quiet))
    from geocd.batch.archive import merge_changes
    from geocd.batch.upload import Bucket
    from geocd.config import Settings

    folder = Path(outdir)
    days = None if dates is None else (dates[0].date(), dates[1].date())
    area = {"collection": collection, "bbox": bbox, "intersects": intersects, "interval": interval}
    items = _items(pairs, folder, assets, days, max_cloud, area)
    progress = None if ctx.obj["quiet"] else _Line(live=ctx.obj["progress"])
    summary = batches.run(
        items,
        folder,
        settings=Settings.from_flat(settings),
        cluster=batches.Cluster(
            workers=workers, scheduler=scheduler, scheduler_file=scheduler_file, resources=dict(resources)
        ),
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        mem_limit=mem_limit,
        upload=upload,
        progress=progress,
    )
    if progress is not None:
        progress.end()
    merged = merge_changes(folder, summary.done, merge) if merge and summary.done else None
    if merged is not None and upload is not None:
        Bucket(upload).send(merged, merged.name)
    if not ctx.obj["quiet"]:
        left = f", {summary.left} left" if summary.left else ""
        click.echo(
            f"{len(summary.done)} pairs done ({summary.computed} in this run), {len(summary.failed)} failed"
            f"{left}.\n{folder / 'catalog.json'}" + (f"\n{merged}" if merged else ""),
            err=True,
        )
    if summary.failed:
        click.echo(f"geocd batch --status {folder} names what failed and why.", err=True)
        sys.exit(3)


def _items(
    pairs: str,
    folder: Path,
    assets: str | None,
    dates: tuple[datetime.date, datetime.date] | None,
    max_cloud: float | None,
    area: dict[str, Any],
) -> list[Item]:
    from geocd.batch.pairs import read_items
    from geocd.batch.stac import Rule, is_stac, stac_pairs

    rule = Rule(
        assets=[key.strip() for key in assets.split(",")] if assets else (), dates=dates, max_cloud=max_cloud
    )
    if pairs.startswith(("http://", "https://")):
        return stac_pairs(_search(pairs, folder, dates, **area), folder, rule)
    if any(value is not None for value in area.values()):
        raise click.UsageError(
            "--collection, --bbox, --intersects and --datetime are for a STAC API (https://...); "
            f"{pairs} is none."
        )
    if is_stac(pairs):
        return stac_pairs(pairs, folder, rule)
    if rule != Rule():
        raise click.UsageError(f"--assets, --dates and --max-cloud are for STAC items; {pairs} holds none.")
    return read_items(pairs)


def _search(
    url: str,
    folder: Path,
    dates: tuple[datetime.date, datetime.date] | None,
    *,
    collection: str | None,
    bbox: tuple[float, float, float, float] | None,
    intersects: str | None,
    interval: str | None,
) -> Path:
    from geocd.batch.search import Search, find, read_geometry

    if collection is None or (bbox is None) == (intersects is None) or (dates is None and interval is None):
        raise click.UsageError(
            f"{url} is searched as a STAC API. That needs --collection, an area (--bbox or --intersects) "
            "and a time (--dates or --datetime)."
        )
    search = Search(
        url=url,
        collection=collection,
        bbox=bbox,
        intersects=None if intersects is None else read_geometry(intersects),
        interval=interval,
        dates=dates,
    )
    return find(search, folder)


def _print_status(folder: Path) -> None:
    from geocd.batch.manifest import status

    counts, records = status(folder)
    width = max((len(record["id"]) for record in records), default=2)
    for record in records:
        took = f"{record['seconds']:.1f} s" if "seconds" in record else ""
        why = f"{record['error']}: {record['message']}" if record["state"] == "failed" else ""
        click.echo(f"{record['id']:{width}s}  {record['state']:8s}{took:>10s}  {why}".rstrip())
    click.echo(", ".join(f"{count} {state}" for state, count in counts.items()))


class _Line:
    """One line of progress: drawn anew in a terminal, else written once a minute."""

    def __init__(self, *, live: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._live = live
        self._clock = clock
        self._next = clock() + _MINUTE

    def __call__(self, progress: Progress) -> None:
        if self._live:
            click.echo(f"\r\x1b[K{_words(progress)}", nl=False, err=True)
        elif self._clock() >= self._next:
            self._next = self._clock() + _MINUTE
            click.echo(_words(progress), err=True)

    def end(self) -> None:
        """Leave the line."""
        if self._live:
            click.echo(err=True)


def _words(progress: Progress) -> str:
    words = [f"{progress.done} of {progress.total} pairs done", f"{progress.failed} failed"]
    tiles = f" (tile {progress.tiles} of {progress.of_tiles})" if progress.of_tiles else ""
    words.append(f"{progress.running} running on {progress.workers} workers{tiles}")
    if not progress.workers:
        words.append("waiting for workers")
    if progress.pixels:
        words.append(f"{progress.pixels / 1e6 / max(progress.seconds, 1e-9):.3g} Mpx/s")
    if progress.left is not None:
        end = time.localtime(time.time() + progress.left)
        words.append(time.strftime("end about %a %H:%M", end))
    return ", ".join(words)
