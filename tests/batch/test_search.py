"""A search of a STAC API, served on this machine from JSON."""

from __future__ import annotations

import datetime
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from stac_api import BOX, CONFORMS, Api

from geocd.batch import search as searches
from geocd.batch.search import Search, find, read_geometry
from geocd.batch.sources import SourceOptions, read_pairs
from geocd.cli import main
from geocd.config import Settings
from geocd.errors import PairsError, SearchError

DAYS = (datetime.date(2023, 6, 10), datetime.date(2024, 6, 10))


@pytest.fixture
def api(tmp_path: Path, write_raster: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Serve five items of one tile: three around the first day, one around the second, one far from both."""
    monkeypatch.setattr(searches, "BACKOFF", 0.01)
    with Api() as server, ThreadPoolExecutor(1) as pool:
        days = ("2023-06-01", "2023-06-09", "2023-06-20", "2024-06-02", "2024-01-01")
        for number, day in enumerate(days):
            name = f"S2_{day}"
            values = np.random.default_rng(number).normal(1000, 100, (2, 64, 64)).astype(np.float32)
            values[:, 10:30, 10:30] += 1500 * (number == 3)
            path = write_raster(name, values)
            server.items.append(
                {
                    "type": "Feature", "stac_version": "1.0.0", "id": name, "collection": "s2-l2a",
                    "geometry": None, "links": [{"rel": "self", "href": f"{server.url}/items/{name}"}],
                    "properties": {"datetime": f"{day}T10:00:00Z", "grid:code": "MGRS-33UUP",
                                   "eo:cloud_cover": 90.0 if number == 1 else 1.0},
                    "assets": {"visual": {"href": path.as_uri()}, "thumbnail": {"href": f"../{name}.png"}},
                }
            )  # fmt: skip
        pool.submit(server.serve_forever, 0.05)
        try:
            yield server
        finally:
            server.shutdown()


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def test_the_command_searches_once_and_does_what_was_found(api: Api, cluster: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        "batch", api.url, out, "--collection", "s2-l2a", "--bbox", *BOX, "--dates", *DAYS, "--max-cloud", 20,
        "--assets", "visual", "--method", "cva", "--scheduler", cluster,
    ]  # fmt: skip
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    # the 9th is nearer, but cloudy
    name = "MGRS-33UUP_20230601_20240602"
    item = json.loads((out / name / f"{name}.json").read_text())
    assert item["properties"]["start_datetime"] == "2023-06-01T10:00:00Z"
    assert item["properties"]["proj:shape"] == [64, 35], "what lies in the area of the search"
    assert item["properties"]["geocd:settings"]["aoi"].startswith("SRID=4326;POLYGON ((15.004 37.94,")
    (found,) = (out / "sources").glob("items-*.json")
    content = json.loads(found.read_text())
    assert content["geocd:search"] == {
        "url": api.url, "collection": "s2-l2a", "bbox": list(BOX),
        "datetime": ["2023-05-11/2023-07-10", "2024-05-11/2024-07-10"],
    }  # fmt: skip
    assert [one["id"] for one in content["features"]] == [one["id"] for one in api.items[:4]]
    assert content["features"][0]["assets"]["thumbnail"]["href"] == f"{api.url}/S2_2023-06-01.png"

    api.items[3]["properties"]["datetime"] = "2024-06-30T10:00:00Z"  # it would answer otherwise now
    asked = len(api.asked)
    again = invoke(*command)
    assert "1 pairs done (0 in this run)" in again.stderr
    assert len(api.asked) == asked, "what was found is kept"


def test_an_interval_and_a_geometry(api: Api, tmp_path: Path) -> None:
    ring = [[12, 52], [13, 52], [13, 53], [12, 52]]
    shape = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    (tmp_path / "area.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [shape]}))
    area = read_geometry(str(tmp_path / "area.geojson"))
    search = Search(url=api.url, collection="s2-l2a", intersects=area, interval="2023-06-05/2024-05-31")
    found = json.loads(find(search, tmp_path / "out").read_text())
    assert [one["id"] for one in found["features"]] == ["S2_2023-06-09", "S2_2023-06-20", "S2_2024-01-01"]
    assert api.asked == ["stac", "s2-l2a", "search", "search"], "by pages"
    options = SourceOptions(
        collection="s2-l2a",
        intersects=str(tmp_path / "area.geojson"),
        interval=search.interval,
        assets=("visual",),
    )
    pairs = read_pairs(api.url, tmp_path / "out", options)
    assert [pair.area for pair in pairs] == [str(tmp_path / "area.geojson")] * 2
    assert pairs[0].merged(Settings()).read.aoi == pairs[0].area
    asked = Settings.from_flat({"aoi": "1 2 3 4"})
    assert pairs[0].merged(asked) == asked, "what the command asks for comes first"
    (tmp_path / "area.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(PairsError, match=r"cannot be read as GeoJSON.*no geometry"):
        read_geometry(str(tmp_path / "area.geojson"))


def test_an_api_that_fails_for_a_while_is_asked_again(api: Api, tmp_path: Path) -> None:
    api.refusals = [503, 429, 500, 502]
    search = Search(url=api.url, collection="s2-l2a", bbox=BOX, dates=DAYS)
    assert find(search, tmp_path).is_file()
    (tmp_path / "other").mkdir()
    api.refusals = [500] * 100
    with pytest.raises(SearchError, match=r"kept answering with HTTP 500 .*out of order"):
        find(search, tmp_path / "other")
    api.refusals = [403]
    with pytest.raises(SearchError, match=r": answered with HTTP 403 .*Check the address"):
        find(search, tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize("turn", [2, 4])
def test_an_api_whose_pages_go_round_in_a_circle(
    turn: int, api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next link of the last page leads to itself, or to the page before."""
    api.turn = turn
    search = Search(url=api.url, collection="s2-l2a", bbox=BOX, interval="2023-01-01/2025-01-01")
    found = json.loads(find(search, tmp_path).read_text())
    assert sorted(item["id"] for item in found["features"]) == sorted(item["id"] for item in api.items)
    assert api.asked.count("search") == 4, "three pages, and one that brings nothing new"
    assert "page 4 has the items of earlier pages alone" in caplog.text


def test_a_search_without_end_is_left(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(searches, "MOST_PAGES", 2)
    monkeypatch.setattr(searches, "_INTERVAL", 0.0)
    search = Search(url=api.url, collection="s2-l2a", bbox=BOX, interval="2023-01-01/2025-01-01")
    with pytest.raises(SearchError, match=r"goes on after 2 pages \(4 items\)\. Choose a smaller area"):
        find(search, tmp_path)
    assert "2 items on 1 pages" in caplog.text, "progress"
    assert not (tmp_path / "sources").exists()


@pytest.mark.parametrize("extent", [{}, {"spatial": {}, "temporal": {}}, {"spatial": {"bbox": []}}, None])
def test_the_extent_of_a_collection_is_not_needed(extent: Any, api: Api, tmp_path: Path) -> None:
    api.extent = extent
    search = Search(url=api.url, collection="s2-l2a", bbox=BOX, dates=DAYS)
    assert len(json.loads(find(search, tmp_path).read_text())["features"]) == 4


def test_what_an_api_does_not_have(api: Api, tmp_path: Path) -> None:
    command = ["batch", api.url, tmp_path / "out", "--bbox", *BOX, "--assets", "visual"]
    result = invoke(*command, "--dates", *DAYS, "--collection", "s2-l2b")
    assert result.exit_code == 1
    assert "has no collection 's2-l2b' (among its 1: s2-l2a)" in result.stderr
    result = invoke(*command, "--datetime", "1990-01-01/1991-01-01", "--collection", "s2-l2a")
    assert result.exit_code == 1
    assert "no items in s2-l2a for --bbox 14.99 37.94 15.004 37.95 in 1990-01-01/1991-01-01" in result.stderr
    api.conforms = CONFORMS[:1]
    result = invoke(*command, "--dates", *DAYS, "--collection", "s2-l2a")
    assert "declares no item search" in result.stderr
    result = invoke("batch", f"{api.url}/x", *command[2:], "--dates", *DAYS, "--collection", "s2-l2a")
    assert "answered with HTTP 404" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_host_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "BACKOFF", 0.01)
    url = "http://127.0.0.1:9/stac?token=secret"
    with pytest.raises(
        SearchError, match=r"^http://127.0.0.1:9/stac: cannot be reached \(.*Connection refused\)\. Check"
    ) as told:
        find(Search(url=url, collection="x", bbox=BOX, dates=DAYS), tmp_path)
    assert "secret" not in str(told.value)


def test_a_host_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(searches.TIMEOUT) <= 60  # seconds
    for name, value in {"TIMEOUT": (0.1, 0.1), "BACKOFF": 0.01, "RETRIES": 1}.items():
        monkeypatch.setattr(searches, name, value)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/stac"
        with pytest.raises(SearchError, match=r"cannot be reached \(.*[Rr]ead timed out.* Check the address"):
            find(Search(url=url, collection="x", bbox=BOX, dates=DAYS), tmp_path)


def test_a_search_needs_an_area_a_time_and_a_collection(tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="W S E N in degrees"):
        Search(url="http://x", collection="x", bbox=(500_000, 4e6, 500_100, 5e6), dates=DAYS)
    for left in (["--collection", "c"], ["--bbox", *BOX], ["--dates", *DAYS]):
        given = {"--collection": ["c"], "--bbox": BOX, "--dates": DAYS}
        del given[left[0]]
        words = [word for name, values in given.items() for word in (name, *values)]
        result = invoke("batch", "https://127.0.0.1:9/stac", tmp_path / "out", *words)
        assert result.exit_code == 2, left
        assert "That needs --collection, an area" in result.stderr.replace("\n", " ")
    assert invoke("batch", "pairs.csv", tmp_path, "--bbox", *BOX).exit_code == 2
