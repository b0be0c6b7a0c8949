"""Fixtures of batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from batch_folder import CVA

from geocd.batch.pairs import read_items
from geocd.batch.work import Task, configuration


@pytest.fixture
def task(write_pairs: Callable[..., Path], tmp_path: Path) -> Task:
    (item,) = read_items(write_pairs(1))
    (tmp_path / "out").mkdir()
    return Task(item, CVA, str(tmp_path / "out"), configuration(CVA)[0])
