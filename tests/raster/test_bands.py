"""What bands show, by name."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from geocd.raster import bands
from geocd.raster.bands import Sensor, band_positions, colour_bands, named_colours
from geocd.scene.ignore import Rules
from geocd.vectorize.bandmeans import band_columns

DOCS = Path(__file__).resolve().parents[2] / "docs"


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


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["B02", "B03", "B04", "B08", "B11"], {"red": 2, "green": 1, "blue": 0, "nir": 3, "swir": 4}),
        (["B1", "B2", "B3", "B4", "B5", "B7"], {"red": 2, "green": 1, "blue": 0, "nir": 3, "swir": 4}),
        ([f"SR_B{i}" for i in range(1, 8)], {"red": 3, "green": 2, "blue": 1, "nir": 4, "swir": 5}),
        (["B02", "B03", "B04", "B8A", "B11"], {"red": 2, "green": 1, "blue": 0, "nir": 3, "swir": 4}),
        (["B02", "B03", "B04", "B08", "B8A"], {"red": 2, "green": 1, "blue": 0, "nir": 3}),
        # words count one by one, numbers only beside red, green and blue
        (["nir", "SWIR 1", "SWIR 2"], {"nir": 0, "swir": 1}),
        (["B04", "B08"], {}),
        (["red", "green", "blue", "B8A"], {"red": 0, "green": 1, "blue": 2, "nir": 3}),
        (["red", "green", "blue", "B08"], {"red": 0, "green": 1, "blue": 2}),
        (["B04", "B03", "B02", "B08", "nir"], {"red": 0, "green": 1, "blue": 2, "nir": 4}),
        # of each name the first
        (["B04", "B03", "B02", "B04"], {"red": 0, "green": 1, "blue": 2}),
        # what a band without a name is called says nothing
        (["band 1", "band 2", "band 3", "band 4"], {}),
    ],
)
def test_band_positions(names: list[str], places: dict[str, int]) -> None:
    assert band_positions(names) == places


def sensor_table() -> str:
    """What the documentation says of the sensors."""
    spec = importlib.util.spec_from_file_location("conf", DOCS / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    return str(conf.sensor_reference())


def test_a_further_sensor_takes_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"sur_refl_b{number:02d}" for number in range(1, 8)]
    assert named_colours(names) is None
    assert "MODIS" not in sensor_table()
    modis = Sensor("MODIS", red="1", nir="2", blue="3", green="4", swir="6", pattern=r"sur_refl_b0*(\d+)\b")
    monkeypatch.setattr(bands, "SENSORS", (*bands.SENSORS, modis))
    assert colour_bands(names) == (0, 3, 2, 1)
    assert band_positions(names) == {"red": 0, "green": 3, "blue": 2, "nir": 1, "swir": 5}
    assert Rules.of(["water", "vegetation"], names).positions == {"water": (3, 1), "vegetation": (0, 1)}
    assert band_columns(names)[:4] == ["red", "nir", "blue", "green"]
    assert r"| MODIS | 1 | 4 | 3 | 2 | 6 | names like `sur_refl_b0*(\d+)\b` |" in sensor_table()
    assert band_positions(["B04", "B03", "B02", "B08"]) == {"red": 0, "green": 1, "blue": 2, "nir": 3}


def test_the_documentation_lists_every_sensor() -> None:
    table = sensor_table()
    assert "| Landsat 4-7 | 3 | 2 | 1 | 4 | 5 | without 6, 8, 8A, 9, 10, 11, 12 |" in table
    assert "| Sentinel-2, 20 m bands | 4 | 3 | 2 | 8A | 11 | with 8A; without 8 |" in table
    assert "| Landsat 8-9 | 4 | 3 | 2 | 5 | 6 | none of the others |" in table
    assert "{include} generated/sensors.md" in (DOCS / "settings.md").read_text(encoding="utf-8")


def test_the_table_needs_neither_numpy_nor_rasterio() -> None:
    code = "import sys, geocd.raster.bands; sys.exit(bool({'numpy', 'rasterio'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
