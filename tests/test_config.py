"""Settings: checked at birth, resolved by the preset, complete in the outputs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from geocd.config import MethodSettings, Settings
from geocd.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tile_size": 64, "overlap": 64}, r"overlap \(64 px\).*tile size \(64 px\)"),
        ({"overlap": -1, "tile_size": 64}, "overlap"),
        ({"tile_size": 64}, "overlap"),  # the default overlap is larger
        ({"threshold": 1.5}, "threshold 1.5"),
        ({"threshold": math.nan}, "threshold nan"),
        ({"iterations": -1}, "iterations -1"),
        ({"learning_rate": 0.0}, "learning-rate"),
        ({"learning_rate": math.nan}, "learning-rate"),
        ({"method": "magic"}, "deep, cva, irmad"),
        ({"preset": "magic"}, "default, reference"),
        ({"seed": -1}, "seed"),
        ({"min_area": -5.0}, "min-area"),
        ({"min_area": math.inf}, "min-area"),
        ({"fill_holes": math.nan}, "fill-holes"),
        ({"simplify": -1.0}, "simplify"),
        ({"smooth": 6}, "smooth 6.*0 to 5"),
        ({"bidx": (0, 1)}, "counted from 1"),
        ({"bidx": ()}, "counted from 1"),
        ({"bidx": ("red", "")}, "names, which have letters"),
        ({"bidx": ("1", "2")}, "numbers from 1, without quotes"),
        ({"overlap": -1}, "overlap -1: must be 0 or more"),
        ({"colour": 1}, "no such setting"),
        ({"bidx": "1,2"}, "bidx '1,2': must be a list"),
        ({"bidx": [1, 2.5]}, "must be a list, and each in it a whole number"),
        ({"seed": 1.5}, "seed 1.5: must be a whole number"),
        ({"min_area": "400"}, "min-area '400': must be a number"),
        ({"uncertainty": "yes"}, "uncertainty 'yes': must be true or false"),
    ],
)
def test_what_cannot_work_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings.from_flat(values).resolved()


def test_the_preset_fills_only_what_is_open() -> None:
    settings = Settings.from_flat({"preset": "reference", "iterations": 3}).resolved()
    assert settings.method.iterations == 3
    assert settings.method.weights == "imagenet"
    assert settings.method.learning_rate == 1e-4
    assert settings.tiling.tile_size == 256


def test_settings_survive_json() -> None:
    flat = Settings.from_flat({"nodata": math.nan, "bidx": (1, 3)}).resolved().as_dict()
    again = json.loads(json.dumps(flat, allow_nan=False))
    assert again["nodata"] == "nan"
    assert again["bidx"] == [1, 3]
    assert again["tile_size"] == 512


def test_values_come_in_their_own_types() -> None:
    settings = Settings.from_flat(
        {"bidx": [1, 3], "min_area": 4, "seed": np.int64(7), "valid": Path("v.tif")}
    )
    assert settings.read.bidx == (1, 3)
    assert settings.read.valid == "v.tif"
    assert type(settings.polygons.min_area) is float
    assert type(settings.method.seed) is int
    again = Settings.from_flat(Settings.from_flat({"nodata": math.nan}).as_dict())
    assert again.read.nodata is not None
    assert math.isnan(again.read.nodata)
    assert Settings.from_flat(Settings.from_flat({"nodata": "None"}).as_dict()).read.nodata == "none"
    with pytest.raises(ConfigError, match="nodata 'nothing': must be a number"):
        Settings.from_flat({"nodata": "nothing"})


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        MethodSettings().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize("more", [{"iterations": 5}, {"learning_rate": 0.01}, {"fit": "tile"}])
def test_the_default_preset_takes_no_steps(more: dict[str, object]) -> None:
    (name,) = more
    with pytest.raises(ConfigError, match=rf"--{name.replace('_', '-')} .*--preset reference"):
        Settings.from_flat(more).resolved()
    assert Settings.from_flat({"preset": "reference", **more}).resolved()
    as_recorded = Settings().resolved().as_dict()
    assert Settings.from_flat(as_recorded).resolved() == Settings().resolved(), "items can be run again"
