"""A bounded sample of a scene: what statistics and methods are fitted to.

Taken from the jointly valid pixels, evenly spread, so that its cost does not grow with the raster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from geocd.raster.pair import Chip, Pair
from geocd.tiles.tiling import Tiling
from geocd.types import Float64Array

#: Pixels in the sample of a large raster. A raster up to this size is its own sample.
SAMPLE_PIXELS = 2_097_152
SAMPLE_CHIP = 256


def _scattered(count: int) -> Iterator[int]:
    """Every number below ``count`` once, any beginning of the sequence evenly spread."""
    step = int(count * 0.6180339887498949)
    while np.gcd(step, count) != 1:
        step += 1
    for i in range(count):
        yield (i * step) % count


def sample_chips(pair: Pair, *, max_pixels: int = SAMPLE_PIXELS, chip_size: int = SAMPLE_CHIP) -> list[Chip]:
    """Read a bounded, evenly spread sample of the pair.

    Parameters
    ----------
    pair : Pair
    max_pixels : int
        A raster with no more pixels is returned whole, as one chip; a larger one as square chips that
        together have about this many valid pixels.
    chip_size : int
        Side of a chip, in pixels.

    Returns
    -------
    list of Chip
        At least one valid pixel among them.

    Raises
    ------
    NoValidPixelError
        No pixel is valid in both dates.
    """
    grid = pair.grid
    if grid.height * grid.width <= max_pixels:
        chips = [pair.read(grid.window)]
        ignored = _ignores(chips[0])
    else:
        places = Tiling(grid.height, grid.width, chip_size, 0)
        chips, found, ignored = [], 0, False
        # Chips of which less than a tenth is valid are passed over, unless nothing better comes.
        meagre: list[Chip] = []
        for index in _scattered(len(places)):
            chip = pair.read(places[index].window)
            count = int(chip.valid.sum())
            ignored = ignored or _ignores(chip)
            if count * 10 >= chip.valid.size:
                chips.append(chip)
                found += count
            elif count and len(meagre) * chip.valid.size < max_pixels:
                meagre.append(chip)
            if found >= max_pixels:
                break
        chips = chips or meagre
    if not any(chip.valid.any() for chip in chips):
        raise pair.no_valid_pixel(ignored=ignored)
    return chips


def _ignores(chip: Chip) -> bool:
    """Tell whether a rule took a pixel out of the valid area."""
    return any(mask.any() for mask in chip.ignored.values())


def crops(chips: Sequence[Chip], max_pixels: int, size: int = SAMPLE_CHIP) -> list[Chip]:
    """Cut a smaller sample with context out of a sample: evenly spread squares of ``size`` pixels.

    Returns the chips as they are where they hold no more than ``max_pixels``; else enough squares with
    valid pixels to reach it, in an order that depends on the sizes alone.
    """
    if sum(chip.valid.size for chip in chips) <= max_pixels:
        return list(chips)
    places = [
        (chip, tile.window)
        for chip in chips
        for tile in Tiling(chip.valid.shape[0], chip.valid.shape[1], size, 0)
    ]
    found: list[Chip] = []
    for index in _scattered(len(places)):
        chip, window = places[index]
        piece = chip.part(*window.toslices())
        if not piece.valid.any():
            continue
        found.append(piece)
        if sum(other.valid.size for other in found) >= max_pixels:
            break
    return found


def valid_pixels(chips: Sequence[Chip], bands: slice = slice(None)) -> tuple[Float64Array, Float64Array]:
    """Return the valid pixels of a sample, before and after, each ``(bands, n)`` float64."""
    before = np.concatenate([chip.before[bands, chip.valid] for chip in chips], axis=1)
    after = np.concatenate([chip.after[bands, chip.valid] for chip in chips], axis=1)
    # Indexing leaves the bands of a pixel side by side, and sums over pixels are several times slower then.
    return before.astype(np.float64, order="C"), after.astype(np.float64, order="C")


#: Undeclared nodata: this share of exact zeros (in all bands) is no accident.
WARN_ZEROS = 0.01


def zero_shares(chips: Sequence[Chip]) -> tuple[float, float]:
    """Return the share of the valid pixels that are 0 in all bands, before and after, in [0, 1]."""
    count = max(1, sum(int(chip.valid.sum()) for chip in chips))
    before = sum(int((chip.valid & (chip.before == 0).all(axis=0)).sum()) for chip in chips)
    after = sum(int((chip.valid & (chip.after == 0).all(axis=0)).sum()) for chip in chips)
    return before / count, after / count


def zeros_in_words(name: str, share: float) -> str | None:
    """Return a warning where so many pixels of an image are 0 that 0 may mean "no data"; None where not."""
    if not share > WARN_ZEROS:
        return None
    return (
        f"{name}: {share:.0%} of the pixels that count as valid are 0 in all bands. If 0 means 'no data', "
        "pass --nodata 0"
    )
