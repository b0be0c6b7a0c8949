"""Tiles of an interrupted run: kept, reused by the same run, and by no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from output_folder import NEW, contents, write_all

from geocd.errors import Interrupted, OutputExistsError, ResumeError
from geocd.pipeline.transaction import Transaction, interruptible
from geocd.report.products import Outputs

RECORD = {"--seed": 0, "before": "10 bytes"}
TILE = np.float32([[[0.25, np.nan]]])


def transaction(stem: Path, **options: Any) -> Transaction:
    return Transaction(Outputs(stem), **({"record": RECORD, "total": 9} | options))


def interrupt(stem: Path, error: BaseException, tiles: int = 2) -> None:
    """A run that has finished some tiles, and then this comes."""
    with transaction(stem) as begun:
        for index in range(tiles):
            begun.checkpoint.save(index, TILE + index, {"usable": index})
        write_all(begun, "half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), MemoryError()])
def test_an_interrupted_run_is_resumed(
    error: BaseException, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "geocd")
    with pytest.raises(type(error)) as caught:
        interrupt(tmp_path / "x", error)
    if isinstance(error, KeyboardInterrupt):
        assert isinstance(caught.value, Interrupted)
        assert (caught.value.kept, caught.value.total) == (2, 9)
        assert str(caught.value) == (
            "2 of 9 tiles are kept; run the same command with --resume to continue, or delete "
            f"{tmp_path / '.x.geocd'}"
        )
    with transaction(tmp_path / "x", resume=True) as again:
        values, counts = again.checkpoint.load(1)
        np.testing.assert_array_equal(values, TILE + 1)
        assert counts == {"usable": 1}
        assert again.checkpoint.load(2) is None
        assert not again.path("prob").exists()  # only tiles are taken over
        write_all(again, "new")
        again.commit()
    assert contents(tmp_path) == NEW
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []
    assert "2 of 9 tiles" in caplog.text


def test_without_resume_it_is_deleted_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Interrupted):
        interrupt(tmp_path / "x", KeyboardInterrupt())
    with transaction(tmp_path / "x") as again:
        assert again.checkpoint.load(0) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "deleting 2 finished tiles of an interrupted run of " in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_resume_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "geocd")
    with transaction(tmp_path / "x", resume=True):
        pass
    assert "nothing to resume" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_before_the_first_tile_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupt(tmp_path / "x", KeyboardInterrupt(), tiles=0)
    assert not isinstance(caught.value, Interrupted)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_before_a_run_begins_says_what_an_earlier_one_has_left(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "x")
    with pytest.raises(KeyboardInterrupt) as caught, interruptible(outputs):
        raise KeyboardInterrupt
    assert not isinstance(caught.value, Interrupted)
    with pytest.raises(Interrupted):
        interrupt(outputs.stem, KeyboardInterrupt())
    message = (
        r"2 finished tiles are kept; run the same command with --resume to continue, or delete .*\.x\.geocd"
    )
    with pytest.raises(Interrupted, match=message), interruptible(outputs):
        raise KeyboardInterrupt


def test_a_different_run_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        interrupt(tmp_path / "x", KeyboardInterrupt())
    kept = contents_bytes(tmp_path)
    message = r"differs from this one: --seed \(was 0, is now 1\)\. Repeat its command, or omit --resume"
    with pytest.raises(ResumeError, match=message) as caught:
        transaction(tmp_path / "x", resume=True, record=RECORD | {"--seed": 1})
    assert caught.value.details["differing"] == ["--seed (was 0, is now 1)"]
    assert contents_bytes(tmp_path) == kept
    with transaction(tmp_path / "x", resume=True) as again:  # the right one still can
        assert len(again.checkpoint) == 2


def test_existing_outputs_come_before_what_was_kept(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        interrupt(tmp_path / "x", KeyboardInterrupt())
    (tmp_path / "x.json").write_text("old")
    kept = contents_bytes(tmp_path)
    with pytest.raises(OutputExistsError):
        transaction(tmp_path / "x", resume=True)
    assert contents_bytes(tmp_path) == kept


def contents_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_fails_after_it_was_resumed_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        interrupt(tmp_path / "x", KeyboardInterrupt())
    with pytest.raises(ValueError, match="bad"), transaction(tmp_path / "x", resume=True):
        raise ValueError("bad")
    assert list(tmp_path.iterdir()) == []
