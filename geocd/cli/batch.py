"""``geocd batch``: changes of many pairs on a dask cluster."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geocd.cli.console import echo
from geocd.cli.options import CONFIG, FilesCommand, PathType, settings_options
from geocd.errors import BatchInterrupted
from geocd.vectorize.formats import FORMATS, merge_formats

if TYPE_CHECKING:
    from geocd.batch.pairs import Item
    from geocd.batch.progress import Progress
    from geocd.batch.run import Plan, Summary
    from geocd.batch.sources import SourceOptions
    from geocd.config import Settings

#: Seconds between two lines of progress where stderr is no terminal.
_INTERVAL = 60


class Resources(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """A resource of dask workers and the amount of it: ``NAME=AMOUNT``."""

    name = "resource"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name and the amount (a float)."""
        if isinstance(value, tuple):
            return value
        name, _, amount = value.partition("=")
        try:
            return name, float(amount)
        except ValueError:
            self.fail(f"{value!r}: write NAME=AMOUNT, such as GPU=1.", param, ctx)


@click.command(cls=FilesCommand, short_help="Detect changes in many pairs on a dask cluster.")
@click.argument("pairs", type=PathType(), required=False)
@click.argument("outdir", type=PathType(), required=False)
@click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    help="Number of workers to start on this machine. Default: one per processor.",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Use the dask scheduler at this address: tcp://host:8786."
)
@click.option(
    "--scheduler-file", type=PathType(), metavar="FILE", help="Use the dask scheduler that wrote this file."
)
@click.option(
    "--resource",
    "resources",
    type=Resources(),
    multiple=True,
    metavar="NAME=AMOUNT",
    help="Resource that each pair needs, as dask workers declare it: GPU=1.",
)
@click.option(
    "--worker-timeout",
    type=click.FloatRange(0),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="End with an error where a scheduler elsewhere has had no worker for this long.",
)
@click.option("--collection", metavar="ID", help="STAC API: collection to search.")
@click.option(
    "--bbox",
    nargs=4,
    type=float,
    metavar="W S E N",
    help="STAC API: search items that intersect this box (degrees), and compare what lies in it (see --aoi).",
)
@click.option(
    "--intersects",
    type=PathType(),
    metavar="FILE",
    help="STAC API: search items that intersect this GeoJSON file, and compare what lies in its polygons.",
)
@click.option(
    "--datetime",
    "interval",
    metavar="FROM/TO",
    help="STAC API: search items in this interval, such as 2023-01-01/2024-12-31. Default: within 30 days of "
    "each of --dates.",
)
@click.option("--assets", metavar="KEYS", help="STAC: assets whose bands are compared, such as B02,B03,B04.")
@click.option(
    "--features-assets",
    metavar="KEYS",
    help="STAC: assets with features made elsewhere (see --features-before), one more distance.",
)
@click.option(
    "--mask-asset",
    metavar="KEY|none",
    help="STAC: asset with the quality mask (see --mask-before). Default: scl, qa_pixel, Fmask or udm2, where"
    " there is one.",
)
@click.option(
    "--dates",
    nargs=2,
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="BEFORE AFTER",
    help="STAC: pair the items nearest to two days, YYYY-MM-DD. Default: each item with the next.",
)
@click.option(
    "--season-days",
    type=int,
    metavar="N",
    help="STAC: pair each item with that of the next year nearest in the season, at most N days of the year "
    "apart.",
)
@click.option(
    "--baseline-years",
    type=int,
    default=0,
    metavar="N",
    help="STAC: the items of up to N years before each pair, of its seasons, are its --baseline.",
)
@click.option(
    "--confirm-days",
    type=int,
    default=0,
    metavar="N",
    help="STAC: items of up to N days after each pair (at most 6, spread over them) are its --confirm.",
)
@click.option(
    "--max-cloud",
    type=float,
    metavar="PERCENT",
    help="STAC: leave out items with more cloud cover than this.",
)
@click.option(
    "--sign",
    metavar="planetary-computer|MODULE:FUNCTION",
    help="Sign links when they are read: with the tokens of the Planetary Computer, or by a Python function "
    "that takes a link and returns it signed.",
)
@click.option(
    "--mem-limit",
    type=click.IntRange(1),
    metavar="MB",
    help="Memory that each worker may take (1 MB = 2**20 bytes).",
)
@click.option("--retry-failed", is_flag=True, help="Try again the pairs that failed before.")
@click.option("--fail-fast", is_flag=True, help="Stop at the first failure.")
@click.option(
    "--merge",
    type=click.Choice([suffix[1:] for suffix in merge_formats()]),
    is_flag=False,
    flag_value="gpkg",
    help="Also write all changes into one file in OUTDIR: "
    + " or ".join(f"changes{suffix} ({fmt.name})" for suffix, fmt in merge_formats().items())
    + ". Without a value: gpkg.",
)
@click.option(
    "--upload", metavar="s3://BUCKET/FOLDER", help="Also upload every finished pair to this bucket."
)
@click.option(
    "--status",
    type=PathType(),
    metavar="OUTDIR",
    help="Print the state of every pair of a batch, and exit.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be computed and why, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print what --status and --dry-run print as JSON.")
@settings_options()
@click.pass_context
def batch(
    ctx: click.Context,
    /,
    pairs: str | None,
    outdir: str | None,
    merge: str | None,
    status: str | None,
    **values: Any,
) -> None:
    """Detect the changes of many PAIRS on a dask cluster; run the same command again to continue.

    PAIRS is a CSV, GeoPackage or GeoJSON with the columns id, before, after and, optionally, valid,
    mask_before, mask_after, features_before, features_after, baseline and confirm, and settings of single
    pairs (threshold, min_area, aoi, ...); or a STAC ItemCollection or catalogue, or the address of a STAC API
    to search. STAC items of the same tile are paired by --dates or --season-days, or each with the next.
    Every pair is written into OUTDIR/<id>/ as by geocd detect, beside a STAC catalogue of all pairs, a page
    that shows them (index.html) and a manifest of what has happened. Without a scheduler, one worker per
    processor is started on this machine.

    Exit codes: 0 all pairs are done, 1 the batch could not continue, 2 an option is wrong, 3 some pairs
    failed.
    """
    running = running_options(values)
    if status is not None:
        _print_status(Path(status), as_json=running.as_json)
        return
    folder = checked_folder(pairs, outdir, merge)
    refuse_lists([pairs, values["intersects"], *ctx.meta.get(CONFIG, [])], folder, merge)
    from geocd.batch.sources import read_pairs
    from geocd.config import Settings

    options = source_options(values)
    summary = run_pairs(
        ctx,
        lambda sources: read_pairs(str(pairs), sources, options),
        folder,
        Settings.from_flat(values),
        running,
    )
    if summary is None:
        return
    merged = _merged(folder, summary, merge, running.upload) if merge and summary.done else None
    print_summary(summary, folder, [] if merged is None else [merged], quiet=ctx.obj["quiet"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Running:
    """Options that say where and how pairs are done, as those of the command."""

    workers: int | None
    scheduler: str | None
    scheduler_file: str | None
    resources: tuple[tuple[str, float], ...]
    worker_timeout: float
    mem_limit: int | None
    retry_failed: bool
    fail_fast: bool
    upload: str | None = None
    dry_run: bool
    as_json: bool


def running_options(values: dict[str, Any]) -> Running:
    """Take the options that say where and how pairs are done out of those of the command."""
    names = [field.name for field in dataclasses.fields(Running)]
    return Running(**{name: values.pop(name) for name in names if name in values})


def run_pairs(
    ctx: click.Context,
    read: Callable[[Path], Sequence[Item]],
    folder: Path,
    settings: Settings,
    running: Running,
) -> Summary | None:
    """Do pairs, with progress on the console; or print what would be done, and return None.

    Parameters
    ----------
    ctx : click.Context
    read : callable
        Returns the pairs, from the folder that their source may write into.
    folder : pathlib.Path
        Folder of the batch.
    settings : Settings
    running : Running
    """
    from geocd.batch.run import Cluster, planned, run

    quiet_dask(ctx.obj["verbose"])  # after the imports: dask sets these levels when it is imported
    if running.dry_run:
        with tempfile.TemporaryDirectory() as scratch:  # for what a search finds: nothing is written
            items = read(Path(scratch))
        plan = planned(
            items,
            folder,
            settings=settings,
            mem_limit=running.mem_limit,
            retry_failed=running.retry_failed,
            upload=running.upload,
        )
        _print_plan(plan, as_json=running.as_json)
        return None
    cluster = Cluster(
        workers=running.workers,
        scheduler=running.scheduler,
        scheduler_file=running.scheduler_file,
        resources=dict(running.resources),
        mem_limit=running.mem_limit,
        worker_timeout=running.worker_timeout,
    )
    progress = None if ctx.obj["quiet"] else _ProgressLine(live=ctx.obj["progress"])
    summary = run(
        read(folder),
        folder,
        settings=settings,
        cluster=cluster,
        retry_failed=running.retry_failed,
        fail_fast=running.fail_fast,
        upload=running.upload,
        progress=progress,
    )
    if progress is not None:
        progress.end()
    return summary


def checked_folder(pairs: str | None, outdir: str | None, merge: str | None) -> Path:
    """Return the folder of the batch, after checks that need no cluster."""
    if pairs is None or outdir is None:
        raise click.UsageError("PAIRS and OUTDIR are needed (or --status OUTDIR).")
    if "://" in outdir or outdir.startswith("/vsi"):
        raise click.UsageError(
            f"OUTDIR {outdir}: must be a folder of a file system. For a bucket, name a folder and pass "
            f"--upload {outdir}"
        )
    if not all(map(importlib.util.find_spec, ("dask", "distributed"))):
        raise click.UsageError("dask is not installed here: pip install 'geocd[batch]'.")
    if merge is not None and not (fmt := FORMATS[f".{merge}"]).installed:  # now, not after all pairs
        raise click.UsageError(
            f"--merge {merge} needs {fmt.requires}: pip install 'geocd[batch,{fmt.extra}]'."
        )
    return Path(outdir)


def refuse_lists(lists: Sequence[str | Path | None], folder: Path, merge: str | None) -> None:
    """Refuse to write over what the batch is made from."""
    from geocd.batch.archive import CATALOG, CHANGES
    from geocd.batch.manifest import NAME
    from geocd.pipeline.inputs import refuse_inputs

    outputs = [CATALOG, NAME, *([] if merge is None else [f"{CHANGES}.{merge}"])]
    refuse_inputs([folder / name for name in outputs], [Path(path) for path in lists if path is not None])


def quiet_dask(verbose: int) -> None:
    """Hide dask's messages about workers that die, unless -v: geocd reports what they lead to."""
    level = max(logging.getLogger().level, logging.CRITICAL - 10 * verbose)
    # the second has a level of its own; workers that cannot be started again are errors of the last two
    for name in ("distributed", "distributed.client", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(level)


def _merged(folder: Path, summary: Summary, suffix: str, upload: str | None) -> Path:
    """Write the changes of all pairs into one file, upload it where a bucket is named, and return it."""
    from geocd.batch.archive import merge_changes
    from geocd.batch.upload import Bucket

    try:
        path = merge_changes(folder, summary.done, suffix)
        if upload is not None:
            Bucket(upload).send(path, path.name)
    except KeyboardInterrupt as interrupt:
        total = len(summary.done) + len(summary.failed) + summary.left
        raise BatchInterrupted(str(folder), len(summary.done), total) from interrupt
    return path


def print_summary(summary: Summary, folder: Path, others: Sequence[Path], *, quiet: bool) -> None:
    """Print what has become of the pairs, and the files of all of them; exit with 3 where pairs failed."""
    if not quiet:
        left = f", {summary.left} left" if summary.left else ""
        echo(
            f"{len(summary.done)} pairs done ({summary.computed} in this run), {len(summary.failed)} failed"
            f"{left}.\n{folder / 'index.html'}\n{folder / 'catalog.json'}"
            + "".join(f"\n{path}" for path in others),
            err=True,
        )
    if summary.failed:
        echo(f"geocd batch --status {folder} lists which pairs failed, and why.", err=True)
        sys.exit(3)


def source_options(values: dict[str, Any]) -> SourceOptions:
    """Take the options of the source of pairs out of those of the command."""
    from geocd.batch.sources import SourceOptions

    names = [field.name for field in dataclasses.fields(SourceOptions)]
    options = {name: values.pop(name) for name in names}
    for name in ("assets", "features_assets"):
        options[name] = _keys(options[name])
    if options["dates"] is not None:
        options["dates"] = tuple(day.date() for day in options["dates"])
    return SourceOptions(**options)


def _keys(listed: str | None) -> tuple[str, ...]:
    """Return the keys in a list separated by commas."""
    return tuple(key.strip() for key in listed.split(",")) if listed else ()


def _print_plan(plan: Plan, *, as_json: bool) -> None:
    """Print what would be computed."""
    if as_json:
        content = {"todo": plan.todo, "finished": plan.finished, "skipped": plan.skipped}
        echo(json.dumps(content, allow_nan=False))
        return
    for name, why in plan.todo.items():
        echo(f"{name}: {why}")
    counts = len(plan.todo), len(plan.finished), len(plan.skipped)
    echo("{} to compute, {} up to date, {} failed before and skipped".format(*counts))


def _print_status(folder: Path, *, as_json: bool) -> None:
    from geocd.batch.manifest import findings_of, status

    counts, records = status(folder)
    if as_json:
        echo(json.dumps({"counts": counts, "pairs": records}, allow_nan=False))
        return
    width = max((len(record["id"]) for record in records), default=2)
    for record in records:
        seconds = record.get("seconds")
        duration = "" if seconds is None else f"{seconds:.1f} s"
        reason = f"{record['error']}: {record['message']}" if record["state"] == "failed" else ""
        echo(f"{record['id']:{width}s}  {record['state']:8s}{duration:>10s}  {reason}".rstrip())
        for finding in findings_of(record):
            echo(f"{'':{width}s}  {finding.label}: {finding}")
    echo(", ".join(f"{count} {state}" for state, count in counts.items()))


class _ProgressLine:
    """One line of progress, redrawn in a terminal, else printed once a minute."""

    def __init__(self, *, live: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._live = live
        self._clock = clock
        self._next = clock() + _INTERVAL

    def __call__(self, progress: Progress) -> None:
        if self._live:
            click.echo(f"\r\x1b[K{progress_words(progress)}", nl=False, err=True)
        elif self._clock() >= self._next:
            self._next = self._clock() + _INTERVAL
            echo(progress_words(progress), err=True)

    def end(self) -> None:
        """End the line in a terminal, so that what follows starts on a new one."""
        if self._live:
            echo(err=True)


def progress_words(progress: Progress) -> str:
    """Return a sentence that says how far a batch is."""
    words = [f"{progress.done} of {progress.total} pairs done", f"{progress.failed} failed"]
    parts = [f"fitting, step {progress.steps} of {progress.of_steps}"] if progress.of_steps else []
    parts += [f"tile {progress.tiles} of {progress.of_tiles}"] if progress.of_tiles else []
    within = f" ({'; '.join(parts)})" if parts else ""
    words.append(f"{progress.running} running on {progress.workers} workers{within}")
    if not progress.workers:
        words.append("waiting for workers")
    if progress.pixels:
        words.append(f"{progress.pixels / 1e6 / max(progress.seconds, 1e-9):.3g} Mpx/s")
    if progress.left is not None:
        end = time.localtime(time.time() + progress.left)
        words.append(time.strftime("end about %a %H:%M", end))
    return ", ".join(words)
