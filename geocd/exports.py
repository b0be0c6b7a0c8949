"""Names that a package hands on to users, imported when they are first asked for.

Inside geocd, code imports from the modules where things stand.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def exported(package: str, *modules: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package that hands on what ``__all__`` names.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    *modules : str
        Where the names stand, below the package; looked through in this order.
    """

    def getattribute(name: str) -> object:
        if name in sys.modules[package].__all__:
            return _find(name, [f"{package}.{module}" for module in modules])
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def directory() -> list[str]:
        return sorted({*vars(sys.modules[package]), *sys.modules[package].__all__})

    return getattribute, directory


def _find(name: str, modules: Sequence[str]) -> object:
    if name.startswith("__"):  # what Python asks of every module: nothing need be imported for it
        raise AttributeError(name)
    for module in map(importlib.import_module, modules):
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"none of {', '.join(modules)} has an attribute {name!r}")


#: Modules of version 0.1, which had no packages, and where their contents stand now.
MOVED = {
    "align": ("raster.warp",),
    "arrays": ("raster.arrays",),
    "bands": ("raster.bands",),
    "checkpoint": ("pipeline.checkpoint",),
    "decision": ("method.decision",),
    "devices": ("method.devices",),
    "direction": ("vectorize.bandmeans",),
    "distances": ("method.classical", "method.irmad"),
    "features": ("method.distance", "method.terms", "method.scaled", "method.residual"),
    "generalize": ("vectorize.generalize",),
    "ignore": ("scene.ignore",),
    "layers": ("vectorize.files", "vectorize.formats"),
    "losses": ("method.losses",),
    "memory": ("pipeline.plan", "heap"),
    "mosaic": ("tiles.mosaic", "tiles.seams"),
    "networks": ("method.networks", "method.weights"),
    "normalize": ("scene.radiometry", "scene.sample"),
    "optimize": ("method.default", "method.learning", "method.reference"),
    "outputs": ("pipeline.transaction", "report.products", "report.fingerprint"),
    "page": ("report.page", "report.words", "report.charts"),
    "pictures": ("report.thumbnails", "report.quicklook"),
    "provenance": ("report.fingerprint",),
    "registration": ("scene.registration",),
    "sources": ("raster.sources",),
    "styles": ("report.styles",),
    "tiling": ("tiles.tiling",),
    "windows": ("method.filters",),
}


class MovedFinder(MetaPathFinder, Loader):
    """Finds the modules of ``MOVED``, so that programs written for version 0.1 still run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what loads a module that has moved; None for any other."""
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, self) if package == "geocd" and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Let Python make an empty module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Look every name up where it stands now."""
        modules = [f"geocd.{name}" for name in MOVED[module.__name__.rpartition(".")[2]]]
        module.__doc__ = f"Has moved to {', '.join(modules)}."
        module.__dict__["__getattr__"] = lambda name: _find(name, modules)


def install() -> None:
    """Let Python find the modules that have moved."""
    if not any(isinstance(finder, MovedFinder) for finder in sys.meta_path):
        sys.meta_path.append(MovedFinder())
