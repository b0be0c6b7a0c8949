"""The vector formats that polygons can be written as: one entry of ``FORMATS`` for each.

A further format takes one entry here. Writing, merging, messages, the help of the command line, the tables of
the documents and the choices of the QGIS plugin all follow from it. The module imports nothing slow, so that
``geocd polygonize --help`` can list the formats.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from geocd.errors import ConfigError

if TYPE_CHECKING:
    import geopandas
    from typing_extensions import Buffer

#: Name of the layer, in formats whose layers have names.
LAYER = "changes"
#: What a reviewer may write into the column ``verdict``; nothing where a polygon or point was not judged.
VERDICTS = ("yes", "no", "unsure")
#: A shapefile has ten characters for the name of a column: these columns and prefixes are shortened, what is
#: still too long is cut.
SHORT = {"perimeter_m": "perim_m", "date_before": "date_b", "date_after": "date_a"}
SHORT_PREFIXES = {"before_": "b_", "after_": "a_", "diff_": "d_"}


def write_with_gdal(frame: geopandas.GeoDataFrame, path: Path, fmt: VectorFormat, stamp: str) -> None:
    """Let GDAL make a file in memory, and write that.

    On a disk where a single write fails, GDAL's GeoPackage lacks the CRS, the extent or the spatial index,
    and no error says so.
    """
    with path.open("wb") as file:
        frame.to_file(
            _Straight(file),
            driver=fmt.driver,
            engine="pyogrio",
            layer=fmt.layer,
            geometry_type=fmt.geometry_type,
            dataset_options=dict(fmt.dataset_options),
            layer_options=dict(fmt.layer_options),
        )


class _Straight(io.BytesIO):
    """The buffer that pyogrio asks for, which hands on what is written instead of holding a copy."""

    def __init__(self, file: io.BufferedWriter) -> None:
        super().__init__()
        self._file = file

    def write(self, data: Buffer, /) -> int:
        """Write into the file."""
        return self._file.write(data)


def write_shapefile(frame: geopandas.GeoDataFrame, path: Path, fmt: VectorFormat, stamp: str) -> None:
    """Write a shapefile, which is several files and has short column names."""
    names = short_names([column for column in frame.columns if column != "geometry"])
    frame.rename(columns=names).to_file(
        path,
        driver=fmt.driver,
        engine="pyogrio",
        geometry_type=fmt.geometry_type,
        layer_options={**fmt.layer_options, "DBF_DATE_LAST_UPDATE": stamp[:10]},
    )


def write_geoparquet(frame: geopandas.GeoDataFrame, path: Path, fmt: VectorFormat, stamp: str) -> None:
    """Write GeoParquet by way of geopandas; few builds of GDAL have the driver."""
    frame.to_parquet(path, index=False, compression="zstd", schema_version="1.1.0", write_covering_bbox=True)


def count_features(path: Path) -> int:
    """Return the number of polygons in a file that GDAL reads."""
    import pyogrio

    return int(pyogrio.read_info(path, force_feature_count=True)["features"])


def count_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file."""
    from pyarrow import parquet

    return int(parquet.read_metadata(path).num_rows)


def append_with_gdal(
    tables: Iterable[geopandas.GeoDataFrame], path: Path, fmt: VectorFormat, dtypes: Mapping[str, str]
) -> int:
    """Write one table after the other into one layer; return the number of polygons."""
    count = 0
    for table in tables:
        if table.empty and path.exists():
            continue
        table.to_file(
            path,
            driver=fmt.driver,
            engine="pyogrio",
            layer=LAYER,
            geometry_type=fmt.geometry_type,
            mode="a" if path.exists() else "w",
            dataset_options=None if path.exists() else dict(fmt.dataset_options),
        )
        count += len(table)
    return count


def append_geoparquet(
    tables: Iterable[geopandas.GeoDataFrame], path: Path, fmt: VectorFormat, dtypes: Mapping[str, str]
) -> int:
    """Write a row group for each table; return the number of polygons.

    geopandas writes GeoParquet from one table only; hence the metadata of the format, a few lines, here
    (https://geoparquet.org/releases/v1.1.0).
    """
    import numpy as np
    import pyarrow as pa
    import shapely
    from pyarrow import parquet

    types = {"i": pa.int64(), "f": pa.float64()}  # not from values, which may all be missing in a table
    fields = [(name, types.get(np.dtype(dtype).kind, pa.string())) for name, dtype in dtypes.items()]
    schema = pa.schema([*fields, ("geometry", pa.binary())])
    count, crs, kinds = 0, None, {"Polygon"}
    bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
    # without a schema of Arrow's own in the file, readers find the metadata that come last
    with parquet.ParquetWriter(path, schema, compression="zstd", store_schema=False) as writer:
        for table in tables:
            crs = table.crs
            values = dict(table.items()) | {"geometry": shapely.to_wkb(table.geometry.to_numpy())}
            arrays = [pa.array(values[field.name], field.type, from_pandas=True) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += len(table)
            kinds |= set(table.geom_type)
            extent = table.total_bounds  # NaN where the table is empty
            bounds = np.hstack([np.fmin(bounds, extent)[:2], np.fmax(bounds, extent)[2:]])
        column = {
            "encoding": "WKB",
            "geometry_types": sorted(kinds, reverse=True),
            "crs": crs and crs.to_json_dict(),
        }
        if count:
            column["bbox"] = bounds.tolist()
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        writer.add_key_value_metadata({"geo": json.dumps(geo)})
    return count


#: ``write(frame, path, fmt, stamp)``: writes all polygons; ``stamp`` is the time of the last change.
Writer: TypeAlias = "Callable[[geopandas.GeoDataFrame, Path, VectorFormat, str], None]"
#: ``append(tables, path, fmt, dtypes)``: writes tables with these columns, and returns how many polygons.
Appender: TypeAlias = (
    "Callable[[Iterable[geopandas.GeoDataFrame], Path, VectorFormat, Mapping[str, str]], int]"
)


@dataclasses.dataclass(frozen=True)
class VectorFormat:
    """One format that polygons can be written as.

    Attributes
    ----------
    suffix : str
        Of the file, in small letters with its dot. By it a user chooses the format.
    name : str
        For people.
    driver : str
        As GDAL calls the format.
    note : str
        What a user should know of it, for the documents.
    media_type : str
    dataset_options, layer_options : mapping of str
        Creation options of the driver.
    layer : str
        Name of the layer, in formats whose layers have names.
    geometry_type : str, optional
        What the layer declares; None where the format or the driver wants mixed types.
    lonlat : bool
        Whether coordinates must be longitude and latitude on WGS 84; otherwise they stay in the CRS of the
        raster.
    requires, extra : str, optional
        Package that is needed beside geocd's own, and the extra of geocd that installs it.
    companions : tuple of str
        Suffixes of the other files that one of this format consists of.
    stale : tuple of str
        Suffixes of files that other programs put beside one of this format and that would be wrong beside a
        new one.
    unusable : str
        Characters that the name of a file cannot have: pyogrio drops them or takes them for the end of a
        name, so that GDAL would open, or write, another file.
    in_qgis : bool
        Whether every QGIS opens it, so that the plugin offers it.
    write : callable
        Writes all polygons into a new file.
    count : callable
        ``count(path)``: how many polygons a file has.
    append : callable, optional
        Writes polygons table by table; None where runs cannot be merged into this format.
    """

    suffix: str
    name: str
    driver: str
    note: str
    _: dataclasses.KW_ONLY
    media_type: str = "application/octet-stream"
    dataset_options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    layer_options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    layer: str = LAYER
    geometry_type: str | None = "Polygon"
    lonlat: bool = False
    requires: str | None = None
    extra: str | None = None
    companions: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    unusable: str = "\t\n\r!;"
    in_qgis: bool = True
    write: Writer = write_with_gdal
    count: Callable[[Path], int] = count_features
    append: Appender | None = None

    @property
    def installed(self) -> bool:
        """Whether the package that the format needs is there."""
        return self.requires is None or importlib.util.find_spec(self.requires) is not None


#: All formats by their suffix; messages and help list them in this order.
FORMATS: dict[str, VectorFormat] = {
    fmt.suffix: fmt
    for fmt in (
        VectorFormat(
            ".gpkg",
            "GeoPackage",
            "GPKG",
            f"Version 1.2, layer `{LAYER}`.",
            media_type="application/geopackage+sqlite3",
            dataset_options={"VERSION": "1.2"},  # what GIS programs of the last years read
            append=append_with_gdal,
        ),
        VectorFormat(
            ".geojson",
            "GeoJSON",
            "GeoJSON",
            "RFC 7946: longitude and latitude on WGS 84, centroids too.",
            media_type="application/geo+json",
            # Nine digits are a tenth of a millimetre. Across the date line GDAL cuts polygons in two, as the
            # RFC wants, so that not all are of one type.
            layer_options={"RFC7946": "YES", "COORDINATE_PRECISION": "9"},
            geometry_type=None,
            lonlat=True,
        ),
        VectorFormat(
            ".fgb",
            "FlatGeobuf",
            "FlatGeobuf",
            "With a spatial index, which puts polygons in another order.",
            media_type="application/vnd.flatgeobuf",
        ),
        VectorFormat(
            ".parquet",
            "GeoParquet",
            "Parquet",
            "Version 1.1, with a bounding box for each row.",
            media_type="application/vnd.apache.parquet",
            requires="pyarrow",
            extra="parquet",
            unusable="",
            in_qgis=False,
            write=write_geoparquet,
            count=count_rows,
            append=append_geoparquet,
        ),
        VectorFormat(
            ".shp",
            "Shapefile",
            "ESRI Shapefile",
            "Column names of ten characters at most, text in UTF-8; with .shx, .dbf, .prj and .cpg.",
            media_type="application/vnd.shp",
            layer_options={"ENCODING": "UTF-8"},
            companions=(".shx", ".dbf", ".prj", ".cpg"),
            stale=(".qix", ".sbn", ".sbx", ".idm", ".ind", ".shp.xml"),
            unusable="\t\n\r!;\\",
            write=write_shapefile,
        ),
    )
}


def format_of(path: Path) -> VectorFormat:
    """Return the format that the suffix of a file names.

    Raises
    ------
    ConfigError
        There is no such format, or the package that it needs is not installed.
    """
    fmt = FORMATS.get(path.suffix.lower())
    if fmt is None:
        raise ConfigError(
            f"{path}: the suffix names no vector format. Polygons are written as {', '.join(FORMATS)}; use "
            "one of these suffixes.",
            path=str(path),
        )
    if not fmt.installed:
        raise ConfigError(
            f"{path}: {fmt.name} needs {fmt.requires}, which is not installed. "
            f"pip install 'geocd[{fmt.extra}]', or choose another format, for instance .gpkg.",
            path=str(path),
        )
    return fmt


def merge_formats() -> dict[str, VectorFormat]:
    """Return the formats that many runs can be merged into, by suffix."""
    return {suffix: fmt for suffix, fmt in FORMATS.items() if fmt.append is not None}


def short_names(columns: Sequence[str]) -> dict[str, str]:
    """Return the name of every column in a shapefile: ten characters at most, no two the same."""
    names: dict[str, str] = {}
    for column in columns:
        name = SHORT.get(column, column)
        for prefix, short in SHORT_PREFIXES.items():
            name = re.sub(f"^{prefix}", short, name)
        names[column] = name[:10]
        number = 1
        while names[column] in list(names.values())[:-1]:
            number += 1
            names[column] = f"{name[: 9 - len(str(number))]}_{number}"
    return names


__all__ = ["FORMATS", "LAYER", "VectorFormat", "format_of", "merge_formats", "short_names"]
