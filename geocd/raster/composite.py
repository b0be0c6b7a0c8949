"""The first date of lasting change: one raster made of the probabilities of many pairs of a place."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rasterio.windows import Window

from geocd.raster.files import grid_of, open_raster
from geocd.raster.grid import Grid
from geocd.raster.reading import DateSource, read_date
from geocd.raster.warp import Warp
from geocd.raster.writer import ProbWriter, strips
from geocd.types import BoolArray, Float32Array, IntArray

#: Bands of the raster, in order. Dates are decimal years.
BANDS = ("date_to", "date_from", "lasting", "unconfirmed_to", "unconfirmed_from")
#: Share of the later dates that must show a change for it to last.
LASTING = 0.5
#: Pixels that are read at a time of each pair, unless one row of blocks has more.
_PIXELS = 2**21


def decimal_year(day: datetime.date) -> float:
    """Return a day as a decimal year: 2023.0 is the first of January 2023."""
    begin, end = datetime.date(day.year, 1, 1), datetime.date(day.year + 1, 1, 1)
    return day.year + (day - begin).days / (end - begin).days


@dataclasses.dataclass(frozen=True)
class Composite:
    """The pairs of a place.

    Parameters
    ----------
    days : sequence of datetime.date
        In order.
    pairs : mapping of pathlib.Path
        Probability rasters by the positions of both dates in ``days``.
    threshold : float
        Probability from which a pixel is changed.
    """

    days: Sequence[datetime.date]
    pairs: Mapping[tuple[int, int], Path]
    threshold: float

    def later(self, first: int) -> list[int]:
        """Return the positions of the dates that a date is paired with, in order."""
        return sorted(second for before, second in self.pairs if before == first)


class Change(NamedTuple):
    """A kind of pixel of the raster: between which two dates it changed, and whether that is confirmed."""

    first: int
    second: int
    confirmed: bool


def write_composite(composite: Composite, path: Path) -> list[Change]:
    """Write the raster of the first date of lasting change, and return the changes that it has, in order.

    At each pixel a date is compared with the next date on which both are valid, and with those after it that
    it is paired with. A change lasts where at least half of the latter show it, too. Where fewer do, it has
    passed, and the dates that show it are left out there, or its end would be a change that lasts.
    ``date_from`` and ``date_to`` are the dates before and after the first lasting change, ``lasting`` is that
    share. ``unconfirmed_to`` and ``unconfirmed_from`` are those of the first change that no later date shows
    or denies, where there is no lasting one. NaN where there is no change. The raster is on the grid of the
    first pair; those on other grids are warped onto it.

    Raises
    ------
    GridError
        A pair does not overlap the first.
    OutputError
    """
    changes: set[Change] = set()
    years = np.array([decimal_year(day) for day in composite.days] + [np.nan], np.float32)
    grid, warps = _grids(composite)
    writer = ProbWriter(path, grid, tags={}, descriptions=BANDS)
    try:
        for window in strips(grid, _PIXELS):
            layers = _Layers((int(window.height), int(window.width)))
            for first in sorted({first for first, _ in composite.pairs}):
                layers.add(first, _hits(composite, first, window, warps))
            changes.update(layers.changes())
            writer.write(int(window.row_off), layers.bands(years))
        writer.finish()
    finally:
        writer.abort()
    return sorted(changes)


def _grids(composite: Composite) -> tuple[Grid, Mapping[tuple[int, int], Warp]]:
    """Return the grid of the first pair, and how those of other grids get onto it, by their positions."""
    first: tuple[Grid, str] | None = None
    warps = {}
    for positions, path in sorted(composite.pairs.items()):
        with open_raster(str(path)) as dataset:
            own = grid_of(dataset, str(path))
        if first is None:
            first = own, str(path)
        elif (warp := Warp.onto(own, first[0], (first[1], str(path)))) is not None:
            warps[positions] = warp
    assert first is not None
    return first[0], warps


def _hits(
    composite: Composite, first: int, window: Window, warps: Mapping[tuple[int, int], Warp]
) -> Iterator[tuple[int, BoolArray, BoolArray]]:
    """Yield, for each later date, its position, where the pair is valid, and where it changed."""
    for second in composite.later(first):
        path = str(composite.pairs[first, second])
        with open_raster(path) as dataset:  # one at a time: a process may open about 1000 files
            source = DateSource(dataset, path, [1], alpha=(), warp=warps.get((first, second)))
            (prob,), valid = read_date(source, window)
        yield second, valid, valid & (prob >= composite.threshold)


class _Layers:
    """The first lasting and the first unconfirmed change of some rows, while dates are added in order.

    Positions of dates are kept as numbers; -1 where there is none.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.settled: IntArray = np.full((2, *shape), -1, np.int32)
        self.waiting: IntArray = np.full((2, *shape), -1, np.int32)
        self.lasting: Float32Array = np.full(shape, np.nan, np.float32)
        #: Where a date shows what has passed since, by the position of the date.
        self._passing: dict[int, BoolArray] = {}

    def add(self, first: int, hits: Iterator[tuple[int, BoolArray, BoolArray]]) -> None:
        """Add a date with what it is paired with, see :func:`_hits`."""
        shape = self.lasting.shape
        decided, changed = np.zeros(shape, bool), np.zeros(shape, bool)
        next_date = np.full(shape, -1, np.int32)
        witnesses, agreeing = np.zeros(shape, np.int16), np.zeros(shape, np.int16)
        usable = ~self._passing.pop(first, np.zeros(shape, bool))
        shown: dict[int, BoolArray] = {}
        for second, both_valid, is_changed in hits:
            valid = both_valid & usable
            if second in self._passing:
                valid &= ~self._passing[second]
            hit = shown[second] = is_changed & valid
            new, later = valid & ~decided, valid & decided
            next_date[new] = second
            changed |= new & hit
            witnesses += later
            agreeing += later & hit
            decided |= valid
        share = agreeing / np.maximum(witnesses, 1)
        open_ = self.settled[0] < 0
        lasts = open_ & changed & (witnesses > 0) & (share >= LASTING)
        self.settled[0][lasts], self.settled[1][lasts] = first, next_date[lasts]
        self.lasting[lasts] = share[lasts]
        passes = changed & (witnesses > 0) & (share < LASTING)
        if passes.any():
            for second, hit in shown.items():
                self._passing[second] = self._passing.get(second, False) | (hit & passes)
        waits = open_ & changed & (witnesses == 0) & (self.waiting[0] < 0)
        self.waiting[0][waits], self.waiting[1][waits] = first, next_date[waits]

    def _unconfirmed(self) -> IntArray:
        return np.where(self.settled[0] < 0, self.waiting, -1)

    def changes(self) -> set[Change]:
        """Return the changes that these rows have."""
        return {
            Change(int(first), int(second), confirmed)
            for positions, confirmed in ((self.settled, True), (self._unconfirmed(), False))
            for first, second in np.unique(positions.reshape(2, -1), axis=1).T
            if first >= 0
        }

    def bands(self, years: Float32Array) -> Float32Array:
        """Return the bands; ``years`` are those of the dates, with NaN as the last of them."""
        settled, waiting = years[self.settled], years[self._unconfirmed()]
        bands: Float32Array = np.stack([settled[1], settled[0], self.lasting, waiting[1], waiting[0]])
        return bands


__all__ = ["BANDS", "Change", "Composite", "decimal_year", "write_composite"]
