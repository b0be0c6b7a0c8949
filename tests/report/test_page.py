"""The report: complete, harmless, and shown by a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import MakePair, run_record
from rasterio.crs import CRS
from rasterio.transform import Affine
from report_page import HOSTILE, Parsed, one_place, write

from geocd.config import Settings
from geocd.findings import Finding
from geocd.pipeline.run import detect
from geocd.raster.grid import Grid
from geocd.report import page, places, words
from geocd.vectorize.kinds import KindTotal

Scene = Callable[..., np.ndarray]


@pytest.mark.parametrize("upwards", [False, True], ids=["north up", "south up"])
def test_pictures_outlines_and_table_agree(upwards: bool, tmp_path: Path) -> None:
    transform = Affine(10, 0, 500_000, 0, 10 if upwards else -10, 4_200_000)
    prob = one_place()
    prob[50:, :20] = np.nan
    run = run_record(grid=Grid(CRS.from_epsg(32633), transform, 60, 80))
    _, found = write(tmp_path, run, prob)
    assert "0 0 80 60" in [attrs.get("viewbox") for attrs in found.all("svg")]
    (outline,) = found.outlines
    assert outline == "M40 10v20h30v-20Z"
    with found.image("prob") as image:
        seen = np.asarray(image.convert("RGBA"))
    zoom = seen.shape[0] // 60
    assert seen.shape == (60 * zoom, 80 * zoom, 4)
    assert (seen[50 * zoom :, : 20 * zoom, 3] == 0).all()
    # changed: opaque, in the colours of the style for QGIS
    assert np.abs(seen[20 * zoom, 50 * zoom].astype(int) - [207, 29, 94, 213]).max() <= 2
    assert seen[40 * zoom, 50 * zoom, 3] == 0, "the image shows where P is 0"
    # 600 pixels of 100 m², on an ellipsoid at the central meridian
    assert found.data["columns"]["area_m2"] == [pytest.approx(60_048, abs=1)]
    assert "6 ha" in found.text
    x, y = (500_000 + 550, 4_200_000 + (200 if upwards else -200))
    from pyproj import Transformer

    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(x, y)
    assert found.data["columns"]["lon"] == [pytest.approx(lon, abs=1e-6)]
    assert found.data["columns"]["lat"] == [pytest.approx(lat, abs=1e-6)]
    assert str(round(lon, 6)) in found.text, "in the table for readers without scripts"


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
        assert tag not in ("iframe", "object", "embed", "base", "a", "audio", "video")
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert attrs.get(name, "data:").startswith("data:"), (tag, attrs[name])  # type: ignore[union-attr]
    for tag in ("img", "svg"):
        for attrs in found.all(tag):
            assert attrs.get("alt") or attrs.get("aria-label"), f"{tag} says nothing to who cannot see it"


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
    assert {tag for tag, _ in found.elements} == {tag for tag, _ in expected.elements}
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
    with found.image("before") as image:
        assert min(image.size) >= 24
        assert max(image.size) <= 1000
    assert len(found.outlines) == len(found.data["columns"]["id"]) == (value == 0.9)
    assert (found.data["lattice"] is None) == crs.startswith("LOCAL_CS")
    assert len(found.all("polyline")) == 0


def test_the_worst_pair_of_a_megapixel_is_small(tmp_path: Path) -> None:
    """Noise is what no compression helps with; its polygons are too many to be drawn."""
    rng = np.random.default_rng(0)
    prob = rng.uniform(0, 1, (1000, 1000))
    run = run_record(histogram=np.histogram(prob, 50)[0].tolist())
    path, found = write(tmp_path, run, prob, before=rng.integers(0, 255, (3, 1000, 1000)))
    assert 1e6 < path.stat().st_size < 8e6
    assert re.search(
        r"The list, and what is saved from it, has the [\d,]+ largest of \d\d,\d+ places", found.text
    )
    assert 1000 < len(found.outlines) <= places.MOST_PLACES
    assert found.data["native"]
    assert found.data["chips"] == [], "the pictures have every pixel already"


def test_what_became_of_what_stands_above_the_map(tmp_path: Path) -> None:
    kinds = [KindTotal("vegetation_loss", "vegetation → bare", 3, 7e4), KindTotal("unclear", None, 1, 1e4)]
    kinds += [KindTotal("burnt", f"{n} → burnt ground", 1, 2e3) for n in range(10)]
    path, found = write(tmp_path, run_record(summary={"kinds": kinds}), one_place())
    assert "vegetation → bare" in found.text
    assert len(found.all("meter")) == page.MOST_KINDS + 1
    assert found.all("meter")[0]["value"] == "0.7000"
    assert found.all("meter")[-1]["value"] == "0.0800", "four of 2000 m² are left over"
    text = path.read_text(encoding="utf-8")
    order = ["h-findings", "h-became", "h-map", "h-trust", "h-made"]
    assert sorted(order, key=lambda name: text.index(f'<h2 id="{name}"')) == order


def test_no_option_and_no_date_is_broken_at_the_end_of_a_line(tmp_path: Path) -> None:
    findings = [Finding("shift", "warning", "Shifted since 2015-07-01 by <1 px.", "--align shift does.")]
    path, _ = write(tmp_path, run_record(findings=findings), one_place())
    expected = "<b>warning:</b> Shifted since <time>2015-07-01</time> by &lt;1 px. <code>--align</code> shift"
    assert expected in path.read_text(encoding="utf-8")


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
    before, after = (np.asarray(found.image(which).convert("L")) for which in ("before", "after"))
    assert (before.max() > 200) == (gain == 40)
    assert after.max() > 200
    beside, above = (
        "Each image has its own contrast stretch",
        "value ranges of the two images are too different",
    )
    assert (beside in found.text) == (above in found.text) == (gain == 40)
