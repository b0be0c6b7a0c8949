"""What is handed out: the wheel and the container."""

from __future__ import annotations

import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from test_project import setup_cfg

ROOT = Path(__file__).resolve().parents[1]


def test_every_file_of_the_package_is_in_the_wheel() -> None:
    """Weights, templates, styles, stubs and licences: by the patterns of setup.cfg."""
    patterns = setup_cfg()["options.package_data"]["geocd"].split()
    paths = [
        path for path in (ROOT / "geocd").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert paths
    names = [path.relative_to(ROOT / "geocd").as_posix() for path in paths]
    missing = [name for name in names if not any(fnmatch(name, pattern) for pattern in patterns)]
    assert not missing, "add them to package_data"


def test_the_container_is_made_from_the_wheel() -> None:
    lines = (ROOT / "Containerfile").read_text(encoding="utf-8")
    assert "COPY dist/geocd-*.whl" in lines
    assert "libexpat1" in lines, "rasterio's wheel does not start without it"
    assert 'ENTRYPOINT ["geocd"]' in lines
    assert "Containerfile" in (ROOT / "docs" / "install.md").read_text(encoding="utf-8")


@pytest.mark.slow  # it fetches what geocd needs, and installs it
@pytest.mark.skipif(os.name == "nt", reason="make dist")
def test_the_wheel_installs_and_runs_without_a_network(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "release" / "make_dist.py")]
    done = subprocess.run(
        [*script, str(tmp_path / "dist"), str(ROOT / "build" / "wheels")],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of the valid area changed" in done.stdout
    assert "was installed and run without a network" in done.stdout
