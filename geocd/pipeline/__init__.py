"""One pair from two paths to all products."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geocd.exports import exported

if TYPE_CHECKING:
    from geocd.method.detector import Detector
    from geocd.pipeline.estimate import Forecast, forecast
    from geocd.pipeline.prepared import Fitted, computing, fit_detector, fit_scene, open_pair
    from geocd.pipeline.run import detect
    from geocd.pipeline.tiles import begin_tiles, compute_tiles, probabilities

__all__ = [
    "Detector",
    "Fitted",
    "Forecast",
    "begin_tiles",
    "compute_tiles",
    "computing",
    "detect",
    "fit_detector",
    "fit_scene",
    "forecast",
    "open_pair",
    "probabilities",
]

__getattr__, __dir__ = exported(__name__, "estimate", "prepared", "run", "tiles")
