"""Polygonise a large probability raster with very many blobs, and check every polygon.

    python benchmarks/polygons.py [--megapixels 64] [--blobs 100000] [--bands 4] [--simplify 10 --smooth 2]
                                  [--inverse] [--suffix .gpkg] [--json polygons.json] [--markdown]

The raster is made in strips: discs, rings and crosses of random size in a grid of cells that does not fit the
blocks, so thousands lie across their borders. `polygonize` runs in a process of its own, whose peak resident
memory the kernel tells. With ``--bands``, two images of as many bands (of noise) are read for the means
before and after. With ``--inverse``, the ground between the blobs has changed: one region from border to
border, with a hole for each blob, and what rings enclose. Then, in this process: are all polygons valid; are
there as many as scipy.ndimage.label finds regions in the whole raster, so that none was split or joined; do
they hold as many pixels?
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
from rasterio.transform import Affine
from rasterio.windows import Window
from scipy import ndimage

BLOCK = 512


def blob(random: np.random.Generator, size: int) -> np.ndarray:
    """Return one connected shape within ``size`` x ``size`` pixels: a disc, a ring or a cross."""
    at = np.arange(size) - (size - 1) / 2
    away = np.hypot(*np.meshgrid(at, at))
    radius = random.uniform(1, size / 2)
    kind = random.integers(3)
    if kind == 2:
        return (np.abs(at)[:, None] <= 1) | (np.abs(at)[None, :] <= 1)
    shape = away <= radius
    return shape & (away > radius - 2) if kind == 1 and radius > 4 else shape


def make(path: Path, side: int, blobs: int, inverse: bool) -> None:
    """Write the raster a row of cells at a time."""
    cells = math.ceil(math.sqrt(blobs))
    cell = side // cells
    random = np.random.default_rng(0)
    chosen = set(random.choice(cells * cells, blobs, replace=False).tolist())
    profile = {
        "driver": "GTiff",
        "height": side,
        "width": side,
        "count": 1,
        "dtype": "float32",
        "crs": "EPSG:32633",
        "transform": Affine(10, 0, 500_000, 0, -10, 4_200_000),
        "nodata": math.nan,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "deflate",
        "zlevel": 1,
        "predictor": 3,
    }
    # One pixel of every cell stays free, so that blobs of neighbours never touch.
    pending = np.zeros((0, side), np.float32)
    row = 0
    with rasterio.open(path, "w", **profile) as sink:
        for line in range(cells + 1):
            height = cell if line < cells else side - cells * cell
            strip = random.uniform(0, 0.45, (height, side)).astype(np.float32)
            for column in range(cells if line < cells else 0):
                if line * cells + column in chosen:
                    part = strip[: cell - 1, column * cell : (column + 1) * cell - 1]
                    part[blob(random, cell - 1)] += 0.5
            pending = np.concatenate([pending, strip])
            while len(pending) >= BLOCK or (line == cells and len(pending)):
                block = 1 - pending[:BLOCK] if inverse else pending[:BLOCK]
                sink.write(block, 1, window=Window(0, row, side, min(BLOCK, len(pending))))
                row += min(BLOCK, len(pending))
                pending = pending[BLOCK:]


def make_image(path: Path, side: int, bands: int, seed: int) -> None:
    """Write an image of noise a row of blocks at a time."""
    random = np.random.default_rng(seed)
    profile = {
        "driver": "GTiff",
        "height": side,
        "width": side,
        "count": bands,
        "dtype": "uint16",
        "crs": "EPSG:32633",
        "transform": Affine(10, 0, 500_000, 0, -10, 4_200_000),
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
    }
    with rasterio.open(path, "w", **profile) as sink:
        for row in range(0, side, BLOCK):
            rows = min(BLOCK, side - row)
            values = random.integers(200, 4000, (bands, rows, side), dtype=np.uint16)
            sink.write(values, window=Window(0, row, side, rows))


def crossing(polygons: geopandas.GeoDataFrame) -> int:
    """Return how many polygons lie on both sides of a border of blocks."""
    bounds = polygons.bounds
    pixel = {
        "minx": (bounds.minx - 500_000) / 10,
        "maxx": (bounds.maxx - 500_000) / 10 - 1,
        "miny": (4_200_000 - bounds.maxy) / 10,
        "maxy": (4_200_000 - bounds.miny) / 10 - 1,
    }
    block = {key: np.round(values).astype(int) // BLOCK for key, values in pixel.items()}
    return int(((block["minx"] != block["maxx"]) | (block["miny"] != block["maxy"])).sum())


def main() -> None:
    """Run the benchmark; exit 1 when a check fails."""
    if sys.argv[1:2] == ["--polygonize"]:  # as a process of its own, to be measured
        from geocd.config import PolygonSettings
        from geocd.raster.files import bounded_cache
        from geocd.raster.pair import Pair
        from geocd.vectorize.polygons import polygonize

        prob, changes, quieter, *images = sys.argv[2:]
        settings = PolygonSettings(**json.loads(quieter))
        with bounded_cache(), Pair(*images) if images else contextlib.nullcontext() as pair:
            polygonize(prob, changes, threshold=0.5, settings=settings, pair=pair)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=64)
    parser.add_argument("--blobs", type=int, default=100_000)
    parser.add_argument("--bands", type=int, default=0)
    parser.add_argument("--fill-holes", type=float, default=0)
    parser.add_argument("--simplify", type=float, default=0)
    parser.add_argument("--smooth", type=int, default=0)
    parser.add_argument("--inverse", action="store_true")
    parser.add_argument("--suffix", default=".gpkg")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    side = round(math.sqrt(options.megapixels * 1e6))
    with tempfile.TemporaryDirectory() as scratch:
        prob, changes = Path(scratch) / "prob.tif", Path(scratch) / f"changes{options.suffix}"
        make(prob, side, options.blobs, options.inverse)
        images = [Path(scratch) / name for name in ("before.tif", "after.tif") if options.bands]
        for seed, image in enumerate(images):
            make_image(image, side, options.bands, seed)
        quieter = {name: getattr(options, name) for name in ("fill_holes", "simplify", "smooth")}
        begin = time.perf_counter()
        process = subprocess.Popen(
            [
                sys.executable,
                __file__,
                "--polygonize",
                *map(str, [prob, changes, json.dumps(quieter), *images]),
            ]
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begin
        if process.returncode != 0:
            raise SystemExit(f"polygonize: exit {process.returncode}")
        parquet = options.suffix == ".parquet"
        polygons = geopandas.read_parquet(changes) if parquet else geopandas.read_file(changes)
        with rasterio.open(prob) as dataset:
            changed = dataset.read(1) >= 0.5
        regions = ndimage.label(changed)[1]
        invalid, pixels = int((~polygons.is_valid).sum()), int(changed.sum())
        figures: dict[str, Any] = {
            "Mpx": round(side * side / 1e6, 1),
            "blobs": options.blobs,
            "polygons": len(polygons),
            "regions (scipy)": regions,
            "across blocks": crossing(polygons),
            "invalid": invalid,
            "shared m2": round(float(polygons.area.sum() - polygons.union_all().area), 6),
            "wall s": round(wall, 1),
            "CPU s": round(usage.ru_utime + usage.ru_stime, 1),
            "peak MB": round(usage.ru_maxrss / 1024),
        }
        good = (
            len(polygons) == regions
            and (options.inverse or regions == options.blobs)
            and invalid == 0
            and abs(figures["shared m2"]) < 1e-3
            and int(polygons.n_pixels.sum()) == pixels
        )
    figures["all right"] = "yes" if good else "no"
    if options.markdown:
        print("| " + " | ".join(figures) + " |\n|" + "--:|" * len(figures))
        print("| " + " | ".join(map(str, figures.values())) + " |")
    else:
        for key, value in figures.items():
            print(f"{key:18s}{value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sys.exit(int(not good))


if __name__ == "__main__":
    main()
