"""Commands for tests: a scene, what is written, and how to run one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from geocd.cli import main

MakePair = Callable[..., tuple[Path, Path]]


OUTPUTS = [
    "run.json",
    "run_changes.gpkg",
    "run_changes.qml",
    "run_prob.qml",
    "run_prob.tif",
    "run_quicklook.png",
    "run_report.html",
]


def scene(bands: int = 3, height: int = 90, width: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Return a textured scene and, 20 % brighter, the same with an object of a third of its size."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(bands, height // 5 + 1, width // 5 + 1))
    before = 1000 + 150 * np.kron(coarse, np.ones((5, 5)))[:, :height, :width]
    before = before + rng.normal(0, 20, before.shape)
    after = 1.2 * before + 100
    after[:, 30:60, 40:70] = 3000 + rng.normal(0, 100, (bands, 30, 30))
    return before.astype(np.float32), after.astype(np.float32)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
