"""The dates of a place: what was acquired on each day, and the pairs that are made of them."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from geocd.batch.pairing import Day, PairDays, Pairing, paired_days
from geocd.batch.pairs import Item
from geocd.batch.stack import Stack
from geocd.config import NO_MASK


@dataclasses.dataclass(frozen=True)
class Acquisition:
    """What there is of a place on one day.

    Parameters
    ----------
    image : str
        Path or URL.
    mask, features : str, optional
        Paths or URLs of its quality mask, and of features that were made elsewhere.
    stacks : tuple of Stack
        The VRTs among these paths that have to be written first.
    """

    image: str
    mask: str | None = None
    features: str | None = None
    stacks: tuple[Stack, ...] = ()


#: The acquisitions of a place by day, in order; and those of several places by name.
Dates: TypeAlias = Mapping[Day, Acquisition]
Places: TypeAlias = Mapping[str, Dates]


class OnDemand(Mapping[Day, Acquisition]):
    """The acquisitions of a place, each made when it is asked for: what no pair needs may lack anything.

    Parameters
    ----------
    days : iterable of datetime.date
    make : callable
        Returns the acquisition of a day.
    """

    def __init__(self, days: Iterable[Day], make: Callable[[Day], Acquisition]) -> None:
        self._days = dict.fromkeys(days)
        self._make = functools.cache(make)

    def __getitem__(self, day: Day) -> Acquisition:
        if day not in self._days:
            raise KeyError(day)
        return self._make(day)

    def __iter__(self) -> Iterator[Day]:
        return iter(self._days)

    def __len__(self) -> int:
        return len(self._days)


def pair_name(place: str, before: Day, after: Day) -> str:
    """Return the id of a pair: ``<place>_<day>_<day>``, with what a folder's name may have."""
    return clean_name(f"{place}_{before:%Y%m%d}_{after:%Y%m%d}")


def clean_name(text: str) -> str:
    """Return a text with hyphens for what the name of a folder should not have."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).lstrip("-.")


def pair_item(place: str, days: PairDays, dates: Dates) -> Item:
    """Return a pair of a place, with its witnesses."""
    before, after = dates[days.before], dates[days.after]
    rasters: dict[str, Any] = {"mask_before": before.mask, "mask_after": after.mask}
    if before.features and after.features:
        rasters |= {"features_before": before.features, "features_after": after.features}
    used = [before, after]
    for name, others in (("baseline", days.baseline), ("confirm", days.confirm)):
        if others:
            acquired = [dates[day] for day in others]
            rasters[name] = tuple(date.image for date in acquired)
            if any(date.mask for date in acquired):
                rasters[f"mask_{name}"] = tuple(date.mask or NO_MASK for date in acquired)
            used += acquired
    by_path = {stack.path: stack for acquisition in used for stack in acquisition.stacks}
    paths = (
        *(acquisition.image for acquisition in used[:2]),
        *(rasters.get(name) for name in ("features_before", "features_after", "mask_before", "mask_after")),
        *(path for acquisition in used[2:] for path in (acquisition.image, acquisition.mask)),
    )
    stacks = tuple(by_path[path] for path in paths if path in by_path)
    return Item(
        pair_name(place, days.before, days.after), before.image, after.image, **rasters, stacks=stacks
    )


def paired(places: Places, rule: Pairing) -> list[Item]:
    """Return the pairs that a rule makes of the dates of each place, by name and day."""
    return [
        pair_item(place, days, places[place])
        for place in sorted(places)
        for days in paired_days(sorted(places[place]), rule)
    ]


__all__ = ["Acquisition", "Dates", "OnDemand", "Places", "clean_name", "pair_item", "pair_name", "paired"]
