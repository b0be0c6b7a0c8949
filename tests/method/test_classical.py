"""Classical distances: against their definitions, on hostile bands, near nodata."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.windows import Window
from scipy import ndimage

from geocd.method.classical import ClassicalDetector, Cva, pixel_noise, smooth
from geocd.raster.pair import Chip


def chip(before: np.ndarray, after: np.ndarray, valid: np.ndarray | None = None) -> Chip:
    valid = np.ones(before.shape[1:], bool) if valid is None else valid
    before, after = before.copy(), after.copy()
    before[:, ~valid] = 0
    after[:, ~valid] = 0
    return Chip(before, after, valid, Window(0, 0, before.shape[2], before.shape[1]))


@pytest.fixture
def scene() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth_noise = ndimage.gaussian_filter(rng.normal(size=(4, 80, 90)), (0, 3, 3))
    return (1000 + 3000 * smooth_noise).astype(np.float32)


def with_object(scene: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    truth = np.zeros(scene.shape[1:], bool)
    truth[20:40, 30:55] = True
    after = scene * 1.2 + 50 + np.random.default_rng(1).normal(0, 20, scene.shape)
    after[:2, truth] += 6 * scene[0].std()
    return after.astype(np.float32), truth


def test_smooth_is_a_gaussian_where_all_is_valid_and_knows_holes() -> None:
    values = np.random.default_rng(0).random((30, 40)).astype(np.float32)
    everywhere = np.ones(values.shape, bool)
    assert np.allclose(smooth(values, everywhere, 2), ndimage.gaussian_filter(values, 2, mode="nearest"))
    holed = everywhere.copy()
    holed[10:20, 10:20] = False
    spoilt = np.where(holed, 1.0, 1e6).astype(np.float32)
    result = smooth(spoilt, holed, 2)
    assert np.allclose(result[holed], 1, atol=1e-5)
    assert (result[~holed] == 0).all()


@pytest.mark.parametrize("method", ["cva", "irmad"])
def test_a_planted_object_is_found_and_little_else(method: str, scene: np.ndarray) -> None:
    after, truth = with_object(scene)
    pair = chip(scene, after)
    detector = ClassicalDetector.fit(method, [pair])
    changed = detector.prob(pair)[0] >= 0.5
    assert (changed & truth).sum() / (changed | truth).sum() > 0.6


@pytest.mark.parametrize("method", ["cva", "irmad"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nothing_changed_is_nothing_found(method: str, dtype: type, scene: np.ndarray) -> None:
    digital = np.clip(scene / 20, 0, 250).astype(dtype) if dtype == np.uint8 else scene.astype(dtype)
    same = chip(digital.astype(np.float32), digital.astype(np.float32))
    assert not (ClassicalDetector.fit(method, [same]).prob(same) >= 0.5).any()
    if dtype == np.uint16:
        light = np.round(1.3 * digital.astype(np.float32) + 200)
        pair = chip(digital.astype(np.float32), light)
        assert not (ClassicalDetector.fit(method, [pair]).prob(pair) >= 0.5).any()


@pytest.mark.parametrize("method", ["cva", "irmad"])
@pytest.mark.parametrize("kind", ["constant", "one constant band", "equal bands", "one band", "one pixel"])
def test_degenerate_bands_give_finite_probabilities(method: str, kind: str, scene: np.ndarray) -> None:
    after, _ = with_object(scene)
    before = scene.copy()
    if kind == "constant":
        before, after = np.full_like(scene, 5), np.full_like(scene, 9)
    elif kind == "one constant band":
        before[1], after[1] = 5, 9
    elif kind == "equal bands":
        before[1], after[1] = before[0], after[0]
    elif kind == "one band":
        before, after = before[:1], after[:1]
    else:
        before, after = before[:, :1, :1], after[:, :1, :1]
    pair = chip(before, after)
    with np.errstate(all="raise", under="ignore"):
        prob = ClassicalDetector.fit(method, [pair]).prob(pair)
    assert np.isfinite(prob).all()
    if kind == "constant":
        assert (prob < 0.5).all()


@pytest.mark.parametrize("method", ["cva", "irmad"])
def test_what_is_not_valid_does_not_matter(method: str, scene: np.ndarray) -> None:
    after, _ = with_object(scene)
    valid = np.ones(scene.shape[1:], bool)
    valid[60:, 70:] = False
    detectors = []
    for junk in (0, 30_000):
        spoilt = after.copy()
        spoilt[:, ~valid] = junk
        pair = Chip(scene, spoilt, valid, Window(0, 0, 90, 80))
        detectors.append(ClassicalDetector.fit(method, [pair]).prob(chip(scene, after, valid)))
    assert np.array_equal(detectors[0], detectors[1], equal_nan=True)
    assert (np.isnan(detectors[0][0]) == ~valid).all()


def test_a_window_gives_what_the_whole_gives(scene: np.ndarray) -> None:
    after, _ = with_object(scene)
    whole = chip(scene, after)
    cva = Cva.fit([whole])
    part = chip(scene[:, :60, :60], after[:, :60, :60])
    inner = 60 - cva.margin
    assert np.allclose(cva.distance(part)[:inner, :inner], cva.distance(whole)[:inner, :inner], atol=1e-5)


def unchanged_pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return ten pairs of one image and its copy: JPEG, noise, gain and offset."""
    rng = np.random.default_rng(0)
    fine, coarse = (ndimage.gaussian_filter(rng.normal(size=(3, 200, 220)), (0, s, s)) for s in (1, 6))
    image = fine / fine.std() * (coarse > 0) + 2 * coarse / coarse.std()  # texture in half of the scene
    image = np.clip(np.round(120 + 20 * image), 0, 255).astype(np.float32)

    def copy_of(name: str) -> np.ndarray:
        values = jpeg(image, int(name[4:6])) if name.startswith("jpeg") else image
        if "gain" in name:
            values = 0.8 * values + 20
        if "noise" in name:
            values = values + rng.normal(0, float(name[5:7]), image.shape)
        return np.clip(np.round(values), 0, 255).astype(np.float32)

    names = "jpeg95 jpeg75 jpeg50 jpeg25 noise01 noise03 noise10 gain noise03+gain jpeg60+gain"
    return {name: (image, copy_of(name)) for name in names.split()}


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    profile = {"driver": "JPEG", "dtype": "uint8", "QUALITY": quality, "crs": "EPSG:32633"}
    count, height, width = image.shape
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(**profile, count=count, height=height, width=width) as dataset:
            dataset.write(image.astype(np.uint8))
        with memory.open() as dataset:
            return dataset.read().astype(np.float32)


@pytest.mark.parametrize("method", ["cva", "irmad"])
def test_of_a_pair_without_change_at_most_one_percent_is_changed(method: str) -> None:
    """Otsu's threshold alone halves them: 40 to 50 % changed."""
    shares = {}
    for name, (before, after) in unchanged_pairs().items():
        pair = chip(before, after)
        shares[name] = (ClassicalDetector.fit(method, [pair]).prob(pair) >= 0.5).mean()
    assert len(shares) == 10
    assert max(shares.values()) <= 0.01, shares


def test_the_noise_of_a_difference_does_not_see_what_is_smooth_or_rare() -> None:
    rng = np.random.default_rng(0)
    ramp = np.broadcast_to(np.linspace(0, 50, 200), (2, 150, 200))
    difference = ramp + np.array([3.0, 4.0])[:, None, None] * rng.normal(size=ramp.shape)
    difference[:, 40:60, 40:60] += 100
    valid = np.ones((150, 200), bool)
    valid[:20] = False
    difference[:, ~valid] = 1e6
    assert pixel_noise([difference], [valid]) == pytest.approx(5, rel=0.03)
    assert pixel_noise([difference[:, :2, :2]], [valid[:2, :2]]) == 0
