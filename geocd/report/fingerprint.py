"""Fingerprints of the inputs of a run, which tell whether it can be repeated."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rasterio.io import DatasetReader
from rasterio.windows import Window

from geocd.raster.files import open_raster
from geocd.raster.reading import read
from geocd.raster.sources import is_remote
from geocd.report.links import source_href


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """One file of an input, or an input that is no local file.

    Attributes
    ----------
    file : str
        Name of the file, without its folder; of an input that is no local file, its path or URL.
    size : int or None
        Bytes.
    mtime_ns : int or None
        Time of the last modification, in nanoseconds since 1970. Not part of the content: a copy has another.
    sha256 : str or None
        SHA-256 of the file, in hex.
    blocks : str or None
        Of an input that is no local file: SHA-256 of its profile, tags and three blocks, in hex.
    """

    file: str
    size: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None
    blocks: str | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Fingerprint:
        """Return the fingerprint that :meth:`as_dict` wrote; values of another type count as missing."""

        def text(name: str) -> str | None:
            value = values.get(name)
            return value if isinstance(value, str) else None

        def number(name: str) -> int | None:
            value = values.get(name)
            return value if isinstance(value, int) else None

        return cls(
            file=text("file") or "",
            size=number("size"),
            mtime_ns=number("mtime_ns"),
            sha256=text("sha256"),
            blocks=text("blocks"),
        )

    def as_dict(self, *, with_mtime: bool = True) -> dict[str, str | int]:
        """Return the values that JSON gets: those that are not None, ``mtime_ns`` on request only."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        if not with_mtime:
            values.pop("mtime_ns", None)
        return values

    def same_content(self, other: Fingerprint) -> bool:
        """Return whether everything but the time of modification is equal."""
        return dataclasses.replace(self, mtime_ns=None) == dataclasses.replace(other, mtime_ns=None)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def fingerprint(path: str, earlier: Sequence[Fingerprint] = ()) -> list[Fingerprint]:
    """Return the fingerprints of all files that a raster consists of.

    Parameters
    ----------
    path : str
        Path or URL.
    earlier : sequence of Fingerprint
        Fingerprints taken earlier: a file whose size and time of modification are unchanged since then is
        not read again.

    Returns
    -------
    list of Fingerprint
        One for each local file (including the sources of a VRT and masks, but no overviews and no statistics
        that QGIS or GDAL wrote beside it), by name. One with
        ``blocks`` for anything else: a change outside of these blocks is not noticed.

    Raises
    ------
    RasterOpenError, RasterReadError
    """
    with open_raster(path) as dataset:
        # of a remote raster GDAL would ask the server for twenty names of sidecars, of which none is a file
        files = [] if is_remote(path) else [Path(name) for name in dataset.files]
        if not files or not all(file.is_file() for file in files):
            return [Fingerprint(file=source_href(path, Path()), blocks=_hash_of_blocks(dataset, path))]
    by_name = {entry.file: entry for entry in earlier}
    fingerprints = []
    for file in sorted(files):
        if file.suffix == ".ovr" or _only_statistics(file):  # written by whoever looks at the image
            continue
        status = file.stat()
        previous = by_name.get(file.name)
        if (
            previous is not None
            and previous.sha256 is not None
            and (previous.size, previous.mtime_ns) == (status.st_size, status.st_mtime_ns)
        ):
            digest = previous.sha256
        else:
            digest = sha256(file)
        fingerprints.append(
            Fingerprint(file=file.name, size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=digest)
        )
    return fingerprints


#: What GDAL writes into ``.aux.xml`` without changing the image: statistics, histograms, and what holds them.
_STATISTICS = re.compile(
    rb"<MDI key=\"STATISTICS_\w+\">[^<]*</MDI>|<Histograms>.*?</Histograms>"
    rb"|</?(PAMDataset|PAMRasterBand|Metadata)( band=\"\d+\")?\s*/?>|\s+",
    re.DOTALL,
)


def _only_statistics(file: Path) -> bool:
    """Return whether a file is an ``.aux.xml`` that says nothing but statistics of an image."""
    return file.name.endswith(".aux.xml") and not _STATISTICS.sub(b"", file.read_bytes())


def _hash_of_blocks(dataset: DatasetReader, path: str) -> str:
    """Return the SHA-256 of profile, tags, and the first, the middle and the last block of band 1."""
    height, width = dataset.block_shapes[0]
    digest = hashlib.sha256(repr((dataset.profile, dataset.tags())).encode())
    for row, col in ((0, 0), (dataset.height // 2, dataset.width // 2), dataset.shape):
        top = min(row, dataset.height - 1) // height * height
        left = min(col, dataset.width - 1) // width * width
        window = Window(left, top, min(width, 512), min(height, 512))
        window = window.intersection(Window(0, 0, dataset.width, dataset.height))
        digest.update(read(dataset, path, window, indexes=1).tobytes())
    return digest.hexdigest()


def same_content(first: Sequence[Fingerprint], second: Sequence[Fingerprint]) -> bool:
    """Return whether two inputs have the same files with the same content, whenever they were modified."""
    return len(first) == len(second) and all(map(Fingerprint.same_content, first, second))


__all__ = [
    "Fingerprint",
    "fingerprint",
    "same_content",
]
