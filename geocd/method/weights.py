"""Weights of the networks: embedded, from a file, or downloaded."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from geocd.errors import WeightsError
from geocd.method.extractor import Lite0Features
from geocd.method.networks import Vgg16Features
from geocd.quantities import enumerated
from geocd.raster.sources import is_file

EMBEDDED = "lite0.safetensors"
#: Names of tensors that a message lists.
MOST_KEYS = 6
IMAGENET_VGG16 = "https://download.pytorch.org/models/vgg16-397923af.pth"


def fit_bands(weight: Tensor, bands: int) -> Tensor:
    """Adapt a first layer to another number of bands, keeping the scale of its output.

    Parameters
    ----------
    weight : Tensor, (out, in, height, width)
    bands : int

    Returns
    -------
    Tensor, (out, bands, height, width)
        The weight itself where it has that number; else its mean over bands, repeated and scaled by
        in / bands: a grey image then gives the same features through any number of bands.
    """
    own = weight.shape[1]
    if bands == own:
        return weight
    return weight.mean(dim=1, keepdim=True).repeat(1, bands, 1, 1) * (own / bands)


def embedded_weights() -> dict[str, Tensor]:
    """Return the weights of :class:`~geocd.method.extractor.Lite0Features` that come with geocd."""
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
            "embedded, imagenet, random, none.",
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
    """Load named tensors into a network; a missing or unexpected tensor or another shape is an error.

    Of a full VGG16 or EfficientNet-Lite0, the parts that :class:`Vgg16Features` and :class:`Lite0Features` do
    not have (later blocks, the classifier) are ignored; VGG16's first layer is adapted to the bands.

    Parameters
    ----------
    module : torch.nn.Module
    state : mapping of str to Tensor
    name : str
        Name of the weights in error messages.

    Raises
    ------
    WeightsError
        The weights do not fit. The message names the keys, so that an untrained network never passes for a
        trained one.
    """
    state = dict(state)
    own = module.state_dict()
    if isinstance(module, Vgg16Features):
        state = _up_to(state, "features", max(index for index, _, _ in Vgg16Features.LAYERS), ["classifier"])
        first = "features.0.weight"
        if first in state and state[first].dim() == 4 and state[first].shape[1] == 3:
            state[first] = fit_bands(state[first], own[first].shape[1])
    if isinstance(module, Lite0Features):
        state = _up_to(state, "_blocks", len(Lite0Features.BLOCKS) - 1, ["_conv_head", "_bn1", "_fc"])
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    ]
    problems = []
    if missing:
        problems.append(f"missing: {enumerated(missing, MOST_KEYS)}")
    if unexpected:
        problems.append(f"unexpected: {enumerated(unexpected, MOST_KEYS)}")
    if shapes:
        problems.append(f"other shape: {enumerated(sorted(shapes), MOST_KEYS)}")
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


def _up_to(state: Mapping[str, Tensor], numbered: str, last: int, after: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors without the parts ``numbered.N`` of N above ``last``, and those ``after`` them."""

    def needed(key: str) -> bool:
        part, _, rest = key.partition(".")
        number = rest.partition(".")[0]
        return part not in after and not (part == numbered and number.isdigit() and int(number) > last)

    return {key: value for key, value in state.items() if needed(key)}


def fetch_imagenet() -> dict[str, Tensor]:
    """Download torchvision's VGG16 checkpoint (553 MB) once, check its hash, and return it.

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
