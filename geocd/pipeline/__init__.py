"""One pair from two paths to all products."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geocd.exports import exported

if TYPE_CHECKING:
    from geocd.pipeline.estimate import Forecast, forecast
    from geocd.pipeline.prepared import OpenRun, PreparedRun, computing, fit_detector, open_run
    from geocd.pipeline.run import detect
    from geocd.pipeline.tiles import begin_tiles, compute_tiles, probabilities

__all__ = [
    "Forecast",
    "OpenRun",
    "PreparedRun",
    "begin_tiles",
    "compute_tiles",
    "computing",
    "detect",
    "fit_detector",
    "forecast",
    "open_run",
    "probabilities",
]

__getattr__, __dir__ = exported(__name__, "run", "estimate", "prepared", "tiles")
