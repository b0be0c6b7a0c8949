"""Paths and URLs in every spelling: names, links, and no secret in either."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geocd.location import Location, public_text

NAMES = [
    ("a.tif", "a.tif", "a"),
    ("a.b.tif", "a.b.tif", "a.b"),
    ("no_extension", "no_extension", "no_extension"),
    ("/data/2019/a.TIFF", "a.TIFF", "a"),
    ("../b.tif", "b.tif", "b"),
    ("folder/", "folder", "folder"),
    ("S2.SAFE//", "S2.SAFE", "S2"),
    ("/data/ä b.tif", "ä b.tif", "ä b"),
    # of Windows
    (r"C:\data\a.tif", "a.tif", "a"),
    ("C:\\data\\", "data", "data"),
    # a file may have what separates elsewhere
    ("/data/what?.tif", "what?.tif", "what?"),
    ("/data/now!.tif", "now!.tif", "now!"),
    ("/data/2019-06-01T10:30:00.tif", "2019-06-01T10:30:00.tif", "2019-06-01T10:30:00"),
    ("S2_20190601T10:30.tif", "S2_20190601T10:30.tif", "S2_20190601T10:30"),
    # URLs
    ("s3://bucket/2019/a.tif", "a.tif", "a"),
    ("https://host/a.tif?sig=x/y&n=1", "a.tif", "a"),
    ("https://host/dir/?list", "dir", "dir"),
    ("file:///data/a.tif", "a.tif", "a"),
    ("vrt://a.tif?bands=1", "a.tif", "a"),
    # GDAL's own
    ("/vsis3/bucket/a.tif", "a.tif", "a"),
    ("/vsicurl/https://host/a.tif?sig=x%2Fy", "a.tif", "a"),
    ("/vsicurl?url=https%3A%2F%2Fhost%2Fa.tif%3Fsig%3Dx", "vsicurl", "vsicurl"),
    # archives
    ("/vsizip/pack.zip/a.tif", "a.tif", "a"),
    ("/vsizip/{https://host/pack.zip}/a.tif", "a.tif", "a"),
    ("zip://pack.zip!b.tif", "b.tif", "b"),
    ("zip+https://host/pack.zip!/in/b.tif", "b.tif", "b"),
    # containers: the file and the raster in it
    ("NETCDF:scene.nc:B04", "scene.nc:B04", "B04"),
    ('NETCDF:"/data/scene.nc":B04', "scene.nc:B04", "B04"),
    (r'NETCDF:"C:\data\scene.nc":B04', "scene.nc:B04", "B04"),
    ("netcdf:scene.nc", "scene.nc", "scene"),
    ('HDF4_EOS:EOS_GRID:"/d/MOD09.hdf":grid:sur_refl_b01', "MOD09.hdf:grid:sur_refl_b01", "sur_refl_b01"),
    ('HDF5:"file.h5"://group/data', "data", "data"),
    ("GTIFF_DIR:2:/data/a.tif", "a.tif", "a"),
    ("GTIFF_DIR:2:a.tif", "a.tif", "a"),
    ("SENTINEL2_L1C:/d/MTD.xml:10m:EPSG_32632", "MTD.xml:10m:EPSG_32632", "EPSG_32632"),
    ("", "", ""),
    ("/", "", ""),
]


@pytest.mark.parametrize(("text", "name", "stem"), NAMES)
def test_name_and_stem(text: str, name: str, stem: str) -> None:
    assert Location(text).name == name
    assert Location(text).stem == stem
    assert str(Location(text)) == text


@given(st.text())
def test_a_name_is_one_part_whatever_the_text(text: str) -> None:
    location = Location(text)
    assert not set(location.name) & set("/\\")
    assert not set(location.stem) & set("/\\")


@pytest.mark.parametrize(
    ("text", "url", "local"),
    [
        ("a.tif", False, True),
        ("/data/a.tif", False, True),
        (r"C:\data\a.tif", False, True),
        ("C:a.tif", False, True),
        ("s3://bucket/a.tif", True, False),
        ("HTTPS://host/a.tif", True, False),
        ("/vsicurl/https://host/a.tif", True, False),
        ('NETCDF:"https://host/a.nc":B04', True, False),
        ("/vsizip/pack.zip/a.tif", False, False),
        ("NETCDF:scene.nc:B04", False, False),
        ('HDF5:"file.h5"://group/data', False, False),
        (" <VRTDataset/>", False, False),
    ],
)
def test_url_or_local(text: str, url: bool, local: bool) -> None:
    assert Location(text).is_url is url
    assert Location(text).is_local is local


PUBLIC = [
    ("s3://bucket/a.tif", "s3://bucket/a.tif"),
    ("https://host/a.tif?version=2", "https://host/a.tif?version=2"),
    ("https://host/a.tif?version=2#page", "https://host/a.tif?version=2#page"),
    ("https://user:secret@host:80/a.tif", "https://host:80/a.tif"),
    ("https://user:p@ss@host/a@b.tif", "https://host/a@b.tif"),
    ("https://host/a.tif?se=1&sig=abc%3D", "https://host/a.tif"),
    ("https://host/a.tif?X-Amz-Signature=abc", "https://host/a.tif"),
    ("https://[bad/a.tif?token=x", "https://[bad/a.tif"),
    ("zip+https://user:secret@host/pack.zip!b.tif", "zip+https://host/pack.zip!b.tif"),
    ("/vsicurl/https://user:secret@host/a.tif?sig=abc", "/vsicurl/https://host/a.tif"),
    ("/vsizip/a.zip/a.tif", "/vsizip/a.zip/a.tif"),
    ("https://host/a.tif?a=1&password=abc", "https://host/a.tif"),
    ("https://host/a.tif?%73ig=abc", "https://host/a.tif"),
    ("https://host/a.tif?eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "https://host/a.tif"),
    ("https://host/a.tif#access_token=abc", "https://host/a.tif"),
    ("https://user:pa/ss?w#rd@host/a.tif", "https://host/a.tif"),
    ("https://user:pass word@host/a.tif", "https://host/a.tif"),
    ("zip+https://host/pack.zip?sig=abc!b.tif", "zip+https://host/pack.zip!b.tif"),
    ("/vsizip/{https://host/pack.zip?sig=abc}/b.tif", "/vsizip/{https://host/pack.zip}/b.tif"),
    ('NETCDF:"https://u:p@host/a.nc?token=x":b', 'NETCDF:"https://host/a.nc":b'),
    ("/vsis3/bucket/a.tif?AWS_SECRET_ACCESS_KEY=abc", "/vsis3/bucket/a.tif"),
    (
        "/vsicurl?use_head=no&url=https%3A%2F%2Fhost%2Fa.tif%3Fsig%3Dx",
        "/vsicurl?use_head=no&url=https%3A%2F%2Fhost%2Fa.tif",
    ),
    ("/vsicurl?userpwd=a:b&url=https://host/a.tif?token=x", "/vsicurl?url=https://host/a.tif"),
    ("vrt:///vsicurl/https://u:p@host/a.tif?token=x", "vrt:///vsicurl/https://host/a.tif"),
    ("PG:dbname=x user=y password=abc", "PG:dbname=x user=y password=***"),
    ("PG:dbname='x' PASSWORD = 'abc'", "PG:dbname='x' PASSWORD =***"),
    ("EEDAI:image:b?key=abc", "EEDAI:image:b?key=***"),
    ("http://host/a.tif;jsessionid=abc", "http://host/a.tif;jsessionid=***"),
    ("https://host/a.tif?AWSAccessKeyId=abc&Expires=1", "https://host/a.tif"),
    ("HTTPS://USER:abc@host/a.tif", "https://host/a.tif"),
    ("https://host/a.tif?SIG=abc", "https://host/a.tif"),
    ("https://host/a.tif?ticket=abc", "https://host/a.tif"),
    ("https://host/a.tif?pw=abc", "https://host/a.tif"),
    ("https://host/a.tif?otp=abc", "https://host/a.tif"),
    ("https://host/a.tif?login=me:abc", "https://host/a.tif"),
    ("https://host/a.tif?%2574oken=abc", "https://host/a.tif"),
    ("https://host/a.tif%3Ftoken%3Dabc", "https://host/a.tif%3Ftoken%3D***"),
    ("https://host/a.tif?next=https%3A%2F%2Fu%3Aabc%40other%2Fx", "https://host/a.tif"),
    ("https://host/a.tif?next=https%253A%252F%252Fother%252Fx%253Fsig%253Dabc", "https://host/a.tif"),
    ("https://host/a.tif?next=https%3A%2F%2Fother%2Fx", "https://host/a.tif?next=https%3A%2F%2Fother%2Fx"),
    ("https://host/a.tif?url=https://u:abc@other/x", "https://host/a.tif"),
    ("/vsicurl?proxy=http://u:abc@other&url=https://host/a.tif", "/vsicurl?url=https://host/a.tif"),
    ("/vsicurl?header.Authorization=abc&url=https://host/a.tif", "/vsicurl?url=https://host/a.tif"),
    ("<GDAL_WMS><UserPwd>me:abc</UserPwd></GDAL_WMS>", "<GDAL_WMS><UserPwd>***</UserPwd></GDAL_WMS>"),
    ('NETCDF:"a.nc":b', 'NETCDF:"a.nc":b'),
    ('HDF5:"FILE.H5"://group/data', 'HDF5:"FILE.H5"://group/data'),
]


@pytest.mark.parametrize(("text", "public"), PUBLIC)
def test_secrets_stay_here(text: str, public: str, tmp_path: Path) -> None:
    assert Location(text).public == public
    assert Location(text).href(tmp_path) == public
    assert Location.from_href(public, tmp_path).text == public


@pytest.mark.parametrize(("text", "public"), PUBLIC)
def test_secrets_stay_out_of_messages(text: str, public: str) -> None:
    shown = public_text(f"{text}: cannot be read, see {text}. Try another.")
    assert not re.search(r"abc|secret|[:=%3D]x\b|p@|ss@|rd@|b&|eyJ", shown.replace("dbname=x", ""))
    assert shown.count("host") == text.count("host") * 2


@pytest.mark.parametrize(
    "text",
    ["tcp://host:8786: cannot be reached", "https://host:80 is slow, ask me@host", "/data/t/token=a1/x",
     "see https://host/page#part.", "--token: not known", "s3://bucket: no answer, ask a@b.org", "12:30 a@b"],
)  # fmt: skip
def test_messages_without_secrets_stay(text: str) -> None:
    assert public_text(text) == text


def test_a_sentence_goes_on_after_a_url() -> None:
    assert public_text("(https://u:p@host/a.tif?sig=x). Try.") == "(https://host/a.tif). Try."


@pytest.mark.parametrize("name", ["a.tif", "ä b#1?.tif", "100%25.tif", "a:b.tif", "-", "q'\"<&.tif"])
@pytest.mark.parametrize("folder", ["", "out", "out/deep"])
def test_a_link_leads_back_to_the_file(name: str, folder: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.touch()
    href = Location(str(file)).href(tmp_path / folder)
    assert href.startswith("./" if not folder else "../")
    assert not set(href) & set(' "<>?#')
    assert Location.from_href(href, tmp_path / folder) == Location(str(file))


def test_links_of_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a:b.tif").touch()
    assert Location("a:b.tif").href(Path()) == "./a:b.tif"
    assert Location("missing.tif").href(Path()) == "missing.tif"
    assert Location.from_href("./a:b.tif", Path()) == Location("a:b.tif")
    assert Location.from_href("../a.tif", Path("out")) == Location("a.tif")


@pytest.mark.parametrize("href", ["https://[bad", "s3://bucket/a%20b.tif", "C:\\a.tif", "", "NETCDF:a.nc:b"])
def test_what_is_no_relative_link_is_taken_as_it_is(href: str) -> None:
    assert Location.from_href(href, Path("out")) == Location(href)


@pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")
@pytest.mark.parametrize("href", ["file:///data/a%20b.tif", "FILE:///data/a%20b.tif", "file:/data/a%20b.tif"])
def test_links_to_files_on_another_drive(href: str) -> None:
    assert Location.from_href(href, Path("out")) == Location("/data/a b.tif")


def test_the_text_of_a_vrt_is_no_file() -> None:
    text = "<VRTDataset>" + "<!-- -->" * 1000 + "</VRTDataset>"
    assert Location(text).href(Path()) == text
