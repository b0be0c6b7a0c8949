"""The QGIS plugin of geocd: detect, check and polygonize in the Processing toolbox.

geocd itself runs as a program of its own: QGIS's Python seldom has what it needs. ``options``, ``command``
and ``process`` know nothing of QGIS, so they are tested without it.
"""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:  # noqa: N802  QGIS calls it by this name
    """Return the plugin; ``iface`` is None in qgis_process."""
    from .plugin import GeocdPlugin

    return GeocdPlugin()
