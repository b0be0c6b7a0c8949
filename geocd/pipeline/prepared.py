"""From two paths to a method that is fitted and ready for its tiles."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from geocd import heap
from geocd.config import ReadSettings, Settings
from geocd.errors import ConfigError
from geocd.method.detector import Detector
from geocd.method.methods import METHODS
from geocd.pipeline.plan import Plan, plan_run
from geocd.raster.files import Source
from geocd.raster.grid import crs_name
from geocd.raster.pair import Chip, Pair
from geocd.report.links import source_path
from geocd.scene.ignore import KeptPair
from geocd.scene.registration import remove_shift
from geocd.scene.sample import sample_chips
from geocd.tiles.tiling import Tiling


def computing(settings: Settings) -> AbstractContextManager[None]:
    """Return the context in which a method computes."""
    heap.keep()
    if not METHODS[settings.method.method].uses_torch:
        return nullcontext()
    from geocd.method.devices import one_thread

    return one_thread()


def fit_detector(chips: Sequence[Chip], pair: Pair, settings: Settings, jobs: int = 1) -> Detector:
    """Fit the chosen method to a sample of the scene."""
    return METHODS[settings.method.method].fit(chips, pair, settings.method, jobs)


def open_pair(before: Source, after: Source, settings: Settings, valid: Source | None = None) -> Pair:
    """Open a pair as the settings say; ``valid`` may be another source than the path that stands there."""
    read = settings.read
    options: dict[str, Any] = {
        "indexes": read.bidx,
        "nodata": read.nodata,
        "valid": read.valid if valid is None else valid,
        "align": read.align != "none",
    }
    if read.ignore:
        return KeptPair(before, after, ignore=read.ignore, **options)
    return Pair(before, after, **options)


def align(pair: Pair, settings: Settings) -> dict[str, Any] | None:
    """Remove the shift if the settings say so; return how the pair is aligned, in plain values.

    None where nobody asked for it.
    """
    if settings.read.align == "none":
        return None
    removed = remove_shift(pair) if settings.read.align == "shift" else None
    grid, warp = pair.after_grid, pair.warp
    found: dict[str, Any] = {
        "after_grid": {
            "crs": crs_name(grid.crs),
            "transform": list(grid.transform)[:6],
            "shape": list(grid.shape),
        },
        "resampling": None if warp is None else warp.resampling,
        "overlap": 1.0 if warp is None else round(warp.overlap, 4),
    }
    if removed is not None:
        found["shift"] = removed.as_dict()
    return found


def open_sources(prob: str, made: Mapping[str, Any], files: tuple[str, str] | None = None) -> Pair:
    """Open the images that a probability raster was made of, to look at what changed.

    Parameters
    ----------
    prob : str
        The raster.
    made : mapping
        What it says about its run, see :func:`geocd.raster.files.provenance`.
    files : tuple of str, optional
        Where before and after are now; default: where the run found them.

    Raises
    ------
    ConfigError
        The raster does not say.
    GeocdError
        They cannot be opened as the run did.
    """
    if files is None:
        hrefs = made.get("before"), made.get("after")
        if not all(isinstance(href, str) for href in hrefs):
            raise ConfigError(f"{prob}: does not say which images it was made of.", path=prob)
        before, after = (source_path(str(href), Path(prob).parent) for href in hrefs)
    else:
        before, after = files
    # Not valid and ignored is what has no probability, so that need not be found again.
    names = {field.name for field in dataclasses.fields(ReadSettings)} - {"valid", "ignore"}
    given = {name: value for name, value in made.items() if name in names}
    if given.get("bidx") is not None:
        given["bidx"] = tuple(given["bidx"])
    if given.get("nodata") == "nan":
        given["nodata"] = math.nan
    pair = open_pair(before, after, Settings(read=ReadSettings(**given)))
    shift = (made.get("alignment") or {}).get("shift")
    if shift and (shift["row"] or shift["col"]):
        pair.set_shift(shift["row"], shift["col"])
    return pair


def sample(pair: Pair) -> list[Chip]:
    """Read the sample that everything is fitted to."""
    if isinstance(pair, KeptPair):
        pair.fit()
    return sample_chips(pair)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A method that is ready for the tiles of a scene.

    Attributes
    ----------
    detector : Detector
    tiling : Tiling
    settings : Settings
        Resolved, with the size that the tiles have.
    plan : Plan
    alignment : dict, optional
        What :func:`align` says.
    """

    detector: Detector
    tiling: Tiling
    settings: Settings
    plan: Plan
    alignment: dict[str, Any] | None


def fit_scene(pair: Pair, given: Settings, jobs: int | None, mem_limit: int | None) -> Fitted:
    """Choose the tiles of a pair and fit the method to it; call it inside :func:`computing`.

    Parameters
    ----------
    pair : Pair
    given : Settings
        As the user gave them.
    jobs, mem_limit : int, optional
        As for :func:`detect`.
    """
    plan = plan_run(pair, given, jobs_or_all(jobs), mem_limit, jobs_given=jobs is not None)
    settings = given.resolved().with_tile_size(plan.tile_size)
    alignment = align(pair, settings)
    detector = fit_detector(sample(pair), pair, settings, plan.jobs)
    heap.release()
    return Fitted(detector, tiling_of(pair, settings, detector.margin), settings, plan, alignment)


def tiling_of(pair: Pair, settings: Settings, margin: int = 0) -> Tiling:
    assert settings.tiling.tile_size is not None  # resolved
    height, width = pair.grid.shape
    return Tiling(height, width, settings.tiling.tile_size, settings.tiling.overlap, margin)


def jobs_or_all(jobs: int | None) -> int:
    if jobs is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}: must be 1 or more.", name="jobs", value=jobs)
    return jobs


__all__ = [
    "Fitted",
    "computing",
    "fit_detector",
    "fit_scene",
    "open_pair",
]
