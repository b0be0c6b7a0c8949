"""Overlapping tiles: their places, their blend, and how much of them is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geocd.exports import exported

if TYPE_CHECKING:
    from geocd.tiles.mosaic import Mosaic, blend
    from geocd.tiles.seams import SeamScore
    from geocd.tiles.tiling import Tile, Tiling

__all__ = ["Mosaic", "SeamScore", "Tile", "Tiling", "blend"]

__getattr__, __dir__ = exported(__name__, "mosaic", "seams", "tiling")
