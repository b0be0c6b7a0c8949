"""Cloud and shadow by a network: which decides, the same for every tiling, and what the outputs say."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window
from scipy import ndimage

import geocd
from geocd.config import Settings
from geocd.errors import ConfigError, Interrupted, ResumeError
from geocd.pipeline.plan import stages
from geocd.pipeline.run import detect
from geocd.raster.pair import Pair
from geocd.rerun import rerun
from geocd.scene import clouds
from geocd.scene.ignore import Rules

MakePair = Callable[..., tuple[Path, Path]]
Images = tuple[np.ndarray, np.ndarray]
NAMES = ("blue", "green", "red", "nir")
#: What the stand-in calls cloud; in both images it is dark in the near infrared, and never bright.
MARK = slice(60, 90)
FLAT = {"method": "cva", "ignore": ["cloud"], "tile_size": 64, "overlap": 32}


def stand_in(image: np.ndarray, words: Sequence[str], level: str) -> np.ndarray:
    """Find what is dark in the near infrared."""
    assert tuple(words) == NAMES
    assert level == "l2a"
    assert image.dtype == np.float32
    return np.asarray((image[3] < 0.05) & (image[0] > 0))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "load_network", lambda: clouds.Network({"ukis-csmask": "1.0.0"}, stand_in))
    monkeypatch.setattr("geocd.pipeline.resume.load_network", clouds.load_network)


def uninstall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "load_network", lambda: None)
    monkeypatch.setattr("geocd.pipeline.resume.load_network", clouds.load_network)


@pytest.fixture
def images() -> Images:
    """Return reflectance x 10 000; the shadow is in the after image alone."""
    random = np.random.default_rng(0)
    before, after = (random.uniform(150, 3000, (4, 150, 141)) for _ in range(2))
    before[3], after[3] = (random.uniform(2500, 3000, (150, 141)) for _ in range(2))
    after[3, MARK, MARK] = 100
    return before.astype(np.uint16), after.astype(np.uint16)


@pytest.fixture
def paths(make_pair: MakePair, images: Images) -> tuple[Path, Path]:
    return make_pair(*images, names=NAMES)


def detector_of(pair: Pair) -> clouds.CloudDetector:
    detector = Rules.of(("cloud",), pair.band_names, pair.scalings).fitted_to(pair).cloud_detector
    assert detector is not None
    return detector


@pytest.mark.usefixtures("network")
def test_the_network_decides_the_same_in_every_window(
    make_pair: MakePair, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clouds, "WINDOW", 24)
    monkeypatch.setattr(clouds, "MARGIN", 4)
    monkeypatch.setattr(clouds, "BLOCK", 10)
    images[0][:, :62, :62] = 0  # nodata: some windows have no valid pixel
    with Pair(*make_pair(*images, names=NAMES, nodata=0)) as pair:
        size = pair.grid.pixel_size
        assert size is not None
        monkeypatch.setattr(clouds, "CELL", 3 * size)
        masked = pair.ignoring(Rules.of(("cloud",), pair.band_names, pair.scalings).fitted_to(pair))
        whole = masked.read(pair.grid.window).ignored["cloud"]
        expected = np.zeros((150, 141), bool)
        expected[MARK, MARK] = True
        expected[:62, :62] = False
        np.testing.assert_array_equal(whole, expected)
        window = Window(71, 52, 33, 25)
        np.testing.assert_array_equal(masked.read(window).ignored["cloud"], whole[52:77, 71:104])


@pytest.mark.usefixtures("network")
def test_a_run_by_the_network_says_so_and_is_repeated_by_it_alone(
    paths: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clouds, "CELL", 10.0)
    settings = Settings.from_flat(FLAT)
    files, record = detect(*paths, tmp_path / "run", settings=settings, jobs=1)
    properties = json.loads(files["item"].read_text())["properties"]
    assert properties["geocd:clouds"] == {
        "name": "ukis-csmask",
        "versions": {"ukis-csmask": "1.0.0"},
        "levels": ["l2a", "l2a"],
    }
    assert properties["processing:software"]["ukis-csmask"] == "1.0.0"
    assert record.summary.ignored_share == {"cloud": 900 / (150 * 141)}
    assert any("by ukis-csmask" in finding.text for finding in record.findings)
    with rasterio.open(files["prob"]) as dataset:
        assert np.isnan(dataset.read(1)).sum() == 900
        assert json.loads(dataset.tags()["GEOCD_PROVENANCE"])["cloud_detector"] == "network"
    again, _ = detect(*paths, tmp_path / "again", settings=settings, jobs=2)
    assert again["prob"].read_bytes() == files["prob"].read_bytes()
    assert rerun(files["item"]).identical
    uninstall(monkeypatch)
    with pytest.raises(
        ConfigError, match=r"'network': geocd\[clouds\] is not installed. Install it with: pip"
    ):
        rerun(files["item"])


def test_a_run_by_the_rule_says_why_and_is_repeated_by_it_wherever_the_network_is(
    paths: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    uninstall(monkeypatch)
    files, record = detect(*paths, tmp_path / "run", settings=Settings.from_flat(FLAT))
    assert str(record.clouds) == "Cloud was masked by the simple rule: geocd[clouds] is not installed."
    assert record.summary.ignored_share == {"cloud": 0}
    with rasterio.open(files["prob"]) as dataset:
        assert "cloud_detector" not in json.loads(dataset.tags()["GEOCD_PROVENANCE"]), "bytes as ever"
    request.getfixturevalue("network")
    assert rerun(files["item"]).identical
    item = json.loads(files["item"].read_text())
    del item["properties"]["geocd:settings"]["cloud_detector"]  # of a version that had the rule alone
    files["item"].write_text(json.dumps(item))
    assert rerun(files["item"]).identical
    result = geocd.detect(*paths, method="cva", ignore=("cloud",), cloud_detector="rule")
    assert json.loads(result.attrs["provenance"])["clouds"]["name"] == "rule"


@pytest.mark.usefixtures("network")
def test_a_run_is_resumed_by_the_same_network_alone(
    paths: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "tiles" and done == 2:
            raise KeyboardInterrupt

    settings = Settings.from_flat(FLAT)
    with pytest.raises(Interrupted):
        detect(*paths, tmp_path / "run", settings=settings, progress=interrupt, jobs=1)
    with monkeypatch.context() as elsewhere:
        uninstall(elsewhere)
        with pytest.raises(ResumeError, match="ukis-csmask version"):
            detect(*paths, tmp_path / "run", settings=settings, resume=True)
    files, _ = detect(*paths, tmp_path / "run", settings=settings, resume=True)
    whole, _ = detect(*paths, tmp_path / "whole", settings=settings)
    assert files["prob"].read_bytes() == whole["prob"].read_bytes()


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize(
    ("names", "dtype", "metres", "why"),
    [
        (("blue", "green", "red", "x"), "uint16", 10, "no band is named nir"),
        (NAMES, "uint8", 10, "the values are not reflectance"),
        (NAMES, "uint16", 250, "pixels of 249 m are too coarse for ukis-csmask"),
    ],
)
def test_what_does_not_suit_the_network_is_left_to_the_rule(
    make_pair: MakePair, images: Images, names: tuple[str, ...], dtype: str, metres: int, why: str
) -> None:
    before, after = ((image // (16 if dtype == "uint8" else 1)).astype(dtype) for image in images)
    transform = rasterio.Affine(metres, 0, 500_000, 0, -metres, 4_200_000)
    with Pair(*make_pair(before, after, names=names, transform=transform)) as pair:
        assert why in str(detector_of(pair))
        with pytest.raises(
            ConfigError, match=f"--cloud-detector network: {why}.*Choose --cloud-detector rule"
        ):
            clouds.detect_clouds(pair, [pair.read(pair.grid.window)], "network")


@pytest.mark.usefixtures("network")
def test_the_plan_has_room_for_the_network_alone_where_it_decides(paths: tuple[Path, Path]) -> None:
    with Pair(*paths) as pair:
        peaks = {
            choice: stages(
                pair,
                Settings.from_flat({**FLAT, "cloud_detector": choice}).resolved(),
                tile_size=64,
                jobs=1,
                limit=2000,
            )
            for choice in ("auto", "rule")
        }
    assert peaks["auto"]["clouds"] - peaks["rule"]["clouds"] > clouds.NETWORK_MEMORY + clouds.LIBRARIES_MEMORY
    assert round(peaks["auto"]["tiles"] - peaks["rule"]["tiles"]) == clouds.LIBRARIES_MEMORY


real = pytest.mark.skipif(importlib.util.find_spec("ukis_csmask") is None, reason="needs geocd[clouds]")


@real
@pytest.mark.parametrize("shape", [(1, 3), (100, 300)])
@pytest.mark.parametrize("words", [NAMES, tuple(clouds.BANDS)])
def test_the_real_network_takes_any_size(shape: tuple[int, int], words: tuple[str, ...]) -> None:
    network = clouds.load_network()
    assert network is not None
    assert set(network.versions) >= {"ukis-csmask"}
    ground = np.full((len(words), *shape), 0.1, np.float32)
    assert not network.mask(ground, words, "l2a").any()
    assert network.mask(ground, words, "l1c").shape == shape


@real
@pytest.mark.data
def test_a_cloud_painted_into_a_real_pair_and_its_shadow(labelled: Path, tmp_path: Path) -> None:
    """Nothing is called changed inside, and nothing lost outside."""
    folder = labelled / "oscd_rennes"
    with rasterio.open(folder / "after.tif") as dataset:
        image, profile, names = dataset.read(), dataset.profile, dataset.descriptions
    rows, cols = np.indices(image.shape[1:])
    cloud, shadow = (np.clip(2 - np.hypot(rows - 100, cols - col) / 25, 0, 1) for col in (80, 200))
    top = np.reshape((7200, 6800, 6800, 7400, 5000, 3800), (6, 1, 1))
    dark = np.reshape((0.62, 0.5, 0.42, 0.35, 0.3, 0.3), (6, 1, 1))
    clouded = image * (1 - cloud) * (1 - shadow * (1 - dark)) + cloud * top
    with rasterio.open(tmp_path / "after.tif", "w", **profile) as dataset:
        dataset.write(clouded.astype(np.uint16))
        dataset.descriptions = names
    changed = []
    for after, ignore in ((folder / "after.tif", []), (tmp_path / "after.tif", ["cloud"])):
        settings = Settings.from_flat({"ignore": ignore, "cloud_detector": "auto"})
        files, _ = detect(folder / "before.tif", after, tmp_path / f"run{len(ignore)}", settings=settings)
        with rasterio.open(files["prob"]) as dataset:
            changed.append(dataset.read(1) >= 0.5)
    inside = (cloud >= 0.5) | (shadow >= 0.5)
    away = ~ndimage.binary_dilation((cloud > 0) | (shadow > 0), iterations=30)
    assert not changed[1][inside].any()
    assert changed[1][changed[0] & away].mean() > 0.98
