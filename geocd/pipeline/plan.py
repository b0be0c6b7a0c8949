"""How much memory a run takes, and the tiles and jobs that fit a limit.

A model with measured constants, not a measurement: the number of tiles computed at a time is decided before
any pixel is read, and is the same on every run. It goes by stages, each of which frees what it took, so that
the peak is that of the largest. ``benchmarks/memory.py`` measures whole runs beside their plan.

Of a graphics card's memory nothing is counted: where a tile does not fit, it is halved
(:mod:`geocd.method.devices`). What polygons take is in proportion to their corners, which nobody knows before
there is a map: what the stage ``polygons`` leaves of the limit is room for one per ``CORNER_BYTES``.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
import os
from pathlib import Path
from typing import TypedDict

import numpy as np

from geocd.config import RunSettings, check_tile_size
from geocd.errors import ConfigError
from geocd.machine import usable_memory
from geocd.method.methods import METHODS
from geocd.raster.pair import Pair
from geocd.raster.writer import BLOCK_SIZE
from geocd.scene.clouds import cloud_memory
from geocd.scene.lasting import REACH, SIDE
from geocd.scene.otherdates import NO_OTHER_DATES, OtherDates
from geocd.scene.sample import sample_pixels
from geocd.tiles.tiling import Tiling
from geocd.vectorize.polygons import STRIP_PIXELS
from geocd.vectorize.regions import PIECE

#: Megabytes (2**20 bytes) of a run without a limit of the user: in all, or for each tile at a time; and no
#: more than this share of what the machine has.
DEFAULT_LIMIT, LIMIT_PER_JOB, MOST_OF_MACHINE = 2000, 200, 0.5
#: GDAL's block cache: this share of the limit, within this range of megabytes. Up to four tiles read a block.
CACHE_SHARE, CACHE_RANGE = 1 / 16, (16, 128)
#: Where memory is left up to this many megabytes (or up to the limit, if that is less), and this share of it,
#: the cache holds what is read more than once: the rows of a row of tiles and those of polygons, and as many
#: further ones as this, in rows of blocks, with one and with several tiles at a time.
ROOM, ROOM_SHARE, FURTHER_ROWS = 1000, 0.95, (1.25, 2.25)
#: Megabytes of the libraries that write the polygons, imported after the last tile.
LATE_IMPORTS = 75
#: Tiles are made smaller in steps of this many pixels, down to the least side.
TILE_STEP, LEAST_TILE = 64, 128
#: Additional megabytes of a torch that was built for GPUs, whether one is used or not.
GPU_BUILD = 400
#: Bytes that a tile of the preset ``reference`` takes: per pixel, and per pixel and band. The published
#: networks keep all activations of a full-resolution generator for their gradients.
REFERENCE_BYTES = (16_000, 100)
#: Share of that for each further tile at a time: not all reach their peak at once.
FURTHER = 0.8
#: Bytes that a tile takes while its season is removed (``--baseline``), per pixel, and per pixel and band;
#: and megabytes that fitting the season takes beside the sample.
SEASON_BYTES, SEASON_FIT = (40, 45), 90
#: Factor for a tile to which the networks are adapted separately (``--fit tile``).
FITTED_TILE = 1.5
#: Copies of the pixels and of the validity of a block that are held while it is warped.
WARP_COPIES = 6
#: Bytes per pixel of the rows being blended (sums, weights, output), of the strip that is read for polygons,
#: of the piece of it that is polygonized, and of a picture in the report.
BLEND_BYTES, STRIP_BYTES, PIECE_BYTES, PICTURE_BYTES = 12, 16, 30, 220
#: Bytes that a window of the band of ``--lasting-band`` takes, per pixel, and per pixel and band beside its
#: pixels of three dates; and bytes per pixel of the rows that get one more band.
LASTING_BYTES, LASTING_ROWS = (60, 32), 16
#: Megabytes that run beside another stage where there are several jobs: the facts of a scene beside the fit,
#: the COG beside the polygons.
FACTS, COG = 25, 45
#: Bytes per pixel of the sample that the measuring of a shift takes.
SHIFT_BYTES = 50
#: Pixels of a picture.
PICTURE_PIXELS = 1_000_000
#: Bytes per corner of the outlines of polygons, when the file is made.
CORNER_BYTES = 180
#: Bytes that a tile takes outside the graphics card that computes it, per pixel, and per pixel and band; and
#: megabytes of a process that uses a card, beside those of a torch that was built for it. By counting: no
#: card was at hand.
ON_GPU, GPU_CONTEXT = (60, 16), 500


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
    cache : int
        Size of GDAL's block cache, in megabytes.
    """

    limit: int
    tile_size: int
    jobs: int
    peak: int
    cache: int


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


def on_gpu(settings: RunSettings) -> bool:
    """Return whether tiles are computed in the memory of a graphics card.

    Raises
    ------
    DeviceError
        The settings name a device that is not there.
    """
    if not METHODS[settings.method.method].uses_torch or settings.method.device == "cpu" or not gpu_build():
        return False
    from geocd.method.devices import choose_device

    return choose_device(settings.method.device).type == "cuda"


def default_limit(jobs: int) -> int:
    """Return the megabytes that a run of so many tiles at a time aims at without a limit of the user.

    A machine of many processors has more memory, too.
    """
    most = MOST_OF_MACHINE * (usable_memory() or 0)
    return max(DEFAULT_LIMIT, min(LIMIT_PER_JOB * jobs, int(most)))


def stages(
    pair: Pair,
    settings: RunSettings,
    tile_size: int,
    jobs: int,
    limit: int,
    others: OtherDates = NO_OTHER_DATES,
) -> dict[str, float]:
    """Predict the peak memory of the stages of a run, in megabytes (2**20 bytes).

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
    others : OtherDates, optional
        Other dates of the run: each may be warped, one at a time.
    """
    method = settings.method
    height, width = pair.grid.shape
    bands, item = pair.values_per_pixel, pair.itemsize
    memory, gpu = METHODS[method.method].memory, on_gpu(settings)
    bare: float = GPU_CONTEXT * gpu
    if METHODS[method.method].uses_torch and gpu_build():
        bare += GPU_BUILD
    clouds, masks = cloud_memory(pair, settings.read)
    bare += masks
    process = cache_size(limit) + bare
    sampled = min(height * width, sample_pixels(pair))
    fit_per_pixel, fit_per_band = memory.fit
    sample = sampled * (fit_per_pixel + bands * (fit_per_band + 2 * item))

    reference = method.method == "deep" and method.preset == "reference"
    per_pixel, per_band = ON_GPU if gpu else REFERENCE_BYTES if reference else memory.tile
    pixels = min(tile_size, height) * min(tile_size, width)
    tile: float = pixels * (per_pixel + bands * (per_band + 4 * (item - 4)))
    if method.method == "deep" and method.fit == "tile":
        tile *= FITTED_TILE
    if settings.read.baseline:
        season = pixels * (SEASON_BYTES[0] + bands * SEASON_BYTES[1])
        tile = max(tile, season) + pixels * (bands * 2 * item + 8)  # beside the chip without its season
        sample = max(sample, sampled * bands * 2 * item + SEASON_FIT * 2**20)
    warps = [date.warp for date in (pair, *(other.pair for other in others)) if date.warp is not None]
    warp = max((each.most_pixels for each in warps), default=0) * (bands + 1) * item * WARP_COPIES
    tile += warp
    rows = width * min(height, BLOCK_SIZE + tile_size) * BLEND_BYTES * (1 + method.uncertainty)
    strip = min(height * width, max(width * BLOCK_SIZE, STRIP_PIXELS))
    # of polygons; also while tiles are computed
    piece: float = min(height * width, max(width, PIECE)) * PIECE_BYTES
    if settings.read.lasting_band:
        rows += width * min(height, BLOCK_SIZE + tile_size) * LASTING_ROWS
        band = min(height * width, (SIDE + 2 * REACH) ** 2)
        piece = max(piece, band * (LASTING_BYTES[0] + bands * (LASTING_BYTES[1] + 3 * item)))
    picture = min(height * width, PICTURE_PIXELS)
    late = memory.fitted + LATE_IMPORTS
    shift = sampled * (SHIFT_BYTES + bands * 2 * item)
    facts, cog = (FACTS, COG) if jobs > 1 else (0, 0)
    return {
        "clouds": process + clouds + warp / 2**20,
        "shift": process + memory.start + shift / 2**20,
        "fit": process + memory.start + facts + sample / 2**20,
        "tiles": process + memory.fitted + (tile * (1 + FURTHER * (jobs - 1)) + rows + piece) / 2**20,
        "polygons": bare + CACHE_RANGE[0] + late + cog + (strip * STRIP_BYTES + piece) / 2**20,
        "pictures": bare + CACHE_RANGE[0] + late + picture * PICTURE_BYTES / 2**20,
    }


def predict(
    pair: Pair,
    settings: RunSettings,
    tile_size: int,
    jobs: int,
    limit: int,
    others: OtherDates = NO_OTHER_DATES,
) -> int:
    """Predict the peak memory of a run, in megabytes: that of its largest stage, see :func:`stages`."""
    return math.ceil(max(stages(pair, settings, tile_size, jobs, limit, others).values()))


def plan_run(
    pair: Pair,
    settings: RunSettings,
    jobs: int,
    limit: int | None,
    *,
    jobs_given: bool = True,
    others: OtherDates = NO_OTHER_DATES,
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
        Memory limit of the process in megabytes. Default: :func:`default_limit`, which is only a target: it
        lowers a number of jobs that the user has not chosen, and nothing else.
    jobs_given : bool
        Whether the user has chosen the number of jobs.
    others : OtherDates, optional
        Other dates of the run.

    Returns
    -------
    Plan

    Raises
    ------
    ConfigError
        The limit is too small for one tile at a time. The message has the smallest limit that works.
    """
    tiling = settings.tiling
    budget = default_limit(jobs) if limit is None else limit

    def peak(tile_size: int, jobs: int) -> int:
        return predict(pair, settings, tile_size, jobs, budget, others)

    check_tile_size(tiling.tile_size, tiling.overlap)
    jobs = min(jobs, len(Tiling(*pair.grid.shape, tiling.tile_size, tiling.overlap)))
    if limit is None:
        while not jobs_given and jobs > 1 and peak(tiling.tile_size, jobs) > budget:
            jobs -= 1
        return _with_cache(pair, budget, tiling.tile_size, jobs, peak(tiling.tile_size, jobs))
    smallest = max(LEAST_TILE, tiling.overlap + TILE_STEP) if tiling.adjustable else tiling.tile_size
    choices = [(tiling.tile_size, count) for count in range(jobs, 0, -1)]
    choices += [(size, 1) for size in range(tiling.tile_size - TILE_STEP, smallest - 1, -TILE_STEP)]
    for tile_size, count in choices:
        if (megabytes := peak(tile_size, count)) <= budget:
            return _with_cache(pair, budget, tile_size, count, megabytes)
    raise _too_small(pair, settings, limit, choices[-1][0], others)


def _with_cache(pair: Pair, limit: int, tile_size: int, jobs: int, peak: int) -> Plan:
    """Return the plan whose block cache takes what is left, as far as it is of use."""
    least = cache_size(limit)
    height, width = pair.grid.shape
    rows = min(height, tile_size + int((1 + FURTHER_ROWS[jobs > 1]) * BLOCK_SIZE))
    stored = len(pair.indexes) * sum(np.dtype(dtype).itemsize for dtype in pair.dtypes)
    useful = rows * width * stored / 2**20
    room = ROOM_SHARE * min(limit, ROOM) - peak
    if min(height, width) < BLOCK_SIZE:  # a single row of tiles, which finds what it needs
        room = 0
    more = max(0, int(min(useful - least, room)))
    return Plan(limit, tile_size, jobs, peak + more, least + more)


def _too_small(
    pair: Pair, settings: RunSettings, limit: int, tile_size: int, others: OtherDates
) -> ConfigError:
    """Return the error for a limit that a single tile of this size exceeds."""
    least = limit
    while predict(pair, settings, tile_size, 1, least, others) > least:
        least += 1
    return ConfigError(
        f"--mem-limit {limit}: too small for this pair, with one tile of {tile_size} px at a time. "
        f"{least} MB is the least that works"
        + ("." if settings.tiling.adjustable else "; a smaller --tile-size needs less."),
        name="mem_limit",
        value=limit,
        least=least,
    )
