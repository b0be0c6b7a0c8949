"""``geocd sample``, ``geocd estimate`` and ``geocd refine``: from a run to areas, and to what is meant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import geopandas
import pandas as pd
import pytest
from commands import run


@pytest.fixture(name="results", scope="module")
def results_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stem of a run, made once."""
    from commands import scene
    from conftest import write_raster

    folder = tmp_path_factory.mktemp("results")
    pair = [
        write_raster(folder / f"{name}.tif", image)
        for name, image in zip(("before", "after"), scene(), strict=True)
    ]
    assert run("detect", *pair, "-o", folder / "run", "--method", "cva", "--threshold", 0.4).exit_code == 0
    return folder / "run"


def judge(sample: Path) -> pd.DataFrame:
    """Return a file of verdicts: changed is the object of the scene."""
    points = geopandas.read_file(sample)
    row, col = (4_200_000 - points.y) // 10, (points.x - 500_000) // 10
    changed = row.between(30, 59) & col.between(40, 69)
    return pd.DataFrame({"id": points["id"], "verdict": changed.map({True: "yes", False: "no"})})


def test_from_a_run_to_areas(results: Path, tmp_path: Path) -> None:
    drawn = run("sample", results, "--size", 120, "--seed", 3)
    assert drawn.exit_code == 0, drawn.output
    assert "run_sample.gpkg" in drawn.output
    assert "geocd estimate" in drawn.output
    sample = Path(f"{results}_sample.gpkg")
    assert sample.with_suffix(".qml").is_file(), "QGIS shows the points with their form"

    unjudged = run("estimate", results)
    assert unjudged.exit_code == 1
    assert "Judge more points" in unjudged.output

    judge(sample).to_csv(f"{results}_sample_verdicts.csv", index=False)
    done = run("estimate", f"{results}_prob.tif", "--csv", tmp_path / "areas.csv", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    area = report["classes"][0]["area_m2"]
    assert area["low"] <= 30 * 30 * 100 <= area["high"]
    assert report["judged"] == 120
    assert pd.read_csv(tmp_path / "areas.csv")["estimate"][0] == pytest.approx(area["estimate"])

    for judged in (sample, sample.with_suffix(".csv"), Path(f"{results}_sample_verdicts.csv")):
        content = judged.read_bytes()
        refused = run("estimate", results, "--csv", judged)
        assert refused.exit_code == 1
        assert "would replace an input" in refused.output
        assert judged.read_bytes() == content

    text = run("estimate", sample, "--interval", "wald").output
    assert "120 of 120 points judged" in text
    assert "user's accuracy" in text

    again = run("sample", results)
    assert again.exit_code == 1
    assert "exists already, maybe with verdicts" in again.output
    other = run("sample", results, "-o", tmp_path / "other.gpkg", "--json")
    assert json.loads(other.stdout)["files"] == [str(tmp_path / "other.gpkg"), str(tmp_path / "other.csv")]


def test_odd_uses_say_what_to_do(results: Path, tmp_path: Path) -> None:
    for wrong, message in (
        (("sample", tmp_path / "none"), "none_prob.tif: no such file"),
        (("sample", results, "--size", 20.5), "must be a whole number"),
        (("sample", results, "-o", tmp_path / "s.shp"), "end the name in .gpkg"),
        (("estimate", tmp_path / "none"), "Draw the points first: geocd sample"),
        (("estimate", f"{results}_sample.gpkg", "--verdicts", tmp_path / "v.csv"), "no such file"),
    ):
        result = run(*wrong)
        assert result.exit_code in (1, 2)
        assert message in result.output


def test_verdicts_in_a_spreadsheet_count(results: Path, tmp_path: Path) -> None:
    run("sample", results, "-o", tmp_path / "s.gpkg", "--size", 80)
    shutil.copy(tmp_path / "s.csv", tmp_path / "mine.csv")
    table = pd.read_csv(tmp_path / "mine.csv")
    table["verdict"] = judge(tmp_path / "s.gpkg")["verdict"]
    table.to_csv(tmp_path / "mine.csv", index=False, sep=";")
    assert "80 of 80 points judged" in run("estimate", tmp_path / "mine.csv").output


def test_verdicts_teach(results: Path, tmp_path: Path) -> None:
    first = run("refine", results, "--json", "--next", 3)
    assert first.exit_code == 0, first.output
    asked = json.loads(first.stdout)["judge_next"]
    polygons = geopandas.read_file(f"{results}_changes.gpkg")
    assert 1 <= len(asked) <= 3
    pd.DataFrame({"id": asked, "verdict": "yes"}).to_csv(f"{results}_verdicts.csv", index=False)
    done = run("refine", results, "--save-model", tmp_path / "m.json")
    assert f"{len(asked)} yes, 0 no" in done.output
    assert "run_refined.gpkg" in done.output
    assert Path(f"{results}_refined.qml").exists()
    refined = geopandas.read_file(f"{results}_refined.gpkg").set_index("id")
    assert (refined["relevance"][asked] == 1).all()
    assert len(refined) == len(polygons)
    other = run("refine", results, "-o", tmp_path / "o.gpkg", "--model", tmp_path / "m.json")
    assert f"and {len(asked)} of other pairs" in other.output

    several = run("refine", results, tmp_path / "none", "--model", tmp_path / "m.json", "--json")
    assert several.exit_code == 3
    assert len(several.stdout.splitlines()) == 1
    assert "none_changes.gpkg: no such file" in several.output
    assert "1 of 2 failed" in several.output

    for wrong, message in (
        ((results, "-o", tmp_path / "two.gpkg"), "are for one STEM"),
        (("-o", tmp_path / "o.shp"), "end the name in .gpkg"),
        (("-o", f"{results}_changes.gpkg"), "is what is read"),
        (("--save-model", f"{results}_prob.tif"), "exists already, and is no model"),
        (("--model", f"{results}.json"), "is not a model"),
    ):
        refused = run("refine", results, *wrong)
        assert refused.exit_code in (1, 2)
        assert message in refused.output


def test_without_images_the_columns_teach(results: Path, tmp_path: Path) -> None:
    for name in ("changes.gpkg", "prob.tif"):
        shutil.copy(f"{results}_{name}", tmp_path / f"moved_{name}")
    done = run("refine", tmp_path / "moved")
    assert done.exit_code == 0, done.output
    assert "note: only the columns of the polygons are compared" in done.output
    assert (tmp_path / "moved_refined.gpkg").exists()
