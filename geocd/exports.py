"""Names that a package re-exports, imported on first use; and modules of version 0.1 under their old names.

These are for users: code inside geocd imports from the defining modules.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def exported(package: str, *modules: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package that re-exports the names in its ``__all__``.

    Parameters
    ----------
    package : str
        ``__name__`` of the package.
    *modules : str
        Modules below the package that define the names; searched in this order.

    Returns
    -------
    getattribute, directory : callable
    """

    def getattribute(name: str) -> object:
        if name in sys.modules[package].__all__:
            return _find(name, [f"{package}.{module}" for module in modules])
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def directory() -> list[str]:
        return sorted({*vars(sys.modules[package]), *sys.modules[package].__all__})

    return getattribute, directory


class CallableModule(ModuleType):
    """A module that is called as the function of its name: ``geocd.check(...)``.

    Python makes an imported module an attribute of its package, where the function of that name would stand.
    """

    def __call__(self, *args: object, **options: object) -> object:
        """Call the function."""
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        """That of the function, for completion and help."""
        return inspect.signature(getattr(self, self.__name__.rpartition(".")[2]))


def make_callable(module: str) -> None:
    """Let a module be called as the function of its name."""
    sys.modules[module].__class__ = CallableModule


def _find(name: str, modules: Sequence[str]) -> object:
    if name.startswith("__"):  # looked up by Python on every module: no reason to import
        raise AttributeError(name)
    for module in map(importlib.import_module, modules):
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"none of {', '.join(modules)} has an attribute {name!r}")


#: Modules of version 0.1, which had no packages, and the modules that their contents have moved to.
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
    """Imports the modules in ``MOVED``, so that programs written for version 0.1 still run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module that has moved; None for any other."""
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, self) if package == "geocd" and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return None: Python creates the module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Give the module a ``__getattr__`` that imports names from where they have moved."""
        modules = [f"geocd.{name}" for name in MOVED[module.__name__.rpartition(".")[2]]]
        module.__doc__ = f"Moved to {', '.join(modules)}."
        module.__dict__["__getattr__"] = lambda name: _find(name, modules)


def install() -> None:
    """Install the finder, once."""
    if not any(isinstance(finder, MovedFinder) for finder in sys.meta_path):
        sys.meta_path.append(MovedFinder())
