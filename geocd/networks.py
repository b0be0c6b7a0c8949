"""The two networks: D-CPG (change-probability generator) and D-FE (feature extractor).

Modules that know tensors only, NCHW float32, any band count and any height and width from 1 pixel.

D-CPG: :class:`ResidualGenerator` as published, :class:`LightGenerator` at a fraction of its cost.
D-FE: :class:`Vgg16Features` with torchvision's parameter names, :class:`CompactFeatures` of our own.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geocd.errors import WeightsError
from geocd.sources import is_file

EMBEDDED = "compact.safetensors"
IMAGENET_VGG16 = "https://download.pytorch.org/models/vgg16-397923af.pth"


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
    training statistics are those of the very chip, and the probability of a place would depend on what
    else the tile holds. Scaled residuals keep the depth trainable instead.

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
            nn.Conv2d(bands if place == 0 else into, out, 3, stride=stride, padding=1)
            for place, (into, out, stride) in enumerate(self.LAYERS)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, bands, H, W) to features at strides 2, 4, 8: 24, 32 and 48 channels."""
        taps = []
        for place, layer in enumerate(self.layers):
            x = F.relu(layer(x))
            if place % 2:
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
            F.relu(fuse(torch.cat([(one - two).abs(), one, two], dim=1)))
            for fuse, one, two in zip(self.fuse, features1, features2, strict=True)
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


def fit_bands(weight: Tensor, bands: int) -> Tensor:
    """Carry a first layer over to another number of bands, keeping the scale of what it gives.

    Parameters
    ----------
    weight : Tensor, (out, in, height, width)
    bands : int

    Returns
    -------
    Tensor, (out, bands, height, width)
        The weight itself when ``bands`` is its own; else its mean over bands, repeated and scaled by
        in / bands: a grey image then gives the same features through any number of bands.
    """
    own = weight.shape[1]
    if bands == own:
        return weight
    return weight.mean(dim=1, keepdim=True).repeat(1, bands, 1, 1) * (own / bands)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Kaiming-normal weights and zero biases for every convolution, from one seeded generator.

    The modules' own initialisation takes the global random state, which depends on what ran before.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            fan_in = part.weight[0].numel()
            with torch.no_grad():
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator) * (2 / fan_in) ** 0.5)
                if part.bias is not None:
                    part.bias.zero_()


def embedded_weights() -> dict[str, Tensor]:
    """Return the weights of :class:`CompactPair` that come with geocd."""
    from safetensors.torch import load

    return dict(load((importlib.resources.files("geocd") / "data" / EMBEDDED).read_bytes()))


def read_weights(path: str) -> dict[str, Tensor]:
    """Read a weights file: safetensors, or a torch state dict.

    Raises
    ------
    WeightsError
        The file is missing, damaged, or holds anything but named tensors. A torch file is read with
        ``weights_only=True``, so that it cannot run code.
    """
    if not is_file(path):
        raise WeightsError(
            f"{path}: no such weights file. Name a .safetensors file or a torch state dict, or one of "
            "embedded, imagenet, random.",
            path=path,
        )
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader has its own errors for a damaged file
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{path}: not a weights file that can be read safely ({first_line}). Use safetensors, or a "
            "state dict saved by torch.save(model.state_dict(), FILE).",
            path=path,
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(
            f"{path}: holds no state dict (named tensors). Save model.state_dict(), not the model.",
            path=path,
        )
    return dict(state)


def load_weights(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Load named tensors into a network; anything missing, left over or of another shape is an error.

    For :class:`Vgg16Features` the parts of a full VGG16 that it does not have (later blocks, the
    classifier) are left aside, and the first layer is carried over to the network's bands.

    Parameters
    ----------
    module : torch.nn.Module
    state : mapping of str to Tensor
    name : str
        What to call the weights in the message.

    Raises
    ------
    WeightsError
        Names the keys, so that an untrained network never passes for a trained one.
    """
    state = dict(state)
    own = module.state_dict()
    if isinstance(module, Vgg16Features):
        last = max(index for index, _, _ in Vgg16Features.LAYERS)
        for key in list(state):
            part, _, rest = key.partition(".")
            number = rest.partition(".")[0]
            if part == "classifier" or (part == "features" and number.isdigit() and int(number) > last):
                del state[key]
        first = "features.0.weight"
        if first in state and state[first].dim() == 4 and state[first].shape[1] == 3:
            state[first] = fit_bands(state[first], own[first].shape[1])
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    ]
    problems = []
    if missing:
        problems.append(f"missing: {_some(missing)}")
    if unexpected:
        problems.append(f"unexpected: {_some(unexpected)}")
    if shapes:
        problems.append(f"other shape: {_some(sorted(shapes))}")
    if problems:
        raise WeightsError(
            f"{name}: does not fit {type(module).__name__} ({'; '.join(problems)}). Choose weights made "
            "for this network, or another --preset.",
            missing=missing,
            unexpected=unexpected,
            shapes=shapes,
        )
    if not all(torch.isfinite(value).all() for value in state.values()):
        raise WeightsError(f"{name}: holds values that are not finite; get the file again.")
    module.load_state_dict(state)


def _some(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def fetch_imagenet() -> dict[str, Tensor]:
    """Fetch torchvision's VGG16 checkpoint (553 MB) once, check its hash, and return it.

    Raises
    ------
    WeightsError
        The address cannot be reached, or the file's hash is wrong.
    """
    try:
        return dict(
            torch.hub.load_state_dict_from_url(
                IMAGENET_VGG16,
                map_location="cpu",
                progress=False,
                check_hash=True,
                weights_only=True,
            )
        )
    except Exception as error:  # urllib, socket, hash: each its own class
        raise WeightsError(
            f"the VGG16 weights cannot be fetched from {IMAGENET_VGG16} ({error}). Fetch the file on "
            "another machine and pass --weights FILE, or say --weights random to start untrained.",
            url=IMAGENET_VGG16,
        ) from error
