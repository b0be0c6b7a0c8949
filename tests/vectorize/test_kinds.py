"""Kinds of change: of spectra, and of polygons from rasters to the layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest

from geocd.raster.pair import Pair
from geocd.vectorize.kinds import KIND_COLUMNS, LABELS, RULES, Evidence, KindTotal, in_words, kinds, totals
from geocd.vectorize.polygons import polygonize
from tests.vectorize.test_surfaces import SPECTRA, WORDS

NAMES = ("B02", "B03", "B04", "B08", "B11", "B12")


def evidence(
    before: np.ndarray, after: np.ndarray, residual: float = 1.0, width: float = 5.0, spread: float = 0.0
) -> Evidence:
    spectra = [dict(zip(WORDS, np.reshape(values, (-1, 1)), strict=False)) for values in (before, after)]
    measures = (np.array([value]) for value in (residual, spread, width))
    return Evidence((spectra[0], spectra[1]), *measures, np.array([50]))


@pytest.mark.parametrize(
    ("before", "after", "kind", "became"),
    [
        ("forest", "soil", "vegetation_loss", "vegetation → bare"),
        ("meadow", "roof", "built_or_bare", "vegetation → built"),
        ("soil", "meadow", "vegetation_gain", "bare → vegetation"),
        ("meadow", "flood", "water_gain", "vegetation → water"),
        ("soil", "sea", "water_gain", "bare → water"),
        ("sea", "roof", "water_loss", "water → built"),
        ("forest", "char", "burnt", "vegetation → burnt ground"),
        ("soil", "snow", "snow", "bare → snow"),
        ("snow", "meadow", "snow", "snow → vegetation"),
        ("meadow", "cloud", "cloud", "vegetation → cloud"),
        ("soil", "roof", "built_or_bare", "bare → built"),
    ],
)
def test_kinds_of_usual_surfaces(before: str, after: str, kind: str, became: str) -> None:
    row = kinds(evidence(SPECTRA[before], SPECTRA[after])).iloc[0]
    assert (row["kind"], row["became"]) == (kind, became)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("forest", "soil", "vegetation_loss"),
        ("soil", "forest", "vegetation_gain"),
        ("soil", "snow", "brighter"),
        ("soil", "sea", "water_gain"),
        ("soil", "asphalt lake", "water_gain"),  # dark and grey, as no plants are
        ("soil", "scrub", "vegetation_gain"),
        ("dry meadow", "tiles", "built_or_bare"),
    ],
)
def test_what_colours_tell(before: str, after: str, kind: str) -> None:
    colours = SPECTRA | {
        "asphalt lake": (0.02, 0.021, 0.02),
        "scrub": (0.03, 0.0455, 0.046),
        "dry meadow": (0.075, 0.09, 0.095),
        "tiles": (0.1, 0.12, 0.15),
    }
    assert kinds(evidence(colours[before][:3], colours[after][:3]))["kind"].tolist() == [kind]


@pytest.mark.parametrize(
    ("gain", "spread", "kind", "became"),
    [
        (0.6, 0.05, "darker", None),
        (0.6, 0.4, "built_or_bare", None),
        (1.05, 0.4, "built_or_bare", None),
        (1.5, 0.4, "built_or_bare", None),
    ],
)
def test_open_ground_with_several_factors_is_no_longer_the_same_ground(
    gain: float, spread: float, kind: str, became: str | None
) -> None:
    sand = np.array([0.15, 0.2, 0.26, 0.33, 0.44, 0.42])
    row = kinds(evidence(sand, sand * gain, spread=spread)).iloc[0]
    assert (row["kind"], row["became"]) == (kind, became)
    # what was dark or rough before, such as a city in other light, says nothing of itself
    assert kinds(evidence(sand / 4, sand / 4 * gain, spread=spread)).iloc[0]["kind"] != "built_or_bare"


@pytest.mark.parametrize(("gain", "kind"), [(1.5, "brighter"), (0.6, "darker"), (1.1, "unclear")])
def test_more_or_less_light(gain: float, kind: str) -> None:
    row = kinds(evidence(SPECTRA["soil"], np.array(SPECTRA["soil"]) * gain)).iloc[0]
    assert row["kind"] == kind
    assert row["became"] is None


def test_what_became_of_what_agrees_with_the_kind() -> None:
    """NDVI of 0.3 to 0.4 alone is no cover of plants; where it grew or went it is, as the rule says."""
    roof, sparse = [0.14, 0.15, 0.16, 0.18, 0.20, 0.18], [0.05, 0.08, 0.09, 0.20, 0.22, 0.15]
    dull, light = [0.06, 0.08, 0.10, 0.14, 0.17, 0.15], [0.10, 0.13, 0.165, 0.22, 0.255, 0.22]
    for before, after, expected in (
        (roof, sparse, ("vegetation_gain", "built → vegetation")),
        (sparse, SPECTRA["soil"], ("vegetation_loss", "vegetation → bare")),
        (dull, light, ("brighter", None)),  # by their indices alone, bare → built
    ):
        row = kinds(evidence(np.array(before), np.array(after))).iloc[0]
        assert (row["kind"], row["became"]) == expected


def test_a_strip_that_a_shift_explains_is_a_moved_edge() -> None:
    row = kinds(evidence(SPECTRA["soil"], SPECTRA["roof"], residual=0.2, width=1.2)).iloc[0]
    assert (row["kind"], row["became"]) == ("moved_edge", None)
    assert kinds(evidence(SPECTRA["soil"], SPECTRA["roof"], residual=0.2)).iloc[0]["kind"] != "moved_edge"


def test_why_has_the_indices_and_the_rule() -> None:
    why = kinds(evidence(SPECTRA["forest"], SPECTRA["soil"]))["kind_why"][0]
    assert why == "NDVI 0.85 → 0.21: NDVI falls by 0.15 or more, from 0.3 or more"


def test_every_rule_has_a_label() -> None:
    assert {rule.kind for rule in RULES} | {"unclear"} == set(LABELS)


def test_no_bands_tell_nothing() -> None:
    row = kinds(evidence(np.array([np.nan]), np.array([np.nan]))).iloc[0]
    assert row["kind"] == "unclear"


@pytest.mark.parametrize(
    ("dtype", "scale"), [("uint16", 1e-4), ("float32", 1.0), ("uint8", 1 / 400)], ids=["u2", "f4", "u1"]
)
def test_polygons_have_their_kind(
    make_pair: Any, write_raster: Any, tmp_path: Path, dtype: str, scale: float
) -> None:
    """A scene of forest, soil, roofs and sea; in its middle a clearing, a new lake and a new wood."""
    grounds = np.repeat(np.repeat([["forest", "soil"], ["roof", "sea"]], 30, 0), 30, 1)
    changed = grounds.copy()
    places = {(10, 10): "soil", (10, 40): "flood", (40, 8): "forest"}
    prob = np.zeros(grounds.shape, "f4")
    for (row, col), ground in places.items():
        changed[row : row + 9, col : col + 9] = ground
        prob[row : row + 9, col : col + 9] = 1

    def image(ground: np.ndarray, seed: int) -> np.ndarray:
        spectra = np.array([SPECTRA[name] for name in ground.ravel()]).T.reshape(6, *ground.shape)
        noisy = spectra * np.random.default_rng(seed).normal(1, 0.05, spectra.shape)
        return (np.clip(noisy, 0, 0.6) / scale).astype(dtype)

    with Pair(*make_pair(image(grounds, 0), image(changed, 1), names=NAMES)) as pair:
        summary = polygonize(write_raster("prob", prob), tmp_path / "o.gpkg", threshold=0.5, pair=pair)
    frame = geopandas.read_file(tmp_path / "o.gpkg")
    assert frame["kind"].tolist() == ["vegetation_loss", "water_gain", "vegetation_gain"]
    assert frame["became"].tolist() == ["vegetation → bare", "bare → water", "built → vegetation"]
    assert {(total.became, total.n_polygons) for total in summary.kinds} == {
        (became, 1) for became in frame["became"]
    }
    assert sum(total.area_m2 for total in summary.kinds) == pytest.approx(summary.area_m2)


def test_an_estate_on_sand_is_built_and_wet_sand_is_darker(
    make_pair: Any, write_raster: Any, tmp_path: Path
) -> None:
    """Means alone do not tell them apart: both are sand at six tenths of its brightness."""
    random = np.random.default_rng(3)
    sand = np.reshape([0.15, 0.2, 0.26, 0.33, 0.44, 0.42], (-1, 1, 1)) * random.normal(1, 0.02, (6, 40, 60))
    after, prob = sand * random.normal(1, 0.01, sand.shape), np.zeros((40, 60), "f4")
    after[:, 5:17, 5:17] *= 0.6
    after[:, 20:32, 30:42] *= 0.6 * np.exp(random.normal(0, 0.5, (12, 12)))  # roofs, streets and yards
    prob[3:19, 3:19] = prob[18:34, 28:44] = 1  # outlines that reach beyond
    images = [np.rint(image * 1e4).astype("u2") for image in (sand, after)]
    with Pair(*make_pair(*images, names=NAMES)) as pair:
        polygonize(write_raster("prob", prob), tmp_path / "o.gpkg", threshold=0.5, pair=pair)
    assert geopandas.read_file(tmp_path / "o.gpkg")["kind"].tolist() == ["darker", "built_or_bare"]


def test_without_images_there_are_no_kinds(write_raster: Any, tmp_path: Path) -> None:
    summary = polygonize(write_raster("prob", np.ones((4, 4), "f4")), tmp_path / "o.gpkg", threshold=0.5)
    assert summary.kinds == ()
    assert not set(KIND_COLUMNS) & set(geopandas.read_file(tmp_path / "o.gpkg").columns)


def test_totals_are_by_kind_and_transition() -> None:
    table = pd.DataFrame(
        {
            "kind": ["vegetation_loss", "unclear", "vegetation_loss", "vegetation_loss"],
            "became": ["vegetation → bare", None, "vegetation → bare", None],
            "area_m2": [4e5, 3e5, 1e4, 2e3],
        }
    )
    summary = totals(table)
    assert summary == (
        KindTotal("vegetation_loss", "vegetation → bare", 2, 4.1e5),
        KindTotal("unclear", None, 1, 3e5),
        KindTotal("vegetation_loss", None, 1, 2e3),
    )
    assert in_words(summary) == "41 ha vegetation → bare, 30 ha unclear, 2,000 m² vegetation lost.\n"
    assert in_words(()) == ""
