"""geocd as a child process: find it, run it, follow it, stop it. Knows nothing of QGIS."""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Protocol

#: The oldest geocd that has the options used here.
LEAST_VERSION = (0, 1, 0)
#: Names the executable, before the setting does.
VARIABLE = "GEOCD_EXECUTABLE"
SETTING_PLACE = "Settings > Options > Processing > Providers > geocd"
#: QGIS sets these for its own Python, GDAL and PROJ; a Python with libraries of its own fails on them.
NOT_INHERITED = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONEXECUTABLE",
    "__PYVENV_LAUNCHER__",
    "GDAL_DATA",
    "GDAL_DRIVER_PATH",
    "PROJ_DATA",
    "PROJ_LIB",
)
#: From and to which percentage each stage of ``geocd detect`` takes the bar.
STAGES = {"fit": (0.0, 20.0), "tiles": (20.0, 90.0), "polygons": (90.0, 100.0)}
#: Seconds between two looks at whether the user has cancelled.
PAUSE = 0.1
#: Seconds that geocd has to finish the tiles in work, before the next, ruder, signal.
PATIENCE = 20.0


class PluginError(Exception):
    """Something that the user must be told, in words that need nothing added."""


class CancelledError(PluginError):
    """The user cancelled, and the child has ended."""


class Feedback(Protocol):
    """What of a QgsProcessingFeedback is used here."""

    def isCanceled(self) -> bool: ...  # noqa: N802
    def setProgress(self, percent: float) -> None: ...  # noqa: N802
    def setProgressText(self, text: str) -> None: ...  # noqa: N802
    def pushInfo(self, text: str) -> None: ...  # noqa: N802


@dataclasses.dataclass(frozen=True)
class Finished:
    """A child that has ended by itself.

    Attributes
    ----------
    returncode : int
    output : str
        What it wrote to stdout.
    errors : str
        What it wrote to stderr, without the lines of progress.
    """

    returncode: int
    output: str
    errors: str


def find_executable(setting: str = "") -> str:
    """Return the path of geocd: from the environment, else the setting, else the PATH.

    Raises
    ------
    PluginError
        There is none, or what was named is no program.
    """
    named = ((f"The environment variable {VARIABLE}", os.environ.get(VARIABLE, "")), (SETTING_PLACE, setting))
    for place, name in named:
        if name:
            found = shutil.which(str(Path(name).expanduser()))
            if found is None:
                raise PluginError(
                    f"{place} says {name}, which is no program that can be run. Name the file itself, such "
                    "as /home/me/geocd/.venv/bin/geocd, or leave it empty to use the PATH."
                )
            return found
    found = shutil.which("geocd")
    if found is None:
        raise PluginError(
            "The program geocd was not found on the PATH. Install it (in a Python 3.10 or newer of its own: "
            f"pip install, or make demo), then name its file in {SETTING_PLACE}, or in the environment "
            f"variable {VARIABLE}; in a virtual environment it is bin/geocd (Windows: Scripts\\geocd.exe)."
        )
    return found


def environment() -> dict[str, str]:
    """Return the environment for geocd: this one without what QGIS has set for itself."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    return {**kept, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}


def check_version(executable: str) -> str:
    """Return the version of geocd.

    Raises
    ------
    PluginError
        It does not run, is another program, or is too old.
    """
    try:
        done = subprocess.run(
            [executable, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment(),
            timeout=120,
            check=False,
            **_hidden(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PluginError(f"{executable} cannot be run: {error}. {_another()}") from error
    found = re.search(r"geocd, version ((\d+)\.(\d+)\.(\d+)\S*)", done.stdout)
    if done.returncode != 0 or found is None:
        said = (done.stderr or done.stdout).strip() or "nothing"
        raise PluginError(f"{executable} does not answer as geocd does. {_another()} It said:\n{said}")
    if tuple(int(number) for number in found.group(2, 3, 4)) < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        raise PluginError(
            f"{executable} is geocd {found[1]}, and this plugin needs {least} or newer. Update geocd, or "
            f"name another one in {SETTING_PLACE}."
        )
    return found[1]


def _another() -> str:
    return f"Name the right file in {SETTING_PLACE}, or in the environment variable {VARIABLE}."


def parse_progress(line: str) -> tuple[str, int, int] | None:
    """Return stage, done and total of a line of ``--progress json``; None of any other line."""
    if not line.startswith("{"):
        return None
    try:
        step = json.loads(line)
        return str(step["stage"]), int(step["done"]), int(step["total"])
    except (ValueError, KeyError, TypeError):
        return None


def percentage(stage: str, done: int, total: int) -> float | None:
    """Return where the bar stands, 0 to 100; None where the stage is not known."""
    if stage not in STAGES:
        return None
    first, last = STAGES[stage]
    return first + (last - first) * done / max(total, 1)


def shown(command: list[str]) -> str:
    """Return the command as one would type it."""
    return subprocess.list2cmdline(command) if os.name == "nt" else " ".join(map(shlex.quote, command))


def run(command: list[str], feedback: Feedback) -> Finished:
    """Run geocd to its end; show its progress, pass on what it says, stop it when the user cancels.

    Raises
    ------
    CancelledError
        The user cancelled; the child has ended and has put its files in order.
    PluginError
        It cannot be started.
    """
    feedback.pushInfo(shown(command))
    said: list[str] = []
    stage_before = ""
    with tempfile.TemporaryFile() as output:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                env=environment(),
                # a group of its own, so that a launcher's children end with it
                start_new_session=os.name != "nt",
                **_hidden(),
            )
        except OSError as error:
            raise PluginError(f"{command[0]} cannot be run: {error}. {_another()}") from error
        lines: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_read, args=(child, lines), daemon=True)
        reader.start()
        try:
            while True:
                if feedback.isCanceled():
                    _stop(child)
                    reader.join(PATIENCE)
                    rest = [line for line in list(lines.queue) if line is not None]
                    for line in rest:
                        if parse_progress(line) is None:
                            feedback.pushInfo(line)
                    raise CancelledError("Cancelled: geocd was stopped.")
                try:
                    line = lines.get(timeout=PAUSE)
                except queue.Empty:
                    continue
                if line is None:
                    break
                step = parse_progress(line)
                if step is None:
                    said.append(line)
                    continue
                percent = percentage(*step)
                if percent is not None:
                    feedback.setProgress(percent)
                if step[0] != stage_before:  # every step would flood the log
                    stage_before = step[0]
                    feedback.setProgressText(f"{step[0]} ({step[2]})" if step[2] > 1 else step[0])
            returncode = child.wait()
        finally:
            if child.poll() is None:
                _stop(child)
        output.seek(0)
        text = output.read().decode("utf-8", errors="replace")
    return Finished(returncode, text, "\n".join(said))


def _read(child: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert child.stderr is not None
    with child.stderr as stream:
        for line in stream:
            lines.put(line.rstrip("\r\n"))
    lines.put(None)


def _stop(child: subprocess.Popen[str]) -> None:
    """End the child: as Ctrl-C does, so that it keeps its tiles and clears up; then by force."""
    if sys.platform == "win32":
        # There is no Ctrl-C for a process without a console. What it has finished stays all the same.
        child.terminate()
        child.wait()
        return
    # SIGTERM, which geocd takes like Ctrl-C, because a process started in the background ignores SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + PATIENCE
        try:
            os.killpg(child.pid, number)
            while time.monotonic() < until:
                child.poll()  # lets go of it once it has ended
                os.killpg(child.pid, 0)  # fails once its children have ended too
                time.sleep(PAUSE / 2)
        except ProcessLookupError:
            break
    child.wait()


def _hidden() -> dict[str, Any]:
    """Return what keeps Windows from opening a black window."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NO_WINDOW}
    return {}
