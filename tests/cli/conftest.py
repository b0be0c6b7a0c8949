"""Fixtures of commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import MakePair, scene


@pytest.fixture
def pair(make_pair: MakePair) -> tuple[Path, Path]:
    return make_pair(*scene())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder
