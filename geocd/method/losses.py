"""The similarity-dissimilarity loss, one function per term.

Bandara & Patel, "Deep Metric Learning for Unsupervised Remote Sensing Change Detection", arXiv
2303.09536. P is the change probability that the generator (D-CPG) gives, d a distance between the dates,
in the image or in the feature space of the extractor (D-FE). The similarity term wants d small where P
says "no change", the dissimilarity term wants it large where P says "change".

Departures from the reference implementation, each because of an error in it:

* Its extractor never reaches the optimiser, so its consistency term changes nothing. Here both networks
  are optimised, and the consistency term is what keeps the extractor to content rather than light.
* One of its augmented terms compares a tensor with itself and is always zero. Here an image is compared
  with its own jittered copy (:func:`consistency`, :func:`radiometric_jitter`).
* It takes P to a coarser scale by nearest-neighbour sampling, which leaves a grid in the gradient. Here
  P is averaged over area (:func:`to_scale`).
* Nodata pixels take part in its means. Here every mean is over valid pixels.

All tensors are float32, NCHW; ``valid`` is (N, 1, H, W) in {0, 1} of the same dtype.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-6


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of ``values`` (N, 1, H, W) over the valid pixels, a scalar; 0 where none is."""
    return (values * valid).sum() / valid.sum().clamp_min(EPSILON)


def standardise(features: tuple[Tensor, Tensor], valid: Tensor) -> tuple[Tensor, Tensor]:
    """Z-score each channel over the valid pixels of both dates together.

    Together, unlike the published per-image z-scores: otherwise a change of a whole channel between the
    dates is normalised away, and a nearly constant channel of one date is blown up against the other.

    Parameters
    ----------
    features : two Tensors, (N, C, H, W)
    valid : Tensor, (N, 1, H, W)

    Returns
    -------
    two Tensors, (N, C, H, W)
        Zero mean and unit variance per sample and channel. A constant channel becomes 0.
    """
    both = torch.stack(features)  # (2, N, C, H, W)
    weight = valid[None]
    count = 2 * weight.sum(dim=(0, 3, 4), keepdim=True).clamp_min(EPSILON)  # (1, N, 1, 1, 1)
    mean = (both * weight).sum(dim=(0, 3, 4), keepdim=True) / count
    variance = ((both - mean) ** 2 * weight).sum(dim=(0, 3, 4), keepdim=True) / count
    scaled = (both - mean) * torch.rsqrt(variance + EPSILON) * weight
    return scaled[0], scaled[1]


def image_distance(x1: Tensor, x2: Tensor) -> Tensor:
    """d0 = mean over bands of ``|x1 - x2|``: (N, C, H, W) twice to (N, 1, H, W)."""
    return (x1 - x2).abs().mean(dim=1, keepdim=True)


def feature_distances(
    features1: Sequence[Tensor], features2: Sequence[Tensor], valid: Tensor
) -> list[Tensor]:
    """d_k = mean over channels of the absolute difference of standardised features, for each scale k.

    Parameters
    ----------
    features1, features2 : sequences of Tensor, (N, C_k, H_k, W_k)
    valid : Tensor, (N, 1, H, W)
        At full resolution.

    Returns
    -------
    list of Tensor, (N, 1, H_k, W_k)
    """
    distances = []
    for scale in zip(features1, features2, strict=True):
        standardised = standardise(scale, (to_scale(valid, scale[0]) > 0.5).to(scale[0].dtype))
        distances.append(image_distance(*standardised))
    return distances


def to_scale(values: Tensor, like: Tensor) -> Tensor:
    """Average (N, 1, H, W) over area to the height and width of ``like``."""
    if values.shape[-2:] == like.shape[-2:]:
        return values
    return F.adaptive_avg_pool2d(values, (like.shape[-2], like.shape[-1]))


def similarity(prob: Tensor, distance: Tensor, valid: Tensor, *, gated: bool = False) -> Tensor:
    """L_s = mean((1 - P) d): the distance that remains where there is no change, a scalar.

    Parameters
    ----------
    prob, distance, valid : Tensor, (N, 1, H, W)
    gated : bool
        As the reference does, count only pixels where P < 0.5: only the winning side has a gradient.
    """
    counted = valid * (prob.detach() < 0.5) if gated else valid
    return ((1 - prob) * distance * counted).sum() / valid.sum().clamp_min(EPSILON)


def dissimilarity(prob: Tensor, distance: Tensor, valid: Tensor, *, gated: bool = False) -> Tensor:
    """L_d = -mean(P d): rewards a distance where there is change, a scalar.

    With L_s the minimum over P of a pixel is "change" for every d > 0, and only the regulariser decides.
    """
    counted = valid * (prob.detach() >= 0.5) if gated else valid
    return -(prob * distance * counted).sum() / valid.sum().clamp_min(EPSILON)


def consistency(features: Sequence[Tensor], jittered: Sequence[Tensor], valid: Tensor) -> Tensor:
    """Distance between the features of an image and of its radiometrically jittered copy, a scalar.

    Mean over scales and valid pixels of the distance of :func:`feature_distances`: features should be of
    what is on the ground, and not move with light and atmosphere. Standardised features cannot make it
    small by collapsing to a constant.
    """
    distances = feature_distances(features, jittered, valid)
    terms = [masked_mean(d, (to_scale(valid, d) > 0.5).to(d.dtype)) for d in distances]
    return torch.stack(terms).mean()


def regulariser(prob: Tensor, valid: Tensor) -> Tensor:
    """mean(P^2 | P > 0.5) - mean((1 - P)^2 | P < 0.5): the price of calling a pixel changed, a scalar.

    The published form, each mean over all valid pixels. Together with L_s and L_d a pixel is changed
    where its summed distance exceeds about 1.
    """
    changed = (prob.detach() > 0.5).to(prob.dtype)
    total = valid.sum().clamp_min(EPSILON)
    return ((prob**2 * changed - (1 - prob) ** 2 * (1 - changed)) * valid).sum() / total


def radiometric_jitter(
    x: Tensor, generator: torch.Generator, *, gain: float = 0.2, offset: float = 0.2, noise: float = 0.05
) -> Tensor:
    """Return a copy of z-scored images under other light: gain, offset per band, and noise.

    Parameters
    ----------
    x : Tensor, (N, C, H, W)
    generator : torch.Generator
        On the CPU, so that a seed means the same on every device.
    gain, offset, noise : float
        Standard deviations, in units of the scene's standard deviation.
    """

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(x)

    n, c, h, w = x.shape
    scaled = x * (1 + gain * normal(n, c, 1, 1)) + offset * normal(n, c, 1, 1)
    return scaled + noise * normal(n, c, h, w)
