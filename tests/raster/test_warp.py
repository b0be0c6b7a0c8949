"""Rasters that are not on one grid: every pixel where it belongs, nothing made up where there is none."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest
from conftest import NORTH_UP, MakePair, WriteRaster
from pyproj import Transformer
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window
from scipy import ndimage

from geocd.errors import GridError
from geocd.raster.grid import Grid
from geocd.raster.pair import Chip, Pair
from geocd.raster.warp import BLOCK_PIXELS, Warp, full_turn, overlap

UTM33, UTM34, DEGREES = (CRS.from_epsg(code) for code in (32633, 32634, 4326))
TARGET = Grid(UTM33, NORTH_UP, 150, 170)
#: Each covers a part of TARGET at least.
SOURCES = {
    "half a pixel away": (UTM33, Affine(10, 0, 499_995, 0, -10, 4_199_995), (150, 170)),
    "larger pixels": (UTM33, Affine(17, 0, 499_900, 0, -17, 4_200_100), (110, 130)),
    "finer": (UTM33, Affine(4, 0, 500_100, 0, -4, 4_199_900), (300, 400)),
    "much finer": (UTM33, Affine(0.5, 0, 500_400, 0, -0.5, 4_199_600), (600, 500)),
    "the next zone": (UTM34, Affine(10, 0, -27_000, 0, -10, 4_218_000), (260, 260)),
    "degrees": (DEGREES, Affine(1.1e-4, 0, 14.998, 0, -0.9e-4, 37.948), (170, 200)),
    "turned": (UTM33, Affine(8, 5, 499_500, 5, -8, 4_199_700), (200, 200)),
    "south up": (UTM33, Affine(10, 0, 499_900, 0, 10, 4_198_400), (180, 190)),
}
every_source = pytest.mark.parametrize("name", SOURCES)


def source(name: str) -> Grid:
    crs, transform, (height, width) = SOURCES[name]
    return Grid(crs, transform, height, width)


def places(grid: Grid, crs: CRS) -> npt.NDArray[np.float64]:
    """Coordinates ``(x and y, height, width)`` of the middles of the pixels, in some CRS."""
    cols, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    t = grid.transform
    x, y = t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f
    return np.stack(Transformer.from_crs(grid.crs, crs, always_xy=True).transform(x, y))


def read(pair: Pair, window: Window | None = None) -> Chip:
    return pair.read(window or pair.grid.window)


@pytest.fixture
def pair_from(make_pair: MakePair):  # type: ignore[no-untyped-def]
    """Write a pair whose dates hold the coordinates of their own pixels, in the CRS of the first."""

    def make(name: str, **options: object) -> Pair:
        grid = source(name)
        paths = make_pair(
            places(TARGET, UTM33),
            places(grid, UTM33),
            transform=TARGET.transform,
            after_transform=grid.transform,
            after_crs=grid.crs.to_wkt(),
            **options,
        )
        return Pair(*paths, align=True)

    return make


@every_source
def test_every_pixel_lies_where_its_own_coordinates_say(name: str, pair_from) -> None:  # type: ignore[no-untyped-def]
    with pair_from(name) as pair:
        chip = read(pair)
        assert pair.grid == TARGET
        covered = Warp.between(source(name), TARGET).overlap
    assert chip.valid.any()
    # what covers half a pixel at the border may be valid or not
    assert chip.valid.mean() == pytest.approx(covered, abs=0.02)
    off = np.abs(chip.after - chip.before)[:, chip.valid]
    inner = np.abs(chip.after - chip.before)[:, ndimage.binary_erosion(chip.valid, iterations=3)]
    assert inner.max() < 0.25  # metres, of 10: a linear ramp is reproduced
    assert off.max() < 8  # at the border of the source the mean of what there is
    assert (chip.after[:, ~chip.valid] == 0).all()


@every_source
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.37, -1.62)])
def test_a_pixel_does_not_depend_on_the_window(name: str, shift: tuple[float, float], pair_from) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    with pair_from(name) as opened:
        pair = opened.shifted(*shift)
        whole = read(pair)
        for _ in range(12):
            height, width = rng.integers(1, [TARGET.height, TARGET.width])
            row, col = rng.integers(0, [TARGET.height - height, TARGET.width - width])
            part = read(pair, Window(col, row, width, height))
            here = np.s_[row : row + height, col : col + width]
            np.testing.assert_array_equal(part.valid, whole.valid[here])
            np.testing.assert_array_equal(part.after, whole.after[(slice(None), *here)])


def test_a_shift_is_removed_in_the_direction_it_was_measured(pair_from) -> None:  # type: ignore[no-untyped-def]
    with pair_from("half a pixel away") as opened:
        pair = opened.shifted(2.0, -3.25)  # the content lies 2 px too low and 3.25 px too far to the left
        chip = read(pair)
    inner = ndimage.binary_erosion(chip.valid, iterations=3)
    apart = (chip.after - chip.before)[:, inner]
    np.testing.assert_allclose(apart[0], -32.5, atol=0.01)
    np.testing.assert_allclose(apart[1], -20, atol=0.01)


@pytest.mark.parametrize(
    ("name", "resampling"),
    [("half a pixel away", "cubic"), ("larger pixels", "cubic"), ("turned", "cubic"), ("finer", "average")],
)
def test_fine_sources_are_averaged(name: str, resampling: str) -> None:
    assert Warp.between(source(name), TARGET).resampling == resampling


def test_an_average_takes_every_source_pixel(make_pair: MakePair) -> None:
    fine = np.zeros((1, 100, 100), np.uint16)
    fine[0, 43, 58] = 1600  # one of 16 under a pixel
    before, after = make_pair(
        np.zeros((1, 25, 25), np.uint16), fine, after_transform=NORTH_UP @ Affine.scale(0.25)
    )
    with Pair(before, after, align=True) as pair:
        chip = read(pair)
    assert chip.valid.all()
    assert chip.after[0, 10, 14] == 100
    assert chip.after.sum() == 100


def test_memory_does_not_follow_how_fine_the_source_is() -> None:
    grid = Grid(UTM33, Affine(0.05, 0, 500_000, 0, -0.05, 4_200_000), 200_000, 200_000)
    warp = Warp.between(grid, Grid(UTM33, NORTH_UP, 1000, 1000))
    blocks = list(warp.blocks(Window(300, 300, 40, 40)))
    sizes = [needed.height * needed.width for block in blocks if (needed := warp.needed(block))]
    assert 0 < max(sizes) < 12 * BLOCK_PIXELS  # with what the kernel needs around


def holes(
    make_pair: MakePair, write_raster: WriteRaster, how: str
) -> tuple[tuple[object, object], dict[str, object]]:
    """Write a pair half a pixel apart whose after image has a hole of 9999 or 0, declared in some way."""
    image = np.full((2, 60, 60), 100, np.float32)
    hole = image.copy()
    hole[:, 20:40, 20:40] = 9999
    usable = np.ones((60, 60), bool)
    usable[20:40, 20:40] = False
    away = Affine(10, 0, 499_995, 0, -10, 4_200_005)
    options: dict[str, object] = {}
    written: dict[str, object] = {"after_transform": away}
    if how == "nodata":
        written["after_nodata"] = 9999
    elif how == "--nodata":
        options["nodata"] = 9999
    elif how == "nan":
        hole[:, 20:40, 20:40] = np.nan
    elif how == "one band":
        hole[0] = 100
        written["after_nodata"] = 9999
    elif how == "mask":
        written["after_mask"] = usable
    elif how == "--valid":
        options["valid"] = write_raster("valid", usable.astype(np.uint8) * 3, transform=away)
    elif how == "infinite":
        hole[:, 20:40, 20:40] = 3e38
    return make_pair(image, hole, **written), options


@pytest.mark.parametrize("how", ["nodata", "--nodata", "nan", "one band", "mask", "--valid", "infinite"])
def test_holes_stay_holes_and_do_not_bleed(how: str, make_pair: MakePair, write_raster: WriteRaster) -> None:
    paths, options = holes(make_pair, write_raster, how)
    with Pair(*paths, align=True, **options) as pair:  # type: ignore[arg-type]
        chip = read(pair)
    gone = np.zeros((60, 60), bool)
    gone[20:40, 20:40] = True
    # half a pixel to the lower right: no more than a line of pixels may be gained or lost
    assert not chip.valid[ndimage.binary_erosion(gone)].any()
    assert chip.valid[~ndimage.binary_dilation(gone, np.ones((3, 3)))][:-60].all()
    bled = (
        chip.after[:, chip.valid]
        if how != "--valid"
        else chip.after[:, ~ndimage.binary_dilation(gone, np.ones((3, 3)), 3)]
    )
    assert set(np.unique(bled.round(3))) <= {0, 100}
    assert (chip.after[:, chip.valid] == pytest.approx(100)) or how == "--valid"


def test_alpha_is_warped_with_the_rest(make_pair: MakePair) -> None:
    from rasterio.enums import ColorInterp

    image = np.full((2, 60, 60), 100, np.uint8)
    image[1] = 255
    hole = image.copy()
    hole[:, :, 30:] = 0
    kinds = (ColorInterp.gray, ColorInterp.alpha)
    away = Affine(10, 0, 500_005, 0, -10, 4_200_000)
    with Pair(*make_pair(image, hole, colorinterp=kinds, after_transform=away), align=True) as pair:
        chip = read(pair)
    assert chip.valid[:, 1:30].all()
    assert not chip.valid[:, 32:].any()
    assert (chip.after[:, chip.valid] == 100).all()


def test_on_one_grid_nothing_is_resampled(make_pair: MakePair, scene) -> None:  # type: ignore[no-untyped-def]
    paths = make_pair(scene(), scene(seed=1))
    with Pair(*paths) as plain, Pair(*paths, align=True) as aligned:
        assert aligned.warp is None
        np.testing.assert_array_equal(read(plain).after, read(aligned).after)


def test_one_crs_in_two_spellings_is_not_transformed(make_pair: MakePair, scene) -> None:  # type: ignore[no-untyped-def]
    spelt = UTM33.to_wkt(version="WKT1_GDAL").replace("WGS 84 / UTM zone 33N", "my zone")
    away = Affine(10, 0, 500_020, 0, -10, 4_200_000)  # by whole pixels
    image = scene()
    with Pair(*make_pair(image, image, after_crs=spelt, after_transform=away), align=True) as pair:
        chip = read(pair)
    np.testing.assert_allclose(chip.after[:, :, 2:], image[:, :, :-2], rtol=1e-5)
    assert not chip.valid[:, :2].any()


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (UTM33, Affine(10, 0, 700_000, 0, -10, 4_200_000)),
        (DEGREES, Affine(1e-4, 0, -75, 0, -1e-4, -8)),
        (CRS.from_epsg(3031), Affine(10, 0, 0, 0, -10, 0)),
    ],
)
def test_no_overlap_says_where_both_lie(crs: CRS, transform: Affine, make_pair: MakePair, scene) -> None:  # type: ignore[no-untyped-def]
    paths = make_pair(scene(), scene(), after_crs=crs.to_wkt(), after_transform=transform)
    with pytest.raises(GridError, match=r"do not overlap: .*before.tif covers x .*after.tif x .* y "):
        Pair(*paths, align=True)


def test_a_transform_that_is_no_number_is_named(make_pair: MakePair, scene) -> None:  # type: ignore[no-untyped-def]
    transform = Affine(math.nan, 0, 500_000, 0, -10, 4_200_000)
    paths = make_pair(scene(), scene(), after_transform=transform)
    with pytest.raises(GridError, match=r"after.tif: its transform gives pixels no area .*\(nan, -10\)"):
        Pair(*paths, align=True)


def test_without_align_the_message_names_it(make_pair: MakePair, scene) -> None:  # type: ignore[no-untyped-def]
    paths = make_pair(scene(), scene(), after_crs="EPSG:32634")
    with pytest.raises(GridError, match=r"EPSG:32633 in .*EPSG:32634 in .*--align grid"):
        Pair(*paths)


def test_overlap_is_a_share_of_the_first() -> None:
    small = dataclasses.replace(TARGET, height=75)
    assert overlap(TARGET, TARGET) == 1
    assert overlap(TARGET, small) == pytest.approx(0.5)
    assert overlap(small, TARGET) == 1
    beside = dataclasses.replace(TARGET, transform=Affine.translation(1700, 0) @ NORTH_UP)
    assert overlap(TARGET, beside) == 0
    world = Grid(DEGREES, Affine(1, 0, -180, 0, -1, 90), 180, 360)
    assert overlap(TARGET, world) == pytest.approx(1)
    share = overlap(world, TARGET)
    assert share is not None
    assert math.isclose(share, 1.7 * 1.5 / 111.32**2 / math.cos(math.radians(37.95)) / 64_800, rel_tol=0.01)


UTM1 = CRS.from_epsg(32601)
#: Grids across 180 degrees, or beside it: target, source. All of each target that the source covers is kept.
DATE_LINE = {
    "UTM zone 1, degrees beyond 180": (
        Grid(UTM1, Affine(100, 0, 283_000, 0, -100, 5_540_000), 40, 60),
        Grid(DEGREES, Affine(1e-3, 0, 179.9, 0, -1e-3, 50.1), 300, 500),
    ),
    "UTM zone 1, degrees below -180": (
        Grid(UTM1, Affine(100, 0, 283_000, 0, -100, 5_540_000), 40, 60),
        Grid(DEGREES, Affine(1e-3, 0, -180.2, 0, -1e-3, 50.1), 300, 500),
    ),
    "degrees beyond 180, UTM zone 1": (
        Grid(DEGREES, Affine(1e-3, 0, 180.25, 0, -1e-3, 49.97), 60, 70),
        Grid(UTM1, Affine(100, 0, 290_000, 0, -100, 5_550_000), 300, 300),
    ),
    "degrees of -180 to 180, of 0 to 360": (
        Grid(DEGREES, Affine(1e-3, 0, -177, 0, -1e-3, 50), 60, 70),
        Grid(DEGREES, Affine(7e-4, 0, 182.9, 0, -7e-4, 50.1), 400, 400),
    ),
    "degrees of 0 to 360, of -180 to 180": (
        Grid(DEGREES, Affine(1e-3, 0, 183, 0, -1e-3, 50), 60, 70),
        Grid(DEGREES, Affine(7e-4, 0, -177.1, 0, -7e-4, 50.1), 400, 400),
    ),
    "the world of -180 to 180, of 0 to 360": (
        Grid(DEGREES, Affine(4, 0, -180, 0, -4, 80), 40, 90),
        Grid(DEGREES, Affine(3, 0, 0, 0, -3, 81), 54, 120),
    ),
}


@pytest.mark.parametrize("name", DATE_LINE)
def test_longitudes_are_counted_modulo_360(name: str, make_pair: MakePair) -> None:
    """Pixels hold latitude, and the longitude as a point on the circle: nothing is lost, nothing moved."""
    target, source = DATE_LINE[name]

    def circle(grid: Grid) -> npt.NDArray[np.float64]:
        lon, lat = places(grid, DEGREES)
        return np.stack([np.cos(np.radians(lon)), np.sin(np.radians(lon)), lat])

    paths = make_pair(
        circle(target),
        circle(source),
        crs=target.crs.to_wkt(),
        transform=target.transform,
        after_crs=source.crs.to_wkt(),
        after_transform=source.transform,
    )
    assert overlap(target, source) == pytest.approx(1)
    with Pair(*paths, align=True) as pair:
        assert pair.warp is not None
        assert pair.warp.overlap == pytest.approx(1)
        chip = read(pair)
    valid = chip.valid if "world" not in name else chip.valid[:, 2:-2]  # the ends of the source are its rim
    assert valid.mean() > (0.95 if "world" in name else 0.999)
    pixel = abs(source.transform.e) if source.crs == DEGREES else 1e-3
    wrong = np.abs(chip.after - chip.before).max(axis=0)[chip.valid]
    assert wrong.max() < 0.2 * pixel


def test_grids_on_other_sides_of_the_globe_do_not_meet() -> None:
    west = Grid(DEGREES, Affine(1e-3, 0, -177, 0, -1e-3, 50), 60, 70)
    east = dataclasses.replace(west, transform=Affine(1e-3, 0, 177, 0, -1e-3, 50))
    assert overlap(west, east) == 0
    with pytest.raises(GridError, match="do not overlap"):
        Warp.between(east, west)


def test_a_full_turn_has_the_unit_of_the_crs() -> None:
    assert full_turn(UTM33) is None
    assert full_turn(DEGREES) == 360
    assert full_turn(CRS.from_epsg(4807)) == pytest.approx(400)  # NTF (Paris), in grads
