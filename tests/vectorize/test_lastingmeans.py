from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from conftest import WriteRaster

from geocd.raster.pair import Chip, Pair
from geocd.scene.lasting import Departures
from geocd.vectorize.lastingmeans import LastingMeans


@dataclasses.dataclass
class Known:
    """Later dates whose departures are given: from before, from after, valid; of rows 0 to 3."""

    later: tuple[np.ndarray, ...]

    def departures(self, chip: Chip) -> Iterator[Departures]:
        rows = slice(int(chip.window.row_off), int(chip.window.row_off + chip.window.height))
        for known in self.later:
            before, after, valid = (np.tile(part[rows, None], int(chip.window.width)) for part in known)
            yield Departures(before, after, valid.astype(bool))


def test_a_polygon_lasts_by_its_share_in_the_departures_of_valid_dates(write_raster: WriteRaster) -> None:
    rng = np.random.default_rng(0)
    paths = [write_raster(name, rng.uniform(1, 9, (1, 4, 6))) for name in ("before", "after")]
    dates = (
        np.array([[3.0, 1, 9, 1], [1, 3, 1, 1], [1, 1, 0, 0]]),
        np.array([[3.0, 1, 9, 1], [1, 3, 1, 1], [1, 1, 1, 0]]),
        np.array([[1.0, 3, 1, 1], [4, 1, 9, 1], [1, 0, 1, 0]]),
    )
    with Pair(*paths) as pair:
        means = LastingMeans(pair, Known(dates), ["after.tif", "2020", "2021", "2022"])  # type: ignore[arg-type]
        rows = np.repeat(np.arange(4), 3)
        means.add(rows + 1, rows, np.tile([0, 2, 5], 4))
        table = means.table(np.array([-1, 0, 1, 2, 3]), 4)
    np.testing.assert_allclose(table["lasting"], [(0.75 + 0.75 + 0.2) / 3, 0.25, 0.5, np.nan], rtol=1e-6)
    assert table["last_seen"].tolist() == ["2021", "after.tif", "2021", "after.tif"]
