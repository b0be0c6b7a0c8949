"""The tiles of a run: computed in order, several at a time, in one process or in many."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from geocd.config import Settings
from geocd.errors import ResumeError
from geocd.method.detector import Detector
from geocd.pipeline.checkpoint import Checkpoint, differences
from geocd.pipeline.plan import DEFAULT_LIMIT, cache_size, plan_run
from geocd.pipeline.prepared import computing, fit_scene, open_pair, tiling_of
from geocd.pipeline.resume import dependencies
from geocd.pipeline.transaction import Transaction
from geocd.products import Outputs
from geocd.raster.files import bounded_cache, output_errors
from geocd.raster.pair import Pair
from geocd.scene.ignore import Tally, ignored_counts
from geocd.tiles.tiling import Tile, Tiling
from geocd.types import Float32Array, Progress


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
        settings = given.resolved().with_tile_size(plan_run(pair, given, 1, mem_limit).tile_size)
        total = len(tiling_of(pair, settings))
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
        bounded_cache(cache_size(mem_limit or DEFAULT_LIMIT)),
        open_pair(os.fspath(before), os.fspath(after), given.resolved()) as pair,
        computing(given.resolved()),
    ):
        settings = given.resolved().with_tile_size(plan_run(pair, given, 1, mem_limit).tile_size)
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


__all__ = [
    "begin_tiles",
    "compute_tiles",
    "probabilities",
]
