"""What each preset of the deep method decides where the user leaves it open, and the classical methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

Preset = Literal["default", "reference"]
Fit = Literal["scene", "tile"]


@dataclasses.dataclass(frozen=True)
class PresetValues:
    """What a preset decides where the user leaves it open: values of the settings of these names."""

    weights: str
    iterations: int
    learning_rate: float
    fit: Fit
    tile_size: int
    overlap: int = 128


#: Overlap of the tiles of classical methods, whose windows are narrow: twice 8 pixels, and what is blended.
CLASSICAL_OVERLAP = 32

PRESETS: Mapping[str, PresetValues] = {
    "default": PresetValues(weights="embedded", iterations=0, learning_rate=1e-4, fit="scene", tile_size=512),
    # 80 steps at 1e-4, as published; the full-resolution generator needs some 4 GB for a 512 px tile
    "reference": PresetValues(
        weights="imagenet", iterations=80, learning_rate=1e-4, fit="tile", tile_size=256
    ),
}


__all__ = ["CLASSICAL_OVERLAP", "PRESETS", "Fit", "Preset", "PresetValues"]
