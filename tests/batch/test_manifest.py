"""The manifest of a batch."""

from __future__ import annotations

from pathlib import Path

import pytest
from batch_folder import invoke, states

from geocd.batch import manifest as manifests
from geocd.batch.manifest import Manifest
from geocd.errors import OutputError


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    with Manifest(tmp_path) as manifest:
        manifest.begin({"seed": 0}, ["a", "b"])
        manifest.add({"id": "a", "state": "done", "config": "0", "inputs": {}, "outputs": {}})
        manifest.add({"id": "b", "state": "done", "config": "0", "inputs": {}, "outputs": {}})
    path = tmp_path / manifests.NAME
    path.write_bytes(path.read_bytes()[:-10])
    assert states(tmp_path) == {"a": "done", "b": "pending"}
    with Manifest(tmp_path) as manifest:
        assert manifest.settings == {"seed": 0}
        manifest.add({"id": "b", "state": "failed", "error": "GridError", "message": "no"})
    assert states(tmp_path) == {"a": "done", "b": "failed"}


def test_two_batches_in_one_folder_are_refused(tmp_path: Path) -> None:
    with Manifest(tmp_path), pytest.raises(OutputError, match="another batch is writing"):
        Manifest(tmp_path)
    Manifest(tmp_path).__exit__(None, None, None)


def test_status_of_a_folder_without_a_batch(tmp_path: Path) -> None:
    result = invoke("batch", "--status", tmp_path)
    assert result.exit_code == 1
    assert "no batch has run here" in result.stderr
