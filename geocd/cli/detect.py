"""``geocd detect``: changes of one pair."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geocd.cli.console import echo
from geocd.cli.options import CONFIG, FilesCommand, PathType, settings_options

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

    from geocd.pipeline.estimate import Forecast
    from geocd.report.record import RunRecord
    from geocd.scene.registration import Alignment


@click.command(cls=FilesCommand, short_help="Detect changes between two rasters.")
@click.argument("before", type=PathType())
@click.argument("after", type=PathType())
@click.option(
    "-o",
    "--output",
    type=PathType(),
    metavar="STEM",
    help="Folder and beginning of the names of the outputs, or a folder. Default: <before>_<after> in that "
    "folder, or in the current one.",
)
@settings_options()
@click.option("-j", "--jobs", type=click.IntRange(1), metavar="N", help="Number of tiles computed at a time.")
@click.option(
    "--mem-limit",
    type=click.IntRange(1),
    metavar="MB",
    help="Memory that the process may take (1 MB = 2**20 bytes): first fewer tiles at a time, then smaller "
    "ones. Default, unless --jobs is given: about 2000, or 200 for each processor.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing outputs; edited ones are kept beside them.")
@click.option(
    "--resume", is_flag=True, help="Continue an interrupted run of the same outputs, if there is one."
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only estimate tiles, memory and time, by computing some tiles.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the STAC item to stdout.")
@click.option(
    "--progress",
    "progress_as",
    type=click.Choice(["bar", "json"]),
    default="bar",
    show_default=True,
    help="bar: a progress bar, in terminals only; json: a line on stderr for every step, for programs, such "
    'as {"stage": "tiles", "done": 3, "total": 16}.',
)
@click.pass_context
def detect(
    ctx: click.Context,
    /,
    before: str,
    after: str,
    output: str | None,
    jobs: int | None,
    mem_limit: int | None,
    overwrite: bool,
    resume: bool,
    dry_run: bool,
    as_json: bool,
    progress_as: str,
    **settings: Any,
) -> None:
    """Detect changes between BEFORE and AFTER, rasters of the same area on one grid (or see --align).

    Writes STEM_prob.tif (change probability, 0 to 1, nodata NaN), STEM_changes.gpkg (polygons), a QGIS style
    for each of them, STEM_report.html (read this first), STEM_quicklook.png, and STEM.json (a STAC item with
    inputs, settings and checksums).
    """
    from geocd.config import Settings
    from geocd.pipeline import estimate, run
    from geocd.pipeline.inputs import refuse_inputs
    from geocd.report.products import Outputs, default_stem, named_stem

    if dry_run:
        expected = estimate.forecast(
            before, after, settings=Settings.from_flat(settings), jobs=jobs, mem_limit=mem_limit
        )
        if as_json:
            echo(json.dumps(dataclasses.asdict(expected)))
        else:
            echo(f"{forecast_words(expected)}.")
        return
    stem = default_stem(before, after) if output is None else named_stem(output, before, after)
    refuse_inputs(Outputs(stem).paths().values(), ctx.meta.get(CONFIG, []))
    with shown_progress(
        "json" if progress_as == "json" else "bar" if ctx.obj["progress"] else None
    ) as progress:
        files, record = run.detect(
            before,
            after,
            stem,
            settings=Settings.from_flat(settings),
            overwrite=overwrite,
            resume=resume,
            jobs=jobs,
            mem_limit=mem_limit,
            progress=progress,
        )
    if as_json:
        echo(files["item"].read_text(encoding="utf-8").rstrip())
    if not ctx.obj["quiet"]:
        _print_result(files, record)


def _print_result(files: Mapping[str, Path], record: RunRecord) -> None:
    """Print what was ignored, what deserves a look, how much has changed, and the files to open."""
    from geocd.findings import unexpected
    from geocd.quantities import area_in_words
    from geocd.scene.ignore import described
    from geocd.vectorize.kinds import in_words

    summary = record.summary
    if record.alignment is not None:
        echo(_aligned(record.alignment), err=True)
    if summary.ignored_share:
        shares = (
            f"{share:.2%} as {described(kind, record.clouds)}"
            for kind, share in summary.ignored_share.items()
        )
        echo(f"Ignored of the valid area: {'; '.join(shares)}.", err=True)
    if record.clouds is not None:
        echo(str(record.clouds), err=True)
    for finding in unexpected(record.findings):
        echo(f"{finding.label}: {finding}", err=True)
    echo(
        f"{summary.changed_share:.2%} of the valid area changed: {summary.n_polygons} polygons, "
        f"{area_in_words(summary.area_m2)} (probability of {record.threshold:g} or more).\n"
        f"{in_words(summary.kinds)}"
        f"{files['report']}\n{files['prob']}\n{files['changes']}",
        err=True,
    )


def _aligned(alignment: Alignment) -> str:
    """Return a sentence that says what ``--align`` did."""
    if alignment.resampling is None:
        words = "Before and after are on one grid."
    else:
        words = (
            f"After was warped onto the grid of before ({alignment.resampling}), "
            f"of which it covers {alignment.overlap:.1%}."
        )
    note = "" if alignment.shift is None else alignment.shift.note
    return f"{words} {note[:1].upper()}{note[1:]}{'.' * bool(note)}".rstrip()


def forecast_words(expected: Forecast) -> str:
    """Return the tiles, memory and time that a run is expected to take, in words."""
    return (
        f"{expected.tiles} tile{'s' * (expected.tiles > 1)} of {expected.tile_size} px, "
        f"{expected.jobs} at a time; about {expected.peak} MB at most"
        + ("" if expected.seconds is None else f", about {_duration(expected.seconds)}")
    )


def _duration(seconds: float) -> str:
    """Return a duration with its unit: h and min from two of them on, else s."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


@contextlib.contextmanager
def shown_progress(kind: str | None) -> Iterator[Callable[[str, int, int], None] | None]:
    """Show one bar for each stage, write a line of JSON for each step, or neither."""
    if kind is None:
        yield None
        return
    if kind == "json":
        yield lambda stage, done, total: echo(
            json.dumps({"stage": stage, "done": done, "total": total}), err=True
        )
        return
    with contextlib.ExitStack() as stack:
        bars: dict[str, ProgressBar[int]] = {}
        shown: dict[str, int] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                stack.close()  # ends the line of the previous bar
                bar = click.progressbar(length=total, label=f"{stage:9s}", file=sys.stderr)
                bars[stage] = stack.enter_context(bar)
            bars[stage].update(done - shown.get(stage, 0))
            shown[stage] = done

        yield show
