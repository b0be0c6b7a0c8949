"""Probability raster to polygons: threshold, connect, measure, write.

The raster is read in strips of whole rows, so memory depends on the polygons and not on the raster.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rasterio.windows import Window

from geocd.config import PolygonSettings
from geocd.errors import BandError, ConfigError, NoValidPixelError
from geocd.heap import release
from geocd.raster import writer
from geocd.raster.files import grid_of, open_raster, provenance
from geocd.raster.grid import Grid, check_same_grid
from geocd.raster.pair import Pair
from geocd.raster.reading import read
from geocd.scene.reflectance import Reflectance
from geocd.scene.sample import sample_chips
from geocd.types import Float32Array
from geocd.vectorize.bandmeans import BandMeans
from geocd.vectorize.files import timestamp, write
from geocd.vectorize.kinds import KIND_COLUMNS, KindTotal, totals
from geocd.vectorize.lastingmeans import LastingMeans
from geocd.vectorize.names import refuse_unusable_name
from geocd.vectorize.regions import Regions

if TYPE_CHECKING:
    from typing import TypeAlias

    import geopandas
    import pandas as pd

    Added: TypeAlias = Callable[[geopandas.GeoDataFrame], geopandas.GeoDataFrame]

#: Pixels that are read at a time, unless one row of blocks has more.
STRIP_PIXELS = 2**22
#: Columns of every layer, in order. Those of :mod:`geocd.vectorize.kinds` and
#: :mod:`geocd.vectorize.bandmeans` follow where the images were read; the geometry comes last.
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
    "verdict",
)


@dataclasses.dataclass(frozen=True)
class PolygonSummary:
    """Totals of the polygons that :func:`polygonize` wrote.

    Attributes
    ----------
    count : int
        Number of polygons in the layer.
    area_m2 : float
        Their area on the ellipsoid, in square metres.
    n_pixels : int
        Number of changed pixels inside them.
    changed_share : float
        ``n_pixels`` as a share of the valid pixels, in [0, 1]; 0 where no pixel is valid.
    kinds : tuple of KindTotal
        Number and area by kind of change, the largest area first; empty where kinds were not determined.
    """

    count: int
    area_m2: float
    n_pixels: int
    changed_share: float
    kinds: tuple[KindTotal, ...] = ()


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
    """Write the polygons of all pixels at or above a threshold.

    Two changed pixels belong to one polygon when they are connected by shared sides (4-connectivity). The
    polygons are valid, do not overlap, follow the sides of the pixels exactly unless the settings generalize
    them, and are ordered by their first pixel, by row and then by column. The same input gives the same
    bytes.

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
        Smallest area, and how outlines are generalized.
    pair : Pair, optional
        The images on the grid of ``prob``; with them the layer has the columns of
        :mod:`geocd.vectorize.bandmeans`.
    date_before, date_after : str, optional
        ISO 8601; written with every polygon, null where None.
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
        The raster, or an image of the pair, cannot be opened or read.
    GridError
        The raster has no CRS, or the pair is on another grid.
    BandError
        Band 1 has valid values outside [0, 1].
    OutputError
        The destination cannot be written.

    Notes
    -----
    Areas and lengths are measured on the ellipsoid of the raster's CRS, along the sides of the pixels; the
    perimeter includes that of holes. Where a CRS has no ellipsoid (a local engineering grid), they are those
    of the plane.

    Where an outline was generalized, area, perimeter and centroid are those of the polygon as it is written.
    The number of pixels, the probabilities and the bands are always those of the changed pixels, and so is
    the area that the smallest area is compared with.
    """
    destination = Path(destination)
    refuse_unusable_name(destination)  # before any work is done
    polygons = polygons_of(os.fspath(prob), threshold, pair)
    return polygons.write(destination, settings or PolygonSettings(), (date_before, date_after), style=style)


def polygons_of(
    prob: str, threshold: float, pair: Pair | None = None, lasting: LastingMeans | None = None
) -> Polygons:
    """Return the polygons of a probability raster before they are written; as :func:`polygonize`.

    Parameters
    ----------
    prob : str
    threshold : float
    pair : Pair, optional
    lasting : LastingMeans, optional
        Columns of later dates.

    Raises
    ------
    ConfigError, RasterOpenError, RasterReadError, GridError, BandError
    """
    if not 0 < threshold <= 1:
        raise ConfigError(
            f"threshold {threshold:g} is not a probability above 0 and up to 1. Choose one in between, "
            "for instance 0.5.",
            threshold=threshold,
        )
    with open_raster(prob) as dataset:
        grid = grid_of(dataset, prob)
    if pair is not None:
        check_same_grid(grid, pair.grid, (prob, pair.before_path))
    polygons = Polygons(grid, threshold, pair, reflectance_of(pair, provenance(prob).get("kind")), lasting)
    polygons.add_all(probability_rows(prob), prob)
    return polygons


class Polygons:
    """The polygons of a probability raster whose rows come from the top; what :func:`polygonize` consists of.

    Parameters
    ----------
    grid : Grid
        The whole raster.
    threshold : float
        A pixel is changed when its probability is at least this.
    pair : Pair, optional
        The images on this grid.
    reflectance : Reflectance, optional
        With it, the kind of change is told from the images.
    lasting : LastingMeans, optional
        Columns of later dates.
    """

    def __init__(
        self,
        grid: Grid,
        threshold: float,
        pair: Pair | None = None,
        reflectance: Reflectance | None = None,
        lasting: LastingMeans | None = None,
    ) -> None:
        self._threshold = np.float32(threshold)
        self._regions = Regions(grid, None if pair is None else BandMeans(pair, reflectance), lasting)
        self._valid = 0

    def add(self, prob: Float32Array) -> None:
        """Add the next rows, ``(rows, width)`` float32 in [0, 1]; NaN where not valid.

        Raises
        ------
        RasterReadError
            An image of the pair cannot be read.
        """
        self._valid += int(np.count_nonzero(~np.isnan(prob)))
        with np.errstate(invalid="ignore"):
            self._regions.add(prob, prob >= self._threshold)

    def add_all(self, strips: Generator[Float32Array, None, None], name: str) -> None:
        """Add all rows, strip by strip, of a probability that came from elsewhere.

        The generator is closed in any case: the file that it reads must not stay open with an error.

        Raises
        ------
        RasterReadError
            An image of the pair cannot be read.
        BandError
            It has values outside [0, 1]; ``name`` is what the message calls it.
        """
        with contextlib.closing(strips):
            for rows in strips:
                _check_probability(rows, name)
                self.add(rows)
                release()  # or the heap, full of holes, grows with every strip

    @property
    def pixel(self) -> float:
        """Side of a pixel, in metres."""
        return math.sqrt(math.prod(self._regions.size.sides))

    def frame(
        self, settings: PolygonSettings, dates: tuple[str | None, str | None]
    ) -> geopandas.GeoDataFrame:
        """Return the polygons with the columns of the layer, once all rows were added; it frees the rest."""
        frame = _layer(self._regions.finish(settings), self._regions.grid, *dates)
        del self._regions
        return frame

    def write(
        self,
        destination: Path,
        settings: PolygonSettings,
        dates: tuple[str | None, str | None],
        *,
        style: bytes | None = None,
        added: Added | None = None,
    ) -> PolygonSummary:
        """Write the polygons, once all rows were added; it frees what was gathered.

        ``added`` returns the frame with further columns.

        Raises
        ------
        OutputError
            The destination cannot be written.
        """
        pixel = self.pixel
        frame = self.frame(settings, dates)
        if added is not None:
            frame = added(frame)
        release()  # of the corners: the frame is copied as it is written
        write(frame, destination, timestamp(dates[1] or dates[0]), style=style, pixel=pixel)
        n_pixels = int(frame["n_pixels"].sum())
        return PolygonSummary(
            count=len(frame),
            area_m2=float(frame["area_m2"].sum()),
            n_pixels=n_pixels,
            changed_share=n_pixels / self._valid if self._valid else 0.0,
            kinds=totals(frame),
        )


def probability_rows(path: str) -> Generator[Float32Array, None, None]:
    """Yield the rows of a probability raster from the top, in strips, float32 in [0, 1]; NaN where not valid.

    Raises
    ------
    RasterOpenError, RasterReadError, GridError
    """
    with open_raster(path) as dataset:
        for window in strips(grid_of(dataset, path)):
            # masked: nodata, alpha and NaN alike come back as "not valid"
            masked = read(dataset, path, window, indexes=1, masked=True).astype(np.float32)
            yield np.ma.filled(masked, np.nan)


def reflectance_of(pair: Pair | None, kind: object) -> Reflectance | None:
    """Return the reflectance of a pair, measured on a sample; None for embeddings, which show no surface.

    Parameters
    ----------
    pair : Pair or None
    kind : object
        The setting ``kind`` of the run, None where it is unknown.
    """
    if pair is None or kind == "embedding":
        return None
    with contextlib.suppress(NoValidPixelError):
        return Reflectance.measure(sample_chips(pair.without_features()), pair)
    return None


def _check_probability(prob: Float32Array, path: str) -> None:
    """Raise BandError for a raster of something else, whose thousands of polygons would be of no use."""
    low, high = np.fmin.reduce(prob, axis=None), np.fmax.reduce(prob, axis=None)
    if low < -1e-3 or high > 1 + 1e-3:  # a blend of float32 may pass 1 in its last digit
        raise BandError(
            f"{path}: band 1 is no change probability: its values range from {low:g} to {high:g} and "
            "should be within 0 to 1. Pass the file ending in _prob.tif.",
            path=path,
            range=(float(low), float(high)),
        )


def _layer(
    table: pd.DataFrame, grid: Grid, date_before: str | None, date_after: str | None
) -> geopandas.GeoDataFrame:
    """Return the regions with the columns of the layer, in their order, and the CRS."""
    import geopandas
    import pandas as pd
    import pyproj

    table["date_before"] = pd.Series(date_before, index=table.index, dtype="object")
    table["date_after"] = pd.Series(date_after, index=table.index, dtype="object")
    table["verdict"] = pd.Series(None, index=table.index, dtype="object")  # a reviewer writes it
    kinds = [column for column in KIND_COLUMNS if column in table.columns]
    bands = [column for column in table.columns if column not in (*COLUMNS, *kinds, "geometry")]
    return geopandas.GeoDataFrame(
        table[[*COLUMNS, *kinds, *bands, "geometry"]],
        geometry="geometry",
        crs=pyproj.CRS.from_wkt(grid.crs.to_wkt()),
    )


def strips(grid: Grid) -> Iterator[Window]:
    """Return windows that cut a grid into strips of whole rows of blocks, from the top."""
    return writer.strips(grid, STRIP_PIXELS)


__all__ = [
    "COLUMNS",
    "PolygonSummary",
    "Polygons",
    "polygonize",
    "polygons_of",
    "probability_rows",
    "reflectance_of",
    "strips",
]
