"""Files to pixels: grids, sensors, windows with their valid area, warping, pairs, the probability raster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geocd.exports import exported

if TYPE_CHECKING:
    from geocd.raster.files import (
        Openable,
        Source,
        bounded_cache,
        grid_of,
        open_raster,
        output_errors,
        provenance,
        source_name,
    )
    from geocd.raster.grid import Grid, check_same_grid, crs_name, same_crs, same_grid
    from geocd.raster.pair import Chip, Pair
    from geocd.raster.reading import DateSource, read, read_date, resample
    from geocd.raster.writer import BLOCK_SIZE, ProbWriter

__all__ = [
    "BLOCK_SIZE",
    "Chip",
    "DateSource",
    "Grid",
    "Openable",
    "Pair",
    "ProbWriter",
    "Source",
    "bounded_cache",
    "check_same_grid",
    "crs_name",
    "grid_of",
    "open_raster",
    "output_errors",
    "provenance",
    "read",
    "read_date",
    "resample",
    "same_crs",
    "same_grid",
    "source_name",
]

__getattr__, __dir__ = exported(__name__, "files", "grid", "pair", "reading", "writer")
