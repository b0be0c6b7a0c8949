"""The table of distances: everything about a distance follows from its entry."""

from __future__ import annotations

import dataclasses
import importlib.util
import pickle
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from simulated import extractor, simulated_chip

from geocd.config import Settings
from geocd.method import terms
from geocd.method.decision import logistic_prob
from geocd.method.default import DECISION, SLOPE_ABOVE, SLOPE_BELOW, DefaultDetector, jackknife
from geocd.method.distance import BEYOND, CAP, GATE, VEIL, SceneDistance
from geocd.method.extractor import Extractor, Lite0Features
from geocd.method.scaled import FeatureMaps, FitSample, ScaledPair, Scaling
from geocd.raster.pair import Chip

CONF = Path(__file__).parents[2] / "docs" / "conf.py"


@dataclasses.dataclass(frozen=True)
class Brightening:
    """A distance with something to fit: the sample's median difference of the first band."""

    usual: float

    @classmethod
    def fit(cls, sample: FitSample) -> Brightening:
        before, after = sample.rows(terms.visible)
        return cls(float(np.median(after[:, 0] - before[:, 0])))

    def __call__(self, pair: ScaledPair) -> torch.Tensor:
        return (pair.u2[0] - pair.u1[0] - self.usual).abs()


FURTHER = terms.Term(
    name="br",
    weights=(2.0, 2.0, 2.0),
    typical_std=0.5,
    narrow=True,
    reach=99,
    description="a further distance, of this test",
    fit=Brightening.fit,
)


@pytest.fixture
def further(monkeypatch: pytest.MonkeyPatch) -> terms.Term:
    """Add a distance to the table."""
    monkeypatch.setattr(terms, "TERMS", (*terms.TERMS, FURTHER))
    return FURTHER


@pytest.fixture
def chip() -> Chip:
    return simulated_chip(0)


def fitted(chip: Chip) -> SceneDistance:
    return SceneDistance.fit([chip], colour=(0, 1, 2, 3), pixel_size=None, extractor=extractor())[0]


def documentation() -> ModuleType:
    """Return the configuration of the site, which makes pages from the code."""
    spec = importlib.util.spec_from_file_location("site_configuration", CONF)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def combined(scene: SceneDistance, maps: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    """Sum distances by hand, without a window after the sum."""
    table = {term.name: term for term in terms.TERMS}
    scaled = {name: np.minimum((maps[name] - scene.centre[name]) / scene.scale[name], CAP) for name in names}
    for name in names:
        if (limit := table[name].limited_by) in scaled:
            scaled[name] = np.minimum(scaled[name], scaled[limit])

    def mean(members: list[str]) -> np.ndarray:
        weight = scene.weight
        return sum(weight[n] * scaled[n] for n in members) / sum(weight[n] for n in members)

    beyond, gate = maps["beyond"], GATE + mean([name for name in names if table[name].narrow])
    limits = [gate, BEYOND[0] + BEYOND[1] * beyond]
    if edges := [name for name in names if table[name].edges]:
        limits.append(VEIL[0] * maps["beyond_wide"] + VEIL[1] * np.maximum(mean(edges), 0))
    return np.minimum.reduce([mean(names), *limits])


def test_a_distance_is_added_by_one_entry(further: terms.Term, chip: Chip) -> None:
    """It is fitted, scaled, weighted, and looked at by the gate."""
    scene = fitted(chip)
    distance = scene.distances[further.name]
    assert isinstance(distance, Brightening)
    scaled = scene.scaled(chip)
    maps = {name: values.numpy() for name, values in scene.terms(scaled).items()}
    assert np.array_equal(maps[further.name], distance(scaled).numpy())
    own = float(np.clip(maps[further.name].std(), 0.7 * 0.5, 1.6 * 0.5))
    assert scene.scale[further.name] == pytest.approx(np.sqrt(0.5 * own))
    names = [term.name for term in scene.included]
    assert names[-1] == further.name
    np.testing.assert_allclose(scene.distance(scaled), combined(scene, maps, names), atol=1e-5)


def test_the_margin_covers_the_widest_distance(further: terms.Term, chip: Chip) -> None:
    with_further = fitted(chip).margin
    assert with_further - further.reach == Scaling.REACH, "what fills holes"


def test_the_uncertainty_is_over_every_distance(further: terms.Term, chip: Chip) -> None:
    settings = Settings.from_flat({"uncertainty": True}).resolved().method
    pair = SimpleNamespace(band_names=["red", "green", "blue", "nir"], grid=SimpleNamespace(pixel_size=None))
    detector = DefaultDetector.fit([chip], pair, settings, 1)  # type: ignore[arg-type]
    assert detector.margin >= further.reach
    scene = detector.features
    maps = scene.terms(scene.scaled(chip))
    arrays = {name: values.numpy() for name, values in maps.items()}
    names = [term.name for term in scene.included]
    left_out = [value.numpy() for value in scene.leaving_one_out(maps)]
    assert len(left_out) == 6
    for name, distance in zip(names, left_out, strict=True):
        others = [other for other in names if other != name]
        np.testing.assert_allclose(distance, combined(scene, arrays, others), atol=1e-5)
    probs = [logistic_prob(distance, DECISION, SLOPE_BELOW, SLOPE_ABOVE) for distance in left_out]
    np.testing.assert_allclose(detector.prob(chip)[1], jackknife(np.stack(probs)), atol=1e-6)


def test_the_documentation_lists_every_distance(further: terms.Term) -> None:
    page = documentation().distances_reference()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [term.name for term in terms.TERMS]
    assert further.description in rows[-1]
    assert [cell.strip() for cell in rows[-1].split("|")[3:-1]] == ["2", "2", "2", "0.5", "yes", "99"]


def test_a_fitted_distance_can_travel(chip: Chip) -> None:
    """To workers, as bytes; and it still gives the same."""
    scene = fitted(chip)
    copy = pickle.loads(pickle.dumps(scene))
    assert torch.equal(copy.distance(copy.scaled(chip)), scene.distance(scene.scaled(chip)))


def test_weights_go_with_the_logarithm_of_the_pixel_size() -> None:
    weights = {size: FURTHER.weight(size) for size in (0.1, 2, 10, 30, 1000, None)}
    assert set(weights.values()) == {2.0}
    ramp = dataclasses.replace(FURTHER, weights=(0.0, 1.0, 0.5))
    assert [ramp.weight(size) for size in (0.3, 2.0, 10.0, None, 30.0, 250.0)] == [0, 0, 1, 1, 0.5, 0.5]
    assert ramp.weight(20**0.5) == pytest.approx(0.5), "half-way between 2 and 10 m"
    assert ramp.weight(2.1) == 0, "hardly any is none"


def test_what_has_no_weight_at_a_pixel_size_is_not_computed(chip: Chip) -> None:
    def names(pixel_size: float, network: Extractor | None) -> set[str]:
        scene = SceneDistance.fit([chip], colour=(0, 1, 2, 3), pixel_size=pixel_size, extractor=network)[0]
        assert set(scene.terms(scene.scaled(chip))) == {*scene.weight, "beyond", "beyond_wide"}
        return set(scene.weight)

    assert {size: names(size, extractor()) & {"shallow", "middle", "tx"} for size in (1.0, 10.0, 40.0)} == {
        1.0: {"tx"},
        10.0: {"shallow", "middle"},
        40.0: {"shallow"},
    }
    assert names(10.0, None) == {"ir", "gd", "cc"}


@pytest.mark.parametrize("term", terms.TERMS, ids=lambda term: term.name)
def test_a_distance_reaches_no_further_than_its_entry_says(term: terms.Term) -> None:
    rng = np.random.default_rng(0)
    dates = [torch.from_numpy(rng.normal(size=(4, 120, 120)).astype(np.float32)) for _ in range(4)]
    valid = torch.ones((120, 120), dtype=torch.bool)

    def scaled(dates: list[torch.Tensor]) -> ScaledPair:
        stride = 1 if term.stride is None else term.stride[0]
        places = -(-120 // stride)
        features = (date[:, :places, :places].contiguous() for date in dates[:2])
        rasters = FeatureMaps(*features, stride, (0, 0), (120, 120))
        return ScaledPair(*dates, valid, True, (0, 1, 2, 3), (0, 0), extractor(), 2, rasters)

    pair = scaled(dates)
    sample = FitSample([pair], [torch.arange(0, 14_400, 3)], seed=0, jobs=1)
    distance = term.fit(sample)
    moved = [date.clone() for date in dates]
    place = 60 if term.stride is None else 60 // term.stride[0]
    for date in moved[1::2]:  # after
        date[:, place, place] += 5
    difference = distance(scaled(moved)) - distance(pair)
    rows, cols = difference.nonzero(as_tuple=True)
    # of features made elsewhere, whatever is needed around a tile is read with it
    own = 0 if term.stride is None else 2 * term.stride[0]
    margin = term.margin(Lite0Features.LEVELS) + own
    assert 0 < max((rows - 60).abs().max(), (cols - 60).abs().max()) <= margin


def test_names_are_those_of_no_other_map() -> None:
    names = [term.name for term in terms.TERMS]
    assert len(set(names)) == len(names)
    assert not {"beyond", "beyond_wide"} & set(names), "the limits of the sum have these names"
