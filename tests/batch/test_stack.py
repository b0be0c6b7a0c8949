"""Several rasters as one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from geocd.batch.stack import Stack
from geocd.errors import GridError


def test_assets_that_are_not_on_one_grid_are_refused(
    write_raster: Callable[..., Path], tmp_path: Path
) -> None:
    red = write_raster("red", np.ones((64, 64), np.float32))
    zone = write_raster("zone", np.ones((64, 64), np.float32), crs="EPSG:32634")
    # half a pixel larger, as the panchromatic band of Landsat
    pan = write_raster(
        "pan", np.ones((127, 127), np.float32), transform=Affine(5, 0, 500_000, 0, -5, 4_200_000)
    )
    for other in (zone, pan):
        sources = (("red", str(red)), (other.stem, str(other)))
        stack = Stack(str(tmp_path / "sources" / "scene.vrt"), sources, "2023-06-03T10:00:00Z")
        with pytest.raises(GridError, match=r"scene: the assets .* do not cover the same area.*--assets"):
            stack.write()
    assert not (tmp_path / "sources").exists()
