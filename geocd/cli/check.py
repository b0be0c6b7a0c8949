"""``geocd check``: whether two rasters are a usable pair."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from geocd.cli.console import echo
from geocd.cli.detect import forecast_words
from geocd.cli.options import PathType, settings_options
from geocd.config import Align, Nodata
from geocd.stages import COMPANIONS

if TYPE_CHECKING:
    from geocd.check import PairReport


@click.command(short_help="Check whether two rasters are a usable pair.")
@click.argument("before", type=PathType())
@click.argument("after", type=PathType())
@settings_options("bidx", "nodata", "align", "valid", "aoi", *COMPANIONS)
@click.option(
    "--time", "timed", is_flag=True, help="Also estimate how long a run takes, by computing some tiles."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def check(
    ctx: click.Context,
    /,
    before: str,
    after: str,
    bidx: tuple[int | str, ...] | None,
    nodata: Nodata | None,
    valid: str | None,
    align: Align,
    aoi: str | None,
    timed: bool,
    as_json: bool,
    **companions: object,
) -> None:
    """Check whether BEFORE and AFTER are a usable pair, and what to expect of it.

    Compares grids, bands, data types, dates, valid area and brightness, and measures the shift between the
    two images. Estimates the tiles and the memory that 'geocd detect' takes with its defaults. Ends with a
    verdict: fit, fit with care (there are warnings) or not fit (there is an error). Exits with 1 when 'geocd
    detect' would refuse the pair with the same --align.
    """
    from geocd.check import check_pair
    from geocd.config import Settings
    from geocd.pipeline.estimate import forecast

    report = check_pair(
        before, after, indexes=bidx, nodata=nodata, valid=valid, align=align, aoi=aoi, **companions
    )
    run = None
    if report.usable:
        flat = {"bidx": bidx, "nodata": nodata, "valid": valid, "align": align, "aoi": aoi}
        run = forecast(before, after, settings=Settings.from_flat({**flat, **companions}), measure=timed)
    if as_json:
        content = report.as_dict() | {"run": None if run is None else dataclasses.asdict(run)}
        echo(json.dumps(content, allow_nan=False))
    else:
        for name, value in _rows(report):
            echo(f"{name:12s} {value}")
        if run is not None:
            echo(f"{'a run':12s} {forecast_words(run)}")
        for finding in report.findings:
            if finding.text != report.problem:  # the reason of the verdict
                echo(f"{finding.label:12s} {finding}")
        echo(f"{'usable':12s} {_conclusion(report)}")
    if not report.usable:
        ctx.exit(1)


def _conclusion(report: PairReport) -> str:
    """Return whether the pair can be used, and the verdict that follows from the findings."""
    if not report.usable:
        return f"no: {report.problem}"
    if report.verdict == "not fit":
        return "no, not fit: see the error above"
    return "yes, fit" if report.verdict == "fit" else "yes, fit with care: see the warnings above"


def _rows(report: PairReport) -> list[tuple[str, str]]:
    """Return the table of a report: a name (empty where a row continues the last one) and a text."""
    rows = []
    for which, date in (("before", report.before), ("after", report.after)):
        size = "" if date.pixel_size_m is None else f", {date.pixel_size_m:.4g} m on the ground"
        rows += [
            (which, date.path),
            ("", f"{date.grid}{size}"),
            (
                "",
                f"{len(date.bands)} band{'s' * (len(date.bands) > 1)} ({', '.join(date.bands)}), "
                f"{date.dtype}, "
                f"nodata {'not declared' if date.nodata is None else f'{date.nodata:g}'}, "
                f"{'date unknown' if date.date is None else f'taken {date.date}'}",
            ),
        ]
    if report.overlap is not None:
        rows.append(("overlap", f"{report.overlap:.1%} of the before image"))
    if report.resampling is not None:
        how = "after is warped" if report.align != "none" else "--align grid would warp after"
        ratio = report.pixel_ratio
        same_size = ratio is None or abs(ratio - 1) < 0.02
        width = "" if same_size else f"; its pixels are {ratio:.3g} times as wide"
        rows.append(("align", f"{how} onto the grid of before ({report.resampling}{width})"))
    if report.removed is not None:
        rows.append(("" if report.resampling else "align", report.removed.note))
    if report.valid_share is not None:
        rows.append(("valid", f"{report.valid_share:.1%} of the pixels, in both dates"))
    if report.gain is not None and report.offset is not None:
        rows.append(
            (
                "light",
                f"after = {report.gain:.3g} x before {'+' if report.offset >= 0 else '-'} "
                f"{abs(report.offset):.4g}, correlation {report.correlation:.2f} (medians over bands)",
            )
        )
    if report.usable:
        shift = report.shift
        if shift is None or not shift.measurable:
            rows.append(("shift", "not measurable"))
        else:
            lies = "still lies" if report.removed is not None else "lies"
            rows.append(
                (
                    "shift",
                    f"after {lies} {_direction(shift.row, 'down', 'up')} and "
                    f"{_direction(shift.col, 'right', 'left')} (windows agree to {shift.spread:.2f} px)",
                )
            )
    return rows


def _direction(pixels: float, positive: str, negative: str) -> str:
    """Return a shift in words: 0.31 px left."""
    return f"{abs(pixels):.2f} px {positive if pixels >= 0 else negative}"
