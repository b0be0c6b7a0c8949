"""The files of one run: their names, and all of them or none.

Everything is first written into a hidden folder beside the destination, on the same file system, and
moved to its final name when all of it is complete. A failed or killed run leaves no file under a final
name and no older result destroyed.
"""

from __future__ import annotations

import dataclasses
import os
import re
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

    def name(path: str) -> str:
        if "://" in path:
            path = path.partition("?")[0]  # the signature of a signed URL
        # what follows the last separator, also inside an archive or a container (NETCDF:scene.nc:B04)
        return Path(re.split(r"[/\\!:]", path.rstrip("/"))[-1]).stem

    return Path(f"{name(before)}_{name(after)}")


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Names of the files that one run writes beside each other.

    Parameters
    ----------
    stem : pathlib.Path
        Folder and the beginning of every file name.

    Raises
    ------
    OutputError
        The stem names a folder and no file in it.
    """

    stem: Path

    def __post_init__(self) -> None:
        if self.stem.name in ("", ".."):
            raise OutputError(
                f"{self.stem}: there is no name for the outputs, only a folder. Give --output the beginning "
                f"of their names too, for instance {self.stem / 'result'}",
                path=str(self.stem),
            )

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
        The folder does not exist or is not writable, or a folder stands where a file must go.
    """

    def __init__(self, outputs: Outputs, *, overwrite: bool = False) -> None:
        self.outputs = outputs
        self._overwrite = overwrite
        self._keep = False
        folder = outputs.stem.parent
        try:
            if not folder.is_dir():
                raise OutputError(
                    f"{folder}: no such folder for the outputs. Create it first, or choose another --output.",
                    path=str(folder),
                )
            self._refuse_existing()
            self._folder = Path(tempfile.mkdtemp(prefix=f".{outputs.stem.name}-", dir=folder))
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot write into this folder ({error.strerror}). Make it writable, or "
                "choose another --output.",
                path=str(folder),
            ) from error

    def _refuse_existing(self) -> None:
        existing = [path for path in self.outputs.paths().values() if _exists(path)]
        for path in existing:
            if path.is_dir() and not path.is_symlink():
                raise OutputError(
                    f"{path}: is a folder, and a file of this name must be written. Move it away, or choose "
                    "another --output.",
                    path=str(path),
                )
        if existing and not self._overwrite:
            raise OutputExistsError(
                f"{existing[0]}: exists already"
                + (f" (and {len(existing) - 1} more of this run's outputs)" if existing[1:] else "")
                + ". Pass --overwrite to replace it, or choose another --output.",
                paths=[str(path) for path in existing],
            )

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
        OutputExistsError
            A file came to exist since the run began, and overwriting was not asked for.
        OutputError
            A file cannot be moved; those moved before it are taken back, older ones put back.
        """
        self._refuse_existing()
        written = {key: path for key, path in self.outputs.paths().items() if self.path(key).exists()}
        # Noted before each move: an interrupt may come between a move and the line after it.
        undo: list[tuple[Path, Path]] = []
        target = self.outputs.stem
        try:
            for key, target in self.outputs.paths().items():
                if _exists(target):  # also an old output that this run does not write again
                    old = self._folder / f"old-{key}"
                    undo.append((old, target))
                    target.replace(old)
                if key in written:
                    undo.append((target, self.path(key)))
                    self.path(key).replace(target)
        except BaseException as error:
            self._undo(undo)
            if not isinstance(error, OSError):
                raise
            kept = f" The older results are in {self._folder}." if self._keep else ""
            raise OutputError(
                f"{target}: cannot be put in place ({error.strerror}). Close the programs that hold "
                f"the file, check the folder's permissions, and run again.{kept}",
                path=str(target),
                kept=str(self._folder) if self._keep else None,
            ) from error
        self._sync()
        return written

    def _undo(self, moves: list[tuple[Path, Path]]) -> None:
        """Take moves back, the last one first; an old result that cannot be put back is not deleted."""
        for now, then in reversed(moves):
            if not _exists(now):
                continue  # the move that failed
            try:
                now.replace(then)
            except OSError:
                self._keep = self._keep or now.parent == self._folder

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
        if not self._keep:
            shutil.rmtree(self._folder, ignore_errors=True)


def _exists(path: Path) -> bool:
    """Tell whether the name is taken, be it by a link that leads nowhere."""
    return path.exists() or path.is_symlink()
