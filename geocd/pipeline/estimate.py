"""Forecast of the tiles, memory and time of a run, without writing anything."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor

from geocd.config import Settings
from geocd.pipeline.prepared import OpenRun, computing, open_run
from geocd.pipeline.tiles import read_tile

#: Seconds per megapixel of everything but the tiles: blending, writing, polygons, quick-look.
REST_SECONDS = 0.6


@dataclasses.dataclass(frozen=True)
class Forecast:
    """Expected cost of a run.

    Attributes
    ----------
    tiles, tile_size, jobs : int
        Number of tiles, side of a tile in pixels, and number of tiles computed at a time.
    peak : int
        Peak memory in megabytes (2**20 bytes).
    seconds : float or None
        Wall time; None where it was not measured.
    """

    tiles: int
    tile_size: int
    jobs: int
    peak: int
    seconds: float | None


def forecast(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    *,
    settings: Settings | None = None,
    jobs: int | None = None,
    mem_limit: int | None = None,
    measure: bool = True,
) -> Forecast:
    """Forecast what :func:`geocd.pipeline.run.detect` would take, without writing anything.

    To measure the time, the method is fitted to the scene and ``2 * jobs`` tiles are computed; their time is
    extrapolated to all tiles, assuming that the load of the machine stays the same.

    Parameters
    ----------
    before, after, settings, jobs, mem_limit
        As for :func:`geocd.pipeline.run.detect`.
    measure : bool
        Whether to measure the time; everything else takes no time.

    Returns
    -------
    Forecast

    Raises
    ------
    GeocdError
    """
    start = time.perf_counter()
    with open_run(os.fspath(before), os.fspath(after), settings, jobs=jobs, mem_limit=mem_limit) as run:
        seconds = _measured(run, start) if measure else None
        return Forecast(len(run.tiling), run.plan.tile_size, run.plan.jobs, run.plan.peak, seconds)


def _measured(run: OpenRun, start: float) -> float:
    """Return the seconds that the run would take, with those since ``start``."""
    with computing(run.settings):
        prepared = run.fit()
        pair, tiling, jobs = prepared.pair, prepared.tiling, run.plan.jobs
        fitted = time.perf_counter()
        # spread over the scene, because invalid pixels take no time
        count = min(2 * jobs, len(tiling))
        indexes = [(2 * i + 1) * len(tiling) // (2 * count) for i in range(count)]
        with ThreadPoolExecutor(jobs, thread_name_prefix="geocd-tile") as pool:
            list(pool.map(lambda i: prepared.detector.prob(read_tile(pair, tiling, tiling[i])), indexes))
        each = (time.perf_counter() - fitted) / count
    megapixels = math.prod(pair.grid.shape) / 1e6
    return fitted - start + each * len(tiling) + REST_SECONDS * megapixels
