"""The quick-look of rasters of any shape, type and nodata."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_raster
from PIL import Image

from geocd.errors import OutputError, RasterOpenError
from geocd.report.quicklook import quicklook as draw_quicklook
from geocd.report.thumbnails import read_dates


def write(path: Path, values: np.ndarray, **options: Any) -> str:
    return str(write_raster(path, values, **options))


def quicklook(
    before: str,
    after: str,
    prob: Path,
    destination: Path,
    *,
    indexes: list[int] | range,
    threshold: float,
    max_size: int = 640,
    nodata: float | None = None,
) -> None:
    dates = read_dates(before, after, indexes=indexes, max_size=max_size, nodata=nodata)
    small = dates.with_prob(prob, threshold)
    draw_quicklook(small, destination, names=(before, after), threshold=threshold)


def pair(tmp_path, shape, *, bands=3, dtype="uint16", **profile):
    rng = np.random.default_rng(0)
    before = rng.integers(100, 200, (bands, *shape)).astype(dtype)
    after = before.copy()
    prob = np.zeros((1, *shape), np.float32)
    prob[0, : (shape[0] + 1) // 2, : (shape[1] + 1) // 2] = 0.9
    return (
        write(tmp_path / "before.tif", before, **profile),
        write(tmp_path / "after.tif", after, **profile),
        tmp_path / "prob.tif",
        write(tmp_path / "prob.tif", prob, nodata=math.nan),
    )[:3]


@pytest.mark.parametrize(
    ("shape", "bands"),
    [
        *[((1, 1), bands) for bands in (1, 2, 3, 13)],
        *[(shape, 1) for shape in ((5, 5), (1, 10000), (10000, 1), (40, 60), (2, 1300))],
        ((900, 700), 3),
    ],
)
def test_quicklook_of_any_shape(tmp_path, shape, bands):
    before, after, prob = pair(tmp_path, shape, bands=bands)
    quicklook(before, after, prob, tmp_path / "q.png", indexes=range(1, bands + 1), threshold=0.5)
    with Image.open(tmp_path / "q.png") as picture:
        picture.load()
        assert picture.mode == "RGB"
        assert min(picture.size) >= 250
        assert max(picture.size) <= 2 * 640 + 100
        colours = np.asarray(picture).reshape(-1, 3).astype(int)
    changed = (colours[:, 0] > 150) & (colours[:, 1] < 140) & (colours[:, 2] > 60)
    assert changed.any()  # the planted change is seen


def test_quicklook_is_decimated_and_reproducible(tmp_path):
    before, after, prob = pair(tmp_path, (300, 200))
    sizes = []
    for name in ("one.png", "two.png"):
        quicklook(before, after, prob, tmp_path / name, indexes=[1], threshold=0.5, max_size=150)
        with Image.open(tmp_path / name) as picture:
            sizes.append(picture.size)
    assert max(sizes[0]) < 700
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def panel(path, place):
    """A point in the middle of one of the four panels of a square raster."""
    with Image.open(path) as picture:
        width, height = picture.size
        row, col = divmod(place, 2)
        return picture.getpixel(((1 + 2 * col) * width // 4, (1 + 2 * row) * height // 4 + 10))


def test_both_dates_are_stretched_alike(tmp_path):
    ramp = np.tile(np.arange(64, dtype=np.uint8), (64, 1))[None]
    before = write(tmp_path / "before.tif", ramp)
    after = write(tmp_path / "after.tif", ramp + 100)
    prob = tmp_path / "prob.tif"
    write(prob, np.zeros((1, 64, 64), np.float32))
    quicklook(before, after, prob, tmp_path / "q.png", indexes=[1], threshold=0.5)
    assert panel(tmp_path / "q.png", 0)[0] + 80 < panel(tmp_path / "q.png", 1)[0]


@pytest.mark.parametrize(
    ("nodata", "override"),
    [
        pytest.param(0, None, id="nodata of the file"),
        pytest.param(None, 0, id="nodata given"),
    ],
)
def test_nodata_is_a_checker(tmp_path, nodata, override):
    values = np.full((1, 64, 64), 9, np.uint8)
    values[0, 20:44, 20:44] = 0
    before = write(tmp_path / "before.tif", values, nodata=nodata)
    prob = np.zeros((1, 64, 64), np.float32)
    prob[values == 0] = np.nan
    write(tmp_path / "prob.tif", prob, nodata=math.nan)
    quicklook(
        before,
        before,
        tmp_path / "prob.tif",
        tmp_path / "q.png",
        indexes=[1],
        threshold=0.5,
        nodata=override,
    )
    for place in range(4):
        assert panel(tmp_path / "q.png", place) in {(206, 206, 206), (228, 228, 228)}


def test_nothing_valid_and_not_finite(tmp_path):
    values = np.full((1, 8, 8), np.inf, np.float32)
    values[0, 0] = np.nan
    before = write(tmp_path / "before.tif", values)
    write(tmp_path / "prob.tif", np.full((1, 8, 8), np.nan, np.float32), nodata=math.nan)
    quicklook(before, before, tmp_path / "prob.tif", tmp_path / "q.png", indexes=[1], threshold=math.inf)
    assert panel(tmp_path / "q.png", 3) in {(206, 206, 206), (228, 228, 228)}


def test_quicklook_errors(tmp_path):
    before, after, prob = pair(tmp_path, (5, 5))
    with pytest.raises(RasterOpenError, match="no such file"):
        quicklook("gone.tif", after, prob, tmp_path / "q.png", indexes=[1], threshold=0.5)
    with pytest.raises(OutputError, match="cannot be written"):
        quicklook(before, after, prob, tmp_path / "no" / "q.png", indexes=[1], threshold=0.5)
