"""Links signed for those who read them: a small server of this machine that redirects to signed links.

:func:`serve` is the program of a process of its own, because GDAL may hold the lock of Python's interpreter
while it waits for an answer. It writes the port that it listens on, and ends when its standard input does,
with the process that started it. A request for ``/<secret>/<escaped folder>/<escaped name>`` is answered with
a redirection to the link, signed at that moment; so whoever reads for hours needs no other link.
"""

from __future__ import annotations

import datetime
import http.server
import importlib
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from geocd.errors import ConfigError
from geocd.location import public_text

#: Returns the signed link for a link.
Signer = Callable[[str], str]

#: Where the Planetary Computer gives out tokens, and the variables of its own library.
PLANETARY_COMPUTER = "https://planetarycomputer.microsoft.com/api/sas/v1/token"
_URL, _KEY = "PC_SDK_SAS_URL", "PC_SDK_SUBSCRIPTION_KEY"
_BLOB = ".blob.core.windows.net"
#: Seconds before its end at which a token is replaced, or half of its time where that is less.
_EARLY = 60.0
#: Requests for a token that fail for the moment are sent again, each after a longer wait (seconds).
_WAITS = (0.0, 1.0, 2.0, 4.0, 8.0)
_TRANSIENT = (429, 500, 502, 503, 504)
_TIMEOUT = 30.0
#: The address that tells why a link could not be signed.
REASON = "reason"


class PlanetaryComputer:
    """Signs links to the Planetary Computer's storage with its tokens, one for each container until it ends.

    Links to other hosts stay as they are. The tokens come from ``PC_SDK_SAS_URL``, if it is set, and a key
    from ``PC_SDK_SUBSCRIPTION_KEY`` goes with the request, as with the library planetary-computer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By account and container: the token, and the time at which it is replaced.
        self._tokens: dict[str, tuple[str, float]] = {}

    def __call__(self, link: str) -> str:
        """Return a link with the token of its container as its query."""
        parts = urllib.parse.urlsplit(link)
        host = parts.hostname or ""
        container = parts.path.lstrip("/").partition("/")[0]
        if not host.endswith(_BLOB) or not container:
            return link
        place = f"{host.removesuffix(_BLOB)}/{container}"
        with self._lock:
            token, until = self._tokens.get(place, ("", 0.0))
            if time.time() >= until:
                token, until = self._tokens[place] = _token(place)
        return urllib.parse.urlunsplit(parts._replace(query=token, fragment=""))


def _token(place: str) -> tuple[str, float]:
    """Return a token for a container, and when it is to be replaced (seconds since 1970)."""
    url = f"{os.environ.get(_URL, PLANETARY_COMPUTER).rstrip('/')}/{place}"
    key = os.environ.get(_KEY)
    request = urllib.request.Request(url, headers={"Ocp-Apim-Subscription-Key": key} if key else {})
    for wait in (*_WAITS, None):
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
                content = json.load(answer)
                token, expiry = str(content["token"]), str(content["msft:expiry"])
                end = datetime.datetime.fromisoformat(expiry.replace("Z", "+00:00")).timestamp()
                left = end - time.time()
                return token, end - min(_EARLY, left / 2)
        except urllib.error.HTTPError as error:
            if error.code not in _TRANSIENT or wait is None:
                raise OSError(f"{url} answered with HTTP {error.code}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise OSError(f"{url} answered without a token ({error!r})") from error
        except OSError as error:
            if wait is None:
                raise OSError(f"{url} cannot be reached ({error})") from error
        time.sleep(wait)
    raise AssertionError  # the last attempt returns or raises


#: The signers that have a name.
SIGNERS: dict[str, Callable[[], Signer]] = {"planetary-computer": PlanetaryComputer}


def signer(name: str) -> Signer:
    """Return a signer by its name, or a function of the user's: ``module:function``.

    Raises
    ------
    ConfigError
        There is none of this name, or the module cannot be imported or has no such function.
    """
    if name in SIGNERS:
        return SIGNERS[name]()
    module, colon, function = name.partition(":")
    if not colon or not module or not function:
        raise ConfigError(
            f"--sign {name}: must be {', '.join(SIGNERS)} or module:function, a function that takes a link "
            "and returns it signed.",
            sign=name,
        )
    try:
        sign = getattr(importlib.import_module(module), function)
    except Exception as error:  # it may do anything
        raise ConfigError(
            f"--sign {name}: cannot be imported ({type(error).__name__}: {error}). Workers must find the "
            "module too: install it, or set PYTHONPATH to its folder.",
            sign=name,
        ) from error
    if not callable(sign):
        raise ConfigError(f"--sign {name}: is no function. Name one that returns a signed link.", sign=name)
    return sign  # type: ignore[no-any-return]  # checked where it is called


class Server(http.server.ThreadingHTTPServer):
    """Redirects to signed links whoever knows the secret."""

    daemon_threads = True

    def __init__(self, sign: Signer, secret: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sign = sign
        self.secret = secret
        self.reason = ""

    def signed(self, link: str) -> str | None:
        """Return a signed link, None where it cannot be signed, for a reason that is kept."""
        try:
            signed = self.sign(link)
            if not isinstance(signed, str):
                raise TypeError(f"the function returned {type(signed).__name__}, not a link")
        except Exception as error:  # a function of the user's may raise anything
            self.reason = " ".join(public_text(f"{type(error).__name__}: {error}").split())
            return None
        self.reason = ""
        return signed


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one connection."""

    server: Server
    protocol_version = "HTTP/1.1"  # connections stay open
    timeout = 60

    def do_GET(self) -> None:
        """Redirect, or tell why not."""
        secret, folder, name = (*self.path.split("/"), "", "", "")[1:4]
        if secret != self.server.secret:
            self._answer(404)
        elif folder == REASON:
            self._answer(200, body=self.server.reason.encode())
        elif not name:  # no list of the files beside it
            self._answer(404)
        elif (signed := self.server.signed(urllib.parse.unquote(f"{folder}/{name}"))) is None:
            self._answer(403)
        else:
            self._answer(302, signed)

    def do_HEAD(self) -> None:
        """Redirect as for GET."""
        self.do_GET()

    def _answer(self, status: int, location: str | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        if location is not None:
            self.send_header("Location", location)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: the links are signed."""


def _say(**content: str | int) -> None:
    """Tell the process that started this one, in a line of JSON."""
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def serve(name: str, secret: str) -> None:
    """Redirect to links signed by a signer, until standard input ends; write the port, or what is wrong."""
    try:
        server = Server(signer(name), secret)
    except ConfigError as error:
        _say(error=str(error))
        return
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _say(port=server.server_port)
    sys.stdin.read()


__all__ = ["REASON", "SIGNERS", "PlanetaryComputer", "Signer", "serve", "signer"]
