"""Whole runs with other dates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from conftest import WriteRaster
from seasons import OBJECT, seasons, with_object

from geocd.config import Settings
from geocd.pipeline.run import detect
from geocd.rerun import rerun


@pytest.fixture
def dates(write_raster: WriteRaster) -> list[Path]:
    """Six dates: an object appears on the fifth, and is still there on the sixth."""
    *earlier, after, later = seasons(6)
    images = [*earlier, with_object(after), with_object(later)]
    names = [f"2020010{day}" for day in range(1, 7)]
    return [write_raster(name, image) for name, image in zip(names, images, strict=True)]


def probability(files: dict[str, Path]) -> np.ndarray:
    with rasterio.open(files["prob"]) as dataset:
        return np.asarray(dataset.read(1))


def test_other_dates_silence_the_seasons_and_say_what_lasts(dates: list[Path], tmp_path: Path) -> None:
    def run(name: str, jobs: int = 1, **settings: Any) -> tuple[dict[str, Path], Any]:
        flat = Settings.from_flat({"method": "cva", "tile_size": 96, "overlap": 32, **settings})
        return detect(dates[3], dates[4], tmp_path / name, settings=flat, jobs=jobs)

    others = {"baseline": tuple(map(str, dates[:3])), "confirm": (str(dates[5]),)}
    plain, _ = run("plain")
    files, record = run("run", **others)
    away = np.ones((128, 128), bool)
    away[30:62, 50:84] = False
    changed = probability(files) >= 0.5
    assert changed[away].mean() < 0.3 * (probability(plain) >= 0.5)[away].mean()
    assert changed[OBJECT].mean() > 0.95
    assert (probability(files) <= probability(plain)).all()

    polygons = geopandas.read_file(files["changes"])
    thing = polygons.loc[polygons["n_pixels"].idxmax()]
    assert thing["lasting"] > 0.8
    assert thing["last_seen"] == "2020-01-06T00:00:00Z"
    assert not {"lasting", "last_seen"} & set(geopandas.read_file(plain["changes"]).columns)

    item = json.loads(files["item"].read_text(encoding="utf-8"))
    assert item["properties"]["geocd:other_dates"][3] == {
        "name": "confirm 1",
        "source": "20200106.tif",
        "date": "2020-01-06T00:00:00Z",
        "valid_share": 1.0,
    }
    assert {"baseline 1", "baseline 3", "confirm 1"} <= set(item["properties"]["geocd:inputs"])
    assert {"title": "baseline 2: 20200102.tif"}.items() <= item["links"][3].items()
    repeated = rerun(files["item"])
    assert repeated.identical
    assert repeated.inputs.keys() == {"before", "after", *(date.name for date in record.other_dates)}

    again, _ = run("again", jobs=2, **others)
    assert [f.read_bytes() for f in (again["prob"], again["changes"])] == [
        f.read_bytes() for f in (files["prob"], files["changes"])
    ]
