"""Another threshold and fewer, quieter polygons, without a new run.

    python examples/make_demo_pair.py demo
    python examples/02_fewer_polygons.py demo

Runs geocd once, as `geocd detect` does, and then makes the polygons anew from the probability, as
`geocd polygonize` does: a fraction of a second for each choice.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import geopandas

from geocd.config import PolygonSettings
from geocd.pipeline import detect
from geocd.vectorize import polygonize


def main() -> None:
    """Compare some choices, and write the one of the quietest polygons."""
    parser = argparse.ArgumentParser(description="Other polygons without a new run.")
    parser.add_argument("folder", type=Path, help="where make_demo_pair.py has written")
    folder = parser.parse_args().folder

    files, record = detect(
        folder / "before.tif",
        folder / "after.tif",
        folder / "polygons",
        overwrite=True,
    )
    print(f"the run itself (threshold {record.threshold:g}): {record.summary.n_polygons} polygons")

    target = folder / "fewer.gpkg"
    for threshold in (0.3, 0.5, 0.7):
        for min_area in (0.0, 20_000.0):
            summary = polygonize(
                files["prob"],
                target,
                threshold=threshold,
                settings=PolygonSettings(min_area=min_area, fill_holes=5_000.0, simplify=12.0),
            )
            print(
                f"threshold {threshold}, from {min_area:6.0f} m2: {summary.count:2d} polygons, "
                f"{summary.area_m2 / 1e4:6.1f} ha"
            )

    # Which became what? The file of the run has the mean of each band before and after.
    polygons = geopandas.read_file(files["changes"])
    bare = polygons[(polygons.before_ndvi > 0.5) & (polygons.after_ndvi < 0.3)]
    print(f"vegetation that became something else: {len(bare)} of {len(polygons)} polygons")
    print(target)


if __name__ == "__main__":
    main()
