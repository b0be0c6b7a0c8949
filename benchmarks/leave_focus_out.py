"""What ``--focus built`` is worth on sites that its constants were not chosen on.

    python benchmarks/leave_focus_out.py FOLDER [--json scores.json]

FOLDER is that of ``accuracy.py``. For every Sentinel-2 site, from the other sites alone, by AP + F1 at the
decision, over a grid: how much of a distance stays under the same cover, the usual NDVI, and the share and
the limit of what is asked beyond the decision (nothing among them). Not left out: the distances, which are
those of the default as shipped (``leave_pairs_out.py`` leaves theirs out), and the least area, which was
chosen on crops around dense change. Beside it: the constants as shipped, and the default without the prior.
One thread, some minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from accuracy import GROUPS, labelled_pairs, line, macro, read_reference, score
from leave_pairs_out import site
from whole import Whole

from geocd.method import cover, default
from geocd.method.decision import logistic_prob

STAYS, USUAL = (0.2, 0.4, 0.6, 1.0), (0.25, 0.35, 0.45)
SHARES, LIMITS = (0.01, 0.015, 0.02, 0.025, 0.03, 0.04), (0.0, 0.25, 0.5, 0.75)
Scores = dict[str, float]


def scored(distance: np.ndarray, whole: Whole, reference: np.ndarray) -> Scores:
    """Return the columns of a distance."""
    prob = logistic_prob(distance, default.DECISION, default.SLOPE_BELOW, default.SLOPE_ABOVE)
    return score((np.where(whole.chip.valid, prob, np.float32(np.nan)), 0.5), reference)


def on_grid(folder: Path) -> tuple[dict[tuple[float, ...], Scores], Scores, Scores]:
    """Return the scores of a pair for all constants of the grid, as shipped, and without the prior."""
    whole, reference = Whole.read(folder, focus="built"), read_reference(folder)
    valid = None if whole.chip.valid.all() else torch.from_numpy(whole.chip.valid)
    distance = whole.detector.features.combine(whole.maps(), valid)
    fitted = whole.detector.prior
    assert fitted is not None
    prior, known = dataclasses.replace(fitted, excess=0.0), whole.chip.valid & (reference != 255)
    rows: dict[tuple[float, ...], Scores] = {}
    for stays, usual in itertools.product(STAYS, USUAL):
        with mock.patch.object(cover, "SAME_COVER", stays), mock.patch.object(cover, "USUAL", usual):
            values = prior.apply(distance, whole.chip).numpy()
        ranked = scored(values, whole, reference)
        for share, limit in itertools.product(SHARES, LIMITS):
            with mock.patch.object(cover, "SHARE", share), mock.patch.object(cover, "MOST", limit):
                asked = prior.fitted([(whole.chip, torch.from_numpy(values))], default.DECISION)
            decision = default.DECISION + asked.excess
            above, changed = values[known] >= decision, reference[known] == 1
            f1 = 2 * float((above & changed).sum()) / max(float(above.sum() + changed.sum()), 1)
            rows[stays, usual, share, limit] = ranked | {"f1": f1}
    shipped = score((whole.prob(), 0.5), reference)
    return rows, shipped, scored(distance.numpy(), whole, reference)


def main() -> None:
    """Choose, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="write all scores here")
    options = parser.parse_args()
    prefix = GROUPS["Sentinel-2"]
    folders = [f for f in labelled_pairs(options.folder) if f.name.startswith(prefix)]
    grids: dict[str, dict[tuple[float, ...], Scores]] = {}
    table: dict[str, dict[str, Scores]] = {
        "constants left out": {},
        "as shipped": {},
        "without the prior": {},
    }
    for folder in folders:
        name = folder.name
        grids[name], table["as shipped"][name], table["without the prior"][name] = on_grid(folder)
    for name in grids:
        others = [rows for other, rows in grids.items() if site(other) != site(name)]
        chosen = max(
            others[0], key=lambda c: sum(rows[c]["average_precision"] + rows[c]["f1"] for rows in others)
        )
        stays, usual, share, limit = chosen
        print(f"without {site(name)}: {stays} stays, usual NDVI {usual}, share {share}, at most {limit} more")
        table["constants left out"][name] = grids[name][chosen]
    print(
        f"\n{'Sentinel-2, macro':42s}{'AUC':>8s}{'AP':>8s}{'F1':>8s}{'best F1':>9s}{'F1/best':>9s}{'ECE':>8s}"
    )
    for method, rows in table.items():
        print(f"{method:42s}" + line(macro(rows, prefix)))
    if options.json:
        options.json.write_text(json.dumps(table, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
