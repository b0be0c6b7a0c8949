"""The examples do what they say: each is run as a reader would, on the demo pair."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import geopandas
import nbclient
import nbformat
import numpy as np
import pytest
import rasterio

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
#: Warnings are errors, but that rioxarray multiplies transforms as older versions of affine wanted it.
PYTHON = [
    *(sys.executable, "-W", "error", "-W", "ignore::PendingDeprecationWarning"),
    *("-W", "ignore::geocd.errors.GeocdWarning"),  # what is odd about a pair is for its user
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples") / "demo"
    run("make_demo_pair.py", folder)
    return folder


def run(script: str, folder: Path, *options: str) -> str:
    """Run an example beside the demo pair and return what it prints."""
    done = subprocess.run(
        [*PYTHON, str(EXAMPLES / script), str(folder), *options],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_first_map(demo: Path) -> None:
    printed = run("01_first_map.py", demo)
    share = re.search(r"([\d.]+)% of these changed", printed)
    assert share is not None
    with rasterio.open(demo / "first_prob.tif") as raster, rasterio.open(demo / "truth.tif") as truth:
        prob = raster.read(1)
        assert raster.crs == truth.crs
        assert raster.transform.c == truth.transform.c + 180 * 10, "the window has its place"
        planted = truth.read(1)[330:590, 180:600]
    known = np.isfinite(prob) & (planted != 255)
    assert float(share[1]) == pytest.approx(100 * (prob[np.isfinite(prob)] >= 0.5).mean(), abs=0.1)
    assert (prob[known & (planted == 1)] >= 0.5).mean() > 0.9
    assert (prob[known & (planted == 0)] >= 0.5).mean() < 0.02


def test_fewer_polygons(demo: Path) -> None:
    printed = run("02_fewer_polygons.py", demo)
    rows = re.findall(r"threshold ([\d.]+), from +(\d+) m2: +(\d+) polygons, +([\d.]+) ha", printed)
    assert len(rows) == 6
    counts = {(float(row[0]), int(row[1])): int(row[2]) for row in rows}
    areas = {(float(row[0]), int(row[1])): float(row[3]) for row in rows}
    for threshold in (0.3, 0.5, 0.7):
        assert counts[threshold, 20_000] <= counts[threshold, 0]
    assert areas[0.3, 0] > areas[0.5, 0] > areas[0.7, 0]
    written = geopandas.read_file(demo / "fewer.gpkg")
    assert len(written) == counts[0.7, 20_000], "the last choice is what is left"
    assert written.is_valid.all()
    bare = re.search(r"(\d+) of (\d+) polygons$", printed, re.MULTILINE)
    assert bare is not None
    assert 0 < int(bare[1]) < int(bare[2]), "the indices tell some from others"


def test_compare_methods(demo: Path) -> None:
    printed = run("03_compare_methods.py", demo)
    rows = re.findall(r"^(.+?) +(0\.\d+) +(0\.\d+) +(0\.\d+) +(0\.\d+)$", printed, re.MULTILINE)
    scores = {name: tuple(map(float, rest)) for name, *rest in rows}
    assert list(scores) == ["change vector analysis", "IR-MAD", "geocd"]
    for auc, _, f1, best in scores.values():
        assert auc > 0.95
        assert f1 <= best
    assert scores["geocd"][2] > 0.85


def test_batch_over_a_folder(demo: Path) -> None:
    printed = run("04_batch_folder.py", demo, "--workers", "1")
    assert "first run: 4 of 4 done, 0 failed, 4 computed" in printed
    assert "second run: 4 of 4 done, 0 failed, 0 computed" in printed
    assert len(list((demo / "archive").glob("valley_*/*_prob.tif"))) == 4
    assert (demo / "archive" / "catalog.json").exists()


def test_align_two_grids(demo: Path) -> None:
    printed = run("05_align_two_grids.py", demo)
    assert re.search(r"usable as it is: False\n.*EPSG:32633.*EPSG:32632", printed)
    assert "usable with align='grid': True" in printed
    shift = re.search(r"still lies ([\d.]+) px", printed)
    assert shift is not None
    assert 0.5 < float(shift[1]) < 1.5, "it was moved by a pixel"
    f1 = {name: float(score) for name, score in re.findall(r"align=(\w+): .* F1 ([\d.]+)", printed)}
    assert f1["shift"] > f1["grid"] > 0.8
    assert (demo / "aligned_shift_prob.tif").exists()


def test_the_notebook_shows_what_comes_out() -> None:
    """Stored with its outputs, a picture and a map among them, small enough to look at in a browser."""
    path = EXAMPLES / "demo.ipynb"
    assert path.stat().st_size < 400_000
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/jpeg", "text/html"} <= kinds
    text = path.read_text(encoding="utf-8")
    assert "Error" not in text
    assert not re.search(r"/(?:home|work|root)/", text), "no path of the machine that ran it"


@pytest.mark.slow  # what it calls is what the scripts call
def test_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs, in order; pictures and figures come out."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(EXAMPLES / "demo.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(EXAMPLES)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) == 1
    assert sum("leaflet" in "".join(output.get("data", {}).get("text/html", "")) for output in outputs) == 1
    printed = "".join(output.get("text", "") for output in outputs)
    assert "usable: True" in printed
    f1 = re.search(r"F1 ([\d.]+)", printed)
    assert f1 is not None
    assert float(f1[1]) > 0.85
