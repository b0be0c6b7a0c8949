"""Compare geocd's methods on one pair, against a reference map.

    python examples/make_demo_pair.py demo
    python examples/03_compare_methods.py demo

Every method goes through the same reading, tiling and scoring. The demo pair is made up, and easy: the
classical methods do as well there. docs/method.md has the figures on real pairs, where they do not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import rioxarray

import geocd
from geocd.metrics import evaluate

METHODS = {
    "change vector analysis": {"method": "cva"},
    "IR-MAD": {"method": "irmad"},
    "geocd": {},
}


def main() -> None:
    """Print a table of scores."""
    parser = argparse.ArgumentParser(description="Compare methods against a reference.")
    parser.add_argument("folder", type=Path, help="where make_demo_pair.py has written")
    folder = parser.parse_args().folder

    window = {"y": slice(330, 590), "x": slice(180, 600)}
    before, after, truth = (
        rioxarray.open_rasterio(folder / name, masked=True).isel(window)
        for name in ("before.tif", "after.tif", "truth.tif")
    )
    reference = truth.squeeze("band")  # 0, 1, and NaN where unknown
    print(f"{'method':25s} {'AUC':>6s} {'AP':>6s} {'F1':>6s} {'best F1':>8s}")
    for name, settings in METHODS.items():
        changes = geocd.detect(before, after, **settings)
        prob = changes.change_probability
        valid = (prob.notnull() & reference.notnull()).values
        scores = evaluate(
            prob.values[valid],
            reference.values[valid] == 1,
            threshold=changes.attrs["threshold"],
        )
        print(
            f"{name:25s} {scores.auc:6.3f} {scores.average_precision:6.3f} {scores.f1:6.3f} "
            f"{scores.best_f1:8.3f}"
        )


if __name__ == "__main__":
    main()
