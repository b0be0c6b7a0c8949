"""The first date of lasting change: the raster is that of the rule, pixel by pixel."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from conftest import WriteRaster
from rasterio.warp import transform

from geocd.errors import GridError
from geocd.raster import composite as composites
from geocd.raster.composite import Change, Composite, decimal_year, write_composite

DAYS = [datetime.date(2023, month, 15) for month in range(1, 9)]
PAIRS = [(first, second) for first in range(8) for second in range(first + 1, min(first + 4, 8))]


def of_pixel(probs: dict[tuple[int, int], float]) -> tuple[Change | None, float]:
    """Return the change of a pixel and its share, by the rule in its own words."""
    passing: set[int] = set()
    waiting = None
    for first in range(len(DAYS)):
        if first in passing:
            continue
        seen = [
            (second, probs[first, second] >= 0.5)
            for start, second in PAIRS
            if start == first and second not in passing and not np.isnan(probs[start, second])
        ]
        if not seen or not seen[0][1]:
            continue
        later = [hit for _, hit in seen[1:]]
        if not later:
            waiting = waiting or Change(first, seen[0][0], False)
        elif sum(later) >= len(later) / 2:
            return Change(first, seen[0][0], True), sum(later) / len(later)
        else:
            passing |= {second for second, hit in seen if hit}
    return waiting, np.nan


def test_every_pixel_follows_the_rule(
    write_raster: WriteRaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random probabilities, a third of them changed and a third clouded, in strips."""
    monkeypatch.setattr(composites, "_PIXELS", 1)
    random = np.random.default_rng(0)
    shape = 600, 40
    stack = {}
    for pair in PAIRS:
        values = random.choice([0.1, 0.9, np.nan], shape).astype(np.float32)
        stack[pair] = np.where(random.random(shape) < 0.5, np.float32(0.1), values)
    files = {
        pair: write_raster(f"p{pair[0]}{pair[1]}", values, nodata=np.nan) for pair, values in stack.items()
    }
    changes = write_composite(Composite(DAYS, files, 0.5), tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        bands = dataset.read()
    present = set()
    for row, col in [(row, col) for row in range(0, 600, 7) for col in range(40)]:
        change, share = of_pixel({pair: float(values[row, col]) for pair, values in stack.items()})
        expected = np.full(5, np.nan, np.float32)
        if change is not None:
            present.add(change)
            years = [decimal_year(DAYS[position]) for position in (change.second, change.first)]
            expected[:2] = years if change.confirmed else np.nan
            expected[3:] = np.nan if change.confirmed else years
            expected[2] = share
        np.testing.assert_allclose(bands[:, row, col], expected, atol=1e-4)
    assert present <= set(changes)
    assert len(changes) > 20
    assert changes == sorted(changes)


def test_a_series_of_more_pairs_than_a_process_may_open(write_raster: WriteRaster, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = write_raster("p", np.full((20, 20), 0.1, np.float32), nodata=np.nan)
    days = [datetime.date(2023, 1, 1) + datetime.timedelta(days=number) for number in range(301)]
    pairs = dict.fromkeys(((number, number + 1) for number in range(300)), path)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open() as lowest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno() + 100, limits[1]))
    try:
        assert write_composite(Composite(days, pairs, 0.5), tmp_path / "out.tif") == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_days_as_years_can_be_told_apart_in_float32() -> None:
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=number) for number in range(400)]
    years = np.array([decimal_year(day) for day in days], np.float32)
    assert len(set(years.tolist())) == 400
    assert decimal_year(datetime.date(2023, 7, 2)) == pytest.approx(2023.4986, abs=1e-4)


def test_pairs_on_other_grids_are_warped_onto_the_first(write_raster: WriteRaster, tmp_path: Path) -> None:
    """One of another origin, one of the next zone of UTM; a place that they do not reach is not valid."""
    values = np.full((60, 60), 0.1, np.float32)
    values[20:40, 20:40] = 0.9
    east = transform("EPSG:32633", "EPSG:32634", [500_000], [4_200_000])
    other = Affine(10, 0, 500_043, 0, -10, 4_200_004)
    files = {
        (0, 1): write_raster("a", values, nodata=np.nan),
        (0, 2): write_raster("b", values[:, 4:], nodata=np.nan, transform=other),
        (1, 2): write_raster(
            "c", np.full((300, 300), 0.1, np.float32), nodata=np.nan, crs="EPSG:32634",
            transform=Affine(10, 0, east[0][0] - 1000, 0, -10, east[1][0] + 1000),
        ),
    }  # fmt: skip
    assert write_composite(Composite(DAYS, files, 0.5), tmp_path / "out.tif") == [Change(0, 1, True)]
    with rasterio.open(tmp_path / "out.tif") as dataset, rasterio.open(files[0, 1]) as first:
        assert (dataset.crs, dataset.transform) == (first.crs, first.transform)
        lasting = dataset.read(3)
    assert np.argwhere(lasting == 1).min(axis=0).tolist() == [20, 20]
    assert np.argwhere(lasting == 1).max(axis=0).tolist() == [39, 39]
    assert np.isfinite(lasting).sum() >= 396
    files[1, 2] = write_raster("far", values, transform=Affine(10, 0, 900_000, 0, -10, 4_200_000))
    with pytest.raises(GridError, match=r"do not overlap: .*a\.tif covers .*far\.tif"):
        write_composite(Composite(DAYS, files, 0.5), tmp_path / "none.tif")
