"""The table of methods: one entry for each that the settings know, and torch only where it is needed."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from geocd.config import Method
from geocd.method.methods import METHODS


def test_every_method_of_the_settings_has_its_entry() -> None:
    assert tuple(METHODS) == get_args(Method)
    assert all(method.name == name for name, method in METHODS.items())


@pytest.mark.parametrize("name", METHODS)
def test_memory_figures_grow_as_a_run_goes_on(name: str) -> None:
    memory = METHODS[name].memory
    assert 0 < memory.start <= memory.fitted
    assert min(*memory.tile, *memory.fit) >= 0


@pytest.mark.parametrize("name", [None, *METHODS])
def test_torch_is_imported_only_by_methods_that_use_it(name: str | None) -> None:
    """Fitted to a small pair in a process of its own."""
    fit = f"""
from types import SimpleNamespace
import numpy as np
from rasterio.windows import Window
from geocd.config import Settings
from geocd.raster.pair import Chip
before, after = np.random.default_rng(0).normal(size=(2, 3, 40, 40)).astype(np.float32)
chip = Chip(before, after, np.ones((40, 40), bool), Window(0, 0, 40, 40))
pair = SimpleNamespace(band_names=["red", "green", "blue"], grid=SimpleNamespace(pixel_size=10.0))
settings = Settings.from_flat({{"method": {name!r}}}).resolved().method
detector = METHODS[{name!r}].fit([chip], pair, settings, 1)
assert detector.prob(chip).shape == (1, 40, 40)
"""
    code = (
        "import sys\nfrom geocd.method.methods import METHODS\n"
        + (fit if name else "")
        + "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{name is not None and METHODS[name].uses_torch}\n", done.stderr
