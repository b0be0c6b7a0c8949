"""Fixtures of batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from batch_folder import CVA

if TYPE_CHECKING:
    from geocd.batch.work import Task


@pytest.fixture
def task(write_pairs: Callable[..., Path], tmp_path: Path) -> Task:
    """Give a task of one small pair and its folder."""
    # here: dask looks at the handlers of loggers when it is imported, and those of pytest come later
    from geocd.batch.pairs import read_items
    from geocd.batch.work import Task, configuration

    (item,) = read_items(write_pairs(1))
    (tmp_path / "out").mkdir()
    return Task(item, CVA, str(tmp_path / "out"), configuration(CVA)[0])
