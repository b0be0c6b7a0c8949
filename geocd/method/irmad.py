"""Iteratively re-weighted multivariate alteration detection (IR-MAD): fitted to a sample, applied later."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

from geocd.types import Float32Array, Float64Array

#: Canonical correlations are held below this. MAD variates are divided by their no-change deviation
#: sqrt(2 (1 - rho)); between nearly equal images that is the deviation of rounding errors, and dividing by
#: it would turn them into change.
MAX_CORRELATION = 0.999
#: Pixels that are taken at a time: they stay in the processor's cache, which is five times faster.
PIECE = 2**13


@dataclasses.dataclass(frozen=True)
class IrMad:
    """Iteratively re-weighted multivariate alteration detection.

    Nielsen, "The Regularized Iteratively Reweighted MAD Method for Change Detection in Multi- and
    Hyperspectral Data", IEEE Trans. Image Processing 16 (2007). Canonical variates of both dates are
    subtracted from each other; each iteration weighs the pixels by their probability of no change.

    Attributes
    ----------
    left, right : ndarray, (bands, bands), float64
        Canonical vectors of before and after in their rows.
    offset : ndarray, (bands,), float64
        Mean of the MAD variates.
    variance : ndarray, (bands,), float64
        Their no-change variance, ``2 (1 - rho)``.
    correlation : ndarray, (bands,), float64
        Canonical correlations ``rho``.
    """

    left: Float64Array
    right: Float64Array
    offset: Float64Array
    variance: Float64Array
    correlation: Float64Array

    @classmethod
    def fit(
        cls,
        before: npt.NDArray[np.floating],
        after: npt.NDArray[np.floating],
        *,
        iterations: int = 30,
        tolerance: float = 1e-3,
        ridge: float = 1e-6,
        max_correlation: float = MAX_CORRELATION,
    ) -> IrMad:
        """Fit to valid pixels.

        Parameters
        ----------
        before, after : ndarray, (bands, n), float32 or float64
            Computed in float64. Constant and linearly dependent bands are allowed.
        iterations : int
            Maximum number of re-weightings.
        tolerance : float
            Stop when no canonical correlation changes by more.
        ridge : float
            Added to the variance of each standardised band. On linearly dependent bands (RGB + their mean)
            the covariance has no inverse; the default is what rounding of 8-bit values adds anyway.
        max_correlation : float
            Canonical correlations above it count as this one.
        """
        # Working on standardised bands keeps the ridge below meaningful for every unit. A band that
        # does not vary becomes zero and drops out of the canonical variates.
        raw1, raw2 = (date.mean(axis=1, dtype=np.float64) for date in (before, after))
        # Band by band: numpy copies what it takes the deviation of.
        scale1, scale2 = (
            _one_over(np.array([band.std(dtype=np.float64) for band in date])) for date in (before, after)
        )
        bands, count = before.shape
        centre, scale = np.concatenate([raw1, raw2])[:, None], np.concatenate([scale1, scale2])[:, None]

        def pieces() -> Iterator[Float64Array]:
            """Yield the standardised bands of both dates."""
            for start in range(0, count, PIECE):
                part = slice(start, start + PIECE)
                pixels = np.concatenate([before[:, part], after[:, part]], dtype=np.float64)
                pixels -= centre
                pixels *= scale
                yield pixels

        loading = ridge * np.eye(bands)
        weigh: Callable[[Float64Array], Float64Array] = _equal_weights
        previous = np.zeros(bands)
        for _ in range(iterations):
            mean, covariance = _weighted_moments(pieces(), weigh)
            s11 = covariance[:bands, :bands] + loading
            s12 = covariance[:bands, bands:]
            s22 = covariance[bands:, bands:] + loading
            squared, left = linalg.eigh(s12 @ linalg.solve(s22, s12.T, assume_a="pos"), s11)
            rho = np.sqrt(np.clip(squared, 0, 1))
            left = left.T  # rows; unit variance of the variates by eigh's normalisation
            right = linalg.solve(s22, s12.T @ left.T, assume_a="pos").T
            norm = np.sqrt(np.einsum("ij,jk,ik->i", right, s22, right))
            right *= _one_over(norm)[:, None]
            variance = 2 * (1 - np.minimum(rho, max_correlation))
            change = np.abs(rho - previous).max()
            previous = rho
            if change < tolerance:
                break
            weigh = functools.partial(_no_change, np.hstack([left, -right]), mean, variance)
        left_raw, right_raw = left * scale1, right * scale2
        offset = left_raw @ raw1 + left @ mean[:bands] - right_raw @ raw2 - right @ mean[bands:]
        return cls(left_raw, right_raw, offset, variance, rho)

    def chi(self, before: npt.NDArray[np.generic], after: npt.NDArray[np.generic]) -> Float32Array:
        """Return the root of the chi-squared statistic, ``(height, width)`` float32, 0 or more."""
        vectors = np.hstack([self.left, -self.right])
        x, y = before.reshape(len(before), -1), after.reshape(len(after), -1)
        chi = np.empty(x.shape[1], dtype=np.float32)
        for start in range(0, chi.size, PIECE):
            part = slice(start, start + PIECE)
            pixels = np.concatenate([x[:, part], y[:, part]], dtype=np.float64)
            chi[part] = np.sqrt(_chi2(vectors, self.offset, self.variance, pixels))
        return chi.reshape(before.shape[1:])


def _equal_weights(pixels: Float64Array) -> Float64Array:
    """Return the weights of the first iteration."""
    return np.ones(pixels.shape[1])


def _no_change(
    vectors: Float64Array, mean: Float64Array, variance: Float64Array, pixels: Float64Array
) -> Float64Array:
    """Return the probability that a pixel has not changed: of a chi-squared as large or larger."""
    return chi2_survival(len(variance), _chi2(vectors, vectors @ mean, variance, pixels))


def _chi2(
    vectors: Float64Array, offset: Float64Array, variance: Float64Array, pixels: Float64Array
) -> Float64Array:
    """Return the squared variates of the pixels of both dates, in units of their variance, summed."""
    scale = 1 / np.sqrt(variance)[:, None]
    variates = (vectors * scale) @ pixels
    variates -= offset[:, None] * scale
    return np.asarray(np.einsum("ij,ij->j", variates, variates), dtype=np.float64)


def chi2_survival(degrees: int, chi2: Float64Array) -> Float64Array:
    """Return the probability of a chi-squared as large or larger, for a whole number of degrees of freedom.

    By recurrence from 1 or 2 degrees: ``special.chdtrc``, for any number, takes ten times as long.
    """
    half = chi2 / 2
    decay = np.exp(-half)
    if degrees % 2:
        root = np.sqrt(half)
        power, probability, term = 0.5, special.erfc(root), root * decay / math.gamma(1.5)
    else:
        power, probability, term = 1.0, decay.copy(), half * decay
    while power < degrees / 2:
        probability += term
        power += 1
        term *= half / power
    return np.asarray(probability, dtype=np.float64)


def _weighted_moments(
    pieces: Iterable[Float64Array], weigh: Callable[[Float64Array], Float64Array]
) -> tuple[Float64Array, Float64Array]:
    """Return mean ``(n,)`` and covariance ``(n, n)`` of variables about 0, with a weight for each pixel."""
    total: float = 0.0
    first, second = np.zeros(()), np.zeros(())
    for pixels in pieces:
        weight = weigh(pixels)
        total += float(weight.sum())
        first = first + pixels @ weight
        second = second + (pixels * weight) @ pixels.T
    total = max(total, 1e-12)
    mean = first / total
    return mean, second / total - np.outer(mean, mean)


def _one_over(values: Float64Array) -> Float64Array:
    """Return the reciprocal of each value, and 0 for values that are 0 up to rounding."""
    large = values > 1e-9 * max(float(values.max(initial=0.0)), 1e-30)
    return np.where(large, 1 / np.where(large, values, 1), 0.0)
