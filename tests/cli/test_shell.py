"""The command line inside others: what a shell completes, and 'rio geocd'."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import geocd
from geocd.cli import main

SHELLS = {"bash": "bash_complete", "zsh": "zsh_complete", "fish": "fish_complete"}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_printed(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell], catch_exceptions=False)
    assert result.exit_code == 0
    assert f"_GEOCD_COMPLETE={SHELLS[shell]}" in result.output
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=result.output, text=True, check=True, timeout=60)


@pytest.fixture
def program(tmp_path: Path) -> dict[str, str]:
    """Give an environment in which ``geocd`` is the one that is tested."""
    path = tmp_path / "bin" / "geocd"
    path.parent.mkdir()
    root = str(Path(geocd.__file__).parents[1])
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {root!r})\n"
        "from geocd.cli import main\nmain(prog_name='geocd')\n"
    )
    path.chmod(0o755)
    return {**os.environ, "PATH": f"{path.parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["geocd", "det"], {"detect"}),
        (["geocd", "detect", "--pre"], {"--preset"}),
        (["geocd", "detect", "--preset", "re"], {"reference"}),
        (["geocd", "check", "--al"], {"--align"}),
        (["geocd", "completion", "f"], {"fish"}),
    ],
)
def test_bash_completes(words: list[str], found: set[str], program: dict[str, str]) -> None:
    script = (
        'eval "$(geocd completion bash)" && COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_geocd_completion geocd; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", *words],
        env=program,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert set(done.stdout.split()) == found


@pytest.mark.parametrize("words", ["geocd detect be", "geocd detect a b -o be", "geocd batch --config be"])
def test_files_are_left_to_the_shell(words: str, program: dict[str, str]) -> None:
    place = {
        "_GEOCD_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(
        ["geocd"], env=program | place, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "file,be"


def rio(*arguments: object) -> Any:
    from rasterio.rio.main import main_group

    return CliRunner().invoke(main_group, ["geocd", *map(str, arguments)], catch_exceptions=False)


def test_rio_knows_geocd() -> None:
    (found,) = entry_points(group="rasterio.rio_plugins", name="geocd")
    assert found.load() is main


def test_rio_geocd_detects_and_refuses(make_pair: Any, scene: Any, tmp_path: Path) -> None:
    before, after = make_pair(scene(), scene(seed=1))
    result = rio("detect", before, after, "-o", tmp_path / "run", "--method", "cva")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run_prob.tif").exists()
    assert "polygons" in result.output
    quiet = rio("-q", "detect", before, after, "-o", tmp_path / "other", "--method", "cva")
    assert (quiet.exit_code, quiet.output) == (0, "")
    refused = rio("detect", before, tmp_path / "none.tif")
    assert refused.exit_code == 1
    assert "Error: " in refused.output
    assert "no such file" in refused.output
    assert rio("detect", "a", "b", "--threshold", "2").exit_code == 2
