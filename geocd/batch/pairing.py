"""Which dates of a place make a pair, and which others are its witnesses: rules on days alone."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Sequence

from geocd.errors import ConfigError

#: Days of the year by which the dates of a baseline may differ, unless ``season_days`` says otherwise.
SEASON = 30
#: Dates of one season of two years are at least this many days apart.
_OTHER_YEAR = 183
#: At most so many later dates confirm a pair, spread over the days asked for: each is read as a whole.
MOST_CONFIRM = 6

Day = datetime.date


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairing:
    """Which dates are paired, and which are witnesses.

    Parameters
    ----------
    dates : tuple of datetime.date, optional
        The days before and after: the date nearest to each. Default: each date with the next.
    season_days : int, optional
        Each date is paired with that of the next year that is nearest in the season, at most so many days of
        the year away. Witnesses are of the season, too.
    baseline_years : int
        Dates of so many years before a pair, nearest to the seasons of both its dates, are its baseline.
    confirm_days : int
        Dates up to so many days after a pair confirm it, at most ``MOST_CONFIRM``.

    Raises
    ------
    ConfigError
        A number is below 0, or the season is half a year or longer.
    """

    dates: tuple[Day, Day] | None = None
    season_days: int | None = None
    baseline_years: int = 0
    confirm_days: int = 0

    def __post_init__(self) -> None:
        if self.season_days is not None and not 0 <= self.season_days < _OTHER_YEAR:
            raise ConfigError(
                f"--season-days {self.season_days}: must be 0 to {_OTHER_YEAR - 1} days, less than half a "
                "year.",
                season_days=self.season_days,
            )
        for name in ("baseline_years", "confirm_days"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"--{name.replace('_', '-')} {getattr(self, name)}: must be 0 or more.", name=name
                )

    @property
    def baseline_season(self) -> int:
        """Days of the year by which the dates of a baseline may differ from those of the pair."""
        return SEASON if self.season_days is None else self.season_days


@dataclasses.dataclass(frozen=True)
class PairDays:
    """The days of a pair, and those of its witnesses, in order."""

    before: Day
    after: Day
    baseline: tuple[Day, ...] = ()
    confirm: tuple[Day, ...] = ()


def season_distance(first: Day, second: Day) -> int:
    """Return how many days of the year two dates are apart, whatever their years, 0 to 183."""
    years = (second.year - 1, second.year, second.year + 1)
    return min(abs((second - in_year(first, year)).days) for year in years)


def in_year(day: Day, year: int) -> Day:
    """Return the same day of another year; the 28th for a 29th of February that it has not."""
    try:
        return day.replace(year=year)
    except ValueError:
        return day.replace(year=year, day=28)


def paired_days(days: Sequence[Day], rule: Pairing) -> list[PairDays]:
    """Return the pairs that a rule makes of the days of a place, with their witnesses.

    Parameters
    ----------
    days : sequence of datetime.date
        In order, each once.
    rule : Pairing
    """
    return [with_witnesses(days, before, after, rule) for before, after in _pairs(days, rule)]


def _pairs(days: Sequence[Day], rule: Pairing) -> list[tuple[Day, Day]]:
    if rule.dates is not None:
        before, after = (min(days, key=lambda day: (abs(day - date), day)) for date in rule.dates)
        return [(before, after)] if before != after else []
    if rule.season_days is None:
        return list(itertools.pairwise(days))
    pairs = []
    for day in days:
        later = [
            other
            for other in days
            if (other - day).days > _OTHER_YEAR and season_distance(day, other) <= rule.season_days
        ]
        if later:
            # of the first year that has any, the nearest in the season
            pairs.append((day, min(later, key=lambda other: _years_and_days(day, other))))
    return pairs


def _years_and_days(day: Day, other: Day) -> tuple[int, int, Day]:
    """Return the years between two dates of a season, how far apart they are in it, and the second."""
    return round((other - day).days / 365.2425), season_distance(day, other), other


def with_witnesses(days: Sequence[Day], before: Day, after: Day, rule: Pairing) -> PairDays:
    """Return a pair with the days of its baseline and those that confirm it.

    The baseline has, for each year, the day nearest in the season to ``before`` and that nearest to
    ``after``: what a place does between these seasons by itself shows between them.
    """
    baseline = set()
    for years in range(1, rule.baseline_years + 1):
        for date in (before, after):
            past = in_year(date, date.year - years)
            near = [day for day in days if day < before and abs((day - past).days) <= rule.baseline_season]
            if near:
                baseline.add(min(near, key=lambda day: (abs(day - past), day)))
    confirm = [
        day
        for day in days
        if 0 < (day - after).days <= rule.confirm_days
        and (rule.season_days is None or season_distance(after, day) <= rule.season_days)
    ]
    return PairDays(before, after, tuple(sorted(baseline)), tuple(_spread(confirm, MOST_CONFIRM)))


def _spread(days: Sequence[Day], most: int) -> list[Day]:
    """Return at most so many days, spread evenly from the first to the last."""
    if len(days) <= most:
        return list(days)
    return [days[round(step * (len(days) - 1) / (most - 1))] for step in range(most)]


__all__ = [
    "MOST_CONFIRM",
    "Day",
    "PairDays",
    "Pairing",
    "in_year",
    "paired_days",
    "season_distance",
    "with_witnesses",
]
