"""Windows over maps: Gaussian means, smallest and greatest neighbours.

On any device, and the same on all of them up to the last digits of a float32. Each value is made by the same
operations in the same order wherever in an image it lies, so that two tiles agree where they overlap.
Images are mirrored at their borders.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from geocd.method import devices

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
    kernel = gaussian_kernel(sigma)
    if valid is None:
        return _separable(values, kernel, kernel)
    total = _separable(valid.to(values.dtype), kernel, kernel).clamp_(min=1e-3)
    return _separable(torch.where(valid, values, 0.0), kernel, kernel).div_(total)


def least(values: Tensor) -> Tensor:
    """Return the smallest of the 3 x 3 values around each pixel."""
    return _neighbours(values, torch.minimum)


def greatest(values: Tensor) -> Tensor:
    """Return the greatest of the 3 x 3 values around each pixel."""
    return _neighbours(values, torch.maximum)


@functools.lru_cache(maxsize=64)
def gaussian_kernel(sigma: float) -> tuple[float, ...]:
    """Return the weights of :func:`gaussian` along an axis."""
    reach = radius(sigma)
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-reach, reach + 1)]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


@functools.lru_cache(maxsize=64)
def slope_kernel(sigma: float) -> tuple[float, ...]:
    """Return the weights of the derivative of Gaussian along an axis."""
    reach = radius(sigma)
    return tuple(i / sigma**2 * weight for i, weight in enumerate(gaussian_kernel(sigma), -reach))


def _separable(values: Tensor, rows: tuple[float, ...], cols: tuple[float, ...]) -> Tensor:
    if not devices.in_pieces(values.device):
        return _convolved(_convolved(values, rows, -2), cols, -1)
    if values.ndim == 3:  # one band fits into the processor's cache, all of them do not
        result = torch.empty_like(values)
        for band, out in zip(values, result, strict=True):
            out.copy_(_separable(band, rows, cols))
        return result
    return _along(_along(values, rows, -2), cols, -1)


def _along(values: Tensor, kernel: tuple[float, ...], axis: int) -> Tensor:
    """Return the sum of shifted images: on a CPU conv2d is slower for one channel."""
    length, reach = values.shape[axis], len(kernel) // 2
    wide = values.index_select(axis, mirrored(length, reach, values.device))
    result = wide.narrow(axis, reach, length) * kernel[reach]
    for step in range(1, reach + 1):
        for offset in (reach - step, reach + step):
            if weight := kernel[offset]:
                result.add_(wide.narrow(axis, offset, length), alpha=weight)
    return result


def _convolved(values: Tensor, kernel: tuple[float, ...], axis: int) -> Tensor:
    """Return the same as :func:`_along`, in two operations."""
    wide = values.index_select(axis, mirrored(values.shape[axis], len(kernel) // 2, values.device))
    weights = depthwise((kernel,), 1, axis, values.device)
    return F.conv2d(wide.view(-1, 1, *wide.shape[-2:]), weights).view(values.shape)


Kernels = tuple[tuple[float, ...], ...]


@functools.lru_cache(maxsize=64)
def depthwise(kernels: Kernels, bands: int, axis: int, device: torch.device) -> Tensor:
    """Return kernels along an axis, -2 or -1, as the weights of a depthwise convolution on a device."""
    weights = torch.tensor(kernels, dtype=torch.float32).repeat(bands, 1)[:, None]
    return weights.unsqueeze(-1 if axis == -2 else -2).to(device)


@functools.lru_cache(maxsize=64)
def mirrored(length: int, reach: int, device: torch.device) -> Tensor:
    """Return indexes of a line and of ``reach`` pixels on both sides: ``c b a | a b c | c b a``."""
    index = torch.arange(-reach, length + reach, device=device) % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)


def _neighbours(values: Tensor, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    for axis in (-2, -1):
        length = values.shape[axis]
        wide = values.index_select(axis, mirrored(length, 1, values.device))
        previous, following = wide.narrow(axis, 0, length), wide.narrow(axis, 2, length)
        values = extreme(extreme(previous, following), values)
    return values
