"""D-FE of the default preset: what a feature depends on, and that the weights are those of the package."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from simulated import extractor

from geocd.method.extractor import Convolution, Lite0Features, Stage
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
    stem = F.relu6(network._bn0(network._conv_stem(F.pad(x, (0, 1, 0, 1)))))
    middle = F.relu6(block._bn1(block._depthwise_conv(F.pad(stem, (1, 1, 1, 1)))))
    expected = block._bn2(block._project_conv(middle))
    torch.testing.assert_close(network(x, 1)[0], expected, atol=1e-4, rtol=1e-4)


def test_other_weights_are_folded_anew() -> None:
    network = extractor(0)
    x = torch.randn(1, 3, 32, 32)
    first = network(x, 1)[0]
    network.load_state_dict(extractor(1).state_dict())
    assert torch.equal(network(x, 1)[0], extractor(1)(x, 1)[0])
    assert not torch.equal(network(x, 1)[0], first)


@pytest.mark.parametrize(("kernel", "stride", "before"), [(3, 1, 1), (5, 1, 2), (3, 2, 0), (5, 2, 1)])
def test_strides_are_padded_as_the_weights_were_trained(kernel: int, stride: int, before: int) -> None:
    """As TensorFlow's "same": of an odd number of pixels one more is below and to the right."""
    convolution = torch.nn.Conv2d(1, 1, kernel, stride=stride, bias=False)
    folded = Convolution.of(convolution, torch.nn.BatchNorm2d(1, eps=0).eval())
    x, after = torch.randn(1, 1, 16, 24), kernel - stride - before
    expected = convolution(F.pad(x, [before, after, before, after]))
    torch.testing.assert_close(folded(x), expected)


def test_strips_are_as_the_whole(network: Lite0Features, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 3, 256, 128)
    monkeypatch.setattr(Stage, "BYTES", 10**9)
    whole = network(x, 2)
    monkeypatch.setattr(Stage, "BYTES", 1)
    for values, expected in zip(network(x, 2), whole, strict=True):
        assert torch.equal(values, expected)


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
