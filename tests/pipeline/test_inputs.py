"""No output replaces an input, however it is spelt."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import rasterio.shutil
from commands import MakePair, run, scene
from conftest import write_mask

from geocd.location import Location
from geocd.raster.files import local_files


@pytest.fixture
def pair(make_pair: MakePair) -> tuple[Path, Path]:
    return make_pair(*scene(height=64, width=72))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def plain(path: Path) -> str:
    return str(path)


def dotted(path: Path) -> str:
    return f"{path.parent}/./../{path.parent.name}//{path.name}"


def relative(path: Path) -> str:
    return os.path.relpath(path)


def link(path: Path) -> str:
    path.with_name("link.tif").symlink_to(path)
    return str(path.with_name("link.tif"))


def linked_folder(path: Path) -> str:
    (path.parent / "again").symlink_to(path.parent)
    return str(path.parent / "again" / path.name)


def hard_link(path: Path) -> str:
    os.link(path, path.with_name("hard.tif"))
    return str(path.with_name("hard.tif"))


def uri(path: Path) -> str:
    return f"file://{path}"


def vrt(path: Path) -> str:
    rasterio.shutil.copy(path, path.with_name("a.vrt"), driver="VRT")
    return str(path.with_name("a.vrt"))


def vrt_of_vrt(path: Path) -> str:
    text = Path(vrt(path)).read_text()
    path.with_name("b.vrt").write_text(text.replace(f">{path.name}<", ">a.vrt<"))
    return str(path.with_name("b.vrt"))


def shorthand(path: Path) -> str:
    return f"vrt://{path}?bands=1,2,3"


def archive(path: Path) -> str:
    inner = path.with_name("inner.tif")
    path.rename(inner)
    with zipfile.ZipFile(path, "w") as content:
        content.write(inner, "inner.tif")
    inner.unlink()
    return f"/vsizip/{{{path}}}/inner.tif"


def directory(path: Path) -> str:
    return f"GTIFF_DIR:1:{path}"


SPELLINGS = [plain, dotted, relative, link, linked_folder, hard_link, uri, vrt, vrt_of_vrt, shorthand,
             archive, directory]  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("options", [(), ("--overwrite",), ("--resume", "--overwrite")])
def test_an_output_that_would_replace_an_input_is_refused(
    spelling: Callable[[Path], str], options: tuple[str, ...], pair: tuple[Path, Path], out: Path
) -> None:
    before, after = pair
    path = out / "y_prob.tif"
    shutil.copy(before, path)
    source = spelling(path)
    content = path.read_bytes()
    names = sorted(out.rglob("*"))
    refused = run("detect", source, after, "-o", out / "y", "--method", "cva", *options)
    assert refused.exit_code == 1, refused.output
    assert f"{path}: would replace an input of this run" in refused.output
    assert "Choose another --output" in refused.output
    assert path.read_bytes() == content
    assert sorted(out.rglob("*")) == names  # nothing was begun
    done = run("detect", source, after, "-o", out / "z", "--method", "cva")  # the remedy
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("which", ["after", "--valid", "--weights"])
def test_every_input_counts(which: str, pair: tuple[Path, Path], out: Path) -> None:
    before, after = map(str, pair)
    path = out / ("y.json" if which == "--weights" else "y_prob.tif")
    if which == "--valid":
        write_mask(path, pair[1])
    else:
        shutil.copy(after, path)
    content = path.read_bytes()
    arguments = [before, str(path) if which == "after" else after, "-o", out / "y", "--overwrite"]
    if which != "after":
        arguments += [which, path]
    refused = run("detect", *arguments)
    assert refused.exit_code == 1, refused.output
    assert f"{path}: would replace an input of this run" in refused.output
    assert path.read_bytes() == content


def test_polygons_do_not_replace_their_raster(pair: tuple[Path, Path], out: Path) -> None:
    assert run("detect", *pair, "-o", out / "y", "--method", "cva").exit_code == 0
    path = out / "y.gpkg"
    rasterio.shutil.copy(out / "y_prob.tif", out / "copy.tif", driver="GTiff")
    (out / "copy.tif").rename(path)
    content = path.read_bytes()
    refused = run(
        "polygonize", path, "-o", out / "../out/y.gpkg", "--no-bands", "--threshold", 0.5, "--overwrite"
    )
    assert refused.exit_code == 1, refused.output
    assert "y.gpkg: would replace an input of this run" in refused.output
    assert path.read_bytes() == content


def test_a_batch_does_not_replace_its_list(out: Path) -> None:
    path = out / "catalog.json"
    path.write_text('{"type": "FeatureCollection", "features": []}')
    refused = run("batch", path, out)
    assert refused.exit_code == 1, refused.output
    assert "catalog.json: would replace an input of this run" in refused.output
    assert path.read_text() == '{"type": "FeatureCollection", "features": []}'


def test_the_files_of_a_raster(pair: tuple[Path, Path]) -> None:
    source = vrt_of_vrt(pair[0])
    assert {path.name for path in local_files(source)} == {"b.vrt", "a.vrt", pair[0].name}


@pytest.mark.parametrize(
    "text",
    ["https://host/{}", "/vsicurl/https://host/{}", "s3://bucket/{}", "/vsis3/{}",
     "/vsizip//vsicurl/{}/a.tif", "gone.tif", "a\0b", "x" * 5000],
)  # fmt: skip
def test_what_is_no_local_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    assert Location(text.format(tmp_path / "a.tif")).file is None
