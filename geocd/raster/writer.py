"""The probability raster: written by rows of blocks, copied into a COG, and read back."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geocd.raster.files import output_errors
from geocd.raster.grid import Grid
from geocd.types import Float32Array, PixelArray

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

#: Side of a block of the COG, in pixels; FLAT where a raster is no wider, or no higher, than that and longer
#: than a block: blocks are squares, and those of a row of pixels would be nothing but padding.
BLOCK_SIZE, FLAT = 512, 128
#: Level of compression: with GDAL's own, 6, the file is 2 % smaller and takes twice as long.
LEVEL = 1
#: The reason in the error for a file that differs from what was written into it.
NOT_AS_WRITTEN = "what was read back is not what was written: is the disk full?"


def strips(grid: Grid, pixels: int) -> Iterator[Window]:
    """Yield windows that cut a grid into strips of whole rows of blocks, from the top.

    Parameters
    ----------
    grid : Grid
    pixels : int
        At most so many in a strip, unless one row of blocks has more.
    """
    rows = max(1, pixels // grid.width // BLOCK_SIZE) * BLOCK_SIZE
    for row in range(0, grid.height, rows):
        yield Window(0, row, grid.width, min(rows, grid.height - row))


def block_side(grid: Grid) -> int:
    """Return the side of the blocks of a COG on a grid, in pixels."""
    return FLAT if min(grid.shape) <= FLAT and max(grid.shape) > BLOCK_SIZE else BLOCK_SIZE


class ProbWriter:
    """Write the probability raster: block rows into a temporary tiled GeoTIFF, which becomes a COG.

    GDAL's COG driver needs the whole image at once (1.6 GB for 20000 x 20000 px); a tiled GeoTIFF takes one
    block row at a time.

    Parameters
    ----------
    path : path
        The COG that :meth:`finish` writes.
    grid : Grid
    tags : mapping of str
        Written into the default domain; a namespace would be lost in the COG copy.
    descriptions : sequence of str
        One per band; the first is ``change_probability``.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        *,
        tags: Mapping[str, str],
        descriptions: Sequence[str] = ("change_probability",),
    ) -> None:
        self.path = path
        self.grid = grid
        self._tags = dict(tags)
        self._written: list[tuple[Window, int]] = []
        self._temporary = path.with_name(path.stem + ".tiles.tif")
        with output_errors(path):
            self._dataset: DatasetWriter = rasterio.open(
                self._temporary,
                "w",
                driver="GTiff",
                height=grid.height,
                width=grid.width,
                count=len(descriptions),
                dtype="float32",
                crs=grid.crs,
                transform=grid.transform,
                nodata=math.nan,
                tiled=True,
                blockxsize=block_side(grid),
                blockysize=block_side(grid),
                interleave="band",
                bigtiff="IF_SAFER",  # not compressed: read once and deleted
                sparse_ok=True,
            )
            for index, description in enumerate(descriptions, 1):
                self._dataset.set_band_description(index, description)

    def write(self, row: int, values: Float32Array) -> None:
        """Write whole rows.

        Parameters
        ----------
        row : int
            The first one, a multiple of ``BLOCK_SIZE``.
        values : ndarray, (bands, rows, width), float32
            NaN where not valid.

        Raises
        ------
        OutputError
        """
        window = Window(0, row, values.shape[2], values.shape[1])
        with output_errors(self.path):
            self._dataset.write(values, window=window)
        self._written.append((window, _checksum(values)))

    def finish(self) -> None:
        """Write the tags, make the COG, read it back and delete the temporary file.

        Raises
        ------
        OutputError
            The disk is full, or what was read back is not what was written.
        """
        with output_errors(self.path):
            self._dataset.update_tags(**self._tags)
            self._dataset.close()
            rasterio.shutil.copy(
                self._temporary,
                self.path,
                driver="COG",
                BLOCKSIZE=block_side(self.grid),
                COMPRESS="DEFLATE",
                LEVEL=LEVEL,
                PREDICTOR="YES",
                OVERVIEW_RESAMPLING="AVERAGE",
                STATISTICS="YES",
                BIGTIFF="IF_SAFER",
                NUM_THREADS="ALL_CPUS",
                # GDAL would make overviews as wide as the image, which readers cannot tell apart
                **({"OVERVIEWS": "NONE"} if self.grid.width == 1 else {}),
            )
            self._temporary.unlink()
            # GDAL reports no error when the last bytes of a file do not fit on the disk, nor when blocks are
            # lost while a file is closed.
            with rasterio.open(self.path) as written:
                for window, checksum in self._written:
                    if _checksum(written.read(window=window)) != checksum:
                        raise OSError(NOT_AS_WRITTEN)
                _check_layout(written, self.path)

    def abort(self) -> None:
        """Close the temporary file, in whatever state; the caller deletes its folder."""
        with contextlib.suppress(RasterioError, CPLE_BaseError, OSError):
            self._dataset.close()


def _check_layout(written: DatasetReader, path: Path) -> None:
    """Raise unless the parts of a COG are where GDAL puts them.

    Where a write fails while the file is closed, libtiff may put a directory at the end instead, without an
    error: all pixels can be read, but not over a network with few requests. The layout: directories, then
    data; before each block its size, and after it its last four bytes once more
    (https://gdal.org/en/stable/drivers/raster/cog.html).

    Raises
    ------
    OSError
        A part is elsewhere, or was not written.
    """

    def offset(name: str, level: int | None) -> int:
        return int(written.get_tag_item(name, "TIFF", bidx=1, ovr=level) or 0)

    with path.open("rb") as file:
        for level in (None, *range(len(written.overviews(1)))):
            directory = offset("IFD_OFFSET", level)
            options = {} if level is None else {"overview_level": level}
            with rasterio.open(path, **options) as image:
                blocks = [block for block, _ in image.block_windows(1)]
            for row, col in blocks:
                begin = offset(f"BLOCK_OFFSET_{col}_{row}", level)
                size = offset(f"BLOCK_SIZE_{col}_{row}", level)
                if not 0 < directory < begin:
                    raise OSError(NOT_AS_WRITTEN)
                file.seek(begin - 4)
                header = file.read(4)
                file.seek(begin + size - 4)
                end, trailer = file.read(4), file.read(4)
                if header != size.to_bytes(4, "little") or len(trailer) < 4 or end != trailer:
                    raise OSError(NOT_AS_WRITTEN)


def _checksum(values: PixelArray) -> int:
    """Return a checksum of values; every NaN counts as the same, whatever its bits."""
    checksum = 0
    for row in values.reshape(-1, values.shape[-1]):  # one at a time, to save memory
        missing = np.isnan(row)
        same = np.where(missing, np.float32(np.nan), row) if missing.any() else row
        checksum = zlib.crc32(np.ascontiguousarray(same, np.float32).data, checksum)
    return checksum


__all__ = [
    "BLOCK_SIZE",
    "ProbWriter",
    "strips",
]
