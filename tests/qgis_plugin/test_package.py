"""The files of the plugin, and the zip of them."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import PLUGIN, load_file, load_plugin

import geocd

ROOT = PLUGIN.parents[1]
dates = load_plugin("dates")


def metadata() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(PLUGIN / "metadata.txt", encoding="utf-8")
    return parser["general"]


def test_metadata() -> None:
    told = metadata()
    assert told["version"] == geocd.__version__
    assert told["hasProcessingProvider"] == "yes", "or qgis_process does not load it"
    assert told["license"] == "Apache-2.0"
    assert (PLUGIN / told["icon"]).is_file()
    for needed in ("name", "qgisMinimumVersion", "description", "about", "author"):
        assert told[needed]
    for source in ("EfficientNet-Lite0", "ML Illustrated", "Apache License 2.0", "ImageNet"):
        assert source in told["about"], "the weights' sources, as geocd/data/ATTRIBUTION.md names them"


@pytest.mark.parametrize("path", sorted(PLUGIN.glob("*.py")), ids=lambda path: path.name)
def test_sources_suit_every_qgis(path: Path) -> None:
    """QGIS 3.22 brings Python 3.9; newer ones bring other versions of Qt."""
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "level", 0) == 0
        for alias in node.names
    }
    assert imported <= sys.stdlib_module_names | {"qgis", "processing"}
    if path.stem in ("options", "command", "process", "dates", "manual"):
        assert imported <= sys.stdlib_module_names, "these are tested without QGIS"


def test_the_zip_is_whole_and_repeats(tmp_path: Path) -> None:
    made = []
    for name in ("one.zip", "two.zip"):
        target = tmp_path / name
        code = [sys.executable, str(ROOT / "qgis_plugin" / "make_zip.py"), str(target)]
        subprocess.run(code, check=True, capture_output=True, timeout=60)
        made.append(target.read_bytes())
    assert made[0] == made[1]
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert archive.read("geocd/LICENSE") == (ROOT / "LICENSE").read_bytes()
    wanted = {f"geocd/{path.name}" for path in PLUGIN.iterdir() if path.is_file() and path.suffix != ".pyc"}
    assert set(names) == wanted | {"geocd/LICENSE"}


def test_the_manual_of_the_plugin_is_that_of_the_docs() -> None:
    """What the Help button opens: one page that asks nobody, with a place for every command."""
    page = load_file(ROOT / "qgis_plugin" / "make_help.py").content()
    assert "<h1>geocd in QGIS</h1>" in page
    assert "src=" not in page
    assert "](" not in page, "no link of Markdown is left"
    for command in ("detect", "check", "polygonize"):
        assert f'<a id="{command}">' in page


@pytest.mark.parametrize(
    ("names", "date"),
    [
        (["S2A_MSIL1C_20170601T101031"], "2017-06-01"),
        (["tile 5", "/data/2018-07-02/x.tif"], "2018-07-02"),
        (["valley_2015.tif", "TIFFTAG_DATETIME=2016:03:04 10:00:00"], "2016-03-04"),
        (["naip 2009"], "2009"),
        (["123420170601", "20171301", "after"], None),
    ],
)
def test_dates_of_layers(names: list[str], date: str | None) -> None:
    assert dates.date_in(names) == date


def test_dates_in_metadata_are_found_however_long_its_lines_are() -> None:
    html = f"<tr><td>DATE=2019-05-01</td><td>{'x' * 1_000_000}</td>\nacquired\nupdate 2020</tr>"
    assert dates.lines_with_dates(html) == ["DATE=2019-05-01", "update 2020"]


@pytest.mark.parametrize(
    ("of_layers", "order"),
    [
        (["2018", "2015-01-01", "2016"], (1, 0)),
        ([None, "2016", "2015"], (2, 1)),
        ([None, None, None], (2, 0)),
        (["2015", "2015"], (1, 0)),
        (["2015"], None),
        ([], None),
    ],
)
def test_before_and_after_are_proposed_by_date_and_never_the_same(
    of_layers: list[str | None], order: tuple[int, int] | None
) -> None:
    assert dates.in_order(of_layers) == order
