"""Values in words: areas, shares, days, lists of names."""

from __future__ import annotations

import math
from collections.abc import Sequence


def day(date: str | None) -> str | None:
    """Return the day of an RFC 3339 date, ``YYYY-MM-DD``."""
    return None if date is None else date[:10]


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


def listed_values(values: Sequence[float], most: int = 12) -> str:
    """Return the first values of a raster, and how many more there are."""
    return enumerated([f"{value:.6g}" for value in values], most)


def enumerated(names: Sequence[str], most: int = 4) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


__all__ = ["area_in_words", "day", "digits", "enumerated", "in_percent", "listed_values"]
