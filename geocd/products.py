"""The files of one run: their names, and what they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

from geocd.location import Location


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def default_stem(before: str, after: str) -> Path:
    """Return ``<before>_<after>`` in the current folder, from the file names without extension."""
    return Path(f"{Location(before).stem}_{Location(after).stem}")
