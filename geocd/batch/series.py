"""A series: many dates of a place, paired with the next dates, which tell lasting from passing changes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from geocd.batch.acquisitions import Dates, Places, clean_name, pair_item
from geocd.batch.archive import keep_edited_results, remember
from geocd.batch.pairing import Day, Pairing, season_distance, with_witnesses
from geocd.batch.pairs import Item
from geocd.batch.places import read_places
from geocd.batch.sources import SourceOptions
from geocd.config import PolygonSettings
from geocd.errors import PairsError
from geocd.raster.composite import Composite, write_composite
from geocd.raster.files import output_errors
from geocd.replacing import replace
from geocd.report.products import Outputs
from geocd.report.styles.series import series_style
from geocd.vectorize.files import folder_beside
from geocd.vectorize.lastingpolygons import write_polygons

LOG = logging.getLogger("geocd")

#: Later dates, after the next one, that each date is compared with, unless another number is asked for.
CONFIRMATIONS = 2


@dataclasses.dataclass(frozen=True)
class Series:
    """The pairs of a place.

    Attributes
    ----------
    place : str
        Its name, with what the name of a file may have.
    days : tuple of datetime.date
        In order.
    items : dict of Item
        The pairs, by the positions of both dates in ``days``.
    """

    place: str
    days: tuple[Day, ...]
    items: Mapping[tuple[int, int], Item]


def series_of(places: Places, rule: Pairing, confirmations: int = CONFIRMATIONS) -> list[Series]:
    """Return the series of all places with at least two dates.

    Each date is paired with the next one, and with as many later ones as confirm a change. No pair depends
    on dates after its own, so that a new date at the end leaves all earlier pairs as they are.

    Parameters
    ----------
    places : mapping
    rule : Pairing
        With ``season_days``, only dates of one season are paired; ``baseline_years`` gives each pair its
        baseline. The other rules do not matter.
    confirmations : int
        Later dates, after the next one, that each date is paired with.

    Raises
    ------
    PairsError
        No place has two dates.
    """
    rule = dataclasses.replace(rule, dates=None, confirm_days=0)
    every = [_series(place, dates, rule, confirmations) for place, dates in sorted(places.items())]
    if not any(series.items for series in every):
        raise PairsError(
            "a series needs two dates of a place. Name more images, a longer time, or a longer season."
        )
    return [series for series in every if series.items]


def read_series(
    source: str, folder: Path, options: SourceOptions, confirmations: int = CONFIRMATIONS
) -> list[Series]:
    """Return the series of all places of a source, see :func:`geocd.batch.places.read_places`."""
    places, area = read_places(source, folder, options)
    return [
        dataclasses.replace(
            series, items={
                positions: dataclasses.replace(item.signed(options.sign) if options.sign else item, area=area)
                for positions, item in series.items.items()
            },
        )
        for series in series_of(places, options.pairing, confirmations)
    ]  # fmt: skip


def _series(place: str, dates: Dates, rule: Pairing, confirmations: int) -> Series:
    days = tuple(sorted(dates))
    items = {}
    for first, before in enumerate(days):
        later = [
            second
            for second in range(first + 1, len(days))
            if rule.season_days is None or season_distance(before, days[second]) <= rule.season_days
        ]
        for second in later[: confirmations + 1]:
            items[first, second] = pair_item(place, with_witnesses(days, before, days[second], rule), dates)
    return Series(clean_name(place), days, items)


def write_series(
    folder: Path,
    series: Series,
    done: Sequence[str],
    *,
    threshold: float,
    settings: PolygonSettings | None = None,
) -> tuple[Path, Path] | None:
    """Write what a place's pairs say together: raster and polygons of the first date of lasting change.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the batch.
    series : Series
    done : sequence of str
        Ids of the finished pairs; the others are as if their dates were clouded.
    threshold : float
        Probability from which a pixel is changed.
    settings : PolygonSettings, optional

    Returns
    -------
    tuple of pathlib.Path, or None
        ``<place>_series.tif`` and ``<place>_series.gpkg``, beside which lies the style of both for QGIS; None
        where no pair is finished. Those that were edited are kept under another name.

    Raises
    ------
    GridError
        The images are on different grids.
    OutputError
    """
    finished = set(done)
    paths = {
        positions: Outputs(folder / item.id / item.id).path("prob")
        for positions, item in series.items.items()
        if item.id in finished
    }
    if not paths:
        return None
    raster, polygons, look = (folder / f"{series.place}_series.{suffix}" for suffix in ("tif", "gpkg", "qml"))
    keep_edited_results(folder, raster, polygons, look)
    composite = Composite(series.days, paths, threshold)
    with output_errors(raster), folder_beside(raster) as scratch:
        changes = write_composite(composite, scratch / raster.name)
        write_polygons(
            scratch / raster.name,
            scratch / polygons.name,
            changes,
            series.days,
            settings or PolygonSettings(),
        )
        (scratch / look.name).write_bytes(series_style(series.days))
        for path in (raster, polygons, look):
            replace(scratch / path.name, path)
    remember(folder, raster, polygons, look)
    LOG.info("%s: %d of %d pairs in %s", series.place, len(paths), len(series.items), raster.name)
    return raster, polygons


__all__ = ["CONFIRMATIONS", "Series", "read_series", "series_of", "write_series"]
