"""Settings of single pairs, in columns of a list."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
from batch_folder import CVA, invoke
from shapely import Point

from geocd.batch.pairs import read_items
from geocd.batch.run import Cluster, planned
from geocd.batch.run import run as run_batch
from geocd.config import Settings
from geocd.errors import PairsError
from geocd.report.fingerprint import sha256


def test_a_column_with_the_name_of_a_setting_is_one_of_its_pair(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(
        "id,before,after,threshold,min_area,focus,aoi,mask_kind,ignore,uncertainty,device,note\n"
        'one,a.tif,b.tif,0.6,250,built,area.gpkg,scl,"water,cloud",yes,cuda,x\n'
        "two,c.tif,d.tif,,,,1 2 3 4,,,,,\n"
        "three,e.tif,f.tif,auto,,,SRID=4326;POLYGON((0 0 1 1)),,,,,\n"
    )
    first, second, third = read_items(path)
    assert dict(first.settings) == {
        "threshold": 0.6, "min_area": 250.0, "focus": "built", "aoi": f"{tmp_path}/area.gpkg",
        "mask_kind": "scl", "ignore": ("water", "cloud"), "uncertainty": True,
    }  # fmt: skip
    assert dict(second.settings) == {"aoi": "1 2 3 4"}
    settings = Settings.from_flat({"threshold": 0.7, "simplify": 5.0, "aoi": "5 5 6 6"})
    flat = first.merged(settings).as_dict()
    assert (flat["threshold"], flat["simplify"], flat["ignore"]) == (0.6, 5.0, ["water", "cloud"])
    assert second.merged(settings).as_dict() == settings.as_dict() | {"aoi": "1 2 3 4"}
    assert third.merged(settings).method.threshold is None, "auto takes back what the batch has"


def test_settings_in_a_vector_file_have_their_types(tmp_path: Path) -> None:
    table = geopandas.GeoDataFrame(
        {"id": ["one", "two"], "before": ["a.tif", "c.tif"], "after": ["b.tif", "d.tif"],
         "threshold": [0.6, None], "smooth": [2, None], "uncertainty": [True, False], "kind": [None, None]},
        geometry=[Point(0, 0), Point(1, 1)], crs="EPSG:4326",
    )  # fmt: skip
    table.to_file(tmp_path / "pairs.gpkg")
    first, second = read_items(tmp_path / "pairs.gpkg")
    assert dict(first.settings) == {"threshold": 0.6, "smooth": 2, "uncertainty": True}
    assert dict(second.settings) == {"uncertainty": False}


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("threshold", "high", r"line 3: threshold = high: must be a number\. The column threshold is a"),
        ("threshold", "1.5", r"line 3: threshold = 1\.5: a probability lies between 0 and 1"),
        ("kind", "forest", r"line 3: kind = forest: must be one of image, embedding\..*rename it"),
        ("ignore", "fog", r"line 3: ignore = fog: must be some of water, cloud, vegetation"),
        ("uncertainty", "maybe", r"line 3: uncertainty = maybe: must be true or false"),
        ("smooth", "1.5", r"line 3: smooth = 1\.5: must be a whole number"),
    ],
)  # fmt: skip
def test_a_wrong_setting_of_a_pair_names_its_line(
    column: str, value: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(
        f"id,before,after,{column}\none,a.tif,b.tif,\ntwo,a.tif,b.tif,{value}\n"
    )
    with pytest.raises(PairsError, match=message):
        read_items(tmp_path / "pairs.csv")


def test_settings_of_a_pair_that_do_not_go_with_the_others(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("id,before,after,method,focus\none,a.tif,b.tif,cva,built\n")
    (item,) = read_items(tmp_path / "pairs.csv")
    with pytest.raises(PairsError, match=r"id 'one': with the settings of its columns: --focus: needs a sum"):
        item.merged(Settings())
    result = invoke("batch", tmp_path / "pairs.csv", tmp_path / "out")
    assert result.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_the_weights_of_a_batch_are_read_once_whatever_its_pairs_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "".join(f"p{number},a.tif,b.tif,{number}\n" for number in range(9))
    (tmp_path / "pairs.csv").write_text("id,before,after,min_area\n" + rows)
    (tmp_path / "own.pth").write_bytes(b"weights")
    read: list[Path] = []

    def checksum(path: Path) -> str:
        read.append(path)
        return sha256(path)

    monkeypatch.setattr("geocd.batch.run.sha256", checksum)
    settings = Settings.from_flat({"preset": "reference", "weights": str(tmp_path / "own.pth")})
    assert len(planned(read_items(tmp_path / "pairs.csv"), tmp_path, settings=settings).todo) == 9
    assert read == [tmp_path / "own.pth"]


def test_a_model_of_verdicts_that_is_none_is_refused_before_any_pair_is_done(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("id,before,after,refine\none,a.tif,b.tif,\ntwo,a.tif,b.tif,m.json\n")
    one, two = read_items(tmp_path / "pairs.csv")
    assert (dict(one.settings), dict(two.settings)) == ({}, {"refine": f"{tmp_path}/m.json"})
    (tmp_path / "m.json").write_text("{}")
    result = invoke("batch", tmp_path / "pairs.csv", tmp_path / "out")
    assert result.exit_code == 1
    assert "m.json: is not a model" in result.output
    assert not (tmp_path / "out").exists()


def test_a_pair_has_its_own_settings_and_is_done_again_where_they_change(
    cluster: str, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    pairs, out = write_pairs(2), tmp_path / "out"
    rows = pairs.read_text().splitlines()
    bounds = "500100 4199500 500600 4199900"

    def write(threshold: float) -> Path:
        cells = ["threshold,aoi", f"{threshold},", f",{bounds}"]
        pairs.write_text("\n".join(",".join(parts) for parts in zip(rows, cells, strict=True)) + "\n")
        return pairs

    run_batch(read_items(write(0.9)), out, settings=CVA, cluster=Cluster(scheduler=cluster))
    first, second = (
        json.loads((out / name / f"{name}.json").read_text())["properties"] for name in ("p0", "p1")
    )
    assert (first["geocd:threshold"], second["geocd:threshold"]) == (0.9, 0.5)
    assert (first["proj:shape"], second["proj:shape"]) == ([64, 64], [40, 50])
    assert planned(read_items(pairs), out, settings=CVA).todo == {}
    why = planned(read_items(write(0.8)), out, settings=CVA).todo
    assert why == {"p0": "the configuration has changed"}


def test_rasters_of_the_whole_batch_are_inputs_of_its_pairs(
    cluster: str, write_pairs: Callable[..., Path], write_raster: Callable[..., Path], tmp_path: Path
) -> None:
    items, out = read_items(write_pairs(1)), tmp_path / "out"
    valid = np.ones((64, 64), np.uint8)
    settings = Settings.from_flat({"method": "cva", "valid": str(write_raster("valid", valid))})
    run_batch(items, out, settings=settings, cluster=Cluster(scheduler=cluster))
    assert planned(items, out, settings=settings).todo == {}
    valid[:, :20] = 0
    write_raster("valid", valid)
    assert planned(items, out, settings=settings).todo == {"p0": "the content of valid has changed"}
    assert planned(items, out, settings=CVA).todo == {"p0": "inputs were added or removed"}
