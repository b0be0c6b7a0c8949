"""The probability raster: a valid COG, the same bytes each time, or an error."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from conftest import NORTH_UP
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from geocd.errors import (
    OutputError,
)
from geocd.raster.grid import Grid
from geocd.raster.writer import ProbWriter

UTM33 = CRS.from_epsg(32633)


def write_prob(path: Path, values: Any, transform: Affine = NORTH_UP, **options: Any) -> None:
    array = np.asarray(values, np.float32)
    bands = array if array.ndim == 3 else array[None]
    writer = ProbWriter(
        path, Grid(UTM33, transform, *bands.shape[1:]), tags={"GEOCD_VERSION": "0"}, **options
    )
    for row in range(0, bands.shape[1], 512):
        writer.write(row, bands[:, row : row + 512])
    writer.finish()


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (1, 3000), (3000, 1), (128, 600), (512, 512), (700, 1300)])
def test_prob_is_a_valid_cog_of_any_size(shape: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "x_prob.tif"
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    write_prob(path, values)
    # A column of single pixels has no overviews: GDAL would make them as wide as the image.
    valid, errors, warnings = cog_validate(path, strict=shape[1] > 1)
    assert valid, (errors, warnings)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), values)
        assert dataset.shape == shape
        flat = min(shape) <= 128 and max(shape) > 512  # blocks of 512 would be padding
        assert dataset.block_shapes == [(128, 128) if flat else (512, 512)]
    assert sorted(tmp_path.iterdir()) == [path], "the temporary file is gone"


def test_prob_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x_prob.tif"
    values = np.random.default_rng(0).random((1100, 1200), dtype=np.float32)
    values[:600, :600] = np.nan
    values[1000:, 1000:] = 1  # a corner of certainty, where cubic overviews overshoot
    values[1000:, 900:1000] = 0
    write_prob(path, values)
    with rasterio.open(path) as dataset:
        assert dataset.dtypes == ("float32",)
        assert math.isnan(dataset.nodata)
        assert dataset.descriptions == ("change_probability",)
        assert dataset.crs == UTM33
        assert dataset.transform == NORTH_UP
        assert dataset.tags()["GEOCD_VERSION"] == "0"
        assert "TIFFTAG_DATETIME" not in dataset.tags()
        assert dataset.profile["blockxsize"] == dataset.profile["blockysize"] == 512
        assert dataset.compression.value == "DEFLATE"
        stats = {key: float(value) for key, value in dataset.tags(1).items() if key.startswith("STATISTICS")}
        known = values[np.isfinite(values)]
        assert stats["STATISTICS_MINIMUM"] == known.min()
        assert stats["STATISTICS_MAXIMUM"] == known.max()
        assert stats["STATISTICS_MEAN"] == pytest.approx(known.mean(dtype=float), rel=1e-6)
        assert stats["STATISTICS_VALID_PERCENT"] == pytest.approx(100 * known.size / values.size, abs=0.01)
        np.testing.assert_array_equal(dataset.read(1), values)
        levels = len(dataset.overviews(1))
    assert levels == 2
    for level in range(levels):
        with rasterio.open(path, overview_level=level) as overview:
            small = overview.read(1)
        inside = small[np.isfinite(small)]
        assert inside.min() >= 0
        assert inside.max() <= 1
        np.testing.assert_allclose(small[0, 0], np.nan)
        # an average, not a sample: much less spread than single random pixels have
        assert small[-30:, : small.shape[1] // 2].std() < 0.2


def test_prob_without_any_valid_pixel(tmp_path: Path) -> None:
    path = tmp_path / "x_prob.tif"
    write_prob(path, np.full((600, 600), np.nan))
    with rasterio.open(path) as dataset:
        assert np.isnan(dataset.read(1)).all()


def test_prob_on_a_rotated_grid(tmp_path: Path) -> None:
    turned = Affine(8, 6, 5e5, 6, -8, 4e6)
    write_prob(tmp_path / "x_prob.tif", np.zeros((20, 30)), transform=turned)
    with rasterio.open(tmp_path / "x_prob.tif") as dataset:
        assert dataset.transform == turned


def test_two_bands(tmp_path: Path) -> None:
    path = tmp_path / "x_prob.tif"
    values = np.random.default_rng(0).random((2, 600, 700), dtype=np.float32)
    write_prob(path, values, descriptions=("change_probability", "uncertainty"))
    with rasterio.open(path) as dataset:
        assert dataset.descriptions == ("change_probability", "uncertainty")
        np.testing.assert_array_equal(dataset.read(), values)
    assert cog_validate(path, strict=True)[0]


def test_prob_is_the_same_bytes_again(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((700, 700), dtype=np.float32)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_prob(tmp_path / name / "x_prob.tif", values)
    assert (tmp_path / "a/x_prob.tif").read_bytes() == (tmp_path / "b/x_prob.tif").read_bytes()


def test_abort_leaves_the_final_name_free_and_may_come_twice(tmp_path: Path) -> None:
    path = tmp_path / "x_prob.tif"
    writer = ProbWriter(path, Grid(UTM33, NORTH_UP, 600, 600), tags={})
    writer.write(0, np.zeros((1, 512, 600), np.float32))
    writer.abort()
    writer.abort()
    assert not path.exists()


def test_writer_in_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"x_prob\.tif: cannot be written \(.+\)"):
        ProbWriter(tmp_path / "gone" / "x_prob.tif", Grid(UTM33, NORTH_UP, 6, 6), tags={})


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from geocd.errors import OutputError
from geocd.report.products import Outputs
from geocd.pipeline.transaction import Transaction
from geocd.raster.grid import Grid
from geocd.raster.writer import ProbWriter
from rasterio.crs import CRS
from rasterio.transform import Affine

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing past the limit then fails as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
values = np.random.default_rng(0).random((1, 1500, 1500), dtype=np.float32)
grid = Grid(CRS.from_epsg(32633), Affine(10, 0, 5e5, 0, -10, 4e6), 1500, 1500)
try:
    with Transaction(Outputs(folder / "x")) as transaction:
        writer = ProbWriter(transaction.path("prob"), grid, tags={})
        try:
            for row in range(0, 1500, 512):
                writer.write(row, values[:, row : row + 512])
            writer.finish()
        except BaseException:
            writer.abort()
            raise
        transaction.commit()
except OutputError as error:
    print("OutputError:", error)
else:
    print("written")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize(
    ("room", "name"),
    [
        # the layer with which the name is tried
        pytest.param(lambda size: 1_000, "x_changes.gpkg", id="at once"),
        pytest.param(lambda size: size // 20, "x_prob.tif", id="while the tiles are written or flushed"),
        pytest.param(lambda size: size - size // 10, "x_prob.tif", id="towards the end"),
        # GDAL itself reports nothing here: the last block of the COG is short, and that is all.
        pytest.param(lambda size: size - 1_000, "x_prob.tif", id="in the last block"),
    ],
)
def test_full_disk(room: Callable[[int], int], name: str, tmp_path: Path) -> None:
    """The message names the file, and nothing is left behind."""
    values = np.random.default_rng(0).random((1500, 1500), dtype=np.float32)
    enough = tmp_path / "enough.tif"
    write_prob(enough, values)
    limit = room(enough.stat().st_size)
    enough.unlink()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(limit)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("OutputError: "), done.stdout
    assert f"{name}: cannot be written" in done.stdout
    assert list(tmp_path.iterdir()) == [], "nothing may be left behind"


def test_what_is_read_back_must_be_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that is lost on the way would be nodata in the map, and nobody would know."""
    writer = ProbWriter(tmp_path / "x_prob.tif", Grid(UTM33, NORTH_UP, 600, 600), tags={})
    writer.write(0, np.full((1, 512, 600), 0.5, np.float32))
    writer.write(512, np.full((1, 88, 600), 0.5, np.float32))
    real = writer._dataset.close
    lost = np.full((1, 88, 600), np.nan, np.float32)

    def close() -> None:
        writer_dataset.write(lost, window=Window(0, 512, 600, 88))
        real()

    writer_dataset = writer._dataset

    class Losing:
        def __getattr__(self, name: str) -> Any:
            return close if name == "close" else getattr(writer_dataset, name)

    monkeypatch.setattr(writer, "_dataset", Losing())
    with pytest.raises(OutputError, match=r"x_prob\.tif.*not what was written"):
        writer.finish()


def directory_moved(path: Path) -> None:
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.update_tags(LONGER="x" * 500)


def overview_cut(path: Path) -> None:
    """Lose what stands before the only block of the overview; all pixels can still be read."""
    with rasterio.open(path) as dataset:
        begin = int(dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1, ovr=0))
    with path.open("r+b") as file:
        file.seek(begin - 4)
        file.write(bytes(4))


@pytest.mark.parametrize("damage", [directory_moved, overview_cut])
def test_what_stands_elsewhere_than_a_cog_has_it_is_found(
    damage: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left where one write fails while GDAL closes the file: every pixel is there, and no error."""
    values = np.random.default_rng(0).random((1, 600, 700), dtype=np.float32)
    real = rasterio.shutil.copy

    def copy(source: Path, target: Path, **options: Any) -> None:
        real(source, target, **options)
        damage(target)

    monkeypatch.setattr(rasterio.shutil, "copy", copy)
    writer = ProbWriter(tmp_path / "x_prob.tif", Grid(UTM33, NORTH_UP, 600, 700), tags={})
    writer.write(0, values[:, :512])
    writer.write(512, values[:, 512:])
    with pytest.raises(OutputError, match=r"x_prob\.tif.*not what was written"):
        writer.finish()
    with rasterio.open(tmp_path / "x_prob.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), values)


def test_all_kinds_of_nan_count_as_nodata(tmp_path: Path) -> None:
    values = np.zeros((1, 20, 30), np.float32)
    values.view(np.uint32)[0, :10] = 0xFFC00000  # what 0 / 0 gives on some machines
    writer = ProbWriter(tmp_path / "x_prob.tif", Grid(UTM33, NORTH_UP, 20, 30), tags={})
    writer.write(0, values)
    writer.finish()
