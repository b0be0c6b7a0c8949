"""Rasters in and out: what is refused, what is valid, and the COG that comes out."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from conftest import NORTH_UP, MakePair, WriteRaster
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from geocd.errors import (
    BandError,
    GridError,
    NoValidPixelError,
    OutputError,
    RasterOpenError,
    RasterReadError,
)
from geocd.raster.files import grid_of, open_raster, output_errors, provenance
from geocd.raster.grid import Grid, check_same_grid, crs_name, same_crs
from geocd.raster.pair import Chip, Pair
from geocd.raster.writer import ProbWriter

UTM33 = CRS.from_epsg(32633)
ONES = np.ones((1, 8, 9), np.uint16)

# The 1999 spelling of EPSG:32633: no axis, other names, no authority.
WKT1 = (
    'PROJCS["UTM_Zone_33_Northern_Hemisphere",GEOGCS["GCS_WGS_84",DATUM["WGS_1984",'
    'SPHEROID["WGS_1984",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["Degree",0.017453292519943295]],'
    'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",15],'
    'PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],PARAMETER["false_northing",0],'
    'UNIT["Meter",1]]'
)


def whole(pair: Pair) -> Chip:
    return pair.read(pair.grid.window)


def read_pair(paths: tuple[Path, Path], **options: Any) -> Chip:
    with Pair(*paths, **options) as pair:
        return whole(pair)


# ---------------------------------------------------------------------------------------------------
# Opening
# ---------------------------------------------------------------------------------------------------


def test_missing_file_is_named(tmp_path: Path, write_raster: WriteRaster) -> None:
    good = write_raster("good", ONES)
    for pair in ((tmp_path / "gone.tif", good), (good, tmp_path / "gone.tif")):
        with pytest.raises(RasterOpenError, match=r"gone\.tif: no such file\. Check the path"):
            Pair(*pair)


def test_folder_is_refused(tmp_path: Path, write_raster: WriteRaster) -> None:
    with pytest.raises(RasterOpenError, match="is a folder, a raster file is needed"):
        Pair(tmp_path, write_raster("good", ONES))


@pytest.mark.parametrize(
    "content",
    [b"", b"not a picture\n", b"II*\x00", b"II*\x00\xff\xff\xff\xff", b"\x89PNG\r\n\x1a\n", bytes(4096)],
    ids=["empty", "text", "magic only", "directory beyond the end", "half a PNG", "zeros"],
)
def test_what_is_no_raster_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.tif"
    path.write_bytes(content)
    with pytest.raises(
        RasterOpenError, match=r"notes\.tif: not a raster that GDAL can read \(.+\)"
    ) as caught:
        open_raster(str(path))
    assert "previous exception" not in caught.value.message, "the message must hold GDAL's own words"
    assert caught.value.details["path"] == str(path)
    assert isinstance(caught.value, OSError)


@pytest.mark.skipif(
    os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all"
)
def test_unreadable_file_is_refused(write_raster: WriteRaster) -> None:
    path = write_raster("secret", ONES)
    path.chmod(0)
    with pytest.raises(RasterOpenError, match="permission denied"):
        open_raster(str(path))


@pytest.mark.parametrize("share", [0.95, 0.6, 0.3])
@pytest.mark.parametrize("which", ["before", "after"])
def test_truncated_tiff_names_the_file(share: float, which: str, make_pair: MakePair) -> None:
    """A download that broke off: the directory is there, the pixels are not."""
    values = np.random.default_rng(0).integers(1, 60_000, (3, 300, 300), dtype=np.uint16)
    tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    paths = dict(zip(("before", "after"), make_pair(values, values, **tiles), strict=True))
    path = paths[which]
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with (
        pytest.raises((RasterReadError, RasterOpenError), match=f"{which}\\.tif: .*(truncated|not a raster)"),
        Pair(paths["before"], paths["after"]) as pair,
    ):
        whole(pair)


def test_damaged_block_spoils_only_its_own_window(make_pair: MakePair) -> None:
    values = np.random.default_rng(0).integers(1, 60_000, (1, 256, 256), dtype=np.uint16)
    before, after = make_pair(values, values, compress="deflate", tiled=True, blockxsize=128, blockysize=128)
    data = bytearray(after.read_bytes())
    with rasterio.open(after) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    data[offset + 40 : offset + 2000] = bytes(1960)
    after.write_bytes(data)
    with Pair(before, after) as pair:
        assert pair.read(Window(0, 0, 128, 128)).valid.all()
        with pytest.raises(
            RasterReadError, match=r"after\.tif: pixels of window \(row 128, col 128, 128 x 128\)"
        ):
            pair.read(Window(128, 128, 128, 128))


def test_urls_are_not_looked_up_on_disk() -> None:
    with pytest.raises(RasterOpenError, match="not a raster that GDAL can read"):
        open_raster("/vsizip/nowhere.zip/a.tif")


def test_inside_a_zip(tmp_path: Path, write_raster: WriteRaster) -> None:
    import zipfile

    path = write_raster("inner", ONES)
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as pack:
        pack.write(path, "inner.tif")
    inside = f"zip://{tmp_path}/pack.zip!inner.tif"
    assert read_pair((path, inside)).valid.all()  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------
# Grids
# ---------------------------------------------------------------------------------------------------


def shifted(pixels: float, base: Affine = NORTH_UP) -> Affine:
    return Affine(base.a, base.b, base.c + pixels * base.a, base.d, base.e, base.f + pixels * base.d)


@pytest.mark.parametrize(
    ("after", "match"),
    [
        pytest.param(
            {"crs": "EPSG:32634"}, r"systems: EPSG:32633 in .*, EPSG:32634 in .*--align grid warps", id="zone"
        ),
        pytest.param({"crs": "EPSG:4326"}, "EPSG:32633 .*EPSG:4326", id="degrees"),
        pytest.param(
            {"transform": shifted(0.5)},
            r"transforms: .*origin \(500000, 4200000\).*origin \(500005, 4200000\)",
            id="half a pixel",
        ),
        pytest.param({"transform": shifted(1)}, "different transforms", id="one pixel"),
        pytest.param(
            {"transform": Affine(10.02, 0, 500_000, 0, -10, 4_200_000)},
            r"pixel \(10, -10\).*pixel \(10\.02, -10\)",
            id="scale",
        ),
        pytest.param(
            {"transform": Affine(10, 0, 500_000, 0, 10, 4_200_000)}, "different transforms", id="south up"
        ),
        pytest.param(
            {"transform": Affine(10, 0.1, 500_000, 0.1, -10, 4_200_000)},
            r"different transforms.*rotation \(0\.1, 0\.1\)",
            id="rotated",
        ),
    ],
)
def test_other_grid_is_refused_before_a_pixel_is_read(
    after: dict[str, Any], match: str, make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.ones((1, 20, 30), np.uint16)
    paths = make_pair(values, values, **{f"after_{key}": value for key, value in after.items()})
    monkeypatch.setattr("geocd.raster.reading.read", lambda *_, **__: pytest.fail("read before the check"))
    with pytest.raises(GridError, match=match) as caught:
        Pair(*paths)
    assert str(paths[0]) in caught.value.message
    assert str(paths[1]) in caught.value.message


def test_other_size_is_refused(make_pair: MakePair) -> None:
    with pytest.raises(GridError, match=r"sizes: 9 x 8 px in .*before\.tif, 9 x 7 px in .*after\.tif"):
        Pair(*make_pair(ONES, ONES[:, :7]))


def test_last_digits_of_the_transform_do_not_matter(make_pair: MakePair) -> None:
    jittered = Affine(10 + 1e-9, 0, 500_000.000001, 0, -10 - 1e-9, 4_199_999.999999)
    assert read_pair(make_pair(ONES, ONES, after_transform=jittered)).valid.all()


def test_a_scale_error_that_grows_to_a_pixel_is_seen(make_pair: MakePair) -> None:
    """1e-5 of the pixel size is nothing at the origin and more than the tolerance after 2000 px."""
    values = np.ones((1, 1, 2000), np.uint8)
    with pytest.raises(GridError, match="transforms"):
        Pair(*make_pair(values, values, after_transform=Affine(10.0001, 0, 500_000, 0, -10, 4_200_000)))


def test_same_crs_spelt_differently_is_accepted(make_pair: MakePair) -> None:
    assert CRS.from_wkt(WKT1).to_wkt() != UTM33.to_wkt()
    assert read_pair(make_pair(ONES, ONES, after_crs=WKT1)).valid.all()


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("EPSG:32633", WKT1, True),
        ("EPSG:4326", "OGC:CRS84", True),  # axis order only: GDAL reads both as (x, y)
        ("EPSG:32633", "EPSG:32733", False),
        ("EPSG:4326", "EPSG:4258", False),
        ("EPSG:3857", "EPSG:4326", False),
    ],
)
def test_same_crs(first: str, second: str, same: bool) -> None:
    one, two = CRS.from_user_input(first), CRS.from_user_input(second)
    assert same_crs(one, two) is same
    assert same_crs(two, one) is same


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("transform", [NORTH_UP, Affine.identity()], ids=["transform", "neither"])
@pytest.mark.parametrize("which", ["before", "after"])
def test_no_crs_is_refused(transform: Affine, which: str, make_pair: MakePair) -> None:
    options = {"crs": None} if which == "before" else {"after_crs": None}
    if which == "before":
        options["after_crs"] = "EPSG:32633"  # type: ignore[assignment]
    paths = make_pair(ONES, ONES, transform=transform, **options)
    with pytest.raises(
        GridError, match=f"{which}.tif: the raster has no coordinate reference system.*rio edit-info"
    ):
        Pair(*paths)


def test_rotated_grid_works(make_pair: MakePair) -> None:
    angle = math.radians(30)
    turned = Affine(
        10 * math.cos(angle), 10 * math.sin(angle), 5e5, 10 * math.sin(angle), -10 * math.cos(angle), 4e6
    )
    with Pair(*make_pair(ONES, ONES, transform=turned)) as pair:
        assert whole(pair).valid.all()
        assert pair.grid.transform == turned
        near, far = pair.grid.crop(Window(2, 3, 4, 5)).corners()[::2]
        assert near == pytest.approx(
            (turned.a * 2 + turned.b * 3 + turned.c, turned.d * 2 + turned.e * 3 + turned.f)
        )
        assert far == pytest.approx(
            (turned.a * 6 + turned.b * 8 + turned.c, turned.d * 6 + turned.e * 8 + turned.f)
        )
    with pytest.raises(GridError, match="transforms"):
        Pair(*make_pair(ONES, ONES, transform=turned, after_transform=shifted(0.5, turned)))


def test_crop_and_describe() -> None:
    grid = Grid(UTM33, NORTH_UP, 100, 200)
    part = grid.crop(Window(20, 10, 5, 7))
    assert part == Grid(UTM33, Affine(10, 0, 500_200, 0, -10, 4_199_900), 7, 5)
    assert part.shape == (7, 5)
    assert part.window == Window(0, 0, 5, 7)
    assert grid.describe() == "EPSG:32633, origin (500000, 4200000), pixel (10, -10), 200 x 100 px"
    check_same_grid(grid, grid)


def test_crs_name() -> None:
    assert crs_name(None) == "none"
    assert crs_name(UTM33) == "EPSG:32633"
    local = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    assert "site" in crs_name(local)
    assert same_crs(local, local)


def test_pixels_without_a_place_on_earth_have_no_size() -> None:
    grid = Grid(CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]'), NORTH_UP, 10, 10)
    assert grid.pixel_size is None
    assert Grid(UTM33, NORTH_UP, 10, 10).pixel_size == pytest.approx(10, rel=0.01)


# ---------------------------------------------------------------------------------------------------
# Bands
# ---------------------------------------------------------------------------------------------------


def test_different_band_counts(make_pair: MakePair, scene: Any) -> None:
    paths = make_pair(scene(4), scene(3))
    with pytest.raises(BandError, match=r"4 in .*before\.tif, 3 in .*after\.tif.*--bidx 1\.\.3"):
        Pair(*paths)
    assert read_pair(paths, indexes=[1, 2, 3]).before.shape == (3, 64, 80)


@pytest.mark.parametrize("index", [0, -1, 4, 99])
def test_band_out_of_range(index: int, make_pair: MakePair, scene: Any) -> None:
    with pytest.raises(
        BandError, match=rf"before\.tif: band {index} does not exist, the raster has bands 1 to 3"
    ):
        Pair(*make_pair(scene(3), scene(3)), indexes=[1, index])


def test_no_band_is_refused(make_pair: MakePair) -> None:
    with pytest.raises(BandError, match="no band to compare"):
        Pair(*make_pair(ONES, ONES), indexes=[])


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_is_refused(dtype: str, make_pair: MakePair) -> None:
    with pytest.raises(BandError, match=rf"before\.tif: band 1 is {dtype}.*amplitude"):
        Pair(*make_pair(ONES.astype(dtype), ONES.astype(dtype)))


def test_bands_come_in_the_order_asked_for(make_pair: MakePair) -> None:
    values = np.stack([np.full((4, 5), n, np.uint8) for n in (10, 20, 30)])
    paths = make_pair(values, values + 1, names=("blue", "green", "red"))
    with Pair(*paths, indexes=[3, 1]) as pair:
        chip = whole(pair)
        assert pair.band_names == ("red", "blue")
    assert chip.before[:, 0, 0].tolist() == [30, 10]
    assert chip.after[:, 0, 0].tolist() == [31, 11]


def test_thirteen_bands(make_pair: MakePair, scene: Any) -> None:
    chip = read_pair(make_pair(scene(13), scene(13, seed=1)))
    assert chip.before.shape == (13, 64, 80)
    assert chip.valid.all()


RGBA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


def with_alpha(scene: Any) -> Any:
    values = (scene(4) % 200 + 1).astype(np.uint8)
    values[3] = 255
    values[3, :10] = 0
    return values


def test_alpha_is_no_band_and_masks(make_pair: MakePair, scene: Any) -> None:
    values = with_alpha(scene)
    after = values[:3].copy()
    options = {"photometric": "rgb", "alpha": "yes", "after_alpha": "no"}
    paths = make_pair(values, after, colorinterp=RGBA, after_colorinterp=RGBA[:3], **options)
    with Pair(*paths) as pair:
        chip = whole(pair)
        assert pair.indexes == (1, 2, 3), "3 bands against 3 and alpha is a pair"
    assert not chip.valid[:10].any()
    assert chip.valid[10:].all()
    assert (chip.before[:, :10] == 0).all()


def test_alpha_masks_beside_a_nodata_value(make_pair: MakePair, scene: Any) -> None:
    """GDAL's own mask knows only one of the two; a pixel that either rules out is not valid."""
    values = with_alpha(scene)
    values[:3, -5:] = 0
    paths = make_pair(values, values, colorinterp=RGBA, photometric="rgb", alpha="yes", nodata=0)
    for options in ({}, {"nodata": 0}):
        chip = read_pair(paths, **options)
        assert not chip.valid[:10].any(), options
        assert not chip.valid[-5:].any(), options
        assert chip.valid[10:-5].all(), options


def test_dataset_mask_masks_beside_a_nodata_value(make_pair: MakePair, scene: Any) -> None:
    values = scene(2)
    values[:, -5:] = 0
    usable = np.ones(values.shape[1:], bool)
    usable[:, :7] = False
    paths = make_pair(values, values, mask=usable, nodata=0)
    for options in ({}, {"nodata": 0}):
        chip = read_pair(paths, **options)
        assert not chip.valid[:, :7].any(), options
        assert not chip.valid[-5:].any(), options
        assert chip.valid[:-5, 7:].all(), options


# ---------------------------------------------------------------------------------------------------
# Valid pixels
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["before", "after"])
def test_nodata_in_one_date_rules_out_both(which: str, make_pair: MakePair, scene: Any) -> None:
    before, after = scene(), scene(seed=1)
    {"before": before, "after": after}[which][:, 20:30, 5:15] = 0
    options = {"nodata": 0, "after_nodata": None} if which == "before" else {"after_nodata": 0}
    chip = read_pair(make_pair(before, after, **options))
    expected = np.ones((64, 80), bool)
    expected[20:30, 5:15] = False
    np.testing.assert_array_equal(chip.valid, expected)
    assert (chip.before[:, ~expected] == 0).all()
    assert (chip.after[:, ~expected] == 0).all()
    np.testing.assert_array_equal(chip.before[:, expected], before[:, expected])
    np.testing.assert_array_equal(chip.after[:, expected], after[:, expected])


def test_zero_is_a_value_where_nodata_is_another(make_pair: MakePair) -> None:
    values = np.zeros((1, 4, 4), np.int16)
    values[0, 0, 0] = -9999
    chip = read_pair(make_pair(values, values, nodata=-9999))
    assert chip.valid.sum() == 15


def test_one_bad_band_spoils_the_pixel(make_pair: MakePair, scene: Any) -> None:
    before = scene(3).astype(np.float32)
    before[0, 0, 0] = -9999
    before[1, 0, 1] = np.nan
    before[2, 0, 2] = np.inf
    before[0, 0, 3] = -np.inf
    before[1, 0, 4] = -3.4028235e38
    before[1, 0, 5] = 1e37
    chip = read_pair(make_pair(before, before, nodata=-9999))
    assert (~chip.valid).sum() == 6
    assert not chip.valid[0, :6].any()
    assert np.isfinite(chip.before).all()
    assert np.isfinite(chip.after).all()


def test_bands_not_chosen_do_not_matter(make_pair: MakePair, scene: Any) -> None:
    before = scene(3).astype(np.float32)
    before[2] = np.nan
    chip = read_pair(make_pair(before, before), indexes=[1, 2])
    assert chip.valid.all()


@pytest.mark.parametrize("value", [math.nan, 0.1, -1.797e308, 1e20])
def test_float_nodata_values(value: float, make_pair: MakePair) -> None:
    """Also 0.1, which no float32 equals, and the smallest double, which float32 cannot hold."""
    values = np.full((1, 3, 3), 5, np.float32)
    with np.errstate(over="ignore"):
        values[0, 1, 1] = np.float32(value)
    for chip in (
        read_pair(
            make_pair(values, values, nodata=value if abs(value) < 1e38 or math.isnan(value) else None)
        ),
        read_pair(make_pair(values, values), nodata=value),
    ):
        assert (~chip.valid).nonzero() == (np.array([1]), np.array([1]))


def test_per_band_nodata(tmp_path: Path, make_pair: MakePair) -> None:
    """GeoTIFF has one nodata value for all bands; a VRT over several files has one for each."""
    values = np.stack([np.full((4, 4), 5, np.int16), np.full((4, 4), 7, np.int16)])
    values[0, 0, 0], values[0, 0, 1] = -1, -2
    values[1, 1, 0], values[1, 1, 1] = -1, -2
    before, after = make_pair(values, np.abs(values))
    vrt = tmp_path / "before.vrt"
    bands = "".join(
        f'<VRTRasterBand dataType="Int16" band="{n}"><NoDataValue>-{n}</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{before}</SourceFilename><SourceBand>{n}</SourceBand>'
        "</SimpleSource></VRTRasterBand>"
        for n in (1, 2)
    )
    vrt.write_text(
        f'<VRTDataset rasterXSize="4" rasterYSize="4"><SRS>EPSG:32633</SRS>'
        f"<GeoTransform>500000, 10, 0, 4200000, 0, -10</GeoTransform>{bands}</VRTDataset>"
    )
    with rasterio.open(vrt) as dataset:
        assert dataset.nodatavals == (-1, -2)
    chip = read_pair((vrt, after))
    assert sorted(zip(*np.nonzero(~chip.valid), strict=True)) == [(0, 0), (1, 1)]


def test_given_nodata_replaces_the_declared_one(make_pair: MakePair) -> None:
    values = np.full((1, 4, 4), 9, np.uint8)
    values[0, 0, 0], values[0, 1, 1] = 0, 255
    paths = make_pair(values, values, nodata=0)
    assert np.argwhere(~read_pair(paths).valid).tolist() == [[0, 0]]
    assert np.argwhere(~read_pair(paths, nodata=255).valid).tolist() == [[1, 1]]
    assert read_pair(paths, nodata=math.nan).valid.all()
    assert read_pair(paths, nodata=-9999).valid.all(), "a value that the type cannot hold rules out nothing"


def test_valid_raster(make_pair: MakePair, write_raster: WriteRaster, scene: Any) -> None:
    usable = np.ones((64, 80), np.uint8)
    usable[:, 40:] = 0
    usable[0, 0] = 7  # any value but 0
    usable[5, 5] = 255
    mask = write_raster("valid", usable, nodata=255)
    chip = read_pair(make_pair(scene(), scene(seed=1)), valid=mask)
    expected = (usable != 0) & (usable != 255)
    np.testing.assert_array_equal(chip.valid, expected)


def test_valid_raster_in_float_with_nan(make_pair: MakePair, write_raster: WriteRaster) -> None:
    usable = np.ones((8, 9), np.float32)
    usable[0, 0] = np.nan
    chip = read_pair(make_pair(ONES, ONES), valid=write_raster("valid", usable))
    assert np.argwhere(~chip.valid).tolist() == [[0, 0]]


def test_valid_raster_on_another_grid(make_pair: MakePair, write_raster: WriteRaster) -> None:
    mask = write_raster("valid", ONES, transform=shifted(1))
    with pytest.raises(GridError, match=r"before\.tif.*valid\.tif"):
        Pair(*make_pair(ONES, ONES), valid=mask)
    with pytest.raises(RasterOpenError, match=r"gone\.tif: no such file"):
        Pair(*make_pair(ONES, ONES), valid=mask.with_name("gone.tif"))


def test_no_valid_pixel_names_both_and_their_nodata(make_pair: MakePair) -> None:
    with Pair(*make_pair(ONES, ONES, nodata=1, after_nodata=5)) as pair:
        assert not whole(pair).valid.any()
        error = pair.no_valid_pixel()
    assert isinstance(error, NoValidPixelError)
    assert "before.tif (nodata 1" in str(error)
    assert "after.tif (nodata 5" in str(error)
    assert "--nodata" in str(error)


# ---------------------------------------------------------------------------------------------------
# Values
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
)
def test_every_real_type_is_read_as_it_is(dtype: str, make_pair: MakePair) -> None:
    values = np.arange(72).reshape(1, 8, 9).astype(dtype)
    chip = read_pair(make_pair(values, values + np.ones(1, dtype)))
    assert chip.before.dtype == (
        np.float64 if dtype in ("uint32", "int32", "uint64", "int64", "float64") else np.float32
    )
    np.testing.assert_array_equal(chip.before, values)
    np.testing.assert_array_equal(chip.after, values + 1)


@pytest.mark.parametrize("dtype", ["int32", "float64"])
def test_small_differences_on_large_values_survive(dtype: str, make_pair: MakePair) -> None:
    """float32 holds 24 bits: 2**28 + 1 would become 2**28, and the change nothing."""
    values = np.full((1, 4, 4), 2**28, dtype)
    chip = read_pair(make_pair(values, values + 1))
    assert (chip.after - chip.before == 1).all()


def test_mixed_types_share_one(make_pair: MakePair) -> None:
    chip = read_pair(make_pair(ONES.astype(np.uint8), ONES.astype(np.float64)))
    assert chip.before.dtype == chip.after.dtype == np.float64


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (5, 5)])
def test_tiny_and_thin(shape: tuple[int, int], make_pair: MakePair) -> None:
    values = np.ones((1, *shape), np.uint8)
    chip = read_pair(make_pair(values, values))
    assert chip.valid.shape == shape
    assert chip.valid.all()


def test_windows_are_where_they_say(make_pair: MakePair) -> None:
    rows, cols = np.mgrid[:50, :70]
    values = np.stack([rows, cols]).astype(np.uint16)
    with Pair(*make_pair(values, values)) as pair:
        chip = pair.read(Window(13, 7, 20, 30))
    assert chip.before.shape == (2, 30, 20)
    np.testing.assert_array_equal(chip.before[0], rows[7:37, 13:33])
    np.testing.assert_array_equal(chip.after[1], cols[7:37, 13:33])


def test_threads_have_their_own_handles(make_pair: MakePair, scene: Any) -> None:
    values = scene(3, 256, 256)
    with Pair(
        *make_pair(values, values, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    ) as pair:
        wrong: list[str] = []

        def work(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for _ in range(30):
                row, col = rng.integers(0, 200, 2)
                chip = pair.read(Window(col, row, 50, 50))
                if not np.array_equal(chip.before, values[:, row : row + 50, col : col + 50]):
                    wrong.append(f"{row}, {col}")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        handles = list(pair._handles)
    assert not wrong
    assert len(handles) == 2 * 5
    assert all(handle.closed for handle in handles)


def test_a_pair_travels_without_its_handles(make_pair: MakePair, scene: Any) -> None:
    with Pair(*make_pair(scene(), scene(seed=1))) as pair:
        expected = pair.read(pair.grid.window)
        sent = pickle.dumps(pair)
    with pickle.loads(sent) as other:
        np.testing.assert_array_equal(other.read(other.grid.window).after, expected.after)


def test_a_refused_pair_leaves_no_file_open(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = open_raster

    def spy(path: str) -> Any:
        opened.append(real(path))
        return opened[-1]

    monkeypatch.setattr("geocd.raster.pair.open_raster", spy)
    with pytest.raises(GridError):
        Pair(*make_pair(ONES, ONES, after_crs="EPSG:32634"))
    assert len(opened) == 2
    assert all(dataset.closed for dataset in opened)


# ---------------------------------------------------------------------------------------------------
# The probability raster
# ---------------------------------------------------------------------------------------------------


def write_prob(path: Path, values: Any, transform: Affine = NORTH_UP, **options: Any) -> None:
    array = np.asarray(values, np.float32)
    bands = array if array.ndim == 3 else array[None]
    writer = ProbWriter(
        path, Grid(UTM33, transform, *bands.shape[1:]), tags={"GEOCD_VERSION": "0"}, **options
    )
    for row in range(0, bands.shape[1], 512):
        writer.write(row, bands[:, row : row + 512])
    writer.finish()


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (1, 3000), (3000, 1), (512, 512), (700, 1300)])
def test_prob_is_a_valid_cog_of_any_size(shape: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "x_prob.tif"
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    write_prob(path, values)
    # A column of single pixels has no overviews: GDAL would make them as wide as the image.
    valid, errors, warnings = cog_validate(path, strict=shape[1] > 1)
    assert valid, (errors, warnings)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), values)
        assert dataset.shape == shape
    assert sorted(tmp_path.iterdir()) == [path], "the temporary file is gone"


def test_prob_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x_prob.tif"
    values = np.random.default_rng(0).random((1100, 1200), dtype=np.float32)
    values[:600, :600] = np.nan
    values[1000:, 1000:] = 1  # a corner of certainty, where cubic overviews overshoot
    values[1000:, 900:1000] = 0
    write_prob(path, values)
    with rasterio.open(path) as dataset:
        assert dataset.dtypes == ("float32",)
        assert math.isnan(dataset.nodata)
        assert dataset.descriptions == ("change_probability",)
        assert dataset.crs == UTM33
        assert dataset.transform == NORTH_UP
        assert dataset.tags()["GEOCD_VERSION"] == "0"
        assert "TIFFTAG_DATETIME" not in dataset.tags()
        assert dataset.profile["blockxsize"] == dataset.profile["blockysize"] == 512
        assert dataset.compression.value == "DEFLATE"
        stats = {key: float(value) for key, value in dataset.tags(1).items() if key.startswith("STATISTICS")}
        known = values[np.isfinite(values)]
        assert stats["STATISTICS_MINIMUM"] == known.min()
        assert stats["STATISTICS_MAXIMUM"] == known.max()
        assert stats["STATISTICS_MEAN"] == pytest.approx(known.mean(dtype=float), rel=1e-6)
        assert stats["STATISTICS_VALID_PERCENT"] == pytest.approx(100 * known.size / values.size, abs=0.01)
        np.testing.assert_array_equal(dataset.read(1), values)
        levels = len(dataset.overviews(1))
    assert levels == 2
    for level in range(levels):
        with rasterio.open(path, overview_level=level) as overview:
            small = overview.read(1)
        inside = small[np.isfinite(small)]
        assert inside.min() >= 0
        assert inside.max() <= 1
        np.testing.assert_allclose(small[0, 0], np.nan)
        # an average, not a sample: much less spread than single random pixels have
        assert small[-30:, : small.shape[1] // 2].std() < 0.2


def test_prob_without_any_valid_pixel(tmp_path: Path) -> None:
    path = tmp_path / "x_prob.tif"
    write_prob(path, np.full((600, 600), np.nan))
    with rasterio.open(path) as dataset:
        assert np.isnan(dataset.read(1)).all()


def test_prob_on_a_rotated_grid(tmp_path: Path) -> None:
    turned = Affine(8, 6, 5e5, 6, -8, 4e6)
    write_prob(tmp_path / "x_prob.tif", np.zeros((20, 30)), transform=turned)
    with rasterio.open(tmp_path / "x_prob.tif") as dataset:
        assert dataset.transform == turned


def test_two_bands(tmp_path: Path) -> None:
    path = tmp_path / "x_prob.tif"
    values = np.random.default_rng(0).random((2, 600, 700), dtype=np.float32)
    write_prob(path, values, descriptions=("change_probability", "uncertainty"))
    with rasterio.open(path) as dataset:
        assert dataset.descriptions == ("change_probability", "uncertainty")
        np.testing.assert_array_equal(dataset.read(), values)
    assert cog_validate(path, strict=True)[0]


def test_prob_is_the_same_bytes_again(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((700, 700), dtype=np.float32)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_prob(tmp_path / name / "x_prob.tif", values)
    assert (tmp_path / "a/x_prob.tif").read_bytes() == (tmp_path / "b/x_prob.tif").read_bytes()


def test_abort_leaves_the_final_name_free_and_may_come_twice(tmp_path: Path) -> None:
    path = tmp_path / "x_prob.tif"
    writer = ProbWriter(path, Grid(UTM33, NORTH_UP, 600, 600), tags={})
    writer.write(0, np.zeros((1, 512, 600), np.float32))
    writer.abort()
    writer.abort()
    assert not path.exists()


def test_writer_in_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"x_prob\.tif: cannot be written \(.+\)"):
        ProbWriter(tmp_path / "gone" / "x_prob.tif", Grid(UTM33, NORTH_UP, 6, 6), tags={})


def test_output_errors_pass_the_readers_errors_on() -> None:
    with pytest.raises(RasterReadError, match="damaged"), output_errors("x"):
        raise RasterReadError("damaged")
    with (
        pytest.raises(OutputError, match=r"^x: cannot be written \(No space left on device|^x: .*No space"),
        output_errors("x"),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(KeyError), output_errors("x"):
        raise KeyError("a mistake in the code stays what it is")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from geocd.errors import OutputError
from geocd.report.products import Outputs
from geocd.pipeline.transaction import Transaction
from geocd.raster.grid import Grid
from geocd.raster.writer import ProbWriter
from rasterio.crs import CRS
from rasterio.transform import Affine

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing past the limit then fails as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
values = np.random.default_rng(0).random((1, 1500, 1500), dtype=np.float32)
grid = Grid(CRS.from_epsg(32633), Affine(10, 0, 5e5, 0, -10, 4e6), 1500, 1500)
try:
    with Transaction(Outputs(folder / "x")) as transaction:
        writer = ProbWriter(transaction.path("prob"), grid, tags={})
        try:
            for row in range(0, 1500, 512):
                writer.write(row, values[:, row : row + 512])
            writer.finish()
        except BaseException:
            writer.abort()
            raise
        transaction.commit()
except OutputError as error:
    print("OutputError:", error)
else:
    print("written")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize(
    "room",
    [
        pytest.param(lambda size: 1_000, id="at once"),
        pytest.param(lambda size: size // 20, id="while the tiles are written or flushed"),
        pytest.param(lambda size: size - size // 10, id="towards the end"),
        # GDAL itself reports nothing here: the last block of the COG is short, and that is all.
        pytest.param(lambda size: size - 1_000, id="in the last block"),
    ],
)
def test_full_disk(room: Callable[[int], int], tmp_path: Path) -> None:
    """The message names the file, and nothing is left behind."""
    values = np.random.default_rng(0).random((1500, 1500), dtype=np.float32)
    enough = tmp_path / "enough.tif"
    write_prob(enough, values)
    limit = room(enough.stat().st_size)
    enough.unlink()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(limit)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("OutputError: "), done.stdout
    assert "x_prob.tif: cannot be written" in done.stdout
    assert list(tmp_path.iterdir()) == [], "nothing may be left behind"


def test_what_is_read_back_must_be_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that is lost on the way would be nodata in the map, and nobody would know."""
    writer = ProbWriter(tmp_path / "x_prob.tif", Grid(UTM33, NORTH_UP, 600, 600), tags={})
    writer.write(0, np.full((1, 512, 600), 0.5, np.float32))
    writer.write(512, np.full((1, 88, 600), 0.5, np.float32))
    real = writer._dataset.close
    lost = np.full((1, 88, 600), np.nan, np.float32)

    def close() -> None:
        writer_dataset.write(lost, window=Window(0, 512, 600, 88))
        real()

    writer_dataset = writer._dataset

    class Losing:
        def __getattr__(self, name: str) -> Any:
            return close if name == "close" else getattr(writer_dataset, name)

    monkeypatch.setattr(writer, "_dataset", Losing())
    with pytest.raises(OutputError, match=r"x_prob\.tif.*not what was written"):
        writer.finish()


def directory_moved(path: Path) -> None:
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.update_tags(LONGER="x" * 500)


def overview_cut(path: Path) -> None:
    """Lose what stands before the only block of the overview; all pixels can still be read."""
    with rasterio.open(path) as dataset:
        begin = int(dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1, ovr=0))
    with path.open("r+b") as file:
        file.seek(begin - 4)
        file.write(bytes(4))


@pytest.mark.parametrize("damage", [directory_moved, overview_cut])
def test_what_stands_elsewhere_than_a_cog_has_it_is_found(
    damage: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left where one write fails while GDAL closes the file: every pixel is there, and no error."""
    values = np.random.default_rng(0).random((1, 600, 700), dtype=np.float32)
    real = rasterio.shutil.copy

    def copy(source: Path, target: Path, **options: Any) -> None:
        real(source, target, **options)
        damage(target)

    monkeypatch.setattr(rasterio.shutil, "copy", copy)
    writer = ProbWriter(tmp_path / "x_prob.tif", Grid(UTM33, NORTH_UP, 600, 700), tags={})
    writer.write(0, values[:, :512])
    writer.write(512, values[:, 512:])
    with pytest.raises(OutputError, match=r"x_prob\.tif.*not what was written"):
        writer.finish()
    with rasterio.open(tmp_path / "x_prob.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), values)


def test_all_kinds_of_nan_count_as_nodata(tmp_path: Path) -> None:
    values = np.zeros((1, 20, 30), np.float32)
    values.view(np.uint32)[0, :10] = 0xFFC00000  # what 0 / 0 gives on some machines
    writer = ProbWriter(tmp_path / "x_prob.tif", Grid(UTM33, NORTH_UP, 20, 30), tags={})
    writer.write(0, values)
    writer.finish()


def test_provenance(tmp_path: Path, write_raster: WriteRaster) -> None:
    assert provenance(write_raster("a", ONES, tags={"GEOCD_PROVENANCE": '{"seed": 3}'})) == {"seed": 3}
    assert provenance(write_raster("b", ONES)) == {}
    assert provenance(write_raster("c", ONES, tags={"GEOCD_PROVENANCE": "{half"})) == {}
    assert provenance(write_raster("d", ONES, tags={"GEOCD_PROVENANCE": "[1]"})) == {}


def test_grid_of(write_raster: WriteRaster) -> None:
    path = write_raster("a", ONES)
    with open_raster(str(path)) as dataset:
        assert grid_of(dataset, str(path)) == Grid(UTM33, NORTH_UP, 8, 9)


@pytest.mark.data
def test_real_pairs_open(labelled: Path) -> None:
    folders = sorted(path.parent for path in labelled.glob("*/before.tif"))
    assert folders
    for folder in folders:
        with Pair(folder / "before.tif", folder / "after.tif") as pair:
            chip = pair.read(Window(0, 0, min(64, pair.grid.width), min(64, pair.grid.height)))
            assert np.isfinite(chip.before).all()
            assert chip.before.shape[0] == len(pair.indexes) == len(pair.band_names)
