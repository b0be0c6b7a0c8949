"""Where the dates of a series come from: a folder of images, a list of them, STAC items or a STAC API."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from pathlib import Path

from geocd.batch.acquisitions import Acquisition, Places, clean_name
from geocd.batch.columns import located
from geocd.batch.pairing import Day
from geocd.batch.pairs import read_rows
from geocd.batch.sources import (
    SEARCH_OPTIONS,
    STAC_OPTIONS,
    Source,
    SourceOptions,
    chosen,
    is_url,
    searched,
)
from geocd.batch.stac import is_stac, stac_places
from geocd.errors import PairsError
from geocd.raster.files import open_raster
from geocd.report.acquired import acquisition_date

#: Columns that a list of dates must have, and those that it may have.
NEEDED, OPTIONAL = ("image",), ("date", "place", "mask", "features")
#: Endings of the files of a folder that are images.
IMAGES = (".tif", ".tiff", ".jp2", ".vrt", ".img")


def read_places(source: str, folder: Path, options: SourceOptions) -> tuple[Places, str | None]:
    """Return the dates of each place of a source, and the area of the search where it was one.

    Parameters
    ----------
    source : str
        A folder of images of one place; a list with the column ``image`` and, optionally, ``date``,
        ``place``, ``mask`` and ``features``; a file of STAC items; or the address of a STAC API. Dates that
        are not in a list are those of the image's tags or name.
    folder : pathlib.Path
        Folder of the batch.
    options : SourceOptions

    Raises
    ------
    ConfigError
        An option is given that this kind of source does not understand, or one is missing.
    PairsError
        The source cannot be read, an image has no date, or a place has two images of one day.
    SearchError
        The STAC API cannot be reached, fails, or cannot search.
    """
    return chosen(source, SOURCES, options).read(source, folder, options)


def _search(url: str, folder: Path, options: SourceOptions) -> tuple[Places, str | None]:
    """Search a STAC API for items."""
    path, area = searched(url, folder, options)
    return stac_places(path, folder, options.rule), area


def _folder(path: Path) -> Places:
    """Return the images of a folder, by their dates."""
    images = [
        file for file in sorted(path.iterdir()) if file.suffix.lower() in IMAGES and file.name[0] != "."
    ]
    if len(images) < 2:
        raise PairsError(
            f"{path}: has {len(images)} images ({', '.join(IMAGES)}), and a series needs two. Name a "
            "folder of images of one place, or a list.",
            path=str(path),
        )
    dates: dict[Day, Acquisition] = {}
    for file in images:
        _add(dates, _day(str(file), None, str(file)), Acquisition(str(file)), str(file))
    return {clean_name(path.name) or "place": dict(sorted(dates.items()))}


def _list(path: Path) -> Places:
    """Return the dates that a list has of each place."""
    places: dict[str, dict[Day, Acquisition]] = {}
    for position, row in read_rows(path, NEEDED, OPTIONAL):
        values = {name: _text(row, name) for name in (*NEEDED, *OPTIONAL)}
        paths = {
            name: located(values[name], path.parent.absolute())
            for name in ("image", "mask", "features")
            if values[name]
        }
        where = f"{path}, {position}"
        if "image" not in paths:
            raise PairsError(f"{where}: has no image. Fill the column image.", path=str(path))
        day = _day(paths["image"], values["date"] or None, where)
        place = clean_name(values["place"] or path.stem) or "place"
        acquisition = Acquisition(paths["image"], paths.get("mask"), paths.get("features"))
        _add(places.setdefault(place, {}), day, acquisition, where)
    return {place: dict(sorted(dates.items())) for place, dates in sorted(places.items())}


def _text(row: Mapping[str, object], name: str) -> str:
    value = row.get(name)
    text = "" if value is None else str(value).strip()
    return "" if text in ("nan", "NaT") else text


def _day(image: str, text: str | None, where: str) -> Day:
    """Return the day of an image: that of the list, else that of its tags or name."""
    if text is None:
        with open_raster(image) as dataset:
            text = acquisition_date(dataset.tags(), image)
        if text is None:
            raise PairsError(
                f"{where}: its date is not in its tags, nor is one date in its name. List the images in a "
                "CSV with the columns image and date.",
                path=os.fspath(image),
            )
    try:
        digits = text[:8]
        return datetime.date.fromisoformat(
            f"{digits[:4]}-{digits[4:6]}-{digits[6:]}" if digits.isdecimal() else text[:10]
        )
    except ValueError as error:
        raise PairsError(f"{where}: date {text!r}: must be YYYY-MM-DD.", date=text) from error


def _add(dates: dict[Day, Acquisition], day: Day, acquisition: Acquisition, where: str) -> None:
    """Add what was acquired on a day, once."""
    other = dates.setdefault(day, acquisition)
    if other is not acquisition:
        raise PairsError(
            f"{where}: is of {day}, as {other.image} is. A series has one image a day: leave one "
            "of them out.",
            date=str(day),
        )


#: Options of a series, whatever its source.
_OPTIONS = ("sign", "season_days", "baseline_years")
#: Every kind of source. The first that accepts what the user named reads it; the last one accepts anything.
SOURCES: tuple[Source[tuple[Places, str | None]], ...] = (
    Source(
        "a STAC API (https://...)", accepts=is_url, read=_search, options=(*STAC_OPTIONS, *SEARCH_OPTIONS)
    ),
    Source(
        "a folder of images",
        accepts=lambda source: Path(source).is_dir(),
        read=lambda source, folder, options: (_folder(Path(source).absolute()), None),
        options=_OPTIONS,
    ),
    Source(
        "a file of STAC items",
        accepts=is_stac,
        read=lambda source, folder, options: (stac_places(source, folder, options.rule), None),
        options=STAC_OPTIONS,
    ),
    Source(
        "a list",
        accepts=lambda source: True,
        read=lambda source, folder, options: (_list(Path(source)), None),
        options=_OPTIONS,
    ),
)

__all__ = ["read_places"]
