"""What a run says about itself: the record and the STAC item.

Everything here is read from files and from the record, never from the networks.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.warp
import shapely
import shapely.affinity
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError

import geocd
from geocd.outputs import SUFFIXES, sha256
from geocd.raster import Grid, crs_name, open_raster, output_errors


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """How one result was made, in plain values.

    Attributes
    ----------
    before, after : str
        Paths or URLs as they were given.
    grid : Grid
        The grid of the pair and of every output.
    band_names : sequence of str
        The compared bands.
    settings : mapping
        The resolved configuration, ready for JSON.
    method : str
    preset : str or None
    threshold : float
        The decision: changed where ``prob >= threshold``.
    seed : int
    timings : mapping
        Seconds by stage.
    summary : mapping
        What came out: ``valid_share``, ``changed_share``, ``zero_share`` (of the valid pixels, those that are
        0 in all bands, by date), ``n_polygons``, ``area_m2``, ``seam_score`` (jump of the probability across
        the borders of tiles over the jump beside them: 1 means no seam; None for a single tile; see
        :class:`geocd.mosaic.SeamScore`), ``shift`` (None where there was nothing to measure on; see
        :meth:`geocd.registration.Shift.as_dict`), ...
    date_before, date_after : str or None
        Acquisition, RFC 3339 in UTC; None where unknown.
    versions : mapping
        Version by software, see :func:`versions`.
    alignment : mapping or None
        How the after image came onto the grid: its own grid, resampling, overlap, the shift that was removed;
        None where it was not to be aligned.
    inputs : mapping
        What tells whether ``before``, ``after``, ``valid`` and the file of ``weights`` are still the same, by
        these names: see :func:`geocd.provenance.fingerprint`.
    device : str
        Kind of device and of processor that computed it.
    histogram : sequence of int
        Pixels by probability, in bins of equal width from 0 to 1; empty where not counted.
    losses : sequence of float
        Loss of each optimisation step on the scene; empty where nothing was learned from it.
    """

    before: str
    after: str
    grid: Grid
    band_names: Sequence[str]
    settings: Mapping[str, Any]
    method: str
    preset: str | None
    threshold: float
    seed: int
    timings: Mapping[str, float]
    summary: Mapping[str, Any]
    date_before: str | None
    date_after: str | None
    versions: Mapping[str, str]
    alignment: Mapping[str, Any] | None = None
    inputs: Mapping[str, Sequence[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    device: str = ""
    histogram: Sequence[int] = ()
    losses: Sequence[float] = ()


def versions() -> dict[str, str]:
    """Return the version of everything that has a say in the result, by name.

    Distributions are asked for their metadata and not imported: torch alone takes seconds.
    """
    found = {"geocd": geocd.__version__, "python": platform.python_version()}
    for name in ("torch", "rasterio", "numpy", "scipy", "geopandas", "shapely"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # an extra that is not installed
            continue
    found["GDAL"] = rasterio.__gdal_version__
    found["PROJ"] = rasterio.__proj_version__
    return found


# --------------------------------------------------------------------------------------------------
# Acquisition dates

#: Tags that mean the acquisition, the most exact first. Sentinel-1/2 and Landsat readers of GDAL, STAC
#: and vendors' names for one thing.
_DATE_TAGS = (
    "ACQUISITIONDATETIME",
    "ACQUISITION_DATETIME",
    "DATATAKE_1_DATATAKE_SENSING_START",
    "SENSING_TIME",
    "PRODUCT_START_TIME",
    "ACQUISITION_START_TIME",
    "ACQUISITION_DATE",
    "ACQUISITIONDATE",
    "DATE_ACQUIRED",
)
_STAMP = re.compile(
    r"(?P<y>\d{4})(?P<s>[-:/]?)(?P<m>\d{2})(?P=s)(?P<d>\d{2})"
    r"(?:[T ]?(?P<H>\d{2}):?(?P<M>\d{2}):?(?P<S>\d{2})(?:\.\d+)?\s*(?P<zone>Z|UTC|[+-]\d{2}:?\d{2})?)?",
    re.IGNORECASE,
)
#: Products that carry a second date (of processing); the first group is the acquisition.
_PRODUCTS = (
    re.compile(r"^S1[A-D]_.*?_(\d{8}T\d{6})_\d{8}T\d{6}_"),
    re.compile(r"^S2[A-D]_(?:MSI|OPER).*?_(\d{8}T\d{6})_N\d{4}_R\d{3}_"),
    re.compile(r"^L[COTEM]0[1-9]_[A-Z0-9]{4}_\d{6}_(\d{8})_\d{8}_"),
)
_IN_NAME = re.compile(r"(?<!\d)(\d{4}-\d{2}-\d{2}|\d{8})(T\d{6}(?!\d))?(?!\d)")


def acquisition_date(tags: Mapping[str, str], path: str) -> str | None:
    """Return when an image was taken, RFC 3339 in UTC, or None when that is not sure.

    Tags that mean the acquisition come first, then the names of Sentinel and Landsat products, then a
    single date in the file name. ``TIFFTAG_DATETIME`` comes last: some vendors write the acquisition
    into it, but to TIFF it is the time of the file. A time without a zone is taken as UTC, a day
    without a time as its midnight.

    Parameters
    ----------
    tags : mapping of str
        Dataset tags as GDAL gives them.
    path : str
        Path or URL; only the last part is looked at.
    """
    upper = {key.upper(): value for key, value in tags.items()}
    for key in _DATE_TAGS:
        if date := _rfc3339(upper.get(key, "")):
            clock = upper.get("SCENE_CENTER_TIME", "").strip('"')  # Landsat: the time of DATE_ACQUIRED
            if key == "DATE_ACQUIRED" and (exact := _rfc3339(f"{date[:10]}T{clock}")):
                return exact
            return date
    name = path.split("?")[0].rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    for product in _PRODUCTS:
        if match := product.match(name):
            return _rfc3339(match[1])
    dates = {date for day, time in _IN_NAME.findall(name) if (date := _rfc3339(day + time))}
    if len({date[:10] for date in dates}) > 1:
        return None  # two different days: which of them is anybody's guess
    if dates:
        times = {date for date in dates if not date.endswith("T00:00:00Z")}
        return times.pop() if len(times) == 1 else f"{dates.pop()[:10]}T00:00:00Z"
    return _rfc3339(upper.get("TIFFTAG_DATETIME", ""))


def _rfc3339(text: str) -> str | None:
    """A date as GDAL tags and file names spell it, in UTC; None for anything else."""
    match = _STAMP.fullmatch(text.strip().strip('"'))
    if match is None:
        return None
    hour, minute, second = (int(match[part] or 0) for part in "HMS")
    zone = match["zone"] or "Z"
    try:
        day = datetime.date(int(match["y"]), int(match["m"]), int(match["d"]))
        time = datetime.time(hour, minute, second, tzinfo=datetime.timezone.utc)
        date = datetime.datetime.combine(day, time)
        if zone[0] in "+-":
            hours, minutes = int(zone[1:3]), int(zone[-2:])
            offset = datetime.timedelta(hours=hours, minutes=minutes)
            date = date - offset if zone[0] == "+" else date + offset
    except (ValueError, OverflowError):
        return None
    # Numbers that only look like a date (tile ids, orbit numbers) mostly fall outside this.
    if not 1930 <= date.year <= datetime.datetime.now(datetime.timezone.utc).year + 1:
        return None
    return date.strftime("%Y-%m-%dT%H:%M:%SZ")


# --------------------------------------------------------------------------------------------------
# STAC item

STAC_VERSION = "1.1.0"
STAC_EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
Role = Literal["data", "metadata", "thumbnail", "overview"]
#: Title, media type and roles of every output that can be an asset.
ASSETS: dict[str, tuple[str, str, tuple[Role, ...]]] = {
    "prob": (
        "Change probability",
        "image/tiff; application=geotiff; profile=cloud-optimized",
        ("data",),
    ),
    "prob_style": ("QGIS style of the change probability", "application/xml", ("metadata",)),
    "changes": ("Polygons of the changes", "application/geopackage+sqlite3", ("data",)),
    "changes_style": ("QGIS style of the polygons", "application/xml", ("metadata",)),
    "quicklook": ("Before, after, probability and changes", "image/png", ("overview",)),
    "report": ("Report to read in a browser", "text/html", ("overview",)),
}


def stac_item(
    record: RunRecord, files: Mapping[str, Path], *, created: str, folder: Path | None = None
) -> dict[str, Any]:
    """Return the STAC 1.1 item of a run, in strict JSON values.

    Parameters
    ----------
    record : RunRecord
    files : mapping of pathlib.Path
        The outputs that exist, by their key in ``ASSETS``; other keys are left out. ``prob`` is
        needed: the item has its name.
    created : str
        When the outputs were made, RFC 3339 in UTC.
    folder : pathlib.Path, optional
        Where the item will stand, which relative links to the inputs start from. Default: the folder
        of ``prob``.

    Returns
    -------
    dict
        The item. Hrefs of assets are relative to it, so that the folder can be moved.

    Notes
    -----
    Properties of geocd's own carry the prefix ``geocd:``. When the acquisition of either date is
    unknown, ``datetime`` is the time of the run, because STAC demands one, and ``geocd:dates`` says so.
    """
    folder = files["prob"].parent if folder is None else folder
    name = files["prob"].name
    geometry, bbox = footprint(record.grid)
    title = f"Change between {_title(record.before)} and {_title(record.after)}"
    properties: dict[str, Any] = {
        "title": title,
        **_datetimes(record, created),
        "created": created,
        **_projection(record.grid),
        "processing:software": dict(record.versions),
        "processing:lineage": (
            f"{title}, found without labels by geocd, method {record.method}"
            + (f", preset {record.preset}" if record.preset else "")
            + f", bands {', '.join(record.band_names)}."
        ),
        "geocd:threshold": record.threshold,
        "geocd:method": record.method,
        "geocd:preset": record.preset,
        "geocd:seed": record.seed,
        "geocd:bands": list(record.band_names),
        "geocd:device": record.device,
        "geocd:inputs": {  # without times: a copy is the same input
            name: [{key: value for key, value in file.items() if key != "mtime_ns"} for file in files]
            for name, files in record.inputs.items()
        },
        "geocd:settings": record.settings,
        "geocd:timings": record.timings,
        "geocd:summary": record.summary,
    }
    if record.alignment is not None:
        properties["geocd:alignment"] = record.alignment
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": list(STAC_EXTENSIONS),
        "id": name.removesuffix(SUFFIXES["prob"]),
        "geometry": geometry,
    }
    if bbox is not None:  # STAC forbids a bbox beside a null geometry
        item["bbox"] = bbox
    item |= {
        "properties": properties,
        "links": [
            _derived_from(path, which, folder)
            for which, path in (
                ("before", record.before),
                ("after", record.after),
                ("valid", record.settings.get("valid")),
            )
            if path is not None
        ],
        "assets": {key: _asset(key, files[key]) for key in ASSETS if key in files},
    }
    strict: dict[str, Any] = _strict(item)
    return strict


def write_json(path: Path, item: Mapping[str, Any]) -> None:
    """Write strict JSON: no NaN, which most readers refuse.

    Raises
    ------
    OutputError
        The file cannot be written.
    ValueError
        A number is not finite.
    """
    text = json.dumps(item, allow_nan=False, indent=2, ensure_ascii=False) + "\n"
    with output_errors(path):
        path.write_bytes(text.encode())  # bytes: the same file on every system


_EARTH = shapely.box(-180, -90, 180, 90)


def footprint(grid: Grid) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Return the outline of a grid as GeoJSON geometry and its bounding box, in WGS 84.

    Edges are densified, because straight lines of a projection are curves in degrees. A grid across
    the antimeridian gives a MultiPolygon and a box whose west is greater than its east (RFC 7946); a
    grid around a pole reaches up to it. Both are None where the CRS has no place on Earth.
    """
    steps = 16
    corners = grid.corners()
    ring = [
        (a[0] + (b[0] - a[0]) * i / steps, a[1] + (b[1] - a[1]) * i / steps)
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True)
        for i in range(steps)
    ]
    try:
        lon, lat = rasterio.warp.transform(
            grid.crs, CRS.from_epsg(4326), [x for x, _ in ring], [y for _, y in ring]
        )
    except (RasterioError, CPLE_BaseError):  # rasterio lets GDAL's own errors through
        return None, None
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return None, None
    # Longitudes without the jump at the antimeridian, closed: the ring may end a turn from its start.
    turns = np.unwrap([*lon, lon[0]], period=360)
    points = list(zip(turns.tolist(), [*lat, lat[0]], strict=True))
    if abs(turns[-1] - turns[0]) > 180:
        pole = math.copysign(90.0, float(np.mean(lat)))
        # The same line three times around, so that one cut of it spans [-180, 180].
        turn = float(turns[-1] - turns[0])
        points = [(x + k * turn, y) for k in (-1, 0, 1) for x, y in points[: -1 if k < 1 else None]]
        points += [(points[-1][0], pole), (points[0][0], pole)]
        shape = shapely.Polygon(points).buffer(0).intersection(_EARTH)
        return _geojson(shape), [-180.0, min(*lat, pole), 180.0, max(*lat, pole)]
    shape = shapely.Polygon(points)
    if grid.crs.is_geographic:
        shape = shape.simplify(1e-9)  # straight lines need their ends alone
    west, south, east, north = shape.bounds
    shift = 360 * math.floor((west + 180) / 360)  # so that the west lies in [-180, 180)
    shape = shapely.affinity.translate(shape, xoff=-shift)
    west, east = west - shift, east - shift
    box = [round(v, 9) for v in (west, south, east - 360 if east > 180 else east, north)]
    return _geojson(shape), box


def _geojson(shape: shapely.Polygon) -> dict[str, Any]:
    """GeoJSON of a polygon whose longitudes may leave [-180, 180]: cut there, counterclockwise."""
    if shape.bounds[0] < -180 or shape.bounds[2] > 180:
        turned = [shapely.affinity.translate(shape.buffer(0), xoff=turn) for turn in (-360, 0, 360)]
        parts = shapely.get_parts([piece.intersection(_EARTH) for piece in turned])
        pieces = [piece for piece in parts if piece.area > 0]
    else:
        pieces = [shape]
    rings = []
    for piece in pieces:
        # Without repeated points: a raster of millimetres has edges shorter than the rounding.
        points = np.round(shapely.get_coordinates(shapely.geometry.polygon.orient(piece).exterior), 9)
        keep = np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))
        rings.append([points[keep].tolist()])
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}


def _datetimes(record: RunRecord, created: str) -> dict[str, Any]:
    known = {"geocd:date_before": record.date_before, "geocd:date_after": record.date_after}
    dates = [date for date in known.values() if date is not None]
    given = {key: date for key, date in known.items() if date is not None}
    if len(dates) < 2:
        return {"datetime": created, "geocd:dates": "unknown", **given}
    # A pair given the wrong way round is still an interval from the earlier to the later.
    return {"datetime": None, "start_datetime": min(dates), "end_datetime": max(dates), **given}


def _projection(grid: Grid) -> dict[str, Any]:
    crs: dict[str, Any] = {"proj:code": crs_name(grid.crs)}
    if grid.crs.to_authority() is None:
        crs = {"proj:code": None, "proj:wkt2": grid.crs.to_wkt(version="WKT2_2019")}
    return {**crs, "proj:shape": list(grid.shape), "proj:transform": list(grid.transform)[:6]}


def _asset(key: str, path: Path) -> dict[str, Any]:
    title, media_type, roles = ASSETS[key]
    asset: dict[str, Any] = {
        "href": _href(f"./{path.name}"),
        "type": media_type,
        "title": title,
        "roles": list(roles),
        "file:size": path.stat().st_size,
        "file:checksum": item_checksum(path),
    }
    if key == "prob":
        asset["bands"] = _bands(path)
    return asset


def item_checksum(path: Path) -> str:
    """SHA-256 as multihash: 0x12 for the function, 0x20 for its length, then the digest."""
    return "1220" + sha256(path)


def _bands(path: Path) -> list[dict[str, Any]]:
    """The ``bands`` of a raster, with the statistics that the COG driver wrote into it."""
    names = {"minimum": "MINIMUM", "maximum": "MAXIMUM", "mean": "MEAN", "stddev": "STDDEV"}
    names["valid_percent"] = "VALID_PERCENT"
    bands = []
    with open_raster(os.fspath(path)) as dataset:
        for index in dataset.indexes:
            band: dict[str, Any] = {
                "name": dataset.descriptions[index - 1] or f"band_{index}",
                "data_type": dataset.dtypes[index - 1],
            }
            nodata = dataset.nodatavals[index - 1]
            if nodata is not None:
                band["nodata"] = "nan" if math.isnan(nodata) else nodata
            tags = dataset.tags(index)
            statistics = {
                name: float(tags[f"STATISTICS_{key}"])
                for name, key in names.items()
                if f"STATISTICS_{key}" in tags
            }
            if statistics:  # none where no pixel is valid
                band["statistics"] = statistics
            bands.append(band)
    return bands


def _derived_from(path: str, which: str, folder: Path) -> dict[str, str]:
    link = {"rel": "derived_from", "href": source_href(path, folder), "title": f"{which}: {_title(path)}"}
    if path.lower().split("?")[0].endswith((".tif", ".tiff")):
        link["type"] = "image/tiff; application=geotiff"
    return link


def source_href(path: str, folder: Path) -> str:
    """Return how an item in ``folder`` refers to an input.

    A local file relative to the folder; anything else as it is, but without a password or a signed
    query, which must not travel with the outputs.
    """
    if "://" in path:
        parts = urllib.parse.urlsplit(path)
        query = parts.query
        if re.search(r"(^|&)([^=]*(sig|token|key|credential|secret|expires)[^=]*)=", query, re.IGNORECASE):
            query = ""
        return urllib.parse.urlunsplit(
            (parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path, query, parts.fragment)
        )
    if path.startswith("/vsi") or not Path(path).exists():  # /vsi..., NETCDF:"file":variable
        return path
    try:
        relative = Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return Path(path).absolute().as_uri()
    return _href(relative if relative.startswith("../") else f"./{relative}")


def source_path(href: str, folder: Path) -> str:
    """Return the path or URL that :func:`source_href` wrote as ``href`` for an item in ``folder``."""
    if href.startswith(("./", "../")):
        return os.path.normpath(folder / urllib.parse.unquote(href))
    if href.startswith("file:"):
        return urllib.request.url2pathname(urllib.parse.urlsplit(href).path)
    return href


def _href(path: str) -> str:
    """A path as IRI reference: only what may not stand in one is escaped, so it stays readable."""
    return re.sub(r"[\x00-\x20\"<>\\^`{|}%?#]", lambda match: urllib.parse.quote(match[0]), path)


def _title(path: str) -> str:
    return path.split("?")[0].rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


def _strict(value: Any) -> Any:
    """Plain JSON values: numpy scalars unwrapped, None for what is not finite, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, np.generic):
        return _strict(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


__all__ = [
    "ASSETS",
    "STAC_EXTENSIONS",
    "STAC_VERSION",
    "RunRecord",
    "acquisition_date",
    "footprint",
    "source_href",
    "source_path",
    "stac_item",
    "versions",
    "write_json",
]
