"""Input that means harm: how it is refused, and what it must not contact."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from geocd.cli import main

WriteRaster = Callable[..., Path]


def refused(*arguments: object, code: int = 1) -> str:
    """Run a command that must end with one message, and return it."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert result.stderr.startswith(("Error: ", "Usage: ")), result.stderr
    return result.stderr


DEEP = "[" * 100_000


class Ear:
    """A port that nobody answers on, and that notices who knocks."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/x.tif"

    @property
    def heard(self) -> int:
        """How many have knocked since the last time."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.accept()[0].close()
                count += 1
        return count


def vrt(
    path: Path, source: object, *, relative: int = 0, inside: str = "", band: str = "", head: str = ""
) -> Path:
    """Write a VRT of 64 x 64 pixels with one source."""
    path.write_text(
        f'<VRTDataset rasterXSize="64" rasterYSize="64" {head}><SRS>EPSG:32633</SRS>'
        "<GeoTransform>500000, 10, 0, 4200000, 0, -10</GeoTransform>"
        f'<VRTRasterBand dataType="Byte" band="1" {band}>{inside}<SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return path
