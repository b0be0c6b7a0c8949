"""Remote rasters by links that are signed whenever GDAL reads from them, see :mod:`geocd.signing`."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import re
import secrets
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape, unescape

from geocd.errors import ConfigError
from geocd.signing import REASON

_LINK = re.compile(r"(?:/vsicurl/)?(https?://.+)", re.IGNORECASE | re.DOTALL)
_SOURCE = re.compile(r"(<SourceFilename[^>]*>)/vsicurl/(https?://[^<]*)(?=</SourceFilename>)", re.IGNORECASE)
#: Variables with the hosts that programs reach without a proxy.
_NO_PROXY = ("no_proxy", "NO_PROXY")
_HOST = "127.0.0.1"
#: The process finds the modules that this one does, geocd and those of the user.
_PROGRAM = """
import json, sys
name, secret, path = json.loads(sys.stdin.readline())
sys.path += [folder for folder in path if folder not in sys.path]
from geocd.signing import serve
serve(name, secret)
"""


class Redirector:
    """The process that redirects to signed links, for as long as this process lives.

    Raises
    ------
    ConfigError
        There is no such signer.
    """

    def __init__(self, name: str) -> None:
        self.secret = secrets.token_hex(16)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # not as arguments, which others of this machine see
        self._process.stdin.write(json.dumps([name, self.secret, sys.path]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(
            self._process.stdout.readline() or '{"error": "the server of links did not start"}'
        )
        if "error" in answer:
            self.close()
            raise ConfigError(answer["error"], sign=name)
        self.port = int(answer["port"])
        for variable in _NO_PROXY:
            os.environ[variable] = ",".join(filter(None, (os.environ.get(variable), _HOST)))

    @property
    def prefix(self) -> str:
        """What the escaped folder and name of a link follow, for GDAL."""
        return f"/vsicurl/http://{_HOST}:{self.port}/{self.secret}/"

    def reason(self) -> str:
        """Return why the last link that could not be signed was not; empty where all were."""
        connection = http.client.HTTPConnection(_HOST, self.port, timeout=5)
        try:
            connection.request("GET", f"/{self.secret}/{REASON}")
            return connection.getresponse().read().decode()
        except OSError:
            return "the server of links has ended"
        finally:
            connection.close()

    def close(self) -> None:
        """End the process."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()


_redirectors: dict[str, Redirector] = {}
_lock = threading.Lock()
#: The one in use, in all threads.
_active: list[Redirector] = []


@contextlib.contextmanager
def signed_links(name: str | None) -> Iterator[None]:
    """Sign the links of all rasters that this process opens in this context; None for none.

    Raises
    ------
    ConfigError
        There is no such signer.
    """
    if name is None:
        yield
        return
    with _lock:
        if name not in _redirectors:
            _redirectors[name] = Redirector(name)
        _active.append(_redirectors[name])
    try:
        yield
    finally:
        with _lock:
            _active.remove(_redirectors[name])


@atexit.register
def close() -> None:
    """End the processes that redirect."""
    with _lock:
        for redirector in _redirectors.values():
            redirector.close()
        _redirectors.clear()


def readable(path: str) -> str:
    """Return a link as GDAL is to open it: signed when it is read. Other paths stay as they are."""
    link = _LINK.fullmatch(path) if _active else None
    if link is None:
        return path
    # GDAL looks for files beside it, which must not lead to other hosts
    address, mark, query = link[1].partition("?")
    folder, _, name = address.rpartition("/")
    return _active[-1].prefix + "/".join(
        urllib.parse.quote(part, safe="") for part in (folder, name + mark + query)
    )


def readable_vrt(path: str) -> str:
    """Return the text of a VRT with links that are signed when they are read; its path where it has none."""
    if not _active or path.lstrip().startswith("<"):
        return path
    text = Path(path).read_text(encoding="utf-8")
    changed = _SOURCE.sub(lambda match: match[1] + escape(readable(unescape(match[2]))), text)
    return path if changed == text or 'relativeToVRT="1"' in text else changed


def original_text(text: str) -> str:
    """Return a text of GDAL's, such as a message, with the links as they were."""
    for redirector in _redirectors.values():
        prefix = (
            rf"(?:/vsicurl/)?http://{re.escape(_HOST)}:{redirector.port}/{redirector.secret}/([\w.%~/-]*)"
        )
        text = re.sub(prefix, lambda match: urllib.parse.unquote(match[1]), text)
    return text


def why_unsigned() -> str | None:
    """Return why a link could not be signed; None where all were, or none is to be."""
    return (_active[-1].reason() or None) if _active else None


__all__ = ["close", "original_text", "readable", "readable_vrt", "signed_links", "why_unsigned"]
