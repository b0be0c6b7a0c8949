"""Compare a probability raster with a reference map: the files behind :mod:`geocd.metrics`.

Reads a reference, so only the command line and benchmarks import it; detection never does.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from rasterio.enums import MaskFlags
from rasterio.features import rasterize
from rasterio.windows import Window
from shapely.errors import ShapelyError

from geocd.errors import BandError, ConfigError, GridError, NoValidPixelError, RasterOpenError
from geocd.metrics import Scores, evaluate, object_scores
from geocd.raster.files import grid_of, open_raster, provenance
from geocd.raster.grid import Grid, check_same_grid
from geocd.raster.reading import read
from geocd.raster.sources import is_file, why_no_vector
from geocd.raster.writer import BLOCK_SIZE
from geocd.types import BoolArray, Float32Array

if TYPE_CHECKING:
    from rasterio.io import DatasetReader


#: The decision where neither the caller nor the file names one.
DEFAULT_THRESHOLD = 0.5
#: Value of a reference pixel of which nothing is known.
UNKNOWN = 255


def evaluate_files(
    prob: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    *,
    threshold: float | None = None,
) -> Scores:
    """Return the agreement of a probability raster with a reference, by pixel and by object.

    Pixels without a probability and pixels of which the reference knows nothing are left out.

    Parameters
    ----------
    prob : path
        A probability raster; its first band is read.
    reference : path
        A raster on the same grid, first band: 1 changed, 0 unchanged, 255 or nodata unknown. Or a
        vector file in any CRS: changed where a polygon covers the centre of the pixel, unchanged
        everywhere else.
    threshold : float, optional
        Changed where the probability is at least this. Default: the threshold of the run that made
        ``prob``, as the file tells; 0.5 when it does not.

    Raises
    ------
    RasterOpenError
        A file is missing, or cannot be read as what it should be.
    GridError
        The two are on different grids, or one has no CRS.
    BandError
        Values that are no probability, or no reference.
    ConfigError
        The vector file has several layers of polygons, or the threshold is not a number.
    NoValidPixelError
        No pixel is known in both.

    Notes
    -----
    Both maps are held in memory, about 16 bytes per pixel at the peak: objects reach across any window.
    """
    prob, reference = os.fspath(prob), os.fspath(reference)
    if threshold is None:
        told = provenance(prob).get("threshold")
        told_is_number = isinstance(told, int | float) and not isinstance(told, bool)
        threshold = float(told) if told_is_number else DEFAULT_THRESHOLD  # type: ignore[arg-type]
    if math.isnan(threshold):
        raise ConfigError("the threshold is NaN. Pass a number between 0 and 1.", threshold=threshold)
    with open_raster(prob) as dataset:
        grid = grid_of(dataset, prob)
        values = _read_prob(dataset, prob)
    changed, known = _read_reference(reference, grid, prob)
    known &= np.isfinite(values)
    if not known.any():
        raise NoValidPixelError(
            f"no pixel has both a probability in {prob} and a known value in {reference}. Check that "
            "the reference belongs to this pair, and its nodata value.",
            prob=prob,
            reference=reference,
        )
    objects = object_scores(values >= np.float32(threshold), changed, known)
    scores = evaluate(values[known], changed[known], threshold=threshold)
    return dataclasses.replace(scores, objects=objects)


def _windows(dataset: DatasetReader) -> Iterator[Window]:
    """Whole rows, a few blocks high."""
    step = 2 * BLOCK_SIZE
    for row in range(0, dataset.height, step):
        yield Window(0, row, dataset.width, min(step, dataset.height - row))


def _read_prob(dataset: DatasetReader, path: str) -> Float32Array:
    """The probability, NaN where there is none."""
    values = np.empty(dataset.shape, dtype=np.float32)
    scale, offset = dataset.scales[0], dataset.offsets[0]
    for window in _windows(dataset):
        part: Any = read(dataset, path, window, indexes=1, masked=True)
        if np.dtype(part.dtype).kind not in "iuf":
            raise _no_probability(path, str(part.dtype))
        rows = slice(window.row_off, window.row_off + window.height)
        values[rows] = part.astype(np.float32).filled(np.nan)
        if (scale, offset) != (1, 0):  # a compact byte raster
            values[rows] = values[rows] * scale + offset
        found = values[rows][np.isfinite(values[rows])]
        if found.size and not (found.min() >= 0 and found.max() <= 1):
            raise _no_probability(path, f"values from {found.min():.6g} to {found.max():.6g}")
    return values


def _no_probability(path: str, found: str) -> BandError:
    return BandError(
        f"{path}: its first band is no change probability ({found}, 0 to 1 is needed). Name the "
        "STEM_prob.tif of a run, and the reference after it.",
        path=path,
        found=found,
    )


def _read_reference(path: str, grid: Grid, prob_path: str) -> tuple[BoolArray, BoolArray]:
    """Where the reference says changed, and where it says anything."""
    try:
        dataset = open_raster(path)
    except RasterOpenError as error:
        remote = "://" in path or path.startswith("/vsi")
        if not remote and not is_file(path):
            raise
        return _rasterize(path, grid, error), np.ones(grid.shape, dtype=bool)
    with dataset:
        check_same_grid(grid, grid_of(dataset, path), (prob_path, path))
        return _read_map(dataset, path)


def _read_map(dataset: DatasetReader, path: str) -> tuple[BoolArray, BoolArray]:
    changed = np.zeros(dataset.shape, dtype=bool)
    known = np.zeros(dataset.shape, dtype=bool)
    undeclared = False
    for window in _windows(dataset):
        rows = slice(window.row_off, window.row_off + window.height)
        part: Any = read(dataset, path, window, indexes=1, masked=True)
        values, here = np.ma.getdata(part), ~np.ma.getmaskarray(part)
        if np.dtype(values.dtype).kind == "f":
            here &= ~np.isnan(values)
        undeclared |= bool((values[here] == UNKNOWN).any())
        here &= values != UNKNOWN
        wrong = values[here & (values != 0) & (values != 1)]
        if wrong.size:
            value = wrong.flat[0].item()
            raise BandError(
                f"{path}: holds the value {value:g}; a reference is 0 where unchanged, 1 where changed, "
                "255 or nodata where unknown. Write it so, for instance when everything above 0 is "
                f'change: rio calc "(asarray (> (read 1 1) 0))" -t uint8 {path} reference.tif',
                path=path,
                value=value,
            )
        changed[rows] = here & (values == 1)
        known[rows] = here
    if undeclared and not changed.any() and MaskFlags.all_valid in dataset.mask_flag_enums[0]:
        # Maps drawn as 0 and 255 are common, and would pass here as "nothing changed, the rest unknown".
        raise BandError(
            f"{path}: holds 255 and never 1, and 255 means unknown here. If it means changed, write 1: "
            f'rio calc "(asarray (== (read 1 1) 255))" -t uint8 {path} reference.tif. If it means '
            f"unknown, declare it: rio edit-info --nodata 255 {path}",
            path=path,
            value=UNKNOWN,
        )
    return changed, known


def _rasterize(path: str, grid: Grid, not_a_raster: RasterOpenError) -> BoolArray:
    """Where a polygon of a vector file covers the centre of a pixel."""
    import geopandas
    import pyogrio

    if (why := why_no_vector(path)) is not None:
        raise RasterOpenError(f"{path}: {why}", path=path) from not_a_raster
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if "Polygon" in str(kind)]
        layers = layers or [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    except (RuntimeError, ValueError):  # pyogrio's errors share no other root; names that are no text
        raise RasterOpenError(
            f"{path}: neither a raster nor a vector file that GDAL can read. Pass a GeoTIFF, a "
            "GeoPackage, GeoJSON or Shapefile as reference.",
            path=path,
        ) from not_a_raster
    if len(layers) != 1 and "changes" not in layers:
        found = f"{len(layers)} layers of polygons ({', '.join(layers)})" if layers else "no polygons"
        raise ConfigError(
            f"{path}: holds {found}, and one is needed. Save the reference layer to a file of its own.",
            path=path,
            layers=layers,
        )
    try:
        layer = "changes" if "changes" in layers else layers[0]
        with np.errstate(invalid="ignore"):  # NaN among the coordinates, of which we say more below
            frame = geopandas.read_file(path, layer=layer, columns=[])
    # of pyogrio, shapely and pyproj, each its own; a damaged file may hold what is no text, number or ring
    except (RuntimeError, ValueError, TypeError, OverflowError, ShapelyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RasterOpenError(
            f"{path}: its polygons cannot be read ({reason}). Repair them, for instance: "
            f"ogr2ogr -makevalid repaired.gpkg {path}",
            path=path,
        ) from error
    if frame.crs is None:
        raise GridError(
            f"{path}: the polygons have no coordinate reference system, so they have no place on "
            f"{grid.describe()}. Assign the right one first, for instance: "
            f"ogr2ogr -a_srs EPSG:32633 reference.gpkg {path}",
            path=path,
        )
    shapes: Any = frame.geometry.dropna()
    shapes = shapes[~shapes.is_empty]
    areas = shapes[shapes.geom_type.isin(["Polygon", "MultiPolygon", "GeometryCollection"])]
    if len(shapes) and not len(areas):
        raise ConfigError(
            f"{path}: holds {shapes.geom_type.iloc[0]} geometries, and a reference needs polygons. "
            "Buffer points and lines to the area that changed.",
            path=path,
        )
    if not np.isfinite(shapely.get_coordinates(areas)).all():
        raise ConfigError(
            f"{path}: has coordinates that are no numbers (NaN or infinite). Repair the polygons, for "
            f"instance: ogr2ogr -makevalid repaired.gpkg {path}",
            path=path,
        )
    areas = areas.to_crs(grid.crs.to_wkt())
    # What lies outside the domain of the projection comes back infinite, and is not on the grid.
    areas = areas[np.isfinite(areas.bounds).all(axis=1)]
    if not len(areas):
        return np.zeros(grid.shape, dtype=bool)
    burnt = rasterize(areas, out_shape=grid.shape, transform=grid.transform, all_touched=False, dtype="uint8")
    return burnt.astype(bool)  # type: ignore[no-any-return]


__all__ = ["DEFAULT_THRESHOLD", "UNKNOWN", "evaluate_files"]
