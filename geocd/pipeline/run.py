"""One pair from two paths to all products."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from geocd import heap
from geocd.config import RunSettings, Settings
from geocd.findings import warn
from geocd.pipeline.beside import Start, beside
from geocd.pipeline.edited import keep_edited_outputs
from geocd.pipeline.inputs import input_files, model_of
from geocd.pipeline.plan import CACHE_RANGE
from geocd.pipeline.polygons import lasting_means
from geocd.pipeline.prepared import OpenRun, PreparedRun, SampledRun, computing, open_run
from geocd.pipeline.probability import MapFacts, tags_of, write_probability
from geocd.pipeline.resume import dependencies, device_kind, other_files
from geocd.pipeline.timing import Stopwatch
from geocd.pipeline.transaction import Transaction, interruptible
from geocd.raster.files import bounded_cache, output_errors
from geocd.raster.pair import Pair
from geocd.report import products
from geocd.report.acquired import acquisition_dates
from geocd.report.fingerprint import Fingerprint, fingerprint, sha256
from geocd.report.products import Outputs, Product, default_stem
from geocd.report.record import FinishedRun, OtherDateRecord, RunRecord, Summary, versions
from geocd.report.stac import stac_item, write_json
from geocd.report.thumbnails import PairPictures, Thumbnails
from geocd.report.words import findings
from geocd.scene.ignore import cloud_detector
from geocd.spelling import python_errors, python_findings
from geocd.threads import one_blas_thread
from geocd.types import Float32Array, Progress
from geocd.vectorize.polygons import Polygons, PolygonSummary

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from geocd.pipeline.plan import Limits
    from geocd.vectorize.polygons import Added

#: Longest side, in pixels, of a picture in the report.
PICTURE = 1000


def detect(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    settings: Settings | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
    **limits: Unpack[Limits],
) -> tuple[dict[str, Path], RunRecord]:
    """Detect changes between two rasters, and write all outputs.

    Parameters
    ----------
    before, after : path
        Two rasters of the same area, on the same grid unless the settings have ``align``: paths, URLs,
        anything GDAL opens.
    output : path, optional
        Stem of the outputs: folder and beginning of their names. Default: ``<before>_<after>`` in the
        current folder.
    settings : Settings, optional
        Default: those of :class:`geocd.config.Settings`.
    overwrite : bool
        Whether existing outputs may be replaced. One that somebody has edited since is kept under another
        name, such as ``STEM_changes.edited-20240131.gpkg``.
    resume : bool
        Whether to reuse the finished tiles of an interrupted run of the same outputs; the outputs are then
        those of an uninterrupted run, byte for byte (except times in item and report). Without such a run,
        everything is computed. If false, tiles of an interrupted run are deleted.
    progress : callable, optional
        Called as ``progress(stage, done, total)``.
    jobs : int, optional
        Number of tiles computed at a time; default: the number of available processors, or as many tiles as
        fit into :func:`~geocd.pipeline.plan.default_limit`. Outputs do not depend on it.
    mem_limit : int, optional
        Memory limit of the process in megabytes: fewer tiles are computed at a time and, if necessary,
        smaller ones. Outputs depend on it only where tiles are made smaller.

    Returns
    -------
    files : dict
        Paths of the outputs: ``prob``, ``changes``, ``prob_style``, ``changes_style``,
        ``quicklook``, ``report``, ``item``.
    record : RunRecord
        The record of the run, as in the STAC item.

    Warns
    -----
    GeocdWarning
        For each finding about the pair or the result (``record.findings``).

    Raises
    ------
    GeocdError
        See :mod:`geocd.errors`; no files are left behind.
    Interrupted
        The run was interrupted by Ctrl-C, and its finished tiles are kept in a hidden folder beside the
        outputs. They are also kept when the process is killed or memory runs out.
    """
    before, after = os.fspath(before), os.fspath(after)
    outputs = Outputs(default_stem(before, after) if output is None else Path(output))
    with (
        interruptible(outputs),
        python_errors(),
        open_run(before, after, settings, **limits) as run,
        Transaction(
            outputs,
            overwrite=overwrite,
            resume=resume,
            record=dependencies(run.pair, run.settings),
            total=len(run.tiling),
            inputs=input_files(run.pair, run.settings),
        ) as transaction,
        one_blas_thread(),
        beside(run.plan.jobs) as start,
    ):
        progress = progress or (lambda stage, done, total: None)
        stopwatch = Stopwatch()
        sample: Callable[[], SampledRun] = partial(run.sample, stopwatch=stopwatch)
        if not run.settings.read.ignore:  # looking for clouds may compute with torch
            sample = start(sample)
        with computing(run.settings):  # imports torch meanwhile
            sampled = sample()
            measured = start(partial(run.measure, sampled, stopwatch=stopwatch))
            inputs = start(partial(_timed_fingerprints, run, stopwatch))
            prepared = run.fit(sampled, measured, stopwatch=stopwatch, progress=progress)
            del sample, sampled
            record = _write_products(prepared, transaction, inputs(), stopwatch, progress, start)
        if overwrite:
            keep_edited_outputs(outputs)
        files = transaction.commit()
    warn(python_findings(record.findings))
    return files, record


def fingerprints(pair: Pair, settings: RunSettings) -> dict[str, list[Fingerprint]]:
    """Return the fingerprints of the files of a run's inputs, by the names of the inputs."""
    paths = {"before": pair.before_path, "after": pair.after_path, **pair.companions}
    paths |= settings.read.other_dates | settings.read.other_masks
    inputs = {name: fingerprint(path) for name, path in paths.items()}
    for name, file in other_files(settings).items():
        inputs[name] = [Fingerprint(file=file.name, sha256=sha256(file))]
    return inputs


def _timed_fingerprints(run: OpenRun, stopwatch: Stopwatch) -> dict[str, list[Fingerprint]]:
    with stopwatch.stage("inputs"):
        return fingerprints(run.pair, run.settings)


def _write_products(
    run: PreparedRun,
    transaction: Transaction,
    inputs: Mapping[str, list[Fingerprint]],
    stopwatch: Stopwatch,
    progress: Progress,
    start: Start,
) -> RunRecord:
    """Write all products into the transaction."""
    pair, folder = run.pair, transaction.outputs.stem.parent
    paths = {entry.key: transaction.path(entry.key) for entry in products.PRODUCTS}
    dates = acquisition_dates(pair)
    with stopwatch.stage("tiles"):
        pictures = PairPictures(pair, PICTURE)
        tags = tags_of(run, dates, folder)
        lasting = lasting_means(pair, run.lasting, dates[1])
        polygons = Polygons(pair.grid, run.settings.method.decision, pair, run.reflectance, lasting)

        def on_rows(rows: int, prob: Float32Array) -> None:
            polygons.add(prob)
            pictures.add(rows)

        facts, complete = write_probability(
            run, paths["prob"], tags, transaction.checkpoint, progress, on_rows
        )

    def pictured() -> Thumbnails:
        with stopwatch.stage("tiles"):
            complete()
        with stopwatch.stage("quicklook"):
            return pictures.dates().with_prob(paths["prob"], run.settings.method.decision)

    with bounded_cache(CACHE_RANGE[0]):  # polygons and pictures need the memory of the blocks
        thumbnails = start(pictured)
        progress("polygons", 0, 1)
        with stopwatch.stage("polygons"):
            heap.release()
            added = _relevance(run, progress)
            layer = polygons.write(paths["changes"], run.settings.polygons, dates, added=added)
        progress("polygons", 1, 1)
        record = _record(run, facts, layer, dates, inputs)
        waited = thumbnails()
        heap.release()  # of what the polygons took, before the report takes its own
        return _write_report(record, waited, paths, folder, stopwatch, start)


def _write_report(
    record: RunRecord,
    thumbnails: Thumbnails,
    paths: Mapping[str, Path],
    folder: Path,
    stopwatch: Stopwatch,
    start: Start,
) -> RunRecord:
    """Write what is made from the finished raster and its polygons; return the record with its timings."""
    created = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    finished = FinishedRun(record, thumbnails, paths, created, folder).timed(stopwatch.seconds())

    def write(product: Product) -> None:
        assert product.write is not None
        with stopwatch.stage(product.stage):
            product.write(finished, paths[product.key])

    *others, last = (product for product in products.PRODUCTS if product.write is not None)
    written = [start(partial(write, product)) for product in others]
    write(last)  # the report, which takes longest
    for wait in written:
        wait()
    record = finished.timed(stopwatch.seconds()).record
    with output_errors(paths["item"]):  # reads all that was written
        item = stac_item(record, paths, created=created, folder=folder)
    write_json(paths["item"], item)
    return record


def _relevance(run: PreparedRun, progress: Progress) -> Added | None:
    """Return what adds the column of ``--refine`` to polygons; None without it."""
    model = model_of(run.settings.read)
    if model is None:
        return None
    from geocd.pipeline.evidence import measured
    from geocd.review.ranking import adding_relevance

    if run.settings.method.kind == "embedding":
        return adding_relevance(model, lambda polygons: None)
    side = run.settings.tiling.tile_size
    return adding_relevance(model, lambda polygons: measured(run.pair, polygons, progress, side))


def _other_dates(run: PreparedRun) -> list[OtherDateRecord]:
    """Return the records of the other dates."""
    shares = run.valid_shares
    return [
        OtherDateRecord(
            name=date.name,
            source=date.path,
            date=acquisition_dates(date.pair)[1],
            valid_share=shares[date.name],
            mask=date.pair.companions.get("mask_after"),
        )
        for date in run.others
    ]


def _record(
    run: PreparedRun,
    facts: MapFacts,
    polygons: PolygonSummary,
    dates: tuple[str | None, str | None],
    inputs: Mapping[str, list[Fingerprint]],
) -> RunRecord:
    """Return the record of a run, without its timings."""
    pair, settings, method = run.pair, run.settings, run.settings.method
    assert run.facts is not None
    clouds = cloud_detector(pair)
    record = RunRecord(
        before=pair.before_path,
        after=pair.after_path,
        grid=pair.grid,
        alignment=run.alignment,
        band_names=pair.band_names,
        bands=pair.bands,
        scalings=pair.scalings,
        settings={**settings.as_dict(), "jobs": run.plan.jobs, "mem_limit": run.plan.limit},
        method=method.method,
        preset=method.preset if method.method == "deep" else None,
        threshold=method.decision,
        seed=method.seed,
        timings={},
        summary=Summary(
            valid_share=facts.valid / (pair.grid.height * pair.grid.width),
            changed_share=facts.changed_share,
            zero_share=run.facts.zero_share,
            ignored_share=facts.ignored_share,
            n_polygons=polygons.count,
            area_m2=polygons.area_m2,
            seam_score=facts.seam_score,
            shift=run.facts.shift,
            kinds=polygons.kinds,
        ),
        date_before=dates[0],
        date_after=dates[1],
        versions={**versions(), **({} if clouds is None else clouds.versions)},
        clouds=clouds,
        inputs=inputs,
        device=device_kind(settings),
        histogram=facts.histogram,
        losses=run.detector.losses,
        other_dates=_other_dates(run),
    )
    return dataclasses.replace(record, findings=findings(record, run.facts.brightness))


__all__ = ["detect"]
