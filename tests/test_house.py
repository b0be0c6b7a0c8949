"""The house stays one to live in: files and functions of a readable size, types for facts, the field's names.

Counted in the source with ``ast``, without running it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Lines of a file; of a function, without its docstring; parameters of a function, without self and cls.
FILE_LINES, FUNCTION_LINES, PARAMETERS = 500, 60, 8
#: Mappings of strings to anything, where JSON, TOML and options are read and written; 91 before the packages.
LOOSE_MAPPINGS = 35
#: Arguments, variables and fields that may be anything; 38 before the packages.
LOOSE_VARIABLES = 19
#: Packages whose facts have types of their own: they read and write no JSON.
TYPED = {"raster", "tiles", "scene", "method", "vectorize"}
#: Names that say how a value came about, not what it is; and pairs that have an order with a name.
VAGUE = {"found", "told", "known", "given", "kept", "asked", "somewhere", "nobody"}
VAGUE_PAIR = {"one", "two"}
#: Share of the functions that may have one of them.
VAGUE_SHARE = 0.02

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


FILES = [
    *python_files("geocd", "qgis_plugin", "tests", "benchmarks", "training", "examples", "release"),
    *sorted((ROOT / "docs").glob("*.py")),
]
PROGRAMS = python_files("geocd", "qgis_plugin")
PACKAGE = python_files("geocd")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions(tree: ast.AST) -> Iterator[Function]:
    """Yield the functions and methods, those inside others too."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def lines(function: Function) -> int:
    """Count the lines of a function, its signature with them and its docstring without."""
    assert function.end_lineno is not None
    count = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        count -= docstring.end_lineno - docstring.lineno + 1
    return count


def arguments(function: Function) -> list[ast.arg]:
    """Return all arguments, ``*args`` and ``**kwargs`` with them."""
    args = function.args
    variadic = [arg for arg in (args.vararg, args.kwarg) if arg is not None]
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *variadic]


def parameters(function: Function) -> int:
    """Count the parameters, without a first one called self or cls."""
    names = [arg.arg for arg in arguments(function)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def locals_of(function: Function) -> set[str]:
    """Return the names that a function binds: parameters, assigned names, those of its comprehensions."""
    bound = {arg.arg for arg in arguments(function)}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.Lambda):
            bound.update(arg.arg for arg in node.args.args)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return bound


def is_vague(function: Function) -> bool:
    bound = locals_of(function)
    return bool(bound & VAGUE) or bound >= VAGUE_PAIR


def loose_mappings(tree: ast.AST) -> list[int]:
    """Return the line of every ``dict[str, Any]`` and ``Mapping[str, Any]``."""
    loose = {"dict[str, Any]", "Mapping[str, Any]"}
    return [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Subscript) and ast.unparse(n) in loose]


def loose_variables(tree: ast.AST) -> list[int]:
    """Return the line of every argument, variable or field whose type is ``Any``."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.arg | ast.AnnAssign)
        and isinstance(node.annotation, ast.Name)
        and node.annotation.id == "Any"
    ]


def marks(find: Callable[[ast.AST], list[int]]) -> list[str]:
    """Return ``file:line`` of all that is counted in the package."""
    return [f"{name_of(path)}:{line}" for path in PACKAGE for line in find(parse(path))]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_is_long(path: Path) -> None:
    count = len(path.read_text(encoding="utf-8").splitlines())
    assert count <= FILE_LINES, f"{count} lines: split it where its subject changes"


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_no_function_is_long(path: Path) -> None:
    long = [
        f"line {function.lineno}: {function.name} has {lines(function)} lines"
        for function in functions(parse(path))
        if lines(function) > FUNCTION_LINES
    ]
    assert not long, "; ".join(long)


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_no_function_has_many_parameters(path: Path) -> None:
    if path.is_relative_to(ROOT / "geocd" / "cli"):
        return  # a command has a parameter for each of its options
    many = [
        f"line {function.lineno}: {function.name} has {parameters(function)} parameters"
        for function in functions(parse(path))
        if parameters(function) > PARAMETERS
    ]
    assert not many, "; ".join(many)


def test_facts_have_types() -> None:
    loose = marks(loose_mappings)
    assert len(loose) <= LOOSE_MAPPINGS, "\n".join(loose)


@pytest.mark.parametrize("package", sorted(TYPED))
def test_what_computes_knows_no_loose_mapping(package: str) -> None:
    loose = [mark for mark in marks(loose_mappings) if mark.startswith(f"geocd/{package}/")]
    assert not loose, "\n".join(loose)


def test_few_variables_may_be_anything() -> None:
    loose = marks(loose_variables)
    assert len(loose) <= LOOSE_VARIABLES, "\n".join(loose)


def test_names_say_what_a_value_is() -> None:
    total, vague = 0, []
    for path in PACKAGE:
        for function in functions(parse(path)):
            total += 1
            if is_vague(function):
                names = sorted(locals_of(function) & (VAGUE | VAGUE_PAIR))
                vague.append(f"{name_of(path)}:{function.lineno}: {function.name}: {', '.join(names)}")
    assert len(vague) <= VAGUE_SHARE * total, "\n".join(vague)


SAMPLE = '''
class House:
    def method(self, a, /, b: Any, *args: int, c: dict[str, Any], **options: Any) -> Any:
        """One line,

        and more.
        """
        found: Any = [one for one in a if (two := one)]
        return found
'''


def test_what_is_counted() -> None:
    tree = ast.parse(SAMPLE)
    (method,) = functions(tree)
    assert (lines(method), parameters(method)) == (3, 5)
    assert locals_of(method) == {"self", "a", "b", "args", "c", "options", "found", "one", "two"}
    assert is_vague(method)
    assert len(loose_mappings(tree)) == 1
    assert len(loose_variables(tree)) == 3
