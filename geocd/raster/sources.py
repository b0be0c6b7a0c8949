"""What a raster names beside itself, found before GDAL follows it.

A file may make GDAL open others: a VRT names its sources, and some formats are nothing but an address. What
the user wrote may lie anywhere. What a file says must not reach the network, run code or lead in a circle.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from xml.parsers import expat

from geocd.errors import RasterOpenError

#: Set to YES, files may name others on the network (a VRT of ``gdalbuildvrt`` over tiles in a bucket).
ALLOW = "GEOCD_REMOTE_SOURCES"
#: Formats that are an address or a list of them. Left out where a local file is opened, so that none of them
#: is told by its content under another name.
REACHING = frozenset((
    "DAAS", "EEDA", "EEDAI", "GTI", "HTTP", "KMLSUPEROVERLAY", "MRF", "NGW", "OGCAPI", "PLMOSAIC",
    "PostGISRaster", "STACIT", "STACTA", "WCS", "WMS", "WMTS",
))  # fmt: skip
#: A VRT is known by these bytes among its first; GDAL looks no further.
_VRT, _HEAD = b"<VRTDataset", 1024
#: Names that GDAL, or rasterio, takes to the network.
_NETWORK = re.compile(
    r"/vsi(curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)|\b(https?|ftp|s3|gs|gcs|az|adls|oss|swift|hdfs)://"
    r"|^(DAAS|EEDAI?|NGW|OGCAPI|PG|PLMOSAIC|STACIT|STACTA|WCS|WMS|WMTS):",
    re.IGNORECASE,
)
#: In front of a file name, a part of that file.
_PART = re.compile(r'^(GTIFF_DIR:[^:]*|NETCDF|HDF4\w*:?\w*|HDF5|SENTINEL2_L\w+):"?', re.IGNORECASE)
#: VRTs that only put sources side by side or warp them. Others compute: pixel functions may be code.
_KINDS = {"", "vrtwarpeddataset", "vrtpansharpeneddataset"}
_BANDS = {"", "vrtsourcedrasterband", "vrtwarpedrasterband", "vrtpansharpenedrasterband"}
#: Elements and attributes that name a source, and metadata that GDAL follows.
_NAMES = {"sourcefilename", "sourcedataset", "dempath"}
_FOLLOWED = re.compile(r"(_DATASET|_FILE|_DEM)$", re.IGNORECASE)
_DEEPEST, _LONGEST, _LONGEST_JSON = 100, 2**28, 2**26
#: VRTs that geocd itself made of sources that the user named.
_trusted: set[str] = set()

#: A member of an archive that is larger than this and was packed so well is a bomb, or a raster of nothing.
_LARGE, _PACKED = 2**30, 200


def is_remote(path: str) -> bool:
    """Tell whether a path leads to the network."""
    return not path.lstrip().startswith("<") and _NETWORK.search(path) is not None


def trust(path: str | os.PathLike[str]) -> None:
    """Let a VRT name sources on the network: geocd made it of what the user named."""
    _trusted.add(os.path.realpath(path))


def may_reach(path: str) -> bool:
    """Tell whether what a file names may lie on the network."""
    allowed = os.environ.get(ALLOW, "").strip().upper() in ("YES", "TRUE", "ON", "1")
    return allowed or is_remote(path) or os.path.realpath(path) in _trusted


def is_file(path: str | os.PathLike[str]) -> bool:
    """Tell whether there is such a file; no for a name that no file can have."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long; NUL
        return False


def check_name(path: str) -> None:
    """Raise :class:`RasterOpenError` for a path that no system has, and for a zip bomb."""
    if "\0" in path:
        raise RasterOpenError(f"{path!r}: a path cannot hold a NUL character. Correct it.", path=path)
    archive = re.search(
        r"(?:/vsizip/\{?|zip://)(.+?\.(?:zip|kmz|SAFE\.zip))\}?(?:[!/]|$)", path, re.IGNORECASE
    )
    if archive is None or is_remote(path) or not is_file(archive[1]):
        return
    try:
        with zipfile.ZipFile(archive[1]) as content:
            members = content.infolist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return  # GDAL says what is wrong with it
    for member in members:
        if member.file_size > _LARGE and member.file_size > _PACKED * member.compress_size:
            raise RasterOpenError(
                f"{path}: {member.filename} takes {member.compress_size} bytes in the archive and "
                f"{member.file_size} outside. If you trust it, unpack it and name the file.",
                path=path,
                packed=member.compress_size,
                unpacked=member.file_size,
            )


def is_vrt(path: str) -> bool:
    """Tell whether GDAL would take a file, or the path itself, for a VRT."""
    if path.lstrip().startswith("<"):
        return _VRT in path.encode(errors="replace")
    try:
        with Path(path).open("rb") as file:
            return _VRT in file.read(_HEAD)
    except (OSError, ValueError):
        return False


def vrt_sources(path: str, text: str | None = None) -> Iterator[str]:
    """Yield the sources of a VRT, as GDAL would open them.

    Parameters
    ----------
    path : str
        The VRT, or its text.
    text : str, optional
        The VRT as GDAL understood it, instead of the content of the file.

    Raises
    ------
    RasterOpenError
        It is no well-formed XML, it computes (pixel functions, code), or names what GDAL must not follow.
    """
    inline = path.lstrip().startswith("<")
    name = "a VRT written as text" if inline else path
    if text is not None:
        content = text.encode()
    else:
        content = path.encode(errors="replace") if inline else _content(path)
    folder = "" if inline else path.removesuffix(Path(path).name)
    for source, relative in _Reader(name).parse(content):
        source = source.strip()
        _check_source(source, name, path)
        part = _PART.match(source)
        begin = part.end() if part else 0
        file = source[begin:]
        if relative and not Path(file).is_absolute():
            file = folder + file
        yield source[:begin] + file


def _content(path: str) -> bytes:
    with Path(path).open("rb") as file:
        content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise RasterOpenError(
            f"{path}: is a VRT of more than {_LONGEST >> 20} MB. Build several, and one of them.", path=path
        )
    return content


def shown(source: str) -> str:
    """Return a source for a message: not endless, and without a signature."""
    return source.partition("?")[0][:200]


def _check_source(source: str, name: str, path: str) -> None:
    """Raise :class:`RasterOpenError` unless a source may be opened."""
    if source.startswith("<") or "\0" in source:
        raise RasterOpenError(
            f"{name}: a source is written as text ({source[:60]!r}). Save it to a file and name that.",
            path=path,
            source=source,
        )
    if may_reach(path):
        return
    plain = _PART.sub("", source)
    if is_remote(source) or "://" in source or re.match(r"\w{2,}:", plain) or re.match(r"/vsi\w+\?", source):
        raise RasterOpenError(
            f"{name}: names a source that is no local file ({shown(source)}), and is not followed: a file "
            f"must not decide what is fetched. If you trust it, set {ALLOW}=YES in the environment, or "
            "name the source itself.",
            path=path,
            source=source,
        )


def check_boxes(path: str) -> None:
    """Raise :class:`RasterOpenError` for a JPEG 2000 file whose boxes do not lie in each other.

    GDAL 3.10 never ends on a box of no length inside another one.
    """
    try:
        with Path(path).open("rb") as file:
            if file.read(12) == b"\0\0\0\x0cjP  \r\n\x87\n":
                _check_boxes(file, 0, file.seek(0, os.SEEK_END), path)
    except RasterOpenError:
        raise
    except (OSError, ValueError, struct.error):
        return  # GDAL says what is wrong with it


def _check_boxes(file: IO[bytes], begin: int, end: int, path: str, depth: int = 0) -> None:
    while begin + 8 <= end:
        file.seek(begin)
        length, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if length == 1:
            length, head = int.from_bytes(file.read(8), "big"), 16
        if length == 0 and depth == 0:  # to the end of the file
            return
        if length < head or (depth and begin + length > end) or depth > _DEEPEST:
            raise RasterOpenError(
                f"{path}: is a damaged JPEG 2000 file (a box of {length} bytes at byte {begin}). Copy or "
                "download it again.",
                path=path,
            )
        if kind in (b"jp2h", b"asoc", b"res ", b"uinf", b"jpch", b"jplh"):
            _check_boxes(file, begin + head, min(begin + length, end), path, depth + 1)
        begin += length


def why_no_vector(path: str) -> str | None:
    """Return why a vector file is not to be opened: it leads elsewhere. None where it may.

    OGR has formats that are an address, and follows the link to a CRS that GeoJSON may have.
    """
    if is_remote(path) or may_reach(path):
        return None
    try:
        with Path(path).open("rb") as file:
            begin = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
            if begin[:1] != b"{":
                return _LEADS if _ADDRESS.search(begin) else None
            file.seek(0)
            content = file.read(_LONGEST_JSON + 1)
    except (OSError, ValueError):
        return None  # whoever opens it says why not
    if len(content) > _LONGEST_JSON:
        return f"is GeoJSON of more than {_LONGEST_JSON >> 20} MB. Convert it: ogr2ogr reference.gpkg {path}"
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        try:  # one feature in each line, where GDAL knows of no CRS
            for line in content.splitlines():
                json.loads(line)
        except (ValueError, RecursionError):
            return "is no well-formed JSON. Write it anew, for instance with ogr2ogr."
        return None
    crs = found.get("crs")
    names = isinstance(crs, dict) and crs.get("type") not in ("name", "EPSG", None)
    return _LEADS if names or found.get("type") == "gdal_streamed_alg" else None


_LEADS = (
    "names another source or an address, which is not followed: a file must not decide what is fetched. "
    f"Convert it to a GeoPackage, or set {ALLOW}=YES in the environment if you trust it."
)
_ADDRESS = re.compile(
    rb"<OGR\w*DataSource|<OGR(WFS|OAPIF|CSW|VRT)|<(\w+:)?(WFS|Capabilities|csw)", re.IGNORECASE
)


class _Reader:
    """The sources in the XML of a VRT, without building a tree of it.

    GDAL knows elements by their name in any case, and takes attributes for elements.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: list[str] = []
        self._attributes: list[dict[str, str]] = []
        self._text: list[str] = []
        self._found: list[tuple[str, bool]] = []

    def parse(self, content: bytes) -> list[tuple[str, bool]]:
        """Return every source, and whether it is relative to the VRT."""
        try:
            content.decode("utf-8")
            encoding = "utf-8"
        except UnicodeDecodeError:
            encoding = "iso-8859-1"  # bytes as they are, as GDAL takes them
        parser = expat.ParserCreate(encoding)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.CommentHandler = parser.ProcessingInstructionHandler = self._between
        parser.StartDoctypeDeclHandler = self._doctype
        parser.buffer_text = True
        try:
            parser.Parse(content, True)
        except expat.ExpatError as error:
            raise self._error(f"is no well-formed VRT ({error}). Make it anew with gdalbuildvrt.") from error
        return self._found

    def _error(self, what: str) -> RasterOpenError:
        return RasterOpenError(f"{self._name}: {what}", path=self._name)

    def _start(self, element: str, attributes: dict[str, str]) -> None:
        element = element.casefold()
        given = {key.casefold(): value for key, value in attributes.items()}
        if self._open and self._open[-1] in _NAMES:
            raise self._error(f"has an element inside the name of a source ({element}).")
        kind = given.get("subclass", "").casefold()
        unknown = (element == "vrtdataset" and kind not in _KINDS) or (
            element == "vrtrasterband" and kind not in _BANDS
        )
        code = element.startswith("pixelfunction") or any(key.startswith("pixelfunction") for key in given)
        if unknown or code or (element == "subclass" or "outputbands" in given):
            raise self._error(
                f"computes its pixels ({attributes.get('subClass', element)}), which stays switched off, "
                "because it may be code. If you trust it, write it to a GeoTIFF with gdal_translate first."
            )
        if len(self._open) > _DEEPEST:
            raise self._error(f"is nested more than {_DEEPEST} elements deep.")
        if not _NAMES.isdisjoint(given):
            raise self._error("has the name of a source in an attribute. Make it anew with gdalbuildvrt.")
        self._open.append(element)
        self._attributes.append(given)
        self._text.clear()

    def _end(self, element: str) -> None:
        element = self._open.pop()
        given = self._attributes.pop()
        text = "".join(self._text)
        self._text.clear()
        if element in _NAMES:
            self._found.append((text, given.get("relativetovrt", "0").strip() != "0"))
        elif element == "mdi" and _FOLLOWED.search(given.get("key", "")) and is_remote(text):
            self._found.append((text, False))

    def _between(self, *told: str) -> None:
        if self._open and self._open[-1] in _NAMES:
            raise self._error("has a comment inside the name of a source.")

    def _doctype(self, *told: object) -> None:
        raise self._error("has a document type, which a VRT does not need. Make it anew with gdalbuildvrt.")


__all__ = [
    "ALLOW",
    "REACHING",
    "check_boxes",
    "check_name",
    "is_file",
    "is_remote",
    "is_vrt",
    "may_reach",
    "shown",
    "trust",
    "vrt_sources",
    "why_no_vector",
]
