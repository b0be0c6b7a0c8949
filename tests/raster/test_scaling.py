"""Scale and offset: what declares them, and values in proportion to reflectance, exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr

from geocd.raster.arrays import ArrayRaster
from geocd.raster.files import open_raster
from geocd.raster.scaling import Scaling, product_scaling, scaling_of

WriteRaster = Callable[..., Path]
SENTINEL, LANDSAT = (1e-4, -0.1), (2.75e-5, -0.2)


def declare(path: Path, scales: tuple[float, ...], offsets: tuple[float, ...]) -> Path:
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = scales, offsets
    return path


@pytest.mark.parametrize(
    ("tags", "path", "expected"),
    [
        ({"PROCESSING_BASELINE": "04.00"}, "x.tif", SENTINEL),
        ({"PROCESSING_BASELINE": "05.11"}, "x.tif", SENTINEL),
        ({"PROCESSING_BASELINE": "N0400"}, "x.tif", SENTINEL),
        ({"s2:processing_baseline": "04.00"}, "x.tif", SENTINEL),
        ({"sentinel:processing_baseline": "4.0"}, "x.tif", SENTINEL),
        ({"PROCESSING_BASELINE": "03.01"}, "x.tif", None),
        ({"PROCESSING_BASELINE": "99.99"}, "x.tif", None),
        ({"PROCESSING_BASELINE": "newest"}, "x.tif", None),
        ({}, "S2A_MSIL2A_20220126T101311_N0400_R022_T33UUP_20220126T120000.SAFE/B04.jp2", SENTINEL),
        ({}, "https://host/S2B_MSIL1C_20240601T101311_N0510_R022_T33UUP_20240601T120000.tif", SENTINEL),
        ({}, "S2A_MSIL2A_20210126T101311_N0214_R022_T33UUP_20210126T120000.SAFE/B04.jp2", None),
        ({"PRODUCT_URI": "S2A_MSIL2A_20220126T101311_N0400_R022_T33UUP_1.SAFE"}, "x.tif", SENTINEL),
        ({"s2:processing_baseline": "04.00", "earthsearch:boa_offset_applied": "True"}, "x.tif", None),
        ({"s2:processing_baseline": "04.00", "earthsearch:boa_offset_applied": "False"}, "x.tif", SENTINEL),
        ({}, "LC08_L2SP_193023_20220126_20220130_02_T1_SR_B4.TIF", LANDSAT),
        ({}, "LC08_L2SP_193023_20220126_20220130_02_T1_ST_B10.TIF", None),
        ({}, "LC08_L1TP_193023_20220126_20220130_02_T1_B4.TIF", None),
        ({}, "scene.tif", None),
    ],
)
def test_products(tags: dict[str, str], path: str, expected: tuple[float, float] | None) -> None:
    found = product_scaling(tags, path)
    assert (None if found is None else found[0]) == expected


@pytest.mark.parametrize(
    ("dtype", "factor", "expected"),
    [
        ("uint16", 1, SENTINEL),
        ("int16", 1, SENTINEL),
        ("float32", 1, SENTINEL),  # the same numbers
        ("float32", 1e-4, None),  # reflectance already
        ("uint8", 0.01, None),  # a picture
    ],
)
def test_a_baseline_is_of_stored_numbers(
    write_raster: WriteRaster, dtype: str, factor: float, expected: Any
) -> None:
    values = (np.full((2, 8, 8), 4000.0) * factor).astype(dtype)
    path = write_raster("x", values, tags={"PROCESSING_BASELINE": "04.00"})
    with open_raster(str(path)) as dataset:
        scaling = scaling_of(dataset, str(path), [1, 2])
    assert (scaling.scales, scaling.offsets) == (
        ((expected[0],) * 2, (expected[1],) * 2) if expected else ((), ())
    )


def test_band_metadata_come_before_the_product(write_raster: WriteRaster) -> None:
    path = write_raster("x", np.full((2, 4, 4), 9000, "u2"), tags={"PROCESSING_BASELINE": "04.00"})
    with open_raster(str(declare(path, (2.75e-5,) * 2, (-0.2,) * 2))) as dataset:
        scaling = scaling_of(dataset, str(path), [2])
    assert scaling == Scaling((2.75e-5,), (-0.2,), "band metadata")
    with open_raster(str(declare(path, (1e-4,) * 2, (0, 0)))) as dataset:  # a scale says nothing of an offset
        assert scaling_of(dataset, str(path), [1]).offsets == (-0.1,)


def test_arrays_declare_as_files_do() -> None:
    array = xr.DataArray(
        np.full((2, 4, 4), 9000, "u2"),
        dims=("band", "y", "x"),
        coords={"band": ["red", "nir"], "y": [35.0, 25, 15, 5], "x": [5.0, 15, 25, 35]},
    ).rio.write_crs("EPSG:32633")
    for attrs, expected in (
        ({"scale_factor": 2.75e-5, "add_offset": -0.2}, LANDSAT),
        ({"scales": (2.75e-5, 2.75e-5), "offsets": (-0.2, -0.2)}, LANDSAT),
        ({"PROCESSING_BASELINE": "04.00"}, SENTINEL),
    ):
        raster: Any = ArrayRaster(array.assign_attrs(attrs), "a")
        scaling = scaling_of(raster, "a", [2])
        assert (scaling.scales, scaling.offsets) == ((expected[0],), (expected[1],))
    stacked: Any = ArrayRaster(array.assign_coords({"s2:processing_baseline": "04.00"}), "a")
    assert scaling_of(stacked, "a", [1]).offsets == (-0.1,)


def test_levels_are_exact() -> None:
    values = np.arange(200, 4000, dtype=np.float32)
    shifted = Scaling((1e-4,), (-0.1,), "x").level(0, values + 1000)
    assert shifted.dtype == values.dtype
    assert (shifted == values).all()
    assert Scaling().level(0, values) is values
    assert Scaling((1e-4, 1e-4), (0.0, 0.0), "x").level(1, values) is values  # one factor changes no ratio
    other = Scaling((1e-4, 2e-4), (0.0, 0.0), "x").level(1, values)
    np.testing.assert_allclose(other, 2 * values)
