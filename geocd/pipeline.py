"""One pair from two paths to all outputs.

The order of things, and nothing else: what is computed lives in the modules named here.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
import platform
import time
import zlib
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import geocd
from geocd import memory
from geocd.checkpoint import Checkpoint, differences
from geocd.config import ReadSettings, Settings
from geocd.distances import ClassicalDetector
from geocd.errors import ConfigError, ResumeError
from geocd.ignore import KeptPair, Tally, ignored_counts
from geocd.mosaic import Mosaic, SeamScore
from geocd.normalize import sample_chips, zero_shares
from geocd.outputs import Outputs, Transaction, default_stem, sha256
from geocd.page import write_page
from geocd.pictures import quicklook, read_thumbnails
from geocd.provenance import fingerprint
from geocd.raster import BLOCK_SIZE, Chip, Pair, ProbWriter, Source, bounded_cache, crs_name, output_errors
from geocd.registration import measure_shift, remove_shift
from geocd.report import (
    RunRecord,
    acquisition_date,
    source_href,
    source_path,
    stac_item,
    versions,
    write_json,
)
from geocd.sources import is_file
from geocd.styles import style
from geocd.tiling import Tile, Tiling
from geocd.types import Float32Array, Progress
from geocd.vectorize import polygonize

#: Every method puts its own decision here; only ``--threshold`` moves it.
DECISION = 0.5
#: Seconds per megapixel of what comes beside and after the tiles: blending, writing, polygons, quick-look.
REST_SECONDS = 0.6
#: Longest side, in pixels, of a picture in the report and of one in the quick-look.
PICTURE, QUICKLOOK = 1000, 640
#: Bins of the probability's histogram.
BINS = 50
#: Bands of the probability raster; the second on request.
BANDS = ("change_probability", "uncertainty")


class Detector(Protocol):
    """What a method is, once it is fitted to the scene."""

    @property
    def margin(self) -> int:
        """Pixels around a pixel that its probability depends on."""

    @property
    def losses(self) -> tuple[float, ...]:
        """Loss of every optimisation step on the scene."""

    def prob(self, chip: Chip) -> Float32Array:
        """Return the ``BANDS`` of a chip, ``(1 or 2, height, width)``, NaN where not valid.

        Must not depend on anything but the chip and its place, and be safe to call from threads.
        """


def computing(settings: Settings) -> AbstractContextManager[None]:
    """Return the context in which a method computes."""
    memory.keep()
    if settings.method.method != "deep":
        return nullcontext()
    from geocd.devices import one_thread

    return one_thread()


def fit_detector(chips: Sequence[Chip], pair: Pair, settings: Settings, jobs: int = 1) -> Detector:
    """Fit the chosen method to a sample of the scene."""
    if settings.method.method in ("cva", "irmad"):
        return ClassicalDetector.fit(settings.method.method, chips)
    # torch takes seconds to import and the classical methods do not need it
    from geocd import optimize

    return optimize.fit(chips, pair, settings.method, jobs)


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
        What it says about its run, see :func:`geocd.raster.provenance`.
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
    plan: memory.Plan
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
    plan = memory.plan(pair, given, _jobs(jobs), mem_limit, jobs_given=jobs is not None)
    settings = given.resolved().with_tile_size(plan.tile_size)
    alignment = align(pair, settings)
    detector = fit_detector(sample(pair), pair, settings, plan.jobs)
    memory.release()
    return Fitted(detector, _tiling(pair, settings, detector.margin), settings, plan, alignment)


def first_seen(tiling: Tiling, tile: Tile) -> tuple[slice, slice]:
    """Return the rows and columns of a tile that no tile above it or to its left has.

    Over all tiles, these parts cover the grid once.
    """

    def part(begins: list[int], size: int, place: int) -> slice:
        return slice(begins[place - 1] + size - begins[place] if place else 0, size)

    height, width = tiling.tile_shape
    return part(tiling.row_starts, height, tile.row), part(tiling.col_starts, width, tile.col)


def probabilities(
    detector: Detector,
    pair: Pair,
    tiling: Tiling,
    jobs: int,
    tally: Tally | None = None,
    checkpoint: Checkpoint | None = None,
) -> Generator[tuple[Tile, Float32Array], None, None]:
    """Yield the tiles in order with their probability, ``jobs`` of them computed at a time.

    At most ``2 * jobs`` tiles are in memory: a slow consumer holds the readers back. A ``tally`` counts
    what was ignored, each pixel once. Tiles that a ``checkpoint`` holds are taken from there, others saved.
    Close the generator to wait for the tiles in work.
    """

    def work(index: int) -> tuple[Float32Array, dict[str, int]]:
        return _tile(index, detector, pair, tiling, checkpoint)

    def done(index: int, result: tuple[Float32Array, dict[str, int]]) -> tuple[Tile, Float32Array]:
        if tally is not None:
            tally.add(result[1])
        return tiling[index], result[0]

    if jobs == 1:
        for index in range(len(tiling)):
            yield done(index, work(index))
        return
    with ThreadPoolExecutor(jobs, thread_name_prefix="geocd-tile") as pool:
        waiting: deque[tuple[int, Future[tuple[Float32Array, dict[str, int]]]]] = deque()
        try:
            for index in range(len(tiling)):
                waiting.append((index, pool.submit(work, index)))
                if len(waiting) >= 2 * jobs:
                    first, future = waiting.popleft()
                    yield done(first, future.result())
            while waiting:
                first, future = waiting.popleft()
                yield done(first, future.result())
        finally:
            for _, future in waiting:
                future.cancel()


def _tile(
    index: int, detector: Detector, pair: Pair, tiling: Tiling, checkpoint: Checkpoint | None
) -> tuple[Float32Array, dict[str, int]]:
    """Return probability and counts of a tile: as they are kept, or computed and then kept."""
    if checkpoint is not None and (kept := checkpoint.load(index)) is not None:
        return kept
    tile = tiling[index]
    chip = pair.read(tile.window)
    counts = ignored_counts(chip, first_seen(tiling, tile))
    prob = detector.prob(chip)
    if checkpoint is not None:
        with output_errors(checkpoint.folder):
            checkpoint.save(index, prob, counts)
    return prob, counts


def dependencies(pair: Pair, settings: Settings) -> dict[str, Any]:
    """Return all that a tile depends on, by the names that a message calls it.

    An interrupted run can be gone on with where all of it is equal. Not where the inputs are, so that they
    may be moved with their times.
    """
    options = {"--" + name.replace("_", "-"): value for name, value in settings.as_dict().items()}
    del options["--valid"]  # a path
    files = {"before": pair.before_path, "after": pair.after_path, "--valid": pair.valid_path}
    if (weights := weights_file(settings)) is not None:
        files["the file of --weights"] = str(weights)
    return {
        **options,
        **{name: None if path is None else _identity(path) for name, path in files.items()},
        "grid": pair.grid.describe(),
        "grid of after": pair.after_grid.describe(),
        "data types": pair.dtypes,
        "tags": [zlib.crc32(json.dumps(tags, sort_keys=True).encode()) for tags in pair.tags],
        "device": _device(settings),
        **{f"{name} version": version for name, version in versions().items()},
    }


def weights_file(settings: Settings) -> Path | None:
    """Return the file that ``--weights`` names, where it is no word of its own."""
    weights = settings.method.weights
    return None if weights is None or not is_file(weights) else Path(weights)


def _device(settings: Settings) -> str:
    """Return the kind of device that computes: bytes are only promised to be the same on one kind."""
    device = "cpu"
    if settings.method.method == "deep":
        from geocd.devices import choose_device

        device = str(choose_device(settings.method.device))
    return f"{device} on {platform.machine()}"


def _identity(path: str) -> str:
    """Return what tells that a file is still the same without reading it."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return source_href(path, Path())  # remote: a signature must not be written down, and changes
    return f"{status.st_size} bytes, modified at {status.st_mtime_ns} ns"


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
        bounded_cache(memory.cache_size(mem_limit or memory.DEFAULT_LIMIT)),
        open_pair(os.fspath(before), os.fspath(after), settings) as pair,
        computing(settings) if measure else nullcontext(),
    ):
        if not measure:
            plan = memory.plan(pair, given, _jobs(jobs), mem_limit, jobs_given=jobs is not None)
            tiles = len(_tiling(pair, settings.with_tile_size(plan.tile_size)))
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


def begin_tiles(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    settings: Settings | None = None,
    resume: bool = True,
    mem_limit: int | None = None,
    least: int = 1,
) -> int:
    """Make ready what :func:`compute_tiles` writes into: an interrupted run without a tile.

    Parameters
    ----------
    before, after, output, settings, resume, mem_limit
        As for :func:`detect`, with ``jobs=1``.
    least : int
        With fewer tiles than this nothing is written.

    Returns
    -------
    int
        Number of tiles.

    Raises
    ------
    GeocdError
    """
    given = settings or Settings()
    outputs = Outputs(Path(output))
    with open_pair(os.fspath(before), os.fspath(after), given.resolved()) as pair:
        settings = given.resolved().with_tile_size(memory.plan(pair, given, 1, mem_limit).tile_size)
        total = len(_tiling(pair, settings))
        if total >= least:
            record = dependencies(pair, settings)
            with Transaction(
                outputs, overwrite=True, resume=resume, record=record, total=total
            ) as transaction:
                transaction.keep()
    return total


def compute_tiles(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    output: str | os.PathLike[str],
    part: tuple[int, int],
    *,
    settings: Settings | None = None,
    mem_limit: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Compute a part of the tiles of a run, for :func:`detect` with ``resume`` to make the rest of.

    Several processes may do so at a time, each a part, while none of them runs :func:`detect`. Each fits to
    the scene for itself, which gives all of them the same.

    Parameters
    ----------
    before, after, output, settings, mem_limit, progress
        As for :func:`detect`, with ``jobs=1``.
    part : tuple of int
        Number of the part, from 0, and how many parts there are.

    Raises
    ------
    ResumeError
        :func:`begin_tiles` has not been called, or for another pair or other settings.
    GeocdError
    """
    given = settings or Settings()
    outputs = Outputs(Path(output))
    tell = progress or (lambda stage, done, total: None)
    with (
        bounded_cache(memory.cache_size(mem_limit or memory.DEFAULT_LIMIT)),
        open_pair(os.fspath(before), os.fspath(after), given.resolved()) as pair,
        computing(given.resolved()),
    ):
        settings = given.resolved().with_tile_size(memory.plan(pair, given, 1, mem_limit).tile_size)
        checkpoint = Checkpoint(outputs.folder)
        if differing := differences(checkpoint.record() or {}, dependencies(pair, settings)):
            raise ResumeError(
                f"{outputs.folder}: is not ready for the tiles of this run ({'; '.join(differing)}). Call "
                "begin_tiles first.",
                folder=str(outputs.folder),
                differing=differing,
            )
        scene = fit_scene(pair, given, 1, mem_limit)
        # every so many, not a stretch: what is not valid takes no time, and lies together
        for done, index in enumerate(range(part[0], len(scene.tiling), part[1]), 1):
            _tile(index, scene.detector, pair, scene.tiling, checkpoint)
            tell("tiles", done, len(scene.tiling))


def detect(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    settings: Settings | None = None,
    overwrite: bool = False,
    resume: bool = False,
    jobs: int | None = None,
    mem_limit: int | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Path], RunRecord]:
    """Find what changed between two rasters, and write all outputs.

    Parameters
    ----------
    before, after : path
        Two rasters of one place, on one grid unless the settings say ``align``: paths, URLs, anything GDAL
        opens.
    output : path, optional
        Stem of the outputs: folder and beginning of their names. Default: ``<before>_<after>`` in the
        current folder.
    settings : Settings, optional
        What and how; the defaults of :class:`geocd.config.Settings`.
    overwrite : bool
        Whether existing outputs may be replaced.
    resume : bool
        Whether to use the tiles that an interrupted run of the same outputs has finished; the outputs are
        then those of an undisturbed run, byte for byte (but for times in the item). Where there was no such
        run, everything is computed. Without, what it has kept is deleted.
    jobs : int, optional
        Tiles computed at a time; default: the processors this process may use, or as many tiles as fit
        into 2000 MB. Outputs do not depend on it.
    mem_limit : int, optional
        Megabytes that the process may take, all in all: fewer tiles are computed at a time and, if need be,
        smaller ones. Outputs depend on it only where tiles are made smaller.
    progress : callable, optional
        Told how far the run is: ``progress(stage, done, total)``.

    Returns
    -------
    files : dict
        Paths of the outputs: ``prob``, ``changes``, ``prob_style``, ``changes_style``,
        ``quicklook``, ``report``, ``item``.
    record : RunRecord
        What was done, as in the STAC item.

    Raises
    ------
    GeocdError
        See :mod:`geocd.errors`; nothing is left behind.
    Interrupted
        Ctrl-C came, and finished tiles are kept, in a hidden folder beside the outputs. They are kept too
        when the process is killed or memory runs out.
    """
    given = settings or Settings()
    settings = given.resolved()
    most = _jobs(jobs)
    before, after = os.fspath(before), os.fspath(after)
    outputs = Outputs(default_stem(before, after) if output is None else Path(output))
    with (
        bounded_cache(memory.cache_size(mem_limit or memory.DEFAULT_LIMIT)),
        open_pair(before, after, settings) as pair,
    ):
        plan = memory.plan(pair, given, most, mem_limit, jobs_given=jobs is not None)
        settings = settings.with_tile_size(plan.tile_size)
        with (
            Transaction(
                outputs,
                overwrite=overwrite,
                resume=resume,
                record=dependencies(pair, settings),
                total=len(_tiling(pair, settings)),
            ) as transaction,
            computing(settings),
        ):
            record = _run(transaction, pair, settings, plan, progress or (lambda stage, done, total: None))
            return transaction.commit(), record


def _run(
    transaction: Transaction, pair: Pair, settings: Settings, plan: memory.Plan, tell: Progress
) -> RunRecord:
    """Write all outputs into the transaction."""
    before, after, outputs = pair.before_path, pair.after_path, transaction.outputs
    timings: dict[str, float] = {}
    tell("fit", 0, 1)
    with _timed(timings, "inputs"):
        paths = {"before": before, "after": after, "valid": pair.valid_path}
        inputs = {name: fingerprint(path) for name, path in paths.items() if path is not None}
        if (weights := weights_file(settings)) is not None:
            inputs["weights"] = [{"file": weights.name, "sha256": sha256(weights)}]
    with _timed(timings, "align"):
        alignment = align(pair, settings)
    with _timed(timings, "sample"):
        chips = sample(pair)
    with _timed(timings, "shift"):
        shift = measure_shift(chips)
    zeros = dict(zip(("before", "after"), zero_shares(chips), strict=True))
    with _timed(timings, "fit"):
        detector = fit_detector(chips, pair, settings, plan.jobs)
    del chips
    memory.release()
    tell("fit", 1, 1)

    threshold = settings.method.threshold
    threshold = DECISION if threshold is None else threshold
    dates = (acquisition_date(pair.tags[0], before), acquisition_date(pair.tags[1], after))
    tags = _tags(pair, settings, threshold, dates, alignment, outputs.stem.parent)
    tally = Tally()
    with _timed(timings, "tiles"):
        counts, histogram, seam_score = _write_prob(
            transaction, detector, pair, settings, plan.jobs, tags, threshold, tally, tell
        )

    memory.release()
    tell("polygons", 0, 1)
    with _timed(timings, "polygons"):
        polygons = polygonize(
            transaction.path("prob"),
            transaction.path("changes"),
            threshold=threshold,
            settings=settings.polygons,
            pair=pair,
            date_before=dates[0],
            date_after=dates[1],
        )
    memory.release()  # of what the polygons took, before the pictures take theirs
    tell("polygons", 1, 1)
    with _timed(timings, "quicklook"):
        thumbnails = read_thumbnails(
            before,
            after,
            transaction.path("prob"),
            indexes=pair.indexes,
            threshold=threshold,
            max_size=PICTURE,
            nodata=settings.read.nodata,
            warp=pair.warp,
        )
        quicklook(
            thumbnails.reduced(QUICKLOOK),
            transaction.path("quicklook"),
            names=(before, after),
            threshold=threshold,
            dates=dates,
            changed_share=counts["changed"] / max(counts["valid"], 1),
        )
    with output_errors(transaction.path("prob_style")):
        transaction.path("prob_style").write_bytes(style("prob"))
        transaction.path("changes_style").write_bytes(style("changes"))

    record = RunRecord(
        before=before,
        after=after,
        grid=pair.grid,
        alignment=alignment,
        band_names=pair.band_names,
        settings={**settings.as_dict(), "jobs": plan.jobs, "mem_limit": plan.limit},
        method=settings.method.method,
        preset=settings.method.preset if settings.method.method == "deep" else None,
        threshold=threshold,
        seed=settings.method.seed,
        timings=_rounded(timings),
        summary={
            "valid_share": counts["valid"] / (pair.grid.height * pair.grid.width),
            "changed_share": counts["changed"] / max(counts["valid"], 1),
            "zero_share": zeros,
            "ignored_share": tally.shares(),
            "n_polygons": polygons.count,
            "area_m2": polygons.area_m2,
            "seam_score": seam_score,
            "shift": None if shift is None else shift.as_dict(),
        },
        date_before=dates[0],
        date_after=dates[1],
        versions=versions(),
        inputs=inputs,
        device=_device(settings),
        histogram=histogram,
        losses=detector.losses,
    )
    created = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    with _timed(timings, "report"):
        write_page(
            record,
            thumbnails,
            transaction.path("prob"),
            transaction.path("changes"),
            transaction.path("report"),
            created=created,
            folder=outputs.stem.parent,
        )
    record = dataclasses.replace(record, timings=_rounded(timings))
    files = {key: transaction.path(key) for key in outputs.paths() if key != "item"}
    with output_errors(transaction.path("item")):  # reads all that was written
        item = stac_item(record, files, created=created, folder=outputs.stem.parent)
    write_json(transaction.path("item"), item)
    return record


def _write_prob(
    transaction: Transaction,
    detector: Detector,
    pair: Pair,
    settings: Settings,
    jobs: int,
    tags: dict[str, str],
    threshold: float,
    tally: Tally,
    tell: Progress,
) -> tuple[dict[str, int], list[int], float | None]:
    """Compute, blend and write the probability.

    Returns numbers of valid and changed pixels, the histogram, and the seam score.
    """
    counts = {"valid": 0, "changed": 0}
    histogram = np.zeros(BINS, np.int64)
    bands = BANDS if settings.method.uncertainty else BANDS[:1]
    writer = ProbWriter(transaction.path("prob"), pair.grid, tags=tags, descriptions=bands)

    def flush(row: int, values: Float32Array) -> None:
        counts["valid"] += int(np.isfinite(values[0]).sum())
        counts["changed"] += int((values[0] >= threshold).sum())
        histogram[:] += np.histogram(values[0], BINS, (0, 1))[0]
        seams.add(row, values[0])
        writer.write(row, values)

    tiling = _tiling(pair, settings, detector.margin)
    seams = SeamScore(tiling)
    mosaic = Mosaic(tiling, flush, bands=len(bands), block=BLOCK_SIZE)
    tell("tiles", 0, len(tiling))
    try:
        # closed: when it is interrupted, no tile may still be in work while the folder is put in order
        with closing(probabilities(detector, pair, tiling, jobs, tally, transaction.checkpoint)) as tiles:
            for done, (tile, prob) in enumerate(tiles, 1):
                mosaic.add(tile, prob)
                tell("tiles", done, len(tiling))
        mosaic.finish()
        writer.finish()
    except BaseException:
        writer.abort()
        raise
    return counts, histogram.tolist(), seams.result()


def _tiling(pair: Pair, settings: Settings, margin: int = 0) -> Tiling:
    assert settings.tiling.tile_size is not None  # resolved
    height, width = pair.grid.shape
    return Tiling(height, width, settings.tiling.tile_size, settings.tiling.overlap, margin)


def _tags(
    pair: Pair,
    settings: Settings,
    threshold: float,
    dates: tuple[str | None, str | None],
    alignment: dict[str, Any] | None,
    folder: Path,
) -> dict[str, str]:
    """Return the tags of the probability raster.

    No time of day and no job count: the same command gives the same bytes.
    """
    record = {
        "before": source_href(pair.before_path, folder),
        "after": source_href(pair.after_path, folder),
        "dates": dates,
        "indexes": pair.indexes,
        "threshold": threshold,
        **({} if alignment is None else {"alignment": alignment}),
        **{k: v for k, v in settings.as_dict().items() if k != "threshold"},
    }
    return {
        "GEOCD_VERSION": geocd.__version__,
        "GEOCD_PROVENANCE": json.dumps(record, sort_keys=True, allow_nan=False),
    }


def _rounded(timings: dict[str, float]) -> dict[str, float]:
    return {name: round(seconds, 3) for name, seconds in timings.items()}


def _jobs(jobs: int | None) -> int:
    if jobs is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}: must be 1 or more.", name="jobs", value=jobs)
    return jobs


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - start


__all__ = [
    "Detector",
    "Fitted",
    "begin_tiles",
    "compute_tiles",
    "computing",
    "detect",
    "fit_detector",
    "fit_scene",
    "open_pair",
    "probabilities",
]
