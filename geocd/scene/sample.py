"""A bounded sample of a scene, which statistics and methods are fitted to.

It is taken from the jointly valid pixels, evenly spread, so that its cost does not grow with the raster.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from geocd.errors import SameImageError
from geocd.raster.pair import Chip, Pair
from geocd.tiles.tiling import Tiling
from geocd.types import Float64Array

#: Pixels in the sample of a large raster; a raster up to this size is read whole.
SAMPLE_PIXELS = 2_097_152
#: Where a date has more values for each pixel than these (embeddings), the sample has fewer pixels.
SAMPLE_VALUES = 16
#: Side of a chip of the sample, in pixels.
SAMPLE_CHIP = 256
#: Rows or columns that a narrower strip counts as: so many are computed, for the stride of the features.
LEAST_SIDE = 8
#: Of a narrow raster, strips have this share of the pixels of a square: to read, and to compute, which takes
#: the memory of some fifty rows.
READ, COMPUTED = 4, 16
#: With fewer valid pixels, two images may be equal by chance.
_LEAST_PIXELS = 1024


def _scattered(count: int) -> Iterator[int]:
    """Yield every integer below ``count`` once; any first part of the sequence is evenly spread."""
    step = int(count * 0.6180339887498949)
    while np.gcd(step, count) != 1:
        step += 1
    for i in range(count):
        yield (i * step) % count


def sample_pixels(pair: Pair) -> int:
    """Return the pixels of a sample: :data:`SAMPLE_PIXELS`, and fewer where a pixel has many values."""
    return int(SAMPLE_PIXELS * min(1.0, SAMPLE_VALUES / pair.values_per_pixel))


def _squares(height: int, width: int, side: int, share: int) -> Tiling:
    """Return squares side by side; of a raster of few rows or columns, strips with a share of their pixels.

    Thousands of strips of 256 pixels take many times as long to read and to compute; one long strip takes
    much memory for the surroundings of its pixels, which are mirrored.
    """
    if not _roomy(height, width, side):
        side = max(side, side**2 // share // min(height, width))
    return Tiling(height, width, side, 0)


def _roomy(height: int, width: int, side: int) -> bool:
    """Return whether a raster or chip has enough rows and columns for squares of this side."""
    return 4 * min(height, width) >= side


def sample_chips(pair: Pair, *, max_pixels: int | None = None, chip_size: int = SAMPLE_CHIP) -> list[Chip]:
    """Read a bounded, evenly spread sample of the pair.

    Parameters
    ----------
    pair : Pair
    max_pixels : int, optional
        A raster with no more pixels than this is returned whole, as one chip; a larger one as square chips
        with about this many valid pixels in total. Default: :func:`sample_pixels`.
    chip_size : int
        Side of a chip, in pixels; of a raster of few rows or columns, chips are longer.

    Returns
    -------
    list of Chip
        At least one of their pixels is valid.

    Raises
    ------
    NoValidPixelError
        No pixel is valid in both dates.
    RasterReadError
        A file cannot be read.
    """
    grid = pair.grid
    max_pixels = sample_pixels(pair) if max_pixels is None else max_pixels
    if grid.height * grid.width <= max_pixels:
        chips = [pair.read(grid.window)]
        ignored = _ignores(chips[0])
    else:
        tiling = _squares(grid.height, grid.width, chip_size, READ)
        chips, total, ignored = [], 0, False
        # Chips of which less than a tenth is valid are used only where there are no others.
        sparse: list[Chip] = []
        for chip in _in_turn(pair, tiling, max_pixels):
            count = int(chip.valid.sum())
            ignored = ignored or _ignores(chip)
            if count * 10 >= chip.valid.size:
                chips.append(chip)
                total += count
            elif count and len(sparse) * chip.valid.size < max_pixels:
                sparse.append(chip)
            if total >= max_pixels:
                break
        chips = chips or sparse
    if not any(chip.valid.any() for chip in chips):
        raise pair.no_valid_pixel(ignored=ignored)
    return chips


def _in_turn(pair: Pair, tiling: Tiling, max_pixels: int) -> Iterator[Chip]:
    """Yield the chips of a sample until it has enough valid pixels, evenly spread.

    Those that are needed even if all their pixels are valid are read in the order of the raster: its blocks
    are decoded once.
    """
    order, total = _scattered(len(tiling)), 0
    while batch := list(
        itertools.islice(order, max(1, -(-(max_pixels - total) // math.prod(tiling.tile_shape))))
    ):
        chips = {index: pair.read(tiling[index].window) for index in sorted(batch)}
        for index in batch:
            total += int(chips[index].valid.sum())
            yield chips.pop(index)


def check_different(chips: Sequence[Chip], before: str, after: str) -> None:
    """Check that the two dates are not one image.

    Parameters
    ----------
    chips : sequence of Chip
        A sample of the pair. Of a small or constant one nothing is concluded.
    before, after : str
        The names of the images, for the message.

    Raises
    ------
    SameImageError
        All valid pixels of the sample are equal.
    """
    if sum(int(chip.valid.sum()) for chip in chips) < _LEAST_PIXELS:
        return
    if not all(np.array_equal(chip.before, chip.after) for chip in chips):
        return
    if any((np.ptp(chip.before[:, chip.valid], axis=1) > 0).any() for chip in chips if chip.valid.any()):
        raise SameImageError(
            f"{before} and {after} have the same pixels: they are one image. Name an image of another date.",
            before=before,
            after=after,
        )


def _ignores(chip: Chip) -> bool:
    """Return whether a rule of ``--ignore`` made any pixel invalid."""
    return any(mask.any() for mask in chip.ignored.values())


def crops(chips: Sequence[Chip], max_pixels: int, size: int = SAMPLE_CHIP) -> list[Chip]:
    """Cut a smaller sample with spatial context out of a sample: evenly spread squares.

    Parameters
    ----------
    chips : sequence of Chip
    max_pixels : int
        Chips with no more pixels than this in total are returned as they are, unless they are flat. Of strips
        narrower than ``LEAST_SIDE`` it takes fewer: they cost as much as if they had that width.
    size : int
        Side of a square, in pixels.

    Returns
    -------
    list of Chip
        Enough squares with valid pixels to reach ``max_pixels``, if there are enough. Which ones depends only
        on the sizes of the chips and on where they are valid.
    """
    if sum(chip.valid.size for chip in chips) <= max_pixels and all(
        _roomy(chip.valid.shape[0], chip.valid.shape[1], size) for chip in chips
    ):
        return list(chips)
    squares = [
        (chip, tile.window)
        for chip in chips
        for tile in _squares(chip.valid.shape[0], chip.valid.shape[1], size, COMPUTED)
    ]
    sample: list[Chip] = []
    for index in _scattered(len(squares)):
        chip, window = squares[index]
        square = chip.part(*window.toslices())
        if not square.valid.any():
            continue
        sample.append(square)
        if sum(_computed(other) for other in sample) >= max_pixels:
            break
    return sample


def _computed(chip: Chip) -> int:
    """Return the pixels that are computed for a chip, with what it is filled up by."""
    height, width = chip.valid.shape
    return int(max(height, LEAST_SIDE) * max(width, LEAST_SIDE))


def valid_pixels(
    chips: Sequence[Chip], bands: slice = slice(None), *, as_stored: bool = False, most: int | None = None
) -> tuple[Float64Array, Float64Array]:
    """Return the valid pixels of a sample, before and after, each ``(bands, n)`` float64.

    Parameters
    ----------
    chips : sequence of Chip
    bands : slice
    as_stored : bool
        Whether in the type of the chips, which is float32 for most inputs.
    most : int, optional
        Of more pixels, every second (third, ...) is returned, so that they are no more than this.
    """
    count = sum(int(np.count_nonzero(chip.valid)) for chip in chips)
    step = 1 if most is None else max(1, -(-count // most))
    number = len(range(*bands.indices(len(chips[0].before))))
    dtype = chips[0].before.dtype if as_stored else np.float64
    before, after = (np.empty((number, -(-count // step)), dtype) for _ in range(2))
    start = passed = 0
    for chip in chips:
        places = np.flatnonzero(chip.valid)
        picked, passed = places[-passed % step :: step], passed + len(places)
        pixels = slice(start, start + len(picked))
        for target, source in ((before, chip.before), (after, chip.after)):
            for band, values in enumerate(source[bands]):  # of all bands at once, those of a pixel interleave
                target[band, pixels] = values[chip.valid] if step == 1 else values.ravel()[picked]
        start = pixels.stop
    return before, after


def zero_shares(chips: Sequence[Chip]) -> tuple[float, float]:
    """Return the share of the valid pixels that are 0 in all bands, before and after, in [0, 1]."""
    count = max(1, sum(int(chip.valid.sum()) for chip in chips))
    before = sum(int((chip.valid & (chip.before == 0).all(axis=0)).sum()) for chip in chips)
    after = sum(int((chip.valid & (chip.after == 0).all(axis=0)).sum()) for chip in chips)
    return before / count, after / count
