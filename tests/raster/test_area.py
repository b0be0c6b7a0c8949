"""``--aoi``: the window alone is read, and gives what a raster that was cut out gives."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from conftest import NORTH_UP, MakePair, ground, write_raster
from rasterio.transform import Affine
from rasterio.windows import Window

from geocd.config import Settings
from geocd.errors import AreaError
from geocd.pipeline.run import detect
from geocd.raster.area import Area, is_area_text
from geocd.raster.grid import Grid
from geocd.raster.handles import Companions
from geocd.raster.pair import Pair
from geocd.raster.quality import Masks
from geocd.raster.reading import read
from geocd.rerun import rerun

SIZE = 300
#: Rows 60 to 219, columns 90 to 279 of 10 m pixels.
WINDOW = Window(90, 60, 190, 160)
BOUNDS = "500900 4197800 502800 4199400"
GRID = Grid(rasterio.crs.CRS.from_epsg(32633), NORTH_UP, SIZE, SIZE)


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    before = ground(3, bands=4, size=SIZE)
    after = before * 1.1 + np.random.default_rng(0).normal(0, 2, before.shape)
    after[:, 100:140, 150:190] = np.random.default_rng(1).normal(150, 40, (4, 40, 40))
    return before.astype(np.float32), after.astype(np.float32)


def cut(values: np.ndarray) -> np.ndarray:
    return values[..., 60:220, 90:280]


def cut_out(folder: Path, name: str, values: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    corner = Affine(10, 0, 500_900, 0, -10, 4_199_400)
    return write_raster(folder / f"{name}.tif", cut(values), transform=corner)


def prob_of(pair: tuple[Path, Path], stem: Path, **values: object) -> tuple[np.ndarray, Affine]:
    files, _ = detect(*pair, stem, settings=Settings.from_flat(values))
    with rasterio.open(files["prob"]) as dataset:
        return dataset.read(1), dataset.transform


@pytest.mark.parametrize("method", ["deep", "cva", "irmad"])
def test_the_result_is_that_of_the_window_cut_out(
    method: str, images: tuple[np.ndarray, np.ndarray], make_pair: MakePair, tmp_path: Path
) -> None:
    classes = np.full((SIZE, SIZE), 5, np.uint8)
    classes[180:200, 200:240] = 9
    valid = np.ones((SIZE, SIZE), np.uint8)
    valid[70:90, 100:120] = 0
    companions = {
        "mask_after": write_raster(tmp_path / "SCL.tif", classes),
        "valid": write_raster(tmp_path / "valid.tif", valid),
    }
    settings = {"method": method, "tile_size": 160, "overlap": 128}
    prob, transform = prob_of(
        make_pair(*images),
        tmp_path / "area",
        aoi=BOUNDS,
        **settings,
        **{name: str(path) for name, path in companions.items()},
    )
    parts = tmp_path / "parts"
    small = cut_out(parts, "before", images[0]), cut_out(parts, "after", images[1])
    expected, corner = prob_of(
        small,
        tmp_path / "cut",
        **settings,
        mask_after=str(cut_out(parts, "SCL", classes)),
        valid=str(cut_out(parts, "valid", valid)),
    )
    assert prob.shape == (160, 190)
    assert transform == corner
    assert np.isnan(prob).sum() == 800 + 400
    np.testing.assert_array_equal(prob, expected)


def test_an_after_image_on_another_grid(images: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    before = write_raster(tmp_path / "before.tif", images[0])
    finer = Affine(5, 0, NORTH_UP.c - 25, 0, -5, NORTH_UP.f + 35)
    after = write_raster(
        tmp_path / "after.tif", np.kron(images[1], np.ones((2, 2), np.float32)), transform=finer
    )
    small = cut_out(tmp_path / "parts", "before", images[0])
    with Pair(before, after, align=True, area=BOUNDS) as pair, Pair(small, after, align=True) as expected:
        assert pair.grid == expected.grid
        window = Window(30, 20, 64, 50)
        np.testing.assert_array_equal(pair.read(window).after, expected.read(window).after)
        moved = pair.shifted(1.5, -2.25).read(window), expected.shifted(1.5, -2.25).read(window)
        np.testing.assert_array_equal(moved[0].after, moved[1].after)


def test_only_the_window_is_read(
    images: tuple[np.ndarray, np.ndarray], make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: list[Window] = []

    def spy(dataset: rasterio.DatasetReader, path: str, window: Window, **kwargs: object) -> np.ndarray:
        windows.append(window)
        return read(dataset, path, window, **kwargs)

    monkeypatch.setattr("geocd.raster.reading.read", spy)
    with Pair(*make_pair(*images), area=BOUNDS) as pair:
        assert pair.read(pair.grid.window).valid.all()
    assert windows
    assert all(window.row_off >= 60 and window.col_off >= 90 for window in windows)
    assert all(window.row_off + window.height <= 220 for window in windows)
    assert all(window.col_off + window.width <= 280 for window in windows)


def test_a_polygon_leaves_out_what_lies_beside_it(
    images: tuple[np.ndarray, np.ndarray], make_pair: MakePair, tmp_path: Path
) -> None:
    triangle = shapely.Polygon([(500_900, 4_199_400), (502_800, 4_199_400), (500_900, 4_197_800)])
    paths = make_pair(*images)
    with Pair(*paths, area=triangle.wkt) as pair:
        valid = pair.read(pair.grid.window).valid
        part = pair.read(Window(40, 50, 60, 40)).valid
    rows, cols = np.mgrid[:160, :190] + 0.5
    inside = rows / 160 + cols / 190 < 1
    assert (valid != inside).mean() < 1e-3, "but for centres on the line"
    assert np.array_equal(part, valid[50:90, 40:100])
    frame = geopandas.GeoDataFrame(geometry=[triangle], crs="EPSG:32633").to_crs("EPSG:4326")
    for name in ("area.geojson", "area.gpkg"):
        frame.to_file(tmp_path / name)
        with Pair(*paths, area=str(tmp_path / name)) as pair:
            assert (pair.read(pair.grid.window).valid[:159, :189] != valid[:159, :189]).mean() < 1e-3


def test_a_run_of_an_area_is_recorded_and_repeated(
    images: tuple[np.ndarray, np.ndarray], make_pair: MakePair, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    settings = Settings.from_flat({"aoi": BOUNDS})
    files, record = detect(*make_pair(*images), tmp_path / "out" / "x", settings=settings)
    content = json.loads(files["item"].read_text())
    assert content["properties"]["geocd:settings"]["aoi"] == BOUNDS
    assert content["properties"]["proj:shape"] == [160, 190]
    assert record.summary.n_polygons > 0
    areas = geopandas.read_file(files["changes"]).to_crs("EPSG:32633").total_bounds
    assert areas[0] >= 500_900
    assert areas[3] <= 4_199_400
    assert rerun(files["item"]).identical


def test_features_and_masks_of_the_whole_scene_serve(
    images: tuple[np.ndarray, np.ndarray], make_pair: MakePair, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    grid = Affine(40, 0, NORTH_UP.c, 0, -40, NORTH_UP.f)
    features = [
        write_raster(tmp_path / f"f{i}.tif", rng.normal(size=(3, 75, 75)).astype(np.float32), transform=grid)
        for i in range(2)
    ]
    mask = write_raster(tmp_path / "SCL.tif", np.full((150, 150), 5, np.uint8), transform=Affine(
        20, 0, NORTH_UP.c, 0, -20, NORTH_UP.f
    ))  # fmt: skip
    companions = Companions((features[0], features[1]), Masks(mask, mask))
    with Pair(*make_pair(*images), companions=companions, area=BOUNDS) as pair:
        chip = pair.read(pair.grid.window)
    assert chip.valid.all()
    assert chip.features is not None
    assert chip.features.stride == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0 10 10", r"has no pixel of before\.tif: it covers 0, 0, 10, 10 .*the raster 500000, 4197000"),
        ("500900 4199400 502800 4197800", "the order is left bottom right top"),
        ("POLYGON ((0 0, 1 1", "not WKT"),
        ("POLYGON EMPTY", "holds no polygon with an area"),
        ("POLYGON ((0 0, 1 1, 2 2, 0 0))", "holds no polygon with an area"),
        ("nothing.gpkg", r"--aoi nothing\.gpkg: no such file, nor an area"),
        ("POLYGON ((500001 4199999, 500003 4199999, 500003 4199998, 500001 4199999))", "has no pixel"),
    ],
)  # fmt: skip
def test_areas_that_cannot_be_used(text: str, message: str) -> None:
    with pytest.raises(AreaError, match=message):
        Area.of(text, GRID, "before.tif")


def test_files_that_hold_no_area(tmp_path: Path) -> None:
    (tmp_path / "text.gpkg").write_text("nothing")
    with pytest.raises(AreaError, match=r"text\.gpkg: cannot be read as a vector file"):
        Area.of(str(tmp_path / "text.gpkg"), GRID, "before.tif")
    points = geopandas.GeoDataFrame(geometry=[shapely.Point(15, 37.9)], crs="EPSG:4326")
    points.to_file(tmp_path / "points.gpkg")
    with pytest.raises(AreaError, match=r"points\.gpkg: holds no polygon"):
        Area.of(str(tmp_path / "points.gpkg"), GRID, "before.tif")


def test_bounds_take_the_pixels_whose_centres_they_have() -> None:
    for bounds, window in (
        (BOUNDS, WINDOW),
        ("500904 4197804 502804.9 4199404.9", WINDOW),
        ("500906,4197806,502806,4199406", Window(91, 59, 190, 160)),
        ("0 0 1e6 1e7", GRID.window),
    ):
        area = Area.of(bounds, GRID, "x")
        assert area.window == window, bounds
        assert area.geometry is None


def test_wkt_with_a_crs_of_its_own() -> None:
    """The corners of the window in degrees; a long side is straight in degrees, not on the grid."""
    x, y = [500_900, 502_800, 502_800, 500_900], [4_199_400, 4_199_400, 4_197_800, 4_197_800]
    lon, lat = rasterio.warp.transform("EPSG:32633", "EPSG:4326", x, y)
    text = f"SRID=4326;{shapely.Polygon(zip(lon, lat, strict=True)).wkt}"
    assert is_area_text(text)
    area = Area.of(text, GRID, "a.tif")
    assert area.window == WINDOW
    assert area.inside(area.grid.window).all()
    wide = Grid(GRID.crs, Affine(200, 0, 400_000, 0, -200, 4_300_000), 1000, 1000)
    west, east = 14.0, 16.0
    box = Area.of(f"SRID=4326;{shapely.box(west, 38.0, east, 38.5).wkt}", wide, "a.tif")
    _, ys = rasterio.warp.transform("EPSG:4326", "EPSG:32633", [west, 15.0], [38.0, 38.0])
    assert ys[0] - ys[1] > 400, "a parallel is lower in the middle of the zone"
    inside = box.inside(box.grid.window)
    lowest = np.flatnonzero(inside[:, inside.shape[1] // 2])[-1]
    assert lowest > np.flatnonzero(inside[:, 1])[-1]
    with pytest.raises(AreaError, match=r"--aoi SRID=999999;POLYGON.*not WKT"):
        Area.of("SRID=999999;POLYGON((0 0, 0 1, 1 1, 0 0))", GRID, "a.tif")
