"""Contrast stretches: values of both dates to red, green and blue, comparable wherever that is possible."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from geocd.types import BoolArray, Float32Array, Float64Array, PixelArray

Picture = npt.NDArray[np.uint8]
#: Pixels of both dates that the contrast stretch is computed from.
_STRETCHED = 2**20
#: A date that fills less than this share of the joint range, in every band shown, is not visible there: it
#: has fewer than 40 of 256 levels. The darker of two dates would be almost black.
_LEAST_SHOWN = 0.15


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Values to levels from 0 to 255, band by band.

    Attributes
    ----------
    low, high : ndarray, (bands, 1, 1), float64
        The values that become 0 and 255.
    """

    low: Float64Array
    high: Float64Array

    def picture(self, values: PixelArray) -> Picture:
        """Return values ``(bands, height, width)`` as red, green, blue: ``(height, width, 3)``."""
        levels = []  # band by band, to save memory
        for value, least, most in zip(values, self.low, self.high, strict=True):
            # A constant image is mid-grey. A gentle gamma: linear reflectance looks too dark on a screen.
            unit = (value - least) / (most - least) if most > least else np.full(value.shape, 0.5)
            levels.append(np.round(np.clip(unit, 0, 1) ** 0.8 * 255).astype(np.uint8))
        return np.stack(levels * (3 // len(levels)), axis=-1)


def stretches(
    dates: Sequence[Float32Array], valid: Sequence[BoolArray]
) -> tuple[tuple[Stretch, Stretch], bool]:
    """Return the stretch of each date, and whether they differ.

    The limits are percentiles of both dates together, per band. Where one date would fill too small a part
    of them to be visible (digital numbers beside reflectance, 8 beside 16 bit, a large offset), each gets
    its own.

    Parameters
    ----------
    dates : sequence of ndarray, (bands, height, width), float32
        Before and after.
    valid : sequence of ndarray, (height, width), bool
    """
    samples = [values[:, mask] for values, mask in zip(dates, valid, strict=True)]
    step = math.ceil(sum(values.shape[1] for values in samples) / _STRETCHED) or 1
    samples = [values[:, ::step] for values in samples]
    own = [_limits(values) for values in samples]
    # As many values of each: a date that covers a corner of the other would be clipped to black or white.
    joint = _limits(np.concatenate([_quantiles(values) for values in samples], axis=1))
    spans = [limits.high - limits.low for limits in own]
    # A constant date stays so, whatever its limits.
    apart = any(
        bool((span > 0).any() and (span <= _LEAST_SHOWN * (joint.high - joint.low)).all()) for span in spans
    )
    return ((own[0], own[1]) if apart else (joint, joint)), apart


def _quantiles(values: Float32Array) -> Float32Array:
    """Return 1001 quantiles per band of ``(bands, n)``; the values themselves where ``n`` is 0."""
    if values.shape[1] == 0:
        return values
    return np.percentile(values, np.linspace(0, 100, 1001), axis=1).T.astype(np.float32)


def _limits(values: Float32Array) -> Stretch:
    """Return the 2nd and 98th percentile per band of ``(bands, n)``; the extremes where they coincide."""
    if values.shape[1] == 0:
        zero = np.zeros((len(values), 1, 1))
        return Stretch(zero, zero)
    low, high = np.percentile(values.astype(np.float64), [2, 98], axis=1, overwrite_input=True)
    flat = low == high
    low, high = np.where(flat, values.min(axis=1), low), np.where(flat, values.max(axis=1), high)
    return Stretch(low[:, None, None], high[:, None, None])


__all__ = ["Picture", "Stretch", "stretches"]
