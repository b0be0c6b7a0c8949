"""Input that means harm, or might as well: each ends with a message, reads nothing it should not, and soon.

``benchmarks/fuzz.py`` looks for more of the kind.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.vrt
from click.testing import CliRunner

from geocd import raster
from geocd.cli import main
from geocd.errors import RasterOpenError
from geocd.raster import open_raster

WriteRaster = Callable[..., Path]


def refused(*arguments: object, code: int = 1) -> str:
    """Run a command that must end with one message, and return it."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert result.stderr.startswith(("Error: ", "Usage: ")), result.stderr
    return result.stderr


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
        ({"width": 10**5, "height": 10**5, "tile": (512, 512)}, "is a file of 286 bytes"),
        ({"width": 10**5, "height": 10**5, "rows": 1}, "is a file of 274 bytes"),
        ({"width": 1000, "height": 1000, "tile": (2**30, 2**30)}, "one of them takes 1099511627776 MB"),
        (
            {"width": 2000, "height": 2000, "tile": (2**15, 2**15), "compression": 8},
            "one of them takes 1024 MB",
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


# What a raster names


def vrt(
    path: Path, source: object, *, relative: int = 0, inside: str = "", band: str = "", head: str = ""
) -> Path:
    """Write a VRT of 64 x 64 pixels with one source."""
    path.write_text(
        f'<VRTDataset rasterXSize="64" rasterYSize="64" {head}><SRS>EPSG:32633</SRS>'
        "<GeoTransform>500000, 10, 0, 4200000, 0, -10</GeoTransform>"
        f'<VRTRasterBand dataType="Byte" band="1" {band}>{inside}<SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return path


class Ear:
    """A port that nobody answers on, and that notices who knocks."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/x.tif"

    @property
    def heard(self) -> int:
        """How many have knocked since the last time."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.accept()[0].close()
                count += 1
        return count


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ear]:
    """Give a port that must not be contacted."""
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield Ear(listening)


WMS = (
    '<GDAL_WMS><Service name="TMS"><ServerUrl>{}/${{z}}/${{x}}/${{y}}.png</ServerUrl></Service><DataWindow>'
    "<UpperLeftX>-20037508</UpperLeftX><UpperLeftY>20037508</UpperLeftY><LowerRightX>20037508</LowerRightX>"
    "<LowerRightY>-20037508</LowerRightY><TileLevel>2</TileLevel><TileCountX>1</TileCountX><TileCountY>1"
    "</TileCountY></DataWindow><Projection>EPSG:3857</Projection><BlockSizeX>256</BlockSizeX>"
    "<BlockSizeY>256</BlockSizeY><BandsCount>1</BandsCount></GDAL_WMS>"
)
MRF = (
    "<MRF_META><CachedSource><Source>/vsicurl/{}</Source></CachedSource>"
    '<Raster><Size x="64" y="64" c="1"/><PageSize x="64" y="64" c="1"/></Raster></MRF_META>'
)


@pytest.mark.parametrize(
    "source",
    [
        "/vsicurl/{}",
        "/VSICURL/{}",
        "{}",
        "/vsicurl_streaming/{}",
        "/vsicurl?url={}",
        "/vsizip//vsicurl/{}.zip/x.tif",
        "/vsizip/{{/vsicurl/{}.zip}}/x.tif",
        "/vsicached?file=/vsicurl/{}",
        "/vsis3/bucket/x.tif",
        "vrt:///vsicurl/{}?bands=1",
        "WMS:{}?SERVICE=WMS",
        "PLMOSAIC:mosaic=x",
        "NETCDF:&quot;{}&quot;:x",
        "GTIFF_DIR:1:/vsicurl/{}",
        "&lt;GDAL_WMS&gt;&lt;/GDAL_WMS&gt;",
        "<![CDATA[/vsicurl/{}]]>",
        "&#47;vsicurl/{}",
        "<!-- -->/vsicurl/{}",
    ],
)
def test_a_vrt_reaches_no_network(source: str, ear: Ear, tmp_path: Path) -> None:
    path = vrt(tmp_path / "x.vrt", source.format(ear.url))
    with pytest.raises(RasterOpenError, match=r"not followed|source"):
        open_raster(str(path))
    # nor under another name, through another VRT, in GDAL's shorthand, or as text
    for other in (
        path.rename(tmp_path / "x.tif"),
        vrt(tmp_path / "outer.vrt", "x.tif", relative=1),
        f"vrt://{tmp_path / 'x.tif'}?bands=1",
        (tmp_path / "x.tif").read_text(),
    ):
        with pytest.raises(RasterOpenError):
            open_raster(str(other))
    assert ear.heard == 0


@pytest.mark.parametrize("content", [WMS, MRF])
def test_an_address_under_the_name_of_an_image(content: str, ear: Ear, tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    path.write_text(content.format(ear.url))
    assert "not a raster" in refused("check", path, path)
    assert "names a source" in refused("check", vrt(tmp_path / "x.vrt", path), path)
    assert ear.heard == 0


@pytest.mark.parametrize("inside", [True, False], ids=["in the tags", "beside it"])
@pytest.mark.parametrize("address", ["/vsicurl/{}", "{}"])
def test_overviews_on_the_network(
    inside: bool, address: str, ear: Ear, write_raster: WriteRaster, tmp_path: Path
) -> None:
    path = write_raster("x", np.zeros((64, 64), np.uint8))
    target = address.format(ear.url)
    if inside:
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=target)
    else:
        (tmp_path / "x.tif.aux.xml").write_text(
            '<PAMDataset><Metadata domain="OVERVIEWS">'
            f'<MDI key="OVERVIEW_FILE">{target}</MDI></Metadata></PAMDataset>'
        )
    assert "overviews on the network" in refused("check", path, path)
    assert "overviews on the network" in refused("check", vrt(tmp_path / "x.vrt", path), path)
    assert ear.heard == 0


def test_who_trusts_a_vrt_says_so(ear: Ear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = vrt(tmp_path / "x.vrt", f"/vsicurl/{ear.url}?signature=secret")
    message = refused("check", path, path)
    assert "GEOCD_REMOTE_SOURCES=YES" in message
    assert "secret" not in message
    assert ear.heard == 0
    monkeypatch.setenv("GEOCD_REMOTE_SOURCES", "YES")
    refused("check", path, path)  # nobody answers
    assert ear.heard > 0


def test_what_the_user_wrote_is_fetched(ear: Ear) -> None:
    assert "not a raster" in refused("check", ear.url, ear.url)
    assert ear.heard > 0


def test_vrts_that_include_themselves(tmp_path: Path) -> None:
    own = vrt(tmp_path / "own.vrt", "own.vrt", relative=1)
    assert f"include each other ({own} -> {own})" in refused("check", own, own)
    one = vrt(tmp_path / "one.vrt", tmp_path / "two.vrt")
    two = vrt(tmp_path / "two.vrt", "one.vrt", relative=1)
    assert f"({one} -> {two} -> {one})" in refused("detect", one, two, "-o", tmp_path / "x")
    text = f"vrt://{own}?bands=1"
    assert "include each other" in refused("check", text, text)


def test_a_tower_of_vrts(tmp_path: Path, write_raster: WriteRaster) -> None:
    below: Path = write_raster("ground", np.zeros((64, 64), np.uint8))
    floors = [below := vrt(tmp_path / f"{number}.vrt", below) for number in range(raster.MOST_VRTS + 1)]
    with open_raster(str(floors[-2])) as dataset:
        assert dataset.shape == (64, 64)
    with pytest.raises(RasterOpenError, match="include each other"):
        open_raster(str(floors[-1]))


def test_a_vrt_of_what_is_no_image(tmp_path: Path) -> None:
    path = vrt(tmp_path / "x.vrt", "/etc/passwd")
    assert "names a source. /etc/passwd: not a raster" in refused("check", path, path)
    path.write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="2"><VRTRasterBand dataType="Byte" band="1" '
        'subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="0">/etc/passwd</SourceFilename>'
        "<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>64</LineOffset>"
        "</VRTRasterBand></VRTDataset>"
    )
    assert "computes its pixels (VRTRawRasterBand)" in refused("check", path, path)


@pytest.mark.parametrize(
    ("band", "inside"),
    [
        (
            'subClass="VRTDerivedRasterBand"',
            "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
            "<PixelFunctionCode><![CDATA[\nimport pathlib\npathlib.Path('{}').touch()\n"
            "def f(*args, **kwargs): pass\n]]></PixelFunctionCode>",
        ),
        ('subclass="vrtderivedrasterband"', "<PixelFunctionType>sqrt</PixelFunctionType>"),
        ("", "<subClass>VRTDerivedRasterBand</subClass><PixelFunctionType>sqrt</PixelFunctionType>"),
    ],
)
def test_pixel_functions_stay_off(
    band: str, inside: str, tmp_path: Path, write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    monkeypatch.setenv("GEOCD_REMOTE_SOURCES", "YES")  # which says nothing of code
    mark = tmp_path / "was here"
    path = vrt(
        tmp_path / "x.vrt",
        write_raster("image", np.ones((64, 64), np.uint8)),
        band=band,
        inside=inside.format(mark),
    )
    assert "stays switched off" in refused("check", path, path)
    assert "stays switched off" in refused("check", f"vrt://{path}?bands=1", path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        "<VRTDataset",
        "<VRTDataset rasterXSize='4' rasterYSize='4'>\x00</VRTDataset>",
        "<!DOCTYPE x [<!ENTITY a 'aaaaaaaa'>]><VRTDataset rasterXSize='4' rasterYSize='4'>&a;</VRTDataset>",
        "<VRTDataset rasterXSize='4' rasterYSize='4'>" + "<a>" * 100_000,
        "<VRTDataset subClass='VRTProcessedDataset'></VRTDataset>",
        "<VRTDataset rasterXSize='4' rasterYSize='4'><VRTRasterBand band='1'><SimpleSource "
        "SourceFilename='x'/></VRTRasterBand></VRTDataset>",
    ],
)
def test_vrts_that_are_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.vrt"
    path.write_text(text)
    message = refused("check", path, path)
    assert str(path) in message
    assert len(message) < 500


def test_an_ordinary_vrt_is_read(tmp_path: Path, write_raster: WriteRaster) -> None:
    values = np.arange(64 * 64).reshape(64, 64).astype(np.uint16)
    image = write_raster("image", values)
    (tmp_path / "sub").mkdir()
    plain = vrt(tmp_path / "sub" / "plain.vrt", "../image.tif", relative=1)
    with open_raster(f"file://{plain}") as dataset:
        assert (dataset.read(1) == np.minimum(values, 255)).all()
    with rasterio.open(image) as dataset, rasterio.vrt.WarpedVRT(dataset, crs="EPSG:32634") as warped:
        text = warped.tags(ns="xml:VRT")["xml:VRT"]
        shape = warped.shape
    (tmp_path / "warped.vrt").write_text(text)
    with open_raster(str(tmp_path / "warped.vrt")) as dataset:
        assert dataset.shape == shape
        assert dataset.read(1).max() == values.max()


# Archives


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
        assert "takes" in message
        assert "unpack it and name the file" in message


def test_an_ordinary_archive_is_read(tmp_path: Path, write_raster: WriteRaster) -> None:
    image = write_raster("image", np.full((64, 64), 7, np.uint8))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(image, "image.tif")
    for name in (f"/vsizip/{tmp_path}/x.zip/image.tif", f"zip://{tmp_path}/x.zip!image.tif"):
        with open_raster(name) as dataset:
            assert dataset.read(1).max() == 7
