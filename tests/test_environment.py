"""geocd env: complete on a sound machine, and common problems named with their remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio
from click.testing import CliRunner

import geocd
from geocd.cli import main
from geocd.environment import inspect_environment

COMMAND = [sys.executable, "-c", "from geocd.cli import main; main(prog_name='geocd')", "env", "--json"]


def test_a_sound_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_NUM_THREADS", "2")
    monkeypatch.setenv("GDAL_HTTP_USERPWD", "me:secret")
    found = inspect_environment()
    assert found.troubles == []
    assert found.versions["geocd"] == geocd.__version__
    assert found.versions["GDAL"] == rasterio.__gdal_version__
    assert {"python", "torch", "PROJ", "GDAL of pyogrio", "PROJ of pyproj", "dask"} <= found.versions.keys()
    assert found.devices[0]["name"] == "cpu"
    assert found.processors >= 1
    assert found.memory is None or found.memory > 100
    assert found.variables["GDAL_NUM_THREADS"] == "2"
    assert found.variables["GDAL_HTTP_USERPWD"] == "(not shown)"


def test_the_table_and_json_say_the_same() -> None:
    table = CliRunner().invoke(main, ["env"], catch_exceptions=False)
    found = json.loads(CliRunner().invoke(main, ["env", "--json"], catch_exceptions=False).output)
    assert table.exit_code == 0
    lines = table.output.splitlines()
    for name, version in found["versions"].items():
        assert any(line.split()[-1] == version for line in lines if line.startswith(name))
    assert table.output.endswith("none found\n")


@pytest.mark.parametrize("name", ["PROJ_DATA", "PROJ_LIB"])
def test_data_of_another_proj(name: str, tmp_path: Path) -> None:
    """In a process of its own: PROJ looks at the variable once."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PROJ_DATA", "PROJ_LIB")}
    done = subprocess.run(
        COMMAND, env=clean | {name: str(tmp_path)}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1, done.stderr
    troubles = json.loads(done.stdout)["troubles"]
    assert f"{name} is {tmp_path}, where there is no proj.db" in troubles[0]
    assert f"unset {name}" in troubles[0]


def test_a_damaged_proj_db(tmp_path: Path) -> None:
    (tmp_path / "proj.db").write_bytes(b"")
    done = subprocess.run(
        COMMAND, env={**os.environ, "PROJ_DATA": str(tmp_path)}, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    troubles = json.loads(done.stdout)["troubles"]
    assert any("rasterio cannot look up EPSG:32633" in text and str(tmp_path) in text for text in troubles)


def test_data_of_another_gdal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GDAL_DATA", str(tmp_path))
    result = CliRunner().invoke(main, ["env"], catch_exceptions=False)
    assert result.exit_code == 1
    assert f"GDAL_DATA is {tmp_path}, where there is no gdalvrt.xsd" in result.output
