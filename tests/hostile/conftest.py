"""Fixtures of hostile input."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hostile_input import Ear


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ear]:
    """Give a port that must not be contacted."""
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield Ear(listening)
