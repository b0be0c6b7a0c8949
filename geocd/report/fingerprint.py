"""What a result was made from, so that anybody can tell whether it can be made again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from rasterio.windows import Window

from geocd.products import sha256
from geocd.raster.files import open_raster
from geocd.raster.reading import read
from geocd.report.links import source_href


def fingerprint(path: str, known: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Return what tells whether a raster is still the same, for every file it consists of.

    Parameters
    ----------
    path : str
    known : list of dict, optional
        An older fingerprint: where size and time of a file are as there, it is not read again.

    Returns
    -------
    list of dict
        Of local files (a VRT's sources, overviews and masks too) name, size, time and SHA-256. Of anything
        else the grid and a SHA-256 of three blocks: what has changed elsewhere goes unseen.

    Raises
    ------
    RasterOpenError, RasterReadError
    """
    with open_raster(path) as dataset:
        files = [Path(name) for name in dataset.files]
        if not files or not all(file.is_file() for file in files):
            block = dataset.block_shapes[0]
            digest = hashlib.sha256(repr((dataset.profile, dataset.tags())).encode())
            for row, col in ((0, 0), (dataset.height // 2, dataset.width // 2), dataset.shape):
                # the block around the place, at the end the last one
                top = min(row, dataset.height - 1) // block[0] * block[0]
                left = min(col, dataset.width - 1) // block[1] * block[1]
                window = Window(left, top, min(block[1], 512), min(block[0], 512))
                window = window.intersection(Window(0, 0, dataset.width, dataset.height))
                digest.update(read(dataset, path, window, indexes=1).tobytes())
            return [{"file": source_href(path, Path()), "blocks": digest.hexdigest()}]
    old = {entry["file"]: entry for entry in known or ()}
    found = []
    for file in sorted(files):
        status = file.stat()
        entry: dict[str, Any] = {"file": file.name, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
        before = old.get(file.name, {})
        if all(before.get(key) == entry[key] for key in ("size", "mtime_ns")):
            entry["sha256"] = before["sha256"]
        else:
            entry["sha256"] = sha256(file)
        found.append(entry)
    return found


def same_content(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> bool:
    """Compare the content that fingerprints tell of: a file may have been copied or touched."""
    return [{**entry, "mtime_ns": 0} for entry in one] == [{**entry, "mtime_ns": 0} for entry in two]
