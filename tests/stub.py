"""``python tests/stub.py`` writes ``geocd/__init__.pyi``: geocd's functions with all settings spelled out."""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path

import geocd
from geocd.xarray import detect

STUB = Path(geocd.__file__).with_suffix(".pyi")
HEAD = '''"""Unsupervised change detection for pairs of satellite and aerial images.

Made by ``python tests/stub.py`` from the settings; editors and type checkers read it.
"""

import os
from collections.abc import Sequence

import xarray as xr
from geopandas import GeoDataFrame

from geocd.check import PairReport
from geocd.metrics import Scores
from geocd.presets import Fit, Preset
from geocd.result import Probability
from geocd.stages import Align, CloudChoice, Focus, Ignorable, Kind, MaskClass, Method, Nodata
from geocd.types import Progress
from geocd.xarray import Raster

__version__: str
__all__: list[str]
'''


def stub() -> str:
    """Return the stub."""
    functions = [geocd.check.check, detect, geocd.evaluate.evaluate, geocd.polygonize, geocd.refine]  # type: ignore[attr-defined]
    return HEAD + "".join(map(_function, functions))


def _function(function: object) -> str:
    """Return a function of the stub, with its documentation."""
    signature = inspect.signature(function)  # type: ignore[arg-type]
    lines = [f"def {function.__name__}("]  # type: ignore[attr-defined]
    starred = False
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            lines.append("    *,")
            starred = True
        default = "" if parameter.default is inspect.Parameter.empty else f" = {_literal(parameter.default)}"
        lines.append(f"    {parameter.name}: {parameter.annotation}{default},")
    lines.append(f") -> {signature.return_annotation}:")
    document = inspect.getdoc(function)
    return "\n" + "\n".join(lines) + "\n" + textwrap.indent(f'"""{document}\n"""\n', "    ")


def _literal(value: object) -> str:
    """Return a default as ruff writes it."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' * (len(value) == 1)})"
    return f'"{value}"' if isinstance(value, str) else repr(value)


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
