"""Polygons of a series: regions that changed between the same two dates, and whether that lasts."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geocd.config import PolygonSettings
from geocd.raster.composite import Change, decimal_year
from geocd.raster.files import grid_of, open_raster
from geocd.raster.reading import read
from geocd.vectorize.files import timestamp, write
from geocd.vectorize.polygons import strips
from geocd.vectorize.regions import Regions

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the layer, in order; the geometry comes last.
COLUMNS = (
    *("id", "date_from", "date_to", "lasting", "area_m2", "perimeter_m", "n_pixels"),
    *("centroid_x", "centroid_y"),
)


def write_polygons(
    raster: str | os.PathLike[str],
    destination: Path,
    changes: Sequence[Change],
    days: Sequence[datetime.date],
    settings: PolygonSettings,
) -> int:
    """Write the regions of a raster of :mod:`geocd.raster.composite`, and return their number.

    Parameters
    ----------
    raster : path
    destination : pathlib.Path
        A file of a format of :data:`geocd.vectorize.formats.FORMATS`.
    changes : sequence of Change
        Those that the raster has.
    days : sequence of datetime.date
        By position.
    settings : PolygonSettings

    Raises
    ------
    OutputError
        The destination cannot be written.

    Notes
    -----
    ``date_from`` and ``date_to`` are ISO 8601 days: the change happened between them. ``lasting``, in
    [0.5, 1], is the mean share of later dates that show it, null where no later date is valid yet.
    """
    import geopandas
    import pandas as pd
    import pyproj

    path = os.fspath(raster)
    changes = changes or [Change(0, 0, True)]  # which no pixel has: a layer without polygons
    with open_raster(path) as dataset:
        grid = grid_of(dataset, path)
        regions = {change: Regions(grid) for change in changes}
        years = {change: _years(change, days) for change in changes}
        for window in strips(grid):
            bands = read(dataset, path, window)
            for change in changes:
                to, since = bands[:2] if change.confirmed else bands[3:]
                here = (since == years[change][0]) & (to == years[change][1])
                share = np.where(here & change.confirmed, bands[2], 0).astype(np.float32)
                regions[change].add(share, here)
    tables = [_table(regions.pop(change).finish(settings), change, days) for change in changes]
    table = pd.concat([part for part in tables if len(part)] or tables[:1], ignore_index=True)
    table["id"] = np.arange(1, len(table) + 1)
    frame = geopandas.GeoDataFrame(
        table[[*COLUMNS, "geometry"]], geometry="geometry", crs=pyproj.CRS.from_wkt(grid.crs.to_wkt())
    )
    write(frame, destination, timestamp(days[-1].isoformat()))
    return len(frame)


def _years(change: Change, days: Sequence[datetime.date]) -> tuple[np.float32, np.float32]:
    return np.float32(decimal_year(days[change.first])), np.float32(decimal_year(days[change.second]))


def _table(table: pd.DataFrame, change: Change, days: Sequence[datetime.date]) -> pd.DataFrame:
    """Return regions with the columns of the layer."""
    lasting = table["p_mean"] if change.confirmed else np.nan
    return table.assign(
        date_from=days[change.first].isoformat(), date_to=days[change.second].isoformat(), lasting=lasting
    )


__all__ = ["COLUMNS", "write_polygons"]
