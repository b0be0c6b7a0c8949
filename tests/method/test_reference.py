"""The published method: optimised on every tile or once for the scene."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from simulated import simulated_chip

from geocd.config import MethodSettings, Settings
from geocd.errors import WeightsError
from geocd.method import devices, reference
from geocd.method.networks import ResidualGenerator, Vgg16Features, initialise


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in a run. On a busy machine, torch's threads mostly wait for each other."""
    with devices.one_thread():
        yield


def test_reference_optimises_both_networks_and_repeats_per_place() -> None:
    settings = Settings.from_flat({"preset": "reference", "weights": "random", "iterations": 2})
    chip, elsewhere = simulated_chip(0, size=64), simulated_chip(0, size=64, col=64)
    detector = reference.ReferenceDetector.fit([chip], settings.resolved().method)
    first, again, other = (detector.prob(c) for c in (chip, chip, elsewhere))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (1, 64, 64)
    assert ((first >= 0) & (first <= 1)).all()


def test_reference_fitted_to_the_scene_learns_once_and_its_tiles_agree() -> None:
    """The published generator, as deep as it is: tiles agree beyond its margin."""
    flat = {"preset": "reference", "weights": "random", "iterations": 1, "fit": "scene"}
    settings = Settings.from_flat(flat).resolved().method
    whole = simulated_chip(0, size=192)
    detector = reference.ReferenceDetector.fit([whole], settings)
    assert detector.fitted is not None
    part = whole.part(slice(None), slice(20, None))
    apart = np.abs(detector.prob(whole)[0, :, 20:] - detector.prob(part)[0])
    assert apart[:, ResidualGenerator.MARGIN :].max() < 1e-4
    assert np.array_equal(detector.prob(part), detector.prob(part))


def test_reference_weights_are_checked_before_any_tile(tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(64, 3, 3, 3)}, str(tmp_path / "part.safetensors"))
    settings = (
        Settings(method=MethodSettings(preset="reference", weights=str(tmp_path / "part.safetensors")))
        .resolved()
        .method
    )
    chip = simulated_chip(0, size=64)
    with pytest.raises(WeightsError, match=r"missing: features\.0\.bias"):
        reference.ReferenceDetector.fit([chip], settings)


def test_reference_starts_from_a_local_checkpoint(tmp_path: Path) -> None:
    trained = Vgg16Features(3)
    initialise(trained, torch.Generator().manual_seed(4))
    torch.save(trained.state_dict(), tmp_path / "vgg16.pth")
    settings = (
        Settings(method=MethodSettings(preset="reference", weights=str(tmp_path / "vgg16.pth")))
        .resolved()
        .method
    )
    chip = simulated_chip(0, size=64)
    detector = reference.ReferenceDetector.fit([chip], settings)
    assert detector.weights is not None
    assert torch.equal(detector.weights["features.0.weight"], trained.state_dict()["features.0.weight"])
