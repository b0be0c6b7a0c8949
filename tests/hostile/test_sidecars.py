"""What lies beside a raster: its masks and overviews pass the checks that it passes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from hostile_input import Ear, WriteRaster, refused, vrt
from rasterio.enums import MaskFlags

from geocd.errors import RasterOpenError
from geocd.raster.files import open_raster

#: Makes GDAL use a VRT as a mask.
MASK = "<Metadata><MDI key='INTERNAL_MASK_FLAGS_1'>2</MDI></Metadata>"
CODE = (
    "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
    "<PixelFunctionCode><![CDATA[\nimport pathlib\npathlib.Path('{}').touch()\n"
    "def f(*args, **kwargs): pass\n]]></PixelFunctionCode>"
)
#: Fetched when GDAL opens it.
WMTS = "<GDAL_WMTS><GetCapabilitiesUrl>{}</GetCapabilitiesUrl><Layer>x</Layer></GDAL_WMTS>"


def mask(path: Path, source: object, **parts: str) -> Path:
    """Write a VRT that GDAL takes for a mask."""
    vrt(path, source, **parts)
    path.write_text(path.read_text().replace("<VRTRasterBand", f"{MASK}<VRTRasterBand", 1))
    return path


def used(path: object) -> None:
    """Use all that lies beside a raster: its mask and its overviews."""
    with open_raster(str(path)) as dataset:
        dataset.read_masks(1)
        dataset.read(1, out_shape=(8, 8))


@pytest.fixture
def image(write_raster: WriteRaster) -> Path:
    """Write a raster."""
    return write_raster("x", np.arange(64 * 64).reshape(64, 64).astype(np.uint8))


@pytest.mark.parametrize(
    "name",
    ["x.tif.msk", "x.tif.MSK", "x.tif.mSk", "X.TIF.msk", "x.tif.ovr", "x.tif.OVR", "x.tif.msk.ovr",
     "x.tif.ovr.msk"],
)  # fmt: skip
def test_a_mask_or_overviews_that_reach_the_network(name: str, image: Path, ear: Ear, tmp_path: Path) -> None:
    if name.count(".") == 3:
        shutil.copy(image, tmp_path / name.rpartition(".")[0])
    mask(tmp_path / name, f"/vsicurl/{ear.url}")
    message = "refers to a source that is not a local file"
    assert message in refused("check", image, image)
    for path in (vrt(tmp_path / "outer.vrt", "x.tif", relative=1), f"vrt://{image}?bands=1", f"file://{image}",
                 f"GTIFF_DIR:1:{image}"):  # fmt: skip
        with pytest.raises(RasterOpenError, match=message):
            used(path)
    assert ear.heard == 0


@pytest.mark.parametrize("name", ["x.vrt.msk", "x.vrt.ovr", "x.png.msk", "x.png.ovr", "x.jp2.msk"])
def test_sidecars_of_other_formats(name: str, image: Path, ear: Ear, tmp_path: Path) -> None:
    path = tmp_path / name.rpartition(".")[0]
    if path.suffix == ".vrt":
        vrt(path, "x.tif", relative=1)
    else:
        rasterio.shutil.copy(image, path, driver={".png": "PNG", ".jp2": "JP2OpenJPEG"}[path.suffix])
    mask(tmp_path / name, f"/vsicurl/{ear.url}")
    with pytest.raises(RasterOpenError, match="not a local file"):
        used(path)
    assert ear.heard == 0


def test_sidecars_in_the_other_inputs(image: Path, ear: Ear, tmp_path: Path) -> None:
    plain = tmp_path / "plain.tif"
    shutil.copy(image, plain)
    mask(tmp_path / "x.tif.msk", f"/vsicurl/{ear.url}")
    message = "refers to a source that is not a local file"
    other = tmp_path / "other.tif"
    shutil.copy(image, other)
    with rasterio.open(other, "r+") as dataset:
        dataset.write(255 - dataset.read())
    out = tmp_path / "y"
    assert message in refused("detect", plain, other, "--valid", image, "-o", out, "--method", "cva")
    assert message in refused("check", plain, other, "--valid", image)
    prob = tmp_path / "prob.tif"
    with rasterio.open(plain) as dataset:
        profile = dataset.profile | {"dtype": "float32"}
    with rasterio.open(prob, "w", **profile) as dataset:
        dataset.write(np.zeros((1, 64, 64), np.float32))
    assert message in refused("evaluate", prob, image)
    assert message in refused("evaluate", image, prob)
    assert message in refused("polygonize", image)
    assert ear.heard == 0


@pytest.mark.parametrize("content", [WMTS, "<GDAL_WMS/>", "no raster", ""])
def test_a_sidecar_that_is_an_address(content: str, image: Path, ear: Ear, tmp_path: Path) -> None:
    (tmp_path / "x.tif.msk").write_text(content.format(ear.url))
    message = refused("check", image, image)
    assert f"{image}: the mask or overviews beside it cannot be opened. {image}.msk: not a raster" in message
    assert ear.heard == 0


@pytest.mark.parametrize("name", ["x.tif.msk", "x.tif.ovr"])
def test_the_code_of_a_sidecar_does_not_run(
    name: str, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    monkeypatch.setenv("GEOCD_REMOTE_SOURCES", "YES")  # which says nothing of code
    mark = tmp_path / "was here"
    mask(tmp_path / name, image, band='subClass="VRTDerivedRasterBand"', inside=CODE.format(mark))
    assert "is not allowed, because it may run code" in refused("check", image, image)
    assert not mark.exists()


def test_the_code_of_a_sidecar_on_a_server_does_not_run(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    mark = tmp_path / "was here"
    mask(tmp_path / "x.tif.msk", "x.tif", band='subClass="VRTDerivedRasterBand"', inside=CODE.format(mark))

    command = [
        sys.executable,
        "-u",
        "-m",
        "http.server",
        "0",
        "--bind",
        "127.0.0.1",
        "--directory",
        str(tmp_path),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        port = re.search(r"port (\d+)", server.stdout.readline())
        assert port is not None
        with pytest.raises(RasterOpenError, match="may run code"):
            used(f"http://127.0.0.1:{port[1]}/x.tif")
        server.terminate()
    assert not mark.exists()


def test_overviews_that_are_named_in_another_sidecar(image: Path, ear: Ear, tmp_path: Path) -> None:
    vrt(tmp_path / "small.vrt", f"/vsicurl/{ear.url}")
    pam = '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{}</MDI></Metadata></PAMDataset>'
    for name in (":::BASE:::small.vrt", tmp_path / "small.vrt"):
        (tmp_path / "x.tif.aux.xml").write_text(pam.format(name))
        with pytest.raises(RasterOpenError, match="not a local file"):
            used(image)
    (tmp_path / "x.tif.aux.xml").write_text(pam.format(image))
    with pytest.raises(RasterOpenError, match="include each other"):
        used(image)
    (tmp_path / "x.tif.aux.xml").write_text(pam.format("not/there.ovr"))
    used(image)
    assert ear.heard == 0


@pytest.mark.parametrize("folder", ["", "d/", "./e/"])
@pytest.mark.parametrize("name", ["x.tif.msk", "X.tif.MsK", "x.tif.ovr"])
def test_sidecars_in_archives(name: str, folder: str, image: Path, ear: Ear, tmp_path: Path) -> None:
    hidden = mask(tmp_path / "hidden", f"/vsicurl/{ear.url}")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as pack, tarfile.open(tmp_path / "p.tar", "w") as tar:
        for path, member in ((image, "x.tif"), (hidden, name)):
            pack.write(path, folder + member)
            tar.add(path, folder + member)
    inside = folder.removeprefix("./") + "x.tif"
    for location in (f"/vsizip/{tmp_path}/p.zip/{inside}", f"/vsizip/{{{tmp_path}/p.zip}}/{inside}",
                     f"zip://{tmp_path}/p.zip!{inside}", f"zip://{tmp_path}/p.zip!/{inside}",
                     f"/vsitar/{tmp_path}/p.tar/{inside}", f"tar://{tmp_path}/p.tar!/{inside}"):  # fmt: skip
        with pytest.raises(RasterOpenError):
            used(location)
    assert ear.heard == 0


def test_what_lies_beside_an_unusual_path_is_not_used(image: Path, ear: Ear, tmp_path: Path) -> None:
    mask(tmp_path / "x.tif.msk", f"/vsicurl/{ear.url}")
    for location in (f"/vsicached?file={image}", f"/vsisubfile/0_99999,{image}"):
        with open_raster(location) as dataset:
            assert dataset.mask_flag_enums == ([MaskFlags.all_valid],)
    assert ear.heard == 0


def test_an_honest_mask_and_honest_overviews_are_used(image: Path, tmp_path: Path) -> None:
    separate = rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False, TIFF_USE_OVR=True)
    with separate, rasterio.open(image, "r+") as dataset:
        dataset.build_overviews([2, 4])
        dataset.write_mask(np.eye(64, dtype=bool))
    assert (tmp_path / "x.tif.msk").is_file()
    assert (tmp_path / "x.tif.ovr").is_file()
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as pack:
        for name in ("x.tif", "x.tif.msk", "x.tif.ovr"):
            pack.write(tmp_path / name, name)
    outer = vrt(tmp_path / "outer.vrt", "x.tif", relative=1)
    shutil.copy(tmp_path / "x.tif.msk", tmp_path / "outer.vrt.msk")
    local_mask = tmp_path / "y.tif"
    shutil.copy(image, local_mask)
    mask(tmp_path / "y.tif.msk", "x.tif")  # a VRT of local files
    for path in (image, f"zip://{tmp_path}/p.zip!x.tif", f"/vsizip/{tmp_path}/p.zip/x.tif", outer):
        with open_raster(str(path)) as dataset:
            assert (dataset.read_masks(1) == np.eye(64) * 255).all()
            if "vrt" not in str(path):
                assert dataset.overviews(1) == [2, 4]
    (tmp_path / "x.aux").write_text("of LaTeX, say")
    with open_raster(str(image)) as dataset:
        assert dataset.mask_flag_enums == ([MaskFlags.per_dataset],)
