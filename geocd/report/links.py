"""Paths and URLs of inputs, as the outputs refer to them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from geocd.config import NO_MASK
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


def source_hrefs(paths: Iterable[str], folder: Path) -> list[str]:
    """Return :func:`source_href` of each path; what stands for no mask stays as it is."""
    return [path if path == NO_MASK else source_href(path, folder) for path in paths]


def source_paths(hrefs: Iterable[str], folder: Path) -> list[str]:
    """Return the paths or URLs that :func:`source_hrefs` wrote."""
    return [href if href == NO_MASK else source_path(href, folder) for href in hrefs]


__all__ = [
    "source_href",
    "source_hrefs",
    "source_path",
    "source_paths",
]
