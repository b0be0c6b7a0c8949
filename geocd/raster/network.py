"""How long a reading over a network waits for a server, and what to say of one that does not answer."""

from __future__ import annotations

import os
import re

from rasterio.env import get_gdal_config

from geocd.location import Location
from geocd.raster.sources import is_remote

#: GDAL's own limits are none: it would wait for ever for a server that accepts a connection and is silent.
#: Seconds to connect; seconds with less than so many bytes per second; and seconds for one request at most.
LIMITS = {
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "100",
    "GDAL_HTTP_TIMEOUT": "300",
}
#: What curl says of each limit, with the time after which it gave up.
_WORDS = {
    "GDAL_HTTP_CONNECTTIMEOUT": re.compile(
        r"(?:Connection timed out|[Ff]ailed to connect to .*?|Could not connect .*?) after (?P<ms>\d+) ?m"
    ),
    "GDAL_HTTP_LOW_SPEED_TIME": re.compile(r"Operation too slow.* the last (?P<s>\d+) second"),
    "GDAL_HTTP_TIMEOUT": re.compile(r"(?:Operation timed out|Resolving timed out) after (?P<ms>\d+) ?m"),
}
#: What GDAL says where curl's reason is lost: of a file in an archive, and of pixels.
_FOLLOWS = re.compile("does not exist|[Rr]ead (?:error|failed)")
#: Messages about rasters whose server did not answer: to GDAL they do not exist from then on.
_silent: dict[str, str] = {}


def limit_waiting() -> None:
    """Limit how long GDAL waits for servers, in this process from now on, but for what the user has set.

    Environment variables, because masks and overviews are opened when pixels are read, in any thread, and a
    setting of :class:`rasterio.Env` holds in one thread.
    """
    for name, value in LIMITS.items():
        if get_gdal_config(name) is None:
            os.environ[name] = value


def why_no_answer(path: str, reason: str, seconds: float = 0.0) -> str | None:
    """Return the message about a server that did not answer in time; None where something else is wrong.

    Parameters
    ----------
    path : str
        The raster.
    reason : str
        GDAL's message, which does not always have curl's.
    seconds : float
        How long it took to fail.
    """
    location = Location(path)
    for name, words in _WORDS.items():
        if match := words.search(reason):
            amount = match.groupdict()
            waited = int(amount["s"]) if amount.get("s") else int(amount["ms"]) / 1000
            limit = _seconds(name)  # curl stops milliseconds after it
            if waited < 0.9 * limit < float("inf"):
                continue  # a refusal, not silence
            _silent[path] = _message(location, name, min(limit, waited))
            return _silent[path]
    limits = {name: _seconds(name) for name in _WORDS}
    name = min(limits, key=lambda name: limits[name])
    if is_remote(path) and seconds >= limits[name] and _FOLLOWS.search(reason):
        _silent[path] = _message(location, name, limits[name])
    return _silent.get(path) if _FOLLOWS.search(reason) else None


def _message(location: Location, name: str, waited: float) -> str:
    public = location.public
    server = re.search(r"\w+://[^/]+", public) or re.search(r"/vsi\w+/[^/]+", public)
    who = "a server that it refers to" if server is None else f"the server ({server[0]})"
    return (
        f"{public}: {who} did not answer within {waited:.3g} s. Check the address, or try again later. To "
        f"wait longer, set {name} to the seconds in the environment."
    )


def _seconds(name: str) -> float:
    """Return a limit that holds, infinity where there is none."""
    try:
        return float(str(get_gdal_config(name))) or float("inf")
    except ValueError:
        return float("inf")


__all__ = ["LIMITS", "limit_waiting", "why_no_answer"]
