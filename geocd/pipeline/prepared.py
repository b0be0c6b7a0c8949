"""From two paths to a method that is fitted and ready for its tiles.

The same for every way to run: :func:`open_run` opens the pair and plans its memory, :meth:`OpenRun.fit` fits
the method to the scene, and :class:`PreparedRun` is what computes tiles. :mod:`geocd.pipeline.run` writes
products from it, :mod:`geocd.pipeline.tiles` a part of the tiles, :mod:`geocd.pipeline.estimate` a forecast,
:mod:`geocd.xarray` arrays.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from geocd import heap
from geocd.config import OTHER_DATES, RASTERS, ReadSettings, RunSettings, Settings
from geocd.errors import ConfigError
from geocd.method.detector import Detector
from geocd.method.methods import METHODS
from geocd.method.seasonal import SeasonalDetector
from geocd.pipeline.inputs import model_of
from geocd.pipeline.plan import Plan, available_jobs, cache_size, default_limit, plan_run
from geocd.pipeline.timing import Stopwatch
from geocd.raster.files import Source, bounded_cache, check_two_files
from geocd.raster.handles import Companions
from geocd.raster.pair import Chip, Pair
from geocd.raster.quality import Masks
from geocd.report.links import source_path
from geocd.scene.ignore import Rules, cloud_detector, ignoring
from geocd.scene.lasting import Lasting
from geocd.scene.oddities import SceneFacts
from geocd.scene.otherdates import NO_OTHER_DATES, OtherDates
from geocd.scene.reflectance import Reflectance
from geocd.scene.registration import Alignment, align
from geocd.scene.sample import check_different, sample_chips
from geocd.scene.season import Season
from geocd.threads import one_blas_thread
from geocd.tiles.tiling import Tiling
from geocd.types import Progress, Steps


@dataclasses.dataclass(frozen=True)
class PreparedRun:
    """A method fitted to a pair, and the tiles to compute with it.

    Attributes
    ----------
    pair : Pair
        Aligned, and with the surfaces to ignore masked.
    settings : RunSettings
        With the tile size of the plan, and with what decided which pixels are cloud.
    plan : Plan
    alignment : Alignment or None
        None where no alignment was requested.
    detector : Detector
    facts : SceneFacts or None
        None where they were not requested.
    reflectance : Reflectance or None
        What tells the kinds of change; None where facts were not requested, and for embeddings.
    others : OtherDates
        Aligned, like the pair.
    lasting : Lasting or None
        What later dates say; None where there are none.
    """

    pair: Pair
    settings: RunSettings
    plan: Plan
    alignment: Alignment | None
    detector: Detector
    facts: SceneFacts | None
    reflectance: Reflectance | None = None
    others: OtherDates = NO_OTHER_DATES
    lasting: Lasting | None = None

    @property
    def valid_shares(self) -> dict[str, float]:
        """By the name of each other date, the share of the valid area on which it is valid, in [0, 1]."""
        season = self.detector.season if isinstance(self.detector, SeasonalDetector) else None
        fitted = [part.valid_shares for part in (season, self.lasting) if part is not None]
        return {name: share for shares in fitted for name, share in shares.items()}

    @property
    def tiling(self) -> Tiling:
        """The tiles, blended outside the detector's margin."""
        return tiling_of(self.pair, self.settings, self.detector.margin)


@dataclasses.dataclass(frozen=True)
class SampledRun:
    """A pair and a sample of it, which a method can be fitted to; see :class:`PreparedRun`."""

    pair: Pair
    alignment: Alignment | None
    others: OtherDates
    chips: list[Chip]


# What is measured on a sample beside the method: see the attributes of PreparedRun.
Measured = tuple[SceneFacts, Reflectance | None]


@dataclasses.dataclass(frozen=True)
class OpenRun:
    """An open pair and the plan of its run; no pixel has been read yet.

    Attributes
    ----------
    pair : Pair
    settings : RunSettings
        With the tile size of the plan.
    plan : Plan
    others : OtherDates
    """

    pair: Pair
    settings: RunSettings
    plan: Plan
    others: OtherDates = NO_OTHER_DATES

    @property
    def tiling(self) -> Tiling:
        """The tiles, without the detector's margin, which is known once the method is fitted."""
        return tiling_of(self.pair, self.settings)

    def sample(self, *, stopwatch: Stopwatch | None = None) -> SampledRun:
        """Align the pair and read a sample of it; torch is not needed.

        Parameters
        ----------
        stopwatch : Stopwatch, optional
            Records the stages ``align`` and ``sample``.

        Raises
        ------
        NoValidPixelError, SameImageError, RasterReadError
        """
        stopwatch, read = stopwatch or Stopwatch(), self.settings.read
        with stopwatch.stage("align"):
            pair, alignment = align(self.pair, read.align)
            others = self.others.aligned(read)
        with stopwatch.stage("sample"):
            pair = ignoring(pair, read.ignore, read.cloud_detector)
            chips = sample_chips(pair)
            check_different(chips, pair.before_path, pair.after_path)
        return SampledRun(pair, alignment, others, chips)

    def measure(self, sampled: SampledRun, *, stopwatch: Stopwatch | None = None) -> Measured:
        """Measure what a sample shows beside the method; ``stopwatch`` records the stage ``shift``."""
        chips, pair = sampled.chips, sampled.pair
        with (stopwatch or Stopwatch()).stage("shift"):
            image = self.settings.method.kind == "image"
            return SceneFacts.measure(chips, pair), Reflectance.measure(chips, pair) if image else None

    def fit(
        self,
        sampled: SampledRun | None = None,
        measured: Callable[[], Measured] | None = None,
        *,
        stopwatch: Stopwatch | None = None,
        progress: Progress | None = None,
    ) -> PreparedRun:
        """Fit the method to a sample of the pair; call it inside :func:`computing`.

        Parameters
        ----------
        sampled : SampledRun, optional
            Its chips are freed. Default: that of :meth:`sample`.
        measured : callable, optional
            Returns what :meth:`measure` does, of this sample; called before the chips are freed.
        stopwatch : Stopwatch, optional
            Records the stage ``fit``.
        progress : callable, optional
            Called as ``progress("fit", done, total)``, after each step of optimisation too.

        Raises
        ------
        NoValidPixelError, SameImageError, RasterReadError, WeightsError, DeviceError
        """
        stopwatch = stopwatch or Stopwatch()
        steps = _fit_steps(self.settings, progress)
        sampled = sampled or self.sample(stopwatch=stopwatch)
        pair, others, chips = sampled.pair, sampled.others, sampled.chips
        with stopwatch.stage("fit"):
            detector = fit_detector(chips, pair, self.settings, self.plan.jobs, steps)
            facts, reflectance = (None, None) if measured is None else measured()
            lasting = Lasting.fit(chips, others.confirm) if others.confirm else None
            if others.baseline:
                detector = self._seasonal(detector, chips, pair, others)
        chips.clear()
        heap.release()
        steps(1, 1)
        settings = self.settings
        if (clouds := cloud_detector(pair)) is not None:
            settings = settings.with_cloud_detector(clouds.choice)
        return PreparedRun(
            pair, settings, self.plan, sampled.alignment, detector, facts, reflectance, others, lasting
        )

    def _seasonal(self, plain: Detector, chips: list[Chip], pair: Pair, others: OtherDates) -> Detector:
        """Return the detector that also sees the baseline; the chips are replaced, one by one."""
        season = Season.fit(chips, others.baseline)
        for index, chip in enumerate(chips):
            chips[index] = season.apply(chip)
        return SeasonalDetector(plain, fit_detector(chips, pair, self.settings, self.plan.jobs), season)


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
        Replaces the path in the settings.
    jobs, mem_limit : int, optional
        As for :func:`geocd.pipeline.run.detect`.

    Raises
    ------
    RasterOpenError, GridError, BandError, SameImageError
        The pair cannot be compared.
    ConfigError
        The settings contradict each other or do not suit the pair, or the limit is too small.
    """
    resolved = (settings or Settings()).resolved()
    model_of(resolved.read)  # used last, but checked now
    jobs_given, jobs = jobs is not None, available_jobs(jobs)
    with (
        bounded_cache(cache_size(mem_limit or default_limit(jobs))),
        open_pair(before, after, resolved.read, valid) as pair,
    ):
        check_two_files(before, after)  # what cannot be opened says so first
        resolved.read.check_lasting_band()
        with contextlib.closing(OtherDates.open(before, after, pair, resolved.read)) as others:
            plan = plan_run(pair, resolved, jobs, mem_limit, jobs_given=jobs_given, others=others)
            with bounded_cache(plan.cache):
                yield OpenRun(pair, resolved.with_tile_size(plan.tile_size), plan, others)


@contextlib.contextmanager
def computing(settings: RunSettings) -> Iterator[None]:
    """Use this as the context in which a method computes."""
    heap.keep()
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_blas_thread())
        if METHODS[settings.method.method].uses_torch:
            from geocd.method.devices import one_thread

            stack.enter_context(one_thread())
        yield


def _fit_steps(settings: RunSettings, progress: Progress | None) -> Steps:
    """Return a callback that reports the steps of the fit, from 0 to all of them and never backwards."""
    total = max(1, METHODS[settings.method.method].steps(settings.method))
    furthest = -1

    def steps(done: int, of: int) -> None:
        nonlocal furthest
        if progress is not None and (done := done * total // of) > furthest:
            furthest = done
            progress("fit", done, total)

    steps(0, 1)
    return steps


def fit_detector(
    chips: Sequence[Chip],
    pair: Pair,
    settings: RunSettings,
    jobs: int = 1,
    on_step: Steps | None = None,
) -> Detector:
    """Fit the chosen method to a sample of the scene; ``on_step(done, total)`` hears of its steps."""
    return METHODS[settings.method.method].fit(chips, pair, settings.method, jobs, on_step)


def open_pair(before: Source, after: Source, read: ReadSettings, valid: Source | None = None) -> Pair:
    """Open a pair according to the settings; ``valid`` replaces their path.

    Raises
    ------
    RasterOpenError, GridError, BandError
    ConfigError
        The bands that ``ignore`` needs cannot be identified by name.
    """
    masks = Masks(
        read.mask_before, read.mask_after, read.mask_kind, tuple(read.mask_classes), read.mask_buffer
    )
    pair = Pair(
        before,
        after,
        indexes=read.bidx,
        nodata=read.nodata,
        valid=read.valid if valid is None else valid,
        companions=Companions((read.features_before, read.features_after), masks),
        area=read.aoi,
        align=read.align != "none",
    )
    try:
        Rules.of(read.ignore, pair.band_names)  # fitted later, but checked now
    except ConfigError:
        pair.close()
        raise
    return pair


def open_sources(prob: str, provenance: Mapping[str, object], paths: tuple[str, str] | None = None) -> Pair:
    """Open the images that a probability raster was computed from.

    Parameters
    ----------
    prob : str
        Path of the raster.
    provenance : mapping
        Its record of the run, see :func:`geocd.raster.files.provenance`.
    paths : tuple of str, optional
        Paths of before and after; default: those in the record.

    Raises
    ------
    ConfigError
        The record does not have the paths.
    GeocdError
        The images cannot be opened with the settings of the run.
    """
    if paths is None:
        hrefs = provenance.get("before"), provenance.get("after")
        if not all(isinstance(href, str) for href in hrefs):
            raise ConfigError(f"{prob}: does not record which images it was computed from.", path=prob)
        before, after = (source_path(str(href), Path(prob).parent) for href in hrefs)
    else:
        before, after = paths
    # Invalid and ignored pixels have no probability, so these settings are not needed.
    names = {field.name for field in dataclasses.fields(ReadSettings)} - {*RASTERS, *OTHER_DATES, "ignore"}
    settings = Settings.from_flat({name: value for name, value in provenance.items() if name in names})
    pair = open_pair(before, after, settings.read)
    shift = Alignment.shift_of(provenance.get("alignment"))
    return pair if shift is None else pair.shifted(*shift)


def tiling_of(pair: Pair, settings: RunSettings, margin: int = 0) -> Tiling:
    """Return the tiles of a pair."""
    tiling = settings.tiling
    return Tiling(*pair.grid.shape, tiling.tile_size, tiling.overlap, margin, least=True)
