"""Grids: pixels to coordinates and back, and which two grids are equal."""

from __future__ import annotations

import math
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import TransformNotInvertibleError
from conftest import NORTH_UP, MakePair, WriteRaster, read_pair, whole
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window

from geocd.errors import (
    GridError,
)
from geocd.raster.files import grid_of, open_raster
from geocd.raster.grid import (
    Grid,
    authority_code,
    check_same_grid,
    crs_label,
    crs_name,
    is_pixel_transform,
    same_crs,
)
from geocd.raster.pair import Pair

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
#: GDAL names EPSG:32633 for both; the datum of the first is unknown.
RESEMBLING, TOWGS84 = (f"+proj=utm +zone=33 +ellps=WGS84{end}" for end in ("", " +towgs84=1,2,3"))
SITE = 'LOCAL_CS["site",UNIT["metre",1]]'


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
        ("EPSG:32633", "EPSG:32633+5773", True),  # heights do not move a pixel
        ("EPSG:32633+3855", "EPSG:32633+5773", True),
        ("EPSG:4979", "EPSG:4326", True),
        ("EPSG:9707", "EPSG:4979", True),
        ("EPSG:32634+5773", "EPSG:32633", False),
        ("EPSG:32633", RESEMBLING, False),
    ],
)
def test_same_crs(first: str, second: str, same: bool) -> None:
    one, two = CRS.from_user_input(first), CRS.from_user_input(second)
    assert same_crs(one, two) is same
    assert same_crs(two, one) is same


@pytest.mark.parametrize("which", ["before", "after"])
def test_no_crs_is_refused(which: str, make_pair: MakePair) -> None:
    options = {"crs": None} if which == "before" else {"after_crs": None}
    if which == "before":
        options["after_crs"] = "EPSG:32633"  # type: ignore[assignment]
    paths = make_pair(ONES, ONES, **options)
    with pytest.raises(
        GridError, match=f"{which}.tif: the raster has no coordinate reference system.*rio edit-info"
    ):
        Pair(*paths)


@pytest.mark.parametrize(
    ("transform", "pixels"),
    [
        (Affine.identity(), True),
        (Affine(1, 0, 0, 0, -1, 0), True),  # what QGIS writes
        (Affine(1, 0, -0.5, 0, 1, -0.5), True),  # centres at 0, 1, 2 ...
        (NORTH_UP, False),
        (Affine(10, 0, 0, 0, -10, 0), False),
        (Affine(1, 0, 500_000, 0, -1, 4_200_000), False),
        (Affine(1, 0, -180, 0, -1, 90), False),
    ],
)
def test_a_transform_that_only_counts_pixels(transform: Affine, pixels: bool) -> None:
    assert is_pixel_transform(transform) is pixels


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


@pytest.mark.skipif(shutil.which("gdalwarp") is None, reason="needs GDAL's programs")
@pytest.mark.parametrize("nodata", [None, 7])
def test_the_remedy_makes_no_data_of_what_lies_outside(
    nodata: int | None, write_raster: WriteRaster, tmp_path: Path
) -> None:
    """By ``rio warp --like``, which was advised, what lies outside became 0 and was data."""
    values = np.arange(200, 300, dtype=np.uint16).reshape(10, 10) % 290
    values[9] = 7
    before = write_raster("before", values)
    after = write_raster("after it", values, transform=shifted(4), nodata=nodata)
    grids = []
    for path in (before, after):
        with open_raster(str(path)) as dataset:
            grids.append(grid_of(dataset, str(path)))
    with pytest.raises(GridError, match=r"geocd detect --align grid warps") as caught:
        check_same_grid(grids[0], grids[1], (str(before), str(after)))
    command = shlex.split(re.search(r"gdalwarp .*", str(caught.value))[0])  # type: ignore[index]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with Pair(before, tmp_path / "aligned.tif") as pair:
        valid = whole(pair).valid
    expected = np.zeros((10, 10), bool)
    expected[: 9 if nodata else 10, 4:] = True
    np.testing.assert_array_equal(valid, expected)


def test_crop_and_describe() -> None:
    grid = Grid(UTM33, NORTH_UP, 100, 200)
    part = grid.crop(Window(20, 10, 5, 7))
    assert part == Grid(UTM33, Affine(10, 0, 500_200, 0, -10, 4_199_900), 7, 5)
    assert part.shape == (7, 5)
    assert part.window == Window(0, 0, 5, 7)
    assert grid.describe() == "EPSG:32633, origin (500000, 4200000), pixel (10, -10), 200 x 100 px"
    check_same_grid(grid, grid)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (RESEMBLING, r"\+proj=utm \+zone=33 .*differ in the datum \(World Geodetic System 1984 and Unknown"),
        (TOWGS84, r"\+towgs84=1,2,3.*the transformation to WGS 84 \(none and 1, 2, 3, 0, 0, 0, 0\)"),
        ("EPSG:32634", r"EPSG:32634 in .*differ in the longitude of natural origin \(15 and 21\)"),
        ("EPSG:25833", r"EPSG:25833 in .*differ in the datum \(.*the ellipsoid \(WGS 84 and GRS 1980\)"),
        ("EPSG:4326", r"differ in the kind \(Projected CRS and Geographic 2D CRS\)"),
        ("EPSG:32634+5773", "'WGS 84 / UTM zone 34N . EGM96 height' in "),
    ],
)
def test_the_message_says_in_what_two_crs_differ(after: str, words: str, make_pair: MakePair) -> None:
    with pytest.raises(GridError, match=f"systems: EPSG:32633 in .*{words}") as caught:
        Pair(*make_pair(ONES, ONES, after_crs=after))
    assert caught.value.message.count("EPSG:32633") == 1
    assert len(caught.value.message) < 800


@pytest.mark.parametrize("crs", [RESEMBLING, TOWGS84])
def test_a_crs_that_resembles_another_does_not_get_its_code(crs: str) -> None:
    given = CRS.from_user_input(crs)
    assert given.to_authority() == ("EPSG", "32633")
    assert authority_code(given) is None
    assert "32633" not in crs_name(given)
    assert "32633" not in crs_label(given)
    assert authority_code(UTM33) == authority_code(CRS.from_wkt(WKT1)) == "EPSG:32633"


@pytest.mark.parametrize("crs", ["EPSG:32633+5773", "EPSG:32633"])
def test_a_compound_crs_on_one_date_is_no_difference(crs: str, make_pair: MakePair) -> None:
    other = "EPSG:32633" if "+" in crs else "EPSG:32633+5773"
    for align in (False, True):
        with Pair(*make_pair(ONES, ONES, crs=crs, after_crs=other), align=align) as pair:
            assert whole(pair).valid.all()
            assert pair.warp is None
            assert pair.grid.pixel_size == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("which", ["before", "after"])
def test_nothing_leads_out_of_a_local_crs(which: str, align: bool, make_pair: MakePair) -> None:
    """Neither ``--align grid`` nor another place is the remedy."""
    crs = {"before": (SITE, "EPSG:32633"), "after": ("EPSG:32633", SITE)}[which]
    paths = make_pair(ONES, ONES, crs=crs[0], after_crs=crs[1])
    match = (
        rf"{which}\.tif: has a local .*\('site'\).* to EPSG:32633.*gdal_translate -a_srs EPSG:CODE .*{which}"
    )
    with pytest.raises(GridError, match=match) as caught:
        Pair(*paths, align=align)
    assert "--align" not in caught.value.message
    with Pair(*make_pair(ONES, ONES, crs=SITE), align=align) as pair:
        assert whole(pair).valid.all()


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


def test_positions_to_coordinates_and_back() -> None:
    grid = Grid(UTM33, Affine(10, 1, 500_000, 2, -10, 4_200_000), 100, 200)
    assert grid.to_xy(0, 0) == (500_000, 4_200_000)
    assert grid.to_xy(2, 3) == (500_023, 4_199_974)
    col, row = np.array([0.5, 7, 200]), np.array([0.25, 3, 100])
    x, y = grid.to_xy(col, row)
    assert x.tolist() == [500_005.25, 500_073, 502_100]
    assert y.tolist() == [4_199_998.5, 4_199_984, 4_199_400]
    back = grid.to_rowcol(x, y)
    np.testing.assert_allclose(back, (row, col), rtol=0, atol=1e-6)


def test_pixels_without_an_area_have_no_way_back() -> None:
    with pytest.raises(TransformNotInvertibleError):
        Grid(UTM33, Affine(10, 10, 0, 10, 10, 0), 5, 5).to_rowcol(0.0, 0.0)


def test_lonlat() -> None:
    degrees = Grid(UTM33, NORTH_UP, 10, 10).lonlat([500_000, 600_000], [0, 4_200_000])
    assert degrees is not None
    lon, lat = degrees
    assert lon.dtype == lat.dtype == np.float64
    assert lon.tolist() == pytest.approx([15, 16.14], abs=0.01)
    assert lat.tolist() == pytest.approx([0, 37.94], abs=0.01)
    empty = Grid(UTM33, NORTH_UP, 10, 10).lonlat(np.zeros(0), np.zeros(0))
    assert empty is not None
    assert empty[0].shape == (0,)


@pytest.mark.parametrize(
    ("crs", "x"),
    [('LOCAL_CS["site",UNIT["metre",1]]', 0.0), ("ESRI:54009", 3e7)],
    ids=["a CRS of no place", "a point outside the projection"],
)
def test_no_lonlat(crs: str, x: float) -> None:
    grid = Grid(CRS.from_user_input(crs), NORTH_UP, 10, 10)
    assert grid.lonlat([x, 0.0], [0.0, 0.0]) is None


def test_resized_covers_the_same_area() -> None:
    grid = Grid(UTM33, Affine(10, 1, 500_000, 2, -10, 4_200_000), 100, 200)
    smaller = grid.resized(25, 100)
    assert smaller == Grid(UTM33, Affine(20, 4, 500_000, 4, -40, 4_200_000), 25, 100)
    assert smaller.corners() == grid.corners()
    assert grid.resized(100, 200) == grid
