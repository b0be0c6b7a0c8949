"""Score a probability raster against a reference map: reads the files for :mod:`geocd.metrics`.

Only the command line and benchmarks import this module, so that a reference never reaches detection.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.features import rasterize
from rasterio.windows import Window
from shapely.errors import ShapelyError
from shapely.geometry import MultiPolygon
from shapely.geometry.base import BaseGeometry

from geocd import metrics
from geocd.errors import BandError, ConfigError, GridError, NoValidPixelError, RasterOpenError
from geocd.exports import make_callable
from geocd.metrics import Scores, object_scores
from geocd.raster.files import grid_of, open_raster, provenance
from geocd.raster.grid import Grid, check_same_grid
from geocd.raster.reading import read
from geocd.raster.sources import is_file, why_no_vector
from geocd.raster.warp import full_turn
from geocd.raster.writer import BLOCK_SIZE
from geocd.spelling import python_errors
from geocd.types import BoolArray, Float32Array, Float64Array
from geocd.vectorize.dateline import in_one_piece

if TYPE_CHECKING:
    import xarray as xr
    from geopandas import GeoSeries
    from rasterio.io import DatasetReader

#: The threshold where neither the caller nor the file has one.
DEFAULT_THRESHOLD = 0.5
#: Value of unknown pixels in a reference raster.
UNKNOWN = 255
#: Distinct values of a reference that are looked at; a reference has three.
MOST_VALUES = 1000


def evaluate_files(
    prob: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    *,
    threshold: float | None = None,
) -> Scores:
    """Return the agreement of a probability raster with a reference, by pixel and by object.

    Pixels without a probability and pixels that are unknown in the reference are left out.

    Parameters
    ----------
    prob : path
        A probability raster; its first band is read.
    reference : path
        A raster on the same grid, first band: 1 changed, 0 unchanged, 255 or nodata unknown. Or a
        vector file in any CRS: changed where a polygon covers the centre of the pixel, unchanged
        everywhere else.
    threshold : float, optional
        Changed where the probability is at least this. Default: the threshold of the run that made ``prob``,
        from its tags; 0.5 where it has none.

    Returns
    -------
    Scores
        With scores by object.

    Raises
    ------
    RasterOpenError
        A file is missing, or cannot be read as what it should be.
    GridError
        The two are on different grids, or one has no CRS.
    BandError
        Values are no probabilities, or not those of a reference.
    ConfigError
        The vector file has no or several layers of polygons, or the threshold is NaN.
    NoValidPixelError
        No pixel is known in both.

    Notes
    -----
    Both maps are held in memory, about 16 bytes per pixel at the peak, because objects extend across windows.
    """
    path = os.fspath(prob)
    if threshold is None:
        threshold = _recorded_threshold(path)
    with open_raster(path) as dataset:
        grid = grid_of(dataset, path)
        values = _read_prob(dataset, path)
    return _scores(values, grid, path, os.fspath(reference), threshold)


def evaluate(
    prob: str | os.PathLike[str] | xr.DataArray | xr.Dataset,
    reference: str | os.PathLike[str],
    *,
    threshold: float | None = None,
) -> Scores:
    """Return the agreement of a change probability with a reference; called as ``geocd.evaluate``.

    Parameters
    ----------
    prob : path, xarray.DataArray or xarray.Dataset
        A result of :func:`geocd.detect`, or the probability raster of a run.
    reference : path
        See :func:`evaluate_files`.
    threshold : float, optional
        Changed where the probability is at least this. Default: that of the run; 0.5 where it is unknown.

    Returns
    -------
    Scores
        With scores by object.

    Raises
    ------
    GeocdError
        See :func:`evaluate_files`.
    """
    with python_errors():
        if isinstance(prob, str | os.PathLike):
            return evaluate_files(prob, reference, threshold=threshold)
        from geocd.raster.arrays import ArrayRaster
        from geocd.result import probability

        layer = probability(prob)
        raster = ArrayRaster(layer, "the change probability")
        if threshold is None:
            threshold = float(prob.attrs.get("threshold", DEFAULT_THRESHOLD))
        grid = Grid(raster.crs, raster.transform, raster.height, raster.width)
        values = raster.read(1, window=grid.window).astype(np.float32)
        _check_range(values, raster.name)
        return _scores(values, grid, raster.name, os.fspath(reference), threshold)


def _scores(values: Float32Array, grid: Grid, prob: str, reference: str, threshold: float) -> Scores:
    """Return the scores of a probability, (height, width) float32, NaN where not valid."""
    if math.isnan(threshold):
        raise ConfigError("the threshold is NaN. Pass a number between 0 and 1.", threshold=threshold)
    changed, valid = _read_reference(reference, grid, prob)
    valid &= np.isfinite(values)
    if not valid.any():
        raise NoValidPixelError(
            f"no pixel has both a probability in {prob} and a known value in {reference}. Check that "
            "the reference belongs to this pair, and its nodata value.",
            prob=prob,
            reference=reference,
        )
    objects = object_scores(values >= np.float32(threshold), changed, valid)
    scores = metrics.evaluate(values[valid], changed[valid], threshold=threshold)
    return dataclasses.replace(scores, objects=objects)


def _recorded_threshold(prob: str) -> float:
    """Return the threshold in the tags of a probability raster, the default where there is none."""
    threshold = provenance(prob).get("threshold")
    if isinstance(threshold, int | float) and not isinstance(threshold, bool):
        return float(threshold)
    return DEFAULT_THRESHOLD


def _windows(dataset: DatasetReader) -> Iterator[Window]:
    """Yield windows of whole rows, a few blocks high."""
    step = 2 * BLOCK_SIZE
    for row in range(0, dataset.height, step):
        yield Window(0, row, dataset.width, min(step, dataset.height - row))


def _read_prob(dataset: DatasetReader, path: str) -> Float32Array:
    """Return the first band as probability, (height, width) in [0, 1], NaN where not valid."""
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
        _check_range(values[rows], path)
    return values


def _check_range(values: Float32Array, path: str) -> None:
    finite = values[np.isfinite(values)]
    if finite.size and not (finite.min() >= 0 and finite.max() <= 1):
        raise _no_probability(path, f"values from {finite.min():.6g} to {finite.max():.6g}")


def _no_probability(path: str, values: str) -> BandError:
    return BandError(
        f"{path}: its first band is no change probability ({values}; must be 0 to 1). Name the STEM_prob.tif "
        "of a run first, then the reference.",
        path=path,
        values=values,
    )


def _read_reference(path: str, grid: Grid, prob_path: str) -> tuple[BoolArray, BoolArray]:
    """Return where the reference is changed, and where it is known, both (height, width)."""
    try:
        dataset = open_raster(path)
    except RasterOpenError as error:
        remote = "://" in path or path.startswith("/vsi")
        refused = not error.details.get("may_be_vector")  # a raster, which must not be opened
        if refused or (not remote and not is_file(path)):
            raise
        return _rasterize(path, grid, error), np.ones(grid.shape, dtype=bool)
    with dataset:
        remedy = _warp_remedy(dataset, path, prob_path)
        check_same_grid(grid, grid_of(dataset, path), (prob_path, path), remedy)
        return _read_map(dataset, path)


def _read_map(dataset: DatasetReader, path: str) -> tuple[BoolArray, BoolArray]:
    """Return where a reference raster is changed, and where it is known."""
    changed = np.zeros(dataset.shape, dtype=bool)
    valid = np.zeros(dataset.shape, dtype=bool)
    has_unknown, values_present = False, np.empty(0, np.float64)
    for window in _windows(dataset):
        rows = slice(window.row_off, window.row_off + window.height)
        part: Any = read(dataset, path, window, indexes=1, masked=True)
        values, labelled = np.ma.getdata(part), ~np.ma.getmaskarray(part)
        _check_one_band(dataset, path, window, values)
        if np.dtype(values.dtype).kind == "f":
            labelled &= ~np.isnan(values)
        has_unknown |= bool((values[labelled] == UNKNOWN).any())
        values_present = np.union1d(values_present, values[labelled].astype(np.float64))[:MOST_VALUES]
        labelled &= values != UNKNOWN
        changed[rows] = labelled & (values == 1)
        valid[rows] = labelled
    _check_values(path, values_present)
    unchanged = bool((valid & ~changed).any())
    if has_unknown and not changed.any():
        # Maps of 0 and 255 are common, and would be read as "nothing changed, the rest unknown".
        declare = f"rio edit-info --nodata 255 {path}"
        if MaskFlags.all_valid not in dataset.mask_flag_enums[0]:  # its own nodata value would be lost
            declare = _recipe(path, "(* 255 (== (read 1 1) 255))", masked=True)
        raise BandError(
            f"{path}: has the value 255 but not 1, and 255 means unknown. If it means changed, write 1: "
            f"{_recipe(path, '(== (read 1 1) 255)', masked=unchanged)}. If it means unknown, declare it: "
            f"{declare}",
            path=path,
            value=UNKNOWN,
        )
    if changed.any() and not unchanged and not valid.all():
        # QGIS's rasterize declares its background nodata: every prediction outside would go unscored.
        ones, unknown = np.count_nonzero(changed), np.count_nonzero(~valid)
        raise BandError(
            f"{path}: {ones} pixels are 1, none is 0, and {unknown} are nodata or 255, which means unknown. "
            "If these are unchanged, write 0: "
            f"{_recipe(path, '(== (read 1 1) 1)', masked=False)}",
            path=path,
            nodata=dataset.nodata,
        )
    return changed, valid


def _check_one_band(
    dataset: DatasetReader, path: str, window: Window, first: npt.NDArray[np.generic]
) -> None:
    """Raise an error where another band, the alpha channel aside, differs from the first."""
    for index in dataset.indexes[1:]:
        if dataset.colorinterp[index - 1] == ColorInterp.alpha:
            continue
        differ = np.asarray(read(dataset, path, window, indexes=index)) != first
        if differ.any():
            row, col = np.argwhere(differ)[0]
            raise BandError(
                f"{path}: has {dataset.count} bands that differ (bands 1 and {index} in row "
                f"{row + window.row_off}, column {col + window.col_off}), and a reference has one band. If "
                f"band 1 is the reference: rio stack {path} --bidx 1 -f GTiff -o band1.tif",
                path=path,
                count=dataset.count,
            )


def _check_values(path: str, values: Float64Array) -> None:
    """Raise an error unless the known values of a reference are 0, 1 and 255."""
    wrong = values[~np.isin(values, (0, 1, UNKNOWN))]
    if not wrong.size:
        return
    present = ", ".join(f"{value:g}" for value in values[:8]) + (", ..." if len(values) > 8 else "")
    near_ends = (values <= 255 / 4) | ((values >= 255 * 3 / 4) & (values <= 255))
    if len(values) > 4 and near_ends.all() and values.max() > 255 / 2:
        meaning = "They are 0 and 255 after lossy compression, it seems; if high values are changed:"
        expression = "(> (read 1 1) 127)"
    else:
        unknown = f", {UNKNOWN} unknown" if UNKNOWN in values else ""
        meaning = f"If {wrong[-1]:g} is changed{unknown} and every other value unchanged:"
        expression = f"(== (read 1 1) {wrong[-1]:g})"
        if unknown:
            expression = f"(+ {expression} (* {UNKNOWN} (== (read 1 1) {UNKNOWN})))"
    raise BandError(
        f"{path}: has the value {wrong[0]:g} (all values: {present}); a reference is 0 where unchanged, 1 "
        f"where changed, 255 or nodata where unknown. {meaning} "
        f"{_recipe(path, expression, masked=True)}",
        path=path,
        value=wrong[0].item(),
    )


def _recipe(path: str, changed: str, *, masked: bool) -> str:
    """Return the command that writes a reference of 0, 1 and 255: ``changed`` is an expression of rio calc.

    Without ``masked``, pixels that are nodata in the source count by their values; with it, they are unknown.
    rio calc takes the profile from the source, which may say JPEG, or nodata 0.
    """
    taken = "" if masked else " --not-masked"
    return (
        f'rio calc "{changed}"{taken} -t uint8 -f GTiff --co nodata={UNKNOWN} --co compress=deflate '
        f"{path} reference.tif"
    )


def _warp_remedy(dataset: DatasetReader, path: str, prob_path: str) -> str:
    """Return the command that warps a reference onto the grid of a probability raster.

    Without a nodata value rio fills what lies outside with 0, which means unchanged; 255 would hide the
    changed pixels of a map of 0 and 255.
    """
    fill = -128 if dataset.dtypes[0] == "int8" else 128
    unknown = f" --src-nodata {fill} --dst-nodata {fill}" if dataset.nodata is None else ""
    return (
        "Warp the reference onto the grid of the probability: "
        f"rio warp {path} warped.tif --like {prob_path}{unknown} -f GTiff --co compress=deflate"
    )


def _rasterize(path: str, grid: Grid, not_a_raster: RasterOpenError) -> BoolArray:
    """Return where a polygon of a vector file covers the centre of a pixel, (height, width)."""
    areas = _read_polygons(path, _polygon_layer(path, not_a_raster), grid)
    projected = not areas.crs.is_geographic
    areas = areas.to_crs(grid.crs.to_wkt())
    if (turn := full_turn(grid.crs)) is not None:  # the grid may count other longitudes than the reference
        areas = pd.concat(_turned(in_one_piece(areas) if projected else areas, grid, turn))
    # what lies outside the domain of the projection becomes infinite, and is not on the grid
    areas = areas[np.isfinite(areas.bounds).all(axis=1)]
    if not len(areas):
        return np.zeros(grid.shape, dtype=bool)
    burnt = rasterize(areas, out_shape=grid.shape, transform=grid.transform, all_touched=False, dtype="uint8")
    return burnt.astype(bool)  # type: ignore[no-any-return]


def _turned(areas: GeoSeries, grid: Grid, turn: float) -> Iterator[GeoSeries]:
    """Yield the polygons as they are, and moved by the whole turns that bring some of them onto the grid."""
    yield areas
    west, east = (edge([x for x, _ in grid.corners()]) for edge in (min, max))
    bounds = areas.bounds
    for offset in (-turn, turn):
        onto_grid = (bounds.minx + offset < east) & (bounds.maxx + offset > west)
        yield areas[onto_grid].translate(xoff=offset)


def _polygon_layer(path: str, not_a_raster: RasterOpenError) -> str:
    """Return the layer of polygons of a vector file: the one called ``changes``, else the only one."""
    import pyogrio

    if (why := why_no_vector(path)) is not None:
        raise RasterOpenError(f"{path}: {why}", path=path) from not_a_raster
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if "Polygon" in str(kind)]
        layers = layers or [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    except (RuntimeError, ValueError):  # pyogrio's errors have no other root; names may not be decodable
        raise RasterOpenError(
            f"{path}: neither a raster nor a vector file that GDAL can read. Pass a GeoTIFF, a "
            "GeoPackage, GeoJSON or Shapefile as reference.",
            path=path,
        ) from not_a_raster
    if "changes" in layers:
        return "changes"
    if len(layers) != 1:
        content = f"{len(layers)} layers of polygons ({', '.join(layers)})" if layers else "no polygons"
        raise ConfigError(
            f"{path}: has {content}, and one layer is needed. Save the reference layer to a file of its own.",
            path=path,
            layers=layers,
        )
    return layers[0]


def _read_polygons(path: str, layer: str, grid: Grid) -> GeoSeries:
    """Return the polygons of a layer in their own CRS; ``grid`` is for messages."""
    import geopandas

    try:
        with np.errstate(invalid="ignore"):  # NaN among the coordinates, which is an error below
            frame = geopandas.read_file(path, layer=layer, columns=[])
    # of pyogrio, shapely and pyproj; values of a damaged file may not be decodable, rings not closed
    except (RuntimeError, ValueError, TypeError, OverflowError, ShapelyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RasterOpenError(
            f"{path}: its polygons cannot be read ({reason}). Repair them, for instance: "
            f"ogr2ogr -makevalid repaired.gpkg {path}",
            path=path,
        ) from error
    if frame.crs is None:
        raise GridError(
            f"{path}: the polygons have no coordinate reference system, so they cannot be located on "
            f"{grid.describe()}. Assign the correct one first, for instance: "
            f"ogr2ogr -a_srs EPSG:32633 reference.gpkg {path}",
            path=path,
        )
    shapes = frame.geometry.dropna()
    shapes = shapes[~shapes.is_empty]
    collections = shapes.geom_type == "GeometryCollection"
    shapes[collections] = shapes[collections].apply(_polygonal)  # rasterize would burn their lines, too
    shapes = shapes[~shapes.is_empty]
    areas = shapes[shapes.geom_type.isin(["Polygon", "MultiPolygon"])]
    if len(shapes) and not len(areas):
        raise ConfigError(
            f"{path}: has {shapes.geom_type.iloc[0]} geometries, and a reference needs polygons. "
            "Buffer points and lines to the area that changed.",
            path=path,
        )
    if not np.isfinite(shapely.get_coordinates(areas)).all():
        raise ConfigError(
            f"{path}: has coordinates that are NaN or infinite. Repair the polygons, for instance: "
            f"ogr2ogr -makevalid repaired.gpkg {path}",
            path=path,
        )
    return areas


def _polygonal(geometry: BaseGeometry) -> BaseGeometry:
    """Return the polygons of a geometry, at any depth; a geometry without polygons as it is."""
    polygons = _polygons(geometry)
    return MultiPolygon(polygons) if polygons else geometry


def _polygons(geometry: BaseGeometry) -> list[BaseGeometry]:
    """Return the polygons within a geometry."""
    if geometry.geom_type == "Polygon":
        return [geometry]
    if geometry.geom_type not in ("MultiPolygon", "GeometryCollection"):
        return []
    return [polygon for part in shapely.get_parts(geometry) for polygon in _polygons(part)]


make_callable(__name__)

__all__ = ["DEFAULT_THRESHOLD", "UNKNOWN", "evaluate", "evaluate_files"]
