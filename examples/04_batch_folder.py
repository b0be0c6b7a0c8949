"""Many pairs: a folder of them, on workers of this machine.

    pip install 'geocd[batch]'
    python examples/make_demo_pair.py demo
    python examples/04_batch_folder.py demo

Cuts the demo pair into four, lists the pairs that it finds in the folder, and does them as `geocd batch`
does. The second run finds nothing left to do: so the same command goes on after any interruption.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import rioxarray

from geocd.batch.pairs import read_items
from geocd.batch.run import Cluster, run
from geocd.config import Settings


def cut(folder: Path, pairs: Path) -> None:
    """Write four pairs, each into a folder of its own."""
    for name in ("before.tif", "after.tif"):
        with rioxarray.open_rasterio(folder / name) as whole:
            for top in (0, 300):
                for left in (0, 350):
                    target = pairs / f"valley_{top}_{left}"
                    target.mkdir(parents=True, exist_ok=True)
                    part = whole.isel(y=slice(top, top + 300), x=slice(left, left + 350))
                    part.rio.to_raster(target / name)


def list_pairs(pairs: Path) -> Path:
    """Write the list that a batch takes: `id`, `before`, `after`; paths start from the list's folder."""
    table = pairs / "pairs.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "before", "after"])
        for before in sorted(pairs.glob("*/before.tif")):
            name = before.parent.name
            writer.writerow([name, f"{name}/before.tif", f"{name}/after.tif"])
    return table


def main() -> None:
    """Do all pairs, then show that nothing is done twice."""
    parser = argparse.ArgumentParser(description="A batch over a folder.")
    parser.add_argument("folder", type=Path, help="where make_demo_pair.py has written")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()

    pairs, archive = options.folder / "pairs", options.folder / "archive"
    cut(options.folder, pairs)
    items = read_items(list_pairs(pairs))
    # a classical method, so that the example is quick; Settings() is the default
    settings = Settings.from_flat({"method": "cva"})
    for time in ("first", "second"):
        summary = run(items, archive, settings=settings, cluster=Cluster(workers=options.workers))
        print(
            f"{time} run: {len(summary.done)} of {len(items)} done, {len(summary.failed)} failed, "
            f"{summary.computed} computed in this run"
        )
    print(archive / "catalog.json")


if __name__ == "__main__":  # workers are processes that import this file
    main()
