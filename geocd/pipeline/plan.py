"""How much memory a run takes, and what follows from a limit.

A model with measured constants, not a meter: the number of tiles at a time is settled before a pixel is read
and is the same on every run. ``benchmarks/scale.py`` measures the peak of whole runs. Tensors on a graphics
card are not counted, nor are the outlines of polygons, some 200 bytes for each of their corners, and the
values of regions that lie side by side by the thousand in one row.
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
from geocd.scene.sample import SAMPLE_PIXELS
from geocd.tiles.tiling import Tiling
from geocd.vectorize.polygons import STRIP_PIXELS

#: Megabytes (2**20 bytes) for a run whose user names no limit.
DEFAULT_LIMIT = 2000
#: GDAL's block cache: this share of the limit, within bounds. A block is read by up to four tiles.
CACHE_SHARE, CACHE_RANGE = 1 / 16, (16, 128)
#: Tiles made smaller for a limit differ by so many pixels, and are no smaller than the last.
TILE_STEP, LEAST_TILE = 64, 128
#: Megabytes that importing a torch that was built for GPUs takes beside the method's own, used or not.
GPU_BUILD = 400
#: Bytes that a tile of the preset ``reference`` takes: for each pixel, and for each pixel and band. The
#: published networks keep all activations of a full-resolution generator for their gradients.
REFERENCE_BYTES = (16_000, 100)
#: What each further tile takes of that: not all are at their peak at once.
FURTHER = 0.8
#: A tile with an adaptation of its own takes so many times as much.
FITTED_TILE = 1.5
#: Copies of the pixels of a block, and of where they are valid, that are held while it is warped.
WARP_COPIES = 6
#: Bytes for each pixel of the rows that are blended (sums, weights, what is being written), and of those that
#: are made polygons.
BLEND_BYTES, POLYGON_BYTES = 20, 40


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run does with its memory.

    Attributes
    ----------
    limit : int
        Megabytes that it may take; a megabyte is 2**20 bytes throughout.
    tile_size : int
        Side of a tile, in pixels.
    jobs : int
        Tiles computed at a time.
    peak : int
        Megabytes that it is expected to take at most.
    """

    limit: int
    tile_size: int
    jobs: int
    peak: int


class Limits(TypedDict, total=False):
    """What a run may use: keyword arguments of everything that runs."""

    #: Tiles computed at a time.
    jobs: int | None
    #: Megabytes that the process may take.
    mem_limit: int | None


def available_jobs(jobs: int | None) -> int:
    """Return the tiles that may be computed at a time: those asked for, or one per processor.

    Raises
    ------
    ConfigError
        Less than one was asked for.
    """
    if jobs is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}: must be 1 or more.", name="jobs", value=jobs)
    return jobs


def cache_size(limit: int) -> int:
    """Return the megabytes of GDAL's block cache under a limit."""
    least, most = CACHE_RANGE
    return int(min(max(limit * CACHE_SHARE, least), most))


@functools.cache
def gpu_build() -> bool:
    """Whether torch was built for GPUs, as the one that PyPI has for Linux is; does not import it."""
    found = importlib.util.find_spec("torch")
    folder = Path(found.origin).parent / "lib" if found is not None and found.origin else Path()
    return any(next(folder.glob(f"libtorch_{kind}.so"), None) is not None for kind in ("cuda", "hip"))


def predict(pair: Pair, settings: RunSettings, tile_size: int, jobs: int, limit: int) -> int:
    """Return the megabytes that a run takes at its peak.

    Parameters
    ----------
    pair : Pair
    settings : RunSettings
    tile_size : int
        Side of a tile, in pixels.
    jobs : int
        Tiles computed at a time.
    limit : int
        Megabytes; sets the size of the block cache.
    """
    method = settings.method
    height, width = pair.grid.shape
    bands, item = len(pair.indexes), pair.itemsize
    sampled = min(height * width, SAMPLE_PIXELS)
    uses_torch, memory = METHODS[method.method].uses_torch, METHODS[method.method].memory
    flat, banded = memory.fit
    imported = GPU_BUILD if uses_torch and gpu_build() else 0
    fit = memory.start + imported + sampled * (flat + bands * (banded + 2 * item)) / 2**20

    reference = method.method == "deep" and method.preset == "reference"
    each, banded = REFERENCE_BYTES if reference else memory.tile
    pixels = min(tile_size, height) * min(tile_size, width)
    one: float = pixels * (each + bands * (banded + 4 * (item - 4)))
    if method.method == "deep" and method.fit == "tile":
        one *= FITTED_TILE
    if pair.warp is not None:
        one += pair.warp.most_pixels * (bands + 1) * item * WARP_COPIES
    rows = width * (BLOCK_SIZE + min(tile_size, height)) * BLEND_BYTES * (1 + method.uncertainty)
    tiles = (one * (1 + FURTHER * (jobs - 1)) + rows) / 2**20
    polygons = min(height * width, max(width * BLOCK_SIZE, STRIP_PIXELS)) * POLYGON_BYTES / 2**20
    return math.ceil(cache_size(limit) + max(fit, memory.fitted + imported + max(tiles, polygons)))


def plan_run(
    pair: Pair, settings: RunSettings, jobs: int, limit: int | None, *, jobs_given: bool = True
) -> Plan:
    """Choose how many tiles are computed at a time and, only if one is still too many, how large they are.

    Parameters
    ----------
    pair : Pair
    settings : RunSettings
        Tiles may be made smaller than these say where their size is ``adjustable``.
    jobs : int
        The most that may be computed at a time.
    limit : int, optional
        Megabytes that the process may take. None is ``DEFAULT_LIMIT``, which is no contract: it lowers a
        number of jobs that the user did not ask for, and nothing else.
    jobs_given : bool
        Whether the user asked for this number of jobs.

    Raises
    ------
    ConfigError
        The limit is too small for one tile at a time. The message names the least that works.
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
    """Return the error for a limit that one tile of this size exceeds."""
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
