"""The closed-form features: each distance sees its own kind of change, and nothing where nothing is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from rasterio.windows import Window
from scipy import ndimage

from geocd.config import Settings
from geocd.method import terms
from geocd.method.default import feature_extractor
from geocd.method.distance import SceneDistance, object_sigma
from geocd.method.filters import gaussian
from geocd.method.terms import beyond_shift, chi
from geocd.raster.pair import Chip


def chip(before: np.ndarray, after: np.ndarray, valid: np.ndarray | None = None) -> Chip:
    valid = np.ones(before.shape[1:], bool) if valid is None else valid
    before, after = before.astype(np.float32), after.astype(np.float32)
    before[:, ~valid] = 0
    after[:, ~valid] = 0
    return Chip(before, after, valid, Window(0, 0, before.shape[2], before.shape[1]))


@pytest.fixture(scope="module")
def ground() -> np.ndarray:
    """Four bands of patchy ground with texture, 160 x 180."""
    rng = np.random.default_rng(0)
    patches = np.kron(rng.normal(size=(4, 8, 9)), np.ones((20, 20)))
    fine = ndimage.gaussian_filter(rng.normal(size=(4, 160, 180)), (0, 1, 1))
    return 2000 + 300 * patches + 250 * fine


def noisy(values: np.ndarray, seed: int, amount: float = 25) -> np.ndarray:
    return values + np.random.default_rng(seed).normal(0, amount, values.shape)


def fit(pair: Chip, pixel_size: float | None = 10.0) -> SceneDistance:
    settings = Settings().resolved().method
    with torch.no_grad():
        return SceneDistance.fit(
            [pair], colour=(0, 1, 2, 3), pixel_size=pixel_size, extractor=feature_extractor(settings)
        )[0]


def distance_of(features: SceneDistance, pair: Chip) -> np.ndarray:
    return features.distance(features.scaled(pair)).numpy()


def terms_of(pair: Chip, pixel_size: float = 10.0) -> dict[str, np.ndarray]:
    features = fit(pair, pixel_size)
    return {name: values.numpy() for name, values in features.terms(features.scaled(pair)).items()}


INSIDE = (slice(60, 90), slice(70, 100))
FAR = (slice(110, 150), slice(120, 170))


@pytest.mark.parametrize(
    ("kind", "pixel_size", "sees"),
    [
        ("brightness", 30.0, ("image", "ir", "cc", "gd", "shallow")),
        ("texture", 2.0, ("tx",)),
        ("pattern", 10.0, ("shallow", "middle")),
    ],
)
def test_each_kind_of_change_is_seen_by_the_distances_made_for_it(
    kind: str, pixel_size: float, sees: tuple[str, ...], ground: np.ndarray
) -> None:
    after = ground.copy()
    patch = after[(slice(None), *INSIDE)]
    if kind == "brightness":
        patch += 1000
    elif kind == "texture":  # same mean, rougher
        patch += np.random.default_rng(5).normal(0, 400, patch.shape)
    else:  # same values elsewhere in the patch
        patch[:] = patch[:, ::-1, ::-1].copy()
    pair = chip(noisy(ground, 1), noisy(after, 2))
    terms = terms_of(pair, pixel_size)
    for name in sees:
        assert terms[name][75, 85] > np.percentile(terms[name][FAR], 99), name


def test_a_class_that_changes_as_a_whole_is_not_unusual(ground: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    field = np.kron(rng.random((8, 9)) > 0.85, np.ones((20, 20))) > 0
    before = ground.copy()
    before[:, field] = np.array([800, 900, 700, 4000])[:, None] + rng.normal(0, 60, (4, field.sum()))
    after = before.copy()
    after[:, field] = np.array([1500, 1400, 1800, 2200])[:, None] + rng.normal(0, 60, (4, field.sum()))
    pair = chip(noisy(before, 1), noisy(after, 2))
    terms = terms_of(pair, 30.0)
    inner = ndimage.binary_erosion(field, iterations=7)
    stable = ndimage.binary_erosion(~field, iterations=7)
    # harvest everywhere: large as a difference, small as a departure from what its class does
    contrast = {
        name: (terms[name][inner].mean() - terms[name][stable].mean()) / terms[name][stable].std()
        for name in ("image", "cc")
    }
    assert contrast["image"] > 3
    assert contrast["cc"] < 0.5 * contrast["image"]


def test_a_distance_counts_for_no_more_than_the_one_that_limits_it(ground: np.ndarray) -> None:
    fitted = fit(chip(ground, noisy(ground, 1)))
    fitted = dataclasses.replace(
        fitted,
        weight={"ir": 1.0, "cc": 1.0},
        centre=dict.fromkeys(("ir", "cc"), 1.0),
        scale={"ir": 0.5, "cc": 0.5},
    )
    unusual, usual = torch.full((3, 4), 2.5), torch.full((3, 4), 1.0)  # 3 deviations, and 0

    def combined(ir: torch.Tensor, cc: torch.Tensor, without: str | None = None) -> float:
        return float(fitted.combine({"ir": ir, "cc": cc}, without=without).unique())

    assert combined(unusual, usual) == 0  # the class explains what the scene's relation does not
    assert combined(usual, unusual) == (0 + 3) / 2
    assert combined(unusual, unusual) == 3
    assert combined(unusual, usual, without="cc") == 3


def test_the_distance_of_the_same_image_is_far_below_the_decision(ground: np.ndarray) -> None:
    same = chip(ground, ground)
    assert distance_of(fit(same), same).max() < 1
    light = chip(ground, np.round(1.3 * ground + 200))
    assert distance_of(fit(light), light).max() < 1


def test_a_shift_by_one_pixel_stays_below_the_decision(ground: np.ndarray) -> None:
    """Every edge differs, but hardly anything lies beyond what a shift can do."""
    moved = np.roll(ground, (1, 1), (1, 2))
    pair = chip(noisy(ground, 1, 5), noisy(moved, 2, 5))
    features = fit(pair, 1.5)
    inner = distance_of(features, pair)[20:-20, 20:-20]
    assert (inner < 2).all()
    before, after = torch.from_numpy(ground), torch.from_numpy(moved)
    assert beyond_shift(before, after)[2:-2, 2:-2].max() == 0
    assert beyond_shift(before, after + 50).min() >= 0


def test_a_bright_object_on_bright_ground_is_no_veil(ground: np.ndarray) -> None:
    """Both are clipped in the narrow scale, and hardly differ there."""
    before = ground.copy()
    before[:, 40:100, 120:175] = 3200 + 0.1 * (ground[:, 40:100, 120:175] - 2000)  # sand
    after = before.copy()
    after[:, 60:78, 140:158] += 600
    pair = chip(noisy(before, 1), noisy(after, 2))
    changed = distance_of(fit(pair), pair) >= 2
    assert changed[61:77, 141:157].mean() > 0.5
    assert not changed[:, :110].any()


def test_outlines_of_strong_changes_stay_close_on_fine_pixels(ground: np.ndarray) -> None:
    after = ground.copy()
    after[(slice(None), *INSIDE)] += 1500
    pair = chip(noisy(ground, 1), noisy(after, 2))
    changed = distance_of(fit(pair, 1.5), pair) >= 2
    assert changed[INSIDE].mean() > 0.98
    assert changed.sum() < 1.6 * 30 * 30, "3.5 pixels around"


def test_windows_agree_with_the_whole_beyond_the_margin(ground: np.ndarray) -> None:
    """This is what makes tiles seamless."""
    after = ground.copy()
    after[(slice(None), *INSIDE)] += 1000
    whole = chip(noisy(ground, 1), noisy(after, 2))
    for pixel_size in (10.0, 3.0):
        features = fit(whole, pixel_size)
        part = whole.part(slice(0, 140), slice(30, 180))
        inner = (slice(0, 140 - features.margin), slice(features.margin, 150))
        cut = distance_of(features, part)[inner]
        full = distance_of(features, whole)[0 : 140 - features.margin, 30 + features.margin : 180]
        assert cut.size
        assert np.allclose(cut, full, atol=1e-3)


def test_what_is_not_valid_does_not_matter(ground: np.ndarray) -> None:
    after = ground.copy()
    after[(slice(None), *INSIDE)] += 1000
    valid = np.ones(ground.shape[1:], bool)
    valid[:30, :50] = valid[100:103] = False
    results = []
    for junk in (0.0, 1e9):
        pair = chip(noisy(ground, 1), noisy(after, 2), valid)
        pair.before[:, ~valid] = junk
        results.append(distance_of(fit(pair), pair))
    assert np.isfinite(results[0]).all()
    assert np.allclose(results[0][valid], results[1][valid])


@pytest.mark.parametrize("bands", [1, 2, 3, 13])
@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (1, 200), (40, 3)])
def test_any_bands_and_any_shape(bands: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    pair = chip(*rng.gamma(3, 100, (2, bands, *shape)))
    features, sample = SceneDistance.fit([pair], colour=tuple(range(min(4, bands))), pixel_size=None)
    assert np.isfinite(distance_of(features, pair)).all()
    assert np.array_equal(sample[0][1].numpy(), distance_of(features, pair))


def test_the_seed_matters_little_and_repeats_exactly(ground: np.ndarray) -> None:
    after = ground.copy()
    after[(slice(None), *INSIDE)] += 1000
    pair = chip(noisy(ground, 1), noisy(after, 2))

    def distance(seed: int) -> np.ndarray:
        features, _ = SceneDistance.fit([pair], colour=(0, 1, 2, 3), pixel_size=10, seed=seed)
        return distance_of(features, pair)

    assert np.array_equal(distance(0), distance(0))
    assert np.corrcoef(distance(0).ravel(), distance(1).ravel())[0, 1] > 0.98


def test_the_object_window_follows_the_pixel_size() -> None:
    assert object_sigma(10) == 0
    assert object_sigma(30) == 0
    assert object_sigma(None) == 0
    assert 5 < object_sigma(1.5) < 6
    assert object_sigma(0.05) == object_sigma(0.5)


def test_classes_and_residuals_are_those_of_the_definition(
    ground: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a loop over pixels in float64: nearest centre, affine prediction, Mahalanobis length."""
    pair = chip(noisy(ground, 1), noisy(ground, 2))
    features = fit(pair)
    scaled = features.scaled(pair)
    classes = features.distances["cc"]
    contexts, (before, after) = terms.contexts(scaled), terms.near(scaled)
    both = ((classes.forward, contexts[0], before, after), (classes.backward, contexts[1], after, before))
    expected = np.zeros(scaled.shape, np.float32)
    for row, col in np.ndindex(scaled.shape):
        for residuals, context, source, target in both:
            c, x, y = (t[:, row, col].double().numpy() for t in (context, source, target))
            k = ((residuals.centres - c) ** 2).sum(axis=1).argmin()
            residual = (y - np.append(x, 1) @ residuals.slopes[k]) @ residuals.whitening[k]
            expected[row, col] = max(expected[row, col], np.linalg.norm(residual))
    expected = gaussian(gaussian(torch.from_numpy(expected), 1).log1p_(), terms.SMOOTH)
    apart = (classes(scaled) - expected).abs()
    assert apart.mean() < 0.02, "wide windows are interpolated between the points of a lattice"
    monkeypatch.setattr(terms, "COARSE", 1)
    torch.testing.assert_close(classes(scaled), expected, rtol=1e-4, atol=1e-5)


def test_chi_is_that_of_irmad(ground: np.ndarray) -> None:
    pair = chip(noisy(ground, 1), noisy(ground, 2))
    features = fit(pair)
    scaled = features.scaled(pair)
    irmad = features.distances["ir"].irmad
    expected = irmad.chi(scaled.u1.numpy(), scaled.u2.numpy())
    assert np.allclose(chi(irmad, scaled.u1, scaled.u2), expected, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives(ground: np.ndarray) -> None:
    after = ground.copy()
    after[(slice(None), *INSIDE)] += 1000
    valid = np.ones(ground.shape[1:], bool)
    valid[:30, :50] = False
    pair = chip(noisy(ground, 1), noisy(after, 2), valid)
    cuda = torch.device("cuda")
    features = fit(pair, 3.0)
    on_cuda = features.distance(features.scaled(pair, cuda)).cpu().numpy()
    # A pixel midway between two classes may be assigned to the other one.
    apart = np.abs(on_cuda - distance_of(features, pair))
    assert np.quantile(apart, 0.999) < 1e-4
    fitted, _ = SceneDistance.fit([pair], colour=(0, 1, 2, 3), pixel_size=3.0, device=cuda)
    assert fitted.centre == pytest.approx(features.centre, abs=1e-3)
    assert fitted.scale == pytest.approx(features.scale, abs=1e-3)


def test_features_are_frozen(ground: np.ndarray) -> None:
    features = fit(chip(ground, noisy(ground, 2)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        features.object_sigma = 1.0  # type: ignore[misc]
