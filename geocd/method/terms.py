"""The six closed-form distances between the dates, each blind to something the others see.

Each is taken over a window, because single pixels cannot tell a new building from a field in another season.
"""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
import torch
from scipy import linalg
from scipy.cluster import vq
from torch import Tensor

from geocd.method.filters import gaussian, gradient, greatest, least, local_deviation
from geocd.method.irmad import IrMad
from geocd.types import Float32Array

TEXTURE = (2.0, 5.0)
GRADIENT, ENERGY = 2.0, 6.0
PATTERN = 3.0
CLASSES = 8


def texture(z: Tensor) -> Tensor:
    """Log of the local deviations at two scales: ``(bands, h, w)`` to ``(2 bands, h, w)``."""
    return torch.cat([local_deviation(z, sigma).add_(0.05).log_() for sigma in TEXTURE])


def surroundings(z: Tensor) -> Tensor:
    """What the class of a place is known by: its bands near and around it, and its texture."""
    rough = local_deviation(z, 3).mean(dim=0, keepdim=True).add_(0.05).log_()
    return torch.cat([gaussian(z, 1), gaussian(z, 4).mul_(0.7), rough])


def gradient_energy(z1: Tensor, z2: Tensor) -> Tensor:
    """Root of the mean squared gradient of the difference, per four bands."""
    energy = torch.zeros_like(z1[0])
    for one, two in zip(z1, z2, strict=True):
        for slope in gradient(one - two, GRADIENT):
            energy.addcmul_(slope, slope)
    return gaussian(energy, ENERGY).mul_(4 / len(z1)).sqrt_()


def pattern_change(z1: Tensor, z2: Tensor) -> Tensor:
    """One minus the local correlation, summed over bands, per four bands.

    The 0.4 that stands beside each variance keeps the correlation of two flat surfaces, which is that of
    their noise, near one.
    """
    total = torch.zeros_like(z1[0])
    for a, b in zip(z1, z2, strict=True):
        mean1, mean2 = gaussian(a, PATTERN), gaussian(b, PATTERN)
        var1 = (gaussian(a * a, PATTERN) - mean1 * mean1).clamp_(min=0).add_(0.4)
        var2 = (gaussian(b * b, PATTERN) - mean2 * mean2).clamp_(min=0).add_(0.4)
        both = (gaussian(a * b, PATTERN) - mean1 * mean2).add_(0.4)
        total += 1 - both / (var1 * var2).sqrt_()
    return total.clamp_(min=0).mul_(4 / len(z1))


def beyond_shift(z1: Tensor, z2: Tensor) -> Tensor:
    """Return the difference that no shift by a pixel, and no blur, can make: ``(height, width)``.

    How far each date lies outside the least and greatest value of the other among the nine pixels around
    the same place; root mean square over bands, twice as ``image``, mean of both directions.
    """

    def outside(x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros_like(x[0])
        for here, there in zip(x, y, strict=True):
            gap = torch.maximum(here - greatest(there), least(there) - here).clamp_(min=0)
            total.addcmul_(gap, gap)
        return total.div_(len(x)).sqrt_().mul_(2)

    return (outside(z1, z2) + outside(z2, z1)).div_(2)


@dataclasses.dataclass(frozen=True)
class ClassResidual:
    """How unusual a target is, given the class and the bands of the same place in the other date.

    Classes by k-means; in each a robust affine prediction of the target and the covariance of its
    residual (re-weighted as under a t-distribution, so that changed pixels do not widen it). What the
    whole class does between the dates is predicted, and only what departs from it remains.

    Attributes
    ----------
    centres : ndarray, (classes, context)
    slopes : ndarray, (classes, bands + 1, bands)
        Affine prediction; the last row is the constant.
    whitening : ndarray, (classes, bands, bands)
    """

    centres: Float32Array
    slopes: Float32Array
    whitening: Float32Array

    @classmethod
    def fit(
        cls, context: Float32Array, source: Float32Array, target: Float32Array, seed: int
    ) -> ClassResidual:
        """Fit to samples in rows: ``(n, context)``, ``(n, bands)`` and ``(n, bands)``."""
        count = min(CLASSES, len(context))
        start = np.random.default_rng(seed).choice(len(context), count, replace=False)
        with warnings.catch_warnings():
            # Of equal places (a constant image) some classes stay empty; their fit is the ridge alone.
            warnings.filterwarnings("ignore", message="One of the clusters is empty")
            centres = vq.kmeans2(context, context[start], iter=15, minit="matrix")[0].astype(np.float32)
        label = vq.vq(context, centres)[0]
        bands = target.shape[1]
        padded = np.concatenate([source, np.ones((len(source), 1), np.float32)], axis=1).astype(np.float64)
        slopes, whitening = [], []
        for k in range(count):
            x, y = padded[label == k], target[label == k].astype(np.float64)
            weight = np.ones(len(x))
            for _ in range(4):
                xw = x * weight[:, None]
                slope = linalg.solve(xw.T @ x + np.eye(bands + 1), xw.T @ y, assume_a="pos")
                residual = y - x @ slope
                # The ridge is what sensors and resampling leave; it also serves classes of few pixels.
                total = 20 + weight.sum()
                covariance = ((residual * weight[:, None]).T @ residual) / total + 0.02 * np.eye(bands)
                whiten = linalg.cholesky(linalg.inv(covariance), lower=True)
                weight = 1 / (1 + ((residual @ whiten) ** 2).mean(axis=1))
            slopes.append(slope)
            whitening.append(whiten)
        return cls(centres, np.asarray(slopes, np.float32), np.asarray(whitening, np.float32))

    def distance(self, context: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Return the Mahalanobis length of the residual, ``(height, width)``, from ``(c, h, w)`` tensors."""
        label = self._labels(context).flatten()
        x, y = source.flatten(1), target.flatten(1)
        slopes, whitening = (torch.from_numpy(a).to(x.device) for a in (self.slopes, self.whitening))
        result = torch.empty_like(x[0])
        for k, (slope, white) in enumerate(zip(slopes, whitening, strict=True)):
            inside = (label == k).nonzero().squeeze(1)
            predicted = slope[:-1].T @ x.index_select(1, inside) + slope[-1, :, None]
            residual = white.T @ (y.index_select(1, inside) - predicted)
            result[inside] = residual.square_().sum(dim=0).sqrt_()
        return result.reshape(source.shape[1:])

    def _labels(self, context: Tensor) -> Tensor:
        """Return the nearest centre of each place; squared distances, less what all have in common."""
        best = torch.full_like(context[0], math.inf)
        label = torch.zeros_like(context[0], dtype=torch.uint8)
        for k, centre in enumerate(self.centres.astype(np.float64)):
            apart = torch.full_like(best, float(centre @ centre))
            for values, place in zip(context, centre.tolist(), strict=True):
                apart.add_(values, alpha=-2 * place)
            label.masked_fill_(apart < best, k)
            best = torch.minimum(best, apart)
        return label


def chi(irmad: IrMad, x: Tensor, y: Tensor) -> Tensor:
    """As :meth:`geocd.method.irmad.IrMad.chi`, in float32 on any device: these bands are scaled already."""
    left, right, offset, variance = (
        torch.from_numpy(values.astype(np.float32)).to(x.device)
        for values in (irmad.left, irmad.right, irmad.offset, irmad.variance)
    )
    variates = left @ x.flatten(1) - right @ y.flatten(1) - offset[:, None]
    return variates.square_().div_(variance[:, None]).sum(dim=0).sqrt_().reshape(x.shape[1:])
