"""Signed links: tokens of the Planetary Computer, from a server on this machine."""

from __future__ import annotations

import datetime
import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from geocd import signing
from geocd.signing import PlanetaryComputer, Server, signer

LINK = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/33/U/UP/B04.tif"


class Tokens(http.server.ThreadingHTTPServer):
    """Gives out numbered tokens that hold for ``life`` seconds; first it fails ``failures`` times."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), TokenHandler)
        self.life, self.failures = 3600.0, 0
        self.asked: list[tuple[str, str | None]] = []


class TokenHandler(http.server.BaseHTTPRequestHandler):
    server: Tokens

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Ocp-Apim-Subscription-Key")))
        self.server.failures -= 1
        now = datetime.datetime.now(datetime.timezone.utc)
        end = now + datetime.timedelta(seconds=self.server.life)
        token = f"se=x&sig=t{len(self.server.asked)}"
        text = json.dumps({"msft:expiry": f"{end:%Y-%m-%dT%H:%M:%SZ}", "token": token}).encode()
        self.send_response(503 if self.server.failures >= 0 else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tokens]:
    monkeypatch.setattr(signing, "_WAITS", (0.0, 0.01))
    with Tokens() as server:
        monkeypatch.setenv("PC_SDK_SAS_URL", f"http://127.0.0.1:{server.server_port}/token/")
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def test_a_container_has_one_token_until_it_ends(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", "key")
    sign = signer("planetary-computer")
    assert sign(LINK) == f"{LINK}?se=x&sig=t1"
    assert sign(f"{LINK}?se=old&sig=old") == f"{LINK}?se=x&sig=t1", "an older signature is replaced"
    assert sign(LINK.replace("sentinel2-l2", "other")).endswith("sig=t2")
    assert tokens.asked == [
        ("/token/sentinel2l2a01/sentinel2-l2", "key"), ("/token/sentinel2l2a01/other", "key"),
    ]  # fmt: skip
    assert sign("https://elsewhere.org/a.tif") == "https://elsewhere.org/a.tif"
    tokens.life = -1.0
    again = PlanetaryComputer()
    assert again(LINK) != again(LINK), "a token that has ended is replaced"


def test_a_server_of_tokens_that_fails(tokens: Tokens) -> None:
    tokens.failures = 2
    assert PlanetaryComputer()(LINK).endswith("sig=t3"), "it is asked again"
    tokens.failures = 9
    with pytest.raises(OSError, match=r"/token/sentinel2l2a01/sentinel2-l2 answered with HTTP 503"):
        PlanetaryComputer()(LINK)
    server = Server(PlanetaryComputer(), "secret")
    assert server.signed(LINK) is None
    assert "answered with HTTP 503" in server.reason
    server.sign = lambda link: f"{link}?sig=1"
    assert server.signed(LINK) == f"{LINK}?sig=1"
    assert server.reason == "", "the reason was that of the last link"
    server.server_close()
