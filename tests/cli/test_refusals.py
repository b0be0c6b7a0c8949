"""Bad input: exit code, one message, empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import MakePair, run, scene
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine


def bad(
    name: str, pair: tuple[Path, Path], make_pair: MakePair, tmp_path: Path
) -> tuple[list[object], int, str]:
    """Return the arguments, the exit code and what the message must hold."""
    before, after = pair
    one, _ = scene()
    if name == "missing file":
        return [before, tmp_path / "none.tif"], 1, "none.tif: no such file"
    if name == "no raster":
        (tmp_path / "text.tif").write_text("hello")
        return [before, tmp_path / "text.tif"], 1, "text.tif: not a raster"
    if name == "folder":
        return [tmp_path, after], 1, "is a folder"
    if name == "truncated":
        data = before.read_bytes()
        (tmp_path / "cut.tif").write_bytes(data[: len(data) * 2 // 3])
        return [tmp_path / "cut.tif", after], 1, "cut.tif.*truncated or damaged"
    other = {
        "crs": {"crs": "EPSG:32634"},
        "transform": {"transform": Affine(10, 0, 500_005, 0, -10, 4_200_000)},
    }
    if name in other:
        _, moved = make_pair(one, one, folder="other", **other[name])
        return [before, moved], 1, "before.tif.*after.tif.*--align grid"
    if name == "shape":
        _, cut = make_pair(one[:, :-1], one[:, :-1], folder="other")
        return [before, cut], 1, "100 x 90 px.*100 x 89 px"
    if name == "no crs":
        _, nowhere = make_pair(one, one, folder="other", crs=None)
        return [before, nowhere], 1, "no coordinate reference system.*edit-info"
    if name == "no place at all":
        with pytest.warns(NotGeoreferencedWarning):
            _, nowhere = make_pair(one, one, folder="other", crs=None, transform=Affine.identity())
        return (
            [before, nowhere],
            1,
            "^Error: [^ ]*: the raster has no coordinate.*and no transform",
        )
    if name == "band out of range":
        return [before, after, "--bidx", "1,7"], 1, "band 7 does not exist.*1 to 3"
    if name == "band zero":
        return [before, after, "--bidx", "0"], 2, "counted from 1"
    if name == "band counts":
        _, two = make_pair(one[:2], one[:2], folder="other")
        return [before, two], 1, "3 in .*2 in .*--bidx 1..2"
    if name == "no valid pixel":
        return list(make_pair(one * 0, one, folder="other", nodata=0)), 1, "no pixel is valid"
    if name == "complex":
        return list(make_pair(one.astype(np.complex64), one, folder="other")), 1, "complex64.*complex"
    if name == "unwritable folder":
        return [before, after, "-o", tmp_path / "nowhere" / "run"], 1, "no such folder"
    if name == "overlap":
        return [before, after, "--tile-size", "64", "--overlap", "64"], 2, "smaller than the tile size"
    if name == "device":
        return [before, after, "--device", "cuda:7"], 2, "cuda:7: no such device here"
    if name == "nonsense device":
        return [before, after, "--device", "abacus"], 2, "abacus: no such device here"
    if name == "weights":
        (tmp_path / "w.pth").write_text("junk")
        return [before, after, "--preset", "reference", "--weights", tmp_path / "w.pth"], 1, "w.pth"
    if name == "weights missing":
        return [before, after, "--weights", tmp_path / "w.pth"], 1, "no such weights file"
    if name == "uncertainty of cva":
        return (
            [before, after, "--uncertainty", "--method", "cva"],
            2,
            "--uncertainty.*--method cva has only one",
        )
    if name == "uncertainty of the reference":
        return [before, after, "--uncertainty", "--preset", "reference"], 2, "--preset reference has only one"
    if name == "ignore without names":
        return (
            [before, after, "--ignore", "water"],
            2,
            "green, nir cannot be.*band 1, band 2.*edit-info",
        )
    if name == "ignore a word":
        return [before, after, "--ignore", "water,snow"], 2, "'snow' is not one of water, cloud, vegetation"
    if name == "ignore nothing":
        return [before, after, "--ignore", ""], 2, "'' is not one of water"
    if name == "ignore everything":
        grass = np.stack([one[0] * 0 + 1, one[0] * 0 + 9, one[0] * 0 + 1])
        files = make_pair(grass, grass, folder="other", names=("red", "nir", "blue"))
        return [*files, "--ignore", "vegetation"], 1, "vegetation: no pixel .*NDVI above 0.4.*--valid"
    if name == "threshold":
        return [before, after, "--threshold", "2"], 2, "between 0 and 1"
    if name == "threshold word":
        return [before, after, "--threshold", "high"], 2, "neither a number nor 'auto'"
    if name == "jobs":
        return [before, after, "--jobs", "0"], 2, "jobs"
    assert name == "valid on another grid"
    cut, _ = make_pair(one[:1, :-1], one[:1, :-1], folder="other")
    return [before, after, "--valid", cut], 1, "different sizes"


BAD = [
    "missing file", "no raster", "folder", "truncated", "crs", "transform", "shape", "no crs",
    "no place at all",
    "band out of range", "band zero", "band counts", "no valid pixel", "complex", "unwritable folder",
    "overlap", "device", "nonsense device", "weights", "weights missing", "threshold", "threshold word",
    "jobs", "valid on another grid", "uncertainty of cva", "uncertainty of the reference",
    "ignore without names", "ignore a word", "ignore nothing", "ignore everything",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_message_and_no_file(
    name: str, pair: tuple[Path, Path], make_pair: MakePair, tmp_path: Path, out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    arguments, code, message = bad(name, pair, make_pair, tmp_path)
    monkeypatch.chdir(out)
    result = run("detect", *arguments)
    assert result.exit_code == code, result.output
    assert re.search(message, " ".join(result.stderr.split())), result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert list(out.iterdir()) == []


def test_a_read_only_folder(pair: tuple[Path, Path], out: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    out.chmod(0o555)
    result = run("detect", *pair, "-o", out / "run")
    assert result.exit_code == 1
    assert "cannot write into this folder" in result.output


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from geocd.cli import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize("room", [1_000, 20_000, 60_000])
def test_a_full_disk_is_named_and_leaves_nothing(room: int, pair: tuple[Path, Path], out: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(room), "detect", *map(str, pair)]
    done = subprocess.run(
        [*command, "-o", str(out / "run"), "--method", "cva"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "disk has room" in done.stderr
    assert list(out.iterdir()) == []
