"""The whole way, from Python and on real pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from geocd.config import Settings
from geocd.errors import ConfigError, RasterReadError
from geocd.metrics import evaluate
from geocd.normalize import sample_chips
from geocd.pipeline import detect, fit_detector, probabilities
from geocd.raster import Pair
from geocd.tiling import Tiling

MakePair = Callable[..., tuple[Path, Path]]


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


def test_jobs_must_be_positive(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--jobs 0"):
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


def test_an_interrupt_leaves_nothing(pair: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "tiles" and done == 2:
            raise KeyboardInterrupt

    settings = Settings.from_flat({"tile_size": 100, "overlap": 20, "method": "cva"})
    with pytest.raises(KeyboardInterrupt):
        detect(*pair, out / "run", settings=settings, progress=interrupt, jobs=2)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "uncertainty"), [("deep", False), ("deep", True), ("cva", False), ("irmad", False)]
)
def test_the_probability_does_not_depend_on_the_tiles(
    method: str, uncertainty: bool, pair: tuple[Path, Path]
) -> None:
    """Statistics and networks are the scene's; within the margins, tiles see the same surroundings."""
    values = {"method": method, "iterations": 2, "uncertainty": uncertainty}
    settings = Settings.from_flat(values).resolved()
    bands = 1 + uncertainty
    with Pair(*pair) as opened:
        detector = fit_detector(sample_chips(opened), opened, settings)
        maps = []
        for size in (170, 120):
            from geocd.mosaic import Mosaic

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
    from geocd.optimize import jackknife

    agree, one_decides = np.full((6, 1, 1), 0.7, np.float32), np.zeros((6, 1, 1), np.float32)
    one_decides[2] = 0.6
    split = np.repeat(np.float32([0, 1]), 3).reshape(6, 1, 1)
    values = np.concatenate([agree, one_decides, split], axis=2)
    # by hand: 5/6 of the sum of squares, 5/6 * 0.3 for one of six at 0.6, and 1 at most
    np.testing.assert_allclose(jackknife(values), [[0, 0.5, 1]], atol=1e-7)


def test_the_uncertainty_is_the_jackknife_over_the_six_distances(pair: tuple[Path, Path]) -> None:
    """Computed here from the parts: a distance whose left-out maps move the probability most."""
    from geocd import optimize
    from geocd.decision import logistic_prob
    from geocd.features import BEYOND, CAP, GATE, NARROW, WEIGHTS

    settings = Settings.from_flat({"iterations": 2, "uncertainty": True}).resolved()
    with Pair(*pair) as opened:
        detector = fit_detector(sample_chips(opened), opened, settings)
        chip = opened.read(opened.grid.window)
    assert isinstance(detector, optimize.DefaultDetector)
    features = detector.features
    assert features.object_sigma == 0  # pixels of 10 m: no window after the sum
    terms = features.terms(chip)
    scaled = {n: np.minimum((terms[n] - features.centre[n]) / features.scale[n], CAP) for n in WEIGHTS}
    logit = detector.logit(optimize.lesson(features, chip), chip)
    left_out = []
    for name in WEIGHTS:
        means = []
        for names in (set(WEIGHTS) - {name}, set(NARROW) - {name}):
            weights = {n: WEIGHTS[n] for n in sorted(names)}
            means.append(sum(w * scaled[n] for n, w in weights.items()) / sum(weights.values()))
        distance = np.minimum(means[0], GATE + means[1])
        distance = np.minimum(distance, BEYOND[0] + BEYOND[1] * terms["beyond"])
        distance += optimize.LEARNED_WEIGHT * logit
        left_out.append(
            logistic_prob(distance, optimize.DECISION, optimize.SLOPE_BELOW, optimize.SLOPE_ABOVE)
        )
    expected = np.sqrt(5 / 6 * 6 * np.var(left_out, axis=0))
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
