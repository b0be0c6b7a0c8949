"""The networks of the preset ``reference``: D-CPG (change-probability generator), D-FE (feature extractor).

Modules of tensors only, NCHW float32, with any band count and any height and width from 1 pixel.

D-CPG: :class:`ResidualGenerator`. D-FE: :class:`Vgg16Features`, with torchvision's parameter names. The
default preset has another D-FE, in :mod:`geocd.method.extractor`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a skip connection, scaled so that 32 of them start near identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same."""
        return x + 0.1 * self.conv2(F.relu(self.conv1(x)))  # type: ignore[no-any-return]


class ResidualGenerator(nn.Module):
    """D-CPG as published: 32 residual blocks of 32 channels at full resolution on ``|x1 - x2|``.

    Departure from the reference implementation: no batch normalisation. With one image in a batch its
    training statistics are those of that chip, and the probability of a pixel would depend on what else the
    tile holds. Scaled residuals keep the depth trainable instead.

    Parameters
    ----------
    bands : int
        Bands of each date.
    width, blocks : int
        Channels and residual blocks.
    """

    #: Pixels around a pixel that its logit depends on, at the published depth: one for each convolution.
    MARGIN = 67

    def __init__(self, bands: int, *, width: int = 32, blocks: int = 32) -> None:
        super().__init__()
        self.head = nn.Conv2d(bands, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.body = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Return the logit of the change probability, (N, C, H, W) twice to (N, 1, H, W)."""
        start = self.head((x1 - x2).abs())  # (N, width, H, W)
        body = start + self.body(self.blocks(start))
        return self.tail(body)  # type: ignore[no-any-return]  # (N, 1, H, W)


class Vgg16Features(nn.Module):
    """D-FE as published: the first three blocks of VGG16, taps at relu1_2, relu2_2 and relu3_3.

    Simonyan & Zisserman, arXiv 1409.1556. Parameter names are torchvision's (``features.0.weight`` ...),
    so its checkpoint loads as it is. The strides are 1, 2 and 4; pooling rounds up, so that an image of
    one pixel still has features at every scale.

    Parameters
    ----------
    bands : int
        Bands of the images. VGG16 has 3: :func:`fit_bands` carries its first layer over to any number.
    """

    #: Convolutions of VGG16 by torchvision's index, (in, out); pooling stands before 5 and 10.
    LAYERS: Sequence[tuple[int, int, int]] = (
        (0, 3, 64),
        (2, 64, 64),
        (5, 64, 128),
        (7, 128, 128),
        (10, 128, 256),
        (12, 256, 256),
        (14, 256, 256),
    )
    POOL_BEFORE = frozenset({5, 10})
    TAP_AFTER = frozenset({2, 7, 14})

    def __init__(self, bands: int = 3) -> None:
        super().__init__()
        self.features = nn.ModuleDict(
            {
                str(index): nn.Conv2d(bands if index == 0 else into, out, 3, padding=1)
                for index, into, out in self.LAYERS
            }
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, bands, H, W) to features at strides 1, 2, 4: 64, 128 and 256 channels."""
        taps = []
        for index, _, _ in self.LAYERS:
            if index in self.POOL_BEFORE:
                x = F.max_pool2d(x, 2, ceil_mode=True)
            x = F.relu(self.features[str(index)](x))
            if index in self.TAP_AFTER:
                taps.append(x)
        return taps


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Set Kaiming-normal weights and zero biases in every convolution, from one seeded generator.

    The modules' own initialisation takes the global random state, which depends on what ran before.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            fan_in = part.weight[0].numel()
            with torch.no_grad():
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator) * (2 / fan_in) ** 0.5)
                if part.bias is not None:
                    part.bias.zero_()
