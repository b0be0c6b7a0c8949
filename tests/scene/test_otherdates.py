from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import NORTH_UP, WriteRaster
from rasterio.transform import Affine
from rasterio.windows import Window

from geocd.config import ReadSettings
from geocd.errors import BandError, GeocdError, GridError, RasterOpenError, SameImageError
from geocd.raster import pair as pair_module
from geocd.raster.pair import Pair
from geocd.raster.reading import DateSource
from geocd.scene.otherdates import OtherDates


@pytest.fixture
def paths(write_raster: WriteRaster) -> list[Path]:
    rng = np.random.default_rng(0)
    return [
        write_raster(name, rng.uniform(1, 100, (2, 40, 50))) for name in ("before", "after", "old", "new")
    ]


def opened(paths: list[Path], *baseline: Path, confirm: tuple[Path, ...] = ()) -> OtherDates:
    settings = ReadSettings(baseline=tuple(map(str, baseline)), confirm=tuple(map(str, confirm)))
    with Pair(paths[0], paths[1]) as pair:
        return OtherDates.open(paths[0], paths[1], pair, settings)


def test_dates_are_named_by_their_setting_and_number(paths: list[Path]) -> None:
    others = opened(paths, paths[2], confirm=(paths[3],))
    assert [(date.name, date.path) for date in others] == [
        ("baseline 1", str(paths[2])),
        ("confirm 1", str(paths[3])),
    ]
    others.close()


def test_a_date_is_read_without_the_before_image(
    paths: list[Path], write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.arange(1.0, 4001).reshape(2, 40, 50)
    values[:, 5, 6] = -1
    old = write_raster("gap", values, nodata=-1)
    real, read = pair_module.read_date, []

    def read_date(source: DateSource, window: Window) -> tuple[np.ndarray, np.ndarray]:
        read.append(Path(source.path).name)
        return real(source, window)

    with Pair(paths[0], paths[1]) as pair:
        chip = pair.read(Window(3, 2, 20, 10))
        chip.valid[0, 0] = False
    (date,) = opened(paths, old).baseline
    monkeypatch.setattr(pair_module, "read_date", read_date)
    pixels, valid = date.read(chip)
    assert read == ["gap.tif"]
    np.testing.assert_array_equal(pixels[:, valid], values[:, 2:12, 3:23][:, valid])
    assert [tuple(index) for index in np.argwhere(~valid)] == [(0, 0), (3, 3)]
    date.pair.close()


@pytest.mark.parametrize(
    ("named", "other"), [(0, "before"), (1, "after"), (2, "baseline 1")], ids=["before", "after", "twice"]
)
def test_a_file_that_is_named_already_is_refused(paths: list[Path], named: int, other: str) -> None:
    with pytest.raises(SameImageError, match=f"--confirm .*: is the same file as {other} "):
        opened(paths, paths[2], confirm=(paths[named],))


@pytest.mark.parametrize(
    ("error", "match", "options"),
    [
        (
            GridError,
            r"different transforms.*odd\.tif.*--align grid",
            {"transform": Affine(10, 0, 500_005, 0, -10, 4_200_000)},
        ),
        (BandError, r"2 in .*before\.tif, 3 in .*odd\.tif", {"bands": 3}),
    ],
    ids=["grid", "bands"],
)
def test_what_cannot_be_read_beside_the_pair_is_refused(
    paths: list[Path], write_raster: WriteRaster, error: type[GeocdError], match: str, options: dict
) -> None:
    values = np.ones((options.get("bands", 2), 40, 50))
    odd = write_raster("odd", values, transform=options.get("transform", NORTH_UP))
    with pytest.raises(error, match=match):
        opened(paths, odd)
    with pytest.raises(RasterOpenError, match=r"none\.tif"):
        opened(paths, paths[2], paths[2].with_name("none.tif"))
