"""Probability to polygons: regions, outlines, measures, files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geocd.exports import exported

if TYPE_CHECKING:
    from geocd.vectorize.pixelsize import PixelSize
    from geocd.vectorize.polygons import COLUMNS, PolygonSummary, polygonize, strips
    from geocd.vectorize.regions import Regions

__all__ = ["COLUMNS", "PixelSize", "PolygonSummary", "Regions", "polygonize", "strips"]

__getattr__, __dir__ = exported(__name__, "pixelsize", "polygons", "regions")
