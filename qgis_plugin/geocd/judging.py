"""Points to judge, and the areas of change that follow from them."""

from __future__ import annotations

import html
import shutil
import tempfile
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterVectorDestination,
    QgsProcessingParameterVectorLayer,
)

from . import options
from .algorithms import GeocdAlgorithm, require_success
from .layers import Group, ToJudge
from .process import PluginError

#: Ending of the probability raster of a run, by which geocd finds its other files.
PROB = "_prob.tif"


class Sample(GeocdAlgorithm):
    """``geocd sample``."""

    command = "sample"
    title = "Sample points to judge"
    about = (
        "Draws a random sample of a result: points to judge, from which the area of change is estimated. "
        "Open the table or the form of the points, look at each in both images, and set its verdict: yes "
        "if the place changed, no if not, unsure if you cannot tell. Then run the estimate."
    )
    options = options.SAMPLE
    rasters = (("PROB", "Change probability"),)

    def add_outputs(self) -> None:
        """Declare the outputs."""
        self.addParameter(
            QgsProcessingParameterVectorDestination(
                "OUTPUT", "Points to judge", QgsProcessing.TypeVectorPoint
            )
        )

    def post_processor(self) -> Any:
        """Return what makes the points ready to be judged."""
        return ToJudge.create(Group("", ()))

    def work(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run geocd, and return the outputs by name."""
        target = self.destination("OUTPUT", parameters, context)
        assert target is not None  # not optional
        if target.suffix.lower() != ".gpkg":
            raise PluginError(f"{target}: points are written as .gpkg. Choose a name with this suffix.")
        prob = Path(str(self._sources["PROB"]))
        own_options = [f"--output={target}", "--overwrite"]
        with tempfile.TemporaryDirectory() as folder:
            if not prob.name.endswith(PROB):  # geocd finds the files of a run by this ending
                prob = Path(shutil.copyfile(prob, Path(folder) / f"result{PROB}"))
            finished = self.call(own_options, [str(prob)], parameters, context, feedback)
        require_success(finished, feedback)
        return {"OUTPUT": str(target)}


class Estimate(GeocdAlgorithm):
    """``geocd estimate``."""

    command = "estimate"
    title = "Estimate areas of change"
    about = (
        "Estimates the area of change with its 95 % interval, and the accuracy of the map, from points that "
        "were drawn as a sample and judged. Points without a verdict are left out. Save edits first."
    )
    options = options.ESTIMATE

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: N802
        """Declare the parameters."""
        self.addParameter(
            QgsProcessingParameterVectorLayer("SAMPLE", "Judged points", [QgsProcessing.TypeVectorPoint])
        )
        super().initAlgorithm(configuration)

    def add_outputs(self) -> None:
        """Declare the outputs."""
        for name, label, kind in (
            ("OUTPUT", "Report", "HTML files (*.html)"),
            ("CSV", "Table", "CSV files (*.csv)"),
        ):
            self.addParameter(
                QgsProcessingParameterFileDestination(name, label, kind, None, True, name == "OUTPUT")
            )

    def prepareAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> bool:  # noqa: N802
        """Look up the layer, here in the thread that owns it."""
        layer = self.parameterAsVectorLayer(parameters, "SAMPLE", context)
        if layer is not None and layer.isEditable() and layer.isModified():
            feedback.pushWarning(f"{layer.name()}: has edits that are not saved, and do not count.")
        self._sample = str(parameters["SAMPLE"]) if layer is None else layer.source().split("|")[0]
        return super().prepareAlgorithm(parameters, context, feedback)

    def work(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run geocd, and return the outputs by name."""
        results: dict[str, Any] = {}
        table = self.parameterAsFileOutput(parameters, "CSV", context)
        own_options = []
        if table:
            own_options = [f"--csv={table}"]
            results["CSV"] = table
        finished = self.call(own_options, [self._sample], parameters, context, feedback)
        require_success(finished, feedback)
        for line in finished.output.splitlines():
            feedback.pushInfo(line)
        target = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        if target:
            body = f"<title>geocd estimate</title><pre>{html.escape(finished.output)}</pre>"
            Path(target).write_text(f"<meta charset='utf-8'>{body}\n", encoding="utf-8")
            results["OUTPUT"] = target
        return results
