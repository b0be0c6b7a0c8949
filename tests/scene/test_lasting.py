from __future__ import annotations

import numpy as np
from conftest import WriteRaster, whole
from seasons import OBJECT, seasons, with_object

from geocd.config import ReadSettings
from geocd.raster.pair import Pair
from geocd.scene.lasting import Lasting
from geocd.scene.otherdates import OtherDates


def test_a_later_date_departs_from_the_date_that_it_does_not_look_like(write_raster: WriteRaster) -> None:
    before, after, same, other = seasons(4)
    same = with_object(same)
    same[:, :20] = -1
    images = before, with_object(after), same, other
    paths = [write_raster(f"d{n}", image, nodata=-1) for n, image in enumerate(images)]
    with Pair(*paths[:2]) as pair:
        others = OtherDates.open(*paths[:2], pair, ReadSettings(confirm=tuple(map(str, paths[2:]))))
        chip = whole(pair)
        lasting = Lasting.fit([chip], others.confirm)
        stays, gone = lasting.departures(chip)
        others.close()
    assert stays.from_before[OBJECT].mean() > 1.5 * stays.from_after[OBJECT].mean()
    assert gone.from_after[OBJECT].mean() > 1.5 * gone.from_before[OBJECT].mean()
    assert not stays.valid[:20].any()
    assert stays.valid[20:].all()
    assert lasting.valid_shares == {"confirm 1": 108 / 128, "confirm 2": 1.0}
    assert np.median(gone.from_before) < 2
