"""Networks: any bands, any size, the margins they claim."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geocd.method.networks import CompactFeatures, CompactPair, ResidualGenerator, Vgg16Features, initialise

SIZES = [(1, 1), (5, 5), (7, 64), (33, 18)]
BANDS = [1, 3, 4, 13]


@pytest.mark.parametrize("bands", BANDS)
@pytest.mark.parametrize("size", SIZES)
def test_residual_generator_takes_any_pair(bands: int, size: tuple[int, int]) -> None:
    network = ResidualGenerator(bands, blocks=2)
    logit = network(torch.randn(1, bands, *size), torch.randn(1, bands, *size))
    assert logit.shape == (1, 1, *size)
    assert torch.isfinite(logit).all()


def test_residual_generator_has_the_published_size() -> None:
    """604 706 parameters as published; ours has no batch normalisation and one output channel."""
    count = sum(p.numel() for p in ResidualGenerator(3).parameters())
    assert count == pytest.approx(604_706, rel=0.01)


def test_no_difference_decides_for_no_change_at_the_start() -> None:
    network = ResidualGenerator(3, blocks=4)
    initialise(network, torch.Generator().manual_seed(0))
    x = torch.randn(1, 3, 8, 8)
    assert (network(x, x) <= 0).all()


@pytest.mark.parametrize("bands", BANDS)
@pytest.mark.parametrize("size", SIZES)
def test_vgg_features_take_any_image(bands: int, size: tuple[int, int]) -> None:
    features = Vgg16Features(bands)(torch.randn(1, bands, *size))
    assert [f.shape[1] for f in features] == [64, 128, 256]
    half = (-(-size[0] // 2), -(-size[1] // 2))
    quarter = (-(-half[0] // 2), -(-half[1] // 2))
    assert [tuple(f.shape[2:]) for f in features] == [size, half, quarter]


def test_initialisation_depends_on_its_seed_alone() -> None:
    networks = []
    for disturb in (3, 4):
        torch.manual_seed(disturb)
        network = Vgg16Features(3)
        initialise(network, torch.Generator().manual_seed(5))
        networks.append(network.state_dict())
    assert all(torch.equal(networks[0][key], networks[1][key]) for key in networks[0])


def multiply_adds(network: nn.Module, *inputs: torch.Tensor) -> float:
    """Multiply-adds per pixel of the input, counted at every convolution while it runs."""
    total = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += output.shape[-2] * output.shape[-1] * module.weight.numel() * output.shape[0]

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    network(*inputs)
    return total / (inputs[0].shape[-2] * inputs[0].shape[-1])


def test_the_light_networks_cost_a_fiftieth_of_the_published_generator() -> None:
    x = torch.zeros(1, 4, 64, 64)
    light = multiply_adds(CompactPair(), x, x)
    heavy = multiply_adds(ResidualGenerator(4), x, x)
    assert heavy / light >= 50


@pytest.mark.parametrize("bands", [1, 3, 4, 13])
@pytest.mark.parametrize("size", [(1, 1), (5, 5), (1, 70), (33, 18)])
def test_compact_features_take_any_image(bands: int, size: tuple[int, int]) -> None:
    features = CompactFeatures(bands)(torch.randn(1, bands, *size))
    assert [f.shape[1] for f in features] == [24, 32, 48]


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (1, 70), (33, 18)])
def test_the_light_pair_takes_any_size(size: tuple[int, int]) -> None:
    x = torch.randn(1, 4, *size)
    assert CompactPair()(x, x).shape == (1, 1, *size)


def test_the_margin_covers_what_a_pixel_depends_on() -> None:
    network = CompactPair()
    initialise(network, torch.Generator().manual_seed(0))
    x = torch.randn(1, 4, 160, 160, requires_grad=True)
    reach = 0
    for row, col in ((80, 80), (83, 86), (87, 81)):
        (grad,) = torch.autograd.grad(network(x, -x)[0, 0, row, col], x)
        touched = grad.abs().amax(dim=(0, 1)).nonzero()
        reach = max(reach, int((touched - torch.tensor([row, col])).abs().max()))
    assert 20 < reach <= CompactPair.MARGIN


def test_the_margin_of_the_published_generator_covers_what_a_pixel_depends_on() -> None:
    network = ResidualGenerator(1, width=2)
    initialise(network, torch.Generator().manual_seed(0))
    x = torch.randn(1, 1, 151, 151, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(network.double()(x, -x)[0, 0, 75, 75], x)
    touched = grad[0, 0].nonzero()
    assert int((touched - 75).abs().max()) == ResidualGenerator.MARGIN
