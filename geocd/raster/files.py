"""Raster files: opening them, with errors that name the file and the remedy.

The only module that opens files for reading. What a header claims is checked before memory is taken for it,
and the sources that a file refers to before GDAL follows them.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from geocd.errors import (
    OutputError,
    RasterOpenError,
    RasterReadError,
    SameImageError,
)
from geocd.location import Location, local_path
from geocd.raster import databases, network, sidecars, sources
from geocd.raster.claims import check_claims, check_is_one
from geocd.raster.georeference import check_georeference
from geocd.raster.grid import Grid
from geocd.raster.projections import check_projections
from geocd.raster.signed import original_text, readable, readable_vrt, why_unsigned

#: Depth of VRTs of VRTs.
MOST_VRTS = 10


class Openable(Protocol):
    """A raster that is not a file, such as a DataArray: it can be opened and read like a dataset."""

    @property
    def name(self) -> str:
        """Its name in messages."""

    def open(self) -> DatasetReader:
        """Return an object that is read like an open rasterio dataset."""


#: Where a raster comes from.
Source = str | os.PathLike[str] | Openable


def source_name(source: Source) -> str:
    """Return the name of a source in messages: its path or URL, or its own name."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else source.name


def check_two_files(before: Source, after: Source) -> None:
    """Check that two sources are not one file (or address), by whatever names.

    Raises
    ------
    SameImageError
    """
    if not isinstance(before, str | os.PathLike) or not isinstance(after, str | os.PathLike):
        return
    first, second = os.fspath(before), os.fspath(after)
    same = first == second
    if not same:
        with contextlib.suppress(OSError, ValueError):  # not local files
            same = Path(first).samefile(second)
    if same:
        raise SameImageError(
            f"before ({first}) and after ({second}) are the same file. Name an image of another date.",
            before=first,
            after=second,
        )


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
        The file does not exist, may not be read or is not a raster; it refers to sources that must not be
        followed; or its header claims more pixels than can be read.
    """
    check_projections()
    sources.check_name(path)
    _without_georeference_warning()
    begin = time.monotonic()
    try:
        dataset = _open(path, ())
    except (RasterioError, CPLE_BaseError, UnicodeError) as error:
        no_answer = network.why_no_answer(path, gdal_reason(error), time.monotonic() - begin)
        message = no_answer or _why_not(path, error)
        raise RasterOpenError(message, path=path, may_be_vector=no_answer is None) from error
    try:
        check_is_one(dataset, path)
        check_claims(dataset, path)
    except BaseException:
        dataset.close()
        raise
    return dataset


_DENIED = (
    "the server does not allow access. Where the address is signed, its signature may have expired: sign it "
    "again, or search the items again. Else check the login for the server"
)
#: What the answers of a server mean.
_ANSWERS = {
    "401": _DENIED,
    "403": _DENIED,
    "404": "the server has no such file. Check the address",
    "410": "the server has no such file any more. Check the address",
}


def _without_georeference_warning() -> None:
    """Keep rasterio's warning about rasters without a transform from the user: :func:`grid_of` refuses them.

    Only what this module opens is silent. ``warnings.catch_warnings`` would not be safe: pairs open their
    files in several threads.
    """
    if not warnings.filters or warnings.filters[0][2] is not NotGeoreferencedWarning:
        warnings.filterwarnings("ignore", category=NotGeoreferencedWarning, module=r"geocd\.raster\.files")


def local_files(path: str) -> list[Path]:
    """Return the local files that a raster consists of.

    Those of VRTs within VRTs and the archive around a raster are among them. None of them is on the network.

    Parameters
    ----------
    path : str
        As for :func:`open_raster`.

    Raises
    ------
    RasterOpenError
    """
    files: dict[Path, None] = {}
    to_do = [path]
    for name in to_do:
        file = Location(name).file
        if file is None or file in files:
            continue
        files[file] = None
        if name == path or sources.is_vrt(name):
            with open_raster(name) as dataset:
                to_do += dataset.files
    return list(files)


def _why_not(path: str, error: BaseException) -> str:
    """Return the message for a raster that cannot be opened: the reason, and what to do."""
    path = local_path(path) if path.startswith("file:") else path
    if why := why_unsigned():
        return f"{Location(path).public}: its link cannot be signed ({why}). Check --sign."
    if (status := re.search(r"HTTP response code: (\d+)", gdal_reason(error))) and status[1] in _ANSWERS:
        return f"{Location(path).public}: {_ANSWERS[status[1]]} (HTTP {status[1]})."
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
    """Open a raster after checking every source that it refers to.

    ``above`` are the VRTs that refer to it.
    """
    path = local_path(path) if path.startswith("file:") else path
    shorthand = path.casefold().startswith("vrt://")  # bands or a window of another raster
    inner = path[len("vrt://") :].partition("?")[0] if shorthand else path
    if shorthand:
        _open(inner, above).close()
    reach = sources.may_reach(inner)
    if reach:
        network.limit_waiting()
    if sources.is_remote(path) or (shorthand and reach):
        beside: list[str] | None = []
        options = {"GDAL_VRT_ENABLE_PYTHON": "NO"}
        if _may_run_python() and not shorthand:
            beside = sidecars.names_on_server(path)
            options["GDAL_DISABLE_READDIR_ON_OPEN"] = "TRUE"  # then GDAL tries these names alone
        with rasterio.Env(**options):
            dataset = rasterio.open(readable(path))
        if dataset.driver == "VRT":
            _check_vrt(path, above, dataset, follow=True)
        _check_sidecars(path, above, beside or [], dataset)
        return dataset
    vrt = not shorthand and sources.is_vrt(path)
    if vrt:
        _check_vrt(path, above, follow=True)
    sources.check_boxes(inner)
    if (why := databases.why_not_read(inner)) is not None:
        raise RasterOpenError(f"{path}: {why}", path=path)
    beside = [] if shorthand else sidecars.sidecars(path)  # of what a shorthand stands for: checked above
    _check_sidecars(path, above, beside or [])
    # All formats but VRT: a file that did not look like a VRT must not be opened as one.
    drivers = ["VRT"] if vrt or shorthand else _drivers(reaching=reach)
    options = {"GDAL_VRT_ENABLE_PYTHON": "NO"}
    if not reach:
        options["CPL_VSIL_CURL_ALLOWED_FILENAME"] = "none"
    if beside is None:  # what lies beside it was not checked
        options["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
    with rasterio.Env(**options):
        dataset = DatasetReader(readable_vrt(path) if vrt and reach else path, driver=drivers)
        if vrt:
            _check_vrt(path, above, dataset, follow=False)  # as GDAL has parsed it
    _check_sidecars(path, above, [], dataset)
    return dataset


def _may_run_python() -> bool:
    """Tell whether the user lets GDAL run the Python code in VRTs; geocd never lets it."""
    names = ("GDAL_VRT_ENABLE_PYTHON", "GDAL_VRT_PYTHON_TRUSTED_MODULES")
    return any(rasterio.env.get_gdal_config(name) for name in names)


def _check_sidecars(
    path: str, above: tuple[str, ...], beside: list[str], dataset: DatasetReader | None = None
) -> None:
    """Check the masks and overviews beside a raster as the raster itself, before GDAL opens them.

    Parameters
    ----------
    path : str
    above : tuple of str
        What refers to the raster.
    beside : list of str
        The files beside it.
    dataset : DatasetReader, optional
        The raster, which may name other overviews; closed where they must not be opened.

    Raises
    ------
    RasterOpenError
        One cannot be opened, refers to the network, computes its pixels, or claims too much.
    """
    try:
        tag = "" if dataset is None else dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE", "")
        files = list(beside)
        if tag:
            file = sidecars.overview_file(path, tag)
            sources.check_overviews(file, path)
            files += [file] if sources.is_remote(file) or sources.is_file(file) else []
        for file in files:
            _check_cycle(path, above)
            try:
                with _open(file, (*above, _own(path))) as sidecar:
                    check_claims(sidecar, file)
            except (RasterioError, CPLE_BaseError, UnicodeError) as error:
                if sidecars.is_optional(file) or sources.is_remote(file):
                    continue  # GDAL does not take it for one
                raise RasterOpenError(
                    f"{path}: the mask or overviews beside it cannot be opened. {_why_not(file, error)} "
                    "Or move it away.",
                    path=path,
                    sidecar=file,
                ) from error
    except BaseException:
        if dataset is not None:
            dataset.close()
        raise


#: Sources of VRTs that were opened and are no VRTs: a mosaic of thousands is opened more than once.
_checked: set[tuple[str, int, int, int]] = set()


def _identity(path: str) -> tuple[str, int, int, int] | None:
    """Return path, time and size of a local file, and the time of its folder; None where there is none."""
    try:
        status, folder = Path(path).stat(), Path(path).parent.stat()
    except (OSError, ValueError):
        return None
    return os.path.realpath(path), status.st_mtime_ns, status.st_size, folder.st_mtime_ns


def _check_vrt(
    path: str, above: tuple[str, ...], dataset: DatasetReader | None = None, *, follow: bool
) -> None:
    """Check the sources of a VRT: those in the file, or those of the dataset that GDAL made of it.

    With ``follow``, each local source is opened, which checks its own sources.

    Raises
    ------
    RasterOpenError
        See :func:`geocd.raster.sources.vrt_sources`; or a VRT includes itself.
    """
    _check_cycle(path, above)
    text = None if dataset is None else dataset.tags(ns="xml:VRT").get("xml:VRT")
    done = set()
    for source in sources.vrt_sources(path, text):  # to its end, which checks every one of them
        if not follow or source in done or sources.is_remote(source):
            continue
        done.add(source)
        if (identity := _identity(source)) in _checked:
            continue
        try:
            _open(source, (*above, _own(path))).close()
            if identity is not None and not sources.is_vrt(source):
                _checked.add(identity)
        except (RasterioError, CPLE_BaseError, UnicodeError) as error:
            raise RasterOpenError(
                f"{path}: one of its sources cannot be opened. {_why_not(source, error)}", path=path
            ) from error


def _own(path: str) -> str:
    """Return what is the same for all names of a raster that may refer to others."""
    return path if path.lstrip().startswith("<") else os.path.realpath(path)


def _check_cycle(path: str, above: tuple[str, ...]) -> None:
    """Raise :class:`RasterOpenError` where a raster refers to itself by way of others."""
    own = _own(path)
    if own in above or len(above) >= MOST_VRTS:
        raise RasterOpenError(
            f"{path}: VRTs that include each other ({' -> '.join((*above, own))}). Build it again from the "
            "images with gdalbuildvrt.",
            path=path,
        )


@functools.cache
def _drivers(*, reaching: bool) -> list[str]:
    """Return the names of GDAL's formats but VRT; without ``reaching``, only those that stay on this disk."""
    with rasterio.Env() as env:
        names = env.drivers()
    return [name for name in names if name != "VRT" and (reaching or name not in sources.REACHING)]


def gdal_reason(error: BaseException) -> str:
    """Return GDAL's or the system's own message: that of the innermost cause, outer ones refer to it."""
    while error.__cause__ is not None or error.__context__ is not None:
        if isinstance(error, OSError) and error.errno is not None:  # the system's; its context came before
            break
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return original_text(" ".join(str(error).split()))


def grid_of(dataset: DatasetReader, path: str) -> Grid:
    """Return the grid of an open raster.

    Raises
    ------
    GridError
        It has no CRS or no transform, see :func:`geocd.raster.georeference.check_georeference`.
    """
    check_georeference(dataset, path)
    return Grid(dataset.crs, dataset.transform, dataset.height, dataset.width)


def _free_space(path: Path) -> str:
    """Return a note where the disk is nearly full, which libraries report in many ways or not at all."""
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
            f"{os.fspath(path)}: cannot be written ({gdal_reason(error)}{_free_space(Path(path))}). Check "
            "that the folder is writable and the disk has room, then run again; nothing was left behind.",
            path=os.fspath(path),
        ) from error


def bounded_cache(megabytes: int = 128) -> rasterio.Env:
    """Return the environment of a run: a block cache of this size, unless the user set another.

    GDAL's default is 5 % of the memory of the machine, gigabytes on a large one, for blocks that are read
    once. Unlike the environment variable, what rasterio sets is bytes, however small the number.
    """
    return rasterio.Env(**({} if "GDAL_CACHEMAX" in os.environ else {"GDAL_CACHEMAX": megabytes * 2**20}))


def provenance(path: str | os.PathLike[str]) -> dict[str, object]:
    """Return the record of its run that a probability raster carries.

    Returns
    -------
    dict
        JSON as it stands in the tag ``GEOCD_PROVENANCE``, unchecked; empty where there is none.
    """
    with open_raster(os.fspath(path)) as dataset:
        text = dataset.tags().get("GEOCD_PROVENANCE", "{}")
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}


__all__ = [
    "Openable",
    "Source",
    "bounded_cache",
    "grid_of",
    "local_files",
    "open_raster",
    "output_errors",
    "provenance",
    "source_name",
]
