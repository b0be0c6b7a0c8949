"""The files of one run: their names, and what they are."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from geocd.errors import OutputError
from geocd.location import Location

SUFFIXES = {
    "prob": "_prob.tif",
    "prob_style": "_prob.qml",
    "changes": "_changes.gpkg",
    "changes_style": "_changes.qml",
    "quicklook": "_quicklook.png",
    "report": "_report.html",
    "item": ".json",
}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def default_stem(before: str, after: str) -> Path:
    """Return ``<before>_<after>`` in the current folder, from the file names without extension."""
    return Path(f"{Location(before).stem}_{Location(after).stem}")


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Names of the files that one run writes beside each other.

    Parameters
    ----------
    stem : pathlib.Path
        Folder and the beginning of every file name.

    Raises
    ------
    OutputError
        The stem names a folder and no file in it.
    """

    stem: Path

    def __post_init__(self) -> None:
        if self.stem.name in ("", ".."):
            raise OutputError(
                f"{self.stem}: there is no name for the outputs, only a folder. Give --output the beginning "
                f"of their names too, for instance {self.stem / 'result'}",
                path=str(self.stem),
            )

    @property
    def folder(self) -> Path:
        """The hidden folder of a run; its name is fixed, so that the next run finds it."""
        return self.stem.with_name(f".{self.stem.name}.geocd")

    def path(self, key: str) -> Path:
        """Return the final path of one output, a key of ``SUFFIXES``."""
        return self.stem.with_name(self.stem.name + SUFFIXES[key])

    def paths(self) -> dict[str, Path]:
        """Return all final paths by key."""
        return {key: self.path(key) for key in SUFFIXES}
