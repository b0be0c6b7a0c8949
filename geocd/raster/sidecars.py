"""Masks and overviews that lie beside a raster, which GDAL opens together with it, whatever they are."""

from __future__ import annotations

import os
import posixpath
import re
import tarfile
import zipfile
from pathlib import Path

from geocd.location import Location, exists

#: Ends of the names of a mask, of overviews, and of ERDAS's file of both.
_ENDS = (".msk", ".ovr")
_ERDAS = ".aux"
#: Prefix of overviews that lie in the folder of the raster.
_BASE = ":::BASE:::"
_ARCHIVE = re.compile(r"(?:/vsi(?:zip|tar)/|(?:zip|tar)(?:\+file)?://)\{?", re.IGNORECASE)


def sidecars(path: str) -> list[str] | None:
    """Return the masks and overviews beside a local raster, by their names, as GDAL would open them.

    To GDAL the case of a name does not matter: it compares with what the folder, or the archive, holds.

    Parameters
    ----------
    path : str
        A file, also of a raster in it (``NETCDF:scene.nc:B04``), or a member of an archive.

    Returns
    -------
    list of str or None
        None where it is not known what lies beside it, as in an archive within another.
    """
    if path.lstrip().startswith("<"):
        return []
    holder = Path(path) if exists(path) else Location(path).file
    if holder is None:
        return None
    try:
        if archive := _ARCHIVE.match(path):
            return _beside_member(path, archive, holder)
        prefix = "/vsigzip/" if path.startswith("/vsigzip/") else ""
        if path.startswith("/vsi") and path != f"{prefix}{holder}":
            return None
        folder = os.fspath(holder).removesuffix(holder.name)
        siblings = [sibling.name for sibling in holder.parent.iterdir()]
        return [f"{prefix}{folder}{name}" for name in _beside(holder.name, siblings)]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, tarfile.TarError):
        return None


def is_optional(sidecar: str) -> bool:
    """Tell whether GDAL takes a sidecar for one by its content: ERDAS's, whose name has other uses."""
    return sidecar.casefold().endswith(_ERDAS)


def names_on_server(path: str) -> list[str]:
    """Return the masks and overviews that GDAL looks for on a server that it does not list."""
    return [f"{path}{end}" for lower in _ENDS for end in (lower, lower.upper())]


def overview_file(path: str, tag: str) -> str:
    """Return the overviews that a raster refers to, of the value of its tag ``OVERVIEW_FILE``."""
    if not tag.startswith(_BASE):
        return tag
    return path.removesuffix(re.split(r"[/\\]", path)[-1]) + tag.removeprefix(_BASE)


def _beside(name: str, siblings: list[str]) -> list[str]:
    """Return which of the names in a folder are those of sidecars of the file ``name``."""
    full = name.casefold()
    names = {*(full + end for end in (*_ENDS, _ERDAS)), full.rpartition(".")[0] + _ERDAS} - {full}
    return [sibling for sibling in siblings if sibling.casefold() in names]


def _beside_member(path: str, prefix: re.Match[str], archive: Path) -> list[str] | None:
    """Return the sidecars of a member of a zip or tar archive."""
    begin = path[prefix.end() :]
    if not begin.startswith(str(archive)):
        return None
    member = posixpath.normpath(begin[len(str(archive)) :].lstrip("}!/"))
    if member in ("", "."):  # the only one, for which GDAL looks beside the archive
        return None
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as content:
            members = content.namelist()
    else:
        with tarfile.open(archive) as packed:
            members = packed.getnames()
    folder, name = posixpath.split(member)
    inside = [posixpath.split(posixpath.normpath(other)) for other in members]
    root = f"/vsi{'zip' if 'zip' in prefix[0].lower() else 'tar'}/{{{archive}}}"
    siblings = _beside(name, [other for parent, other in inside if parent == folder])
    return [f"{root}/{posixpath.join(folder, sibling)}" for sibling in siblings]


__all__ = ["is_optional", "names_on_server", "overview_file", "sidecars"]
