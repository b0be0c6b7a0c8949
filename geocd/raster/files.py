"""Raster files: opening them, with errors that name the file and the remedy.

The only module that opens files for reading. What a file claims is looked at before anything is reserved
for it, and what it names beside itself before GDAL follows it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import Interleaving
from rasterio.errors import CRSError, RasterioError
from rasterio.io import DatasetReader

from geocd.errors import (
    GridError,
    OutputError,
    RasterOpenError,
    RasterReadError,
)
from geocd.location import Location
from geocd.raster import sources
from geocd.raster.grid import Grid

#: More than this in one raster is a damaged header, or nothing that a run could end with.
MOST_PIXELS, MOST_BANDS = 10**12, 10_000
#: Bytes of a block, which is decoded as a whole.
MOST_BLOCK = 2**28
#: Bytes of pixels for a byte of the file. The best packers reach some thousands, a file of empty tiles 65536.
MOST_PACKED = 10**5
#: VRTs of VRTs.
MOST_VRTS = 10


class Openable(Protocol):
    """A raster that is no file: it has a name for messages, and opens as what reads like a dataset."""

    @property
    def name(self) -> str:
        """What to call it."""

    def open(self) -> Any:
        """Return what is read."""


#: Where a raster comes from.
Source = str | os.PathLike[str] | Openable


def source_name(source: Source) -> str:
    """Return what to call a source: its path or URL, or its own name."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else source.name


def open_raster(path: str) -> DatasetReader:
    """Open a raster for reading, with an error that names the file and the remedy.

    What a local file names beside itself must be local, see :mod:`geocd.raster.sources`.

    Parameters
    ----------
    path : str
        Anything GDAL opens: a file, ``s3://``, ``https://``, ``/vsizip/...``, a VRT.

    Raises
    ------
    RasterOpenError
        The file does not exist, may not be read, is no raster, names what must not be followed, or claims
        what no computer can read.
    """
    sources.check_name(path)
    try:
        dataset = _open(path, ())
    except (RasterioError, CPLE_BaseError, UnicodeError) as error:
        raise RasterOpenError(_why_not(path, error), path=path) from error
    try:
        _check_claims(dataset, path)
    except BaseException:
        dataset.close()
        raise
    return dataset


def _why_not(path: str, error: BaseException) -> str:
    """Return why a raster cannot be opened, and what to do."""
    if Location(path).is_local:
        try:
            exists = Path(path).exists()
        except OSError:  # a name that is too long
            exists = False
        if not exists:
            return f"{path}: no such file. Check the path (relative to {Path.cwd()})."
        if Path(path).is_dir():
            return f"{path}: is a folder, a raster file is needed. Name the file inside it."
        if not os.access(path, os.R_OK):
            return f"{path}: permission denied. Make the file readable for this user."
    return (
        f"{path}: not a raster that GDAL can read ({gdal_reason(error)}). "
        f"'rio info {path}' shows what GDAL sees; convert it to GeoTIFF or copy it again."
    )


def _open(path: str, above: tuple[str, ...]) -> DatasetReader:
    """Open a raster once all that it names has been looked at.

    ``above`` are the VRTs that lead to it.
    """
    path = path.removeprefix("file://")
    shorthand = path.casefold().startswith("vrt://")  # a part of another raster
    inner = path[len("vrt://") :].partition("?")[0] if shorthand else path
    if shorthand:
        _open(inner, above).close()
    if sources.is_remote(path) or (shorthand and sources.may_reach(inner)):
        with rasterio.Env(GDAL_VRT_ENABLE_PYTHON="NO"):
            dataset = rasterio.open(path)
        if dataset.driver == "VRT":
            _check_vrt(path, above, dataset, follow=True)
        return dataset
    vrt = not shorthand and sources.is_vrt(path)
    if vrt:
        _check_vrt(path, above, follow=True)
    sources.check_boxes(inner)
    reach = sources.may_reach(inner)
    # The formats but VRT, by their names: what was not seen to be a VRT must not be taken for one.
    drivers = ["VRT"] if vrt or shorthand else _drivers(reaching=reach)
    with rasterio.Env(
        GDAL_VRT_ENABLE_PYTHON="NO", **({} if reach else {"CPL_VSIL_CURL_ALLOWED_FILENAME": "none"})
    ):
        dataset = DatasetReader(path, driver=drivers)
        if vrt:
            _check_vrt(path, above, dataset, follow=False)  # as GDAL has understood it
        overview = dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE", "")
    if (sources.is_remote(overview) or "://" in overview) and not reach:
        dataset.close()
        raise RasterOpenError(
            f"{path}: names overviews on the network ({sources.shown(overview)}), and is not followed: a "
            f"file must not decide what is fetched. If you trust it, set {sources.ALLOW}=YES.",
            path=path,
            source=overview,
        )
    return dataset


#: Files that VRTs name and that lead no further: a mosaic of thousands is opened more than once.
_looked_at: set[tuple[str, int, int]] = set()


def _identity(path: str) -> tuple[str, int, int] | None:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return os.path.realpath(path), status.st_mtime_ns, status.st_size


def _check_vrt(
    path: str, above: tuple[str, ...], dataset: DatasetReader | None = None, *, follow: bool
) -> None:
    """Look at all that a VRT (as it stands in the file, or as GDAL has opened it) names, and that in turn.

    Raises
    ------
    RasterOpenError
        See :func:`geocd.raster.sources.vrt_sources`; or a VRT leads to itself.
    """
    own = path if path.lstrip().startswith("<") else os.path.realpath(path)
    if own in above or len(above) >= MOST_VRTS:
        raise RasterOpenError(
            f"{path}: VRTs that include each other ({' -> '.join((*above, own))}). Make it anew with "
            "gdalbuildvrt from the images.",
            path=path,
        )
    text = None if dataset is None else dataset.tags(ns="xml:VRT").get("xml:VRT")
    seen = set()
    for source in sources.vrt_sources(path, text):
        if not follow or source in seen or sources.is_remote(source):
            continue
        seen.add(source)
        if (found := _identity(source)) in _looked_at:
            continue
        try:
            _open(source, (*above, own)).close()
            if found is not None and not sources.is_vrt(source):
                _looked_at.add(found)
        except (RasterioError, CPLE_BaseError, UnicodeError) as error:
            raise RasterOpenError(f"{path}: names a source. {_why_not(source, error)}", path=path) from error


@functools.cache
def _drivers(*, reaching: bool) -> list[str]:
    """Return the names of all formats of local files but VRT."""
    with rasterio.Env() as env:
        known = env.drivers()
    return [name for name in known if name != "VRT" and (reaching or name not in sources.REACHING)]


def _check_claims(dataset: DatasetReader, path: str) -> None:
    """Raise :class:`RasterOpenError` for what no computer could read, before anything is reserved for it."""
    height, width, count = dataset.height, dataset.width, dataset.count
    size = f"{width} x {height} px in {count} bands"
    pixels = height * width
    if count > MOST_BANDS or pixels >= MOST_PIXELS:
        raise RasterOpenError(
            f"{path}: claims {size}, more than {MOST_BANDS} bands or {MOST_PIXELS:.0e} pixels. Is the file "
            "damaged? If not, cut it into parts.",
            path=path,
            shape=(count, height, width),
        )
    if count == 0:
        return
    item = np.dtype(dataset.dtypes[0]).itemsize if dataset.dtypes[0] != "complex_int16" else 4
    rows, cols = dataset.block_shapes[0]
    together = count if dataset.interleaving == Interleaving.pixel else 1
    if (block := rows * cols * item * together) > MOST_BLOCK:
        raise RasterOpenError(
            f"{path}: is stored in blocks of {cols} x {rows} px, and one of them takes {block / 2**20:.0f} "
            f"MB ({MOST_BLOCK >> 20} MB can be read). Write it in tiles first: "
            f"gdal_translate -co TILED=YES {path} tiled.tif",
            path=path,
            block=(rows, cols),
        )
    claimed = pixels * count * item
    if dataset.driver in ("GTiff", "JP2OpenJPEG") and claimed > MOST_BLOCK and sources.is_file(path):
        stored = Path(path).stat().st_size
        if claimed > stored * MOST_PACKED:
            raise RasterOpenError(
                f"{path}: claims {size}, but is a file of {stored} bytes, which can hold nothing of the "
                "kind. It is damaged or was never finished: copy or download it again.",
                path=path,
                shape=(count, height, width),
                size=stored,
            )


def gdal_reason(error: BaseException) -> str:
    """The innermost message of a rasterio error, the outer one only says 'see context'; or the system's."""
    while error.__cause__ is not None or error.__context__ is not None:
        if isinstance(error, OSError) and error.errno is not None:  # the context is what led to it
            break
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(str(error).split())


def grid_of(dataset: DatasetReader, path: str) -> Grid:
    """Return the grid of an open raster.

    Raises
    ------
    GridError
        The raster has no CRS, or a transform that nothing can be measured with.
    """
    if not _has_crs(dataset):
        raise GridError(
            f"{path}: the raster has no coordinate reference system, so nothing measured on it "
            "has a place or an area. Write the right one into it, for instance: "
            f"rio edit-info --crs EPSG:32633 {path}",
            path=path,
        )
    t = dataset.transform
    if not (0 < abs(t.determinant) < math.inf and math.isfinite(t.c) and math.isfinite(t.f)):
        raise GridError(
            f"{path}: its transform gives a pixel no area (origin ({t.c:.10g}, {t.f:.10g}), pixel "
            f"({t.a:.10g}, {t.e:.10g}), rotation ({t.b:.10g}, {t.d:.10g})). Write the right one into it: "
            f"rio edit-info --transform '[...]' {path}",
            path=path,
        )
    return Grid(dataset.crs, t, dataset.height, dataset.width)


def _has_crs(dataset: DatasetReader) -> bool:
    """Tell whether a raster has a coordinate reference system that can be written down."""
    try:
        return dataset.crs is not None and bool(dataset.crs.to_wkt())
    except (CRSError, CPLE_BaseError):
        return False


def _room(path: Path) -> str:
    """Say how little room is left on the disk: libraries have many words for that, or none."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return ""
    return f"; {free // 1024} kB are left on the disk" if free < 1024**2 else ""


@contextlib.contextmanager
def output_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what GDAL and the system raise while writing ``path`` into :class:`OutputError`."""
    try:
        yield
    except (RasterioError, CPLE_BaseError, OSError) as error:
        if isinstance(error, OutputError | RasterReadError | RasterOpenError):
            raise
        raise OutputError(
            f"{os.fspath(path)}: cannot be written ({gdal_reason(error)}{_room(Path(path))}). Check that the "
            "folder is writable and the disk has room, then run again; nothing was left behind.",
            path=os.fspath(path),
        ) from error


def bounded_cache(megabytes: int = 128) -> rasterio.Env:
    """Return the environment of a run: a block cache of this size, unless the user set another.

    GDAL's default is 5 % of the memory of the machine, gigabytes on a large one, for blocks that are read
    once. Unlike the environment variable, what rasterio sets is bytes, however small the number.
    """
    return rasterio.Env(**({} if "GDAL_CACHEMAX" in os.environ else {"GDAL_CACHEMAX": megabytes * 2**20}))


def provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a probability raster says about the run that made it (empty when it says nothing)."""
    with open_raster(os.fspath(path)) as dataset:
        text = dataset.tags().get("GEOCD_PROVENANCE", "{}")
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


__all__ = [
    "Openable",
    "Source",
    "bounded_cache",
    "grid_of",
    "open_raster",
    "output_errors",
    "provenance",
    "source_name",
]
