"""Vector files offered as a reference."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import struct
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from click.testing import CliRunner
from hostile_input import Ear, WriteRaster, refused

from geocd.cli import main

AREA = "[[[15.0, 37.9], [15.002, 37.9], [15.002, 37.899], [15.0, 37.9]]]"


GEOJSON = (
    '{"type": "FeatureCollection", "crs": CRS, "features": [{"type": "Feature", "properties": {}, '
    f'"geometry": {{"type": "Polygon", "coordinates": {AREA}}}}}]}}'
)


VECTOR_VRT = (
    '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>/vsicurl/ADDRESS</SrcDataSource>'
    "<SrcLayer>a</SrcLayer></OGRVRTLayer></OGRVRTDataSource>"
)


ALGORITHM = '{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read /vsicurl/ADDRESS"}'


@pytest.fixture
def prob(write_raster: WriteRaster) -> Path:
    """Write a probability raster."""
    values = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    return write_raster("x_prob", values, nodata=float("nan"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.geojson", GEOJSON.replace("CRS", '{"type": "link", "properties": {"href": "ADDRESS"}}')),
        ("r.geojson", GEOJSON.replace("CRS", r'{"type": "\u0075rl", "properties": {"url": "ADDRESS"}}')),
        ("r.geojson", VECTOR_VRT),
        ("r.gdalg.json", ALGORITHM),
        ("r.xml", "<OGRWFSDataSource><URL>ADDRESS</URL></OGRWFSDataSource>"),
    ],
)  # fmt: skip
def test_a_vector_file_reaches_no_network(name: str, text: str, ear: Ear, prob: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text.replace("ADDRESS", ear.url))
    assert "refers to another source or an address" in refused("evaluate", prob, path)
    assert "refers to another source or an address" in refused("batch", path, tmp_path / "out")
    assert ear.heard == 0


def test_an_ordinary_geojson_is_read(prob: Path, tmp_path: Path) -> None:
    for number, crs in enumerate(('{"type": "name", "properties": {"name": "EPSG:4326"}}', "null")):
        path = tmp_path / f"{number}.geojson"
        path.write_text(GEOJSON.replace("CRS", crs))
        assert CliRunner().invoke(main, ["evaluate", str(prob), str(path)]).exit_code == 0
    lines = tmp_path / "lines.geojsonl"
    shape = f'{{"type": "Polygon", "coordinates": {AREA}}}'
    lines.write_text(f'{{"type": "Feature", "properties": {{}}, "geometry": {shape}}}\n' * 2)
    assert CliRunner().invoke(main, ["evaluate", str(prob), str(lines)]).exit_code == 0


def write_gpkg(path: Path, shapes: list[Any], crs: int = 32633) -> Path:
    frame = geopandas.GeoDataFrame(geometry=shapes, crs=crs)
    frame.to_file(path, engine="pyogrio")
    return path


def altered(path: Path, at: int, packed: bytes) -> Path:
    """Change the first polygon of a GeoPackage (40 bytes of header with its box, then WKB)."""
    with contextlib.closing(sqlite3.connect(path)) as base:
        for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            base.execute(f'DROP TRIGGER "{name}"')
        table = path.stem
        shape = bytearray(base.execute(f'SELECT geom FROM "{table}"').fetchone()[0])
        shape[at : at + len(packed)] = packed
        base.execute(f'UPDATE "{table}" SET geom = ?', (bytes(shape),))
        base.commit()
    return path


BOX = shapely.box(500_100, 4_199_700, 500_200, 4_199_900)


@pytest.mark.parametrize(
    ("at", "packed", "told"),
    [
        (40 + 13, struct.pack("<d", 500_000.0), "polygons cannot be read"),  # a ring that is not closed
        (40 + 13 + 16, struct.pack("<d", np.nan), "coordinates that are NaN or infinite"),
        (40 + 13 + 24, struct.pack("<d", np.inf), "coordinates that are NaN or infinite"),
    ],
)
def test_polygons_that_are_none(at: int, packed: bytes, told: str, prob: Path, tmp_path: Path) -> None:
    path = altered(write_gpkg(tmp_path / "r.gpkg", [BOX]), at, packed)
    code = 2 if "NaN" in told else 1
    message = refused("evaluate", prob, path, code=code)
    assert told in message
    assert "makevalid" in message


def test_counts_of_points_that_no_file_holds(prob: Path, tmp_path: Path) -> None:
    path = altered(write_gpkg(tmp_path / "r.gpkg", [BOX]), 40 + 5, struct.pack("<II", 1, 2**31 - 1))
    result = CliRunner().invoke(main, ["evaluate", str(prob), str(path)])
    assert result.exit_code in (0, 1, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_million_corners_and_a_place_elsewhere(prob: Path, tmp_path: Path) -> None:
    angle = np.linspace(0, 2 * np.pi, 10**6)
    wheel = shapely.Polygon(
        np.stack([500_300 + 200 * np.cos(angle), 4_199_700 + 200 * np.sin(angle)], axis=1)
    )
    for name, crs in (("here", 32633), ("elsewhere", 32755)):
        path = write_gpkg(tmp_path / f"{name}.gpkg", [wheel], crs)
        result = CliRunner().invoke(main, ["evaluate", "--json", str(prob), str(path)])
        assert result.exit_code == 0, result.output
        assert (json.loads(result.stdout)["recall"] is None) == (name == "elsewhere")
