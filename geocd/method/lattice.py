"""Windows over stacks of bands, at every pixel or on a lattice of every few pixels of the scene.

A wide window hardly changes from one pixel to the next: on a lattice it takes a fraction of the time. Values
there are exact, and bilinear between. The lattice belongs to the scene, so tiles agree where they overlap.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from geocd.method.filters import Kernels, depthwise, gaussian_kernel, mirrored, radius, slope_kernel


@dataclasses.dataclass(frozen=True)
class Lattice:
    """Every ``stride``-th row and column of the scene, as far as a chip goes, and the next one beyond it.

    Attributes
    ----------
    origin : tuple of int
        Row and column of the chip's first pixel in the scene.
    shape : tuple of int
        Height and width of the chip.
    stride : int
    """

    origin: tuple[int, int]
    shape: tuple[int, int]
    stride: int

    @property
    def offset(self) -> tuple[int, int]:
        """Pixels from the first point to the first pixel of the chip, down and to the right."""
        top, left = (start % self.stride for start in self.origin)
        return top, left

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of points."""
        rows, cols = (
            -(-(before + length - 1) // self.stride) + 1
            for before, length in zip(self.offset, self.shape, strict=True)
        )
        return rows, cols

    def on(self, finer: Lattice, values: Tensor) -> Tensor:
        """Return maps of points, ``(bands, rows, cols)``, at the points of a finer lattice: bilinearly."""
        factor = self.stride // finer.stride
        if factor == 1:
            return values
        size = [(count - 1) * factor + 1 for count in self.size]
        full = F.interpolate(values[None], size=size, mode="bilinear", align_corners=True)[0]
        (top, left), (rows, cols) = self._within(finer), finer.size
        return full[:, top : top + rows, left : left + cols]

    def at_pixels(self, values: Tensor) -> Tensor:
        """Return a map of points, ``(rows, cols)``, at every pixel, ``(height, width)``: bilinearly."""
        return self.on(dataclasses.replace(self, stride=1), values[None])[0].contiguous()

    def _within(self, finer: Lattice) -> tuple[int, int]:
        """Return the first point of a finer lattice, in its points from the first of this one."""
        top, left = (
            (own - other) // finer.stride for own, other in zip(self.offset, finer.offset, strict=True)
        )
        return top, left


@dataclasses.dataclass(frozen=True)
class Stack:
    """Bands of a chip side by side at each pixel, mirrored at its borders, for windows over all of them.

    Attributes
    ----------
    values : Tensor, (height + 2 reach, width + 2 reach, bands), float32
    reach : int
    origin, shape : tuple of int
        As of the :class:`Lattice`.
    """

    values: Tensor
    reach: int
    origin: tuple[int, int]
    shape: tuple[int, int]

    @classmethod
    def of(
        cls,
        dates: Sequence[Tensor],
        origin: tuple[int, int],
        widest: float,
        stride: int = 1,
        rows: slice = slice(None),
    ) -> Stack:
        """Stack ``(bands, height, width)`` of dates for windows up to ``widest``, up to every ``stride``.

        Of some ``rows`` only, with their surroundings, it takes less memory.
        """
        reach, (height, width) = radius(widest) + stride - 1, dates[0].shape[1:]
        begin, end, _ = rows.indices(height)
        around = mirrored(height, reach, dates[0].device)[begin : end + 2 * reach]
        values = torch.cat([bands.index_select(1, around) for bands in dates]).permute(1, 2, 0).contiguous()
        values = values.index_select(1, mirrored(width, reach, values.device))
        return cls(values, reach, (origin[0] + begin, origin[1]), (end - begin, width))

    def squared(self) -> Stack:
        """Return the squares."""
        return dataclasses.replace(self, values=self.values * self.values)

    def lattice(self, stride: int) -> Lattice:
        """Return the lattice of a stride over the chip."""
        return Lattice(self.origin, self.shape, stride)

    def gaussian(self, sigma: float, stride: int = 1) -> Tensor:
        """Return the Gaussian means on a lattice, ``(rows, cols, bands)``; see :func:`filters.gaussian`."""
        kernels = (gaussian_kernel(sigma),)
        return self._windows(kernels, kernels, stride)

    def gradient(self, sigma: float, stride: int = 1) -> Tensor:
        """Return the derivatives on a lattice, ``(rows, cols, 2 bands)``: along columns and rows."""
        plain, slope = gaussian_kernel(sigma), slope_kernel(sigma)
        return self._windows((plain, slope), (slope, plain), stride)

    def deviation(self, sigma: float, stride: int, squared: Stack) -> Tensor:
        """Return the local deviations on a lattice, ``(rows, cols, bands)``, 0.01 or more."""
        mean = self.gaussian(sigma, stride)
        variance = squared.gaussian(sigma, stride) - mean * mean
        return variance.clamp_(min=1e-4).sqrt_()

    def _windows(self, rows: Kernels, cols: Kernels, stride: int) -> Tensor:
        """Return several separable windows of each band on a lattice, ``(rows, cols, bands * windows)``."""
        lattice, bands, radius = self.lattice(stride), self.values.shape[2], len(rows[0]) // 2
        (begin_row, length_row), (begin_col, length_col) = (
            (self.reach - before - radius, (count - 1) * stride + 2 * radius + 1)
            for before, count in zip(lattice.offset, lattice.size, strict=True)
        )
        x = self.values.narrow(0, begin_row, length_row)[None].permute(0, 3, 1, 2)
        x = F.conv2d(x, depthwise(rows, bands, -2, x.device), stride=(stride, 1), groups=bands)
        x = x.narrow(3, begin_col, length_col).contiguous(memory_format=torch.channels_last)
        x = F.conv2d(x, depthwise(cols, bands, -1, x.device), stride=(1, stride), groups=x.shape[1])
        return x[0].permute(1, 2, 0)


__all__ = ["Lattice", "Stack"]
