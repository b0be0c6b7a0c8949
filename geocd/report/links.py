"""Paths and URLs of inputs, as the outputs refer to them."""

from __future__ import annotations

import os
import re
import urllib.parse
import urllib.request
from pathlib import Path


def source_href(path: str, folder: Path) -> str:
    """Return how an item in ``folder`` refers to an input.

    A local file relative to the folder; anything else as it is, but without a password or a signed
    query, which must not travel with the outputs.
    """
    if "://" in path:
        parts = urllib.parse.urlsplit(path)
        query = parts.query
        if re.search(r"(^|&)([^=]*(sig|token|key|credential|secret|expires)[^=]*)=", query, re.IGNORECASE):
            query = ""
        return urllib.parse.urlunsplit(
            (parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path, query, parts.fragment)
        )
    if path.startswith("/vsi") or not Path(path).exists():  # /vsi..., NETCDF:"file":variable
        return path
    try:
        relative = Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return Path(path).absolute().as_uri()
    return iri(relative if relative.startswith("../") else f"./{relative}")


def source_path(href: str, folder: Path) -> str:
    """Return the path or URL that :func:`source_href` wrote as ``href`` for an item in ``folder``."""
    if href.startswith(("./", "../")):
        return os.path.normpath(folder / urllib.parse.unquote(href))
    if href.startswith("file:"):
        return urllib.request.url2pathname(urllib.parse.urlsplit(href).path)
    return href


def iri(path: str) -> str:
    """A path as IRI reference: only what may not stand in one is escaped, so it stays readable."""
    return re.sub(r"[\x00-\x20\"<>\\^`{|}%?#]", lambda match: urllib.parse.quote(match[0]), path)


def file_name(path: str) -> str:
    return path.split("?")[0].rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


__all__ = [
    "source_href",
    "source_path",
]
