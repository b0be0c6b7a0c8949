"""Two images on different grids: look at the pair first, then align and compare.

    python examples/make_demo_pair.py demo
    python examples/05_align_two_grids.py demo

Puts the after image on another grid (the next UTM zone, 12 m pixels) and moves it by a pixel, as a second
sensor might have it. `check_pair` (`geocd check`) says that the pair cannot be used as it is; `align="shift"`
warps it back while reading, and removes the shift that it measures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import rioxarray
from rasterio.enums import Resampling

from geocd.check import check_pair
from geocd.config import Settings
from geocd.evaluate import evaluate_files
from geocd.pipeline import detect


def on_another_grid(source: Path, target: Path) -> None:
    """Write an image moved by a pixel, in another zone and with other pixels."""
    with rioxarray.open_rasterio(source) as image:
        moved = image.assign_coords(x=image.x + 10)
        moved = moved.rio.write_transform(moved.rio.transform(recalc=True))
        moved.rio.reproject("EPSG:32632", resolution=12, resampling=Resampling.cubic).rio.to_raster(target)


def main() -> None:
    """Check the pair as it is, check it aligned, and map its changes."""
    parser = argparse.ArgumentParser(description="Two grids.")
    parser.add_argument("folder", type=Path, help="where make_demo_pair.py has written")
    folder = parser.parse_args().folder
    before, after = folder / "before.tif", folder / "after_zone32.tif"
    on_another_grid(folder / "after.tif", after)

    report = check_pair(before, after)
    print(f"usable as it is: {report.usable}\n  {report.problem}")
    report = check_pair(before, after, align="grid")
    print(f"usable with align='grid': {report.usable}, overlap {report.overlap:.1%}")
    if report.shift is not None and report.shift.measurable:
        print(f"  it still lies {report.shift.length:.2f} px beside before")

    for align in ("grid", "shift"):
        # a classical method, so that the example is quick; geocd's own is the default
        files, record = detect(
            before,
            after,
            folder / f"aligned_{align}",
            settings=Settings.from_flat({"align": align, "method": "cva"}),
            overwrite=True,
        )
        scores = evaluate_files(files["prob"], folder / "truth.tif")
        print(f"align={align}: {record.summary.changed_share:.1%} changed, F1 {scores.f1:.3f}")
    print(files["prob"])


if __name__ == "__main__":
    main()
