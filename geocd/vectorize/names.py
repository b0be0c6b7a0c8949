"""Names that polygons can be written under, tried before anything is computed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path

from geocd.errors import OutputError
from geocd.raster.files import gdal_reason, output_errors
from geocd.vectorize.files import folder_beside
from geocd.vectorize.formats import format_of

#: Characters that a name has where its bytes are no text.
_UNDECODABLE = re.compile(r"[\ud800-\udfff]")
#: Characters that end a name, so that those of folders may have them.
_ENDS = re.compile(r"[;\\]")
#: Bytes of a file of one polygon, about.
_LEAST_FILE = 2**16
#: What SQLite appends to the name of a file that it opens.
_JOURNAL = "-journal"
#: Characters with which every path works, of up to so many bytes.
_PLAIN, _SHORT_PATH = re.compile(r"[\w./-]+"), 250
#: Bytes of a path from which SQLite is named as the reason, whose limit depends on how it was built.
_LONG_PATH = 500


def refuse_unusable_name(destination: Path) -> None:
    """Raise an error where no polygons can be written under a name, or not be read again.

    Of plain characters every name works, unless it is long: only whether the folder has room is tried. For
    any other, a layer of one polygon is written beside it, read and deleted, so that the libraries decide.

    Parameters
    ----------
    destination : pathlib.Path
        Its suffix decides the format; the file need not exist, and is not touched.

    Raises
    ------
    ConfigError
        The suffix names no format, or one that is not installed.
    OutputError
        The name cannot be used (the message says why), or the folder is not writable.
    """
    fmt = format_of(destination)
    _refuse_characters(destination, fmt.unusable)
    if fmt.driver == "GPKG":  # SQLite may open it until somebody edits it
        refuse_long_name(destination)
    path = str(destination.absolute())
    if len(os.fsencode(path)) <= _SHORT_PATH and _PLAIN.fullmatch(path):
        with output_errors(destination), folder_beside(destination) as folder:
            (folder / destination.name).write_bytes(bytes(_LEAST_FILE))
        return
    import geopandas  # only now: a run needs the memory for its tiles first
    import shapely

    square = geopandas.GeoDataFrame({"id": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:4326")
    with output_errors(destination):
        try:
            with folder_beside(destination) as folder:
                layer = folder / f"{destination.stem}{fmt.suffix}"
                fmt.write(square, layer, fmt, "1970-01-01T00:00:00.000Z")
                fmt.count(layer)
        except (RuntimeError, OSError, ValueError) as error:  # pyogrio's errors share no other root
            refuse_long_name(destination, error)
            if (length := len(os.fsencode(destination.absolute()))) > _LONG_PATH:
                raise OutputError(
                    f"{destination}: cannot be opened ({gdal_reason(error)}); its path has {length} bytes. "
                    "Choose a folder with a shorter path.",
                    path=str(destination),
                ) from error
            if isinstance(error, OSError):
                raise
            raise OSError(gdal_reason(error)) from error


def refuse_long_name(path: Path, error: Exception | None = None) -> None:
    """Raise :class:`OutputError` where a name, or an error about it, is too long for its file system."""
    length, limit = len(os.fsencode(path.name)) + len(_JOURNAL), 255
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no such folder; Windows
        limit = os.pathconf(path.absolute().parent, "PC_NAME_MAX")
    if length > limit or getattr(error, "errno", None) == errno.ENAMETOOLONG:
        raise OutputError(
            f"{path}: file name too long. Of at most {limit} bytes that the file system allows, {length} "
            f"would be taken by this name and the temporary ones beside it. Choose a shorter one.",
            path=str(path),
        ) from error


def _refuse_characters(path: Path, unusable: str) -> None:
    """Raise :class:`OutputError` where a path has characters with which another file would be opened."""
    for text, characters, what, remedy in (
        (path.name, unusable, "file", "Choose another name"),
        (str(path.absolute().parent), _ENDS.sub("", unusable), "file in a folder", "Choose another folder"),
    ):
        if bad := sorted(set(text) & set(characters) | set(_UNDECODABLE.findall(text))):
            raise OutputError(
                f"{path}: GDAL cannot open a {what} with {', '.join(map(ascii, bad))} in its name. {remedy}; "
                "letters, digits, '-', '_' and '.' always work.",
                path=str(path),
            )


__all__ = ["refuse_long_name", "refuse_unusable_name"]
