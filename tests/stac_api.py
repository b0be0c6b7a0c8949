"""A STAC API for tests, served on this machine from JSON."""

from __future__ import annotations

import http.server
import json
import urllib.parse
from typing import Any

#: It has the left 351 m of the images, which are 640 m wide.
BOX = (14.99, 37.94, 15.004, 37.95)
CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/item-search",
]


class Api(http.server.ThreadingHTTPServer):
    """A STAC API: a landing page, one collection, and a search that gives two items a page."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/stac"
        self.items: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.refusals: list[int] = []  # status codes of the next answers
        self.conforms = CONFORMS
        self.box = BOX
        self.turn = 0  # with a number, the last page links to that many items back
        self.extent: dict[str, Any] = {
            "spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]},
        }  # fmt: skip

    def answer(self, path: str, query: dict[str, Any]) -> dict[str, Any] | None:
        """Return the JSON of an address, None where there is none."""
        collection = {
            "type": "Collection", "id": "s2-l2a", "stac_version": "1.0.0", "description": "x", "license": "x",
            "links": [], "extent": self.extent,
        }  # fmt: skip
        if path == "/stac":
            links = [{"rel": "self", "href": self.url}, {"rel": "data", "href": f"{self.url}/collections"}]
            if self.conforms:
                links += [{"rel": "search", "href": f"{self.url}/search", "method": verb,
                           "type": "application/geo+json"} for verb in ("GET", "POST")]  # fmt: skip
            return {
                "type": "Catalog", "id": "api", "stac_version": "1.0.0", "description": "x",
                "conformsTo": self.conforms, "links": links,
            }  # fmt: skip
        if path == "/stac/collections":
            return {"collections": [collection], "links": []}
        if path == "/stac/collections/s2-l2a":
            return collection
        if path != "/stac/search":
            return None
        assert query["collections"] in ("s2-l2a", ["s2-l2a"])
        assert query.get("bbox") in (list(self.box), None) or query["intersects"]["type"] == "Polygon"
        begin, end = (text[:10] for text in query["datetime"].split("/"))
        hits = [one for one in self.items if begin <= one["properties"]["datetime"][:10] <= end]
        first = int(query.get("from", 0))
        page: dict[str, Any] = {"type": "FeatureCollection", "features": hits[first : first + 2], "links": []}
        if first + 2 < len(hits) or self.turn:
            body = query | {"from": first + 2 if first + 2 < len(hits) else max(first + 2 - self.turn, 0)}
            page["links"] = [{"rel": "next", "href": f"{self.url}/search", "method": "POST", "body": body}]
        return page


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends what the API answers."""

    server: Api

    def do_GET(self) -> None:
        self.send(dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query)))

    def do_POST(self) -> None:
        self.send(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def send(self, query: dict[str, Any]) -> None:
        path = urllib.parse.urlsplit(self.path).path
        self.server.asked.append(path.rpartition("/")[2])
        content = self.server.answer(path, query)
        status = 404 if content is None else 200
        if self.server.refusals:
            status, content = self.server.refusals.pop(0), {"code": "out of order"}
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: object) -> None:
        pass
