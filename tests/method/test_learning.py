"""What fitting has in common: the bulk of a map, seeds of tiles, shares of devices."""

from __future__ import annotations

import torch
from simulated import simulated_chip

from geocd.method import learning


def test_the_bulk_ends_below_what_few_pixels_have() -> None:
    values = torch.rand(1, 1, 50, 50, generator=torch.Generator().manual_seed(0))
    values[0, 0, :5] = 100
    everywhere = torch.ones_like(values)
    assert 1 < learning.bulk(values, everywhere) < 3
    assert learning.bulk(values * 0, everywhere) == 0
    few = torch.zeros_like(values)
    few[0, 0, :5] = 1
    assert learning.bulk(values, few) == 100, "of the valid pixels alone"


def test_random_numbers_belong_to_a_tile() -> None:
    def draw(*tile: int) -> float:
        torch.manual_seed(sum(tile))  # must not matter
        return float(torch.rand(1, generator=learning.seeded(*tile)))

    assert draw(0, 512, 0) == draw(0, 512, 0)
    assert len({draw(0, 512, 0), draw(0, 0, 512), draw(1, 512, 0)}) == 3


def test_a_tile_stays_with_its_device() -> None:
    chips = [simulated_chip(row=row, col=row // 2) for row in range(0, 4160, 416)]
    shares = [learning.share("ab", chip) for chip in chips]
    assert set(shares) == {"a", "b"}
    assert shares == [learning.share("ab", chip) for chip in chips]
