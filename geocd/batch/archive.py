"""All results of a batch together: a STAC catalogue, and all changes in one file."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from geocd.batch.pairs import is_id
from geocd.batch.upload import Bucket
from geocd.pipeline.edited import keep_edited
from geocd.raster.files import output_errors
from geocd.report.fingerprint import sha256
from geocd.report.products import Outputs
from geocd.report.stac import STAC_VERSION, write_json
from geocd.vectorize.files import merge

CATALOG = "catalog.json"
_ROOT = {"rel": "root", "href": f"./{CATALOG}", "type": "application/json"}
#: The description as :func:`catalog` writes it; another one is somebody's own.
_DESCRIPTION = re.compile(r"Changes between \d+ pairs of images, found without labels by geocd\.")
#: Name of the file of all changes, without its suffix.
CHANGES = "changes"
#: File of the SHA-256 of each file of the whole batch, which shows whether it was edited since.
MERGED = ".merged.json"


def write_catalog(folder: Path, ids: Iterable[str], others: Iterable[str] = ()) -> Path:
    """Write a self-contained STAC catalogue of those of these pairs whose items exist.

    What others have added to the catalogue stays: their links and fields, also their id, title and
    description. A file that is no catalogue is kept under another name.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the batch.
    ids : iterable of str
        The finished pairs.
    others : iterable of str
        Pairs of the batch that are not finished; they lose their links.

    Returns
    -------
    pathlib.Path
        ``catalog.json``; its links are relative, so that the folder can be moved.

    Raises
    ------
    OutputError
    """
    path = folder / CATALOG
    older = _older_catalog(path)
    finished = {name for name in ids if (folder / name / f"{name}.json").is_file()}
    links = [
        link
        for link in older.get("links", [])
        if link != _ROOT and not _is_obsolete(link, folder, {*ids, *others})
    ]
    content = catalog(folder.absolute().name, finished)
    written = _DESCRIPTION.fullmatch(str(older.get("description")))
    own = content.keys() if written else {"type", "stac_version", "links"}
    content |= {key: value for key, value in older.items() if key not in own}
    content["links"] += [link for link in links if link not in content["links"]]
    write_json(path, content)
    return path


def _older_catalog(path: Path) -> dict[str, Any]:
    """Return the catalogue of a folder, empty where there is none; another file of its name is kept."""
    if not path.is_file():
        return {}
    with output_errors(path), contextlib.suppress(ValueError, RecursionError):
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        if (
            isinstance(content, dict)
            and content.get("type") == "Catalog"
            and isinstance(content.get("links", []), list)
        ):
            return content
    keep_edited(path.parent, {path.name: None})
    return {}


def _is_obsolete(link: object, folder: Path, ids: Collection[str]) -> bool:
    """Return whether geocd made a link, and to an item of these pairs or to one that is gone."""
    name = link.get("title") if isinstance(link, dict) else None
    if not isinstance(name, str) or not is_id(name) or link != _item_link(name):
        return False
    return name in ids or not (folder / name / f"{name}.json").is_file()


def _item_link(name: str) -> dict[str, str]:
    """Return the link to the item of a pair."""
    return {"rel": "item", "href": f"./{name}/{name}.json", "type": "application/geo+json", "title": name}


def catalog(name: str, ids: Iterable[str]) -> dict[str, Any]:
    """Return the STAC catalogue of these pairs as JSON."""
    items = [_item_link(item) for item in sorted(ids)]
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": name or "geocd",
        "title": "Changes between pairs of images",
        "description": f"Changes between {len(items)} pairs of images, found without labels by geocd.",
        "links": [_ROOT, *items],
    }


def upload_catalog(folder: Path, ids: Iterable[str], bucket: Bucket) -> None:
    """Upload the catalogue of these pairs to a bucket."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / CATALOG
        write_json(path, catalog(folder.absolute().name, ids))
        bucket.send(path, CATALOG)


def _merged_checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of the whole batch as it was written, by name."""
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
    keep_edited_results(folder, path)
    merge({name: Outputs(folder / name / name).path("changes") for name in sorted(ids)}, path)
    remember(folder, path)
    return path


def keep_edited_results(folder: Path, *paths: Path) -> None:
    """Keep files of the whole batch that were edited since :func:`remember` under another name."""
    checksums = _merged_checksums(folder)
    keep_edited(folder, {path.name: checksums.get(path.name) for path in paths})


def remember(folder: Path, *paths: Path) -> None:
    """Note the checksums of files of the whole batch, which show later whether they were edited."""
    write_json(folder / MERGED, {**_merged_checksums(folder), **{path.name: sha256(path) for path in paths}})


__all__ = [
    "CATALOG",
    "CHANGES",
    "keep_edited_results",
    "merge_changes",
    "remember",
    "upload_catalog",
    "write_catalog",
]
