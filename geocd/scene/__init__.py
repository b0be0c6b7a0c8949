"""What is measured once for a scene: sample, radiometry, shift between the dates, pixels to ignore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geocd.exports import exported

if TYPE_CHECKING:
    from geocd.scene.radiometry import BandScale, Radiometry
    from geocd.scene.registration import Shift, measure_shift
    from geocd.scene.sample import sample_chips

__all__ = ["BandScale", "Radiometry", "Shift", "measure_shift", "sample_chips"]

__getattr__, __dir__ = exported(__name__, "radiometry", "registration", "sample")
