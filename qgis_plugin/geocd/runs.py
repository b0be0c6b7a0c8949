"""Detect, check and polygonize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingOutputBoolean,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterVectorDestination,
    QgsProcessingUtils,
)

from . import options
from .algorithms import GeocdAlgorithm, require_success
from .command import move_outputs, refuse_names, refuse_vector, work_stem
from .layers import Group, Source
from .process import CancelledError, PluginError


class Detect(GeocdAlgorithm):
    """``geocd detect``."""

    command = "detect"
    title = "Detect change"
    about = (
        "Finds what changed between two rasters of one place: a change probability, 0 to 1, and polygons of "
        "what changed. No labels and no training are needed. Both rasters must be on the same grid, unless "
        "the option aligns them."
    )
    options = options.DETECT
    rasters = (("BEFORE", "Before"), ("AFTER", "After"))

    def add_outputs(self) -> None:
        """Declare the outputs."""
        self.addParameter(QgsProcessingParameterRasterDestination("OUTPUT", "Change probability"))
        self.addParameter(
            QgsProcessingParameterVectorDestination(
                "CHANGES", "Changes", QgsProcessing.TypeVectorPolygon, None, True, True
            )
        )

    def prepareAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> bool:  # noqa: N802
        """Look up the layers and their names, here in the thread that owns them."""
        prepared = super().prepareAlgorithm(parameters, context, feedback)
        self._dates = [
            Source.of(name, self.parameterAsRasterLayer(parameters, name, context), str(self._sources[name]))
            for name, _ in self.rasters
        ]
        return prepared

    def result_group(self) -> Group:
        """Return the group of the pair, which holds both images too."""
        return Group.of_pair(self._dates)

    def work(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run geocd, and return the outputs by name."""
        raster = self.destination("OUTPUT", parameters, context)
        vector = self.destination("CHANGES", parameters, context)
        assert raster is not None  # not optional
        refuse_names(raster, vector)
        stem = work_stem(raster)
        files = [str(self._sources[name]) for name, _ in self.rasters]
        own_options = [f"--output={stem}", "--overwrite", "--progress=json"]
        try:
            finished = self.call(own_options, files, parameters, context, feedback)
        except CancelledError as problem:
            if not stem.with_name(f".{stem.name}.geocd").exists():
                raise
            remedy = f"run it again with '{options.RESUME.label}'."
            if Path(QgsProcessingUtils.tempFolder()) in raster.parents:  # another folder each time
                remedy = "to resume a cancelled run, choose a file for the output, not a temporary one."
            raise PluginError(f"{problem} Finished tiles are kept: {remedy}") from problem
        require_success(finished, feedback, hidden=str(stem))  # names that are about to change
        move_outputs(stem, raster, vector)
        results = {"OUTPUT": str(raster)}
        if vector is not None:
            results["CHANGES"] = str(vector)
        return results


class Check(GeocdAlgorithm):
    """``geocd check``."""

    command = "check"
    title = "Check a pair"
    about = (
        "Tells whether two rasters are a usable pair, and what to expect of it: compares grids, bands, data "
        "types, dates, valid area and illumination, and measures the shift between the two images."
    )
    options = options.CHECK
    rasters = (("BEFORE", "Before"), ("AFTER", "After"))

    def add_outputs(self) -> None:
        """Declare the outputs."""
        self.addParameter(
            QgsProcessingParameterFileDestination("OUTPUT", "Report", "HTML files (*.html)", None, True)
        )
        self.addOutput(QgsProcessingOutputBoolean("USABLE", "Whether the pair is usable"))

    def work(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run geocd, and return the outputs by name."""
        files = [str(self._sources[name]) for name, _ in self.rasters]
        finished = self.call([], files, parameters, context, feedback)
        usable = finished.returncode == 0 and "not fit" not in "".join(finished.output.splitlines()[-1:])
        if not finished.output:  # the problem is not the pair, but a file or an option
            require_success(finished, feedback)
        for line in finished.output.splitlines():
            push = feedback.pushWarning if line.startswith(("warning", "error")) else feedback.pushInfo
            push(line)
        results: dict[str, Any] = {"USABLE": usable}
        results.update(self.report(finished, parameters, context))
        return results


class Polygonize(GeocdAlgorithm):
    """``geocd polygonize``."""

    command = "polygonize"
    title = "Polygons of a change probability"
    about = (
        "Makes polygons from a change probability again: with another threshold or smallest area, simpler "
        f"outlines, or in another format ({', '.join(options.VECTORS)}). The probability is not computed "
        "again."
    )
    options = options.POLYGONIZE
    rasters = (("PROB", "Change probability"),)

    def add_outputs(self) -> None:
        """Declare the outputs."""
        self.addParameter(
            QgsProcessingParameterVectorDestination("OUTPUT", "Changes", QgsProcessing.TypeVectorPolygon)
        )

    def work(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run geocd, and return the outputs by name."""
        vector = self.destination("OUTPUT", parameters, context)
        assert vector is not None  # not optional
        refuse_vector(vector)
        own_options = [f"--output={vector}", "--overwrite"]
        finished = self.call(own_options, [str(self._sources["PROB"])], parameters, context, feedback)
        require_success(finished, feedback)
        return {"OUTPUT": str(vector)}
