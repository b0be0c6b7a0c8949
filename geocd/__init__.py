"""Unsupervised change detection for pairs of satellite and aerial images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geocd.exports import install

if TYPE_CHECKING:
    from geocd.xarray import detect

__version__ = "0.1.0"
__all__ = ["__version__", "detect"]

install()


def __getattr__(name: str) -> Any:
    """Import :func:`geocd.detect` when it is first asked for: numpy, xarray and rasterio take a second."""
    if name != "detect":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from geocd.xarray import detect

    return detect


def __dir__() -> list[str]:
    hidden = {"Any", "TYPE_CHECKING", "annotations", "install"}
    return sorted({*globals(), "detect"} - hidden)
