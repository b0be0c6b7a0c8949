"""What a raster refers to beside itself, checked before GDAL follows it.

A file may make GDAL open others: a VRT refers to its sources, and some formats are nothing but an address. A
path of the user's may lead anywhere. What a file refers to must not be on the network, run code or form a
circle.
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
from geocd.location import Location
from geocd.raster import databases

#: Environment variable: with YES, files may refer to others on the network (a VRT over tiles in a bucket).
ALLOW = "GEOCD_REMOTE_SOURCES"
#: Formats that are an address or a list of them. Not used for local files, which GDAL would otherwise
#: recognise by content under any name.
REACHING = frozenset((
    "DAAS", "EEDA", "EEDAI", "GTI", "HTTP", "KMLSUPEROVERLAY", "MRF", "NGW", "OGCAPI", "PLMOSAIC",
    "PostGISRaster", "STACIT", "STACTA", "WCS", "WMS", "WMTS",
))  # fmt: skip
#: GDAL recognises a VRT by these bytes, among the first ones of the file.
_VRT, _HEAD = b"<VRTDataset", 1024
#: Names for which GDAL or rasterio uses the network.
_NETWORK = re.compile(
    r"/vsi(curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)|\b(https?|ftp|s3|gs|gcs|az|adls|oss|swift|hdfs)://"
    r"|^(DAAS|EEDAI?|NGW|OGCAPI|PG|PLMOSAIC|STACIT|STACTA|WCS|WMS|WMTS):",
    re.IGNORECASE,
)
#: Prefix of a raster inside a file.
_PART = re.compile(r'^(GTIFF_DIR:[^:]*|NETCDF|HDF4\w*:?\w*|HDF5|SENTINEL2_L\w+):"?', re.IGNORECASE)
#: Kinds of VRTs that only mosaic or warp their sources. Others compute: pixel functions may be code.
_KINDS = {"", "vrtwarpeddataset", "vrtpansharpeneddataset"}
_BANDS = {"", "vrtsourcedrasterband", "vrtwarpedrasterband", "vrtpansharpenedrasterband"}
#: Elements and attributes that name a source, and metadata that GDAL follows.
_NAMES = {"sourcefilename", "sourcedataset", "dempath"}
_FOLLOWED = re.compile(r"(_DATASET|_FILE|_DEM)$", re.IGNORECASE)
_DEEPEST, _LONGEST, _LONGEST_JSON = 100, 2**28, 2**26
#: VRTs that geocd made itself, of sources that the user chose.
_trusted: set[str] = set()

#: A member of an archive that is larger than this, and compressed more than so much, is taken for a zip bomb.
_LARGE, _PACKED = 2**30, 200


def is_remote(path: str) -> bool:
    """Tell whether a path leads to the network."""
    return not path.lstrip().startswith("<") and _NETWORK.search(path) is not None


def trust(path: str | os.PathLike[str]) -> None:
    """Let a VRT refer to sources on the network: geocd made it, of sources that the user chose."""
    _trusted.add(os.path.realpath(path))


def may_reach(path: str) -> bool:
    """Tell whether what a file refers to may be on the network."""
    allowed = os.environ.get(ALLOW, "").strip().upper() in ("YES", "TRUE", "ON", "1")
    return allowed or is_remote(path) or os.path.realpath(path) in _trusted


def is_file(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file exists; False also for a name that no file can have."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long; NUL
        return False


def check_name(path: str) -> None:
    """Raise :class:`RasterOpenError` for a path that cannot exist, and for a zip bomb."""
    if "\0" in path:
        raise RasterOpenError(f"{path!r}: a path cannot contain a NUL character. Correct it.", path=path)
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
                f"{path}: {member.filename} has {member.compress_size} bytes in the archive and "
                f"{member.file_size} unpacked. If you trust it, unpack it and pass the file.",
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
        It is not well-formed XML, it computes (pixel functions, code), or it refers to what must not be
        followed.
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
            f"{path}: is a VRT of more than {_LONGEST >> 20} MB. Build several, and a VRT of these.",
            path=path,
        )
    return content


def shown(source: str) -> str:
    """Return a source for a message: its beginning, without credentials and query."""
    return Location(source).public.partition("?")[0][:200]


def _check_source(source: str, name: str, path: str) -> None:
    """Raise :class:`RasterOpenError` unless a source may be opened."""
    if source.startswith("<") or "\0" in source:
        raise RasterOpenError(
            f"{name}: a source is given as text ({source[:60]!r}). Save it to a file and refer to that.",
            path=path,
            source=source,
        )
    if may_reach(path):
        return
    plain = _PART.sub("", source)
    if is_remote(source) or "://" in source or re.match(r"\w{2,}:", plain) or re.match(r"/vsi\w+\?", source):
        raise RasterOpenError(
            f"{name}: refers to a source that is not a local file ({shown(source)}), which is not followed: "
            f"a file must not decide what is fetched. If you trust it, set {ALLOW}=YES in the environment, "
            "or pass the source itself.",
            path=path,
            source=source,
        )


def check_overviews(overviews: str, path: str) -> None:
    """Raise :class:`RasterOpenError` unless a raster may refer to these overviews."""
    if may_reach(path):
        return
    if is_remote(overviews) or "://" in overviews:
        raise RasterOpenError(
            f"{path}: refers to overviews on the network ({shown(overviews)}); they are not followed: "
            f"a file must not decide what is fetched. If you trust it, set {ALLOW}=YES.",
            path=path,
            source=overviews,
        )
    _check_source(overviews, path, path)


def check_boxes(path: str) -> None:
    """Raise :class:`RasterOpenError` for a JPEG 2000 file whose boxes are not nested in each other.

    GDAL 3.10 loops forever on an empty box inside another one.
    """
    try:
        with Path(path).open("rb") as file:
            if file.read(12) == b"\0\0\0\x0cjP  \r\n\x87\n":
                _check_boxes(file, 0, file.seek(0, os.SEEK_END), path)
    except RasterOpenError:
        raise
    except (OSError, ValueError, struct.error):
        return  # GDAL says what is wrong with it


#: Boxes of JPEG 2000 that contain others.
_SUPERBOXES = (b"jp2h", b"asoc", b"res ", b"uinf", b"jpch", b"jplh")


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
        if kind in _SUPERBOXES:
            _check_boxes(file, begin + head, min(begin + length, end), path, depth + 1)
        begin += length


def why_no_vector(path: str) -> str | None:
    """Return why a vector file must not be opened: it refers to other sources. None where it may.

    Some formats of OGR are an address, and it follows the link to a CRS in a GeoJSON file. A view in a
    GeoPackage may have no end.
    """
    if not is_remote(path) and (why := databases.why_not_read(path)) is not None:
        return why
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
        return None  # opening it gives the reason
    if len(content) > _LONGEST_JSON:
        return f"is GeoJSON of more than {_LONGEST_JSON >> 20} MB. Convert it: ogr2ogr reference.gpkg {path}"
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        try:  # one feature in each line, for which GDAL reads no CRS
            for line in content.splitlines():
                json.loads(line)
        except (ValueError, RecursionError):
            return "is not well-formed JSON. Write it again, for instance with ogr2ogr."
        return None
    crs = document.get("crs")
    linked = isinstance(crs, dict) and crs.get("type") not in ("name", "EPSG", None)
    return _LEADS if linked or document.get("type") == "gdal_streamed_alg" else None


_LEADS = (
    "refers to another source or an address, which is not followed: a file must not decide what is fetched. "
    f"Convert it to a GeoPackage, or set {ALLOW}=YES in the environment if you trust it."
)
_ADDRESS = re.compile(
    rb"<OGR\w*DataSource|<OGR(WFS|OAPIF|CSW|VRT)|<(\w+:)?(WFS|Capabilities|csw)", re.IGNORECASE
)


class _Reader:
    """Parse the XML of a VRT for its sources, without building a tree of it.

    To GDAL the case of an element does not matter, and an attribute is the same as an element.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: list[str] = []
        self._attributes: list[dict[str, str]] = []
        self._text: list[str] = []
        self._sources: list[tuple[str, bool]] = []

    def parse(self, content: bytes) -> list[tuple[str, bool]]:
        """Return each source, and whether it is relative to the VRT."""
        try:
            content.decode("utf-8")
            encoding = "utf-8"
        except UnicodeDecodeError:
            encoding = "iso-8859-1"  # bytes as they are, as GDAL takes them
        parser = expat.ParserCreate(encoding)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.CommentHandler = parser.ProcessingInstructionHandler = self._comment
        parser.StartDoctypeDeclHandler = self._doctype
        parser.buffer_text = True
        try:
            parser.Parse(content, True)
        except expat.ExpatError as error:
            raise self._error(
                f"is not a well-formed VRT ({error}). Build it again with gdalbuildvrt."
            ) from error
        return self._sources

    def _error(self, what: str) -> RasterOpenError:
        return RasterOpenError(f"{self._name}: {what}", path=self._name)

    def _start(self, element: str, attributes: dict[str, str]) -> None:
        element = element.casefold()
        lower = {key.casefold(): value for key, value in attributes.items()}
        if self._open and self._open[-1] in _NAMES:
            raise self._error(f"has an element in the name of a source ({element}).")
        kind = lower.get("subclass", "").casefold()
        unknown = (element == "vrtdataset" and kind not in _KINDS) or (
            element == "vrtrasterband" and kind not in _BANDS
        )
        code = element.startswith("pixelfunction") or any(key.startswith("pixelfunction") for key in lower)
        if unknown or code or (element == "subclass" or "outputbands" in lower):
            raise self._error(
                f"computes its pixels ({attributes.get('subClass', element)}), which is not allowed, because "
                "it may run code. If you trust it, write it to a GeoTIFF with gdal_translate first."
            )
        if len(self._open) > _DEEPEST:
            raise self._error(f"is nested more than {_DEEPEST} elements deep.")
        if not _NAMES.isdisjoint(lower):
            raise self._error("has the name of a source in an attribute. Build it again with gdalbuildvrt.")
        self._open.append(element)
        self._attributes.append(lower)
        self._text.clear()

    def _end(self, element: str) -> None:
        element = self._open.pop()
        attributes = self._attributes.pop()
        text = "".join(self._text)
        self._text.clear()
        if element in _NAMES:
            self._sources.append((text, attributes.get("relativetovrt", "0").strip() != "0"))
        elif element == "mdi" and _FOLLOWED.search(attributes.get("key", "")) and is_remote(text):
            self._sources.append((text, False))

    def _comment(self, *_: str) -> None:
        if self._open and self._open[-1] in _NAMES:
            raise self._error("has a comment in the name of a source.")

    def _doctype(self, *_: object) -> None:
        raise self._error("has a document type, which a VRT does not need. Build it again with gdalbuildvrt.")


__all__ = [
    "ALLOW",
    "REACHING",
    "check_boxes",
    "check_name",
    "check_overviews",
    "is_file",
    "is_remote",
    "is_vrt",
    "may_reach",
    "shown",
    "trust",
    "vrt_sources",
    "why_no_vector",
]
