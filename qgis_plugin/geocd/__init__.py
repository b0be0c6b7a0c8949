"""The QGIS plugin of geocd: detect, check and polygonize in the Processing toolbox.

geocd itself runs as a separate program, because QGIS's Python seldom has the packages that it needs.
``options``, ``command`` and ``process`` do not import QGIS, so they are tested without it.
"""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:  # noqa: N802  QGIS calls it by this name
    """Return the plugin; ``iface`` is None in qgis_process."""
    from .plugin import GeocdPlugin

    return GeocdPlugin()
