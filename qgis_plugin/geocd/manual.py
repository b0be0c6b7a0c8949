"""Where the manual is: ``help.html`` of the plugin, or the pages of a checkout. Knows nothing of QGIS."""

from __future__ import annotations

from pathlib import Path

HELP = Path(__file__).with_name("help.html")


def manual(section: str = "") -> str:
    """Return the URL of the manual, at the section of a command."""
    if HELP.is_file():
        return HELP.as_uri() + (f"#{section}" if section else "")
    page = Path(__file__).resolve().parents[2] / "docs" / "qgis.md"
    return page.as_uri() if page.is_file() else ""
