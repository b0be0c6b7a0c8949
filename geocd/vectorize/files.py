"""The polygons as a file that GIS programs open: complete or not at all.

:mod:`geocd.vectorize.formats` has the formats. None grows piece by piece: the polygons are in memory (the
raster is not), so that a file can be complete and in order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geocd.errors import ConfigError
from geocd.raster.files import output_errors
from geocd.replacing import keep_permissions, replace
from geocd.vectorize.dateline import cut, in_one_piece
from geocd.vectorize.formats import LAYER, VectorFormat, format_of, merge_formats

if TYPE_CHECKING:
    import geopandas

#: Longitude and latitude on WGS 84.
WGS84 = "EPSG:4326"


def timestamp(date: str | None) -> str:
    """Return the time of the last change to write into a file, as ISO 8601 in UTC.

    Never the time of the run, or no two runs would be equal: ``SOURCE_DATE_EPOCH`` where it is set, else
    ``date`` (ISO 8601) where it can be read, else the beginning of 1970.
    """
    at = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None and epoch.strip().isdigit():
        at = datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
    elif date is not None:
        with contextlib.suppress(ValueError):  # only a time stamp: an odd date must not cost the result
            at = datetime.datetime.fromisoformat(date.replace("Z", "+00:00"))
            if at.tzinfo is not None:
                at = at.astimezone(datetime.timezone.utc)
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


_CONFIG_LOCK = threading.Lock()


@contextlib.contextmanager
def _current_date(stamp: str) -> Iterator[None]:
    """Make GDAL use ``stamp`` as the current time; its options are global, hence the lock."""
    import pyogrio

    with _CONFIG_LOCK:
        old = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": stamp})
        try:
            yield
        finally:
            pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": old})


def write(
    frame: geopandas.GeoDataFrame,
    destination: Path,
    stamp: str,
    *,
    style: bytes | None = None,
    pixel: float | None = None,
    fmt: VectorFormat | None = None,
) -> None:
    """Write the polygons into a file that appears when it is complete.

    Parameters
    ----------
    frame : geopandas.GeoDataFrame
        May be empty: the layer then has all its columns and no row.
    destination : pathlib.Path
        Its suffix, one of ``FORMATS``, decides the format.
    stamp : str
        Time of the last change, as the file is to record it.
    style : bytes, optional
        QML to write beside it.
    pixel : float, optional
        Side of a pixel in metres; decides how exactly straight sides are kept in longitude and latitude.
    fmt : VectorFormat, optional
        Default: that of the suffix, for the polygons of a run.

    Raises
    ------
    ConfigError
        The format is unknown or not installed, or cannot hold polygons in this CRS.
    OutputError
        The folder is missing or read-only, or the disk is full. No incomplete file is left, and an older file
        stays.
    """
    fmt = fmt or format_of(destination)
    with output_errors(destination), folder_beside(destination) as folder:
        temporary = folder / f"{destination.stem}{fmt.suffix}"
        try:
            with _current_date(stamp):
                if fmt.lonlat:
                    frame = _to_lonlat(frame, destination, fmt, pixel)
                fmt.write(frame, temporary, fmt, stamp)
            count = fmt.count(temporary)
        except RuntimeError as error:  # pyogrio's errors share no other root
            raise OSError(str(error)) from error
        if count != len(frame):
            raise OSError(f"{count} of {len(frame)} features arrived")
        if style is not None:
            temporary.with_suffix(".qml").write_bytes(style)
        _put_in_place(temporary, destination, fmt.stale)


def _to_lonlat(
    frame: geopandas.GeoDataFrame, destination: Path, fmt: VectorFormat, pixel: float | None
) -> geopandas.GeoDataFrame:
    """Return the polygons in longitude and latitude; destination and format are for the message."""
    from pyproj.exceptions import ProjError

    if not frame.crs.is_geographic and pixel is not None and len(frame):
        # A straight side of kilometres is bent in longitude and latitude, where it might run into a
        # neighbour: cut so that it stays within a hundredth of a pixel.
        scale = frame.crs.axis_info[0].unit_conversion_factor
        frame = frame.set_geometry(frame.geometry.segmentize(math.sqrt(1e5 * pixel) / scale))
    try:
        return _to_crs(frame, WGS84)
    except ProjError as error:
        raise ConfigError(
            f"{destination}: {fmt.name} needs longitude and latitude, and the raster's CRS "
            f"({frame.crs.name}) cannot be transformed to them. Choose another format, for instance .gpkg.",
            crs=frame.crs.name,
        ) from error


def _to_crs(frame: geopandas.GeoDataFrame, crs: str) -> geopandas.GeoDataFrame:
    """Return the polygons and their centroids in another CRS."""
    import geopandas

    if frame.crs == crs:
        return frame
    centres = geopandas.GeoSeries.from_xy(frame.centroid_x, frame.centroid_y, crs=frame.crs).to_crs(crs)
    return frame.to_crs(crs).assign(centroid_x=centres.x, centroid_y=centres.y)


def _put_in_place(temporary: Path, destination: Path, stale: tuple[str, ...]) -> None:
    """Move a complete file and its companions to their names; the file that programs open comes last.

    Files beside the destination with one of the suffixes ``stale`` are removed. Where a move fails, those
    before it are undone.
    """
    folder, backup = temporary.parent, temporary.parent / "old"
    backup.mkdir()
    companions = sorted(path.name for path in folder.iterdir() if path.is_file() and path != temporary)
    moves = [(folder / name, destination.parent / name) for name in companions] + [(temporary, destination)]
    outdated = [destination.with_suffix(suffix) for suffix in stale]
    moves = [(path, backup / path.name) for path in outdated if path.exists()] + moves
    for source, target in moves:
        if target.parent != backup:
            keep_permissions(target, source)
    undo: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            if len(moves) > 1 and target.parent != backup and target.exists():
                undo.append((backup / target.name, target))
                target.replace(backup / target.name)
            undo.append((target, source))
            source.replace(target)
    except BaseException:
        for current, original in reversed(undo):
            if current.exists():
                current.replace(original)
        raise


def largest(changes: Path, count: int) -> geopandas.GeoDataFrame:
    """Return the largest polygons of a GeoPackage with the columns of a run, the largest first.

    Parameters
    ----------
    changes : pathlib.Path
    count : int
        At most so many; only these are in memory.

    Raises
    ------
    OutputError
        The file cannot be read.
    """
    import geopandas

    query = f"SELECT * FROM {LAYER} ORDER BY area_m2 DESC, id LIMIT {count:d}"
    with output_errors(changes):
        try:
            return geopandas.read_file(changes, sql=query, engine="pyogrio")
        except RuntimeError as error:  # pyogrio's errors share no other root
            raise OSError(str(error)) from error


def merge(sources: Mapping[str, Path], destination: Path) -> int:
    """Write the layers of many runs into one file that appears when it is complete.

    One source is in memory at a time. The column ``item`` names the source of a polygon; ``id`` counts
    within it. The CRS is that of the sources, or longitude and latitude (WGS 84) where they differ.

    Parameters
    ----------
    sources : mapping of pathlib.Path
        GeoPackages that :func:`polygonize` wrote, by the name of their item; at least one.
    destination : pathlib.Path
        Of a format with an ``append`` function: GeoPackage, or GeoParquet with a row group for each source.

    Returns
    -------
    int
        Number of polygons.

    Raises
    ------
    OutputError
        A source cannot be read, or the destination cannot be written; an older file stays.
    ConfigError
        Runs cannot be merged into this format, or it is not installed.
    """
    import pyogrio

    fmt = format_of(destination)
    append = fmt.append
    if append is None:
        raise ConfigError(
            f"{destination}: changes are merged into {' or '.join(merge_formats())}.", path=str(destination)
        )
    with output_errors(destination), folder_beside(destination) as folder, _current_date(timestamp(None)):
        temporary = folder / destination.name
        try:
            layers = [pyogrio.read_info(path, layer=LAYER) for path in sources.values()]
            dtypes = {"item": "object"}
            for layer in layers:  # items need not have the same bands
                dtypes |= dict(zip(map(str, layer["fields"]), map(str, layer["dtypes"]), strict=True))
            crs_names = {layer["crs"] for layer in layers}
            crs = crs_names.pop() if len(crs_names) == 1 else WGS84
            if crs_names and any(map(_may_be_cut, layers)):
                fmt = dataclasses.replace(fmt, geometry_type="Unknown")  # a polygon may become two parts
            count = append(_tables(sources, dtypes, crs), temporary, fmt, dtypes)
        except RuntimeError as error:  # pyogrio's errors share no other root
            raise OSError(str(error)) from error
        replace(temporary, destination)
    return count


def _may_be_cut(layer: Mapping[str, object]) -> bool:
    """Tell whether the extent of a layer in a projection crosses 180 degrees, from pyogrio's information."""
    import geopandas
    import shapely
    from pyproj import CRS

    bounds = np.asarray(layer["total_bounds"], np.float64)
    if not np.isfinite(bounds).all() or CRS.from_user_input(layer["crs"]).is_geographic:
        return False
    outline = shapely.box(*bounds)
    outline = outline.segmentize(max(1.0, outline.length / 400))
    west, _, east, _ = geopandas.GeoSeries([outline], crs=layer["crs"]).to_crs(WGS84).total_bounds
    return bool(east - west > 180)


def _tables(
    sources: Mapping[str, Path], dtypes: Mapping[str, str], crs: str
) -> Iterator[geopandas.GeoDataFrame]:
    """Read one layer after the other, with the same columns in the same CRS."""
    import geopandas
    import pandas as pd

    for name, path in sources.items():
        layer = geopandas.read_file(path, layer=LAYER, engine="pyogrio")
        table = _to_crs(layer, crs)
        if crs == WGS84 and not layer.crs.is_geographic:
            table = table.set_geometry(cut(in_one_piece(table.geometry)))
        table["item"] = pd.Series(name, index=table.index, dtype="object")
        for column, dtype in dtypes.items():
            if column not in table.columns:
                table[column] = pd.Series(index=table.index, dtype=dtype)
        yield table[[*dtypes, "geometry"]]


@contextlib.contextmanager
def folder_beside(destination: Path) -> Iterator[Path]:
    """Make a folder for the unfinished file and SQLite's journals, and remove it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f".{destination.stem}-", dir=destination.parent.absolute()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


__all__ = ["folder_beside", "largest", "merge", "timestamp", "write"]
