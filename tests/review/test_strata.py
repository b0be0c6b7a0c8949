"""Strata of a probability raster, and the sizes of samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import WriteRaster
from rasterio.transform import Affine

from geocd.review.strata import LEAST, Stratum, indexes_of, sample_sizes, strata_of


def of(name: str, area: float, pixels: int = 10**6) -> Stratum:
    return Stratum(name, 0, 1, pixels, area)


def test_strata_cover_every_valid_pixel_once(write_raster: WriteRaster) -> None:
    prob = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(100, 100)
    prob[0, :10] = np.nan
    prob[0, 10] = -0.0
    path = str(write_raster("prob", prob, nodata=np.nan))
    changed, near, unchanged = strata = strata_of(path, 0.7)
    assert (changed.name, near.name, unchanged.name) == ("changed", "near", "unchanged")
    assert changed.pixels == np.count_nonzero(prob >= np.float32(0.7))
    assert near.pixels == pytest.approx(700, rel=0.1)
    assert near.pixels <= 700
    assert sum(s.pixels for s in strata) == 9990
    assert sum(s.area for s in strata) == pytest.approx(9990 * 100, rel=1e-3)
    assert (near.map_class, changed.map_class) == ("unchanged", "changed")
    counts = np.bincount(indexes_of(prob, strata)[np.isfinite(prob)], minlength=3)
    assert counts.tolist() == [s.pixels for s in strata]


def test_areas_are_those_on_the_ellipsoid(write_raster: WriteRaster) -> None:
    """At 60 degrees north a degree of longitude has half the length that it has at the equator."""
    prob = np.zeros((2000, 300), np.float32)
    prob[:1000] = 1
    path = str(
        write_raster(
            "prob", prob, crs="EPSG:4326", transform=Affine(0.01, 0, 10, 0, -0.06, 90), nodata=np.nan
        )
    )
    north, south = strata_of(path, 0.5)
    assert (north.name, south.name) == ("changed", "unchanged")
    circumference = 3 / 360
    # a zone from 30 degrees to the pole is a quarter of the sphere, and so is that from 30 south to 30 north
    assert north.area == pytest.approx(510.066e12 / 4 * circumference, rel=5e-3)
    assert south.area == pytest.approx(510.066e12 / 2 * circumference, rel=5e-3)


@pytest.mark.parametrize("values", [(0.0,), (0.9,), (0.0, 0.9)])
def test_what_has_no_pixel_is_no_stratum(values: tuple[float, ...], write_raster: WriteRaster) -> None:
    prob = np.full((20, 20), values[0], np.float32)
    prob[:5] = values[-1]
    strata = strata_of(str(write_raster("prob", prob)), 0.5)
    assert [s.map_class for s in strata] == ["changed" if v >= 0.5 else "unchanged" for v in values[::-1]]


def test_sizes_are_those_of_equation_13() -> None:
    strata = [of("changed", 3), of("near", 10), of("unchanged", 87)]
    spread = 0.03 * math.sqrt(0.21) + 0.1 * 0.3 + 0.87 * 0.14
    total = math.ceil((spread / 0.01) ** 2)
    assert sample_sizes(strata) == [LEAST, LEAST, total - 2 * LEAST]
    assert sum(sample_sizes(strata, standard_error=0.005)) == math.ceil((spread / 0.005) ** 2)
    assert sample_sizes(strata, size=100) == [25, 25, 50]
    assert sample_sizes(strata, size=1000) == [LEAST, LEAST, 850]
    assert sample_sizes(strata, standard_error=0.1) == [LEAST, LEAST, LEAST]


def test_no_stratum_has_more_points_than_pixels() -> None:
    assert sample_sizes([of("changed", 1, pixels=3), of("unchanged", 99)], size=100) == [3, 67]
