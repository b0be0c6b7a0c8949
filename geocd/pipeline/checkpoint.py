"""The finished tiles of a run, saved on disk until its outputs are in place.

One file per tile, so that whatever stops a run (Ctrl-C, ``kill -9``, a power cut) loses only the tiles being
computed. All of them are kept to the end, not only those that the blend still needs: a resumed run blends
all tiles again, in order, by the same code as an uninterrupted run, and so gives the same result. Blending
takes a hundredth of the time of computing; the files take some 6 bytes per pixel of the raster.
"""

from __future__ import annotations

import contextlib
import json
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

from geocd.types import Float32Array

#: What tiles depend on, by the names used in messages; JSON values.
Dependencies: TypeAlias = Mapping[str, object]

_RECORD = "run.json"
_SUFFIX = ".tile"


class Checkpoint:
    """A folder of finished tiles, and the record of what they depend on.

    Every file contains a checksum and gets its name once it is complete. A file that is damaged or truncated
    nevertheless (by a power cut, say) counts as missing: its tile is computed again.

    Parameters
    ----------
    folder : pathlib.Path
        An existing folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return sum(path.suffix == _SUFFIX for path in self.folder.iterdir())

    def holds(self, path: Path) -> bool:
        """Return whether a file is a finished tile or the record."""
        return path.suffix == _SUFFIX or path.name == _RECORD

    def begin(self, record: Dependencies) -> None:
        """Write the record of what the tiles depend on, before the first of them is saved."""
        self._write(_RECORD, json.dumps(record).encode())

    def record(self) -> Dependencies | None:
        """Return what the tiles depend on; None where no run has begun here."""
        payload = self._read(_RECORD)
        return None if payload is None else dict(json.loads(payload))

    def save(self, index: int, values: Float32Array, counts: Mapping[str, int]) -> None:
        """Save a tile; threads may save different tiles at the same time.

        Parameters
        ----------
        index : int
            Index of the tile in its tiling.
        values : ndarray, (bands, height, width), float32
            Probability, and uncertainty where it is computed, in [0, 1]; NaN where not valid.
        counts : mapping of int
            Pixels of the tile by kind, see :func:`geocd.scene.ignore.ignored_counts`.
        """
        header = json.dumps({"shape": values.shape, "counts": dict(counts)}).encode()
        self._write(f"{index}{_SUFFIX}", header + b"\n" + values.astype("<f4").tobytes())

    def load(self, index: int) -> tuple[Float32Array, dict[str, int]] | None:
        """Return values and counts of a tile, as passed to :meth:`save`; None where it is not saved."""
        payload = self._read(f"{index}{_SUFFIX}")
        if payload is None:
            return None
        header, _, pixels = payload.partition(b"\n")
        fields = json.loads(header)
        return np.frombuffer(pixels, "<f4").reshape(fields["shape"]).astype(np.float32), fields["counts"]

    def _write(self, name: str, payload: bytes) -> None:
        # Without a sync: the checksum reveals what a power cut damaged, and syncing every tile would be slow.
        temporary = self.folder / f"{name}.{threading.get_ident()}.part"
        with temporary.open("wb") as file:
            file.write(b"%08x\n" % zlib.crc32(payload))
            file.write(payload)
        temporary.replace(self.folder / name)

    def _read(self, name: str) -> bytes | None:
        """Return the payload of a file; None where it is missing or damaged."""
        with contextlib.suppress(OSError):
            content = (self.folder / name).read_bytes()
            if content[:9] == b"%08x\n" % zlib.crc32(content[9:]):
                return content[9:]
        return None


def differences(previous: Mapping[str, object], current: Mapping[str, object]) -> list[str]:
    """Describe where two records differ.

    Parameters
    ----------
    previous : mapping
        As read from JSON.
    current : mapping
        Values that JSON can hold; a tuple equals a list.

    Returns
    -------
    list of str
        One text for each name whose values differ, those of ``current`` first.
    """
    current = json.loads(json.dumps(current))  # tuples have become lists in the one that was written
    return [
        f"{name} (was {previous.get(name)}, is now {current.get(name)})"
        for name in dict.fromkeys([*current, *previous])
        if previous.get(name) != current.get(name)
    ]
