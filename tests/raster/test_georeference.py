"""Rasters without a place: refused by everything that opens one, with remedies that lead to a place."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from click.testing import CliRunner
from conftest import NORTH_UP, MakePair, WriteRaster
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from geocd.batch.stack import Stack
from geocd.cli import main
from geocd.errors import GridError
from geocd.evaluate import evaluate_files
from geocd.raster.arrays import ArrayRaster
from geocd.raster.files import grid_of, open_raster
from geocd.raster.pair import Pair
from geocd.vectorize.polygons import polygonize

HEIGHT, WIDTH = 64, 80
VALUES = np.random.default_rng(0).integers(1, 200, (3, HEIGHT, WIDTH)).astype(np.uint8)
CORNERS = {"WEST": "500000", "NORTH": "4200000", "EAST": "500800", "SOUTH": "4199360", "SIZE": "10"}
NO_TRANSFORM = "but no transform: .*pixel coordinates, no place"


def message_of(path: Path) -> str:
    with open_raster(str(path)) as dataset, pytest.raises(GridError) as caught:
        grid_of(dataset, str(path))
    return caught.value.message


def follow(message: str, tool: str) -> Path:
    """Run the command of a tool as a message prints it, with the user's corners for its placeholders."""
    start = message.index(f"{tool} ")
    text = re.split(", or |\\. |\\.$", message[start:])[0].replace("EPSG:CODE", "EPSG:32633")
    for name, value in CORNERS.items():
        text = re.sub(rf"\b{name}\b", value, text)
    words = shlex.split(text)
    if words[0] == "rio":
        words[0] = str(Path(sys.executable).parent / "rio")
        target = words[-1]
    else:
        target = words[-1] = str(Path(words[-2]).with_name("out.tif"))
        if shutil.which(words[0]) is None:
            pytest.skip(f"{words[0]} is not installed")
    subprocess.run(words, check=True, capture_output=True)
    return Path(target)


@pytest.fixture
def without(write_raster: WriteRaster):  # type: ignore[no-untyped-def]
    """Write a raster without a transform, with what else is given."""

    def make(name: str, values: object = VALUES, **options: object) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return write_raster(name, values, transform=Affine.identity(), **options)

    return make


@pytest.mark.parametrize("which", ["before", "after", "valid"])
def test_pairs_refuse_a_raster_without_a_transform(which: str, make_pair: MakePair, without) -> None:  # type: ignore[no-untyped-def]
    before, after = make_pair(VALUES, VALUES)
    paths = {"before": before, "after": after, "valid": None} | {which: without("nowhere")}
    with pytest.raises(GridError, match=f"nowhere.tif: has .*EPSG:32633.* {NO_TRANSFORM}"):
        Pair(paths["before"], paths["after"], valid=paths["valid"], align=True)  # type: ignore[arg-type]


def test_evaluate_polygonize_and_stacks_refuse_it(write_raster: WriteRaster, without, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    prob = np.full((1, HEIGHT, WIDTH), 0.4, np.float32)
    nowhere = without("nowhere", prob)
    located = write_raster("prob", prob)
    with pytest.raises(GridError, match=NO_TRANSFORM):
        evaluate_files(nowhere, located)
    with pytest.raises(GridError, match=f"label.tif.*{NO_TRANSFORM}"):
        evaluate_files(located, without("label", np.zeros((1, HEIGHT, WIDTH), np.uint8)))
    with pytest.raises(GridError, match=NO_TRANSFORM):
        polygonize(nowhere, tmp_path / "x.gpkg", threshold=0.5)
    with pytest.raises(GridError, match=NO_TRANSFORM):
        Stack(str(tmp_path / "x.vrt"), (("red", str(nowhere)),), "2020-01-01T00:00:00Z").write()


def test_check_says_no_and_shows_no_warning(without) -> None:  # type: ignore[no-untyped-def]
    before, after = without("before"), without("after")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = CliRunner().invoke(main, ["check", str(before), str(after)])
    assert result.exit_code == 1
    assert re.search(NO_TRANSFORM, " ".join(result.output.split()))
    assert not [warning for warning in caught if warning.category is NotGeoreferencedWarning]


@pytest.mark.parametrize("tool", ["rio", "gdal_translate"])
@pytest.mark.parametrize("crs", ["EPSG:32633", None], ids=["a CRS only", "nothing"])
def test_the_remedy_for_a_missing_transform_works(tool: str, crs: str | None, without) -> None:  # type: ignore[no-untyped-def]
    path = without("no where", crs=crs)
    with open_raster(str(follow(message_of(path), tool))) as dataset:
        grid = grid_of(dataset, str(path))
        assert (grid.crs.to_epsg(), grid.transform) == (32633, NORTH_UP)
        np.testing.assert_array_equal(dataset.read(), VALUES)


def test_a_jpeg_is_not_rewritten(tmp_path: Path) -> None:
    """``rio edit-info`` would encode its pixels again."""
    path = tmp_path / "photo.jpg"
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="JPEG", height=HEIGHT, width=WIDTH, count=3, dtype="uint8") as file,
    ):
        file.write(VALUES)
    content = path.read_bytes()
    message = message_of(path)
    assert "edit-info" not in message
    with open_raster(str(follow(message, "gdal_translate"))) as dataset:
        assert grid_of(dataset, "x").transform == NORTH_UP
        assert dataset.shape == (HEIGHT, WIDTH)
    assert path.read_bytes() == content


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_arrays_whose_coordinates_count_pixels_are_refused(without) -> None:  # type: ignore[no-untyped-def]
    """The remedy works for the array, for a part of it, and without dropping its coordinates."""
    with rioxarray.open_rasterio(without("nowhere")) as array:
        part = array[:, 3:, 5:]
        for refused in (array, part, array[:, ::-1], array.drop_vars(["x", "y"])):
            with pytest.raises(GridError, match=r"count pixels.*drop_vars\(\['y', 'x'\].*write_transform"):
                ArrayRaster(refused, "x")
        for repaired in (array, array.drop_vars(["y", "x"]), part.drop_vars(["y", "x"])):
            assert ArrayRaster(repaired.rio.write_transform(NORTH_UP), "x").transform == NORTH_UP
        metres = array.assign_coords(x=500_000.5 + np.arange(WIDTH), y=4_199_999.5 - np.arange(HEIGHT))
        assert ArrayRaster(metres, "x").transform == Affine(1, 0, 500_000, 0, -1, 4_200_000)


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_a_netcdf_of_xarray_is_told_how_to_write_its_transform(tmp_path: Path) -> None:
    coords = {"y": 4_199_995 - 10.0 * np.arange(HEIGHT), "x": 500_005 + 10.0 * np.arange(WIDTH)}
    data = xr.Dataset({"b": (("y", "x"), VALUES[0].astype(np.float32))}, coords=coords)
    located = data.rio.write_crs(32633).rio.write_transform()
    path = tmp_path / "a.nc"
    data.rio.write_crs(32633).to_netcdf(path)
    message = message_of(path)
    assert re.search(NO_TRANSFORM, message)
    assert ".rio.write_transform()" in message
    located.to_netcdf(tmp_path / "b.nc")
    with open_raster(str(tmp_path / "b.nc")) as dataset:
        assert grid_of(dataset, "b.nc").transform == NORTH_UP
