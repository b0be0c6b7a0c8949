"""Types that every package uses: arrays by what they hold, and the progress callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

#: Probabilities, distances, z-scores.
Float32Array: TypeAlias = npt.NDArray[np.float32]
#: Coordinates and statistics.
Float64Array: TypeAlias = npt.NDArray[np.float64]
#: Masks: True where something holds.
BoolArray: TypeAlias = npt.NDArray[np.bool_]
#: Labels, counts, positions.
IntArray: TypeAlias = npt.NDArray[np.int64]
#: Pixels as they are stored, of whatever data type.
PixelArray: TypeAlias = npt.NDArray[Any]
#: Called as ``progress(stage, done, total)``.
Progress: TypeAlias = Callable[[str, int, int], None]
#: Called as ``steps(done, total)``.
Steps: TypeAlias = Callable[[int, int], None]
#: A part of an image: rows and columns.
Part: TypeAlias = tuple[slice, slice]
