"""Offsets that nobody declares: seen in the dark pixels of a pair, and said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geocd.check import check_pair

MakePair = Callable[..., tuple[Path, Path]]
NAMES = ("red", "green", "blue", "nir")


def surface(seed: int = 0) -> np.ndarray:
    """Return reflectance x 10 000 of dark and bright fields, with noise."""
    rng = np.random.default_rng(seed)
    fields = np.repeat(np.repeat(rng.uniform(300, 3000, (4, 8, 8)), 16, axis=1), 16, axis=2)
    return fields + np.random.default_rng(seed + 1).normal(0, 20, fields.shape)


def findings(make_pair: MakePair, before: np.ndarray, after: np.ndarray, **options: Any) -> list[Any]:
    pair = make_pair(before.astype("u2"), after.astype("u2"), names=NAMES, **options)
    return [finding for finding in check_pair(*pair).findings if finding.code == "offset"]


@pytest.mark.parametrize("added", [1000, 7273])
@pytest.mark.parametrize("swapped", [False, True])
def test_an_undeclared_offset_is_a_warning(make_pair: MakePair, added: int, swapped: bool) -> None:
    dates = surface(), surface() + np.random.default_rng(5).normal(0, 30, (4, 128, 128)) + added
    (finding,) = findings(make_pair, *(dates[::-1] if swapped else dates))
    names = ("before.tif", "after.tif") if swapped else ("after.tif", "before.tif")
    assert finding.severity == "warning"
    number = finding.text.split(" above")[0].rsplit(" ", 1)[1]
    assert finding.text.startswith(f"The values of {names[0]} lie about {number} above those of {names[1]}")
    assert float(number) == pytest.approx(added, abs=50)
    assert "PROCESSING_BASELINE=04.00" in finding.remedy


def test_both_dates_raised_is_a_note(make_pair: MakePair) -> None:
    notes = findings(make_pair, surface() + 1000, surface() * 1.1 + 1000)
    assert [finding.severity for finding in notes] == ["info", "info"]
    assert "may have an offset that is not declared" in notes[0].text


def test_an_offset_that_was_removed_before_is_said(make_pair: MakePair) -> None:
    """Catalogues declare the offset of the original for values without it."""
    (finding,) = findings(
        make_pair, surface(), surface(0) * 1.02, after_tags={"PROCESSING_BASELINE": "04.00"}
    )
    assert "or is declared although it was removed before" in finding.text


@pytest.mark.parametrize(
    ("before", "after", "options"),
    [
        (surface(), surface() * 1.1, {}),
        (surface(), surface() * 1.3 + 150, {}),  # haze
        (surface() / 20, surface() / 20 + 100, {}),  # of no product's units
        (surface(), surface() + 1000, {"after_tags": {"PROCESSING_BASELINE": "04.00"}}),
        (surface() + 1000, surface() + 1000, {"tags": {"PROCESSING_BASELINE": "04.00"}}),
        (surface() / 20, surface() / 20 + 60, {"dtype": "u1"}),
    ],
)
def test_nothing_to_say(
    make_pair: MakePair, before: np.ndarray, after: np.ndarray, options: dict[str, Any]
) -> None:
    dtype = options.pop("dtype", "u2")
    noise = np.random.default_rng(9).normal(0, 5, after.shape)
    pair = make_pair(before.astype(dtype), (after + noise).clip(0).astype(dtype), names=NAMES, **options)
    assert not [finding for finding in check_pair(*pair).findings if finding.code == "offset"]
