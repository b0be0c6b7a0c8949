"""Commands measured as the kernel counts them, on pairs of any size, and the least that any method can cost.

python benchmarks/measuring.py BEFORE AFTER TARGET      (the floor: read both rasters and write one)
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

#: Side of a block of the rasters that are made and written.
BLOCK = 512
#: The checkout of geocd that this file belongs to.
HERE = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the kernel says of a process that has ended, and of those that it waited for.

    Attributes
    ----------
    code : int
        Exit code.
    wall_s, cpu_s : float
        Seconds; CPU time is that of the user and of the system.
    memory_mb : float
        Peak resident memory. The kernel also counts what this process held as it began the other, so less
        than 100 MB is never seen.
    said : str
        The end of what it wrote.
    """

    code: int
    wall_s: float
    cpu_s: float
    memory_mb: float
    said: str


def measured(command: Sequence[str | Path], checkout: Path = HERE) -> Measured:
    """Run a command with geocd of a checkout, in an empty folder, and measure it."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    begin = time.perf_counter()
    # Python also imports from the current folder
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryDirectory() as empty:
        process = subprocess.Popen(
            list(map(str, command)), stdout=said, stderr=said, env=environment, cwd=empty
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begin
        said.seek(0)
        text = said.read().strip()
    return Measured(
        code=process.returncode,
        wall_s=wall,
        cpu_s=usage.ru_utime + usage.ru_stime,
        memory_mb=usage.ru_maxrss / 1024,
        said=text[-2000:],
    )


def geocd(*arguments: str | Path) -> list[str]:
    """Return the command that runs geocd of the checkout that it is measured with."""
    return [sys.executable, "-c", "from geocd.cli import main; main()", *map(str, arguments)]


def detect(pair: Sequence[Path], stem: Path, *options: str) -> list[str]:
    """Return the command that detects the changes of a pair."""
    return geocd("-q", "detect", *pair, "-o", stem, "--overwrite", *options)


def check(checkout: Path) -> str:
    """Return the name of a checkout: its commit, or else its folder; exit where its geocd is not run."""
    run = measured([sys.executable, "-c", "import geocd; print(geocd.__file__)"], checkout)
    if run.code != 0 or Path(run.said).parent.parent != checkout.resolve():
        raise SystemExit(f"{checkout}: has no geocd that could be run ({run.said}).")
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or checkout.name


def mirrored(begin: int, length: int, size: int) -> np.ndarray:
    """Return which of ``size`` pixels stand at ``begin``... of an axis that goes to and fro."""
    positions = np.arange(begin, begin + length) % (2 * size)
    return np.where(positions < size, positions, 2 * size - 1 - positions)


def enlarge(source: Path, target: Path, height: int, width: int) -> None:
    """Write a raster of any size from the pixels of another, a row of blocks at a time."""
    with rasterio.open(source) as dataset:
        values = dataset.read()
        profile = {
            "driver": "GTiff",
            "crs": dataset.crs,
            "transform": dataset.transform,
            "nodata": dataset.nodata,
            "count": dataset.count,
            "dtype": dataset.dtypes[0],
            "height": height,
            "width": width,
            "tiled": True,
            # of a few rows, blocks of as few: they would be empty otherwise
            "blockxsize": min(BLOCK, -(-width // 16) * 16),
            "blockysize": min(BLOCK, -(-height // 16) * 16),
            "compress": "deflate",
            "zlevel": 1,
            "predictor": 2 if np.dtype(dataset.dtypes[0]).kind in "iu" else 3,
            "interleave": "band",
            "bigtiff": "if_safer",
        }
        descriptions, tags = dataset.descriptions, dataset.tags()
    cols = mirrored(0, width, values.shape[2])
    with rasterio.open(target, "w", **profile) as sink:
        sink.descriptions = descriptions
        sink.update_tags(**{k: v for k, v in tags.items() if k != "AREA_OR_POINT"})
        for row in range(0, height, BLOCK):
            rows = mirrored(row, min(BLOCK, height - row), values.shape[1])
            strip = values[:, rows[:, None], cols[None, :]]
            sink.write(strip, window=Window(0, row, width, len(rows)))


def make_pair(source: Path, target: Path, height: int, width: int) -> tuple[Path, Path]:
    """Write a pair of any size from the pixels of another, unless it is there already."""
    target.mkdir(parents=True, exist_ok=True)
    paths = target / "before.tif", target / "after.tif"
    for path in paths:
        if not path.exists():
            enlarge(source / path.name, path, height, width)
    return paths


def floor_command(pair: Sequence[Path], target: Path) -> list[str]:
    """Return the command of the floor, as a process of its own."""
    return [sys.executable, __file__, *map(str, pair), str(target)]


def floor(before: str, after: str, target: str) -> None:
    """Read both rasters and write one band of float32, by blocks, compressed as a result is."""
    with (
        rasterio.Env(GDAL_CACHEMAX=128),
        rasterio.open(before) as before_image,
        rasterio.open(after) as after_image,
    ):
        profile = {
            "driver": "GTiff",
            "crs": before_image.crs,
            "transform": before_image.transform,
            "count": 1,
            "dtype": "float32",
            "height": before_image.height,
            "width": before_image.width,
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "compress": "deflate",
            "predictor": 3,
            "bigtiff": "if_safer",
        }
        with rasterio.open(target, "w", **profile) as sink:
            for row in range(0, before_image.height, BLOCK):
                for col in range(0, before_image.width, BLOCK):
                    window = Window(
                        col, row, min(BLOCK, before_image.width - col), min(BLOCK, before_image.height - row)
                    )
                    # Something that must be computed from all bands of both and compresses like a map.
                    apart = (before_image.read(window=window) > after_image.read(window=window)).mean(axis=0)
                    sink.write(apart.astype(np.float32), 1, window=window)


if __name__ == "__main__":
    floor(*sys.argv[1:])
