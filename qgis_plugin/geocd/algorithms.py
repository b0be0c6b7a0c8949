"""The algorithms in the toolbox."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsLayerTree,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingOutputBoolean,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
    QgsProcessingUtils,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QIcon

from . import options
from .command import (
    arguments,
    extra,
    gdal_name,
    move_outputs,
    refuse_names,
    refuse_same,
    refuse_vector,
    work_stem,
)
from .options import Option
from .process import CancelledError, Finished, PluginError, check_version, find_executable, push_messages, run

#: Name of the setting that names the executable.
SETTING = "GEOCD_EXECUTABLE"


class Styled(QgsProcessingLayerPostProcessorInterface):
    """Apply the style beside a file to its layer; Processing itself does not look for it."""

    #: Id of the layer of polygons that was styled last.
    _polygons: ClassVar[str | None] = None
    #: QGIS deletes each with the context it was given to; until then Python must not.
    _alive: ClassVar[list[Styled]] = []

    @classmethod
    def create(cls) -> Styled:
        """Return a new instance, for one layer, and keep it alive."""
        cls._alive.append(cls())
        return cls._alive[-1]

    def postProcessLayer(self, layer: Any, context: Any, feedback: Any) -> None:  # noqa: N802
        """Load the style, and keep the raster from hiding the polygons that were loaded just before it."""
        _, loaded = layer.loadDefaultStyle()
        if not loaded:
            feedback.pushWarning(f"{layer.source()}: no style was found beside it.")
        layer.triggerRepaint()
        if isinstance(layer, QgsVectorLayer):
            Styled._polygons = layer.id()
            return
        # Newer versions of QGIS put layers in order by themselves, and into the tree only later.
        node = context.project().layerTreeRoot().findLayer(layer.id())
        if node is None:
            return
        parent = node.parent()
        below = parent.children()[parent.children().index(node) + 1 :][:1]
        if below and QgsLayerTree.isLayer(below[0]) and below[0].layerId() == Styled._polygons:
            position = parent.children().index(node)
            parent.insertChildNode(position, below[0].clone())
            parent.removeChildNode(below[0])


class GeocdAlgorithm(QgsProcessingAlgorithm):
    """What the algorithms have in common."""

    #: The command of geocd, and the second half of the algorithm's id.
    command = ""
    title = ""
    about = ""
    options: Sequence[Option] = ()
    #: Parameters that are rasters, besides those of the options.
    rasters: Sequence[tuple[str, str]] = ()

    def name(self) -> str:
        """Return the second half of the id."""
        return self.command

    def displayName(self) -> str:  # noqa: N802
        """Return the name in the toolbox."""
        return self.title

    def shortHelpString(self) -> str:  # noqa: N802
        """Return the text beside the dialog, with the help of the options."""
        rows = [f"<b>{option.label}</b>: {option.help}" for option in self.options if option.help]
        return "<p>" + "</p><p>".join([self.about, *rows]) + "</p>"

    def icon(self) -> Any:
        """Return the icon in the toolbox."""
        return QIcon(str(Path(__file__).with_name("icon.png")))

    def createInstance(self) -> GeocdAlgorithm:  # noqa: N802
        """Return a new instance of the algorithm."""
        return type(self)()

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: N802
        """Declare the parameters."""
        for name, label in self.rasters:
            self.addParameter(QgsProcessingParameterRasterLayer(name, label))
        for option in self.options:
            self._add(_parameter(option), option.help, option.advanced)
        self._add(
            QgsProcessingParameterString("EXTRA", f"Further options of geocd {self.command}", optional=True),
            f"As on the command line; geocd {self.command} --help lists them all.",
            advanced=True,
        )
        self.add_outputs()

    def _add(self, parameter: Any, text: str, advanced: bool) -> None:
        parameter.setHelp(text)
        if advanced:
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        self.addParameter(parameter)

    def add_outputs(self) -> None:
        """Declare the outputs."""
        raise NotImplementedError

    def canExecute(self) -> tuple[bool, str]:  # noqa: N802
        """Return whether geocd is installed, and what to do if not."""
        try:
            find_executable(_setting())
        except PluginError as problem:
            return False, str(problem)
        return True, ""

    def checkParameterValues(self, parameters: Any, context: Any) -> tuple[bool, str]:  # noqa: N802
        """Return whether geocd can open the layers, and what to do if not."""
        try:
            refuse_same(self._all_sources(parameters, context))
        except PluginError as problem:
            return False, str(problem)
        valid, reason = super().checkParameterValues(parameters, context)
        return valid, reason

    def prepareAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> bool:  # noqa: N802
        """Look up the layers, here in the thread that owns them."""
        try:
            self._sources = self._all_sources(parameters, context)
        except PluginError as problem:
            raise QgsProcessingException(str(problem)) from problem
        return True

    def _all_sources(self, parameters: Any, context: Any) -> dict[str, str | None]:
        names = [name for name, _ in self.rasters]
        names += [option.parameter for option in self.options if option.kind == "raster"]
        return {name: self._source(name, parameters, context) for name in names}

    def _source(self, name: str, parameters: Any, context: Any) -> str | None:
        layer = self.parameterAsRasterLayer(parameters, name, context)
        if layer is not None:
            return gdal_name(layer.name(), layer.providerType(), layer.source())
        value = parameters.get(name)
        if isinstance(value, str) and value:
            return value  # not a raster for QGIS; geocd says what is wrong with it
        if value in (None, ""):
            return None
        raise PluginError(f"{name}: {value} is not a raster layer. Choose a raster layer or file.")

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: N802
        """Run geocd."""
        try:
            return self.work(parameters, context, feedback)
        except PluginError as problem:
            raise QgsProcessingException(str(problem)) from problem

    def work(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run geocd, and return the outputs by name."""
        raise NotImplementedError

    def call(
        self, own_options: list[str], files: list[str], parameters: Any, context: Any, feedback: Any
    ) -> Finished:
        """Run geocd with the plugin's own options, those of the dialog, and files.

        Raises
        ------
        PluginError
            geocd is missing or too old.
        CancelledError
            The user cancelled.
        """
        executable = find_executable(_setting())
        feedback.pushInfo(f"geocd {check_version(executable)}")
        values = {option.name: self._value(option, parameters, context) for option in self.options}
        words = arguments(self.options, values)
        words += extra(self.parameterAsString(parameters, "EXTRA", context))
        return run([executable, self.command, *own_options, *words, "--", *files], feedback)

    def _value(self, option: Option, parameters: Any, context: Any) -> Any:
        name = option.parameter
        if option.kind == "raster":
            return self._sources[name]
        if parameters.get(name) is None:  # an empty number would come as 0
            return option.default
        readers = {
            "choice": self.parameterAsEnumString,
            "choices": self.parameterAsEnumStrings,
            "number": self.parameterAsDouble,
            "whole": self.parameterAsInt,
            "text": self.parameterAsString,
            "flag": self.parameterAsBoolean,
        }
        return readers[option.kind](parameters, name, context)

    def destination(self, name: str, parameters: Any, context: Any) -> Path | None:
        """Return the file that a layer is to be written to; it is styled when it is loaded."""
        text = self.parameterAsOutputLayer(parameters, name, context)
        if not text:
            return None
        if context.willLoadLayerOnCompletion(text):
            context.layerToLoadOnCompletionDetails(text).setPostProcessor(Styled.create())
        return Path(text)


def _setting() -> str:
    return str(ProcessingConfig.getSetting(SETTING) or "")


def _parameter(option: Option) -> Any:
    """Return the parameter of the algorithm for an option."""
    name, label, empty = option.parameter, option.label, option.default is None
    if option.kind in ("choice", "choices"):
        several = option.kind == "choices"
        return QgsProcessingParameterEnum(
            name,
            label,
            list(option.choices),
            several,
            list(option.default) if several else option.default,
            several or empty,
            True,  # the words themselves, not their indexes
        )
    if option.kind in ("number", "whole"):
        kind = QgsProcessingParameterNumber.Double if option.kind == "number" else None
        number = QgsProcessingParameterNumber(
            name, label, kind or QgsProcessingParameterNumber.Integer, option.default, empty
        )
        if option.least is not None:
            number.setMinimum(option.least)
        if option.most is not None:
            number.setMaximum(option.most)
        return number
    if option.kind == "flag":
        return QgsProcessingParameterBoolean(name, label, option.default)
    if option.kind == "raster":
        return QgsProcessingParameterRasterLayer(name, label, None, True)
    return QgsProcessingParameterString(name, label, option.default, False, True)


def _require_success(finished: Finished, feedback: Any, hidden: str | None = None) -> None:
    """Show the messages of geocd, except lines that begin with ``hidden``; raise them where it failed."""
    if finished.returncode == 0:
        push_messages(finished.errors, feedback, hidden)
        return
    message = (
        options.labelled(finished.errors)
        or f"geocd ended with exit code {finished.returncode} and no message."
    )
    if finished.returncode < 0:
        message += f"\ngeocd was killed (signal {-finished.returncode}); perhaps memory ran out."
    if "No such option: --progress" in message:
        message += "\nThis geocd is older than the plugin. Update it."
    raise PluginError(message)


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
        _require_success(finished, feedback, hidden=str(stem))  # names that are about to change
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
            _require_success(finished, feedback)
        for line in finished.output.splitlines():
            push = feedback.pushWarning if line.startswith(("warning", "error")) else feedback.pushInfo
            push(line)
        results: dict[str, Any] = {"USABLE": usable}
        target = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        if target:
            text = (
                f"<meta charset='utf-8'><title>geocd check</title><pre>{html.escape(finished.output)}</pre>\n"
            )
            try:
                Path(target).write_text(text, encoding="utf-8")
            except OSError as error:
                raise PluginError(f"{target}: cannot be written ({error.strerror}).") from error
            results["OUTPUT"] = target
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
        _require_success(finished, feedback)
        return {"OUTPUT": str(vector)}
