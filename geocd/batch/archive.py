"""All results of a batch together: a STAC catalogue, and all changes in one file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from geocd.batch.edited import keep_edited
from geocd.batch.upload import Bucket
from geocd.report.fingerprint import sha256
from geocd.report.products import Outputs
from geocd.report.stac import STAC_VERSION, write_json
from geocd.vectorize.files import merge

CATALOG = "catalog.json"
#: Name of the file of all changes, without its suffix.
CHANGES = "changes"
#: File of the SHA-256 of each merged file, which shows whether it was edited since.
MERGED = ".merged.json"


def write_catalog(folder: Path, ids: Iterable[str]) -> Path:
    """Write a self-contained STAC catalogue of these pairs, by way of a temporary file.

    Returns
    -------
    pathlib.Path
        ``catalog.json``; its links are relative, so that the folder can be moved.

    Raises
    ------
    OutputError
    """
    path = folder / CATALOG
    write_json(path, catalog(folder.absolute().name, ids))
    return path


def catalog(name: str, ids: Iterable[str]) -> dict[str, Any]:
    """Return the STAC catalogue of these pairs as JSON."""
    link = {"href": f"./{CATALOG}", "type": "application/json"}
    items = [
        {"rel": "item", "href": f"./{name}/{name}.json", "type": "application/geo+json", "title": name}
        for name in sorted(ids)
    ]
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": name or "geocd",
        "title": "Changes between pairs of images",
        "description": f"Changes between {len(items)} pairs of images, found without labels by geocd.",
        "links": [{"rel": "root", **link}, *items],
    }


def upload_catalog(folder: Path, ids: Iterable[str], bucket: Bucket) -> None:
    """Upload the catalogue of these pairs to a bucket."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / CATALOG
        write_json(path, catalog(folder.absolute().name, ids))
        bucket.send(path, CATALOG)


def _merged_checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each merged file as it was written, by name."""
    try:
        content = json.loads((folder / MERGED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def merge_changes(folder: Path, ids: Iterable[str], suffix: str = "gpkg") -> Path:
    """Write the changes of these pairs into one file, and return it; an edited one is kept, renamed.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the batch.
    ids : iterable of str
    suffix : str
        Format of the file, see :func:`geocd.vectorize.files.merge`.
    """
    path = folder / f"{CHANGES}.{suffix}"
    checksums = _merged_checksums(folder)
    keep_edited(folder, {path.name: checksums.get(path.name)})
    merge({name: Outputs(folder / name / name).path("changes") for name in sorted(ids)}, path)
    write_json(folder / MERGED, {**checksums, path.name: sha256(path)})
    return path


__all__ = ["CATALOG", "CHANGES", "merge_changes", "upload_catalog", "write_catalog"]
