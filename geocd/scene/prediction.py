"""One date predicted from others, by robust least squares: what is left is not what most of the scene did."""

from __future__ import annotations

import dataclasses

import numpy as np

from geocd.types import BoolArray, Float32Array, Float64Array, PixelArray

#: Values of a date beyond these percentiles do not count for its mean and deviation, nor do values count
#: beyond so many deviations where they predict.
PERCENTILES, LIMIT = (0.2, 99.8), 6.0
#: Rounds of weights; ridge of the prediction, in pixels; and of the covariance, in variances of a date.
ROUNDS, RIDGE, LEAST_VARIANCE = 5, 1.0, 1e-3


@dataclasses.dataclass(frozen=True)
class DateScale:
    """Brings a date to mean 0 and deviation 1, band by band.

    Attributes
    ----------
    mean, gain : ndarray, (bands,), float64
        ``gain`` is 0 for a constant band.
    """

    mean: Float64Array
    gain: Float64Array

    @classmethod
    def fit(cls, values: Float64Array) -> DateScale:
        """Fit to pixels, ``(n, bands)`` with ``n`` at least 1."""
        low, high = np.percentile(values, PERCENTILES, axis=0)
        clipped = np.clip(values, low, high)
        mean, std = clipped.mean(axis=0), clipped.std(axis=0)
        varies = std > 1e-12 * np.maximum(np.abs(mean), 1e-300)
        return cls(mean, np.where(varies, 1 / np.where(varies, std, 1), 0.0))

    def apply(self, values: PixelArray, limit: float | None = LIMIT) -> Float32Array:
        """Return z-scores of ``(bands, ...)``, float32, within the limit where there is one."""
        scaled = np.empty(values.shape, np.float32)
        for band, target in enumerate(scaled):
            target[...] = (values[band].astype(np.float64) - self.mean[band]) * self.gain[band]
        return scaled if limit is None else np.clip(scaled, -limit, limit)

    def undone(self, scaled: Float32Array, band: int) -> Float64Array | None:
        """Return a band of z-scores in its own unit; None where the band is constant."""
        gain = float(self.gain[band])
        return scaled.astype(np.float64) / gain + float(self.mean[band]) if gain else None


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A linear prediction: ``matrix @ x + offset``, and the metric of what it leaves.

    Attributes
    ----------
    matrix : ndarray, (targets, sources), float32
    offset : ndarray, (targets,), float32
    whitening : ndarray, (targets, targets), float32
        ``whitening @ residual`` has about unit covariance over the unchanged places.
    """

    matrix: Float32Array
    offset: Float32Array
    whitening: Float32Array

    @classmethod
    def fit(cls, x: Float64Array, y: Float64Array, usable: BoolArray | None = None) -> Prediction:
        """Fit by least squares under weights that places which departed lose.

        The weights are ``1 / (1 + m)``, where ``m`` is the mean of the squared whitened residual, as for the
        deep distances (:mod:`geocd.method.deep`).

        Parameters
        ----------
        x, y : ndarray, (n, sources) and (n, targets), float64
        usable : ndarray, (n,), bool, optional
            Leave it out where all are. Where none is, the prediction is 0.
        """
        if usable is not None:
            x, y = x[usable], y[usable]
        padded = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        weight = np.ones(len(x))
        ridge, least = RIDGE * np.eye(padded.shape[1]), LEAST_VARIANCE * np.eye(y.shape[1])
        for _ in range(ROUNDS):
            weighted = padded * weight[:, None]
            slope = np.linalg.solve(weighted.T @ padded + ridge, weighted.T @ y)
            residual = y - padded @ slope
            covariance = (residual * weight[:, None]).T @ residual / max(weight.sum(), 1.0) + least
            whitening = np.linalg.cholesky(np.linalg.inv(covariance)).T
            weight = 1 / (1 + ((residual @ whitening.T) ** 2).mean(axis=1))
        return cls(
            np.ascontiguousarray(slope[:-1].T, np.float32),
            slope[-1].astype(np.float32),
            np.ascontiguousarray(whitening, np.float32),
        )

    def apply(self, x: Float32Array) -> Float32Array:
        """Return the prediction of ``(sources, ...)``, as ``(targets, ...)`` float32."""
        flat = self.matrix @ x.reshape(len(x), -1) + self.offset[:, None]
        return np.asarray(flat.reshape(-1, *x.shape[1:]), np.float32)

    def lengths(self, residual: Float32Array) -> Float32Array:
        """Return the mean square of the whitened residual, float32; about 1 where nothing changed."""
        whitened = self.whitening @ residual.reshape(len(residual), -1)
        return np.asarray((whitened**2).mean(axis=0).reshape(residual.shape[1:]), np.float32)


__all__ = ["DateScale", "Prediction"]
