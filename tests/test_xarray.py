"""geocd.detect: what the command line computes, of arrays too, at once or later."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

import geocd
from geocd.config import Settings
from geocd.errors import BandError, ConfigError, GeocdWarning, GridError, NoValidPixelError
from geocd.pipeline import run

# rioxarray with affine 3
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

MakePair = Callable[..., tuple[Path, Path]]
Paths = tuple[Path, Path]


def scene(
    height: int = 150, width: int = 170, bands: int = 3
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return two dates with texture, nodata (0) in a corner of each, and an object in the second."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(bands, height // 5 + 1, width // 5 + 1))
    before = 1000 + 150 * np.kron(coarse, np.ones((5, 5)))[:, :height, :width]
    before = before + rng.normal(0, 20, before.shape)
    after = 1.2 * before + 100 + rng.normal(0, 20, before.shape)
    after[:, 30:60, 40:70] = 3000 + rng.normal(0, 100, (bands, 30, 30))
    before[:, :20, :30] = 0
    after[:, -15:, -40:] = 0
    return before.astype(np.uint16), after.astype(np.uint16)


@pytest.fixture
def paths(make_pair: MakePair) -> Paths:
    return make_pair(*scene(), nodata=0, names=("red", "green", "nir"))


def written(paths: Paths, folder: Path, **settings: Any) -> np.ndarray[Any, Any]:
    """Return what the files have that the command line writes."""
    files, _ = run.detect(*paths, folder / "run", settings=Settings.from_flat(settings))
    with rasterio.open(files["prob"]) as dataset:
        return dataset.read()  # type: ignore[no-any-return]


def opened(paths: Paths, **options: Any) -> tuple[xr.DataArray, xr.DataArray]:
    one, two = (rioxarray.open_rasterio(path, **options) for path in paths)
    return one, two


def array_like(given: xr.DataArray, value: int = 0) -> xr.DataArray:
    """Return an array of nothing but a value, on the grid of another."""
    values = np.full(given.shape[1:], value, np.uint8)
    made = xr.DataArray(values, dims=("y", "x"), coords={"y": given.y, "x": given.x})
    return made.rio.write_crs(given.rio.crs)


TILES = {"tile_size": 64, "overlap": 24}


def test_arrays_paths_and_dask_give_what_the_command_line_writes(paths: Paths, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"method": "irmad", **TILES}
    expected = written(paths, tmp_path, **settings)[0]
    chunked = opened(paths, chunks={"y": 50, "x": 70})
    results = {
        "paths": geocd.detect(*paths, **settings),
        "masked": geocd.detect(*opened(paths, masked=True), **settings),
        "mixed": geocd.detect(paths[0], opened(paths)[1], **settings),
        "dask": geocd.detect(*chunked, **settings),
        "dask, at once": geocd.detect(*chunked, lazy=False, **settings),
        "paths, later": geocd.detect(*paths, lazy=True, **settings),
        "arrays, later": geocd.detect(*opened(paths), lazy=True, **settings),
    }
    for name, found in results.items():
        later = name in ("dask", "paths, later", "arrays, later")
        assert isinstance(found.change_probability.data, da.Array) == later, name
        prob = found.change_probability.to_numpy()
        np.testing.assert_array_equal(prob, expected, err_msg=name)
        assert prob.dtype == np.float32
        np.testing.assert_array_equal(found.changed, np.where(np.isnan(prob), 255, prob >= 0.5))
        assert found.changed.dtype == np.uint8
        assert "uncertainty" not in found
    assert np.isnan(expected).any()
    assert (expected >= 0.5).any()


def test_the_deep_method_and_the_uncertainty_too(paths: Paths, tmp_path: Path) -> None:
    settings = {"uncertainty": True, "tile_size": 160}
    expected = written(paths, tmp_path, **settings)
    for chunks in (None, {"y": 50, "x": 70}):
        found = geocd.detect(*opened(paths, chunks=chunks), **settings)
        np.testing.assert_array_equal(found.change_probability, expected[0])
        np.testing.assert_array_equal(found.uncertainty, expected[1])


def test_alignment(paths: Paths, tmp_path: Path) -> None:
    """An array on another grid is warped as its file is; by dask tile by tile it cannot be."""
    expected = written(paths, tmp_path, method="cva")[0]
    one, two = opened(paths)
    cut = two[:, :, 20:]
    found = geocd.detect(one, cut, method="cva", align="grid")
    np.testing.assert_allclose(found.change_probability[:, 20:], expected[:, 20:], atol=0.05)
    assert np.isnan(found.change_probability[:, :20]).all()
    assert json.loads(found.attrs["provenance"])["alignment"]["overlap"] == round(150 / 170, 4)
    with pytest.raises(ConfigError, match=r"align: .*after.tif .*reproject_match"):
        geocd.detect(one.chunk(), cut, method="cva", align="grid")


def test_ignored_pixels_and_a_valid_array(paths: Paths, tmp_path: Path) -> None:
    """What needs surroundings of a tile, and a third raster, by chunks too."""
    usable = np.ones((150, 170), np.uint8)
    usable[100:] = 0
    with rasterio.open(paths[0]) as dataset:
        profile = dataset.profile | {"count": 1, "dtype": "uint8", "nodata": None}
    with rasterio.open(tmp_path / "valid.tif", "w", **profile) as out:
        out.write(usable, 1)
    settings = {"ignore": ("vegetation",), "method": "cva", **TILES}
    expected = written(paths, tmp_path, valid=str(tmp_path / "valid.tif"), **settings)
    assert 0 < np.isnan(expected[0, :100]).sum() < 10_000, "something is ignored, but not all"
    one, two = opened(paths)
    valid = array_like(one) + usable == 1
    now = geocd.detect(one, two, valid=valid, **settings)
    np.testing.assert_array_equal(now.change_probability, expected[0])
    later = geocd.detect(one.chunk(x=50), two, valid=valid, **settings)
    np.testing.assert_array_equal(later.change_probability, expected[0])
    path = geocd.detect(*paths, valid=tmp_path / "valid.tif", **settings)
    np.testing.assert_array_equal(path.change_probability, expected[0])


@pytest.mark.parametrize("chunks", [None, 60])
def test_an_undeclared_rim_of_an_array_is_no_data(
    chunks: int | None, make_pair: MakePair, tmp_path: Path
) -> None:
    before, after = scene()
    after[:, :, :30] = 0
    pair = make_pair(before + 1, after)
    settings: dict[str, Any] = {"method": "cva", "tile_size": 100, "overlap": 20}
    with pytest.warns(GeocdWarning, match="in a rim at the border, are 0"):
        expected = written(pair, tmp_path, **settings)
    arrays = opened(pair, **({} if chunks is None else {"chunks": chunks}))
    with pytest.warns(GeocdWarning, match="in a rim at the border, are 0"):
        result = geocd.detect(*arrays, **settings)
    assert np.isnan(expected[0, :, :30]).all()
    np.testing.assert_array_equal(result.change_probability, expected[0])
    with pytest.warns(GeocdWarning, match="are 0 in all bands"):
        result = geocd.detect(*arrays, **settings, nodata="none")
    assert not np.isnan(result.change_probability).any()


def test_the_result_lies_where_before_lies(paths: Paths, tmp_path: Path) -> None:
    one, two = opened(paths)
    for found in (geocd.detect(*paths, method="cva"), geocd.detect(one, two, method="cva")):
        assert found.rio.crs == one.rio.crs
        assert found.change_probability.dims == ("y", "x")
        np.testing.assert_array_equal(found.x, one.x)
        np.testing.assert_array_equal(found.y, one.y)
        assert "band" not in found.coords
        found.change_probability.rio.to_raster(tmp_path / "p.tif")
        with rasterio.open(paths[0]) as given, rasterio.open(tmp_path / "p.tif") as out:
            assert out.transform == given.transform
            assert np.isnan(out.nodata)
        found.changed.rio.to_raster(tmp_path / "c.tif")
        with rasterio.open(tmp_path / "c.tif") as out:
            assert (out.dtypes[0], out.nodata) == ("uint8", 255)
            assert (out.read_masks(1) == 0).sum() == np.isnan(found.change_probability).sum() > 0


def test_rows_from_south_to_north(paths: Paths, tmp_path: Path) -> None:
    """Where one of the two is turned, it is turned back; the result lies as before does."""
    expected = written(paths, tmp_path, method="cva")[0]
    one, two = opened(paths)
    np.testing.assert_array_equal(geocd.detect(one, two[:, ::-1], method="cva").change_probability, expected)
    np.testing.assert_array_equal(
        geocd.detect(paths[0], two[:, ::-1, ::-1], method="cva").change_probability, expected
    )
    both = geocd.detect(one[:, ::-1], two, method="cva")
    np.testing.assert_array_equal(both.y, one.y[::-1])
    np.testing.assert_allclose(both.sortby("y", ascending=False).change_probability, expected, atol=1e-6)


def test_colours_of_a_file_reach_the_method(make_pair: MakePair, tmp_path: Path) -> None:
    """Alpha is no band to compare, though nothing in the array says so."""
    alpha = np.full((1, 150, 170), 255, np.uint8)
    alpha[:, 80:] = 0
    values = [np.concatenate([(date // 16).astype(np.uint8), alpha]) for date in scene()]
    rgba = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    paths = make_pair(*values, colorinterp=rgba)
    expected = written(paths, tmp_path, method="cva")[0]
    assert np.isnan(expected[80:]).all()
    found = geocd.detect(*opened(paths), method="cva")
    np.testing.assert_array_equal(found.change_probability, expected)
    assert json.loads(found.attrs["provenance"])["band_names"] == ["red", "green", "blue"]


def test_attributes_say_how_it_was_made(paths: Paths, tmp_path: Path) -> None:
    one, two = opened(paths)
    two = two.assign_coords(time=np.datetime64("2024-05-06"))
    found = geocd.detect(one, two, method="cva", threshold=0.7, bidx=[1, 3])
    np.testing.assert_array_equal(found.changed == 1, found.change_probability >= np.float32(0.7))
    assert found.attrs["threshold"] == 0.7
    assert found.attrs["geocd_version"] == geocd.__version__
    settings = json.loads(found.attrs["settings"])
    assert (settings["method"], settings["bidx"]) == ("cva", [1, 3])
    made = json.loads(found.attrs["provenance"])
    assert made["before"].endswith("before.tif")
    assert made["band_names"] == ["red", "nir"]
    assert made["dates"] == [None, "2024-05-06T00:00:00Z"]
    assert all(isinstance(value, str | float) for value in found.attrs.values()), "netCDF holds no more"


def test_the_accessor(paths: Paths) -> None:
    one, two = opened(paths)
    xr.testing.assert_identical(one.geocd.detect(two, method="cva"), geocd.detect(one, two, method="cva"))


def test_a_tile_needs_its_own_chunks_only() -> None:
    """Memory is bounded because no task asks for more of the inputs than its tiles see."""
    seen: list[str] = []

    def block(block_id: tuple[int, ...]) -> np.ndarray[Any, Any]:
        _, y, x = block_id
        seen.append(f"{y},{x}")
        rng = np.random.default_rng([y, x])
        return rng.normal(1000, 100, (1, 64, 64)).astype(np.float32)

    pixels = da.map_blocks(block, chunks=((1,), (64,) * 8, (64,) * 8), dtype=np.float32)
    coords = {"y": -10.0 * np.arange(512), "x": 10.0 * np.arange(512)}
    one = xr.DataArray(pixels, dims=("band", "y", "x"), coords=coords).rio.write_crs("EPSG:32633")
    with dask.config.set(scheduler="synchronous"):
        found = geocd.detect(one, one * 1.1, method="cva", tile_size=64, overlap=0)
        seen.clear()
        found.change_probability[:64, 64:128].compute()
    assert set(seen) == {"0,1"}


def test_workers_of_a_cluster_give_the_same(cluster: str, paths: Paths) -> None:
    from distributed import Client

    settings = {**TILES}
    now = geocd.detect(*paths, **settings)
    later = geocd.detect(*opened(paths, chunks={"y": 64, "x": 64}), **settings)
    with Client(cluster) as client:
        found = client.compute(later.change_probability).result()
    np.testing.assert_array_equal(found, now.change_probability)


def test_dir_shows_what_a_user_may_call() -> None:
    assert [name for name in dir(geocd) if name in ("Any", "TYPE_CHECKING", "annotations", "install")] == []
    assert "detect" in dir(geocd)


def test_progress_is_told(paths: Paths) -> None:
    told: list[tuple[str, int, int]] = []
    geocd.detect(*paths, method="cva", jobs=1, progress=lambda *step: told.append(step), **TILES)
    assert told[:2] == [("fit", 0, 1), ("fit", 1, 1)]
    assert told[-1] == ("tiles", 16, 16)


def test_what_cannot_work_is_refused(paths: Paths) -> None:
    one, two = opened(paths)
    with pytest.raises(GridError, match=r"different sizes: 170 x 150 px in .*before.tif, 160 x 150 px"):
        geocd.detect(one, two[:, :, :160])
    with pytest.raises(GridError, match="coordinate reference systems"):
        geocd.detect(one, two.rio.write_crs("EPSG:32634"))
    with pytest.raises(GridError, match="transforms"):
        geocd.detect(one, two.assign_coords(x=two.x + 5))
    unnamed = two[:2].copy()
    unnamed.attrs, unnamed.encoding = {}, {}
    with pytest.raises(BandError, match=r"different band counts: 3 in .*, 2 in"):
        geocd.detect(one, unnamed)
    with pytest.raises(NoValidPixelError, match=r"no pixel is valid in both .*before.tif .*the array valid"):
        geocd.detect(one, two, valid=array_like(one))
    with pytest.raises(ConfigError, match=r"overwrite: is for files\. Pass output as well"):
        geocd.detect(one, two, overwrite=True)
    with pytest.raises(ConfigError, match=r"refine: ranks polygons of files\. Pass output as well"):
        geocd.detect("a.tif", "b.tif", refine="model.json")
    with pytest.raises(ConfigError, match=r"output: is for paths, and before is an array"):
        geocd.detect(one, two, "somewhere")
    with pytest.raises(ConfigError, match="colour: no such setting"):
        geocd.detect(one, two, colour=1)
    with pytest.raises(ConfigError, match=r"jobs.*lazy=False"):
        geocd.detect(one.chunk(), two, jobs=2)


def test_a_turned_transform_has_no_coordinates(make_pair: MakePair, tmp_path: Path) -> None:
    turned = Affine(10, 3, 500_000, 3, -10, 4_200_000)
    paths = make_pair(*scene(), transform=turned, nodata=0)
    expected = written(paths, tmp_path, method="cva")[0]
    found = geocd.detect(*paths, method="cva")
    assert "x" not in found.coords
    assert found.spatial_ref.attrs["GeoTransform"].split() == [
        "500000.0",
        "10.0",
        "3.0",
        "4200000.0",
        "3.0",
        "-10.0",
    ]
    np.testing.assert_array_equal(found.change_probability, expected)
    np.testing.assert_array_equal(geocd.detect(*opened(paths), method="cva").change_probability, expected)


@pytest.mark.parametrize("lazy", [False, True])
def test_datasets_give_what_files_give(paths: Paths, tmp_path: Path, lazy: bool) -> None:
    """Variables in another order, each with its nodata value: none of it is lost."""
    expected = written(paths, tmp_path, method="cva")[0]
    before, after = opened(paths)
    names = ("red", "green", "nir")
    first, second = (
        xr.Dataset(
            {name: image[names.index(name)].drop_vars("band").assign_attrs(nodata=0) for name in order}
        )
        for image, order in ((before, names), (after, names[::-1]))
    )
    first["nir"] = first.nir.where(first.nir != 0, 7).assign_attrs(nodata=7)  # another value for one band
    changes = geocd.detect(first, second, method="cva", lazy=lazy)
    np.testing.assert_array_equal(changes.change_probability, expected)
    again = first.geocd.detect(second, method="cva", bidx=("red", "green", "nir"))
    np.testing.assert_array_equal(again.change_probability, expected)


def test_an_area_of_paths(make_pair: Any, scene: Any) -> None:
    paths = make_pair(scene(3, 120, 130), scene(3, 120, 130, seed=2))
    area = "500100 4199200 500900 4199900"
    changes = geocd.detect(*paths, method="cva", aoi=area)
    assert changes.change_probability.shape == (70, 80)
    assert float(changes.x[0]) == 500_105
    assert float(changes.y[0]) == 4_199_895
    array = rioxarray.open_rasterio(paths[0])
    with pytest.raises(ConfigError, match=r"aoi: .*clip_box"):
        geocd.detect(array, paths[1], method="cva", aoi=area)
