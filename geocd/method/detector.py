"""The interface of every method once it is fitted to a scene."""

from __future__ import annotations

from typing import Protocol

from geocd.raster.pair import Chip
from geocd.types import Float32Array

#: Every method maps its own decision to this probability; only ``--threshold`` moves it.
DECISION = 0.5
#: Bands of the probability raster; the second on request.
BANDS = ("change_probability", "uncertainty")


class Detector(Protocol):
    """A method that is fitted to a scene."""

    @property
    def margin(self) -> int:
        """Pixels around a pixel that its probability depends on."""

    @property
    def losses(self) -> tuple[float, ...]:
        """Loss of every optimisation step on the scene."""

    def prob(self, chip: Chip) -> Float32Array:
        """Return the ``BANDS`` of a chip, ``(1 or 2, height, width)``, NaN where not valid.

        NaN also where it is not ``needed``, as far as that spares time. It depends on the chip and its
        position only, and is safe to call from several threads.
        """


__all__ = [
    "Detector",
]
