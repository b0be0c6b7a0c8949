"""The probability raster of a run: its tiles computed, blended, counted and written."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
from rasterio.windows import Window

import geocd
from geocd.config import OTHER_DATES, RASTERS
from geocd.method.detector import BANDS
from geocd.pipeline.checkpoint import Checkpoint
from geocd.pipeline.prepared import PreparedRun
from geocd.pipeline.tiles import probabilities
from geocd.raster.grid import inside
from geocd.raster.pair import Pair
from geocd.raster.writer import BLOCK_SIZE, ProbWriter
from geocd.report.links import source_href, source_hrefs
from geocd.scene.ignore import Tally
from geocd.scene.lasting import REACH, SIDE, Lasting
from geocd.tiles.mosaic import Mosaic
from geocd.tiles.seams import SeamScore
from geocd.types import BoolArray, Float32Array, Progress

#: Bins of the probability's histogram.
BINS = 50
#: Name of the band of ``--lasting-band``.
LASTING = "lasting"


@dataclasses.dataclass(frozen=True)
class MapFacts:
    """Statistics of the probability of a run.

    Attributes
    ----------
    valid, changed : int
        Number of valid pixels, and of changed ones.
    histogram : list of int
        Valid pixels by probability, in bins of equal width from 0 to 1.
    seam_score : float or None
        See :class:`geocd.tiles.seams.SeamScore`.
    ignored_share : mapping of float
        By kind of surface, the share of the otherwise valid pixels, in [0, 1].
    """

    valid: int
    changed: int
    histogram: list[int]
    seam_score: float | None
    ignored_share: Mapping[str, float]

    @property
    def changed_share(self) -> float:
        """Changed pixels as a share of the valid ones, in [0, 1]."""
        return self.changed / max(self.valid, 1)


def write_probability(
    run: PreparedRun,
    path: Path,
    tags: Mapping[str, str],
    checkpoint: Checkpoint | None,
    progress: Progress,
    on_rows: Callable[[int, Float32Array], None],
) -> tuple[MapFacts, Callable[[], None]]:
    """Compute, blend and write the probability of a run, and collect its statistics.

    Parameters
    ----------
    run : PreparedRun
    path : pathlib.Path
        The raster to write.
    tags : mapping of str
    checkpoint : Checkpoint, optional
        Tiles saved there are loaded, all others computed and saved.
    progress : callable
        Called with the stage ``tiles``.
    on_rows : callable
        Called while further tiles are computed, with the number of rows that are finished, from the top, and
        with the probability of the last of them, ``(rows, width)``.

    Returns
    -------
    facts : MapFacts
    complete : callable
        Makes the raster of what was written, in any thread; until then there is none.

    Raises
    ------
    RasterReadError, OutputError
    """
    settings, tiling = run.settings.method, run.tiling
    valid = changed = 0
    histogram = np.zeros(BINS, np.int64)
    tally, seams = Tally(), SeamScore(tiling)
    bands = BANDS if settings.uncertainty else BANDS[:1]
    lasting = run.lasting if run.settings.read.lasting_band else None
    descriptions = bands if lasting is None else (*bands, LASTING)
    writer = ProbWriter(path, run.pair.grid, tags=tags, descriptions=descriptions)

    def flush(row: int, values: Float32Array) -> None:
        nonlocal valid, changed
        valid += int(np.isfinite(values[0]).sum())
        changed += int((values[0] >= settings.decision).sum())
        histogram[:] += np.histogram(values[0], BINS, (0, 1))[0]
        seams.add(row, values[0])
        on_rows(row + values.shape[1], values[0])
        if lasting is not None:
            changed_here = values[0] >= settings.decision
            values = np.concatenate([values, lasting_rows(run.pair, lasting, row, changed_here)[None]])
        writer.write(row, values)

    mosaic = Mosaic(tiling, flush, bands=len(bands), block=BLOCK_SIZE)
    progress("tiles", 0, len(tiling))
    tiles = probabilities(run.detector, run.pair, tiling, run.plan.jobs, tally, checkpoint)
    try:
        # closed: after an interrupt, no tile may still be computed while the folder is cleaned up
        with closing(tiles):
            for done, (tile, prob) in enumerate(tiles, 1):
                mosaic.add(tile, prob)
                progress("tiles", done, len(tiling))
        mosaic.finish()
    except BaseException:
        writer.abort()
        raise

    def complete() -> None:
        try:
            writer.finish()
        except BaseException:
            writer.abort()
            raise

    return MapFacts(valid, changed, histogram.tolist(), seams.result(), tally.shares()), complete


def lasting_rows(pair: Pair, lasting: Lasting, row: int, changed: BoolArray) -> Float32Array:
    """Return how lasting the changes of some rows are, see :meth:`geocd.scene.lasting.Lasting.shares`.

    Parameters
    ----------
    pair : Pair
    lasting : Lasting
    row : int
        The first of the rows.
    changed : ndarray, (rows, width), bool

    Returns
    -------
    ndarray, (rows, width), float32
        In [0, 1]; NaN where nothing changed, and where no later date is valid.

    Raises
    ------
    RasterReadError
    """
    band = np.full(changed.shape, np.nan, np.float32)
    for top, left in itertools.product(*(range(0, length, SIDE) for length in changed.shape)):
        part = slice(top, top + SIDE), slice(left, left + SIDE)
        here = changed[part]
        if here.any():
            window = Window(left, row + top, *here.shape[::-1])
            around = pair.grid.around(window, REACH)
            shares = lasting.shares(pair.read(around))[inside(around, window)]
            band[part] = np.where(here, shares, np.nan)
    return band


def tags_of(run: PreparedRun, dates: tuple[str | None, str | None], folder: Path) -> dict[str, str]:
    """Return the tags of the probability raster.

    They contain no time and no number of jobs, so that the same command gives the same bytes.

    Parameters
    ----------
    run : PreparedRun
    dates : tuple of str or None
        Acquisition dates of before and after.
    folder : pathlib.Path
        Folder of the raster, which relative paths refer to.
    """
    pair, settings = run.pair, run.settings
    # Left out where there are none: the bytes of a run of two dates stay what they were.
    others = {name: paths for name in OTHER_DATES if (paths := getattr(settings.read, name))}
    left_out = {"threshold", "refine", *OTHER_DATES}  # what verdicts teach is no part of the probability
    if settings.read.cloud_detector != "network":  # of the rule, too, bytes stay what they were
        left_out.add("cloud_detector")
    if not settings.read.lasting_band:
        left_out.add("lasting_band")
    provenance = {
        "before": source_href(pair.before_path, folder),
        "after": source_href(pair.after_path, folder),
        "dates": dates,
        "indexes": pair.indexes,
        **({} if pair.bands.after == pair.indexes else {"after_indexes": pair.bands.after}),
        "threshold": settings.method.decision,
        **({} if run.alignment is None else {"alignment": run.alignment.as_dict()}),
        **{name: value for name, value in settings.as_dict().items() if name not in left_out},
    }
    for name in RASTERS:
        if (path := getattr(settings.read, name)) is not None:
            provenance[name] = source_href(path, folder)
    for name, paths in others.items():
        provenance[name] = source_hrefs(paths, folder)
    return {
        "GEOCD_VERSION": geocd.__version__,
        "GEOCD_PROVENANCE": json.dumps(provenance, sort_keys=True, allow_nan=False),
    }
