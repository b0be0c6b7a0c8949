"""The command line itself: help, version, tracebacks, signals."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import OUTPUTS, run

from geocd import __version__
from geocd.cli import main


def test_vv_shows_the_traceback(tmp_path: Path) -> None:
    result = run("-vv", "detect", tmp_path / "a.tif", tmp_path / "b.tif")
    assert "Traceback" in result.stderr


STOPPED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
from geocd.pipeline import run
real = run.detect
def detect(*args, progress, **options):
    def stop(stage, done, total):
        if stage == "tiles" and done == 3:
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    return real(*args, progress=stop, **options)
run.detect = detect
from geocd.cli import main
main(sys.argv[2:])
"""


@pytest.mark.skipif(os.name == "nt", reason="other signals")
@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupt_says_how_to_go_on(sent: str, code: int, pair: tuple[Path, Path], out: Path) -> None:
    arguments = ["detect", *map(str, pair), "-o", str(out / "run"), "--method", "cva", "--resume",
                 "--tile-size", "40", "--overlap", "10"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, sent, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()
    assert said[0] == f"INFO: nothing to resume for {out / 'run'}: starting from the beginning"
    found = re.fullmatch(
        r"interrupted: (\d+) of 9 tiles are kept; "
        r"run the same command with --resume to continue, or delete (.*)",
        said[1],
    )
    assert found
    assert 3 <= int(found[1]) <= 9
    assert [str(path) for path in out.iterdir()] == [found[2]]
    again = subprocess.run(
        [sys.executable, "-c", "from geocd.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert f"resuming an interrupted run: {found[1]} of 9 tiles are done" in again.stderr
    assert sorted(p.name for p in out.iterdir()) == OUTPUTS


def test_help_is_quick_and_imports_nothing_slow() -> None:
    code = (
        "import sys, time\n"
        "from geocd.cli import main\n"
        "try: main(['detect', '--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'rasterio', 'numpy', 'geopandas', 'scipy'} & set(sys.modules)\n"
        "print(time.process_time(), slow, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, slow = done.stderr.split(" ", 1)
    assert slow.strip() == "set()"
    assert float(seconds) < 0.5
    assert "--threshold" in done.stdout


def test_version() -> None:
    assert __version__ in run("--version").output


def test_the_list_of_commands_cuts_no_sentence() -> None:
    """``geocd --help`` in a terminal of 80 columns has one line for each command."""
    result = CliRunner().invoke(main, ["--help"], terminal_width=80)
    listing = result.output.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listing] == sorted(main.commands), "no line goes on in the next"
    assert not any("..." in line for line in listing)
    for command in main.commands.values():
        assert command.short_help is not None
        assert command.short_help.endswith(".")
