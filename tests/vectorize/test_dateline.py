"""Polygons at 180 degrees: none runs around the globe."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from conftest import WriteRaster
from rasterio.transform import Affine

from geocd.vectorize.dateline import cut, in_one_piece
from geocd.vectorize.files import merge
from geocd.vectorize.polygons import polygonize


def test_in_one_piece_and_cut() -> None:
    around = shapely.Polygon([(179.9, 0), (-179.8, 0), (-179.8, 1), (179.9, 1)])
    elsewhere = shapely.box(-10, 0, 10, 1)
    shapes = in_one_piece(geopandas.GeoSeries([around, elsewhere], crs="EPSG:4326", index=[3, 5]))
    assert shapes[3].equals(shapely.box(179.9, 0, 180.2, 1))
    assert shapes[5] == elsewhere
    parts = cut(shapes)
    assert parts.geom_type.to_list() == ["MultiPolygon", "Polygon"]
    assert parts[3].area == pytest.approx(0.3)
    assert sorted(part.bounds for part in parts[3].geoms) == [
        pytest.approx((-180, 0, -179.8, 1)),
        pytest.approx((179.9, 0, 180, 1)),
    ]
    assert parts[5] == elsewhere
    beyond = cut(geopandas.GeoSeries([shapely.box(181, 0, 182, 1)], crs="EPSG:4326"))
    assert beyond[0].equals(shapely.box(-179, 0, -178, 1))


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet"])
def test_runs_on_both_sides_of_the_date_line_are_merged(
    suffix: str, tmp_path: Path, write_raster: WriteRaster
) -> None:
    prob = np.zeros((1, 40, 60), np.float32)
    prob[0, 5:20, 10:50] = 0.9  # 4 km, across 180 degrees in both zones
    sources = {}
    for zone, west in ((60, 712_000), (1, 282_000)):
        transform = Affine(100, 0, west, 0, -100, 5_540_000)
        path = write_raster(f"zone{zone}", prob, crs=f"EPSG:{32600 + zone}", transform=transform)
        sources[f"zone{zone}"] = tmp_path / f"zone{zone}.gpkg"
        polygonize(path, sources[f"zone{zone}"], threshold=0.5)
    destination = tmp_path / f"merged{suffix}"
    assert merge(sources, destination) == 2
    read = geopandas.read_parquet if suffix == ".parquet" else geopandas.read_file
    merged = read(destination)
    assert len(merged) == 2
    assert set(merged.geom_type) == {"MultiPolygon"}
    for shape in merged.geometry:
        assert shape.is_valid
        assert shape.area == pytest.approx(4 / 71.6 * 1.5 / 111.2, rel=0.02)
        assert all(np.ptp([part.bounds[0], part.bounds[2]]) < 0.1 for part in shape.geoms)
