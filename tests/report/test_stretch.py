"""Contrast stretches: see also the pictures that they make, in test_thumbnails.py."""

from __future__ import annotations

import numpy as np

from geocd.report.stretch import Stretch, stretches


def test_levels_follow_the_limits_with_a_gentle_gamma() -> None:
    stretch = Stretch(np.zeros((1, 1, 1)), np.full((1, 1, 1), 100.0))
    picture = stretch.picture(np.array([[[-5.0, 0, 50, 100, 900]]], np.float32))
    assert picture.dtype == np.uint8
    assert picture[0, :, 0].tolist() == [0, 0, round(255 * 0.5**0.8), 255, 255]
    assert (picture == picture[..., :1]).all(), "one band is grey"


def test_a_constant_image_is_grey_and_nothing_valid_is_no_error() -> None:
    constant = np.full((1, 4, 4), 7, np.float32)
    for valid in (np.ones((4, 4), bool), np.zeros((4, 4), bool)):
        limits, apart = stretches([constant, constant], [valid, valid])
        assert not apart
        assert (limits[0].picture(constant) > 100).all()


def test_each_date_by_itself_only_where_the_other_would_hide_it() -> None:
    values = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    valid = np.ones((8, 8), bool)
    (before, after), apart = stretches([values, 2 * values], [valid, valid])
    assert before is after
    assert not apart
    (before, after), apart = stretches([values, 40 * values], [valid, valid])
    assert apart
    np.testing.assert_allclose(after.high, 40 * before.high)
