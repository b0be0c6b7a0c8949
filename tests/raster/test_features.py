"""Features that were made elsewhere: on the lattice of the pair, whatever their resolution and storage."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import NORTH_UP, MakePair, write_raster
from rasterio.transform import Affine
from rasterio.windows import Window

from geocd.errors import BandError, GridError
from geocd.raster.features import MOST_PIXELS
from geocd.raster.handles import Companions
from geocd.raster.pair import Pair

SHAPE = 50, 70
#: Features of places of 4 pixels: 50 rows of pixels are 13 rows of places, the last of which reaches beyond.
STRIDE, PLACES = 4, (13, 18)


@pytest.fixture
def images(make_pair: MakePair) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    before, after = rng.integers(100, 900, (2, 3, *SHAPE)).astype(np.uint16)
    return make_pair(before, after)


def features(seed: int, shape: tuple[int, int] = PLACES, channels: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, *shape)).astype(np.float32)


def pair_of(
    images: tuple[Path, Path],
    folder: Path,
    before: np.ndarray,
    after: np.ndarray,
    size: float,
    **profile: object,
) -> Pair:
    """Return a pair with features whose pixels are so many pixels of the images wide."""
    grid = Affine(10 * size, 0, NORTH_UP.c, 0, -10 * size, NORTH_UP.f)
    paths = [
        write_raster(folder / f"{name}.tif", values, transform=grid, **profile)
        for name, values in (("features_before", before), ("features_after", after))
    ]
    return Pair(*images, companions=Companions((paths[0], paths[1])))


def test_places_on_the_grid_are_read_as_they_are(images: tuple[Path, Path], tmp_path: Path) -> None:
    before, after = features(1), features(2)
    with pair_of(images, tmp_path, before, after, STRIDE) as pair:
        chip = pair.read(pair.grid.window).features
        assert chip is not None
        assert (chip.stride, chip.row, chip.col) == (STRIDE, 0, 0)
        assert np.array_equal(chip.before, before)
        assert np.array_equal(chip.after, after)
        assert chip.valid.all()
        assert pair.values_per_pixel == 3 + 5 / 16
        part = pair.read(Window(40, 30, 8, 10)).features
        assert part is not None
        again = chip.part(Window(40, 30, 8, 10))
        assert (part.row, part.col) == (again.row, again.col) == (1, 4)
        assert np.array_equal(part.before, before[:, 1:13, 4:18])
        assert np.array_equal(part.before, again.before)
        assert pair.without_features().read(Window(0, 0, 8, 8)).features is None


def test_any_resolution_is_brought_onto_whole_pixels(images: tuple[Path, Path], tmp_path: Path) -> None:
    """Ramps along the rows and columns, whose values tell where they were read."""
    for size, stride in ((0.5, 1), (1.0, 1), (1.7, 1), (3.0, 3), (2.999, 3), (6.4, 6)):
        shape = [int(np.ceil((length + 4 * size) / size)) for length in SHAPE]
        rows, cols = np.mgrid[: shape[0], : shape[1]]
        ramp = (np.stack([rows, cols]) * size + size / 2).astype(np.float32)
        with pair_of(images, tmp_path, ramp, ramp, size) as pair:
            chip = pair.read(pair.grid.window).features
            assert chip is not None
            assert chip.stride == stride, size
            for position, axis in ((0, chip.before[0][:, 5]), (1, chip.before[1][5])):
                centres = (np.arange(len(axis)) + 0.5) * stride
                np.testing.assert_allclose(axis[2:-2], centres[2:-2], atol=0.3, err_msg=f"{size} {position}")


def test_places_do_not_grow_without_end(images: tuple[Path, Path], tmp_path: Path) -> None:
    with pair_of(images, tmp_path, features(1, (1, 1)), features(2, (1, 1)), 500) as pair:
        chip = pair.read(pair.grid.window).features
    assert chip is not None
    assert chip.stride == MOST_PIXELS
    assert chip.valid.any()


def test_quantised_features_are_those_of_their_scale(images: tuple[Path, Path], tmp_path: Path) -> None:
    stored = np.random.default_rng(1).integers(-100, 100, (5, *PLACES)).astype(np.int8)
    stored[2, 3, 4] = -128
    with pair_of(images, tmp_path, stored, stored, STRIDE, nodata=-128) as pair:
        pass
    for name in ("features_before", "features_after"):
        with rasterio.open(tmp_path / f"{name}.tif", "r+") as dataset:
            dataset.scales, dataset.offsets = [0.5] * 5, [2.0] * 5
    with Pair(
        *images, companions=Companions((tmp_path / "features_before.tif", tmp_path / "features_after.tif"))
    ) as pair:
        read = pair.read(pair.grid.window)
    chip = read.features
    assert chip is not None
    expected = stored * np.float32(0.5) + 2
    expected[:, 3, 4] = 0
    assert np.array_equal(chip.before, expected)
    assert not chip.valid[3, 4]
    assert chip.valid.sum() == chip.valid.size - 1
    # the pixels of a place without features are not valid, and no other
    assert not read.valid[12:16, 16:20].any()
    assert read.valid.sum() == read.valid.size - 16


def test_what_features_do_not_cover_is_not_valid(images: tuple[Path, Path], tmp_path: Path) -> None:
    with pair_of(images, tmp_path, features(1, (13, 9)), features(2), STRIDE) as pair:
        valid = pair.read(pair.grid.window).valid
    assert valid[:, :36].all()
    assert not valid[:, 40:].any()


def test_features_move_with_the_image_that_they_were_made_of(
    images: tuple[Path, Path], tmp_path: Path
) -> None:
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    ramp = np.stack([rows, cols]).astype(np.float32)
    with pair_of(images, tmp_path, ramp, ramp, 1) as pair:
        chip = pair.shifted(2, -3).read(Window(20, 20, 10, 10)).features
    assert chip is not None
    moved = chip.after - chip.before
    np.testing.assert_allclose(moved[0], 2, atol=1e-3)
    np.testing.assert_allclose(moved[1], -3, atol=1e-3)


def test_a_pair_with_features_travels(images: tuple[Path, Path], tmp_path: Path) -> None:
    with pair_of(images, tmp_path, features(1), features(2), STRIDE) as pair:
        copy = pickle.loads(pickle.dumps(pair))
        window = Window(3, 5, 20, 10)
        ours, theirs = pair.read(window).features, copy.read(window).features
        copy.close()
    assert ours is not None
    assert np.array_equal(ours.after, theirs.after)
    assert pair.companions == {
        name: str(tmp_path / f"{name}.tif") for name in ("features_before", "features_after")
    }


def test_features_that_do_not_go_together_are_refused(images: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BandError, match=r"5 bands in .*features_before\.tif, 6 in .*features_after\.tif"):
        pair_of(images, tmp_path, features(1), features(2, channels=6), STRIDE)
    with pytest.raises(GridError, match=r"do not overlap.*features_before\.tif"):
        pair_of(images, tmp_path, features(1), features(2), STRIDE, crs="EPSG:32733")
    complex_values = features(1).astype(np.complex64)
    with pytest.raises(BandError, match=r"features_before\.tif: band 1 is complex64"):
        pair_of(images, tmp_path, complex_values, complex_values, STRIDE)
