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
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from rasterio.transform import Affine

from geocd.batch.stack import Stack
from geocd.cli import main
from geocd.errors import GridError
from geocd.evaluate import evaluate_files
from geocd.raster.arrays import ArrayRaster
from geocd.raster.files import grid_of, open_raster
from geocd.raster.georeference import _target
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


def control_points(west: float, north: float, size: float) -> list[GroundControlPoint]:
    return [
        GroundControlPoint(row, col, west + col * size, north - row * size)
        for row in (0, HEIGHT)
        for col in (0, WIDTH)
    ]


RPCS = RPC(
    height_off=0, height_scale=500, lat_off=38, lat_scale=0.003, long_off=15, long_scale=0.004,
    line_off=32, line_scale=32, samp_off=40, samp_scale=40,
    line_num_coeff=[0, 0, -1] + [0] * 17, line_den_coeff=[1] + [0] * 19,
    samp_num_coeff=[0, 1] + [0] * 18, samp_den_coeff=[1] + [0] * 19,
)  # fmt: skip
#: What a raster is georeferenced by -> what the message calls it, and a point inside it.
WARPABLE = {
    "points in UTM": (
        {"crs": "EPSG:32633", "gcps": control_points(500_000, 4_200_000, 10)},
        r"4 ground control points \(EPSG:32633\)",
        (500_400, 4_199_680),
    ),
    "points in degrees": (
        {"crs": "EPSG:4326", "gcps": control_points(15, 38, 1e-4)},
        r"4 ground control points \(EPSG:4326\)",
        (500_351, 4_205_460),
    ),
    "points without a CRS": (
        {"crs": CRS(), "gcps": control_points(500_000, 4_200_000, 10)},
        r"4 ground control points \(none\)",
        (500_400, 4_199_680),
    ),
    "RPCs": ({"crs": None, "rpcs": RPCS}, "RPCs", (500_000, 4_205_815)),
}


@pytest.mark.parametrize("name", WARPABLE)
def test_a_raster_with_control_points_is_to_be_warped(name: str, tmp_path: Path) -> None:
    """The command of the message leads to the right place, and the CRS of the points is left alone."""
    options, what, (x, y) = WARPABLE[name]
    path = tmp_path / "raw.tif"
    profile = {"driver": "GTiff", "height": HEIGHT, "width": WIDTH, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, **options) as file:
        file.write(VALUES)
    message = message_of(path)
    assert re.search(f"raw.tif: is georeferenced by {what} only.*gdalwarp .*-t_srs .*Do not assign", message)
    assert "edit-info" not in message
    with open_raster(str(follow(message, "gdalwarp"))) as dataset:
        grid = grid_of(dataset, "x")
    assert grid.crs == CRS.from_epsg(32633)
    corners = np.array(grid.corners())
    assert (corners.min(axis=0) < (x, y)).all()
    assert (corners.max(axis=0) > (x, y)).all()
    assert np.ptp(corners, axis=0) == pytest.approx((800, 680), rel=0.15)


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_an_array_with_control_points_is_to_be_warped(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "height": HEIGHT, "width": WIDTH, "count": 3, "dtype": "uint8"}
    points = control_points(500_000, 4_200_000, 10)
    with rasterio.open(tmp_path / "raw.tif", "w", **profile, crs="EPSG:32633", gcps=points) as file:
        file.write(VALUES)
    with rioxarray.open_rasterio(tmp_path / "raw.tif") as array:
        with pytest.raises(GridError, match=r"has ground control points.*reproject\(.*get_gcps\(\)\)"):
            ArrayRaster(array, "x")
        warped = array.rio.reproject("EPSG:32633", gcps=array.rio.get_gcps())
    np.testing.assert_allclose(ArrayRaster(warped, "x").transform, NORTH_UP)


@pytest.mark.parametrize(
    ("crs", "x", "y", "target"),
    [
        ("EPSG:4326", -179, -20, "EPSG:32701"),
        ("EPSG:4326", 179, 20, "EPSG:32660"),
        ("EPSG:3413", 0, -1e6, "EPSG:3413"),
        ("EPSG:4326", 10, 88, "EPSG:CODE"),
        ('LOCAL_CS["site",UNIT["metre",1]]', 0, 0, "EPSG:CODE"),
    ],
)
def test_the_crs_to_warp_to(crs: str, x: float, y: float, target: str) -> None:
    assert _target(CRS.from_user_input(crs), [x], [y]) == target
