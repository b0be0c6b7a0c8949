"""The drawings of the report: histogram and loss curve."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np


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


def histogram(counts: Sequence[int], threshold: float) -> Drawing | None:
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


def loss_curve(losses: Sequence[float]) -> Drawing | None:
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
