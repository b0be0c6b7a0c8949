"""Names of files that are unusual."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hostile_input import refused

from geocd.config import Settings
from geocd.errors import RasterOpenError, WeightsError
from geocd.method.weights import read_weights
from geocd.pipeline.run import detect
from geocd.raster.files import open_raster
from geocd.rerun import rerun

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
