"""Deep distances: features of both dates under a metric that is learned on the pair, in closed form.

The similarity-dissimilarity loss of Bandara and Patel (arXiv 2303.09536) pulls the features of both dates
together where the change probability P is low, and pushes them apart where it is high. Here the features are
frozen, and what is learned is the metric in which they are compared. It alternates between

* the no-change weight of each place, ``w = 1 / (1 + mean of the squared residual components)``, which
  stands for 1 - P, and
* the metric: prediction of one date from the other by least squares under w, and the inverse of the
  covariance of the residual under w. Of all metrics of one volume (determinant), it is that in which
  unchanged places are nearest.

Each step is the optimum for what the other has left. The fixed volume keeps the metric from collapsing, as
the dissimilarity term does in the loss. It departs from the paper in that the extractor stays as it is, and
that this P is not the map: the distance is one of several.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import linalg
from torch import Tensor

from geocd.method.devices import constants
from geocd.method.filters import gaussian
from geocd.method.scaled import FeatureMaps, FitSample, ScaledPair
from geocd.types import Float32Array, Float64Array

#: At most so many places are drawn for the fit, and fewer of more than so many channels.
PLACES, CHANNELS = 40_000, 64
#: Joint principal components of both dates that are compared.
COMPONENTS = 16
#: Alternations of weights and metric.
ROUNDS = 4
#: A thousandth of the mean deviation of the channels, which are of the order of 1, is at least this.
LEAST = 1e-9
#: Ridge of the prediction; of the covariance, in units of the mean variance; and its prior count of places.
RIDGE, SHRINKAGE, PRIOR = 1.0, 0.02, 20.0


@dataclasses.dataclass(frozen=True)
class Residual:
    """Whitened residual of one date predicted from the other: ``target @ y + source @ x + constant``.

    Attributes
    ----------
    source, target : ndarray, (components, channels), float32
        What is applied to the features of the predicting and of the predicted date.
    constant : ndarray, (components,), float32
    """

    source: Float32Array
    target: Float32Array
    constant: Float32Array

    def length(self, x: Tensor, y: Tensor) -> Tensor:
        """Return its length, ``(n,)``, from features of both dates, ``(channels, n)``."""
        source, target, constant = constants(
            self, x.device, lambda: [self.source, self.target, self.constant]
        )
        return torch.addmm(constant[:, None], target, y).addmm_(source, x).square_().sum(dim=0).sqrt_()


def learned_residual(x: Float64Array, y: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Learn to predict features from those of the other date, and the metric of what remains.

    Parameters
    ----------
    x, y : ndarray, (n, components), float64
        Features of the predicting and of the predicted date, centred.

    Returns
    -------
    slope : ndarray, (components, components)
        ``y`` is about ``x @ slope + constant``.
    constant : ndarray, (components,)
    whitening : ndarray, (components, components)
        ``residual @ whitening`` has about unit covariance over the unchanged places.
    """
    count, size = y.shape
    padded = np.concatenate([x, np.ones((count, 1))], axis=1)
    ridge, prior = RIDGE * np.eye(size + 1), SHRINKAGE * y.var(axis=0).mean() * np.eye(size)
    weight = np.ones(count)
    for _ in range(ROUNDS):
        weighted = padded * weight[:, None]
        slope = linalg.solve(weighted.T @ padded + ridge, weighted.T @ y, assume_a="pos")
        residual = y - padded @ slope
        covariance = (residual * weight[:, None]).T @ residual / (PRIOR + weight.sum()) + prior
        # A constant date has no variance to shrink towards: any metric is as good there.
        covariance += 1e-12 * np.eye(size)
        whitening = linalg.cholesky(linalg.inv(covariance), lower=True)
        weight = 1 / (1 + ((residual @ whitening) ** 2).mean(axis=1))
    return slope[:-1], slope[-1], whitening


#: Returns the features that are compared. It travels to workers with the distance, so it must be picklable.
Maps = Callable[[ScaledPair], FeatureMaps]


@dataclasses.dataclass(frozen=True)
class LevelMaps:
    """The features of one level of D-FE, from 0."""

    level: int

    def __call__(self, pair: ScaledPair) -> FeatureMaps:
        """Return them for a pair."""
        return pair.features[self.level]


@dataclasses.dataclass(frozen=True)
class DeepChange:
    """Change of features of one kind, against what the other date predicts: the larger of both ways.

    Attributes
    ----------
    maps : callable
        Returns the features of a pair.
    sigma : float
        Standard deviation of the window over the finished map, in pixels.
    forward, backward : Residual
        After predicted from before, and before from after.
    """

    maps: Maps
    sigma: float
    forward: Residual
    backward: Residual

    @classmethod
    def fitting(cls, maps: Maps, sigma: float) -> Callable[[FitSample], DeepChange]:
        """Return the ``fit`` of a term that compares these features."""

        def fit(sample: FitSample) -> DeepChange:
            dates = [date.astype(np.float64) for date in drawn(sample, maps)]
            scales = [_scale(date) for date in dates]
            z = [(date - mean) * gain for date, (mean, gain) in zip(dates, scales, strict=True)]
            joint = np.concatenate(z)
            values, vectors = linalg.eigh(joint.T @ joint / len(joint))
            axes = vectors[:, np.argsort(-values, kind="stable")[:COMPONENTS]]
            (x, y), (of_x, of_y) = (date @ axes for date in z), scales
            return cls(maps, sigma, _residual(axes, x, y, of_x, of_y), _residual(axes, y, x, of_y, of_x))

        return fit

    def __call__(self, pair: ScaledPair) -> Tensor:
        """Return the distance, ``(height, width)`` float32."""
        maps = self.maps(pair)
        x, y = maps.before.flatten(1), maps.after.flatten(1)
        length = torch.maximum(self.forward.length(x, y), self.backward.length(y, x)).log1p_()
        return gaussian(maps.interpolated(length.reshape(maps.before.shape[1:])), self.sigma, pair.weight)


#: Mean of each channel of a date, and what it is multiplied by.
Scale = tuple[Float64Array, Float64Array]


def _scale(date: Float64Array) -> Scale:
    """Return mean and gain of each channel; one that hardly varies does not weigh more for it.

    A date that does not vary (of one place, say) says nothing: its gain is 0, not that of rounding errors.
    """
    deviation = date.std(axis=0)
    least = 1e-3 * deviation.mean()
    return date.mean(axis=0), 1 / (deviation + least) if least > LEAST else np.zeros_like(deviation)


def _residual(axes: Float64Array, x: Float64Array, y: Float64Array, of_x: Scale, of_y: Scale) -> Residual:
    """Return the residual of ``y`` given ``x``, both on the axes, for features as they are."""
    slope, constant, whitening = learned_residual(x, y)
    target = (axes @ whitening).T * of_y[1]
    source = -(axes @ slope @ whitening).T * of_x[1]
    offset = -(constant @ whitening) - target @ of_y[0] - source @ of_x[0]
    return Residual(*(np.ascontiguousarray(values, np.float32) for values in (source, target, offset)))


def drawn(sample: FitSample, maps: Maps) -> tuple[Float32Array, Float32Array]:
    """Return features of at most :data:`PLACES` valid places of both dates, ``(n, channels)`` float32.

    A place is valid where most of its pixels are.
    """
    chips = [maps(pair) for pair in sample.pairs]
    places = [
        chip.valid_places(pair.valid).flatten().nonzero().squeeze(1).cpu().numpy()
        for chip, pair in zip(chips, sample.pairs, strict=True)
    ]
    if not sum(map(len, places)):  # islands of few valid pixels: all that there is
        places = [np.arange(chip.before[0].numel()) for chip in chips]
    total = sum(map(len, places))
    most = PLACES * CHANNELS // max(CHANNELS, len(chips[0].before))
    random = np.random.default_rng(sample.seed)
    rows: tuple[list[Tensor], list[Tensor]] = ([], [])
    for chip, own in zip(chips, places, strict=True):
        count = min(len(own), math.ceil(most * len(own) / total))
        pick = torch.from_numpy(np.sort(random.choice(own, count, replace=False))).to(chip.before.device)
        for date, features in zip(rows, (chip.before, chip.after), strict=True):
            date.append(features.flatten(1).index_select(1, pick))
    before, after = (torch.cat(date, 1).T.contiguous().cpu().numpy() for date in rows)
    return before, after


__all__ = ["DeepChange", "LevelMaps", "Maps", "Residual", "drawn", "learned_residual"]
