"""The acquisition date of an image, from its tags or its file name."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping

from geocd.location import Location
from geocd.raster.pair import Pair

#: Tags that hold the acquisition, the most precise first: names that GDAL's readers of Sentinel-1/2 and
#: Landsat, STAC and vendors use.
_DATE_TAGS = (
    "ACQUISITIONDATETIME",
    "ACQUISITION_DATETIME",
    "DATATAKE_1_DATATAKE_SENSING_START",
    "SENSING_TIME",
    "PRODUCT_START_TIME",
    "ACQUISITION_START_TIME",
    "ACQUISITION_DATE",
    "ACQUISITIONDATE",
    "DATE_ACQUIRED",
)
_STAMP = re.compile(
    r"(?P<y>\d{4})(?P<s>[-:/]?)(?P<m>\d{2})(?P=s)(?P<d>\d{2})"
    r"(?:[T ]?(?P<H>\d{2}):?(?P<M>\d{2}):?(?P<S>\d{2})(?:\.\d+)?\s*(?P<zone>Z|UTC|[+-]\d{2}:?\d{2})?)?",
    re.IGNORECASE,
)
#: Names of products that contain a second date, that of the processing; the group is the acquisition.
_PRODUCTS = (
    re.compile(r"^S1[A-D]_.*?_(\d{8}T\d{6})_\d{8}T\d{6}_"),
    re.compile(r"^S2[A-D]_(?:MSI|OPER).*?_(\d{8}T\d{6})_N\d{4}_R\d{3}_"),
    re.compile(r"^L[COTEM]0[1-9]_[A-Z0-9]{4}_\d{6}_(\d{8})_\d{8}_"),
)
_IN_NAME = re.compile(r"(?<!\d)(\d{4}-\d{2}-\d{2}|\d{8})(T\d{6}(?!\d))?(?!\d)")


def acquisition_date(tags: Mapping[str, str], path: str) -> str | None:
    """Return when an image was taken, RFC 3339 in UTC, or None where that is uncertain.

    Tags that hold the acquisition come first, then the names of Sentinel and Landsat products, then a
    single date in the file name. ``TIFFTAG_DATETIME`` comes last: some vendors write the acquisition
    into it, but the TIFF standard defines it as the time of the file. A time without a zone is taken as UTC,
    a day without a time as its midnight.

    Parameters
    ----------
    tags : mapping of str
        Dataset tags as GDAL returns them.
    path : str
        Path or URL; only the file name counts.
    """
    upper = {key.upper(): value for key, value in tags.items()}
    for key in _DATE_TAGS:
        if date := _rfc3339(upper.get(key, "")):
            clock = upper.get("SCENE_CENTER_TIME", "").strip('"')  # Landsat: the time of DATE_ACQUIRED
            if key == "DATE_ACQUIRED" and (exact := _rfc3339(f"{date[:10]}T{clock}")):
                return exact
            return date
    name = Location(path).name
    for product in _PRODUCTS:
        if match := product.match(name):
            return _rfc3339(match[1])
    dates = {date for day, time in _IN_NAME.findall(name) if (date := _rfc3339(day + time))}
    if len({date[:10] for date in dates}) > 1:
        return None  # two different days: ambiguous
    if dates:
        times = {date for date in dates if not date.endswith("T00:00:00Z")}
        return times.pop() if len(times) == 1 else f"{dates.pop()[:10]}T00:00:00Z"
    return _rfc3339(upper.get("TIFFTAG_DATETIME", ""))


def acquisition_dates(pair: Pair) -> tuple[str | None, str | None]:
    """Return when the images of a pair were taken, before and after, see :func:`acquisition_date`."""
    return acquisition_date(pair.tags[0], pair.before_path), acquisition_date(pair.tags[1], pair.after_path)


def _rfc3339(text: str) -> str | None:
    """Return a date in the spellings of GDAL tags and file names as RFC 3339; None for anything else."""
    match = _STAMP.fullmatch(text.strip().strip('"'))
    if match is None:
        return None
    hour, minute, second = (int(match[part] or 0) for part in "HMS")
    zone = match["zone"] or "Z"
    try:
        day = datetime.date(int(match["y"]), int(match["m"]), int(match["d"]))
        time = datetime.time(hour, minute, second, tzinfo=datetime.timezone.utc)
        date = datetime.datetime.combine(day, time)
        if zone[0] in "+-":
            hours, minutes = int(zone[1:3]), int(zone[-2:])
            offset = datetime.timedelta(hours=hours, minutes=minutes)
            date = date - offset if zone[0] == "+" else date + offset
    except (ValueError, OverflowError):
        return None
    # Numbers that only look like a date (tile ids, orbit numbers) mostly lie outside this range.
    if not 1930 <= date.year <= datetime.datetime.now(datetime.timezone.utc).year + 1:
        return None
    return date.strftime("%Y-%m-%dT%H:%M:%SZ")


__all__ = [
    "acquisition_date",
    "acquisition_dates",
]
