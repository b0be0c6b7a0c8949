"""Write what the QGIS plugin takes from geocd: choices and defaults of settings, vector formats, verdicts.

    python3 -m qgis_plugin.make_choices

QGIS's Python cannot import geocd, so the plugin reads ``geocd/choices.json``, which is committed. ``make
plugin`` writes it again; a test fails when it is outdated. Needs nothing but Python 3.10 or newer; run it in
the root of the repository.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Literal

from geocd.config import STAGES
from geocd.vectorize.formats import FORMATS

TARGET = Path(__file__).resolve().parent / "geocd" / "choices.json"


def words(annotation: object) -> list[str] | None:
    """Return the words that a setting of this type can have, one or several; None for other types."""
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    if typing.get_origin(annotation) in (types.UnionType, typing.Union, tuple):
        parts = [words(part) for part in typing.get_args(annotation)]
        return next((part for part in parts if part is not None), None)
    return None


def content() -> str:
    """Return the content of ``choices.json``."""
    settings = {}
    for stage in STAGES.values():
        hints = typing.get_type_hints(stage)
        for field in dataclasses.fields(stage):
            settings[field.name] = {"default": field.default, "choices": words(hints[field.name]) or []}
    formats = {suffix: fmt.name for suffix, fmt in FORMATS.items() if fmt.in_qgis}
    return json.dumps({"settings": settings, "formats": formats}, indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(content(), encoding="utf-8", newline="\n")
    print(TARGET)
