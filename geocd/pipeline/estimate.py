"""What a run is expected to take."""

from __future__ import annotations

import dataclasses
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from geocd.config import Settings
from geocd.pipeline.plan import DEFAULT_LIMIT, cache_size, plan_run
from geocd.pipeline.prepared import computing, fit_scene, jobs_or_all, open_pair, tiling_of
from geocd.raster.files import bounded_cache

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
    """Say what :func:`detect` would take, without writing anything.

    For the time it fits to the scene, computes some tiles, twice as many as at a time, and counts on from
    theirs, as if the machine stayed as busy as it is.

    Parameters
    ----------
    before, after, settings, jobs, mem_limit
        As for :func:`detect`.
    measure : bool
        Whether to measure the time; all else is known at once.

    Raises
    ------
    GeocdError
    """
    given = settings or Settings()
    settings = given.resolved()
    begin = time.perf_counter()
    with (
        bounded_cache(cache_size(mem_limit or DEFAULT_LIMIT)),
        open_pair(os.fspath(before), os.fspath(after), settings) as pair,
        computing(settings) if measure else nullcontext(),
    ):
        if not measure:
            plan = plan_run(pair, given, jobs_or_all(jobs), mem_limit, jobs_given=jobs is not None)
            tiles = len(tiling_of(pair, settings.with_tile_size(plan.tile_size)))
            return Forecast(tiles, plan.tile_size, plan.jobs, plan.peak, None)
        scene = fit_scene(pair, given, jobs, mem_limit)
        detector, tiling, plan = scene.detector, scene.tiling, scene.plan
        fitted = time.perf_counter()
        # spread over the scene, because what is not valid takes no time
        count = min(2 * plan.jobs, len(tiling))
        places = [(2 * i + 1) * len(tiling) // (2 * count) for i in range(count)]
        with ThreadPoolExecutor(plan.jobs, thread_name_prefix="geocd-tile") as pool:
            list(pool.map(lambda place: detector.prob(pair.read(tiling[place].window)), places))
        each = (time.perf_counter() - fitted) / count
        rest = REST_SECONDS * pair.grid.height * pair.grid.width / 1e6
    return Forecast(
        len(tiling), plan.tile_size, plan.jobs, plan.peak, fitted - begin + each * len(tiling) + rest
    )
