"""The charts of the report: histogram and loss curve."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: Size of the plotting area of both charts.
WIDTH, HEIGHT = 560.0, 180.0
#: Labels of the powers of ten.
_DECADES = [f"{n}{unit}" for unit in ("", "k", "M", "G", "T") for n in (1, 10, 100)]


class Bar(NamedTuple):
    """A bar of a histogram; ``changed`` where its bin lies at or above the decision threshold."""

    x: float
    y: float
    width: float
    height: float
    changed: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """A small chart, in the units of an SVG view box with its origin in the upper left.

    Attributes
    ----------
    ticks_x, ticks_y : list of tuple
        ``(position, label)``.
    description : str
        What the chart shows, for readers who cannot see it.
    width, height : float
        Size of the plotting area.
    bars : list of Bar
    line : str
        Points of a curve, ``x,y`` each.
    mark : float or None
        Position of the decision threshold.
    """

    ticks_x: list[tuple[float, str]]
    ticks_y: list[tuple[float, str]]
    description: str
    width: float = WIDTH
    height: float = HEIGHT
    bars: list[Bar] = dataclasses.field(default_factory=list)
    line: str = ""
    mark: float | None = None


def histogram(counts: Sequence[int], threshold: float) -> Chart | None:
    """Return the histogram of the probability, on a logarithmic axis because most pixels have not changed.

    Parameters
    ----------
    counts : sequence of int
        Pixels by probability, in bins of equal width from 0 to 1.
    threshold : float
        Decision threshold, in [0, 1].

    Returns
    -------
    Chart or None
        None where no pixel was counted.
    """
    if not counts or not any(counts):
        return None
    decades = max(1, math.ceil(math.log10(max(counts)) + 1e-9))

    def level(count: float) -> float:
        return HEIGHT * (1 - (math.log10(count) + 0.3) / (decades + 0.3))

    bin_width = WIDTH / len(counts)
    # A bin that the threshold cuts is on the side where most of it lies.
    changed = [(index + 0.5) / len(counts) >= threshold for index in range(len(counts))]
    bars = [
        Bar(
            x=round(index * bin_width + 0.5, 1),
            y=round(level(count), 1),
            width=round(bin_width - 1, 1),
            height=round(HEIGHT - level(count), 1),
            changed=changed[index],
        )
        for index, count in enumerate(counts)
        if count
    ]
    peak = int(np.argmax(counts))
    above = sum(count for count, is_changed in zip(counts, changed, strict=True) if is_changed)
    return Chart(
        ticks_x=[(round(WIDTH * i / 5, 1), f"{i / 5:g}") for i in range(6)],
        ticks_y=[(round(level(10**i), 1), _DECADES[i]) for i in range(decades + 1)],
        description="Histogram of the change probability, logarithmic. Most pixels lie between "
        f"{peak / len(counts):.2f} and {(peak + 1) / len(counts):.2f}; {above:,} of {sum(counts):,} lie "
        f"at or above the decision threshold, {threshold:g}.",
        bars=bars,
        mark=round(WIDTH * threshold, 1),
    )


def loss_curve(losses: Sequence[float]) -> Chart | None:
    """Return the loss by optimisation step; None for fewer than two steps or losses that are not finite."""
    if len(losses) < 2 or not np.isfinite(losses).all():
        return None
    low, high = min(losses), max(losses)
    span = (high - low) or 1.0
    points = (
        f"{WIDTH * i / (len(losses) - 1):.1f},{HEIGHT * (0.95 - 0.9 * (value - low) / span):.1f}"
        for i, value in enumerate(losses)
    )
    steps = (1, (len(losses) + 1) // 2, len(losses))
    return Chart(
        ticks_x=[(round(WIDTH * (n - 1) / (len(losses) - 1), 1), str(n)) for n in steps],
        ticks_y=[
            (round(HEIGHT * (0.95 - 0.9 * share), 1), f"{low + share * span:.3g}") for share in (0, 0.5, 1)
        ],
        description=f"Loss over {len(losses)} steps: {losses[0]:.3g} at the first, {losses[-1]:.3g} at the "
        "last.",
        line=" ".join(points),
    )


__all__ = [
    "Bar",
    "Chart",
    "histogram",
    "loss_curve",
]
