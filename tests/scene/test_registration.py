"""The measured shift: right to a tenth of a pixel, and silent where there is nothing to measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from conftest import Image, chip, ground, moved

from geocd.scene import registration
from geocd.scene.registration import Shift, measure_shift


def measured(before: Image, after: Image, valid: npt.NDArray[np.bool_] | None = None) -> Shift | None:
    return measure_shift([chip(before, after, valid)])


@pytest.mark.parametrize("shift", [(0, 0), (0.5, 0.5), (-0.3, 1.7), (6.2, -4.4), (0, 11)])
def test_a_shift_is_found_in_another_light_and_season(shift: tuple[float, float]) -> None:
    rng = np.random.default_rng(5)
    before = ground(0)
    after = moved(before, *shift) * np.array([1.4, -0.6, 0.9])[:, None, None] + 50
    after[:, 100:160, 40:120] = rng.normal(100, 20, (3, 60, 80))  # a real change
    after += rng.normal(0, 2, after.shape)
    found = measured(before, after)
    assert found is not None
    assert found.measurable
    assert (found.row, found.col) == pytest.approx(shift, abs=0.1)


def test_the_work_is_bounded_and_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some windows, from the first to the last, and some bands: the scene may have any number of both."""
    compared: list[tuple[Image, int]] = []

    def record(before: Image, after: Image, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.complex128]:
        compared.append((before, len(after)))
        return original(before, after, valid)

    original = registration._cross_spectrum
    monkeypatch.setattr(registration, "SIDE", 32)
    monkeypatch.setattr(registration, "_cross_spectrum", record)
    image = np.tile(ground(0)[:1, :224, :224], (7, 1, 1))
    rows, _ = np.indices(image.shape[1:])
    assert measured(image + rows, image + rows) is not None
    assert len(compared) == registration.MOST_WINDOWS
    assert {count for _, count in compared} == {4}
    assert np.median(compared[-1][0] - compared[0][0]) > 100


def test_other_ground_is_not_measurable() -> None:
    found = measured(ground(0), ground(1))
    assert found is None or not found.measurable


def test_noise_is_not_measurable() -> None:
    rng = np.random.default_rng(0)
    found = measured(rng.normal(size=(2, 256, 256)), rng.normal(size=(2, 256, 256)))
    assert found is None or not found.measurable


@pytest.mark.parametrize("size", [1, 5, 31])
def test_too_small_to_measure(size: int) -> None:
    assert measured(ground(0)[:, :size, :size], ground(0)[:, :size, :size]) is None


def test_constant_images_have_no_shift() -> None:
    flat = np.full((2, 100, 100), 7.0)
    assert measured(flat, flat) is None


def test_the_outline_of_what_is_not_valid_is_no_structure() -> None:
    """Both dates are cut along one line; what is seen of the ground has moved."""
    before = ground(0)
    after = moved(before, 0, 2)
    valid = np.ones(before.shape[1:], bool)
    valid[:, :60] = False
    rows = np.arange(300)
    valid[rows[:, None] + rows[None] < 140] = False
    before, after = np.where(valid, before, 0), np.where(valid, after, 0)
    found = measured(before, after, valid)
    assert found is not None
    assert found.measurable
    assert (found.row, found.col) == pytest.approx((0, 2), abs=0.1)


@pytest.mark.data
def test_half_a_pixel_on_real_pairs(labelled: Path) -> None:
    """What is measured changes by what was put in, on pairs that are not perfectly registered themselves."""
    for name in ("oscd_rennes", "landsat_taizhou", "sztaki_szada2"):
        dates = []
        for which in ("before", "after"):
            with rasterio.open(labelled / name / f"{which}.tif") as dataset:
                dates.append(dataset.read().astype(np.float64))
        own, injected = measured(*dates), measured(dates[0], moved(dates[1], 0.5, -0.5))
        assert own is not None
        assert injected is not None
        assert own.measurable
        assert injected.measurable
        assert (injected.row - own.row, injected.col - own.col) == pytest.approx((0.5, -0.5), abs=0.1), name
        itself = measured(dates[0], moved(dates[0], 0.5, -0.5))
        assert itself is not None
        assert (itself.row, itself.col) == pytest.approx((0.5, -0.5), abs=0.05), name
