"""Whether a raster file is georeferenced, and what to do where it is not.

Whatever opens a raster asks for its grid (:func:`geocd.raster.files.grid_of`), which asks here, so that
nothing gets a place that nobody wrote. Every remedy makes a new file or edits the header of a GeoTIFF:
rewriting the header of a JPEG encodes its pixels again, and a CRS assigned to a raster with control points
replaces the CRS of the points.
"""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

import numpy as np
import rasterio.warp
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError

from geocd.errors import GridError
from geocd.raster.grid import crs_name, is_pixel_transform

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

#: Stands for what only the user can know.
UNKNOWN_CRS = "EPSG:CODE"


def check_georeference(dataset: DatasetReader, path: str) -> None:
    """Raise :class:`GridError` unless a raster has a CRS and a transform that gives its pixels an area.

    Parameters
    ----------
    dataset : rasterio.io.DatasetReader
    path : str
        Its name in the message.

    Raises
    ------
    GridError
        It has no CRS; no transform, or that of pixel coordinates; a transform that gives pixels no area; or
        it is georeferenced by control points, RPCs or geolocation arrays only. The message says how to write
        a file that has both.
    """
    t, crs = dataset.transform, _has_crs(dataset)
    located = not is_pixel_transform(t)
    if not (crs and located):
        _check_warpable(dataset, path, crs=crs, located=located)
    if not crs:
        what = "coordinate reference system" if located else "coordinate reference system and no transform"
        raise GridError(
            f"{path}: the raster has no {what}, so results cannot be located or measured. "
            f"{_how_to_assign(dataset, path, crs=False, transform=located)}",
            path=path,
        )
    if not located:
        raise GridError(
            f"{path}: has a coordinate reference system ({crs_name(dataset.crs)}) but no transform: origin "
            f"({t.c:.10g}, {t.f:.10g}), pixel ({t.a:.10g}, {t.e:.10g}) are pixel coordinates, no place. "
            f"{_how_to_assign(dataset, path, crs=True, transform=False)}",
            path=path,
        )
    if not (0 < abs(t.determinant) < math.inf and math.isfinite(t.c) and math.isfinite(t.f)):
        raise GridError(
            f"{path}: its transform gives pixels no area (origin ({t.c:.10g}, {t.f:.10g}), pixel "
            f"({t.a:.10g}, {t.e:.10g}), rotation ({t.b:.10g}, {t.d:.10g})). "
            f"{_how_to_assign(dataset, path, crs=True, transform=False)}",
            path=path,
        )


def _has_crs(dataset: DatasetReader) -> bool:
    """Tell whether a raster has a coordinate reference system that can be exported."""
    try:
        return dataset.crs is not None and bool(dataset.crs.to_wkt())
    except (CRSError, CPLE_BaseError):
        return False


def _how_to_assign(dataset: DatasetReader, path: str, *, crs: bool, transform: bool) -> str:
    """Return how to assign what is missing: CRS, transform or both."""
    name = shlex.quote(path)
    assigned = ("" if crs else f" -a_srs {UNKNOWN_CRS}") + (
        "" if transform else " -a_ullr WEST NORTH EAST SOUTH"
    )
    remedy = "Assign what it was made with, and no other: "
    if dataset.driver == "GTiff":  # edited in place; the pixels stay as they are
        edited = ("" if crs else f" --crs {UNKNOWN_CRS}") + (
            "" if transform else " --transform '[SIZE, 0, WEST, 0, -SIZE, NORTH]'"
        )
        remedy += f"rio edit-info{edited} {name}, or into a new file: "
    remedy += f"gdal_translate{assigned} {name} located.tif"
    if dataset.driver in ("netCDF", "HDF5", "HDF5Image"):
        remedy += (
            ". If xarray wrote the file: .rio.write_crs(...).rio.write_transform() on the dataset, then "
            ".to_netcdf()"
        )
    return remedy


def _check_warpable(dataset: DatasetReader, path: str, *, crs: bool, located: bool) -> None:
    """Raise :class:`GridError` where gdalwarp can make a georeferenced raster of this one."""
    points, points_crs = dataset.gcps
    if points and not located:
        source = "" if points_crs else f"-s_srs {UNKNOWN_CRS} "
        target = _target(points_crs, [point.x for point in points], [point.y for point in points])
        what = f"{len(points)} ground control points ({crs_name(points_crs or None)})"
    elif dataset.rpcs is not None and not (crs and located):
        source, what = "-rpc ", "RPCs"
        target = _target(CRS.from_epsg(4326), [dataset.rpcs.long_off], [dataset.rpcs.lat_off])
    elif dataset.tags(ns="GEOLOCATION") and not located:
        source, what, target = "-geoloc ", "geolocation arrays", UNKNOWN_CRS
    else:
        return
    raise GridError(
        f"{path}: is georeferenced by {what} only, so its pixels lie on no grid yet. Warp it onto one first, "
        f"in the coordinate reference system of the other image: gdalwarp {source}-t_srs {target} "
        f"{shlex.quote(path)} warped.tif. Do not assign a CRS to it: its pixels have none.",
        path=path,
    )


def _target(crs: CRS | None, x: list[float], y: list[float]) -> str:
    """Return the CRS to warp to: that of the points if it is projected, else the UTM zone of their middle."""
    if not crs:
        return UNKNOWN_CRS
    name = crs_name(crs)
    if crs.is_projected and name.startswith("EPSG:"):
        return name
    try:
        lon, lat = (float(np.mean(v)) for v in rasterio.warp.transform(crs, CRS.from_epsg(4326), x, y)[:2])
    except (RasterioError, CPLE_BaseError):
        return UNKNOWN_CRS
    if not -80 <= lat <= 84:  # where the zones end; NaN too
        return UNKNOWN_CRS
    zone = int((lon + 180) // 6) % 60 + 1
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


__all__ = ["check_georeference"]
