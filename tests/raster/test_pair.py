"""Pairs: bands, handles of threads, and pairs that are refused or travel."""

from __future__ import annotations

import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakePair, read_pair, whole
from rasterio.crs import CRS
from rasterio.windows import Window

from geocd.errors import (
    BandError,
    GridError,
    NoValidPixelError,
    RasterOpenError,
)
from geocd.raster.files import open_raster
from geocd.raster.pair import Pair

UTM33 = CRS.from_epsg(32633)
ONES = np.ones((1, 8, 9), np.uint16)


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


def test_no_valid_pixel_names_both_and_their_nodata(make_pair: MakePair) -> None:
    with Pair(*make_pair(ONES, ONES, nodata=1, after_nodata=5)) as pair:
        assert not whole(pair).valid.any()
        error = pair.no_valid_pixel()
    assert isinstance(error, NoValidPixelError)
    assert "before.tif (nodata 1" in str(error)
    assert "after.tif (nodata 5" in str(error)
    assert "--nodata" in str(error)


def test_no_valid_pixel_names_the_bands_without_one(make_pair: MakePair) -> None:
    before, after = (np.repeat(ONES * 7, 6, axis=0) for _ in range(2))
    before[2], after[2:4] = 0, 0
    names = tuple(f"{number} nm" for number in range(400, 1000, 100))
    with Pair(*make_pair(before, after, nodata=0, names=names)) as pair:
        assert not whole(pair).valid.any()
        message = str(pair.no_valid_pixel())
    assert re.search(r"in bands 3 of .*before\.tif \(600 nm\)", message)
    assert re.search(r"in bands 3\.\.4 of .*after\.tif \(600 nm, 700 nm\)", message)
    assert message.endswith("Leave them out: --bidx 1..2,5..6")
    assert read_pair(make_pair(before, after, nodata=0), indexes=[1, 2, 5, 6]).valid.all()
    with Pair(*make_pair(ONES, ONES, nodata=1, after_nodata=5)) as pair:
        assert "Leave them out" not in str(pair.no_valid_pixel())


def test_windows_are_where_they_say(make_pair: MakePair) -> None:
    rows, cols = np.mgrid[:50, :70]
    values = np.stack([rows, cols]).astype(np.uint16)
    with Pair(*make_pair(values, values)) as pair:
        chip = pair.read(Window(13, 7, 20, 30))
    assert chip.before.shape == (2, 30, 20)
    np.testing.assert_array_equal(chip.before[0], rows[7:37, 13:33])
    np.testing.assert_array_equal(chip.after[1], cols[7:37, 13:33])


def test_threads_never_share_a_handle(make_pair: MakePair, scene: Any) -> None:
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
        handles = list(pair.files._handles)
    assert not wrong
    assert len(handles) <= 2 * 4
    assert all(handle.closed for handle in handles)


def test_a_thread_goes_on_with_the_handles_of_another(
    make_pair: MakePair, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDAL caches blocks by dataset, so what one thread has decoded is there for the next."""
    monkeypatch.setattr("geocd.raster.handles.PATIENCE", 60)  # however busy the machine
    with Pair(*make_pair(scene(), scene(seed=1))) as pair, ThreadPoolExecutor(3) as threads:
        list(threads.map(pair.read, [pair.grid.window] * 9))
        assert len(pair.files._handles) == 2


def test_a_thread_does_not_wait_for_ever_for_another(
    make_pair: MakePair, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geocd.raster.handles.PATIENCE", 0.1)
    with Pair(*make_pair(scene(), scene(seed=1))) as pair, ThreadPoolExecutor(1) as thread:
        with pair.files.lent() as datasets:
            chip = thread.submit(pair.read, pair.grid.window).result()
            with pair.files.lent() as again:
                assert again is datasets
        assert chip.valid.all()
        assert len(pair.files._handles) == 4


def test_what_cannot_be_opened_blocks_nobody(make_pair: MakePair, scene: Any, tmp_path: Path) -> None:
    paths = make_pair(scene(), scene(seed=1))
    with Pair(*paths) as pair, pair.reading(paths[0], tmp_path / "none.tif") as other:
        for _ in range(2):
            with pytest.raises(RasterOpenError, match="none"):
                other.read(pair.grid.window)
        assert other.files._reading == 0


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

    monkeypatch.setattr("geocd.raster.handles.open_raster", spy)
    with pytest.raises(GridError):
        Pair(*make_pair(ONES, ONES, after_crs="EPSG:32634"))
    assert len(opened) == 2
    assert all(dataset.closed for dataset in opened)


@pytest.mark.data
def test_real_pairs_open(labelled: Path) -> None:
    folders = sorted(path.parent for path in labelled.glob("*/before.tif"))
    assert folders
    for folder in folders:
        with Pair(folder / "before.tif", folder / "after.tif") as pair:
            chip = pair.read(Window(0, 0, min(64, pair.grid.width), min(64, pair.grid.height)))
            assert np.isfinite(chip.before).all()
            assert chip.before.shape[0] == len(pair.indexes) == len(pair.band_names)
