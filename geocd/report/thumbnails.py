"""The pair and its result at the size of a picture.

Memory does not grow with the rasters: pictures are read decimated, from overviews where they exist.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from rasterio.enums import ColorInterp, Resampling
from rasterio.windows import Window

from geocd.raster.bands import named_colours
from geocd.raster.choice import Bands
from geocd.raster.files import open_raster
from geocd.raster.pair import Pair
from geocd.raster.reading import DateSource, filled, read, read_date
from geocd.raster.warp import Warp
from geocd.report.chips import PairView
from geocd.report.stretch import Picture, stretches
from geocd.types import BoolArray, Float32Array, PixelArray

if TYPE_CHECKING:
    from rasterio.io import DatasetReader


_CHECKER = (206, 206, 206), (228, 228, 228)
#: Least longest side of a panel, in pixels: a raster of 5 x 5 pixels is enlarged to it; and its least side.
SMALLEST, _THINNEST = 240, 24
#: Longest side, in pixels, at which the probability is read to count changes smaller than a pixel of the
#: picture.
_FINEST = 2560


@dataclasses.dataclass(frozen=True)
class Dates:
    """The two dates of a pair at the size of a picture, both of one shape.

    They are stretched with the same limits, so that what looks different is different, unless one of them
    would not be visible then.

    Attributes
    ----------
    grid_shape : tuple of int
        Height and width of the rasters.
    before, after : ndarray, (height, width, 3), uint8
        Red, green, blue.
    valid_before, valid_after : ndarray, (height, width), bool
    apart : bool
        Whether each date has its own contrast stretch: brightness and colours cannot be compared.
    warped : bool
        Whether the after image has another grid and was warped.
    view : PairView
        How places are read at native pixels, in the same colours.
    """

    grid_shape: tuple[int, int]
    before: Picture
    after: Picture
    valid_before: BoolArray
    valid_after: BoolArray
    apart: bool
    warped: bool
    view: PairView

    def with_prob(self, prob: Path, threshold: float) -> Thumbnails:
        """Return the thumbnails of the pair and its probability.

        Parameters
        ----------
        prob : pathlib.Path
            The probability raster of the pair.
        threshold : float
            Changed where ``prob >= threshold``.

        Raises
        ------
        RasterOpenError, RasterReadError
        """
        with open_raster(os.fspath(prob)) as dataset:
            mean, share = _prob_thumbnail(dataset, os.fspath(prob), self.valid_before.shape, threshold)
        dates = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Thumbnails(**dates, prob=mean, share=share)


@dataclasses.dataclass(frozen=True)
class Thumbnails(Dates):
    """The dates of a pair, and its result in the same shape.

    Attributes
    ----------
    prob : ndarray, (height, width), float32
        Mean probability in [0, 1], NaN where not valid.
    share : ndarray, (height, width), float32
        Share of changed pixels in [0, 1], NaN where not valid.
    """

    prob: Float32Array
    share: Float32Array

    @property
    def scale(self) -> tuple[int, int]:
        """How often a pixel is repeated in a panel, by rows and columns."""
        shape = self.prob.shape
        repeat = max(1, SMALLEST // max(shape))
        # A raster one pixel wide is drawn wider, or it would hardly be visible.
        rows, cols = (max(repeat, math.ceil(_THINNEST / side)) for side in shape)
        return rows, cols

    def panel(self, picture: Picture, valid: BoolArray) -> Image.Image:
        """Return a picture of this shape, enlarged by :attr:`scale`, with a checkerboard where not valid.

        Parameters
        ----------
        picture : ndarray, (height, width, 3), uint8
        valid : ndarray, (height, width), bool
        """
        rows, cols = self.scale
        pixels, mask = picture.repeat(rows, 0).repeat(cols, 1), valid.repeat(rows, 0).repeat(cols, 1)
        return on_checkerboard(pixels, mask)

    def reduced(self, max_size: int) -> Thumbnails:
        """Return thumbnails with a longest side of at most ``max_size`` pixels: means of valid pixels."""
        shape = _decimated(self.grid_shape, max_size)
        if shape[0] >= self.prob.shape[0] and shape[1] >= self.prob.shape[1]:
            return self

        def shrink(values: PixelArray) -> PixelArray:
            return np.asarray(Image.fromarray(values).resize(shape[::-1], Image.Resampling.BOX))

        valid_prob = np.isfinite(self.prob)
        weight = shrink(valid_prob.astype(np.float32))

        def mean(values: Float32Array) -> Float32Array:
            total = shrink(np.where(valid_prob, values, np.float32(0)))
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.where(weight > 0, total / weight, np.float32(np.nan)).astype(np.float32)

        dates = []
        for picture, valid in ((self.before, self.valid_before), (self.after, self.valid_after)):
            # Pillow weighs colours by alpha, so invalid pixels do not darken their neighbours.
            alpha = np.where(valid, np.uint8(255), np.uint8(0))[..., None]
            small = shrink(np.concatenate([picture, alpha], axis=2))
            dates.append((small[..., :3], small[..., 3] > 0))
        (before, valid_before), (after, valid_after) = dates
        return dataclasses.replace(
            self,
            before=before,
            after=after,
            valid_before=valid_before,
            valid_after=valid_after,
            prob=mean(self.prob),
            share=mean(self.share),
        )


def on_checkerboard(picture: Picture, valid: BoolArray) -> Image.Image:
    """Return a picture ``(height, width, 3)`` with a checkerboard where it is not valid."""
    rows, cols = (np.arange(side) // 8 for side in valid.shape)
    dark = ((rows[:, None] + cols) % 2 == 0)[..., None]
    checker = np.where(dark, *np.array(_CHECKER, np.uint8))
    return Image.fromarray(np.where(valid[..., None], picture, checker))


def read_dates(
    before: str,
    after: str,
    *,
    indexes: Sequence[int] | Bands,
    max_size: int,
    nodata: float | None = None,
    warp: Warp | None = None,
    parts: tuple[Window | None, Window | None] = (None, None),
) -> Dates:
    """Read a pair at the size of a picture.

    Parameters
    ----------
    before, after : str
        Paths or URLs of the pair.
    indexes : sequence of int, or Bands
        The compared bands, from 1, of both dates or of each. Red, green and blue among them are shown where
        names or colour interpretation identify them, else the first three, else the first in grey.
    max_size : int
        Longest side in pixels; larger rasters are decimated while reading.
    nodata : float, optional
        Overrides the nodata value of both dates.
    warp : Warp, optional
        How the after image is warped onto the grid of the before image; default: it has that grid.
    parts : tuple of rasterio.windows.Window or None
        What of each date the pair is; None for all of it.

    Raises
    ------
    RasterOpenError, RasterReadError
    """
    with open_raster(before) as before_file, open_raster(after) as after_file:
        compared = indexes if isinstance(indexes, Bands) else Bands(tuple(indexes), tuple(indexes))
        bands = _display_bands(before_file, after_file, compared)
        view = PairView(before, after, bands, nodata, warp, parts)
        dates = view.sources(before_file, after_file)
        grid_shape = dates[0].shape
        shape = _decimated(grid_shape, max_size)
        return _dates([_strip(dates, shape, slice(0, shape[0]), warp)], view, grid_shape)


class PairPictures:
    """Both dates of an open pair at the size of a picture, see :func:`read_dates`, by strips from the top.

    A run adds rows when it has just read them for its tiles, so that no block is decoded for a picture alone.

    Parameters
    ----------
    pair : Pair
        As it is compared.
    max_size : int
        Longest side in pixels.
    """

    def __init__(self, pair: Pair, max_size: int) -> None:
        self._pair = pair
        self._shape = _decimated(pair.grid.shape, max_size)
        with pair.files.lent() as files:
            bands = _display_bands(files.before, files.after, pair.bands)
        paths = pair.before_path, pair.after_path
        self._view = PairView(*paths, bands, pair.nodata, pair.warp, pair.parts)
        self._strips: list[tuple[_Picture, _Picture]] = []
        self._next = 0

    def add(self, rows: int) -> None:
        """Read what the first ``rows`` rows of the pair hold and was not read yet.

        Raises
        ------
        RasterReadError
        """
        (height, _), warp = self._shape, self._pair.warp
        end = rows * height // self._pair.grid.height
        if warp is not None and end < height:  # no block is warped twice
            end -= end % warp.decimated(*self._shape).side
        if end > self._next:
            with self._pair.files.lent() as files:
                dates = self._view.sources(files.before, files.after)
                self._strips.append(_strip(dates, self._shape, slice(self._next, end), warp))
            self._next = end

    def dates(self) -> Dates:
        """Return the pictures; rows that were not added are read now.

        Raises
        ------
        RasterReadError
        """
        self.add(self._pair.grid.height)
        return _dates(self._strips, self._view, self._pair.grid.shape)


def read_pair(pair: Pair, max_size: int) -> Dates:
    """Read an open pair at the size of a picture, as it is compared: see :func:`read_dates`."""
    return PairPictures(pair, max_size).dates()


#: Values ``(bands, height, width)`` of a date, and where they are valid, ``(height, width)``.
_Picture = tuple[Float32Array, BoolArray]


def _strip(
    dates: tuple[DateSource, DateSource], shape: tuple[int, int], rows: slice, warp: Warp | None
) -> tuple[_Picture, _Picture]:
    """Read some rows of the pictures of both dates, whose whole has this shape."""
    if warp is None:
        return _thumbnail(dates[0], shape, rows), _thumbnail(dates[1], shape, rows)
    return _thumbnail(dates[0], shape, rows), _warped_thumbnail(dates[1], shape, rows, warp)


def _dates(strips: Sequence[tuple[_Picture, _Picture]], view: PairView, grid_shape: tuple[int, int]) -> Dates:
    """Return the pictures that strips make, in their colours."""
    values = [np.concatenate([strip[date][0] for strip in strips], axis=1) for date in (0, 1)]
    valid = [np.concatenate([strip[date][1] for strip in strips]) for date in (0, 1)]
    limits, apart = stretches(values, valid)
    return Dates(
        grid_shape,
        before=limits[0].picture(values[0]),
        after=limits[1].picture(values[1]),
        valid_before=valid[0],
        valid_after=valid[1],
        apart=apart,
        warped=view.warp is not None,
        view=dataclasses.replace(view, stretches=limits),
    )


def _decimated(grid_shape: tuple[int, int], max_size: int) -> tuple[int, int]:
    """Return height and width of a raster at the size of a picture."""
    height, width = grid_shape
    factor = max(height, width) / max_size
    if factor <= 1:
        return grid_shape
    return max(1, round(height / factor)), max(1, round(width / factor))


def _display_bands(before: DatasetReader, after: DatasetReader, compared: Bands) -> Bands:
    """Return three bands to show as red, green and blue, or one to show in grey."""
    positions = _display_positions(before, compared.before) or _display_positions(after, compared.after)
    if positions is None:
        positions = (0, 1, 2) if len(compared.before) >= 3 else (0,)
    return Bands(
        tuple(compared.before[position] for position in positions),
        tuple(compared.after[position] for position in positions),
        rims=compared.rims_of(positions),
    )


def _display_positions(dataset: DatasetReader, indexes: Sequence[int]) -> tuple[int, ...] | None:
    """Return which of these bands are red, green and blue, from 0; None where the file does not tell."""
    interpretation = {dataset.colorinterp[i - 1]: position for position, i in enumerate(indexes)}
    rgb = [interpretation.get(c) for c in (ColorInterp.red, ColorInterp.green, ColorInterp.blue)]
    if None not in rgb:
        return tuple(position for position in rgb if position is not None)
    positions = named_colours([dataset.descriptions[i - 1] or "" for i in indexes])
    return None if positions is None else positions[:3]


def _thumbnail(date: DateSource, shape: tuple[int, int], rows: slice) -> _Picture:
    """Read some rows of a decimated date, whose whole has this shape: the same values in any strips."""
    dataset, nodata, bands = date.dataset, date.nodata, list(date.indexes)
    (height, width), count = date.shape, rows.stop - rows.start
    window = Window(0, rows.start * height / shape[0], width, count * height / shape[0])
    # GDAL's average leaves out the nodata value of the file, but would mix in one that it does not know.
    resampling = Resampling.average if nodata is None and not date.fill else Resampling.nearest
    values = read(
        dataset,
        date.path,
        date.of_raster(window),
        indexes=bands,
        out_shape=(len(bands), count, shape[1]),
        resampling=resampling,
        masked=nodata is None,
    )
    valid: BoolArray = np.logical_not(np.ma.getmaskarray(values).any(axis=0))
    values = np.ma.getdata(values)
    if nodata is not None:
        valid &= (values != nodata).all(axis=0)
    if date.fill:
        valid &= ~filled(values, date.fill)
    with np.errstate(over="ignore", invalid="ignore"):
        values = values.astype(np.float32)
    # As in the run: infinite values, and fill values close to the largest float, are not valid.
    valid &= (np.abs(values) < 1e15).all(axis=0)
    values[:, ~valid] = 0
    return values, valid


def _warped_thumbnail(date: DateSource, shape: tuple[int, int], rows: slice, warp: Warp) -> _Picture:
    """Return the same as :func:`_thumbnail`, warped onto the grid of the probability."""
    small = dataclasses.replace(date, warp=warp.decimated(*shape))
    values, valid = read_date(small, Window(0, rows.start, shape[1], rows.stop - rows.start))
    values[:, ~valid] = 0
    return values, valid


def _prob_thumbnail(
    dataset: DatasetReader, path: str, shape: tuple[int, int], threshold: float
) -> tuple[Float32Array, Float32Array]:
    """Return mean probability and share of changed pixels, both of ``shape``, NaN where not valid.

    The share is counted on up to four times as many pixels per side: comparing the mean with the threshold
    would lose changes smaller than a pixel of the picture.
    """
    most = max(1, min(4, _FINEST // max(shape)))
    factor = math.ceil(min(most, max(dataset.height / shape[0], dataset.width / shape[1])))
    whole = Window(0, 0, dataset.width, dataset.height)
    values = read(
        dataset,
        path,
        whole,
        indexes=1,
        out_shape=(shape[0] * factor, shape[1] * factor),
        resampling=Resampling.average,
    )
    cells = values.astype(np.float32).reshape(shape[0], factor, shape[1], factor)
    valid = np.isfinite(cells)
    count = valid.sum(axis=(1, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(valid, cells, np.float32(0)).sum(axis=(1, 3)) / count
        share = (valid & (cells >= np.float32(threshold))).sum(axis=(1, 3)) / count
    return mean.astype(np.float32), share.astype(np.float32)


__all__ = [
    "Dates",
    "PairPictures",
    "Thumbnails",
    "on_checkerboard",
    "read_dates",
    "read_pair",
]
