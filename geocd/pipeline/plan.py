"""How much memory a run takes, and the tiles and jobs that fit a limit.

A model with measured constants, not a measurement: the number of tiles computed at a time is decided before
any pixel is read, and is the same on every run. ``benchmarks/scale.py`` measures the peak of whole runs. Not
counted: tensors on a graphics card, the outlines of polygons (some 200 bytes per vertex), and the values of
regions that lie side by side by the thousand in one row.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
import os
from pathlib import Path
from typing import TypedDict

from geocd.config import RunSettings, check_tile_size
from geocd.errors import ConfigError
from geocd.method.methods import METHODS
from geocd.raster.pair import Pair
from geocd.raster.writer import BLOCK_SIZE
from geocd.scene.sample import sample_pixels
from geocd.tiles.tiling import Tiling
from geocd.vectorize.polygons import STRIP_PIXELS

#: Megabytes (2**20 bytes) of a run without a limit of the user.
DEFAULT_LIMIT = 2000
#: GDAL's block cache: this share of the limit, within this range of megabytes. Up to four tiles read a block.
CACHE_SHARE, CACHE_RANGE = 1 / 16, (16, 128)
#: Tiles are made smaller in steps of this many pixels, down to the least side.
TILE_STEP, LEAST_TILE = 64, 128
#: Additional megabytes of a torch that was built for GPUs, whether one is used or not.
GPU_BUILD = 400
#: Bytes that a tile of the preset ``reference`` takes: per pixel, and per pixel and band. The published
#: networks keep all activations of a full-resolution generator for their gradients.
REFERENCE_BYTES = (16_000, 100)
#: Share of that for each further tile at a time: not all reach their peak at once.
FURTHER = 0.8
#: Factor for a tile to which the networks are adapted separately (``--fit tile``).
FITTED_TILE = 1.5
#: Copies of the pixels and of the validity of a block that are held while it is warped.
WARP_COPIES = 6
#: Bytes per pixel of the rows being blended (sums, weights, output), and of those being polygonized.
BLEND_BYTES, POLYGON_BYTES = 20, 40


@dataclasses.dataclass(frozen=True)
class Plan:
    """Tile size and jobs of a run, and the memory it takes.

    Attributes
    ----------
    limit : int
        Limit in megabytes (2**20 bytes).
    tile_size : int
        Side of a tile, in pixels.
    jobs : int
        Number of tiles computed at a time.
    peak : int
        Expected peak memory in megabytes.
    """

    limit: int
    tile_size: int
    jobs: int
    peak: int


class Limits(TypedDict, total=False):
    """Keyword arguments that limit the resources of a run."""

    #: Number of tiles computed at a time.
    jobs: int | None
    #: Memory of the process, in megabytes.
    mem_limit: int | None


def available_jobs(jobs: int | None) -> int:
    """Return the number of tiles that may be computed at a time: ``jobs``, or one per available processor.

    Raises
    ------
    ConfigError
        ``jobs`` is less than 1.
    """
    if jobs is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}: must be 1 or more.", name="jobs", value=jobs)
    return jobs


def cache_size(limit: int) -> int:
    """Return the size of GDAL's block cache in megabytes, for a memory limit in megabytes."""
    least, most = CACHE_RANGE
    return int(min(max(limit * CACHE_SHARE, least), most))


@functools.cache
def gpu_build() -> bool:
    """Return whether torch was built for GPUs (as PyPI's for Linux is), without importing it."""
    spec = importlib.util.find_spec("torch")
    folder = Path(spec.origin).parent / "lib" if spec is not None and spec.origin else Path()
    return any(next(folder.glob(f"libtorch_{kind}.so"), None) is not None for kind in ("cuda", "hip"))


def predict(pair: Pair, settings: RunSettings, tile_size: int, jobs: int, limit: int) -> int:
    """Predict the peak memory of a run.

    Parameters
    ----------
    pair : Pair
    settings : RunSettings
    tile_size : int
        Side of a tile, in pixels.
    jobs : int
        Number of tiles computed at a time.
    limit : int
        Memory limit in megabytes, which determines the size of the block cache.

    Returns
    -------
    int
        Megabytes (2**20 bytes).
    """
    method = settings.method
    height, width = pair.grid.shape
    bands, item = pair.values_per_pixel, pair.itemsize
    sampled = min(height * width, sample_pixels(pair))
    uses_torch, memory = METHODS[method.method].uses_torch, METHODS[method.method].memory
    fit_per_pixel, fit_per_band = memory.fit
    imported = GPU_BUILD if uses_torch and gpu_build() else 0
    fit = memory.start + imported + sampled * (fit_per_pixel + bands * (fit_per_band + 2 * item)) / 2**20

    reference = method.method == "deep" and method.preset == "reference"
    per_pixel, per_band = REFERENCE_BYTES if reference else memory.tile
    pixels = min(tile_size, height) * min(tile_size, width)
    tile: float = pixels * (per_pixel + bands * (per_band + 4 * (item - 4)))
    if method.method == "deep" and method.fit == "tile":
        tile *= FITTED_TILE
    if pair.warp is not None:
        tile += pair.warp.most_pixels * (bands + 1) * item * WARP_COPIES
    rows = width * (BLOCK_SIZE + min(tile_size, height)) * BLEND_BYTES * (1 + method.uncertainty)
    tiles = (tile * (1 + FURTHER * (jobs - 1)) + rows) / 2**20
    polygons = min(height * width, max(width * BLOCK_SIZE, STRIP_PIXELS)) * POLYGON_BYTES / 2**20
    return math.ceil(cache_size(limit) + max(fit, memory.fitted + imported + max(tiles, polygons)))


def plan_run(
    pair: Pair, settings: RunSettings, jobs: int, limit: int | None, *, jobs_given: bool = True
) -> Plan:
    """Choose the number of tiles computed at a time and, if even one is too many, a smaller tile size.

    Parameters
    ----------
    pair : Pair
    settings : RunSettings
        The tile size is reduced only where it is ``adjustable``.
    jobs : int
        Maximum number of tiles computed at a time.
    limit : int, optional
        Memory limit of the process in megabytes. Default: ``DEFAULT_LIMIT``, which is only a target: it
        lowers a number of jobs that the user has not chosen, and nothing else.
    jobs_given : bool
        Whether the user has chosen the number of jobs.

    Returns
    -------
    Plan

    Raises
    ------
    ConfigError
        The limit is too small for one tile at a time. The message has the smallest limit that works.
    """
    tiling = settings.tiling
    budget = DEFAULT_LIMIT if limit is None else limit

    def peak(tile_size: int, jobs: int) -> int:
        return predict(pair, settings, tile_size, jobs, budget)

    check_tile_size(tiling.tile_size, tiling.overlap)
    jobs = min(jobs, len(Tiling(*pair.grid.shape, tiling.tile_size, tiling.overlap)))
    if limit is None:
        while not jobs_given and jobs > 1 and peak(tiling.tile_size, jobs) > budget:
            jobs -= 1
        return Plan(budget, tiling.tile_size, jobs, peak(tiling.tile_size, jobs))
    smallest = max(LEAST_TILE, tiling.overlap + TILE_STEP) if tiling.adjustable else tiling.tile_size
    choices = [(tiling.tile_size, count) for count in range(jobs, 0, -1)]
    choices += [(size, 1) for size in range(tiling.tile_size - TILE_STEP, smallest - 1, -TILE_STEP)]
    for tile_size, count in choices:
        if (megabytes := peak(tile_size, count)) <= budget:
            return Plan(budget, tile_size, count, megabytes)
    raise _too_small(pair, settings, limit, choices[-1][0])


def _too_small(pair: Pair, settings: RunSettings, limit: int, tile_size: int) -> ConfigError:
    """Return the error for a limit that a single tile of this size exceeds."""
    least = limit
    while predict(pair, settings, tile_size, 1, least) > least:
        least += 1
    return ConfigError(
        f"--mem-limit {limit}: too small for this pair, with one tile of {tile_size} px at a time. "
        f"{least} MB is the least that works"
        + ("." if settings.tiling.adjustable else "; a smaller --tile-size needs less."),
        name="mem_limit",
        value=limit,
        least=least,
    )
