"""Where the pairs of a batch come from: one table, an entry for each kind of source.

A new source is a new entry of :data:`SOURCES`: the command line, its error messages and the batch need no
change.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from shapely.geometry import box, shape

from geocd.batch.pairing import Pairing
from geocd.batch.pairs import Item, is_csv, read_csv, read_vector
from geocd.batch.search import Search, find, read_geometry
from geocd.batch.stac import Rule, is_stac, stac_pairs
from geocd.coercion import option
from geocd.errors import ConfigError
from geocd.raster.projections import check_projections

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What to take from a source of pairs; each source understands some of these.

    Parameters
    ----------
    assets : sequence of str
        STAC: keys of the assets to compare.
    features_assets : sequence of str
        STAC: keys of the assets with features that were made elsewhere.
    mask_asset : str, optional
        STAC: key of the asset with the quality mask; "none" for none.
    dates : tuple of datetime.date, optional
        STAC: the days before and after.
    season_days, baseline_years, confirm_days : int
        STAC: see :class:`geocd.batch.pairing.Pairing`.
    max_cloud : float, optional
        STAC: per cent of cloud above which items are left out.
    collection : str, optional
        STAC API: the collection to search.
    bbox : tuple of float, optional
        STAC API: west, south, east, north in degrees.
    intersects : str, optional
        STAC API: path of a GeoJSON file with the area.
    interval : str, optional
        STAC API: RFC 3339 interval of the items.
    sign : str, optional
        What signs links when they are read: a name of :data:`geocd.signing.SIGNERS`, or ``module:function``.
    """

    assets: tuple[str, ...] = ()
    features_assets: tuple[str, ...] = ()
    mask_asset: str | None = None
    dates: tuple[datetime.date, datetime.date] | None = None
    max_cloud: float | None = None
    season_days: int | None = None
    baseline_years: int = 0
    confirm_days: int = 0
    collection: str | None = None
    bbox: tuple[float, float, float, float] | None = None
    intersects: str | None = None
    interval: str | None = None
    sign: str | None = None

    @property
    def pairing(self) -> Pairing:
        """Which dates are paired, and which are witnesses."""
        return Pairing(
            dates=self.dates,
            season_days=self.season_days,
            baseline_years=self.baseline_years,
            confirm_days=self.confirm_days,
        )

    @property
    def rule(self) -> Rule:
        """How STAC items are paired."""
        return Rule(
            assets=self.assets,
            features=self.features_assets,
            mask=self.mask_asset,
            pairing=self.pairing,
            max_cloud=self.max_cloud,
        )

    def given(self) -> list[str]:
        """Return the names of the options that differ from their defaults."""
        fields = dataclasses.fields(self)
        return [field.name for field in fields if getattr(self, field.name) != field.default]


@dataclasses.dataclass(frozen=True)
class Source(Generic[T]):
    """A kind of source of pairs, or of dates.

    Parameters
    ----------
    name : str
        What it is, for messages: "a list in CSV".
    accepts : callable
        Whether what the user named (a path or URL) is of this kind; may look at the file.
    read : callable
        Returns what it has, from what the user named, the folder of the batch and the options.
    options : collection of str
        Names of the :class:`SourceOptions` that it understands.
    """

    name: str
    accepts: Callable[[str], bool]
    read: Callable[[str, Path, SourceOptions], T]
    options: Collection[str] = ()


#: A kind of source of pairs; its ``read`` returns the pairs.
PairSource = Source[list[Item]]


def chosen(name: str, sources: Sequence[Source[T]], options: SourceOptions) -> Source[T]:
    """Return the first of these sources that accepts what the user named.

    Raises
    ------
    ConfigError
        An option is given that this kind of source does not understand.
    """
    source = next(source for source in sources if source.accepts(name))
    unknown = [option for option in options.given() if option not in source.options]
    if unknown:
        others = [other.name for other in sources if set(unknown) <= set(other.options)]
        raise ConfigError(
            f"{' and '.join(map(_option, unknown))}: only for {' or '.join(others)}; {name} is read as "
            f"{source.name}. Leave the option out, or name another source.",
            pairs=name,
            options=unknown,
        )
    return source


def read_pairs(pairs: str, folder: Path, options: SourceOptions) -> list[Item]:
    """Return the pairs of a source; the first entry of :data:`SOURCES` that accepts it reads it.

    Parameters
    ----------
    pairs : str
        Path or URL.
    folder : pathlib.Path
        Folder of the batch, in which a source may keep files.
    options : SourceOptions

    Raises
    ------
    ConfigError
        An option is given that this kind of source does not understand, or one is missing.
    PairsError
        The source cannot be read or holds no pair.
    SearchError
        A STAC API cannot be reached, fails, or cannot search.
    OutputError
        The folder cannot be written to.
    ProjectionDataError
        No pair could be compared, so none is searched.
    """
    check_projections()
    source = chosen(pairs, SOURCES, options)
    items = source.read(pairs, folder, options)
    return [item.signed(options.sign) for item in items] if options.sign else items


def _option(name: str) -> str:
    return "--datetime" if name == "interval" else option(name)


def is_url(pairs: str) -> bool:
    """Return whether a source is the address of a STAC API."""
    return pairs.startswith(("http://", "https://"))


def _search(url: str, folder: Path, options: SourceOptions) -> list[Item]:
    """Search a STAC API, and pair the items that it finds."""
    path, area = searched(url, folder, options)
    return [dataclasses.replace(pair, area=area) for pair in stac_pairs(path, folder, options.rule)]


def searched(url: str, folder: Path, options: SourceOptions) -> tuple[Path, str | None]:
    """Search a STAC API, and return the file of the items that it finds, and the area of the search."""
    area = (options.bbox is None) != (options.intersects is None)
    time = options.dates is not None or options.interval is not None
    if options.collection is None or not area or not time:
        raise ConfigError(
            f"{url} is searched as a STAC API. That needs --collection, an area (--bbox or --intersects) "
            "and a time (--dates or --datetime).",
            pairs=url,
        )
    search = Search(
        url=url,
        collection=options.collection,
        bbox=options.bbox,
        intersects=None if options.intersects is None else read_geometry(options.intersects),
        interval=options.interval,
        dates=options.dates,
        baseline_years=options.baseline_years,
        confirm_days=options.confirm_days,
    )
    return find(search, folder), _area(search, options.intersects)


def _area(search: Search, file: str | None) -> str | None:
    """Return what pairs are cropped to, as ``--aoi`` takes it; None for points or lines."""
    if search.bbox is not None:
        return f"SRID=4326;{box(*search.bbox).wkt}"
    assert file is not None
    return str(Path(file).absolute()) if shape(search.intersects).area > 0 else None


#: Options of sources of STAC items, whether they are paired or made a series; and those of a search of them.
STAC_OPTIONS = (
    "assets",
    "features_assets",
    "mask_asset",
    "max_cloud",
    "sign",
    "season_days",
    "baseline_years",
)
SEARCH_OPTIONS = ("collection", "bbox", "intersects", "interval")
_PAIRING_OPTIONS = (*STAC_OPTIONS, "dates", "confirm_days")

#: Every kind of source. The first that accepts what the user named reads it; the last one accepts anything.
SOURCES: tuple[PairSource, ...] = (
    PairSource(
        "a STAC API (https://...)",
        accepts=is_url,
        read=_search,
        options=(*_PAIRING_OPTIONS, *SEARCH_OPTIONS),
    ),
    PairSource(
        "a file of STAC items",
        accepts=is_stac,
        read=lambda pairs, folder, options: stac_pairs(pairs, folder, options.rule),
        options=_PAIRING_OPTIONS,
    ),
    PairSource(
        "a list in CSV",
        accepts=is_csv,
        read=lambda pairs, folder, options: read_csv(pairs),
        options=("sign",),
    ),
    PairSource(
        "a vector file",
        accepts=lambda pairs: True,
        read=lambda pairs, folder, options: read_vector(pairs),
        options=("sign",),
    ),
)

__all__ = [
    "SEARCH_OPTIONS",
    "SOURCES",
    "STAC_OPTIONS",
    "PairSource",
    "Source",
    "SourceOptions",
    "chosen",
    "is_url",
    "read_pairs",
    "searched",
]
