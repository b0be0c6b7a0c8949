"""What a raster names: read only where the user may have meant it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.vrt
from hostile_input import Ear, WriteRaster, refused, vrt

from geocd.errors import RasterOpenError
from geocd.raster import files
from geocd.raster.files import open_raster

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
    assert "one of its sources cannot be opened" in refused("check", vrt(tmp_path / "x.vrt", path), path)
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
    assert "did not answer within 1 s" in refused("check", ear.url, ear.url)
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
    assert "one of its sources cannot be opened. /etc/passwd: not a raster" in refused("check", path, path)
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
    assert "is not allowed, because it may run code" in refused("check", path, path)
    assert "is not allowed, because it may run code" in refused("check", f"vrt://{path}?bands=1", path)
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
