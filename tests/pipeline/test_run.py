"""The whole way, from Python and on real pairs."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from conftest import WriteRaster, ground, write_mask
from rasterio.crs import CRS
from rasterio.transform import Affine
from rio_cogeo.cogeo import cog_validate
from scipy import ndimage
from seasons import seasons

from geocd.config import Settings
from geocd.errors import ConfigError, Interrupted, OutputError, RasterReadError, ResumeError
from geocd.method.classical import ClassicalDetector
from geocd.metrics import evaluate
from geocd.pipeline.estimate import forecast
from geocd.pipeline.prepared import fit_detector
from geocd.pipeline.run import detect
from geocd.pipeline.tiles import probabilities
from geocd.raster import handles
from geocd.raster.grid import Grid
from geocd.raster.pair import Chip, Pair
from geocd.raster.reading import resample
from geocd.raster.warp import Warp
from geocd.report import stac
from geocd.scene.sample import sample_chips
from geocd.tiles.tiling import Tiling

MakePair = Callable[..., tuple[Path, Path]]
OUTPUTS = ["run.json", *(f"run_{name}" for name in (
    "changes.gpkg", "changes.qml", "prob.qml", "prob.tif", "quicklook.png", "report.html"
))]  # fmt: skip


@pytest.fixture
def pair(make_pair: MakePair, scene: Callable[..., np.ndarray]) -> tuple[Path, Path]:
    before = scene(3, 150, 170)
    after = (before * 1.1).astype(np.uint16)
    after[:, 40:80, 50:100] = scene(3, 40, 50, seed=9) + 3000
    return make_pair(before, after)


def test_progress_tells_every_stage_to_its_end(pair: tuple[Path, Path], tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    settings = Settings.from_flat({"tile_size": 100, "overlap": 20, "method": "cva"})
    detect(*pair, tmp_path / "run", settings=settings, progress=lambda *args: told.append(args))
    stages = {stage: total for stage, _, total in told}
    assert list(stages) == ["fit", "tiles", "polygons"]
    for stage, total in stages.items():
        assert (stage, total, total) in told
    assert stages["tiles"] == 4


REFERENCE = {"preset": "reference", "fit": "scene", "weights": "random", "iterations": 3}


@pytest.mark.parametrize(
    ("more", "done"),
    [({}, [0, 2, 4, 6, 8, 10]), (REFERENCE, [0, 1, 2, 3])],
    ids=["five distances, in tenths", "steps"],
)
def test_progress_tells_every_step_of_the_fit(
    pair: tuple[Path, Path], tmp_path: Path, more: dict[str, object], done: list[int]
) -> None:
    """The longest stage of a small pair, once, upwards and to its end."""
    told: list[tuple[str, int, int]] = []
    settings = Settings.from_flat(more)
    detect(*pair, tmp_path / "run", settings=settings, progress=lambda *args: told.append(args))
    assert [step for step in told if step[0] == "fit"] == [("fit", n, done[-1]) for n in done]


def test_outputs_that_cannot_be_read_back_are_an_error_and_leave_nothing(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(stac, "sha256", refuse)
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match=r"run\.json: cannot be written \(.*Input/output error"):
        detect(*pair, tmp_path / "out" / "run", settings=Settings.from_flat({"method": "cva"}))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts the bytes that a process reads")
@pytest.mark.parametrize("jobs", [1, 2])
def test_tiles_and_polygons_decode_nothing_twice(
    jobs: int, make_pair: MakePair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles, "PATIENCE", 60)  # however busy this machine is
    rng = np.random.default_rng(0)
    before = rng.integers(0, 60_000, (6, 1024, 1024), np.uint16)
    after = np.where(np.indices(before.shape[1:])[0] // 8 % 2, before // 2 + 9, before)
    blocks = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    paths = make_pair(before, after, **blocks)
    size = sum(path.stat().st_size for path in paths)
    read: dict[tuple[str, bool], int] = {}

    def progress(stage: str, done: int, total: int) -> None:
        read.setdefault((stage, done == total), int(Path("/proc/self/io").read_text().split()[1]))

    settings = Settings.from_flat({"tile_size": 256, "overlap": 64, "method": "cva"})
    detect(*paths, tmp_path / "run", settings=settings, jobs=jobs, progress=progress)
    written = (tmp_path / "run_prob.tif").stat().st_size
    # The sample of a small raster is all of it, and its blocks are still in GDAL's cache: for the tiles of
    # all threads and for the means of the bands of polygons. Pictures of three of the six bands are read
    # beside them, and the raster that was written.
    assert read["polygons", True] - read["tiles", False] < 0.9 * size + 3 * written


def test_jobs_must_be_positive(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="jobs=0"):
        detect(*pair, tmp_path / "run", jobs=0)


def test_a_damaged_tile_stops_the_run_and_leaves_nothing(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Pair.read

    def read(self: Pair, window: rasterio.windows.Window) -> object:
        if window.row_off > 0:
            raise RasterReadError("before.tif: damaged", path="before.tif")
        return real(self, window)

    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(Pair, "read", read)
    settings = Settings.from_flat({"tile_size": 100, "overlap": 20, "method": "cva"})
    for jobs in (1, 3):
        with pytest.raises(RasterReadError, match="damaged"):
            detect(*pair, out / "run", settings=settings, jobs=jobs)
        assert list(out.iterdir()) == []


# --- interrupted and resumed --------------------------------------------------------------------------

SMALL_TILES = {"tile_size": 50, "overlap": 20, "method": "cva"}
#: What must be equal, byte for byte; the item holds times, and one section of the report does.
SAME = ("prob", "changes", "quicklook", "prob_style", "changes_style")

KILLED = """
import json, os, signal, sys
from geocd.config import Settings
from geocd.pipeline.run import detect
before, after, output, settings, stage, step, sent = sys.argv[1:]
def progress(name, done, total):
    if name == stage and done == int(step):
        os.kill(os.getpid(), getattr(signal, sent))
detect(before, after, output, settings=Settings.from_flat(json.loads(settings)), progress=progress,
       resume=True, jobs=2)
"""


def killed(pair: tuple[Path, Path], stem: Path, values: dict[str, object], stage: str, step: int) -> None:
    """Run until so many steps of a stage are done, then ``kill -9``."""
    command = [sys.executable, "-c", KILLED, *map(str, pair), str(stem), json.dumps(values), stage, str(step)]
    done = subprocess.run([*command, "SIGKILL"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr


def same_bytes(one: dict[str, Path], two: dict[str, Path]) -> bool:
    pages = [
        re.subn(r'<section id="times".*?</section>', "", files["report"].read_text(), flags=re.DOTALL)
        for files in (one, two)
    ]
    assert pages[0][1] == 1
    return pages[0] == pages[1] and all(one[key].read_bytes() == two[key].read_bytes() for key in SAME)


@pytest.mark.skipif(os.name == "nt", reason="no kill -9")
def test_killed_again_and_again_the_result_is_the_same(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_flat(SMALL_TILES)
    for name in ("whole", "out"):
        (tmp_path / name).mkdir()
    whole, _ = detect(*pair, tmp_path / "whole" / "run", settings=settings)
    out = tmp_path / "out" / "run"
    for stage, step in (("tiles", 1), ("tiles", 13), ("tiles", 25), ("polygons", 0), ("polygons", 1)):
        killed(pair, out, SMALL_TILES, stage, step)
        assert [path.name for path in out.parent.iterdir()] == [".run.geocd"]
    damaged = sorted((out.parent / ".run.geocd").glob("*.tile"))[3]
    damaged.write_bytes(damaged.read_bytes()[:-40])
    computed: list[object] = []
    real = ClassicalDetector.prob

    def prob(self: ClassicalDetector, chip: Chip) -> np.ndarray:
        computed.append(chip.window)
        return real(self, chip)

    monkeypatch.setattr(ClassicalDetector, "prob", prob)
    files, _ = detect(*pair, out, settings=settings, resume=True)
    assert len(computed) == 1  # the damaged one
    assert same_bytes(files, whole)
    assert sorted(path.name for path in out.parent.iterdir()) == sorted(p.name for p in files.values())
    items = [json.loads(path["item"].read_text())["properties"]["geocd:summary"] for path in (files, whole)]
    assert items[0] == items[1]


@pytest.mark.skipif(os.name == "nt", reason="no kill -9")
def test_killed_with_other_dates_the_result_is_the_same(write_raster: WriteRaster, tmp_path: Path) -> None:
    dates = [write_raster(f"2020010{n}", date) for n, date in enumerate(seasons(6), start=1)]
    classes = np.full((1, 128, 128), 4, np.uint8)
    classes[0, 100:] = 9
    scl = str(write_raster("SCL", classes))
    values = SMALL_TILES | {"baseline": [*map(str, dates[:3])], "confirm": [str(dates[5])]}
    values |= {"mask_baseline": ["none", scl, "none"], "mask_confirm": [scl], "lasting_band": True}
    for name in ("whole", "out"):
        (tmp_path / name).mkdir()
    whole, _ = detect(*dates[3:5], tmp_path / "whole" / "run", settings=Settings.from_flat(values))
    killed((dates[3], dates[4]), tmp_path / "out" / "run", values, "tiles", 7)
    resumed, _ = detect(*dates[3:5], tmp_path / "out/run", settings=Settings.from_flat(values), resume=True)
    assert same_bytes(whole, resumed)
    assert geopandas.read_file(resumed["changes"])["lasting"].notna().all()


@pytest.mark.parametrize(
    "values",
    [
        {"tile_size": 90, "overlap": 30, "uncertainty": True},
        {"tile_size": 90, "overlap": 30, "method": "cva", "ignore": ("vegetation", "water")},
        {"tile_size": 90, "overlap": 30, "method": "cva", "align": "shift"},
    ],
    ids=["deep", "ignore", "align"],
)
def test_an_interrupted_run_keeps_its_tiles(
    values: dict[str, object], make_pair: MakePair, scene: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    before = scene(4, 150, 170)
    before[3, 100:] += 5000
    after = (before * 1.1).astype(np.uint16)
    after[:, 40:80, 50:100] = scene(4, 40, 50, seed=9) + 3000
    beside = {"after_transform": Affine(9.9, 0, 500_013, 0, -9.9, 4_199_982)} if "align" in values else {}
    files = make_pair(before, after, names=("blue", "green", "red", "nir"), **beside)
    settings = Settings.from_flat(values)

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "tiles" and done == 3:
            raise KeyboardInterrupt

    for name in ("whole", "out"):
        (tmp_path / name).mkdir()
    whole, record = detect(*files, tmp_path / "whole" / "run", settings=settings, jobs=1)
    for jobs in (2, 1):
        with pytest.raises(Interrupted) as caught:
            detect(*files, tmp_path / "out" / "run", settings=settings, progress=interrupt, jobs=jobs)
        assert caught.value.total == 6
        assert caught.value.kept == 3 or (jobs == 2 and caught.value.kept > 3)
        resumed, again = detect(
            *files, tmp_path / "out" / "run", settings=settings, resume=True, jobs=jobs, overwrite=True
        )
        assert same_bytes(resumed, whole)
        assert again.summary == record.summary
        for path in resumed.values():
            path.unlink()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def shifted(make_pair: MakePair) -> tuple[Path, Path]:
    """Write a pair on two grids of two zones, with a hall that is new; after lies 1.4 px too low besides."""
    image = ground(3)
    grid = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 4_200_000), 300, 300)
    other = Grid(CRS.from_epsg(32634), Affine(10, 0, -27_400, 0, -10, 4_217_016), 300, 300)
    later = image * 1.2 + 10
    later[:, 150:180, 100:140] = 260
    found, known = resample(
        Warp.between(grid, other), later, np.ones((300, 300), bool), grid.window, other.window
    )
    after = ndimage.shift(found, (0, 1.4, 0), order=3, mode="nearest")
    after[:, ~known] = 0
    return make_pair(
        image.astype(np.float32),
        after.astype(np.float32),
        transform=grid.transform,
        nodata=0,
        after_transform=other.transform,
        after_crs="EPSG:32634",
    )


@pytest.mark.parametrize("how", ["grid", "shift"])
def test_two_grids_are_brought_onto_the_first(how: str, shifted: tuple[Path, Path], tmp_path: Path) -> None:
    settings = Settings.from_flat({**SMALL_TILES, "tile_size": 110, "align": how})
    for name in "12":
        (tmp_path / name).mkdir()
    files, record = detect(*shifted, tmp_path / "1" / "run", settings=settings, jobs=1)
    again, _ = detect(*shifted, tmp_path / "2" / "run", settings=settings, jobs=3)
    assert same_bytes(files, again)
    assert forecast(*shifted, settings=settings).tiles > 4

    with rasterio.open(shifted[0]) as before, rasterio.open(files["prob"]) as result:
        assert (result.crs, result.transform, result.shape) == (before.crs, before.transform, before.shape)
        prob, tags = result.read(1), result.tags()
    assert np.isnan(prob[0]).any()  # the other zone is turned by some degrees: a corner is not covered
    assert prob[155:175, 105:135].min() > 0.5
    assert np.nanmax(np.where(prob_of(prob, 20), np.nan, prob)) < 0.5 or how == "grid"

    told = json.loads(files["item"].read_text())["properties"]["geocd:alignment"]
    assert told == json.loads(json.dumps(record.alignment.as_dict()))
    assert told == json.loads(tags["GEOCD_PROVENANCE"])["alignment"]
    assert told["after_grid"]["crs"] == "EPSG:32634"
    assert told["after_grid"]["transform"] == [10, 0, -27_400, 0, -10, 4_217_016]
    assert told["resampling"] == "cubic"
    assert 0.8 < told["overlap"] < 1
    if how == "shift":
        assert (told["shift"]["row"], told["shift"]["col"]) == pytest.approx((1.4, 0), abs=0.12)
        assert told["shift"]["measured"]["measurable"] is True
    else:
        assert "shift" not in told


def prob_of(prob: np.ndarray, around: int) -> np.ndarray:
    """Where the hall is, and so many pixels around it and along the border."""
    near = np.ones(prob.shape, bool)
    near[around:-around, around:-around] = False
    near[150 - around : 180 + around, 100 - around : 140 + around] = True
    return near


def test_a_shift_that_cannot_be_measured_is_not_removed(
    make_pair: MakePair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(0)
    one, two = random.normal(100, 10, (2, 3, 120, 120)).astype(np.float32)
    files, _ = detect(
        *make_pair(one, two), tmp_path / "run", settings=Settings.from_flat({**SMALL_TILES, "align": "shift"})
    )
    assert "none could be measured" in caplog.text
    told = json.loads(files["item"].read_text())["properties"]["geocd:alignment"]
    assert "none could be measured" in told["shift"]["note"]
    assert (told["shift"]["row"], told["shift"]["col"], told["resampling"]) == (0, 0, None)


@pytest.mark.parametrize("changed", ["--tile-size", "--method", "--threshold", "before", "--valid"])
def test_what_another_command_has_kept_is_refused(
    changed: str, pair: tuple[Path, Path], make_pair: MakePair, tmp_path: Path
) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "tiles" and done == 3:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(Interrupted):
        detect(*pair, out / "run", settings=Settings.from_flat(SMALL_TILES), progress=interrupt)
    values = dict[str, object](SMALL_TILES)
    if changed == "before":
        os.utime(pair[0], ns=(0, 123))
    else:
        mask = str(write_mask(tmp_path / "valid.tif", pair[0]))
        other = {"--tile-size": 51, "--method": "irmad", "--threshold": 0.6, "--valid": mask}
        values[changed[2:].replace("-", "_")] = other[changed]
    spelled = f"{changed[2:].replace('-', '_')}=" if changed.startswith("--") else changed
    with pytest.raises(
        ResumeError, match=rf"differs from this one: {spelled} \(was .*, is now .*\)\. Repeat its command"
    ) as caught:
        detect(*pair, out / "run", settings=Settings.from_flat(values), resume=True)
    assert len(caught.value.details["differing"]) == 1
    detect(*pair, out / "run", settings=Settings.from_flat(values))
    assert sorted(path.name for path in out.iterdir()) == OUTPUTS


@pytest.mark.parametrize(
    ("method", "uncertainty"), [("deep", False), ("deep", True), ("cva", False), ("irmad", False)]
)
def test_the_probability_does_not_depend_on_the_tiles(
    method: str, uncertainty: bool, pair: tuple[Path, Path]
) -> None:
    """Statistics and networks are the scene's; within the margins, tiles see the same surroundings."""
    values = {"method": method, "uncertainty": uncertainty}
    settings = Settings.from_flat(values).resolved()
    bands = 1 + uncertainty
    with Pair(*pair) as opened:
        detector = fit_detector(sample_chips(opened), opened, settings)
        maps = []
        for size in (170, 120):
            from geocd.tiles.mosaic import Mosaic

            out = np.empty((bands, 150, 170), np.float32)

            def flush(row: int, values: np.ndarray, out: np.ndarray = out) -> None:
                out[:, row : row + values.shape[1]] = values

            tiling = Tiling(150, 170, size, 96, detector.margin)
            mosaic = Mosaic(tiling, flush, bands=bands)
            for tile, prob in probabilities(detector, opened, tiling, 2):
                mosaic.add(tile, prob)
            mosaic.finish()
            maps.append(out)
    assert np.abs(maps[0] - maps[1]).max() < 2e-3


def test_the_jackknife() -> None:
    from geocd.method.default import jackknife

    agree, one_decides = np.full((6, 1, 1), 0.7, np.float32), np.zeros((6, 1, 1), np.float32)
    one_decides[2] = 0.6
    split = np.repeat(np.float32([0, 1]), 3).reshape(6, 1, 1)
    values = np.concatenate([agree, one_decides, split], axis=2)
    # by hand: 5/6 of the sum of squares, 5/6 * 0.3 for one of six at 0.6, and 1 at most
    np.testing.assert_allclose(jackknife(values), [[0, 0.5, 1]], atol=1e-7)


def test_the_uncertainty_is_the_jackknife_over_the_distances(pair: tuple[Path, Path]) -> None:
    """Computed here from the parts: a distance whose left-out maps move the probability most."""
    from geocd.method import default
    from geocd.method.decision import logistic_prob
    from geocd.method.distance import BEYOND, CAP, GATE, VEIL

    settings = Settings.from_flat({"uncertainty": True}).resolved()
    with Pair(*pair) as opened:
        detector = fit_detector(sample_chips(opened), opened, settings)
        chip = opened.read(opened.grid.window)
    assert isinstance(detector, default.DefaultDetector)
    features = detector.features
    assert features.object_sigma == 0  # pixels of 10 m: no window after the sum
    with torch.no_grad():
        maps = {name: v.numpy() for name, v in features.terms(features.scaled(chip)).items()}
    weights = features.weight
    narrow = {term.name for term in features.included if term.narrow}
    scaled = {n: np.minimum((maps[n] - features.centre[n]) / features.scale[n], CAP) for n in weights}
    left_out = []
    for name in weights:
        means = []
        limited = scaled if name == "cc" else scaled | {"ir": np.minimum(scaled["ir"], scaled["cc"])}
        for names in (sorted(set(weights) - {name}), sorted(narrow - {name})):
            total = sum(weights[n] * limited[n] for n in names)
            means.append(total / sum(weights[n] for n in names))
        distance = np.minimum(means[0], GATE + means[1])
        distance = np.minimum(distance, BEYOND[0] + BEYOND[1] * maps["beyond"])
        if name != "gd":
            veil = VEIL[0] * maps["beyond_wide"] + VEIL[1] * np.maximum(scaled["gd"], 0)
            distance = np.minimum(distance, veil)
        left_out.append(logistic_prob(distance, default.DECISION, default.SLOPE_BELOW, default.SLOPE_ABOVE))
    expected = np.sqrt(4 / 5 * 5 * np.var(left_out, axis=0))
    found = detector.prob(chip)
    assert found.shape == (2, 150, 170)
    np.testing.assert_allclose(found[1], np.minimum(expected, 1), atol=1e-4)
    assert found[1].max() > 0.05


def test_inputs_are_recorded_without_their_secrets(pair: tuple[Path, Path], tmp_path: Path) -> None:
    files, record = detect(*pair, tmp_path / "run", settings=Settings.from_flat({"method": "cva"}))
    with rasterio.open(files["prob"]) as dataset:
        written = json.loads(dataset.tags()["GEOCD_PROVENANCE"])
    assert written["method"] == "cva"
    assert written["threshold"] == record.threshold == 0.5
    assert {"before", "after", "seed", "tile_size", "overlap"} <= written.keys()


@pytest.mark.data
@pytest.mark.parametrize("name", ["oscd_rennes", "landsat_taizhou"])
def test_a_real_pair_beats_the_classical_detectors(name: str, labelled: Path, tmp_path: Path) -> None:
    folder = labelled / name
    if not folder.is_dir():
        pytest.skip(f"no {name} in {labelled}")
    with rasterio.open(folder / "mask.tif") as dataset:
        reference = dataset.read(1)
    scores = {}
    for method in ("deep", "cva", "irmad"):
        files, record = detect(
            folder / "before.tif",
            folder / "after.tif",
            tmp_path / method,
            settings=Settings.from_flat({"method": method}),
        )
        assert cog_validate(str(files["prob"]), strict=True, quiet=True)[0]
        polygons = geopandas.read_file(files["changes"])
        assert polygons.is_valid.all()
        with rasterio.open(files["prob"]) as dataset:
            prob = dataset.read(1)
        known = (reference != 255) & np.isfinite(prob)
        scores[method] = evaluate(prob[known], reference[known] == 1, threshold=record.threshold)
    best = max(scores["cva"].average_precision, scores["irmad"].average_precision)
    assert scores["deep"].average_precision > best
