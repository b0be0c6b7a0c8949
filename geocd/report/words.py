"""The texts of the report: headline, explanation, warnings, measurements."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from geocd.location import Location
from geocd.method import methods
from geocd.report.quicklook import percent
from geocd.report.record import RunRecord
from geocd.scene.ignore import KINDS
from geocd.scene.registration import LEAST_SHARPNESS, MOST_SPREAD, WARN_SHIFT, Alignment, Shift
from geocd.scene.sample import zeros_in_words

#: Shares of the valid area outside of which a result deserves a second look (docs: limits of the method).
MUCH_CHANGED, LITTLE_CHANGED = 0.3, 0.01
#: A valid share below the first, or an ignored share above the second, is worth a warning.
LITTLE_VALID, MUCH_IGNORED = 0.5, 0.2
#: From this seam score on, tiles may be visible; on small rasters chance alone reaches 1.1 to 1.2.
WARN_SEAM = 1.3
METHODS = {name: method.description for name, method in methods.METHODS.items()}


def day(date: str | None) -> str | None:
    """Return the day of an RFC 3339 date, ``YYYY-MM-DD``."""
    return None if date is None else date[:10]


# --------------------------------------------------------------------------------------------------
# Numbers


def area_in_words(square_metres: float) -> str:
    """Return an area in the unit that suits it (m², ha or km²), "unknown" where it is not finite."""
    if not math.isfinite(square_metres):
        return "unknown"
    for unit, size in (("km²", 1e6), ("ha", 1e4)):
        if square_metres >= (10 * size if unit == "km²" else size):
            return f"{digits(square_metres / size)} {unit}"
    return f"{digits(square_metres)} m²"


def digits(value: float) -> str:
    """Return a number with three significant digits and without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def in_percent(share: float) -> str:
    """Return a share in percent that reads 0 % or 100 % only where it is exactly that."""
    text = f"{100 * share:.1f}"
    if share < 1 and text == "100.0":
        return "more than 99.9 %"
    return "less than 0.1 %" if share > 0 and text == "0.0" else f"{text} %"


def _min_area(record: RunRecord) -> float:
    """Return the smallest area of a polygon in m², 0 where none was set."""
    value = record.settings.get("min_area")
    return float(value) if isinstance(value, int | float) else 0.0


# --------------------------------------------------------------------------------------------------
# The result and what it means


def headline(record: RunRecord) -> str:
    """Return the result in one sentence."""
    summary = record.summary
    before, after = day(record.date_before), day(record.date_after)
    when = f"between {before} and {after}" if before and after else "between the two images"
    if summary.changed_share == 0:
        return f"No change was detected {when}."
    places = "1 place" if summary.n_polygons == 1 else f"{summary.n_polygons:,} places"
    if min_area := _min_area(record):
        places += f" of {min_area:g} m² or more"
    if not math.isfinite(summary.area_m2):
        size = "of unknown area"
    else:
        size = area_in_words(summary.area_m2) + (" in total" if summary.n_polygons != 1 else "")
    return f"{percent(summary.changed_share)} of the valid area changed {when}: {places}, {size}."


def explanation(record: RunRecord) -> list[str]:
    """Return what the result means, in sentences."""
    decision = (
        "Every pixel has a change probability P from 0 to 1. It counts as changed where P is "
        f"{record.threshold:g} or more, "
        + (
            "the threshold set with --threshold."
            if record.settings.get("threshold") is not None
            else "the method's own decision threshold."
        )
    )
    meaning = (
        "A change means that the two images differ there. It says neither what changed nor whether that "
        "matters: a harvested field, a flood, a cloud and a new building are all changes."
    )
    order = (
        "The ranking is more reliable than the number: a pixel with P = 0.9 is more likely to have changed "
        "than one with 0.6, but of all pixels with P = 0.9, not exactly 90 % have changed."
    )
    valid = record.summary.valid_share
    analysed = (
        "Every pixel of the raster was analysed."
        if valid == 1
        else f"{in_percent(valid).capitalize()} of the raster was analysed. The rest has no data in one of "
        "the images or was excluded on request. Nothing is known about it, which is not the same as no "
        "change."
    )
    return [decision, meaning, order, analysed]


# --------------------------------------------------------------------------------------------------
# Warnings


def warnings(record: RunRecord, *, apart: bool = False) -> list[str]:
    """Return what a reader must know before using the result, each with what to do about it.

    Parameters
    ----------
    record : RunRecord
    apart : bool
        Whether the pictures of the two dates have contrast stretches of their own.
    """
    summary = record.summary
    texts = [
        _of_dates(record),
        _of_shift(summary.shift),
        _of_changed_share(summary.changed_share),
        _of_valid_share(summary.valid_share),
        *_of_zeros(record),
        *_of_ignored(summary.ignored_share),
        _of_seams(summary.seam_score),
    ]
    if _min_area(record) and summary.n_polygons == 0 and summary.changed_share > 0:
        texts.append("All changed places are smaller than the minimum area (--min-area).")
    if record.method in ("cva", "irmad"):
        texts.append(
            "This is a classical method, meant for comparison: its P is a score whose decision threshold is "
            "0.5, not a probability."
        )
    if apart:
        texts.append(
            "The value ranges of the two images are too different for one contrast stretch, so each picture "
            "has its own: what looks brighter, or has another colour, need not have changed. The "
            "probability takes illumination and scale into account. Compare images of the same kind (both "
            "reflectance, for instance) if you can."
        )
    return [text for text in texts if text is not None]


def _of_dates(record: RunRecord) -> str | None:
    before, after = day(record.date_before), day(record.date_after)
    if before is None or after is None or before < after:
        return None
    if before == after:
        return f"Both images are dated {before}. Check that they are the right files."
    return (
        f"The image passed as 'before' ({before}) was taken later than the one passed as 'after' ({after})."
    )


def _of_shift(shift: Shift | None) -> str | None:
    if shift is None:
        return None
    if not shift.measurable:
        return (
            "No shift between the images could be measured: they share too little structure. Check that both "
            "show the same place."
        )
    if shift.length < WARN_SHIFT:
        return None
    return (
        f"The two images are shifted against each other by {shift.length:.1f} pixels. The method tolerates "
        "up to one pixel, but edges of roofs, roads and fields may still show up as change. Register the "
        "images more accurately if you can."
    )


def _of_changed_share(share: float) -> str | None:
    if share > MUCH_CHANGED:
        return (
            f"{in_percent(share).capitalize()} of the area changed. With this much change, too little is "
            "detected and the ranking of the probabilities is less reliable. Check season, clouds and "
            "illumination; try a lower threshold."
        )
    if 0 < share < LITTLE_CHANGED:
        return (
            f"Only a small part of the area changed ({in_percent(share)}). Change this sparse is detected "
            "less reliably: look at each place before you use it."
        )
    return None


def _of_valid_share(share: float) -> str | None:
    if share >= LITTLE_VALID:
        return None
    return (
        f"Only a part of the raster could be analysed ({in_percent(share)}): nothing is known about the rest."
    )


def _of_zeros(record: RunRecord) -> list[str]:
    """Return a warning for each date that may have nodata pixels which are not declared as such."""
    paths = {"before": record.before, "after": record.after}
    shares = record.summary.zero_share
    texts = [zeros_in_words(Location(paths[date]).name, share) for date, share in shares.items()]
    return [
        f"{text}. Otherwise gaps in the image, and pixels beside them, may count as change."
        for text in texts
        if text is not None
    ]


def _of_ignored(shares: Mapping[str, float]) -> list[str]:
    """Return a warning for each kind of surface that was left out of the result."""
    return [
        f"{'A large part' if share > MUCH_IGNORED else 'A part'} of the valid area, {in_percent(share)}, was "
        f"left out as {kind} ({KINDS[kind].description}). These are simple rules: check that they fit the "
        "scene."
        for kind, share in shares.items()
        if share > 0
    ]


def _of_seams(score: float | None) -> str | None:
    if score is None or not score > WARN_SEAM:
        return None
    return (
        f"The borders of the tiles may be visible in the result (seam score {score:.2f}). Distrust changes "
        "with straight edges."
    )


# --------------------------------------------------------------------------------------------------
# Measurements


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A measured value and what it means.

    Attributes
    ----------
    value : str
        The value with its unit.
    detail : str
        Its meaning and reliability, in sentences.
    """

    value: str
    detail: str


def shift_in_words(shift: Shift | None, pixel_size: float | None) -> Measurement:
    """Return the shift between the images and how reliable it is.

    Parameters
    ----------
    shift : Shift or None
        None where there was no structure to measure it on.
    pixel_size : float or None
        Side of a pixel in metres; None where not known.
    """
    if shift is None:
        return Measurement("not measurable", "The images are too small or have no structure.")
    windows = "1 window" if shift.windows == 1 else f"{shift.windows} windows"
    reliability = (
        f"{windows} of the images were compared; the match stands {shift.sharpness:.0f} standard deviations "
        f"above chance (at least {LEAST_SHARPNESS:g} are needed), and windows agree to within "
        f"{shift.spread:.2f} px (at most {MOST_SPREAD:g} is allowed)."
    )
    if not shift.measurable:
        return Measurement("not measurable", reliability)
    metres = "" if pixel_size is None else f" (about {digits(shift.length * pixel_size)} m)"
    across = f"{abs(shift.col):.2f} px to the {'right' if shift.col > 0 else 'left'}"
    down = f"{abs(shift.row):.2f} px {'down' if shift.row > 0 else 'up'}"
    return Measurement(
        f"{shift.length:.2f} px{metres}",
        f"The content of the after image lies {across} and {down}, relative to that of the before image. "
        f"{reliability} From a shift of {WARN_SHIFT:g} px, edges begin to look like change.",
    )


def alignment_in_words(alignment: Alignment | None) -> str:
    """Return how the after image was brought onto the grid of the before image, "" where it was not."""
    if alignment is None:
        return ""
    sentences = [
        "The after image is on the grid of the before image."
        if alignment.resampling is None
        else f"The after image was warped onto the grid of the before image ({alignment.resampling} "
        f"resampling); it covers {in_percent(alignment.overlap)} of it."
    ]
    if alignment.shift is not None:
        note = alignment.shift.note
        sentences.append(f"{note[:1].upper()}{note[1:]}. The shift above is what remains.")
    return " ".join(sentences)


def seam_in_words(score: float | None) -> Measurement:
    """Return the seam score and what it means; ``score`` is None for a single tile."""
    if score is None:
        return Measurement("one tile", "The raster was computed in one piece, so there is no seam.")
    return Measurement(
        f"{score:.2f}",
        "The raster was computed in tiles. The score compares jumps of P across tile borders with jumps "
        "beside them: 1 means that no seam is visible; on small rasters, 0.8 to 1.2 occur by chance.",
    )


__all__ = [
    "Measurement",
    "alignment_in_words",
    "area_in_words",
    "explanation",
    "headline",
    "seam_in_words",
    "shift_in_words",
    "warnings",
]
