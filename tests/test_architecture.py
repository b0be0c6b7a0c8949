"""Arrows point one way: who may import what, read from the source without running it.

Rules hold for imports inside functions too: a lazy import is a matter of speed, not of layers.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import geocd

PACKAGE = Path(geocd.__file__).parent

#: The layers, from the ground up. A module imports from its own layer or from those before it; each
#: module stands in exactly one, and a new module must be given its place here.
LAYERS: list[set[str]] = [
    {"errors", "types", "config", "configfile", "bands", "checkpoint", "sources"},
    {
        "raster",
        "arrays",
        "outputs",
        "tiling",
        "normalize",
        "devices",
        "networks",
        "losses",
        "features",
        "windows",
        "decision",
        "distances",
        "ignore",
        "align",
        "direction",
        "generalize",
        "layers",
        "registration",
        "memory",
    },
    {"styles", "optimize", "mosaic", "vectorize", "pictures", "report", "provenance", "page"},
    {"pipeline", "environment", "check"},
    {"xarray", "rerun"},
    {"batch"},
    # beside the way of the data: agreement with a reference, of which detection must know nothing
    {"metrics"},
    {"evaluate"},
    {"cli"},
    {"__main__"},
]

#: Who may import a package or module, inside a function or not; everybody else may not.
ONLY = {
    "torch": {"devices", "features", "networks", "losses", "optimize", "windows"},
    "safetensors": {"networks"},
    "click": {"cli"},
    "dask": {"batch", "xarray"},
    "distributed": {"batch"},
    "rioxarray": {"arrays"},
    "xarray": {"arrays", "xarray"},
    "pystac": {"batch"},
    "pystac_client": {"batch"},
    "boto3": {"batch"},
    "botocore": {"batch"},
    "pyarrow": {"layers"},
    "geopandas": {"layers", "vectorize", "evaluate"},
    "geocd.metrics": {"cli", "evaluate"},
    "geocd.evaluate": {"cli"},
    "geocd.optimize": {"pipeline"},
    "geocd.devices": {"environment", "features", "optimize", "pipeline"},
    "geocd.features": {"optimize"},
}

#: What would make ``geocd --help`` slow or drag torch into the classical methods.
NEVER_AT_IMPORT = {
    "pipeline": {"geocd.optimize"},
    "cli": {
        "geocd.batch",
        "geocd.pipeline",
        "geocd.evaluate",
        "geocd.metrics",
        "geocd.raster",
        "numpy",
        "rasterio",
    },
    "raster": {"pyproj"},
}


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """The module, or the sub-package, that a file belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(tree: ast.AST, *, lazy: bool = True) -> Iterator[tuple[str, int]]:
    """Yield every imported module as a dotted name, with its line.

    ``from geocd import raster`` counts as ``geocd.raster``. Imports for type checking alone do not count.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if not lazy and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports hide where things come from"
            assert node.module is not None
            yield node.module, node.lineno
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno
        else:
            yield from imports(node, lazy=lazy)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


every_source = pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))


def layer(module: str) -> int:
    for number, modules in enumerate(LAYERS):
        if module in modules:
            return number
    pytest.fail(f"geocd.{module} stands in no layer: give it its place in LAYERS")


@every_source
def test_arrows_point_one_way(path: Path) -> None:
    own = unit(path)
    if own == "__init__":
        for name, line in imports(parse(path), lazy=False):
            assert not within(name, "geocd"), f"line {line}: importing geocd must stay instant"
        return
    for name, line in imports(parse(path)):
        if not name.startswith("geocd."):
            continue
        other = name.split(".")[1]
        if other.startswith("__") or other == own:
            continue
        assert layer(other) <= layer(own), f"{path.name}:{line}: {own} must not import {name}"


def test_no_circles() -> None:
    """Within a layer, too, imports form no circle."""
    graph = {
        unit(path): {
            name.split(".")[1] for name, _ in imports(parse(path)) if name.startswith("geocd.")
        } - {unit(path)}
        for path in sources()
    }  # fmt: skip
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module in done:
            return
        for other in graph.get(module, ()):
            if other in graph:
                visit(other, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@every_source
def test_packages_stay_where_they_belong(path: Path) -> None:
    for name, line in imports(parse(path)):
        for package, users in ONLY.items():
            if within(name, package) and not within(f"geocd.{unit(path)}", package):
                assert unit(path) in users, f"{path.name}:{line}: only {sorted(users)} may import {package}"


@every_source
def test_slow_imports_stay_inside_functions(path: Path) -> None:
    for name, line in imports(parse(path), lazy=False):
        for other in NEVER_AT_IMPORT.get(unit(path), ()):
            assert not within(name, other), f"{path.name}:{line}: import {name} where it is needed"


@every_source
def test_only_raster_opens_rasters(path: Path) -> None:
    if unit(path) == "raster":
        return
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("rasterio", "open"), f"{path.name}:{node.lineno}"
        if isinstance(node, ast.ImportFrom) and node.module == "rasterio":
            assert "open" not in {alias.name for alias in node.names}, f"{path.name}:{node.lineno}"


@every_source
def test_the_library_neither_prints_nor_exits(path: Path) -> None:
    if unit(path) == "cli":
        return
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "exit", "quit", "sys.exit", "os._exit"}, (
                f"{path.name}:{node.lineno}"
            )


def test_no_module_for_everything() -> None:
    names = {path.stem for path in sources()}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


@pytest.mark.parametrize(
    "command", [["--help"], ["--version"], ["detect", "--help"], ["evaluate", "--help"], ["batch", "--help"]]
)
def test_help_imports_nothing_slow(command: list[str]) -> None:
    code = (
        "import sys\nfrom geocd.cli import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        "slow = {'torch', 'rasterio', 'geopandas', 'pandas', 'scipy', 'shapely', 'pyproj', 'PIL',\n"
        "        'dask', 'distributed', 'xarray'}\n"
        "print('SLOW', sorted(slow & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.endswith("SLOW []\n"), done.stdout.splitlines()[-1]


def test_importing_geocd_is_instant() -> None:
    code = (
        "import sys, geocd; assert 'detect' in dir(geocd); "
        "print(sorted({'torch', 'rasterio', 'numpy', 'xarray'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
