"""The tiles of a run: computed in order, several at a time, in one process or in many."""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from geocd.config import Settings
from geocd.errors import ResumeError
from geocd.method.detector import Detector
from geocd.pipeline.checkpoint import Checkpoint, differences
from geocd.pipeline.inputs import input_files
from geocd.pipeline.prepared import OpenRun, computing, open_run
from geocd.pipeline.resume import dependencies
from geocd.pipeline.transaction import Transaction
from geocd.raster.files import output_errors
from geocd.raster.pair import Chip, Pair
from geocd.report.products import Outputs
from geocd.scene.ignore import Tally, ignored_counts
from geocd.tiles.tiling import Tile, Tiling
from geocd.types import Float32Array, Part, Progress

#: Probability of a tile, and the number of its ignored pixels by kind.
TileResult = tuple[Float32Array, dict[str, int]]


def first_seen(tiling: Tiling, tile: Tile) -> Part:
    """Return the rows and columns of a tile that no tile above it or to its left covers.

    Over all tiles, these parts cover every pixel of the grid exactly once.
    """

    def part(starts: list[int], size: int, index: int) -> slice:
        return slice(starts[index - 1] + size - starts[index] if index else 0, size)

    height, width = tiling.tile_shape
    return part(tiling.row_starts, height, tile.row), part(tiling.col_starts, width, tile.col)


def read_tile(pair: Pair, tiling: Tiling, tile: Tile) -> Chip:
    """Read a tile, and say which part of it is needed."""
    return dataclasses.replace(pair.read(tile.window), needed=tiling.needed(tile))


def probabilities(
    detector: Detector,
    pair: Pair,
    tiling: Tiling,
    jobs: int,
    tally: Tally | None = None,
    checkpoint: Checkpoint | None = None,
) -> Generator[tuple[Tile, Float32Array], None, None]:
    """Yield the tiles in order with their probability, ``jobs`` of them computed at a time.

    At most ``2 * jobs`` tiles are in memory: a slow consumer slows the readers down. Closing the generator
    waits for the tiles being computed.

    Parameters
    ----------
    detector : Detector
    pair : Pair
    tiling : Tiling
    jobs : int
    tally : Tally, optional
        Counts the ignored pixels, each pixel once.
    checkpoint : Checkpoint, optional
        Tiles saved there are loaded, all others computed and saved.

    Yields
    ------
    tile : Tile
    prob : ndarray, (1 or 2, height, width), float32
        Probability and, where it is computed, uncertainty, in [0, 1]; NaN where not valid.

    Raises
    ------
    RasterReadError, OutputError
    """

    def compute(index: int) -> TileResult:
        return _tile(index, detector, pair, tiling, checkpoint)

    def finish(index: int, result: TileResult) -> tuple[Tile, Float32Array]:
        prob, counts = result
        if tally is not None:
            tally.add(counts)
        return tiling[index], prob

    if jobs == 1:
        for index in range(len(tiling)):
            yield finish(index, compute(index))
        return
    with ThreadPoolExecutor(jobs, thread_name_prefix="geocd-tile") as pool:
        pending: deque[tuple[int, Future[TileResult]]] = deque()
        try:
            for index in range(len(tiling)):
                pending.append((index, pool.submit(compute, index)))
                if len(pending) >= 2 * jobs:
                    first, future = pending.popleft()
                    yield finish(first, future.result())
            while pending:
                first, future = pending.popleft()
                yield finish(first, future.result())
        finally:
            for _, future in pending:
                future.cancel()


def _tile(
    index: int, detector: Detector, pair: Pair, tiling: Tiling, checkpoint: Checkpoint | None
) -> TileResult:
    """Return probability and counts of a tile, loaded from the checkpoint or computed and saved there."""
    if checkpoint is not None and (saved := checkpoint.load(index)) is not None:
        return saved
    tile = tiling[index]
    chip = read_tile(pair, tiling, tile)
    counts = ignored_counts(chip, first_seen(tiling, tile))
    prob = detector.prob(chip)
    if checkpoint is not None:
        with output_errors(checkpoint.folder):
            checkpoint.save(index, prob, counts)
    return prob, counts


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
    """Create the folder that :func:`compute_tiles` writes into: that of an interrupted run without tiles.

    Parameters
    ----------
    before, after, output, settings, resume, mem_limit
        As for :func:`geocd.pipeline.run.detect`, with ``jobs=1``.
    least : int
        If the run has fewer tiles than this, nothing is written.

    Returns
    -------
    int
        Number of tiles of the run.

    Raises
    ------
    GeocdError
    """
    outputs = Outputs(Path(output))
    with open_run(os.fspath(before), os.fspath(after), settings, jobs=1, mem_limit=mem_limit) as run:
        total = len(run.tiling)
        if total >= least:
            with Transaction(
                outputs,
                overwrite=True,
                resume=resume,
                record=dependencies(run.pair, run.settings),
                total=total,
                inputs=input_files(run.pair, run.settings),
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
    """Compute a part of the tiles of a run; :func:`geocd.pipeline.run.detect` with ``resume`` does the rest.

    Several processes may compute different parts at the same time, as long as none of them runs ``detect``.
    Each fits the method to the scene; the result is the same in all of them.

    Parameters
    ----------
    before, after, output, settings, mem_limit, progress
        As for :func:`geocd.pipeline.run.detect`, with ``jobs=1``.
    part : tuple of int
        Index of the part, from 0, and the number of parts.

    Raises
    ------
    ResumeError
        :func:`begin_tiles` was not called, or was called for a different pair or different settings.
    GeocdError
    """
    outputs = Outputs(Path(output))
    with (
        open_run(os.fspath(before), os.fspath(after), settings, jobs=1, mem_limit=mem_limit) as run,
        computing(run.settings),
    ):
        checkpoint = Checkpoint(outputs.folder)
        _check_prepared(checkpoint, run)
        prepared = run.fit(progress=progress)
        tiling = prepared.tiling
        # interleaved, not contiguous: invalid pixels take no time, and are often clustered
        for done, index in enumerate(range(part[0], len(tiling), part[1]), 1):
            _tile(index, prepared.detector, prepared.pair, tiling, checkpoint)
            if progress is not None:
                progress("tiles", done, len(tiling))


def _check_prepared(checkpoint: Checkpoint, run: OpenRun) -> None:
    """Raise :class:`ResumeError` unless :func:`begin_tiles` was called for this run."""
    record = checkpoint.record()
    if record is None:
        raise ResumeError(
            f"{checkpoint.folder}: not prepared for the tiles of this run: call begin_tiles first.",
            folder=str(checkpoint.folder),
            differing=[],
        )
    if differing := differences(record, dependencies(run.pair, run.settings)):
        raise ResumeError(
            f"{checkpoint.folder}: prepared for the tiles of another run: {'; '.join(differing)}. Call "
            "begin_tiles for this one.",
            folder=str(checkpoint.folder),
            differing=differing,
        )


__all__ = ["begin_tiles", "compute_tiles", "first_seen", "probabilities", "read_tile"]
