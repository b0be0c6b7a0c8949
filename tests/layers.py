"""The layers of the code, in one table. ``python tests/layers.py`` updates the map in CONTRIBUTING.md."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "geocd"
DOCUMENT = ROOT / "CONTRIBUTING.md"
#: The map stands between these lines.
BEGIN = "<!-- map: made by `python tests/layers.py` from its table and the docstrings of the modules -->"
END = "<!-- end of the map -->"

#: The layers, from the ground up: each unit (a package, or a module that stands alone) with what it holds.
#: A unit imports from its own layer or from those before it, which ``tests/test_architecture.py`` checks.
LAYERS: list[dict[str, str]] = [
    {
        "errors": "every error that geocd raises on purpose",
        "quantities": "numbers in words: areas, shares, days",
        "types": "array types, the progress callback",
        "location": "paths and URLs: their names, links to them, what of them may be shown",
        "replacing": "files that take the place of older ones",
        "exports": "names that packages re-export, and the old names of modules that have moved",
    },
    {
        "findings": "what is odd about a pair or a run, with a severity and a remedy",
        "coercion": "values of settings: their types, and how wrong ones are refused",
        "presets": "what each preset decides",
        "stages": "every setting, once: type, default, help",
        "config": "all settings: as given and as resolved",
        "configfile": "settings in TOML",
        "spelling": "options in messages, as each surface spells them",
        "signatures": "signatures of functions that take settings, spelled out",
        "bars": "progress bars for Python",
        "heap": "memory that the C library holds back",
        "threads": "numbers of threads that belong to the process",
        "machine": "the memory of this machine",
        "signing": "links signed for those who read them: a small server of this machine",
    },
    {"raster": "files to pixels: grids, sensors, windows, warping, pairs, the probability raster"},
    {"tiles": "overlapping tiles, their blending, and how visible their seams are"},
    {"scene": "what is measured once per scene: sample, radiometry, shift, pixels to ignore"},
    {
        "method": "chips to change probability; the only package that imports torch",
        "vectorize": "probability to polygons, and polygons to files",
    },
    {"review": "what a person judges: verdicts, the ranking that they teach, points drawn at random, areas"},
    {"report": "what a run writes about itself: record, STAC item, pictures, HTML report, QGIS styles"},
    {"pipeline": "one pair, from two paths to all products: preparing, tiling, resuming, committing"},
    {
        "check": "whether two rasters are a usable pair",
        "environment": "versions, devices and memory that geocd runs on",
        "dataset": "the result of `geocd.detect` as a Dataset",
        "result": "it as polygons, picture and map",
        "xarray": "detection on DataArrays and Datasets",
        "rerun": "a run repeated from its STAC item, and compared",
    },
    {"batch": "many pairs on a dask cluster"},
    # apart from the data flow: detection must know nothing of reference maps
    {"metrics": "scores of arrays against a reference"},
    {"evaluate": "scores of files against a reference"},
    {"cli": "options in, exit codes out; the only package that imports click"},
    {"__main__": "python -m geocd"},
]


def first_line(path: Path) -> str:
    """Return the first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, f"{path} has no docstring"
    return docstring.splitlines()[0].replace("``", "`")


def modules(package: Path) -> list[Path]:
    """Return the files of a package, and the packages in it, by name."""
    files = [path for path in package.glob("*.py") if path.name != "__init__.py"]
    return sorted([*files, *(path.parent for path in package.glob("*/__init__.py"))])


def code_map() -> str:
    """Return the map: packages in their order with what each holds, and their modules."""
    lines = []
    for number, layer in enumerate(LAYERS, 1):
        for name, content in layer.items():
            folder = PACKAGE / name
            path = f"geocd/{name}/" if folder.is_dir() else f"geocd/{name}.py"
            lines.append(f"- **{number}** [`{path.removeprefix('geocd/')}`]({path}): {content}")
            for module in modules(folder):
                file = module / "__init__.py" if module.is_dir() else module
                link = file.relative_to(ROOT).as_posix()
                title = module.name + "/" if module.is_dir() else module.stem
                lines.append(f"  - [`{title}`]({link}): {first_line(file)}")
    return "\n".join(lines)


def updated(text: str) -> str:
    """Return the text of CONTRIBUTING.md with the present map."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{code_map()}\n\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(updated(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
