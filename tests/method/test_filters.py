"""Windows over images: against scipy's, and the same wherever an image is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geocd.method.filters import gaussian, greatest, least, radius

SHAPES = [(40, 60), (1, 1), (1, 30), (30, 1), (2, 3), (7, 5)]


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [0.7, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("bands", [0, 3])
def test_gaussian_is_that_of_scipy(shape: tuple[int, int], sigma: float, bands: int) -> None:
    """Also where the window is larger than the image, which then is mirrored again and again."""
    values = image(*(bands,) * bool(bands), *shape)
    expected = ndimage.gaussian_filter(values, (0,) * bool(bands) + (sigma, sigma), truncate=3)
    assert np.allclose(gaussian(torch.from_numpy(values), sigma), expected, atol=2e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_least_and_greatest_are_those_of_scipy(shape: tuple[int, int]) -> None:
    values = image(2, *shape)
    tensor = torch.from_numpy(values)
    assert np.array_equal(least(tensor), ndimage.minimum_filter(values, (1, 3, 3), mode="nearest"))
    assert np.array_equal(greatest(tensor), ndimage.maximum_filter(values, (1, 3, 3), mode="nearest"))


def test_gaussian_of_a_constant_is_that_constant_beside_holes() -> None:
    valid = np.ones((40, 40), bool)
    valid[10:20, 5:15] = False
    values = torch.from_numpy(np.where(valid, 3.0, 1e9).astype(np.float32))
    known = torch.from_numpy(valid)
    assert np.allclose(gaussian(values, 2, known)[known], 3, atol=1e-4)


def test_what_is_not_valid_has_no_weight() -> None:
    values, valid = torch.from_numpy(image(3, 30, 40)), torch.from_numpy(image(30, 40) > 0)
    spoilt = torch.where(valid, values, torch.nan)
    assert torch.equal(gaussian(values, 2, valid), gaussian(spoilt, 2, valid))


def test_no_window_is_the_image_itself() -> None:
    values = torch.from_numpy(image(20, 30))
    assert gaussian(values, 0.0) is values
    assert radius(0.0) == 0
    assert radius(1.0) == 3


@settings(max_examples=40, deadline=None)
@given(
    st.integers(25, 60),
    st.integers(25, 60),
    st.integers(0, 20),
    st.integers(0, 20),
    st.sampled_from([0.7, 1.5, 3.0]),
)
def test_a_cut_gives_the_same_bits_beyond_the_window(
    h: int, w: int, top: int, left: int, sigma: float
) -> None:
    """Two tiles agree exactly where they overlap, whatever their sizes and places."""
    whole = torch.from_numpy(image(2, 90, 90))
    cut = whole[:, top : top + h, left : left + w]
    reach = radius(sigma)
    inner = (slice(None), slice(reach, h - reach), slice(reach, w - reach))
    for window in (
        gaussian,
        lambda v, s: least(greatest(v)),
    ):
        full = window(whole, sigma)[:, top : top + h, left : left + w]
        assert torch.equal(window(cut.contiguous(), sigma)[inner], full[inner])
