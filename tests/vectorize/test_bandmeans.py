"""Direction of change: means of the right pixels, by the right names, whatever the blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from geocd.errors import GridError
from geocd.raster import writer
from geocd.raster.pair import Pair
from geocd.scene.ignore import normalized_difference
from geocd.vectorize import polygons, regions, regionsums
from geocd.vectorize.bandmeans import MOST_BANDS, band_columns
from geocd.vectorize.kinds import KIND_COLUMNS
from geocd.vectorize.polygons import COLUMNS, polygonize

Images = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def images(bands: int, shape: tuple[int, int], dtype: Any = np.uint16, seed: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    before, after = rng.uniform(1, 4000, (2, bands, *shape)).astype(dtype)
    return before, after


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("B02", "B03", "B04", "B08", "B11", "B12"), ["blue", "green", "red", "nir", "swir", "swir2"]),
        (("SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B6"), ["blue", "green", "red", "nir", "swir"]),
        (("B1", "B2", "B3", "B4", "B5", "B7"), ["blue", "green", "red", "nir", "swir", "swir2"]),
        (("B02", "B03", "B04", "B8A", "B11"), ["blue", "green", "red", "nir", "swir"]),
        (("Red", "Green", "NIR", "SWIR 1", "SWIR 2"), ["red", "green", "nir", "swir", "swir2"]),
        (("red", "swir22", "swir16"), ["red", "swir2", "swir"]),
        (("band 1", "band 2"), ["b1", "b2"]),
        (("B8", "VV (dB)", "ндви", ""), ["b8", "vv_db", "b3", "b4"]),
        (("x", "x", "ndvi"), ["x", "x_2", "ndvi_3"]),
    ],
)  # fmt: skip
def test_names_of_columns(names: tuple[str, ...], columns: list[str]) -> None:
    assert band_columns(names) == columns


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_means_are_those_of_the_pixels(make_pair: Any, write_raster: Any, tmp_path: Path, dtype: str) -> None:
    before, after = images(2, (70, 90), dtype)
    prob = ndimage.gaussian_filter(np.random.default_rng(1).random((70, 90)), 2).astype("f4")
    prob = (prob - prob.min()) / (prob.max() - prob.min())
    with Pair(*make_pair(before, after, names=("red", "nir"))) as pair:
        polygonize(write_raster("prob", prob), tmp_path / "o.gpkg", threshold=0.6, pair=pair)
    frame = geopandas.read_file(tmp_path / "o.gpkg")
    expected_columns = ["before_red", "before_nir", "after_red", "after_nir"]
    expected_columns += ["before_ndvi", "after_ndvi", "diff_ndvi"]
    assert list(frame.columns) == [*COLUMNS, *KIND_COLUMNS, *expected_columns, "geometry"]
    labels, count = ndimage.label(prob >= np.float32(0.6))
    assert len(frame) == count > 5
    assert frame["n_pixels"].tolist() == ndimage.sum_labels(labels > 0, labels, range(1, count + 1)).tolist()
    for column, values in (
        ("before_red", before[0]),
        ("before_nir", before[1]),
        ("after_red", after[0]),
        ("after_nir", after[1]),
    ):
        means = ndimage.mean(values.astype(float), labels, range(1, count + 1))
        np.testing.assert_allclose(frame[column], means, rtol=1e-6)
    for date in ("before", "after"):
        index = normalized_difference(frame[f"{date}_nir"].to_numpy(), frame[f"{date}_red"].to_numpy())
        np.testing.assert_allclose(frame[f"{date}_ndvi"], index, atol=1e-6)
    np.testing.assert_allclose(frame["diff_ndvi"], frame["after_ndvi"] - frame["before_ndvi"], atol=1e-6)


def test_blocks_and_strips_do_not_matter(
    make_pair: Any, write_raster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A region that is joined only further down, across borders in both directions, in whole numbers."""
    prob = (np.random.default_rng(3).random((100, 37)) > 0.42).astype("f4")
    prob[0:80, 3] = prob[0:80, 30] = prob[79, 3:30] = 1
    source = write_raster("prob", prob, tiled=True, blockxsize=16, blockysize=16)
    with Pair(*make_pair(*images(3, (100, 37)), names=("red", "green", "nir"))) as pair:
        polygonize(source, tmp_path / "one.gpkg", threshold=0.5, pair=pair)
        for module in (writer, regions, regionsums):
            monkeypatch.setattr(module, "BLOCK_SIZE", 16)
        monkeypatch.setattr(polygons, "STRIP_PIXELS", 1)
        polygonize(source, tmp_path / "two.gpkg", threshold=0.5, pair=pair)
        polygonize(source, tmp_path / "again.gpkg", threshold=0.5, pair=pair)
    two = (tmp_path / "two.gpkg").read_bytes()
    assert (tmp_path / "one.gpkg").read_bytes() == two
    assert (tmp_path / "again.gpkg").read_bytes() == two


def test_only_places_that_changed_are_read(
    make_pair: Any, write_raster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prob = np.zeros((64, 64), "f4")
    prob[20:22, 30:33] = 1
    monkeypatch.setattr(regionsums, "BLOCK_SIZE", 16)
    with Pair(*make_pair(*images(1, (64, 64)))) as pair:
        read: list[Any] = []
        original: Callable[..., Any] = pair.read
        monkeypatch.setattr(pair, "read", lambda window: (read.append(window), original(window))[1])
        polygonize(write_raster("prob", prob), tmp_path / "o.gpkg", threshold=0.5, pair=pair)
    sample, *windows = [tuple(window.flatten()) for window in read]
    assert sample == (0, 0, 64, 64), "of a large raster, a part of bounded size"
    assert windows == [(28, 18, 6, 6), (30, 18, 5, 6)], "with two pixels around, for edges that moved"


def test_pixels_that_the_pair_does_not_know_are_left_out(
    make_pair: Any, write_raster: Any, tmp_path: Path
) -> None:
    """A probability may come from elsewhere: a mean over zeros would be wrong, and no mean is null."""
    before, after = images(1, (3, 6))
    before[0, 0, 0], after[0, 2, 4:] = 0, 0
    prob = np.zeros((3, 6), "f4")
    prob[0, :3] = prob[2, 4:] = 1
    with Pair(*make_pair(before, after, nodata=0)) as pair:
        polygonize(write_raster("prob", prob), tmp_path / "o.gpkg", threshold=0.5, pair=pair)
    frame = geopandas.read_file(tmp_path / "o.gpkg")
    assert frame["before_b1"][0] == pytest.approx(before[0, 0, 1:3].mean())
    assert frame["n_pixels"].tolist() == [3, 2]
    assert frame[["before_b1", "after_b1"]].isna().to_numpy().tolist() == [[False, False], [True, True]]


def test_many_bands_are_cut_to_the_first_and_the_needed(
    make_pair: Any, write_raster: Any, tmp_path: Path
) -> None:
    names = [f"w{i}" for i in range(40)]
    names[30], names[35] = "nir", "red"
    with Pair(*make_pair(*images(40, (4, 4)), names=tuple(names))) as pair:
        polygonize(write_raster("prob", np.ones((4, 4), "f4")), tmp_path / "o.gpkg", threshold=0.5, pair=pair)
    columns = geopandas.read_file(tmp_path / "o.gpkg").columns
    before = [name for name in columns if name.startswith("before_") and "ndvi" not in name]
    assert len(before) == MOST_BANDS
    assert before[:2] == ["before_w0", "before_w1"]
    assert before[-2:] == ["before_nir", "before_red"]
    assert "diff_ndvi" in columns


def test_nothing_changed_has_the_same_columns(make_pair: Any, write_raster: Any, tmp_path: Path) -> None:
    with Pair(*make_pair(*images(2, (4, 4)), names=("red", "nir"))) as pair:
        for name, value in (("none", 0.0), ("all", 1.0)):
            prob = write_raster(name, np.full((4, 4), value, "f4"))
            polygonize(prob, tmp_path / f"{name}.gpkg", threshold=0.5, pair=pair)
    none, all_ = (geopandas.read_file(tmp_path / f"{name}.gpkg") for name in ("none", "all"))
    assert list(none.columns) == list(all_.columns)
    assert (len(none), len(all_)) == (0, 1)


def test_a_pair_on_another_grid_is_refused(make_pair: Any, write_raster: Any, tmp_path: Path) -> None:
    prob = write_raster("prob", np.ones((4, 5), "f4"))
    with Pair(*make_pair(*images(1, (4, 4)))) as pair, pytest.raises(GridError, match="different sizes"):
        polygonize(prob, tmp_path / "o.gpkg", threshold=0.5, pair=pair)
    assert not (tmp_path / "o.gpkg").exists()
