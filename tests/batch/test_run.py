"""A whole batch: what is finished stays finished, and the bytes are those of serial runs."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import geopandas
import numpy as np
import pystac
import pytest
from batch_folder import CVA, SUFFIXES, contents, invoke, lines, states
from conftest import write_csv
from distributed import Client
from pystac.validation import JsonSchemaSTACValidator, RegisteredValidator

from geocd.batch import manifest as manifests
from geocd.batch.pairs import read_items
from geocd.batch.run import Cluster
from geocd.batch.run import run as run_batch
from geocd.config import Settings
from geocd.errors import OutputError


def test_the_command_does_all_pairs_and_names_what_failed(
    write_pairs: Callable[..., Path],
    tmp_path: Path,
    write_raster: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two good pairs among five bad ones; then the same again; then with what was missing."""
    pairs = write_pairs(2)
    rows = list(csv.DictReader(pairs.read_text().splitlines()))
    shutil.copy(tmp_path / "p0_before.tif", tmp_path / "cut.tif")
    os.truncate(tmp_path / "cut.tif", 20_000)
    write_raster("small", np.ones((3, 9, 9), np.float32))
    write_raster("empty", np.full((3, 64, 64), np.nan, np.float32))
    bad = {
        "missing": ("gone.tif", "RasterOpenError", "no such file"),
        "truncated": ("cut.tif", "RasterReadError", "truncated or damaged"),
        "grid": ("small.tif", "GridError", "different sizes"),
        "invalid": ("empty.tif", "NoValidPixelError", "valid"),
        "remote": ("http://127.0.0.1:9/x.tif", "RasterOpenError", "not a raster"),
    }
    rows[1:1] = [{"id": name, "before": path, "after": "p0_after.tif"} for name, (path, _, _) in bad.items()]
    pairs = write_csv(pairs, rows)
    out = tmp_path / "out"
    os.environ["GDAL_HTTP_MAX_RETRY"] = "0"
    try:
        result = invoke("batch", pairs, out, "--workers", 2, "--method", "cva", "--merge")
    finally:
        del os.environ["GDAL_HTTP_MAX_RETRY"]
    assert result.exit_code == 3, result.output
    assert "2 pairs done (2 in this run), 5 failed." in result.stderr
    assert "dashboard: http://127.0.0.1:" in caplog.text
    assert "Traceback" not in result.output

    records = manifests.read(out)[0]
    table = invoke("batch", "--status", out)
    assert table.exit_code == 0
    for name, (_, error, message) in bad.items():
        assert records[name]["error"] == error
        assert re.search(message, records[name]["message"])
        assert re.search(rf"^{name} +failed .*{error}: .*{message}", table.stdout, re.MULTILINE)
    assert table.stdout.endswith("2 done, 5 failed, 0 sent, 0 pending\n")
    for name in ("p0", "p1"):
        assert records[name]["state"] == "done"
        assert {path.name for path in (out / name).iterdir() if path.name[0] != "."} == {
            f"{name}{suffix}" for suffix in (*SUFFIXES, "_report.html", ".json")
        }

    RegisteredValidator.set_validator(JsonSchemaSTACValidator())
    catalog = pystac.Catalog.from_file(str(out / "catalog.json"))
    assert [item.id for item in catalog.get_items()] == ["p0", "p1"]
    for item in catalog.get_items():
        assert item.get_root() is catalog
        pystac.Item.from_dict(item.to_dict() | {"stac_extensions": []}).validate()
    pystac.Catalog.from_dict(catalog.to_dict()).validate()

    merged = geopandas.read_file(out / "changes.gpkg")
    assert sorted(set(merged.item)) == ["p0", "p1"]
    assert len(merged) == records["p0"]["polygons"] + records["p1"]["polygons"]

    # nothing finished is done again, what failed is left alone: no cluster is needed
    command = ["batch", pairs, out, "--scheduler", "tcp://127.0.0.1:9", "--method", "cva"]
    again = invoke(*command, "--merge", "parquet")
    assert again.exit_code == 3
    assert "2 of 7 pairs were finished before" in caplog.text
    assert "5 pairs failed before and are skipped" in caplog.text
    assert list(geopandas.read_parquet(out / "changes.parquet").item) == list(merged.item)
    assert "is not one of 'gpkg', 'parquet'" in invoke("batch", "--merge", pairs, out).stderr


def test_a_list_grows_and_a_configuration_changes(
    cluster: str, write_pairs: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = read_items(write_pairs(3))
    out = tmp_path / "out"
    where = Cluster(scheduler=cluster)
    told = []
    caplog.set_level("INFO", "geocd")
    run_batch(items[:2], out, settings=CVA, cluster=where, progress=told.append)
    assert (told[-1].done, told[-1].running, told[-1].left) == (2, 0, 0)
    assert told[-1].workers == 2
    assert run_batch(items, out, settings=CVA, cluster=where).computed == 1
    assert len(lines(out, "done")) == 3
    before = contents(out)

    caplog.clear()
    other = Settings.from_flat({"method": "cva", "threshold": 0.8})
    assert run_batch(items, out, settings=other, cluster=where).computed == 3
    assert "threshold (was None, is now 0.8)" in caplog.text
    assert "p1 is done again: the configuration has changed" in caplog.text
    assert contents(out).keys() == before.keys()
    assert contents(out) != before
    assert run_batch(items, out, settings=CVA, cluster=where).computed == 3
    assert contents(out) == before


def test_failures_are_tried_again_when_asked_and_may_end_the_run(
    cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    items = read_items(write_pairs(3))
    missing = Path(items[0].before)
    missing.rename(tmp_path / "away.tif")
    where = Cluster(scheduler=cluster)
    out = tmp_path / "out"
    summary = run_batch(items, out, settings=CVA, cluster=where, fail_fast=True)
    assert list(summary.failed) == ["p0"]
    assert summary.left >= 1
    summary = run_batch(items, out, settings=CVA, cluster=where)
    assert (len(summary.done), list(summary.failed), summary.left) == (2, ["p0"], 0)
    (tmp_path / "away.tif").rename(missing)
    assert list(run_batch(items, out, settings=CVA, cluster=where).failed) == ["p0"]
    summary = run_batch(items, out, settings=CVA, cluster=where, retry_failed=True)
    assert (summary.computed, summary.failed) == (1, {})


def test_serial_and_cluster_give_the_same_bytes(
    cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    items = read_items(write_pairs(2, side=96))
    run_batch(items, tmp_path / "out", settings=CVA, cluster=Cluster(scheduler=cluster))
    for item in items:
        stem = tmp_path / "serial" / item.id / item.id
        stem.parent.mkdir(parents=True)
        assert invoke("detect", item.before, item.after, "-o", stem, "--method", "cva").exit_code == 0
    assert contents(tmp_path / "serial") == contents(tmp_path / "out")
    assert len(contents(tmp_path / "out")) == 10


def test_a_disk_without_room_ends_the_run_and_the_same_command_goes_on(
    cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    items = read_items(write_pairs(5))
    out = tmp_path / "out"
    with Client(cluster, set_as_default=False) as client:
        client.run(limit_files, 2_000)
        with pytest.raises(OutputError, match=r"3 pairs in a row could not be written.*disk has room"):
            run_batch(items, out, settings=CVA, cluster=Cluster(scheduler=cluster))
        client.run(limit_files, -1)
    assert "done" not in states(out).values()
    summary = run_batch(items, out, settings=CVA, cluster=Cluster(scheduler=cluster))
    assert len(summary.done) == 5


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a disk in memory of so many kilobytes, or make it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: int) -> Path:
        options = f"size={size}k" + (",remount" if os.path.ismount(folder) else "")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no right to mount a disk here")
        return folder

    yield mount
    if os.path.ismount(folder):
        # lazily: a worker may still be closing what it could not write
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None or sys.platform != "linux", reason="needs Linux")
def test_a_disk_that_fills_up_in_the_middle(
    cluster: str, small_disk: Callable[[int], Path], write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    items = read_items(write_pairs(9))
    where = Cluster(scheduler=cluster)
    out = small_disk(10_000) / "out"
    assert len(run_batch(items[:1], out, settings=CVA, cluster=where).done) == 1
    taken = shutil.disk_usage(out).used // 1000
    small_disk(3 * taken)  # room for one more, or two
    with contextlib.suppress(OutputError):  # unless a pair of the other worker fitted in between
        run_batch(items, out, settings=CVA, cluster=where)
    failed = lines(out, "failed")
    assert len(failed) >= 3
    assert {line["error"] for line in failed} == {"OutputError"}
    assert all(re.search(r"cannot be written .* kB are left on the disk", line["message"]) for line in failed)
    finished = [line["id"] for line in lines(out, "done")]
    assert 1 <= len(finished) < 9
    small_disk(10_000)
    assert len(run_batch(items, out, settings=CVA, cluster=where).done) == 9
    done = [line["id"] for line in lines(out, "done")]
    assert sorted(done) == [f"p{number}" for number in range(9)], "each was done once"
    calm = tmp_path / "calm" / "out"  # as deep as the other: the way to the inputs is told in the results
    run_batch(items, calm, settings=CVA, cluster=where)
    assert contents(out) == contents(calm)


def limit_files(size: int) -> None:
    """Let no file of this process grow beyond a size, as on a full disk."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, -1))


def test_a_dry_run_says_what_would_be_computed_and_writes_nothing(
    make_pair: Callable[..., tuple[Path, Path]], scene: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    before, after = make_pair(scene(3, 40, 50), scene(3, 40, 50, seed=2))
    listed = tmp_path / "pairs.csv"
    listed.write_text(f"id,before,after\na,{before},{after}\nb,{before},{after}\nc,{before},none.tif\n")
    command = ["batch", listed, tmp_path / "out", "--method", "cva"]
    result = invoke(*command, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "3 to compute, 0 up to date, 0 failed before" in result.output
    assert not (tmp_path / "out").exists()
    assert invoke(*command, "--workers", 1).exit_code == 3
    seen = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}

    def plan(*options: str) -> dict[str, object]:
        return dict(json.loads(invoke(*command, "--dry-run", "--json", *options).stdout))

    assert plan() == {"todo": {}, "finished": ["a", "b"], "skipped": ["c"]}
    assert plan("--retry-failed")["todo"] == {"c": "it failed before"}
    (tmp_path / "out" / "a" / "a_prob.tif").write_bytes(b"")
    assert plan()["todo"] == {"a": "a_prob.tif was altered"}
    assert list(plan("--min-area", "500")["todo"]) == ["a", "b", "c"]
    assert {path: path.stat().st_mtime_ns for path in seen if path.name != "a_prob.tif"} == {
        path: time for path, time in seen.items() if path.name != "a_prob.tif"
    }
    status = json.loads(invoke("batch", "--status", tmp_path / "out", "--json").stdout)
    assert status["counts"] == {"pending": 0, "sent": 0, "done": 2, "failed": 1}
    assert [(pair["id"], pair["state"]) for pair in status["pairs"]] == [
        ("a", "done"), ("b", "done"), ("c", "failed"),
    ]  # fmt: skip
