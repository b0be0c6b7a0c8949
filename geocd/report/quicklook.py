"""One picture of a run: before, after, probability and changes."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from geocd.location import Location
from geocd.raster.files import output_errors
from geocd.types import Float32Array

if TYPE_CHECKING:
    pass
from geocd.report.thumbnails import SMALLEST, Picture, Thumbnails

#: Colours of the probability from 0 to 1: dark to bright without a jump, also in grey and for the
#: colour-blind (the shape of matplotlib's "inferno").
RAMP = (
    (0, 0, 4),
    (40, 11, 84),
    (101, 21, 110),
    (159, 42, 99),
    (212, 72, 66),
    (245, 125, 21),
    (250, 193, 39),
    (252, 255, 164),
)
_PAPER, _INK, _FAINT, _FRAME = (255, 255, 255), (32, 36, 40), (110, 116, 122), (196, 200, 204)
_CHANGE = (255, 32, 96)  # neither vegetation, soil, water nor roofs look like this
_MARGIN, _GAP, _TEXT = 16, 20, 13


def quicklook(
    thumbnails: Thumbnails,
    destination: Path,
    *,
    names: tuple[str, str],
    threshold: float,
    dates: tuple[str | None, str | None] = (None, None),
    changed_share: float | None = None,
) -> None:
    """Write one PNG of a result: before, after, probability, and the changes over the after image.

    The panels stand in one row, one column or two by two, whichever fits the shape of the raster. What is
    not valid is a grey checker pattern.

    Parameters
    ----------
    thumbnails : Thumbnails
    destination : pathlib.Path
        The PNG.
    names : tuple of str
        Paths or URLs of the pair.
    threshold : float
        Changed where ``prob >= threshold``.
    dates : tuple of str or None
        Acquisition of the two, RFC 3339; the day is written beside the file name.
    changed_share : float, optional
        Share of the valid pixels that changed, to be written down: a decimated picture cannot count.

    Raises
    ------
    OutputError
    """
    panels = [
        thumbnails.panel(thumbnails.before, thumbnails.valid_before),
        thumbnails.panel(thumbnails.after, thumbnails.valid_after),
        thumbnails.panel(colours(thumbnails.prob), np.isfinite(thumbnails.prob)),
        thumbnails.panel(
            _with_changes(thumbnails.after, thumbnails.share),
            thumbnails.valid_after & np.isfinite(thumbnails.share),
        ),
    ]
    titles = [
        f"{date[:10]}  {_name(path)}" if date else _name(path)
        for date, path in zip(dates, names, strict=True)
    ]
    note = "stretched by itself" if thumbnails.apart else ""
    warped = "warped" if thumbnails.warped else ""
    captions = (
        ("before", titles[0], note),
        ("after", titles[1], ", ".join(part for part in (note, warped) if part)),
        ("change probability", "", "prob"),
        ("changes over after", f"prob >= {threshold:.3g}", percent(changed_share)),
    )
    picture = _sheet(panels, captions, threshold)
    with output_errors(destination):
        picture.save(destination, format="PNG", optimize=True)


def colours(prob: Float32Array) -> Picture:
    """Return the colour of every probability, ``(..., 3)`` uint8."""
    at = np.clip(np.nan_to_num(prob, nan=0.0), 0, 1)
    stops = np.linspace(0, 1, len(RAMP))
    channels = [np.interp(at, stops, [colour[c] for colour in RAMP]) for c in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def _with_changes(after: Picture, share: Float32Array) -> Picture:
    """The after image in grey, with the changes tinted: the tint is as strong as the share."""
    grey = after.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    base = 0.75 * grey[..., None] + 0.25 * after
    changed = np.nan_to_num(share, nan=0.0)
    # The image stays visible under a change, and even a small one is seen.
    tint = np.where(changed > 0, 0.35 + 0.35 * changed, 0)[..., None]
    mixed = base * (1 - tint) + np.array(_CHANGE, dtype=np.float32) * tint
    tinted: Picture = np.round(mixed).astype(np.uint8)
    return tinted


def _sheet(
    panels: Sequence[Image.Image], captions: Sequence[tuple[str, str, str]], threshold: float
) -> Image.Image:
    """Panels with captions above them on one white sheet."""
    font = ImageFont.load_default(_TEXT)
    line = _TEXT + 8
    width, height = panels[0].size
    cell = max(width, SMALLEST), height + line
    rows, cols = min(
        ((1, 4), (2, 2), (4, 1)),
        # the shape of a screen, more or less
        key=lambda n: abs(math.log(n[1] * (cell[0] + _GAP) / (n[0] * (cell[1] + _GAP)) / 1.4)),
    )
    sheet = Image.new(
        "RGB",
        (
            2 * _MARGIN + cols * cell[0] + (cols - 1) * _GAP,
            2 * _MARGIN + rows * cell[1] + (rows - 1) * _GAP,
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    for place, (panel, (title, middle, right)) in enumerate(zip(panels, captions, strict=True)):
        row, col = divmod(place, cols)
        left, top = _MARGIN + col * (cell[0] + _GAP), _MARGIN + row * (cell[1] + _GAP)
        draw.text((left, top), title, fill=_INK, font=font)
        used = draw.textlength(title, font=font) + 10
        if right == "prob":
            _colour_bar(draw, left + used, top, left + cell[0], threshold)
        else:
            space = cell[0] - used
            if right:
                needed = draw.textlength(right, font=font)
                draw.text((left + cell[0] - needed, top), right, fill=_FAINT, font=font)
                space -= needed + 10
            draw.text((left + used, top), _fit(draw, middle, font, space), fill=_FAINT, font=font)
        draw.rectangle(
            (left - 1, top + line - 1, left + panel.width, top + line + panel.height), outline=_FRAME
        )
        sheet.paste(panel, (left, top + line))
    return sheet


def _colour_bar(draw: ImageDraw.ImageDraw, left: float, top: float, right: float, threshold: float) -> None:
    """The ramp from 0 to 1, with a mark at the threshold."""
    font = ImageFont.load_default(_TEXT - 2)
    right -= draw.textlength("1", font=font) + 4
    begin = max(left + 14, right - 220)
    y0, y1 = top + 3, top + 13
    ramp = colours(np.linspace(0, 1, max(2, int(right - begin)), dtype=np.float32))
    for step, colour in enumerate(ramp):
        draw.line((begin + step, y0, begin + step, y1), fill=tuple(int(c) for c in colour))
    draw.text((begin - 10, top + 1), "0", fill=_FAINT, font=font)
    draw.text((right + 4, top + 1), "1", fill=_FAINT, font=font)
    if 0 <= threshold <= 1:
        at = begin + threshold * (len(ramp) - 1)
        draw.line((at, y0 - 3, at, y1 + 3), fill=_PAPER, width=3)
        draw.line((at, y0 - 3, at, y1 + 3), fill=_INK)
        draw.polygon([(at - 4, y0 - 5), (at + 4, y0 - 5), (at, y0)], fill=_INK)


def _fit(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, space: float
) -> str:
    """The text, with its middle left out where it is too long: names differ at their ends."""
    if draw.textlength(text, font=font) <= space:
        return text
    for keep in range(len(text) - 1, 3, -1):
        short = text[: keep // 2] + "..." + text[len(text) - (keep - keep // 2) :]
        if draw.textlength(short, font=font) <= space:
            return short
    return ""


def _name(path: str) -> str:
    """The file name in letters that Pillow's own font has."""
    plain = unicodedata.normalize("NFKD", Location(path).name)
    return "".join(c if " " <= c <= "~" else "?" for c in plain if not unicodedata.combining(c))


def percent(share: float | None) -> str:
    """Return a share in words, ``""`` where it is not known."""
    if share is None or math.isnan(share):
        return ""
    percent = 100 * share
    return "none" if percent == 0 else "< 0.1 %" if percent < 0.1 else f"{percent:.1f} %"


__all__ = [
    "RAMP",
    "colours",
    "percent",
    "quicklook",
]
