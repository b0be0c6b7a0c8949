"""The STAC item of a run, made from its record and its files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from geocd import replacing
from geocd.config import RASTERS
from geocd.location import Location, iri
from geocd.raster.files import open_raster, output_errors
from geocd.raster.grid import Grid, authority_code
from geocd.report import products
from geocd.report.fingerprint import sha256
from geocd.report.footprint import footprint
from geocd.report.links import source_href
from geocd.report.products import Product, product
from geocd.report.record import RunRecord

#: A JSON object.
Json: TypeAlias = dict[str, Any]

STAC_VERSION = "1.1.0"
STAC_EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)


def stac_item(
    record: RunRecord, files: Mapping[str, Path], *, created: str, folder: Path | None = None
) -> Json:
    """Return the STAC 1.1 item of a run, in strict JSON values.

    Parameters
    ----------
    record : RunRecord
    files : mapping of pathlib.Path
        Existing outputs by their key in ``PRODUCTS``; other keys are ignored. ``prob`` is required: the item
        is named after it.
    created : str
        When the outputs were made, RFC 3339 in UTC.
    folder : pathlib.Path, optional
        Where the item will be: relative links to the inputs start there. Default: the folder of ``prob``.

    Returns
    -------
    dict
        The item. Hrefs of assets are relative to it, so that the folder can be moved.

    Raises
    ------
    RasterOpenError
        The probability raster cannot be read.

    Notes
    -----
    geocd's own properties have the prefix ``geocd:``. When the acquisition of either date is unknown,
    ``datetime`` is the time of the run, because STAC requires one, and ``geocd:dates`` is ``unknown``.
    """
    folder = files["prob"].parent if folder is None else folder
    geometry, bbox = footprint(record.grid)
    item = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": list(STAC_EXTENSIONS),
        "id": files["prob"].name.removesuffix(product("prob").suffix),
        "geometry": geometry,
        **({} if bbox is None else {"bbox": bbox}),  # STAC forbids a bbox beside a null geometry
        "properties": _properties(record, created),
        "links": _links(record, folder),
        "assets": {
            entry.key: _asset(entry, files[entry.key])
            for entry in products.PRODUCTS
            if entry.is_asset and entry.key in files
        },
    }
    strict: Json = _strict(item)
    return strict


def write_json(path: Path, item: Mapping[str, Any]) -> None:
    """Write strict JSON (without NaN, which most readers refuse) as a file that appears when it is complete.

    Raises
    ------
    OutputError
        The file cannot be written.
    ValueError
        A number is not finite.
    """
    text = json.dumps(item, allow_nan=False, indent=2, ensure_ascii=False) + "\n"
    with output_errors(path):
        replacing.write(path, text.encode())  # bytes: the same file on every system


def _properties(record: RunRecord, created: str) -> Json:
    """Return the properties of the item."""
    title = f"Change between {Location(record.before).name} and {Location(record.after).name}"
    preset = f", preset {record.preset}" if record.preset else ""
    properties = {
        "title": title,
        **_datetimes(record, created),
        "created": created,
        **_projection(record.grid),
        "processing:software": dict(record.versions),
        "processing:lineage": f"{title}, found without labels by geocd, method {record.method}{preset}, "
        f"bands {', '.join(record.band_names)}.",
        "geocd:threshold": record.threshold,
        "geocd:method": record.method,
        "geocd:preset": record.preset,
        "geocd:seed": record.seed,
        "geocd:bands": list(record.band_names),
        "geocd:device": record.device,
        "geocd:inputs": {  # without times: a copy is the same input
            name: [file.as_dict(with_mtime=False) for file in files] for name, files in record.inputs.items()
        },
        "geocd:settings": record.settings,
        "geocd:timings": record.timings,
        "geocd:summary": record.summary.as_dict(),
        "geocd:findings": [finding.as_dict() for finding in record.findings],
    }
    if record.bands is not None and record.bands.before != record.bands.after:
        properties["geocd:band_numbers"] = {
            "before": list(record.bands.before),
            "after": list(record.bands.after),
        }
    if record.bands is not None and any(record.bands.fills):
        properties["geocd:undeclared_nodata"] = {
            date: list(fill)
            for date, fill in zip(("before", "after"), record.bands.fills, strict=True)
            if fill
        }
    if any(scaling.scales for scaling in record.scalings):
        properties["geocd:scaling"] = {
            date: scaling.as_dict() if scaling.scales else None
            for date, scaling in zip(("before", "after"), record.scalings, strict=True)
        }
    if record.clouds is not None:
        properties["geocd:clouds"] = record.clouds.as_dict()
    if record.other_dates:
        properties["geocd:other_dates"] = [date.as_dict() for date in record.other_dates]
    if record.alignment is not None:
        properties["geocd:alignment"] = record.alignment.as_dict()
    return properties


def _datetimes(record: RunRecord, created: str) -> dict[str, str | None]:
    """Return the dates of acquisition: an interval where both are known, else the time of the run."""
    by_key = {"geocd:date_before": record.date_before, "geocd:date_after": record.date_after}
    own = {key: date for key, date in by_key.items() if date is not None}
    dates = list(own.values())
    if len(dates) < 2:
        return {"datetime": created, "geocd:dates": "unknown", **own}
    # A pair in reverse order is still an interval from the earlier to the later date.
    return {"datetime": None, "start_datetime": min(dates), "end_datetime": max(dates), **own}


def _projection(grid: Grid) -> Json:
    """Return the fields of the projection extension."""
    crs: Json = {"proj:code": authority_code(grid.crs)}
    if crs["proj:code"] is None:
        crs = {"proj:code": None, "proj:wkt2": grid.crs.to_wkt(version="WKT2_2019")}
    return {**crs, "proj:shape": list(grid.shape), "proj:transform": list(grid.transform)[:6]}


def _links(record: RunRecord, folder: Path) -> list[Json]:
    """Return a link to each input."""
    rasters = {name: record.settings.get(name) for name in RASTERS}
    sources = {"before": record.before, "after": record.after, **rasters, **record.other_sources}
    return [_derived_from(path, name, folder) for name, path in sources.items() if isinstance(path, str)]


def _derived_from(path: str, name: str, folder: Path) -> Json:
    """Return the link to the input ``name``, as seen from ``folder``."""
    file = Location(path).name
    link = {"rel": "derived_from", "href": source_href(path, folder), "title": f"{name}: {file}"}
    if file.lower().endswith((".tif", ".tiff")):
        link["type"] = "image/tiff; application=geotiff"
    return link


def _asset(entry: Product, path: Path) -> Json:
    """Return the asset of a file."""
    asset: Json = {
        "href": iri(f"./{path.name}"),
        "type": entry.media_type,
        "title": entry.title,
        "roles": list(entry.roles),
        "file:size": path.stat().st_size,
        "file:checksum": item_checksum(path),
    }
    if entry.key == "prob":
        asset["bands"] = _bands(path)
    return asset


#: What a multihash of SHA-256 begins with.
SHA256 = "1220"


def item_checksum(path: Path) -> str:
    """Return the SHA-256 of a file as multihash: 0x12 for the function, 0x20 for its length, the digest."""
    return SHA256 + sha256(path)


def _bands(path: Path) -> list[Json]:
    """Return the ``bands`` of a raster, with the statistics that the COG driver wrote into it."""
    names = {"minimum": "MINIMUM", "maximum": "MAXIMUM", "mean": "MEAN", "stddev": "STDDEV"}
    names["valid_percent"] = "VALID_PERCENT"
    bands = []
    with open_raster(os.fspath(path)) as dataset:
        for index in dataset.indexes:
            band: Json = {
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


def _strict(value: object) -> Any:
    """Return strict JSON values: numpy scalars unwrapped, None for what is not finite, paths as text."""
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
    "STAC_EXTENSIONS",
    "STAC_VERSION",
    "stac_item",
    "write_json",
]
