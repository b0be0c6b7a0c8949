"""D-FE of the default preset: what a feature depends on, and that the weights are those of the package."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from simulated import extractor

from geocd.method.extractor import Lite0Features, pad_same
from geocd.method.weights import embedded_weights


@pytest.fixture(scope="module")
def network() -> Lite0Features:
    network = Lite0Features()
    network.load_state_dict(embedded_weights())
    return network.eval().requires_grad_(False)


def test_levels_have_their_strides_and_channels(network: Lite0Features) -> None:
    x = torch.randn(1, 3, 64, 96)
    shallow, middle = network(x, 2)
    assert shallow.shape == (1, 16, 32, 48)
    assert middle.shape == (1, 40, 8, 12)
    (alone,) = network(x, 1)
    assert torch.equal(alone, shallow)


def test_folding_normalisation_into_convolutions_changes_nothing(network: Lite0Features) -> None:
    """The first layers, as the modules would compute them one by one."""
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    block = network._blocks[0]
    stem = F.relu6(network._bn0(network._conv_stem(pad_same(x, 3, 2))))
    middle = F.relu6(block._bn1(block._depthwise_conv(pad_same(stem, 3, 1))))
    expected = block._bn2(block._project_conv(middle))
    torch.testing.assert_close(network(x, 1)[0], expected, atol=1e-4, rtol=1e-4)


def test_strides_are_padded_as_the_weights_were_trained() -> None:
    x = torch.ones(1, 1, 4, 4)
    assert pad_same(x, 3, 1).shape == (1, 1, 6, 6)
    padded = pad_same(x, 5, 2)[0, 0]
    assert padded.shape == (7, 7)
    assert padded[0].sum() == 0, "one row above"
    assert padded[-2:].sum() == 0, "two below"
    assert padded[1].sum() == 4


@pytest.mark.parametrize("level", [0, 1])
def test_a_feature_reaches_no_further_than_its_level_says(level: int) -> None:
    """Of random weights, because ReLU6 of trained ones may hide a path; the interpolation is counted too."""
    network, stride = extractor(3).double(), Lite0Features.LEVELS[level].stride
    x = torch.randn(1, 3, 160, 160, dtype=torch.float64, requires_grad=True)
    reach = 0
    for row in range(72, 88):
        full = F.interpolate(network(x, 2)[level], scale_factor=stride, mode="bilinear", align_corners=False)
        (gradient,) = torch.autograd.grad(full[0, :, row, row].sum(), x)
        touched = gradient[0].abs().amax(dim=0).nonzero()
        reach = max(reach, int((touched - row).abs().max()))
    assert reach <= Lite0Features.LEVELS[level].reach
    assert reach > Lite0Features.LEVELS[level].reach - 8


def test_the_lattice_belongs_to_the_scene(network: Lite0Features) -> None:
    """Features of a part that begins at a multiple of the stride are those of the whole."""
    x = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    whole, part = network(x, 2)[1], network(x[..., 64:, 128:], 2)[1]
    torch.testing.assert_close(part[..., 6:, 6:], whole[..., 14:, 22:], atol=1e-4, rtol=1e-4)
