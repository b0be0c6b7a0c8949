"""From Python: two rasters in, paths or DataArrays, and an xarray Dataset out.

``geocd.detect`` is :func:`detect`; importing this module also gives every DataArray ``.geocd``. Pixels go the
way they go for the command line, so the probability is the same; nothing is written.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Hashable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from rasterio.windows import Window

import geocd
from geocd.config import STAGES, Settings
from geocd.errors import ConfigError
from geocd.method.detector import BANDS, DECISION, Detector
from geocd.pipeline.plan import DEFAULT_LIMIT, cache_size
from geocd.pipeline.prepared import Fitted, computing, fit_scene, open_pair
from geocd.pipeline.tiles import probabilities
from geocd.raster.arrays import ArrayRaster
from geocd.raster.files import bounded_cache, open_raster
from geocd.raster.pair import Pair
from geocd.report.acquired import acquisition_date
from geocd.report.links import source_href
from geocd.scene.ignore import KeptPair
from geocd.tiles.mosaic import Mosaic, blend
from geocd.tiles.tiling import Tile, Tiling
from geocd.types import Float32Array, PixelArray, Progress

if TYPE_CHECKING:
    from rasterio.transform import Affine

#: What can be compared.
Raster = str | os.PathLike[str] | xr.DataArray


def detect(
    before: Raster,
    after: Raster,
    *,
    valid: Raster | None = None,
    lazy: bool | None = None,
    jobs: int | None = None,
    mem_limit: int | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> xr.Dataset:
    """Find what changed between two rasters.

    Parameters
    ----------
    before, after : path or xarray.DataArray
        One place, on one grid unless ``align`` says otherwise. Paths and URLs: anything GDAL opens.
        DataArrays: dimensions ``(band, y, x)`` or ``(y, x)`` in any order, with CRS and nodata as rioxarray
        keeps them; a file is opened with ``rioxarray.open_rasterio(path, masked=True)``, for masks and alpha
        are lost otherwise. Names of bands are read from the coordinate of the bands or from ``long_name``.
        Where the rows or columns of ``after`` run the other way, it is turned.
    valid : path or xarray.DataArray, optional
        Non-zero where the pair may be used.
    lazy : bool, optional
        Whether the result is computed by dask when it is asked for, chunk by chunk; default: where an input
        has dask behind it. The method is fitted at once in any case, to a bounded sample.
    jobs, mem_limit : int, optional
        Tiles computed at a time, and megabytes the process may take, as for
        :func:`geocd.pipeline.run.detect`. Not with ``lazy``: dask decides.
    progress : callable, optional
        Told how far the run is: ``progress(stage, done, total)``. Not with ``lazy``.
    **settings
        Settings by name, as ``geocd detect --help`` lists them: ``method="irmad"``, ``bidx=(1, 2, 3)``.

    Returns
    -------
    xarray.Dataset
        On the grid of ``before``, with its coordinates and CRS. ``change_probability``: ``(y, x)``, float32
        in [0, 1], NaN where not valid; ``changed``: ``(y, x)``, bool, probability of the threshold or more;
        with ``uncertainty=True``, ``uncertainty``: ``(y, x)``, float32 in [0, 1]. The attributes
        ``threshold``, ``settings`` (JSON), ``provenance`` (JSON: inputs, bands, dates) and
        ``geocd_version`` say how it was made, in types that netCDF can hold.

    Raises
    ------
    GeocdError
        See :mod:`geocd.errors`.

    Examples
    --------
    >>> import geocd
    >>> changes = geocd.detect("before.tif", "after.tif")  # doctest: +SKIP
    >>> changes.changed.mean().item()  # doctest: +SKIP
    """
    polygons = [field.name for field in dataclasses.fields(STAGES["polygons"]) if field.name in settings]
    if polygons:
        raise ConfigError(
            f"{polygons[0]}: no polygons are made here. geocd.pipeline.run.detect writes them, and "
            "geocd.vectorize.polygons.polygonize makes them of a probability raster.",
            name=polygons[0],
        )
    given = Settings.from_flat(settings)
    rasters = _rasters(before, after, valid)
    if lazy is None:
        lazy = any(isinstance(raster, ArrayRaster) and raster.is_lazy for raster in rasters)
    if lazy and (jobs is not None or mem_limit is not None or progress is not None):
        raise ConfigError(
            "jobs, mem_limit and progress: not with a result that dask computes later. Set the number of its "
            "workers instead (dask.config, or a Client), or pass lazy=False."
        )
    resolved = given.resolved()
    with (
        bounded_cache(cache_size(mem_limit or DEFAULT_LIMIT)),
        open_pair(rasters[0], rasters[1], resolved, rasters[2]) as pair,
        computing(resolved),
    ):
        tell: Progress = progress or (lambda stage, done, total: None)
        tell("fit", 0, 1)
        scene = fit_scene(pair, given, jobs, mem_limit)
        tell("fit", 1, 1)
        values = _later(pair, scene, rasters) if lazy else _now(pair, scene, tell)
    return _dataset(values, pair, scene, rasters)


@xr.register_dataarray_accessor("geocd")
class GeocdAccessor:
    """``before.geocd.detect(after)``."""

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    def detect(self, after: Raster, **options: Any) -> xr.Dataset:
        """Find what changed from this array to ``after``; see :func:`geocd.detect`."""
        return detect(self._array, after, **options)


Rasters = tuple[str | ArrayRaster, str | ArrayRaster, str | ArrayRaster | None]


def _rasters(before: Raster, after: Raster, valid: Raster | None) -> Rasters:
    one = _raster(before, "the array before")
    transform = one.transform if isinstance(one, ArrayRaster) else _transform(one)
    two = _raster(after, "the array after")
    extra = None if valid is None else _raster(valid, "the array valid")
    return (
        one,
        two.turned_like(transform) if isinstance(two, ArrayRaster) else two,
        extra.turned_like(transform) if isinstance(extra, ArrayRaster) else extra,
    )


def _raster(given: Raster, name: str) -> str | ArrayRaster:
    return os.fspath(given) if isinstance(given, str | os.PathLike) else ArrayRaster(given, name)


def _transform(path: str) -> Affine:
    with open_raster(path) as dataset:
        return dataset.transform


def _now(pair: Pair, scene: Fitted, tell: Progress) -> Float32Array:
    """Compute the bands of the whole scene, ``(1 or 2, height, width)``."""
    count = 1 + scene.settings.method.uncertainty
    values = np.empty((count, *pair.grid.shape), np.float32)

    def flush(row: int, rows: Float32Array) -> None:
        values[:, row : row + rows.shape[1]] = rows

    mosaic = Mosaic(scene.tiling, flush, bands=count)
    total = len(scene.tiling)
    tell("tiles", 0, total)
    with closing(probabilities(scene.detector, pair, scene.tiling, scene.plan.jobs)) as tiles:
        for done, (tile, prob) in enumerate(tiles, 1):
            mosaic.add(tile, prob)
            tell("tiles", done, total)
    mosaic.finish()
    return values


def _later(pair: Pair, scene: Fitted, rasters: Rasters) -> Any:
    """Return a dask array of the same, one chunk for each tile.

    A chunk is blended from all tiles that touch it, and a tile is computed from its own part of the inputs:
    neither depends on anything that grows with the scene.
    """
    try:
        import dask.array as da
        from dask.delayed import delayed
    except ModuleNotFoundError as error:
        raise ConfigError("lazy: dask is not installed here: pip install 'geocd[batch]'.") from error

    for raster, warp in zip(rasters, (None, pair.warp, pair.valid_warp), strict=True):
        if isinstance(raster, ArrayRaster) and warp is not None:
            raise ConfigError(
                f"align: {raster.name} is an array that dask would have to warp tile by tile. Warp it first, "
                "with after.rio.reproject_match(before); or give its path; or pass lazy=False.",
                name="align",
            )
    tiling, count = scene.tiling, 1 + scene.settings.method.uncertainty
    reach = pair.rules.reach if isinstance(pair, KeptPair) else 0
    empty = [raster.empty() if isinstance(raster, ArrayRaster) else raster for raster in rasters]
    assert empty[0] is not None
    assert empty[1] is not None
    reader = delayed(pair.reading(empty[0], empty[1], empty[2]), traverse=False)
    detector = delayed(scene.detector, traverse=False)
    chunked = [raster.chunked() if isinstance(raster, ArrayRaster) else None for raster in rasters]

    probs = {}
    compute = delayed(_prob, pure=False)
    for tile in tiling:
        around = _around(tile.window, reach, tiling)
        blocks = [None if raster is None else raster.blocks(around) for raster in chunked]
        probs[tile.row, tile.col] = compute(detector, reader, scene.settings, tile, around, blocks)

    merge = delayed(blend, pure=False)
    height, width = tiling.tile_shape
    rows, cols = _cuts(tiling.row_starts, height), _cuts(tiling.col_starts, width)
    table = []
    for top, bottom in itertools.pairwise(rows):
        line = []
        for left, right in itertools.pairwise(cols):
            window = Window(left, top, right - left, bottom - top)
            touching = [(tile, probs[tile.row, tile.col]) for tile in _touching(tiling, window)]
            block = merge(tiling, window, touching)
            line.append(da.from_delayed(block, (count, bottom - top, right - left), dtype=np.float32))
        table.append(line)
    return da.block(table)


def _prob(
    detector: Detector,
    pair: Pair,
    settings: Settings,
    tile: Tile,
    around: Window,
    blocks: Sequence[PixelArray | None],
) -> Float32Array:
    """Compute one tile of a pair whose arrays have only the blocks that are given."""
    before, after, valid = (
        source.part(block, around) if block is not None and isinstance(source, ArrayRaster) else source
        for source, block in zip(pair.sources, blocks, strict=True)
    )
    assert before is not None
    assert after is not None
    with pair.reading(before, after, valid) as part, computing(settings):
        return detector.prob(part.read(tile.window))


def _around(window: Window, reach: int, tiling: Tiling) -> Window:
    top, left = max(0, int(window.row_off) - reach), max(0, int(window.col_off) - reach)
    bottom = min(tiling.height, int(window.row_off + window.height) + reach)
    right = min(tiling.width, int(window.col_off + window.width) + reach)
    return Window(left, top, right - left, bottom - top)


def _cuts(begin: list[int], size: int) -> list[int]:
    """Return where the chunks begin and the last one ends: in the middle of what two tiles share."""
    return [
        0,
        *((start + before + size) // 2 for before, start in itertools.pairwise(begin)),
        begin[-1] + size,
    ]


def _touching(tiling: Tiling, window: Window) -> list[Tile]:
    """Return the tiles that share a pixel with a window, in their order."""
    height, width = tiling.tile_shape

    def places(begin: list[int], size: int, first: int, last: int) -> list[int]:
        return [place for place, start in enumerate(begin) if start < last and start + size > first]

    rows = places(tiling.row_starts, height, window.row_off, window.row_off + window.height)
    cols = places(tiling.col_starts, width, window.col_off, window.col_off + window.width)
    return [tiling[row * len(tiling.col_starts) + col] for row in rows for col in cols]


def _dataset(values: Any, pair: Pair, scene: Fitted, rasters: Rasters) -> xr.Dataset:
    """Return the result with its place and how it was made."""
    settings = scene.settings
    threshold = settings.method.threshold
    threshold = DECISION if threshold is None else threshold
    first = rasters[0]
    dims: tuple[Hashable, Hashable]
    coords: Mapping[Any, Any]
    if isinstance(first, ArrayRaster):
        dims, coords = first.dims, first.coords
    else:
        t = pair.grid.transform
        dims, coords = ("y", "x"), {}
        if not (t.b or t.d):
            height, width = pair.grid.shape
            coords = {
                "y": t.e * np.arange(height) + (0.5 * t.e + t.f),
                "x": t.a * np.arange(width) + (0.5 * t.a + t.c),
            }
    layers = dict(zip(BANDS, values, strict=False))
    prob = layers["change_probability"]
    found: xr.Dataset = xr.Dataset(
        {
            "change_probability": (dims, prob, {"long_name": "change probability", "units": "1"}),
            "changed": (dims, prob >= np.float32(threshold), {"long_name": "changed"}),
        },
        coords=coords,
    )
    if "uncertainty" in layers:
        found["uncertainty"] = (dims, layers["uncertainty"], {"long_name": "uncertainty", "units": "1"})
    found = found.rio.set_spatial_dims(x_dim=dims[1], y_dim=dims[0])
    found = found.rio.write_crs(pair.grid.crs).rio.write_transform(pair.grid.transform)
    for name in layers:
        found[name] = found[name].rio.write_nodata(np.nan)
    here = Path()
    record: dict[str, Any] = {
        "before": source_href(pair.before_path, here),
        "after": source_href(pair.after_path, here),
        "valid": None if pair.valid_path is None else source_href(pair.valid_path, here),
        "indexes": pair.indexes,
        "band_names": pair.band_names,
        "dates": (
            acquisition_date(pair.tags[0], pair.before_path),
            acquisition_date(pair.tags[1], pair.after_path),
        ),
    }
    if scene.alignment is not None:
        record["alignment"] = scene.alignment.as_dict()
    found.attrs = {
        "threshold": float(threshold),
        "settings": json.dumps({**settings.as_dict(), "threshold": float(threshold)}, allow_nan=False),
        "provenance": json.dumps(record, allow_nan=False),
        "geocd_version": geocd.__version__,
    }
    return found


__all__ = ["GeocdAccessor", "detect"]
