"""A first map from Python: DataArrays in, a Dataset out.

    python examples/make_demo_pair.py demo
    python examples/01_first_map.py demo

Reads a window of the demo pair (a scene of thousands of pixels works the same way), finds what changed, and
writes the probability as a GeoTIFF. Takes some seconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import rioxarray

import geocd


def main() -> None:
    """Map the changes of a window."""
    parser = argparse.ArgumentParser(description="A first map from Python.")
    parser.add_argument("folder", type=Path, help="where make_demo_pair.py has written")
    folder = parser.parse_args().folder

    # masked=True turns nodata and masks into NaN, which geocd takes as "unknown"
    window = {"y": slice(330, 590), "x": slice(180, 600)}
    before, after = (
        rioxarray.open_rasterio(folder / name, masked=True).isel(window)
        for name in ("before.tif", "after.tif")
    )
    changes = geocd.detect(before, after)

    prob = changes.change_probability  # (y, x), float32, 0 to 1, NaN where unknown
    valid = prob.notnull()
    share = float((changes.changed == 1).sum() / valid.sum())
    print(f"{prob.sizes['x']} x {prob.sizes['y']} pixels, {float(valid.mean()):.1%} of them valid")
    print(f"{share:.1%} of these changed (probability of {changes.attrs['threshold']:g} or more)")

    surest = prob.isel(prob.argmax(dim=["y", "x"]))
    print(f"surest change: {surest.item():.2f} at x {surest.x.item()}, y {surest.y.item()}")

    target = folder / "first_prob.tif"
    prob.rio.to_raster(target, tiled=True, compress="deflate")
    print(target)


if __name__ == "__main__":
    main()
