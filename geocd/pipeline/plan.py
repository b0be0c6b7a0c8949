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
from pathlib import Path

from geocd.config import PRESETS, Settings, check_tile_size
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


def predict(pair: Pair, settings: Settings, tile_size: int, jobs: int, limit: int) -> int:
    """Return the megabytes that a run takes at its peak.

    Parameters
    ----------
    pair : Pair
    settings : Settings
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
    if method.fit == "tile":
        one *= FITTED_TILE
    if pair.warp is not None:
        one += pair.warp.most_pixels * (bands + 1) * item * WARP_COPIES
    rows = width * (BLOCK_SIZE + min(tile_size, height)) * BLEND_BYTES * (1 + method.uncertainty)
    tiles = (one * (1 + FURTHER * (jobs - 1)) + rows) / 2**20
    polygons = min(height * width, max(width * BLOCK_SIZE, STRIP_PIXELS)) * POLYGON_BYTES / 2**20
    return math.ceil(cache_size(limit) + max(fit, memory.fitted + imported + max(tiles, polygons)))


def plan_run(
    pair: Pair, settings: Settings, jobs: int, limit: int | None, *, jobs_given: bool = True
) -> Plan:
    """Choose how many tiles are computed at a time and, only if one is still too many, how large they are.

    Parameters
    ----------
    pair : Pair
    settings : Settings
        As the user gave them: a tile size of None may be made smaller than the preset's.
    jobs : int
        The most that may be computed at a time.
    limit : int, optional
        Megabytes that the process may take. None is ``DEFAULT_LIMIT``, which is no contract: it lowers a
        number of jobs that nobody asked for, and nothing else.
    jobs_given : bool
        Whether the user asked for this number of jobs.

    Raises
    ------
    ConfigError
        The limit is too small for one tile at a time. The message names the least that works.
    """
    most = DEFAULT_LIMIT if limit is None else limit
    given, overlap = settings.tiling.tile_size, settings.tiling.overlap
    largest: int = PRESETS[settings.method.preset]["tile_size"] if given is None else given
    check_tile_size(largest, overlap)
    height, width = pair.grid.shape
    jobs = min(jobs, len(Tiling(height, width, largest, overlap)))
    if limit is None:
        fewer = 1 if not jobs_given else jobs
        while jobs > fewer and predict(pair, settings, largest, jobs, most) > most:
            jobs -= 1
        return Plan(most, largest, jobs, predict(pair, settings, largest, jobs, most))
    for count in range(jobs, 0, -1):
        if (peak := predict(pair, settings, largest, count, most)) <= most:
            return Plan(most, largest, count, peak)
    least = max(LEAST_TILE, overlap + TILE_STEP)
    sizes = range(largest - TILE_STEP, least - 1, -TILE_STEP) if given is None else range(0)
    for size in sizes:
        if (peak := predict(pair, settings, size, 1, most)) <= most:
            return Plan(most, size, 1, peak)
    smallest = sizes[-1] if sizes else largest
    works = most
    while predict(pair, settings, smallest, 1, works) > works:
        works += 1
    raise ConfigError(
        f"--mem-limit {limit}: too small for this pair, with one tile of {smallest} px at a time. "
        f"{works} MB is the least that works"
        + ("." if given is None else "; a smaller --tile-size needs less."),
        name="mem_limit",
        value=limit,
        least=works,
    )
