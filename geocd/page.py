"""One page that explains a run to somebody who reads no code: self-contained HTML, opened offline.

Words, tables and drawings come from the record, pictures from thumbnails; a template puts them together. What
comes from files (names, tags) is escaped by the template engine, and the page's own policy forbids whatever
is not part of it: no request leaves it.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.resources
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import numpy as np
import rasterio.warp
import shapely
from PIL import Image
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError

from geocd.ignore import WORDS
from geocd.layers import largest
from geocd.normalize import zeros_in_words
from geocd.outputs import sha256
from geocd.pictures import RAMP, Thumbnails, colours, percent
from geocd.raster import Grid, output_errors
from geocd.registration import LEAST_SHARPNESS, MOST_SPREAD, WARN_SHIFT
from geocd.report import RunRecord, source_href
from geocd.types import Float64Array

#: Polygons in the table; polygons whose outlines are drawn, and corners of all of these.
ROWS, MOST_OUTLINES, MOST_CORNERS = 10, 3000, 40_000
#: An outline is drawn to within so many pixels of the picture.
TOLERANCE = 0.75
#: Shares of the valid area outside of which a result deserves a second look (docs: limits of the method).
MUCH_CHANGED, LITTLE_CHANGED = 0.3, 0.01
#: Less than this share of the raster valid, or more than this of the valid area ignored.
LITTLE_VALID, MUCH_IGNORED = 0.5, 0.2
#: From here on the tiles may be seen; on small rasters chance alone reaches 1.1 to 1.2.
WARN_SEAM = 1.3
QUALITY = 85
_DATE = re.compile(r"\b\d{4}-\d\d-\d\d\b")
METHODS = {
    "deep": "geocd's own method, fitted to this pair without labels",
    "cva": "change vector analysis, a classical method",
    "irmad": "IR-MAD, a classical method",
}


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
    names = {"before": _last(record.before), "after": _last(record.after)}
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
        dates={"before": _day(record.date_before), "after": _day(record.date_after)},
        headline=headline(record),
        summary=explanation(record),
        warnings=warnings(record, apart=thumbnails.apart),
        size=(width * cols, height * rows),
        box=(width, height),
        images=_images(thumbnails),
        apart=thumbnails.apart,
        outlines=outlines,
        outlines_note=_outlines_note(drawn, int(record.summary["n_polygons"])),
        ramp=[f"#{r:02x}{g:02x}{b:02x}" for r, g, b in RAMP],
        places=_places(table, record.grid, (height, width)),
        histogram=_histogram(record.histogram, record.threshold),
        losses=_loss_curve(record.losses),
        shift=shift_in_words(record.summary.get("shift"), record.grid.pixel_size),
        alignment=alignment_in_words(record.alignment),
        seam=seam_in_words(record.summary.get("seam_score")),
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
        loader=jinja2.PackageLoader("geocd"),
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
    text = (importlib.resources.files("geocd") / "templates" / name).read_text(encoding="utf-8")
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


def _last(path: str) -> str:
    return path.split("?")[0].rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


def _day(date: str | None) -> str | None:
    return None if date is None else date[:10]


# --------------------------------------------------------------------------------------------------
# Words


def area_in_words(square_metres: float) -> str:
    """Return an area in the unit that suits it: m², ha or km²."""
    if not math.isfinite(square_metres):
        return "of unknown area"
    for unit, size in (("km²", 1e6), ("ha", 1e4)):
        if square_metres >= (10 * size if unit == "km²" else size):
            return f"{_digits(square_metres / size)} {unit}"
    return f"{_digits(square_metres)} m²"


def _digits(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def headline(record: RunRecord) -> str:
    """Return the result in one sentence."""
    before, after = _day(record.date_before), _day(record.date_after)
    when = f"between {before} and {after}" if before and after else "between the two images"
    count, area = int(record.summary["n_polygons"]), float(record.summary["area_m2"])
    share = float(record.summary["changed_share"])
    if share == 0:
        return f"Nothing was found to have changed {when}."
    places = "1 place" if count == 1 else f"{count:,} places"
    of = "in all" if count != 1 else "large"
    least = float(record.settings.get("min_area") or 0)
    kept = f" of {least:g} m² or more" if least else ""
    return f"{percent(share)} of the valid area changed {when}: {places}{kept}, {area_in_words(area)} {of}."


def explanation(record: RunRecord) -> list[str]:
    """Return what the result means, in sentences."""
    chosen = record.settings.get("threshold") is not None
    decision = (
        f"Every pixel has a change probability P from 0 to 1. It counts as changed where P is "
        f"{record.threshold:g} or more, "
        + ("as --threshold was given." if chosen else "which is where the method itself decides.")
    )
    meaning = (
        "This says that something differs between the two images, not what, nor whether it matters: a "
        "harvested field, a flood, a cloud and a new hall are all changes."
    )
    order = (
        "The order is more reliable than the number: 0.9 stands above 0.6, but of the pixels with 0.9 not "
        "exactly nine in ten have changed."
    )
    valid = float(record.summary["valid_share"])
    judged = (
        "Every pixel of the raster was judged."
        if valid == 1
        else f"{_share(valid).capitalize()} of the raster was judged. The rest has no data in one of the "
        "images (or was left out on request); there, nothing is known, which is not the same as unchanged."
    )
    return [decision, meaning, order, judged]


def _share(share: float) -> str:
    """A share in percent that is 0 or 100 only where it is."""
    text = f"{100 * share:.1f}"
    if share < 1 and text == "100.0":
        return "more than 99.9 %"
    return "less than 0.1 %" if share > 0 and text == "0.0" else f"{text} %"


def warnings(record: RunRecord, *, apart: bool = False) -> list[str]:
    """Return what a reader of the result must know, each with what to do about it.

    Parameters
    ----------
    record : RunRecord
    apart : bool
        Whether the pictures of the two dates are stretched by themselves.
    """
    found = []
    summary = record.summary
    before, after = _day(record.date_before), _day(record.date_after)
    if before and before == after:
        found.append(f"Both images are dated {before}. Check that they are the right files.")
    elif before and after and before > after:
        found.append(
            f"The image given as 'before' ({before}) was taken later than the one given as 'after' ({after})."
        )
    shift = summary.get("shift")
    if shift is not None and shift["measurable"] and shift["length"] >= WARN_SHIFT:
        found.append(
            f"The two images are shifted against each other by {shift['length']:.1f} pixels. Up to one pixel "
            "is allowed for, but edges of roofs, roads and fields may still show up as change. Register "
            "the images better, if you can."
        )
    if shift is not None and not shift["measurable"]:
        found.append(
            "No shift between the images could be measured: they share too little structure. Check that both "
            "show the same place."
        )
    share = float(summary["changed_share"])
    if share > MUCH_CHANGED:
        found.append(
            f"{_share(share).capitalize()} of the area changed. Where so much changes the decision is too "
            "careful and the order of the probabilities less reliable. Check season, clouds and light; try a "
            "lower threshold."
        )
    elif 0 < share < LITTLE_CHANGED:
        found.append(
            f"Only {_share(share)} of the area changed. Change that sparse is found less reliably: look at "
            "each place before you use it."
        )
    valid = float(summary["valid_share"])
    if valid < LITTLE_VALID:
        found.append(f"Only {_share(valid)} of the raster could be judged: the rest is not known.")
    for which, zeros in (summary.get("zero_share") or {}).items():
        if told := zeros_in_words(_last(getattr(record, which)), zeros):
            found.append(
                f"{told}; else every gap in the image, and what lies beside it, may count as change."
            )
    for kind, ignored in (summary.get("ignored_share") or {}).items():
        if ignored > 0:
            much = "A large part" if ignored > MUCH_IGNORED else "A part"
            found.append(
                f"{much} of the valid area, {_share(ignored)}, was left out as {kind} ({WORDS[kind]}). These "
                "are simple rules: look whether they fit."
            )
    seam = summary.get("seam_score")
    if seam is not None and seam > WARN_SEAM:
        found.append(
            f"The borders of the tiles may show in the result (seam score {seam:.2f}). Distrust changes with "
            "straight edges."
        )
    if record.settings.get("min_area") and summary["n_polygons"] == 0 and share > 0:
        found.append("All changed places are smaller than the smallest area asked for (--min-area).")
    if record.method in ("cva", "irmad"):
        found.append(
            "This is a classical method, meant for comparison: its P is a score with the decision at 0.5, "
            "not a probability."
        )
    if apart:
        found.append(
            "The values of the two images are too far apart to be shown on one scale, so each picture is "
            "stretched by itself: what looks brighter, or of another colour, need not have changed. The "
            "probability takes light and scale into account. Compare images of one kind (both reflectance, "
            "for instance), if you can."
        )
    return found


def shift_in_words(shift: Mapping[str, Any] | None, pixel_size: float | None) -> dict[str, str]:
    """Return the measured shift and how reliable it is, as ``value`` and ``detail``."""
    if shift is None:
        return {"value": "not measurable", "detail": "The images are too small or have no structure."}
    windows = "1 window" if shift["windows"] == 1 else f"{shift['windows']} windows"
    reliability = (
        f"{windows} of the images were compared; the match stands {shift['sharpness']:.0f} standard "
        f"deviations above chance ({LEAST_SHARPNESS:g} are asked for) and agree to {shift['spread']:.2f} px "
        f"({MOST_SPREAD:g} is allowed)."
    )
    if not shift["measurable"]:
        return {"value": "not measurable", "detail": reliability}
    metres = "" if pixel_size is None else f" (about {_digits(shift['length'] * pixel_size)} m)"
    across = f"{abs(shift['col']):.2f} px to the {'right' if shift['col'] > 0 else 'left'}"
    down = f"{abs(shift['row']):.2f} px {'down' if shift['row'] > 0 else 'up'}"
    return {
        "value": f"{shift['length']:.2f} px{metres}",
        "detail": f"What the after image shows lies {across} and {down} of where the before image shows it. "
        f"{reliability} Edges begin to look like change from {WARN_SHIFT:g} px on.",
    }


def alignment_in_words(alignment: Mapping[str, Any] | None) -> str:
    """Return how the after image came onto the grid of the before image; empty where it was not aligned."""
    if alignment is None:
        return ""
    found = [
        "The after image is on the grid of the before image."
        if alignment["resampling"] is None
        else f"The after image was warped onto the grid of the before image ({alignment['resampling']} "
        f"resampling); it covers {_share(alignment['overlap'])} of it."
    ]
    if "shift" in alignment:
        note = str(alignment["shift"]["note"])
        found.append(f"{note[:1].upper()}{note[1:]}. The shift above is what is left.")
    return " ".join(found)


def seam_in_words(score: float | None) -> dict[str, str]:
    """Return the seam score and what it means, as ``value`` and ``detail``."""
    if score is None:
        return {"value": "one tile", "detail": "The raster was computed in one piece, so there is no seam."}
    return {
        "value": f"{score:.2f}",
        "detail": "The raster was computed in tiles. This compares jumps of P across their borders with "
        "jumps beside them: 1 means that no seam can be seen; on small rasters, chance gives 0.8 to 1.2.",
    }


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
    t, scale = ~grid.transform, np.array([shape[1] / grid.width, shape[0] / grid.height])

    def turn(points: Float64Array) -> Float64Array:
        x, y = points[:, 0], points[:, 1]
        cols_rows = np.stack([t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f], axis=1)
        found: Float64Array = cols_rows * scale
        return found

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
    where = _degrees(centres, grid.crs)
    at = _to_picture(grid, shape)(centres) if len(table) else centres
    return [
        {
            "id": int(row.id),
            "area": area_in_words(float(row.area_m2)),
            "p_mean": f"{row.p_mean:.2f}",
            "n_pixels": f"{row.n_pixels:,}",
            "lon": f"{where[i][0]:.5f}" if where is not None else None,
            "lat": f"{where[i][1]:.5f}" if where is not None else None,
            "x": f"{row.centroid_x:.6g}",
            "y": f"{row.centroid_y:.6g}",
            "col": round(float(at[i][0]), 1),
            "row": round(float(at[i][1]), 1),
        }
        for i, row in enumerate(table.itertuples())
    ]


def _degrees(points: Float64Array, crs: CRS) -> Float64Array | None:
    """Return longitude and latitude (WGS 84) of points ``(n, 2)``; None where they have no place on Earth."""
    try:
        lon, lat = rasterio.warp.transform(crs, CRS.from_epsg(4326), points[:, 0], points[:, 1])
    except (RasterioError, CPLE_BaseError):
        return None
    found = np.stack([lon, lat], axis=1).astype(np.float64)
    return found if np.isfinite(found).all() else None


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A small chart in the units of its own view box, with its origin in the upper left.

    Attributes
    ----------
    width, height : float
    bars : list of tuple
        ``(x, y, width, height, changed)``.
    line : str
        Points of a curve.
    ticks_x, ticks_y : list of tuple
        ``(position, label)``.
    mark : float or None
        Where the decision stands.
    words : str
        What the chart shows, for those who do not see it.
    """

    width: float
    height: float
    ticks_x: list[tuple[float, str]]
    ticks_y: list[tuple[float, str]]
    words: str
    bars: list[tuple[float, float, float, float, bool]] = dataclasses.field(default_factory=list)
    line: str = ""
    mark: float | None = None


#: Size of the plotting area of both charts.
_WIDE, _HIGH = 560.0, 180.0


_DECADES = [f"{n}{unit}" for unit in ("", "k", "M", "G", "T") for n in (1, 10, 100)]


def _histogram(counts: Sequence[int], threshold: float) -> Drawing | None:
    """Draw pixels by probability, on a logarithmic axis: most pixels have not changed."""
    if not counts or not any(counts):
        return None
    decades = max(1, math.ceil(math.log10(max(counts)) + 1e-9))

    def level(count: float) -> float:
        return _HIGH * (1 - (math.log10(count) + 0.3) / (decades + 0.3))

    each = _WIDE / len(counts)
    bars = []
    for place, count in enumerate(counts):
        if count:
            top = level(count)
            # A bin that the decision cuts is on the side where most of it lies.
            changed = (place + 0.5) / len(counts) >= threshold
            bars.append(
                (
                    round(place * each + 0.5, 1),
                    round(top, 1),
                    round(each - 1, 1),
                    round(_HIGH - top, 1),
                    changed,
                )
            )
    peak = int(np.argmax(counts))
    above = sum(count for place, count in enumerate(counts) if (place + 0.5) / len(counts) >= threshold)
    return Drawing(
        _WIDE,
        _HIGH,
        [(round(_WIDE * i / 5, 1), f"{i / 5:g}") for i in range(6)],
        [(round(level(10**i), 1), _DECADES[i]) for i in range(decades + 1)],
        f"Histogram of the change probability, logarithmic. Most pixels lie between "
        f"{peak / len(counts):.2f} and {(peak + 1) / len(counts):.2f}; {above:,} of {sum(counts):,} lie "
        f"at or above the decision, {threshold:g}.",
        bars=bars,
        mark=round(_WIDE * threshold, 1),
    )


def _loss_curve(losses: Sequence[float]) -> Drawing | None:
    """Draw the loss over the optimisation steps."""
    if len(losses) < 2 or not np.isfinite(losses).all():
        return None
    low, high = min(losses), max(losses)
    span = (high - low) or 1.0
    points = (
        f"{_WIDE * i / (len(losses) - 1):.1f},{_HIGH * (0.95 - 0.9 * (value - low) / span):.1f}"
        for i, value in enumerate(losses)
    )
    middle = (len(losses) + 1) // 2
    return Drawing(
        _WIDE,
        _HIGH,
        [(round(_WIDE * (n - 1) / (len(losses) - 1), 1), str(n)) for n in (1, middle, len(losses))],
        [(round(_HIGH * (0.95 - 0.9 * share), 1), f"{low + share * span:.3g}") for share in (0, 0.5, 1)],
        f"Loss over {len(losses)} steps: {losses[0]:.3g} at the first, {losses[-1]:.3g} at the last.",
        line=" ".join(points),
    )


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
    "alignment_in_words",
    "area_in_words",
    "explanation",
    "headline",
    "seam_in_words",
    "shift_in_words",
    "warnings",
    "write_page",
]
