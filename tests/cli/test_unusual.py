"""Input that is unusual and right."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from commands import MakePair, run, scene
from rasterio.transform import Affine


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64", "int32"])
def test_every_data_type(dtype: str, make_pair: MakePair, out: Path) -> None:
    before, after = scene()
    scale = 255 / 3500 if dtype == "uint8" else 1
    files = make_pair((before * scale).clip(0).astype(dtype), (after * scale).clip(0).astype(dtype))
    assert run("detect", *files, "-o", out / "run").exit_code == 0
    with rasterio.open(out / "run_prob.tif") as dataset:
        changed = dataset.read(1) >= 0.5
    assert changed[30:60, 40:70].mean() > 0.7


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 5), (3, 1, 3000), (2, 3000, 1), (13, 60, 70)])
@pytest.mark.parametrize("method", ["deep", "cva", "irmad"])
def test_every_shape_and_band_count(
    shape: tuple[int, int, int], method: str, make_pair: MakePair, out: Path
) -> None:
    rng = np.random.default_rng(0)
    files = make_pair(rng.gamma(3, 100, shape).astype("float32"), rng.gamma(3, 100, shape).astype("float32"))
    result = run("detect", *files, "-o", out / "run", "--method", method, "--tile-size", 256)
    assert result.exit_code == 0, result.output
    with rasterio.open(out / "run_prob.tif") as dataset:
        prob = dataset.read(1)
    assert prob.shape == shape[1:]
    assert np.isfinite(prob).all()
    assert ((prob >= 0) & (prob <= 1)).all()


@pytest.mark.parametrize("method", ["deep", "cva", "irmad"])
def test_the_same_file_twice_is_refused(method: str, pair: tuple[Path, Path], out: Path) -> None:
    done = run("detect", pair[0], pair[0], "-o", out / "run", "--method", method)
    assert done.exit_code == 1
    assert "before.tif" in done.output
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("method", ["deep", "cva", "irmad"])
def test_constant_images_have_no_polygon(method: str, make_pair: MakePair, out: Path) -> None:
    flat = np.full((3, 60, 60), 7, np.uint8)
    assert run("detect", *make_pair(flat, flat + 9), "-o", out / "run", "--method", method).exit_code == 0
    assert len(geopandas.read_file(out / "run_changes.gpkg")) == 0


@pytest.mark.parametrize("method", ["deep", "cva", "irmad"])
def test_gain_and_offset_alone_are_no_change(method: str, make_pair: MakePair, out: Path) -> None:
    before = scene(6)[0].astype(np.uint16)
    after = np.clip(1.3 * before + 200, 0, 65535).astype(np.uint16)
    assert run("detect", *make_pair(before, after), "-o", out / "run", "--method", method).exit_code == 0
    with rasterio.open(out / "run_prob.tif") as dataset:
        assert (dataset.read(1) >= 0.5).mean() <= 0.001


def test_holes_of_either_date_stay_holes(make_pair: MakePair, out: Path) -> None:
    before, after = scene()
    before[:, :10, :20] = np.nan
    before[1, 70, 70] = np.inf
    after[:, -8:] = -9999
    files = make_pair(before, after, nodata=-9999)
    assert run("detect", *files, "-o", out / "run").exit_code == 0
    with rasterio.open(out / "run_prob.tif") as dataset:
        prob = dataset.read(1)
    expected = np.ones(prob.shape, bool)
    expected[:10, :20] = expected[70, 70] = expected[-8:] = False
    assert (np.isfinite(prob) == expected).all()


def test_a_rotated_grid_works(make_pair: MakePair, out: Path) -> None:
    cos, sin = 10 * np.cos(0.5), 10 * np.sin(0.5)
    transform = Affine(cos, sin, 500_000, sin, -cos, 4_200_000)
    files = make_pair(*scene(), transform=transform)
    assert run("detect", *files, "-o", out / "run", "--method", "cva").exit_code == 0
    with rasterio.open(out / "run_prob.tif") as dataset:
        assert dataset.transform.almost_equals(transform)
    polygons = geopandas.read_file(out / "run_changes.gpkg")
    assert polygons.area_m2.sum() == pytest.approx(polygons.n_pixels.sum() * 100, rel=0.01)
