"""Items found by a STAC API, kept in a file so that the next run does not depend on the same answer."""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import hashlib
import json
import logging
import re
import time
import urllib.parse
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from geocd.batch.pairing import in_year
from geocd.batch.stac import SOURCES_FOLDER
from geocd.errors import PairsError, SearchError
from geocd.raster.files import output_errors
from geocd.report.links import source_href
from geocd.report.stac import write_json

if TYPE_CHECKING:
    from pystac_client import Client

LOG = logging.getLogger("geocd")

#: JSON as it is read or written: items, geometries, searches.
Json: TypeAlias = dict[str, Any]
#: Days around each of the two dates of a pair in which items are searched, unless an interval is given.
WITHIN = 30
#: Requests that fail for the moment are sent again, after 0, 2, 4, 8 and 16 seconds.
RETRIES = 5
BACKOFF = 1.0
#: Seconds to wait for a connection, and for an answer.
TIMEOUT = (10.0, 60.0)
#: More pages of one search than this are not asked for, of 100 items each.
MOST_PAGES = 1000
#: Seconds between two lines that say how far a search is.
_INTERVAL = 10.0
_TRANSIENT = (429, 500, 502, 503, 504)
#: Members of a file of found items that record the search and its time.
_SEARCH, _TIME = "geocd:search", "geocd:searched"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """A search of a STAC API for items.

    Parameters
    ----------
    url : str
        Landing page of the API.
    collection : str
    bbox : tuple of float, optional
        West, south, east, north in degrees (WGS 84).
    intersects : dict, optional
        GeoJSON geometry in degrees; one of ``bbox`` and ``intersects`` is needed.
    interval : str, optional
        RFC 3339 interval of the items: ``2023-01-01/2024-12-31``.
    dates : tuple of datetime.date, optional
        The two days of a pair; without ``interval``, items up to ``WITHIN`` days from either are searched.
    baseline_years, confirm_days : int
        With ``dates``, items around these days of so many years before are searched too, and those of so many
        days after.

    Raises
    ------
    PairsError
        Not exactly one area is given, no time is given, or the box is not one in degrees.
    """

    url: str
    collection: str
    bbox: tuple[float, float, float, float] | None = None
    intersects: Json | None = None
    interval: str | None = None
    dates: tuple[datetime.date, datetime.date] | None = None
    baseline_years: int = 0
    confirm_days: int = 0

    def __post_init__(self) -> None:
        if (self.bbox is None) == (self.intersects is None):
            raise PairsError("a search needs one area: pass either --bbox or --intersects.")
        if self.interval is None and self.dates is None:
            raise PairsError("a search needs a time: pass --dates or --datetime.")
        if self.bbox is not None:
            west, south, east, north = self.bbox
            if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90):
                raise PairsError(
                    f"--bbox {west:g} {south:g} {east:g} {north:g}: must be W S E N in degrees.",
                    bbox=self.bbox,
                )

    def intervals(self) -> list[str]:
        """Return the RFC 3339 intervals to search."""
        if self.interval is not None:
            return [self.interval]
        assert self.dates is not None
        near = datetime.timedelta(days=WITHIN)
        days = [
            in_year(day, day.year - years) for years in range(self.baseline_years + 1) for day in self.dates
        ]
        intervals = [f"{day - near}/{day + near}" for day in days]
        if self.confirm_days > WITHIN:
            after = self.dates[1]
            intervals.append(f"{after + near}/{after + datetime.timedelta(days=self.confirm_days)}")
        return list(dict.fromkeys(intervals))

    def as_dict(self) -> Json:
        """Return the search as JSON, without password or token."""
        content = {
            "url": source_href(self.url, Path()),
            "collection": self.collection,
            "bbox": None if self.bbox is None else list(self.bbox),
            "intersects": self.intersects,
            "datetime": self.intervals(),
        }
        return {key: value for key, value in content.items() if value is not None}


def read_geometry(path: str) -> Json:
    """Return the geometry of a GeoJSON file; several features become a geometry collection.

    Raises
    ------
    PairsError
        The file cannot be read or holds no geometry.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        features = content["features"] if content["type"] == "FeatureCollection" else [content]
        geometries = [part["geometry"] if part["type"] == "Feature" else part for part in features]
        if not geometries or any("coordinates" not in g and "geometries" not in g for g in geometries):
            raise ValueError("no geometry in it")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PairsError(
            f"{path}: cannot be read as GeoJSON ({error!r}). Name a file of geometries in degrees.",
            path=path,
        ) from error
    return geometries[0] if len(geometries) == 1 else {"type": "GeometryCollection", "geometries": geometries}


def find(search: Search, folder: Path) -> Path:
    """Return a file with the items that a search finds; the same search is sent only once.

    Parameters
    ----------
    search : Search
    folder : pathlib.Path
        Folder of the batch.

    Returns
    -------
    pathlib.Path
        An ItemCollection in the folder's ``sources``, with the search among its members.

    Raises
    ------
    SearchError
        The API cannot be reached, fails, or cannot search.
    PairsError
        It has no such collection, or no item was found.
    OutputError
        The file cannot be written.
    """
    query = search.as_dict()
    digest = hashlib.sha256(json.dumps(query, sort_keys=True).encode()).hexdigest()[:12]
    path = folder.absolute() / SOURCES_FOLDER / f"items-{digest}.json"
    if path.is_file():
        LOG.info("using the items found before; delete %s to search again", path)
        return path
    items = _request(search)
    if not items:
        area = "--intersects" if search.bbox is None else f"--bbox {' '.join(map(str, search.bbox))}"
        raise PairsError(
            f"{query['url']}: no items in {search.collection} for {area} in {', '.join(search.intervals())}. "
            "Choose a larger area or another time."
        )
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"type": "FeatureCollection", _SEARCH: query, _TIME: now, "features": items}
        write_json(path, content)
    LOG.info("%d items found, saved in %s", len(items), path)
    return path


def _request(search: Search) -> list[Json]:
    """Return the items that an API finds, each once, with absolute links to their assets."""
    try:
        from pystac_client import Client
        from pystac_client.exceptions import APIError
        from pystac_client.stac_api_io import StacApiIO
        from urllib3 import Retry
    except ModuleNotFoundError as error:
        raise SearchError(
            f"a search needs {error.name}, which is not installed here: pip install 'geocd[batch]'."
        ) from error
    # a search by POST changes nothing, so it may be sent again like GET
    retry = Retry(
        RETRIES, backoff_factor=BACKOFF, status_forcelist=_TRANSIENT, allowed_methods=None,
        raise_on_status=False,
    )  # fmt: skip
    where = source_href(search.url, Path())
    items: dict[str, Json] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters of what an API lacks is an error below
            client = Client.open(search.url, stac_io=StacApiIO(max_retries=retry), timeout=TIMEOUT)
            if not client.conforms_to("ITEM_SEARCH") or client.get_search_link() is None:
                raise SearchError(
                    f"{where}: cannot search (its landing page declares no item search). Name the landing "
                    "page of a STAC API; from a catalogue without search, save the items to a file."
                )
            if client.conforms_to("COLLECTIONS") or client.conforms_to("FEATURES"):
                _check_collection(client, search.collection, where)
            for interval in search.intervals():
                hits = client.search(
                    collections=[search.collection],
                    bbox=search.bbox,
                    intersects=search.intersects,
                    datetime=interval,
                    limit=100,
                )
                _add_items(hits.pages_as_dicts(), items, where)
    except APIError as error:
        raise SearchError(f"{where}: {_reason(error)}. Check the address, or try again later.") from error
    # an answer that is not STAC: no JSON, no links, no ids
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        if isinstance(error, PairsError):
            raise
        raise SearchError(f"{where}: is not a STAC API ({error!r}). Check the address.") from error
    return list(items.values())


def _add_items(pages: Iterable[Json], items: dict[str, Json], where: str) -> None:
    """Add the items of all pages of a search by id, up to a page that brings nothing new."""
    seen: set[str] = set()
    begin = next_line = time.monotonic()
    for number, page in enumerate(pages, 1):
        ids = {item["id"] for item in page["features"]}
        if ids <= seen:
            LOG.warning(
                "%s: page %d has the items of earlier pages alone; the search ends there", where, number
            )
            return
        if number > MOST_PAGES:
            raise SearchError(
                f"{where}: the search goes on after {MOST_PAGES} pages ({len(seen)} items). Choose a smaller "
                "area or a shorter time."
            )
        seen |= ids
        items.update((item["id"], _absolute(item)) for item in page["features"])
        if time.monotonic() - next_line >= _INTERVAL:
            next_line = time.monotonic()
            LOG.warning("%s: %d items on %d pages, %.0f s", where, len(seen), number, next_line - begin)


def _check_collection(client: Client, name: str, where: str) -> None:
    """Raise :class:`PairsError` where an API has no such collection; what it says of it does not matter."""
    try:
        if client.get_collection(name) is not None:
            return
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:  # a poor extent, say
        LOG.info("%s: the collection %s is not valid STAC (%r), which is not needed", where, name, error)
        return
    try:
        names = [collection.id for collection in client.get_collections()]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        names = []
    near = difflib.get_close_matches(name, names, cutoff=0.4) or names[:5]
    raise PairsError(
        f"{where}: has no collection {name!r}"
        + (f" (among its {len(names)}: {', '.join(near)})" if names else "")
        + ". Choose another --collection.",
        collection=name,
    )


def _absolute(item: Json) -> Json:
    """Return an item with the links to its assets made absolute, in place."""
    base = next((link["href"] for link in item.get("links", ()) if link.get("rel") == "self"), "")
    for asset in item.get("assets", {}).values():
        asset["href"] = urllib.parse.urljoin(base, asset["href"])
    return item


def _reason(error: BaseException) -> str:
    """Return why a request failed: what the API answered, or why it could not be reached."""
    status = getattr(error, "status_code", None)
    text = " ".join(str(error).split())[:200]
    if status is not None:
        answered = "kept answering" if status in _TRANSIENT else "answered"
        return f"{answered} with HTTP {status}" + (f" ({text})" if text else "")
    cause = re.search(r"(?:Caused by \w+\(|: )(?:\"?<[^>]*>: )?([^\"')]*[^\"') ])[\"')]*$", str(error))
    return f"cannot be reached ({cause[1] if cause else text})"


__all__ = ["Search", "find", "read_geometry"]
