"""What is unusual in one date given the class of the other: fitted to a sample, applied later."""

from __future__ import annotations

import dataclasses
import warnings
from typing import NamedTuple

import numpy as np
import torch
from scipy import linalg
from scipy.cluster import vq
from torch import Tensor

from geocd.method import devices
from geocd.types import Float32Array, Float64Array

CLASSES = 8


class Whitened(NamedTuple):
    """Whitened residual: ``source @ x + target @ y + constant``, ``(n, bands)`` twice and ``(n,)``."""

    source: Float64Array
    target: Float64Array
    constant: Float64Array


class Classes(NamedTuple):
    """Classes of both directions as matrices: those of one direction, then those of the other.

    Attributes
    ----------
    residual, constant : Tensor, (2 classes * bands, 2 bands) and (2 classes * bands,), float32
        Whitened residuals in each class, from the bands of both dates.
    close, wide : Tensor, (2 classes, m) and (2 classes, n), float32
        Squared distances to the centres, but for what all classes share, from the two parts of the context.
    squared : Tensor, (2 classes,), float32
        And what they have on top.
    """

    residual: Tensor
    constant: Tensor
    close: Tensor
    wide: Tensor
    squared: Tensor


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

    def whitened(self) -> Whitened:
        """Return what gives the whitened residual in every class, one class after the other."""
        target = self.whitening.transpose(0, 2, 1).astype(np.float64)
        slopes, bands = self.slopes.astype(np.float64), self.slopes.shape[2]
        source = -target @ slopes[:, :-1].transpose(0, 2, 1)
        constant = -target @ slopes[:, -1, :, None]
        return Whitened(source.reshape(-1, bands), target.reshape(-1, bands), constant.reshape(-1))


#: Pixels whose residuals in all classes fit into the processor's cache.
PIECE = 4096


def longest(classes: Classes, close: Tensor, wide: Tensor, pixels: Tensor) -> Tensor:
    """Return the length of the residual of each pixel in its class, the larger of both directions.

    All classes are computed for each pixel, and the nearest is taken: that waits for nothing on a GPU, and on
    a CPU takes no longer than to sort the pixels.

    Parameters
    ----------
    classes : Classes
    close : Tensor, (height, width, m), float32
        Context of pixels.
    wide : Tensor, (2 classes, height, width), float32
        What the rest of the context adds to the squared distances to the centres.
    pixels : Tensor, (height, width, 2 bands), float32

    Returns
    -------
    Tensor, (height, width), float32
    """
    (height, width, channels), result = pixels.shape, torch.empty_like(wide[0])
    step = max(1, PIECE // width) if devices.in_pieces(pixels.device) else height
    for begin in range(0, height, step):
        part = slice(begin, begin + step)
        count = wide[0, part].numel()
        rest = wide[:, part].reshape(-1, count)
        squared = torch.addmm(rest, classes.close, close[part].reshape(count, -1).T).view(2, -1, count)
        residual = torch.addmm(classes.constant[:, None], classes.residual, pixels[part].reshape(count, -1).T)
        lengths = residual.square_().view(2, -1, channels // 2, count).sum(dim=2)
        nearest = squared == squared.amin(dim=1, keepdim=True)
        torch.amax(lengths.mul_(nearest), (0, 1), out=result[part].view(-1))
    return result.sqrt_()
