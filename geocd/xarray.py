"""Change detection in Python: two rasters, as paths, DataArrays or Datasets, to an xarray Dataset.

``geocd.detect`` is :func:`detect`; importing this module also adds the accessor ``.geocd`` to DataArrays and
Datasets. The pixels are processed as by the command line, so the probability is the same; files are written
only where an output is named.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from rasterio.windows import Window

import geocd
from geocd import result
from geocd.bars import bar
from geocd.config import RunSettings, Settings
from geocd.dataset import as_dataset, axes_of, read_dataset
from geocd.errors import ConfigError
from geocd.findings import Finding, warn
from geocd.method.detector import Detector
from geocd.pipeline.prepared import PreparedRun, computing, open_run
from geocd.pipeline.run import detect as run_files
from geocd.pipeline.tiles import probabilities, read_tile
from geocd.raster.arrays import ArrayRaster
from geocd.raster.files import open_raster
from geocd.raster.pair import Pair
from geocd.report.acquired import acquisition_dates
from geocd.report.links import source_href
from geocd.report.products import named_stem
from geocd.scene.ignore import cloud_detector
from geocd.signatures import keyword, spelled
from geocd.spelling import python_errors, python_findings
from geocd.tiles.mosaic import Mosaic, blend
from geocd.tiles.tiling import Tile, Tiling
from geocd.types import Float32Array, PixelArray, Progress

if TYPE_CHECKING:
    import dask.array as da
    from geopandas import GeoDataFrame
    from matplotlib.axes import Axes
    from rasterio.transform import Affine

#: A raster to compare: a path, a URL or an array.
Raster = str | os.PathLike[str] | xr.DataArray | xr.Dataset
#: Before, after and valid, as the pipeline reads them.
Rasters = tuple[str | ArrayRaster, str | ArrayRaster, str | ArrayRaster | None]
#: Arguments of a run that are no settings.
LIMITS = {
    name: keyword(name, default, annotation)
    for name, default, annotation in (
        ("jobs", None, "int | None"),
        ("mem_limit", None, "int | None"),
        ("overwrite", False, "bool"),
        ("resume", False, "bool"),
    )
}


@spelled("read", "tiling", "method", "polygons", more=tuple(LIMITS.values()))
def detect(
    before: Raster,
    after: Raster,
    output: str | os.PathLike[str] | None = None,
    *,
    valid: Raster | None = None,
    lazy: bool | None = None,
    progress: Progress | bool | None = None,
    **settings: object,
) -> xr.Dataset:
    """Detect changes between two rasters.

    Parameters
    ----------
    before, after : path, xarray.DataArray or xarray.Dataset
        The same area, on the same grid unless ``align`` is set. Paths and URLs: anything GDAL opens.
        DataArrays: dimensions ``(band, y, x)`` or ``(y, x)`` in any order, with CRS and nodata as rioxarray
        stores them; open files with ``rioxarray.open_rasterio(path, masked=True)``, since masks and alpha
        are lost otherwise. Band names are read from the band coordinate or from ``long_name``. Datasets, as
        odc-stac loads them: variables are bands of their names, each with its own nodata value. An ``after``
        whose rows or columns run in the opposite direction is flipped.
    output : path, optional
        Where to write all files of the command line, polygons and report with them: a folder, or the
        beginning of their names. For paths only.
    valid : path, xarray.DataArray or xarray.Dataset, optional
        0 where the pair may not be used, one other value where it may.
    lazy : bool, optional
        Whether dask computes the result later, chunk by chunk; default: where an input is a dask array. The
        method is fitted immediately in any case, to a sample of bounded size.
    progress : bool or callable
        True: a bar, in notebooks and terminals (needs tqdm). A function is called as ``progress(stage, done,
        total)``. Not with ``lazy``.
    jobs, mem_limit : int, optional
        Number of tiles computed at a time, and memory limit of the process in megabytes, as for
        :func:`geocd.pipeline.run.detect`. Not with ``lazy``, where dask decides.
    overwrite, resume : bool
        With ``output``: whether existing files may be replaced, and an interrupted run continues.
    {settings}

    Returns
    -------
    xarray.Dataset
        On the grid of ``before``, with its coordinates and CRS. ``change_probability``: ``(y, x)``, float32
        in [0, 1], NaN where not valid; ``changed``: ``(y, x)``, uint8, 1 where the probability is at least
        the threshold, 0 elsewhere, 255 (nodata) where not valid; with ``uncertainty=True``, ``uncertainty``:
        ``(y, x)``, float32 in [0, 1], and with ``lasting_band=True`` ``lasting``, likewise, NaN where nothing
        changed. The attributes ``threshold``, ``settings`` (JSON), ``provenance``
        (JSON: inputs, bands, dates) and ``geocd_version`` record how it was made, in types that netCDF
        supports; with ``output`` also ``files`` (JSON: paths by name). The accessor ``.geocd`` has
        ``polygons()``, ``plot()`` and ``explore()``.

    Warns
    -----
    GeocdWarning
        For each finding about the pair: no common structure, shift, dates in reverse order, another light.

    Raises
    ------
    GeocdError
        See :mod:`geocd.errors`.

    Examples
    --------
    >>> import geocd
    >>> changes = geocd.detect("before.tif", "after.tif")  # doctest: +SKIP
    >>> (changes.changed == 1).mean().item()  # doctest: +SKIP
    >>> changes.geocd.polygons(min_area=400).to_file("changes.gpkg")  # doctest: +SKIP
    """
    resources: dict[str, Any] = {name: settings.pop(name) for name in LIMITS if name in settings}
    with python_errors(), bar(progress) as steps:
        if output is not None:
            return _written((before, after, valid), output, lazy, steps, settings, resources)
        for name in ("overwrite", "resume"):
            if resources.pop(name, False):
                raise ConfigError(f"{name}: is for files. Pass output as well.", name=name)
        if settings.get("refine") is not None:
            raise ConfigError("refine: ranks polygons of files. Pass output as well.", name="refine")
        if settings.get("lasting_band"):
            raise ConfigError("lasting_band: is a band of a file. Pass output as well.", name="lasting_band")
        rasters = _rasters(before, after, valid)
        lazy = _is_lazy(rasters, lazy, settings.get("aoi"))
        if lazy and (progress or any(value is not None for value in resources.values())):
            raise ConfigError(
                "jobs, mem_limit and progress: not supported for a lazy result. Set the number of dask "
                "workers instead (dask.config, or a Client), or pass lazy=False."
            )
        with (
            open_run(
                rasters[0], rasters[1], Settings.from_flat(settings), valid=rasters[2], **resources
            ) as run,
            computing(run.settings),
        ):
            sampled = run.sample()
            prepared = run.fit(sampled, partial(run.measure, sampled), progress=steps)
            values = _lazy(prepared, rasters) if lazy else _eager(prepared, steps)
    warn(python_findings(_findings(prepared)))
    return _dataset(values, prepared, rasters)


def _is_lazy(rasters: Rasters, lazy: bool | None, aoi: object) -> bool:
    """Return whether the result is computed later: as was asked, else where an input is a dask array."""
    arrays = [raster for raster in rasters if isinstance(raster, ArrayRaster)]
    if aoi is not None and (lazy or arrays):
        raise ConfigError(
            "aoi: is for paths that are read at once. Select the part of the arrays first, for instance with "
            "before.rio.clip_box(left, bottom, right, top).",
            name="aoi",
        )
    return any(raster.is_lazy for raster in arrays) if lazy is None else lazy


def _written(
    rasters: tuple[Raster, Raster, Raster | None],
    output: str | os.PathLike[str],
    lazy: bool | None,
    progress: Progress,
    settings: dict[str, object],
    resources: dict[str, Any],
) -> xr.Dataset:
    """Run a pair of paths, write all files of the command line, and return the result as they have it."""
    paths: list[str] = []
    for name, raster in zip(("before", "after", "valid"), rasters, strict=True):
        if raster is not None and not isinstance(raster, str | os.PathLike):
            raise ConfigError(
                f"output: is for paths, and {name} is an array. Leave output out, and write what you need of "
                "the result: changes.change_probability.rio.to_raster(), geocd.polygonize(changes, output).",
                name="output",
            )
        paths += [] if raster is None else [os.fspath(raster)]
    if lazy:
        raise ConfigError("lazy: not supported with output, which is written at once. Leave one out.")
    flat = settings | ({"valid": paths[2]} if paths[2:] else {})
    stem = named_stem(os.fspath(output), paths[0], paths[1])
    files, _ = run_files(
        paths[0], paths[1], stem, settings=Settings.from_flat(flat), progress=progress, **resources
    )
    return read_dataset(files)


@xr.register_dataset_accessor("geocd")
@xr.register_dataarray_accessor("geocd")
class GeocdAccessor:
    """The accessor ``.geocd`` of images and of results of :func:`geocd.detect`, as arrays of xarray."""

    def __init__(self, array: xr.DataArray | xr.Dataset) -> None:
        self._array = array

    def detect(self, after: Raster, **options: object) -> xr.Dataset:
        """Detect changes from this image to ``after``; see :func:`geocd.detect`."""
        return detect(self._array, after, **options)  # type: ignore[arg-type]

    def polygons(self, output: str | os.PathLike[str] | None = None, **options: object) -> GeoDataFrame:
        """Return the polygons of this result as a GeoDataFrame; see :func:`geocd.polygonize`."""
        return result.polygonize(self._array, output, **options)  # type: ignore[arg-type]

    def plot(self, ax: Axes | None = None, *, polygons: bool = True) -> Axes:
        """Draw this result: probability and polygons over the later image.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Default: new ones.
        polygons : bool
            Whether the outlines are drawn.
        """
        return result.plot(self._array, ax, polygons=polygons)

    def explore(self, column: str | None = None, **options: object) -> object:
        """Return a map of the polygons of this result; see :func:`geocd.result.explore`."""
        return result.explore(self._array, column, **options)


def _rasters(before: Raster, after: Raster, valid: Raster | None) -> Rasters:
    """Return before, after and valid, with rows and columns in the directions of ``before``."""
    first = _raster(before, "the array before")
    transform = first.transform if isinstance(first, ArrayRaster) else _transform(first)

    def turned(raster: Raster, name: str) -> str | ArrayRaster:
        source = _raster(raster, name)
        return source.turned_like(transform) if isinstance(source, ArrayRaster) else source

    return (
        first,
        turned(after, "the array after"),
        None if valid is None else turned(valid, "the array valid"),
    )


def _raster(raster: Raster, name: str) -> str | ArrayRaster:
    if isinstance(raster, str | os.PathLike):
        return os.fspath(raster)
    if isinstance(raster, xr.Dataset):
        return ArrayRaster.of_variables(raster, name)
    return ArrayRaster(raster, name)


def _transform(path: str) -> Affine:
    with open_raster(path) as dataset:
        return dataset.transform


def _eager(run: PreparedRun, progress: Progress) -> Float32Array:
    """Compute probability and uncertainty of the whole scene, ``(1 or 2, height, width)`` float32."""
    tiling, count = run.tiling, 1 + run.settings.method.uncertainty
    values = np.empty((count, *run.pair.grid.shape), np.float32)

    def flush(row: int, rows: Float32Array) -> None:
        values[:, row : row + rows.shape[1]] = rows

    mosaic = Mosaic(tiling, flush, bands=count)
    progress("tiles", 0, len(tiling))
    with closing(probabilities(run.detector, run.pair, tiling, run.plan.jobs)) as tiles:
        for done, (tile, prob) in enumerate(tiles, 1):
            mosaic.add(tile, prob)
            progress("tiles", done, len(tiling))
    mosaic.finish()
    return values


def _lazy(run: PreparedRun, rasters: Rasters) -> da.Array:
    """Return the same as a dask array, with one chunk per tile.

    A chunk is blended from all tiles that touch it, and a tile is computed from its own part of the inputs:
    the memory of neither grows with the scene.
    """
    try:
        import dask.array as da
        from dask.delayed import delayed
    except ModuleNotFoundError as error:
        raise ConfigError(
            "lazy: dask is not installed. Install it with: pip install 'geocd[batch]'."
        ) from error

    tiling, count = run.tiling, 1 + run.settings.method.uncertainty
    probs = _lazy_tiles(run, rasters)
    merge = delayed(blend, pure=False)
    height, width = tiling.tile_shape
    chunks = []
    for top, bottom in itertools.pairwise(_cuts(tiling.row_starts, height)):
        line = []
        for left, right in itertools.pairwise(_cuts(tiling.col_starts, width)):
            window = Window(left, top, right - left, bottom - top)
            touching = [(tile, probs[tile.row, tile.col]) for tile in _touching(tiling, window)]
            block = merge(tiling, window, touching)
            line.append(da.from_delayed(block, (count, bottom - top, right - left), dtype=np.float32))
        chunks.append(line)
    result: da.Array = da.block(chunks)
    return result


def _lazy_tiles(run: PreparedRun, rasters: Rasters) -> dict[tuple[int, int], Any]:
    """Return the bands of every tile as a dask ``Delayed``, by row and column in the tiling."""
    from dask.delayed import delayed

    pair, tiling = run.pair, run.tiling
    for raster, warp in zip(rasters, (None, pair.warp, pair.valid_warp), strict=True):
        if isinstance(raster, ArrayRaster) and warp is not None:
            raise ConfigError(
                f"align: {raster.name} is an array, which cannot be warped lazily. Warp it first, with "
                "after.rio.reproject_match(before); or pass its path; or pass lazy=False.",
                name="align",
            )
    before, after, valid = (
        raster.empty() if isinstance(raster, ArrayRaster) else raster for raster in rasters
    )
    assert before is not None
    assert after is not None
    reader = delayed(pair.reading(before, after, valid), traverse=False)
    detector = delayed(run.detector, traverse=False)
    chunked = [raster.chunked() if isinstance(raster, ArrayRaster) else None for raster in rasters]
    compute = delayed(_prob, pure=False)
    probs = {}
    for tile in tiling:
        around = pair.grid.around(tile.window, 0 if pair.rule is None else pair.rule.reach)
        blocks = [None if raster is None else raster.blocks(around) for raster in chunked]
        probs[tile.row, tile.col] = compute(detector, reader, run.settings, tiling, tile, around, blocks)
    return probs


def _prob(
    detector: Detector,
    pair: Pair,
    settings: RunSettings,
    tiling: Tiling,
    tile: Tile,
    around: Window,
    blocks: Sequence[PixelArray | None],
) -> Float32Array:
    """Compute a tile of a pair, reading arrays from ``blocks``: their pixels in the window ``around``."""
    before, after, valid = (
        source.part(block, around) if block is not None and isinstance(source, ArrayRaster) else source
        for source, block in zip(pair.sources[:3], blocks, strict=True)
    )
    assert before is not None
    assert after is not None
    with pair.reading(before, after, valid) as part, computing(settings):
        return detector.prob(read_tile(part, tiling, tile))


def _cuts(starts: list[int], size: int) -> list[int]:
    """Return the borders of the chunks along an axis: in the middle of each overlap of two tiles."""
    middles = ((start + previous + size) // 2 for previous, start in itertools.pairwise(starts))
    return [0, *middles, starts[-1] + size]


def _touching(tiling: Tiling, window: Window) -> list[Tile]:
    """Return the tiles that share a pixel with a window, in the order of the tiling."""
    height, width = tiling.tile_shape

    def indexes(starts: list[int], size: int, first: int, last: int) -> list[int]:
        return [index for index, start in enumerate(starts) if start < last and start + size > first]

    rows = indexes(tiling.row_starts, height, window.row_off, window.row_off + window.height)
    cols = indexes(tiling.col_starts, width, window.col_off, window.col_off + window.width)
    return [tiling[row * len(tiling.col_starts) + col] for row in rows for col in cols]


def _dataset(values: Float32Array | da.Array, run: PreparedRun, rasters: Rasters) -> xr.Dataset:
    """Return the result as a Dataset with coordinates, CRS and attributes."""
    threshold = float(run.settings.method.decision)
    attrs: dict[str, str | float] = {
        "threshold": threshold,
        "settings": json.dumps({**run.settings.as_dict(), "threshold": threshold}, allow_nan=False),
        "provenance": json.dumps(_provenance(run), allow_nan=False),
        "geocd_version": geocd.__version__,
    }
    grid = run.pair.grid
    return as_dataset(values, grid, axes_of(rasters[0], grid), attrs)


def _findings(run: PreparedRun) -> list[Finding]:
    """Return what is odd about the pair; the result may not have been computed yet."""
    facts, pair = run.facts, run.pair
    assert facts is not None
    removed = run.alignment is not None and run.alignment.shift is not None
    sources = pair.before_path, pair.after_path
    return facts.findings(sources, acquisition_dates(pair), pair.bands, removed=removed)


def _provenance(run: PreparedRun) -> dict[str, object]:
    """Return inputs, bands, dates, alignment, and what masked clouds, as JSON values."""
    pair, here = run.pair, Path()
    provenance: dict[str, object] = {
        "before": source_href(pair.before_path, here),
        "after": source_href(pair.after_path, here),
        "valid": None,
        **{name: source_href(path, here) for name, path in pair.companions.items()},
        "indexes": pair.indexes,
        "band_names": pair.band_names,
        "dates": acquisition_dates(pair),
    }
    if pair.bands.after != pair.indexes:
        provenance["after_indexes"] = pair.bands.after
    if run.alignment is not None:
        provenance["alignment"] = run.alignment.as_dict()
    if (clouds := cloud_detector(pair)) is not None:
        provenance["clouds"] = clouds.as_dict()
    return provenance


__all__ = ["GeocdAccessor", "detect"]
