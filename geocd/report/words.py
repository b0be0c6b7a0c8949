"""The texts of the report: headline, explanation, findings, measurements."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

from geocd.findings import WARN_SHIFT, Finding, OtherDate, of_other_dates, verdict
from geocd.location import Location
from geocd.method import methods
from geocd.quantities import area_in_words, day, digits, in_percent
from geocd.raster.choice import Bands
from geocd.report.quicklook import percent
from geocd.report.record import RunRecord
from geocd.scene.brightness import Brightness
from geocd.scene.clouds import CloudDetector
from geocd.scene.ignore import KINDS, described
from geocd.scene.oddities import pair_findings
from geocd.scene.registration import LEAST_SHARPNESS, MOST_SPREAD, Alignment, Shift

#: Shares of the valid area outside of which a result deserves a second look (docs: limits of the method).
MUCH_CHANGED, LITTLE_CHANGED = 0.3, 0.01
#: How far above the threshold P is called close to it.
NEAR = 0.1
#: An ignored share above this is worth a warning.
MUCH_IGNORED = 0.2
#: From this seam score on, tiles may be visible; on small rasters chance alone reaches 1.1 to 1.2.
WARN_SEAM = 1.3
METHODS = {name: method.description for name, method in methods.METHODS.items()}


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


def pair_verdict(record: RunRecord) -> str:
    """Return whether the pair is fit to be compared, in one sentence."""
    return {
        "fit": "The two images are fit to be compared.",
        "fit with care": "The two images can be compared, with care.",
        "not fit": "The two images are not fit to be compared.",
    }[verdict(record.findings)]


def explanation(record: RunRecord) -> list[str]:
    """Return what the result means, in sentences: what is particular to this pair."""
    decision = (
        f"A pixel counts as changed where its change probability P is {record.threshold:g} or more, "
        + (
            "the threshold set with --threshold."
            if record.settings.get("threshold") is not None
            else "the method's own decision threshold."
        )
    )
    valid = record.summary.valid_share
    analysed = (
        "Every pixel of the raster was analysed."
        if valid == 1
        else f"{in_percent(valid).capitalize()} of the raster was analysed. The rest has no data in one of "
        "the images or was excluded on request. Nothing is known about it, which is not the same as no "
        "change."
    )
    return [decision, *_doubtful(record), analysed]


def _doubtful(record: RunRecord) -> Iterator[str]:
    """Yield how many of the changed pixels lie close to the decision."""
    counts, threshold = record.histogram, record.threshold
    levels = [(index + 0.5) / len(counts) for index in range(len(counts))]
    changed = sum(count for count, level in zip(counts, levels, strict=True) if level >= threshold)
    near = sum(
        count for count, level in zip(counts, levels, strict=True) if threshold <= level < threshold + NEAR
    )
    if changed:
        yield (
            f"Of the changed pixels, {in_percent(near / changed)} lie less than {NEAR:g} above the "
            "threshold: look at their places first where a wrong one would cost you."
        )


#: How P is to be read, the same for every pair.
READING = (
    "A change means that the two images differ there. Whether that matters only you can say: a harvested "
    "field, a flood, a cloud and a new building are all changes.",
    "The ranking is more reliable than the number: a pixel with P = 0.9 is more likely to have changed than "
    "one with 0.6, but of all pixels with P = 0.9, not exactly 90 % have changed.",
)


def bands_in_words(names: Sequence[str]) -> str:
    """Return the compared bands: "band 1", "bands 1, 2, 3", "bands red, nir"."""
    numbers = [name.removeprefix("band ") for name in names]
    if not all(name.startswith("band ") for name in names):
        numbers = list(names)
    return f"{'band' if len(numbers) == 1 else 'bands'} {', '.join(numbers)}"


def losses_in_words(losses: Sequence[float]) -> str:
    """Return what the loss of the optimisation tells: whether it fell, from its first and last tenth."""
    tenth = max(1, len(losses) // 10)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    fell = "It fell" if last < first else "It did not fall: the networks learned little from this pair"
    return (
        f"Loss of the two networks on this pair, step by step. {fell} (first tenth {first:.3g} on average, "
        f"last {last:.3g}). Each step uses another part of the scene, so the curve is noisy."
    )


# --------------------------------------------------------------------------------------------------
# Findings


def findings(record: RunRecord, brightness: Brightness | None = None) -> list[Finding]:
    """Return what a reader must know before using the result, the gravest first.

    Parameters
    ----------
    record : RunRecord
    brightness : Brightness, optional
        How the brightness of the two dates compares.
    """
    order = ("error", "warning", "info")
    return sorted(
        [*_of_pair(record, brightness), *_of_result(record)],
        key=lambda finding: order.index(finding.severity),
    )


def _of_pair(record: RunRecord, brightness: Brightness | None) -> list[Finding]:
    names = tuple(record.band_names)
    bands = Bands((), ()) if record.bands is None else record.bands
    others = [
        OtherDate(f"--{date.name.split()[0]}", Location(date.source).name, date.date, date.valid_share)
        for date in record.other_dates
    ]
    findings = pair_findings(
        (record.before, record.after),
        (record.date_before, record.date_after),
        dataclasses.replace(bands, names=names),
        valid_share=record.summary.valid_share,
        zero_share=record.summary.zero_share,
        shift=record.summary.shift,
        brightness=brightness,
        removed=record.alignment is not None and record.alignment.shift is not None,
    )
    return [*findings, *of_other_dates(record.date_before, record.date_after, others)]


def _of_result(record: RunRecord) -> Iterator[Finding]:
    summary = record.summary
    yield from _of_changed_share(summary.changed_share)
    yield from _of_ignored(summary.ignored_share, record.clouds)
    yield from _of_seams(summary.seam_score)
    if _min_area(record) and summary.n_polygons == 0 and summary.changed_share > 0:
        yield Finding(
            "below_min_area",
            "info",
            "All changed places are smaller than the minimum area (--min-area).",
            "Lower --min-area to see them.",
        )
    if record.settings.get("focus") == "built":
        yield Finding(
            "focus_built",
            "info",
            "Made with --focus built: a prior on the cover prefers buildings, roads and bare ground. What is "
            "green on either date, such as crops and cleared forest, is found less.",
        )
    if record.method in ("cva", "irmad"):
        yield Finding(
            "classical_method",
            "info",
            "This is a classical method, meant for comparison: its P is a score whose decision threshold is "
            "0.5, not a probability.",
        )


def _of_changed_share(share: float) -> Iterator[Finding]:
    if share > MUCH_CHANGED:
        yield Finding(
            "much_changed",
            "warning",
            f"{in_percent(share).capitalize()} of the area changed. With this much change, too little is "
            "detected and the ranking of the probabilities is less reliable.",
            "Check season, clouds and illumination; try a lower threshold.",
        )
    elif 0 < share < LITTLE_CHANGED:
        yield Finding(
            "little_changed",
            "info",
            f"Only a small part of the area changed ({in_percent(share)}). Change this sparse is detected "
            "less reliably.",
            "Look at each place before you use it.",
        )


def _of_ignored(shares: Mapping[str, float], clouds: CloudDetector | None) -> Iterator[Finding]:
    """Yield a finding for each kind of surface that was left out of the result."""
    for kind, share in shares.items():
        if share > 0:
            much = share > MUCH_IGNORED
            yield Finding(
                "ignored",
                "warning" if much else "info",
                f"{'A large part' if much else 'A part'} of the valid area, {in_percent(share)}, was left "
                f"out as {described(kind, clouds)}.",
                "ukis-csmask is a network: check that it fits the scene."
                if kind == "cloud" and clouds is not None and not clouds.why
                else "These are simple rules: check that they fit the scene."
                if kind in KINDS
                else "Masks miss the edges of clouds: --mask-buffer widens them.",
            )


def _of_seams(score: float | None) -> Iterator[Finding]:
    if score is not None and score > WARN_SEAM:
        yield Finding(
            "seams",
            "warning",
            f"The borders of the tiles may be visible in the result (seam score {score:.2f}).",
            "Distrust changes with straight edges.",
        )


#: On the page, where each picture has a contrast stretch of its own.
APART = (
    "The value ranges of the two images are too different for one contrast stretch, so each picture has its "
    "own: what looks brighter, or has another colour, need not have changed. The probability takes "
    "illumination and scale into account. Compare images of the same kind (both reflectance, for instance) "
    "if you can."
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
        f"Measured in {windows} of the images. The match is {shift.sharpness:.0f} times as strong as the "
        f"noise (at least {LEAST_SHARPNESS:g} times is required); the windows differ by "
        f"{shift.spread:.2f} px (at most {MOST_SPREAD:g} px is accepted)."
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
    "APART",
    "READING",
    "Measurement",
    "alignment_in_words",
    "bands_in_words",
    "explanation",
    "findings",
    "headline",
    "losses_in_words",
    "pair_verdict",
    "seam_in_words",
    "shift_in_words",
]
