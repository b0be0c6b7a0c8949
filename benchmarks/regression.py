"""Whether a run costs no more than it should: CPU time of the default in units of the floor, in a minute.

    python benchmarks/regression.py [--limit 45] [--rounds 2] [--side 1200]

The pair is made here: smooth noise with some new objects. Each round runs the floor (read both rasters and
write one, see measuring.py) and ``geocd detect``, one after the other, and the least CPU time of each counts:
a busy machine makes both take longer. The limit is wide, twice what was measured (20 to 22, at loads of
3 to 10 on two cores): processors differ in what they are good at. Exits 1 above it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from measuring import BLOCK, Measured, detect, floor_command, measured
from rasterio.transform import Affine
from scipy import ndimage

#: CPU time of the default method, in units of the floor, that is too much.
LIMIT = 45.0
BANDS = 4


def write_pair(folder: Path, side: int) -> tuple[Path, Path]:
    """Write two dates of the same smooth noise, the second brighter and with new objects."""
    random = np.random.default_rng(0)
    ground = [ndimage.gaussian_filter(random.normal(size=(side, side)), sigma) for sigma in (1, 3, 9)]
    texture = sum(values / values.std() for values in ground)
    before = np.stack([1500 + 200 * band + 250 * texture for band in range(BANDS)])
    after = 1.1 * before + 50 + random.normal(0, 20, before.shape)
    for row, col in random.integers(0, side - 30, (40, 2)):
        after[:, row : row + 20, col : col + 20] += 900
    paths = folder / "before.tif", folder / "after.tif"
    for path, values in zip(paths, (before, after), strict=True):
        profile = {
            **{"driver": "GTiff", "height": side, "width": side, "count": BANDS, "dtype": "uint16"},
            **{"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 4_200_000)},
            **{
                "tiled": True,
                "blockxsize": BLOCK,
                "blockysize": BLOCK,
                "compress": "deflate",
                "predictor": 2,
            },
        }
        with rasterio.open(path, "w", **profile) as sink:
            sink.write(values.astype(np.uint16))
            sink.descriptions = ("blue", "green", "red", "nir")
    return paths


def checked(run: Measured) -> Measured:
    """Return a run that succeeded; exit with what another one said."""
    if run.code != 0:
        raise SystemExit(run.said)
    return run


def main() -> None:
    """Run the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--limit", type=float, default=LIMIT)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--side", type=int, default=1200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pair = write_pair(folder, options.side)
        floors, runs = [], []
        for _ in range(options.rounds):
            floors.append(checked(measured(floor_command(pair, folder / "floor.tif"))).cpu_s)
            runs.append(checked(measured(detect(pair, folder / "run"))).cpu_s)
    ratio = min(runs) / min(floors)
    print(
        f"{options.side} x {options.side} px: default {min(runs):.1f} CPU s, floor {min(floors):.2f}, "
        f"ratio {ratio:.1f}, at most {options.limit:g}"
    )
    sys.exit(ratio > options.limit)


if __name__ == "__main__":
    main()
