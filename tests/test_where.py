"""docs/where.md: each of its examples runs against the real table, and does what the page says."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import MakePair, WriteRaster, load_file
from simulated import simulated_chip

from geocd.batch import sources
from geocd.batch.sources import SourceOptions, read_pairs
from geocd.cli import polygonize as polygonize_command
from geocd.config import Settings
from geocd.errors import ConfigError
from geocd.method import devices, reference, terms
from geocd.method.distance import SceneDistance
from geocd.pipeline.run import detect
from geocd.raster import bands
from geocd.report import products
from geocd.scene.ignore import Rules
from geocd.vectorize.bandmeans import band_columns
from geocd.vectorize.formats import FORMATS
from geocd.vectorize.polygons import polygonize

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "where.md").read_text(encoding="utf-8")
#: The example of each errand, by its heading.
EXAMPLES = {
    section.partition("\n")[0]: re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    for section in PAGE.split("\n## ")[1:]
}

Run = Callable[[str], dict[str, Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run an example; what it has changed is as before after the test."""
    for module, name in (
        (reference, "published_loss"),
        (terms, "TERMS"),
        (bands, "SENSORS"),
        (products, "PRODUCTS"),
        (sources, "SOURCES"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setitem(FORMATS, ".geojsonl", None)  # type: ignore[arg-type]
    del FORMATS[".geojsonl"]

    def execute(errand: str) -> dict[str, Any]:
        (example,) = EXAMPLES[errand]
        namespace: dict[str, Any] = {}
        exec(compile(example, f"docs/where.md, {errand}", "exec"), namespace)
        return namespace

    return execute


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in a run. On a busy machine, torch's threads mostly wait for each other."""
    with devices.one_thread():
        yield


@pytest.fixture(scope="module")
def documentation() -> Any:
    """The configuration of the site, which makes tables from the code."""
    return load_file(ROOT / "docs" / "conf.py")


def test_every_errand_has_one_short_example() -> None:
    links = re.findall(r"^\| \[(.+?)\]\(#", PAGE, re.MULTILINE)
    assert [link.capitalize() for link in links] == list(EXAMPLES)
    for errand, examples in EXAMPLES.items():
        assert len(examples) == 1, errand
        lines = [line for line in examples[0].splitlines() if line.strip()]
        assert len(lines) <= 16, errand


def test_files_and_names_of_the_page_exist() -> None:
    for path in re.findall(r"`((?:geocd|training|benchmarks)/[\w/]+\.py)`", PAGE):
        assert (ROOT / path).is_file(), path
    for name in re.findall(r"`(geocd(?:\.\w+)+)`", PAGE):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_change_the_loss(run: Run, one_thread: None) -> None:
    chip = simulated_chip(size=64)
    flat = {"preset": "reference", "weights": "random", "fit": "scene", "iterations": 2}

    def curve() -> tuple[float, ...]:
        return reference.ReferenceDetector.fit([chip], Settings.from_flat(flat).resolved().method).losses

    before = curve()
    run("Change the loss")
    after = curve()
    # the last layer starts from zero: P is 1/2 everywhere, and P (1 - P) 1/4
    assert after[0] == pytest.approx(before[0] + 0.1 * 0.25, rel=1e-5)
    assert after[1] != before[1]


def test_add_a_distance(run: Run, documentation: Any, one_thread: None) -> None:
    chip = simulated_chip(size=64)

    def fitted() -> tuple[SceneDistance, torch.Tensor]:
        scene = SceneDistance.fit([chip], colour=(0, 1, 2, 3), pixel_size=None)[0]
        return scene, scene.distance(scene.scaled(chip))

    before, distance_before = fitted()
    term = run("Add a distance")["BRIGHTNESS"]
    after, distance_after = fitted()
    assert set(after.distances) - set(before.distances) == {"br"}
    maps = after.terms(after.scaled(chip))
    assert maps["br"].shape == chip.valid.shape
    assert not torch.equal(distance_after, distance_before)
    assert len(list(after.leaving_one_out(maps))) == len(after.included) == len(before.distances) + 1
    assert after.margin >= term.reach
    row = f"| `br` | difference of the mean brightness | 0.5 | 0.5 | 0.5 | 0.3 | yes | {term.reach} |"
    assert row in documentation.distances_reference()
    assert "{include} generated/distances.md" in (ROOT / "docs" / "method.md").read_text(encoding="utf-8")


def test_add_a_sensor(run: Run, documentation: Any) -> None:
    names = [f"Oa{number:02d}_reflectance" for number in (8, 17, 4, 6)]
    assert bands.named_colours(names) is None
    run("Add a sensor")
    assert bands.named_colours(names) == (0, 3, 2, 1)
    assert set(Rules.of(["water", "cloud", "vegetation"], names).positions) == {
        "water",
        "cloud",
        "vegetation",
    }
    assert band_columns(names)[:4] == ["red", "nir", "blue", "green"]
    assert "| Sentinel-3 OLCI | 8 | 6 | 4 | 17 |  |" in documentation.sensor_reference()


def test_add_a_vector_format(
    run: Run, write_raster: WriteRaster, tmp_path: Path, documentation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prob = write_raster("a_prob", np.pad(np.full((2, 3), 0.8, np.float32), 2))
    target = tmp_path / "fewer.geojsonl"
    with pytest.raises(ConfigError, match="names no vector format"):
        polygonize(prob, target, threshold=0.5)
    run("Add a vector format")
    assert polygonize(prob, target, threshold=0.5, style=b"<qgis/>").count == 1
    assert geopandas.read_file(target)["n_pixels"].tolist() == [6]
    assert target.with_suffix(".qml").exists()
    with pytest.raises(ConfigError, match=r"\.geojsonl; use one of these"):
        polygonize(prob, tmp_path / "fewer.kml", threshold=0.5)
    assert "| `.geojsonl` | GeoJSON text sequence |" in documentation.formats_reference()
    assert ".geojsonl" in load_file(ROOT / "qgis_plugin" / "make_choices.py").content()
    try:
        command = importlib.reload(polygonize_command).polygonize  # its help is made when it is imported
        assert ".geojsonl" in CliRunner().invoke(command, ["--help"]).output
    finally:
        monkeypatch.undo()
        importlib.reload(polygonize_command)


def test_add_a_file_of_the_run(run: Run, make_pair: MakePair, tmp_path: Path, documentation: Any) -> None:
    """Overwriting, rerun and upload of a further product: tests/report/test_products.py."""
    run("Add a file of the run")
    before = np.random.default_rng(0).uniform(0, 100, (3, 64, 64))
    after = before.copy()
    after[:, 20:40, 20:40] += 80
    settings = Settings.from_flat({"method": "cva"})
    files, record = detect(*make_pair(before, after), tmp_path / "valley", settings=settings)
    assert json.loads(files["summary"].read_text())["changed_share"] == record.summary.changed_share
    asset = json.loads(files["item"].read_text(encoding="utf-8"))["assets"]["summary"]
    assert asset["href"] == "./valley_summary.json"
    assert asset["file:size"] == (tmp_path / "valley_summary.json").stat().st_size
    assert "| `valley_summary.json` | the result in numbers |" in documentation.products_reference()


def test_add_a_source_of_pairs(run: Run, tmp_path: Path) -> None:
    for name in ("a_before.tif", "a_after.tif", "b_before.tif", "b_after.tif"):
        (tmp_path / name).touch()
    run("Add a source of pairs")
    items = read_pairs(str(tmp_path), tmp_path / "out", SourceOptions())
    assert [item.id for item in items] == ["a", "b"]
    assert items[0].after == f"{tmp_path}/a_after.tif"
    with pytest.raises(ConfigError, match=r"--max-cloud: only for a STAC API .* is read as a folder"):
        read_pairs(str(tmp_path), tmp_path / "out", SourceOptions(max_cloud=3.0))
