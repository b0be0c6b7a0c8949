"""The report of a run: one self-contained HTML page for readers who write no code.

Texts, tables and charts are made from the record, pictures from thumbnails; a template puts them together.
What comes from files (names, tags) is escaped by the template engine, and the page's content security policy
forbids everything that is not part of the page, so that it sends no requests.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import importlib.resources
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import markupsafe

from geocd.coercion import option
from geocd.config import PATHS
from geocd.location import Location
from geocd.quantities import area_in_words, day
from geocd.raster.files import output_errors
from geocd.raster.grid import crs_label
from geocd.report.charts import histogram, loss_curve
from geocd.report.fingerprint import sha256
from geocd.report.links import source_href
from geocd.report.pictures import chips, overview
from geocd.report.places import Lattice, Places
from geocd.report.quicklook import RAMP
from geocd.report.record import FinishedRun, RunRecord
from geocd.report.words import (
    APART,
    METHODS,
    READING,
    alignment_in_words,
    bands_in_words,
    explanation,
    headline,
    losses_in_words,
    pair_verdict,
    seam_in_words,
    shift_in_words,
)
from geocd.vectorize.kinds import LABELS, KindTotal

#: Places in the table for readers without scripts.
ROWS = 10
#: Rows of the table of what became of what; the rest is one more.
MOST_KINDS = 8
#: Styles and scripts of the page, in this order; a map library from npm, the rest geocd's own.
STYLES = ("leaflet.css", "report.css")
SCRIPTS = (
    "leaflet.js",
    "data.js",
    "map.js",
    "list.js",
    "detail.js",
    "verdicts.js",
    "exports.js",
    "report.js",
)
_DATE = re.compile(r"\b\d{4}-\d\d-\d\d\b")
_OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*[a-z]\b")
_SOURCE_MAP = re.compile(r"^//# sourceMappingURL=.*\n?", re.MULTILINE)


def write_page(run: FinishedRun, destination: Path) -> None:
    """Write the report of a run.

    Its bytes depend on the result and the settings of the run alone, except for the section with the id
    ``times``.

    Parameters
    ----------
    run : FinishedRun
        Its thumbnails have the size of the pictures on the page.
    destination : pathlib.Path
        The HTML file.

    Raises
    ------
    OutputError
        The outputs of the run cannot be read, or the page cannot be written.
    """
    with output_errors(destination):  # reads what was written
        checksums = {path.name: sha256(path) for path in (run.paths["prob"], run.paths["changes"])}
    places = Places.of(run.paths["changes"], run.record.grid, run.thumbnails.prob.shape)
    text = template("report.html").render(
        **_resources(),
        **_texts(run),
        **_map(run, places, checksums[run.paths["changes"].name]),
        record=run.record,
        histogram=histogram(run.record.histogram, run.record.threshold),
        losses=(losses := loss_curve(run.record.losses)),
        losses_note=losses_in_words(run.record.losses) if losses else "",
        checksums=checksums,
        settings=_settings(run.record.settings, run.folder),
        times=_times(run.record, run.created),
    )
    with output_errors(destination):
        destination.write_bytes(text.encode())


def _resources() -> dict[str, object]:
    """Return styles, scripts, the policy that permits them, and the licence of those that are not ours."""
    styles, scripts = ([_resource(name) for name in names] for names in (STYLES, SCRIPTS))
    return {
        "policy": _policy(styles, scripts),
        "styles": [markupsafe.Markup(style) for style in styles],
        "scripts": [markupsafe.Markup(script) for script in scripts],
        "licence": markupsafe.escape(_resource("LICENSE-leaflet").strip()),  # with its line ends
    }


def _texts(run: FinishedRun) -> dict[str, object]:
    """Return names, dates and sentences."""
    record, summary = run.record, run.record.summary
    sources = {"before": record.before, "after": record.after}
    return {
        "names": {date: Location(path).name for date, path in sources.items()},
        "dates": {"before": day(record.date_before), "after": day(record.date_after)},
        "inputs": {date: source_href(path, run.folder) for date, path in sources.items()},
        "headline": headline(record),
        "explanation": explanation(record),
        "verdict": pair_verdict(record),
        "alarming": any(finding.severity != "info" for finding in record.findings),
        "findings": [
            *((finding.label, str(finding)) for finding in record.findings),
            *([("note", APART)] if run.thumbnails.apart else []),
        ],
        "reading": READING,
        "bands": bands_in_words(record.band_names),
        "method": METHODS.get(record.method, record.method),
        "shift": shift_in_words(summary.shift, record.grid.pixel_size),
        "alignment": alignment_in_words(record.alignment),
        "seam": seam_in_words(summary.seam_score),
    }


def _map(run: FinishedRun, places: Places, checksum: str) -> dict[str, object]:
    """Return the pictures, the places, and what the scripts read as JSON."""
    thumbnails, grid = run.thumbnails, run.record.grid
    height, width = thumbnails.prob.shape
    rows, cols = thumbnails.scale
    lattice = Lattice.of(grid)
    data = {
        "stem": run.paths["changes"].name.removesuffix("_changes.gpkg"),
        "key": checksum[:16],
        "grid": {
            "width": grid.width,
            "height": grid.height,
            "transform": list(grid.transform)[:6],
            "crs": crs_label(grid.crs),
            "pixel": grid.pixel_size,
        },
        "lattice": None if lattice is None else dataclasses.asdict(lattice),
        "columns": places.columns,
        "kinds": LABELS,
        "chips": [dataclasses.asdict(chip) for chip in chips(thumbnails, places)],
        "native": thumbnails.prob.shape == thumbnails.grid_shape,
    }
    return {
        "data": data,
        "images": overview(thumbnails),
        "size": (width * cols, height * rows),
        "box": (grid.width, grid.height),
        "apart": thumbnails.apart,
        "ramp": [(stop, f"#{r:02x}{g:02x}{b:02x}", alpha / 255) for stop, (r, g, b), alpha in RAMP],
        "became": _became(run.record.summary.kinds),
        "outlines": places.outlines,
        "list_columns": _list_columns(places),
        "list_note": _list_note(places, run.record.summary.n_polygons),
        "largest": _rows(places),
    }


@dataclasses.dataclass(frozen=True)
class Became:
    """A row of the table of what became of what: ``kind`` is None for the rest of them together."""

    words: str
    label: str
    kind: str | None
    n_polygons: str
    area: str
    share: float


def _became(totals: Sequence[KindTotal]) -> list[Became]:
    """Return what became of what, the largest area first."""
    whole = sum(total.area_m2 for total in totals) or 1.0
    rows = [
        Became(
            words=total.words,
            label=LABELS[total.kind],
            kind=total.kind,
            n_polygons=f"{total.n_polygons:,}",
            area=area_in_words(total.area_m2),
            share=total.area_m2 / whole,
        )
        for total in totals[:MOST_KINDS]
    ]
    if rest := totals[MOST_KINDS:]:
        area = sum(total.area_m2 for total in rest)
        count = sum(total.n_polygons for total in rest)
        rows.append(Became("others", "", None, f"{count:,}", area_in_words(area), area / whole))
    return rows


def _list_columns(places: Places) -> list[tuple[str, str]]:
    """Return columns of the list and their titles; there is room for one likelihood."""
    likelihood = ("relevance", "relevance") if "relevance" in places.columns else ("p_mean", "mean P")
    kind = [("kind", "kind")] if "kind" in places.columns else []
    return [("id", "id"), *kind, ("area_m2", "area"), likelihood, ("verdict", "verdict")]


def _list_note(places: Places, count: int) -> str:
    """Return a sentence where the list is not complete or outlines are not exact, "" where all is there."""
    notes = []
    if len(places) < count:
        notes.append(
            f"The list, and what is saved from it, has the {len(places):,} largest of {count:,} places."
        )
    if places.simplified:
        notes.append(f"Their outlines are simplified to within {places.simplified:.2g} pixels.")
    return " ".join([*notes, "The GeoPackage has all of them as they are."]) if notes else ""


def _rows(places: Places) -> list[dict[str, str]]:
    """Return the largest places as texts, for readers without scripts."""
    columns = places.columns
    x, y = ("lon", "lat") if "lon" in columns else ("centroid_x", "centroid_y")
    return [
        {
            "id": str(columns["id"][i]),
            "area": area_in_words(math.nan if (area := columns["area_m2"][i]) is None else float(area)),
            "p_mean": f"{float(columns['p_mean'][i] or 0):.2f}",
            x: str(columns[x][i]),
            y: str(columns[y][i]),
        }
        for i in range(min(ROWS, len(places)))
    ]


@functools.cache
def template(name: str) -> jinja2.Template:
    """Return a template, compiled once: it escapes all texts and refuses names that are not defined."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("geocd.report"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    return environment.get_template(name)


def _unbroken(text: str) -> markupsafe.Markup:
    """Return a text as HTML in which no date and no option is broken at the end of a line."""
    escaped = _DATE.sub(r"<time>\g<0></time>", str(markupsafe.escape(_shown(text))))
    return markupsafe.Markup(_OPTION.sub(r"<code>\g<0></code>", escaped))


@functools.cache
def _resource(name: str) -> str:
    """Return a text file of ``web`` with line ends as browsers hash them."""
    text = (importlib.resources.files("geocd.report") / "web" / name).read_text(encoding="utf-8")
    # Browsers hash what they parsed, and they parse every line end as one character. What Leaflet says of its
    # source map would make developer tools ask for a file.
    return "\n" + _SOURCE_MAP.sub("", text.replace("\r\n", "\n"))


def _policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Return the content security policy: only pictures, styles and scripts of the page itself."""

    def hashes(texts: Sequence[str]) -> str:
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; img-src data:; style-src {hashes(styles)}; script-src {hashes(scripts)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _shown(value: object) -> object:
    """Return a text with invisible characters (line ends, direction marks) escaped, other values as is."""
    if not isinstance(value, str) or isinstance(value, markupsafe.Markup) or value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def _settings(settings: Mapping[str, object], folder: Path) -> dict[str, str]:
    """Return the value of every option that the result depends on, as text, by the name of the option."""
    values = {}
    for name, value in settings.items():
        if name in ("jobs", "mem_limit"):  # with the times: the result does not depend on them
            continue
        if name in PATHS and isinstance(value, str):
            value = source_href(value, folder)
        elif name in PATHS and isinstance(value, list | tuple):
            value = [source_href(str(path), folder) for path in value]
        if value is None:
            text = "default"
        elif isinstance(value, bool):
            text = "yes" if value else "no"
        elif isinstance(value, list | tuple):
            text = ", ".join(map(str, value)) or "none"
        else:
            text = str(value)
        values[option(name)] = text
    return values


#: Stages of a run as the report calls them.
STAGES = {
    "inputs": "checking the inputs",
    "align": "aligning",
    "sample": "reading a sample",
    "shift": "measuring the shift",
    "fit": "fitting to the scene",
    "tiles": "computing the tiles",
    "polygons": "making the polygons",
    "quicklook": "drawing the pictures",
}


def _times(record: RunRecord, created: str) -> dict[str, str]:
    """Return what differs from run to run: date, durations of the stages, jobs and memory limit."""
    values = {"created": created.replace("T", " ").replace("Z", " UTC")}
    for stage, seconds in record.timings.items():
        values[STAGES.get(stage, stage)] = f"{seconds:.1f} s"
    values["total"] = f"{sum(record.timings.values()):.1f} s"
    for name, label in (("jobs", "tiles at a time"), ("mem_limit", "memory limit, MB")):
        if name in record.settings:
            values[label] = str(record.settings[name])
    return values


__all__ = ["template", "write_page"]
