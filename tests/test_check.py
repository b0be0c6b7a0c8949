"""``check``: what it says of good, odd and unusable pairs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from conftest import NORTH_UP, MakePair, WriteRaster, ground, moved
from rasterio.transform import Affine
from scipy import ndimage

import geocd
from geocd.check import check_pair
from geocd.cli import main
from geocd.errors import ConfigError, RasterOpenError

Scene = Callable[..., npt.NDArray[np.uint16]]


def run(*arguments: Any) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["check", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


def test_a_good_pair(make_pair: MakePair) -> None:
    image = ground(0).clip(1, 250).astype(np.uint16)
    dates = {"tags": {"ACQUISITIONDATETIME": "2020-06-01T10:00:00Z"}}
    before, after = make_pair(
        image,
        (image * 1.5 + 100).astype(np.uint16),
        names=("red", "green", "blue"),
        after_tags={"ACQUISITIONDATETIME": "2023-06-01T10:00:00Z"},
        **dates,
    )
    report = check_pair(before, after)
    assert report.usable
    assert report.overlap == report.valid_share == 1
    assert report.gain == pytest.approx(1.5, rel=1e-3)
    assert report.offset == pytest.approx(100, abs=3)
    assert report.correlation == pytest.approx(1, abs=1e-3)
    assert report.shift is not None
    assert report.shift.length < 0.05
    assert not report.warnings
    code, text = run(before, after)
    assert code == 0
    for words in ("EPSG:32633", "taken 2020-06-01", "red, green, blue", "1.5 x before", "usable       yes"):
        assert words in text


def test_masks_and_features_are_looked_at_as_in_a_run(make_pair: MakePair, write_raster: WriteRaster) -> None:
    image = ground(0).clip(1, 250).astype(np.uint16)
    pair = make_pair(image, (image * 1.5 + 100).astype(np.uint16))
    cloud = np.zeros(image.shape[-2:], np.uint8)
    cloud[: cloud.shape[0] // 4] = 1
    mask = write_raster("cloud", cloud)
    report = check_pair(*pair, mask_after=mask, mask_kind="cloud")
    assert (report.usable, report.valid_share) == (True, 0.75)
    assert geocd.check(*pair, mask_after=Path(mask), mask_kind="cloud").valid_share == 0.75
    code, text = run(*pair, "--mask-after", mask, "--mask-kind", "cloud")
    assert code == 0
    assert "valid        75.0% of the pixels" in text
    code, text = run(*pair, "--mask-after", write_raster("doubt", cloud * 77))
    assert code == 1, "as a run would refuse it"
    assert "--mask-kind" in text
    with pytest.raises(ConfigError, match="features_after"):
        geocd.check(*pair, features_before=mask)
    with pytest.raises(TypeError, match="unexpected keyword argument 'tile_size'"):
        geocd.check(*pair, tile_size=256)


def test_what_a_run_would_take(make_pair: MakePair) -> None:
    image = ground(0)
    pair = make_pair(image.astype(np.float32), moved(image, 0, 0.1).astype(np.float32))
    assert re.search(
        r"a run +1 tile of 512 px, 1 at a time; about \d+ MB at most$", run(*pair)[1], re.MULTILINE
    )
    timed = json.loads(run(*pair, "--time", "--json")[1])["run"]
    assert timed.pop("seconds") > 0
    known = json.loads(run(*pair, "--json")[1])["run"]
    assert known.pop("seconds") is None
    assert timed == known


def test_a_shifted_pair_is_warned_of(make_pair: MakePair) -> None:
    image = ground(0)
    code, text = run(*make_pair(image.astype(np.float32), moved(image, 0, 0.8).astype(np.float32)))
    assert code == 0
    assert re.search(r"0\.(7[5-9]|8[0-5]) px right", text)
    assert "edges of roofs, roads and fields may still look like change. --align shift" in text


@pytest.mark.parametrize("shift", [(0.5, -0.5), (1.3, 0.2)])
@pytest.mark.parametrize("beside", [(0, 0), (3.4, -2.7)])
def test_align_shift_leaves_no_shift(
    shift: tuple[float, float], beside: tuple[float, float], make_pair: MakePair
) -> None:
    """Also on another grid, whose content lies elsewhere in the array for two reasons then."""
    image = ground(0)
    later = moved(image, shift[0] - beside[1], shift[1] - beside[0])
    pair = make_pair(
        image.astype(np.float32),
        later.astype(np.float32),
        after_transform=NORTH_UP @ Affine.translation(*beside),
    )
    report = check_pair(*pair, align="shift")
    assert report.removed is not None
    assert (report.removed.row, report.removed.col) == pytest.approx(shift, abs=0.1)
    assert report.shift is not None
    assert report.shift.length < 0.05
    text = run(*pair, "--align", "shift")[1]
    assert re.search(r"the shift of after was removed: [\d.]+ px down, [\d.]+ px (left|right)", text)
    assert "after still lies 0.0" in text
    found = json.loads(run(*pair, "--align", "shift", "--json")[1])
    assert found["removed"]["row"] == report.removed.row
    assert found["align"] == "shift"


def test_a_small_shift_on_one_grid_is_not_worth_resampling(make_pair: MakePair) -> None:
    image = ground(0)
    code, text = run(
        *make_pair(image.astype(np.float32), moved(image, 0, 0.05).astype(np.float32)), "--align", "shift"
    )
    assert code == 0
    assert "no shift was removed: 0.0" in text
    assert "warped" not in text


def test_coarser_pixels_are_told(make_pair: MakePair) -> None:
    image = ground(0).astype(np.float32)
    pair = make_pair(image, image[:, ::3, ::3], after_transform=NORTH_UP @ Affine.scale(3))
    code, text = run(*pair, "--align", "grid")
    assert code == 0
    assert "(cubic; its pixels are 3 times as wide)" in text
    assert "The pixels of after are 3 times as wide as those of before, so it shows less" in text


def test_images_of_different_places_have_no_measurable_shift(make_pair: MakePair, scene: Scene) -> None:
    rng = np.random.default_rng(0)
    one = ndimage.gaussian_filter(rng.normal(size=(1, 256, 256)), (0, 3, 3))
    two = ndimage.gaussian_filter(rng.normal(size=(1, 256, 256)), (0, 3, 3))
    code, text = run(*make_pair(one.astype(np.float32), two.astype(np.float32)))
    assert code == 0
    assert "not measurable" in text
    assert re.search(r"^error +The two images have little in common", text, re.MULTILINE)
    assert text.endswith("usable       no, not fit: see the error above\n")


def test_different_grids_are_described_and_exit_with_1(make_pair: MakePair, scene: Scene) -> None:
    image = scene()
    beside = Affine.translation(400, 0) @ NORTH_UP  # half of it
    pair = make_pair(image, image, after_transform=beside)
    code, text = run(*pair)
    assert code == 1
    assert "overlap      50.0%" in text
    assert "--align grid would warp after onto the grid of before (cubic)" in text
    assert "usable       no: the two rasters have different transforms" in text
    code, text = run(*pair, "--align", "grid")
    assert code == 0
    assert "after is warped onto the grid of before (cubic)" in text
    assert "50.0% of the pixels, in both dates" in text
    far = Affine.translation(1e5, 0) @ NORTH_UP
    code, text = run(*make_pair(image, image, after_transform=far, folder="far"))
    assert code == 1
    assert "do not show the same area" in text


def test_without_crs_and_with_other_bands(make_pair: MakePair, scene: Scene) -> None:
    code, text = run(*make_pair(scene(), scene(), crs=None))
    assert code == 1
    assert "no coordinate reference system" in text
    code, text = run(*make_pair(scene(bands=3), scene(bands=4), folder="bands"))
    assert code == 1
    assert "different band counts: 3" in text
    assert "different names" in text


def test_zeros_that_nobody_declared(make_pair: MakePair, scene: Scene) -> None:
    image = scene(height=100, width=100)
    hole = (1.05 * image).astype(image.dtype)
    hole[:, 20:70, 20:80] = 0  # touches no border
    before, after = make_pair(image, hole)
    code, text = run(before, after)
    assert code == 0
    assert f"{after.name}: 30% of the pixels that count as valid are 0 in all bands" in text
    code, text = run(before, after, "--nodata", 0)
    assert "0 in all bands" not in text
    assert "70.0% of the pixels, in both dates" in text


def test_an_undeclared_rim_is_no_data(make_pair: MakePair, scene: Scene) -> None:
    image = scene(height=100, width=100)
    swath = (1.05 * image).astype(image.dtype)
    swath[:, :, :30] = 0
    before, after = make_pair(image, swath)
    code, text = run(before, after)
    assert code == 0
    assert f"warning      {after.name}: about 30.0 % of the pixels, in a rim at the border, are 0" in text
    assert "70.0% of the pixels, in both dates" in text
    code, text = run(before, after, "--nodata", "none")
    assert "100.0% of the pixels, in both dates" in text
    assert f"{after.name}: 30% of the pixels that count as valid are 0 in all bands" in text
    code, text = run(before, after, "--nodata", 0)
    assert "in a rim" not in text
    assert "70.0% of the pixels, in both dates" in text


def test_nothing_valid_and_a_constant_band(make_pair: MakePair, scene: Scene) -> None:
    image = scene()
    code, text = run(*make_pair(image, np.zeros_like(image), nodata=0))
    assert code == 1
    assert "no pixel is valid in both" in text
    flat = image.copy()
    flat[1] = 7
    code, text = run(*make_pair(image, flat, names=("red", "green", "blue"), folder="flat"))
    assert code == 0
    assert "Constant in one date, so without information: green" in text


def test_dates_the_wrong_way_round(make_pair: MakePair, scene: Scene) -> None:
    image = scene()
    pair = make_pair(
        image,
        image,
        tags={"ACQUISITIONDATETIME": "2023-06-01T10:00:00Z"},
        after_tags={"ACQUISITIONDATETIME": "2020-06-01T10:00:00Z"},
    )
    assert "taken later than after" in run(*pair)[1]


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (1, 400)])
def test_tiny_rasters(make_pair: MakePair, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (2, *shape)).astype(np.uint8)
    code, text = run(*make_pair(image, image))
    assert code == 0
    assert "not measurable" in text


def test_json_is_strict(make_pair: MakePair, scene: Scene) -> None:
    image = scene().astype(np.float32)
    code, text = run(*make_pair(image, 1.1 * image, nodata=float("nan")), "--json")
    assert code == 0
    report = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert report["usable"] is True
    assert report["before"]["nodata"] == "nan"
    assert report["shift"]["measurable"] in (True, False)


def test_a_missing_file_is_an_error(make_pair: MakePair, scene: Scene) -> None:
    before, after = make_pair(scene(), scene())
    after.unlink()
    with pytest.raises(RasterOpenError, match="no such file"):
        check_pair(before, after)
    code, text = run(before, after)
    assert code == 1
    assert text.startswith("Error: ")


def test_bands_matched_by_name_are_said_by_check_and_detect(
    make_pair: MakePair, scene: Scene, tmp_path: Path
) -> None:
    names = ("blue", "green", "red")
    pair = make_pair(scene(3), scene(3, seed=1)[::-1], names=names, after_names=names[::-1])
    said = "blue (1 and 3), green (2 and 2), red (3 and 1)"
    code, output = run(*pair)
    assert code == 0
    assert output.count(said) == 1
    assert "different names" not in output
    output_options = "-o", str(tmp_path / "x"), "--method", "cva"
    done = CliRunner().invoke(main, ["detect", *map(str, pair), *output_options])
    assert done.exit_code == 0, done.output
    assert done.stderr.count(said) == 1
    done = CliRunner().invoke(
        main, ["detect", *map(str, pair), "-b", "red,green", *output_options, "--overwrite"]
    )
    assert done.exit_code == 0, done.output
    assert "red (3 and 1), green (2 and 2)." in done.stderr
    assert json.loads((tmp_path / "x.json").read_text())["properties"]["geocd:bands"] == ["red", "green"]
    for wrong, message in (
        ("red,,nir", "is not a list of bands"),
        ("red,Red", "names a band twice"),
        ("0", "counted"),
    ):
        refused = CliRunner().invoke(main, ["check", *map(str, pair), "-b", wrong])
        assert refused.exit_code == 2
        assert message in refused.output


@pytest.mark.parametrize(
    ("bands", "dtype", "said"), [(1, "float32", True), (1, "uint16", False), (3, "float32", False)]
)
def test_elevations_are_warned_of(
    bands: int, dtype: str, said: bool, make_pair: MakePair, scene: Scene
) -> None:
    code, output = run(*make_pair(scene(bands).astype(dtype), (scene(bands) + 5).astype(dtype)))
    assert code == 0
    assert ("If the band is an elevation" in output) == said
