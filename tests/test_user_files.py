"""What users have in their folders: no command deletes, replaces or uncovers what geocd did not make."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from commands import run

from geocd.vectorize.formats import FORMATS

pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions and links of POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def hide(folder: Path) -> dict[Path, int]:
    """Let nobody else read the files of a folder; return their times."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        path.chmod(0o600)
    return {path: path.stat().st_ino for path in files}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def images(make_pair: Callable[..., tuple[Path, Path]], scene: Callable[..., object]) -> tuple[Path, Path]:
    return make_pair(scene(), scene(seed=1))


@pytest.mark.parametrize("suffix", [None, *FORMATS])
def test_what_nobody_else_may_read_stays_so(suffix: str | None, images: tuple[Path, Path], out: Path) -> None:
    """``--overwrite`` of detect, rerun and polygonize."""
    detect = ["detect", *images, "-o", out / "x", "--method", "cva", "--overwrite"]
    assert run(*detect).exit_code == 0
    if suffix is None:
        assert run("rerun", out / "x.json", "-o", out / "again").exit_code == 0
        commands = [detect, ["rerun", out / "x.json", "-o", out / "again", "--overwrite"]]
    else:
        commands = [["polygonize", out / "x_prob.tif", "-o", out / f"y{suffix}", "--overwrite"]]
        assert run(*commands[0]).exit_code == 0
        for path in out.glob("x*"):
            path.rename(out.parent / path.name)
        commands[0][1] = out.parent / "x_prob.tif"
    hidden = hide(out)
    for command in commands:
        result = run(*command)
        assert result.exit_code == 0, result.output
    assert {path for path, number in hidden.items() if path.stat().st_ino != number} == set(hidden)
    assert {mode(path) for path in out.iterdir()} == {0o600}


def test_what_nobody_else_may_read_stays_so_in_a_batch(
    cluster: str, write_pairs: Callable[..., Path], out: Path
) -> None:
    """Products, item, manifest, catalogue and merged layers, edited ones and their copies too."""
    command = ["batch", write_pairs(1), out, "--method", "cva", "--scheduler", cluster, "--merge"]
    assert run(*command).exit_code == 0
    for path in (out / "p0" / "p0_changes.gpkg", out / "changes.gpkg"):
        geopandas.read_file(path, layer="changes").assign(verdict="").to_file(path, layer="changes")
    hidden = hide(out)
    assert run(*command, "--min-area", 50).exit_code == 0
    assert {mode(path) for path in out.rglob("*") if path.is_file()} == {0o600}
    files = {path for path in out.rglob("*") if path.is_file()}
    assert {path.name.partition("-")[0] for path in files - hidden.keys()} == {
        "p0_changes.edited",
        "changes.edited",
    }


def content(folder: Path) -> dict[str, tuple[bytes, int, str | None]]:
    """Return bytes, inode and target of everything below a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            path.read_bytes() if path.is_file() else b"",
            path.lstat().st_ino,
            str(path.readlink()) if path.is_symlink() else None,
        )
        for path in folder.rglob("*")
    }


def run_of(command: str, tmp_path: Path, images: tuple[Path, Path], stem: Path) -> list[object]:
    """Return a command that writes over everything of a stem."""
    if command == "rerun":
        item = tmp_path / "item" / "x.json"
        item.parent.mkdir()
        assert run("detect", *images, "-o", item.with_suffix(""), "--method", "cva").exit_code == 0
        return ["rerun", item, "-o", stem, "--overwrite"]
    return ["detect", *images, "-o", stem, "--method", "cva", "--overwrite"]


@pytest.mark.parametrize("kind", ["link", "foreign", "link within", "link of a lock"])
@pytest.mark.parametrize("command", ["detect", "rerun"])
def test_hidden_folders_of_others_stay(
    command: str, kind: str, images: tuple[Path, Path], out: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    arguments = run_of(command, tmp_path, images, out / "y")
    hidden = out / ".y.geocd"
    if kind == "link":
        hidden.symlink_to(tmp_path / "mine")
    else:
        hidden.mkdir()
        if kind == "foreign":
            (hidden / "notes.txt").write_text("mine")
        else:
            name = "lock" if kind == "link of a lock" else "y_prob.tif"
            (hidden / name).symlink_to(tmp_path / "mine" / "notes.txt")
    before = content(tmp_path)
    refused = run(*arguments)
    assert refused.exit_code == 1, refused.output
    assert str(hidden) in refused.stderr
    assert content(tmp_path) == before


@pytest.mark.parametrize("which", ["before", "after", "--valid", "--weights", "--config", "item"])
def test_no_run_replaces_what_it_reads(
    which: str, images: tuple[Path, Path], out: Path, tmp_path: Path
) -> None:
    """Under its own name, or where an output is a link to it."""
    target = out / "y_prob.tif"
    if which == "item":
        arguments = run_of("rerun", tmp_path, images, out / "y")
        arguments[1] = (tmp_path / "item" / "x.json").rename(out / "y.json")
    elif which == "--config":
        target.write_text('method = "cva"\n')
        arguments = ["detect", *images, "-o", out / "y", which, target, "--overwrite"]
    elif which.startswith("--"):
        mask = tmp_path / "mask.tif"
        with (
            rasterio.open(images[0]) as image,
            rasterio.open(mask, "w", **image.profile | {"count": 1}) as sink,
        ):
            sink.write(np.ones((1, *image.shape), image.dtypes[0]))
        target.symlink_to(mask if which == "--valid" else images[0])
        arguments = ["detect", *images, "-o", out / "y", which, target, "--overwrite"]
        for name in ("a.tif", "b.tif"):  # images that are no output
            (tmp_path / name).write_bytes(images[name == "b.tif"].read_bytes())
        arguments[1:3] = tmp_path / "a.tif", tmp_path / "b.tif"
    else:
        source = images[which == "after"]
        source.rename(target)
        pair = [target if path == source else path for path in images]
        arguments = ["detect", *pair, "-o", out / "y", "--overwrite"]
    before = content(tmp_path)
    refused = run(*arguments)
    assert refused.exit_code == 1, refused.output
    assert "would replace an input of this run" in refused.stderr
    assert content(tmp_path) == before


@pytest.mark.parametrize("which", ["prob", "--pair", "--config"])
def test_polygonize_does_not_replace_what_it_reads(
    which: str, images: tuple[Path, Path], out: Path, tmp_path: Path
) -> None:
    assert run("detect", *images, "-o", out / "x", "--method", "cva").exit_code == 0
    target = out / "y.gpkg"
    command: list[object] = ["polygonize", out / "x_prob.tif", "-o", target, "--overwrite"]
    if which == "prob":
        command[1] = (out / "x_prob.tif").rename(target)
    elif which == "--pair":
        command += [which, images[0].rename(target), images[1]]
    else:
        target.write_text("min_area = 50.0\n")
        command += [which, target]
    before = content(tmp_path)
    refused = run(*command)
    assert refused.exit_code == 1, refused.output
    assert "would replace an input of this run" in refused.stderr
    assert content(tmp_path) == before


def test_evaluate_and_check_write_nothing(images: tuple[Path, Path], out: Path, tmp_path: Path) -> None:
    assert run("detect", *images, "-o", out / "x", "--method", "cva").exit_code == 0
    before = content(tmp_path)
    for command in (
        ["evaluate", out / "x_prob.tif", out / "x_changes.gpkg"],
        ["check", *images],
        ["detect", *images, "--dry-run", "--method", "cva"],
        ["rerun", out / "x.json"],
    ):
        result = run(*command)
        assert result.exit_code == 0, result.output
        assert content(tmp_path) == before


@pytest.mark.parametrize(
    "which", ["list", "--config", "input", "input of another", "merged", "manifest", "link to a manifest"]
)
def test_a_batch_refuses_to_replace_what_it_reads_or_did_not_make(
    which: str, write_pairs: Callable[..., Path], out: Path, tmp_path: Path
) -> None:
    pairs = write_pairs(2)
    command = ["batch", pairs, out, "--method", "cva", "--merge", "--scheduler", "tcp://127.0.0.1:9"]
    manifest = out / "manifest.jsonl"
    if which == "list":
        command[1] = pairs.rename(out / "changes.gpkg")
    elif which == "--config":
        (out / "catalog.json").write_text("seed = 1\n")
        command += [which, out / "catalog.json"]
    elif which == "manifest":
        manifest.write_text('{"image": "a.jpg"}\n')
    elif which == "link to a manifest":
        (tmp_path / "empty").touch()
        manifest.symlink_to(tmp_path / "empty")
    else:
        name = {"input": "p0/p0_prob.tif", "input of another": "p1/p1_prob.tif", "merged": "changes.gpkg"}
        text = pairs.read_text()
        image = text.splitlines()[1].split(",")[1]
        target = out / name[which]
        target.parent.mkdir(exist_ok=True)
        (pairs.parent / image).rename(target)
        pairs.write_text(text.replace(image, str(target), 1))
    before = content(tmp_path)
    refused = run(*command)
    assert refused.exit_code == 1, refused.output
    said = "was not made by geocd" if "manifest" in which else "would replace an input of this run"
    assert said in refused.stderr
    assert content(tmp_path) == before


def test_a_batch_keeps_what_was_there_before_it(
    cluster: str, write_pairs: Callable[..., Path], out: Path, tmp_path: Path
) -> None:
    """Files under the names of its own, and links: replaced by none, or kept under another name."""
    (out / "p0").mkdir()
    (out / "p1").mkdir()
    (out / "p2").symlink_to(tmp_path)
    mine = ["catalog.json", "changes.gpkg", "p0/p0_changes.gpkg", "p0/p0.json", "p0/p0_prob.qml"]
    for name in mine:
        (out / name).write_text(f"mine: {name}")
    (tmp_path / "target").write_text("foreign")
    for name in (".catalog.json", ".merged.json", "p0/.p0.json", "p1/.record.json", "p1/p1_report.html"):
        (out / name).symlink_to(tmp_path / "target")
    command = ["batch", write_pairs(3), out, "--method", "cva", "--scheduler", cluster, "--merge"]
    result = run(*command)
    assert result.exit_code == 3, result.output
    status = run("batch", "--status", out).stdout
    assert "1 done, 2 failed" in status
    assert status.count("is a symbolic link and may lead elsewhere") == 2
    assert (tmp_path / "target").read_text() == "foreign"
    copies = [path for path in out.glob("**/*.edited-*") if not path.is_symlink()]
    assert {path.read_text() for path in copies} == {f"mine: {name}" for name in mine}
    assert run(*command, "--min-area", 50).exit_code == 3
    again = [path for path in out.glob("**/*.edited-*") if not path.is_symlink()]
    assert sorted(again) == sorted(copies), "what geocd has written itself is not copied"
