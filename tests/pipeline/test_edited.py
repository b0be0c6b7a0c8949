"""What a reviewer has edited survives the next run, and the next batch."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import pytest
from batch_folder import invoke
from commands import scene

from geocd.pipeline.edited import keep_edited
from geocd.report.fingerprint import sha256


def review(path: Path) -> None:
    layer = geopandas.read_file(path, layer="changes")
    layer["verdict"] = "yes"
    layer.to_file(path, layer="changes")


def edited(folder: Path, stem: str) -> list[Path]:
    return [
        path for path in folder.iterdir() if re.fullmatch(rf"{stem}\.edited-\d{{8}}(-\d)?\.gpkg", path.name)
    ]


@pytest.mark.parametrize("min_area", [0, 50])  # the same batch, and one with another configuration
def test_layers_that_a_reviewer_edited_are_kept(
    min_area: int, write_pairs: Callable[..., Path], tmp_path: Path, cluster: str
) -> None:
    out = tmp_path / "out"
    command = ["batch", write_pairs(2), out, "--method", "cva", "--scheduler", cluster, "--merge"]
    assert invoke(*command).exit_code == 0
    untouched = (out / "p1" / "p1_changes.gpkg").read_bytes()
    for path in (out / "p0" / "p0_changes.gpkg", out / "changes.gpkg"):
        review(path)
    again = invoke(*command, "--min-area", min_area)
    assert again.exit_code == 0, again.output
    for folder, stem in ((out / "p0", "p0_changes"), (out, "changes")):
        (kept,) = edited(folder, stem)
        assert set(geopandas.read_file(kept, layer="changes").verdict) == {"yes"}
        assert geopandas.read_file(folder / f"{stem}.gpkg", layer="changes").verdict.isna().all()
    assert edited(out / "p1", "p1_changes") == []
    if min_area == 0:
        assert (out / "p1" / "p1_changes.gpkg").read_bytes() == untouched


def test_another_run_of_the_same_outputs_keeps_verdicts(
    make_pair: Callable[..., Any], tmp_path: Path
) -> None:
    pair = make_pair(*scene())
    command = ["detect", *pair, "-o", tmp_path / "run", "--method", "cva", "--overwrite"]

    def again(*more: object) -> list[Path]:
        result = invoke(*command, *more)
        assert result.exit_code == 0, result.output
        return edited(tmp_path, "run_changes")

    layer = tmp_path / "run_changes.gpkg"
    assert again() == []
    assert again("--min-area", 200) == [], "nobody has edited it"
    review(layer)
    (kept,) = again()
    assert set(geopandas.read_file(kept, layer="changes").verdict) == {"yes"}
    assert geopandas.read_file(layer, layer="changes").verdict.isna().all()
    assert again() == [kept]
    (tmp_path / "run.json").unlink()  # no checksums: verdicts alone are worth a copy
    review(layer)
    assert len(again()) == 2
    assert not list(tmp_path.glob("run_prob.edited*"))


def test_a_second_edit_of_the_day_replaces_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.gpkg"
    for text in ("first", "second"):
        path.write_text(text)
        keep_edited(tmp_path, {"a.gpkg": None, "gone.gpkg": None})
    assert sorted(kept.read_text() for kept in edited(tmp_path, "a")) == ["first", "second"]
    path.write_text("third")
    assert keep_edited(tmp_path, {"a.gpkg": sha256(path)}) == []
    assert path.read_text() == "third"
    assert f"{path} was edited since geocd wrote it; it is kept as a.edited-" in caplog.text
