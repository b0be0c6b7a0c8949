"""Indices and covers of mean reflectance."""

from __future__ import annotations

import numpy as np
import pytest

from geocd.vectorize.surfaces import Surface, angle, cleared

WORDS = ("blue", "green", "red", "nir", "swir", "swir2")
#: Reflectance of usual surfaces in these bands.
SPECTRA = {
    "forest": (0.02, 0.04, 0.025, 0.3, 0.14, 0.06),
    "meadow": (0.04, 0.07, 0.05, 0.33, 0.22, 0.12),
    "soil": (0.08, 0.1, 0.13, 0.2, 0.28, 0.24),
    "roof": (0.12, 0.12, 0.13, 0.16, 0.17, 0.16),
    "sea": (0.04, 0.04, 0.02, 0.01, 0.005, 0.004),
    "flood": (0.06, 0.08, 0.08, 0.06, 0.03, 0.02),
    "char": (0.03, 0.04, 0.05, 0.08, 0.14, 0.15),
    "snow": (0.85, 0.86, 0.85, 0.8, 0.12, 0.09),
    "cloud": (0.55, 0.54, 0.53, 0.58, 0.45, 0.35),
}


def surface(*names: str, bands: int = 6, gain: float = 1.0) -> Surface:
    values = np.array([SPECTRA[name] for name in names]).T * gain
    return Surface(dict(zip(WORDS[:bands], values, strict=False)), len(names))


@pytest.mark.parametrize(
    ("name", "cover"),
    [
        ("forest", "vegetation"),
        ("meadow", "vegetation"),
        ("soil", "bare"),
        ("char", "bare"),
        ("roof", "built"),
        ("sea", "water"),
        ("flood", "water"),
        ("snow", "snow"),
        ("cloud", "cloud"),
    ],
)
def test_covers(name: str, cover: str) -> None:
    assert surface(name).cover.tolist() == [cover]


@pytest.mark.parametrize(("name", "cover"), [("forest", "vegetation"), ("soil", "built or bare")])
def test_covers_of_colours(name: str, cover: str) -> None:
    assert surface(name, bands=3).cover.tolist() == [cover]


def test_indices_of_missing_bands_are_unknown() -> None:
    colours = surface("forest", bands=3)
    assert np.isnan([colours.value(name)[0] for name in ("ndvi", "mndwi", "nbr", "nir")]).all()
    assert colours.value("ngrdi")[0] == pytest.approx((0.04 - 0.025) / 0.065)
    assert surface("forest").value("nbr")[0] == pytest.approx((0.3 - 0.06) / 0.36)
    assert surface("forest", bands=5).value("nbr")[0] == pytest.approx((0.3 - 0.14) / 0.44)


def test_light_leaves_the_angle() -> None:
    assert angle(surface("soil"), surface("soil", gain=1.7))[0] == pytest.approx(0, abs=1e-6)
    assert angle(surface("soil"), surface("roof"))[0] > 0.2


def test_a_road_is_seen_beside_the_meadow_that_is_left_in_its_pixels() -> None:
    before = surface("meadow")
    share = 0.5
    mixed = {
        word: before.bands[word] * (1 - share) + surface("roof").bands[word] * share for word in before.bands
    }
    road = cleared(before, Surface(mixed, 1))
    assert not Surface(mixed, 1).built[0]
    assert road.built[0]
    assert road.value("ndvi")[0] == pytest.approx(0.15, abs=1e-3)
