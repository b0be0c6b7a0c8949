"""Finished tiles on disk: what comes back is what was kept, or nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geocd.pipeline.checkpoint import Checkpoint, differences


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoint:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.begin({"--bidx": (1, 2), "grid": "g"})
    checkpoint.save(7, np.float32([[[0.5, np.nan]], [[1, 0.25]]]), {"water": 3})
    return checkpoint


def test_a_tile_comes_back_as_it_was(kept: Checkpoint) -> None:
    found = kept.load(7)
    assert found is not None
    np.testing.assert_array_equal(found[0], np.float32([[[0.5, np.nan]], [[1, 0.25]]]))
    assert found[0].dtype == np.float32
    assert found[0].flags.writeable
    assert found[1] == {"water": 3}
    assert len(kept) == 1
    assert kept.load(8) is None
    assert kept.record() == {"--bidx": [1, 2], "grid": "g"}


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "longer", "zeros"])
def test_damage_is_noticed(damage: str, kept: Checkpoint) -> None:
    for path in kept.folder.iterdir():
        content = bytearray(path.read_bytes())
        if damage == "cut":
            del content[-3:]
        elif damage == "empty":
            content.clear()
        elif damage == "flipped":
            content[-2] ^= 1
        elif damage == "longer":
            content += b"0"
        else:
            content = bytearray(len(content))
        path.write_bytes(content)
    assert kept.load(7) is None
    assert kept.record() is None


def test_differences_are_named() -> None:
    then = {"--bidx": [1, 2], "--seed": 0, "gone": 1}
    assert differences(then, {"--bidx": (1, 2), "--seed": 0, "gone": 1}) == []
    assert differences(then, {"--bidx": (1, 2), "--seed": 4, "new": "x"}) == [
        "--seed (was 0, is now 4)",
        "new (was None, is now x)",
        "gone (was 1, is now None)",
    ]
