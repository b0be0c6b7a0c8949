"""From two paths to a method that is fitted and ready for its tiles.

The same for every way to run: :func:`open_run` opens the pair and plans its memory, :meth:`OpenRun.fit` fits
the method to the scene, and :class:`PreparedRun` is what computes tiles. :mod:`geocd.pipeline.run` writes
products from it, :mod:`geocd.pipeline.tiles` a part of the tiles, :mod:`geocd.pipeline.estimate` a forecast,
:mod:`geocd.xarray` arrays.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from geocd import heap
from geocd.config import ReadSettings, RunSettings, Settings
from geocd.errors import ConfigError
from geocd.method.detector import Detector
from geocd.method.methods import METHODS
from geocd.pipeline.plan import DEFAULT_LIMIT, Plan, available_jobs, cache_size, plan_run
from geocd.pipeline.timing import Stopwatch
from geocd.raster.files import Source, bounded_cache
from geocd.raster.pair import Chip, Pair
from geocd.report.links import source_path
from geocd.scene.ignore import Rules
from geocd.scene.registration import Alignment, Shift, align, measure_shift
from geocd.scene.sample import sample_chips, zero_shares
from geocd.tiles.tiling import Tiling


@dataclasses.dataclass(frozen=True)
class SceneFacts:
    """What the sample of a scene shows beside what the method takes from it.

    Attributes
    ----------
    shift : Shift or None
        Between the dates, once aligned; None where there is nothing to measure on.
    zero_share : mapping of float
        By date, the share of the valid pixels that are 0 in all bands, in [0, 1].
    """

    shift: Shift | None
    zero_share: Mapping[str, float]

    @classmethod
    def measure(cls, chips: Sequence[Chip]) -> SceneFacts:
        """Measure them on a sample."""
        before, after = zero_shares(chips)
        return cls(measure_shift(chips), {"before": before, "after": after})


@dataclasses.dataclass(frozen=True)
class PreparedRun:
    """A method that is fitted to a pair, and the tiles it is to compute.

    Attributes
    ----------
    pair : Pair
        Aligned, and without what is to be ignored.
    settings : RunSettings
        With the tile size that the plan chose.
    plan : Plan
    alignment : Alignment or None
        None where the pair was not to be aligned.
    detector : Detector
    facts : SceneFacts or None
        None where they were not asked for.
    """

    pair: Pair
    settings: RunSettings
    plan: Plan
    alignment: Alignment | None
    detector: Detector
    facts: SceneFacts | None

    @property
    def tiling(self) -> Tiling:
        """The tiles, blended outside the detector's margin."""
        return tiling_of(self.pair, self.settings, self.detector.margin)


@dataclasses.dataclass(frozen=True)
class OpenRun:
    """A pair that is open and planned, of which no pixel has been read.

    Attributes
    ----------
    pair : Pair
    settings : RunSettings
        With the tile size that the plan chose.
    plan : Plan
    """

    pair: Pair
    settings: RunSettings
    plan: Plan

    @property
    def tiling(self) -> Tiling:
        """The places of the tiles; how they are blended is known once the method is fitted."""
        return tiling_of(self.pair, self.settings)

    def fit(self, *, facts: bool = False, stopwatch: Stopwatch | None = None) -> PreparedRun:
        """Align the pair and fit the method to a sample of it; call it inside :func:`computing`.

        Parameters
        ----------
        facts : bool
            Whether to measure :class:`SceneFacts` too.
        stopwatch : Stopwatch, optional
            Gets the stages ``align``, ``sample``, ``shift`` and ``fit``.

        Raises
        ------
        NoValidPixelError, RasterReadError, WeightsError, DeviceError
        """
        stopwatch = stopwatch or Stopwatch()
        read = self.settings.read
        with stopwatch.stage("align"):
            pair, alignment = align(self.pair, read.align)
        with stopwatch.stage("sample"):
            if read.ignore:
                pair = pair.ignoring(Rules.of(read.ignore, pair.band_names).fitted_to(pair))
            chips = sample_chips(pair)
        with stopwatch.stage("shift"):
            measured = SceneFacts.measure(chips) if facts else None
        with stopwatch.stage("fit"):
            detector = fit_detector(chips, pair, self.settings, self.plan.jobs)
        del chips
        heap.release()
        return PreparedRun(pair, self.settings, self.plan, alignment, detector, measured)


@contextlib.contextmanager
def open_run(
    before: Source,
    after: Source,
    settings: Settings | None = None,
    *,
    valid: Source | None = None,
    jobs: int | None = None,
    mem_limit: int | None = None,
) -> Iterator[OpenRun]:
    """Open a pair and plan its run, within a block cache of bounded size.

    Parameters
    ----------
    before, after : Source
    settings : Settings, optional
    valid : Source, optional
        Instead of the path that the settings name.
    jobs, mem_limit : int, optional
        As for :func:`geocd.pipeline.run.detect`.

    Raises
    ------
    RasterOpenError, GridError, BandError
        The pair cannot be compared.
    ConfigError
        The settings do not fit each other or the pair, or the limit is too small.
    """
    resolved = (settings or Settings()).resolved()
    jobs_given, jobs = jobs is not None, available_jobs(jobs)
    with (
        bounded_cache(cache_size(mem_limit or DEFAULT_LIMIT)),
        open_pair(before, after, resolved.read, valid) as pair,
    ):
        plan = plan_run(pair, resolved, jobs, mem_limit, jobs_given=jobs_given)
        yield OpenRun(pair, resolved.with_tile_size(plan.tile_size), plan)


def computing(settings: RunSettings) -> AbstractContextManager[None]:
    """Return the context in which a method computes."""
    heap.keep()
    if not METHODS[settings.method.method].uses_torch:
        return nullcontext()
    from geocd.method.devices import one_thread

    return one_thread()


def fit_detector(chips: Sequence[Chip], pair: Pair, settings: RunSettings, jobs: int = 1) -> Detector:
    """Fit the chosen method to a sample of the scene."""
    return METHODS[settings.method.method].fit(chips, pair, settings.method, jobs)


def open_pair(before: Source, after: Source, read: ReadSettings, valid: Source | None = None) -> Pair:
    """Open a pair as the settings say; ``valid`` may be another source than the path that stands there.

    Raises
    ------
    RasterOpenError, GridError, BandError
    ConfigError
        The names of the bands do not tell what is to be ignored.
    """
    pair = Pair(
        before,
        after,
        indexes=read.bidx,
        nodata=read.nodata,
        valid=read.valid if valid is None else valid,
        align=read.align != "none",
    )
    try:
        Rules.of(read.ignore, pair.band_names)  # fitted later; what cannot work is an error at once
    except ConfigError:
        pair.close()
        raise
    return pair


def open_sources(prob: str, provenance: Mapping[str, object], paths: tuple[str, str] | None = None) -> Pair:
    """Open the images that a probability raster was made of, to look at what changed.

    Parameters
    ----------
    prob : str
        The raster.
    provenance : mapping
        What it says about its run, see :func:`geocd.raster.files.provenance`.
    paths : tuple of str, optional
        Where before and after are now; default: where the run found them.

    Raises
    ------
    ConfigError
        The raster does not say.
    GeocdError
        They cannot be opened as the run did.
    """
    if paths is None:
        hrefs = provenance.get("before"), provenance.get("after")
        if not all(isinstance(href, str) for href in hrefs):
            raise ConfigError(f"{prob}: does not say which images it was made of.", path=prob)
        before, after = (source_path(str(href), Path(prob).parent) for href in hrefs)
    else:
        before, after = paths
    # What was not valid or was ignored has no probability, so these need not be read again.
    names = {field.name for field in dataclasses.fields(ReadSettings)} - {"valid", "ignore"}
    settings = Settings.from_flat({name: value for name, value in provenance.items() if name in names})
    pair = open_pair(before, after, settings.read)
    shift = Alignment.shift_of(provenance.get("alignment"))
    return pair if shift is None else pair.shifted(*shift)


def tiling_of(pair: Pair, settings: RunSettings, margin: int = 0) -> Tiling:
    """Return the tiles of a pair."""
    return Tiling(*pair.grid.shape, settings.tiling.tile_size, settings.tiling.overlap, margin)
