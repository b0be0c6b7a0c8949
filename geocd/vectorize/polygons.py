"""Probability raster to polygons: threshold, join, measure, write.

The raster is read in strips of whole rows, so memory depends on the polygons and not on the raster.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyproj
from rasterio.windows import Window

from geocd.config import PolygonSettings
from geocd.errors import BandError, ConfigError
from geocd.heap import release
from geocd.raster.files import grid_of, open_raster
from geocd.raster.grid import Grid, check_same_grid
from geocd.raster.pair import Pair
from geocd.raster.reading import read
from geocd.raster.writer import BLOCK_SIZE
from geocd.types import Float32Array
from geocd.vectorize.bandmeans import BandMeans
from geocd.vectorize.files import timestamp, write
from geocd.vectorize.formats import format_of
from geocd.vectorize.regions import Regions

#: Pixels that are made polygons at a time, unless one row of blocks is more.
STRIP_PIXELS = 2**22
#: Columns of every layer, in their order. Those of :mod:`geocd.vectorize.bandmeans` follow where the images
#: are known; the geometry comes last.
COLUMNS = (
    "id",
    "area_m2",
    "perimeter_m",
    "n_pixels",
    "p_mean",
    "p_max",
    "p_min",
    "p_q25",
    "p_q50",
    "p_q75",
    "centroid_x",
    "centroid_y",
    "date_before",
    "date_after",
)


@dataclasses.dataclass(frozen=True)
class PolygonSummary:
    """What :func:`polygonize` wrote.

    Attributes
    ----------
    count : int
        Polygons in the layer.
    area_m2 : float
        Their area on the ellipsoid.
    n_pixels : int
        Pixels inside them.
    changed_share : float
        ``n_pixels`` as a share of the valid pixels, in [0, 1]; 0 where no pixel is valid.
    """

    count: int
    area_m2: float
    n_pixels: int
    changed_share: float


def polygonize(
    prob: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    threshold: float,
    settings: PolygonSettings | None = None,
    pair: Pair | None = None,
    date_before: str | None = None,
    date_after: str | None = None,
    style: bytes | None = None,
) -> PolygonSummary:
    """Write the polygons of everything at or above a threshold.

    Two changed pixels belong to one polygon when they are joined by shared sides (not by corners alone).
    The polygons are valid, do not overlap, follow the pixels' sides exactly unless the settings say
    otherwise, and come in the order of their first pixel, by row and then by column. The same input gives the
    same bytes.

    Parameters
    ----------
    prob : path
        Raster whose band 1 is the change probability, in [0, 1]; NaN or nodata where not valid.
    destination : path
        A file with a suffix of :data:`geocd.vectorize.formats.FORMATS`, replaced where it exists. It appears
        under this name when it is complete.
    threshold : float
        A pixel is changed when ``prob >= threshold``, in (0, 1].
    settings : PolygonSettings, optional
        Smallest area, and how outlines are made quieter.
    pair : Pair, optional
        The images on the grid of ``prob``; with them the layer has the columns of
        :mod:`geocd.vectorize.bandmeans`.
    date_before, date_after : str, optional
        ISO 8601; written with every polygon, null where unknown.
    style : bytes, optional
        QML for QGIS, written beside the destination.

    Returns
    -------
    PolygonSummary

    Raises
    ------
    ConfigError
        Threshold out of range, or a format that cannot be written.
    RasterOpenError, RasterReadError
    GridError
        The raster has no CRS, or the pair lies on another grid.
    BandError
        Band 1 has valid values outside [0, 1].
    OutputError
        The destination cannot be written.

    Notes
    -----
    Areas and lengths are measured on the ellipsoid of the raster's CRS, in every CRS, along the sides of
    the pixels; the perimeter includes that of holes. Where a CRS has no ellipsoid (a local engineering
    grid), they are those of the plane.

    Where an outline was altered, area, perimeter and centroid are of the polygon as it is written. The number
    of pixels, the probabilities and the bands are always of the changed pixels, and so is the area that
    the smallest area is compared with.
    """
    settings = settings or PolygonSettings()
    destination = Path(destination)
    format_of(destination)  # refused before any work is done
    if not 0 < threshold <= 1:
        raise ConfigError(
            f"threshold {threshold:g} is not a probability above 0 and up to 1. Choose one in between, "
            "for instance 0.5.",
            threshold=threshold,
        )
    path = os.fspath(prob)
    with open_raster(path) as dataset:
        grid = grid_of(dataset, path)
        if pair is not None:
            check_same_grid(grid, pair.grid, (path, pair.before_path))
        means = None if pair is None else BandMeans(pair)
        regions = Regions(grid, means)
        valid = 0
        for window in strips(grid):
            # masked: nodata, alpha and NaN alike come back as "not valid"
            masked = read(dataset, path, window, indexes=1, masked=True).astype(np.float32)
            values = np.ma.filled(masked, np.nan)
            valid += int(np.count_nonzero(~np.isnan(values)))
            _check_probability(values, path)
            with np.errstate(invalid="ignore"):
                regions.add(values, values >= np.float32(threshold))
            release()  # or the heap, full of holes, grows with every strip
    table = regions.finish(settings)
    table["date_before"] = pd.Series(date_before, index=table.index, dtype="object")
    table["date_after"] = pd.Series(date_after, index=table.index, dtype="object")
    bands = [column for column in table.columns if column not in (*COLUMNS, "geometry")]
    frame = geopandas.GeoDataFrame(
        table[[*COLUMNS, *bands, "geometry"]],
        geometry="geometry",
        crs=pyproj.CRS.from_wkt(grid.crs.to_wkt()),
    )
    pixel = math.sqrt(math.prod(regions.size.sides))
    del regions, table
    release()  # of the corners: the frame is copied as it is written
    write(frame, destination, timestamp(date_after or date_before), style=style, pixel=pixel)
    n_pixels = int(frame["n_pixels"].sum())
    return PolygonSummary(
        count=len(frame),
        area_m2=float(frame["area_m2"].sum()),
        n_pixels=n_pixels,
        changed_share=n_pixels / valid if valid else 0.0,
    )


def _check_probability(values: Float32Array, path: str) -> None:
    """Refuse another raster early: thousands of polygons of raw reflectance help nobody."""
    low, high = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
    if low < -1e-3 or high > 1 + 1e-3:  # a blend of float32 may pass 1 in its last digit
        raise BandError(
            f"{path}: band 1 is no change probability, its values reach from {low:g} to {high:g} and "
            "should lie in 0 to 1. Name the file ending in _prob.tif.",
            path=path,
            range=(float(low), float(high)),
        )


def strips(grid: Grid) -> Iterator[Window]:
    """Cut a grid into strips of whole block rows, from the top."""
    rows = max(1, STRIP_PIXELS // grid.width // BLOCK_SIZE) * BLOCK_SIZE
    for row in range(0, grid.height, rows):
        yield Window(0, row, grid.width, min(rows, grid.height - row))


__all__ = [
    "COLUMNS",
    "PolygonSummary",
    "polygonize",
    "strips",
]
