"""Arrows point one way: who may import what, read from the source without running it.

Rules hold for imports inside functions and for those that only type checkers see: a lazy import is a matter
of speed, not of layers.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from layers import LAYERS, PACKAGE

#: Who may import a package or module, inside a function or not; everybody else may not. Units or modules.
ONLY = {
    "torch": {"method"},
    "safetensors": {"method.weights"},
    "click": {"cli"},
    "dask": {"batch", "dataset", "xarray"},
    "distributed": {"batch"},
    "rioxarray": {"raster.arrays"},
    "xarray": {"raster.arrays", "dataset", "result", "xarray", "evaluate"},
    "pystac": {"batch"},
    "pystac_client": {"batch"},
    "boto3": {"batch"},
    "botocore": {"batch"},
    "pyarrow": {"vectorize.formats"},
    "geopandas": {"vectorize", "review", "evaluate", "result", "xarray"},
    "jinja2": {"report.page"},
    "PIL": {"report"},
    "geocd.metrics": {"cli", "evaluate"},
    "geocd.evaluate": {"cli"},
    "geocd.method": {"pipeline", "environment", "dataset", "xarray", "report"},
}

#: What would make ``geocd --help`` slow or drag torch into the classical methods.
NEVER_AT_IMPORT = {
    "pipeline": {"geocd.method.default", "geocd.method.reference", "geocd.method.devices"},
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
    # the tiles need the memory that these take; the polygons come after them
    "vectorize": {"geopandas", "pandas", "pyogrio", "pyarrow"},
}


def sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def module(path: Path) -> str:
    """The dotted name below ``geocd``; of a package's ``__init__`` the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def unit(path: Path) -> str:
    """The module, or the sub-package, that a file belongs to."""
    return module(path).partition(".")[0]


def imports(tree: ast.AST, *, lazy: bool = True) -> Iterator[tuple[str, int]]:
    """Yield every imported module as a dotted name, with its line.

    ``from geocd import raster`` counts as ``geocd.raster``. Without ``lazy``, what is imported inside
    functions or for type checking alone is left out.
    """
    for node in ast.iter_child_nodes(tree):
        if not lazy:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                continue
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
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


def layer(name: str) -> int:
    for number, units in enumerate(LAYERS):
        if name in units:
            return number
    pytest.fail(f"geocd.{name} stands in no layer: give it its place in LAYERS")


@every_source
def test_arrows_point_one_way(path: Path) -> None:
    own = unit(path)
    if own == "__init__":
        for name, line in imports(parse(path), lazy=False):
            assert not within(name, "geocd") or within(name, "geocd.exports"), (
                f"line {line}: importing geocd must stay instant"
            )
        return
    for name, line in imports(parse(path)):
        if not name.startswith("geocd."):
            continue
        other = name.split(".")[1]
        if other.startswith("__") or other == own:
            continue
        assert layer(other) <= layer(own), f"{path.name}:{line}: {own} must not import {name}"


def graph(*, files: bool) -> dict[str, set[str]]:
    """Which module (or, without ``files``, which unit) imports which, functions and types included."""
    modules = {module(path): path for path in sources() if unit(path) != "__init__"}
    arrows: dict[str, set[str]] = {}
    for own, path in modules.items():
        # what a package hands on by its __init__ is no arrow: the code imports from the modules themselves
        if path.name == "__init__.py" and len(path.relative_to(PACKAGE).parts) > 1 and files:
            arrows[own] = set()
            continue
        targets = {name.removeprefix("geocd.") for name, _ in imports(parse(path)) if within(name, "geocd")}
        known = {name for name in targets if name in modules}
        if files:
            arrows[own] = known - {own}
        else:
            arrows.setdefault(unit(path), set()).update(
                name.partition(".")[0] for name in known if name.partition(".")[0] != unit(path)
            )
    return arrows


@pytest.mark.parametrize("files", [False, True], ids=["units", "files"])
def test_no_circles(files: bool) -> None:
    """Imports form no circle, neither between packages nor between files, even within one layer."""
    arrows = graph(files=files)
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name in done:
            return
        for other in arrows.get(name, ()):
            visit(other, (*trail, name))
        done.add(name)

    for name in arrows:
        visit(name, ())


@every_source
def test_code_imports_from_where_things_stand(path: Path) -> None:
    """Names that a package hands on are for users: inside, importing them from there hides an arrow."""
    packages = {module(p) for p in sources() if p.name == "__init__.py" and p.parent != PACKAGE}
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and node.module and within(node.module, "geocd"):
            name = node.module.removeprefix("geocd.")
            if name not in packages or path.name == "__init__.py" or name == "report.styles":
                continue
            for alias in node.names:
                there = PACKAGE / name.replace(".", "/") / f"{alias.name}.py"
                folder = there.with_suffix("")
                assert there.exists() or folder.is_dir(), f"{path.name}:{node.lineno}: {name}.{alias.name}"


@every_source
def test_packages_stay_where_they_belong(path: Path) -> None:
    for name, line in imports(parse(path)):
        for package, users in ONLY.items():
            if within(name, package) and not within(f"geocd.{module(path)}", package):
                assert {unit(path), module(path)} & users, (
                    f"{path.name}:{line}: only {sorted(users)} may import {package}"
                )


@every_source
def test_slow_imports_stay_inside_functions(path: Path) -> None:
    for name, line in imports(parse(path), lazy=False):
        for other in NEVER_AT_IMPORT.get(unit(path), ()):
            assert not within(name, other), f"{path.name}:{line}: import {name} where it is needed"


#: What may open rasters: to read, to hold what is warped, to write the result.
OPENERS = {"raster.files", "raster.reading", "raster.writer"}


@every_source
def test_only_raster_opens_rasters(path: Path) -> None:
    if module(path) in OPENERS:
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
    "command",
    [
        ["--help"],
        ["--version"],
        ["detect", "--help"],
        ["evaluate", "--help"],
        ["batch", "--help"],
        ["polygonize", "--help"],
    ],
)
def test_help_imports_nothing_slow(command: list[str]) -> None:
    code = (
        "import sys\nfrom geocd.cli import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        "slow = {'torch', 'rasterio', 'geopandas', 'pandas', 'scipy', 'shapely', 'pyproj', 'PIL',\n"
        "        'pyogrio', 'pyarrow', 'dask', 'distributed', 'xarray'}\n"
        "print('SLOW', sorted(slow & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.endswith("SLOW []\n"), done.stdout.splitlines()[-1]


@pytest.mark.parametrize("method", ["deep", "irmad"])
def test_a_run_imports_only_what_it_uses(method: str, make_pair: Any, scene: Any, tmp_path: Path) -> None:
    """Each of these takes from a tenth of a second to seconds, which a small pair would pay for."""
    unused = {"dask", "distributed", "xarray", "rioxarray", "pystac", "matplotlib", "sklearn", "sympy"}
    unused |= {"torch._dynamo", "torch._inductor", "torch.onnx", "torchvision"}
    unused |= {f"scipy.{name}" for name in ("stats", "optimize", "interpolate", "signal")}
    unused |= {f"geocd.{name}" for name in ("batch", "evaluate", "metrics", "xarray", "method.reference")}
    if method != "deep":
        unused |= {"torch", "safetensors"}
    code = (
        "import sys\nfrom geocd.pipeline.run import detect\nfrom geocd.config import Settings\n"
        "detect(*sys.argv[1:4], settings=Settings.from_flat({'method': sys.argv[4]}))\n"
        "print('IMPORTED', *sorted(sys.modules))\n"
    )
    pair = make_pair(scene(), scene(seed=1))
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, pair), str(tmp_path / "run"), method]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert not unused & set(done.stdout.split())


def test_importing_geocd_is_instant() -> None:
    code = (
        "import sys, geocd; assert 'detect' in dir(geocd); "
        "print(sorted({'torch', 'rasterio', 'numpy', 'xarray'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
