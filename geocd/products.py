"""The files of one run: their names, and what they are."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def default_stem(before: str, after: str) -> Path:
    """Return ``<before>_<after>`` in the current folder, from the file names without extension."""

    def name(path: str) -> str:
        if "://" in path:
            path = path.partition("?")[0]  # the signature of a signed URL
        # what follows the last separator, also inside an archive or a container (NETCDF:scene.nc:B04)
        return Path(re.split(r"[/\\!:]", path.rstrip("/"))[-1]).stem

    return Path(f"{name(before)}_{name(after)}")
