"""``--backbone FILE``: another feature extractor, of the weights of VGG16 or of one's own Python file."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from geocd.errors import WeightsError
from geocd.method.extractor import Extractor, Level
from geocd.method.networks import Vgg16Features
from geocd.method.weights import load_weights, read_weights
from geocd.raster.sources import is_file

#: The function of a Python file that makes the extractor.
FUNCTION = "backbone"
#: The default has a distance for each of so many levels.
MOST_LEVELS = 2


class Vgg16Backbone(Extractor):
    """VGG16 up to its third block: relu2_2, 128 channels at stride 2, and relu3_3, 256 at stride 4.

    Simonyan and Zisserman, arXiv 1409.1556; torchvision's checkpoint loads as it is.
    """

    LEVELS = (Level(stride=2, reach=9), Level(stride=4, reach=25))

    def __init__(self) -> None:
        super().__init__()
        self.network = Vgg16Features(3)

    def forward(self, x: Tensor, depth: int) -> list[Tensor]:
        """(N, 3, H, W) to (N, 128, H/2, W/2) and, with ``depth`` 2, (N, 256, H/4, W/4)."""
        return self.network(x)[1 : 1 + depth]  # type: ignore[no-any-return]


class FileBackbone(Extractor):
    """The extractor that a Python file makes; another process makes its own from the same file.

    Parameters
    ----------
    path : str
        Of the file, which is run.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.network = _made_by(path)
        self.LEVELS = _levels(self.network, path)

    def forward(self, x: Tensor, depth: int) -> list[Tensor]:
        """Return the maps of the first ``depth`` levels."""
        return list(self.network(x, depth))

    def __reduce__(self) -> tuple[Callable[[str], Extractor], tuple[str]]:
        return load_backbone, (self.path,)


def load_backbone(path: str) -> Extractor:
    """Return the feature extractor that ``--backbone`` names, frozen.

    Parameters
    ----------
    path : str
        Weights of VGG16 (safetensors, or a torch state dict with torchvision's names); or a Python file,
        which is run, with a function ``backbone()`` that returns what
        :class:`~geocd.method.extractor.Extractor` describes: a module with ``LEVELS``, one or two, from the
        finest to the coarsest, and ``forward(x, depth)``.

    Raises
    ------
    WeightsError
        There is no such file, it cannot be read or run, or what it makes does not keep to the interface: the
        message says in what.
    """
    if not is_file(path):
        raise WeightsError(
            f"{path}: no such file. --backbone takes the weights of VGG16, or a Python file with a function "
            f"{FUNCTION}().",
            path=path,
        )
    if path.endswith(".py"):
        network: Extractor = FileBackbone(path)
        network.eval().requires_grad_(False)
        _check(network, path)
        return network
    network = Vgg16Backbone()
    load_weights(network.network, read_weights(path), path)
    return network.eval().requires_grad_(False)


def _made_by(path: str) -> nn.Module:
    """Run a Python file and return what its function makes."""
    spec = importlib.util.spec_from_file_location(f"geocd_backbone_{Path(path).stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        network = getattr(module, FUNCTION)()
    except Exception as error:  # whatever the file raises
        raise WeightsError(
            f"{path}: its {FUNCTION}() does not run ({type(error).__name__}: {error}). It must be a function "
            "without arguments that returns a torch module.",
            path=path,
        ) from error
    if not isinstance(network, nn.Module):
        raise WeightsError(
            f"{path}: {FUNCTION}() returns {type(network).__name__}, not a torch.nn.Module.", path=path
        )
    return network


def _levels(network: nn.Module, path: str) -> tuple[Level, ...]:
    """Return the levels of a network, checked."""
    levels = getattr(network, "LEVELS", None)
    try:
        listed = tuple(Level(int(level.stride), int(level.reach)) for level in levels or ())
    except (AttributeError, TypeError, ValueError):
        listed = ()
    strides = [level.stride for level in listed]
    if (
        not 1 <= len(listed) <= MOST_LEVELS
        or strides != sorted(strides)
        or any(stride < 1 or stride & (stride - 1) for stride in strides)
    ):
        raise WeightsError(
            f"{path}: LEVELS is {levels!r}. It must list one or two geocd.method.extractor.Level(stride, "
            "reach), the finest first, with strides that are powers of 2.",
            path=path,
        )
    return listed


@torch.no_grad()
def _check(network: Extractor, path: str) -> None:
    """Raise :class:`WeightsError` unless shapes, values and reach of a network are as its levels say."""
    coarsest = network.LEVELS[-1].stride
    reach = max(level.reach for level in network.LEVELS)
    side = -(-2 * (reach + coarsest) // coarsest) * coarsest
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    elsewhere = image.clone()
    # what lies further away than the reach from the middle must not matter there
    middle = side // 2
    far = torch.ones(side, dtype=torch.bool)
    far[middle - reach : middle + reach + 1] = False
    elsewhere[:, :, far] += 3
    elsewhere[:, :, :, far] += 3
    depth = len(network.LEVELS)
    try:
        maps, others = network(image, depth), network(elsewhere, depth)
    except Exception as error:  # whatever the network raises
        raise WeightsError(
            f"{path}: forward(x, {depth}) fails on x of {tuple(image.shape)} ({type(error).__name__}: "
            f"{error}).",
            path=path,
        ) from error
    for level, values, other in zip(network.LEVELS, maps, others, strict=False):
        expected = (side // level.stride,) * 2
        if not isinstance(values, Tensor) or values.dim() != 4 or values.shape[2:] != expected:
            shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise WeightsError(
                f"{path}: forward(x, {depth}) returns {shape} for stride {level.stride} and x of "
                f"{tuple(image.shape)}. It must be (1, channels, {expected[0]}, {expected[1]}).",
                path=path,
            )
        place = middle // level.stride
        ours, theirs = values[0, :, place, place], other[0, :, place, place]
        if not torch.isfinite(values).all() or not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4):
            raise WeightsError(
                f"{path}: features of stride {level.stride} depend on pixels further away than the reach of "
                f"{level.reach} that LEVELS says, or are not finite. Tiles would not fit together: state a "
                "larger reach; networks with statistics over the image, or global attention, cannot be used.",
                path=path,
            )
    if len(maps) != depth:
        raise WeightsError(f"{path}: forward(x, {depth}) returns {len(maps)} maps, not {depth}.", path=path)


__all__ = ["FUNCTION", "FileBackbone", "Vgg16Backbone", "load_backbone"]
