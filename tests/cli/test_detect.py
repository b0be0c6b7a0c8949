"""``geocd detect``: what a user sees on good input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from commands import OUTPUTS, MakePair, run, scene
from rio_cogeo.cogeo import cog_validate


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
    assert f"warning: {after.name}: 4% of the pixels that count as valid are 0 in all bands" in result.stderr
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
    assert rest[-2:] == [str(out / "run_prob.tif"), str(out / "run_changes.gpkg")]


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
        command += ["--uncertainty", "--overwrite"]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        files = {path.name: path.read_bytes() for path in sorted(out.iterdir())}
        for timed in ("run.json", "run_report.html"):
            del files[timed]
        contents.append(files)
    assert len(contents[0]) == 5
    assert contents[0] == contents[1]


def test_the_console_names_the_report_and_plain_areas(
    make_pair: MakePair, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before, after = scene()
    wide = Affine(5000, 0, 500_000, 0, -5000, 4_200_000)
    result = run(
        "-v", "detect", *make_pair(before, after, transform=wide), "-o", out / "run", "--method", "cva"
    )
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    assert lines[-3:] == [str(out / f"run_{name}") for name in ("report.html", "prob.tif", "changes.gpkg")]
    assert re.search(r" polygons, 2\d,\d{3} km² \(probability of ", lines[-5]), lines[-5]
    assert re.fullmatch(r"2\d,\d{3} km² brighter\.", lines[-4]), lines[-4]
    assert not [record for record in caplog.records if record.name.startswith("pyogrio")]
