"""``index.html`` of a batch: a map of its pairs, and each with its picture, figures and findings."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from geocd import replacing
from geocd.batch.manifest import Record, findings_of
from geocd.pipeline.edited import keep_edited
from geocd.quantities import area_in_words, day, in_percent
from geocd.raster.files import output_errors
from geocd.report.page import template

INDEX = "index.html"
#: Shows that geocd wrote a page; one without it is somebody's own.
GENERATOR = '<meta name="generator" content="geocd batch">'
#: The page shows at most so many pairs, those with the largest changes.
MOST = 1000
#: Width of the map in its own units, and the least side of a pair's box on it.
WIDTH, LEAST_SIDE = 1000.0, 6.0


@dataclasses.dataclass(frozen=True)
class Entry:
    """A finished pair on the page.

    Attributes
    ----------
    name : str
    dates : str
        Dates of both images, as far as they are known.
    area : float
        What has changed, in square metres.
    changed, places : str
        Share of the valid area, and number of places with their area, in words.
    findings : list of str
    bbox : tuple of float
        West, south, east, north in degrees.
    """

    name: str
    dates: str
    area: float
    changed: str
    places: str
    findings: list[str]
    bbox: tuple[float, float, float, float]

    @classmethod
    def read(cls, folder: Path, record: Record) -> Entry | None:
        """Return the entry of a finished pair from its item; None where that cannot be read."""
        name = record["id"]
        try:
            item = json.loads((folder / name / f"{name}.json").read_text(encoding="utf-8"))
            properties, (west, south, east, north) = item["properties"], map(float, item["bbox"][:4])
            summary = properties["geocd:summary"]
            area, share, count = (summary[key] for key in ("area_m2", "changed_share", "n_polygons"))
            dates = [properties.get(key) for key in ("geocd:date_before", "geocd:date_after")]
            return cls(
                name,
                " to ".join(day(date) or "date unknown" for date in dates) if any(dates) else "dates unknown",
                float(area),
                in_percent(float(share)),
                f"{int(count)} place{'' if count == 1 else 's'}, {area_in_words(float(area))}",
                [str(finding) for finding in findings_of(record) if finding.severity != "info"],
                (west, south, east, north),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclasses.dataclass(frozen=True)
class Box:
    """The box of a pair on the map, in the map's own units."""

    name: str
    title: str
    x: float
    y: float
    width: float
    height: float


def boxes(entries: Sequence[Entry]) -> tuple[list[Box], float]:
    """Return the boxes of pairs on a map of plate carrée with the scale of its middle, and its height."""
    west, south = (min(entry.bbox[side] for entry in entries) for side in (0, 1))
    east, north = (max(entry.bbox[side] for entry in entries) for side in (2, 3))
    span = max(east - west, (north - south) / 2, 1e-6)
    scale = WIDTH / (span * 1.04)
    stretch = 1 / max(0.1, math.cos(math.radians((south + north) / 2)))
    height = min(max((north - south) * stretch * scale, 40.0) + WIDTH * 0.04, 1.5 * WIDTH)
    squeeze = min(1.0, 1.46 * WIDTH / max((north - south) * stretch * scale, 1e-9))
    placed = []
    for entry in entries:
        left, bottom, right, top = entry.bbox
        width = max(LEAST_SIDE, (right - left) * scale * squeeze)
        tall = max(LEAST_SIDE, (top - bottom) * stretch * scale * squeeze)
        x = WIDTH * 0.02 + (left - west) * scale * squeeze
        y = WIDTH * 0.02 + (north - top) * stretch * scale * squeeze
        title = f"{entry.name}: {entry.changed}, {entry.places}"
        placed.append(Box(entry.name, title, *(round(value, 1) for value in (x, y, width, tall))))
    return placed, round(height, 1)


def write_overview(folder: Path, records: Mapping[str, Record]) -> Path | None:
    """Write the page of a batch; it opens without a network.

    Pictures and reports are those of the pairs, by relative links, so that the folder can be moved. A page of
    this name that geocd did not write is kept under another name.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the batch.
    records : mapping
        The last record of every pair, by its id.

    Returns
    -------
    pathlib.Path or None
        ``index.html``; None where no pair is finished and none has failed.

    Raises
    ------
    OutputError
    """
    done = [record for record in records.values() if record["state"] == "done"]
    failed = [record for record in records.values() if record["state"] == "failed"]
    if not done and not failed:
        return None
    entries = [entry for record in done if (entry := Entry.read(folder, record)) is not None]
    entries.sort(key=lambda entry: (-entry.area, entry.name))
    shown = entries[:MOST]
    placed, height = boxes(shown) if shown else ([], 0.0)
    text = template(INDEX).render(
        generator=GENERATOR,
        name=folder.absolute().name,
        total=len(records),
        done=len(done),
        area=area_in_words(sum(entry.area for entry in entries)),
        entries=shown,
        left_out=len(entries) - len(shown),
        boxes=placed,
        width=WIDTH,
        height=height,
        failed=[(record["id"], record["error"], record["message"]) for record in failed],
    )
    path = folder / INDEX
    with output_errors(path):
        if path.is_file() and GENERATOR not in path.read_text(encoding="utf-8", errors="replace")[:2000]:
            keep_edited(folder, {INDEX: None})
        replacing.write(path, text.encode())
    return path


__all__ = ["INDEX", "Entry", "boxes", "write_overview"]
