"""The result of :func:`geocd.detect` as a Dataset of xarray."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

import geocd
from geocd.config import OTHER_DATES, RASTERS
from geocd.method.detector import BANDS
from geocd.raster.arrays import ArrayRaster
from geocd.raster.files import grid_of, open_raster, provenance
from geocd.raster.grid import Grid
from geocd.report.links import source_href, source_hrefs, source_path, source_paths
from geocd.types import Float32Array

if TYPE_CHECKING:
    import dask.array as da

#: Value of ``changed`` where the pair is not valid.
NOT_VALID = 255


def as_dataset(
    values: Float32Array | da.Array,
    grid: Grid,
    axes: tuple[tuple[Hashable, Hashable], Mapping[Hashable, Any]],
    attrs: Mapping[str, str | float],
    names: Sequence[str] = BANDS,
) -> xr.Dataset:
    """Return a result as a Dataset.

    Parameters
    ----------
    values : ndarray or dask array, (bands, height, width), float32
    grid : Grid
    axes : tuple
        Names of the dimensions y and x, and the coordinates.
    attrs : mapping
        Among them ``threshold``.
    names : sequence of str
        Of the bands; the first is ``change_probability``.
    """
    dims, coords = axes
    layers = dict(zip(names, values, strict=False))
    prob = layers["change_probability"]
    changed = (prob >= np.float32(attrs["threshold"])).astype(np.uint8)
    changed[np.isnan(prob)] = NOT_VALID
    dataset: xr.Dataset = xr.Dataset(
        {
            "change_probability": (dims, prob, {"long_name": "change probability", "units": "1"}),
            "changed": (dims, changed, {"long_name": "changed"}),
        },
        coords=coords,
    )
    for name in list(layers)[1:]:
        dataset[name] = (dims, layers[name], {"long_name": name, "units": "1"})
    dataset = dataset.rio.set_spatial_dims(x_dim=dims[1], y_dim=dims[0])
    dataset = dataset.rio.write_crs(grid.crs).rio.write_transform(grid.transform)
    for name in layers:
        dataset[name] = dataset[name].rio.write_nodata(np.nan)
    dataset["changed"] = dataset["changed"].rio.write_nodata(NOT_VALID)
    dataset.attrs = dict(attrs)
    return dataset


def read_dataset(files: Mapping[str, Path]) -> xr.Dataset:
    """Return the result of a run as a Dataset, from its files by name."""
    path = os.fspath(files["prob"])
    record = provenance(path)

    def from_here(href: str) -> str:  # in the file, paths start from its folder
        return source_href(source_path(href, files["prob"].parent), Path())

    for name, value in record.items():
        if name in ("before", "after", *RASTERS) and isinstance(value, str):
            record[name] = from_here(value)
        elif name in OTHER_DATES and isinstance(value, list):
            record[name] = source_hrefs(source_paths(value, files["prob"].parent), Path())
    with open_raster(path) as dataset:
        values, grid = dataset.read(out_dtype=np.float32), grid_of(dataset, path)
        names = [name or f"band_{number}" for number, name in enumerate(dataset.descriptions, 1)]
    text = json.dumps(record)
    attrs: dict[str, str | float] = {
        "threshold": float(str(record["threshold"])),
        "settings": text,
        "provenance": text,
        "geocd_version": geocd.__version__,
        "files": json.dumps({name: os.fspath(file) for name, file in files.items()}),
    }
    return as_dataset(values, grid, axes_of(path, grid), attrs, names)


def axes_of(
    before: str | ArrayRaster, grid: Grid
) -> tuple[tuple[Hashable, Hashable], Mapping[Hashable, Any]]:
    """Return the names of the dimensions y and x, and the coordinates."""
    if isinstance(before, ArrayRaster):
        return before.dims, before.coords
    t = grid.transform
    if t.b or t.d:
        return ("y", "x"), {}
    y = t.e * np.arange(grid.height) + (0.5 * t.e + t.f)
    x = t.a * np.arange(grid.width) + (0.5 * t.a + t.c)
    return ("y", "x"), {"y": y, "x": x}


__all__ = ["NOT_VALID", "as_dataset", "axes_of", "read_dataset"]
