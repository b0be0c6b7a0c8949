"""Agreement scores: exact hand-made cases, and scikit-learn on anything hypothesis finds."""

from __future__ import annotations

import dataclasses
import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve as sk_calibration

import geocd.metrics
from geocd.metrics import (
    Confusion,
    ObjectScores,
    average_precision,
    best_f1,
    brier,
    calibration_curve,
    confusion,
    evaluate,
    object_scores,
    roc_auc,
)

F = np.float32
# Few distinct values give ties; all floats give the ends of the range, denormals and -0.
PROBS = st.one_of(
    st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0]),
    st.floats(0, 1, width=32),
)


@st.composite
def cases(draw):
    n = draw(st.integers(1, 40))
    prob = draw(hnp.arrays(np.float32, n, elements=PROBS))
    share = draw(st.sampled_from([0, 1, 2]))  # no change, all changed, both
    reference = draw(hnp.arrays(bool, n)) if share == 2 else np.full(n, bool(share))
    return prob, reference


@given(cases(), st.floats(0, 1, width=32), st.sampled_from([1, 3, 1 << 21]))
@settings(max_examples=150, deadline=None)
def test_agrees_with_scikit_learn(case, threshold, piece):
    prob, reference = case
    before = geocd.metrics.PIECE
    geocd.metrics.PIECE = piece  # many small pieces must give what one gives
    try:
        scores = evaluate(prob, reference, threshold=threshold)
    finally:
        geocd.metrics.PIECE = before
    changed = prob >= threshold
    both = reference.any() and not reference.all()
    if both:
        assert scores.auc == pytest.approx(sk.roc_auc_score(reference, prob), abs=1e-12)
    else:
        assert math.isnan(scores.auc)
    if reference.any():
        assert scores.average_precision == pytest.approx(
            sk.average_precision_score(reference, prob), abs=1e-12
        )
        every = [sk.f1_score(reference, prob >= t, zero_division=0) for t in np.unique(prob)]
        assert scores.best_f1 == pytest.approx(max(every), abs=1e-12)
        at = sk.f1_score(reference, prob >= F(scores.best_threshold), zero_division=0)
        assert at == pytest.approx(max(every), abs=1e-12)
        assert scores.best_threshold in prob
    else:
        assert math.isnan(scores.average_precision)
        assert math.isnan(scores.best_f1)
        assert math.isnan(scores.best_threshold)
    nan = {"zero_division": np.nan}
    same(scores.precision, sk.precision_score(reference, changed, **nan))
    same(scores.recall, sk.recall_score(reference, changed, **nan))
    same(scores.f1, sk.f1_score(reference, changed, **nan))
    same(scores.accuracy, sk.accuracy_score(reference, changed))
    if (reference | changed).any():
        same(scores.iou, sk.jaccard_score(reference, changed))
    else:
        assert math.isnan(scores.iou)
    if len({*reference.tolist(), *changed.tolist()}) == 2:
        same(scores.kappa, sk.cohen_kappa_score(reference, changed))
    else:
        assert math.isnan(scores.kappa)
    same(scores.brier, np.mean((prob.astype(float) - reference) ** 2))
    assert (scores.n_pixels, scores.n_changed) == (prob.size, reference.sum())
    same(scores.predicted_share, changed.mean())
    same(scores.reference_share, reference.mean())
    json.dumps(scores.as_dict(), allow_nan=False)


def same(ours, theirs):
    assert ours == pytest.approx(theirs, abs=1e-12, nan_ok=True)


@given(cases())
@settings(max_examples=100, deadline=None)
def test_calibration_curve_agrees_with_scikit_learn(case):
    prob, reference = case
    curve = calibration_curve(prob, reference, bins=15)
    filled = curve.count > 0
    share, mean = sk_calibration(reference, np.abs(prob.astype(float)), n_bins=15)
    np.testing.assert_allclose(curve.changed_share[filled], share, atol=1e-12)
    np.testing.assert_allclose(curve.mean_prob[filled], mean, atol=1e-12)
    assert np.isnan(curve.mean_prob[~filled]).all()
    assert curve.count.sum() == prob.size


def test_calibration_curve_by_hand(monkeypatch):
    monkeypatch.setattr(geocd.metrics, "PIECE", 2)
    prob = np.array([0, 0.5, 0.25, 0.75, 1, 0.625], F)
    curve = calibration_curve(prob, np.array([0, 1, 0, 0, 1, 1], bool), bins=4)
    assert curve.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.count.dtype == np.int64
    assert curve.count.tolist() == [2, 1, 2, 1]  # an edge belongs to the bin below it
    assert curve.mean_prob.tolist() == [0.125, 0.5, 0.6875, 1]
    assert curve.changed_share.tolist() == [0, 1, 0.5, 1]
    assert curve.ece == pytest.approx((2 * 0.125 + 0.5 + 2 * 0.1875) / 6)
    assert calibration_curve(prob, prob > 0).edges.size == 16


@pytest.mark.parametrize("piece", [1, 1 << 21])
def test_of_two_best_thresholds_the_higher_is_named(monkeypatch, piece):
    monkeypatch.setattr(geocd.metrics, "PIECE", piece)
    prob, reference = np.array([0.9, 0.5, 0.5, 0.5], F), np.array([1, 1, 0, 0], bool)
    assert best_f1(prob, reference) == (pytest.approx(2 / 3), F(0.9))


def test_other_floats_are_rounded_to_float32_first():
    rng = np.random.default_rng(0)
    reference = rng.random(200) < 0.3
    prob = rng.integers(0, 5, 200) / 7
    near = prob + rng.uniform(-1e-12, 1e-12, 200) * (prob > 0)  # ties in float32 alone
    for some in (prob, near):
        assert evaluate(some, reference, threshold=3 / 7) == evaluate(
            some.astype(F), reference, threshold=3 / 7
        )


def test_by_hand():
    prob = np.array([0.9, 0.8, 0.8, 0.4, 0.1], dtype=F)
    reference = np.array([1, 1, 0, 1, 0], dtype=bool)
    scores = evaluate(prob, reference, threshold=0.5)
    # pairs (changed, unchanged): .9 wins 2, .8 ties one and wins one, .4 loses one and wins one
    assert scores.auc == pytest.approx((2 + 1.5 + 1) / 6)
    assert scores.average_precision == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert scores.precision == scores.recall == scores.f1 == pytest.approx(2 / 3)
    assert scores.iou == pytest.approx(2 / 4)
    assert scores.accuracy == pytest.approx(3 / 5)
    assert scores.kappa == pytest.approx((3 / 5 - 13 / 25) / (1 - 13 / 25))
    assert scores.best_f1 == pytest.approx(6 / 7)
    assert scores.best_threshold == pytest.approx(0.4)
    assert scores.brier == pytest.approx((0.01 + 0.04 + 0.64 + 0.36 + 0.01) / 5)
    assert scores.ece == pytest.approx((0.1 + 2 * 0.3 + 0.6 + 0.1) / 5)
    assert (scores.n_pixels, scores.n_changed) == (5, 3)
    assert scores.predicted_share == scores.reference_share == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("prob", "reference", "auc", "ap", "best", "at"),
    [
        pytest.param([0.1, 0.9], [0, 1], 1.0, 1.0, 1.0, F(0.9), id="perfect"),
        pytest.param([0.9, 0.1], [0, 1], 0.0, 0.5, 2 / 3, F(0.1), id="inverted"),
        pytest.param([0.5] * 4, [0, 1, 0, 1], 0.5, 0.5, 2 / 3, 0.5, id="constant: one tie"),
        pytest.param([0.0, -0.0], [0, 1], 0.5, 0.5, 2 / 3, 0.0, id="0 and -0 are a tie"),
        pytest.param([0.2, 0.7], [1, 1], np.nan, 1.0, 1.0, F(0.2), id="all changed"),
        pytest.param([0.2, 0.7], [0, 0], np.nan, np.nan, np.nan, np.nan, id="nothing changed"),
        pytest.param([], [], np.nan, np.nan, np.nan, np.nan, id="no pixel"),
    ],
)
def test_curves_by_hand(prob, reference, auc, ap, best, at):
    prob, reference = np.array(prob, dtype=F), np.array(reference, dtype=bool)
    assert roc_auc(prob, reference) == pytest.approx(auc, nan_ok=True)
    assert average_precision(prob, reference) == pytest.approx(ap, nan_ok=True)
    assert best_f1(prob, reference) == pytest.approx((best, at), nan_ok=True)


def test_nothing_to_score_gives_nan_and_null_not_an_exception():
    scores = evaluate(np.zeros(0, F), np.zeros(0, bool), threshold=0.5)
    plain = scores.as_dict()
    assert plain.pop("threshold") == 0.5
    assert plain.pop("n_pixels") == plain.pop("n_changed") == 0
    assert set(plain.values()) == {None}
    # nothing changed, nothing found: right everywhere, but no share of changes exists
    scores = evaluate(np.zeros(4, F), np.zeros(4, bool), threshold=0.5)
    assert scores.accuracy == 1
    for name in ("auc", "average_precision", "f1", "precision", "recall", "iou", "kappa", "best_f1"):
        assert math.isnan(getattr(scores, name)), name


def test_scores_as_a_dict_hold_every_value_under_its_name():
    scores = evaluate(np.array([0.9, 0.2], F), np.array([True, False]), threshold=0.5)
    plain = scores.as_dict()
    assert plain.pop("objects") is None
    assert plain == {name: getattr(scores, name) for name in plain}
    assert {*plain, "objects"} == {field.name for field in dataclasses.fields(scores)}
    objects = ObjectScores(n_reference=4, n_detected=1, n_predicted=2, n_confirmed=1)
    assert dataclasses.replace(scores, objects=objects).as_dict()["objects"] == {
        "n_reference": 4,
        "n_detected": 1,
        "n_predicted": 2,
        "n_confirmed": 1,
        "detected_share": 0.25,
        "confirmed_share": 0.5,
    }


def test_threshold_is_compared_in_float32():
    # float32(0.7) < 0.7: a pixel stored as 0.7 must still count at threshold 0.7
    prob = np.array([0.7], dtype=F)
    assert float(prob[0]) < 0.7
    assert confusion(prob, np.array([True]), threshold=0.7).tp == 1
    assert confusion(prob, np.array([True]), threshold=math.inf).fn == 1
    # what float32 cannot tell from it, too
    assert confusion(prob.astype(float) - 1e-10, np.array([True]), threshold=0.7).tp == 1


def test_kappa_is_exact_for_counts_beyond_float():
    counts = Confusion(tp=10**9, fp=0, fn=0, tn=10**9)
    assert counts.kappa == 1


@pytest.mark.parametrize(
    ("prob", "reference", "match"),
    [
        (
            np.array([np.nan], F),
            np.array([True]),
            r"must be in .0, 1.*\. Leave out pixels that are NaN \(not valid\)\.$",
        ),
        (np.array([1.5], F), np.array([True]), "from 1.5 to 1.5"),
        (np.array([-0.5], F), np.array([True]), "from -0.5"),
        (
            np.zeros(2, F),
            np.array([True]),
            r"same length\. Select the valid pixels of both with the same boolean array\.$",
        ),
        (np.zeros((2, 2), F), np.zeros((2, 2), bool), "one-dimensional"),
        (np.zeros(2, F), np.zeros(2, np.uint8), "must be bool"),
    ],
)
def test_bad_arrays_are_refused(prob, reference, match):
    for function in (roc_auc, average_precision, best_f1, brier, calibration_curve):
        with pytest.raises(ValueError, match=match):
            function(prob, reference)


def test_input_is_not_changed():
    prob, reference = np.array([0.9, 0.1, -0.0], F), np.array([True, False, False])
    kept = prob.copy()
    evaluate(prob, reference, threshold=0.5)
    assert prob.tobytes() == kept.tobytes()


def test_memory_is_a_few_bytes_per_pixel():
    n = 6_000_000
    rng = np.random.default_rng(0)
    prob, reference = rng.random(n, dtype=F), rng.random(n) < 0.1
    piece, geocd.metrics.PIECE = geocd.metrics.PIECE, 1 << 18
    tracemalloc.start()
    try:
        evaluate(prob, reference, threshold=0.5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        geocd.metrics.PIECE = piece
    assert peak < 9 * n


@pytest.mark.parametrize(
    ("changed", "reference", "expected"),
    [
        pytest.param("##.#", "#...", (1, 1, 2, 1), id="any overlap detects"),
        pytest.param("....", "#.#.", (2, 0, 0, 0), id="nothing predicted"),
        pytest.param("#.#.", "....", (0, 0, 2, 0), id="nothing there"),
        pytest.param("####", "#.#.", (2, 2, 1, 1), id="one object over two"),
        pytest.param("#x#.", "###.", (2, 2, 2, 2), id="unknown pixels cut objects"),
    ],
)
def test_objects(changed, reference, expected):
    def row(text, letter="#"):
        return np.array([[c == letter for c in text]])

    valid = ~row(changed, "x")
    scores = object_scores(row(changed), row(reference), valid)
    assert dataclasses.astuple(scores) == expected
    json.dumps(scores.as_dict(), allow_nan=False)


def test_objects_that_touch_at_a_corner_are_two():
    changed = np.eye(3, dtype=bool)
    scores = object_scores(changed, changed, np.ones((3, 3), bool))
    assert scores.n_reference == scores.n_predicted == 3
    assert scores.detected_share == scores.confirmed_share == 1


def test_undefined_object_shares_are_null():
    nothing = np.zeros((2, 2), bool)
    scores = object_scores(nothing, nothing, ~nothing)
    assert math.isnan(scores.detected_share)
    assert scores.as_dict()["confirmed_share"] is None
