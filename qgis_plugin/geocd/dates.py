"""Dates of images, from what they are called. Knows nothing of QGIS."""

from __future__ import annotations

import re
from collections.abc import Iterable

_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_:.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?!\d)")


def date_in(texts: Iterable[str]) -> str | None:
    """Return the first date in some texts as ``YYYY-MM-DD``, else the first year, else None."""
    texts = list(texts)
    for text in texts:
        for match in _DATE.finditer(text):
            return f"{match[1]}-{match[3]}-{match[4]}"
    for text in texts:
        for match in _YEAR.finditer(text):
            return match[1]
    return None


def lines_with_dates(text: str) -> list[str]:
    """Return the lines of a text, or the texts between the tags of HTML, that speak of a date."""
    return [line for line in re.split(r"[<>\n]", text) if "DATE" in line or "date" in line]


def in_order(dates: list[str | None]) -> tuple[int, int] | None:
    """Return the positions of the earliest and the latest of some dates; None unless two differ.

    Images without a date are proposed only where no two have one: the last and the first, as the layer on top
    is most often the newest.
    """
    dated = sorted((date, position) for position, date in enumerate(dates) if date)
    if len(dated) >= 2 and dated[0][0] != dated[-1][0]:
        return dated[0][1], dated[-1][1]
    return (len(dates) - 1, 0) if len(dates) >= 2 else None
