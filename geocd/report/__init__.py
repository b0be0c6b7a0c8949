"""The account of a run: record, STAC item, pictures, report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geocd.exports import exported

if TYPE_CHECKING:
    from geocd.report.acquired import acquisition_date
    from geocd.report.links import source_href, source_path
    from geocd.report.record import RunRecord, Summary, versions
    from geocd.report.stac import STAC_EXTENSIONS, STAC_VERSION, stac_item, write_json

__all__ = [
    "STAC_EXTENSIONS",
    "STAC_VERSION",
    "RunRecord",
    "Summary",
    "acquisition_date",
    "source_href",
    "source_path",
    "stac_item",
    "versions",
    "write_json",
]

__getattr__, __dir__ = exported(__name__, "acquired", "links", "record", "stac")
