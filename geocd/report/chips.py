"""Places at native pixels, before and after, in the colours of the overview.

Memory does not grow with the rasters: a window is read at a time, and of a place larger than that its middle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rasterio.windows import Window

from geocd.raster.choice import Bands
from geocd.raster.files import open_raster
from geocd.raster.reading import DateSource, read_date
from geocd.raster.warp import Warp
from geocd.report.stretch import Picture, Stretch
from geocd.types import BoolArray, Float64Array

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

#: Least and largest side of a chip, in pixels; its margin around a place, as a share of the place's longest
#: side and at least in pixels.
SIDES, MARGIN, LEAST_MARGIN = (48, 256), 0.5, 12


@dataclasses.dataclass(frozen=True)
class PictureChip:
    """A window of a pair at native pixels.

    Attributes
    ----------
    window : rasterio.windows.Window
        In pixels of the pair's grid.
    before, after : ndarray, (height, width, 3), uint8
        Red, green, blue.
    valid_before, valid_after : ndarray, (height, width), bool
    """

    window: Window
    before: Picture
    after: Picture
    valid_before: BoolArray
    valid_after: BoolArray


@dataclasses.dataclass(frozen=True)
class PairView:
    """How a pair is looked at: what is read of it, and how values become colours.

    Attributes
    ----------
    before, after : str
        Paths or URLs.
    bands : Bands
        Those shown: three, or one in grey.
    nodata : float or None
        Overrides the nodata value of both dates.
    warp : Warp or None
        How the after image is warped; None where it has the grid of the before image.
    parts : tuple of rasterio.windows.Window or None
        What of each date the pair is; None for all of it.
    stretches : tuple of Stretch
        Of before and after; empty until they have been measured.
    """

    before: str
    after: str
    bands: Bands
    nodata: float | None
    warp: Warp | None
    parts: tuple[Window | None, Window | None]
    stretches: tuple[Stretch, ...] = ()

    def sources(self, before: DatasetReader, after: DatasetReader) -> tuple[DateSource, DateSource]:
        """Return how both dates are read from their open files, each on its own grid."""
        first, second = (
            DateSource(file, path, numbers, nodata=self.nodata, fill=fill, part=part)
            for file, path, numbers, fill, part in (
                (before, self.before, self.bands.before, self.bands.fills[0], self.parts[0]),
                (after, self.after, self.bands.after, self.bands.fills[1], self.parts[1]),
            )
        )
        return first, second

    def chips(self, windows: Sequence[Window]) -> Iterator[PictureChip]:
        """Yield windows of the pair's grid at native pixels, in their order.

        Raises
        ------
        RasterOpenError, RasterReadError
        """
        if not windows:
            return
        with open_raster(self.before) as before_file, open_raster(self.after) as after_file:
            before, after = self.sources(before_file, after_file)
            after = dataclasses.replace(after, warp=self.warp)
            for window in windows:
                (first, valid_before), (second, valid_after) = (
                    _picture(source, window, stretch)
                    for source, stretch in zip((before, after), self.stretches, strict=True)
                )
                yield PictureChip(window, first, second, valid_before, valid_after)


def _picture(source: DateSource, window: Window, stretch: Stretch) -> tuple[Picture, BoolArray]:
    """Return a window of one date as a picture, and where it is valid."""
    values, valid = read_date(source, window)
    values[:, ~valid] = 0
    return stretch.picture(values), valid


def chip_window(bounds: Float64Array, middle: Float64Array, shape: tuple[int, int]) -> Window:
    """Return the window that shows a place and what surrounds it.

    Parameters
    ----------
    bounds : ndarray, (4,)
        First column, first row, last column and last row of the place, in pixels.
    middle : ndarray, (2,)
        A column and row inside the place: of a place that is too large, this is shown.
    shape : tuple of int
        Height and width of the grid.
    """
    first, last = bounds[:2], bounds[2:]
    extent = last - first
    margin = max(LEAST_MARGIN, MARGIN * float(extent.max()))
    sides = np.clip(np.ceil(extent + 2 * margin), *SIDES)
    fits = extent <= sides
    centre = np.where(fits, (first + last) / 2, middle)
    limits = np.array(shape[::-1])
    sides = np.minimum(sides, limits)
    corner = np.clip(np.floor(centre - sides / 2), 0, limits - sides)
    return Window(*(int(value) for value in (*corner, *sides)))


__all__ = ["PairView", "PictureChip", "chip_window"]
