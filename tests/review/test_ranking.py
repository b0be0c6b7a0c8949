"""Verdicts in files to ranked polygons in a file."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from geocd.errors import VerdictError
from geocd.review.ranking import refine


@pytest.fixture(name="changes")
def changes_fixture(tmp_path: Path) -> Path:
    """Forty polygons; those of the second half became greener."""
    rng = np.random.default_rng(0)
    greener = np.arange(40) >= 20
    frame = geopandas.GeoDataFrame(
        {
            "id": np.arange(1, 41),
            "area_m2": 100.0,
            "p_mean": rng.uniform(0.5, 1, 40),
            "verdict": pd.Series([None] * 40, dtype="object"),
            "before_ndvi": rng.uniform(0.2, 0.3, 40),
            "after_ndvi": np.where(greener, 0.7, 0.25) + rng.normal(0, 0.05, 40),
        },
        geometry=[shapely.box(i, 0, i + 1, 1) for i in range(40)],
        crs="EPSG:32633",
    )
    frame.to_file(tmp_path / "c.gpkg", layer="changes")
    return tmp_path / "c.gpkg"


def verdicts(path: Path, words: dict[int, str]) -> Path:
    pd.DataFrame({"id": list(words), "verdict": list(words.values())}).to_csv(path, index=False)
    return path


def test_columns_and_order(changes: Path, tmp_path: Path) -> None:
    report = refine(changes, tmp_path / "r.gpkg")
    frame, before = geopandas.read_file(tmp_path / "r.gpkg", layer="changes"), geopandas.read_file(changes)
    assert list(frame.columns) == [*before.columns.drop("geometry"), "relevance", "judge_next", "geometry"]
    np.testing.assert_array_equal(frame["relevance"].argsort(), before["p_mean"].argsort())
    assert (report.polygons, report.yes, report.no, len(report.judge_next)) == (40, 0, 0, 10)
    order = frame.dropna(subset="judge_next").sort_values("judge_next")
    assert order["id"].tolist() == list(report.judge_next)
    first = (tmp_path / "r.gpkg").read_bytes()
    refine(changes, tmp_path / "again.gpkg")
    assert len((tmp_path / "again.gpkg").read_bytes()) == len(first)


def test_verdicts_rank_the_others(changes: Path, tmp_path: Path) -> None:
    words = {1: "no", 2: "no", 3: "no", 4: "unsure", 21: "yes", 22: "yes", 23: "yes"}
    report = refine(changes, tmp_path / "r.gpkg", verdicts=verdicts(tmp_path / "v.csv", words))
    frame = geopandas.read_file(tmp_path / "r.gpkg").set_index("id")
    assert (report.yes, report.no, report.unsure) == (3, 3, 1)
    assert frame["relevance"][[21, 22, 23]].tolist() == [1, 1, 1]
    assert frame["relevance"][[1, 2, 3]].tolist() == [0, 0, 0]
    assert not set(words) & set(report.judge_next)
    start = refine(changes, tmp_path / "s.gpkg") and geopandas.read_file(tmp_path / "s.gpkg").set_index("id")
    gain = frame["relevance"] - start["relevance"]
    assert gain[24:40].mean() > gain[5:20].mean() + 0.04


def test_verdicts_go_on_from_one_time_to_the_next(changes: Path, tmp_path: Path) -> None:
    refine(changes, tmp_path / "r.gpkg", verdicts=verdicts(tmp_path / "v.csv", {1: "no"}))
    frame = geopandas.read_file(tmp_path / "r.gpkg", layer="changes")
    frame.loc[1, "verdict"] = "yes"  # as in QGIS
    frame["note"] = "mine"
    frame.to_file(tmp_path / "r.gpkg", layer="changes")
    report = refine(changes, tmp_path / "r.gpkg", verdicts=verdicts(tmp_path / "v.csv", {3: "no"}))
    again = geopandas.read_file(tmp_path / "r.gpkg")
    assert again["verdict"].tolist()[:3] == ["no", "yes", "no"]
    assert (again["note"] == "mine").all()
    assert (report.yes, report.no) == (1, 2)


def test_a_model_from_another_pair(changes: Path, tmp_path: Path) -> None:
    words = {i: "yes" if i > 20 else "no" for i in range(11, 31)}
    refine(
        changes,
        tmp_path / "r.gpkg",
        verdicts=verdicts(tmp_path / "v.csv", words),
        save_model=tmp_path / "m.json",
    )
    report = refine(changes, tmp_path / "other.gpkg", models=[tmp_path / "m.json"])
    assert (report.yes, report.borrowed) == (0, 20)
    frame = geopandas.read_file(tmp_path / "other.gpkg")
    assert frame["relevance"][20:].mean() > frame["relevance"][:20].mean() + 0.3


def test_no_polygon_at_all(changes: Path, tmp_path: Path) -> None:
    geopandas.read_file(changes).head(0).to_file(tmp_path / "e.gpkg", layer="changes")
    report = refine(tmp_path / "e.gpkg", tmp_path / "r.gpkg")
    assert (report.polygons, report.judge_next) == (0, ())
    assert "relevance" in geopandas.read_file(tmp_path / "r.gpkg").columns


def test_verdicts_of_another_run_are_matched_by_place(changes: Path, tmp_path: Path) -> None:
    """With other settings ids are those of other polygons, and polygons merge."""
    ids, words, x = [9, 1, 2, 3, 4], ["yes", "no", "yes", "no", "unsure"], [0.5, 20.5, 30.2, 31.8, 77.0]
    judged = pd.DataFrame({"id": ids, "verdict": words, "x": x, "y": 0.5})
    judged.to_csv(tmp_path / "v.csv", index=False)
    other = geopandas.read_file(changes).drop(index=range(31, 40))
    other.loc[30, "geometry"] = shapely.box(30, 0, 40, 1)
    other["id"] = range(101, 132)
    other.to_file(tmp_path / "o.gpkg", layer="changes")
    report = refine(tmp_path / "o.gpkg", tmp_path / "r.gpkg", verdicts=tmp_path / "v.csv")
    verdict = geopandas.read_file(tmp_path / "r.gpkg").set_index("id")["verdict"].dropna()
    assert verdict.to_dict() == {101: "yes", 121: "no"}
    assert (report.yes, report.no, report.elsewhere, report.contradicted) == (1, 1, 1, 1)
    # the refined polygons of that run say the same of those of this one
    report = refine(changes, tmp_path / "s.gpkg", verdicts=tmp_path / "r.gpkg")
    verdict = geopandas.read_file(tmp_path / "s.gpkg").set_index("id")["verdict"].dropna()
    assert (verdict.to_dict(), report.elsewhere) == ({1: "yes", 21: "no"}, 0)
    judged["x"] += 1000
    judged.to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(VerdictError, match="none of the 5 places judged lies on a polygon of this run"):
        refine(changes, tmp_path / "t.gpkg", verdicts=tmp_path / "v.csv")


def test_what_does_not_belong_together(changes: Path, tmp_path: Path) -> None:
    geopandas.read_file(changes).head(5).to_file(tmp_path / "few.gpkg", layer="changes")
    refine(tmp_path / "few.gpkg", tmp_path / "r.gpkg")
    old = (tmp_path / "r.gpkg").read_bytes()
    with pytest.raises(VerdictError, match=r"has other polygons than .*it is of an earlier run"):
        refine(changes, tmp_path / "r.gpkg")
    assert (tmp_path / "r.gpkg").read_bytes() == old
    with pytest.raises(VerdictError, match="verdicts on id 77, which the layer lacks"):
        refine(changes, tmp_path / "x.gpkg", verdicts=verdicts(tmp_path / "v.csv", {77: "no"}))
    with pytest.raises(VerdictError, match=r"no such file\. Make it first"):
        refine(tmp_path / "none.gpkg", tmp_path / "x.gpkg")
    geopandas.read_file(changes)[["id", "geometry"]].to_file(tmp_path / "foreign.gpkg", layer="changes")
    with pytest.raises(VerdictError, match="has no column p_mean"):
        refine(tmp_path / "foreign.gpkg", tmp_path / "x.gpkg")
    assert not (tmp_path / "x.gpkg").exists()
