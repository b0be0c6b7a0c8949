"""``--backbone``: the weights of VGG16, and Python files that keep to the interface or do not."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import MakePair, ground
from safetensors.torch import save_file

from geocd.config import Settings
from geocd.errors import ConfigError, WeightsError
from geocd.method.backbone import FileBackbone, Vgg16Backbone, load_backbone
from geocd.method.default import DefaultDetector
from geocd.method.devices import one_thread
from geocd.method.networks import Vgg16Features, initialise
from geocd.raster.pair import Pair
from geocd.scene.sample import sample_chips

OWN = """
import torch
from torch import nn
from geocd.method.extractor import Level

class Own(nn.Module):
    LEVELS = [{levels}]
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 4, stride=4)
    def forward(self, x, depth):
        return {result}

def backbone():
    return Own()
"""
LEVELS, RESULT = "Level(stride=4, reach=10)", "[self.conv(x)]"


def own(folder: Path, levels: str = LEVELS, result: str = RESULT) -> str:
    path = folder / "own.py"
    path.write_text(OWN.format(levels=levels, result=result))
    return str(path)


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the names of torchvision's whole checkpoint, with its later layers."""
    network = Vgg16Features(3)
    initialise(network, torch.Generator().manual_seed(0))
    state = {**network.state_dict(), "features.17.weight": torch.ones(2), "classifier.0.bias": torch.ones(2)}
    folder = tmp_path_factory.mktemp("weights")
    torch.save(state, folder / "vgg16.pth")
    save_file(state, folder / "vgg16.safetensors")
    return folder


def prob_of(paths: tuple[Path, Path], **values: object) -> np.ndarray:
    settings = Settings.from_flat(values).resolved().method
    with Pair(*paths) as pair, one_thread():
        detector = DefaultDetector.fit(sample_chips(pair), pair, settings, 1)
        assert set(detector.features.weight) >= {"shallow"}
        copy = pickle.loads(pickle.dumps(detector))  # as to a worker
        chip = pair.read(pair.grid.window)
        prob = detector.prob(chip)
        assert np.array_equal(copy.prob(chip), prob)
    return prob[0]


@pytest.fixture
def paths(make_pair: MakePair) -> tuple[Path, Path]:
    before = ground(3, bands=4, size=160)
    after = before * 1.1 + np.random.default_rng(0).normal(0, 2, before.shape)
    after[:, 60:100, 60:100] = np.random.default_rng(1).normal(150, 40, (4, 40, 40))
    return make_pair(before.astype(np.float32), after.astype(np.float32))


def test_a_checkpoint_of_vgg16(vgg16: Path, paths: tuple[Path, Path]) -> None:
    first = prob_of(paths, backbone=str(vgg16 / "vgg16.pth"))
    assert np.array_equal(first, prob_of(paths, backbone=str(vgg16 / "vgg16.safetensors")))
    assert not np.array_equal(first, prob_of(paths))
    assert (first[65:95, 65:95] >= 0.5).mean() > 0.9
    assert (first[:40] >= 0.5).mean() < 0.01


@pytest.mark.parametrize("level", [0, 1])
def test_features_of_vgg16_reach_as_far_as_their_level_says(level: int) -> None:
    network = Vgg16Backbone().double()
    initialise(network, torch.Generator().manual_seed(0))
    stated = network.LEVELS[level]
    x = torch.randn(1, 3, 96, 96, dtype=torch.float64, requires_grad=True)
    reach = 0
    for row in range(44, 52):
        maps = network(x, 2)[level].abs().sqrt()
        full = F.interpolate(maps, scale_factor=stated.stride, mode="bilinear", align_corners=False)
        (gradient,) = torch.autograd.grad(full[0, :, row, row].sum(), x)
        touched = gradient[0].abs().nan_to_num(1).amax(dim=0).nonzero()
        reach = max(reach, int((touched - row).abs().max()))
    assert stated.reach - 4 <= reach <= stated.reach


def test_a_file_of_ones_own(tmp_path: Path, paths: tuple[Path, Path]) -> None:
    prob = prob_of(paths, backbone=own(tmp_path))
    assert (prob[65:95, 65:95] >= 0.5).mean() > 0.9
    network = load_backbone(own(tmp_path))
    assert isinstance(network, FileBackbone)
    assert [level.stride for level in network.LEVELS] == [4]


@pytest.mark.parametrize(
    ("levels", "result", "message"),
    [
        ("", RESULT, "LEVELS is .*must list one or two"),
        ("Level(stride=3, reach=9)", RESULT, "strides that are powers of 2"),
        ("Level(stride=8, reach=9), Level(stride=4, reach=9)", RESULT, "the finest first"),
        ("Level(stride=2, reach=10)", RESULT, r"returns \(1, 6, \d+, \d+\) for stride 2"),
        ("Level(stride=4, reach=10), Level(stride=8, reach=20)", RESULT, "returns 1 maps, not 2"),
        (LEVELS, "[self.conv(x - x.mean())]", "further away than the reach of 10"),
        (LEVELS, "[self.conv(x) * float('nan')]", "or are not finite"),
        (LEVELS, "self.nothing", "fails on x of .*has no attribute 'nothing'"),
    ],
)
def test_a_file_that_does_not_keep_to_the_interface(
    levels: str, result: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=rf"own\.py: .*{message}"):
        load_backbone(own(tmp_path, levels, result))


def test_files_that_are_no_backbone(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.pth: no such file\. --backbone takes the weights"):
        load_backbone(str(tmp_path / "none.pth"))
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(WeightsError, match=r"its backbone\(\) does not run .*AttributeError"):
        load_backbone(str(tmp_path / "empty.py"))
    (tmp_path / "text.py").write_text("def backbone():\n    return 'vgg16'\n")
    with pytest.raises(WeightsError, match=r"backbone\(\) returns str, not a torch"):
        load_backbone(str(tmp_path / "text.py"))


def test_a_backbone_goes_with_the_default_alone() -> None:
    with pytest.raises(ConfigError, match="--weights random: a --backbone brings its own weights"):
        Settings.from_flat({"backbone": "a.pth", "weights": "random"})
    with pytest.raises(ConfigError, match=r"--backbone: needs a sum .*--preset reference"):
        Settings.from_flat({"backbone": "a.pth", "preset": "reference"})
