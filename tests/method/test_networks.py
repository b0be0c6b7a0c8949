"""Networks: any bands, any size, the margins they claim."""

from __future__ import annotations

import pytest
import torch

from geocd.method.networks import ResidualGenerator, Vgg16Features, initialise

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


def test_the_margin_of_the_published_generator_covers_what_a_pixel_depends_on() -> None:
    network = ResidualGenerator(1, width=2)
    initialise(network, torch.Generator().manual_seed(0))
    x = torch.randn(1, 1, 151, 151, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(network.double()(x, -x)[0, 0, 75, 75], x)
    touched = grad[0, 0].nonzero()
    assert int((touched - 75).abs().max()) == ResidualGenerator.MARGIN
