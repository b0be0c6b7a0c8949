"""Input that means harm, or might as well: each ends with a message, reads nothing it should not, and soon.

``benchmarks/fuzz.py`` looks for more of the kind.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import socket
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.vrt
import shapely
import torch
from click.testing import CliRunner
from rasterio.crs import CRS

from geocd.batch.pairs import Item
from geocd.cli import main
from geocd.config import Settings
from geocd.errors import PairsError, RasterOpenError, WeightsError
from geocd.method.weights import read_weights
from geocd.pipeline.run import detect
from geocd.raster import files
from geocd.raster.files import open_raster
from geocd.rerun import rerun

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
    floors = [below := vrt(tmp_path / f"{number}.vrt", below) for number in range(files.MOST_VRTS + 1)]
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


# Vectors


AREA = "[[[15.0, 37.9], [15.002, 37.9], [15.002, 37.899], [15.0, 37.9]]]"
GEOJSON = (
    '{"type": "FeatureCollection", "crs": CRS, "features": [{"type": "Feature", "properties": {}, '
    f'"geometry": {{"type": "Polygon", "coordinates": {AREA}}}}}]}}'
)
VECTOR_VRT = (
    '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>/vsicurl/ADDRESS</SrcDataSource>'
    "<SrcLayer>a</SrcLayer></OGRVRTLayer></OGRVRTDataSource>"
)
ALGORITHM = '{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read /vsicurl/ADDRESS"}'


@pytest.fixture
def prob(write_raster: WriteRaster) -> Path:
    """Write a probability raster."""
    values = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    return write_raster("x_prob", values, nodata=float("nan"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.geojson", GEOJSON.replace("CRS", '{"type": "link", "properties": {"href": "ADDRESS"}}')),
        ("r.geojson", GEOJSON.replace("CRS", r'{"type": "\u0075rl", "properties": {"url": "ADDRESS"}}')),
        ("r.geojson", VECTOR_VRT),
        ("r.gdalg.json", ALGORITHM),
        ("r.xml", "<OGRWFSDataSource><URL>ADDRESS</URL></OGRWFSDataSource>"),
    ],
)  # fmt: skip
def test_a_vector_file_reaches_no_network(name: str, text: str, ear: Ear, prob: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text.replace("ADDRESS", ear.url))
    assert "names another source or an address" in refused("evaluate", prob, path)
    assert "names another source or an address" in refused("batch", path, tmp_path / "out")
    assert ear.heard == 0


def test_an_ordinary_geojson_is_read(prob: Path, tmp_path: Path) -> None:
    for number, crs in enumerate(('{"type": "name", "properties": {"name": "EPSG:4326"}}', "null")):
        path = tmp_path / f"{number}.geojson"
        path.write_text(GEOJSON.replace("CRS", crs))
        assert CliRunner().invoke(main, ["evaluate", str(prob), str(path)]).exit_code == 0
    lines = tmp_path / "lines.geojsonl"
    shape = f'{{"type": "Polygon", "coordinates": {AREA}}}'
    lines.write_text(f'{{"type": "Feature", "properties": {{}}, "geometry": {shape}}}\n' * 2)
    assert CliRunner().invoke(main, ["evaluate", str(prob), str(lines)]).exit_code == 0


def write_gpkg(path: Path, shapes: list[Any], crs: int = 32633) -> Path:
    frame = geopandas.GeoDataFrame(geometry=shapes, crs=crs)
    frame.to_file(path, engine="pyogrio")
    return path


def altered(path: Path, at: int, packed: bytes) -> Path:
    """Change the first polygon of a GeoPackage (40 bytes of header with its box, then WKB)."""
    with contextlib.closing(sqlite3.connect(path)) as base:
        for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            base.execute(f'DROP TRIGGER "{name}"')
        table = path.stem
        shape = bytearray(base.execute(f'SELECT geom FROM "{table}"').fetchone()[0])
        shape[at : at + len(packed)] = packed
        base.execute(f'UPDATE "{table}" SET geom = ?', (bytes(shape),))
        base.commit()
    return path


BOX = shapely.box(500_100, 4_199_700, 500_200, 4_199_900)


@pytest.mark.parametrize(
    ("at", "packed", "told"),
    [
        (40 + 13, struct.pack("<d", 500_000.0), "polygons cannot be read"),  # a ring that is not closed
        (40 + 13 + 16, struct.pack("<d", np.nan), "coordinates that are no numbers"),
        (40 + 13 + 24, struct.pack("<d", np.inf), "coordinates that are no numbers"),
    ],
)
def test_polygons_that_are_none(at: int, packed: bytes, told: str, prob: Path, tmp_path: Path) -> None:
    path = altered(write_gpkg(tmp_path / "r.gpkg", [BOX]), at, packed)
    code = 2 if "numbers" in told else 1
    message = refused("evaluate", prob, path, code=code)
    assert told in message
    assert "makevalid" in message


def test_counts_of_points_that_no_file_holds(prob: Path, tmp_path: Path) -> None:
    path = altered(write_gpkg(tmp_path / "r.gpkg", [BOX]), 40 + 5, struct.pack("<II", 1, 2**31 - 1))
    result = CliRunner().invoke(main, ["evaluate", str(prob), str(path)])
    assert result.exit_code in (0, 1, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_million_corners_and_a_place_elsewhere(prob: Path, tmp_path: Path) -> None:
    angle = np.linspace(0, 2 * np.pi, 10**6)
    wheel = shapely.Polygon(
        np.stack([500_300 + 200 * np.cos(angle), 4_199_700 + 200 * np.sin(angle)], axis=1)
    )
    for name, crs in (("here", 32633), ("elsewhere", 32755)):
        path = write_gpkg(tmp_path / f"{name}.gpkg", [wheel], crs)
        result = CliRunner().invoke(main, ["evaluate", "--json", str(prob), str(path)])
        assert result.exit_code == 0, result.output
        assert (json.loads(result.stdout)["recall"] is None) == (name == "elsewhere")


# Lists, items, memories of batches


@pytest.mark.parametrize(
    "name",
    ["../up", "..", "/etc/x", "a/b", "a\\b", "C:x", "con", "NUL", "nul.txt", "Com1.tif", "a\0b", "-rf", "~",
     "a\n", "x.", " ", "ａ", "a" * 101, "a\u202eb", "manifest.jsonl", "Catalog.json", "a:b", "a*"],
)  # fmt: skip
def test_ids_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="id "):
        Item(name, "before.tif", "after.tif")


def test_a_list_whose_ids_lead_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("id,before,after\n../../up,a.tif,b.tif\n")
    message = refused("batch", path, tmp_path / "out")
    assert "line 2: id '../../up': cannot be the name of a folder" in message
    assert not (tmp_path / "out").exists()


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        DEEP,
        '{"features": 1}',
        '{"features": [1]}',
        '{"stac_version": [], "type": "Catalog", "id": "x", "description": "", "links": []}',
        '{"type": "FeatureCollection", "features": [{"stac_version": "1.0.0", "type": "Feature"}, "x"]}',
        '{"stac_version": "1.0.0", "type": "FeatureCollection", "features": ' + DEEP,
        '{"stac_version": "1.0.0", "type": "Catalog", "id": "x", "description": "", '
        '"links": [{"rel": "child", "href": "./x.json"}]}',
        '{"type": "FeatureCollection", "features": [{"stac_version": "1.0.0", "type": "Feature", "id": 7, '
        '"geometry": null, "links": [], "assets": {"a": {"href": 5, "roles": ["data"]}}, '
        '"properties": {"datetime": "2024-01-01T00:00:00Z", "grid:code": []}}, {"stac_version": "1.0.0", '
        '"type": "Feature", "id": 7, "geometry": null, "links": [], "assets": {}, '
        '"properties": {"datetime": "2024-01-02T00:00:00Z", "grid:code": [], "eo:cloud_cover": "x"}}]}',
    ],
)
def test_json_that_is_no_list_of_pairs(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    message = refused("batch", path, tmp_path / "out")
    assert str(path) in message
    assert len(message) < 1000


def test_a_catalogue_is_not_followed_to_the_network(ear: Ear, tmp_path: Path) -> None:
    path = tmp_path / "catalog.json"
    link = {"rel": "item", "href": ear.url}
    content = {"type": "Catalog", "stac_version": "1.0.0", "id": "x", "description": "", "links": [link]}
    path.write_text(json.dumps(content))
    assert "a catalogue links to it, and is not followed" in refused("batch", path, tmp_path / "out")
    assert ear.heard == 0


def test_a_memory_of_a_batch_that_was_altered(tmp_path: Path) -> None:
    good = {"id": "good", "state": "failed", "error": "GridError", "message": "no \x1b[31mred", "seconds": 1}
    bad: list[Any] = [
        good | {"id": "../../up"},
        good | {"id": ["a"]},
        good | {"id": None},
        good | {"id": "a", "state": {}},
        good | {"id": "a", "seconds": "long"},
        good | {"id": "a", "seconds": 10**400},
        good | {"id": "a", "message": 5},
        {"id": "a", "state": "done", "config": "0", "inputs": [], "outputs": {}},
        {
            "id": "a",
            "state": "done",
            "config": "0",
            "inputs": {},
            "outputs": {"../x": {"size": 1, "sha256": ""}},
        },
        {"settings": [1]},
        [],
    ]
    lines = [json.dumps(line) for line in [*bad, good]] + [DEEP, "{", "\0"]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    result = CliRunner().invoke(main, ["batch", "--status", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "0 done, 1 failed, 0 sent, 0 pending"
    assert "\x1b" not in result.stdout
    assert result.stdout.startswith("good  failed")


def test_an_item_does_not_decide_what_is_fetched(
    ear: Ear, make_pair: Callable[..., tuple[Path, Path]], scene: Callable[..., Any], tmp_path: Path
) -> None:
    settings = Settings.from_flat({"method": "cva"})
    files, _ = detect(*make_pair(scene(), scene(seed=1)), tmp_path / "x", settings=settings)
    item = json.loads(files["item"].read_text())
    before = next(link for link in item["links"] if str(link.get("title")).startswith("before"))
    good = before["href"]
    for href in (ear.url, f"/vsicurl/{ear.url}"):
        before["href"] = href
        files["item"].write_text(json.dumps(item))
        assert "its before lies on the network" in refused("rerun", files["item"])
    assert ear.heard == 0
    before["href"] = good
    for name, hostile in (
        ("assets", []),
        ("assets", {"prob": "x"}),
        ("properties", None),
        ("links", {"a": 1}),
        ("links", [{"rel": "derived_from", "title": 5, "href": 7}]),
    ):
        files["item"].write_text(json.dumps(item | {name: hostile}))
        assert "no STAC item of a geocd run" in refused("rerun", files["item"])
    files["item"].write_text(DEEP)
    assert "cannot be read as JSON" in refused("rerun", files["item"])


@pytest.mark.parametrize(
    "text",
    ["seed = 1\nseed = 2", "a = " + DEEP, 'tile_size = "x', "tile_size = 1e400",
     "min_area = inf", f"seed = 1{'0' * 5000}",
     "min_area = 1" + "0" * 400, "bidx = [[1]]", "\0", "[x]\na = 1", 'method = "<script>"'],
)  # fmt: skip
def test_settings_that_are_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    message = refused("detect", "a.tif", "b.tif", "--config", path, code=2)
    assert len(message) < 1500


# Weights


class Mark:
    """What a pickle does when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.safetensors"])
def test_a_pickle_offered_as_weights(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "was here"
    path = tmp_path / name
    path.write_bytes(pickle.dumps({"state_dict": {"weight": Mark(mark)}}))
    with pytest.raises(WeightsError, match="not a weights file that can be read safely"):
        read_weights(str(path))
    torch.save({"weight": Mark(mark)}, path)
    with pytest.raises(WeightsError, match="not a weights file that can be read safely"):
        read_weights(str(path))
    assert not mark.exists()


def test_weights_that_claim_what_no_computer_holds(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    header = b'{"a": {"dtype": "F32", "shape": [1000000, 1000000], "data_offsets": [0, 4000000000000]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(WeightsError, match="not a weights file"):
        read_weights(str(path))
    path.write_bytes(struct.pack("<Q", 2**62) + header)
    with pytest.raises(WeightsError, match="not a weights file"):
        read_weights(str(path))


# Names


NAMES = ["a 'b' \"c\".tif", "a\nb.tif", "日本 é.tif", "-rf.tif", "<script>alert(1)<_script>&.tif",
         "%s{}$HOME.tif", "a?b=c.tif", "a#b.tif", "\x1b[31m.tif", "a\u202eb.tif", "a:b.tif",
         "[x].tif"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_unusual(
    name: str, make_pair: Callable[..., tuple[Path, Path]], scene: Callable[..., Any], tmp_path: Path
) -> None:
    before, after = make_pair(scene(), scene(seed=1), names=("<b>red</b>", '"&\n', "x\x01y"))
    before = before.rename(tmp_path / name)
    stem = tmp_path / f"out {name.removesuffix('.tif')}".replace("\n", " ")  # SQLite opens none with it
    settings = Settings.from_flat({"method": "cva"})
    files, _ = detect(before, after, stem, settings=settings)
    item = json.loads(files["item"].read_text())
    assert item["id"]
    page = files["report"].read_text(encoding="utf-8")
    assert "<b>red" not in page
    assert "<script>alert" not in page
    for key in ("prob_style", "changes_style"):
        ElementTree.fromstring(files[key].read_bytes())
    assert rerun(files["item"]).identical
    missing = refused("check", "--", tmp_path / f"no {name}", after)
    assert "no such file" in missing or "not a raster" in missing
    assert "\x1b" not in missing
    assert "\u202e" not in missing


def test_names_that_are_no_text(tmp_path: Path) -> None:
    missing = refused("check", os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.tif"), "b.tif")
    assert "no such file" in missing


def test_names_that_no_system_has(tmp_path: Path) -> None:
    long = "a" * 5000
    assert "no such file" in refused("check", long, long)
    assert "no such file" in refused("evaluate", long, long)
    assert "no such" in refused("batch", f"{long}.json", tmp_path / "out")
    with pytest.raises(WeightsError, match="no such weights file"):
        read_weights(long)
    with pytest.raises(RasterOpenError, match="NUL"):
        open_raster("a\0.tif")


# What the fuzzer has found


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
    assert "gives a pixel no area" in refused("detect", path, path, "-o", tmp_path / "out")
    result = CliRunner().invoke(main, ["check", str(path), str(path)])
    assert result.exit_code == 1
    assert "gives a pixel no area" in result.stdout


def test_a_crs_that_only_gdal_understands(tmp_path: Path, write_raster: WriteRaster) -> None:
    image = write_raster("x", np.zeros((64, 64), np.uint8))
    wkt = CRS.from_epsg(32634).to_wkt().replace('"6326"', '"63' + '{""a"":' * 10 + '126"', 1)
    path = vrt(tmp_path / "x.vrt", image)
    path.write_text(path.read_text().replace("EPSG:32633", escape(wkt)))
    result = CliRunner().invoke(main, ["check", str(image), str(path)])
    assert isinstance(result.exception, SystemExit), result.exception
    assert "different coordinate reference systems" in result.stdout
