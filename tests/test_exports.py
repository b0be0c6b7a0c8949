"""Names that packages hand on, and modules of version 0.1 under their old names."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from geocd.exports import MOVED

PACKAGES = ["raster", "tiles", "scene", "method", "vectorize", "report", "pipeline"]

#: Every import of docs, examples and benchmarks of version 0.1, but CompactPair, which is no more.
IMPORTS = """
import geocd
import geocd.batch.manifest
import geocd.batch.pairs
import geocd.batch.search
import geocd.batch.stac
import geocd.check
import geocd.evaluate
import geocd.networks
import geocd.optimize
import geocd.page
import geocd.pipeline
import geocd.rerun
import geocd.xarray
from geocd import features, optimize
from geocd import losses, optimize
from geocd.bands import colour_bands
from geocd.batch.pairs import read_items
from geocd.batch.run import Cluster, Summary, run
from geocd.check import check_pair
from geocd.cli import main
from geocd.config import PRESETS, STAGES, MethodSettings, PolygonSettings, Settings
from geocd.configfile import write_config
from geocd.decision import logistic_prob, otsu, prob_from_distance
from geocd.devices import one_thread
from geocd.distances import ClassicalDetector, IrMad, smooth
from geocd.errors import GeocdError
from geocd.evaluate import evaluate_files
from geocd.features import LinearFeatures
from geocd.metrics import evaluate
from geocd.networks import initialise
from geocd.normalize import BandScale, sample_chips
from geocd.pipeline import detect
from geocd.raster import Chip, Pair, bounded_cache
from geocd.tiling import Tiling
from geocd.vectorize import polygonize
from geocd.windows import gaussian
""".strip().splitlines()


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_hand_on_what_they_name(package: str) -> None:
    module = importlib.import_module(f"geocd.{package}")
    for name in module.__all__:
        assert getattr(module, name) is not module, name
        assert name in dir(module)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_imports_of_version_0_1_still_run() -> None:
    """All in one process, in this order: a module that has moved must not be imported half-way."""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(IMPORTS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", MOVED)
def test_a_module_that_has_moved_is_the_same_objects(name: str) -> None:
    old = importlib.import_module(f"geocd.{name}")
    for target in MOVED[name]:
        new = importlib.import_module(f"geocd.{target}")
        assert f"geocd.{target}" in str(old.__doc__)
        public = [
            key for key, value in vars(new).items() if getattr(value, "__module__", None) == new.__name__
        ]
        assert public
        assert getattr(old, public[0]) is getattr(new, public[0]) or len(MOVED[name]) > 1
    with pytest.raises(AttributeError):
        _ = old.nothing
