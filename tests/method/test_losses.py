"""Each term of the loss: exact small cases, gradients, what is not valid, invariances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geocd.method import losses

DOUBLE = torch.float64


def image(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE).reshape(1, 1, 1, -1)


ALL = image(1, 1)


def test_image_distance_is_the_mean_over_bands() -> None:
    x1 = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 1, 2)
    x2 = torch.tensor([[1.0, 0.0], [7.0, 4.0]]).reshape(1, 2, 1, 2)
    assert losses.image_distance(x1, x2).tolist() == [[[[2.0, 1.0]]]]


def test_similarity_and_dissimilarity_by_hand() -> None:
    prob, distance = image(0.25, 1.0), image(2.0, 3.0)
    assert losses.similarity(prob, distance, ALL).item() == pytest.approx(0.75 * 2 / 2)
    assert losses.dissimilarity(prob, distance, ALL).item() == pytest.approx(-(0.5 + 3) / 2)
    # gated: the first pixel is "no change", the second "change"
    assert losses.similarity(prob, distance, ALL, gated=True).item() == pytest.approx(0.75)
    assert losses.dissimilarity(prob, distance, ALL, gated=True).item() == pytest.approx(-1.5)


def test_regulariser_by_hand_and_its_threshold() -> None:
    assert losses.regulariser(image(0.8, 0.3), ALL).item() == pytest.approx((0.64 - 0.49) / 2)
    # with the gated terms, P falls below a summed distance of 1 and rises above it
    for start, distance, falls in ((0.6, 0.5, True), (0.6, 1.5, False)):
        prob = image(start).requires_grad_()
        one, d = torch.ones_like(prob), image(distance)
        total = (
            losses.similarity(prob, d, one, gated=True)
            + losses.dissimilarity(prob, d, one, gated=True)
            + losses.regulariser(prob, one)
        )
        total.backward()
        assert prob.grad is not None
        assert (prob.grad.item() > 0) == falls


def test_invalid_pixels_take_no_part() -> None:
    valid = image(1, 0)
    for junk in (0.0, 1e6):
        distance = image(2.0, junk)
        prob = image(0.5, 0.9)
        assert losses.similarity(prob, distance, valid).item() == pytest.approx(1.0)
        assert losses.dissimilarity(prob, distance, valid).item() == pytest.approx(-1.0)
    torch.manual_seed(0)
    features = torch.randn(1, 3, 4, 4, dtype=DOUBLE)
    other = torch.randn(1, 3, 4, 4, dtype=DOUBLE)
    half = torch.ones(1, 1, 4, 4, dtype=DOUBLE)
    half[..., 2:] = 0
    spoilt = features.clone()
    spoilt[..., 2:] = 1e6
    clean, dirty = (losses.feature_distances([f], [other], half)[0] for f in (features, spoilt))
    assert torch.allclose(clean[..., :2], dirty[..., :2])


def test_no_valid_pixel_gives_finite_zeros() -> None:
    none = torch.zeros(1, 1, 2, 2)
    x = torch.rand(1, 2, 2, 2, requires_grad=True)
    prob = torch.rand(1, 1, 2, 2, requires_grad=True)
    total = (
        losses.similarity(prob, losses.image_distance(x, x * 2), none)
        + losses.regulariser(prob, none)
        + losses.consistency([x], [x * 2], none)
    )
    total.backward()
    assert total.item() == 0
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_standardised_distances_ignore_gain_and_offset_of_a_channel() -> None:
    torch.manual_seed(0)
    one, two = torch.randn(2, 1, 3, 8, 8, dtype=DOUBLE)
    valid = torch.ones(1, 1, 8, 8, dtype=DOUBLE)
    gain, offset = torch.tensor([1.0, 7.0, 100.0]).view(1, 3, 1, 1), 5.0
    plain = losses.feature_distances([one], [two], valid)[0]
    scaled = losses.feature_distances([one * gain + offset], [two * gain + offset], valid)[0]
    assert torch.allclose(plain, scaled, atol=1e-4)


def test_a_shift_of_a_whole_channel_is_seen() -> None:
    """Per-image z-scores would hide it; the scores are taken over both dates together."""
    torch.manual_seed(0)
    one = torch.randn(1, 1, 8, 8, dtype=DOUBLE)
    valid = torch.ones(1, 1, 8, 8, dtype=DOUBLE)
    assert losses.feature_distances([one], [one + 3], valid)[0].min() > 1


def test_consistency_is_zero_only_for_equal_features() -> None:
    torch.manual_seed(0)
    one = torch.randn(1, 3, 4, 4)
    valid = torch.ones(1, 1, 4, 4)
    assert losses.consistency([one], [one], valid).item() == 0
    assert losses.consistency([one], [torch.randn_like(one)], valid).item() > 0.3


def test_to_scale_averages_over_area() -> None:
    fine = torch.tensor([[0.0, 1.0], [1.0, 1.0]]).reshape(1, 1, 2, 2)
    assert losses.to_scale(fine, torch.zeros(1, 5, 1, 1)).item() == pytest.approx(0.75)


def test_jitter_is_seeded_and_changes_the_image() -> None:
    x = torch.randn(1, 4, 8, 8)
    first, again, other = (losses.radiometric_jitter(x, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first - x).abs().mean() > 0.01


@pytest.mark.parametrize("term", ["similarity", "dissimilarity", "distances"])
def test_gradients_are_right(term: str) -> None:
    torch.manual_seed(0)
    valid = (torch.rand(1, 1, 3, 3, dtype=DOUBLE) > 0.3).to(DOUBLE)
    prob = (torch.rand(1, 1, 3, 3, dtype=DOUBLE) * 0.8 + 0.1).requires_grad_()
    other = torch.rand(1, 1, 3, 3, dtype=DOUBLE) * 0.8 + 0.1
    features = torch.randn(1, 2, 3, 3, dtype=DOUBLE, requires_grad=True)
    fixed = torch.randn(1, 2, 3, 3, dtype=DOUBLE)
    cases = {
        "similarity": (lambda p: losses.similarity(p, other, valid), prob),
        "dissimilarity": (lambda p: losses.dissimilarity(p, other, valid), prob),
        "distances": (lambda f: losses.feature_distances([f], [fixed], valid)[0].sum(), features),
    }
    function, at = cases[term]
    assert torch.autograd.gradcheck(function, (at,))


def test_masked_mean_by_hand() -> None:
    assert losses.masked_mean(image(1, 4, 100), image(1, 1, 0)).item() == pytest.approx(2.5)
    assert losses.masked_mean(image(1, 4), image(0, 0)).item() == 0


@pytest.mark.parametrize(("prob", "similar"), [(0.4, True), (0.5, False), (0.6, False)])
def test_gated_every_pixel_is_on_one_side(prob: float, similar: bool) -> None:
    """At 0.5 it is a change, as in the map."""
    p, d, one = image(prob), image(2.0), image(1)
    apart = (
        losses.similarity(p, d, one, gated=True).item(),
        losses.dissimilarity(p, d, one, gated=True).item(),
    )
    assert apart == pytest.approx(((1 - prob) * 2, 0) if similar else (0, -prob * 2))


def test_the_price_of_one_half_is_that_of_no_change() -> None:
    assert losses.regulariser(image(0.5), image(1)).item() == pytest.approx(-0.25)
    assert losses.regulariser(image(0.8, 0.9), image(1, 0)).item() == pytest.approx(0.64)


def test_standardised_channels_have_mean_0_and_variance_1_over_valid_pixels_of_both() -> None:
    torch.manual_seed(0)
    one, two = 5 + 3 * torch.randn(2, 2, 3, 6, 7, dtype=DOUBLE)
    one[1, 2] = two[1, 2] = 4  # a constant channel
    valid = (torch.rand(2, 1, 6, 7) > 0.4).to(DOUBLE)
    both = torch.stack(losses.standardise((one, two), valid))
    assert (both * (1 - valid) == 0).all(), "0 where not valid"
    count = 2 * valid.sum(dim=(1, 2, 3))[:, None]
    assert torch.allclose(both.sum(dim=(0, 3, 4)) / count, torch.zeros(2, 3, dtype=DOUBLE), atol=1e-12)
    ones = torch.ones(2, 3, dtype=DOUBLE)
    ones[1, 2] = 0
    assert torch.allclose((both**2).sum(dim=(0, 3, 4)) / count, ones, atol=1e-5)
    # Larger stays larger: neither sign nor order is lost.
    raised = torch.stack(losses.standardise((one, one + 2), valid))
    assert ((raised[1] > raised[0]) == (valid > 0).expand_as(one)).all()


def test_a_coarse_cell_counts_when_more_than_half_of_it_is_valid() -> None:
    valid = torch.zeros(1, 1, 2, 6, dtype=DOUBLE)
    valid[..., 0, :2] = 1  # cells of 2 x 2: two of four pixels valid, three, all
    valid[..., 0, 2:4] = valid[..., 1, 2] = 1
    valid[..., 4:] = 1
    one, two = image(0, 0, 1), image(50, 4, 1)
    (found,) = losses.feature_distances([one], [two], valid)
    mean, std = 6 / 4, math.sqrt((1.5**2 + 0.5**2 + 2.5**2 + 0.5**2) / 4)
    assert mean == 1.5
    assert found.flatten().tolist() == pytest.approx([0, 4 / std, 0], abs=1e-5)
    # What is left out is not counted in the mean either.
    assert losses.consistency([one], [two], valid).item() == pytest.approx(4 / std / 2, abs=1e-5)


def test_consistency_is_the_mean_over_scales() -> None:
    torch.manual_seed(0)
    valid = torch.ones(1, 1, 4, 4, dtype=DOUBLE)
    fine = torch.randn(2, 1, 3, 4, 4, dtype=DOUBLE)
    coarse = torch.randn(2, 1, 5, 2, 2, dtype=DOUBLE)
    alone = [losses.consistency([pair[0]], [pair[1]], valid).item() for pair in (fine, coarse)]
    both = losses.consistency([fine[0], coarse[0]], [fine[1], coarse[1]], valid).item()
    assert both == pytest.approx(sum(alone) / 2)
    with pytest.raises(ValueError, match="shorter"):
        losses.consistency([fine[0], coarse[0]], [fine[1]], valid)


def test_to_scale_keeps_what_fits_and_averages_each_axis() -> None:
    fine = torch.arange(8, dtype=DOUBLE).reshape(1, 1, 2, 4)
    assert losses.to_scale(fine, torch.zeros(1, 3, 2, 4)) is fine
    assert losses.to_scale(fine, torch.zeros(1, 3, 1, 4)).flatten().tolist() == [2, 3, 4, 5]
    assert losses.to_scale(fine, torch.zeros(1, 3, 2, 2)).flatten().tolist() == [0.5, 2.5, 4.5, 6.5]


def jitter(x: Tensor, seed: int = 0, **how: float) -> Tensor:
    return losses.radiometric_jitter(x, torch.Generator().manual_seed(seed), **how)


@pytest.mark.parametrize(
    ("what", "x", "std"),
    [("gain", torch.full((90, 70, 2, 2), 3.0), 0.6), ("offset", torch.zeros(90, 70, 2, 2), 0.2)],
)
def test_light_moves_a_band_as_a_whole(what: str, x: Tensor, std: float) -> None:
    off = {"gain": 0.0, "offset": 0.0, "noise": 0.0}
    del off[what]
    moved = jitter(x, **off) - x
    band = moved[..., :1, :1]
    assert torch.allclose(moved, band.expand_as(moved), atol=1e-6), "every pixel of a band alike"
    assert band.mean().item() == pytest.approx(0, abs=0.1 * std)
    assert band.std().item() == pytest.approx(std, rel=0.05)
    assert band.std(dim=0).min() > std / 2, "every image and every band has its own"
    assert band.std(dim=1).min() > std / 2


def test_noise_is_of_every_pixel() -> None:
    x = torch.zeros(2, 3, 60, 70)
    moved = jitter(x, gain=0, offset=0)
    assert moved.std(dim=(2, 3)).flatten().tolist() == pytest.approx([0.05] * 6, rel=0.1)
    assert (moved[0] - moved[1]).std().item() == pytest.approx(0.05 * math.sqrt(2), rel=0.1), "its own"
    assert jitter(x, gain=0, offset=0, noise=0).abs().max() == 0
    assert jitter(x.to(torch.bfloat16)).dtype == torch.bfloat16


def test_gain_keeps_zero_and_is_proportional() -> None:
    x = torch.tensor([0.0, 1.0, -2.0]).reshape(1, 1, 1, 3)
    zero, one, two = (jitter(x, offset=0, noise=0) / 1).flatten().tolist()
    assert zero == 0
    assert two == pytest.approx(-2 * one)
    assert one > 0


def test_jitter_uses_only_its_generator() -> None:
    x = torch.randn(2, 4, 8, 8)
    torch.manual_seed(1)
    one = losses.radiometric_jitter(x, torch.Generator().manual_seed(3))
    torch.manual_seed(2)
    assert torch.equal(one, losses.radiometric_jitter(x, torch.Generator().manual_seed(3)))
