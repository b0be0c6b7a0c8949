"""What follows from verdicts: points to judge and areas of change, and changes that are ranked."""

from __future__ import annotations

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
from .process import PluginError

#: Endings of the files of a run, by which geocd finds the others.
PROB, CHANGES = "_prob.tif", "_changes.gpkg"


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
        self._sample = judged_file(self, "SAMPLE", parameters, context, feedback)
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
        results.update(self.report(finished, parameters, context))
        return results


class Refine(GeocdAlgorithm):
    """``geocd refine``."""

    command = "refine"
    title = "Rank changes by verdicts"
    about = (
        "Learns from the verdicts on some changes which ones are meant, and ranks the others: relevance, 0 "
        "to 1, and judge_next, the changes whose verdicts would teach most. First set verdict to yes, no or "
        "unsure in the form of the changes, and save the edits; ten to forty are enough."
    )
    options = options.REFINE

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: N802
        """Declare the parameters."""
        polygons = [QgsProcessing.TypeVectorPolygon]
        self.addParameter(QgsProcessingParameterVectorLayer("CHANGES", "Judged changes", polygons))
        super().initAlgorithm(configuration)

    def add_outputs(self) -> None:
        """Declare the outputs."""
        kind = QgsProcessing.TypeVectorPolygon
        self.addParameter(QgsProcessingParameterVectorDestination("OUTPUT", "Ranked changes", kind))

    def prepareAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> bool:  # noqa: N802
        """Look up the layer, here in the thread that owns it."""
        self._changes = judged_file(self, "CHANGES", parameters, context, feedback)
        return super().prepareAlgorithm(parameters, context, feedback)

    def work(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run geocd, and return the outputs by name."""
        target = self.destination("OUTPUT", parameters, context)
        assert target is not None  # not optional
        if not self._changes.endswith(CHANGES):
            raise PluginError(
                f"{self._changes}: the file must end in {CHANGES}, and the probability of the same run lie "
                f"beside it as {PROB}. Save the results of the run under such names."
            )
        finished = self.call([f"--output={target}"], [self._changes], parameters, context, feedback)
        require_success(finished, feedback)
        return {"OUTPUT": str(target)}


def judged_file(algorithm: Any, name: str, parameters: Any, context: Any, feedback: Any) -> str:
    """Return the file of a layer with verdicts, and warn of edits that are not saved."""
    layer = algorithm.parameterAsVectorLayer(parameters, name, context)
    if layer is None:
        return str(parameters[name])
    if layer.isEditable() and layer.isModified():
        feedback.pushWarning(f"{layer.name()}: has edits that are not saved, and do not count.")
    return str(layer.source().split("|")[0])
