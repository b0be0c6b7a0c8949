"""Chips to change probability: the learned method and the classical ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geocd.exports import exported

if TYPE_CHECKING:
    from geocd.method.detector import BANDS, DECISION, Detector

__all__ = ["BANDS", "DECISION", "Detector"]

__getattr__, __dir__ = exported(__name__, "detector")
