"""The Processing provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithms import SETTING
from .judging import Estimate, Refine, Sample
from .options import VECTORS
from .runs import Check, Detect, Polygonize
from .series import Series


class GeocdProvider(QgsProcessingProvider):
    """The group of geocd's algorithms in the toolbox."""

    def id(self) -> str:
        """Return the first half of every algorithm's id."""
        return "geocd"

    def name(self) -> str:
        """Return the name in the toolbox."""
        return "geocd"

    def longName(self) -> str:  # noqa: N802
        """Return the name and what geocd does."""
        return "geocd: unsupervised change detection"

    def icon(self) -> Any:
        """Return the icon in the toolbox."""
        return QIcon(str(Path(__file__).with_name("icon.png")))

    def load(self) -> bool:
        """Add the setting and the algorithms."""
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        ProcessingConfig.addSetting(
            Setting(
                self.name(),
                SETTING,
                "Executable of geocd (empty: the one on the PATH)",
                "",
                valuetype=Setting.FILE,
            )
        )
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        """Remove the setting."""
        ProcessingConfig.removeSetting(SETTING)

    def loadAlgorithms(self) -> None:  # noqa: N802
        """Add the algorithms."""
        for algorithm in (Detect, Check, Polygonize, Series, Refine, Sample, Estimate):
            self.addAlgorithm(algorithm())

    def supportsNonFileBasedOutput(self) -> bool:  # noqa: N802
        """Offer no database as an output."""
        return False

    def supportedOutputRasterLayerExtensions(self) -> list[str]:  # noqa: N802
        """Return the suffixes of rasters that geocd writes, without the dot."""
        return ["tif"]

    def supportedOutputVectorLayerExtensions(self) -> list[str]:  # noqa: N802
        """Return the suffixes of vector files that geocd writes, without the dot."""
        return [suffix[1:] for suffix in VECTORS]
