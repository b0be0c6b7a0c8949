"""Findings: what is odd about a pair or a run, typed, with a severity and a remedy."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from geocd.errors import GeocdWarning
from geocd.quantities import day, enumerated, in_percent

#: info: good to know; warning: look before you use the result; error: the result will mean nothing.
Severity: TypeAlias = Literal["info", "warning", "error"]
#: What follows from the findings of a pair.
Verdict: TypeAlias = Literal["fit", "fit with care", "not fit"]

#: Share of pixels that are valid in both dates, below which there is a warning.
LITTLE_VALID = 0.5
#: Correlation of the dates (median over bands), below which they probably show different areas, bands or
#: seasons.
WARN_CORRELATION = 0.2
#: From this shift on, in pixels, edges begin to look like change.
WARN_SHIFT = 0.3
#: A larger share of pixels that are 0 in all bands suggests undeclared nodata.
WARN_ZEROS = 0.01
#: Share of the pixels of an undeclared rim's value that lie inside the image, from which that is said.
LEAST_INSIDE = 0.01
#: Ratio of the contrasts of the dates, or its inverse, and difference of their medians over the interquartile
#: range of the first, from which they were taken in another light or have another scale.
OTHER_GAIN, OTHER_LEVEL = 1.25, 0.5
#: Ratio of pixel sizes, from which detail that only the finer image resolves makes up much of the difference.
WARN_COARSER = 2.0
#: Findings that, as ``info``, only repeat what the caller has chosen: no need to say so at once.
_CHOSEN = ("below_min_area", "classical_method", "focus_built", "ignored", "other_dates")


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is odd about a pair or a run.

    Attributes
    ----------
    code : str
        For programs: ``shift``, ``unrelated``, ...
    severity : str
        ``info``, ``warning`` or ``error``.
    text : str
        What is odd, in sentences.
    remedy : str
        What to do about it, in sentences; empty where nothing can be done.
    """

    code: str
    severity: Severity
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.remedy}".rstrip()

    @property
    def label(self) -> str:
        """What a console prints before it: ``note``, ``warning`` or ``error``."""
        return "note" if self.severity == "info" else self.severity

    def as_dict(self) -> dict[str, str]:
        """Return the finding as JSON holds it."""
        return {"code": self.code, "severity": self.severity, "text": self.text, "remedy": self.remedy}

    @classmethod
    def from_json(cls, content: object) -> Finding | None:
        """Return the finding that JSON content holds, None where it holds none."""
        if not isinstance(content, Mapping):
            return None
        code, severity, text, remedy = (content.get(field.name) for field in dataclasses.fields(cls))
        texts = isinstance(code, str) and isinstance(text, str) and isinstance(remedy, str)
        if not texts or severity not in ("info", "warning", "error"):
            return None
        return cls(str(code), severity, str(text), str(remedy))


def verdict(findings: Sequence[Finding]) -> Verdict:
    """Return whether a pair with these findings is fit for a run."""
    severities = {finding.severity for finding in findings}
    if "error" in severities:
        return "not fit"
    return "fit with care" if "warning" in severities else "fit"


def unexpected(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings without those that only repeat what the caller has chosen."""
    return [finding for finding in findings if finding.severity != "info" or finding.code not in _CHOSEN]


def warn(findings: Sequence[Finding], stacklevel: int = 2) -> None:
    """Raise findings as Python warnings, each a :class:`~geocd.errors.GeocdWarning`.

    Parameters
    ----------
    findings : sequence of Finding
    stacklevel : int
        As of :func:`warnings.warn`, seen from the function that calls this one.
    """
    for finding in unexpected(findings):
        warnings.warn(str(finding), GeocdWarning, stacklevel=stacklevel + 1)


# --------------------------------------------------------------------------------------------------
# Of a pair: for a check and for a run


def of_dates(before: str | None, after: str | None) -> Iterator[Finding]:
    """Yield what is odd about the dates of acquisition, RFC 3339 or None."""
    first, second = day(before), day(after)
    if first is None or second is None or first < second:
        return
    if first == second:
        yield Finding(
            "same_date",
            "warning",
            f"Both images are dated {first}.",
            "Check that they are the right files.",
        )
        return
    yield Finding(
        "dates_reversed",
        "warning",
        f"before ({first}) was taken later than after ({second}).",
        "Swap the two images, unless change backwards in time is what you want.",
    )


@dataclasses.dataclass(frozen=True)
class OtherDate:
    """An image of another date, as far as findings concern it.

    Attributes
    ----------
    option : str
        ``--baseline`` or ``--confirm``.
    name : str
        Of the image.
    date : str or None
        Acquisition, RFC 3339 in UTC.
    valid_share : float
        Share of the valid area on which it is valid, in [0, 1].
    """

    option: str
    name: str
    date: str | None
    valid_share: float


def of_other_dates(before: str | None, after: str | None, others: Sequence[OtherDate]) -> Iterator[Finding]:
    """Yield what is odd about the images of ``--baseline`` and ``--confirm``, and that they took part.

    Parameters
    ----------
    before, after : str or None
        Dates of acquisition of the pair, RFC 3339.
    others : sequence of OtherDate
    """
    for other in others:
        own, first, last = day(other.date), day(before), day(after)
        if other.option == "--baseline" and own and first and own >= first:
            yield Finding(
                "baseline_not_earlier",
                "warning",
                f"{other.option} {other.name} ({own}) is not from before {first}, the date of the before "
                "image. What has changed by then counts as what the place does by itself.",
                "Leave it out, or name an earlier date.",
            )
        if other.option == "--confirm" and own and last and own <= last:
            yield Finding(
                "confirm_not_later",
                "warning",
                f"{other.option} {other.name} ({own}) is not from after {last}, the date of the after "
                "image, so it says nothing of what came of a change.",
                "Leave it out, or name a later date.",
            )
        if other.valid_share == 0:
            yield Finding(
                "other_date_unused",
                "warning",
                f"{other.option} {other.name}: has no valid pixel where the pair has, and was not used.",
                "Leave it out, or name another date.",
            )
    if others:
        listed = (
            f"{other.option} {other.name} ({f'{day(other.date)}, ' * (other.date is not None)}valid on "
            f"{other.valid_share:.0%})"
            for other in others
        )
        yield Finding("other_dates", "info", f"Made with other dates: {'; '.join(listed)}.")


def of_structure(
    shift: float | None, *, measurable: bool, correlation: float | None, removed: bool = False
) -> Iterator[Finding]:
    """Yield what is odd about how the contents of the two images match.

    Parameters
    ----------
    shift : float or None
        Length of the shift between the images in pixels; None where there was nothing to measure it on.
    measurable : bool
        Whether its measurement is reliable.
    correlation : float or None
        Correlation of the dates, median over bands.
    removed : bool
        Whether a shift was removed before (``--align shift``).
    """
    unlike = correlation is not None and correlation < WARN_CORRELATION
    lost = shift is not None and not measurable
    if unlike and lost:
        yield Finding(
            "unrelated",
            "error",
            f"The two images have little in common (correlation {correlation:.2f}), and no shift between "
            "them could be measured: they probably show different places.",
            "Check that both files, and the compared bands, are the right ones.",
        )
    elif unlike:
        yield Finding(
            "low_correlation",
            "warning",
            f"The two images have little in common (correlation {correlation:.2f}).",
            "Check that the bands are the same.",
        )
    elif lost:
        yield Finding(
            "no_shift",
            "warning",
            "No shift between the images could be measured: they share too little structure.",
            "Check that both show the same place.",
        )
    if shift is not None and measurable and shift >= WARN_SHIFT:
        yield Finding(
            "shift",
            "warning",
            f"The two images are shifted against each other by {shift:.1f} pixels. The method tolerates up "
            "to one pixel, but edges of roofs, roads and fields may still look like change.",
            "Register the images more accurately." if removed else "--align shift removes the shift.",
        )


def of_light(light: tuple[float, float, float] | None, correlation: float | None) -> Iterator[Finding]:
    """Yield a note where the two images differ in brightness or scale.

    Parameters
    ----------
    light : tuple of float or None
        Gain and offset (after = gain x before + offset), and the difference of the medians over the
        interquartile range of the before image; medians over bands. None where that is not known.
    correlation : float or None
        Correlation of the dates. Where it is low, gain and offset mean nothing.
    """
    if light is None or correlation is None or correlation < WARN_CORRELATION:
        return
    gain, offset, level = light
    if 1 / OTHER_GAIN < gain < OTHER_GAIN and abs(level) < OTHER_LEVEL:
        return
    yield Finding(
        "light",
        "info",
        f"The two images differ in illumination or scale: about after = {gain:.3g} x before "
        f"{'+' if offset >= 0 else '-'} {abs(offset):.4g}. The probability takes this into account.",
        "Compare images of the same kind (both reflectance, for instance) and season if you can.",
    )


def of_levels(
    names: tuple[str, str], offset: float | None, raised: tuple[float | None, float | None]
) -> Iterator[Finding]:
    """Yield a warning where values seem to carry an offset that is not declared, or not in the way declared.

    Parameters
    ----------
    names : tuple of str
        Names of the images.
    offset : float or None
        What seems to have been added to the after image alone.
    raised : tuple of float or None
        Levels that the images do not get below, before and after; None where they do.
    """
    consequence = (
        "Indices (NDVI, NDWI, NDBI) and --ignore need values in proportion to reflectance; the probability "
        "does not."
    )
    remedy = (
        "If it is Sentinel-2 of processing baseline 04.00 or later, declare that: rio edit-info --tag "
        "PROCESSING_BASELINE=04.00 FILE. For other products declare scale and offset: gdal_translate "
        "-a_scale 0.0000275 -a_offset -0.2 FILE NEW.tif (Landsat Collection 2)."
    )
    if offset is not None:
        high, low = (names[1], names[0]) if offset > 0 else (names[0], names[1])
        yield Finding(
            "offset",
            "warning",
            f"The values of {high} lie about {abs(offset):.4g} above those of {low} in all bands, also where "
            "it is dark: an offset that is not declared, or is declared although it was removed before. "
            f"{consequence}",
            remedy,
        )
        return
    for name, level in zip(names, raised, strict=True):
        if level is not None:
            yield Finding(
                "offset",
                "info",
                f"{name}: no visible band has values below {level:.4g}, so it may have an offset that is "
                f"not declared. {consequence}",
                remedy,
            )


def of_valid_share(share: float | None) -> Iterator[Finding]:
    """Yield a warning where few pixels, as a share in [0, 1], are valid in both dates."""
    if share is None or share >= LITTLE_VALID:
        return
    yield Finding(
        "little_valid",
        "warning",
        f"Only a part of the raster could be analysed ({in_percent(share)}): nothing is known about the "
        "rest.",
        "Check nodata, masks and --valid of both images if this is less than you expect; --valid is 0 where "
        "the pair may not be used, the inverse of a cloud mask.",
    )


def of_zeros(name: str, share: float) -> Iterator[Finding]:
    """Yield a warning where so many pixels of an image are 0 that 0 may mean "no data".

    Parameters
    ----------
    name : str
        The name of the image.
    share : float
        Share of its valid pixels that are 0 in all bands, in [0, 1].
    """
    if share > WARN_ZEROS:
        yield Finding(
            "undeclared_nodata",
            "warning",
            f"{name}: {share:.0%} of the pixels that count as valid are 0 in all bands.",
            "If 0 means 'no data', pass --nodata 0. Otherwise gaps in the image, and pixels beside them, may "
            "count as change.",
        )


def of_rim(
    name: str, value: str, share: float, *, inside: float = 0.0, blurred: bool = False, excluded: bool = True
) -> Iterator[Finding]:
    """Yield a warning about an undeclared rim of one value that touches the border of an image.

    Parameters
    ----------
    name : str
        The name of the image.
    value : str
        The value, or those of all bands, separated by commas.
    share : float
        Share of the pixels that have it in all compared bands, in [0, 1].
    inside : float
        Share of these that lie in areas that do not touch the border, in [0, 1].
    blurred : bool
        Whether pixels beside the rim are mixed with it.
    excluded : bool
        Whether the pixels are taken as no data.
    """
    single = "," not in value
    text = (
        f"{name}: about {in_percent(share)} of the pixels, in a rim at the border, are {value} in all bands"
    )
    if not excluded:
        yield Finding(
            "constant_rim",
            "warning",
            f"{text}. They are taken as values, not as no data.",
            f"If {value} means 'no data', pass --nodata {value}."
            if single
            else "If they mean 'no data', leave them out with --valid.",
        )
        return
    text += ", which the file does not declare as nodata. They are taken as no data"
    if inside >= LEAST_INSIDE:
        text += f", and so are the same pixels inside the image ({in_percent(inside)} of them)"
    if blurred:
        text += (
            ". Beside them are values that are mixed with the rim (by lossy compression or resampling) and "
            "may count as change"
        )
    yield Finding(
        "undeclared_rim",
        "warning",
        f"{text}.",
        (f"--nodata {value} declares it; " if single else "")
        + "--nodata none (nodata='none' in Python) takes these pixels as values.",
    )


def of_constant(names: Sequence[str]) -> Iterator[Finding]:
    """Yield a warning where bands have one value only, in one of the dates."""
    if names:
        yield Finding(
            "constant_band",
            "warning",
            f"Constant in one date, so without information: {enumerated(names)}.",
            "Leave such bands out with --bidx.",
        )


def of_band_names(before: Sequence[str], after: Sequence[str]) -> Iterator[Finding]:
    """Yield a warning where the bands of the two images have different names."""
    if tuple(before) != tuple(after):
        yield Finding(
            "band_names",
            "warning",
            f"The bands have different names: {enumerated(before)} and {enumerated(after)}.",
            "Check that they are the same bands in the same order.",
        )


def of_pixel_sizes(ratio: float | None) -> Iterator[Finding]:
    """Yield a warning where the pixels of one image are much wider; ``ratio`` is after over before."""
    if ratio is None or max(ratio, 1 / ratio) < WARN_COARSER:
        return
    coarse, fine, times = ("after", "before", ratio) if ratio > 1 else ("before", "after", 1 / ratio)
    yield Finding(
        "coarser",
        "warning",
        f"The pixels of {coarse} are {times:.2g} times as wide as those of {fine}, so it shows less"
        + (": detail of before alone will look like change." if ratio > 1 else "."),
        "Pass the coarser image as before, and the finer one will be averaged." if ratio > 1 else "",
    )


__all__ = [
    "Finding",
    "OtherDate",
    "Severity",
    "Verdict",
    "of_band_names",
    "of_constant",
    "of_dates",
    "of_levels",
    "of_light",
    "of_other_dates",
    "of_pixel_sizes",
    "of_rim",
    "of_structure",
    "of_valid_share",
    "of_zeros",
    "unexpected",
    "verdict",
    "warn",
]
