"""Paths and URLs of inputs, as the outputs refer to them."""

from __future__ import annotations

from pathlib import Path

from geocd.location import Location


def source_href(path: str, folder: Path) -> str:
    """Return how an item in ``folder`` refers to an input.

    A local file relative to the folder; anything else as it is, but without a password or a signed
    query, which must not travel with the outputs.
    """
    return Location(path).href(folder)


def source_path(href: str, folder: Path) -> str:
    """Return the path or URL that :func:`source_href` wrote as ``href`` for an item in ``folder``."""
    return Location.from_href(href, folder).text


__all__ = [
    "source_href",
    "source_path",
]
