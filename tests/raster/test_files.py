"""Opening raster files: what is refused, and what the messages name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import NORTH_UP, MakePair, WriteRaster, read_pair, whole
from rasterio.crs import CRS
from rasterio.windows import Window

from geocd.errors import (
    OutputError,
    RasterOpenError,
    RasterReadError,
)
from geocd.raster.files import grid_of, open_raster, output_errors, provenance
from geocd.raster.grid import Grid
from geocd.raster.pair import Pair

UTM33 = CRS.from_epsg(32633)
ONES = np.ones((1, 8, 9), np.uint16)


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


def test_file_urls_are_decoded(tmp_path: Path, write_raster: WriteRaster) -> None:
    write_raster("a b", ONES)
    url = (tmp_path / "a b.tif").as_uri()
    assert url.endswith("/a%20b.tif")
    for spelling in (url, url.replace("file://", "file://localhost"), f"file://{tmp_path}/a b.tif"):
        with open_raster(spelling) as dataset:
            assert dataset.shape == (8, 9)
    (tmp_path / "a b.tif").rename(tmp_path / "a%20b.tif")
    open_raster(f"file://{tmp_path}/a%20b.tif").close()
    with pytest.raises(RasterOpenError, match=r"/c d\.tif: no such file"):
        open_raster(f"file://{tmp_path}/c%20d.tif")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, r"^http://h/a\.tif: .* signature may have expired: sign it again.*\(HTTP 403\)\.$"),
        (404, r"^http://h/a\.tif: the server has no such file\. .*\(HTTP 404\)\.$"),
        (500, "not a raster that GDAL can read .HTTP response code: 500"),
    ],
)
def test_what_a_server_answers(status: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise rasterio.errors.RasterioIOError(f"HTTP response code: {status}")

    monkeypatch.setattr(rasterio, "open", refuse)
    with pytest.raises(RasterOpenError, match=message):
        open_raster("http://h/a.tif?sig=secret")


def test_inside_a_zip(tmp_path: Path, write_raster: WriteRaster) -> None:
    import zipfile

    path = write_raster("inner", ONES)
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as pack:
        pack.write(path, "inner.tif")
    inside = f"zip://{tmp_path}/pack.zip!inner.tif"
    assert read_pair((path, inside)).valid.all()  # type: ignore[arg-type]


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


def test_provenance(tmp_path: Path, write_raster: WriteRaster) -> None:
    assert provenance(write_raster("a", ONES, tags={"GEOCD_PROVENANCE": '{"seed": 3}'})) == {"seed": 3}
    assert provenance(write_raster("b", ONES)) == {}
    assert provenance(write_raster("c", ONES, tags={"GEOCD_PROVENANCE": "{half"})) == {}
    assert provenance(write_raster("d", ONES, tags={"GEOCD_PROVENANCE": "[1]"})) == {}


def test_grid_of(write_raster: WriteRaster) -> None:
    path = write_raster("a", ONES)
    with open_raster(str(path)) as dataset:
        assert grid_of(dataset, str(path)) == Grid(UTM33, NORTH_UP, 8, 9)
