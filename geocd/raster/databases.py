"""GeoPackages and other files of SQLite: a view in one may have no end, and GDAL would read it for ever."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

#: Seconds for all views of a file. Tables are as long as the file.
LIMIT = 5.0
_BEGIN = b"SQLite format 3\0"
#: Instructions of SQLite between two looks at the clock.
_STEPS = 10_000


def is_database(path: str | os.PathLike[str]) -> bool:
    """Tell whether a local file is of SQLite."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_BEGIN)) == _BEGIN
    except (OSError, ValueError):
        return False


def why_not_read(path: str | os.PathLike[str]) -> str | None:
    """Return why a file of SQLite must not be read: not all of its views end soon. None where they do.

    Every view counts, registered or not: GDAL also reads tables of its own, which may be views.
    """
    if not is_database(path):
        return None
    uri = f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as base:
            return _endless_view(base)
    except sqlite3.DatabaseError:
        return None  # it is damaged, as GDAL says


def _endless_view(base: sqlite3.Connection) -> str | None:
    """Return the message about a view that cannot be read to its end in time; None where all can."""
    names = [str(name) for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'view'")]
    end = time.monotonic() + LIMIT
    base.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    for name in names:
        if (problem := _problem(base, name)) is not None:
            return (
                f"its view {name!r} {problem}, so the file is not read. Delete the view, or save what is "
                "needed of it as a table in a new file."
            )
    return None


def _problem(base: sqlite3.Connection, view: str) -> str | None:
    """Return why a view cannot be read to its end; None where it can."""
    quoted = view.replace('"', '""')
    try:
        for _ in base.execute(f'SELECT * FROM "{quoted}"'):  # an identifier
            pass
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return f"does not end within {LIMIT:g} s"
        return f"cannot be read ({error})"
    except (sqlite3.DatabaseError, MemoryError) as error:
        return f"cannot be read ({error})"
    return None


__all__ = ["LIMIT", "is_database", "why_not_read"]
