"""What users have in their folders: no command deletes, replaces or uncovers what geocd did not make."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import geopandas
import pytest
from commands import run

from geocd.vectorize.formats import FORMATS

pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions and links of POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def hide(folder: Path) -> dict[Path, int]:
    """Let nobody else read the files of a folder; return their times."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        path.chmod(0o600)
    return {path: path.stat().st_ino for path in files}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def images(make_pair: Callable[..., tuple[Path, Path]], scene: Callable[..., object]) -> tuple[Path, Path]:
    return make_pair(scene(), scene(seed=1))


@pytest.mark.parametrize("suffix", [None, *FORMATS])
def test_what_nobody_else_may_read_stays_so(suffix: str | None, images: tuple[Path, Path], out: Path) -> None:
    """``--overwrite`` of detect, rerun and polygonize."""
    detect = ["detect", *images, "-o", out / "x", "--method", "cva", "--overwrite"]
    assert run(*detect).exit_code == 0
    if suffix is None:
        assert run("rerun", out / "x.json", "-o", out / "again").exit_code == 0
        commands = [detect, ["rerun", out / "x.json", "-o", out / "again", "--overwrite"]]
    else:
        commands = [["polygonize", out / "x_prob.tif", "-o", out / f"y{suffix}", "--overwrite"]]
        assert run(*commands[0]).exit_code == 0
        for path in out.glob("x*"):
            path.rename(out.parent / path.name)
        commands[0][1] = out.parent / "x_prob.tif"
    hidden = hide(out)
    for command in commands:
        result = run(*command)
        assert result.exit_code == 0, result.output
    assert {path for path, number in hidden.items() if path.stat().st_ino != number} == set(hidden)
    assert {mode(path) for path in out.iterdir()} == {0o600}


def test_what_nobody_else_may_read_stays_so_in_a_batch(
    cluster: str, write_pairs: Callable[..., Path], out: Path
) -> None:
    """Products, item, manifest, catalogue and merged layers, edited ones and their copies too."""
    command = ["batch", write_pairs(1), out, "--method", "cva", "--scheduler", cluster, "--merge"]
    assert run(*command).exit_code == 0
    for path in (out / "p0" / "p0_changes.gpkg", out / "changes.gpkg"):
        geopandas.read_file(path, layer="changes").assign(verdict="").to_file(path, layer="changes")
    hidden = hide(out)
    assert run(*command, "--min-area", 50).exit_code == 0
    assert {mode(path) for path in out.rglob("*") if path.is_file()} == {0o600}
    files = {path for path in out.rglob("*") if path.is_file()}
    assert {path.name.partition("-")[0] for path in files - hidden.keys()} == {
        "p0_changes.edited",
        "changes.edited",
    }
