"""Windows over stacks of bands: against scipy's, and the same wherever an image is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geocd.method.lattice import Lattice, Stack

SHAPES = [(40, 60), (1, 1), (1, 30), (30, 1), (2, 3), (7, 5)]


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def on_lattice(origin: tuple[int, int], shape: tuple[int, int], stride: int) -> tuple[slice, slice]:
    """Return the pixels of a chip that lie on the lattice."""
    rows, cols = (slice(-start % stride, length, stride) for start, length in zip(origin, shape, strict=True))
    return rows, cols


def inside(lattice: Lattice, values: torch.Tensor) -> np.ndarray:
    """Return the points of a lattice that are pixels of the chip, ``(bands, rows, cols)``."""
    top, left = (int(before > 0) for before in lattice.offset)
    rows, cols = (
        len(range(-start % lattice.stride, length, lattice.stride))
        for start, length in zip(lattice.origin, lattice.shape, strict=True)
    )
    return values.permute(2, 0, 1)[:, top : top + rows, left : left + cols].numpy()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("origin", [(0, 0), (5, 2), (8, 3)])
@pytest.mark.parametrize(("sigma", "stride"), [(0.7, 1), (1.0, 2), (3.0, 4)])
def test_gaussian_is_exact_on_the_lattice(
    shape: tuple[int, int], origin: tuple[int, int], sigma: float, stride: int
) -> None:
    """Also where the window is larger than the image, which then is mirrored again and again."""
    values = image(3, *shape)
    stack = Stack.of([torch.from_numpy(values)], origin, 3.0, 4)
    expected = ndimage.gaussian_filter(values, (0, sigma, sigma), truncate=3)
    means = stack.gaussian(sigma, stride)
    assert means.shape == (*stack.lattice(stride).size, 3)
    rows, cols = on_lattice(origin, shape, stride)
    assert np.allclose(inside(stack.lattice(stride), means), expected[:, rows, cols], atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_that_of_scipy_but_for_its_sign(shape: tuple[int, int]) -> None:
    values = image(2, *shape)
    slopes = Stack.of([torch.from_numpy(values)], (0, 0), 2.0).gradient(2.0).permute(2, 0, 1)
    for band in (0, 1):
        for slope, order in zip(slopes[2 * band : 2 * band + 2], [(0, 1), (1, 0)], strict=True):
            expected = ndimage.gaussian_filter(values[band], 2.0, order, truncate=3)
            assert np.allclose(slope.abs(), np.abs(expected), atol=2e-6)


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_deviation(sigma: float) -> None:
    def deviation(values: np.ndarray) -> torch.Tensor:
        stack = Stack.of([torch.from_numpy(values)], (0, 0), sigma, 2)
        return stack.deviation(sigma, 2, stack.squared())

    assert deviation(5 + 2 * image(4, 200, 200)).mean().item() == pytest.approx(2, rel=0.1)
    constant = np.full((1, 20, 20), 7, np.float32)
    assert (deviation(constant) == 0.01).all(), "no less, for its logarithm"


@given(
    st.integers(0, 9), st.integers(0, 9), st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 2, 4])
)
@settings(deadline=None)
def test_values_of_a_plane_are_those_of_the_plane(
    top: int, left: int, height: int, width: int, stride: int
) -> None:
    """Bilinear between points, from coarse to fine and to pixels."""
    lattice, coarse = (Lattice((top, left), (height, width), s) for s in (stride, 4))

    def plane(lattice: Lattice) -> torch.Tensor:
        rows, cols = (
            (torch.arange(count) * lattice.stride + start // lattice.stride * lattice.stride).float()
            for count, start in zip(lattice.size, (top, left), strict=True)
        )
        return 10 * rows[:, None] + cols

    pixels = Lattice((top, left), (height, width), 1)
    assert torch.equal(lattice.at_pixels(plane(lattice)), plane(pixels))
    assert torch.equal(coarse.on(lattice, plane(coarse)[None])[0], plane(lattice))


@settings(max_examples=20, deadline=None)
@given(
    st.integers(40, 60),
    st.integers(40, 60),
    st.integers(0, 20),
    st.integers(0, 20),
    st.sampled_from([(0.7, 1), (1.5, 2), (3.0, 4)]),
)
def test_a_cut_gives_the_same_bits_beyond_the_window(
    h: int, w: int, top: int, left: int, window: tuple[float, int]
) -> None:
    """Two tiles agree exactly where they overlap, whatever their sizes and places."""
    whole, (sigma, stride) = torch.from_numpy(image(2, 90, 90)), window
    full = Stack.of([whole], (0, 0), sigma, stride)
    cut = Stack.of([whole[:, top : top + h, left : left + w]], (top, left), sigma, stride)
    reach = -(-full.reach // stride) + 1
    rows, cols = (count - reach for count in cut.lattice(stride).size)
    first_row, first_col = top // stride, left // stride
    for of in (
        lambda stack: stack.gaussian(sigma, stride),
        lambda stack: stack.deviation(sigma, stride, stack.squared()),
        lambda stack: stack.gradient(sigma, stride),
    ):
        expected = of(full)[first_row:, first_col:][reach:rows, reach:cols]
        assert expected.numel()
        assert torch.equal(of(cut)[reach:rows, reach:cols], expected)
