"""The report in a real browser, without a network: seen, sorted, filtered, judged, exported, printed."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from conftest import GRID, run_record
from PIL import Image
from report_page import HOSTILE, write

from geocd.vectorize.kinds import KindTotal

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium: install it, or name it in CHROMIUM")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with three places (ids 1, 2, 3 from above): of 10 000, 5000 and 20 pixels."""
    folder = tmp_path_factory.mktemp("report")
    before = np.full((3, 600, 800), 40)
    before[:, :, ::8] = 200
    after = before.copy()
    after[:, 500:504, 300:305] = 90
    prob = np.zeros((600, 800))
    prob[100:200, 100:200] = 0.9
    prob[400:450, 500:600] = 0.8
    prob[500:504, 300:305] = 0.6
    columns: dict[str, list[Any]] = {
        "kind": ["burnt", "water_gain", "burnt"],
        "became": ["vegetation → burnt ground", "bare → water", None],
        "kind_why": ["NBR 0.60 → 0.10: <b>it</b> fell", 'NDWI -0.20 → 0.40: "wet", water', "dark: burnt"],
        "verdict": [None, None, None],
        "relevance": [0.9, 0.4, 0.2],
    }
    totals = [KindTotal("burnt", "vegetation → burnt ground", 1, 1e6), KindTotal("water_gain", None, 1, 5e5)]
    run = run_record(before=HOSTILE, summary={"kinds": totals})
    path, _ = write(folder, run, prob, before=before, after=after, columns=columns)
    return path


@pytest.fixture
def shown(browser: Any, report: Path) -> Iterator[Any]:
    """The page, opened without a network; fails at the end if it complained or asked for anything."""
    context = browser.new_context(
        offline=True,
        viewport={"width": 1280, "height": 900},
        has_touch=True,
        reduced_motion="reduce",
        accept_downloads=True,
    )
    opened = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("dialog", lambda dialog: complaints.append(dialog.message))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(report.as_uri())
    yield opened
    assert complaints == []
    assert {url for url in requests if not url.startswith(("data:", "blob:"))} == {report.as_uri()}
    context.close()


def ids(opened: Any) -> list[int]:
    return [int(text) for text in opened.locator("#list tbody th").all_inner_texts()]


def stage(opened: Any) -> np.ndarray:
    opened.wait_for_timeout(150)  # images are decoded beside the script
    with Image.open(io.BytesIO(opened.locator("#stage").screenshot())) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def choose(opened: Any, place: int) -> None:
    opened.get_by_role("button", name=f"Show place {place}", exact=True).click()


def download(opened: Any, button: str, folder: Path) -> Path:
    with opened.expect_download() as waiting:
        opened.get_by_role("button", name=button, exact=True).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_the_list_is_sorted_and_filtered(shown: Any) -> None:
    assert ids(shown) == [1, 2, 3]
    assert shown.locator("th:has([data-sort=relevance])").get_attribute("aria-sort") == "descending"
    shown.get_by_role("button", name="relevance", exact=True).click()
    assert ids(shown) == [3, 2, 1]
    shown.locator("[name=relevance]").fill("0.3")
    assert ids(shown) == [2, 1]
    shown.get_by_role("button", name="Reset").click()
    shown.get_by_role("button", name="area", exact=True).click()
    assert ids(shown) == [1, 2, 3]
    shown.get_by_role("button", name="area", exact=True).click()
    assert ids(shown) == [3, 2, 1]
    assert shown.locator("th:has([data-sort=area_m2])").get_attribute("aria-sort") == "ascending"
    shown.get_by_role("button", name="relevance", exact=True).click()
    assert ids(shown) == [1, 2, 3]
    assert not shown.get_by_role("button", name="mean P", exact=True).count(), "the list has room for one"
    shown.get_by_label("Area from").fill("400000")
    assert ids(shown) == [1, 2]
    assert shown.locator("#count").inner_text() == "2 of 3 places, 150 ha"
    shown.locator("[name=least]").fill("0.85")
    assert ids(shown) == [1]
    shown.get_by_role("button", name="Reset").click()
    assert ids(shown) == [1, 2, 3]


def test_places_of_one_kind_and_why_they_are(shown: Any) -> None:
    assert shown.locator("#list td:nth-child(2)").all_inner_texts() == ["burnt", "water gained", "burnt"]
    shown.get_by_label("burnt (2)").uncheck()
    assert ids(shown) == [2]
    shown.get_by_role("button", name="burnt", exact=True).click()  # in "what became of what"
    assert ids(shown) == [1, 3]
    shown.get_by_role("button", name="kind", exact=True).click()
    assert ids(shown) == [1, 3]
    choose(shown, 1)
    facts = shown.locator("#detail").inner_text()
    assert "Place 1: burnt" in facts
    assert "NBR 0.60 → 0.10: <b>it</b> fell" in facts, "text, whatever it looks like"


def test_a_place_of_twenty_pixels_fills_the_map_and_nothing_covers_it(shown: Any) -> None:
    whole = stage(shown)
    choose(shown, 3)
    near = stage(shown)
    assert (near != whole).any()
    shown.get_by_role("button", name="After", exact=True).click()
    near = stage(shown)
    grey = (np.abs(near - 90).max(axis=2) <= 12).sum()
    assert grey > 20 * 12**2, "20 pixels, each of at least 12 x 12 on the screen"
    shown.get_by_role("button", name="Before", exact=True).click()
    assert (np.abs(stage(shown) - 90).max(axis=2) <= 12).sum() < grey / 10
    sizes = [shown.locator(f"#detail canvas.{date}").bounding_box() for date in ("before", "after")]
    assert sizes[0]["width"] == sizes[1]["width"] > 200
    assert sizes[0]["y"] == sizes[1]["y"]
    assert (
        shown.get_by_role("link", name="OpenStreetMap").get_attribute("href").startswith("https://www.open")
    )
    assert shown.get_by_role("link", name="map app").get_attribute("href").startswith("geo:37.9")


def test_swipe_by_mouse_touch_and_keys(shown: Any) -> None:
    box = shown.locator("#stage").bounding_box()
    divider = (
        "el => (el.getBoundingClientRect().x - document.getElementById('stage').getBoundingClientRect().x)"
    )

    def at() -> float:
        return float(shown.locator(".divider").evaluate(divider)) / box["width"]

    assert at() == pytest.approx(0.5, abs=0.01)
    handle = box["x"] + box["width"] / 2, box["y"] + 32
    shown.mouse.move(*handle)
    shown.mouse.down()
    shown.mouse.move(box["x"] + 0.2 * box["width"], handle[1], steps=5)
    shown.mouse.up()
    assert at() == pytest.approx(0.2, abs=0.02)
    for key, expected in (("Home", 0), ("ArrowRight", 0.01), ("End", 1), ("ArrowLeft", 0.99)):
        shown.locator("#swipe").press(key)
        assert at() == pytest.approx(expected, abs=0.01), key
    assert shown.locator("#swipe").get_attribute("aria-valuetext") == "99 % before, 1 % after"
    shown.get_by_role("button", name="After", exact=True).click()
    after = stage(shown)
    shown.keyboard.press("b")
    assert (stage(shown) != after).any()
    shown.keyboard.press("b")
    assert (stage(shown) == after).all()
    shown.get_by_role("button", name="Blink").click()
    for date in ("after", "before"):
        shown.locator(f"#stage[data-shown={date}]").wait_for()


def test_the_map_pans_and_zooms_by_keyboard(shown: Any) -> None:
    shown.locator("#map").focus()
    first = stage(shown)
    shown.keyboard.press("+")
    closer = stage(shown)
    assert (closer != first).any()
    shown.keyboard.press("ArrowRight")
    assert (stage(shown) != closer).any()
    shown.keyboard.press("w")
    assert (np.abs(stage(shown) - first).max(axis=2) > 8).mean() < 0.01


@pytest.mark.parametrize("height", [600, 700, 850, 1000])
def test_the_scale_has_room_for_its_text(shown: Any, height: int) -> None:
    shown.set_viewport_size({"width": 1280, "height": height})
    shown.wait_for_timeout(100)
    shown.keyboard.press("w")
    line = shown.locator(".leaflet-control-scale-line")
    for _ in range(4):
        room, text = line.evaluate("e => [e.clientWidth, e.scrollWidth]")
        assert text <= room, line.inner_text()
        shown.get_by_role("button", name="Zoom in").click()
        shown.wait_for_timeout(50)


def test_the_probability_leaves_the_images_visible_where_it_is_low(shown: Any) -> None:
    shown.get_by_role("checkbox", name="Outlines").uncheck()
    bare = stage(shown)
    shown.get_by_role("checkbox", name="Probability").check()
    covered = np.abs(stage(shown) - bare).max(axis=2) > 8
    assert 0.005 < covered.mean() < 0.1, "15 020 of 480 000 pixels, and what lies beside the images"
    shown.locator("#opacity").press("Home")
    assert np.abs(stage(shown) - bare).max() < 60


def test_verdicts_are_given_by_keys_kept_and_saved(shown: Any, tmp_path: Path) -> None:
    choose(shown, 1)
    shown.keyboard.press("y")  # and on to the next
    shown.keyboard.press("n")
    shown.keyboard.press("ArrowUp")
    shown.keyboard.press("ArrowDown")
    shown.keyboard.press("u")
    assert shown.locator("#list td.verdict").all_inner_texts() == ["yes", "no", "unsure"]
    shown.keyboard.press("u")  # takes it back
    assert shown.locator("#judged").inner_text() == "2 of 3 judged"
    saved = download(shown, "Save verdicts", tmp_path)
    assert saved.name == "x_verdicts.csv"
    rows = [line.split(",") for line in saved.read_text().splitlines()]
    assert [row[:2] for row in rows] == [["id", "verdict"], ["1", "yes"], ["2", "no"]]
    assert rows[0][2:] == ["x", "y"], "a point in each place"
    shown.reload()
    assert shown.locator("#list td.verdict").all_inner_texts() == ["yes", "no", ""]
    (tmp_path / "others.csv").write_text('id;note;verdict\n3;"x";yes\n2;;unsure\n99;;no\n1;;perhaps\n')
    shown.locator("#load-verdicts").set_input_files(tmp_path / "others.csv")
    shown.get_by_text("read from others.csv").wait_for()
    assert shown.locator("#list td.verdict").all_inner_texts() == ["yes", "unsure", "yes"]
    shown.locator("[name=verdict]").select_option("unsure")
    assert ids(shown) == [2]
    shown.get_by_role("button", name="Reset").click()
    (tmp_path / "elsewhere.csv").write_text(f"id,verdict,x,y\n2,yes,{','.join(rows[1][2:])}\n3,no,0,0\n")
    shown.locator("#load-verdicts").set_input_files(tmp_path / "elsewhere.csv")  # of a run with other ids
    shown.get_by_text("1 read from elsewhere.csv, 1 lie on no place listed here").wait_for()
    assert shown.locator("#list td.verdict").all_inner_texts() == ["yes", "unsure", "yes"]
    listed = download(shown, "CSV", tmp_path)  # whose reasons have commas, in quotes
    choose(shown, 2)
    shown.keyboard.press("n")
    shown.locator("#load-verdicts").set_input_files(listed)
    shown.get_by_text("read from x_places.csv").wait_for()
    assert shown.locator("#list td.verdict").all_inner_texts() == ["yes", "unsure", "yes"]


def test_exports_open_in_geopandas(shown: Any, tmp_path: Path) -> None:
    shown.get_by_label("Area from").fill("400000")
    choose(shown, 1)
    shown.keyboard.press("y")
    expected = [(100, 100, 200, 200), (500, 400, 600, 450)]
    for kind in ("GeoJSON", "KML"):
        frame = geopandas.read_file(download(shown, kind, tmp_path))
        assert frame.geometry.is_valid.all()
        assert frame.crs == "EPSG:4326"
        for shape, (left, top, right, bottom) in zip(frame.to_crs(GRID.crs).geometry, expected, strict=True):
            (west, east), (north, south) = GRID.to_xy(np.array([left, right]), np.array([top, bottom]))
            box = shapely.box(west, south, east, north)
            assert shape.symmetric_difference(box).area / box.area < 1e-3
    table = pd.read_csv(download(shown, "CSV", tmp_path))
    assert table["id"].tolist() == [1, 2]
    assert table["verdict"].fillna("").tolist() == ["yes", ""]
    assert table["n_pixels"].tolist() == [10_000, 5000]


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_cut_off(shown: Any, width: int) -> None:
    shown.set_viewport_size({"width": width, "height": 900})
    choose(shown, 2)
    shown.wait_for_timeout(200)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("#stage", "#list .scroll", "#detail"):
        box = shown.locator(name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    assert (shown.locator("#list").bounding_box()["x"] > width / 2) == (width > 1000)


def test_printed_the_pictures_stand_beside_each_other(shown: Any) -> None:
    shown.emulate_media(media="print")
    before, after, prob = (
        shown.locator(f"img.{name}").bounding_box() for name in ("before", "after", "prob")
    )
    assert before["y"] == after["y"]
    assert before["x"] + before["width"] < after["x"]
    assert before["width"] == pytest.approx(after["width"], abs=1)
    assert prob["y"] > before["y"] + before["height"]
    assert not shown.locator("#map").is_visible()
    assert shown.locator("#list tbody tr").first.is_visible()
    assert shown.get_by_text("before: ").is_visible()
