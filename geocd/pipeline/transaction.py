"""The files of one run: their names, and all of them or none.

Everything is first written into a hidden folder beside the destination, on the same file system, and
moved to its final name when all of it is complete. A failed or killed run leaves no file under a final
name and no older result destroyed. What an interrupted run has finished stays in the folder, for a run that
goes on with it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from geocd.errors import Interrupted, OutputError, OutputExistsError, ResumeError
from geocd.pipeline.checkpoint import Checkpoint, differences
from geocd.raster.files import output_errors

try:
    import fcntl

    _LOCKS = True
except ImportError:  # Windows
    _LOCKS = False
from geocd.report.products import Outputs

LOG = logging.getLogger("geocd")


#: Names in the hidden folder: open while a run lives; there while its files are being moved; an older result.
_LOCK, _COMMIT, _OLD = "lock", "commit", "old-{}"


class Transaction:
    """Write the outputs of a run somewhere else, then put all of them in place.

    Use as a context manager: leaving it by an error deletes what was written. When it is interrupted, the
    tiles in ``checkpoint`` are kept, for a run with ``resume``.

    Parameters
    ----------
    outputs : Outputs
    overwrite : bool
        Whether files that exist may be replaced.
    resume : bool
        Whether to use what an interrupted run of these outputs has kept; without, it is deleted.
    record : mapping
        What the kept tiles depend on, by the names that a message calls it; None where none are kept.
    total : int
        Number of tiles.

    Attributes
    ----------
    checkpoint : Checkpoint
        The finished tiles.

    Raises
    ------
    OutputExistsError
        A file exists and ``overwrite`` is false.
    OutputError
        The folder does not exist or is not writable, a folder stands where a file must go, or another run
        is writing these outputs.
    ResumeError
        The interrupted run had another record; it stays as it is.
    """

    def __init__(
        self,
        outputs: Outputs,
        *,
        overwrite: bool = False,
        resume: bool = False,
        record: Mapping[str, Any] | None = None,
        total: int = 0,
    ) -> None:
        self.outputs = outputs
        self._overwrite = overwrite
        self._keep = False
        self._total = total
        folder = outputs.stem.parent
        self._folder = outputs.folder
        try:
            if not folder.is_dir():
                raise OutputError(
                    f"{folder}: no such folder for the outputs. Create it first, or choose another --output.",
                    path=str(folder),
                )
            self._lock = _lock(self._folder)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot write into this folder ({error.strerror}). Make it writable, or "
                "choose another --output.",
                path=str(folder),
            ) from error
        self.checkpoint = Checkpoint(self._folder)
        self._keep = True  # until it is known that an earlier run's work may be deleted
        try:
            with output_errors(self._folder):
                self._settle()
                self._keep = len(self.checkpoint) > 0
                self._refuse_existing(ended=resume and not self._keep)
                self._begin(record, resume)
            self._keep = False
        except BaseException:
            self._leave()
            raise

    def _begin(self, record: Mapping[str, Any] | None, resume: bool) -> None:
        """Take over what an interrupted run has kept, or clear it away."""
        kept, then = len(self.checkpoint), self.checkpoint.record()
        if resume and kept and then is not None:
            if differing := differences(then, record or {}):
                raise ResumeError(
                    f"--resume: the interrupted run in {self._folder} was another one: it had "
                    f"{'; '.join(differing)}. Repeat its command, or leave out --resume to start from the "
                    "beginning.",
                    folder=str(self._folder),
                    differing=differing,
                )
            LOG.info("going on with an interrupted run: %d of %d tiles are kept", kept, self._total)
        elif resume:
            LOG.info("nothing to resume for %s: starting from the beginning", self.outputs.stem)
        elif kept:
            LOG.warning(
                "an interrupted run of %s had kept %d tiles: they are deleted; --resume would have gone on "
                "with them",
                self.outputs.stem,
                kept,
            )
        self._clear(tiles=not resume or then is None)
        if record is not None:
            self.checkpoint.begin(record)

    def _settle(self) -> None:
        """Finish the commit of a run that was killed in the middle of it: all its files were complete."""
        if (self._folder / _COMMIT).exists():
            for key, target in self.outputs.paths().items():
                if self.path(key).exists():
                    self.path(key).replace(target)
            self._clear(tiles=True)
        elif any(self._folder.glob(_OLD.format("*"))):
            raise OutputError(
                f"{self._folder}: holds older results that an earlier run could not put back. Move them "
                "away, and delete this folder.",
                path=str(self._folder),
            )

    def _clear(self, *, tiles: bool) -> None:
        """Delete what an earlier run has left, but for the lock and, unless asked for, its tiles."""
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _LOCK and (tiles or not self.checkpoint.holds(path)):
                path.unlink()

    def _refuse_existing(self, *, ended: bool = False) -> None:
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
                + (". Nothing is left to resume: the run that wrote it has ended" if ended else "")
                + ". Pass --overwrite to replace it, or choose another --output.",
                paths=[str(path) for path in existing],
            )

    def keep(self) -> None:
        """Leave the folder to a run with ``resume``, also without a tile in it."""
        self._keep = True

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
        with output_errors(self._folder):
            (self._folder / _COMMIT).touch()
        # Noted before each move: an interrupt may come between a move and the line after it.
        undo: list[tuple[Path, Path]] = []
        target = self.outputs.stem
        try:
            for key, target in self.outputs.paths().items():
                if _exists(target):  # also an old output that this run does not write again
                    old = self._folder / _OLD.format(key)
                    undo.append((old, target))
                    target.replace(old)
                if key in written:
                    undo.append((target, self.path(key)))
                    self.path(key).replace(target)
        except BaseException as error:
            self._undo(undo)
            with contextlib.suppress(OSError):  # the error that matters is the first
                (self._folder / _COMMIT).unlink()
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
        """Ask the system to keep the renames across a power cut, where it can: nothing here may fail."""
        with contextlib.suppress(OSError):
            handle = os.open(self.outputs.stem.parent, os.O_RDONLY)
            try:
                os.fsync(handle)
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
        # An error would come again, so nothing of the run is kept; more memory or time may be had next time.
        stopped = error is not None and not (isinstance(error, Exception) and kind is not MemoryError)
        kept = 0
        if stopped:
            try:
                kept = len(self.checkpoint)
            except OSError:  # what cannot be counted is not deleted
                self._keep = True
        self._keep = self._keep or kept > 0
        self._leave()
        if kept and isinstance(error, KeyboardInterrupt):
            raise Interrupted(str(self._folder), kept, self._total) from error

    def _leave(self) -> None:
        """Give the folder back; delete it unless something in it is to be kept."""
        if not _LOCKS:
            self._close()  # Windows deletes no open file
        if not self._keep:
            with contextlib.suppress(OSError):  # what cannot even be listed is left to the next run
                self._delete()
        self._close()

    def _delete(self) -> None:
        # Replaced results go first. One that cannot be deleted stays with the note of the commit, by
        # which the next run knows it for rubbish and not for the only copy.
        replaced = list(self._folder.glob(_OLD.format("*")))
        for path in replaced:
            with contextlib.suppress(OSError):
                path.unlink()
        if not any(_exists(path) for path in replaced):
            shutil.rmtree(self._folder, ignore_errors=True)

    def _close(self) -> None:
        with contextlib.suppress(OSError):  # all is written by now
            self._lock.close()


def _exists(path: Path) -> bool:
    """Tell whether the name is taken, be it by a link that leads nowhere."""
    return path.exists() or path.is_symlink()


def lock(file: IO[Any], *, wait: bool, shared: bool = False) -> bool:
    """Lock an open file against other processes until it is closed, also by a kill.

    With ``shared`` only against those that want it for themselves alone.

    Returns
    -------
    bool
        False when another process holds it. True too where there are no locks (Windows, some network
        file systems).
    """
    if not _LOCKS:
        return True
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, kind | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
    return True


def _lock(folder: Path) -> IO[bytes]:
    """Make a folder that is this run's alone; closing what is returned gives it back.

    The system gives it back too when the run dies. Where it has no locks (Windows, some network file
    systems), two runs at once are not told apart.
    """
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            file = (folder / _LOCK).open("ab")
        except FileNotFoundError:  # another run has just deleted the folder
            continue
        if not lock(file, wait=False):
            file.close()
            raise OutputError(
                f"{folder}: another run is writing these outputs. Wait until it has ended, or choose another "
                "--output.",
                path=str(folder),
            )
        # Between opening and locking, another run may have ended and deleted the folder.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), (folder / _LOCK).stat()):
                return file
        file.close()
