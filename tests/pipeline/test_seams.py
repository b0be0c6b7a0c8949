"""No seams: what the default method finds does not depend on how the raster is cut into tiles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.windows import Window
from scipy import ndimage

from geocd.config import Settings
from geocd.pipeline.prepared import computing, fit_detector
from geocd.pipeline.run import detect
from geocd.pipeline.tiles import probabilities
from geocd.raster.pair import Pair
from geocd.scene.sample import sample_chips
from geocd.tiles.mosaic import Mosaic
from geocd.tiles.seams import SeamScore
from geocd.tiles.tiling import Tiling

FloatArray = npt.NDArray[np.float32]
MakePair = Callable[..., tuple[Path, Path]]
Probability = Callable[[int], tuple[FloatArray, Tiling]]


@contextmanager
def default_method(before: Path, after: Path) -> Iterator[Probability]:
    """Fit the default method to a pair; give the map and the tiles for any tile size."""
    settings = Settings().resolved()
    with Pair(before, after) as pair, computing(settings):
        detector = fit_detector(sample_chips(pair), pair, settings, 2)

        def probability(tile_size: int) -> tuple[FloatArray, Tiling]:
            found = np.empty(pair.grid.shape, np.float32)

            def flush(row: int, values: FloatArray) -> None:
                found[row : row + values.shape[1]] = values[0]

            tiling = Tiling(*pair.grid.shape, tile_size, settings.tiling.overlap, detector.margin)
            mosaic = Mosaic(tiling, flush)
            for tile, prob in probabilities(detector, pair, tiling, 2):
                mosaic.add(tile, prob)
            mosaic.finish()
            return found, tiling

        yield probability


def seam_score(found: FloatArray, tiling: Tiling) -> float:
    seams = SeamScore(tiling)
    seams.add(0, found)
    score = seams.result()
    assert score is not None
    return score


def check_agreement(maps: list[FloatArray]) -> None:
    """As the maps of one scene must agree, by probability and by decision."""
    first = maps[0]
    for other in maps[1:]:
        np.testing.assert_array_equal(np.isnan(other), np.isnan(first))
        assert np.nanmean(np.abs(other - first)) <= 0.05
        changed, ours = other >= 0.5, first >= 0.5
        assert (changed & ours).sum() >= 0.9 * (changed | ours).sum() > 0


@pytest.fixture
def busy_pair(make_pair: MakePair) -> tuple[Path, Path]:
    """Two dates with differences of all sizes and strengths everywhere, and some nodata."""
    rng = np.random.default_rng(0)
    shape = (4, 340, 360)

    def rough(sigma: float) -> npt.NDArray[np.float64]:
        values = ndimage.gaussian_filter(rng.normal(size=shape), (0, sigma, sigma))
        return np.asarray(values / values.std())

    before = 1200 + 300 * rough(3) + 60 * rough(0)
    difference = ndimage.gaussian_filter(rng.normal(size=shape[1:]), 6)
    strength = np.clip(difference / difference.std() - 0.8, 0, None)
    after = 1.1 * before + 50 + 500 * strength * rough(2) + 60 * rough(0)
    for date in (before, after):
        date[:, 100:160, 200:290] = 0
    return make_pair(
        *(np.clip(np.round(date), 0, 65535).astype(np.uint16) for date in (before, after)), nodata=0
    )


def test_the_default_method_leaves_no_seams(busy_pair: tuple[Path, Path]) -> None:
    with default_method(*busy_pair) as probability:
        whole, _ = probability(360)
        maps = [whole]
        for tile_size in (160, 256):
            found, tiling = probability(tile_size)
            assert len(tiling) > 1
            score = seam_score(found, tiling)
            # What these places score by chance, on the map that has no tiles, is not the tiles' doing.
            assert score <= 1.05 * seam_score(whole, tiling)
            maps.append(found)
    check_agreement(maps)


def test_the_score_is_in_the_record_and_in_the_item(busy_pair: tuple[Path, Path], tmp_path: Path) -> None:
    settings = {"method": "irmad", "overlap": 32}
    files, record = detect(
        *busy_pair, tmp_path / "run", settings=Settings.from_flat(settings | {"tile_size": 96})
    )
    with rasterio.open(files["prob"]) as dataset:
        found = dataset.read(1)
    expected = seam_score(found, Tiling(*found.shape, 96, 32, margin=8, least=True))
    assert record.summary.seam_score == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(1, abs=0.05)
    item = json.loads(files["item"].read_text(encoding="utf-8"))
    assert item["properties"]["geocd:summary"]["seam_score"] == pytest.approx(expected, rel=1e-6)

    _, record = detect(*busy_pair, tmp_path / "one", settings=Settings.from_flat({"method": "irmad"}))
    assert record.summary.seam_score is None, "one tile has no border"


@pytest.mark.parametrize(
    ("shape", "tile_size", "overlap"),
    [((1, 700), 64, 0), ((333, 2), 64, 16), ((3, 3), 512, 96), ((131, 67), 64, 0), ((65, 129), 64, 63)],
)
@pytest.mark.parametrize("method", ["cva", "irmad", "deep"])
def test_every_valid_pixel_has_a_value(
    shape: tuple[int, int], tile_size: int, overlap: int, method: str, make_pair: MakePair, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    before, after = rng.integers(1, 4000, (2, 3, *shape)).astype(np.uint16)
    after[:, rng.random(shape) < 0.2] = 0
    after[:, 0, 0] = 0
    settings = {"method": method, "tile_size": tile_size, "overlap": overlap}
    files, _ = detect(
        *make_pair(before, after, nodata=0), tmp_path / "run", settings=Settings.from_flat(settings)
    )
    with rasterio.open(files["prob"]) as dataset:
        found = dataset.read(1)
    np.testing.assert_array_equal(np.isnan(found), (after == 0).any(axis=0))


@pytest.mark.data
@pytest.mark.slow
def test_tile_sizes_agree_on_a_real_pair(labelled: Path, tmp_path: Path) -> None:
    pair = []
    for name in ("before.tif", "after.tif"):
        source_path = labelled / "oscd_beirut" / name
        if not source_path.exists():
            pytest.skip(f"no oscd_beirut in {labelled}")
        window = Window(0, 0, 1024, 1024)
        with rasterio.open(source_path) as source:
            profile = source.profile | {"height": 1024, "width": 1024}
            with rasterio.open(tmp_path / name, "w", **profile) as sink:
                sink.write(source.read(window=window))
                sink.descriptions = source.descriptions
        pair.append(tmp_path / name)
    with default_method(*pair) as probability:
        whole, _ = probability(1024)
        maps = [whole]
        for tile_size in (256, 512):
            found, tiling = probability(tile_size)
            assert seam_score(found, tiling) <= 1.05 * seam_score(whole, tiling)
            maps.append(found)
    check_agreement(maps)
