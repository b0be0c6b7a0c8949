"""The polygons as a file that GIS programs open: its format, its rules, all of it or nothing.

=========== =============== ==========================================================================
suffix      layer           rules
=========== =============== ==========================================================================
.gpkg       ``changes``     GeoPackage 1.2
.geojson    ``changes``     RFC 7946: longitude and latitude on WGS 84; centroids too
.fgb        ``changes``     FlatGeobuf with its spatial index, which has an order of its own
.parquet                    GeoParquet 1.1 with a bounding box for each row; needs pyarrow
.shp        the file's name shapefile: short names (``SHORT``), text in UTF-8, with .shx, .dbf, .prj, .cpg
=========== =============== ==========================================================================

All but GeoJSON are in the CRS of the raster. None grows piece by piece: the polygons are in memory (the
raster is not), so that a file can be complete and in order.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import io
import json
import math
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import shapely
from pyproj.exceptions import ProjError

from geocd.errors import ConfigError
from geocd.raster.files import output_errors

LAYER = "changes"
FORMATS = {
    ".gpkg": "GPKG",
    ".geojson": "GeoJSON",
    ".fgb": "FlatGeobuf",
    ".parquet": "Parquet",
    ".shp": "ESRI Shapefile",
}
#: What GIS programs of the last years read.
GEOPACKAGE = {"VERSION": "1.2"}
#: A shapefile has ten characters for a name: these columns and beginnings of names are shortened, what is
#: still too long is cut.
SHORT = {"perimeter_m": "perim_m", "date_before": "date_b", "date_after": "date_a"}
SHORT_BEGINNINGS = {"before_": "b_", "after_": "a_", "diff_": "d_"}
#: What other programs put beside a shapefile and what would be wrong beside a new one.
_STALE = (".qix", ".sbn", ".sbx", ".idm", ".ind", ".shp.xml")


def check_format(destination: Path) -> str:
    """Return the suffix of a file that can be written.

    Raises
    ------
    ConfigError
        It says no known format, or one whose library is not installed.
    """
    suffix = destination.suffix.lower()
    if suffix not in FORMATS:
        raise ConfigError(
            f"{destination}: polygons are written as {', '.join(FORMATS)}. Let the name end in one of these.",
            path=str(destination),
        )
    if suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(
            f"{destination}: GeoParquet needs pyarrow, which is not installed. "
            "pip install 'geocd[parquet]', or choose another format, for instance .gpkg.",
            path=str(destination),
        )
    return suffix


def short_names(columns: Sequence[str]) -> dict[str, str]:
    """Return the name of every column in a shapefile: ten characters, no two the same."""
    names: dict[str, str] = {}
    for column in columns:
        name = SHORT.get(column, column)
        for beginning, short in SHORT_BEGINNINGS.items():
            name = re.sub(f"^{beginning}", short, name)
        names[column] = name[:10]
        number = 1
        while names[column] in list(names.values())[:-1]:
            number += 1
            names[column] = f"{name[: 9 - len(str(number))]}_{number}"
    return names


def timestamp(date: str | None) -> str:
    """Return the time to write into a file: never that of the run, or no two runs are equal.

    ``SOURCE_DATE_EPOCH`` where it is set, else the date given, else 1970.
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
    """Let GDAL take ``stamp`` for the present; its options are global, hence the lock."""
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
) -> None:
    """Write the polygons into a file that appears when it is complete.

    Parameters
    ----------
    frame : geopandas.GeoDataFrame
        May be empty: the layer then has all its columns and no row.
    destination : pathlib.Path
        Its suffix, one of ``FORMATS``, says which format.
    stamp : str
        Time of the last change, as the file is to record it.
    style : bytes, optional
        QML that is written beside it.
    pixel : float, optional
        Side of a pixel in metres: how exact a straight side has to stay in another CRS.

    Raises
    ------
    ConfigError
    OutputError
        Folder missing or read-only, disk full. No file is left, an older one stays.
    """
    suffix = check_format(destination)
    with output_errors(destination), _folder_beside(destination) as folder:
        temporary = folder / f"{destination.stem}{suffix}"
        try:
            with _current_date(stamp):
                _FORMAT_WRITERS[suffix](frame, temporary, stamp, pixel)
            written = _count(temporary)
        except RuntimeError as error:  # pyogrio's errors share no other root
            raise OSError(str(error)) from error
        if written != len(frame):
            raise OSError(f"{written} of {len(frame)} polygons arrived")
        if style is not None:
            temporary.with_suffix(".qml").write_bytes(style)
        _put_in_place(temporary, destination)


def _to_file(
    frame: geopandas.GeoDataFrame,
    file: Path | io.BytesIO,
    driver: str,
    *,
    geometry_type: str | None = "Polygon",
    **options: Any,
) -> None:
    frame.to_file(file, driver=driver, engine="pyogrio", geometry_type=geometry_type, **options)


def _in_one_piece(frame: geopandas.GeoDataFrame, path: Path, driver: str, **options: Any) -> None:
    """Let GDAL make a file in memory, and write that.

    On a disk where a single write fails, GDAL's GeoPackage lacks the CRS, the extent or the spatial index,
    and no error says so.
    """
    file = io.BytesIO()
    _to_file(frame, file, driver, layer=LAYER, **options)
    path.write_bytes(file.getbuffer())


def _geopackage(frame: geopandas.GeoDataFrame, path: Path, stamp: str, pixel: float | None) -> None:
    _in_one_piece(frame, path, "GPKG", dataset_options=GEOPACKAGE)


def _flatgeobuf(frame: geopandas.GeoDataFrame, path: Path, stamp: str, pixel: float | None) -> None:
    _in_one_piece(frame, path, "FlatGeobuf")


def _geojson(frame: geopandas.GeoDataFrame, path: Path, stamp: str, pixel: float | None) -> None:
    if not frame.crs.is_geographic and pixel is not None and len(frame):
        # A straight side of kilometres is none in longitude and latitude, where it might run into a
        # neighbour: cut so that it stays within a hundredth of a pixel.
        scale = frame.crs.axis_info[0].unit_conversion_factor
        frame = frame.set_geometry(frame.geometry.segmentize(math.sqrt(1e5 * pixel) / scale))
    try:
        frame = _to_crs(frame, "EPSG:4326")
    except ProjError as error:
        raise ConfigError(
            f"{path.name}: GeoJSON is in longitude and latitude, and from the raster's CRS "
            f"({frame.crs.name}) no way leads there. Choose another format, for instance .gpkg.",
            crs=frame.crs.name,
        ) from error
    # Nine digits are a tenth of a millimetre. Across the date line GDAL cuts polygons in two, as the RFC
    # wants: they are of no one type.
    options = {"RFC7946": "YES", "COORDINATE_PRECISION": "9"}
    _in_one_piece(frame, path, "GeoJSON", geometry_type=None, layer_options=options)


def _shapefile(frame: geopandas.GeoDataFrame, path: Path, stamp: str, pixel: float | None) -> None:
    names = short_names([column for column in frame.columns if column != "geometry"])
    options = {"ENCODING": "UTF-8", "DBF_DATE_LAST_UPDATE": stamp[:10]}
    _to_file(frame.rename(columns=names), path, "ESRI Shapefile", layer_options=options)


def _geoparquet(frame: geopandas.GeoDataFrame, path: Path, stamp: str, pixel: float | None) -> None:
    frame.to_parquet(path, index=False, compression="zstd", schema_version="1.1.0", write_covering_bbox=True)


_FORMAT_WRITERS = {
    ".gpkg": _geopackage,
    ".geojson": _geojson,
    ".fgb": _flatgeobuf,
    ".parquet": _geoparquet,
    ".shp": _shapefile,
}


def _count(path: Path) -> int:
    """Return how many polygons a file has."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return int(parquet.read_metadata(path).num_rows)
    return int(pyogrio.read_info(path, force_feature_count=True)["features"])


def _to_crs(frame: geopandas.GeoDataFrame, crs: str) -> geopandas.GeoDataFrame:
    """Return the polygons and their centroids in another CRS."""
    if frame.crs == crs:
        return frame
    centres = geopandas.GeoSeries.from_xy(frame.centroid_x, frame.centroid_y, crs=frame.crs).to_crs(crs)
    return frame.to_crs(crs).assign(centroid_x=centres.x, centroid_y=centres.y)


def _put_in_place(written: Path, destination: Path) -> None:
    """Move a complete file and those that belong to it; the one that programs open comes last.

    Where a move fails, those before it are taken back.
    """
    folder, old = written.parent, written.parent / "old"
    old.mkdir()
    target = destination.parent
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path != written)
    moves = [(folder / name, target / name) for name in names] + [(written, destination)]
    if written.suffix == ".shp":
        stale = [destination.with_suffix(suffix) for suffix in _STALE]
        moves = [(path, old / path.name) for path in stale if path.exists()] + moves
    undo: list[tuple[Path, Path]] = []
    try:
        for source, final in moves:
            if len(moves) > 1 and final.parent != old and final.exists():
                undo.append((old / final.name, final))
                final.replace(old / final.name)
            undo.append((final, source))
            source.replace(final)
    except BaseException:
        for now, then in reversed(undo):
            if now.exists():
                now.replace(then)
        raise


def largest(changes: Path, count: int) -> geopandas.GeoDataFrame:
    """Return the largest polygons of a GeoPackage with the columns of a run, the largest first.

    Parameters
    ----------
    changes : pathlib.Path
    count : int
        How many at most; no more than these are in memory.

    Raises
    ------
    OutputError
        The file cannot be read.
    """
    query = f"SELECT * FROM {LAYER} ORDER BY area_m2 DESC, id LIMIT {count:d}"
    with output_errors(changes):
        try:
            return geopandas.read_file(changes, sql=query, engine="pyogrio")
        except RuntimeError as error:  # pyogrio's errors share no other root
            raise OSError(str(error)) from error


def merge(sources: Mapping[str, Path], destination: Path) -> int:
    """Write the layers of many runs into one file that appears when it is complete.

    One source is in memory at a time. The column ``item`` says where a polygon is from; ``id`` counts
    within it. The CRS is that of the sources, or longitude and latitude (WGS 84) where they differ.

    Parameters
    ----------
    sources : mapping of pathlib.Path
        GeoPackages that :func:`polygonize` wrote, by the name of their item; one at least.
    destination : pathlib.Path
        ``.gpkg`` or, as GeoParquet 1.1 with a row group for each source, ``.parquet``.

    Returns
    -------
    int
        Number of polygons.

    Raises
    ------
    OutputError
        A source cannot be read or the destination not be written; an older one stays.
    ConfigError
        Another suffix, or GeoParquet without pyarrow.
    """
    writers = {".gpkg": _append_geopackage, ".parquet": _append_geoparquet}
    suffix = check_format(destination)
    if suffix not in writers:
        raise ConfigError(f"{destination}: changes are merged into .gpkg or .parquet.", path=str(destination))
    with output_errors(destination), _folder_beside(destination) as folder, _current_date(timestamp(None)):
        temporary = folder / destination.name
        try:
            found = [pyogrio.read_info(path, layer=LAYER) for path in sources.values()]
            columns = {"item": "object"}
            for info in found:  # items need not have the same bands
                columns |= dict(zip(map(str, info["fields"]), map(str, info["dtypes"]), strict=True))
            systems = {info["crs"] for info in found}
            crs = systems.pop() if len(systems) == 1 else "EPSG:4326"
            count = writers[suffix](temporary, _layers(sources, columns, crs), columns)
        except RuntimeError as error:  # pyogrio's errors share no other root
            raise OSError(str(error)) from error
        temporary.replace(destination)
    return count


def _layers(
    sources: Mapping[str, Path], columns: Mapping[str, str], crs: str
) -> Iterator[geopandas.GeoDataFrame]:
    """Read one layer after the other, with the same columns in the same CRS."""
    for name, path in sources.items():
        table = _to_crs(geopandas.read_file(path, layer=LAYER, engine="pyogrio"), crs)
        table["item"] = pd.Series(name, index=table.index, dtype="object")
        for column, kind in columns.items():
            if column not in table.columns:
                table[column] = pd.Series(index=table.index, dtype=kind)
        yield table[[*columns, "geometry"]]


def _append_geopackage(
    path: Path, tables: Iterable[geopandas.GeoDataFrame], columns: Mapping[str, str]
) -> int:
    count = 0
    for table in tables:
        if table.empty and path.exists():
            continue
        new: dict[str, Any] = {} if path.exists() else {"dataset_options": GEOPACKAGE}
        _to_file(table, path, "GPKG", layer=LAYER, mode="a" if path.exists() else "w", **new)
        count += len(table)
    return count


def _append_geoparquet(
    path: Path, tables: Iterable[geopandas.GeoDataFrame], columns: Mapping[str, str]
) -> int:
    """Write a row group for each table.

    geopandas writes GeoParquet from one table only; hence the metadata of the format, a few lines, here
    (https://geoparquet.org/releases/v1.1.0).
    """
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"i": pa.int64(), "f": pa.float64()}  # not from values, which may all be missing in a table
    fields = [(name, kinds.get(np.dtype(kind).kind, pa.string())) for name, kind in columns.items()]
    schema = pa.schema([*fields, ("geometry", pa.binary())])
    count, crs = 0, None
    bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
    # without a schema of Arrow's own in the file, readers find the metadata that come last
    with parquet.ParquetWriter(path, schema, compression="zstd", store_schema=False) as writer:
        for table in tables:
            crs = table.crs
            values = dict(table.items()) | {"geometry": shapely.to_wkb(table.geometry.to_numpy())}
            arrays = [pa.array(values[field.name], field.type, from_pandas=True) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += len(table)
            here = table.total_bounds  # NaN where there is nothing
            bounds = np.hstack([np.fmin(bounds, here)[:2], np.fmax(bounds, here)[2:]])
        column = {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": crs and crs.to_json_dict()}
        if count:
            column["bbox"] = bounds.tolist()
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        writer.add_key_value_metadata({"geo": json.dumps(geo)})
    return count


@contextlib.contextmanager
def _folder_beside(destination: Path) -> Iterator[Path]:
    """A folder for the unfinished file and SQLite's journals, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f".{destination.stem}-", dir=destination.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


__all__ = [
    "FORMATS",
    "LAYER",
    "check_format",
    "largest",
    "merge",
    "short_names",
    "timestamp",
    "write",
]
