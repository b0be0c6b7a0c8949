"""QGIS styles of the outputs.

QGIS applies ``<stem>.qml`` to the local file ``<stem>.tif`` or ``<stem>.gpkg`` beside it, so a copy of
these makes a layer come up styled when it is dragged in. Files of one stem share it, a
shapefile and a GeoPackage too: the style of the polygons knows the columns' full and short names. Both layers
share one scale of colours of the probability, from yellow over red to purple: its lightness falls all the
way, so it can be read without seeing colours.
"""

from __future__ import annotations

import importlib.resources
from typing import Literal

from geocd.report.styles.points import point_style
from geocd.report.styles.polygons import polygon_style


def style(name: Literal["prob", "changes", "sample"]) -> bytes:
    """Return the QML of an output.

    Parameters
    ----------
    name : {"prob", "changes", "sample"}
        The probability raster, the layer of polygons, or points to judge.
    """
    if name == "sample":
        return point_style()
    if name == "changes":
        return polygon_style()
    return (importlib.resources.files(__package__) / f"{name}.qml").read_bytes()


__all__ = ["style"]
