"""What the algorithms in the toolbox have in common."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig
from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)
from qgis.PyQt.QtGui import QIcon

from . import options
from .command import arguments, extra, gdal_name, refuse_same
from .layers import Group, Styled, proposed_dates
from .manual import manual
from .options import Option
from .process import Finished, PluginError, check_version, find_executable, push_messages, run

#: Name of the setting that names the executable.
SETTING = "GEOCD_EXECUTABLE"


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

    def helpUrl(self) -> str:  # noqa: N802
        """Return the manual: the one in the plugin, so that it needs no network."""
        return manual(self.command)

    def createInstance(self) -> GeocdAlgorithm:  # noqa: N802
        """Return a new instance of the algorithm."""
        return type(self)()

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: N802
        """Declare the parameters."""
        proposed = proposed_dates() if any(name == "BEFORE" for name, _ in self.rasters) else {}
        for name, label in self.rasters:
            self.addParameter(QgsProcessingParameterRasterLayer(name, label, proposed.get(name)))
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

    def report(self, finished: Finished, parameters: Any, context: Any) -> dict[str, str]:
        """Write what geocd printed as a page, if one is wanted; return its file by the name of the output.

        Raises
        ------
        PluginError
            The file cannot be written.
        """
        target = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        if not target:
            return {}
        head = f"<meta charset='utf-8'><title>geocd {self.command}</title>"
        text = f"{head}<pre>{html.escape(finished.output)}</pre>\n"
        try:
            Path(target).write_text(text, encoding="utf-8")
        except OSError as error:
            raise PluginError(f"{target}: cannot be written ({error.strerror}).") from error
        return {"OUTPUT": target}

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
            details = context.layerToLoadOnCompletionDetails(text)
            details.setPostProcessor(self.post_processor())
            if hasattr(details, "groupName"):  # QGIS 3.32 and newer put layers into the tree by themselves
                details.groupName = self.result_group().name
        return Path(text)

    def post_processor(self) -> Any:
        """Return what is done with a layer once it is loaded."""
        return Styled.create(self.result_group())

    def result_group(self) -> Group:
        """Return the group of the layers tree that results are put into; none for one that has no name."""
        return Group("", ())


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


def require_success(finished: Finished, feedback: Any, hidden: str | None = None) -> None:
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
