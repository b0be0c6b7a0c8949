"""The two networks: D-CPG (change-probability generator) and D-FE (feature extractor).

Modules of tensors only, NCHW float32, with any band count and any height and width from 1 pixel.

D-CPG: :class:`ResidualGenerator` as published, :class:`LightGenerator` at a fraction of its cost.
D-FE: :class:`Vgg16Features` with torchvision's parameter names, :class:`CompactFeatures` of our own.
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


class CompactFeatures(nn.Module):
    """D-FE of our own: six 3x3 convolutions, taps at strides 2, 4 and 8 with 24, 32 and 48 channels.

    About 2 600 multiply-adds per pixel of one image, a seventieth of :class:`Vgg16Features`. Heights and
    widths that are no multiple of 8 are fine; the taps round up.

    Parameters
    ----------
    bands : int
        Bands of the images.
    """

    #: Convolutions, (in, out, stride); the second of each pair is a tap.
    LAYERS: Sequence[tuple[int, int, int]] = (
        (4, 16, 2),
        (16, 24, 1),
        (24, 32, 2),
        (32, 32, 1),
        (32, 48, 2),
        (48, 48, 1),
    )

    def __init__(self, bands: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(bands if index == 0 else into, out, 3, stride=stride, padding=1)
            for index, (into, out, stride) in enumerate(self.LAYERS)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, bands, H, W) to features at strides 2, 4, 8: 24, 32 and 48 channels."""
        taps = []
        for index, layer in enumerate(self.layers):
            x = F.relu(layer(x))
            if index % 2:
                taps.append(x)
        return taps


class LightGenerator(nn.Module):
    """D-CPG as an encoder-decoder on the features of :class:`CompactFeatures`: the decoder's half.

    The encoder is the D-FE itself, shared by both dates. With it, 10 314 multiply-adds per pixel of
    the pair, a 58th of :class:`ResidualGenerator`; the work is done at strides 2 to 8.
    """

    WIDTHS = (24, 32, 48)

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = self.WIDTHS
        self.fuse = nn.ModuleList(nn.Conv2d(3 * width, width, 1) for width in self.WIDTHS)
        self.up_middle = nn.Conv2d(coarse + middle, middle, 3, padding=1)
        self.up_fine = nn.Conv2d(middle + fine, fine, 3, padding=1)
        self.out = nn.Conv2d(fine, 1, 1)

    def forward(self, features1: Sequence[Tensor], features2: Sequence[Tensor]) -> Tensor:
        """Return the logit of the change probability at stride 2, (N, 1, H/2, W/2)."""
        fine, middle, coarse = (
            F.relu(fuse(torch.cat([(before - after).abs(), before, after], dim=1)))
            for fuse, before, after in zip(self.fuse, features1, features2, strict=True)
        )
        up = F.interpolate(coarse, size=middle.shape[-2:])
        up = F.relu(self.up_middle(torch.cat([middle, up], dim=1)))  # (N, 32, H/4, W/4)
        up = F.interpolate(up, size=fine.shape[-2:])
        up = F.relu(self.up_fine(torch.cat([fine, up], dim=1)))  # (N, 24, H/2, W/2)
        return self.out(up)  # type: ignore[no-any-return]


class CompactPair(nn.Module):
    """The two networks of the default preset as one: D-FE on each date, D-CPG on both.

    It sees four bands: red, green, blue and near infrared, z-scored; zeros where a pair has fewer. What
    the other bands say enters through the closed-form distances.
    """

    BANDS = 4
    #: Pixels around a pixel that its logit depends on, with what the strides may shift.
    MARGIN = 40
    STRIDE = 8

    def __init__(self) -> None:
        super().__init__()
        self.extractor = CompactFeatures(self.BANDS)
        self.generator = LightGenerator()

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Return the logit of the change probability, (N, 4, H, W) twice to (N, 1, H, W)."""
        logit = self.generator(self.extractor(x1), self.extractor(x2))
        full = F.interpolate(logit, scale_factor=2, mode="bilinear", align_corners=False)
        return full[..., : x1.shape[-2], : x1.shape[-1]]


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
