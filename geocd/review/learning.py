"""Learning from a handful of verdicts: a Gaussian process on the traits of polygons, and what to ask next.

The logit of "this is what I mean by change" is the normal score of the mean probability, times a slope, plus
a function of the traits that is 0 before any verdict: with no verdicts the order is that of the probability,
and with few it moves little (this is logistic regression with an offset and a strong ridge). The function is
a sum: linear in the distances and deep features, and smooth in all traits together, so that a polygon that
looks like one which was refused is thought to be refused, too. How far the probability is to be trusted, the
verdicts say as well: the logit is the mean over several slopes, each weighed by its marginal likelihood.

Laplace's approximation, and the likelihood: Rasmussen and Williams, "Gaussian Processes for Machine Learning"
(2006), algorithms 3.1 and 3.2, eq. 3.32.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import linalg, special

from geocd.errors import VerdictError
from geocd.review.features import Traits
from geocd.types import BoolArray, Float64Array

#: Logit for one standard deviation of the prior, and the slopes that verdicts choose from; how far the level
#: may move; variance of the smooth part, and of the linear one of each group. Chosen on the labelled public
#: pairs; ``benchmarks/refine.py`` measures them.
PRIOR, SLOPES, LEVEL_VARIANCE, SMOOTH = 1.5, (0.75, 1.5, 3.0, 5.0), 4.0, 1.5
LINEAR = {"distances": 0.9, "shallow": 0.45, "middle": 0.45}
#: Verdicts from which on the traits count in full; with fewer, the variance of their function is less.
ENOUGH = 30
#: Logits are divided by this for a relevance that is a frequency: those of the mode are too sure.
CAUTION = 1.6
#: Least weight of a verdict where what is asked next is chosen.
LEAST_WEIGHT = 0.05
#: What a file of a model begins with.
FORMAT = "geocd verdicts 1"


@dataclasses.dataclass(frozen=True)
class Judged:
    """Polygons with a verdict, of one or more pairs.

    Attributes
    ----------
    traits : Traits
    yes : ndarray, (n,), bool
    """

    traits: Traits
    yes: BoolArray

    @classmethod
    def of(cls, traits: Traits, verdicts: Sequence[str | None]) -> Judged:
        """Return the polygons of a pair with the verdict yes or no."""
        index = [position for position, word in enumerate(verdicts) if word in ("yes", "no")]
        return cls(
            traits.rows(np.array(index, dtype=np.int64)),
            np.array([verdicts[position] == "yes" for position in index], dtype=bool),
        )

    def joined(self, other: Judged) -> Judged:
        """Return those of both, with the traits that both have."""
        groups: dict[str, dict[str, Float64Array]] = {}
        for group, traits in self.traits.groups.items():
            theirs = other.traits.groups.get(group, {})
            if traits.keys() == theirs.keys():
                groups[group] = {name: np.concatenate([traits[name], theirs[name]]) for name in traits}
        prior = np.concatenate([self.traits.prior, other.traits.prior])
        return Judged(Traits(prior, groups), np.concatenate([self.yes, other.yes]))

    def save(self) -> bytes:
        """Return it as JSON, for :meth:`load`."""
        groups = {
            group: {name: np.round(values, 5).tolist() for name, values in traits.items()}
            for group, traits in self.traits.groups.items()
        }
        content = {
            "format": FORMAT,
            "prior": np.round(self.traits.prior, 5).tolist(),
            "yes": self.yes.tolist(),
            "groups": groups,
        }
        return json.dumps(content, indent=1).encode("utf-8")

    @classmethod
    def load(cls, path: Path) -> Judged:
        """Read a file of :meth:`save`.

        Raises
        ------
        VerdictError
            It is missing, or something else.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError("another format")
            prior, yes = np.array(content["prior"], np.float64), np.array(content["yes"], np.bool_)
            groups = {
                str(group): {str(name): np.array(values, np.float64) for name, values in traits.items()}
                for group, traits in content["groups"].items()
            }
            columns = [prior, *(values for traits in groups.values() for values in traits.values())]
            if any(values.shape != yes.shape or not np.isfinite(values).all() for values in columns):
                raise ValueError("columns of different length")
        except FileNotFoundError as error:
            raise VerdictError(f"{path}: no such file. Check the path.", path=str(path)) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise VerdictError(
                f"{path}: is not a model that geocd refine --save-model has written. Save it again.",
                path=str(path),
            ) from error
        return cls(Traits(prior, groups), yes)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Covariance of the function of the traits, between polygons.

    Attributes
    ----------
    names : dict of list of str
        Traits of each group that are compared.
    share : float
        Of the variance that the traits have, in [0, 1]; the level has its own.
    """

    names: Mapping[str, Sequence[str]]
    share: float = 1.0

    @classmethod
    def common(cls, traits: Traits, judged: Traits, share: float = 1.0) -> Kernel:
        """Return that on the groups that both have with the same traits."""
        return cls(
            {
                group: list(columns)
                for group, columns in traits.groups.items()
                if set(columns) == set(judged.groups.get(group, {}))
            },
            share,
        )

    def between(self, first: Traits, second: Traits) -> Float64Array:
        """Return the covariance of polygons, ``(first, second)``."""
        total = np.full((first.prior.size, second.prior.size), LEVEL_VARIANCE)
        apart = np.zeros_like(total)
        for group, names in self.names.items():
            x, y = (traits.matrix(group, names) for traits in (first, second))
            total += self.share * LINEAR.get(group, 0.0) / len(names) * (x @ y.T)
            squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * (x @ y.T)
            apart += np.maximum(squares, 0) / len(names)
        if self.names:
            total += self.share * SMOOTH * np.exp(-apart / (2 * len(self.names)))
        return total

    def variance(self, traits: Traits) -> Float64Array:
        """Return the covariance of each polygon with itself."""
        total = np.full(traits.prior.size, LEVEL_VARIANCE + (self.share * SMOOTH if self.names else 0))
        for group, names in self.names.items():
            x = traits.matrix(group, names)
            total += self.share * LINEAR.get(group, 0.0) / len(names) * (x**2).sum(axis=1)
        return total


def logits(traits: Traits, judged: Judged) -> Float64Array:
    """Return the logit of each polygon after the verdicts.

    Parameters
    ----------
    traits : Traits
        Of all polygons.
    judged : Judged
        May be empty: then the order is that of the prior.
    """
    if not judged.yes.size:
        return np.asarray(PRIOR * traits.prior, np.float64)
    kernel = Kernel.common(traits, judged.traits, min(1.0, judged.yes.size / ENOUGH))
    within = kernel.between(judged.traits, judged.traits)
    fits = [_laplace(within, judged.yes, slope * judged.traits.prior) for slope in SLOPES]
    weights = special.softmax([likelihood for _, likelihood in fits])
    coefficients = weights @ np.stack([mode for mode, _ in fits])
    slope = float(weights @ np.array(SLOPES))
    moved: Float64Array = slope * traits.prior + kernel.between(traits, judged.traits) @ coefficients
    return moved


def _laplace(covariance: Float64Array, yes: BoolArray, mean: Float64Array) -> tuple[Float64Array, float]:
    """Return the coefficients of the mode, and the logarithm of the marginal likelihood.

    The logits at the mode are ``mean + covariance @ coefficients``.
    """
    function, coefficients = np.zeros(yes.size), np.zeros(yes.size)
    for _ in range(50):
        prob = _logistic(mean + function)
        weight = np.maximum(prob * (1 - prob), 1e-9)
        root = np.sqrt(weight)
        lower = linalg.cholesky(np.eye(yes.size) + root[:, None] * covariance * root, lower=True)
        target = weight * function + (yes - prob)
        coefficients = target - root * linalg.cho_solve((lower, True), root * (covariance @ target))
        step = covariance @ coefficients - function
        function = function + step
        if float(np.abs(step).max()) < 1e-6:
            break
    signed = np.where(yes, 1, -1) * (mean + function)
    complexity = coefficients @ function / 2 + np.log(np.diag(lower)).sum()
    return coefficients, float(-np.logaddexp(0, -signed).sum() - complexity)


def ask_next(traits: Traits, judged: Judged, seen: BoolArray, count: int) -> list[int]:
    """Return the positions of the polygons to judge next, the first one first.

    Asked is what is likely, uncertain, and unlike what was judged or is asked already: the product of the
    probability and the standard deviation that remains is greatest.

    Parameters
    ----------
    traits : Traits
        Of all polygons.
    judged : Judged
    seen : ndarray, (n,), bool
        Polygons that are not asked: they have a verdict, be it unsure.
    count : int
    """
    prob = _logistic(logits(traits, judged))
    kernel = Kernel.common(traits, judged.traits)
    # the rows of a Cholesky factor: one for each verdict, then one for each question
    factor: Float64Array = np.zeros((0, traits.prior.size))
    if judged.yes.size:
        sure = _logistic(logits(judged.traits, judged))
        noise = np.diag(1 / np.maximum(sure * (1 - sure), LEAST_WEIGHT))
        lower = linalg.cholesky(kernel.between(judged.traits, judged.traits) + noise, lower=True)
        factor = linalg.solve_triangular(lower, kernel.between(judged.traits, traits), lower=True)
    variance = np.maximum(kernel.variance(traits) - (factor**2).sum(axis=0), 1e-9)
    asked: list[int] = []
    open_ = ~seen
    while len(asked) < count and open_.any():
        score = np.where(open_, np.sqrt(variance) * prob, -1.0)
        best = int(np.argmax(score))
        asked.append(best)
        open_[best] = False
        covariance = kernel.between(traits.rows(np.array([best])), traits)[0] - factor[:, best] @ factor
        weight = max(float(prob[best] * (1 - prob[best])), LEAST_WEIGHT)
        row = covariance / np.sqrt(variance[best] + 1 / weight)
        factor = np.vstack([factor, row])
        variance = np.maximum(variance - row**2, 1e-9)
    return asked


def _logistic(values: Float64Array) -> Float64Array:
    """Return 1 / (1 + exp(-values))."""
    result: Float64Array = 1 / (1 + np.exp(-np.clip(values, -50, 50)))
    return result


def relevance(traits: Traits, judged: Judged) -> Float64Array:
    """Return how likely each polygon is what the reviewer means by change, in (0, 1)."""
    return _logistic(logits(traits, judged) / CAUTION)


__all__ = ["Judged", "ask_next", "logits", "relevance"]
