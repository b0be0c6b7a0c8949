"""A bucket as source and target: a real S3 on this machine."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pystac
import pytest
from click.testing import CliRunner, Result
from conftest import write_csv
from distributed import Client

from geocd.batch import manifest as manifests
from geocd.batch.pairs import read_items
from geocd.batch.upload import Bucket
from geocd.batch.work import Task, configuration, work
from geocd.cli import main
from geocd.config import Settings
from geocd.errors import ConfigError, UploadError
from geocd.report.products import PRODUCTS

#: In a process of its own: GDAL keeps the other threads of a process that reads from answering.
SERVER = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def environment(cluster: str) -> Iterator[dict[str, str]]:
    """Start an S3, and tell this process and the workers where it is, as one tells GDAL."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as server, pytest.MonkeyPatch.context() as patch:  # fmt: skip
        assert server.stdin is not None
        assert server.stdout is not None
        host, port = server.stdout.readline().split()
        found = {
            "AWS_S3_ENDPOINT": f"{host}:{port}", "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE",
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "2",
        }  # fmt: skip
        for name, value in found.items():
            patch.setenv(name, value)
        tell(cluster, found)
        yield found
        tell(cluster, dict.fromkeys(found, None))
        server.stdin.close()


def tell(cluster: str, variables: dict[str, Any]) -> None:
    """Set environment variables of the workers; None removes them."""
    with Client(cluster, set_as_default=False) as client:
        client.run(set_variables, variables)


def set_variables(variables: dict[str, Any]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture
def s3(environment: dict[str, str], request: pytest.FixtureRequest) -> Any:
    """Give a client, and a new bucket that keeps every version of an object."""
    client = boto3.client(
        "s3", endpoint_url=f"http://{environment['AWS_S3_ENDPOINT']}", region_name="us-east-1"
    )
    client.bucket = request.node.name.replace("_", "-")[-60:].strip("-")
    client.create_bucket(Bucket=client.bucket)
    client.put_bucket_versioning(Bucket=client.bucket, VersioningConfiguration={"Status": "Enabled"})
    return client


def versions(s3: Any) -> dict[str, int]:
    """Return how often each object was uploaded."""
    counts: dict[str, int] = {}
    for version in s3.list_object_versions(Bucket=s3.bucket).get("Versions", ()):
        counts[version["Key"]] = counts.get(version["Key"], 0) + 1
    return counts


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def made(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*/*_prob.tif")}


def test_a_bucket_is_source_and_target(
    s3: Any, cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    pairs = write_pairs(2)
    for path in tmp_path.glob("*.tif"):
        s3.upload_file(str(path), s3.bucket, f"in/{path.name}")
    rows = list(csv.DictReader(pairs.read_text().splitlines()))
    for row, begin in zip(rows, ("s3:/", "/vsis3"), strict=True):
        for which in ("before", "after"):
            (tmp_path / row[which]).unlink()
            row[which] = f"{begin}/{s3.bucket}/in/{row[which]}"
    out = tmp_path / "out"
    target = f"s3://{s3.bucket}/archive/2024/"
    command = ["batch", write_csv(pairs, rows), out, "--scheduler", cluster, "--method", "cva", "--merge"]
    result = invoke(*command, "--upload", target)
    assert result.exit_code == 0, result.output

    begin = "archive/2024/"
    keys = {key for key in versions(s3) if key.startswith(begin)}
    local = {str(path.relative_to(out)) for path in out.glob("*/[!.]*")}
    assert len(local) == 2 * len(PRODUCTS)
    assert keys == {begin + name for name in (*local, "catalog.json", "changes.gpkg")}
    for key in keys:
        path = tmp_path / "down" / key.removeprefix(begin)
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(s3.bucket, key, str(path))
        assert path.read_bytes() == (out / key.removeprefix(begin)).read_bytes()
    catalog = pystac.Catalog.from_file(str(tmp_path / "down" / "catalog.json"))
    assert [item.id for item in catalog.get_items()] == ["p0", "p1"]
    for item in catalog.get_items():
        for asset in item.assets.values():
            assert Path(str(asset.get_absolute_href())).is_file()

    # nothing is computed or sent twice, and only what is missing or altered is sent again
    before = made(out)
    assert "(0 in this run)" in invoke(*command, "--upload", target).stderr
    assert {versions(s3)[key] for key in keys} == {1}
    s3.delete_object(Bucket=s3.bucket, Key=f"{begin}p0/p0_prob.tif")
    s3.put_object(Bucket=s3.bucket, Key=f"{begin}p1/p1.json", Body=b"{}")
    assert invoke(*command, "--upload", target).exit_code == 0
    counts = versions(s3)
    assert {key: count for key, count in counts.items() if count > 1} == {
        f"{begin}p0/p0_prob.tif": 2, f"{begin}p1/p1.json": 3,
    }  # fmt: skip
    assert made(out) == before


def test_a_failed_upload_is_mended_without_computing(
    s3: Any, environment: dict[str, str], cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [
        "batch", write_pairs(2), out, "--scheduler", cluster, "--method", "cva",
        "--upload", f"s3://{s3.bucket}",
    ]  # fmt: skip
    tell(cluster, {"AWS_S3_ENDPOINT": "127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"})
    try:
        result = invoke(*command)
    finally:
        tell(cluster, environment)
    assert result.exit_code == 3, result.output
    records = manifests.read(out)[0]
    assert [records[name]["error"] for name in ("p0", "p1")] == ["UploadError"] * 2
    assert "p0_changes.gpkg: cannot be uploaded" in records["p0"]["message"]
    assert "--retry-failed" in records["p0"]["message"]
    assert [key for key in versions(s3) if key != "catalog.json"] == []
    before = made(out)
    assert len(before) == 2
    assert invoke(*command).exit_code == 3, "as other failures, left alone until asked for"
    assert invoke(*command, "--retry-failed").exit_code == 0
    assert made(out) == before
    assert len(versions(s3)) == 2 * len(PRODUCTS) + 1
    links = json.loads(s3.get_object(Bucket=s3.bucket, Key="catalog.json")["Body"].read())["links"]
    assert [link["href"] for link in links if link["rel"] == "item"] == ["./p0/p0.json", "./p1/p1.json"]


def test_the_item_comes_last(
    s3: Any, write_pairs: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item,) = read_items(write_pairs(1))
    (tmp_path / "out").mkdir()
    settings = Settings.from_flat({"method": "cva"})
    url = f"s3://{s3.bucket}/x"
    task = Task(item, settings, str(tmp_path / "out"), configuration(settings)[0], upload=url)
    send = Bucket.send

    def fail(self: Bucket, path: Path, name: str, told: Any = None) -> bool:
        if name.endswith("quicklook.png"):
            raise UploadError("the line is cut")
        return send(self, path, name, told)

    monkeypatch.setattr(Bucket, "send", fail)
    assert work(task)["error"] == "UploadError"
    assert set(versions(s3)) == {"x/p0/p0_changes.gpkg", "x/p0/p0_changes.qml", "x/p0/p0_prob.qml",
                                 "x/p0/p0_prob.tif"}  # fmt: skip
    monkeypatch.undo()
    assert work(task)["upload"] == url
    assert set(versions(s3).values()) == {1}
    assert "x/p0/p0.json" in versions(s3)
    assert work(dataclasses.replace(task, upload=None))["state"] == "done"


def test_what_cannot_be_a_target(s3: Any, write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    pairs = write_pairs(1)
    result = invoke("batch", pairs, tmp_path / "out", "--upload", "s3://no-such-bucket/x")
    assert result.exit_code == 1
    assert "s3://no-such-bucket/x: cannot be uploaded (no such bucket)" in result.stderr
    result = invoke("batch", pairs, tmp_path / "out", "--upload", "https://host/x")
    assert result.exit_code == 2
    assert "must be s3://bucket" in result.stderr
    assert not (tmp_path / "out").exists()
    result = invoke("batch", pairs, f"s3://{s3.bucket}/out")
    assert result.exit_code == 2
    assert f"--upload s3://{s3.bucket}/out" in result.stderr.replace("\n", " ")
    with pytest.raises(ConfigError, match="must be s3://bucket"):
        Bucket("s3://")
