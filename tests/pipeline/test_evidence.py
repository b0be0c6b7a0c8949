"""What the default method sees of polygons, measured again from the results of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import run, scene
from conftest import MakePair

from geocd.errors import RasterOpenError
from geocd.pipeline.evidence import evidence_of
from geocd.report.fingerprint import sha256
from geocd.review.ranking import read_polygons


def test_evidence_of_a_run(make_pair: MakePair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = scene(height=150, width=160)
    for number, brighter in enumerate((600, 900, 1500, 2200)):
        after[:, 80 + 10 * number :, 20 * number :][:, :8, :9] += brighter
    paths = make_pair(before, after)
    assert run("detect", *paths, "-o", tmp_path / "run", "--method", "cva", "--threshold", 0.4).exit_code == 0
    polygons = list(read_polygons(tmp_path / "run_changes.gpkg").geometry)
    file = tmp_path / "run_evidence.npz"
    table = evidence_of(tmp_path / "run_prob.tif", polygons, file)
    assert len(table) == len(polygons)
    assert {"distances:ir", "distances:beyond", "shallow:before:0", "middle:after:39"} <= set(table.columns)
    assert np.isfinite(table.to_numpy()).all()
    object_of_scene = max(range(len(polygons)), key=lambda i: polygons[i].area)
    assert table["distances:ir"].idxmax() == object_of_scene

    # windows do not matter, and what is kept is read again
    content = file.read_bytes()
    monkeypatch.setattr("geocd.pipeline.evidence.BLOCK", 64)
    again = evidence_of(tmp_path / "run_prob.tif", polygons)
    np.testing.assert_allclose(again, table, rtol=1e-3, atol=1e-4)
    monkeypatch.setattr("geocd.pipeline.evidence.open_sources", None)
    kept = evidence_of(tmp_path / "run_prob.tif", polygons, file)
    np.testing.assert_array_equal(kept, table)
    assert file.read_bytes() == content
    monkeypatch.undo()

    # --refine ranks another run as geocd refine --model does, and changes nothing else
    model = tmp_path / "model.json"
    pd.DataFrame({"id": [1, 2, 3], "verdict": ["yes", "no", "no"]}).to_csv(
        tmp_path / "run_verdicts.csv", index=False
    )
    assert run("refine", tmp_path / "run", "--save-model", model).exit_code == 0
    options = ["--method", "cva", "--threshold", 0.4, "--tile-size", 128]
    for name, more in (("plain", []), ("ranked", ["--refine", model])):
        assert run("detect", *paths, "-o", tmp_path / name, *options, *more).exit_code == 0
    assert (tmp_path / "plain_prob.tif").read_bytes() == (tmp_path / "ranked_prob.tif").read_bytes()
    assert run("refine", tmp_path / "plain", "--model", model).exit_code == 0
    ranked, later = (read_polygons(tmp_path / f"{name}.gpkg") for name in ("ranked_changes", "plain_refined"))
    np.testing.assert_allclose(ranked["relevance"], later["relevance"], atol=2e-6)
    assert ranked["relevance"].nunique() > 3
    assert "relevance" not in read_polygons(tmp_path / "plain_changes.gpkg").columns
    recorded = json.loads((tmp_path / "ranked.json").read_text())["properties"]
    assert recorded["geocd:settings"]["refine"] == str(model)
    assert recorded["geocd:inputs"]["refine"] == [{"file": "model.json", "sha256": sha256(model)}]
    again = run("rerun", tmp_path / "ranked.json")
    assert "changes: identical" in again.output
    model.write_bytes(model.read_bytes().replace(b"true", b"false"))
    again = run("rerun", tmp_path / "ranked.json")
    assert "changes: different" in again.output
    refused = run("detect", *paths, "-o", tmp_path / "x", "--refine", tmp_path / "run.json")
    assert (refused.exit_code, "is not a model" in refused.output) == (1, True)

    for path in paths:
        path.unlink()
    file.write_bytes(b"damaged")
    with pytest.raises(RasterOpenError, match="no such file"):
        evidence_of(tmp_path / "run_prob.tif", polygons, file)
