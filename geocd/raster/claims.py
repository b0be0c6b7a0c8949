"""What the header of a raster claims, checked before memory is taken for it."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
from rasterio.enums import Interleaving
from rasterio.io import DatasetReader

from geocd.errors import RasterOpenError
from geocd.raster import sources

#: More than this in one raster is a damaged header, or more than a run can get through.
MOST_PIXELS, MOST_BANDS = 10**12, 10_000
#: Bytes of a block, the smallest part that can be decoded.
MOST_BLOCK = 2**28
#: Bytes of pixels per byte of the file. The best codecs reach some thousands, a file of empty tiles 65536.
MOST_PACKED = 10**5
#: Rasters of a container that a message names.
_LISTED = 12


def check_is_one(dataset: DatasetReader, path: str) -> None:
    """Raise :class:`RasterOpenError` for a container of several rasters, which has no bands of its own."""
    if dataset.count:
        return
    names = [shlex.quote(name) for name in dataset.subdatasets]
    if not names:
        raise RasterOpenError(f"{path}: has no bands. Name a raster with at least one.", path=path)
    listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    raise RasterOpenError(
        f"{path}: holds {len(names)} rasters, of which one is needed. Name it, for instance {names[0]} (all: "
        f"{listed}). Several on one grid can be stacked: gdalbuildvrt -separate stack.vrt "
        f"{' '.join(names[:2])}",
        path=path,
        subdatasets=list(dataset.subdatasets),
    )


def check_claims(dataset: DatasetReader, path: str) -> None:
    """Raise :class:`RasterOpenError` where a header claims more than can be read, before memory is taken."""
    height, width, count = dataset.height, dataset.width, dataset.count
    size = f"{width} x {height} px in {count} bands"
    pixels = height * width
    if count > MOST_BANDS or pixels >= MOST_PIXELS:
        raise RasterOpenError(
            f"{path}: claims {size}; at most {MOST_BANDS} bands and {MOST_PIXELS:.0e} pixels can be read. If "
            "the file is not damaged, split it.",
            path=path,
            shape=(count, height, width),
        )
    if count == 0:
        return
    item = np.dtype(dataset.dtypes[0]).itemsize if dataset.dtypes[0] != "complex_int16" else 4
    rows, cols = dataset.block_shapes[0]
    bands = count if dataset.interleaving == Interleaving.pixel else 1
    if (block := rows * cols * item * bands) > MOST_BLOCK:
        raise RasterOpenError(
            f"{path}: is stored in blocks of {cols} x {rows} px, each of {block / 2**20:.0f} MB; at most "
            f"{MOST_BLOCK >> 20} MB can be read at once. Rewrite it in tiles first: "
            f"gdal_translate -co TILED=YES {path} tiled.tif",
            path=path,
            block=(rows, cols),
        )
    claimed = pixels * count * item
    if dataset.driver in ("GTiff", "JP2OpenJPEG") and claimed > MOST_BLOCK and sources.is_file(path):
        stored = Path(path).stat().st_size
        if claimed > stored * MOST_PACKED:
            raise RasterOpenError(
                f"{path}: claims {size}, but the file has only {stored} bytes. It is damaged or incomplete: "
                "copy or download it again.",
                path=path,
                shape=(count, height, width),
                size=stored,
            )


__all__ = ["MOST_BANDS", "MOST_BLOCK", "MOST_PACKED", "MOST_PIXELS", "check_claims", "check_is_one"]
