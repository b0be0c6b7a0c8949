"""The documents say all there is: nothing that the code has is missing from them."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pytest
from conftest import MakePair
from layers import PACKAGE
from sphinx.util.inventory import InventoryFile

from geocd import errors
from geocd.cli import main
from geocd.config import STAGES, Settings
from geocd.configfile import read_config
from geocd.pipeline.run import detect
from geocd.vectorize.polygons import COLUMNS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
#: Words of a page for users, and of all of them.
PAGE_WORDS, USER_WORDS = 1250, 12_000


def build(source: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build a site with the project's own configuration; a warning fails it, as in ``make docs``."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-c", str(DOCS)]
    return subprocess.run(
        [*command, *options, str(source), str(out)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


class Reference(NamedTuple):
    """The pages that are made from the code: a folder of HTML, and what it was made of."""

    source: Path
    site: Path


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The references of commands and settings, built from their own pages; the API takes longer."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for page in ("commands.md", "settings.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        # links to pages that are not here
        (source / page).write_text(re.sub(r"\[([^]]+)\]\([a-z]+\.md[^)]*\)", r"\1", text), encoding="utf-8")
    (source / "index.md").write_text("# Index\n\n```{toctree}\ncommands\nsettings\n```\n", encoding="utf-8")
    done = build(source, site)
    assert done.returncode == 0, done.stderr
    return Reference(source, site)


def commands(group: click.Group, name: str = "geocd") -> dict[str, click.Command]:
    """Return every command, at any depth, by the words that one types."""
    found: dict[str, click.Command] = {name: group}
    for key, command in group.commands.items():
        found |= commands(command, f"{name} {key}") if isinstance(command, click.Group) else {}
        found[f"{name} {key}"] = command
    return found


def test_every_command_and_option_is_in_the_reference(reference: Reference) -> None:
    inventory = InventoryFile.loads((reference.site / "objects.inv").read_bytes(), uri="")
    there = set(inventory.data["std:cmdoption"])
    known = commands(main)
    assert {"geocd detect", "geocd batch"} <= set(known)
    for name, command in known.items():
        for option in command.params:
            if not isinstance(option, click.Option):
                continue
            assert option.help, f"{name} {option.opts[0]} explains itself"
            for word in option.opts + option.secondary_opts:
                assert f"{name.replace(' ', '-')}.{word}" in there, f"{name} {word}"
    page = (reference.site / "commands.html").read_text(encoding="utf-8")
    headings = set(re.findall(r"<h[1-6]>([^<]+)", page))
    assert {name.split()[-1] for name in known} <= headings


def test_every_setting_is_in_the_reference(reference: Reference) -> None:
    page = (reference.site / "settings.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr[^>]*>\s*<td><p><code[^>]*><span class=\"pre\">([^<]+)", page)
    names = [field.name for kind in STAGES.values() for field in dataclasses.fields(kind)]
    assert [row for row in rows if row in names] == names, "each once, in their order"


def test_the_file_of_settings_can_be_used(reference: Reference) -> None:
    """What the page shows is what ``--config`` takes."""
    shown = read_config(reference.source / "generated" / "geocd.toml")
    assert shown["tile_size"] == 512
    assert shown["method"] == "deep"


def test_the_site_asks_nobody_else(reference: Reference) -> None:
    """Styles, scripts, fonts and pictures are its own: it is built and read without a network."""
    for path in reference.site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//[^\"]+", text), path.name
        assert not re.findall(r"<link[^>]+href=\"(?:https?:)?//[^\"]+", text), path.name
    for path in reference.site.rglob("*.css"):
        assert not re.findall(r"url\([\"']?(?:https?:)?//|@import", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("link", ["[there](nowhere.md)", "[there](#no-such-heading)"])
def test_a_broken_link_fails_the_build(tmp_path: Path, link: str) -> None:
    (tmp_path / "index.md").write_text(f"# Title\n\n{link}\n", encoding="utf-8")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert re.search(r"nowhere|no-such-heading", done.stderr)


def contents() -> dict[str, list[str]]:
    """Return the pages of the contents, by caption."""
    entries = re.findall(
        r"^```\{toctree\}\n:caption: (.*?)\n(.*?)^```",
        (DOCS / "index.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    return {caption: entry.split("\n\n", 1)[1].split() for caption, entry in entries}


def test_every_page_is_in_the_contents() -> None:
    listed = [page for pages in contents().values() for page in pages]
    assert sorted(listed) == sorted(path.stem for path in DOCS.glob("*.md") if path.stem != "index")


def prose(path: Path) -> str:
    """Return the text of a page without its examples, which are not read but copied."""
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_users_read_little() -> None:
    """Five minutes for a page of theirs, an hour for all; what is made from the code is not counted."""
    pages = contents()
    users = [DOCS / f"{page}.md" for page in ("index", *pages["Use"], *pages["Look up"])]
    words = {
        path.name: sum(any(map(str.isalnum, word)) for word in prose(path).split())
        for path in (*users, ROOT / "README.md")
    }
    assert not {name: count for name, count in words.items() if count > PAGE_WORDS}
    assert sum(words.values()) <= USER_WORDS, words


def test_every_module_of_what_computes_is_in_the_reference() -> None:
    pages = "".join((DOCS / page).read_text(encoding="utf-8") for page in ("api.md", "blocks.md"))
    named = set(re.findall(r"^\.\. automodule:: geocd\.(\S+)$", pages, re.MULTILINE))
    named |= {"vectorize.polygons"}  # as what geocd.vectorize re-exports
    packages = ("raster", "tiles", "scene", "method", "vectorize")
    paths = [path for package in packages for path in (PACKAGE / package).glob("[!_]*.py")]
    assert {f"{path.parent.name}.{path.stem}" for path in paths} <= named


def test_every_error_has_its_remedy() -> None:
    table = (DOCS / "errors.md").read_text(encoding="utf-8").partition("## Errors by name")[2]
    named = re.findall(r"^\| `(\w+)` \|.+\|.+\|$", table, re.MULTILINE)
    classes = [
        name
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__ and kind is not errors.GeocdError
    ]
    assert sorted(named) == sorted(classes)


def test_every_exit_code_is_told() -> None:
    table = (DOCS / "errors.md").read_text(encoding="utf-8").partition("## Exit codes")[2]
    told = {
        code for cell in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in cell.split(", ")
    }
    assert told == {"0", "1", "2", "3", "130", "143"}


def test_everything_that_comes_out_is_told(make_pair: MakePair, tmp_path: Path) -> None:
    """Columns of the polygons, and geocd's own properties of the item, of a run with everything."""
    text = "".join((DOCS / page).read_text(encoding="utf-8") for page in ("outputs.md", "item.md"))
    told = set(re.findall(r"`([\w:.]+)`", text))
    assert set(COLUMNS) <= told
    rng = np.random.default_rng(0)
    ground = rng.uniform(0, 100, (3, 64, 64))
    later = ground + rng.normal(0, 2, ground.shape)
    later[:, 20:40, 20:40] += 80
    before, after = make_pair(ground, later)
    settings = Settings.from_flat({"method": "cva", "align": "grid"})
    files, _ = detect(before, after, tmp_path / "valley", settings=settings)
    properties = json.loads(files["item"].read_text(encoding="utf-8"))["properties"]
    own = {name for name in properties if name.startswith("geocd:")}
    assert {"geocd:threshold", "geocd:alignment"} <= own <= told
    assert set(properties["geocd:summary"]) <= told


def test_the_examples_page_shows_every_example() -> None:
    shown = re.findall(r"\.\./examples/(\w+\.\w+)", (DOCS / "examples.md").read_text(encoding="utf-8"))
    there = [path.name for path in (ROOT / "examples").iterdir() if path.suffix in {".py", ".ipynb"}]
    assert set(shown) == set(there)


def test_the_gallery_shows_eight_real_pairs_and_says_whose_they_are() -> None:
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    pictures = re.findall(r"^!\[(.+?)\]\((images/gallery/\S+\.webp)\)", page, re.MULTILINE)
    assert len(pictures) == 8
    for text, path in pictures:
        assert text
        assert 10_000 < (DOCS / path).stat().st_size <= 80_000, path
    credits = re.findall(r"\*(.+?\.)\*$", page, re.MULTILINE)
    assert len(credits) == 8
    assert all(re.search(r"Copernicus Sentinel data 20\d\d|USGS|USDA", credit) for credit in credits)
    assert {path.name for path in (DOCS / "images" / "gallery").iterdir()} == {
        Path(p).name for _, p in pictures
    }
