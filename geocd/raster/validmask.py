"""The raster of ``--valid``: 0 where a pair may not be used, one other value where it may."""

from __future__ import annotations

import numpy as np

from geocd.errors import MaskError
from geocd.location import Location
from geocd.quantities import listed_values
from geocd.raster.reading import DateSource, read_date, sample_windows
from geocd.types import BoolArray, PixelArray

#: Largest of Sentinel-2's scene classes.
_SCENE_CLASSES = 11


def mask_value(mask: DateSource) -> float | None:
    """Return the value of the usable pixels of a mask, from a bounded sample; None where none was usable.

    Parameters
    ----------
    mask : DateSource
        With its only band, on its own grid.

    Raises
    ------
    MaskError
        There are several: these are classes, or a probability.
    RasterReadError
    """
    values: set[float] = set()
    for window in sample_windows(*mask.shape):
        pixels, valid = read_date(mask, window)
        values.update(np.unique(pixels[0][valid]).tolist())
    if len(values) > 1:
        raise _not_a_mask(mask, values)
    return next(iter(values), None)


def check_mask(mask: DateSource, values: PixelArray, valid: BoolArray, value: float | None) -> None:
    """Raise :class:`MaskError` where a window of a mask has a second value of usable pixels.

    Parameters
    ----------
    mask : DateSource
    values : ndarray, (1, height, width)
        As they are stored.
    valid : ndarray, (height, width), bool
    value : float or None
        What :func:`mask_value` returned.
    """
    usable = values[0][valid]
    if usable.size and (usable.min() != usable.max() or value not in (None, usable[0])):
        raise _not_a_mask(mask, {*np.unique(usable).tolist(), *(() if value is None else (value,))})


def _not_a_mask(mask: DateSource, values: set[float]) -> MaskError:
    """Return the error for a raster with these values beside 0."""
    path = mask.path
    first, second, *rest = sorted(values)
    listed = listed_values([first, second, *rest])
    if not all(value.is_integer() for value in values):
        usable, meaning = f"(>= (read 1 1) {(first + max(values)) / 2:.3g})", "of the values from a limit on"
    elif "scl" in Location(path).name.lower() and first > 0 and max(values) <= _SCENE_CLASSES:
        usable, meaning = (
            "(& (>= (read 1 1) 4) (<= (read 1 1) 7))",
            "of Sentinel-2's classes 4 to 7 (vegetation, bare soil, water, unclassified)",
        )
    else:
        usable = f"(| (== (read 1 1) {first:.6g}) (== (read 1 1) {second:.6g}))"
        meaning = f"of the values {first:.6g} and {second:.6g}; name those that are usable"
    return MaskError(
        f"{path}: not a mask. --valid takes 0 where the pair may not be used and one other value (1 or 255) "
        f"where it may; besides 0, this raster has {listed}. --mask-before and --mask-after take the "
        f"quality masks of products as they are. Or make a mask of it, here {meaning}: "
        f'rio calc "{usable}" --not-masked -t uint8 -f GTiff {path} valid.tif',
        path=path,
        values=sorted(values),
    )


__all__ = ["check_mask", "mask_value"]
