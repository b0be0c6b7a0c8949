"""Edges that moved: how much of a difference is left where one date is shifted against the other.

A roof or a road that lies a pixel further in one date differs in strips along its edges, and these strips are
copies of each other: with the right shift each date is the other one. A new road is not: where it is shifted
away, the ground before matches, but nothing before matches the road.
"""

from __future__ import annotations

import itertools

import numpy as np

from geocd.raster.pair import Chip
from geocd.scene.reflectance import Reflectance
from geocd.types import Float64Array, IntArray

#: Shifts that are tried, in pixels: this far along rows and columns, in each direction.
REACH = 2
SHIFTS = tuple(itertools.product(range(-REACH, REACH + 1), repeat=2))
#: Bands that are compared, where they are among those that names tell; else all.
BANDS = ("green", "red", "nir")


def shifted_differences(chip: Chip, row: IntArray, col: IntArray, reflectance: Reflectance) -> Float64Array:
    """Return the difference of the dates at some pixels for each of :data:`SHIFTS` of the after image.

    Parameters
    ----------
    chip : Chip
        With up to :data:`REACH` pixels around the pixels, where the raster has them.
    row, col : ndarray, (n,), int64
        Positions in the chip.
    reflectance : Reflectance

    Returns
    -------
    ndarray, (shifts, n), float64
        Sum over the bands of the absolute differences of reflectance: after shifted against before, and
        before shifted back against after. Where a shifted pixel is not valid, that without a shift.
    """
    padded = np.pad(chip.valid, REACH, mode="edge")
    valid, width = padded.ravel(), padded.shape[1]
    here = (row + REACH) * width + col + REACH
    words = [word for word in BANDS if word in reflectance.positions] or list(reflectance.positions)
    differences = np.zeros((len(SHIFTS), row.size))
    offsets = [down * width + right for down, right in SHIFTS]
    usable = [None if (there := valid[here + offset]).all() else there for offset in offsets]
    for word in words:
        band = reflectance.positions[word]
        before, after = (
            reflectance.of(date, word, np.pad(image[band], REACH, mode="edge").astype(np.float64)).ravel()
            for date, image in enumerate((chip.before, chip.after))
        )
        for still, moved, turn in ((before[here], after, 1), (after[here], before, -1)):
            unshifted = moved[here]
            for position, difference in enumerate(differences):
                at = position if turn > 0 else -1 - position  # the opposite shift
                values, there = moved[here + offsets[at]], usable[at]
                if there is not None:
                    values = np.where(there, values, unshifted)
                values -= still
                difference += np.abs(values, out=values)
    return differences


def residual(sums: Float64Array) -> Float64Array:
    """Return what is left of a difference under the best shift, as a share of what it is without one.

    Parameters
    ----------
    sums : ndarray, (shifts, n), float64
        Sums of :func:`shifted_differences`.

    Returns
    -------
    ndarray, (n,), float64
        In [0, 1]; NaN where there is no difference.
    """
    still = sums[SHIFTS.index((0, 0))]
    with np.errstate(invalid="ignore", divide="ignore"):
        share: Float64Array = sums.min(axis=0) / still
    return share


__all__ = ["REACH", "SHIFTS", "residual", "shifted_differences"]
