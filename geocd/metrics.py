"""Scores of a change probability against a reference, exact, on plain arrays.

Only :mod:`geocd.evaluate`, the command line and benchmarks import this module, so that a reference never
reaches detection.

All curves come from one sort of the pixels. Probabilities are not negative, and the bit patterns of
non-negative IEEE floats sort like unsigned integers, so a pixel becomes one 32-bit key: the bits of its
probability, with the reference in the last bit. Sorting the keys orders the pixels and carries the
reference along without an index array: four bytes per pixel instead of twelve. What follows runs over the
sorted keys in pieces, with exact integer sums, so that memory stays at that and ties count as ties.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from geocd.types import BoolArray, Float32Array, Float64Array, IntArray

FloatArray = npt.NDArray[np.floating[Any]]
Number = TypeVar("Number", int, float)

CALIBRATION_BINS = 15
#: Pixels processed at a time, which bounds the size of temporary arrays.
PIECE = 1 << 21


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confusion:
    """Confusion matrix: pixels by decision and reference.

    Attributes
    ----------
    tp, fp, fn, tn : int
        Pixels changed in both; in the decision alone; in the reference alone; in neither.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def n_pixels(self) -> int:
        """Number of pixels."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def precision(self) -> float:
        """Share of the detected changes that are in the reference; NaN when none was detected."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the changes of the reference that were detected; NaN when it has none."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN when neither side has a change."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """Intersection over union of the changes; NaN when neither side has any."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> float:
        """Share of the pixels with the same decision as the reference."""
        return _ratio(self.tp + self.tn, self.n_pixels)

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond chance; NaN when both sides are the same constant."""
        # In integers: with n pixels, (po - pe) / (1 - pe) = (n * agree - chance) / (n * n - chance).
        n = self.n_pixels
        predicted, positive = self.tp + self.fp, self.tp + self.fn
        chance = predicted * positive + (n - predicted) * (n - positive)
        return _ratio(n * (self.tp + self.tn) - chance, n * n - chance)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationCurve:
    """Reliability of the probability: the share of changed pixels by probability.

    Attributes
    ----------
    edges : ndarray, (bins + 1,), float64
        Bin ``i`` holds the probabilities in ``(edges[i], edges[i + 1]]``, the first one 0 as well.
    mean_prob : ndarray, (bins,), float64
        Mean probability in the bin; NaN where it is empty.
    changed_share : ndarray, (bins,), float64
        Share of its pixels that the reference has as changed; NaN where it is empty.
    count : ndarray, (bins,), int64
        Pixels in the bin.
    """

    edges: Float64Array
    mean_prob: Float64Array
    changed_share: Float64Array
    count: IntArray

    @property
    def ece(self) -> float:
        """Expected calibration error: mean distance of the two, weighted by the pixels of the bins."""
        filled = self.count > 0
        if not filled.any():
            return math.nan
        apart = np.abs(self.mean_prob[filled] - self.changed_share[filled])
        return float(np.average(apart, weights=self.count[filled]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectScores:
    """Agreement counted in objects: groups of changed pixels that touch along an edge.

    Attributes
    ----------
    n_reference, n_detected : int
        Objects of the reference; how many of them share a pixel with a predicted object.
    n_predicted, n_confirmed : int
        Predicted objects; how many of them share a pixel with an object of the reference.
    """

    n_reference: int
    n_detected: int
    n_predicted: int
    n_confirmed: int

    @property
    def detected_share(self) -> float:
        """Share of the objects of the reference that were detected; NaN when there is none."""
        return _ratio(self.n_detected, self.n_reference)

    @property
    def confirmed_share(self) -> float:
        """Share of the predicted objects that are in the reference; NaN when there is none."""
        return _ratio(self.n_confirmed, self.n_predicted)

    def as_dict(self) -> dict[str, int | float | None]:
        """Return counts and shares for JSON: None where undefined."""
        return {
            **dataclasses.asdict(self),
            "detected_share": _none_if_nan(self.detected_share),
            "confirmed_share": _none_if_nan(self.confirmed_share),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """Agreement of a probability with a reference. What is undefined is NaN.

    Attributes
    ----------
    threshold : float
        Threshold of the decision that ``f1`` to ``accuracy`` score: changed where ``prob >= threshold``.
    auc : float
        Area under the ROC curve; NaN unless the reference has both changed and unchanged pixels.
    average_precision : float
        Area under the precision-recall curve, without interpolation; NaN without a changed pixel.
    f1, precision, recall, iou, kappa, accuracy : float
        At the threshold, see :class:`Confusion`.
    best_f1, best_threshold : float
        The best F1 of any threshold, and the highest threshold that reaches it. Chosen with knowledge of the
        reference: an upper bound, not a result.
    ece : float
        Expected calibration error over 15 bins of equal width.
    brier : float
        Brier score: mean squared difference of probability and reference.
    n_pixels, n_changed : int
        Compared pixels; how many of them are changed in the reference.
    predicted_share, reference_share : float
        Share of the pixels that are changed in the decision and in the reference.
    objects : ObjectScores or None
        Scores by object; None where there is no map of pixels.
    """

    threshold: float
    auc: float
    average_precision: float
    f1: float
    precision: float
    recall: float
    iou: float
    kappa: float
    accuracy: float
    best_f1: float
    best_threshold: float
    ece: float
    brier: float
    n_pixels: int
    n_changed: int
    predicted_share: float
    reference_share: float
    objects: ObjectScores | None = None

    def as_dict(self) -> dict[str, object]:
        """Return all values for JSON: None where undefined."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        objects = values.pop("objects")
        plain: dict[str, object] = {name: _none_if_nan(value) for name, value in values.items()}
        plain["objects"] = None if objects is None else objects.as_dict()
        return plain


def evaluate(prob: FloatArray, reference: BoolArray, *, threshold: float) -> Scores:
    """Return all scores of a probability against a reference, from a single sort.

    Parameters
    ----------
    prob : ndarray, (n,), float32
        Change probability in [0, 1] of the valid pixels. Other floats are rounded to float32, the type of
        every probability raster.
    reference : ndarray, (n,), bool
        True where changed.
    threshold : float
        Changed where ``prob >= threshold``.

    Raises
    ------
    ValueError
        Shapes differ, or a probability is NaN or outside [0, 1].
    """
    prob = _checked(prob, reference)
    keys = _sorted_keys(prob, reference)
    counts = confusion(prob, reference, threshold=threshold)
    best, best_threshold = _best_f1(keys)
    return Scores(
        threshold=float(threshold),
        auc=_roc_auc(keys),
        average_precision=_average_precision(keys),
        f1=counts.f1,
        precision=counts.precision,
        recall=counts.recall,
        iou=counts.iou,
        kappa=counts.kappa,
        accuracy=counts.accuracy,
        best_f1=best,
        best_threshold=best_threshold,
        ece=calibration_curve(prob, reference).ece,
        brier=brier(prob, reference),
        n_pixels=counts.n_pixels,
        n_changed=counts.tp + counts.fn,
        predicted_share=_ratio(counts.tp + counts.fp, counts.n_pixels),
        reference_share=_ratio(counts.tp + counts.fn, counts.n_pixels),
    )


def roc_auc(prob: FloatArray, reference: BoolArray) -> float:
    """Return the area under the ROC curve.

    That is the chance that a changed pixel has a higher probability than an unchanged one; a tie counts one
    half. NaN unless the reference has both kinds. Arguments as in :func:`evaluate`.
    """
    return _roc_auc(_sorted_keys(_checked(prob, reference), reference))


def average_precision(prob: FloatArray, reference: BoolArray) -> float:
    """Return the average precision: precision times the gain in recall, summed over all thresholds.

    Without interpolation between thresholds, which would be too optimistic. NaN without a changed pixel.
    Arguments as in :func:`evaluate`.
    """
    return _average_precision(_sorted_keys(_checked(prob, reference), reference))


def best_f1(prob: FloatArray, reference: BoolArray) -> tuple[float, float]:
    """Return the best F1 of any threshold and the highest threshold that reaches it.

    Both NaN without a changed pixel. Arguments as in :func:`evaluate`.
    """
    return _best_f1(_sorted_keys(_checked(prob, reference), reference))


def confusion(prob: FloatArray, reference: BoolArray, *, threshold: float) -> Confusion:
    """Count the pixels by decision (``prob >= threshold``) and reference."""
    # Rasters hold float32, and all decisions are made in float32: a threshold of 0.7 includes pixels stored
    # as 0.7, although float32(0.7) is a little less than 0.7.
    changed = np.asarray(prob, dtype=np.float32) >= np.float32(threshold)
    tp = int(np.count_nonzero(changed & reference))
    predicted, positive = int(np.count_nonzero(changed)), int(np.count_nonzero(reference))
    return Confusion(tp=tp, fp=predicted - tp, fn=positive - tp, tn=changed.size - predicted - positive + tp)


def calibration_curve(
    prob: FloatArray, reference: BoolArray, *, bins: int = CALIBRATION_BINS
) -> CalibrationCurve:
    """Return mean probability and share of changed pixels in bins of equal width.

    Arguments as in :func:`evaluate`; ``bins`` is the number of bins over [0, 1].
    """
    prob = _checked(prob, reference)
    edges = np.linspace(0.0, 1.0, bins + 1)
    count = np.zeros(bins, dtype=np.int64)
    changed = np.zeros(bins, dtype=np.int64)
    total = np.zeros(bins)
    for begin in range(0, prob.size, PIECE):
        part = prob[begin : begin + PIECE].astype(np.float64)
        index = np.searchsorted(edges[1:-1], part)
        count += np.bincount(index, minlength=bins)
        changed += np.bincount(index[reference[begin : begin + PIECE]], minlength=bins)
        total += np.bincount(index, weights=part, minlength=bins)
    with np.errstate(invalid="ignore"):
        return CalibrationCurve(
            edges=edges, mean_prob=total / count, changed_share=changed / count, count=count
        )


def brier(prob: FloatArray, reference: BoolArray) -> float:
    """Return the mean squared difference of probability and reference; NaN without a pixel."""
    prob = _checked(prob, reference)
    total = 0.0
    for begin in range(0, prob.size, PIECE):
        part = prob[begin : begin + PIECE].astype(np.float64)
        part -= reference[begin : begin + PIECE]
        total += float(np.dot(part, part))
    return _ratio(total, prob.size)


def object_scores(changed: BoolArray, reference: BoolArray, valid: BoolArray) -> ObjectScores:
    """Compare two change maps object by object; an overlap of one pixel is enough.

    Large objects dominate scores by pixel, whereas these count each object once.

    Parameters
    ----------
    changed, reference : ndarray, (height, width), bool
        Decision and reference, True where changed.
    valid : ndarray, (height, width), bool
        True where both are known; other pixels belong to no object.
    """
    both = changed & reference & valid

    def count(mask: BoolArray) -> tuple[int, int]:
        # pixels that touch only at a corner belong to two objects, as in the polygons
        labels, number = ndimage.label(mask & valid)
        return int(number), int(np.unique(labels[both]).size)

    n_reference, n_detected = count(reference)
    n_predicted, n_confirmed = count(changed)
    return ObjectScores(
        n_reference=n_reference,
        n_detected=n_detected,
        n_predicted=n_predicted,
        n_confirmed=n_confirmed,
    )


def _checked(prob: FloatArray, reference: BoolArray) -> Float32Array:
    """Return ``prob`` as float32, after the checks that the keys of the pixels rely on."""
    if prob.ndim != 1 or prob.shape != reference.shape:
        raise ValueError(
            f"prob {prob.shape} and reference {reference.shape} must be one-dimensional, of the same length. "
            "Select the valid pixels of both with the same boolean array."
        )
    if reference.dtype != np.bool_:
        raise ValueError(f"reference must be bool (True where changed), not {reference.dtype}")
    values = np.asarray(prob, dtype=np.float32)
    # written so that NaN fails too
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"prob must be in [0, 1], and ranges from {values.min()} to {values.max()}. "
            "Leave out pixels that are NaN (not valid)."
        )
    return values


def _sorted_keys(prob: Float32Array, reference: BoolArray) -> npt.NDArray[np.uint32]:
    """Return one key per pixel, ascending: the bits of the probability, then the reference as last bit."""
    keys = prob.view(np.uint32) << np.uint32(1)  # the sign bit, set for -0 alone, makes room
    keys |= reference
    keys.sort()
    return keys


def _descent(
    keys: npt.NDArray[np.uint32],
) -> Iterator[tuple[npt.NDArray[np.uint32], IntArray, IntArray]]:
    """Yield ``(bits, changed, unchanged)`` of the distinct probabilities, from the highest down.

    ``changed`` and ``unchanged`` count the pixels with exactly that probability. Pieces end between two
    probabilities, never inside a tie.
    """
    end = keys.size
    while end > 0:
        begin = max(end - PIECE, 0)
        begin = int(np.searchsorted(keys, keys[begin] & ~np.uint32(1)))
        part = keys[begin:end]
        bits = part >> np.uint32(1)
        starts = np.concatenate([[0], np.flatnonzero(bits[1:] != bits[:-1]) + 1])
        number = np.diff(starts, append=part.size)
        changed = np.add.reduceat(part & np.uint32(1), starts, dtype=np.int64)
        yield bits[starts][::-1], changed[::-1], (number - changed)[::-1]
        end = begin


def _totals(keys: npt.NDArray[np.uint32]) -> tuple[int, int]:
    """Return the number of changed and of unchanged pixels."""
    positive = sum(
        int(np.count_nonzero(keys[i : i + PIECE] & np.uint32(1))) for i in range(0, keys.size, PIECE)
    )
    return positive, keys.size - positive


def _roc_auc(keys: npt.NDArray[np.uint32]) -> float:
    positive, negative = _totals(keys)
    if positive == 0 or negative == 0:
        return math.nan
    above = twice = 0  # exact: Python integers outside, int64 within a piece
    for _, changed, unchanged in _descent(keys):
        cumulative = np.cumsum(changed) + above
        twice += int(np.sum(unchanged * (2 * cumulative - changed)))
        above = int(cumulative[-1])
    return twice / (2 * positive * negative)


def _average_precision(keys: npt.NDArray[np.uint32]) -> float:
    positive, _ = _totals(keys)
    if positive == 0:
        return math.nan
    tp = fp = 0
    total = 0.0
    for _, changed, unchanged in _descent(keys):
        hits, misses = np.cumsum(changed) + tp, np.cumsum(unchanged) + fp
        total += float(np.sum(changed * (hits / (hits + misses))))
        tp, fp = int(hits[-1]), int(misses[-1])
    return total / positive


def _best_f1(keys: npt.NDArray[np.uint32]) -> tuple[float, float]:
    positive, _ = _totals(keys)
    if positive == 0:
        return math.nan, math.nan
    best, at = -1.0, np.uint32(0)
    tp = fp = 0
    for bits, changed, unchanged in _descent(keys):
        hits, misses = np.cumsum(changed) + tp, np.cumsum(unchanged) + fp
        f1 = 2 * hits / (hits + misses + positive)
        top = int(np.argmax(f1))  # the first of equals: the highest threshold
        if f1[top] > best:
            best, at = float(f1[top]), bits[top]
        tp, fp = int(hits[-1]), int(misses[-1])
    return best, float(at.view(np.float32))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _none_if_nan(value: Number | None) -> Number | None:
    return None if isinstance(value, float) and math.isnan(value) else value


__all__ = [
    "CalibrationCurve",
    "Confusion",
    "ObjectScores",
    "Scores",
    "average_precision",
    "best_f1",
    "brier",
    "calibration_curve",
    "confusion",
    "evaluate",
    "object_scores",
    "roc_auc",
]
