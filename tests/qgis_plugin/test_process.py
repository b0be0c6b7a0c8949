"""geocd as a child: found, run, followed and stopped, without QGIS."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import load_plugin

import geocd

process = load_plugin("process")
posix = pytest.mark.skipif(os.name == "nt", reason="shell scripts and signals")


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{textwrap.dedent(text)}")
    path.chmod(0o755)
    return path


class Feedback:
    """What QGIS hands over, which writes down what it is told."""

    def __init__(self, cancel: Callable[[Feedback], bool] = lambda feedback: False) -> None:
        self.percents: list[float] = []
        self.texts: list[str] = []
        self.infos: list[str] = []
        self._cancel = cancel

    def isCanceled(self) -> bool:  # noqa: N802
        return self._cancel(self)

    def setProgress(self, percent: float) -> None:  # noqa: N802
        self.percents.append(percent)

    def setProgressText(self, text: str) -> None:  # noqa: N802
        self.texts.append(text)

    def pushInfo(self, text: str) -> None:  # noqa: N802
        self.infos.append(text)


@posix
def test_the_variable_comes_before_the_setting_before_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "path"):
        (tmp_path / name).mkdir()
        script(tmp_path / name / "geocd", "")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv(process.VARIABLE, raising=False)
    assert process.find_executable() == str(tmp_path / "path" / "geocd")
    assert process.find_executable(str(tmp_path / "one" / "geocd")) == str(tmp_path / "one" / "geocd")
    monkeypatch.setenv(process.VARIABLE, str(tmp_path / "two" / "geocd"))
    assert process.find_executable(str(tmp_path / "one" / "geocd")) == str(tmp_path / "two" / "geocd")
    monkeypatch.setenv(process.VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(
        process.PluginError, match=r"variable GEOCD_EXECUTABLE names .*gone, which is not a program"
    ):
        process.find_executable(str(tmp_path / "one" / "geocd"))


def test_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(process.VARIABLE, raising=False)
    with pytest.raises(
        process.PluginError, match=r"not found on the PATH. Install it .*name its file in Settings"
    ):
        process.find_executable()


@posix
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("echo geocd, version 0.0.9", r"is geocd 0\.0\.9, and this plugin needs 0\.2\.0 or newer. Update"),
        ("echo GDAL 3.8", "does not answer as geocd does.*Name the right file(.|\n)*GDAL 3.8"),
        ("echo no module named torch >&2; exit 1", "does not answer(.|\n)*no module named torch"),
    ],
)
def test_other_programs_are_told(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(process.PluginError, match=why):
        process.check_version(str(script(tmp_path / "geocd", text)))


@posix
def test_what_is_no_program_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "geocd"
    broken.write_bytes(b"\x7fnonsense")
    broken.chmod(0o755)
    with pytest.raises(process.PluginError, match=r"cannot be run: .*Name the right file"):
        process.check_version(str(broken))


@posix
def test_version(executable: Path) -> None:
    assert process.check_version(str(executable)) == geocd.__version__


def test_the_oldest_version_is_one_that_exists() -> None:
    assert tuple(int(part) for part in geocd.__version__.split(".")[:3]) >= process.LEAST_VERSION


def test_qgis_s_own_libraries_are_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONHOME", "PROJ_LIB", "GDAL_DATA", "AWS_REGION"):
        monkeypatch.setenv(name, "x")
    given = process.environment()
    assert not {"PYTHONHOME", "PROJ_LIB", "GDAL_DATA"} & set(given)
    assert given["AWS_REGION"] == "x"


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ('{"stage": "tiles", "done": 3, "total": 16}', ("tiles", 3, 16)),
        ('{"stage": "tiles", "done": 3}', None),
        ('{"stage": "tiles", "done": "many", "total": 16}', None),
        ("{", None),
        ("Error: {", None),
        ("", None),
        ("[1]", None),
    ],
)
def test_progress_is_told_from_words(line: str, step: object) -> None:
    assert process.parse_progress(line) == step


def test_the_bar_never_goes_back() -> None:
    steps = [
        ("fit", 0, 1),
        ("fit", 1, 1),
        ("tiles", 0, 4),
        ("tiles", 4, 4),
        ("polygons", 0, 1),
        ("polygons", 1, 1),
    ]
    percents = [process.percentage(*step) for step in steps]
    assert percents == sorted(percents)
    assert (percents[0], percents[-1]) == (0, 100)
    assert process.percentage("tiles", 0, 0) == 20
    assert process.percentage("something new", 1, 2) is None


@posix
def test_a_run_is_followed(executable: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    feedback = Feedback()
    out = tmp_path / "run"
    said = [
        str(executable),
        "detect",
        f"--output={out}",
        "--progress=json",
        "--method=cva",
        "--tile-size=100",
    ]
    done = process.run([*said, "--overlap=20", "--", *map(str, pair)], feedback)
    assert done.returncode == 0, done.errors
    assert feedback.percents == sorted(feedback.percents)
    assert len(feedback.percents) > 10, "one for each tile"
    assert feedback.percents[-1] == 100
    assert feedback.texts == ["fit", "tiles (16)", "polygons"]
    assert "of the valid area changed" in done.errors
    assert "{" not in done.errors
    assert done.output == ""


@posix
def test_an_error_is_passed_on_as_it_is(executable: Path, tmp_path: Path) -> None:
    done = process.run([str(executable), "check", "--", str(tmp_path / "ä.tif"), "b.tif"], Feedback())
    assert done.returncode == 1
    alone = subprocess.run(
        [executable, "check", "--", tmp_path / "ä.tif", "b.tif"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.errors == alone.stderr.rstrip("\n")
    assert "ä.tif" in done.errors


@posix
def test_cancelled_as_by_ctrl_c(executable: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The child ends, keeps its finished tiles, and the run can be resumed."""
    folder = tmp_path / "out"
    folder.mkdir()
    said = [str(executable), "detect", f"--output={folder / 'run'}", "--progress=json", "--method=cva",
            "--jobs=1", "--tile-size=60", "--overlap=53", "--resume", "--", *map(str, pair)]  # fmt: skip
    feedback = Feedback(lambda feedback: any(percent > 20 for percent in feedback.percents))
    with pytest.raises(process.CancelledError, match="geocd was stopped"):
        process.run(said, feedback)
    assert "tiles are kept; run the same command with --resume" in feedback.infos[-1]
    assert [path.name for path in folder.iterdir()] == [".run.geocd"]
    again = process.run(said, Feedback())
    assert again.returncode == 0
    assert "resuming an interrupted run" in again.errors
    assert "run_prob.tif" in [path.name for path in folder.iterdir()]


@posix
@pytest.mark.parametrize("ignored", ["INT", "INT TERM"])
def test_a_child_that_will_not_stop_is_made_to(
    ignored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PATIENCE", 0.5)
    stubborn = script(
        tmp_path / "geocd",
        f"""\
        trap '' {ignored}
        echo $$ > "{tmp_path}/pid"
        echo '{{"stage": "fit", "done": 0, "total": 1}}' >&2
        while true; do sleep 0.1; done
        """,
    )
    with pytest.raises(process.CancelledError):
        process.run([str(stubborn)], Feedback(lambda feedback: bool(feedback.percents)))
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@posix
def test_a_launcher_s_children_end_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = script(
        tmp_path / "geocd",
        f"""\
        sleep 60 &
        echo $! > "{tmp_path}/pid"
        echo '{{"stage": "fit", "done": 0, "total": 1}}' >&2
        wait
        """,
    )
    # A shell has its children in the background ignore SIGINT, so that is not what ends this one.
    monkeypatch.setattr(process, "PATIENCE", 0.5)
    with pytest.raises(process.CancelledError):
        process.run([str(launcher)], Feedback(lambda feedback: bool(feedback.percents)))
    until = time.monotonic() + 10
    pid = int((tmp_path / "pid").read_text())
    try:
        while time.monotonic() < until:
            os.kill(pid, 0)
            time.sleep(0.05)
    except ProcessLookupError:
        return
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the launcher's child lives on")
