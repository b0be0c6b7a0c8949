"""What bands show, by name."""

from __future__ import annotations

import pytest

from geocd.raster.bands import colour_bands, named_colours


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["B02", "B03", "B04", "B08", "B11", "B12"], (2, 1, 0, 3)),  # Sentinel-2 subset
        ([f"B{i:02d}" for i in range(1, 13)], (3, 2, 1, 7)),  # Sentinel-2 with its aerosol band
        (["B1", "B2", "B3", "B4", "B5", "B7"], (2, 1, 0, 3)),  # Landsat 5
        (["SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B6", "SR_B7"], (2, 1, 0, 3)),  # Landsat 8
        (["SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B6"], (3, 2, 1, 4)),  # with aerosol
        (["B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12"], (2, 1, 0, 6)),  # 20 m bands
        (["red", "green", "blue"], (0, 1, 2)),
        (["Blue", "Green", "Red", "NIR"], (2, 1, 0, 3)),
        (["red edge 1", "green", "red", "blue"], (2, 1, 3)),
        (["VV", "VH"], None),
        (["band 1"], None),
    ],
)
def test_named_colours(names: list[str], places: tuple[int, ...] | None) -> None:
    assert named_colours(names) == places


def test_unnamed_bands_are_taken_from_the_first() -> None:
    assert colour_bands(["VV", "VH"]) == (0, 1)
    assert colour_bands(["x"] * 13) == (0, 1, 2, 3)
