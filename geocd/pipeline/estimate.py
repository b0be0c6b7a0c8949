"""What a run is expected to take."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor

from geocd.config import Settings
from geocd.pipeline.prepared import OpenRun, computing, open_run

#: Seconds per megapixel of what comes beside and after the tiles: blending, writing, polygons, quick-look.
REST_SECONDS = 0.6


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a run is expected to take.

    Attributes
    ----------
    tiles, tile_size, jobs : int
        Number of tiles, side of one in pixels, and how many are computed at a time.
    peak : int
        Megabytes at the peak; a megabyte is 2**20 bytes.
    seconds : float or None
        None where it was not measured.
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

    For the time, the method is fitted to the scene, some tiles are computed, twice as many as at a time, and
    theirs is extrapolated, as if the machine stayed as busy as it is.

    Parameters
    ----------
    before, after, settings, jobs, mem_limit
        As for :func:`geocd.pipeline.run.detect`.
    measure : bool
        Whether to measure the time; all else is known at once.

    Raises
    ------
    GeocdError
    """
    start = time.perf_counter()
    with open_run(os.fspath(before), os.fspath(after), settings, jobs=jobs, mem_limit=mem_limit) as run:
        seconds = _measured(run, start) if measure else None
        return Forecast(len(run.tiling), run.plan.tile_size, run.plan.jobs, run.plan.peak, seconds)


def _measured(run: OpenRun, start: float) -> float:
    """Return the seconds that the run would take; it began at ``start``."""
    with computing(run.settings):
        prepared = run.fit()
        pair, tiling, jobs = prepared.pair, prepared.tiling, run.plan.jobs
        fitted = time.perf_counter()
        # spread over the scene, because what is not valid takes no time
        count = min(2 * jobs, len(tiling))
        indexes = [(2 * i + 1) * len(tiling) // (2 * count) for i in range(count)]
        with ThreadPoolExecutor(jobs, thread_name_prefix="geocd-tile") as pool:
            list(pool.map(lambda index: prepared.detector.prob(pair.read(tiling[index].window)), indexes))
        each = (time.perf_counter() - fitted) / count
    megapixels = math.prod(pair.grid.shape) / 1e6
    return fitted - start + each * len(tiling) + REST_SECONDS * megapixels
