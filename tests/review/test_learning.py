"""Learning from verdicts: right answers where there is something to learn, and none where not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from geocd.errors import VerdictError
from geocd.review.features import Traits, standard
from geocd.review.learning import ENOUGH, Judged, Kernel, ask_next, logits, relevance


def made_up(count: int = 80, seed: int = 0) -> tuple[Traits, np.ndarray]:
    """Polygons of two kinds, which one trait tells apart; meant is the one, whatever the probability."""
    rng = np.random.default_rng(seed)
    meant = rng.uniform(size=count) < 0.4
    groups = {
        "distances": {name: standard(rng.normal(size=count)) for name in ("image", "gd")},
        "indices": {"difference ndvi": standard(meant + rng.normal(0, 0.3, count))},
    }
    return Traits(standard(rng.normal(size=count)), groups), meant


def words_of(meant: np.ndarray, positions: list[int]) -> list[str | None]:
    words: list[str | None] = [None] * meant.size
    for position in positions:
        words[position] = "yes" if meant[position] else "no"
    return words


def test_without_verdicts_the_order_is_that_of_the_probability() -> None:
    traits, meant = made_up()
    values = relevance(traits, Judged.of(traits, [None] * meant.size))
    np.testing.assert_array_equal(np.argsort(values), np.argsort(traits.prior))
    unsure = relevance(traits, Judged.of(traits, ["unsure"] * meant.size))
    np.testing.assert_array_equal(unsure, values)


def test_a_handful_of_verdicts_teaches_what_is_meant() -> None:
    def taught(seed: int, count: int) -> float:
        traits, meant = made_up(seed=seed)
        none = Judged.of(traits, [None] * 80)
        asked = ask_next(traits, none, np.zeros(80, bool), count)
        rest = np.setdiff1d(np.arange(80), asked)
        apart = [
            values[rest][meant[rest]].mean() - values[rest][~meant[rest]].mean()
            for values in (
                relevance(traits, judged) for judged in (none, Judged.of(traits, words_of(meant, asked)))
            )
        ]
        return float(apart[1] - apart[0])

    assert np.mean([taught(seed, 10) for seed in range(5)]) > 0.05
    assert np.mean([taught(seed, ENOUGH) for seed in range(5)]) > 0.15


def test_verdicts_say_how_far_the_probability_is_to_be_trusted() -> None:
    rng = np.random.default_rng(3)
    traits = Traits(standard(rng.normal(size=80)), {"indices": {"noise": standard(rng.normal(size=80))}})
    agreeing = Judged.of(traits, ["yes" if prior > 0 else "no" for prior in traits.prior[:30]] + [None] * 50)
    against = Judged.of(traits, ["no" if prior > 0 else "yes" for prior in traits.prior[:30]] + [None] * 50)
    slopes = [
        np.polyfit(traits.prior[30:], logits(traits, judged)[30:], 1)[0] for judged in (agreeing, against)
    ]
    assert slopes[0] > 2
    assert slopes[1] < 1.2


def test_the_mode_satisfies_its_equation(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the mode, the coefficients are the gradient of the likelihood: verdict minus probability."""
    monkeypatch.setattr("geocd.review.learning.SLOPES", (1.5,))
    traits, meant = made_up()
    judged = Judged.of(traits, words_of(meant, list(range(ENOUGH))))
    kernel = Kernel.common(traits, judged.traits)
    at = logits(judged.traits, judged)
    gradient = judged.yes - 1 / (1 + np.exp(-at))
    within = kernel.between(judged.traits, judged.traits)
    np.testing.assert_allclose(at, 1.5 * judged.traits.prior + within @ gradient, atol=1e-4)
    np.testing.assert_allclose(np.diag(within), kernel.variance(judged.traits))


def test_all_of_one_kind_and_one_alone() -> None:
    traits, _ = made_up()
    start = relevance(traits, Judged.of(traits, [None] * 80))
    for word, sign in (("yes", 1), ("no", -1)):
        for count in (1, 80):
            words = [word] * count + [None] * (80 - count)
            values = relevance(traits, Judged.of(traits, words))
            assert np.isfinite(values).all()
            assert sign * (values - start).mean() > 0


def test_questions_are_new_likely_and_differ() -> None:
    traits, meant = made_up()
    seen = np.zeros(80, bool)
    seen[5:20] = True
    judged = Judged.of(traits, words_of(meant, list(range(5, 15))))  # the others are unsure
    asked = ask_next(traits, judged, seen, 8)
    assert len(set(asked)) == 8
    assert not seen[asked].any()
    assert asked == ask_next(traits, judged, seen, 8)
    assert sorted(ask_next(traits, judged, seen, 500)) == np.flatnonzero(~seen).tolist()
    values = relevance(traits, judged)
    assert values[asked].mean() > values[~seen].mean()
    likeliest = np.argsort(-np.where(seen, 0, values))[:8]
    kernel = Kernel.common(traits, traits)

    def alike(positions: np.ndarray) -> float:
        rows = traits.rows(positions)
        return float(kernel.between(rows, rows)[np.triu_indices(8, 1)].mean())

    assert alike(np.array(asked)) < alike(likeliest), "they differ more than the likeliest ones"


def test_a_model_for_other_pairs(tmp_path: Path) -> None:
    first, meant = made_up()
    (tmp_path / "m.json").write_bytes(Judged.of(first, words_of(meant, list(range(40)))).save())
    second, theirs = made_up(seed=1)
    none = Judged.of(second, [None] * 80)
    borrowed = none.joined(Judged.load(tmp_path / "m.json"))
    assert borrowed.yes.size == 40
    values = relevance(second, borrowed)
    assert values[theirs].mean() - values[~theirs].mean() > 0.3
    # of a pair without this trait, only what both have is compared
    other = Traits(second.prior, {"distances": second.groups["distances"]})
    assert sorted(Judged.of(other, [None] * 80).joined(borrowed).traits.groups) == ["distances"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": "other"}',
        "5",
        '{"format": "geocd verdicts 1", "prior": [1], "yes": [true, false]}',
    ],
)
def test_what_is_no_model(content: str, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(VerdictError, match="is not a model that geocd refine --save-model has written"):
        Judged.load(tmp_path / "m.json")


def test_a_damaged_model(tmp_path: Path) -> None:
    traits, meant = made_up()
    content = json.loads(Judged.of(traits, words_of(meant, [1, 2])).save())
    content["groups"]["indices"]["difference ndvi"] = [0.5]
    (tmp_path / "m.json").write_text(json.dumps(content))
    with pytest.raises(VerdictError, match="is not a model"):
        Judged.load(tmp_path / "m.json")
    with pytest.raises(VerdictError, match="no such file"):
        Judged.load(tmp_path / "none.json")
