"""What is unusual in one date given the class of the other: fitted to a sample, applied later."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
import torch
from scipy import linalg
from scipy.cluster import vq
from torch import Tensor

from geocd.types import Float32Array

CLASSES = 8


@dataclasses.dataclass(frozen=True)
class ClassResidual:
    """How unusual a target is, given the class and the bands of the same pixel in the other date.

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
            # Of equal pixels (a constant image) some classes stay empty; their fit is the ridge alone.
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
        """Return the index of each pixel's nearest centre, ``(height, width)`` uint8."""
        best = torch.full_like(context[0], math.inf)
        label = torch.zeros_like(context[0], dtype=torch.uint8)
        for k, centre in enumerate(self.centres.astype(np.float64)):
            # the squared distance, less the squared length of the pixel's own context, which all share
            squared = torch.full_like(best, float(centre @ centre))
            for values, coordinate in zip(context, centre.tolist(), strict=True):
                squared.add_(values, alpha=-2 * coordinate)
            label.masked_fill_(squared < best, k)
            best = torch.minimum(best, squared)
        return label
