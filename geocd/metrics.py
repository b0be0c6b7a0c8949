"""Agreement of a change probability with a reference: exact, on plain arrays.

Only the command line and benchmarks import this module (through :mod:`geocd.evaluate`), so that a
reference can never reach detection.

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
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from geocd.types import BoolArray, Float32Array, Float64Array, IntArray

FloatArray = npt.NDArray[np.floating[Any]]

CALIBRATION_BINS = 15
#: Pixels looked at in one go, which bounds the temporary arrays.
PIECE = 1 << 21


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confusion:
    """Pixels by decision and reference.

    Attributes
    ----------
    tp, fp, fn, tn : int
        Changed in both; in the decision alone; in the reference alone; in neither.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def n_pixels(self) -> int:
        """All pixels."""
        return self.tp + self.fp + self.fn + self.tn

    @property
    def precision(self) -> float:
        """Share of the decided changes that are in the reference; NaN when nothing was decided changed."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the reference's changes that were found; NaN when the reference has none."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN when neither side has a change."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> float:
        """Intersection over union of the changes; NaN when neither side has one."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> float:
        """Share of pixels decided as in the reference."""
        return _ratio(self.tp + self.tn, self.n_pixels)

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond chance; NaN when both sides are one and the same constant."""
        # In integers: with n pixels, (po - pe) / (1 - pe) = (n * agree - chance) / (n * n - chance).
        n = self.n_pixels
        predicted, positive = self.tp + self.fp, self.tp + self.fn
        chance = predicted * positive + (n - predicted) * (n - positive)
        return _ratio(n * (self.tp + self.tn) - chance, n * n - chance)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationCurve:
    """How often the reference says "changed" where the probability says so.

    Attributes
    ----------
    edges : ndarray, (bins + 1,), float64
        Bin ``i`` holds the probabilities in ``(edges[i], edges[i + 1]]``, the first one 0 as well.
    mean_prob : ndarray, (bins,), float64
        Mean probability in the bin; NaN where it is empty.
    changed_share : ndarray, (bins,), float64
        Share of its pixels that the reference calls changed; NaN where it is empty.
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
        Objects of the reference; those of them that share a pixel with a predicted object.
    n_predicted, n_confirmed : int
        Predicted objects; those of them that share a pixel with an object of the reference.
    """

    n_reference: int
    n_detected: int
    n_predicted: int
    n_confirmed: int

    @property
    def detected_share(self) -> float:
        """Share of the reference's objects that were found; NaN when there is none."""
        return _ratio(self.n_detected, self.n_reference)

    @property
    def confirmed_share(self) -> float:
        """Share of the predicted objects that the reference knows; NaN when there is none."""
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
        The decision that f1 to accuracy speak of: changed where ``prob >= threshold``.
    auc : float
        Area under the ROC curve; NaN unless the reference has both changed and unchanged pixels.
    average_precision : float
        Area under the precision-recall curve, without interpolation; NaN without a changed pixel.
    f1, precision, recall, iou, kappa, accuracy : float
        At the threshold, see :class:`Confusion`.
    best_f1, best_threshold : float
        The best F1 any threshold could reach and the highest threshold that reaches it. Chosen with
        the reference in hand: an upper bound, never a result.
    ece : float
        Expected calibration error over 15 bins of equal width.
    brier : float
        Mean square difference of probability and reference.
    n_pixels, n_changed : int
        Pixels compared; those of them that the reference calls changed.
    predicted_share, reference_share : float
        Share of the pixels that the decision and the reference call changed.
    objects : ObjectScores or None
        Agreement in objects, where it was asked for.
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

    def as_dict(self) -> dict[str, Any]:
        """Return all values for JSON: None where undefined."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        objects = values.pop("objects")
        plain: dict[str, Any] = {name: _none_if_nan(value) for name, value in values.items()}
        plain["objects"] = None if objects is None else objects.as_dict()
        return plain


def evaluate(prob: FloatArray, reference: BoolArray, *, threshold: float) -> Scores:
    """Return every score of a probability against a reference, from one sort.

    Parameters
    ----------
    prob : ndarray, (n,), float32
        Change probability in [0, 1], valid pixels alone. Other floats are rounded to float32, the
        type of every probability raster.
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
    """Return the chance that a changed pixel has a higher probability than an unchanged one.

    A tie counts one half. NaN unless the reference has both kinds. Arguments as in :func:`evaluate`.
    """
    return _roc_auc(_sorted_keys(_checked(prob, reference), reference))


def average_precision(prob: FloatArray, reference: BoolArray) -> float:
    """Return the sum of precision times gain in recall over all thresholds; NaN without a changed pixel.

    No interpolation between thresholds, which would flatter. Arguments as in :func:`evaluate`.
    """
    return _average_precision(_sorted_keys(_checked(prob, reference), reference))


def best_f1(prob: FloatArray, reference: BoolArray) -> tuple[float, float]:
    """Return the best F1 of any threshold and the highest threshold that reaches it.

    Both NaN without a changed pixel. Arguments as in :func:`evaluate`.
    """
    return _best_f1(_sorted_keys(_checked(prob, reference), reference))


def confusion(prob: FloatArray, reference: BoolArray, *, threshold: float) -> Confusion:
    """Count the pixels by decision (``prob >= threshold``) and reference."""
    # The raster holds float32, and every other place decides on float32: a threshold of 0.7 finds the
    # pixels stored as 0.7, although float32(0.7) is a little less than 0.7.
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
        place = np.searchsorted(edges[1:-1], part)
        count += np.bincount(place, minlength=bins)
        changed += np.bincount(place[reference[begin : begin + PIECE]], minlength=bins)
        total += np.bincount(place, weights=part, minlength=bins)
    with np.errstate(invalid="ignore"):
        return CalibrationCurve(
            edges=edges, mean_prob=total / count, changed_share=changed / count, count=count
        )


def brier(prob: FloatArray, reference: BoolArray) -> float:
    """Return the mean square difference of probability and reference; NaN without a pixel."""
    prob = _checked(prob, reference)
    total = 0.0
    for begin in range(0, prob.size, PIECE):
        part = prob[begin : begin + PIECE].astype(np.float64)
        part -= reference[begin : begin + PIECE]
        total += float(np.dot(part, part))
    return _ratio(total, prob.size)


def object_scores(changed: BoolArray, reference: BoolArray, valid: BoolArray) -> ObjectScores:
    """Compare two change maps object by object: found is what overlaps by one pixel.

    Pixel scores are ruled by the large objects; these count each object once.

    Parameters
    ----------
    changed, reference : ndarray, (height, width), bool
        The decision and the reference.
    valid : ndarray, (height, width), bool
        Where both are known; the rest belongs to no object.
    """
    both = changed & reference & valid

    def count(what: BoolArray) -> tuple[int, int]:
        # Pixels that touch at a corner only stay two objects, as they do in the polygons.
        labels, number = ndimage.label(what & valid)
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
    """``prob`` as float32, after the checks that the key of a pixel relies on."""
    if prob.ndim != 1 or prob.shape != reference.shape:
        raise ValueError(
            f"prob {prob.shape} and reference {reference.shape} must be flat and of one length. "
            "Select the valid pixels of both with the same boolean array."
        )
    if reference.dtype != np.bool_:
        raise ValueError(f"reference must be bool, True where changed, and is {reference.dtype}")
    values = np.asarray(prob, dtype=np.float32)
    # Written so that NaN fails too.
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"prob must lie in [0, 1], and runs from {values.min()} to {values.max()}. "
            "Leave NaN (not valid) pixels out before."
        )
    return values


def _sorted_keys(prob: Float32Array, reference: BoolArray) -> npt.NDArray[np.uint32]:
    """One key per pixel, ascending: the bits of the probability, then the reference as last bit."""
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
    """Changed and unchanged pixels."""
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
        seen = np.cumsum(changed) + above
        twice += int(np.sum(unchanged * (2 * seen - changed)))
        above = int(seen[-1])
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


def _none_if_nan(value: Any) -> Any:
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
