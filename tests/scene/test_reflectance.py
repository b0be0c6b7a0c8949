"""Reflectance of stored values: by declared scale, by size, or stretched by the scene."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geocd.raster.pair import Pair
from geocd.scene.reflectance import Reflectance
from geocd.scene.sample import sample_chips

MakePair = Callable[..., tuple[Path, Path]]
NAMES = ("red", "nir")


def fields(dtype: str, scale: float, offset: float = 0) -> np.ndarray:
    """Return reflectance of 0.015 to 0.4 in two bands, as it is stored."""
    reflectance = np.random.default_rng(0).uniform(0.015, 0.4, (2, 60, 60))
    return (reflectance / scale + offset).astype(dtype)


def measured(pair: tuple[Path, Path]) -> Reflectance:
    with Pair(*pair) as opened:
        return Reflectance.measure(sample_chips(opened), opened)


@pytest.mark.parametrize(
    ("dtype", "scale", "offset", "tags"),
    [
        ("float32", 1, 0, {}),
        ("uint16", 1e-4, 0, {}),
        ("uint16", 1e-4, 1000, {"PROCESSING_BASELINE": "04.00"}),
    ],
)
def test_reflectance_is_read_as_it_is(
    make_pair: MakePair, dtype: str, scale: float, offset: float, tags: dict[str, str]
) -> None:
    images = fields(dtype, scale, offset), fields(dtype, scale, offset)[:, ::-1]
    values = measured(make_pair(*images, names=NAMES, tags=tags))
    assert values.absolute
    for date in (0, 1):
        stored = np.array([0.1 / scale + offset, 0.3 / scale + offset])
        np.testing.assert_allclose(values.of(date, "nir", stored), [0.1, 0.3], atol=2e-3)


def test_haze_is_subtracted_up_to_what_clear_air_adds(make_pair: MakePair) -> None:
    hazy, bright = fields("float32", 1) + 0.03, fields("float32", 1) + 0.3
    values = measured(make_pair(hazy, bright, names=NAMES))
    assert values.of(0, "red", np.array([0.23]))[0] == pytest.approx(0.2, abs=3e-3)
    assert values.of(1, "red", np.array([0.5]))[0] == pytest.approx(0.46, abs=1e-6), "0.04 at most"


@pytest.mark.parametrize("factor", [1.0, 0.6])
def test_pictures_are_stretched_date_by_date(make_pair: MakePair, factor: float) -> None:
    """The brightest pixels have the usual reflectance of their band, whatever the gain of the date."""
    images = fields("uint8", 1 / 500, 20), fields("uint8", 1 / 500 / factor, 5)
    values = measured(make_pair(*images, names=NAMES))
    assert not values.absolute
    for date, image in enumerate(images):
        dark, bright = np.percentile(image[1], [0.5, 95])
        np.testing.assert_allclose(values.of(date, "nir", np.array([dark, bright])), [0.02, 0.34], atol=1e-3)


def test_bands_without_names_have_numbers(make_pair: Any) -> None:
    assert set(measured(make_pair(fields("uint8", 0.01), fields("uint8", 0.02))).positions) == {"b1", "b2"}
