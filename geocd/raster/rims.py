"""Undeclared nodata: a rim of one value in all bands that touches the border, looked for in a few windows.

The border of a swath is filled with 0, -9999, 255 or what scaling has made of them (-0.2), and often the file
does not declare it. The value is decided once per raster, from windows whose number does not depend on the
size of the raster; then every pixel that has it in all compared bands is not valid, wherever it lies, so that
the result does not depend on tiles. Such a value must

- be the smallest or the largest of each band,
- fill a part of the border in long runs,
- hardly occur in areas that do not touch the border, where it may be data (roofs, shadows, lakes), unless the
  image has no value near it, and
- be set off from the image around it, as clipped water or clouds are not. In a single band of real or signed
  numbers, perhaps elevations beside a flat sea, it must be so at once and by more.

What does not meet the last condition, and any such value in a file that declares another one, is reported,
but taken as data.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from rasterio.windows import Window
from scipy import ndimage

from geocd.raster.reading import DateSource, filled, read_date, sample_windows
from geocd.types import BoolArray, Float64Array, PixelArray

#: Windows along each side of a large raster.
_ALONG = 7
#: Of a raster with fewer pixels, with fewer pixels outside the rim, or with fewer values there (classes, a
#: mask), nothing is concluded.
_LEAST_PIXELS, _LEAST_OTHERS, _LEAST_VALUES = 1024, 100, 8
#: Least share of the border that the rim must have, and least mean length of its runs there, in pixels.
_LEAST_BORDER, _LEAST_RUN = 0.02, 8.0
#: Most pixels of the value in areas that do not touch the border, as a share of those that do. Where the
#: values of every band are this far from it, over their spread, there may be more (clouds that were masked).
_MOST_INSIDE, _APART = 0.5, 0.25
#: Least share of the value in a window of a large raster that continues the rim of a window beside it.
_CONTINUES = 0.3
#: Distances from the rim, in pixels: what compression and resampling reach, and where the image is itself.
_BESIDE, _NEAR, _FAR = 2, 8, 16
#: How far the image beside the rim must be from its value: the difference over the spread of the image (5th
#: to 95th percentile), and the share of the image that is closer to the value.
_SET_OFF, _SET_OFF_ELEVATION = (0.05, 0.1), (0.25, 0.25)
#: A difference of this many spreads is no part of any image.
_FAR_OUT = 1.0
#: Least share of the pixels beside a rim that are much closer to its value than the image around, where both
#: are mixed; of the whole image, no more than a third of this share is so close.
_BLURRED = 0.1
#: Edges of the rim that are searched for between windows of a large raster.
_EDGES = 4


@dataclasses.dataclass(frozen=True)
class Rim:
    """Pixels at the border of a raster that have one value in every compared band.

    Attributes
    ----------
    values : tuple of float
        Of each compared band.
    share : float
        Share of the pixels of the raster that have these values, in [0, 1]; of a large one an estimate.
    inside : float
        Share of them that lie in areas that do not touch the border, in [0, 1].
    blurred : bool
        Whether pixels beside it are mixed with it, by lossy compression or resampling.
    excluded : bool
        Whether these pixels are taken as no data.
    """

    values: tuple[float, ...]
    share: float
    inside: float
    blurred: bool
    excluded: bool

    def part(self, positions: Sequence[int]) -> Rim:
        """Return the rim as it is in some of the bands."""
        return dataclasses.replace(self, values=tuple(self.values[position] for position in positions))

    @property
    def value(self) -> str:
        """The value as ``--nodata`` takes it; where bands differ, all of them, separated by commas."""
        return ", ".join(dict.fromkeys(map(_number, self.values)))


def _number(value: float) -> str:
    """Return a number as short as it can be read back, also where it comes from float32."""
    single = np.float32(value)
    return np.format_float_positional(single if single == value else value, trim="-")


@dataclasses.dataclass(frozen=True)
class _Part:
    """A window of a raster.

    Attributes
    ----------
    window : rasterio.windows.Window
    values : ndarray, (bands, height, width)
    valid : ndarray, (height, width), bool
    sides : tuple of int
        Positions among the first row, the last row, the first column and the last column of the window: those
        that are at the border of the raster.
    weight : float
        How much of the raster it stands for.
    """

    window: Window
    values: PixelArray
    valid: BoolArray
    sides: tuple[int, ...]
    weight: float

    @classmethod
    def read(cls, source: DateSource, window: Window) -> _Part:
        sides = _sides(source, window)
        # of windows on a grid, those at the border reach half as far
        weight = 0.5 ** ((0 in sides or 1 in sides) + (2 in sides or 3 in sides))
        return cls(window, *read_date(source, window), sides, weight)

    def lines(self, pixels: BoolArray) -> list[BoolArray]:
        """Return the lines of an image of this window that are at the border of the raster."""
        every = pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]
        return [every[side] for side in self.sides]

    def equal(self, values: Sequence[float]) -> BoolArray:
        """Return where all bands have these values."""
        return filled(self.values, values) & self.valid

    def areas(self, pixels: BoolArray) -> tuple[BoolArray, BoolArray]:
        """Return the areas of an image of this window that touch the border, and those that touch no side."""
        labels, count = ndimage.label(pixels)
        at_border, at_sides = np.zeros(count + 1, bool), np.zeros(count + 1, bool)
        for line in self.lines(labels):
            at_border[line] = True
        for line in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            at_sides[line] = True
        at_border[0], at_sides[0] = False, True
        return at_border[labels], ~at_sides[labels]


def _sides(source: DateSource, window: Window) -> tuple[int, ...]:
    """Return which sides of a window are at the border of its raster, as :class:`_Part` has them."""
    bottom, right = window.row_off + window.height, window.col_off + window.width
    height, width = source.shape
    distances = window.row_off, height - bottom, window.col_off, width - right
    return tuple(side for side, distance in enumerate(distances) if distance == 0)


def undeclared_rim(source: DateSource) -> Rim | None:
    """Return the undeclared rim of a raster, None where it has none.

    Parameters
    ----------
    source : DateSource
        The raster on its own grid, with the compared bands.

    Raises
    ------
    RasterReadError
    """
    shape = source.shape
    if shape[0] * shape[1] < _LEAST_PIXELS:
        return None
    windows = sample_windows(*shape, _ALONG)
    first = dataclasses.replace(source, indexes=source.indexes[:1])
    # a look at one band along the border is enough for most rasters
    border = {
        index: _Part.read(first, window) for index, window in enumerate(windows) if _sides(source, window)
    }
    values = np.concatenate(
        [
            line
            for part in border.values()
            for line in part.lines(np.where(part.valid, part.values[0], np.nan))
        ]
    )
    if np.isnan(values).all():
        return None
    ends = {float(np.nanmin(values)), float(np.nanmax(values))}
    extremes = [value for value in ends if _at_border([*border.values()], [value])]
    if not extremes:
        return None
    done = border if len(source.indexes) == 1 else {}
    parts = [done[i] if i in done else _Part.read(source, window) for i, window in enumerate(windows)]
    rims = [rim for value in extremes if (rim := _rim(source, parts, value)) is not None]
    return max(rims, key=lambda rim: (rim.excluded, rim.share), default=None)


def _at_border(parts: Sequence[_Part], values: Sequence[float]) -> bool:
    """Return whether pixels of these values fill enough of the border, in runs that are long enough."""
    lines = [line for part in parts for line in part.lines(part.equal(values))]
    count = sum(int(line.sum()) for line in lines)
    runs = sum(int(line[0]) + int((line[1:] & ~line[:-1]).sum()) for line in lines)
    length = sum(line.size for line in lines)
    return count >= _LEAST_BORDER * length and count >= _LEAST_RUN * runs > 0


def _rim(source: DateSource, parts: Sequence[_Part], value: float) -> Rim | None:
    """Return the rim that has this value in the first band, None where there is none."""
    ends = [part.values[:, _border_of(part) & part.valid & (part.values[0] == value)] for part in parts]
    values = [float(np.median(band)) for band in np.concatenate(ends, axis=1)]
    if not _at_border(parts, values):
        return None
    images = [part.values[:, part.valid & ~part.equal(values)] for part in parts]
    image = np.concatenate(images, axis=1).astype(np.float64)
    if image.shape[1] < _LEAST_OTHERS or all(np.unique(band).size < _LEAST_VALUES for band in image):
        return None
    if not all(value <= band.min() or value >= band.max() for value, band in zip(values, image, strict=True)):
        return None
    touching, inside = _areas(parts, values)
    if inside > _MOST_INSIDE * touching and not all(
        np.abs(band - value).min() >= _APART * _spread(band)
        for value, band in zip(values, image, strict=True)
    ):
        return None
    total = sum(part.weight * part.valid.size for part in parts)
    share = sum(part.weight * int(part.equal(values).sum()) for part in parts) / total
    set_off, blurred = _beside(source, [*parts, *_edges(source, parts, values)], values, image)
    declared = [source.dataset.nodatavals[index - 1] for index in source.indexes]
    undeclared = all(nodata is None or np.isnan(nodata) for nodata in declared)
    return Rim(
        values=tuple(values),
        share=share,
        inside=inside / (inside + touching),
        blurred=blurred,
        excluded=set_off and undeclared,
    )


def _areas(parts: Sequence[_Part], values: Sequence[float]) -> tuple[int, int]:
    """Return how many pixels of these values are in areas that touch the border, and how many are not.

    Of an area that leaves a window it is unknown, unless the windows around that window tell.
    """
    equal = [part.equal(values) for part in parts]
    areas = [part.areas(pixels) for part, pixels in zip(parts, equal, strict=True)]
    touching = np.array([area.sum() for area, _ in areas])
    inside = np.array([area.sum() for _, area in areas])
    if len(parts) > 1:
        shape = _ALONG, _ALONG
        continues = np.array([pixels.mean() > _CONTINUES for pixels in equal]) | (touching > 0)
        labels, _ = ndimage.label(continues.reshape(shape))
        apart = ~np.isin(labels, labels[touching.reshape(shape) > 0]).ravel()
        inside[apart] = np.array([pixels.sum() for pixels in equal])[apart]
    return int(touching.sum()), int(inside.sum())


def _spread(band: Float64Array) -> float:
    """Return the spread of the values of a band, above 0."""
    return float(np.ptp(np.percentile(band, [5, 95])) or np.ptp(band) or 1.0)


def _border_of(part: _Part) -> BoolArray:
    """Return the pixels of a window that are at the border of the raster."""
    border = np.zeros(part.valid.shape, bool)
    for line in part.lines(border):
        line[...] = True
    return border


def _edges(source: DateSource, parts: Sequence[_Part], values: Sequence[float]) -> Iterator[_Part]:
    """Yield windows of a large raster at the edge of its rim, halfway between windows inside and outside."""
    shares = np.array([part.equal(values).mean() for part in parts])
    if len(parts) == 1 or ((shares > 0.05) & (shares < 0.95)).sum() >= _EDGES:
        return
    neighbours = [(i, i + 1) for i in range(len(parts)) if (i + 1) % _ALONG]
    neighbours += [(i, i + _ALONG) for i in range(len(parts) - _ALONG)]
    crossing = [
        (i, j) if shares[i] > 0.5 else (j, i) for i, j in neighbours if (shares[i] > 0.5) != (shares[j] > 0.5)
    ]
    for i, j in crossing[:: max(1, len(crossing) // _EDGES)][:_EDGES]:
        rim, image = parts[i], parts[j]
        while True:
            row, col = (
                (getattr(rim.window, name) + getattr(image.window, name)) // 2
                for name in ("row_off", "col_off")
            )
            middle = _Part.read(source, Window(col, row, rim.window.width, rim.window.height))
            share = middle.equal(values).mean()
            if 0.05 < share < 0.95 or middle.window in (rim.window, image.window):
                yield middle
                break
            rim, image = (middle, image) if share > 0.5 else (rim, middle)


def _beside(
    source: DateSource, parts: Sequence[_Part], values: Sequence[float], image: Float64Array
) -> tuple[bool, bool]:
    """Return whether the image beside the rim is set off from its value, and whether the two are mixed.

    Parameters
    ----------
    source : DateSource
    parts : sequence of _Part
    values : sequence of float
        Of the rim.
    image : ndarray, (bands, n), float64
        Pixels that are not of the rim.
    """
    rings = [_rings(part, values) for part in parts]
    beside, near, far = (np.concatenate(ring, axis=1) for ring in zip(*rings, strict=True))
    ring = far if far.shape[1] >= _LEAST_OTHERS else near
    if not ring.shape[1]:
        return False, False
    elevation = len(values) == 1 and source.dataset.dtypes[source.indexes[0] - 1] in (
        "float32",
        "float64",
        "int16",
    )
    set_off, blurred = False, False
    for value, pixels, at_once, around in zip(values, image, beside, ring, strict=True):
        distances = np.abs(pixels - value)
        spread = _spread(pixels)
        least = _SET_OFF_ELEVATION if elevation else _SET_OFF
        distant = []
        for other in (around, at_once) if elevation else (around,):
            distance = abs(float(np.median(other)) - value) if other.size else 0.0
            closer = float((distances < distance).mean())
            distant.append(
                distance >= _FAR_OUT * spread or (distance >= least[0] * spread and closer >= least[1])
            )
        set_off = set_off or all(distant)
        if at_once.size:
            close = abs(float(np.median(around)) - value) / 4
            share = float((np.abs(at_once - value) < close).mean())
            blurred = blurred or share >= max(_BLURRED, 3 * float((distances < close).mean()))
    return set_off, blurred


def _rings(part: _Part, values: Sequence[float]) -> list[PixelArray]:
    """Return the pixels beside a rim, near it and farther away: each (bands, n)."""
    equal = part.equal(values)
    rim = equal & ~part.areas(equal)[1]
    grown = [ndimage.maximum_filter(rim, 2 * reach + 1) for reach in (0, _BESIDE, _NEAR, _FAR)]
    return [
        part.values[:, outer & ~inner & part.valid & ~equal] for inner, outer in itertools.pairwise(grown)
    ]


__all__ = ["Rim", "undeclared_rim"]
