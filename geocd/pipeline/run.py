"""One pair from two paths to all outputs."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

import geocd
from geocd import heap
from geocd.config import Settings
from geocd.method.detector import BANDS, DECISION, Detector
from geocd.pipeline.plan import DEFAULT_LIMIT, Plan, cache_size, plan_run
from geocd.pipeline.prepared import align, computing, fit_detector, jobs_or_all, open_pair, sample, tiling_of
from geocd.pipeline.resume import dependencies, device_kind, weights_file
from geocd.pipeline.tiles import probabilities
from geocd.pipeline.transaction import Transaction
from geocd.products import Outputs, default_stem, sha256
from geocd.raster.files import bounded_cache, output_errors
from geocd.raster.pair import Pair
from geocd.raster.writer import BLOCK_SIZE, ProbWriter
from geocd.report.acquired import acquisition_date
from geocd.report.fingerprint import Fingerprint, fingerprint
from geocd.report.links import source_href
from geocd.report.page import PageContent, write_page
from geocd.report.quicklook import quicklook
from geocd.report.record import RunRecord, Summary, versions
from geocd.report.stac import stac_item, write_json
from geocd.report.styles import style
from geocd.report.thumbnails import read_thumbnails
from geocd.scene.ignore import Tally
from geocd.scene.registration import Alignment, measure_shift
from geocd.scene.sample import zero_shares
from geocd.tiles.mosaic import Mosaic
from geocd.tiles.seams import SeamScore
from geocd.types import Float32Array, Progress
from geocd.vectorize.polygons import polygonize

#: Longest side, in pixels, of a picture in the report and of one in the quick-look.
PICTURE, QUICKLOOK = 1000, 640
#: Bins of the probability's histogram.
BINS = 50


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
    most = jobs_or_all(jobs)
    before, after = os.fspath(before), os.fspath(after)
    outputs = Outputs(default_stem(before, after) if output is None else Path(output))
    with (
        bounded_cache(cache_size(mem_limit or DEFAULT_LIMIT)),
        open_pair(before, after, settings) as pair,
    ):
        plan = plan_run(pair, given, most, mem_limit, jobs_given=jobs is not None)
        settings = settings.with_tile_size(plan.tile_size)
        with (
            Transaction(
                outputs,
                overwrite=overwrite,
                resume=resume,
                record=dependencies(pair, settings),
                total=len(tiling_of(pair, settings)),
            ) as transaction,
            computing(settings),
        ):
            record = _run(transaction, pair, settings, plan, progress or (lambda stage, done, total: None))
            return transaction.commit(), record


def _run(transaction: Transaction, pair: Pair, settings: Settings, plan: Plan, tell: Progress) -> RunRecord:
    """Write all outputs into the transaction."""
    before, after, outputs = pair.before_path, pair.after_path, transaction.outputs
    timings: dict[str, float] = {}
    tell("fit", 0, 1)
    with _timed(timings, "inputs"):
        paths = {"before": before, "after": after, "valid": pair.valid_path}
        inputs = {name: fingerprint(path) for name, path in paths.items() if path is not None}
        if (weights := weights_file(settings)) is not None:
            inputs["weights"] = [Fingerprint(file=weights.name, sha256=sha256(weights))]
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
    heap.release()
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

    heap.release()
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
    heap.release()  # of what the polygons took, before the pictures take theirs
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
        summary=Summary(
            valid_share=counts["valid"] / (pair.grid.height * pair.grid.width),
            changed_share=counts["changed"] / max(counts["valid"], 1),
            zero_share=zeros,
            ignored_share=tally.shares(),
            n_polygons=polygons.count,
            area_m2=polygons.area_m2,
            seam_score=seam_score,
            shift=shift,
        ),
        date_before=dates[0],
        date_after=dates[1],
        versions=versions(),
        inputs=inputs,
        device=device_kind(settings),
        histogram=histogram,
        losses=detector.losses,
    )
    created = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    with _timed(timings, "report"):
        content = PageContent(
            record=record,
            thumbnails=thumbnails,
            prob=transaction.path("prob"),
            changes=transaction.path("changes"),
            created=created,
            folder=outputs.stem.parent,
        )
        write_page(content, transaction.path("report"))
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

    tiling = tiling_of(pair, settings, detector.margin)
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


def _tags(
    pair: Pair,
    settings: Settings,
    threshold: float,
    dates: tuple[str | None, str | None],
    alignment: Alignment | None,
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
        **({} if alignment is None else {"alignment": alignment.as_dict()}),
        **{k: v for k, v in settings.as_dict().items() if k != "threshold"},
    }
    return {
        "GEOCD_VERSION": geocd.__version__,
        "GEOCD_PROVENANCE": json.dumps(record, sort_keys=True, allow_nan=False),
    }


def _rounded(timings: dict[str, float]) -> dict[str, float]:
    return {name: round(seconds, 3) for name, seconds in timings.items()}


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - start


__all__ = [
    "detect",
]
