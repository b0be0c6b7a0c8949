"""The finished tiles of a run, kept on disk until its outputs are in place.

One file per tile, so that whatever stops a run (Ctrl-C, ``kill -9``, power) costs no more than the tiles in
work. All of them are kept to the end, not only those that the blend still needs: a run that goes on adds
all tiles again, in order, through the same code as an undisturbed run, and so cannot come to another result.
Adding takes a hundredth of the time of computing; the files take some 6 bytes for every pixel of the raster.
"""

from __future__ import annotations

import contextlib
import json
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geocd.types import Float32Array

_RECORD = "run.json"
_SUFFIX = ".tile"


class Checkpoint:
    """A folder of finished tiles, and the record of what they depend on.

    Every file has a checksum inside, and is given its name when it is complete. What is damaged or cut short
    all the same (a power cut may do that) counts as not there: it costs a tile and no error.

    Parameters
    ----------
    folder : pathlib.Path
        Exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return sum(path.suffix == _SUFFIX for path in self.folder.iterdir())

    def holds(self, path: Path) -> bool:
        """Tell whether a file is a finished tile, or the record."""
        return path.suffix == _SUFFIX or path.name == _RECORD

    def begin(self, record: Mapping[str, Any]) -> None:
        """Note what the tiles depend on, before the first of them is saved."""
        self._write(_RECORD, json.dumps(record).encode())

    def record(self) -> dict[str, Any] | None:
        """Return what the tiles depend on; None where no run has begun here."""
        payload = self._read(_RECORD)
        return None if payload is None else dict(json.loads(payload))

    def save(self, index: int, values: Float32Array, counts: Mapping[str, int]) -> None:
        """Keep a tile; may be called from several threads, for a tile each.

        Parameters
        ----------
        index : int
            Place of the tile in its tiling.
        values : ndarray, (bands, height, width), float32
        counts : mapping of int
            What was counted in the tile.
        """
        header = json.dumps({"shape": values.shape, "counts": dict(counts)}).encode()
        self._write(f"{index}{_SUFFIX}", header + b"\n" + values.astype("<f4").tobytes())

    def load(self, index: int) -> tuple[Float32Array, dict[str, int]] | None:
        """Return values and counts of a tile; None where it is not kept."""
        payload = self._read(f"{index}{_SUFFIX}")
        if payload is None:
            return None
        header, _, pixels = payload.partition(b"\n")
        found = json.loads(header)
        return np.frombuffer(pixels, "<f4").reshape(found["shape"]).astype(np.float32), found["counts"]

    def _write(self, name: str, payload: bytes) -> None:
        # Without a sync: the checksum tells what a power cut took, and syncing every tile would be slow.
        temporary = self.folder / f"{name}.{threading.get_ident()}.part"
        with temporary.open("wb") as file:
            file.write(b"%08x\n" % zlib.crc32(payload))
            file.write(payload)
        temporary.replace(self.folder / name)

    def _read(self, name: str) -> bytes | None:
        """Return what was written under a name; None where it is missing or damaged."""
        with contextlib.suppress(OSError):
            content = (self.folder / name).read_bytes()
            if content[:9] == b"%08x\n" % zlib.crc32(content[9:]):
                return content[9:]
        return None


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in words where two records differ; empty where they are equal."""
    now = json.loads(json.dumps(now))  # tuples have become lists in the one that was written
    return [
        f"{name} ({then.get(name)} then, {now.get(name)} now)"
        for name in dict.fromkeys([*now, *then])
        if then.get(name) != now.get(name)
    ]
