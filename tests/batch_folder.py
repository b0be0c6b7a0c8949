"""Batches for tests: settings, the command, and what it has left in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from geocd.batch import manifest as manifests
from geocd.cli import main
from geocd.config import Settings

CVA = Settings.from_flat({"method": "cva"})


TILED = Settings.from_flat({"method": "cva", "tile_size": 64, "overlap": 16})


SUFFIXES = ("_prob.tif", "_prob.qml", "_changes.gpkg", "_changes.qml", "_quicklook.png")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes that a batch promises to repeat; item and report hold times."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.glob("*/*"))
        if path.name.endswith(SUFFIXES)
    }


def states(folder: Path) -> dict[str, str]:
    return {name: record["state"] for name, record in manifests.read(folder)[0].items()}


def lines(folder: Path, state: str) -> list[dict[str, Any]]:
    text = (folder / manifests.NAME).read_text(encoding="utf-8")
    return [line for line in map(json.loads, text.splitlines()) if line.get("state") == state]
