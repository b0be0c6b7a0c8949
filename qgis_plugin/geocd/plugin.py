"""The plugin: it only adds the provider to the toolbox."""

from __future__ import annotations

from qgis.core import QgsApplication

from .provider import GeocdProvider


class GeocdPlugin:
    """What QGIS and qgis_process load."""

    def __init__(self) -> None:
        self.provider: GeocdProvider | None = None

    def initProcessing(self) -> None:  # noqa: N802
        """Add the provider; qgis_process calls only this."""
        self.provider = GeocdProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:  # noqa: N802
        """Add the provider to the toolbox."""
        self.initProcessing()

    def unload(self) -> None:
        """Remove the provider."""
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
