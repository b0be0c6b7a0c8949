"""A run in words: headline, explanation, warnings."""

from __future__ import annotations

import math

from geocd.location import Location
from geocd.method import methods
from geocd.report.quicklook import percent
from geocd.report.record import RunRecord
from geocd.scene.ignore import KINDS
from geocd.scene.registration import LEAST_SHARPNESS, MOST_SPREAD, WARN_SHIFT, Alignment, Shift
from geocd.scene.sample import zeros_in_words

#: Shares of the valid area outside of which a result deserves a second look (docs: limits of the method).
MUCH_CHANGED, LITTLE_CHANGED = 0.3, 0.01
#: Less than this share of the raster valid, or more than this of the valid area ignored.
LITTLE_VALID, MUCH_IGNORED = 0.5, 0.2
#: From here on the tiles may be seen; on small rasters chance alone reaches 1.1 to 1.2.
WARN_SEAM = 1.3
METHODS = {name: method.description for name, method in methods.METHODS.items()}


def day(date: str | None) -> str | None:
    return None if date is None else date[:10]


# --------------------------------------------------------------------------------------------------
# Words


def area_in_words(square_metres: float) -> str:
    """Return an area in the unit that suits it: m², ha or km²."""
    if not math.isfinite(square_metres):
        return "of unknown area"
    for unit, size in (("km²", 1e6), ("ha", 1e4)):
        if square_metres >= (10 * size if unit == "km²" else size):
            return f"{digits(square_metres / size)} {unit}"
    return f"{digits(square_metres)} m²"


def digits(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def headline(record: RunRecord) -> str:
    """Return the result in one sentence."""
    before, after = day(record.date_before), day(record.date_after)
    when = f"between {before} and {after}" if before and after else "between the two images"
    count, area = record.summary.n_polygons, record.summary.area_m2
    share = record.summary.changed_share
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
    valid = record.summary.valid_share
    judged = (
        "Every pixel of the raster was judged."
        if valid == 1
        else f"{in_percent(valid).capitalize()} of the raster was judged. The rest has no data in one of the "
        "images (or was left out on request); there, nothing is known, which is not the same as unchanged."
    )
    return [decision, meaning, order, judged]


def in_percent(share: float) -> str:
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
    before, after = day(record.date_before), day(record.date_after)
    if before and before == after:
        found.append(f"Both images are dated {before}. Check that they are the right files.")
    elif before and after and before > after:
        found.append(
            f"The image given as 'before' ({before}) was taken later than the one given as 'after' ({after})."
        )
    shift = summary.shift
    if shift is not None and shift.measurable and shift.length >= WARN_SHIFT:
        found.append(
            f"The two images are shifted against each other by {shift.length:.1f} pixels. Up to one pixel "
            "is allowed for, but edges of roofs, roads and fields may still show up as change. Register "
            "the images better, if you can."
        )
    if shift is not None and not shift.measurable:
        found.append(
            "No shift between the images could be measured: they share too little structure. Check that both "
            "show the same place."
        )
    share = summary.changed_share
    if share > MUCH_CHANGED:
        found.append(
            f"{in_percent(share).capitalize()} of the area changed. Where so much changes the decision is "
            "too careful and the order of the probabilities less reliable. Check season, clouds and light; "
            "try a lower threshold."
        )
    elif 0 < share < LITTLE_CHANGED:
        found.append(
            f"Only {in_percent(share)} of the area changed. Change that sparse is found less reliably: look "
            "at each place before you use it."
        )
    valid = summary.valid_share
    if valid < LITTLE_VALID:
        found.append(f"Only {in_percent(valid)} of the raster could be judged: the rest is not known.")
    for which, zeros in summary.zero_share.items():
        if told := zeros_in_words(Location(getattr(record, which)).name, zeros):
            found.append(
                f"{told}; else every gap in the image, and what lies beside it, may count as change."
            )
    for kind, ignored in summary.ignored_share.items():
        if ignored > 0:
            much = "A large part" if ignored > MUCH_IGNORED else "A part"
            found.append(
                f"{much} of the valid area, {in_percent(ignored)}, was left out as {kind} "
                f"({KINDS[kind].description}). These are simple rules: look whether they fit."
            )
    seam = summary.seam_score
    if seam is not None and seam > WARN_SEAM:
        found.append(
            f"The borders of the tiles may show in the result (seam score {seam:.2f}). Distrust changes with "
            "straight edges."
        )
    if record.settings.get("min_area") and summary.n_polygons == 0 and share > 0:
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


def shift_in_words(shift: Shift | None, pixel_size: float | None) -> dict[str, str]:
    """Return the measured shift and how reliable it is, as ``value`` and ``detail``."""
    if shift is None:
        return {"value": "not measurable", "detail": "The images are too small or have no structure."}
    windows = "1 window" if shift.windows == 1 else f"{shift.windows} windows"
    reliability = (
        f"{windows} of the images were compared; the match stands {shift.sharpness:.0f} standard "
        f"deviations above chance ({LEAST_SHARPNESS:g} are asked for) and agree to {shift.spread:.2f} px "
        f"({MOST_SPREAD:g} is allowed)."
    )
    if not shift.measurable:
        return {"value": "not measurable", "detail": reliability}
    metres = "" if pixel_size is None else f" (about {digits(shift.length * pixel_size)} m)"
    across = f"{abs(shift.col):.2f} px to the {'right' if shift.col > 0 else 'left'}"
    down = f"{abs(shift.row):.2f} px {'down' if shift.row > 0 else 'up'}"
    return {
        "value": f"{shift.length:.2f} px{metres}",
        "detail": f"What the after image shows lies {across} and {down} of where the before image shows it. "
        f"{reliability} Edges begin to look like change from {WARN_SHIFT:g} px on.",
    }


def alignment_in_words(alignment: Alignment | None) -> str:
    """Return how the after image came onto the grid of the before image; empty where it was not aligned."""
    if alignment is None:
        return ""
    found = [
        "The after image is on the grid of the before image."
        if alignment.resampling is None
        else f"The after image was warped onto the grid of the before image ({alignment.resampling} "
        f"resampling); it covers {in_percent(alignment.overlap)} of it."
    ]
    if alignment.shift is not None:
        note = alignment.shift.note
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


__all__ = [
    "alignment_in_words",
    "area_in_words",
    "explanation",
    "headline",
    "seam_in_words",
    "shift_in_words",
    "warnings",
]
