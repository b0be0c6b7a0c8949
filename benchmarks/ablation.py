"""What each part of the default is worth: the default without it, on all labelled pairs.

    python benchmarks/ablation.py FOLDER [--seeds 3] [--json scores.json]

FOLDER is that of ``accuracy.py``. Reference maps are read when a map is finished. Rows: the default; without
deep distances; with random weights in place of ImageNet's, for some seeds; with a plain distance of the same
features (root mean square of z-scores) in place of the metric learned on the pair; with ``ir`` not limited by
``cc``; without each distance; and with ``--focus built``. No constant was chosen anew for any row.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from accuracy import GROUPS, labelled_pairs, line, macro, read_reference, score
from whole import OF_IMAGES, Whole

from geocd.errors import ConfigError
from geocd.method import deep, terms
from geocd.method.filters import gaussian
from geocd.method.scaled import FitSample, ScaledPair


@dataclasses.dataclass(frozen=True)
class PlainChange:
    """Root mean square difference of the z-scored features of a level."""

    level: int
    sigma: float
    scales: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    @classmethod
    def fitting(cls, level: int, sigma: float) -> Callable[[FitSample], PlainChange]:
        """Return the ``fit`` of a term."""

        def fit(sample: FitSample) -> PlainChange:
            dates = deep.drawn(sample, deep.LevelMaps(level))
            return cls(
                level,
                sigma,
                tuple(
                    tuple(torch.from_numpy(v)[:, None, None] for v in (d.mean(axis=0), d.std(axis=0) + 1e-6))
                    for d in dates
                ),
            )

        return fit

    def __call__(self, pair: ScaledPair) -> torch.Tensor:
        """Return the distance."""
        maps = pair.features[self.level]
        dates = zip((maps.before, maps.after), self.scales, strict=True)
        before, after = ((x - m) / s for x, (m, s) in dates)
        length = (before - after).square().mean(dim=0).sqrt()
        return gaussian(maps.interpolated(length), self.sigma, pair.weight)


@contextlib.contextmanager
def table(entries: list[terms.Term]) -> Iterator[None]:
    """Put other entries into the table of distances."""
    with mock.patch.object(terms, "TERMS", tuple(entries)):
        yield


def plain() -> list[terms.Term]:
    """Return the table with plain deep distances; their typical deviations as measured on all pairs."""
    typical = {"shallow": 0.34, "middle": 0.27}
    windows = {"shallow": terms.SHALLOW, "middle": terms.MIDDLE}
    return [
        term
        if term.level is None
        else dataclasses.replace(
            term,
            fit=PlainChange.fitting(term.level, windows[term.name]),
            typical_std=typical[term.name],
        )
        for term in OF_IMAGES
    ]


def variants(seeds: int) -> dict[str, tuple[dict[str, Any], list[terms.Term]]]:
    """Return settings and table of each row."""
    usual = list(OF_IMAGES)
    rows: dict[str, tuple[dict[str, Any], list[terms.Term]]] = {
        "default": ({}, usual),
        "without deep distances": ({"weights": "none"}, usual),
    }
    for seed in range(seeds):
        rows[f"random weights, seed {seed}"] = {"weights": "random", "seed": seed}, usual
    rows["plain distance, no metric"] = {}, plain()
    rows["unlimited ir"] = {}, [dataclasses.replace(term, limited_by=None) for term in usual]
    for left_out in usual:
        rows[f"without {left_out.name}"] = {}, [term for term in usual if term is not left_out]
    rows["--focus built"] = {"focus": "built"}, usual
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    scores: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'':42s}{'AUC':>8s}{'AP':>8s}{'F1':>8s}{'best F1':>9s}{'F1/best':>9s}{'ECE':>8s}")
    for name, (settings, entries) in variants(options.seeds).items():
        rows = scores.setdefault(name, {})
        for folder in labelled_pairs(options.folder):
            with table(entries):
                try:
                    prob = Whole.read(folder, **settings).prob()
                except ConfigError:  # --focus built without infrared
                    continue
            rows[folder.name] = score((prob, 0.5), read_reference(folder))
        for group, prefix in GROUPS.items():
            if any(pair.startswith(prefix) for pair in rows):
                print(f"{name + ', ' + group:42s}{line(macro(rows, prefix))}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(scores, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
