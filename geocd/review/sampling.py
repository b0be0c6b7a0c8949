"""A stratified random sample of a finished run: points to judge, from which areas of change are estimated."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyproj
import shapely

from geocd.errors import ConfigError, NoValidPixelError
from geocd.raster.files import output_errors
from geocd.raster.grid import Grid
from geocd.replacing import write as write_bytes
from geocd.review.ranking import read_changes
from geocd.review.strata import (
    CHANGED,
    STANDARD_ERROR,
    Stratum,
    grid_at,
    indexes_of,
    prob_rows,
    sample_sizes,
    strata_of,
)
from geocd.types import Float64Array, IntArray
from geocd.vectorize.files import WGS84, timestamp, write
from geocd.vectorize.formats import FORMATS

#: Columns of the points, in their order; the geometry comes last. The reviewer fills in ``verdict``,
#: ``kind``.
COLUMNS = (
    "id",
    "verdict",
    "kind",
    "longitude",
    "latitude",
    "x",
    "y",
    "stratum",
    "stratum_m2",
    "stratum_pixels",
    "map_class",
    "map_kind",
    "prob",
)
#: Name of the layer.
LAYER = "sample"
#: Class of a changed point of which the map does not say what kind of change it is.
UNCLEAR = "unclear"


@dataclasses.dataclass(frozen=True)
class SampleReport:
    """What :func:`sample` has drawn.

    Attributes
    ----------
    strata : tuple of Stratum
    points : tuple of int
        Number of points of each stratum.
    files : tuple of pathlib.Path
    """

    strata: tuple[Stratum, ...]
    points: tuple[int, ...]
    files: tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Pixels that were drawn, in random order.

    Attributes
    ----------
    key : ndarray, (n,), float64
        The smallest are drawn.
    row, col : ndarray, (n,), int64
    prob : ndarray, (n,), float64
    """

    key: Float64Array
    row: IntArray
    col: IntArray
    prob: Float64Array

    def first(self, count: int) -> Drawn:
        """Return those with the smallest keys, in their order."""
        order = np.argsort(self.key, kind="stable")[:count]
        return Drawn(self.key[order], self.row[order], self.col[order], self.prob[order])

    @classmethod
    def joined(cls, parts: Sequence[Drawn]) -> Drawn:
        """Return all of several."""
        return cls(
            np.concatenate([part.key for part in parts]),
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.col for part in parts]),
            np.concatenate([part.prob for part in parts]),
        )


def draw(path: str, strata: Sequence[Stratum], sizes: Sequence[int], seed: int = 0) -> list[Drawn]:
    """Draw pixels of each stratum at random, without replacement, with a chance proportional to their area.

    Every valid pixel has an exponential random number divided by its area, and the smallest are drawn
    (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information Processing Letters 97,
    2006). Of the pixels of a stratum in their order, the first so many are a random sample as well.

    Parameters
    ----------
    path : str
        Probability raster.
    strata : sequence of Stratum
    sizes : sequence of int
    seed : int

    Returns
    -------
    list of Drawn
        One for each stratum.
    """
    none = np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    drawn = [Drawn(*none) for _ in strata]
    for rows in prob_rows(path):
        random = np.random.default_rng([seed, rows.row])
        for left, prob, area in rows.slabs():
            keys = random.exponential(size=prob.shape) / np.nan_to_num(area, nan=1e-9)[:, None]
            index = indexes_of(prob, strata)
            for position, size in enumerate(sizes):
                row, col = np.nonzero(index == position)
                part = Drawn(keys[row, col], row + rows.row, col + left, prob[row, col].astype(np.float64))
                drawn[position] = Drawn.joined([drawn[position], part.first(size)]).first(size)
    return drawn


def sample(
    prob: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    threshold: float,
    changes: str | os.PathLike[str] | None = None,
    size: int | None = None,
    standard_error: float = STANDARD_ERROR,
    seed: int = 0,
    style: bytes | None = None,
) -> SampleReport:
    """Draw points to judge from a probability raster, and write them as a GeoPackage and a CSV.

    The strata are the changed pixels, the unchanged ones near the decision, and the others. The points of all
    strata are mixed, so that the reviewer does not know what the map says, and so that whoever judges the
    first hundred alone has judged a random sample as well. The same input and seed give the same points.

    Parameters
    ----------
    prob : path
        Raster whose first band is the change probability.
    destination : path
        A GeoPackage; the CSV lies beside it. Both are replaced where they exist.
    threshold : float
        A pixel is changed where the probability is at least this, in (0, 1].
    changes : path, optional
        Polygons of the run; where they have a column ``kind``, points have it as ``map_kind``.
    size : int, optional
        Number of points; default: by ``standard_error``, at least 75 for each stratum.
    standard_error : float
        Of the overall accuracy, for which the size is computed: eq. 13 of Olofsson et al. (2014).
    seed : int
        0 or more.
    style : bytes, optional
        QML for QGIS, written beside it.

    Returns
    -------
    SampleReport

    Raises
    ------
    ConfigError
        A value is out of range.
    NoValidPixelError
        The raster has no valid pixel.
    VerdictError
        The polygons cannot be read.
    RasterOpenError, RasterReadError, GridError, OutputError
    """
    path, target = os.fspath(prob), Path(destination)
    if size is not None and size < 10:
        raise ConfigError(f"--size {size}: a sample needs at least 10 points.", size=size)
    if not 0.001 <= standard_error <= 0.1:
        raise ConfigError(
            f"--standard-error {standard_error:g}: must be from 0.001 to 0.1.", standard_error=standard_error
        )
    strata = strata_of(path, threshold)
    if not strata:
        raise NoValidPixelError(f"{path}: has no valid pixel to draw from. Check the raster.", path=path)
    sizes = sample_sizes(strata, size=size, standard_error=standard_error)
    frame = _points(grid_at(path), strata, draw(path, strata, sizes, seed), changes)
    layer = dataclasses.replace(FORMATS[".gpkg"], layer=LAYER, geometry_type="Point")
    table = target.with_suffix(".csv")
    write(frame, target, timestamp(None), style=style, fmt=layer)
    with output_errors(table):
        write_bytes(table, _csv(frame))
    return SampleReport(tuple(strata), tuple(sizes), (target, table))


def _points(
    grid: Grid, strata: Sequence[Stratum], drawn: Sequence[Drawn], changes: str | os.PathLike[str] | None
) -> geopandas.GeoDataFrame:
    """Return the points as a layer, those of all strata mixed in proportion to their number."""
    position = np.concatenate([(np.arange(d.key.size) + 0.5) / max(d.key.size, 1) for d in drawn])
    stratum = np.repeat(np.arange(len(drawn)), [d.key.size for d in drawn])
    order = np.lexsort((stratum, position))
    pixels, stratum = Drawn.joined(drawn), stratum[order]
    col, row = (values[order].astype(np.float64) + 0.5 for values in (pixels.col, pixels.row))
    x, y = grid.to_xy(col, row)
    crs = pyproj.CRS.from_wkt(grid.crs.to_wkt())
    longitude, latitude = _lonlat(crs, x, y)
    of = [strata[int(index)] for index in stratum]
    columns: dict[str, object] = {
        "id": np.arange(1, order.size + 1),
        "verdict": pd.Series([None] * order.size, dtype="object"),
        "kind": pd.Series([None] * order.size, dtype="object"),
        "longitude": longitude,
        "latitude": latitude,
        "x": x,
        "y": y,
        "stratum": [entry.name for entry in of],
        "stratum_m2": [entry.area for entry in of],
        "stratum_pixels": [entry.pixels for entry in of],
        "map_class": [entry.map_class for entry in of],
        "map_kind": pd.Series([None] * order.size, dtype="object"),
        "prob": pixels.prob[order],
    }
    frame = geopandas.GeoDataFrame(columns, geometry=shapely.points(x, y), crs=crs)
    if changes is not None:
        frame["map_kind"] = _kinds(frame, Path(changes))
    return frame[[*COLUMNS, "geometry"]]


def _lonlat(crs: pyproj.CRS, x: Float64Array, y: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return longitude and latitude on WGS 84, to a centimetre; NaN where a CRS leads to neither."""
    try:
        transformer = pyproj.Transformer.from_crs(crs, WGS84, always_xy=True)
        longitude, latitude = transformer.transform(x, y)
    except pyproj.exceptions.ProjError:
        return np.full(x.shape, math.nan), np.full(x.shape, math.nan)
    return np.round(longitude, 7), np.round(latitude, 7)


def _kinds(points: geopandas.GeoDataFrame, changes: Path) -> pd.Series[str]:
    """Return the kind of the polygon that each changed point is in; None without one."""
    kinds = pd.Series([None] * len(points), index=points.index, dtype="object")
    polygons = read_changes(changes)
    changed = points[points["map_class"] == CHANGED]
    if "kind" not in polygons.columns or polygons["kind"].isna().all() or not len(changed):
        return kinds
    inside, polygon = polygons.sindex.query(changed.geometry, predicate="intersects")
    kinds[changed.index] = UNCLEAR  # polygons may have been left out for their size
    kinds[changed.index[inside]] = polygons["kind"].iloc[polygon].fillna(UNCLEAR).to_numpy()
    return kinds


def _csv(frame: geopandas.GeoDataFrame) -> bytes:
    """Return the points as CSV, with coordinates of all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in frame[list(COLUMNS)].itertuples(index=False):
        writer.writerow(["" if pd.isna(value) else value for value in row])
    return text.getvalue().encode("utf-8")


__all__ = ["COLUMNS", "SampleReport", "draw", "sample"]
