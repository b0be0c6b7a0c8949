"""Whole runs with other dates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from conftest import WriteRaster
from rasterio.features import rasterize
from seasons import OBJECT, seasons, with_object

from geocd.config import Settings
from geocd.dataset import read_dataset
from geocd.errors import ConfigError
from geocd.pipeline import probability as probability_module
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


Run = Callable[..., tuple[dict[str, Path], Any]]


@pytest.fixture
def run(dates: list[Path], tmp_path: Path) -> Run:
    """A run of the fourth and the fifth date, quick and of four tiles."""

    def detected(name: str, jobs: int = 1, **settings: Any) -> tuple[dict[str, Path], Any]:
        flat = Settings.from_flat({"method": "cva", "tile_size": 96, "overlap": 32, **settings})
        return detect(dates[3], dates[4], tmp_path / name, settings=flat, jobs=jobs)

    return detected


def test_other_dates_silence_the_seasons_and_say_what_lasts(dates: list[Path], run: Run) -> None:
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


def test_a_band_has_what_the_polygons_say_of_lasting(
    dates: list[Path], run: Run, write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rasterio.open(dates[5]) as dataset:
        later = dataset.read()
    gone, clouded = seasons(7)[6], later.copy()
    clouded[:, :, :70] = -9
    others = {
        "confirm": [
            str(dates[5]),
            str(write_raster("gone", gone)),
            str(write_raster("gap", clouded, nodata=-9)),
        ]
    }
    plain, _ = run("plain", **others)
    files, _ = run("run", lasting_band=True, **others)
    with rasterio.open(files["prob"]) as raster:
        assert raster.descriptions == ("change_probability", "lasting")
        prob, band = raster.read()
        record = json.loads(raster.tags()["GEOCD_PROVENANCE"])
        labels = {
            polygon.id: rasterize([polygon.geometry], prob.shape, transform=raster.transform) == 1
            for polygon in geopandas.read_file(files["changes"]).itertuples()
            if polygon.n_pixels >= 50
        }
    with rasterio.open(plain["prob"]) as dataset:
        assert dataset.count == 1
        before = json.loads(dataset.tags()["GEOCD_PROVENANCE"])
    assert record == before | {"lasting_band": True}
    np.testing.assert_array_equal(prob, probability(plain))
    np.testing.assert_array_equal(np.isnan(band), ~(prob >= 0.5))
    polygons = geopandas.read_file(files["changes"]).set_index("id")
    assert labels
    for number, pixels in labels.items():
        assert np.nanmean(band[pixels]) == pytest.approx(polygons.loc[number, "lasting"], abs=0.1)
    assert files["changes"].read_bytes() == plain["changes"].read_bytes()
    assert rerun(files["item"]).identical
    dataset = read_dataset(files)
    assert set(dataset) == {"change_probability", "changed", "lasting"}
    np.testing.assert_array_equal(dataset["lasting"], band)
    monkeypatch.setattr(probability_module, "SIDE", 512)
    again, _ = run("again", jobs=2, tile_size=128, lasting_band=True, **others)
    with rasterio.open(again["prob"]) as dataset:
        common = (dataset.read(1) >= 0.5) & (prob >= 0.5)
        np.testing.assert_allclose(dataset.read(2)[common], band[common], rtol=1e-4)


def test_a_band_of_later_dates_needs_later_dates(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"lasting_band.* no later dates .* Name them with confirm"):
        run("run", lasting_band=True)


def test_masks_of_other_dates_take_their_clouds_out(
    dates: list[Path], run: Run, write_raster: WriteRaster
) -> None:
    """Over the object lies a cloud, in an earlier date and in a later one, when it is gone already."""
    cloud = (slice(30, 62), slice(50, 84))
    classes = np.full((1, 128, 128), 4, np.uint8)
    classes[(0, *cloud)] = 9
    scl = str(write_raster("SCL", classes))
    clouded = []
    for name, image in (("20191230", seasons(2)[1]), ("20200108", seasons(8)[7])):
        image[(slice(None), *cloud)] += 5 * image.std(axis=(1, 2))[:, None, None]
        clouded.append(str(write_raster(name, image)))
    gone = str(write_raster("20200107", seasons(7)[6]))
    others = {
        "baseline": (str(dates[0]), clouded[0], str(dates[2])),
        "mask_baseline": ("none", scl, "none"),
        "confirm": (gone, clouded[1]),
    }

    def thing(files: dict[str, Path]) -> Any:
        polygons = geopandas.read_file(files["changes"])
        return polygons.loc[polygons["n_pixels"].idxmax()]

    files, record = run("run", mask_confirm=("none", scl), **others)
    (alone, _), (unmasked, plain) = (
        run("alone", **others | {"confirm": (gone,)}),
        run("unmasked", **others | {"mask_baseline": ()}),
    )
    assert thing(files)["lasting"] == pytest.approx(thing(alone)["lasting"], abs=0.02)
    assert thing(files)["lasting"] < 0.3
    assert thing(files)["last_seen"] == "2020-01-05T00:00:00Z"
    assert thing(unmasked)["lasting"] > thing(alone)["lasting"] + 0.05, "a cloud looks like neither date"
    assert (probability(files)[OBJECT] >= 0.5).mean() > 0.95
    shares = [date.valid_share for date in record.other_dates]
    assert shares == pytest.approx([1, 1 - 32 * 34 / 128**2, 1, 1, 1 - 32 * 34 / 128**2], abs=0.01)
    assert all(date.valid_share == 1 for date in plain.other_dates)
    assert {"mask_baseline 2", "mask_confirm 2"} <= record.inputs.keys()
    properties = json.loads(files["item"].read_text(encoding="utf-8"))["properties"]
    assert [date.get("mask") for date in properties["geocd:other_dates"]] == [
        *(None, "SCL.tif", None, None, "SCL.tif")
    ]
    repeated = rerun(files["item"])
    assert repeated.identical
    assert "mask_confirm 2" in repeated.inputs
    attrs = json.loads(read_dataset(files).attrs["provenance"])
    assert [Path(mask).name for mask in attrs["mask_confirm"]] == ["none", "SCL.tif"]


@pytest.mark.parametrize("masks", [("a_SCL.tif",), ("a_SCL.tif", "none", "none")])
def test_there_is_a_mask_for_each_other_date_or_none(masks: tuple[str, ...]) -> None:
    flat = {"confirm": ("a.tif", "b.tif"), "mask_confirm": masks}
    with pytest.raises(ConfigError, match=r"--mask-confirm: names . masks, and --confirm 2 images.*none for"):
        Settings.from_flat(flat)
