"""The output files of a run: all of them or none.

Everything is written into a hidden folder beside the destination, on the same file system, and moved to its
final name once all of it is complete. A run that fails or is killed leaves no partial output under a final
name and destroys no older result. Finished tiles of an interrupted run stay in the folder, so that the run
can be resumed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from geocd.errors import Interrupted, OutputError, OutputExistsError, ResumeError
from geocd.pipeline.checkpoint import Checkpoint, Dependencies, differences
from geocd.pipeline.inputs import refuse_inputs
from geocd.raster.files import output_errors
from geocd.replacing import TEMPORARY, keep_permissions
from geocd.report.products import Outputs
from geocd.vectorize.names import refuse_long_name, refuse_unusable_name

try:
    import fcntl

    _LOCKS = True
except ImportError:  # Windows
    _LOCKS = False

LOG = logging.getLogger("geocd")


#: Files in the hidden folder: held open and locked by a running run; present while the outputs are being
#: moved; an older output that is being replaced.
_LOCK, _COMMIT, _OLD = "lock", "commit", "old-{}"


class Transaction:
    """Write the outputs of a run to a hidden folder, then move all of them into place.

    A context manager: leaving it by an error deletes what was written. When the run is interrupted, the
    tiles in ``checkpoint`` are kept, so that it can be resumed.

    Parameters
    ----------
    outputs : Outputs
    overwrite : bool
        Whether files that exist may be replaced.
    resume : bool
        Whether to reuse the finished tiles of an interrupted run of these outputs; otherwise they are
        deleted.
    record : mapping, optional
        What the tiles depend on, by the names used in messages; None where no tiles are saved.
    total : int
        Number of tiles of the run.
    inputs : collection of pathlib.Path
        Files that the run reads, which no output may replace.

    Attributes
    ----------
    checkpoint : Checkpoint
        The finished tiles.

    Raises
    ------
    OutputExistsError
        A file exists and ``overwrite`` is false.
    OutputError
        The folder does not exist or is not writable, an output's name is that of a folder or of an input,
        another run is writing these outputs, or the hidden folder is a link or contains files that geocd did
        not make.
    ResumeError
        The interrupted run had a different record; its files stay untouched.
    """

    def __init__(
        self,
        outputs: Outputs,
        *,
        overwrite: bool = False,
        resume: bool = False,
        record: Dependencies | None = None,
        total: int = 0,
        inputs: Collection[Path] = (),
    ) -> None:
        refuse_inputs([*outputs.paths().values(), *_contents(outputs.folder)], inputs)
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
            _refuse_foreign(outputs)
            self._lock = _lock(self._folder)
        except OutputError:
            raise
        except OSError as error:
            refuse_long_name(outputs.path("changes"), error)
            raise OutputError(
                f"{folder}: cannot write into this folder ({error.strerror}). Make it writable, or "
                "choose another --output.",
                path=str(folder),
            ) from error
        self.checkpoint = Checkpoint(self._folder)
        self._keep = True  # until it is certain that an earlier run's work may be deleted
        try:
            with output_errors(self._folder):
                self._settle()
                self._keep = len(self.checkpoint) > 0
                self._refuse_existing(ended=resume and not self._keep)
                self._try_names()
                self._begin(record, resume)
            self._keep = False
        except BaseException:
            self._leave()
            raise

    def _begin(self, record: Dependencies | None, resume: bool) -> None:
        """Take over the tiles of an interrupted run, or delete them."""
        finished, previous = len(self.checkpoint), self.checkpoint.record()
        if resume and finished and previous is not None:
            if differing := differences(previous, record or {}):
                raise ResumeError(
                    f"--resume: the interrupted run in {self._folder} differs from this one: "
                    f"{'; '.join(differing)}. Repeat its command, or omit --resume to start from the "
                    "beginning.",
                    folder=str(self._folder),
                    differing=differing,
                )
            LOG.info("resuming an interrupted run: %d of %d tiles are done", finished, self._total)
        elif resume:
            LOG.info("nothing to resume for %s: starting from the beginning", self.outputs.stem)
        elif finished:
            LOG.warning(
                "deleting %d finished tiles of an interrupted run of %s; --resume would have reused them",
                finished,
                self.outputs.stem,
            )
        self._clear(tiles=not resume or previous is None)
        if record is not None:
            self.checkpoint.begin(record)

    def _try_names(self) -> None:
        """Raise :class:`OutputError` where GDAL cannot write outputs of these names, or read them again."""
        try:
            refuse_unusable_name(self.path("changes"))
        except OutputError as error:
            # the user knows the final name, not the folder
            message = str(error).removeprefix(f"{self._folder}{os.sep}")
            raise OutputError(f"{self.outputs.stem.parent / message}", path=str(self.outputs.stem)) from error

    def _settle(self) -> None:
        """Finish the commit of a run that was killed during it: all its files were complete."""
        if (self._folder / _COMMIT).exists():
            for key, target in self.outputs.paths().items():
                if self.path(key).exists():
                    self.path(key).replace(target)
            self._clear(tiles=True)
        elif any(self._folder.glob(_OLD.format("*"))):
            raise OutputError(
                f"{self._folder}: contains older results that an earlier run could not restore. Move them "
                "elsewhere, and delete this folder.",
                path=str(self._folder),
            )

    def _clear(self, *, tiles: bool) -> None:
        """Delete what an earlier run has left, except the lock and, without ``tiles``, its tiles."""
        for path in _own(self.outputs):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _LOCK and (tiles or not self.checkpoint.holds(path)):
                path.unlink()

    def _refuse_existing(self, *, ended: bool = False) -> None:
        existing = [path for path in self.outputs.paths().values() if _exists(path)]
        for path in existing:
            if path.is_dir() and not path.is_symlink():
                raise OutputError(
                    f"{path}: is a folder, but a file must be written there. Move the folder, or choose "
                    "another --output.",
                    path=str(path),
                )
        if existing and not self._overwrite:
            raise OutputExistsError(
                f"{existing[0]}: already exists"
                + (f" (and {len(existing) - 1} more of this run's outputs)" if existing[1:] else "")
                + (". There is nothing to resume: the run that wrote it has finished" if ended else "")
                + ". Pass --overwrite to replace it, or choose another --output.",
                paths=[str(path) for path in existing],
            )

    def keep(self) -> None:
        """Keep the folder for a later run with ``resume``, even if no tile is finished."""
        self._keep = True

    def path(self, key: str) -> Path:
        """Return the path at which to write an output before the commit; its file name is the final one."""
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
            A file has appeared since the run began, and ``overwrite`` is false.
        OutputError
            A file cannot be moved; the files already moved are moved back, and older ones restored.
        """
        self._refuse_existing()
        written = {key: path for key, path in self.outputs.paths().items() if self.path(key).exists()}
        for key, path in written.items():
            keep_permissions(path, self.path(key))
        with output_errors(self._folder):
            (self._folder / _COMMIT).touch()
        # Recorded before each move: an interrupt may come between a move and the line after it.
        undo: list[tuple[Path, Path]] = []
        target = self.outputs.stem
        try:
            for key, target in self.outputs.paths().items():
                if _exists(target):  # including an older output that this run does not write
                    old = self._folder / _OLD.format(key)
                    undo.append((old, target))
                    target.replace(old)
                if key in written:
                    undo.append((target, self.path(key)))
                    self.path(key).replace(target)
        except BaseException as error:
            self._undo(undo)
            with contextlib.suppress(OSError):  # the first error is the one to report
                (self._folder / _COMMIT).unlink()
            if not isinstance(error, OSError):
                raise
            older = f" The older results are in {self._folder}." if self._keep else ""
            raise OutputError(
                f"{target}: cannot be moved into place ({error.strerror}). Close programs that have the "
                f"file open, check the folder's permissions, and run again.{older}",
                path=str(target),
                kept=str(self._folder) if self._keep else None,
            ) from error
        self._sync()
        return written

    def _undo(self, moves: list[tuple[Path, Path]]) -> None:
        """Undo moves, last one first; an older result that cannot be restored is not deleted."""
        for current, original in reversed(moves):
            if not _exists(current):
                continue  # the move that failed
            try:
                current.replace(original)
            except OSError:
                self._keep = self._keep or current.parent == self._folder

    def _sync(self) -> None:
        """Flush the renames to disk where the system supports it; errors are ignored."""
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
        # An error would recur, so no tile is kept; an interrupt, or memory that ran out, need not.
        stopped = error is not None and not (isinstance(error, Exception) and kind is not MemoryError)
        finished = 0
        if stopped:
            try:
                finished = len(self.checkpoint)
            except OSError:  # a folder that cannot be listed is not deleted
                self._keep = True
        self._keep = self._keep or finished > 0
        self._leave()
        if finished and isinstance(error, KeyboardInterrupt):
            raise Interrupted(str(self._folder), finished, self._total) from error

    def _leave(self) -> None:
        """Release the folder; delete it unless something in it is to be kept."""
        if not _LOCKS:
            self._close()  # Windows cannot delete an open file
        if not self._keep:
            with contextlib.suppress(OSError):  # a folder that cannot be listed is left for the next run
                self._delete()
        self._close()

    def _delete(self) -> None:
        # Replaced results go first. One that cannot be deleted stays together with the commit mark, which
        # tells the next run that it is obsolete and not the only copy.
        replaced = list(self._folder.glob(_OLD.format("*")))
        for path in replaced:
            with contextlib.suppress(OSError):
                path.unlink()
        if any(_exists(path) for path in replaced):
            return
        self._clear(tiles=True)
        if [path.name for path in self._folder.iterdir()] == [_LOCK]:  # nothing of anybody else's
            shutil.rmtree(self._folder, ignore_errors=True)

    def _close(self) -> None:
        with contextlib.suppress(OSError):  # everything is written by now
            self._lock.close()


@contextlib.contextmanager
def interruptible(outputs: Outputs) -> Iterator[None]:
    """Let an interrupt before a run has begun its tiles say which tiles of an earlier one are kept."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt as interrupt:
        tiles = sum(path.suffix == ".tile" for path in _contents(outputs.folder))
        if tiles == 0:
            raise
        raise Interrupted(str(outputs.folder), tiles, None) from interrupt


def _own(outputs: Outputs) -> list[Path]:
    """Return what a run of these outputs has made in its hidden folder, by the names that it gives."""
    item = re.escape(outputs.path("item").name)
    names = "|".join(
        re.escape(path.stem) for path in outputs.paths().values() if path != outputs.path("item")
    )
    keys = "|".join(outputs.paths())
    own = re.compile(
        rf"{_LOCK}|{_COMMIT}|{_OLD.format(f'({keys})')}"
        rf"|(run\.json|\d+\.tile)(\.\d+\.part)?"
        rf"|{item}|{re.escape(TEMPORARY)}.*"
        rf"|\.?({names})[.-].*",  # with what GDAL and SQLite write beside an output
        re.DOTALL,
    )
    return [path for path in outputs.folder.iterdir() if own.fullmatch(path.name)]


def _contents(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(folder.iterdir())
    return []


def _refuse_foreign(outputs: Outputs) -> None:
    """Raise :class:`OutputError` where the hidden folder is not one that geocd made for these outputs."""
    folder = outputs.folder
    if folder.is_symlink():
        raise OutputError(
            f"{folder}: is a symbolic link to {folder.readlink()}, but temporary files are to be "
            "written and deleted there. Remove the link, or choose another --output.",
            path=str(folder),
        )
    if not folder.is_dir():
        return
    with output_errors(folder):
        own = _own(outputs)
        links = [path for path in own if path.is_symlink() and not path.name.startswith(_OLD.format(""))]
        foreign = sorted([*links, *(path for path in folder.iterdir() if path not in own)])
    if foreign:
        what = "a symbolic link" if foreign[0] in links else "a file that geocd did not make"
        raise OutputError(
            f"{folder}: contains {what} ({foreign[0].name}), but temporary files are to be written "
            "and deleted there. Move it elsewhere, or choose another --output.",
            path=str(folder),
        )


def _exists(path: Path) -> bool:
    """Return whether the name is taken, even by a dangling link."""
    return path.exists() or path.is_symlink()


def lock(file: IO[bytes] | IO[str], *, wait: bool, shared: bool = False) -> bool:
    """Lock an open file against other processes, until it is closed or the process dies.

    Parameters
    ----------
    file : file object
        Open for reading or writing.
    wait : bool
        Whether to wait until the lock is free.
    shared : bool
        Whether other processes may hold a shared lock at the same time.

    Returns
    -------
    bool
        False if another process holds the lock. Also True where file locks are not supported (Windows, some
        network file systems).
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
    """Create the folder of a run and lock it; closing the returned file releases it.

    The system also releases it when the process dies. Where file locks are not supported (Windows, some
    network file systems), concurrent runs are not detected.
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
                f"{folder}: another run is writing these outputs. Wait until it has finished, or choose "
                "another --output.",
                path=str(folder),
            )
        # Between opening and locking, another run may have finished and deleted the folder.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), (folder / _LOCK).stat()):
                return file
        file.close()
