from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import WriteRaster, whole
from seasons import OBJECT, seasons, with_object

from geocd.config import ReadSettings
from geocd.raster.pair import Chip, Pair
from geocd.scene.otherdates import OtherDates
from geocd.scene.season import Season


def left(before: Path, after: Path, *earlier: Path) -> tuple[Chip, Chip, dict[str, float]]:
    """Return a pair as it is, what the season leaves of it, and the shares of the earlier dates."""
    read = ReadSettings(baseline=tuple(map(str, earlier)))
    with Pair(before, after) as pair:
        others = OtherDates.open(before, after, pair, read)
        chip = whole(pair)
        season = Season.fit([chip], others.baseline)
        parts = chip.part(slice(0, 50), slice(10, 100)), chip.part(slice(50, 128), slice(10, 100))
        bands = season.apply(chip)
        for part in parts:  # each pixel by itself
            window = slice(int(part.window.row_off), int(part.window.row_off + part.window.height))
            np.testing.assert_array_equal(season.apply(part).after, bands.after[:, window, 10:100])
        others.close()
        return chip, bands, dict(season.valid_shares)


def departure(chip: Chip) -> np.ndarray:
    """Root mean square difference of the dates in deviations, ``(height, width)``."""
    z = [
        (x - x.mean(axis=(1, 2), keepdims=True)) / x.std(axis=(1, 2), keepdims=True)
        for x in (chip.before, chip.after)
    ]
    return np.asarray(np.sqrt(((z[0] - z[1]) ** 2).mean(axis=0)))


def test_what_places_do_by_themselves_is_left_out_and_what_is_new_stays(write_raster: WriteRaster) -> None:
    *dates, after = seasons(5)
    paths = [write_raster(f"d{n}", date) for n, date in enumerate([*dates, with_object(after)])]
    plain, seasonal, shares = left(paths[3], paths[4], *paths[:3])
    unchanged = np.ones(plain.valid.shape, bool)
    unchanged[30:62, 50:84] = False
    before, now = departure(plain), departure(seasonal)
    assert now[unchanged].mean() < 0.45 * before[unchanged].mean()
    assert now[OBJECT].mean() > 0.9 * before[OBJECT].mean()
    assert shares == {"baseline 1": 1.0, "baseline 2": 1.0, "baseline 3": 1.0}


def test_gaps_and_clouds_of_earlier_dates_leave_no_trace(write_raster: WriteRaster) -> None:
    *dates, after = seasons(5)
    dates[0][:, :, 64:] = -1  # nodata
    dates[1][:, 10:40, 10:40] += 3000  # a cloud
    paths = [write_raster(f"d{n}", date, nodata=-1) for n, date in enumerate([*dates, after])]
    plain, seasonal, shares = left(paths[3], paths[4], *paths[:3])
    assert shares["baseline 1"] == 0.5
    before, now = departure(plain), departure(seasonal)
    assert now[:, 70:].mean() < 0.7 * before[:, 70:].mean()
    assert now[12:38, 12:38].mean() < 1.1 * before[12:38, 12:38].mean()
