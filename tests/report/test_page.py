"""The report: complete, harmless, and shown by a browser."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html.parser
import io
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakePair, run_record, write_raster
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import Affine

from geocd.config import Settings
from geocd.pipeline.run import detect
from geocd.raster.grid import Grid
from geocd.report import page, thumbnails, words
from geocd.report.record import FinishedRun, RunRecord
from geocd.vectorize.polygons import polygonize

Scene = Callable[..., np.ndarray]


CREATED = "2024-01-02T03:04:05Z"


class Parsed(html.parser.HTMLParser):
    """Every element with its attributes, and the text of styles and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("style", "script") and self.cdata_elem:
            self.raw.append((self.elements[-1][0], data))
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def of_class(self, name: str) -> dict[str, str | None]:
        (found,) = (attrs for _, attrs in self.elements if (attrs.get("class") or "").split() == [name])
        return found


def picture(attrs: dict[str, str | None]) -> Image.Image:
    kind, data = (attrs["src"] or "").split(";base64,")
    assert kind in ("data:image/jpeg", "data:image/png")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def write(
    tmp_path: Path,
    run: RunRecord,
    prob: np.ndarray,
    *,
    before: np.ndarray | None = None,
    after: np.ndarray | None = None,
) -> tuple[Path, Parsed]:
    """Write the page of a made-up run; ``prob`` (height, width) lies on the record's grid."""
    grid = dataclasses.replace(run.grid, height=prob.shape[0], width=prob.shape[1])
    where = {"crs": grid.crs.to_wkt(), "transform": grid.transform}
    image = np.tile(np.arange(prob.shape[1]) % 200, (prob.shape[0], 1)) if before is None else before
    source = write_raster(tmp_path / "b.tif", image.astype(np.uint8), **where)
    other = source if after is None else write_raster(tmp_path / "a.tif", after, **where)
    raster = write_raster(tmp_path / "x_prob.tif", prob.astype(np.float32), nodata=math.nan, **where)
    changes = tmp_path / "x_changes.gpkg"
    found = polygonize(raster, changes, threshold=run.threshold)
    run = dataclasses.replace(
        run, grid=grid, summary=dataclasses.replace(run.summary, n_polygons=found.count)
    )
    small = thumbnails.read_thumbnails(
        str(source), str(other), raster, indexes=[1], threshold=run.threshold, max_size=1000
    )
    destination = tmp_path / "x_report.html"
    paths = {"prob": raster, "changes": changes}
    page.write_page(FinishedRun(run, small, paths, CREATED, tmp_path), destination)
    return destination, Parsed(destination.read_text(encoding="utf-8"))


def one_place(height: int = 60, width: int = 80) -> np.ndarray:
    prob = np.zeros((height, width))
    prob[10:30, 40:70] = 0.9
    return prob


@pytest.mark.parametrize("upwards", [False, True], ids=["north up", "south up"])
def test_pictures_outlines_and_table_agree(upwards: bool, tmp_path: Path) -> None:
    transform = Affine(10, 0, 500_000, 0, 10 if upwards else -10, 4_200_000)
    prob = one_place()
    prob[50:, :20] = np.nan
    run = run_record(grid=Grid(CRS.from_epsg(32633), transform, 60, 80))
    _, found = write(tmp_path, run, prob)
    assert (found.of_class("outlines")["viewbox"] or "") == "0 0 80 60"
    points = np.array(re.findall(r"([\d.]+) ([\d.]+)", found.of_class("outline")["d"] or ""), float)
    assert points.min(axis=0).tolist() == [40, 10]
    assert points.max(axis=0).tolist() == [70, 30]
    with picture(found.of_class("prob")) as image:
        seen = np.asarray(image.convert("RGBA"))
    zoom = seen.shape[0] // 60
    assert seen.shape == (60 * zoom, 80 * zoom, 4)
    assert (seen[50 * zoom :, : 20 * zoom, 3] == 0).all()
    assert (seen[: 50 * zoom, :, 3] == 255).all()
    assert seen[20 * zoom, 50 * zoom, 0] > 240  # bright where changed
    assert seen[40 * zoom, 50 * zoom, :3].max() < 10
    # 600 pixels of 100 m², on an ellipsoid at the central meridian
    assert "6.01 ha" in found.text or "6 ha" in found.text
    x, y = (500_000 + 550, 4_200_000 + (200 if upwards else -200))
    from pyproj import Transformer

    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(x, y)
    assert f"{lon:.5f}" in found.text
    assert f"{lat:.5f}" in found.text


def test_the_page_can_load_and_run_nothing_but_itself(tmp_path: Path) -> None:
    _, found = write(tmp_path, run_record(), one_place())
    (policy,) = (a["content"] for a in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in (policy or "").split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for kind in ("style", "script"):
        texts = [text for name, text in found.raw if name == kind]
        hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        assert rules[f"{kind}-src"].split() == [f"'sha256-{digest}'" for digest in hashes]
    for tag, attrs in found.elements:
        assert tag not in ("iframe", "object", "embed", "base", "form", "a", "audio", "video")
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
        for name in ("src", "href", "xlink:href", "srcset"):
            assert attrs.get(name, "data:").startswith("data:"), (tag, attrs[name])  # type: ignore[union-attr]
    for tag in ("img", "svg"):
        for attrs in found.all(tag):
            assert attrs.get("alt") or attrs.get("aria-label"), f"{tag} says nothing to who cannot see it"


HOSTILE = "<script>alert(1)</script> \"'&amp;{{7*7}}{% x %}\n\u202e\x07\udcff.tif"


def test_what_files_hold_is_text(tmp_path: Path) -> None:
    """Names, bands, settings and versions come from outside, and a name need not even be UTF-8."""
    _, expected = write(tmp_path, run_record(), one_place())
    run = run_record(
        before=HOSTILE,
        after=f"</title><img src=x onerror=alert(1)>{HOSTILE}",
        band_names=(HOSTILE, "</script>"),
        settings={"valid": HOSTILE, "min_area": 0.0, "threshold": None},
        versions={HOSTILE: HOSTILE},
    )
    path, found = write(tmp_path, run, one_place())
    known = {tag for tag, _ in expected.elements}
    assert {tag for tag, _ in found.elements} == known
    for tag in ("script", "img", "title"):
        assert len(found.all(tag)) == len(expected.all(tag)), tag
    assert not [attrs for _, attrs in found.elements if any(name.startswith("on") for name in attrs)]
    assert "<script>alert(1)</script> \"'&amp;{{7*7}}{% x %}\\n\\u202e\\x07\\udcff.tif" in found.text
    assert "\u202e" not in path.read_text(encoding="utf-8")


def test_passwords_do_not_travel(tmp_path: Path) -> None:
    run = run_record(
        before="https://me:secret1@host/b.tif?sig=secret2",
        settings={"valid": "https://host/v.tif?token=secret3", "min_area": 0.0, "threshold": None},
    )
    path, found = write(tmp_path, run, one_place())
    assert "https://host/b.tif" in found.text
    assert "secret" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("shape", "crs"),
    [
        ((1, 1), "EPSG:32633"),
        ((1, 3000), "EPSG:4326"),
        ((2000, 2), "EPSG:3857"),
        ((40, 40), 'LOCAL_CS["here",UNIT["metre",1]]'),
    ],
    ids=["a pixel", "a row", "a column", "no place on Earth"],
)
@pytest.mark.parametrize("value", [0.0, 0.9, math.nan], ids=["nothing changed", "all changed", "not valid"])
def test_any_raster_has_a_page(shape: tuple[int, int], crs: str, value: float, tmp_path: Path) -> None:
    transform = Affine(0.001, 0, 10, 0, -0.001, 50)
    run = run_record(
        grid=Grid(CRS.from_user_input(crs), transform, *shape),
        histogram=[0] * 50 if math.isnan(value) else [*[0] * 49, shape[0] * shape[1]],
        losses=(),
        date_before=None,
        summary={"area_m2": math.nan, "changed_share": value == 0.9, "shift": None},
    )
    _, found = write(tmp_path, run, np.full(shape, value))
    with picture(found.of_class("before")) as image:
        assert min(image.size) >= 24
        assert max(image.size) <= 1000
    assert len(found.all("tr")) == (2 if value == 0.9 else 0)  # head and one place
    assert len(found.all("polyline")) == 0


def test_the_worst_pair_of_a_megapixel_is_small(tmp_path: Path) -> None:
    """Noise is what no compression helps with; its polygons are too many to be drawn."""
    rng = np.random.default_rng(0)
    prob = rng.uniform(0, 1, (1000, 1000))
    run = run_record(histogram=np.histogram(prob, 50)[0].tolist())
    path, found = write(tmp_path, run, prob, before=rng.integers(0, 255, (3, 1000, 1000)))
    assert 1e6 < path.stat().st_size < 5e6
    assert re.search(r"Outlines show the [\d,]+ largest of \d\d,\d+ places", found.text)
    assert len(found.all("tr")) == 1 + page.ROWS


def test_the_template_is_compiled_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, run_record(), one_place())
    monkeypatch.setattr(page.jinja2.Environment, "compile", None)
    write(tmp_path, run_record(), one_place())


def test_detect_writes_the_report_of_its_run(make_pair: MakePair, scene: Scene, tmp_path: Path) -> None:
    before = scene(3, 150, 170)
    after = (before * 1.1).astype(np.uint16)
    after[:, 40:80, 50:100] = scene(3, 40, 50, seed=9) + 3000
    tags = [{"ACQUISITION_DATE": day} for day in ("2015-07-01", "2017-08-20")]
    pair = make_pair(before, after, tags=tags[0], after_tags=tags[1])
    pages = []
    for jobs in (1, 2):
        settings = Settings.from_flat({"tile_size": 100, "overlap": 20})
        files, run = detect(*pair, tmp_path / "run", settings=settings, jobs=jobs, overwrite=True)
        pages.append(files["report"].read_text(encoding="utf-8"))
    assert sum(run.histogram) == 150 * 170
    assert run.losses == ()
    assert run.summary.shift is not None
    asset = json.loads(files["item"].read_text())["assets"]["report"]
    assert asset["href"] == "./run_report.html"
    assert asset["type"] == "text/html"
    assert asset["file:size"] == files["report"].stat().st_size
    times = re.compile(r'<section id="times".*?</section>', re.DOTALL)
    assert times.sub("", pages[0]) == times.sub("", pages[1])
    assert pages[0] != pages[1]
    found = Parsed(pages[0])
    assert words.headline(run) in found.text
    assert "between 2015-07-01 and 2017-08-20" in found.text
    assert hashlib.sha256(files["prob"].read_bytes()).hexdigest() in found.text
    assert not found.all("polyline"), "no curve: nothing is optimised"
    settings = Settings.from_flat({"tile_size": 100, "overlap": 20, "method": "cva"})
    files, run = detect(*pair, tmp_path / "run", settings=settings, overwrite=True)
    assert not run.losses
    assert not Parsed(files["report"].read_text(encoding="utf-8")).all("polyline")


@pytest.mark.parametrize("gain", [2, 40])
def test_pictures_that_do_not_compare_are_said_to(tmp_path: Path, gain: int) -> None:
    image = np.tile(np.arange(80, dtype=np.uint16), (60, 1))
    _, found = write(tmp_path, run_record(), one_place(), before=image, after=gain * image)
    before, after = (np.asarray(picture(found.of_class(which)).convert("L")) for which in ("before", "after"))
    assert (before.max() > 200) == (gain == 40)
    assert after.max() > 200
    beside, above = (
        "Each image has its own contrast stretch",
        "value ranges of the two images are too different",
    )
    assert (beside in found.text) == (above in found.text) == (gain == 40)


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


@pytest.fixture
def shown(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The page, opened without a network; fails at the end if it complained or asked for anything."""
    before = np.full((3, 600, 800), 40)
    before[:, :, ::8] = 200
    prob = np.zeros((600, 800))
    prob[100:200, 100:200] = prob[400:450, 500:600] = 0.9
    path, _ = write(tmp_path, run_record(before=HOSTILE), prob, before=before)
    context = browser.new_context(
        offline=True, viewport={"width": 1280, "height": 900}, has_touch=True, reduced_motion="reduce"
    )
    opened = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("dialog", lambda dialog: complaints.append(dialog.message))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(path.as_uri())
    yield opened
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    context.close()


def at(opened: Any) -> float:
    """Where the divider stands, as a share of the stage."""
    line, stage = (opened.locator(name).bounding_box() for name in (".divider", "#stage"))
    return float((line["x"] + line["width"] / 2 - stage["x"]) / stage["width"])


def seen(opened: Any) -> np.ndarray:
    with Image.open(io.BytesIO(opened.locator("#stage").screenshot())) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.slow
def test_the_swipe_follows_mouse_touch_and_keys(shown: Any) -> None:
    shown.locator("#stage").scroll_into_view_if_needed()
    stage = shown.locator("#stage").bounding_box()

    def place(share: float) -> tuple[float, float]:
        return stage["x"] + share * stage["width"], stage["y"] + stage["height"] / 3

    assert at(shown) == pytest.approx(0.5, abs=0.01)
    first = seen(shown)
    shown.mouse.move(*place(0.5))
    shown.mouse.down()
    shown.mouse.move(*place(0.2), steps=5)
    assert at(shown) == pytest.approx(0.2, abs=0.01)
    shown.mouse.up()
    assert (seen(shown) != first).any()
    shown.touchscreen.tap(*place(0.8))
    assert at(shown) == pytest.approx(0.8, abs=0.01)
    for key, expected in (("Home", 0), ("ArrowRight", 0.01), ("End", 1), ("ArrowLeft", 0.99)):
        shown.locator("#swipe").press(key)
        assert at(shown) == pytest.approx(expected, abs=0.005), key
    assert shown.locator("#swipe").get_attribute("aria-valuetext") == "99 % before, 1 % after"
    outline = "el => getComputedStyle(el).outlineStyle"
    assert shown.locator("#stage").evaluate(outline) == "solid"  # the focus is seen
    shown.get_by_role("button", name="After", exact=True).click()
    assert at(shown) == pytest.approx(0, abs=0.005)


@pytest.mark.slow
def test_layers_and_places_can_be_shown(shown: Any) -> None:
    plain = seen(shown)
    shown.get_by_label("Outlines of the changes").uncheck()
    bare = seen(shown)
    assert (bare != plain).any()
    shown.get_by_role("checkbox", name="Change probability").check()
    covered = seen(shown)
    height, width = covered.shape[:2]
    changed = covered[height // 4, width // 6]  # row 150, column 133 of 600 x 800
    unchanged = covered[height * 7 // 8, width // 6]
    assert changed.sum() > unchanged.sum() + 200
    shown.locator("#opacity").press("Home")
    assert np.abs(seen(shown) - bare).mean() < np.abs(covered - bare).mean() / 3
    shown.get_by_role("checkbox", name="Change probability").uncheck()
    assert (seen(shown) == bare).all()
    shown.get_by_role("button", name="2", exact=True).click()
    assert shown.locator("#place-2 .ring").is_visible()
    assert not shown.locator("#place-1 .ring").is_visible()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_cut_off(shown: Any, width: int) -> None:
    shown.set_viewport_size({"width": width, "height": 900})
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    stage = shown.locator("#stage").bounding_box()
    assert stage["x"] >= 0
    assert stage["x"] + stage["width"] <= width
    assert stage["width"] / stage["height"] == pytest.approx(800 / 600, rel=0.01)


@pytest.mark.slow
def test_printed_the_pictures_stand_beside_each_other(shown: Any) -> None:
    shown.locator("#swipe").press("Home")
    shown.emulate_media(media="print")
    before, after, prob = (
        shown.locator(f"img.{name}").bounding_box() for name in ("before", "after", "prob")
    )
    assert before["y"] == after["y"]
    assert before["x"] + before["width"] < after["x"]
    assert before["width"] == pytest.approx(after["width"], abs=1)
    assert prob["y"] > before["y"] + before["height"]
    assert shown.locator("img.after").evaluate("el => getComputedStyle(el).clipPath") == "none"
    assert not shown.locator("#swipe").is_visible()
    assert shown.get_by_text("before: ").is_visible()
