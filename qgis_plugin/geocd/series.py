"""Many dates of a place: which changes last, and since when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingOutputMultipleLayers,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
)

from . import options
from .algorithms import GeocdAlgorithm, require_success
from .process import push_messages

#: What ``geocd series`` ends with where some pairs failed and the others are done.
SOME_FAILED = 3


class Series(GeocdAlgorithm):
    """``geocd series``."""

    command = "series"
    title = "Changes of many dates"
    about = (
        "Compares each image of a folder with the next ones, and keeps the changes that last: polygons with "
        "date_from, date_to and lasting, and a raster of the first date of lasting change. Dates are those "
        "in the names or tags of the images. With one image more, run it again with the same folders: only "
        "the new pairs are computed."
    )
    options = options.SERIES

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: N802
        """Declare the parameters."""
        folder = QgsProcessingParameterFile.Folder
        self.addParameter(QgsProcessingParameterFile("DATES", "Folder of images of one place", folder))
        super().initAlgorithm(configuration)

    def add_outputs(self) -> None:
        """Declare the outputs."""
        self.addParameter(QgsProcessingParameterFolderDestination("OUTPUT", "Folder of the results"))
        self.addOutput(QgsProcessingOutputMultipleLayers("LAYERS", "Lasting changes"))

    def work(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run geocd, and return the outputs by name."""
        dates = self.parameterAsFile(parameters, "DATES", context)
        folder = Path(self.parameterAsString(parameters, "OUTPUT", context))
        finished = self.call([], [dates, str(folder)], parameters, context, feedback)
        if finished.returncode == SOME_FAILED:
            push_messages(finished.errors, feedback)
        else:
            require_success(finished, feedback)
        layers = [
            str(path) for suffix in ("tif", "gpkg") for path in sorted(folder.glob(f"*_series.{suffix}"))
        ]
        for layer in layers:
            details = QgsProcessingContext.LayerDetails(Path(layer).stem, context.project(), "LAYERS")
            context.addLayerToLoadOnCompletion(layer, details)
        return {"OUTPUT": str(folder), "LAYERS": layers}
