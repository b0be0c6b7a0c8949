"""``geocd estimate``: areas of change from judged points."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geocd.cli.console import echo
from geocd.cli.options import PathType
from geocd.errors import VerdictError

if TYPE_CHECKING:
    from geocd.review.areas import AreaReport
    from geocd.review.estimation import ClassEstimate, Interval, Quantity


@click.command(short_help="Areas of change, with intervals, from judged points.")
@click.argument("stem", type=PathType())
@click.option(
    "--verdicts",
    type=PathType(),
    metavar="FILE",
    help="CSV or GeoJSON with the columns id and verdict, beside the verdicts of the sample itself. Default: "
    "STEM_sample_verdicts.csv or .geojson, where there is one.",
)
@click.option(
    "--interval",
    type=click.Choice(["jeffreys", "wald"]),
    default="jeffreys",
    show_default=True,
    help="How the 95 % intervals are computed: jeffreys holds where errors are rare; wald is plus or minus "
    "1.96 standard errors, as in Olofsson et al. (2014), and often too short.",
)
@click.option("--csv", "csv_file", type=PathType(), metavar="FILE", help="Also write all estimates as CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print the estimates as JSON.")
def estimate(
    stem: str, verdicts: str | None, interval: Interval, csv_file: str | None, as_json: bool
) -> None:
    """Estimate the area of change, its 95 % interval, and the accuracy of the map, from judged points.

    STEM is that of 'geocd sample'; or the file of a sample. The area counts what the map has missed, and does
    not count what it has too much: it is the figure to publish, not the area of the polygons. Points that are
    not judged yet, and unsure ones, are left out.
    """
    from geocd.pipeline.inputs import refuse_inputs
    from geocd.raster.files import output_errors
    from geocd.replacing import write
    from geocd.review import areas
    from geocd.review.verdicts import verdict_file

    path = _sample_file(stem)
    judged = verdicts or verdict_file(path.with_suffix(""))
    if csv_file is not None:
        points = [path, path.with_suffix(".gpkg"), path.with_suffix(".csv")]  # verdicts may be in either
        refuse_inputs([Path(csv_file)], [*points, *([Path(judged)] if judged else [])])
    report = areas.estimate(path, verdicts=judged, interval=interval)
    if csv_file is not None:
        with output_errors(csv_file):
            write(Path(csv_file), report.as_csv().encode("utf-8"))
    if as_json:
        echo(json.dumps(report.as_dict(), allow_nan=False))
    else:
        for line in _lines(report):
            echo(line)
    for note in report.notes:
        echo(f"note: {note}", err=True)


def _sample_file(stem: str) -> Path:
    """Return the file of the sample that a user means.

    Raises
    ------
    VerdictError
        There is none.
    """
    from geocd.report.products import stem_of

    path = Path(stem)
    if path.is_file() and stem_of(stem) == path:
        return path
    sample = Path(f"{stem_of(stem)}_sample.gpkg")
    if not sample.is_file():
        raise VerdictError(
            f"{sample}: no such file. Draw the points first: geocd sample {stem}", path=str(sample)
        )
    return sample


def _lines(report: AreaReport) -> Iterator[str]:
    """Yield the report as text."""
    from geocd.quantities import area_in_words

    unsure = f", {report.unsure} unsure" if report.unsure else ""
    yield f"{report.judged} of {report.points} points judged{unsure}; {area_in_words(report.total_m2)} in all"
    yield ""
    yield _row("area", "estimate", "95 % interval", "in the map")
    for entry in (*report.classes, *report.kinds):
        yield _row(f"  {_name(entry)}", *_area(entry, report))
    yield _row("user's accuracy (right of what is in the map)")
    for entry in (*report.classes, *report.kinds):
        yield _row(f"  {_name(entry)}", *_share(entry.users))
    yield _row("producer's accuracy (in the map of what is true)")
    for entry in (*report.classes, *report.kinds):
        yield _row(f"  {_name(entry)}", *_share(entry.producers))
    yield _row("overall accuracy", *_share(report.overall))


def _name(entry: ClassEstimate) -> str:
    """Return the class as people read it."""
    from geocd.vectorize.kinds import LABELS

    return LABELS.get(entry.name, entry.name)


def _row(*cells: str) -> str:
    widths = (26, 14, 28, 0)
    return "".join(f"{cell:{width}s}" for cell, width in zip(cells, widths, strict=False)).rstrip()


def _area(entry: ClassEstimate, report: AreaReport) -> tuple[str, str, str]:
    """Return an area, its interval and the area in the map."""
    from geocd.quantities import area_in_words

    area = entry.area
    mapped = report.mapped_m2.get(entry.name)
    interval = f"{area_in_words(max(area.low, 0))} to {area_in_words(area.high)}"
    return area_in_words(area.estimate), interval, "" if mapped is None else area_in_words(mapped)


def _share(quantity: Quantity) -> tuple[str, str]:
    """Return a share and its interval."""
    if math.isnan(quantity.estimate):
        return "-", ""
    return f"{quantity.estimate:.2f}", f"{max(quantity.low, 0):.2f} to {min(quantity.high, 1):.2f}"
