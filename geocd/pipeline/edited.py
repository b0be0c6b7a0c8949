"""Results that somebody has edited since: they are kept under another name, never replaced."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from geocd.raster.files import output_errors
from geocd.replacing import keep_permissions
from geocd.report.fingerprint import sha256
from geocd.report.products import Outputs
from geocd.report.stac import SHA256

LOG = logging.getLogger("geocd")


def keep_edited(folder: Path, checksums: Mapping[str, str | None]) -> list[Path]:
    """Copy files whose content is not what geocd wrote to another name, and say so.

    The file stays under its own name until it is replaced, so that what replaces it keeps its permissions.

    Parameters
    ----------
    folder : pathlib.Path
    checksums : mapping of str
        SHA-256 of each file as it was written, by name; None where it is not known.

    Returns
    -------
    list of pathlib.Path
        The new names, such as ``p0_changes.edited-20240131.gpkg``.

    Raises
    ------
    OutputError
    """
    kept = []
    for name, checksum in checksums.items():
        path = folder / name
        if not path.is_file():
            continue
        with output_errors(path):
            content = sha256(path)
            if content == checksum or _has_copy(path, content):
                continue
            target = _free_name(path)
            _copy(path, target)
        LOG.warning("%s was edited since geocd wrote it; it is kept as %s", path, target.name)
        kept.append(target)
    return kept


def unrecorded_checksums(outputs: Outputs) -> dict[str, str | None]:
    """Return the SHA-256 of the files of a pair of which no record says that geocd wrote them, by name.

    It is that of the pair's STAC item; None, which no file has, where there is no such item, or not for this
    file. The item itself is left out where geocd wrote it.
    """
    if (outputs.folder / "commit").exists():  # a run was killed while it moved its files
        return {}
    checksums: dict[str, str | None] = {path.name: None for path in outputs.paths().values()}
    with contextlib.suppress(OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        item = json.loads(outputs.path("item").read_text(encoding="utf-8"))
        assets = item["assets"]
        if "geocd:settings" not in item["properties"]:
            return checksums
        del checksums[outputs.path("item").name]
        for key, path in outputs.paths().items():
            if key in assets:
                checksums[path.name] = assets[key]["file:checksum"].removeprefix(SHA256)
    return checksums


def keep_edited_outputs(outputs: Outputs) -> list[Path]:
    """Copy the outputs of an earlier run that were edited since, before a new one replaces them.

    Without the item of that run, which has the checksums, only the polygons are copied: they may have
    verdicts.

    Returns
    -------
    list of pathlib.Path
        The new names.

    Raises
    ------
    OutputError
    """
    checksums = unrecorded_checksums(outputs)
    if not any(checksums.values()):
        name = outputs.path("changes").name
        checksums = {name: None} if name in checksums else {}
    return keep_edited(outputs.stem.parent, checksums)


def _copy(path: Path, target: Path) -> None:
    """Copy a file, with its permissions and times, to a name that no file has; a link is moved."""
    if path.is_symlink():
        path.rename(target)
        return
    try:
        with path.open("rb") as source, target.open("xb") as copy:
            keep_permissions(path, target)
            shutil.copyfileobj(source, copy)
        shutil.copystat(path, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _has_copy(path: Path, checksum: str) -> bool:
    """Return whether a file was copied before: the run that was to replace it has failed."""
    copies = [other for other in path.parent.iterdir() if other.name.startswith(f"{path.stem}.edited-")]
    return any(other.is_file() and sha256(other) == checksum for other in copies)


def _free_name(path: Path) -> Path:
    """Return a name of the day that neither a file nor a link has yet."""
    day, number = time.strftime("%Y%m%d"), 1
    while os.path.lexists(target := path.with_name(f"{path.stem}.edited-{day}{_count(number)}{path.suffix}")):
        number += 1
    return target


def _count(number: int) -> str:
    return "" if number == 1 else f"-{number}"


__all__ = ["keep_edited", "keep_edited_outputs", "unrecorded_checksums"]
