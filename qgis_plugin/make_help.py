"""Write the manual that the Help button opens, from the pages for users; ``make plugin`` runs it.

    python -m qgis_plugin.make_help

One page without scripts or anything from elsewhere, so that it opens without a network. Needs markdown-it-py,
which myst-parser brings.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "qgis_plugin" / "geocd" / "help.html"
#: The pages, and the commands whose Help button leads there.
PAGES = {
    "qgis": ("detect",),
    "reading": (),
    "outputs": ("polygonize",),
    "kinds": (),
    "batch-series": ("series",),
    "judging": ("sample", "estimate", "refine"),
    "troubleshooting": ("check",),
    "errors": (),
}
STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:46em;margin:2em auto;padding:0 1em;color:#202428}"
    "code{background:#f2f2f2}pre{background:#f2f2f2;padding:.6em;overflow:auto}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .5em;vertical-align:top}"
)


def content() -> str:
    """Return the page: those pages of the manual that exist, one after the other."""
    markdown = MarkdownIt().enable("table")
    parts = []
    for name, commands in PAGES.items():
        path = ROOT / "docs" / f"{name}.md"
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"^```\{.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)  # made from the code
        text = re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", text)  # pages that are not here
        anchors = "".join(f'<a id="{command}"></a>' for command in commands)
        parts.append(f'<section id="{name}">{anchors}\n{markdown.render(text)}</section>')
    title = html.escape("geocd in QGIS")
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</html>\n"
    )


if __name__ == "__main__":
    TARGET.write_text(content(), encoding="utf-8")
