"""Servers that accept a connection and never answer: they are not waited for for ever, and named."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from commands import MakePair, scene
from hostile_input import refused

from geocd.errors import RasterOpenError
from geocd.raster.files import open_raster
from geocd.raster.network import LIMITS, limit_waiting, why_no_answer

SHORT = {"GDAL_HTTP_TIMEOUT": "0.3", "GDAL_HTTP_MAX_RETRY": "0", "no_proxy": "127.0.0.1"}


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the address of a server that accepts and is silent."""
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    for name, value in SHORT.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    "form",
    ["{}/x.tif?sig=SECRET1", "/vsicurl/{}/x.tif", "zip+{}/p.zip!x.tif",
     "/vsizip/{{/vsicurl/{}/p.zip}}/x.tif"],
)  # fmt: skip
def test_a_silent_server_is_named(form: str, silent: str) -> None:
    begin = time.monotonic()
    with pytest.raises(RasterOpenError) as error:
        open_raster(form.format(silent))
    assert time.monotonic() - begin < 5
    assert f"the server ({silent}) did not answer within 0.3 s" in str(error.value)
    assert "set GDAL_HTTP_TIMEOUT to the seconds in the environment" in str(error.value)
    assert "SECRET" not in str(error.value)


def test_what_the_user_has_set_holds(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_waiting()
    set_by_geocd = LIMITS.keys() - {"GDAL_HTTP_TIMEOUT"}
    assert {name: os.environ[name] for name in set_by_geocd} == {name: LIMITS[name] for name in set_by_geocd}
    assert os.environ["GDAL_HTTP_TIMEOUT"] == "0.3"
    assert silent
    for name in LIMITS:
        monkeypatch.delenv(name)
    with rasterio.Env(GDAL_HTTP_LOW_SPEED_TIME=7):
        limit_waiting()
    assert "GDAL_HTTP_LOW_SPEED_TIME" not in os.environ
    assert os.environ["GDAL_HTTP_TIMEOUT"] == LIMITS["GDAL_HTTP_TIMEOUT"]


def test_the_limits_are_minutes_at_most() -> None:
    assert set(LIMITS) == {"GDAL_HTTP_CONNECTTIMEOUT", "GDAL_HTTP_TIMEOUT", "GDAL_HTTP_LOW_SPEED_TIME",
                           "GDAL_HTTP_LOW_SPEED_LIMIT"}  # fmt: skip
    assert int(LIMITS["GDAL_HTTP_CONNECTTIMEOUT"]) <= 30
    assert int(LIMITS["GDAL_HTTP_LOW_SPEED_TIME"]) <= 60
    assert int(LIMITS["GDAL_HTTP_TIMEOUT"]) <= 300


@pytest.mark.parametrize(
    ("reason", "seconds", "limit"),
    [
        ("CURL error: Operation too slow. Less than 100 bytes/sec transferred the last 30 seconds", "30 s",
         "GDAL_HTTP_LOW_SPEED_TIME"),
        ("CURL error: Connection timed out after 10001 milliseconds", "10 s", "GDAL_HTTP_CONNECTTIMEOUT"),
        ("CURL error: Failed to connect to h port 80 after 10002 ms: Timeout was reached", "10 s",
         "GDAL_HTTP_CONNECTTIMEOUT"),
        ("CURL error: Operation timed out after 300001 milliseconds with 0 bytes received", "300 s",
         "GDAL_HTTP_TIMEOUT"),
    ],
)  # fmt: skip
def test_the_limit_that_was_reached_is_named(reason: str, seconds: str, limit: str) -> None:
    message = why_no_answer("s3://bucket/x.tif", reason)
    assert message is not None
    assert f"the server (s3://bucket) did not answer within {seconds}." in message
    assert limit in message
    message = why_no_answer("/data/x.vrt", reason)
    assert message is not None
    assert "a server that it refers to did not answer" in message


def test_other_reasons_are_not_taken_for_it() -> None:
    assert why_no_answer("http://host/x.tif", "HTTP response code: 404", 0.1) is None
    assert why_no_answer("http://host/x.zip", "x.zip does not exist", 0.1) is None
    assert why_no_answer("/data/x.tif", "Read error at scanline 3", 1000) is None


def test_every_command_ends(silent: str, make_pair: MakePair, tmp_path: Path) -> None:
    before, after = make_pair(*scene(height=64, width=72))
    prob = tmp_path / "prob.tif"
    with rasterio.open(before) as dataset:
        profile = dataset.profile | {"dtype": "float32", "count": 1, "nodata": None}
    with rasterio.open(prob, "w", **profile) as dataset:
        dataset.write(np.zeros((1, *dataset.shape), np.float32))
    url = f"{silent}/x.tif"
    for command in (
        ("check", before, url),
        ("detect", url, after, "-o", tmp_path / "y"),
        ("detect", before, after, "--valid", url, "-o", tmp_path / "y", "--method", "cva"),
        ("evaluate", url, before),
        ("evaluate", prob, url),
        ("polygonize", url),
    ):
        assert f"the server ({silent}) did not answer within 0.3 s" in refused(*command), command


SERVER = """
import http.server, pathlib, re, sys, time
data = pathlib.Path(sys.argv[1]).read_bytes()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.serve(False)
    def do_GET(self):
        self.serve(True)
    def serve(self, body):
        if not self.path.endswith("x.tif"):
            self.send_error(404)
            return
        begin, end = map(int, re.findall(r"\\d+", self.headers.get("Range", f"0-{len(data) - 1}")))
        if body and begin:
            time.sleep(60)
        end = min(end, len(data) - 1)
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(end - begin + 1))
        self.send_header("Content-Range", f"bytes {begin}-{end}/{len(data)}")
        self.end_headers()
        if body:
            self.wfile.write(data[begin : end + 1])
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
"""


def test_a_server_that_falls_silent_while_pixels_are_read(make_pair: MakePair, silent: str) -> None:
    assert silent
    noise = np.random.default_rng(0).integers(0, 60000, (3, 256, 256)).astype(np.float32)
    before, after = make_pair(noise, noise[:, ::-1])
    command = [sys.executable, "-c", SERVER, str(before)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        message = refused("check", f"{url}/x.tif", after)
        server.terminate()
    assert f"the server ({url}) did not answer within 0.3 s" in message
