"""The command line: what a user sees, on good and on bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner, Result
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine
from rio_cogeo.cogeo import cog_validate

from geocd import __version__
from geocd.cli import main

MakePair = Callable[..., tuple[Path, Path]]
OUTPUTS = [
    "run.json",
    "run_changes.gpkg",
    "run_changes.qml",
    "run_prob.qml",
    "run_prob.tif",
    "run_quicklook.png",
    "run_report.html",
]


def scene(bands: int = 3, height: int = 90, width: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Return a textured scene and, 20 % brighter, the same with an object of a third of its size."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(bands, height // 5 + 1, width // 5 + 1))
    before = 1000 + 150 * np.kron(coarse, np.ones((5, 5)))[:, :height, :width]
    before = before + rng.normal(0, 20, before.shape)
    after = 1.2 * before + 100
    after[:, 30:60, 40:70] = 3000 + rng.normal(0, 100, (bands, 30, 30))
    return before.astype(np.float32), after.astype(np.float32)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def pair(make_pair: MakePair) -> tuple[Path, Path]:
    return make_pair(*scene())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("method", ["deep", "cva", "irmad"])
def test_detect_writes_everything_and_finds_the_object(
    method: str, pair: tuple[Path, Path], out: Path
) -> None:
    result = run("detect", *pair, "-o", out / "run", "--method", method)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in out.iterdir()) == OUTPUTS
    assert cog_validate(str(out / "run_prob.tif"), strict=True, quiet=True)[0]
    with rasterio.open(out / "run_prob.tif") as dataset:
        prob = dataset.read(1)
        assert dataset.descriptions == ("change_probability",)
    truth = np.zeros(prob.shape, bool)
    truth[30:60, 40:70] = True
    changed = prob >= 0.5
    assert (changed & truth).sum() / (changed | truth).sum() > 0.6
    polygons = geopandas.read_file(out / "run_changes.gpkg")
    assert polygons.is_valid.all()
    assert polygons.n_pixels.sum() == changed.sum()
    item = json.loads((out / "run.json").read_text())
    assert item["properties"]["geocd:threshold"] == 0.5
    assert item["properties"]["geocd:method"] == method


def test_json_goes_to_stdout_and_nothing_else_does(pair: tuple[Path, Path], out: Path) -> None:
    result = run("detect", *pair, "-o", out / "run", "--method", "cva", "--json")
    item = json.loads(result.stdout)
    assert item == json.loads((out / "run.json").read_text())
    assert "polygons" in result.stderr
    quiet = run("-q", "detect", *pair, "-o", out / "quiet", "--method", "cva")
    assert quiet.output == ""


def test_zeros_that_nobody_declared_are_told(
    make_pair: MakePair, scene: Callable[..., np.ndarray], out: Path
) -> None:
    image = scene(height=100, width=100)
    hole = image.copy()
    hole[:, 10:30, 10:30] = 0
    before, after = make_pair(image, hole)
    result = run("detect", before, after, "-o", out / "run", "--method", "cva")
    assert f"note: {after}: 4% of the pixels that count as valid are 0 in all bands" in result.stderr
    assert str(before) not in result.stderr
    shares = json.loads((out / "run.json").read_text())["properties"]["geocd:summary"]["zero_share"]
    assert shares == {"before": 0, "after": 0.04}
    result = run("detect", before, after, "-o", out / "told", "--method", "cva", "--nodata", 0)
    assert "0 in all bands" not in result.stderr


def test_the_default_stem_is_both_names_in_the_current_folder(
    pair: tuple[Path, Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(out)
    assert run("detect", *pair, "--method", "cva").exit_code == 0
    assert (out / "before_after_prob.tif").exists()


def test_existing_outputs_are_kept_unless_asked(pair: tuple[Path, Path], out: Path) -> None:
    assert run("detect", *pair, "-o", out / "run", "--method", "cva").exit_code == 0
    first = (out / "run_prob.tif").read_bytes()
    refused = run("detect", *pair, "-o", out / "run", "--method", "irmad")
    assert refused.exit_code == 1
    assert "--overwrite" in refused.output
    assert (out / "run_prob.tif").read_bytes() == first
    assert run("detect", *pair, "-o", out / "run", "--method", "irmad", "--overwrite").exit_code == 0
    assert (out / "run_prob.tif").read_bytes() != first
    assert sorted(p.name for p in out.iterdir()) == OUTPUTS


def test_a_threshold_moves_the_polygons_and_is_recorded(pair: tuple[Path, Path], out: Path) -> None:
    counts = []
    for threshold in ("auto", "0.9"):
        run("detect", *pair, "-o", out / "run", "--threshold", threshold, "--method", "cva", "--overwrite")
        counts.append(geopandas.read_file(out / "run_changes.gpkg").n_pixels.sum())
    assert counts[1] < counts[0]
    assert json.loads((out / "run.json").read_text())["properties"]["geocd:threshold"] == 0.9


def test_evaluate_uses_the_runs_own_threshold(pair: tuple[Path, Path], out: Path) -> None:
    run("detect", *pair, "-o", out / "run", "--method", "cva", "--threshold", "0.7")
    with rasterio.open(out / "run_prob.tif") as dataset:
        profile = dataset.profile | {"dtype": "uint8", "nodata": 255, "driver": "GTiff"}
        prob = dataset.read(1)
    truth = np.zeros((1, *prob.shape), np.uint8)
    truth[0, 30:60, 40:70] = 1
    for key in ("blockxsize", "blockysize", "tiled", "predictor", "compress", "interleave"):
        profile.pop(key, None)
    with rasterio.open(out / "truth.tif", "w", **profile) as dataset:
        dataset.write(truth)
    result = run("evaluate", out / "run_prob.tif", out / "truth.tif", "--json")
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)
    changed = prob >= 0.7
    expected = 2 * (changed & (truth[0] == 1)).sum() / (changed.sum() + truth.sum())
    assert scores["f1"] == pytest.approx(expected)
    assert scores["threshold"] == pytest.approx(0.7)
    assert "average_precision" in run("evaluate", out / "run_prob.tif", out / "truth.tif").stdout


def test_uncertainty_is_a_second_band_and_leaves_the_first_alone(pair: tuple[Path, Path], out: Path) -> None:
    tiles = ["--tile-size", "64", "--overlap", "32"]
    assert run("detect", *pair, "-o", out / "plain", *tiles).exit_code == 0
    assert run("detect", *pair, "-o", out / "run", *tiles, "--uncertainty").exit_code == 0
    assert cog_validate(str(out / "run_prob.tif"), strict=True, quiet=True)[0]
    with rasterio.open(out / "plain_prob.tif") as plain, rasterio.open(out / "run_prob.tif") as dataset:
        assert plain.read(1).tobytes() == dataset.read(1).tobytes()
        assert dataset.descriptions == ("change_probability", "uncertainty")
        assert dataset.dtypes == ("float32", "float32")
        uncertainty = dataset.read(2)
    assert ((uncertainty >= 0) & (uncertainty <= 1)).all()
    assert uncertainty.max() > 0.01
    # everything else is made of the first band alone
    for name in ("changes.gpkg", "quicklook.png", "prob.qml", "changes.qml"):
        assert (out / f"plain_{name}").read_bytes() == (out / f"run_{name}").read_bytes()
    bands = json.loads((out / "run.json").read_text())["assets"]["prob"]["bands"]
    assert [band["name"] for band in bands] == ["change_probability", "uncertainty"]
    assert all("statistics" in band for band in bands)
    assert json.loads((out / "run.json").read_text())["properties"]["geocd:settings"]["uncertainty"] is True


def test_uncertainty_is_not_known_where_the_probability_is_not(make_pair: MakePair, out: Path) -> None:
    before, after = scene()
    before[:, :10, :20] = np.nan
    assert run("detect", *make_pair(before, after), "-o", out / "run", "--uncertainty").exit_code == 0
    with rasterio.open(out / "run_prob.tif") as dataset:
        prob, uncertainty = dataset.read()
    assert np.isnan(prob[:10, :20]).all()
    assert (np.isnan(prob) == np.isnan(uncertainty)).all()


def test_what_is_ignored_is_said(make_pair: MakePair, out: Path) -> None:
    before, after = scene(4)
    for image in (before, after):
        image[3] += 2000
        image[3, :45] = 100  # under the water
    files = make_pair(before, after, names=("blue", "green", "red", "nir"))
    arguments = ["detect", *files, "-o", out / "run", "--method", "cva", "--ignore", "vegetation, Water"]
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    said = result.stderr.splitlines()[0]
    shares = json.loads((out / "run.json").read_text())["properties"]["geocd:summary"]["ignored_share"]
    assert shares["water"] == pytest.approx(0.5)
    assert said == (
        f"Ignored of the valid area: 50.00% as water (NDWI above 0.05 in both dates); "
        f"{shares['vegetation']:.2%} as vegetation (NDVI above 0.4 in both dates)."
    )
    assert run("-q", *arguments, "--overwrite").output == ""


def test_a_dry_run_writes_nothing(pair: tuple[Path, Path], out: Path) -> None:
    arguments = ["detect", *pair, "-o", out / "run", "--method", "cva", "--dry-run",
                 "--tile-size", "40", "--overlap", "10", "--jobs", "2"]  # fmt: skip
    said = run(*arguments)
    assert said.exit_code == 0, said.output
    assert re.fullmatch(r"9 tiles of 40 px, 2 at a time; about \d+ MB at most, about \d+ s\.\n", said.stdout)
    expected = json.loads(run(*arguments, "--json").stdout)
    assert expected.keys() == {"tiles", "tile_size", "jobs", "peak", "seconds"}
    assert 200 < expected["peak"] < 400
    assert 0 < expected["seconds"] < 60
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (119, "119 s"), (300, "5.0 min"), (9000, "2.5 h")]
)
def test_a_duration_in_the_unit_that_suits_it(seconds: float, said: str) -> None:
    from geocd.cli.detect import _duration

    assert _duration(seconds) == said


# --- bad input: exit code, message, empty folder ---------------------------------------------------


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
        return [before, nowhere], 1, "^Error: [^ ]*: the raster has no coordinate reference system"
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
        return [before, after, "--ignore", "water"], 2, "green, nir cannot be told.*band 1, band 2.*edit-info"
    if name == "ignore a word":
        return [before, after, "--ignore", "water,snow"], 2, "'snow' is not one of water, cloud, vegetation"
    if name == "ignore nothing":
        return [before, after, "--ignore", ""], 2, "'' is not one of water"
    if name == "ignore everything":
        grass = np.stack([one[0] * 0 + 1, one[0] * 0 + 9, one[0] * 0 + 1])
        files = make_pair(grass, grass, folder="other", names=("red", "nir", "blue"))
        return [*files, "--ignore", "vegetation"], 1, "vegetation left nothing.*NDVI above 0.4.*--valid"
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


def test_vv_shows_the_traceback(tmp_path: Path) -> None:
    result = run("-vv", "detect", tmp_path / "a.tif", tmp_path / "b.tif")
    assert "Traceback" in result.stderr


def test_progress_for_programs(pair: tuple[Path, Path], out: Path) -> None:
    result = run("detect", *pair, "-o", out / "run", "--method", "cva", "--tile-size", 40, "--overlap", 10,
                 "--progress", "json")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    steps = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert [set(step) for step in steps] == [{"stage", "done", "total"}] * len(steps)
    tiles = [step["done"] for step in steps if step["stage"] == "tiles"]
    assert tiles == list(range(10))
    assert list(dict.fromkeys(step["stage"] for step in steps)) == ["fit", "tiles", "polygons"]
    assert all(step["done"] <= step["total"] for step in steps)
    rest = [line for line in result.stderr.splitlines() if not line.startswith("{")]
    assert rest[1:] == [str(out / "run_prob.tif"), str(out / "run_changes.gpkg")]


# --- interrupted -----------------------------------------------------------------------------------

STOPPED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
from geocd.pipeline import run
real = run.detect
def detect(*args, progress, **options):
    def stop(stage, done, total):
        if stage == "tiles" and done == 3:
            os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    return real(*args, progress=stop, **options)
run.detect = detect
from geocd.cli import main
main(sys.argv[2:])
"""


@pytest.mark.skipif(os.name == "nt", reason="other signals")
@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_an_interrupt_says_how_to_go_on(sent: str, code: int, pair: tuple[Path, Path], out: Path) -> None:
    arguments = ["detect", *map(str, pair), "-o", str(out / "run"), "--method", "cva", "--resume",
                 "--tile-size", "40", "--overlap", "10"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, sent, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()
    assert said[0] == f"INFO: nothing to resume for {out / 'run'}: starting from the beginning"
    found = re.fullmatch(
        r"interrupted: (\d+) of 9 tiles are kept; "
        r"run the same command with --resume to go on, or delete (.*)",
        said[1],
    )
    assert found
    assert 3 <= int(found[1]) <= 9
    assert [str(path) for path in out.iterdir()] == [found[2]]
    again = subprocess.run(
        [sys.executable, "-c", "from geocd.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert f"going on with an interrupted run: {found[1]} of 9 tiles are kept" in again.stderr
    assert sorted(p.name for p in out.iterdir()) == OUTPUTS


# --- these are unusual and right -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64", "int32"])
def test_every_data_type(dtype: str, make_pair: MakePair, out: Path) -> None:
    before, after = scene()
    scale = 255 / 3500 if dtype == "uint8" else 1
    files = make_pair((before * scale).clip(0).astype(dtype), (after * scale).clip(0).astype(dtype))
    assert run("detect", *files, "-o", out / "run").exit_code == 0
    with rasterio.open(out / "run_prob.tif") as dataset:
        changed = dataset.read(1) >= 0.5
    assert changed[30:60, 40:70].mean() > 0.7


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 5), (3, 1, 3000), (2, 3000, 1), (13, 60, 70)])
@pytest.mark.parametrize("method", ["deep", "cva", "irmad"])
def test_every_shape_and_band_count(
    shape: tuple[int, int, int], method: str, make_pair: MakePair, out: Path
) -> None:
    rng = np.random.default_rng(0)
    files = make_pair(rng.gamma(3, 100, shape).astype("float32"), rng.gamma(3, 100, shape).astype("float32"))
    result = run("detect", *files, "-o", out / "run", "--method", method, "--tile-size", 256)
    assert result.exit_code == 0, result.output
    with rasterio.open(out / "run_prob.tif") as dataset:
        prob = dataset.read(1)
    assert prob.shape == shape[1:]
    assert np.isfinite(prob).all()
    assert ((prob >= 0) & (prob <= 1)).all()


@pytest.mark.parametrize("method", ["deep", "cva", "irmad"])
def test_the_same_file_twice_has_no_polygon(method: str, pair: tuple[Path, Path], out: Path) -> None:
    assert run("detect", pair[0], pair[0], "-o", out / "run", "--method", method).exit_code == 0
    assert len(geopandas.read_file(out / "run_changes.gpkg")) == 0


@pytest.mark.parametrize("method", ["deep", "cva", "irmad"])
def test_constant_images_have_no_polygon(method: str, make_pair: MakePair, out: Path) -> None:
    flat = np.full((3, 60, 60), 7, np.uint8)
    assert run("detect", *make_pair(flat, flat + 9), "-o", out / "run", "--method", method).exit_code == 0
    assert len(geopandas.read_file(out / "run_changes.gpkg")) == 0


@pytest.mark.parametrize("method", ["deep", "cva", "irmad"])
def test_gain_and_offset_alone_are_no_change(method: str, make_pair: MakePair, out: Path) -> None:
    before = scene(6)[0].astype(np.uint16)
    after = np.clip(1.3 * before + 200, 0, 65535).astype(np.uint16)
    assert run("detect", *make_pair(before, after), "-o", out / "run", "--method", method).exit_code == 0
    with rasterio.open(out / "run_prob.tif") as dataset:
        assert (dataset.read(1) >= 0.5).mean() <= 0.001


def test_holes_of_either_date_stay_holes(make_pair: MakePair, out: Path) -> None:
    before, after = scene()
    before[:, :10, :20] = np.nan
    before[1, 70, 70] = np.inf
    after[:, -8:] = -9999
    files = make_pair(before, after, nodata=-9999)
    assert run("detect", *files, "-o", out / "run").exit_code == 0
    with rasterio.open(out / "run_prob.tif") as dataset:
        prob = dataset.read(1)
    expected = np.ones(prob.shape, bool)
    expected[:10, :20] = expected[70, 70] = expected[-8:] = False
    assert (np.isfinite(prob) == expected).all()


def test_a_rotated_grid_works(make_pair: MakePair, out: Path) -> None:
    cos, sin = 10 * np.cos(0.5), 10 * np.sin(0.5)
    transform = Affine(cos, sin, 500_000, sin, -cos, 4_200_000)
    files = make_pair(*scene(), transform=transform)
    assert run("detect", *files, "-o", out / "run", "--method", "cva").exit_code == 0
    with rasterio.open(out / "run_prob.tif") as dataset:
        assert dataset.transform.almost_equals(transform)
    polygons = geopandas.read_file(out / "run_changes.gpkg")
    assert polygons.area_m2.sum() == pytest.approx(polygons.n_pixels.sum() * 100, rel=0.01)


# --- reproducible, quick to start ------------------------------------------------------------------


@pytest.mark.parametrize("extra", [["--preset", "default"], ["--preset", "reference", "--weights", "random",
                                   "--iterations", "2", "--tile-size", "64", "--overlap", "16"]])  # fmt: skip
def test_bytes_depend_on_neither_the_run_nor_the_jobs(
    extra: list[str], pair: tuple[Path, Path], out: Path
) -> None:
    if "reference" not in extra:
        extra = [*extra, "--tile-size", "64", "--overlap", "32"]
    contents = []
    for jobs in (1, 1, 3):
        result = run("detect", *pair, "-o", out / "run", "--jobs", jobs, "--overwrite", *extra)
        assert result.exit_code == 0, result.output
        contents.append([(out / name).read_bytes() for name in ("run_prob.tif", "run_changes.gpkg")])
    assert contents[0] == contents[1] == contents[2]


def test_bytes_do_not_depend_on_the_hash_seed(pair: tuple[Path, Path], out: Path) -> None:
    contents = []
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "geocd", "detect", *map(str, pair), "-o", str(out / "run")]
        command += ["--iterations", "2", "--uncertainty", "--overwrite"]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        files = {path.name: path.read_bytes() for path in sorted(out.iterdir())}
        for timed in ("run.json", "run_report.html"):
            del files[timed]
        contents.append(files)
    assert len(contents[0]) == 5
    assert contents[0] == contents[1]


def test_help_is_quick_and_imports_nothing_slow() -> None:
    code = (
        "import sys, time\n"
        "from geocd.cli import main\n"
        "try: main(['detect', '--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'rasterio', 'numpy', 'geopandas', 'scipy'} & set(sys.modules)\n"
        "print(time.process_time(), slow, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, slow = done.stderr.split(" ", 1)
    assert slow.strip() == "set()"
    assert float(seconds) < 0.5
    assert "--threshold" in done.stdout


def test_version() -> None:
    assert __version__ in run("--version").output


def test_polygonize_repeats_and_changes_what_a_run_wrote(pair: tuple[Path, Path], out: Path) -> None:
    detected = run("detect", *pair, "-o", out / "run", "--method", "cva", "--threshold", 0.4)
    assert detected.exit_code == 0
    again = run("polygonize", out / "run_prob.tif", "-o", out / "again.gpkg")
    assert again.exit_code == 0, again.output
    assert "probability of 0.4 or more" in again.output
    assert (out / "again.gpkg").read_bytes() == (out / "run_changes.gpkg").read_bytes()
    assert (out / "again.qml").read_bytes() == (out / "run_changes.qml").read_bytes()

    first = geopandas.read_file(out / "run_changes.gpkg")
    fewer = run(
        "polygonize", out / "run_prob.tif", "--threshold", 0.9, "--min-area", 5000, "-o", out / "fewer.gpkg"
    )
    assert fewer.exit_code == 0
    found = geopandas.read_file(out / "fewer.gpkg")
    assert 0 < found.n_pixels.sum() < first.n_pixels.sum()
    assert found.area_m2.min() >= 5000
    assert found.p_min.min() >= 0.9
    assert found.is_valid.all()


def test_polygonize_makes_quieter_polygons_in_other_formats(pair: tuple[Path, Path], out: Path) -> None:
    run("detect", *pair, "-o", out / "run", "--method", "cva", "--threshold", 0.4)
    quiet = "--fill-holes", 500, "--simplify", 12, "--smooth", 2
    done = run("polygonize", out / "run_prob.tif", *quiet, "-o", out / "quiet.fgb")
    assert done.exit_code == 0, done.output
    assert (out / "quiet.qml").exists()
    raw, found = geopandas.read_file(out / "run_changes.gpkg"), geopandas.read_file(out / "quiet.fgb")
    assert len(found) == len(raw)
    assert found.n_pixels.sum() == raw.n_pixels.sum()
    assert found.is_valid.all()
    assert found.perimeter_m.sum() < raw.perimeter_m.sum()
    # the same when the run itself is told so
    assert (
        run("detect", *pair, "-o", out / "two", "--method", "cva", "--threshold", 0.4, *quiet).exit_code == 0
    )
    same = geopandas.read_file(out / "two_changes.gpkg")
    assert same.area_m2.sum() == pytest.approx(found.area_m2.sum())


def test_polygonize_finds_the_images_or_says_so(
    pair: tuple[Path, Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("detect", *pair, "-o", out / "run", "--method", "cva", "--threshold", 0.4, "--bidx", "1,3")
    first = geopandas.read_file(out / "run_changes.gpkg")
    assert [name for name in first.columns if name.startswith("after_")] != []

    monkeypatch.chdir(out.parent)  # the provenance counts from the folder of the raster
    again = run("polygonize", out / "run_prob.tif", "-o", out / "again.gpkg")
    assert "note" not in again.output
    assert (out / "again.gpkg").read_bytes() == (out / "run_changes.gpkg").read_bytes()

    without = run("polygonize", out / "run_prob.tif", "-o", out / "without.gpkg", "--no-bands")
    assert "note" not in without.output
    assert not any(name.startswith("after_") for name in geopandas.read_file(out / "without.gpkg").columns)

    moved = out.parent / "elsewhere"
    moved.mkdir()
    files = [Path(shutil.move(path, moved)) for path in pair]
    missing = run("polygonize", out / "run_prob.tif", "-o", out / "missing.gpkg")
    assert missing.exit_code == 0
    assert "note: no columns of bands" in missing.output
    assert "no such file" in missing.output
    assert "--pair" in missing.output
    assert (out / "missing.gpkg").read_bytes() == (out / "without.gpkg").read_bytes()
    quiet = run("-q", "polygonize", out / "run_prob.tif", "-o", out / "missing.gpkg", "--overwrite")
    assert quiet.output == ""

    told = run("polygonize", out / "run_prob.tif", "-o", out / "told.gpkg", "--pair", *files)
    assert told.exit_code == 0, told.output
    assert (out / "told.gpkg").read_bytes() == (out / "run_changes.gpkg").read_bytes()
    wrong = run("polygonize", out / "run_prob.tif", "-o", out / "wrong.gpkg", "--pair", *pair)
    assert wrong.exit_code == 1
    assert "no such file" in wrong.output
    both = run("polygonize", out / "run_prob.tif", "-o", out / "x.gpkg", "--no-bands", "--pair", *files)
    assert both.exit_code == 2


def test_polygonize_keeps_what_exists(pair: tuple[Path, Path], out: Path) -> None:
    run("detect", *pair, "-o", out / "run", "--method", "cva")
    before = (out / "run_changes.gpkg").read_bytes()
    refused = run("polygonize", out / "run_prob.tif", "--threshold", 0.9)
    assert refused.exit_code == 1
    assert f"{out / 'run_changes.gpkg'}: exists already" in refused.output
    assert (out / "run_changes.gpkg").read_bytes() == before
    same = run("polygonize", out / "run_prob.tif", "--overwrite")
    assert "note" not in same.output, "report and item still tell of these polygons"
    assert (out / "run_changes.gpkg").read_bytes() == before
    for _ in range(2):
        other = run("polygonize", out / "run_prob.tif", "--threshold", 0.9, "--overwrite")
        assert other.exit_code == 0
        assert "note: run_report.html and run.json beside it, and the quick-look, still show" in other.output
    quiet = run("-q", "polygonize", out / "run_prob.tif", "--threshold", 0.9, "--overwrite")
    assert quiet.output == ""
    elsewhere = run("polygonize", out / "run_prob.tif", "--threshold", 0.9, "-o", out / "fewer.gpkg")
    assert "note" not in elsewhere.output
    for path in out.glob("fewer.*"):
        path.unlink()
    assert (out / "run_changes.gpkg").read_bytes() != before
    assert sorted(path.name for path in out.iterdir()) == OUTPUTS


def test_polygonize_says_what_it_cannot_do(pair: tuple[Path, Path], out: Path) -> None:
    """A raster that is no probability, one that knows no threshold, another format, no folder."""
    unknown = run("polygonize", pair[0], "-o", out / "x.gpkg")
    assert unknown.exit_code == 2
    assert "--threshold 0.5" in unknown.output
    image = run("polygonize", pair[0], "--threshold", 0.5, "-o", out / "x.gpkg")
    assert image.exit_code == 1
    assert "is no change probability" in image.output
    run("detect", *pair, "-o", out / "run", "--method", "cva")
    other = run("polygonize", out / "run_prob.tif", "-o", out / "x.kml")
    assert other.exit_code == 2
    assert ".gpkg, .geojson" in other.output
    nowhere = run("polygonize", out / "run_prob.tif", "-o", out / "none" / "x.gpkg")
    assert nowhere.exit_code == 1
    assert "cannot be written" in nowhere.output
    missing = run("polygonize", out / "gone.tif")
    assert missing.exit_code == 1
    assert "no such file" in missing.output
    assert sorted(path.name for path in out.iterdir()) == OUTPUTS


def test_polygonize_reads_the_images_as_an_aligned_run_did(make_pair: MakePair, out: Path) -> None:
    """Warped and moved by the shift that the run has measured, down to the byte."""
    before, after = scene(height=140, width=150)
    moved = Affine(10, 0, 500_013, 0, -10, 4_200_006)
    pair = make_pair(before, after, after_transform=moved, names=("red", "green", "nir"))
    options = "--method", "cva", "--threshold", 0.4, "--align", "shift"
    done = run("detect", *pair, "-o", out / "run", *options)
    assert done.exit_code == 0, done.output
    again = run("polygonize", out / "run_prob.tif", "-o", out / "again.gpkg")
    assert again.exit_code == 0, again.output
    assert "after_nir" in geopandas.read_file(out / "again.gpkg").columns
    assert (out / "again.gpkg").read_bytes() == (out / "run_changes.gpkg").read_bytes()
