"""Results that somebody has edited since: they are kept under another name, never replaced."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from geocd.raster.files import output_errors
from geocd.report.fingerprint import sha256

LOG = logging.getLogger("geocd")


def keep_edited(folder: Path, checksums: Mapping[str, str | None]) -> list[Path]:
    """Rename files whose content is not what geocd wrote, and say so.

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
            if sha256(path) == checksum:
                continue
            target = _free_name(path)
            path.rename(target)
        LOG.warning("%s was edited since geocd wrote it; it is kept as %s", path, target.name)
        kept.append(target)
    return kept


def _free_name(path: Path) -> Path:
    """Return a name of the day that no file has yet."""
    day, number = time.strftime("%Y%m%d"), 1
    while (target := path.with_name(f"{path.stem}.edited-{day}{_count(number)}{path.suffix}")).exists():
        number += 1
    return target


def _count(number: int) -> str:
    return "" if number == 1 else f"-{number}"


__all__ = ["keep_edited"]
