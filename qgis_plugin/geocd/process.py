"""geocd as a child process: find it, run it, follow its progress, stop it. Knows nothing of QGIS."""

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
from typing import Protocol

from .options import labelled

#: The oldest geocd that has the options used here.
LEAST_VERSION = (0, 2, 0)
#: Environment variable that names the executable; takes precedence over the setting.
VARIABLE = "GEOCD_EXECUTABLE"
SETTING_PLACE = "Settings > Options > Processing > Providers > geocd"
#: QGIS sets these for its own Python, GDAL and PROJ; a Python with other libraries fails with them.
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
#: First and last percentage of the progress bar for each stage of ``geocd detect``.
STAGES = {"fit": (0.0, 20.0), "tiles": (20.0, 90.0), "polygons": (90.0, 100.0)}
#: Seconds between two checks whether the user has cancelled.
PAUSE = 0.1
#: Seconds that geocd has to finish the tiles being computed, before the next, stronger signal.
PATIENCE = 20.0


class PluginError(Exception):
    """A problem that the user must know of; its text is shown as it is."""


class CancelledError(PluginError):
    """The user cancelled, and the child has ended."""


class Feedback(Protocol):
    """The methods of a QgsProcessingFeedback that are used here."""

    def isCanceled(self) -> bool: ...  # noqa: N802
    def setProgress(self, percent: float) -> None: ...  # noqa: N802
    def setProgressText(self, text: str) -> None: ...  # noqa: N802
    def pushInfo(self, text: str) -> None: ...  # noqa: N802
    def pushWarning(self, text: str) -> None: ...  # noqa: N802


@dataclasses.dataclass(frozen=True)
class Finished:
    """The result of a child process that has ended by itself.

    Attributes
    ----------
    returncode : int
    output : str
        Its stdout.
    errors : str
        Its stderr, without the lines of progress.
    """

    returncode: int
    output: str
    errors: str


def find_executable(setting: str = "") -> str:
    """Return the path of geocd: from the environment, else the setting, else the PATH.

    Raises
    ------
    PluginError
        geocd was not found, or the file that was named cannot be run.
    """
    named = ((f"The environment variable {VARIABLE}", os.environ.get(VARIABLE, "")), (SETTING_PLACE, setting))
    for source, name in named:
        if name:
            executable = shutil.which(str(Path(name).expanduser()))
            if executable is None:
                raise PluginError(
                    f"{source} names {name}, which is not a program that can be run. Name the file itself, "
                    "such as /home/me/geocd/.venv/bin/geocd, or leave it empty to use the PATH."
                )
            return executable
    executable = shutil.which("geocd")
    if executable is None:
        raise PluginError(
            "The program geocd was not found on the PATH. Install it in a Python environment of its own "
            f"(3.10 or newer: pip install, or make demo), then name its file in {SETTING_PLACE}, or in the "
            f"environment variable {VARIABLE}; in a virtual environment it is bin/geocd (Windows: "
            "Scripts\\geocd.exe)."
        )
    return executable


def environment() -> dict[str, str]:
    """Return the environment for geocd: that of QGIS without the variables that QGIS sets for itself."""
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    return {**inherited, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}


def check_version(executable: str) -> str:
    """Return the version of geocd.

    Raises
    ------
    PluginError
        The program cannot be run, is not geocd, or is too old.
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
            creationflags=_creation_flags(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PluginError(f"{executable} cannot be run: {error}. {_remedy()}") from error
    match = re.search(r"geocd, version ((\d+)\.(\d+)\.(\d+)\S*)", done.stdout)
    if done.returncode != 0 or match is None:
        answer = (done.stderr or done.stdout).strip() or "nothing"
        raise PluginError(f"{executable} does not answer as geocd does. {_remedy()} It printed:\n{answer}")
    if tuple(int(number) for number in match.group(2, 3, 4)) < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        raise PluginError(
            f"{executable} is geocd {match[1]}, and this plugin needs {least} or newer. Update geocd, or "
            f"name another one in {SETTING_PLACE}."
        )
    return match[1]


def _remedy() -> str:
    return f"Name the right file in {SETTING_PLACE}, or in the environment variable {VARIABLE}."


def parse_progress(line: str) -> tuple[str, int, int] | None:
    """Return stage, done and total from a line of ``--progress json``; None for any other line."""
    if not line.startswith("{"):
        return None
    try:
        step = json.loads(line)
        return str(step["stage"]), int(step["done"]), int(step["total"])
    except (ValueError, KeyError, TypeError):
        return None


def percentage(stage: str, done: int, total: int) -> float | None:
    """Return the position of the progress bar, 0 to 100; None for an unknown stage."""
    if stage not in STAGES:
        return None
    first, last = STAGES[stage]
    return first + (last - first) * done / max(total, 1)


def push_messages(text: str, feedback: Feedback, hidden: str | None = None) -> None:
    """Show the messages of geocd, its warnings as such, except lines that begin with ``hidden``."""
    for line in text.splitlines():
        if hidden is not None and line.startswith(hidden):
            continue
        line = labelled(line)
        push = feedback.pushWarning if line.startswith(("warning: ", "error: ")) else feedback.pushInfo
        push(line)


def shown(command: list[str]) -> str:
    """Return the command quoted for the shell, to show it in the log."""
    return subprocess.list2cmdline(command) if os.name == "nt" else " ".join(map(shlex.quote, command))


def run(command: list[str], feedback: Feedback) -> Finished:
    """Run geocd to its end; show its progress, and stop it when the user cancels.

    Raises
    ------
    CancelledError
        The user cancelled; the child has ended and has put its files in order.
    PluginError
        geocd cannot be started.
    """
    feedback.pushInfo(shown(command))
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
                creationflags=_creation_flags(),
            )
        except OSError as error:
            raise PluginError(f"{command[0]} cannot be run: {error}. {_remedy()}") from error
        try:
            messages = _follow(child, feedback)
            returncode = child.wait()
        finally:
            if child.poll() is None:
                _stop(child)
        output.seek(0)
        text = output.read().decode("utf-8", errors="replace")
    return Finished(returncode, text, "\n".join(messages))


def _follow(child: subprocess.Popen[str], feedback: Feedback) -> list[str]:
    """Show the progress of the child until its stderr ends; return the lines that are not progress.

    Raises
    ------
    CancelledError
        The user cancelled; the child has ended.
    """
    messages: list[str] = []
    shown_stage = ""
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(child, lines), daemon=True)
    reader.start()
    while True:
        if feedback.isCanceled():
            _stop(child)
            reader.join(PATIENCE)
            for line in list(lines.queue):
                if line is not None and parse_progress(line) is None:
                    feedback.pushInfo(line)
            raise CancelledError("Cancelled: geocd was stopped.")
        try:
            line = lines.get(timeout=PAUSE)
        except queue.Empty:
            continue
        if line is None:
            return messages
        step = parse_progress(line)
        if step is None:
            messages.append(line)
            continue
        percent = percentage(*step)
        if percent is not None:
            feedback.setProgress(percent)
        stage, _, total = step
        if stage != shown_stage:  # every step would flood the log
            shown_stage = stage
            feedback.setProgressText(f"{stage} ({total})" if total > 1 else stage)


def _read(child: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    """Put the lines of the child's stderr into the queue, and None at the end."""
    assert child.stderr is not None
    with child.stderr as stream:
        for line in stream:
            lines.put(line.rstrip("\r\n"))
    lines.put(None)


def _stop(child: subprocess.Popen[str]) -> None:
    """End the child: first as Ctrl-C does, so that it keeps its tiles and cleans up; then by force."""
    if sys.platform == "win32":
        # There is no Ctrl-C for a process without a console. Finished tiles are kept all the same.
        child.terminate()
        child.wait()
        return
    # SIGTERM, which geocd takes like Ctrl-C, because a process started in the background ignores SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + PATIENCE
        try:
            os.killpg(child.pid, number)
            while time.monotonic() < deadline:
                child.poll()  # releases the process once it has ended
                os.killpg(child.pid, 0)  # fails once its children have ended too
                time.sleep(PAUSE / 2)
        except ProcessLookupError:
            break
    child.wait()


def _creation_flags() -> int:
    """Return the flags that keep Windows from opening a console window."""
    if sys.platform == "win32":
        return subprocess.CREATE_NO_WINDOW
    return 0
