"""The pictures on the report's page as data URIs: both dates, the probability over them, chips of places."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from geocd.report.chips import chip_window
from geocd.report.places import Places
from geocd.report.quicklook import ALPHA, colours
from geocd.report.thumbnails import Thumbnails, on_checkerboard

#: Quality of the JPEGs (of 100), and whether colours have half the resolution; the second where all pictures
#: of one kind take more bytes than the budget with the first.
QUALITIES = ({"quality": 90, "subsampling": 0}, {"quality": 80, "subsampling": 2})
#: Bytes of both dates together, and of all chips together, from which on the second quality is used.
BUDGET = 2_000_000
#: Most places with chips, the largest first.
MOST_CHIPS = 50
#: Levels of the probability in the picture that lies over the dates, beside the one that is not valid.
_LEVELS = 62


@dataclasses.dataclass(frozen=True)
class ChipImages:
    """A place at native pixels, before and after, as data URIs.

    Attributes
    ----------
    place : int
        Position in the list of places.
    window : tuple of int
        First column, first row, width, height, in pixels of the grid.
    before, after : str
    """

    place: int
    window: tuple[int, int, int, int]
    before: str
    after: str


def overview(thumbnails: Thumbnails) -> dict[str, str]:
    """Return both dates (JPEG) and the probability (PNG, transparent where it is 0 or not valid)."""
    dates = {
        "before": thumbnails.panel(thumbnails.before, thumbnails.valid_before),
        "after": thumbnails.panel(thumbnails.after, thumbnails.valid_after),
    }
    uris = dict(zip(dates, _jpegs(list(dates.values())), strict=True))
    return {**uris, "prob": _prob(thumbnails)}


def chips(thumbnails: Thumbnails, places: Places) -> list[ChipImages]:
    """Return the largest places at native pixels; none where the overview has these pixels already.

    Raises
    ------
    RasterOpenError, RasterReadError
    """
    if thumbnails.prob.shape == thumbnails.grid_shape:
        return []
    count = min(MOST_CHIPS, len(places))
    windows = [chip_window(places.bounds[i], places.middles[i], thumbnails.grid_shape) for i in range(count)]
    # by rows, so that blocks are read that have been read for the last one
    order = sorted(range(count), key=lambda i: (windows[i].row_off, windows[i].col_off))
    pictures: list[Image.Image] = []
    for chip in thumbnails.view.chips([windows[i] for i in order]):
        pictures.append(on_checkerboard(chip.before, chip.valid_before))
        pictures.append(on_checkerboard(chip.after, chip.valid_after))
    uris = iter(_jpegs(pictures))
    made = [
        ChipImages(i, (w.col_off, w.row_off, w.width, w.height), before=next(uris), after=next(uris))
        for i, w in ((i, windows[i]) for i in order)
    ]
    return sorted(made, key=lambda chip: chip.place)


def _jpegs(pictures: Sequence[Image.Image]) -> Iterator[str]:
    """Return pictures as data URIs, all in one quality.

    Pillow's ``optimize`` would save 5 %, but fails on noise: the buffer that it takes is too small.
    """
    encoded: list[bytes] = []
    for options in QUALITIES:
        encoded = [_encoded(picture, "jpeg", **options) for picture in pictures]
        if sum(map(len, encoded)) <= BUDGET:
            break
    return (_data_uri("jpeg", content) for content in encoded)


def _prob(thumbnails: Thumbnails) -> str:
    steps = np.round(np.clip(np.nan_to_num(thumbnails.prob), 0, 1) * _LEVELS).astype(np.uint8)
    indexed = np.where(np.isfinite(thumbnails.prob), steps + np.uint8(1), np.uint8(0))
    rows, cols = thumbnails.scale
    prob = Image.fromarray(np.repeat(np.repeat(indexed, rows, 0), cols, 1), "L")
    levels = np.linspace(0, 1, _LEVELS + 1, dtype=np.float32)
    prob.putpalette([0, 0, 0, *colours(levels).ravel().tolist()])
    alpha = np.round(np.interp(levels, *ALPHA)).astype(np.uint8)
    return _data_uri("png", _encoded(prob, "png", transparency=bytes([0, *alpha.tolist()])))


def _encoded(image: Image.Image, kind: str, **options: int | bytes) -> bytes:
    """Return the file of a picture; ``kind`` is ``jpeg`` or ``png``, the options are Pillow's."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


__all__ = ["ChipImages", "chips", "overview"]
