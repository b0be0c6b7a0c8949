"""The quick-look: one picture with before, after, probability and changes."""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from geocd.location import Location
from geocd.raster.files import output_errors
from geocd.report.stretch import Picture
from geocd.report.thumbnails import SMALLEST, Thumbnails
from geocd.types import Float32Array

#: Colours of the probability at these values, those of the style for QGIS: steadily darker, also in grey and
#: for the colour-blind. Over an image they are as opaque as the last column says, of 255.
RAMP = (
    (0.0, (255, 245, 180), 0),
    (0.2, (255, 245, 180), 0),
    (0.5, (255, 217, 70), 150),
    (0.7, (250, 140, 40), 195),
    (0.85, (228, 45, 70), 210),
    (1.0, (170, 0, 140), 220),
)
#: Values of the probability, and how opaque it is there.
ALPHA = tuple(stop[0] for stop in RAMP), tuple(stop[2] for stop in RAMP)
_PAPER, _INK, _FAINT, _FRAME = (255, 255, 255), (32, 36, 40), (110, 116, 122), (196, 200, 204)
_CHANGE = RAMP[-1][1]  # a colour that vegetation, soil, water and roofs do not have
_MARGIN, _GAP, _TEXT = 16, 20, 13
#: Of zlib. Pillow's 9 for ``optimize`` takes four times as long, for 2 % of the size.
_COMPRESSION = 4


@dataclasses.dataclass(frozen=True)
class _Caption:
    """The line above a panel: a title, a text beside it, and one flush right or the colour bar."""

    title: str
    text: str = ""
    right: str = ""
    colour_bar: bool = False


def quicklook(
    thumbnails: Thumbnails,
    destination: Path,
    *,
    names: tuple[str, str],
    threshold: float,
    dates: tuple[str | None, str | None] = (None, None),
    changed_share: float | None = None,
) -> None:
    """Write a PNG of a result: before, after, probability, and the changes over the after image.

    The panels are arranged in one row, one column or two by two, whichever fits the shape of the raster.
    Pixels that are not valid are shown as a grey checkerboard.

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
        Share of the valid pixels that changed, in [0, 1], for the caption: it cannot be counted in a
        decimated picture.

    Raises
    ------
    OutputError
        The PNG cannot be written.
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
        _Caption("before", titles[0], note),
        _Caption("after", titles[1], ", ".join(part for part in (note, warped) if part)),
        _Caption("change probability", colour_bar=True),
        _Caption("changes over after", f"prob >= {threshold:.3g}", percent(changed_share)),
    )
    picture = _sheet(panels, captions, threshold)
    with output_errors(destination):
        picture.save(destination, format="PNG", compress_level=_COMPRESSION)


def colours(prob: Float32Array) -> Picture:
    """Return the colours of probabilities of any shape: ``(..., 3)``, uint8; NaN as 0."""
    position = np.clip(np.nan_to_num(prob, nan=0.0), 0, 1)
    channels = [np.interp(position, ALPHA[0], [stop[1][c] for stop in RAMP]) for c in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def _with_changes(after: Picture, share: Float32Array) -> Picture:
    """Return the after image in grey with the changes tinted, the stronger the larger their share."""
    grey = after.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    base = 0.75 * grey[..., None] + 0.25 * after
    changed = np.nan_to_num(share, nan=0.0)
    # The image stays visible under a change, and even a small change is visible.
    tint = np.where(changed > 0, 0.35 + 0.35 * changed, 0)[..., None]
    mixed = base * (1 - tint) + np.array(_CHANGE, dtype=np.float32) * tint
    tinted: Picture = np.round(mixed).astype(np.uint8)
    return tinted


def _sheet(panels: Sequence[Image.Image], captions: Sequence[_Caption], threshold: float) -> Image.Image:
    """Return the panels with captions above them on one white sheet."""
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
    for index, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        row, col = divmod(index, cols)
        left, top = _MARGIN + col * (cell[0] + _GAP), _MARGIN + row * (cell[1] + _GAP)
        draw.text((left, top), caption.title, fill=_INK, font=font)
        used = draw.textlength(caption.title, font=font) + 10
        if caption.colour_bar:
            _colour_bar(draw, left + used, top, left + cell[0], threshold)
        else:
            space = cell[0] - used
            if caption.right:
                length = draw.textlength(caption.right, font=font)
                draw.text((left + cell[0] - length, top), caption.right, fill=_FAINT, font=font)
                space -= length + 10
            draw.text((left + used, top), _fit(draw, caption.text, font, space), fill=_FAINT, font=font)
        draw.rectangle(
            (left - 1, top + line - 1, left + panel.width, top + line + panel.height), outline=_FRAME
        )
        sheet.paste(panel, (left, top + line))
    return sheet


def _colour_bar(draw: ImageDraw.ImageDraw, left: float, top: float, right: float, threshold: float) -> None:
    """Draw the colours from 0 to 1, with a mark at the threshold, between ``left`` and ``right``."""
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
        x = begin + threshold * (len(ramp) - 1)
        draw.line((x, y0 - 3, x, y1 + 3), fill=_PAPER, width=3)
        draw.line((x, y0 - 3, x, y1 + 3), fill=_INK)
        draw.polygon([(x - 4, y0 - 5), (x + 4, y0 - 5), (x, y0)], fill=_INK)


def _fit(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, space: float
) -> str:
    """Return the text, without its middle where it is too long, because file names differ at their ends."""
    if draw.textlength(text, font=font) <= space:
        return text
    for count in range(len(text) - 1, 3, -1):
        short = text[: count // 2] + "..." + text[len(text) - (count - count // 2) :]
        if draw.textlength(short, font=font) <= space:
            return short
    return ""


def _name(path: str) -> str:
    """The file name in letters that Pillow's own font has."""
    plain = unicodedata.normalize("NFKD", Location(path).name)
    return "".join(c if " " <= c <= "~" else "?" for c in plain if not unicodedata.combining(c))


def percent(share: float | None) -> str:
    """Return a share in percent, "none" where it is 0, "" where it is None or NaN."""
    if share is None or math.isnan(share):
        return ""
    value = 100 * share
    return "none" if value == 0 else "< 0.1 %" if value < 0.1 else f"{value:.1f} %"


__all__ = [
    "ALPHA",
    "RAMP",
    "colours",
    "percent",
    "quicklook",
]
