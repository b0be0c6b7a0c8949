"""The files of one run: their names, and all of them or none.

Everything is first written into a hidden folder beside the destination, on the same file system, and
moved to its final name when all of it is complete. A failed or killed run leaves no file under a final
name and no older result destroyed.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from geocd.errors import OutputError, OutputExistsError

SUFFIXES = {
    "prob": "_prob.tif",
    "prob_style": "_prob.qml",
    "changes": "_changes.gpkg",
    "changes_style": "_changes.qml",
    "quicklook": "_quicklook.png",
    "item": ".json",
}


def default_stem(before: str, after: str) -> Path:
    """Return ``<before>_<after>`` in the current folder, from the file names without extension."""
    names = [Path(path.rstrip("/").rsplit("/", 1)[-1]).stem for path in (before, after)]
    return Path("_".join(names))


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Names of the files that one run writes beside each other.

    Parameters
    ----------
    stem : pathlib.Path
        Folder and the beginning of every file name.
    """

    stem: Path

    def path(self, key: str) -> Path:
        """Return the final path of one output, a key of ``SUFFIXES``."""
        return self.stem.with_name(self.stem.name + SUFFIXES[key])

    def paths(self) -> dict[str, Path]:
        """Return all final paths by key."""
        return {key: self.path(key) for key in SUFFIXES}


class Transaction:
    """Write the outputs of a run somewhere else, then put all of them in place.

    Use as a context manager: leaving it by an error deletes what was written.

    Parameters
    ----------
    outputs : Outputs
    overwrite : bool
        Whether files that exist may be replaced.

    Raises
    ------
    OutputExistsError
        A file exists and ``overwrite`` is false.
    OutputError
        The folder does not exist or is not writable.
    """

    def __init__(self, outputs: Outputs, *, overwrite: bool = False) -> None:
        self.outputs = outputs
        folder = outputs.stem.parent
        if not folder.is_dir():
            raise OutputError(
                f"{folder}: no such folder for the outputs. Create it first, or choose another --output.",
                path=str(folder),
            )
        existing = [path for path in outputs.paths().values() if path.exists()]
        if existing and not overwrite:
            raise OutputExistsError(
                f"{existing[0]}: exists already"
                + (f" (and {len(existing) - 1} more of this run's outputs)" if existing[1:] else "")
                + ". Pass --overwrite to replace it, or choose another --output.",
                paths=[str(path) for path in existing],
            )
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=f".{outputs.stem.name}-", dir=folder))
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot write into this folder ({error.strerror}). Make it writable, or "
                "choose another --output.",
                path=str(folder),
            ) from error

    def path(self, key: str) -> Path:
        """Return where to write one output now; its file name is the final one."""
        return self._folder / self.outputs.path(key).name

    def commit(self) -> dict[str, Path]:
        """Move every file that was written to its final name.

        Returns
        -------
        dict
            Final path by key, of the outputs that were written.

        Raises
        ------
        OutputError
            A file cannot be moved; those moved before it are taken back, older ones put back.
        """
        written = {key: path for key, path in self.outputs.paths().items() if self.path(key).exists()}
        undo: list[tuple[Path, Path]] = []
        target = self.outputs.stem
        try:
            for key, target in self.outputs.paths().items():
                if target.exists():  # also an old output that this run does not write again
                    old = self._folder / f"old-{key}"
                    target.replace(old)
                    undo.append((old, target))
                if key in written:
                    self.path(key).replace(target)
                    undo.append((target, self.path(key)))
        except OSError as error:
            for now, then in reversed(undo):
                now.replace(then)
            raise OutputError(
                f"{target}: cannot be put in place ({error.strerror}). Close the programs that hold "
                "the file, check the folder's permissions, and run again.",
                path=str(target),
            ) from error
        self._sync()
        return written

    def _sync(self) -> None:
        """Ask the system to keep the renames across a power cut, where it can."""
        try:
            handle = os.open(self.outputs.stem.parent, os.O_RDONLY)
        except OSError:
            return
        try:
            os.fsync(handle)
        except OSError:
            pass
        finally:
            os.close(handle)

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
