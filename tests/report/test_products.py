"""The table of the files of a run: one entry more is written, moved, listed, compared and uploaded."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MakePair, load_file

from geocd.batch.upload import Bucket, media_type
from geocd.config import Settings
from geocd.errors import OutputExistsError
from geocd.pipeline.run import detect
from geocd.report import products
from geocd.report.products import PRODUCTS, Product, named_stem
from geocd.report.record import FinishedRun
from geocd.rerun import rerun

ROOT = Path(__file__).resolve().parents[2]
CVA = Settings.from_flat({"method": "cva"})


def write_summary(run: FinishedRun, path: Path) -> None:
    path.write_text(json.dumps({"changed_share": run.record.summary.changed_share}), encoding="utf-8")


#: All that a further product takes. Its name ends as the item's does.
SUMMARY = Product(
    "summary",
    "_summary.json",
    "Changed share for dashboards",
    "application/json",
    description="the changed share, as JSON",
    roles=("metadata",),
    stage="summary",
    write=write_summary,
)


@pytest.fixture
def summary(monkeypatch: pytest.MonkeyPatch) -> Product:
    monkeypatch.setattr(products, "PRODUCTS", (*PRODUCTS[:-1], SUMMARY, PRODUCTS[-1]))
    return SUMMARY


@pytest.fixture
def pair(make_pair: MakePair) -> tuple[Path, Path]:
    """One square changes."""
    rng = np.random.default_rng(0)
    before = rng.uniform(0, 100, (3, 64, 64))
    after = before + rng.normal(0, 2, before.shape)
    after[:, 20:40, 20:40] += 80
    return make_pair(before, after)


def test_one_entry_more_is_written_and_in_the_item(
    summary: Product, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    files, record = detect(*pair, tmp_path / "valley", settings=CVA)
    path = tmp_path / "valley_summary.json"
    assert files["summary"] == path
    assert list(files) == [entry.key for entry in products.PRODUCTS]
    assert json.loads(path.read_text()) == {"changed_share": record.summary.changed_share}
    assert not (tmp_path / ".valley.geocd").exists()
    asset = json.loads(files["item"].read_text(encoding="utf-8"))["assets"]["summary"]
    assert asset == {
        "href": "./valley_summary.json",
        "type": "application/json",
        "title": "Changed share for dashboards",
        "roles": ["metadata"],
        "file:size": path.stat().st_size,
        "file:checksum": "1220" + hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    assert record.timings["summary"] >= 0


def test_one_entry_more_is_not_replaced_unasked(
    summary: Product, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "valley_summary.json").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExistsError, match=r"valley_summary\.json: already exists"):
        detect(*pair, tmp_path / "valley", settings=CVA)
    assert (tmp_path / "valley_summary.json").read_text() == "mine"
    detect(*pair, tmp_path / "valley", settings=CVA, overwrite=True)
    assert "changed_share" in (tmp_path / "valley_summary.json").read_text()


def test_one_entry_more_is_compared_by_rerun(
    summary: Product, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, _ = detect(*pair, tmp_path / "valley", settings=CVA)
    comparison = rerun(files["item"])
    assert comparison.same["summary"]
    assert comparison.identical
    assert not list(tmp_path.glob(".valley.rerun*")), "deleted after the comparison"

    other = dataclasses.replace(SUMMARY, write=lambda run, path: path.write_text("{}") and None)
    monkeypatch.setattr(products, "PRODUCTS", (*PRODUCTS[:-1], other, PRODUCTS[-1]))
    comparison = rerun(files["item"])
    assert {key for key, same in comparison.same.items() if not same} == {"summary"}

    timed = dataclasses.replace(other, timed=True)
    monkeypatch.setattr(products, "PRODUCTS", (*PRODUCTS[:-1], timed, PRODUCTS[-1]))
    assert "summary" not in rerun(files["item"]).same


def test_one_entry_more_is_done_uploaded_and_missed_by_the_batch(
    summary: Product, write_pairs: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # here: dask looks at the handlers of loggers when it is imported, and those of pytest come later
    from geocd.batch.pairs import read_items
    from geocd.batch.work import Task, configuration, why_not_finished, work

    (item,) = read_items(write_pairs(1))
    (tmp_path / "out").mkdir()
    task = Task(item, CVA, str(tmp_path / "out"), configuration(CVA)[0])
    uploads: list[str] = []

    def send(self: Bucket, path: Path, name: str, facts: Mapping[str, Any] | None = None) -> bool:
        assert path.is_file()
        uploads.append(name)
        return True

    monkeypatch.setattr(Bucket, "send", send)
    record = work(dataclasses.replace(task, upload="s3://bucket/x"))
    assert record["state"] == "done", record
    assert sorted(uploads) == sorted(f"p0/p0{entry.suffix}" for entry in products.PRODUCTS)
    assert uploads[-1] == "p0/p0.json", "the item comes last, whatever the names of the others end in"
    assert why_not_finished(record, task) is None
    (Path(task.folder) / "p0" / "p0_summary.json").unlink()
    assert why_not_finished(record, task) == "p0_summary.json is missing"


def test_media_types_are_those_of_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in PRODUCTS[:-1]:
        assert media_type(f"p0{entry.suffix}") == entry.media_type
    assert media_type("p0.json") == media_type("catalog.json") == "application/json"
    assert media_type("changes.parquet") == "application/vnd.apache.parquet"
    assert media_type("p0_statistics.csv") == "application/octet-stream"
    statistics = dataclasses.replace(SUMMARY, suffix="_statistics.csv", media_type="text/csv")
    monkeypatch.setattr(products, "PRODUCTS", (*PRODUCTS[:-1], statistics, PRODUCTS[-1]))
    assert media_type("p0_statistics.csv") == "text/csv"


def test_one_entry_more_is_in_the_documents(summary: Product) -> None:
    page = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
    assert "```{include} generated/products.md" in page
    table = load_file(ROOT / "docs" / "conf.py").products_reference()
    assert "| `valley_summary.json` | the changed share, as JSON |" in table
    for entry in PRODUCTS:
        assert f"| `valley{entry.suffix}` | {entry.description} |" in table


def test_the_table_is_consistent() -> None:
    assert PRODUCTS[-1].key == "item", "moved into place last: where it is, all that it lists is"
    assert len({entry.key for entry in PRODUCTS}) == len(PRODUCTS)
    assert len({entry.suffix for entry in PRODUCTS}) == len(PRODUCTS)
    assert {entry.key for entry in PRODUCTS if entry.write is None} == {"prob", "changes", "item"}
    assert [entry.key for entry in PRODUCTS if not entry.is_asset] == ["item"]


@pytest.mark.parametrize(
    ("output", "stem"),
    [
        ("here", "here/a_b"),
        ("here/", "here/a_b"),
        ("new/", "new/a_b"),
        ("run", "run"),
        ("here/run", "here/run"),
        ("result.tif", "result"),
        ("result.TIFF", "result"),
        ("result_prob.tif", "result"),
        ("result_changes.gpkg", "result"),
        ("result.gpkg", "result"),
        ("result.json", "result"),
        ("scene.2020", "scene.2020"),
        (".tif", ".tif"),
    ],
)
def test_the_stem_that_a_user_means(
    output: str, stem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    assert named_stem(output, "x/a.tif", "b.tif") == Path(stem)
