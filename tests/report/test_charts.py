"""The charts of the report."""

from __future__ import annotations

import math

import pytest

from geocd.report.charts import HEIGHT, WIDTH, histogram, loss_curve


def test_a_histogram_has_a_bar_for_each_bin_with_pixels() -> None:
    chart = histogram([1000, 50, 0, 20], 0.5)
    assert chart is not None
    assert [bar.changed for bar in chart.bars] == [False, False, True]
    assert [bar.x for bar in chart.bars] == [0.5, 140.5, 420.5]
    assert chart.bars[0].height > chart.bars[1].height > chart.bars[2].height > 0
    assert all(bar.y + bar.height == pytest.approx(HEIGHT) for bar in chart.bars)
    assert [label for _, label in chart.ticks_y] == ["1", "10", "100", "1k", "10k"]
    assert chart.mark == WIDTH / 2
    assert "between 0.00 and 0.25; 20 of 1,070" in chart.description


def test_a_histogram_of_nothing_is_not_drawn() -> None:
    assert histogram([], 0.5) is None
    assert histogram([0, 0], 0.5) is None


def test_a_loss_curve_goes_from_left_to_right() -> None:
    chart = loss_curve([4.0, 2.0, 3.0])
    assert chart is not None
    x, y = zip(*(map(float, point.split(",")) for point in chart.line.split()), strict=True)
    assert x == (0, WIDTH / 2, WIDTH)
    assert y[0] < y[2] < y[1]
    assert [label for _, label in chart.ticks_x] == ["1", "2", "3"]


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, math.nan]], ids=["none", "one step", "not finite"])
def test_a_loss_curve_that_cannot_be_drawn(losses: list[float]) -> None:
    assert loss_curve(losses) is None
