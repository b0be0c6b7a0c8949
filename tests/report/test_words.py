"""The texts of the report."""

from __future__ import annotations

import re
from typing import Any

import pytest
from conftest import GRID, run_record

from geocd.report import words
from geocd.scene.registration import Alignment, Removed, Shift


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            {},
            "3.1 % of the valid area changed between 2015-07-01 and 2017-08-20: 41 places, 12.4 ha in total.",
            id="usual",
        ),
        pytest.param(
            {"date_before": None, "summary": {"n_polygons": 1, "area_m2": 900.0, "changed_share": 0.0002}},
            "< 0.1 % of the valid area changed between the two images: 1 place, 900 m².",
            id="one, a date missing",
        ),
        pytest.param(
            {"summary": {"n_polygons": 0, "area_m2": 0.0, "changed_share": 0.0}},
            "No change was detected between 2015-07-01 and 2017-08-20.",
            id="nothing",
        ),
        pytest.param(
            {"settings": {"min_area": 400.0}, "summary": {"n_polygons": 1234, "area_m2": 2.5e8}},
            "3.1 % of the valid area changed between 2015-07-01 and 2017-08-20: 1,234 places of 400 m² or "
            "more, 250 km² in total.",
            id="large, small ones left out",
        ),
    ],
)
def test_headline(changes: dict[str, Any], expected: str) -> None:
    assert words.headline(run_record(**changes)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"date_after": "2015-07-01T12:00:00Z"}, "are dated 2015-07-01", id="one day"),
        pytest.param({"date_after": "2014-07-01T12:00:00Z"}, "taken later than", id="wrong way round"),
        pytest.param({"summary": {"changed_share": 0.31}}, "31.0 % of the area changed", id="much"),
        pytest.param(
            {"summary": {"changed_share": 0.9999}}, r"^More than 99\.9 % of the area", id="nearly all"
        ),
        pytest.param(
            {"summary": {"changed_share": 0.0003}},
            r"small part of the area changed \(less than 0\.1 %\)",
            id="little",
        ),
        pytest.param({"summary": {"changed_share": 0.0, "n_polygons": 0}}, None, id="nothing at all"),
        pytest.param(
            {"summary": {"valid_share": 0.2}},
            r"Only a part of the raster could be analysed \(20\.0 %\)",
            id="little valid",
        ),
        pytest.param(
            {"summary": {"ignored_share": {"water": 0.3, "cloud": 0.0}}},
            "30.0 %, was left out as water",
            id="ignored",
        ),
        pytest.param(
            {"summary": {"zero_share": {"before": 0.009, "after": 0.17}}},
            r"^after\.tif: 17% of the pixels .* pass --nodata 0\. Otherwise",
            id="undeclared nodata",
        ),
        pytest.param({"summary": {"seam_score": 1.31}}, "seam score 1.31", id="seams"),
        pytest.param({"summary": {"seam_score": 1.1}}, None, id="seams of chance"),
        pytest.param({"summary": {"shift": Shift(0.3, 0.4, 20, 0.1, 9)}}, "by 0.5 pixels", id="shifted"),
        pytest.param({"summary": {"shift": Shift(0.0, 0.29, 20, 0.1, 9)}}, None, id="hardly shifted"),
        pytest.param(
            {"summary": {"shift": Shift(9.0, 9.0, 3, 20, 9)}},
            "No shift .* could be measured",
            id="no shift",
        ),
        pytest.param({"summary": {"shift": None}}, None, id="nothing to measure on"),
        pytest.param({"method": "cva", "preset": None}, "classical method", id="classical"),
        pytest.param(
            {"settings": {"min_area": 1e9}, "summary": {"n_polygons": 0}}, "smaller than", id="all too small"
        ),
    ],
)
def test_findings(changes: dict[str, Any], expected: str | None) -> None:
    found = words.findings(run_record(**changes))
    assert len(found) == (expected is not None)
    if expected is not None:
        assert re.search(expected, str(found[0]))


def test_a_shift_that_is_not_measurable_is_no_number() -> None:
    shift = words.shift_in_words(Shift(3.21, 7.89, 3.0, 15.0, 9), 10.0)
    assert shift.value == "not measurable"
    assert not re.search(r"3\.21|7\.89|8\.5", str(shift))
    assert words.shift_in_words(None, None).value == "not measurable"


def test_a_shift_has_a_direction() -> None:
    shift = words.shift_in_words(Shift(-0.3, 0.4, 20.0, 0.1, 9), 10.0)
    assert shift.value == "0.50 px (about 5 m)"
    assert "0.40 px to the right and 0.30 px up" in shift.detail


def test_how_sure_a_shift_is() -> None:
    detail = words.shift_in_words(Shift(0.0, 0.1, 18.2, 0.05, 1), None).detail
    assert "Measured in 1 window of the images. The match is 18 times as strong as the noise" in detail
    assert "differ by 0.05 px" in detail


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("band 1",), "band 1"),
        (("band 1", "band 2", "band 3"), "bands 1, 2, 3"),
        (("red", "band 2"), "bands red, band 2"),
        (("pan",), "band pan"),
    ],
)
def test_bands(names: tuple[str, ...], expected: str) -> None:
    assert words.bands_in_words(names) == expected


def test_the_explanation_is_of_this_pair() -> None:
    histogram = [0] * 50
    histogram[0], histogram[26], histogram[45] = 900, 25, 75  # P of .53 and .91
    first, near, analysed = words.explanation(run_record(histogram=histogram, summary={"valid_share": 0.5}))
    assert "0.5 or more, the method's own" in first
    assert near.startswith("Of the changed pixels, 25.0 % lie less than 0.1 above")
    assert analysed.startswith("50.0 % of the raster was analysed.")
    assert len(words.explanation(run_record(histogram=[900, 0]))) == 2, "nothing changed"


@pytest.mark.parametrize(("last", "expected"), [(0.4, "It fell ("), (0.9, "It did not fall: the networks")])
def test_a_loss_that_ends_higher_is_no_evidence(last: float, expected: str) -> None:
    assert expected in words.losses_in_words([0.8] * 10 + [0.1] * 80 + [last] * 10)


@pytest.mark.parametrize(
    ("alignment", "expected"),
    [
        (None, ""),
        (Alignment(GRID, None, 1.0, None), "The after image is on the grid of the before image."),
        (
            Alignment(GRID, "cubic", 0.42, Removed(0.5, -0.2, None)),
            "grid of the before image (cubic resampling); it covers 42.0 % of it. No shift was",
        ),
    ],
    ids=["not asked for", "one grid", "warped"],
)
def test_alignment(alignment: Alignment | None, expected: str) -> None:
    found = words.alignment_in_words(alignment)
    assert expected in found
    assert bool(found) == bool(expected)
