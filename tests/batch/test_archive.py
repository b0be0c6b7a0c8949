"""The catalogue of a batch: links to all items that exist, and whatever others have added."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from geocd.batch.archive import write_catalog

FOREIGN = {"rel": "child", "href": "./mosaics/catalog.json", "type": "application/json"}


def finish(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir()
        (folder / name / f"{name}.json").write_text("{}")


def content(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "catalog.json").read_text(encoding="utf-8"))
    return loaded


def links(folder: Path) -> list[str]:
    return [link["href"] for link in content(folder)["links"]]


@pytest.mark.parametrize("manifest", [True, False])  # False: it was deleted too, and a new batch runs
@pytest.mark.parametrize("gone", ["folder", "item"])
def test_a_link_to_what_is_gone_goes(gone: str, manifest: bool, tmp_path: Path) -> None:
    finish(tmp_path, "a", "b", "c")
    write_catalog(tmp_path, ["a", "b", "c"])
    if gone == "folder":
        shutil.rmtree(tmp_path / "b")
    else:
        (tmp_path / "b" / "b.json").unlink()
    write_catalog(tmp_path, ["a", "b"] if manifest else ["a"], ["c"] if manifest else [])
    expected = ["./catalog.json", "./a/a.json", *([] if manifest else ["./c/c.json"])]
    assert links(tmp_path) == expected
    assert content(tmp_path)["description"].startswith("Changes between 1 pairs")


def test_what_others_have_added_stays(tmp_path: Path) -> None:
    """Links to what geocd does not know, and fields; the description is geocd's until it is edited."""
    finish(tmp_path, "a", "b")
    write_catalog(tmp_path, ["a"])
    catalog = content(tmp_path)
    own = {"rel": "item", "href": "./mine/mine.json", "title": "Mine", "type": "application/geo+json"}
    catalog["links"] += [FOREIGN, own]
    catalog["keywords"] = ["floods"]
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    for _ in range(2):
        write_catalog(tmp_path, ["a", "b"])
        hrefs = ["./catalog.json", "./a/a.json", "./b/b.json", "./mosaics/catalog.json", "./mine/mine.json"]
        assert links(tmp_path) == hrefs
        assert content(tmp_path)["keywords"] == ["floods"]
        assert content(tmp_path)["description"].startswith("Changes between 2 pairs")
    named = {**content(tmp_path), "description": "Floods of May.", "id": "floods", "title": "Floods"}
    (tmp_path / "catalog.json").write_text(json.dumps(named))
    write_catalog(tmp_path, ["a"], ["b"])
    expected = {**named, "links": [link for link in named["links"] if link.get("title") != "b"]}
    assert content(tmp_path) == expected


@pytest.mark.parametrize("text", ["", "[]", "{", '{"type": "FeatureCollection", "features": []}', "a note"])
def test_a_file_that_is_no_catalogue_is_kept(text: str, tmp_path: Path) -> None:
    (tmp_path / "catalog.json").write_text(text)
    finish(tmp_path, "a")
    write_catalog(tmp_path, ["a"])
    assert links(tmp_path) == ["./catalog.json", "./a/a.json"]
    (copy,) = tmp_path.glob("catalog.edited-*.json")
    assert copy.read_text() == text


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.json"
    foreign.write_text('{"type": "Catalog", "links": []}')
    for name in ("catalog.json", ".catalog.json"):
        (tmp_path / name).symlink_to(foreign)
    finish(tmp_path, "a")
    write_catalog(tmp_path, ["a"])
    assert foreign.read_text() == '{"type": "Catalog", "links": []}'
    assert links(tmp_path) == ["./catalog.json", "./a/a.json"]
