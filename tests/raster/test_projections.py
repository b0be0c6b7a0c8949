"""The data of another PROJ: one message at the start, whatever the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import MakePair, scene
from hostile_input import refused

import geocd
from geocd.check import check_pair
from geocd.errors import ProjectionDataError
from geocd.evaluate import evaluate_files
from geocd.raster import projections
from geocd.raster.files import open_raster
from geocd.raster.pair import Pair


@pytest.fixture
def other_proj(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variable as QGIS does, in a process whose PROJ has looked at it before."""
    monkeypatch.setattr(projections, "_first_problem", lambda *_: "rasterio cannot look up EPSG:32633 (x).")
    monkeypatch.delenv("PROJ_DATA", raising=False)
    monkeypatch.setenv("PROJ_LIB", "/usr/share/qgis/proj")


@pytest.mark.parametrize(
    "command",
    [
        "detect a.tif b.tif",
        "check a.tif b.tif",
        "evaluate a.tif b.tif",
        "polygonize a.tif",
        "batch p.csv out",
    ],
)
@pytest.mark.usefixtures("other_proj")
def test_every_command_says_so_first(command: str) -> None:
    message = refused(*command.split())
    assert "names the data of another PROJ: PROJ_LIB (/usr/share/qgis/proj)." in message
    assert "Unset it and try again: unset PROJ_LIB (Windows: set PROJ_LIB=)" in message


@pytest.mark.usefixtures("other_proj")
def test_every_entry_point_of_python_says_so_first(tmp_path: Path) -> None:
    from geocd.batch.pairs import Item
    from geocd.batch.run import run

    for call in (
        lambda: geocd.detect("a.tif", "b.tif"),
        lambda: check_pair("a.tif", "b.tif"),
        lambda: evaluate_files("a.tif", "b.tif"),
        lambda: Pair("a.tif", "b.tif"),
        lambda: open_raster("a.tif"),
        lambda: run([Item("p", "a.tif", "b.tif")], tmp_path / "out"),
    ):
        with pytest.raises(ProjectionDataError, match=r"PROJ_LIB \(/usr/share/qgis/proj\)"):
            call()
    assert not list(tmp_path.iterdir())


def test_real_data_of_another_proj(make_pair: MakePair, tmp_path: Path) -> None:
    """In a process of its own: PROJ looks at the variable once."""
    before, after = make_pair(*scene(height=64, width=72))
    folder = tmp_path / "proj"
    folder.mkdir()
    (folder / "proj.db").write_bytes(b"")
    clean = {key: value for key, value in os.environ.items() if key not in projections.VARIABLES}
    done = subprocess.run(
        [sys.executable, "-m", "geocd", "check", before, after],
        env=clean | {"PROJ_LIB": str(folder)}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the environment names the data of another PROJ")
    assert f"PROJ_LIB ({folder})" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_right_data_are_no_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROJ_DATA", str(tmp_path))  # PROJ has looked at it before
    projections.check_projections()
    monkeypatch.delenv("PROJ_DATA")
    monkeypatch.delenv("PROJ_LIB", raising=False)
    monkeypatch.setattr(projections, "_first_problem", lambda *_: pytest.fail("looked at nothing"))
    projections.check_projections()
