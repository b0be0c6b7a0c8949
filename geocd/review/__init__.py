"""Judging: verdicts, what they teach, and what they measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geocd.exports import exported

if TYPE_CHECKING:
    from geocd.review.areas import AreaReport, estimate
    from geocd.review.ranking import RefineReport, refine
    from geocd.review.sampling import SampleReport, sample

__all__ = ["AreaReport", "RefineReport", "SampleReport", "estimate", "refine", "sample"]

__getattr__, __dir__ = exported(__name__, "areas", "ranking", "sampling")
