"""One pair on a worker."""

from __future__ import annotations

import dataclasses
import http.server
import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import rasterio
from affine import Affine
from batch_folder import CVA, SUFFIXES, TILED

from geocd.batch import manifest as manifests
from geocd.batch.pairs import Item
from geocd.batch.run import Cluster
from geocd.batch.run import run as run_batch
from geocd.batch.work import Task, configuration, prepare, why_not_finished, work, work_part
from geocd.config import Settings
from geocd.errors import ConfigError, ResumeError
from geocd.report.fingerprint import fingerprint


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


def test_a_pair_without_later_dates_has_no_band_of_them(task: Task, tmp_path: Path) -> None:
    settings = Settings.from_flat({"method": "cva", "lasting_band": True})
    with pytest.raises(ConfigError, match="no later dates"):
        run_batch([task.item], tmp_path / "none", settings=settings)
    with rasterio.open(task.item.after) as after:
        values, profile = after.read(), after.profile
    later = tmp_path / "later.tif"
    with rasterio.open(later, "w", **profile) as dataset:
        dataset.write(values[:, ::-1])
    for name, confirm in (("newest", ()), ("older", (str(later),))):
        item = dataclasses.replace(task.item, id=name, confirm=confirm)
        assert work(dataclasses.replace(task, item=item, settings=settings))["state"] == "done"
        with rasterio.open(Path(task.folder) / name / f"{name}_prob.tif") as prob:
            assert prob.descriptions == ("change_probability", "lasting")[: 1 + bool(confirm)]


def test_finished_is_what_checksums_say(task: Task) -> None:
    record = json.loads(json.dumps(work(task)))
    assert set(record["outputs"]) == {f"p0{suffix}" for suffix in (*SUFFIXES, "_report.html", ".json")}
    assert why_not_finished(record, task) is None
    assert why_not_finished({**record, "state": "failed"}, task) == "it was not finished"
    assert why_not_finished({**record, "config": "other"}, task) == "the configuration has changed"

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
    assert why_not_finished(record, task) == "the content of before has changed"
    before.unlink()
    assert why_not_finished(record, task) is None, "without the input nothing better could be made"


def test_another_configuration_has_another_hash() -> None:
    one = configuration(CVA)[0]
    assert one == configuration(Settings.from_flat({"method": "cva", "valid": "v.tif"}))[0]
    fixed = Settings.from_flat({"method": "cva", "tile_size": 512})
    assert one == configuration(fixed)[0], "the preset's own value"
    assert one != configuration(Settings.from_flat({"method": "cva", "min_area": 1.0}))[0]
    assert one != configuration(CVA, mem_limit=500)[0], "tiles may be made smaller for it"
    assert configuration(fixed) == configuration(fixed, mem_limit=500)


def test_another_content_of_the_model_of_verdicts_is_another_configuration(tmp_path: Path) -> None:
    model = tmp_path / "model.json"
    settings = Settings.from_flat({"method": "cva", "refine": str(model)})
    model.write_text("one")
    first = configuration(settings)
    assert first.digest != configuration(CVA).digest
    model.write_text("two")
    assert first.digest != configuration(settings).digest


def test_the_sources_of_a_vrt_are_part_of_its_fingerprint(task: Task, tmp_path: Path) -> None:
    import rasterio.shutil

    rasterio.shutil.copy(task.item.before, tmp_path / "before.vrt", driver="VRT")
    names = [entry.file for entry in fingerprint(str(tmp_path / "before.vrt"))]
    assert names == ["before.vrt", "p0_before.tif"]


def test_looking_at_an_image_does_not_change_it(task: Task, tmp_path: Path) -> None:
    before = Path(task.item.before)
    first = fingerprint(str(before))
    beside = before.with_name(f"{before.name}.aux.xml")
    beside.write_text(
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <Histograms><HistItem><HistMin>0</HistMin></HistItem>'
        '</Histograms>\n <Metadata>\n<MDI key="STATISTICS_MEAN">1</MDI>\n</Metadata>\n  </PAMRasterBand>\n'
        "</PAMDataset>\n"
    )
    with rasterio.open(before) as dataset:
        assert dataset.files == [str(before), str(beside)]
    shutil.copy(before, f"{before}.ovr")
    assert fingerprint(str(before)) == first
    beside.write_text("<PAMDataset><SRS>EPSG:4326</SRS></PAMDataset>")
    assert [entry.file for entry in fingerprint(str(before))] == [before.name, beside.name]


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


def test_a_server_that_never_answers_fails_the_pair(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "GDAL_HTTP_TIMEOUT": "0.3",
        "GDAL_HTTP_MAX_RETRY": "0",
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        item = dataclasses.replace(task.item, after=f"{server}/a.tif")
        record = work(dataclasses.replace(task, item=item))
    assert (record["state"], record["error"]) == ("failed", "RasterOpenError")
    assert f"the server ({server}) did not answer within 0.3 s" in record["message"]


class Flaky(http.server.SimpleHTTPRequestHandler):
    """Serves ranges of files, and refuses the first request for each file."""

    refusals: ClassVar[dict[str, int]] = {}
    looks: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.looks.append(self.path)
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
    assert {"/p0_before.tif.aux.xml", "/p0_before.tif.msk"} <= set(Flaky.looks)
    assert len(set(Flaky.looks)) < 30, "what matters of what might lie beside the images, and no more"


def test_a_link_out_of_the_folder_is_not_followed(task: Task, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "p0").symlink_to(tmp_path / "elsewhere")
    assert "may lead elsewhere" in work(task)["message"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_parts_of_a_scene(task: Task, write_raster: Callable[..., Path]) -> None:
    """What one part has done, nobody does again; without being made ready, nothing is done."""
    task = dataclasses.replace(task, settings=TILED, config=configuration(TILED)[0])
    with pytest.raises(ResumeError, match="not prepared for the tiles of this run: call begin_tiles first"):
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
