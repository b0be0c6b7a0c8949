"""Where rasters are: paths and URLs in every spelling of GDAL and rasterio, their names and links to them."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import urllib.parse
import urllib.request
from pathlib import Path

#: A URL, or one behind a prefix of GDAL: ``/vsicurl/https://...``, ``NETCDF:"https://..."``.
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://|\b(?:https?|ftp)://", re.IGNORECASE)
#: A URL of rasterio that names a member of an archive behind ``!``.
_ARCHIVE = re.compile(r"^(?:zip|tar|gzip)(?:\+\w+)?://", re.IGNORECASE)
#: In front of a file name, one of several rasters in that file: ``NETCDF:scene.nc:B04``.
_CONTAINER = re.compile(
    r'^(?:GPKG|GTIFF_DIR:[^:]*|HDF4\w*(?::\w+)?|HDF5|NETCDF|NITF_IM:\d+|PDF:\d+|SENTINEL[12]_\w+|ZARR):"?',
    re.IGNORECASE,
)
#: Any such prefix, also of formats not listed above; one letter is a drive of Windows.
_PREFIX = re.compile(r"\w{2,}:")
#: Prefixes that leave a file local.
_LOCAL = re.compile(
    r"(?:file|vrt|(?:zip|tar|gzip)(?:\+file)?)://(?=(?!\w+://))|/vsi(?:zip|tar|gzip|7z|rar|sparse|cached)/(?!vsi)"
    r"|/vsi(?:zip|tar|gzip|7z|rar|sparse|cached)(?=/vsi)|/vsisubfile/[^,]*,",
    re.IGNORECASE,
)
#: Names of parameters that give access, and of parameters whose values are long without giving it.
_SECRET = re.compile(
    r"sig|token|key|credential|secret|expires|pass|pwd|auth|cookie|jwt|session|policy|accessid|\bsas\b|\bcode\b"
    r"|\buser|^header|ticket|hmac|\b(pw|otp|login|access)\b",
    re.IGNORECASE,
)
_HARMLESS = re.compile(r"^(url|version(id)?|generation|bands|files?|item|collection|asset)$", re.IGNORECASE)
#: A value this long, of letters and digits, is a key or a signature, whatever its name.
_LONG = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w+/=.~-]{24,}")
#: Parameters outside of a query: of a connection (``PG:password=...``) or escaped within another URL.
_LOOSE = re.compile(
    r"((?:^|[\s?&;,:>]|%3F|%26)(?:[\w-]*(?:passw(?:or)?d|pwd|secret|token|signature|userpwd|apikey|api_key|access_key"
    r"|authorization|sessionid)|sig|(?<=[?&])key)\s*(?:=|%3D)|<UserPwd>)(?:\s*'[^']*'|[^\s&;,'\"\\<]+)",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Location:
    """Where a raster is: a path, a URL, a ``/vsi`` path, or a raster inside a container.

    Parameters
    ----------
    text : str
        As the user wrote it: ``scene.tif``, ``s3://bucket/scene.tif``, ``/vsizip/pack.zip/scene.tif``,
        ``zip://pack.zip!scene.tif``, ``NETCDF:"scene.nc":B04``.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def is_url(self) -> bool:
        """Whether it is a URL, or holds one behind a prefix (``/vsicurl/https://...``)."""
        return _URL.search(self.text) is not None

    @property
    def is_local(self) -> bool:
        """Whether it is the path of a file: no URL, ``/vsi`` path, raster in a container or text of a VRT."""
        text = self.text.lstrip()
        return not (self.is_url or text.startswith(("/vsi", "<")) or _PREFIX.match(text))

    @property
    def file(self) -> Path | None:
        """The local file that holds it, such as the archive of a member; None where there is none."""
        if self.is_url and not _LOCAL.match(self.text):
            return None
        text = self.text
        while prefix := _LOCAL.match(text) or _CONTAINER.match(text) or re.match(r'[{"]', text):
            text = text[prefix.end() :]
        ends = [len(text), *(match.start() for match in re.finditer(r'[/\\!:?}"]', text))]
        for end in sorted(ends, reverse=True):
            if end and _is_file(text[:end]):
                return Path(text[:end])
        return None

    @property
    def name(self) -> str:
        """The last part, with its extension and without the query of a URL.

        Of an archive the member (``scene.tif``), of a container the file and the raster in it
        (``scene.nc:B04``).
        """
        text = self.public
        if self.is_url or text.startswith("/vsi"):
            text = text.partition("?")[0]
        if _ARCHIVE.match(text):
            text = text.replace("!", "/")
        if prefix := _CONTAINER.match(text):
            text = text[prefix.end() :].replace('"', "")
        return re.split(r"[/\\]", text.rstrip("/\\"))[-1]

    @property
    def stem(self) -> str:
        """The last part without its extension, to name other files after; of a container the raster in it."""
        name = self.name
        return Path(name.rpartition(":")[2] if _CONTAINER.match(self.text) else name).stem

    @property
    def public(self) -> str:
        """The same location without user, password and signed query, which must not be written down."""
        if self.is_local:
            return self.text
        end = "".join(end for end, begins in _ENDS.items() if begins.search(self.text))
        return _without_secrets(self.text, end or "\0")

    def href(self, folder: Path) -> str:
        """Return the link to this location in a file that lies in ``folder``.

        A file that exists is linked relative to the folder, anything else as it is, but for secrets.
        """
        if self.is_url:
            return self.public
        if self.text.startswith("/vsi") or not exists(self.text):
            return self.public
        try:
            relative = Path(os.path.relpath(self.text, folder)).as_posix()
        except ValueError:  # another drive of Windows
            return Path(self.text).absolute().as_uri()
        return iri(relative if relative.startswith("../") else f"./{relative}")

    @classmethod
    def from_href(cls, href: str, folder: Path) -> Location:
        """Return the location that :meth:`href` gave as a link for a file in ``folder``."""
        if href.startswith(("./", "../")):
            return cls(os.path.normpath(folder / urllib.parse.unquote(href)))
        file = re.match(r"file:(?://[^/?#]*)?([^?#]*)", href, re.IGNORECASE)
        return cls(href if file is None else urllib.request.url2pathname(file[1]))


def local_path(href: str) -> str:
    """Return the path that a file URL or a relative link means, with ``%20`` decoded; others as they are.

    A file whose name has a ``%`` in it, and exists, is meant as it is written.
    """
    location = Location(href)
    if href.casefold().startswith("file:"):
        path = re.sub(r"^file:(//(localhost)?(?=/))?", "", href, flags=re.IGNORECASE)
        decoded = Location.from_href(href, Path()).text
    elif location.is_local:
        path, decoded = href, urllib.parse.unquote(href)
    else:
        return href
    return path if exists(path) else decoded


#: What ends a URL inside a location, where the location matches.
_ENDS = {
    '"': re.compile('"'),
    "}": re.compile(r"\{"),
    "!": re.compile(r"^(?:zip|tar|gzip)\+?\w*://", re.IGNORECASE),
    " ": re.compile(r"^\s*<"),  # a VRT written as text
    "<": re.compile(r"^\s*<"),
}


def public_text(text: str) -> str:
    """Return a text, such as a message, with the secrets of all URLs in it removed, see :attr:`public`."""
    return _without_secrets(text, " \t\r\n\"'<>\\\\")


@functools.cache
def _urls(end: str) -> re.Pattern[str]:
    """Return what finds URLs, and paths of GDAL with parameters, up to one of the characters ``end``."""
    return re.compile(
        r"(?P<head>[a-z][a-z0-9+.-]*://)"
        # a password may hold what should be escaped: / ? # and spaces; a port is none
        rf"(?:[^/?#{end}]*@|[^/?#@:\s]+:(?!\s|\d{{1,5}}(?:[/?#\s:,.]|$))[^@\n{end.replace(' ', '')}]*@)?"
        rf"(?P<path>(?:(?!\b[a-z][a-z0-9+.-]*://)[^?#{end}])*)(?:\?(?P<query>[^#{end}]*))?(?P<fragment>\#[^{end}]*)?"
        rf"|(?P<vsi>/vsi\w+(?:(?!://)[^?#{end}])*)\?(?P<options>[^{end}]*)",
        re.IGNORECASE,
    )


def _without_secrets(text: str, end: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        if match["vsi"] is not None:
            return match["vsi"] + _options(match["options"])
        query, fragment = match["query"], match["fragment"] or ""
        closing = "" if query is None else _CLOSING.search(query)[0]  # type: ignore[index]  # may be empty
        if query is not None and not _is_secret(query.removesuffix(closing)):
            closing = f"?{query}"
        if _is_secret(fragment[1:]):
            fragment = ""
        return match["head"].lower() + match["path"] + closing + fragment

    return _LOOSE.sub(r"\1***", _urls(end).sub(replaced, text))


#: What ends a sentence, or a bracket, after a URL.
_CLOSING = re.compile(r"[.,:;)\]]*$")


def _is_secret(query: str) -> bool:
    """Return whether a parameter of a query gives access."""
    for parameter in re.split(r"[&;]", query):
        name, equals, value = map(_decoded, parameter.partition("="))
        if "://" in value and public_text(value) != value:
            return True
        if _SECRET.search(name) or (not _HARMLESS.match(name) and _LONG.fullmatch(value if equals else name)):
            return True
    return False


def _decoded(text: str) -> str:
    """Return a part of a URL without percent-encoding, also where it was encoded more than once."""
    for _ in range(3):
        text = urllib.parse.unquote(text)
    return text


def _options(text: str) -> str:
    """Return the options of a path such as ``/vsicurl?url=...`` without those that give access."""
    kept = []
    for option in text.split("&"):
        name, _, value = option.partition("=")
        if name.lower() == "url":
            url = public_text(urllib.parse.unquote(value))
            kept.append(f"{name}={urllib.parse.quote(url, safe='') if '%' in value else url}")
        elif not _is_secret(option):
            kept.append(option)
    return f"?{'&'.join(kept)}" if kept else ""


def exists(path: str) -> bool:
    """Tell whether a text is the path of a local file or folder."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a path: the text of a VRT; NUL
        return False


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long; NUL
        return False


def iri(path: str) -> str:
    """Return a path as an IRI reference; only what must be escaped is, so that it stays readable."""
    return re.sub(r"[\x00-\x20\"<>\\^`{|}%?#]", lambda match: urllib.parse.quote(match[0]), path)


__all__ = [
    "Location",
    "exists",
    "iri",
    "local_path",
    "public_text",
]
