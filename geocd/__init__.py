"""Unsupervised change detection for pairs of satellite and aerial images."""

from __future__ import annotations

import importlib

from geocd.exports import install

__version__ = "0.2.0"

#: What is called from here, and the module that defines it, imported when it is first asked for: numpy,
#: xarray and rasterio take a second. ``geocd/__init__.pyi`` has their signatures.
_FUNCTIONS = {
    "check": "check",
    "detect": "xarray",
    "evaluate": "evaluate",
    "polygonize": "result",
    "refine": "result",
}
__all__ = ["__version__", *sorted(_FUNCTIONS)]

install()


def __getattr__(name: str) -> object:
    """Import a function when it is first asked for."""
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"geocd.{_FUNCTIONS[name]}")
    return module if name == _FUNCTIONS[name] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_FUNCTIONS} - {"annotations", "importlib", "install"})
