"""Features that were made elsewhere, under the metric of the pair: beside the image, and alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from conftest import NORTH_UP, MakePair, ground, write_raster
from rasterio.transform import Affine

from geocd.config import Settings
from geocd.errors import ConfigError
from geocd.method import terms
from geocd.method.default import DefaultDetector
from geocd.method.devices import one_thread
from geocd.pipeline.run import detect
from geocd.raster.handles import Companions
from geocd.raster.pair import Pair
from geocd.scene.sample import sample_chips


def simulated(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return fields in another light, with a change of 30 pixels at (80, 100)."""
    before = ground(3, bands=4, size=size)
    rng = np.random.default_rng(1)
    after = before * 1.2 + 20 + rng.normal(0, 2, before.shape)
    after[:, 80:110, 100:130] = rng.normal(150, 40, (4, 30, 30))
    return before.astype(np.float32), after.astype(np.float32)


def detector_of(pair: Pair, **values: object) -> DefaultDetector:
    settings = Settings.from_flat(values).resolved().method
    with one_thread():
        return DefaultDetector.fit(sample_chips(pair), pair, settings, 1)


def prob_of(pair: Pair, **values: object) -> np.ndarray:
    detector = detector_of(pair, **values)
    with one_thread():
        return detector.prob(pair.read(pair.grid.window))[0]


def write(folder: Path, name: str, values: np.ndarray, stride: int, **profile: Any) -> Path:
    grid = Affine(10 * stride, 0, NORTH_UP.c, 0, -10 * stride, NORTH_UP.f)
    return write_raster(folder / f"{name}.tif", values, transform=grid, **profile)


def dumped(pair: Pair, folder: Path, level: int, **profile: Any) -> tuple[Path, Path]:
    """Write what D-FE makes of a pair into two rasters."""
    detector = detector_of(pair)
    with torch.no_grad(), one_thread():
        maps = detector.features.scaled(pair.read(pair.grid.window)).features[level]
    return (
        write(folder, "features_before", maps.before.numpy(), maps.stride, **profile),
        write(folder, "features_after", maps.after.numpy(), maps.stride, **profile),
    )


# where the size is no multiple of the strides, there are places beyond the image
@pytest.mark.parametrize(
    ("name", "level", "size"),
    [("shallow", 0, 203), ("shallow", 0, 200), ("middle", 1, 203)],
)
def test_our_own_features_as_rasters_give_the_same_map(
    name: str,
    level: int,
    size: int,
    make_pair: MakePair,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = make_pair(*simulated(size))
    # the default with this one of its deep distances
    deep = {"shallow", "middle"} - {name}
    table = tuple(term for term in terms.TERMS if term.name not in deep)
    with Pair(*paths) as pair:
        with monkeypatch.context() as patch:
            patch.setattr(terms, "TERMS", table)
            features, expected = dumped(pair, tmp_path, level), prob_of(pair)
        without = prob_of(pair, weights="none")
    with Pair(*paths, companions=Companions(features)) as pair:
        prob = prob_of(pair, weights="none")
    np.testing.assert_allclose(prob, expected, atol=2e-4)  # rounding
    assert np.abs(prob - without).max() > 0.02


def test_surfaces_are_ignored_beside_features(make_pair: MakePair, tmp_path: Path) -> None:
    before, after = simulated(200)
    for date in (before, after):
        date[:, :60, :60] = np.array([300, 200, 60, 30])[:, None, None]  # water: green far above infrared
    paths = make_pair(before, after, names=("green", "red", "blue", "nir"))
    with Pair(*paths) as pair:
        features = dict(
            zip(("features_before", "features_after"), map(str, dumped(pair, tmp_path, 0)), strict=True)
        )
    settings = Settings.from_flat({**features, "ignore": ["water"]})
    files, record = detect(*paths, tmp_path / "out", settings=settings)
    assert record.summary.ignored_share["water"] >= 0.08
    with rasterio.open(files["prob"]) as dataset:
        assert np.isnan(dataset.read(1)[10:50, 10:50]).all()


def test_features_of_a_byte_find_what_those_of_four_find(make_pair: MakePair, tmp_path: Path) -> None:
    paths = make_pair(*simulated(200))
    with Pair(*paths) as pair:
        features = dumped(pair, tmp_path, 0)
    with Pair(*paths, companions=Companions(features)) as pair:
        expected = prob_of(pair, weights="none")
        chip = pair.read(pair.grid.window).features
    assert chip is not None
    folder = tmp_path / "int8"
    folder.mkdir()
    most = max(np.abs(chip.before).max(), np.abs(chip.after).max()) / 127
    stored = [np.round(values / most).astype(np.int8) for values in (chip.before, chip.after)]
    quantised = [
        write(folder, name, values, 2, nodata=-128)
        for name, values in zip(("before", "after"), stored, strict=True)
    ]
    with Pair(*paths, companions=Companions((quantised[0], quantised[1]))) as pair:
        prob = prob_of(pair, weights="none")
    assert np.abs(prob - expected).mean() < 0.01
    assert ((prob >= 0.5) == (expected >= 0.5)).mean() > 0.995


def embeddings(folder: Path, seed: int = 0, channels: int = 64) -> tuple[Path, Path]:
    """Write embeddings of unit length in which 20 x 20 pixels change, and all turn a little."""
    rng = np.random.default_rng(seed)
    before = ground(seed, bands=channels, size=120) - 100
    after = before + rng.normal(0, 3, before.shape)
    after[:, 50:70, 40:60] = (ground(seed + 1, bands=channels, size=120) - 100)[:, 50:70, 40:60]
    turn = np.linalg.qr(np.eye(channels) + rng.normal(0, 0.02, (channels, channels)))[0]
    after = np.tensordot(turn, after, 1)
    paths = []
    for name, values in (("emb_2019", before), ("emb_2023", after)):
        unit = values / np.linalg.norm(values, axis=0)
        paths.append(write(folder, name, unit.astype(np.float32), 1))
    return paths[0], paths[1]


def test_embeddings_alone_are_compared_under_their_metric(tmp_path: Path) -> None:
    before, after = embeddings(tmp_path)
    settings = Settings.from_flat({"kind": "embedding"})
    files, record = detect(before, after, tmp_path / "out", settings=settings)
    assert record.settings["kind"] == "embedding"
    with rasterio.open(files["prob"]) as dataset:
        changed = dataset.read(1) >= 0.5
    assert changed[53:67, 43:57].mean() > 0.95
    changed[44:76, 34:66] = False
    assert changed.mean() < 0.002


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"kind": "embedding", "uncertainty": True},
            "--uncertainty: needs a sum of several distances, and --kind",
        ),
        ({"kind": "embedding", "focus": "built"}, "--focus: needs a sum"),
        ({"kind": "embedding", "method": "irmad"}, "--kind embedding: is for the default method and preset"),
        ({"features_before": "a.tif"}, "--features-before a.tif: there are no features of the other date"),
        ({"features_after": "a.tif"}, "Name them with --features-before"),
        (
            {"features_before": "a.tif", "features_after": "b.tif", "method": "cva"},
            "--features-before: features are one more distance .* and --method cva has only one",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings.from_flat(values).resolved()
