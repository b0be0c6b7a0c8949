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
        (
            ["B1", "B2", "B3", "B4", "B5", "B7"],
            {"red": 2, "green": 1, "blue": 0, "nir": 3, "swir": 4, "swir2": 5},
        ),
        (
            [f"SR_B{i}" for i in range(1, 8)],
            {"red": 3, "green": 2, "blue": 1, "nir": 4, "swir": 5, "swir2": 6},
        ),
        (["B02", "B03", "B04", "B8A", "B11"], {"red": 2, "green": 1, "blue": 0, "nir": 3, "swir": 4}),
        (["B02", "B03", "B04", "B08", "B8A"], {"red": 2, "green": 1, "blue": 0, "nir": 3}),
        # words count one by one, numbers only beside red, green and blue
        (["nir", "SWIR 1", "SWIR 2"], {"nir": 0, "swir": 1, "swir2": 2}),
        (["B04", "B08"], {}),
        (["red", "green", "blue", "B8A"], {"red": 0, "green": 1, "blue": 2, "nir": 3}),
        (["red", "green", "blue", "B08"], {"red": 0, "green": 1, "blue": 2}),
        (["B04", "B03", "B02", "B08", "nir"], {"red": 0, "green": 1, "blue": 2, "nir": 4}),
        # band 8 of Landsat is panchromatic: right, or near infrared undecided
        (
            [f"B{i}" for i in range(1, 12)],
            {"red": 3, "green": 2, "blue": 1, "nir": 4, "swir": 5, "swir2": 6},
        ),
        (
            [f"TOA_B{i}" for i in (2, 3, 4, 5, 6, 7, 8, 10, 11)],
            {"red": 2, "green": 1, "blue": 0, "nir": 3, "swir": 4, "swir2": 5},
        ),
        ([f"B{i}" for i in range(1, 10)], {"red": 3, "green": 2, "blue": 1}),
        ([f"B{i}" for i in range(2, 9)], {"red": 2, "green": 1, "blue": 0}),
        ([f"TOA_B{i}" for i in (2, 3, 4, 5, 8)], {"red": 2, "green": 1, "blue": 0}),
        (
            ["B1", "B2", "B3", "B4", "B5", "B7", "B8"],
            {"red": 2, "green": 1, "blue": 0, "nir": 3, "swir": 4, "swir2": 5},
        ),
        # of Sentinel-2 it is near infrared, as a number with a zero and the bands 8A and 12 show
        (["B2", "B3", "B4", "B8"], {"red": 2, "green": 1, "blue": 0, "nir": 3}),
        ([f"B{i:02d}" for i in range(2, 9)], {"red": 2, "green": 1, "blue": 0, "nir": 6}),
        (["B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A"], {"red": 2, "green": 1, "blue": 0, "nir": 6}),
        (
            [f"B{i}" for i in (2, 3, 4, 5, 6, 7, 8, 11, 12)],
            {"red": 2, "green": 1, "blue": 0, "nir": 6, "swir": 7, "swir2": 8},
        ),
        # of each name the first
        (["B04", "B03", "B02", "B04"], {"red": 0, "green": 1, "blue": 2}),
        # what a band without a name is called says nothing
        (["band 1", "band 2", "band 3", "band 4"], {}),
    ],
)
def test_band_positions(names: list[str], places: dict[str, int]) -> None:
    assert band_positions(names) == places


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        # Sentinel-2: GDAL's driver, SNAP, CDSE and Earth Search, whose nir08 is B8A and nir09 is B09
        (
            "B4, central wavelength 665 nm|B3, central wavelength 560 nm|B2, central wavelength 490 nm|"
            "B8, central wavelength 842 nm",
            "red green blue nir",
        ),
        ("B02_10m|B03_10m|B04_10m|B08_10m|B8A_20m|B11_20m", "blue green red nir - swir"),
        ("B02_20m|B03_20m|B04_20m|B8A_20m|B11_20m|B12_20m", "blue green red nir swir swir2"),
        (
            "coastal|blue|green|red|rededge1|rededge2|rededge3|nir|nir08|nir09|swir16|swir22",
            "- blue green red - - - nir - - swir swir2",
        ),
        ("nir09|nir08|nir|red|green|blue", "- - nir red green blue"),
        ("red-jp2|green-jp2|blue-jp2|nir-jp2|nir08-jp2|swir16-jp2", "red green blue nir - swir"),
        # Landsat: keys of STAC assets, Earth Engine, ESPA; the scanner of Landsat 1-5
        ("coastal|blue|green|red|nir08|swir16|swir22", "- blue green red nir swir swir2"),
        ("red|green|blue|nir08", "red green blue nir"),
        ("SR_B2|SR_B3|SR_B4|SR_B5|SR_B6|SR_B7", "blue green red nir swir swir2"),
        ("sr_band1|sr_band2|sr_band3|sr_band4|sr_band5|sr_band7", "blue green red nir swir swir2"),
        ("green|red|nir08|nir09", "green red nir -"),
        # HLS
        ("B02|B03|B04|B05|B06|B07", "blue green red nir swir swir2"),
        ("B02|B03|B04|B8A|B11|B12", "blue green red nir swir swir2"),
        ("Coastal_Aerosol|Blue|Green|Red|NIR_Narrow|SWIR1|SWIR2", "- blue green red nir swir swir2"),
        ("Blue|Green|Red|Red_Edge1|NIR_Narrow|NIR_Broad|SWIR1", "blue green red - - nir swir"),
        ("blue|green|red|NIR Narrow|NIR Broad", "blue green red - nir"),
        # PlanetScope of 4 and 8 bands, SkySat
        ("blue|green|red|nir", "blue green red nir"),
        (
            "coastal_blue|blue|green_i|green|yellow|red|rededge|nir",
            "- blue - green - red - nir",
        ),
        (
            "Coastal Blue|Blue|Green I|Green|Yellow|Red|Red Edge|Near-Infrared",
            "- blue - green - red - nir",
        ),
        ("Coastal Blue|Blue|Green I|Green II|Yellow|Red|RedEdge|NIR", "- blue - green - red - nir"),
        ("Blue|Green|Red|NIR|Pan", "blue green red nir -"),
        # WorldView: product guides, IMD files; its eight SWIR bands
        ("Coastal|Blue|Green|Yellow|Red|Red Edge|NIR1|NIR2", "- blue green - red - nir -"),
        ("Coastal|Blue|Green|Yellow|Red|Red Edge|NIR-1|NIR-2", "- blue green - red - nir -"),
        ("Coastal|Blue|Green|Yellow|Red|Red Edge|Near-IR1|Near-IR2", "- blue green - red - nir -"),
        ("BAND_C|BAND_B|BAND_G|BAND_Y|BAND_R|BAND_RE|BAND_N|BAND_N2", "- blue green - red - nir -"),
        ("|".join(f"SWIR{number}" for number in range(1, 9)), "- - swir - - swir2 - -"),
        ("|".join(f"SWIR-{number}" for number in range(1, 9)), "- - swir - - swir2 - -"),
        # Pléiades and SPOT 6-7 (DIMAP), Pléiades Neo, SPOT 1-5
        ("B0|B1|B2|B3", "blue green red nir"),
        ("B2|B1|B0|B3", "red green blue nir"),
        ("R|G|B|NIR|RE|DB", "red green blue nir - -"),
        ("Red|Green|Blue|NIR|Red Edge|Deep Blue", "red green blue nir - -"),
        ("XS1|XS2|XS3|SWIR", "green red nir swir"),
        # NAIP
        ("Red|Green|Blue|NIR", "red green blue nir"),
        ("R|G|B|N", "red green blue nir"),
        ("Red|Green|Blue|Near Infrared", "red green blue nir"),
        ("red|green|blue|near_infrared", "red green blue nir"),
        # MODIS and VIIRS
        ("|".join(f"sur_refl_b0{number}" for number in range(1, 8)), "red nir blue green - swir swir2"),
        ("sur_refl_b01|sur_refl_b02", "red nir"),
        ("sur_refl_b01_1|sur_refl_b02_1|sur_refl_b03_1|sur_refl_b04_1", "red nir blue green"),
        ("Nadir_Reflectance_Band1|Nadir_Reflectance_Band2", "red nir"),
        ("M3|M4|M5|M7|M10|M11", "blue green red nir swir swir2"),
        ("SurfReflect_M3_1|SurfReflect_M4_1|SurfReflect_M5_1|SurfReflect_M7_1", "blue green red nir"),
        ("SurfReflect_I1|SurfReflect_I2|SurfReflect_I3", "red nir swir"),
        ("I1|I2|I3", "red nir swir"),
        # radar, indices and nothing
        ("VV|VH", "- -"),
        ("a|b|n", "- - -"),
        ("nir09|nir 2|rededge|red edge 1|green_i|deep blue", "- - - - - -"),
    ],
)
def test_names_of_sensors(names: str, shown: str) -> None:
    listed = names.split("|")
    positions = {word: position for position, word in enumerate(shown.split()) if word != "-"}
    assert band_positions(listed) == positions
    if {"red", "green", "blue"} <= positions.keys():
        colours = [positions[word] for word in ("red", "green", "blue", "nir") if word in positions]
        assert named_colours(listed) == tuple(colours)
    columns = band_columns(listed)
    assert len(set(columns)) == len(columns)
    assert {word: columns.index(word) for word in positions} == positions


def sensor_table() -> str:
    """What the documentation says of the sensors."""
    spec = importlib.util.spec_from_file_location("conf", DOCS / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    return str(conf.sensor_reference())


def test_a_further_sensor_takes_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"meris_b{number:02d}" for number in range(1, 8)]
    assert named_colours(names) is None
    assert "MERIS" not in sensor_table()
    meris = Sensor("MERIS", red="1", nir="2", blue="3", green="4", swir="6", pattern=r"meris_b0*(\d+)\b")
    monkeypatch.setattr(bands, "SENSORS", (*bands.SENSORS, meris))
    assert colour_bands(names) == (0, 3, 2, 1)
    assert band_positions(names) == {"red": 0, "green": 3, "blue": 2, "nir": 1, "swir": 5}
    assert Rules.of(["water", "vegetation"], names).positions == {"water": (3, 1), "vegetation": (0, 1)}
    assert band_columns(names)[:4] == ["red", "nir", "blue", "green"]
    assert r"| MERIS | 1 | 4 | 3 | 2 | 6 |  | names like `meris_b0*(\d+)\b` |" in sensor_table()
    assert band_positions(["B04", "B03", "B02", "B08"]) == {"red": 0, "green": 1, "blue": 2, "nir": 3}


def test_the_documentation_lists_every_sensor() -> None:
    table = sensor_table()
    assert "| Landsat 4-7 | 3 | 2 | 1 | 4 | 5 | 7 | without 6, 8, 8A, 9, 10, 11, 12 |" in table
    assert "| Sentinel-2, 20 m bands | 4 | 3 | 2 | 8A | 11 | 12 | with 8A; without 8 |" in table
    assert "| Landsat 8-9 | 4 | 3 | 2 | 5 | 6 | 7 | none of the others |" in table
    assert "| Pléiades, SPOT 6-7 | 2 | 1 | 0 | 3 |  |  | with 0 |" in table
    assert "{include} generated/sensors.md" in (DOCS / "settings.md").read_text(encoding="utf-8")


def test_the_table_needs_neither_numpy_nor_rasterio() -> None:
    code = "import sys, geocd.raster.bands; sys.exit(bool({'numpy', 'rasterio'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
