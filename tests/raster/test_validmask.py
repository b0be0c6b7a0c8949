"""The raster of --valid is a mask: 0, and one other value."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from conftest import MakePair, WriteRaster, read_pair
from rasterio.rio.main import main_group
from rasterio.windows import Window

from geocd.check import check_pair
from geocd.cli import main
from geocd.errors import MaskError
from geocd.raster.pair import Pair
from geocd.spelling import as_arguments

SHAPE = 60, 80
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(200, 3000, (2, 3, *SHAPE)).astype(np.uint16)
SCL = RANDOM.integers(0, 12, SHAPE).astype(np.uint8)


@pytest.mark.parametrize(
    ("values", "options", "share"),
    [
        pytest.param(SCL > 5, {}, (SCL > 5).mean(), id="0 and 1"),
        pytest.param((SCL > 5) * 255, {}, (SCL > 5).mean(), id="0 and 255"),
        pytest.param((SCL > 5).astype(np.float32), {}, (SCL > 5).mean(), id="0.0 and 1.0"),
        pytest.param(np.where(SCL > 5, 7, 255), {"nodata": 255}, (SCL > 5).mean(), id="nodata and 7"),
        pytest.param(np.ones(SHAPE), {}, 1, id="1 everywhere"),
        pytest.param(np.where(SCL > 5, np.nan, 1).astype(np.float32), {}, (SCL <= 5).mean(), id="NaN and 1"),
    ],
)
def test_a_mask_is_taken(
    values: np.ndarray,
    options: dict[str, object],
    share: float,
    make_pair: MakePair,
    write_raster: WriteRaster,
) -> None:
    if values.dtype != np.float32:
        values = values.astype(np.uint8)
    valid = write_raster("valid", values[None], **options)
    assert read_pair(make_pair(*IMAGES), valid=valid).valid.mean() == share


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pyparsing, which rio calc uses
@pytest.mark.parametrize(
    ("name", "values", "listed", "usable"),
    [
        pytest.param("SCL", SCL, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11.", (SCL >= 4) & (SCL <= 7), id="SCL"),
        pytest.param("fmask", np.where(SCL > 5, 64, 2), "2, 64.", SCL >= 0, id="Fmask"),
        pytest.param("unknown", np.where(SCL > 5, 255, SCL > 2), "1, 255.", SCL > 2, id="0, 1 and 255"),
        pytest.param("p", SCL.astype(np.float32) / 16, "0.0625, 0.125, 0.1875,", SCL >= 6, id="probability"),
    ],
)
def test_classes_are_refused_with_a_remedy_that_works(
    name: str,
    values: np.ndarray,
    listed: str,
    usable: np.ndarray,
    make_pair: MakePair,
    write_raster: WriteRaster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if values.dtype != np.float32:
        values = values.astype(np.uint8)
    path = write_raster(name, values[None])
    pair = make_pair(*IMAGES)
    with pytest.raises(MaskError, match=rf"{path.name}: not a mask.*besides 0, this raster has ") as error:
        Pair(*pair, valid=path)
    assert listed in str(error.value)
    report = check_pair(*pair, valid=path)
    assert not report.usable
    assert report.problem == as_arguments(str(error.value))
    monkeypatch.chdir(tmp_path)
    command = re.search(r"rio (calc .* valid\.tif)$", str(error.value))
    assert command is not None
    assert CliRunner().invoke(main_group, shlex.split(command[1])).exit_code == 0
    assert np.array_equal(read_pair(pair, valid=tmp_path / "valid.tif").valid, usable)


def test_many_values_are_not_all_named(make_pair: MakePair, write_raster: WriteRaster) -> None:
    valid = write_raster("p", RANDOM.uniform(0.1, 1, (1, *SHAPE)).astype(np.float32))
    with pytest.raises(MaskError, match=r"(0\.\d+, ){11}0\.\d+ and \d+ more\."):
        Pair(*make_pair(*IMAGES), valid=valid)


def test_a_value_that_the_sample_missed_is_refused_by_its_tile(
    make_pair: MakePair, write_raster: WriteRaster
) -> None:
    images = np.zeros((2, 1, 700, 700), np.uint8)
    mask = np.ones((1, 700, 700), np.uint8)
    mask[0, 80:90, 80:90] = 2  # between the windows of the sample
    with Pair(*make_pair(*images), valid=write_raster("valid", mask)) as pair:
        assert pair.read(Window(0, 0, 64, 64)).valid.all()
        with pytest.raises(MaskError, match="besides 0, this raster has 1, 2"):
            pair.read(Window(64, 64, 64, 64))
        with pytest.raises(MaskError, match="besides 0, this raster has 1, 2"):
            pair.read(Window(82, 82, 4, 4))


def test_a_mask_that_leaves_little_is_said_everywhere(
    make_pair: MakePair, write_raster: WriteRaster, tmp_path: Path
) -> None:
    clouds = write_raster("clouds", (SCL > 8).astype(np.uint8)[None])  # 1 where there are clouds
    pair = make_pair(*IMAGES)
    assert "little_valid" in [finding.code for finding in check_pair(*pair, valid=clouds).findings]
    (tmp_path / "out").mkdir()
    stem = tmp_path / "out" / "x"
    arguments = ["detect", *map(str, pair), "-o", str(stem), "--method", "cva", "--valid", str(clouds)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    share = f"Only a part of the raster could be analysed ({100 * (SCL > 8).mean():.1f} %)"
    assert f"warning: {share}" in result.stderr
    assert "the inverse of a cloud mask" in result.stderr
    item = json.loads(stem.with_suffix(".json").read_text())
    assert share in [f["text"].partition(":")[0] for f in item["properties"]["geocd:findings"]]
    with rasterio.open(f"{stem}_prob.tif") as dataset:
        assert np.array_equal(np.isfinite(dataset.read(1)), SCL > 8)
