"""One page that explains a run to somebody who reads no code: self-contained HTML, opened offline.

Words, tables and drawings come from the record, pictures from thumbnails; a template puts them together. What
comes from files (names, tags) is escaped by the template engine, and the page's own policy forbids whatever
is not part of it: no request leaves it.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import numpy as np
import shapely
from PIL import Image

from geocd.location import Location
from geocd.raster.files import output_errors
from geocd.raster.grid import Grid
from geocd.report.charts import histogram, loss_curve
from geocd.report.fingerprint import sha256
from geocd.report.links import source_href
from geocd.report.quicklook import RAMP, colours
from geocd.report.record import RunRecord
from geocd.report.thumbnails import Thumbnails
from geocd.report.words import (
    METHODS,
    alignment_in_words,
    area_in_words,
    day,
    explanation,
    headline,
    seam_in_words,
    shift_in_words,
    warnings,
)
from geocd.types import Float64Array
from geocd.vectorize.files import largest

#: Polygons in the table; polygons whose outlines are drawn, and corners of all of these.
ROWS, MOST_OUTLINES, MOST_CORNERS = 10, 3000, 40_000
#: An outline is drawn to within so many pixels of the picture.
TOLERANCE = 0.75
QUALITY = 85
_DATE = re.compile(r"\b\d{4}-\d\d-\d\d\b")


def write_page(
    record: RunRecord,
    thumbnails: Thumbnails,
    prob: Path,
    changes: Path,
    destination: Path,
    *,
    created: str,
    folder: Path,
) -> None:
    """Write the report of a run.

    Its bytes depend on the run's result and settings alone, but for the one section with the id ``times``.

    Parameters
    ----------
    record : RunRecord
    thumbnails : Thumbnails
        The pair and its probability; their size is that of the pictures on the page.
    prob, changes : pathlib.Path
        Probability raster and polygons of the run.
    destination : pathlib.Path
        The HTML file.
    created : str
        When the outputs were made, RFC 3339 in UTC.
    folder : pathlib.Path
        Where the page will stand, which relative paths of the inputs start from.

    Raises
    ------
    OutputError
    """
    table = largest(changes, MOST_OUTLINES)
    names = {"before": Location(record.before).name, "after": Location(record.after).name}
    style, script = (_resource(f"report.{kind}") for kind in ("css", "js"))
    height, width = thumbnails.prob.shape
    rows, cols = thumbnails.scale
    shape = f":root {{ --aspect: {width * cols / (height * rows):.4f}; }}"
    with output_errors(destination):  # reads what was written
        checksums = {path.name: sha256(path) for path in (prob, changes)}
    drawn, outlines = _outlines(table, record.grid, (height, width))
    text = _environment().get_template("report.html").render(
        policy=_policy([style, shape], [script]),
        style=markupsafe.Markup(style),
        shape=markupsafe.Markup(shape),
        script=markupsafe.Markup(script),
        record=record,
        names=names,
        dates={"before": day(record.date_before), "after": day(record.date_after)},
        headline=headline(record),
        summary=explanation(record),
        warnings=warnings(record, apart=thumbnails.apart),
        size=(width * cols, height * rows),
        box=(width, height),
        images=_images(thumbnails),
        apart=thumbnails.apart,
        outlines=outlines,
        outlines_note=_outlines_note(drawn, record.summary.n_polygons),
        ramp=[f"#{r:02x}{g:02x}{b:02x}" for r, g, b in RAMP],
        places=_places(table, record.grid, (height, width)),
        histogram=histogram(record.histogram, record.threshold),
        losses=loss_curve(record.losses),
        shift=shift_in_words(record.summary.shift, record.grid.pixel_size),
        alignment=alignment_in_words(record.alignment),
        seam=seam_in_words(record.summary.seam_score),
        method=METHODS.get(record.method, record.method),
        inputs={which: source_href(getattr(record, which), folder) for which in ("before", "after")},
        checksums=checksums,
        settings=_settings(record.settings, folder),
        times=_times(record, created),
    )  # fmt: skip
    with output_errors(destination):
        destination.write_bytes(text.encode())


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("geocd.report"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["dated"] = _dated
    return environment


def _dated(text: str) -> markupsafe.Markup:
    """Return a text whose dates are not broken at the end of a line."""
    return markupsafe.Markup(_DATE.sub(r"<time>\g<0></time>", str(markupsafe.escape(text))))


def _resource(name: str) -> str:
    text = (importlib.resources.files("geocd.report") / "templates" / name).read_text(encoding="utf-8")
    # Browsers hash what they parsed, and they parse every line end as one character.
    return "\n" + text.replace("\r\n", "\n")


def _policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Return the content security policy: the pictures, styles and scripts of the page, nothing else."""

    def hashes(texts: Sequence[str]) -> str:
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; img-src data:; style-src {hashes(styles)}; script-src {hashes(scripts)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _shown(value: Any) -> Any:
    """Return a text with everything that would not be seen (line ends, turned writing) as its number."""
    if not isinstance(value, str) or isinstance(value, markupsafe.Markup) or value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


# --------------------------------------------------------------------------------------------------
# Pictures


def _data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, kind, optimize=True, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _images(thumbnails: Thumbnails) -> dict[str, str]:
    """Both dates as JPEG; the probability as PNG in 63 colours, transparent where not valid."""
    pair = {
        "before": thumbnails.panel(thumbnails.before, thumbnails.valid_before),
        "after": thumbnails.panel(thumbnails.after, thumbnails.valid_after),
    }
    levels = 62
    known = np.isfinite(thumbnails.prob)
    steps = np.round(np.clip(np.nan_to_num(thumbnails.prob), 0, 1) * levels).astype(np.uint8)
    indexed = np.where(known, steps + np.uint8(1), np.uint8(0))
    rows, cols = thumbnails.scale
    prob = Image.fromarray(np.repeat(np.repeat(indexed, rows, 0), cols, 1), "L")
    prob.putpalette([0, 0, 0, *colours(np.linspace(0, 1, levels + 1, dtype=np.float32)).ravel().tolist()])
    return {
        **{name: _data_uri(image, "jpeg", quality=QUALITY) for name, image in pair.items()},
        "prob": _data_uri(prob, "png", transparency=0),
    }


def _to_picture(grid: Grid, shape: tuple[int, int]) -> Any:
    """Return a function from coordinates ``(n, 2)`` of the grid to columns and rows of the picture."""
    scale = np.array([shape[1] / grid.width, shape[0] / grid.height])

    def turn(points: Float64Array) -> Float64Array:
        row, col = grid.to_rowcol(points[:, 0], points[:, 1])
        scaled: Float64Array = np.stack([col, row], axis=1) * scale
        return scaled

    return turn


def _outlines(table: Any, grid: Grid, shape: tuple[int, int]) -> tuple[int, str]:
    """Return how many polygons are drawn, the largest first, and their outlines as SVG path data."""
    turn = _to_picture(grid, shape)
    parts: list[str] = []
    corners = drawn = 0
    for polygon in table.geometry:
        there = shapely.transform(polygon, turn)
        # What is smaller than a pixel of the picture is drawn as a square of one.
        simple = there.simplify(TOLERANCE, preserve_topology=False)
        if simple.is_empty or simple.area < 1:
            x, y = shapely.get_coordinates(shapely.centroid(shapely.box(*there.bounds)))[0]
            simple = shapely.box(x - 0.75, y - 0.75, x + 0.75, y + 0.75)
        corners += shapely.get_num_coordinates(simple)
        if corners > MOST_CORNERS and drawn:
            break
        drawn += 1
        for part in shapely.get_parts(simple):
            for ring in (part.exterior, *part.interiors):
                points = np.round(shapely.get_coordinates(ring)[:-1], 1)
                parts.append("M" + "L".join(f"{x:g} {y:g}" for x, y in points) + "Z")
    return drawn, "".join(parts)


def _outlines_note(drawn: int, count: int) -> str:
    if drawn >= count:
        return ""
    return f"Outlined are the {drawn:,} largest of {count:,} places; all of them are in the GeoPackage."


# --------------------------------------------------------------------------------------------------
# Table and drawings


def _places(table: Any, grid: Grid, shape: tuple[int, int]) -> list[dict[str, Any]]:
    """Return the rows of the table of the largest polygons, with their place in the picture."""
    table = table.head(ROWS)
    centres = np.stack([table["centroid_x"], table["centroid_y"]], axis=1).astype(np.float64)
    degrees = grid.lonlat(centres[:, 0], centres[:, 1])
    at = _to_picture(grid, shape)(centres) if len(table) else centres
    return [
        {
            "id": int(row.id),
            "area": area_in_words(float(row.area_m2)),
            "p_mean": f"{row.p_mean:.2f}",
            "n_pixels": f"{row.n_pixels:,}",
            "lon": f"{degrees[0][i]:.5f}" if degrees is not None else None,
            "lat": f"{degrees[1][i]:.5f}" if degrees is not None else None,
            "x": f"{row.centroid_x:.6g}",
            "y": f"{row.centroid_y:.6g}",
            "col": round(float(at[i][0]), 1),
            "row": round(float(at[i][1]), 1),
        }
        for i, row in enumerate(table.itertuples())
    ]


def _settings(settings: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return every setting that decides about the result, in words."""
    found = {}
    for name, value in settings.items():
        if name in ("jobs", "mem_limit"):  # with the times: the result does not depend on them
            continue
        if name in ("valid", "weights") and isinstance(value, str):
            value = source_href(value, folder)
        if value is None:
            words = "default"
        elif isinstance(value, bool):
            words = "yes" if value else "no"
        elif isinstance(value, list | tuple):
            words = ", ".join(map(str, value)) or "none"
        else:
            words = str(value)
        found["--" + name.replace("_", "-")] = words
    return found


def _times(record: RunRecord, created: str) -> dict[str, str]:
    """Return what differs from run to run."""
    found = {"made on": created.replace("T", " ").replace("Z", " UTC")}
    words = {
        "inputs": "checking the inputs",
        "align": "aligning",
        "sample": "reading a sample",
        "shift": "measuring the shift",
        "fit": "fitting to the scene",
        "tiles": "computing all tiles",
        "polygons": "making the polygons",
        "quicklook": "drawing pictures",
    }
    for name, seconds in record.timings.items():
        found[words.get(name, name)] = f"{seconds:.1f} s"
    found["together"] = f"{sum(record.timings.values()):.1f} s"
    for name, label in (("jobs", "tiles at a time"), ("mem_limit", "memory limit, MB")):
        if name in record.settings:
            found[label] = str(record.settings[name])
    return found


__all__ = [
    "write_page",
]
