"""An archive as it is: a STAC API whose links end after two seconds, masks, tiles, dates, and a kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from batch_folder import contents, lines
from conftest import write_raster
from expiring import SIGNER, expiring
from rasterio.warp import transform_bounds
from stac_api import Api

DAYS = ["2021-06-10", "2022-06-05", "2023-06-12", "2024-06-08", "2025-06-01"]
SIDE = 96


def write_archive(folder: Path) -> None:
    """Write two tiles of five dates with their SCL; from the third on a field is another, a cloud passes."""
    folder.mkdir()
    for tile in range(2):
        ground = np.random.default_rng(tile).normal(1000, 100, (3, SIDE, SIDE))
        for number, day in enumerate(DAYS):
            values = ground + np.random.default_rng(number + 9).normal(0, 10, ground.shape)
            classes = np.full((SIDE, SIDE), 5, np.uint8)
            if number >= 2:
                values[:, 20:40, 20:40] += 1500
            if number == 3:
                values[:, 50:70, 20:60] += 4000
                classes[48:72, 18:62] = 9
            for name, array in (("visual", values.astype(np.float32)), ("scl", classes)):
                write_raster(folder / f"{tile}_{day}_{name}.tif", array)


@contextlib.contextmanager
def api(address: str) -> Iterator[Api]:
    """Serve the items of the archive; their links are not signed."""
    with Api() as server:
        for tile in range(2):
            server.items += [
                {
                    "type": "Feature", "stac_version": "1.0.0", "id": f"{tile}_{day}", "collection": "s2-l2a",
                    "geometry": None, "links": [],
                    "properties": {"datetime": f"{day}T10:00:00Z", "grid:code": f"MGRS-33UU{'PQ'[tile]}"},
                    "assets": {name: {"href": f"{address}/{tile}_{day}_{name}.tif"}
                               for name in ("visual", "scl")},
                }
                for day in DAYS
            ]  # fmt: skip
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def geocd(folder: Path, *words: object) -> subprocess.Popen[str]:
    code = "import sys; from geocd.cli import main; main(sys.argv[1:])"
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-c", code, "-vv", *map(str, words)],
        env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "rules", "pairs"),
    [
        ("batch", ["--season-days", 30, "--baseline-years", 2, "--confirm-days", 800], 8),
        ("series", ["--baseline-years", 2], 18),
    ],
)
def test_killed_and_resumed_gives_the_same_bytes(
    command: str, rules: list[object], pairs: int, tmp_path: Path
) -> None:
    write_archive(tmp_path / "files")
    (tmp_path / "lender.py").write_text(SIGNER.format(seconds=2))
    with expiring(tmp_path / "files", tmp_path / "log") as address, api(address) as server:
        west, south, east, north = transform_bounds(
            "EPSG:32633", "EPSG:4326", *(500_000, 4_200_000 - 10 * SIDE), 500_000 + 10 * SIDE, 4_200_000
        )
        server.box = (west, south, west + 0.8 * (east - west), north)
        options = [
            "--collection", "s2-l2a", "--bbox", *server.box, "--datetime", "2020-01-01/2025-12-31",
            "--assets", "visual", "--sign", "lender:sign", *rules, "--workers", 2,
        ]  # fmt: skip
        said = []
        for out in ("killed", "killed", "calm"):
            process = geocd(tmp_path, command, server.url, tmp_path / out, *options)
            manifest = tmp_path / out / "manifest.jsonl"
            if not said and out == "killed" and not manifest.exists():
                end = time.monotonic() + 120
                while not manifest.exists() or not lines(manifest.parent, "done"):
                    assert time.monotonic() < end
                    time.sleep(0.02)
                os.killpg(process.pid, signal.SIGKILL)
                said.append(process.communicate()[1])
            else:
                said.append(process.communicate(timeout=300)[1])
                assert process.returncode == 0, said[-1]
                assert f"{pairs} pairs done" in said[-1]
    finished = [line["id"] for line in lines(tmp_path / "killed", "done")]
    assert len(finished) == len(set(finished)) == pairs, "each pair was done once"
    assert contents(tmp_path / "killed") == contents(tmp_path / "calm")
    assert {line.split()[2] for line in (tmp_path / "log").read_text().splitlines()} <= {"200", "206", "404"}
    for file in [*(tmp_path / "killed").rglob("*"), *(tmp_path / "calm").rglob("*")]:
        assert not file.is_file() or b"sig=" not in file.read_bytes(), file
    assert not any("sig=" in text for text in said), "nor does a line of the log"
    name = "MGRS-33UUP_20220605_20230612"
    properties = json.loads((tmp_path / "calm" / name / f"{name}.json").read_text())["properties"]
    assert properties["proj:shape"][1] == round(0.8 * SIDE)
    inputs = set(properties["geocd:inputs"])
    assert {"mask_before", "mask_after", "baseline 1"} <= inputs
    assert ("confirm 1" in inputs) == (command == "batch")
    if command == "series":
        for suffix in ("tif", "gpkg"):
            name = f"MGRS-33UUP_series.{suffix}"
            assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "calm" / name).read_bytes()
