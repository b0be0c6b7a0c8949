"""What is compared of polygons when verdicts are to teach: numbers in standard units of the pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import special, stats

from geocd.types import Float64Array, IntArray
from geocd.vectorize.bandmeans import INDICES

if TYPE_CHECKING:
    import pandas as pd

#: No value is further from the mean of the pair's polygons than this many standard deviations.
CLIP = 3.0
#: Columns of a run that are measured on the images, by what they begin with.
BEFORE, AFTER = "before_", "after_"


@dataclasses.dataclass(frozen=True)
class Traits:
    """Traits of polygons, in groups.

    Attributes
    ----------
    prior : ndarray, (n,), float64
        Normal score of the mean probability among the pair's polygons: what is thought before any verdict.
    groups : dict of dict of ndarray, (n,), float64
        Each trait by its name in each group by its name; mean 0 and deviation 1 over the polygons.
    """

    prior: Float64Array
    groups: Mapping[str, Mapping[str, Float64Array]]

    def matrix(self, group: str, names: Sequence[str]) -> Float64Array:
        """Return some traits of a group, ``(n, names)``."""
        return np.stack([self.groups[group][name] for name in names], axis=1)

    def rows(self, index: IntArray) -> Traits:
        """Return some of the polygons."""
        groups = {
            group: {name: values[index] for name, values in traits.items()}
            for group, traits in self.groups.items()
        }
        return Traits(self.prior[index], groups)


def traits_of(polygons: pd.DataFrame, evidence: pd.DataFrame | None = None) -> Traits:
    """Return the traits of the polygons of a run.

    Parameters
    ----------
    polygons : pandas.DataFrame
        With ``p_mean``; bands and indices are used where they are.
    evidence : pandas.DataFrame, optional
        In the same order: columns named ``group:trait``, or ``group:before:trait`` and ``group:after:trait``.
    """
    groups: dict[str, dict[str, Float64Array]] = {"indices": {}, "bands": {}}
    pairs = [name[len(BEFORE) :] for name in polygons.columns if name.startswith(BEFORE)]
    for name in pairs:
        if AFTER + name not in polygons.columns:
            continue
        before, after = (polygons[date + name].to_numpy(np.float64) for date in (BEFORE, AFTER))
        group = "indices" if name in INDICES else "bands"
        if group == "bands":
            before, after = _levels(before, after)
        _add_pair(groups[group], name, before, after)
    if evidence is not None:
        for column in evidence.columns:
            group, *date, name = str(column).split(":")
            traits = groups.setdefault(group, {})
            values = evidence[column].to_numpy(np.float64)
            if not date:
                traits[name] = standard(values)
            elif date == ["before"]:
                _add_pair(traits, name, values, evidence[f"{group}:after:{name}"].to_numpy(np.float64))
    ranks = np.asarray(stats.rankdata(polygons["p_mean"].to_numpy(np.float64)), np.float64)
    prior: Float64Array = special.ndtri((ranks - 0.5) / max(ranks.size, 1))
    return Traits(prior, {group: traits for group, traits in groups.items() if traits})


def _add_pair(traits: dict[str, Float64Array], name: str, before: Float64Array, after: Float64Array) -> None:
    """Add the values of both dates and their difference."""
    traits[f"before {name}"], traits[f"after {name}"] = standard(before), standard(after)
    traits[f"difference {name}"] = standard(after - before)


def _levels(before: Float64Array, after: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return logarithms, so that differences are ratios; values as they are where many are not positive."""
    both = np.concatenate([before, after])
    both = both[np.isfinite(both)]
    if not both.size or (both > 0).mean() < 0.9:
        return before, after
    least = 0.01 * float(np.median(both[both > 0]))
    return np.log(np.maximum(before, least)), np.log(np.maximum(after, least))


def standard(values: Float64Array) -> Float64Array:
    """Return values in standard units, clipped; what is not finite is the median."""
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape)
    filled = np.where(finite, values, np.median(values[finite]))
    deviation = float(filled.std())
    if not deviation > 1e-9 * max(1.0, float(np.abs(filled).max())):
        return np.zeros(values.shape)
    clipped: Float64Array = np.clip((filled - filled.mean()) / deviation, -CLIP, CLIP)
    return clipped


__all__ = ["Traits", "standard", "traits_of"]
