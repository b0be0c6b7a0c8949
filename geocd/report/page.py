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
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jinja2
import markupsafe
import numpy as np
import shapely
from PIL import Image

from geocd.coercion import option
from geocd.config import PATHS
from geocd.location import Location
from geocd.quantities import area_in_words, day
from geocd.raster.files import output_errors
from geocd.raster.grid import Grid
from geocd.report.charts import histogram, loss_curve
from geocd.report.fingerprint import sha256
from geocd.report.links import source_href
from geocd.report.quicklook import RAMP, colours
from geocd.report.record import FinishedRun, RunRecord
from geocd.report.thumbnails import Thumbnails
from geocd.report.words import (
    APART,
    METHODS,
    alignment_in_words,
    explanation,
    headline,
    seam_in_words,
    shift_in_words,
)
from geocd.types import Float64Array
from geocd.vectorize.files import largest

#: Polygons in the table; most polygons whose outlines are drawn, and most corners of all of these.
ROWS, MOST_OUTLINES, MOST_CORNERS = 10, 3000, 40_000
#: Outlines are simplified to within this distance, in pixels of the picture.
TOLERANCE = 0.75
#: Quality of the JPEGs, of 100.
QUALITY = 85
_DATE = re.compile(r"\b\d{4}-\d\d-\d\d\b")


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
    text = template("report.html").render(
        **_resources(run.thumbnails),
        **_texts(run),
        **_pictures(run),
        record=run.record,
        histogram=histogram(run.record.histogram, run.record.threshold),
        losses=loss_curve(run.record.losses),
        checksums=checksums,
        settings=_settings(run.record.settings, run.folder),
        times=_times(run.record, run.created),
    )
    with output_errors(destination):
        destination.write_bytes(text.encode())


def _resources(thumbnails: Thumbnails) -> dict[str, str]:
    """Return styles, script and the policy that permits them."""
    style, script = (_resource(f"report.{kind}") for kind in ("css", "js"))
    height, width = thumbnails.prob.shape
    rows, cols = thumbnails.scale
    shape = f":root {{ --aspect: {width * cols / (height * rows):.4f}; }}"
    return {
        "policy": _policy([style, shape], [script]),
        "style": markupsafe.Markup(style),
        "shape": markupsafe.Markup(shape),
        "script": markupsafe.Markup(script),
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
        "warnings": [*map(str, record.findings), *([APART] if run.thumbnails.apart else [])],
        "method": METHODS.get(record.method, record.method),
        "shift": shift_in_words(summary.shift, record.grid.pixel_size),
        "alignment": alignment_in_words(record.alignment),
        "seam": seam_in_words(summary.seam_score),
    }


def _pictures(run: FinishedRun) -> dict[str, object]:
    """Return the pictures, what is drawn over them, and the table of the largest polygons."""
    thumbnails, grid = run.thumbnails, run.record.grid
    height, width = shape = thumbnails.prob.shape
    rows, cols = thumbnails.scale
    polygons = _largest(run.paths["changes"])
    count, outlines = _outlines([polygon.geometry for polygon in polygons], grid, shape)
    return {
        "images": _images(thumbnails),
        "size": (width * cols, height * rows),
        "box": (width, height),
        "apart": thumbnails.apart,
        "ramp": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in RAMP],
        "outlines": outlines,
        "outlines_note": _outlines_note(count, run.record.summary.n_polygons),
        "places": _places(polygons[:ROWS], grid, shape),
    }


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
    environment.filters["dated"] = _dated
    return environment.get_template(name)


def _dated(text: str) -> markupsafe.Markup:
    """Return a text as HTML in which no date is broken at the end of a line."""
    return markupsafe.Markup(_DATE.sub(r"<time>\g<0></time>", str(markupsafe.escape(text))))


@functools.cache
def _resource(name: str) -> str:
    """Return a text file of the templates with line ends as browsers hash them."""
    text = (importlib.resources.files("geocd.report") / "templates" / name).read_text(encoding="utf-8")
    # Browsers hash what they parsed, and they parse every line end as one character.
    return "\n" + text.replace("\r\n", "\n")


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


# --------------------------------------------------------------------------------------------------
# Pictures


def _data_uri(image: Image.Image, kind: str, **options: int) -> str:
    """Return a picture as data URI; ``kind`` is ``jpeg`` or ``png``, the options are Pillow's."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _images(thumbnails: Thumbnails) -> dict[str, str]:
    """Return data URIs of both dates (JPEG) and of the probability (PNG, transparent where not valid)."""
    dates = {
        "before": thumbnails.panel(thumbnails.before, thumbnails.valid_before),
        "after": thumbnails.panel(thumbnails.after, thumbnails.valid_after),
    }
    levels = 62  # colour 0 is transparent, 1 to 63 are those of the probability
    steps = np.round(np.clip(np.nan_to_num(thumbnails.prob), 0, 1) * levels).astype(np.uint8)
    indexed = np.where(np.isfinite(thumbnails.prob), steps + np.uint8(1), np.uint8(0))
    rows, cols = thumbnails.scale
    prob = Image.fromarray(np.repeat(np.repeat(indexed, rows, 0), cols, 1), "L")
    prob.putpalette([0, 0, 0, *colours(np.linspace(0, 1, levels + 1, dtype=np.float32)).ravel().tolist()])
    return {
        **{name: _data_uri(image, "jpeg", quality=QUALITY, optimize=True) for name, image in dates.items()},
        "prob": _data_uri(prob, "png", transparency=0),
    }


def _to_picture(grid: Grid, shape: tuple[int, int]) -> Callable[[Float64Array], Float64Array]:
    """Return a function from coordinates ``(n, 2)`` of the grid to columns and rows of the picture."""
    scale = np.array([shape[1] / grid.width, shape[0] / grid.height])

    def to_picture(points: Float64Array) -> Float64Array:
        row, col = grid.to_rowcol(points[:, 0], points[:, 1])
        scaled: Float64Array = np.stack([col, row], axis=1) * scale
        return scaled

    return to_picture


def _outlines(polygons: Iterable[shapely.Polygon], grid: Grid, shape: tuple[int, int]) -> tuple[int, str]:
    """Return how many polygons are drawn, in their order, and their outlines as SVG path data."""
    to_picture = _to_picture(grid, shape)
    rings: list[str] = []
    corners = count = 0
    for polygon in polygons:
        in_picture = shapely.transform(polygon, to_picture)
        simple = in_picture.simplify(TOLERANCE, preserve_topology=False)
        if simple.is_empty or simple.area < 1:  # less than a pixel: draw a square that is visible
            x, y = shapely.get_coordinates(shapely.centroid(shapely.box(*in_picture.bounds)))[0]
            simple = shapely.box(x - 0.75, y - 0.75, x + 0.75, y + 0.75)
        corners += shapely.get_num_coordinates(simple)
        if corners > MOST_CORNERS and count:
            break
        count += 1
        for part in shapely.get_parts(simple):
            for ring in (part.exterior, *part.interiors):
                points = np.round(shapely.get_coordinates(ring)[:-1], 1)
                rings.append("M" + "L".join(f"{x:g} {y:g}" for x, y in points) + "Z")
    return count, "".join(rings)


def _outlines_note(drawn: int, count: int) -> str:
    """Return a sentence where not all polygons are drawn, "" where they are."""
    if drawn >= count:
        return ""
    return f"Outlines show the {drawn:,} largest of {count:,} places; the GeoPackage has all of them."


# --------------------------------------------------------------------------------------------------
# Table and drawings


@dataclasses.dataclass(frozen=True)
class Polygon:
    """A polygon of the GeoPackage, with those of its columns that the report shows."""

    id: int
    area_m2: float
    p_mean: float
    n_pixels: int
    centroid_x: float
    centroid_y: float
    geometry: shapely.Polygon


def _largest(changes: Path) -> list[Polygon]:
    """Return the polygons that are drawn at most, the largest first."""
    table = largest(changes, MOST_OUTLINES)
    columns = [field.name for field in dataclasses.fields(Polygon)]
    return [Polygon(*values) for values in zip(*(table[column].tolist() for column in columns), strict=True)]


@dataclasses.dataclass(frozen=True)
class Place:
    """A row of the table of the largest polygons.

    Attributes
    ----------
    id : int
        As in the GeoPackage.
    area, p_mean, n_pixels : str
        Area, mean probability and number of pixels.
    lon, lat : str or None
        Centroid in degrees (WGS 84); None where the grid cannot be transformed to longitude and latitude.
    x, y : str
        Centroid in the CRS of the grid.
    col, row : float
        Centroid in pixels of the picture.
    """

    id: int
    area: str
    p_mean: str
    n_pixels: str
    lon: str | None
    lat: str | None
    x: str
    y: str
    col: float
    row: float


def _places(polygons: Sequence[Polygon], grid: Grid, shape: tuple[int, int]) -> list[Place]:
    """Return the rows of the table of the largest polygons."""
    if not polygons:
        return []
    centroids = np.array([(polygon.centroid_x, polygon.centroid_y) for polygon in polygons], np.float64)
    degrees = grid.lonlat(centroids[:, 0], centroids[:, 1])
    in_picture = _to_picture(grid, shape)(centroids)
    return [
        Place(
            id=polygon.id,
            area=area_in_words(polygon.area_m2),
            p_mean=f"{polygon.p_mean:.2f}",
            n_pixels=f"{polygon.n_pixels:,}",
            lon=f"{degrees[0][i]:.5f}" if degrees is not None else None,
            lat=f"{degrees[1][i]:.5f}" if degrees is not None else None,
            x=f"{polygon.centroid_x:.6g}",
            y=f"{polygon.centroid_y:.6g}",
            col=round(float(in_picture[i][0]), 1),
            row=round(float(in_picture[i][1]), 1),
        )
        for i, polygon in enumerate(polygons)
    ]


def _settings(settings: Mapping[str, object], folder: Path) -> dict[str, str]:
    """Return the value of every option that the result depends on, as text, by the name of the option."""
    values = {}
    for name, value in settings.items():
        if name in ("jobs", "mem_limit"):  # with the times: the result does not depend on them
            continue
        if name in PATHS and isinstance(value, str):
            value = source_href(value, folder)
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
