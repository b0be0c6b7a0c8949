"""Items found by a STAC API, kept in a file: the next run must not depend on the same answer."""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import hashlib
import json
import logging
import re
import urllib.parse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geocd.batch.stac import SOURCES
from geocd.errors import PairsError, SearchError
from geocd.raster.files import output_errors
from geocd.report.links import source_href
from geocd.report.stac import write_json

if TYPE_CHECKING:
    from pystac_client import Client

LOG = logging.getLogger("geocd")

#: Items are looked for up to so many days from the two days of a pair, unless a time is given.
WITHIN = 30
#: Requests that fail for a while are sent again, after 0, 2, 4, 8 and 16 seconds.
RETRIES = 5
BACKOFF = 1.0
#: Seconds to wait for a connection, and for an answer.
TIMEOUT = (10.0, 60.0)
_FOR_A_WHILE = (429, 500, 502, 503, 504)
#: Under these names a file of found items tells its search.
_SEARCH, _TIME = "geocd:search", "geocd:searched"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """What to ask a STAC API for.

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
        RFC 3339 interval (``2023-01-01/2024-12-31``) of the items.
    dates : tuple of datetime.date, optional
        The days of a pair; without ``interval``, items up to ``WITHIN`` days from them are found.

    Raises
    ------
    PairsError
        Neither or both of the areas are given, no time, or a box that is none.
    """

    url: str
    collection: str
    bbox: tuple[float, float, float, float] | None = None
    intersects: dict[str, Any] | None = None
    interval: str | None = None
    dates: tuple[datetime.date, datetime.date] | None = None

    def __post_init__(self) -> None:
        if (self.bbox is None) == (self.intersects is None):
            raise PairsError("a search needs an area: give --bbox or --intersects, one of them.")
        if self.interval is None and self.dates is None:
            raise PairsError("a search needs a time: give --dates or --datetime.")
        if self.bbox is not None:
            west, south, east, north = self.bbox
            if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90):
                raise PairsError(
                    f"--bbox {west:g} {south:g} {east:g} {north:g}: must be west south east north, degrees.",
                    bbox=self.bbox,
                )

    def intervals(self) -> list[str]:
        """Return the intervals to ask for."""
        if self.interval is not None:
            return [self.interval]
        assert self.dates is not None
        near = datetime.timedelta(days=WITHIN)
        return list(dict.fromkeys(f"{day - near}/{day + near}" for day in self.dates))

    def as_dict(self) -> dict[str, Any]:
        """Return what decides what is found, as JSON has it; without a password or token."""
        found = {
            "url": source_href(self.url, Path()),
            "collection": self.collection,
            "bbox": None if self.bbox is None else list(self.bbox),
            "intersects": self.intersects,
            "datetime": self.intervals(),
        }
        return {key: value for key, value in found.items() if value is not None}


def read_geometry(path: str) -> dict[str, Any]:
    """Return the geometry of a GeoJSON file: itself, that of a feature, or of all features together.

    Raises
    ------
    PairsError
        The file cannot be read or holds no geometry.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        features = content["features"] if content["type"] == "FeatureCollection" else [content]
        found = [one["geometry"] if one["type"] == "Feature" else one for one in features]
        if not found or any("coordinates" not in one and "geometries" not in one for one in found):
            raise ValueError("no geometry in it")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PairsError(
            f"{path}: cannot be read as GeoJSON ({error!r}). Give a geometry or features in degrees.",
            path=path,
        ) from error
    return found[0] if len(found) == 1 else {"type": "GeometryCollection", "geometries": found}


def find(search: Search, folder: Path) -> Path:
    """Return the file of the items that a search has found; an API is asked once for each search.

    Parameters
    ----------
    search : Search
    folder : pathlib.Path
        Of the batch.

    Returns
    -------
    pathlib.Path
        An ItemCollection in the folder's ``sources``, with the search in it.

    Raises
    ------
    SearchError
        The API cannot be reached, fails, or cannot search.
    PairsError
        It has no such collection, or no item was found.
    OutputError
        The file cannot be written.
    """
    asked = search.as_dict()
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
    path = folder.absolute() / SOURCES / f"items-{digest}.json"
    if path.is_file():
        LOG.info("items as found before; delete %s to search again", path)
        return path
    items = _ask(search)
    if not items:
        area = "--intersects" if search.bbox is None else f"--bbox {' '.join(map(str, search.bbox))}"
        raise PairsError(
            f"{asked['url']}: no items in {search.collection} for {area} in {', '.join(search.intervals())}. "
            "Choose a larger area or another time."
        )
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    unfinished = path.with_name(f".{path.name}")
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"type": "FeatureCollection", _SEARCH: asked, _TIME: now, "features": items}
        write_json(unfinished, content)
        unfinished.replace(path)
    LOG.info("%d items found, kept in %s", len(items), path)
    return path


def _ask(search: Search) -> list[dict[str, Any]]:
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
    # searching by POST changes nothing, so that may be tried again like GET
    retry = Retry(
        RETRIES, backoff_factor=BACKOFF, status_forcelist=_FOR_A_WHILE, allowed_methods=None,
        raise_on_status=False,
    )  # fmt: skip
    where = source_href(search.url, Path())
    found: dict[str, dict[str, Any]] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what an API lacks we say ourselves what matters
            client = Client.open(search.url, stac_io=StacApiIO(max_retries=retry), timeout=TIMEOUT)
            if not client.conforms_to("ITEM_SEARCH") or client.get_search_link() is None:
                raise SearchError(
                    f"{where}: cannot search (its landing page tells of no item search). Name the landing "
                    "page of a STAC API; of a catalogue without search save the items to a file."
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
                for item in hits.items_as_dicts():
                    found[item["id"]] = _absolute(item)
    except APIError as error:
        raise SearchError(f"{where}: {_reason(error)}. Check the address, or try again later.") from error
    # what is no STAC: no JSON, no links, no ids
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        if isinstance(error, PairsError):
            raise
        raise SearchError(f"{where}: does not answer as a STAC API ({error!r}).") from error
    return list(found.values())


def _check_collection(client: Client, name: str, where: str) -> None:
    if client.get_collection(name) is not None:
        return
    known = [collection.id for collection in client.get_collections()]
    near = difflib.get_close_matches(name, known, cutoff=0.4) or known[:5]
    raise PairsError(
        f"{where}: has no collection {name!r}"
        + (f" (among its {len(known)}: {', '.join(near)})" if known else "")
        + ". Give another --collection.",
        collection=name,
    )


def _absolute(item: dict[str, Any]) -> dict[str, Any]:
    """An item whose relative assets start from itself no longer."""
    base = next((link["href"] for link in item.get("links", ()) if link.get("rel") == "self"), "")
    for asset in item.get("assets", {}).values():
        asset["href"] = urllib.parse.urljoin(base, asset["href"])
    return item


def _reason(error: BaseException) -> str:
    """What an API said when it failed, or what failed on the way there."""
    status = getattr(error, "status_code", None)
    text = " ".join(str(error).split())[:200]
    if status is not None:
        again = " every time it was asked" if status in _FOR_A_WHILE else ""
        return f"answers with error {status}{again} ({text or 'without a word'})"
    cause = re.search(r"(?:Caused by \w+\(|: )(?:\"?<[^>]*>: )?([^\"')]*[^\"') ])[\"')]*$", str(error))
    return f"cannot be reached ({cause[1] if cause else text})"


__all__ = ["Search", "find", "read_geometry"]
