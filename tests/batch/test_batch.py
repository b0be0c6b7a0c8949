"""Many pairs on a cluster: nothing stops it, nothing is lost, nothing is done twice."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import datetime
import http.server
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner, Result
from conftest import write_csv
from distributed import Client, WorkerPlugin
from pystac.validation import JsonSchemaSTACValidator, RegisteredValidator
from shapely import Point

from geocd.batch import manifest as manifests
from geocd.batch import run as batches
from geocd.batch.manifest import Manifest
from geocd.batch.pairs import Item, read_items
from geocd.batch.run import Cluster, Progress, _Run
from geocd.batch.run import run as run_batch
from geocd.batch.stac import Rule, is_stac, stac_pairs
from geocd.batch.stack import Stack
from geocd.batch.work import Task, configuration, prepare, why_not_finished, work, work_part
from geocd.cli import main
from geocd.cli.batch import _words
from geocd.config import Settings
from geocd.errors import ClusterError, ConfigError, GridError, OutputError, PairsError, ResumeError
from geocd.pipeline.run import detect
from geocd.report.fingerprint import fingerprint

CVA = Settings.from_flat({"method": "cva"})
SUFFIXES = ("_prob.tif", "_prob.qml", "_changes.gpkg", "_changes.qml", "_quicklook.png")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes that a batch promises to repeat; item and report hold times."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.glob("*/*"))
        if path.name.endswith(SUFFIXES)
    }


def states(folder: Path) -> dict[str, str]:
    return {name: record["state"] for name, record in manifests.read(folder)[0].items()}


def lines(folder: Path, state: str) -> list[dict[str, Any]]:
    text = (folder / manifests.NAME).read_text(encoding="utf-8")
    return [line for line in map(json.loads, text.splitlines()) if line.get("state") == state]


# --- the list ---------------------------------------------------------------------------------------


def test_a_csv_s_relative_paths_start_from_its_folder(tmp_path: Path) -> None:
    text = (
        "\ufeffid, before,after,valid,remark\n"
        "one,a.tif,sub/b.tif,,first\n\n"
        "two,/data/a.tif,https://host/b.tif?x=1,s3://bucket/v.tif,\n"
        "three,/vsizip/x.zip/a.tif,NETCDF:scene.nc:B04,v.tif,\n"
    )
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    assert read_items(tmp_path / "pairs.csv") == [
        Item("one", f"{tmp_path}/a.tif", f"{tmp_path}/sub/b.tif"),
        Item("two", "/data/a.tif", "https://host/b.tif?x=1", "s3://bucket/v.tif"),
        Item("three", "/vsizip/x.zip/a.tif", "NETCDF:scene.nc:B04", f"{tmp_path}/v.tif"),
    ]


@pytest.mark.parametrize("suffix", ["gpkg", "geojson"])
def test_a_vector_file_lists_pairs_too(suffix: str, tmp_path: Path) -> None:
    table = geopandas.GeoDataFrame(
        {
            "id": ["one", "two"],
            "before": ["a.tif", "c.tif"],
            "after": ["b.tif", "d.tif"],
            "valid": [None, "v.tif"],
        },
        geometry=[Point(0, 0), Point(1, 1)],
        crs="EPSG:4326",
    )  # fmt: skip
    path = tmp_path / f"pairs.{suffix}"
    table.to_file(path)
    assert read_items(path) == [
        Item("one", f"{tmp_path}/a.tif", f"{tmp_path}/b.tif"),
        Item("two", f"{tmp_path}/c.tif", f"{tmp_path}/d.tif", f"{tmp_path}/v.tif"),
    ]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\\b", "/abs", ".hidden", "a\nb", "a:b", "-rf", "end.", "end ", "x" * 101,
     "manifest.jsonl", "Catalog.JSON", "sources", "b\u00e9"],
)  # fmt: skip
def test_an_id_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(PairsError, match=r"cannot be the name of a folder|belongs to the archive itself"):
        Item(name, "a.tif", "b.tif")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column id, before, after.*here are: none"),
        ("id,before\nx,y\n", "no column after.*here are: id, before"),
        ("id,before,after\n", "lists no pair"),
        ("id,before,after\nx,a,b\n,a,b\n", "line 3: id ''"),
        ("id,before,after\nx,a,\n", "line 2: id 'x': has no after"),
        ("id,before,after\nx,a,b\nX,a,b\n", "ids 'x' and 'X' are one"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_as_a_whole(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(PairsError, match=message):
        read_items(tmp_path / "pairs.csv")
    result = invoke("batch", tmp_path / "pairs.csv", tmp_path / "out")
    assert result.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_a_list_that_is_not_there_or_no_list(tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="no such file"):
        read_items(tmp_path / "none.csv")
    (tmp_path / "pairs.gpkg").write_bytes(b"nothing")
    with pytest.raises(PairsError, match="neither a CSV nor a vector file"):
        read_items(tmp_path / "pairs.gpkg")


# --- items of a STAC catalogue as pairs -------------------------------------------------------------


@pytest.fixture
def stac(write_raster: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Write an ItemCollection of two bands a scene, the second at half the resolution."""

    def write(*scenes: tuple[str, str, float | None], tile: str = "grid:code") -> Path:
        items = []
        for number, (place, day, cloud) in enumerate(scenes):
            name = f"{place}_{day}_{number}"
            random = np.random.default_rng(number)
            fine = random.normal(1000, 100, (64, 64)).astype(np.float32)
            fine[10:30, 10:30] += 1500 * (number % 2)
            write_raster(f"{name}_red", fine)
            write_raster(
                f"{name}_nir", fine[::2, ::2] / 2, transform=Affine(20, 0, 500_000, 0, -20, 4_200_000)
            )
            item = pystac.Item(name, None, None, datetime.datetime.fromisoformat(f"{day}T10:00:00+00:00"), {})
            item.properties |= {tile: place} | ({} if cloud is None else {"eo:cloud_cover": cloud})
            for band in ("red", "nir"):
                item.add_asset(band, pystac.Asset(f"./{name}_{band}.tif", roles=["data"]))
            items.append(item.to_dict())
        path = tmp_path / "items.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        return path

    return write


SCENES = [
    ("MGRS-33UUP", "2024-06-01", 10.0),
    ("MGRS-33UUP", "2023-06-03", 1.0),
    ("MGRS-33UUP", "2023-06-03", 0.5),  # of one day the clearest
    ("MGRS-33UUP", "2023-09-03", 80.0),
    ("MGRS-33UUQ", "2024-06-01", None),
    ("MGRS-33UUQ", "2023-06-03", None),
    ("MGRS-33UUR", "2023-06-03", 3.0),  # alone
]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            {},
            ["MGRS-33UUP_20230603_20230903", "MGRS-33UUP_20230903_20240601", "MGRS-33UUQ_20230603_20240601"],
        ),
        ({"max_cloud": 20.0}, ["MGRS-33UUP_20230603_20240601", "MGRS-33UUQ_20230603_20240601"]),
        (
            {"dates": (datetime.date(2023, 8, 30), datetime.date(2024, 5, 1))},
            ["MGRS-33UUP_20230903_20240601", "MGRS-33UUQ_20230603_20240601"],
        ),
    ],
)
def test_items_of_one_tile_are_paired(
    rule: dict[str, Any], expected: list[str], stac: Callable[..., Path], tmp_path: Path
) -> None:
    path = stac(*SCENES)
    assert is_stac(path)
    pairs = stac_pairs(path, tmp_path / "out", Rule(assets=["red", "nir"], **rule))
    assert [pair.id for pair in pairs] == expected
    last = pairs[0].stacks[0] if "dates" not in rule else pairs[-1].stacks[0]
    day = "2023-06-03_2" if "dates" not in rule else "2023-06-03_5"
    assert Path(last.path).parent == tmp_path / "out" / "sources"
    assert [Path(source).name.split("_", 1)[1] for _, source in last.sources] == [
        f"{day}_red.tif",
        f"{day}_nir.tif",
    ]
    assert last.date == "2023-06-03T10:00:00Z"


def test_a_catalogue_and_what_cannot_be_paired(stac: Callable[..., Path], tmp_path: Path) -> None:
    path = stac(*SCENES[:2], tile="s2:mgrs_tile")
    catalog = pystac.Catalog("c", "c")
    catalog.add_items(pystac.ItemCollection.from_file(str(path)))
    for item in catalog.get_items():
        for asset in item.assets.values():
            asset.href = str(tmp_path / asset.href)
    catalog.normalize_and_save(str(tmp_path / "catalog"), pystac.CatalogType.SELF_CONTAINED)
    for source in (path, tmp_path / "catalog" / "catalog.json"):
        (pair,) = stac_pairs(source, tmp_path, Rule(assets=["nir"]))
        assert Path(pair.stacks[0].sources[0][1]).exists()
        with pytest.raises(PairsError, match=r"has the assets red, nir\. Name with --assets"):
            stac_pairs(source, tmp_path, Rule())
    with pytest.raises(PairsError, match="has the assets red, nir, not blue"):
        stac_pairs(path, tmp_path, Rule(assets=["blue"]))
    with pytest.raises(PairsError, match="no two items of one tile"):
        stac_pairs(path, tmp_path, Rule(assets=["red"], max_cloud=5))
    with pytest.raises(PairsError, match="does not tell its tile"):
        stac_pairs(stac(*SCENES, tile="name"), tmp_path, Rule(assets=["red"]))
    (tmp_path / "bad.json").write_text(
        '{"stac_version": "1.0.0", "type": "FeatureCollection", "features": 1}'
    )
    with pytest.raises(PairsError, match="cannot be read as STAC"):
        stac_pairs(tmp_path / "bad.json", tmp_path, Rule())


def test_assets_are_stacked_as_bands(stac: Callable[..., Path], tmp_path: Path, cluster: str) -> None:
    path = stac(*SCENES[:2])
    out = tmp_path / "out"
    command = ["batch", path, out, "--scheduler", cluster, "--method", "cva"]
    result = invoke(*command, "--assets", "red,nir")
    assert result.exit_code == 0, result.output
    name = "MGRS-33UUP_20230603_20240601"
    item = json.loads((out / name / f"{name}.json").read_text())
    assert item["properties"]["geocd:bands"] == ["red", "nir"]
    assert item["properties"]["start_datetime"] == "2023-06-03T10:00:00Z"
    with rasterio.open(out / "sources" / "MGRS-33UUP_2023-06-03_1.vrt") as dataset:
        red, nir = dataset.read()
        np.testing.assert_array_equal(nir[::2, ::2], red[::2, ::2] / 2)
        np.testing.assert_array_equal(nir[::2], nir[1::2])
    assert geopandas.read_file(out / name / f"{name}_changes.gpkg").n_pixels.max() > 300
    again = invoke(*command, "--assets", "red,nir")
    assert "1 pairs done (0 in this run)" in again.stderr
    assert invoke("batch", tmp_path / "x.csv", out, "--max-cloud", "3").exit_code == 2


def test_assets_that_are_not_on_one_grid_are_refused(
    write_raster: Callable[..., Path], tmp_path: Path
) -> None:
    red = write_raster("red", np.ones((64, 64), np.float32))
    zone = write_raster("zone", np.ones((64, 64), np.float32), crs="EPSG:32634")
    # half a pixel larger, as the panchromatic band of Landsat
    pan = write_raster(
        "pan", np.ones((127, 127), np.float32), transform=Affine(5, 0, 500_000, 0, -5, 4_200_000)
    )
    for other in (zone, pan):
        sources = (("red", str(red)), (other.stem, str(other)))
        stack = Stack(str(tmp_path / "sources" / "scene.vrt"), sources, "2023-06-03T10:00:00Z")
        with pytest.raises(GridError, match=r"scene: the assets .* do not cover the same area.*--assets"):
            stack.write()
    assert not (tmp_path / "sources").exists()


# --- the manifest -----------------------------------------------------------------------------------


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    with Manifest(tmp_path) as manifest:
        manifest.begin({"seed": 0}, ["a", "b"])
        manifest.add({"id": "a", "state": "done", "config": "0", "inputs": {}, "outputs": {}})
        manifest.add({"id": "b", "state": "done", "config": "0", "inputs": {}, "outputs": {}})
    path = tmp_path / manifests.NAME
    path.write_bytes(path.read_bytes()[:-10])
    assert states(tmp_path) == {"a": "done", "b": "pending"}
    with Manifest(tmp_path) as manifest:
        assert manifest.settings == {"seed": 0}
        manifest.add({"id": "b", "state": "failed", "error": "GridError", "message": "no"})
    assert states(tmp_path) == {"a": "done", "b": "failed"}


def test_two_batches_in_one_folder_are_refused(tmp_path: Path) -> None:
    with Manifest(tmp_path), pytest.raises(OutputError, match="another batch is writing"):
        Manifest(tmp_path)
    Manifest(tmp_path).__exit__(None, None, None)


def test_status_of_a_folder_without_a_batch(tmp_path: Path) -> None:
    result = invoke("batch", "--status", tmp_path)
    assert result.exit_code == 1
    assert "no batch has run here" in result.stderr


# --- one pair ---------------------------------------------------------------------------------------


@pytest.fixture
def task(write_pairs: Callable[..., Path], tmp_path: Path) -> Task:
    (item,) = read_items(write_pairs(1))
    (tmp_path / "out").mkdir()
    return Task(item, CVA, str(tmp_path / "out"), configuration(CVA)[0])


def test_a_worker_whose_client_was_killed_has_not_worked_in_vain(task: Task) -> None:
    record = work(task)
    assert record["state"] == "done"
    prob = Path(task.folder) / "p0" / "p0_prob.tif"
    made = prob.stat().st_mtime_ns
    assert work(task) == record
    assert prob.stat().st_mtime_ns == made


def test_a_pair_on_two_grids_is_aligned(task: Task) -> None:
    (item,), settings = [task.item], Settings.from_flat({"method": "cva", "align": "grid"})
    with rasterio.open(item.after, "r+") as after:
        after.transform = Affine(10, 0, 500_035, 0, -10, 4_200_000)
    assert work(task)["error"] == "GridError"
    aligned = dataclasses.replace(task, settings=settings, config=configuration(settings)[0])
    assert aligned.config != task.config
    assert work(aligned)["state"] == "done"
    text = (Path(task.folder) / "p0" / "p0.json").read_text()
    assert json.loads(text)["properties"]["geocd:alignment"]["after_grid"]["transform"][2] == 500_035


def test_finished_is_what_checksums_say(task: Task) -> None:
    record = json.loads(json.dumps(work(task)))
    assert set(record["outputs"]) == {f"p0{suffix}" for suffix in (*SUFFIXES, "_report.html", ".json")}
    assert why_not_finished(record, task) is None
    assert why_not_finished({**record, "state": "failed"}, task) == "it was not finished"
    assert why_not_finished({**record, "config": "other"}, task) == "the configuration is another"

    prob = Path(task.folder) / "p0" / "p0_prob.tif"
    content = prob.read_bytes()
    prob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert why_not_finished(record, task) == "p0_prob.tif was altered"
    prob.unlink()
    assert why_not_finished(record, task) == "p0_prob.tif is missing"
    prob.write_bytes(content)

    before = Path(task.item.before)
    os.utime(before, (1, 1))
    assert why_not_finished(record, task) is None, "a copied file has another time"
    content = before.read_bytes()
    before.write_bytes(content[:-4] + b"\x00\x00\x00\x00")
    assert why_not_finished(record, task) == "before is another"
    before.unlink()
    assert why_not_finished(record, task) is None, "without the input nothing better could be made"


def test_another_configuration_has_another_hash() -> None:
    one = configuration(CVA)[0]
    assert one == configuration(Settings.from_flat({"method": "cva", "valid": "v.tif"}))[0]
    assert one == configuration(CVA.resolved())[0]
    assert one != configuration(Settings.from_flat({"method": "cva", "min_area": 1.0}))[0]
    assert one != configuration(CVA, mem_limit=500)[0], "tiles may be made smaller for it"
    assert configuration(CVA.resolved()) == configuration(CVA.resolved(), mem_limit=500)


def test_the_sources_of_a_vrt_are_part_of_its_fingerprint(task: Task, tmp_path: Path) -> None:
    import rasterio.shutil

    rasterio.shutil.copy(task.item.before, tmp_path / "before.vrt", driver="VRT")
    names = [entry.file for entry in fingerprint(str(tmp_path / "before.vrt"))]
    assert names == ["before.vrt", "p0_before.tif"]


def test_a_raster_that_is_no_file_is_known_by_its_blocks(task: Task, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "pairs"), "zip", tmp_path, "p0_before.tif")
    path = f"/vsizip/{tmp_path}/pairs.zip/p0_before.tif"
    (entry,) = fingerprint(path)
    assert set(entry.as_dict()) == {"file", "blocks"}
    assert fingerprint(path) == [entry]
    assert fingerprint(task.item.before)[0].as_dict().keys() == {"file", "size", "mtime_ns", "sha256"}


def test_an_error_is_a_record_without_secrets(task: Task) -> None:
    url = "http://127.0.0.1:9/a.tif?token=secret"
    item = dataclasses.replace(task.item, before=url)
    os.environ["GDAL_HTTP_MAX_RETRY"] = "0"
    try:
        record = work(dataclasses.replace(task, item=item))
    finally:
        del os.environ["GDAL_HTTP_MAX_RETRY"]
    assert (record["state"], record["error"]) == ("failed", "RasterOpenError")
    assert "http://127.0.0.1:9/a.tif" in record["message"]
    assert "secret" not in record["message"]
    record = work(dataclasses.replace(task, version="0.0.0"))
    assert re.search("has geocd .*, the client 0.0.0", record["message"])


class Flaky(http.server.SimpleHTTPRequestHandler):
    """Serves ranges of files, and refuses the first request for each file."""

    refusals: ClassVar[dict[str, int]] = {}

    def do_HEAD(self) -> None:
        self.serve(body=False)

    def do_GET(self) -> None:
        self.serve(body=True)

    def serve(self, *, body: bool) -> None:
        path = Path(self.directory) / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        if body and self.refusals.setdefault(self.path, 1) > 0:
            self.refusals[self.path] -= 1
            self.send_error(503)
            return
        content = path.read_bytes()
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (
            (int(match[1]), min(int(match[2]), len(content) - 1)) if match else (0, len(content) - 1)
        )
        self.send_response(206 if match else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        if match:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        if body:
            self.wfile.write(content[first : last + 1])

    def log_message(self, *args: object) -> None:
        pass


def test_reads_over_the_network_are_tried_again(
    cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    write_pairs(1)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Flaky, directory=str(tmp_path)))
    with server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever, 0.05)
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            item = Item("p0", f"{url}/p0_before.tif", f"{url}/p0_after.tif")
            # on a worker: GDAL keeps this process's other threads, and so the server, from answering
            run_batch([item], tmp_path / "out", settings=CVA, cluster=Cluster(scheduler=cluster))
        finally:
            server.shutdown()
    record = manifests.read(tmp_path / "out")[0]["p0"]
    assert record["state"] == "done", record["message"]
    assert set(record["inputs"]["before"][0]) == {"file", "blocks"}
    assert Flaky.refusals == {"/p0_before.tif": 0, "/p0_after.tif": 0}


def test_a_link_out_of_the_folder_is_not_followed(task: Task, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "p0").symlink_to(tmp_path / "elsewhere")
    assert "may lead elsewhere" in work(task)["message"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


# --- the whole --------------------------------------------------------------------------------------


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
    assert "5 pairs failed before and are left out" in caplog.text
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
    assert "threshold (None then, 0.8 now)" in caplog.text
    assert "p1 is done again: the configuration is another" in caplog.text
    assert contents(out).keys() == before.keys()
    assert contents(out) != before
    assert run_batch(items, out, settings=CVA, cluster=where).computed == 3
    assert contents(out) == before


def test_tiles_are_told_while_pairs_run(
    cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    settings = Settings.from_flat({"method": "cva", "tile_size": 64, "overlap": 16})
    items = read_items(write_pairs(2, side=128))
    told: list[Progress] = []
    where = Cluster(scheduler=cluster)
    run_batch(items, tmp_path / "out", settings=settings, cluster=where, progress=told.append)
    with Client(cluster, set_as_default=False) as client:
        events = [
            one for topic, found in client.get_events().items() if topic[:6] == "geocd-" for one in found
        ]
    last = {event["id"]: event for _, event in events}
    assert last["p1"].items() >= {"done": 9, "total": 9, "pixels": 128 * 128}.items()
    assert told[-1].pixels == 2 * 128 * 128

    # half of a pair that runs counts as half
    manifest = types.SimpleNamespace(records={name: {"state": "sent"} for name in ("p0", "p1")})
    tasks = {item.id: Task(item, settings, "", "") for item in items}
    state = _Run(manifest, tasks, False, told.append)
    for name, part in (("p1", 0), ("p1", 1), ("gone", 0)):
        state._hear((0.0, {"id": name, "part": part, "done": 1, "total": 6, "pixels": 2_000_000}))
    state._hear((1.0, {"id": "p1", "part": 1, "done": 2, "total": 6, "pixels": 2_000_000}))
    state._tell(["p0", "p1"], 4, 2)
    now = told[-1]
    assert (now.running, now.tiles, now.of_tiles, now.pixels) == (2, 3, 6, 1_000_000)
    assert now.left == pytest.approx(3 * now.seconds)
    words = _words(dataclasses.replace(now, seconds=10.0))
    assert words.startswith(
        "0 of 2 pairs done, 0 failed, 2 running on 4 workers (tile 3 of 6), 0.1 Mpx/s, end about "
    )


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


TILED = Settings.from_flat({"method": "cva", "tile_size": 64, "overlap": 16})


def test_a_large_scene_is_spread_over_idle_workers(
    cluster: str,
    write_pairs: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "geocd")
    (item,) = read_items(write_pairs(1, side=512))
    where = Cluster(scheduler=cluster)
    run_batch([item], tmp_path / "out", settings=TILED, cluster=where)
    assert "p0: 121 tiles are spread over 2 workers" in caplog.text
    stem = tmp_path / "serial" / "p0" / "p0"
    stem.parent.mkdir(parents=True)
    detect(item.before, item.after, stem, settings=TILED)
    assert contents(tmp_path / "out") == contents(tmp_path / "serial")
    assert len(contents(tmp_path / "out")) == 5
    assert not (tmp_path / "out" / "p0" / ".p0.geocd").exists()

    monkeypatch.setattr(batches, "SPREAD", 122)
    caplog.clear()
    run_batch([item], tmp_path / "less", settings=TILED, cluster=where)
    assert "spread" not in caplog.text
    assert contents(tmp_path / "less") == contents(tmp_path / "serial")


def test_the_parts_of_a_scene(task: Task, write_raster: Callable[..., Path]) -> None:
    """What one part has done, nobody does again; without being made ready, nothing is done."""
    task = dataclasses.replace(task, settings=TILED, config=configuration(TILED)[0])
    with pytest.raises(ResumeError, match="not ready for the tiles of this run"):
        work_part(task, 0, 2)
    assert prepare(task, 5) == 0, "too few"
    write_raster("p0_before", np.random.default_rng(0).normal(1000, 100, (3, 128, 128)).astype(np.float32))
    write_raster("p0_after", np.random.default_rng(1).normal(1000, 100, (3, 128, 128)).astype(np.float32))
    assert prepare(task, 5) == 9
    work_part(task, 1, 2)
    folder = Path(task.folder) / "p0" / ".p0.geocd"
    assert sorted(path.name for path in folder.glob("*.tile")) == ["1.tile", "3.tile", "5.tile", "7.tile"]
    other = Settings.from_flat({"method": "cva", "tile_size": 64, "overlap": 32})
    with pytest.raises(ResumeError, match="--overlap"):
        work_part(dataclasses.replace(task, settings=other), 0, 2)
    assert prepare(task, 5) == 9, "another client does not begin anew"
    assert len(list(folder.glob("*.tile"))) == 4
    assert work(task)["state"] == "done"
    assert not folder.exists()
    assert prepare(task, 5) == 0, "finished"


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
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None or sys.platform != "linux", reason="needs Linux")
def test_a_disk_that_fills_up_in_the_middle(
    cluster: str, small_disk: Callable[[int], Path], write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    items = read_items(write_pairs(9))
    where = Cluster(scheduler=cluster)
    out = small_disk(1200) / "out"
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


def test_a_scheduler_that_is_not_there(write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    import dask.config

    pairs = write_pairs(1)
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        result = invoke("batch", pairs, tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9")
        assert result.exit_code == 1
        assert "tcp://127.0.0.1:9: cannot be reached" in result.stderr
    with pytest.raises(ClusterError, match="no such file"):
        run_batch(read_items(pairs), tmp_path / "out", cluster=Cluster(scheduler_file=str(tmp_path / "none")))


def test_options_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--workers and --scheduler: choose one"):
        Cluster(workers=1, scheduler="tcp://127.0.0.1:9")
    assert invoke("batch", "pairs.csv").exit_code == 2
    assert "write NAME=AMOUNT" in invoke("batch", "a", "b", "--resource", "GPU").stderr


# --- kill -9 ----------------------------------------------------------------------------------------


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


class Kill(WorkerPlugin):
    """A dask plugin: pairs of one id kill their worker, ``times`` times (counted in a file) or always."""

    def __init__(self, name: str, count: Path, times: int, call: str = "detect") -> None:
        self.name = f"kill-{name}"
        self.id, self.count, self.times, self.call = name, count, times, call

    def setup(self, worker: object) -> None:
        from geocd.batch import work as module

        original = getattr(module, self.call)

        def call(*args: Any, **kwargs: Any) -> Any:
            if Path(args[2]).name == self.id and self.count.stat().st_size < self.times:
                with self.count.open("a") as file:
                    file.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(module, self.call, call)


@pytest.mark.parametrize(
    ("times", "state"), [(1, "done"), pytest.param(99, "failed", marks=pytest.mark.slow)]
)
def test_a_worker_that_dies_costs_no_other_pair(
    times: int, state: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    items = read_items(write_pairs(4))
    (tmp_path / "count").touch()
    out = tmp_path / "out"
    with Cluster(workers=2).connect() as client:
        address = client.scheduler_info()["address"]
        client.register_plugin(Kill("p1", tmp_path / "count", times), name="kill-p1")
        summary = run_batch(items, out, settings=CVA, cluster=Cluster(scheduler=address))
    assert states(out) == {"p0": "done", "p1": state, "p2": "done", "p3": "done"}
    assert summary.left == 0
    if state == "failed":
        assert summary.failed["p1"]["error"] == "KilledWorker"
        assert "4 workers died one after the other" in summary.failed["p1"]["message"]
        assert (tmp_path / "count").stat().st_size == 4


@pytest.mark.parametrize(
    ("times", "state"), [(1, "done"), pytest.param(99, "failed", marks=pytest.mark.slow)]
)
def test_a_worker_that_dies_with_a_part_of_a_scene(
    times: int, state: str, cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    items = read_items(write_pairs(1, side=512))
    (tmp_path / "count").touch()
    with Cluster(workers=2).connect() as client:
        where = Cluster(scheduler=client.scheduler_info()["address"])
        client.register_plugin(Kill("p0", tmp_path / "count", times, "compute_tiles"), name="kill-p0")
        summary = run_batch(items, tmp_path / "out", settings=TILED, cluster=where)
    assert (tmp_path / "count").stat().st_size >= 1
    assert states(tmp_path / "out") == {"p0": state}
    if state == "failed":
        assert summary.failed["p0"]["error"] == "KilledWorker"
        return
    run_batch(items, tmp_path / "calm", settings=TILED, cluster=Cluster(scheduler=cluster))
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")


def test_a_killed_client_loses_nothing(
    cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    pairs = write_pairs(5)
    command = ["batch", pairs, tmp_path / "out", "--workers", 1, "--method", "cva"]
    code = "import sys; from geocd.cli import main; main(sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, command)], stderr=subprocess.DEVNULL, start_new_session=True
    ) as client:
        until(lambda: (tmp_path / "out").exists() and lines(tmp_path / "out", "done"))
        client.kill()
    finished = {line["id"] for line in lines(tmp_path / "out", "done")}
    assert 1 <= len(finished) < 5
    result = invoke(*command)
    assert result.exit_code == 0, result.output
    done = [line["id"] for line in lines(tmp_path / "out", "done")]
    assert sorted(done) == [f"p{number}" for number in range(5)], "each was done once"
    run_batch(read_items(pairs), tmp_path / "calm", settings=CVA, cluster=Cluster(scheduler=cluster))
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")
    assert len(contents(tmp_path / "calm")) == 25


@pytest.mark.slow
def test_a_killed_scheduler_is_told_and_the_same_command_goes_on(
    cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    pairs = write_pairs(6, side=256)
    file = tmp_path / "sched.json"
    command = ["batch", pairs, tmp_path / "out", "--scheduler-file", file, "--method", "cva"]

    def start() -> list[subprocess.Popen[str]]:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
        dask = [sys.executable, "-m", "dask"]
        where = ["--scheduler-file", str(file)]
        scheduler = subprocess.Popen(
            [*dask, "scheduler", *where, "--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0"],
            **quiet,
        )
        until(file.exists)
        worker = [
            *dask,
            "worker",
            *where,
            "--nthreads",
            "1",
            "--host",
            "127.0.0.1",
            "--dashboard-address",
            ":0",
        ]
        return [scheduler, *(subprocess.Popen(worker, **quiet) for _ in range(2))]

    processes = start()
    try:
        code = "import sys; from geocd.cli import main; main(sys.argv[1:])"
        with subprocess.Popen(
            [sys.executable, "-c", code, *map(str, command)], stderr=subprocess.PIPE, text=True
        ) as client:
            until(lambda: (tmp_path / "out").exists() and lines(tmp_path / "out", "done"))
            processes[0].kill()
            _, said = client.communicate(timeout=60)
        assert client.returncode == 1, said
        assert "connection to the dask scheduler" in said
        assert "the same command again" in said
        assert "Traceback" not in said
        file.unlink()
        processes += start()
        result = invoke(*command)
        assert result.exit_code == 0, result.output
    finally:
        for process in processes:
            process.terminate()
            process.wait(60)
    done = [line["id"] for line in lines(tmp_path / "out", "done")]
    assert sorted(done) == [f"p{number}" for number in range(6)], "each was done once"
    run_batch(read_items(pairs), tmp_path / "calm", settings=CVA, cluster=Cluster(scheduler=cluster))
    assert contents(tmp_path / "out") == contents(tmp_path / "calm")


# --- the example for SLURM --------------------------------------------------------------------------


def test_the_example_for_slurm(cluster: str, write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    path = Path(__file__).resolve().parents[2] / "examples" / "batch_slurm.py"
    spec = importlib.util.spec_from_file_location("batch_slurm", path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    scaled = []

    class Queue:
        """In the place of dask-jobqueue's cluster."""

        scheduler_address = cluster

        def __init__(self, **job: Any) -> None:
            assert job["cores"] == job["processes"] == 1

        def __enter__(self) -> Queue:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def scale(self, jobs: int) -> None:
            scaled.append(jobs)

    pairs = write_pairs(2)
    given = [str(pairs), str(tmp_path / "out"), "--jobs", "3", "--method", "cva"]
    assert len(example.batch(example.arguments(given), Queue).done) == 2
    assert scaled == [3]
    gpu = example.job(example.arguments([*given, "--gpu"]))
    assert gpu["worker_extra_args"][-2:] == ["--resources", "GPU=1"]
    if importlib.util.find_spec("dask_jobqueue") is not None:
        from dask_jobqueue import SLURMCluster

        with SLURMCluster(**gpu, scheduler_options={"host": "127.0.0.1", "dashboard_address": ":0"}) as queue:
            script = queue.job_script()
        assert "#SBATCH --gres=gpu:1" in script
        assert "--resources GPU=1" in script
