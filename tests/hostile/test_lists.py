"""Lists, items, manifests of batches and settings that mean harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hostile_input import DEEP, Ear, refused

from geocd.batch.pairs import Item
from geocd.cli import main
from geocd.config import Settings
from geocd.errors import PairsError
from geocd.pipeline.run import detect


@pytest.mark.parametrize(
    "name",
    ["../up", "..", "/etc/x", "a/b", "a\\b", "C:x", "con", "NUL", "nul.txt", "Com1.tif", "a\0b", "-rf", "~",
     "a\n", "x.", " ", "ａ", "a" * 101, "a\u202eb", "manifest.jsonl", "Catalog.json", "a:b", "a*"],
)  # fmt: skip
def test_ids_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="id "):
        Item(name, "before.tif", "after.tif")


def test_a_list_whose_ids_lead_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("id,before,after\n../../up,a.tif,b.tif\n")
    message = refused("batch", path, tmp_path / "out")
    assert "line 2: id '../../up': cannot be the name of a folder" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        DEEP,
        '{"features": 1}',
        '{"features": [1]}',
        '{"stac_version": [], "type": "Catalog", "id": "x", "description": "", "links": []}',
        '{"type": "FeatureCollection", "features": [{"stac_version": "1.0.0", "type": "Feature"}, "x"]}',
        '{"stac_version": "1.0.0", "type": "FeatureCollection", "features": ' + DEEP,
        '{"stac_version": "1.0.0", "type": "Catalog", "id": "x", "description": "", '
        '"links": [{"rel": "child", "href": "./x.json"}]}',
        '{"type": "FeatureCollection", "features": [{"stac_version": "1.0.0", "type": "Feature", "id": 7, '
        '"geometry": null, "links": [], "assets": {"a": {"href": 5, "roles": ["data"]}}, '
        '"properties": {"datetime": "2024-01-01T00:00:00Z", "grid:code": []}}, {"stac_version": "1.0.0", '
        '"type": "Feature", "id": 7, "geometry": null, "links": [], "assets": {}, '
        '"properties": {"datetime": "2024-01-02T00:00:00Z", "grid:code": [], "eo:cloud_cover": "x"}}]}',
    ],
)
def test_json_that_is_no_list_of_pairs(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    message = refused("batch", path, tmp_path / "out")
    assert str(path) in message
    assert len(message) < 1000


def test_a_catalogue_is_not_followed_to_the_network(ear: Ear, tmp_path: Path) -> None:
    path = tmp_path / "catalog.json"
    link = {"rel": "item", "href": ear.url}
    content = {"type": "Catalog", "stac_version": "1.0.0", "id": "x", "description": "", "links": [link]}
    path.write_text(json.dumps(content))
    assert "a catalogue links to it, and the link is not followed" in refused("batch", path, tmp_path / "out")
    assert ear.heard == 0


def test_a_memory_of_a_batch_that_was_altered(tmp_path: Path) -> None:
    good = {"id": "good", "state": "failed", "error": "GridError", "message": "no \x1b[31mred", "seconds": 1}
    bad: list[Any] = [
        good | {"id": "../../up"},
        good | {"id": ["a"]},
        good | {"id": None},
        good | {"id": "a", "state": {}},
        good | {"id": "a", "seconds": "long"},
        good | {"id": "a", "seconds": 10**400},
        good | {"id": "a", "message": 5},
        {"id": "a", "state": "done", "config": "0", "inputs": [], "outputs": {}},
        {
            "id": "a",
            "state": "done",
            "config": "0",
            "inputs": {},
            "outputs": {"../x": {"size": 1, "sha256": ""}},
        },
        {"settings": [1]},
        [],
    ]
    lines = [json.dumps(line) for line in [*bad, good]] + [DEEP, "{", "\0"]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    result = CliRunner().invoke(main, ["batch", "--status", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "0 done, 1 failed, 0 sent, 0 pending"
    assert "\x1b" not in result.stdout
    assert result.stdout.startswith("good  failed")


def test_an_item_does_not_decide_what_is_fetched(
    ear: Ear, make_pair: Callable[..., tuple[Path, Path]], scene: Callable[..., Any], tmp_path: Path
) -> None:
    settings = Settings.from_flat({"method": "cva"})
    files, _ = detect(*make_pair(scene(), scene(seed=1)), tmp_path / "x", settings=settings)
    item = json.loads(files["item"].read_text())
    before = next(link for link in item["links"] if str(link.get("title")).startswith("before"))
    good = before["href"]
    for href in (ear.url, f"/vsicurl/{ear.url}"):
        before["href"] = href
        files["item"].write_text(json.dumps(item))
        assert "its before is on the network" in refused("rerun", files["item"])
    assert ear.heard == 0
    before["href"] = good
    for name, hostile in (
        ("assets", []),
        ("assets", {"prob": "x"}),
        ("properties", None),
        ("links", {"a": 1}),
        ("links", [{"rel": "derived_from", "title": 5, "href": 7}]),
    ):
        files["item"].write_text(json.dumps(item | {name: hostile}))
        assert "not the STAC item of a geocd run" in refused("rerun", files["item"])
    files["item"].write_text(DEEP)
    assert "cannot be read as JSON" in refused("rerun", files["item"])


@pytest.mark.parametrize(
    "text",
    ["seed = 1\nseed = 2", "a = " + DEEP, 'tile_size = "x', "tile_size = 1e400",
     "min_area = inf", f"seed = 1{'0' * 5000}",
     "min_area = 1" + "0" * 400, "bidx = [[1]]", "\0", "[x]\na = 1", 'method = "<script>"'],
)  # fmt: skip
def test_settings_that_are_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    message = refused("detect", "a.tif", "b.tif", "--config", path, code=2)
    assert len(message) < 1500
