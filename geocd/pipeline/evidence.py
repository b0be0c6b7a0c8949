"""Means over polygons of what the default method sees, for learning from verdicts; measured once and kept."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from rasterio.features import rasterize
from rasterio.windows import Window

from geocd.config import Settings
from geocd.errors import ConfigError
from geocd.pipeline.prepared import computing, fit_detector, open_sources
from geocd.raster.files import bounded_cache, output_errors, provenance
from geocd.raster.grid import Grid, inside
from geocd.raster.pair import Pair
from geocd.replacing import write
from geocd.report.fingerprint import sha256
from geocd.scene.sample import sample_chips
from geocd.types import BoolArray, Float32Array, Float64Array, IntArray, Progress

if TYPE_CHECKING:
    import pandas as pd
    from shapely.geometry.base import BaseGeometry

    from geocd.method.default import DefaultDetector

#: Side of the windows that are computed at a time, without the detector's margin.
BLOCK = 512


def evidence_of(
    prob: str | os.PathLike[str],
    polygons: Sequence[BaseGeometry],
    file: Path | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return the evidence of the polygons of a run: means of distances and deep features.

    The method is fitted to the pair again, and computed where there are polygons.

    Parameters
    ----------
    prob : path
        Probability raster of the run, whose record says which images it was computed from.
    polygons : sequence of shapely geometries
        In its CRS.
    file : pathlib.Path, optional
        Where the evidence is kept; read instead where it is there already and belongs to the raster.
    progress : callable, optional
        Called with the stage ``evidence``.

    Returns
    -------
    pandas.DataFrame
        A row for each polygon; columns as :func:`geocd.method.evidence.seen` names them, float32, NaN where
        a polygon covers the centre of no valid pixel.

    Raises
    ------
    GeocdError
        The images cannot be opened, or the run compared features that were made elsewhere.
    """
    path = os.fspath(prob)
    checksum = sha256(Path(path))
    if file is not None and (kept := _load(file, checksum, len(polygons))) is not None:
        return kept
    run = provenance(path)
    if run.get("kind") == "embedding":
        raise ConfigError(f"{path}: compares embeddings, of which no distances between images are measured.")
    with bounded_cache(), open_sources(path, run) as pair:
        table = measured(pair, polygons, progress)
    if file is not None:
        _save(file, checksum, table)
    return table


def measured(
    pair: Pair, polygons: Sequence[BaseGeometry], progress: Progress | None = None, most: int | None = None
) -> pd.DataFrame:
    """Return the evidence of polygons of an open pair, as :func:`evidence_of` does.

    Parameters
    ----------
    pair : Pair
        Aligned.
    polygons, progress
        As for :func:`evidence_of`.
    most : int, optional
        Side of the windows that are computed at a time, where it is less than ``BLOCK``.

    Raises
    ------
    GeocdError
    """
    import pandas as pd

    settings, pair = Settings.from_flat({"device": "cpu"}).resolved(), pair.without_features()
    with computing(settings):
        chips = sample_chips(pair)
        detector = cast("DefaultDetector", fit_detector(chips, pair, settings))
        del chips
        windows = _windows(pair.grid, min(BLOCK, most or BLOCK))
        return pd.DataFrame(_means(detector, pair, polygons, windows, progress or (lambda *step: None)))


@dataclasses.dataclass
class _Sums:
    """Sums over polygons, by name."""

    count: IntArray
    totals: dict[str, Float64Array]

    def add(self, name: str, label: IntArray, values: Float32Array) -> None:
        """Add the pixels of a window."""
        part = np.bincount(label, weights=values, minlength=self.count.size)
        self.totals[name] = self.totals.get(name, np.zeros(self.count.size)) + part


def _means(
    detector: DefaultDetector,
    pair: Pair,
    polygons: Sequence[BaseGeometry],
    windows: Sequence[Window],
    progress: Progress,
) -> dict[str, Float32Array]:
    """Return the means over the polygons, by name."""
    from geocd.method.evidence import seen

    boxes = np.array([polygon.bounds for polygon in polygons]).reshape(-1, 4)
    sums = _Sums(np.zeros(len(polygons), np.int64), {})
    for done, window in enumerate(windows, 1):
        part = pair.grid.crop(window)
        index = np.flatnonzero(_touching(boxes, part))
        if index.size:
            labels = rasterize(
                [(polygons[int(i)], int(i) + 1) for i in index],
                out_shape=part.shape,
                transform=part.transform,
                dtype="int32",
            )
            around = pair.grid.around(window, detector.margin)
            chip = pair.read(around)
            inner = inside(around, window)
            covered = (labels > 0) & chip.valid[inner]
            label = labels[covered].astype(np.int64) - 1
            if label.size:
                sums.count += np.bincount(label, minlength=sums.count.size)
                for name, values in seen(detector, chip):
                    sums.add(name, label, values[inner][covered])
        progress("evidence", done, len(windows))
    with np.errstate(invalid="ignore"):
        return {name: (total / sums.count).astype(np.float32) for name, total in sums.totals.items()}


def _windows(grid: Grid, block: int) -> list[Window]:
    """Return windows that cover a grid, by rows."""
    return [
        Window(col, row, min(block, grid.width - col), min(block, grid.height - row))
        for row in range(0, grid.height, block)
        for col in range(0, grid.width, block)
    ]


def _touching(boxes: Float64Array, grid: Grid) -> BoolArray:
    """Return which boxes touch the bounding box of a grid."""
    x, y = zip(*grid.corners(), strict=True)
    west, south, east, north = boxes.T
    touching: BoolArray = (west <= max(x)) & (east >= min(x)) & (south <= max(y)) & (north >= min(y))
    return touching


def _save(file: Path, checksum: str, table: pd.DataFrame) -> None:
    """Write evidence, with the checksum of the raster that it belongs to."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        raster=np.array(checksum),
        names=np.array(list(table.columns), dtype=np.str_),
        values=table.to_numpy(np.float32),
    )
    with output_errors(file):
        write(file, content.getvalue())


def _load(file: Path, checksum: str, count: int) -> pd.DataFrame | None:
    """Return the evidence of a file; None where it is of another raster, or cannot be read."""
    import pandas as pd

    try:
        with np.load(file, allow_pickle=False) as content:
            if str(content["raster"]) != checksum or len(content["values"]) != count:
                return None
            return pd.DataFrame(content["values"], columns=[str(name) for name in content["names"]])
    except (OSError, ValueError, KeyError, EOFError):
        return None


__all__ = ["evidence_of", "measured"]
