"""A server of files whose links end after a moment, for tests: ``python tests/expiring.py FOLDER LOG``.

A process of its own: GDAL may hold the lock of Python's interpreter while it waits for an answer. It prints
its port, and writes the path and query of every request into LOG, with the status of its answer.
"""

from __future__ import annotations

import contextlib
import http.server
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

#: A function as a user writes it: the signature is the time until which it holds.
SIGNER = """
import time

def sign(link):
    if "unknown" in link:
        raise LookupError(f"no token for {{link}}?sig=secret123")
    return f"{{link}}?sig={{time.time() + {seconds}:.3f}}"
"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends files by signed links alone, whole or in ranges."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        until = re.fullmatch(r"sig=([\d.]+)", query)
        file = Path(sys.argv[1]) / path.lstrip("/")
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        content = b""
        if until is None or float(until[1]) < time.time():
            status = 403
        elif not file.is_file():
            status = 404
        else:
            content, status = file.read_bytes(), 206 if match else 200
        first, last = (int(match[1]), int(match[2])) if match else (0, len(content))
        part = content[first : last + 1]
        with Path(sys.argv[2]).open("a") as log:
            log.write(f"{self.command} {self.path} {status} {len(part)}\n")
        self.send_response(status)
        self.send_header("Accept-Ranges", "bytes")
        if match:
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def expiring(folder: Path, log: Path) -> Iterator[str]:
    """Serve a folder, and give the address of it."""
    command = [sys.executable, __file__, str(folder), str(log)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


if __name__ == "__main__":
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_port, flush=True)
        sys.stdin.read()
