"""Windows over images: Gaussian means, local standard deviations, smallest and greatest neighbours.

On any device, and the same on all of them up to the last digits of a float32. Each value is made by the same
operations in the same order wherever in an image it lies, so that two tiles agree where they overlap.
Images are mirrored at their borders.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

#: Gaussian windows are cut at so many deviations.
TRUNCATE = 3.0


def radius(sigma: float) -> int:
    """Return how many pixels on each side :func:`gaussian` takes in."""
    return int(TRUNCATE * sigma + 0.5) if sigma > 0 else 0


def gaussian(values: Tensor, sigma: float, valid: Tensor | None = None) -> Tensor:
    """Return the Gaussian mean over the last two axes, cut at three standard deviations.

    Parameters
    ----------
    values : Tensor, (height, width) or (bands, height, width), float32
    sigma : float
        Standard deviation, pixels; 0 for no window.
    valid : Tensor, (height, width), bool, optional
        With it, a normalised convolution: pixels that are not valid have no weight, and get the weighted mean
        of valid neighbours. Leave it out where all pixels are valid.

    Returns
    -------
    Tensor
        Like ``values``.
    """
    if sigma <= 0:
        return values
    kernel = _kernel(sigma)
    if valid is None:
        return _separable(values, kernel, kernel)
    total = _separable(valid.to(values.dtype), kernel, kernel).clamp_(min=1e-3)
    return _separable(torch.where(valid, values, 0.0), kernel, kernel).div_(total)


def gradient(values: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Return the derivatives of Gaussian along columns and rows, ``(..., height, width)`` each."""
    plain, slope = _kernel(sigma), _slope_kernel(sigma)
    return _separable(values, plain, slope), _separable(values, slope, plain)


def local_deviation(values: Tensor, sigma: float) -> Tensor:
    """Return the standard deviation under a Gaussian window, band by band; 0.01 or more."""
    mean = gaussian(values, sigma)
    variance = gaussian(values * values, sigma) - mean * mean
    return variance.clamp_(min=1e-4).sqrt_()


def least(values: Tensor) -> Tensor:
    """Return the smallest of the 3 x 3 values around each pixel."""
    return _neighbours(values, torch.minimum)


def greatest(values: Tensor) -> Tensor:
    """Return the greatest of the 3 x 3 values around each pixel."""
    return _neighbours(values, torch.maximum)


@functools.lru_cache(maxsize=64)
def _kernel(sigma: float) -> tuple[float, ...]:
    reach = radius(sigma)
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-reach, reach + 1)]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


@functools.lru_cache(maxsize=64)
def _slope_kernel(sigma: float) -> tuple[float, ...]:
    reach = radius(sigma)
    return tuple(i / sigma**2 * weight for i, weight in enumerate(_kernel(sigma), -reach))


def _separable(values: Tensor, rows: tuple[float, ...], cols: tuple[float, ...]) -> Tensor:
    # one band fits into the processor's cache, all of them do not
    if values.ndim == 3 and values.device.type == "cpu":
        result = torch.empty_like(values)
        for band, out in zip(values, result, strict=True):
            out.copy_(_separable(band, rows, cols))
        return result
    return _along(_along(values, rows, -2), cols, -1)


def _along(values: Tensor, kernel: tuple[float, ...], axis: int) -> Tensor:
    """Return the sum of shifted images: conv2d is slower on one channel, and in TF32 on some devices."""
    length, reach = values.shape[axis], len(kernel) // 2
    wide = values.index_select(axis, _mirrored(length, reach, values.device))
    result = wide.narrow(axis, reach, length) * kernel[reach]
    for step in range(1, reach + 1):
        for offset in (reach - step, reach + step):
            if weight := kernel[offset]:
                result.add_(wide.narrow(axis, offset, length), alpha=weight)
    return result


def _mirrored(length: int, reach: int, device: torch.device) -> Tensor:
    """Return indexes of a line and of ``reach`` pixels on both sides: ``c b a | a b c | c b a``."""
    index = torch.arange(-reach, length + reach, device=device) % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)


def _neighbours(values: Tensor, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    for axis in (-2, -1):
        length = values.shape[axis]
        wide = values.index_select(axis, _mirrored(length, 1, values.device))
        previous, following = wide.narrow(axis, 0, length), wide.narrow(axis, 2, length)
        values = extreme(extreme(previous, following), values)
    return values
