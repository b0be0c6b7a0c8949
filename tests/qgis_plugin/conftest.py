"""Fixtures: the geocd under test as a program, and a pair that it can detect change in."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import MakePair

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def executable(tmp_path: Path) -> Path:
    """Return a program that is the geocd under test."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from geocd.cli import main; main()"
    path = tmp_path / "geocd"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def pair(make_pair: MakePair) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    before = 1000 + 150 * np.kron(rng.normal(size=(3, 20, 20)), np.ones((15, 15)))
    before = (before + rng.normal(0, 20, before.shape)).astype(np.float32)
    after = 1.2 * before + 100
    after[:, 90:180, 120:210] = 3000 + rng.normal(0, 100, (3, 90, 90))
    return make_pair(before, after.astype(np.float32))
