"""What the default method sees of polygons, measured again from the results of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import run, scene
from conftest import MakePair

from geocd.errors import RasterOpenError
from geocd.pipeline.evidence import evidence_of
from geocd.review.ranking import read_polygons


def test_evidence_of_a_run(make_pair: MakePair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = scene(height=150, width=160)
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

    for path in paths:
        path.unlink()
    file.write_bytes(b"damaged")
    with pytest.raises(RasterOpenError, match="no such file"):
        evidence_of(tmp_path / "run_prob.tif", polygons, file)
