"""The prior on cover: what it leaves alone, what it holds back, and what it refuses."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rasterio.windows import Window

from geocd.config import Settings
from geocd.errors import ConfigError
from geocd.method.cover import CoverPrior
from geocd.raster.pair import Chip
from geocd.raster.scaling import Scaling

#: Green, red and near infrared of some covers, reflectance.
COVERS = {
    "bare": (0.15, 0.2, 0.25),
    "built": (0.18, 0.19, 0.2),
    "forest": (0.05, 0.03, 0.4),
    "water": (0.06, 0.04, 0.01),
}
NAMES = ("B02", "B03", "B04", "B08")


def pair_of(**more: Any) -> Any:
    usual = {
        "band_names": NAMES,
        "dtypes": ("uint16", "uint16"),
        "scalings": (Scaling(), Scaling()),
        "before_path": "before.tif",
        "after_path": "after.tif",
        "grid": SimpleNamespace(shape=(9, 9), pixel_size=10.0),
    }
    return SimpleNamespace(**(usual | more))


def chip_of(before: str, after: str, offset: float = 0.0) -> Chip:
    dates = []
    for cover, added in ((before, 0.0), (after, offset)):
        green, red, nir = COVERS[cover]
        values = np.array([green, green, red, nir], np.float32) * 10_000 + added
        dates.append(np.broadcast_to(values[:, None, None], (4, 9, 9)).copy())
    return Chip(dates[0], dates[1], np.ones((9, 9), bool), Window(0, 0, 9, 9))


def under(before: str, after: str, distance: float = 3.0) -> float:
    values = CoverPrior.of(pair_of()).apply(torch.full((9, 9), distance), chip_of(before, after))
    assert torch.allclose(values, values[0, 0].expand_as(values), atol=1e-5)
    return float(values[4, 4])


def test_what_is_built_stands_out() -> None:
    assert under("bare", "built") > 3
    assert under("bare", "built") > under("forest", "built") > under("forest", "forest")
    assert under("forest", "bare") == pytest.approx(3 - (0.8 - 0.35), abs=0.02), "held back a little"
    assert under("forest", "forest") < 1, "the same cover"
    assert under("water", "water") < 2, "the same cover"
    assert under("bare", "water") == pytest.approx(under("bare", "bare"), abs=0.02), "a flood, as before"


def test_by_hand() -> None:
    """Forest on both dates: NDVI 0.37 / 0.43, NDWI -0.78."""
    ndvi = 0.37 / 0.43
    same = 1 - 0.6 / (1 + np.exp(-(ndvi - 0.4) / 0.05))
    assert under("forest", "forest") == pytest.approx(3 * same - (0.8 - 0.35), abs=1e-4)
    assert under("forest", "forest", -0.5) == pytest.approx(-0.5 - (0.8 - 0.35), abs=1e-4), "no gain below 0"


def test_an_offset_that_is_declared_is_removed() -> None:
    after = Scaling((1.0,) * 4, (-1000.0,) * 4)
    prior = CoverPrior.of(pair_of(scalings=(Scaling(), after)))
    values = prior.apply(torch.full((9, 9), 3.0), chip_of("forest", "forest", 1000.0))
    assert float(values[4, 4]) == pytest.approx(under("forest", "forest"), abs=1e-3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"band_names": ("band 1", "band 2", "band 3")}, "needs the bands green, red, nir.*band 1, band 2"),
        ({"band_names": ("red", "green", "blue")}, "but nir cannot be identified"),
        ({"dtypes": ("uint8", "uint16")}, r"before\.tif has 8-bit values \(uint8\)"),
        ({"dtypes": ("uint16", "uint8")}, r"after\.tif has 8-bit values"),
    ],
)
def test_what_has_no_reflectance_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"--focus built: .*{message}"):
        CoverPrior.of(pair_of(**more))


@pytest.mark.parametrize("other", [{"method": "cva"}, {"preset": "reference"}])
def test_other_methods_have_no_focus(other: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"--focus: .*only one"):
        Settings.from_flat({"focus": "built", **other})


@pytest.mark.parametrize(
    ("share", "pixel_size", "excess"),
    [(0.02, 20.0, 0.0), (0.1, 20.0, 0.3), (0.5, 20.0, 0.3), (0.1, None, 0.0)],
    ids=["rare, as built change is", "more", "half of the scene", "less than 0.8 km2"],
)
def test_more_is_asked_where_much_reaches_the_decision(
    share: float, pixel_size: float | None, excess: float
) -> None:
    """A square of 200 pixels, a tenth of it not valid; some rows are at 2.3, the rest at 0."""
    prior = CoverPrior.of(pair_of(grid=SimpleNamespace(shape=(200, 200), pixel_size=pixel_size)))
    valid = np.ones((200, 200), bool)
    valid[:, 180:] = False
    chip = Chip(np.empty(0), np.empty(0), valid, Window(0, 0, 200, 200))
    distance = torch.zeros(200, 200)
    distance[: round(200 * share)] = 2.3
    distance[:, 180:] = 100.0
    assert prior.fitted([(chip, distance)], 2.0).excess == pytest.approx(excess, abs=1e-4)
    assert prior.fitted([(chip, 3 * distance)], 2.0).excess == (0.5 if excess else 0.0), "no more than that"


def test_what_is_asked_beyond_the_decision_is_taken_off() -> None:
    prior, chip, distance = CoverPrior.of(pair_of()), chip_of("bare", "built"), torch.full((9, 9), 3.0)
    more = dataclasses.replace(prior, excess=0.25)
    assert float(prior.apply(distance, chip)[4, 4] - more.apply(distance, chip)[4, 4]) == pytest.approx(0.25)
