"""Rasters that claim or hold what cannot be: each ends with a message, and soon.

``benchmarks/fuzz.py`` looks for more of the kind.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.vrt
from click.testing import CliRunner
from hostile_input import WriteRaster, refused, vrt
from rasterio.crs import CRS

from geocd.cli import main
from geocd.raster.files import open_raster


def tiff(path: Path, width: int, height: int, **options: Any) -> Path:
    """Write a TIFF that consists of a header alone, with a place on Earth."""
    bands, bits = options.get("bands", 1), options.get("bits", 8)
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits),
        (259, 3, 1, options.get("compression", 1)), (262, 3, 1, 1),
        (277, 3, 1, bands), (284, 3, 1, options.get("planar", 1)),
    ]  # fmt: skip
    place = 0 if options.get("sparse") else 8
    if (tile := options.get("tile")) is not None:
        entries += [(322, 4, 1, tile[0]), (323, 4, 1, tile[1]), (324, 4, 1, place), (325, 4, 1, place)]
    else:
        entries += [(273, 4, 1, place), (278, 4, 1, options.get("rows", height)), (279, 4, 1, place)]
    extra, at = b"", 8 + 2 + 12 * (len(entries) + 3) + 4
    for tag, kind, count, content in (
        (33550, 12, 3, struct.pack("<3d", 10, 10, 0)),
        (33922, 12, 6, struct.pack("<6d", 0, 0, 0, 5e5, 4e6, 0)),
        (34735, 3, 16, struct.pack("<16H", 1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)),
    ):
        entries.append((tag, kind, count, at + len(extra)))
        extra += content
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    head += b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    path.write_bytes(head + bytes(4) + extra)
    return path


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"width": 10**6, "height": 10**6}, "claims 1000000 x 1000000 px in 1 bands"),
        ({"width": 10**6, "height": 10**6, "rows": 1, "sparse": True}, "claims 1000000 x 1000000 px"),
        ({"width": 2**31 - 1, "height": 2**31 - 1}, "claims 2147483647 x 2147483647 px"),
        ({"width": 10**5, "height": 10**5, "tile": (512, 512)}, "the file has only 286 bytes"),
        ({"width": 10**5, "height": 10**5, "rows": 1}, "the file has only 274 bytes"),
        ({"width": 1000, "height": 1000, "tile": (2**30, 2**30)}, "each of 1099511627776 MB"),
        (
            {"width": 2000, "height": 2000, "tile": (2**15, 2**15), "compression": 8},
            "each of 1024 MB",
        ),
        ({"width": 1000, "height": 1000, "bands": 65535}, "in 65535 bands"),
        ({"width": 100, "height": 100, "bands": 65535, "planar": 2, "bits": 64}, "in 65535 bands"),
        ({"width": 2**32 - 1, "height": 2**32 - 1}, "not a raster that GDAL can read"),
        ({"width": 0, "height": 0}, "not a raster that GDAL can read"),
        ({"width": 10, "height": 10, "tile": (0, 0)}, "not a raster that GDAL can read"),
    ],
)
def test_a_header_that_claims_what_no_computer_holds(
    options: dict[str, Any], told: str, tmp_path: Path
) -> None:
    path = tiff(tmp_path / "huge.tif", **options)
    assert path.stat().st_size < 300
    for command in (
        ("check", path, path),
        ("detect", path, path, "-o", tmp_path / "x"),
        ("evaluate", path, path),
    ):
        assert told in refused(*command)
    assert [found.name for found in tmp_path.iterdir()] == ["huge.tif"]


def test_a_header_of_40_bytes(tmp_path: Path) -> None:
    path = tmp_path / "tiny.tif"
    path.write_bytes(tiff(tmp_path / "huge.tif", 10**6, 10**6).read_bytes()[:40])
    assert "not a raster that GDAL can read" in refused("check", path, path)


def test_an_honest_file_of_nothing_is_no_bomb(write_raster: WriteRaster) -> None:
    path = write_raster(
        "empty", np.zeros((1, 1), np.uint8), sparse_ok=True, tiled=True, compress="deflate", nodata=0
    )
    with rasterio.open(path) as dataset:
        profile = dataset.profile | {"width": 40_000, "height": 40_000}
    with rasterio.open(path, "w", **profile):
        pass
    with open_raster(str(path)) as dataset:
        assert dataset.shape == (40_000, 40_000)


def test_a_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.tif", tiff(tmp_path / "x.tif", 40_000, 40_000).read_bytes() + bytes(10**6))
        archive.filelist[0].file_size = 2**31  # as if it were so; writing it would take a while
    for name in (
        f"/vsizip/{path}/x.tif",
        f"/vsizip/{{{path}}}/x.tif",
        f"zip://{path}!x.tif",
        f"/vsizip/{path}",
    ):
        message = refused("check", name, name)
        assert "bytes in the archive" in message
        assert "unpack it and pass the file" in message


def test_an_ordinary_archive_is_read(tmp_path: Path, write_raster: WriteRaster) -> None:
    image = write_raster("image", np.full((64, 64), 7, np.uint8))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(image, "image.tif")
    for name in (f"/vsizip/{tmp_path}/x.zip/image.tif", f"zip://{tmp_path}/x.zip!image.tif"):
        with open_raster(name) as dataset:
            assert dataset.read(1).max() == 7


@pytest.mark.parametrize("length", [0, 3, 2**32 - 1])
def test_a_jpeg_2000_file_whose_boxes_make_a_circle(
    length: int, write_raster: WriteRaster, tmp_path: Path
) -> None:
    path = tmp_path / "x.jp2"
    rasterio.shutil.copy(write_raster("x", np.zeros((64, 64), np.uint8)), path, driver="JP2OpenJPEG")
    with open_raster(str(path)) as dataset:
        assert dataset.shape == (64, 64)
    content = bytearray(path.read_bytes())
    inner = content.index(b"colr") - 4
    content[inner : inner + 4] = struct.pack(">I", length)
    path.write_bytes(content)
    assert "damaged JPEG 2000" in refused("check", path, path)


@pytest.mark.parametrize("turned", [(0, 0, 0, 0), (10, 10, 5, 5), (np.nan, 0, 0, -10), (1e300, 0, 0, -1e300)])
def test_a_transform_that_nothing_can_be_measured_with(
    turned: tuple[float, float, float, float], tmp_path: Path, write_raster: WriteRaster
) -> None:
    a, b, d, e = turned
    path = vrt(tmp_path / "x.vrt", write_raster("x", np.zeros((64, 64), np.uint8)))
    path.write_text(
        path.read_text().replace("500000, 10, 0, 4200000, 0, -10", f"500000, {a}, {b}, 4200000, {d}, {e}")
    )
    assert "gives pixels no area" in refused("detect", path, path, "-o", tmp_path / "out")
    result = CliRunner().invoke(main, ["check", str(path), str(path)])
    assert result.exit_code == 1
    assert "gives pixels no area" in result.stdout


def test_a_crs_that_only_gdal_understands(tmp_path: Path, write_raster: WriteRaster) -> None:
    image = write_raster("x", np.zeros((64, 64), np.uint8))
    wkt = CRS.from_epsg(32634).to_wkt().replace('"6326"', '"63' + '{""a"":' * 10 + '126"', 1)
    path = vrt(tmp_path / "x.vrt", image)
    path.write_text(path.read_text().replace("EPSG:32633", escape(wkt)))
    result = CliRunner().invoke(main, ["check", str(image), str(path)])
    assert isinstance(result.exception, SystemExit), result.exception
    assert "different coordinate reference systems" in result.stdout
