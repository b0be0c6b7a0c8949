"""``geocd evaluate``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from commands import run


def test_evaluate_uses_the_runs_own_threshold(pair: tuple[Path, Path], out: Path) -> None:
    run("detect", *pair, "-o", out / "run", "--method", "cva", "--threshold", "0.7")
    with rasterio.open(out / "run_prob.tif") as dataset:
        profile = dataset.profile | {"dtype": "uint8", "nodata": 255, "driver": "GTiff"}
        prob = dataset.read(1)
    truth = np.zeros((1, *prob.shape), np.uint8)
    truth[0, 30:60, 40:70] = 1
    for key in ("blockxsize", "blockysize", "tiled", "predictor", "compress", "interleave"):
        profile.pop(key, None)
    with rasterio.open(out / "truth.tif", "w", **profile) as dataset:
        dataset.write(truth)
    result = run("evaluate", out / "run_prob.tif", out / "truth.tif", "--json")
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)
    changed = prob >= 0.7
    expected = 2 * (changed & (truth[0] == 1)).sum() / (changed.sum() + truth.sum())
    assert scores["f1"] == pytest.approx(expected)
    assert scores["threshold"] == pytest.approx(0.7)
    assert "average_precision" in run("evaluate", out / "run_prob.tif", out / "truth.tif").stdout
