"""The site: `make docs` builds it into site/, without a network, and a warning fails it."""

from __future__ import annotations

import dataclasses
import sys
import typing
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

import geocd  # noqa: E402
from geocd.config import PRESETS, STAGES, Settings  # noqa: E402
from geocd.configfile import write_config  # noqa: E402
from geocd.method import terms  # noqa: E402
from geocd.method.extractor import Lite0Features  # noqa: E402
from geocd.raster import bands  # noqa: E402
from geocd.report import products  # noqa: E402
from geocd.vectorize import kinds  # noqa: E402
from geocd.vectorize.formats import FORMATS  # noqa: E402

project = "geocd"
author = "the authors of geocd"
version = release = geocd.__version__

extensions = [
    "myst_parser",  # pages in Markdown, as they are read beside the code
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "numpydoc",  # and not napoleon, which makes nonsense of "before, after : path"
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["generated"]
templates_path: list[str] = []

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

numpydoc_show_class_members = False  # autodoc does
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc says shape, unit and range too
add_module_names = False

html_theme = "furo"  # no font, script or style from elsewhere
html_title = f"geocd {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
smartquotes = False  # they make a dash of the two before an option
html_last_updated_fmt = None  # the same site from the same sources


def settings_reference() -> str:
    """Return one table for each stage of the settings, from what they say of themselves."""
    lines = []
    for stage, kind in STAGES.items():
        first = (kind.__doc__ or "").strip().splitlines()[0]
        lines += [f"### `{stage}`", "", first, "", "| name | type | default | what |", "|---|---|---|---|"]
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            preset = [
                f"{name}: `{getattr(values, field.name)}`"
                for name, values in PRESETS.items()
                if hasattr(values, field.name)
            ]
            default = (
                "; ".join(preset) if preset else "" if field.default in (None, ()) else f"`{field.default}`"
            )
            cells = [
                f"`{field.name}`",
                _type(hints[field.name]),
                default or "-",
                # what stands between < and > or | would be taken for HTML, or for a column
                field.metadata["help"].replace("|", "\\|").replace("<", "&lt;"),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def distances_reference() -> str:
    """Return a table of the distances, from what they say of themselves."""
    lines = [
        "| name | what it sees | weight at "
        + " | at ".join(f"{size:g} m" for size in terms.SIZES)
        + " | typical deviation c | in the gate | reach in pixels |",
        "|---|---|" + "---|" * len(terms.SIZES) + "---|---|---|",
    ]
    for term in terms.TERMS:
        cells = [
            f"`{term.name}`",
            term.description.replace("|", "\\|").replace("<", "&lt;"),
            *(f"{weight:g}" for weight in term.weights),
            f"{term.typical_std}",
            "yes" if term.narrow else "no",
            f"{term.margin(Lite0Features.LEVELS)}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _type(annotation: typing.Any) -> str:
    """Return a type as a user of TOML or of the command line would call it."""
    kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in kinds)
    if typing.get_origin(annotation) is tuple:
        return f"list of {_type(kinds[0])}"
    if kinds:
        return _type(kinds[0])
    return {int: "whole number", float: "number", bool: "yes or no", str: "text"}[annotation]


def formats_reference() -> str:
    """Return the table of the vector formats."""
    lines = ["| suffix | format | what |", "|---|---|---|"]
    for suffix, fmt in FORMATS.items():
        needs = f" Needs {fmt.requires}: `pip install '.[{fmt.extra}]'`." if fmt.requires else ""
        lines.append(f"| `{suffix}` | {fmt.name} | {fmt.note}{needs} |")
    return "\n".join(lines)


def products_reference(stem: str = "valley") -> str:
    """Return the table of the files of a run whose names begin with a stem."""
    rows = [f"| `{stem}{entry.suffix}` | {entry.description} |" for entry in products.PRODUCTS]
    return "\n".join(["| file | what |", "|---|---|", *rows, ""])


def kinds_reference() -> str:
    """Return the table of the rules that tell the kinds of change, in their order."""
    rows = [
        f"| {number} | `{rule.kind}` | {kinds.LABELS[rule.kind]} | {rule.condition} | {rule.source} |"
        for number, rule in enumerate((*kinds.RULES, kinds.UNCLEAR), 1)
    ]
    indices = (
        "NDVI: (nir - red) / (nir + red). MNDWI and NDSI: (green - swir) / (green + swir). NDWI: (green - "
        "nir) / (green + nir). NBR: (nir - swir2) / (nir + swir2). NDBI: (swir - nir) / (swir + nir). NGRDI: "
        "(green - red) / (green + red). The angle is that between the spectra of the dates, in radians."
    )
    head = ["| | `kind` | | where | source |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, "", indices, ""])


def sensor_reference() -> str:
    """Return one table of the sensors whose bands are known by number."""
    lines = [
        f"| sensor | {' | '.join(bands.WORDS)} | recognised by |",
        f"|---|{'---|' * len(bands.WORDS)}---|",
    ]
    for sensor in bands.SENSORS:
        signs = [f"names like `{sensor.pattern}`".replace("|", "\\|")] if sensor.pattern else []
        for numbers, verb in ((sensor.present, "with"), (sensor.absent, "without")):
            if numbers:
                listed = sorted(numbers, key=lambda number: (len(number.rstrip("a")), number))
                signs.append(f"{verb} {', '.join(number.upper() for number in listed)}")
        if sensor.unpadded:
            signs.append("no zero before a number")
        cells = [sensor.name, *(sensor.numbers.get(word, "").upper() for word in bands.WORDS)]
        lines.append(f"| {' | '.join([*cells, '; '.join(signs) or 'none of the others'])} |")
    return "\n".join(lines) + "\n"


def generate(app: Sphinx) -> None:
    """Write what is made from the code, before any page is read."""
    folder = Path(app.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    (folder / "geocd.toml").write_text(write_config(Settings().resolved()), encoding="utf-8")
    (folder / "settings.md").write_text(settings_reference(), encoding="utf-8")
    (folder / "distances.md").write_text(distances_reference(), encoding="utf-8")
    (folder / "formats.md").write_text(formats_reference(), encoding="utf-8")
    (folder / "products.md").write_text(products_reference(), encoding="utf-8")
    (folder / "kinds.md").write_text(kinds_reference(), encoding="utf-8")
    (folder / "sensors.md").write_text(sensor_reference(), encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Let Sphinx call :func:`generate`."""
    app.connect("builder-inited", generate)
