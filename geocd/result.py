"""The result of :func:`geocd.detect` as polygons, picture and map; and :func:`geocd.polygonize`."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from rasterio.transform import array_bounds

from geocd.config import PolygonSettings
from geocd.errors import ConfigError, GeocdError
from geocd.pipeline.polygons import check_output, dates_of, later_dates, threshold_of
from geocd.pipeline.prepared import open_sources
from geocd.pipeline.refine import refine as refined
from geocd.raster.arrays import ArrayRaster
from geocd.raster.files import grid_of, local_files, open_raster, provenance
from geocd.raster.grid import Grid, check_same_grid
from geocd.raster.pair import Pair
from geocd.report.products import Outputs, stem_of
from geocd.report.quicklook import colours
from geocd.report.styles import style
from geocd.report.thumbnails import read_pair
from geocd.review import ranking
from geocd.review.ranking import COUNT
from geocd.signatures import spelled
from geocd.spelling import python_errors
from geocd.types import Float32Array
from geocd.vectorize.files import timestamp, write
from geocd.vectorize.polygons import Polygons, probability_rows, reflectance_of, strips

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from matplotlib.axes import Axes

    from geocd.vectorize.lastingmeans import LastingMeans

#: A change probability: a result of ``geocd.detect``, its ``change_probability``, or the path of a raster.
Probability = str | os.PathLike[str] | xr.DataArray | xr.Dataset
#: Longest side of a picture, in pixels, and probability below which it is not drawn over the image.
PICTURE, CLEAR = 1000, 0.2
#: Columns that the map shows of a polygon, where it has them.
TIPS = ("id", "kind", "became", "verdict", "p_mean", "area_m2", "diff_ndvi", "date_before", "date_after")


@spelled("polygons")
def polygonize(
    prob: Probability,
    output: str | os.PathLike[str] | None = None,
    *,
    threshold: float | None = None,
    pair: Sequence[str | os.PathLike[str]] | None = None,
    bands: bool = True,
    overwrite: bool = False,
    **settings: object,
) -> GeoDataFrame:
    """Return the polygons of a change probability as a GeoDataFrame, and write them if an output is named.

    Parameters
    ----------
    prob : xarray.Dataset, xarray.DataArray or path
        A result of :func:`geocd.detect`, or the probability raster of a run.
    output : path, optional
        File to write as well; its suffix decides the format, see :mod:`geocd.vectorize.formats`.
    threshold : float, optional
        A pixel is changed where its probability is at least this, in (0, 1]. Default: that of the run.
    pair : sequence of two paths, optional
        The two images, for the columns of bands, indices and kinds. Default: where the run read them.
    bands : bool
        Whether there are columns of bands and indices. The images are read for them; where they cannot be,
        or are on another grid, the columns are left out, unless ``pair`` names them.
    overwrite : bool
        Whether existing files may be replaced: the output, its style, the parts of a shapefile.
    {settings}

    Returns
    -------
    geopandas.GeoDataFrame
        One row for each polygon, in the CRS of the raster, with the columns of the layer ``changes``. The
        settings of the run hold unless others are passed.

    Raises
    ------
    ConfigError
        The threshold is missing or out of range, or a setting cannot work.
    GeocdError
        See :func:`geocd.vectorize.polygonize`.

    Examples
    --------
    >>> changes = geocd.detect("before.tif", "after.tif")  # doctest: +SKIP
    >>> geocd.polygonize(changes, threshold=0.8, min_area=400).plot("p_mean")  # doctest: +SKIP
    """
    with python_errors(), ExitStack() as stack:
        source = _Source.of(prob)
        wanted = _settings(source.record, settings)
        threshold = _threshold(source, threshold)
        images = _images(stack, source, pair) if bands or pair else None
        if output is not None:
            inputs = [] if source.array is not None else [source.name]
            inputs += [os.fspath(path) for path in pair or ()]
            files = [file for path in inputs for file in local_files(path)]
            check_output(Path(output), files, style("changes"), overwrite=overwrite)
        reflectance = reflectance_of(images, source.record.get("kind"))
        later = None if images is None else _later(stack, source, images)
        polygons = Polygons(source.grid, threshold, images, reflectance, later)
        polygons.add_all(source.rows(), source.name)
        dates = dates_of(source.record)
        pixel = polygons.pixel
        frame = polygons.frame(wanted, dates)
        if output is not None:
            write(frame, Path(output), timestamp(dates[1] or dates[0]), style=style("changes"), pixel=pixel)
    return frame


def refine(
    results: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    verdicts: str | os.PathLike[str] | None = None,
    models: Sequence[str | os.PathLike[str]] = (),
    save_model: str | os.PathLike[str] | None = None,
    count: int = COUNT,
) -> GeoDataFrame:
    """Rank the polygons of a run by verdicts on some of them, as ``geocd refine`` does.

    Parameters
    ----------
    results : path
        What ``geocd.detect`` was given as ``output``, or one of its files. Verdicts are those in its
        polygons, and in those of an older ``output``.
    output : path, optional
        GeoPackage to write. Default: ``STEM_refined.gpkg``.
    verdicts : path, optional
        File with the columns ``id`` and ``verdict``, which count before those of the polygons. Default:
        ``STEM_verdicts.csv`` or ``.geojson``, where there is one.
    models, count, save_model
        As for :func:`geocd.review.ranking.refine`. Nothing but an older model is replaced.

    Returns
    -------
    geopandas.GeoDataFrame
        The polygons with ``relevance``, 0 to 1, and ``judge_next``, the most relevant first.

    Raises
    ------
    GeocdError
        See :func:`geocd.review.ranking.refine`.
    """
    files = Outputs(stem_of(os.fspath(results)))
    changes = files.path("changes")
    target = Path(f"{files.stem}_refined.gpkg") if output is None else Path(output)
    with python_errors():
        if target.suffix.lower() != ".gpkg" or target.resolve() == changes.resolve():
            raise ConfigError(f"output={str(target)!r}: must be a GeoPackage of another name.", name="output")
        refined(files, target, verdicts=verdicts, models=models, count=count, save_model=save_model)
    return ranking.read_polygons(target).sort_values(
        ranking.RELEVANCE, ascending=False, kind="stable", ignore_index=True
    )


@dataclasses.dataclass(frozen=True)
class _Source:
    """Where a probability comes from: a raster, or an array."""

    name: str
    grid: Grid
    record: Mapping[str, object]
    array: ArrayRaster | None = None

    @classmethod
    def of(cls, prob: Probability) -> _Source:
        """Return the source of a probability."""
        if isinstance(prob, xr.DataArray | xr.Dataset):
            layer = probability(prob)
            raster = ArrayRaster(layer, "the change probability")
            grid = Grid(raster.crs, raster.transform, raster.height, raster.width)
            return cls(raster.name, grid, record_of(prob), raster)
        path = os.fspath(prob)
        with open_raster(path) as dataset:
            return cls(path, grid_of(dataset, path), provenance(path))

    @property
    def folder(self) -> str:
        """What the paths of the record start from: the folder of this file."""
        return self.name if self.array is None else ""

    def rows(self) -> Generator[Float32Array, None, None]:
        """Yield the probability in strips of rows, NaN where not valid."""
        if self.array is None:
            yield from probability_rows(self.name)
            return
        for window in strips(self.grid):
            yield self.array.read(1, window=window).astype(np.float32)


def probability(result: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Return the change probability of a result.

    Raises
    ------
    ConfigError
        It has none.
    """
    if isinstance(result, xr.DataArray):
        return result
    if "change_probability" not in result:
        raise ConfigError(
            f"this Dataset has no change_probability, but {', '.join(map(str, result))}. Pass what "
            "geocd.detect returned.",
            name="prob",
        )
    return result["change_probability"]


def record_of(result: xr.DataArray | xr.Dataset) -> dict[str, object]:
    """Return settings and provenance of a result, as the raster of a run has them; empty where unknown."""
    texts = (result.attrs.get(name, "{}") for name in ("settings", "provenance"))
    settings, origin = map(json.loads, texts)
    return {**settings, **origin}


def _settings(record: Mapping[str, object], settings: Mapping[str, object]) -> PolygonSettings:
    """Return the settings of the polygons: those of the run, unless others were passed."""
    names = [field.name for field in dataclasses.fields(PolygonSettings)]
    for name in settings:
        if name not in names:
            raise ConfigError(
                f"{name}: no such setting. Those of polygons are: {', '.join(names)}.", name=name
            )
    of_run: dict[str, Any] = {name: record[name] for name in names if name in record}
    return PolygonSettings(**{**of_run, **settings})


def _threshold(source: _Source, threshold: float | None) -> float:
    value = threshold_of(source.name, source.record, threshold)
    if not 0 < value <= 1:
        raise ConfigError(f"threshold={value:g}: must be above 0 and at most 1.", threshold=value)
    return value


def _images(stack: ExitStack, source: _Source, pair: Sequence[str | os.PathLike[str]] | None) -> Pair | None:
    """Return the images of a run; None where they were not passed, and cannot be opened or fit no longer."""
    if pair is not None and (isinstance(pair, str) or len(pair) != 2):
        raise ConfigError(f"pair={pair!r}: must be two paths, (before, after).", name="pair")
    paths = None if pair is None else (os.fspath(pair[0]), os.fspath(pair[1]))
    try:
        images = stack.enter_context(open_sources(source.folder, source.record, paths))
        check_same_grid(source.grid, images.grid, (source.name, images.before_path))
        return images
    except GeocdError:
        if paths is not None:
            raise
        return None


def _later(stack: ExitStack, source: _Source, images: Pair) -> LastingMeans | None:
    """Return the later dates of a run; None where it had none, or where one cannot be opened."""
    with suppress(GeocdError):
        return stack.enter_context(later_dates(images, source.record, Path(source.folder).parent))
    return None


def plot(result: xr.DataArray | xr.Dataset, ax: Axes | None = None, *, polygons: bool = True) -> Axes:
    """Draw a result: the later image, the probability in colours over it, and outlines of the polygons.

    Parameters
    ----------
    result : xarray.Dataset or xarray.DataArray
        Of :func:`geocd.detect`.
    ax : matplotlib.axes.Axes, optional
        Default: new ones.
    polygons : bool
        Whether the outlines are drawn.

    Returns
    -------
    matplotlib.axes.Axes
        In the coordinates of the raster.

    Raises
    ------
    ConfigError
        matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
        from matplotlib.transforms import Affine2D
    except ModuleNotFoundError as error:
        raise _missing("plot", "matplotlib") from error
    layer = probability(result)
    with ExitStack() as stack:
        source = _Source.of(result)
        if ax is None:
            height, width = source.grid.shape
            ax = pyplot.figure(figsize=(8, min(10, max(3, 8 * height / width)))).add_subplot()
        (height, width), t = source.grid.shape, source.grid.transform
        onto_map = Affine2D.from_values(t.a, t.d, t.b, t.e, t.c, t.f) + ax.transData
        draw = partial(ax.imshow, extent=(0, width, height, 0), interpolation="nearest", transform=onto_map)
        background = _background(source, stack)
        if background is not None:
            draw(background)
        step = max(1, max(source.grid.shape) // PICTURE)
        values = np.asarray(layer[::step, ::step], np.float32)
        alpha = np.clip((np.nan_to_num(values) - CLEAR) / (1 - CLEAR), 0, 1) ** 0.5
        rgba = np.dstack([colours(values), np.round(255 * 0.85 * alpha).astype(np.uint8)])
        draw(rgba)
    if polygons and len(frame := polygonize(result, bands=False)):
        frame.boundary.plot(ax=ax, color="#aa008c", linewidth=1)
    west, south, east, north = array_bounds(height, width, t)
    ax.set_xlim(west, east)
    ax.set_ylim(south, north)
    ax.set_aspect("equal")
    ax.set_title("change probability" + (" and polygons" if polygons else ""))
    return ax


def _background(source: _Source, stack: ExitStack) -> Any:
    """Return the later image as a picture, (height, width, 3) uint8; None where it cannot be read."""
    pair = _images(stack, source, None)
    if pair is None:
        return None
    try:
        return read_pair(pair, PICTURE).after  # in colours that both dates decide
    except GeocdError:
        return None


def explore(result: xr.DataArray | xr.Dataset, column: str | None = None, **options: object) -> object:
    """Return the polygons of a result on a map that can be moved and zoomed.

    Parameters
    ----------
    result : xarray.Dataset or xarray.DataArray
        Of :func:`geocd.detect`.
    column : str, optional
        What is shown in colours; default: ``kind`` where there is one, else ``p_mean``.
    **options
        As for :meth:`geopandas.GeoDataFrame.explore`: ``tiles=None`` asks no server for a background.

    Returns
    -------
    folium.Map
        ``.save("map.html")`` writes it.

    Raises
    ------
    ConfigError
        folium is not installed, or nothing changed.
    """
    frame = polygonize(result)
    if not len(frame):
        raise ConfigError("nothing changed: there is no polygon to show. Lower the threshold.")
    column = column or ("kind" if "kind" in frame else "p_mean")
    if column not in frame:
        raise ConfigError(
            f"column={column!r}: the polygons have no such column. They have "
            f"{', '.join(name for name in frame if name != 'geometry')}.",
            name="column",
        )
    shown: dict[str, object] = {"tooltip": [name for name in TIPS if name in frame]}
    if column.startswith("p_"):
        shown |= {"cmap": "plasma_r", "vmin": 0, "vmax": 1}
    try:
        return frame.explore(column, **{**shown, **options})
    except ImportError as error:
        raise _missing("explore", "folium, matplotlib and mapclassify") from error


def _missing(name: str, packages: str) -> ConfigError:
    return ConfigError(
        f"{name}: {packages} must be installed. Install them with: pip install 'geocd[notebook]'.", name=name
    )


__all__ = ["explore", "plot", "polygonize", "probability", "record_of", "refine"]
