from __future__ import annotations

from pathlib import Path

import pytest
from output_folder import OLD


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with all outputs of an earlier run."""
    for name in OLD:
        (tmp_path / name).write_text("old")
    return tmp_path
