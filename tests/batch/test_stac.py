"""Items of a STAC catalogue as pairs."""

from __future__ import annotations

import dataclasses
import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from batch_folder import CVA, invoke

from geocd.batch.pairing import Pairing
from geocd.batch.stac import Rule, is_stac, stac_pairs
from geocd.batch.work import Task, configuration, why_not_finished, work
from geocd.errors import PairsError
from geocd.raster.handles import Companions
from geocd.raster.pair import Pair


@pytest.fixture
def stac(write_raster: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Write an ItemCollection of two bands a scene, the second at half the resolution."""

    def write(*scenes: tuple[str, str, float | None], tile: str = "grid:code") -> Path:
        items = []
        for number, (place, day, cloud) in enumerate(scenes):
            name = f"{place}_{day}_{number}"
            ground = np.add.outer(np.arange(64) * 5, np.arange(64) * 3) + 800  # that both dates share
            fine = (ground + np.random.default_rng(number).normal(0, 10, (64, 64))).astype(np.float32)
            fine[10:30, 10:30] += 1500 * (number % 2)
            write_raster(f"{name}_red", fine)
            write_raster(
                f"{name}_nir", fine[::2, ::2] / 2, transform=Affine(20, 0, 500_000, 0, -20, 4_200_000)
            )
            item = pystac.Item(name, None, None, datetime.datetime.fromisoformat(f"{day}T10:00:00+00:00"), {})
            item.properties |= {tile: place} | ({} if cloud is None else {"eo:cloud_cover": cloud})
            for band in ("red", "nir"):
                item.add_asset(band, pystac.Asset(f"./{name}_{band}.tif", roles=["data"]))
            items.append(item.to_dict())
        path = tmp_path / "items.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        return path

    return write


SCENES = [
    ("MGRS-33UUP", "2024-06-01", 10.0),
    ("MGRS-33UUP", "2023-06-03", 1.0),
    ("MGRS-33UUP", "2023-06-03", 0.5),  # of one day the clearest
    ("MGRS-33UUP", "2023-09-03", 80.0),
    ("MGRS-33UUQ", "2024-06-01", None),
    ("MGRS-33UUQ", "2023-06-03", None),
    ("MGRS-33UUR", "2023-06-03", 3.0),  # alone
]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            {},
            ["MGRS-33UUP_20230603_20230903", "MGRS-33UUP_20230903_20240601", "MGRS-33UUQ_20230603_20240601"],
        ),
        ({"max_cloud": 20.0}, ["MGRS-33UUP_20230603_20240601", "MGRS-33UUQ_20230603_20240601"]),
        (
            {"pairing": Pairing(dates=(datetime.date(2023, 8, 30), datetime.date(2024, 5, 1)))},
            ["MGRS-33UUP_20230903_20240601", "MGRS-33UUQ_20230603_20240601"],
        ),
    ],
)
def test_items_of_one_tile_are_paired(
    rule: dict[str, Any], expected: list[str], stac: Callable[..., Path], tmp_path: Path
) -> None:
    path = stac(*SCENES)
    assert is_stac(path)
    pairs = stac_pairs(path, tmp_path / "out", Rule(assets=["red", "nir"], **rule))
    assert [pair.id for pair in pairs] == expected
    last = pairs[0].stacks[0] if "pairing" not in rule else pairs[-1].stacks[0]
    day = "2023-06-03_2" if "pairing" not in rule else "2023-06-03_5"
    assert Path(last.path).parent == tmp_path / "out" / "sources"
    assert [Path(source).name.split("_", 1)[1] for _, source in last.sources] == [
        f"{day}_red.tif",
        f"{day}_nir.tif",
    ]
    assert last.date == "2023-06-03T10:00:00Z"


def test_a_catalogue_and_what_cannot_be_paired(stac: Callable[..., Path], tmp_path: Path) -> None:
    path = stac(*SCENES[:2], tile="s2:mgrs_tile")
    catalog = pystac.Catalog("c", "c")
    catalog.add_items(pystac.ItemCollection.from_file(str(path)))
    for item in catalog.get_items():
        for asset in item.assets.values():
            asset.href = str(tmp_path / asset.href)
    catalog.normalize_and_save(str(tmp_path / "catalog"), pystac.CatalogType.SELF_CONTAINED)
    for source in (path, tmp_path / "catalog" / "catalog.json"):
        (pair,) = stac_pairs(source, tmp_path, Rule(assets=["nir"]))
        assert Path(pair.stacks[0].sources[0][1]).exists()
        with pytest.raises(PairsError, match=r"has the assets red, nir\. Pass --assets"):
            stac_pairs(source, tmp_path, Rule())
    with pytest.raises(PairsError, match="has the assets red, nir, not blue"):
        stac_pairs(path, tmp_path, Rule(assets=["blue"]))
    with pytest.raises(PairsError, match="no two items of the same tile"):
        stac_pairs(path, tmp_path, Rule(assets=["red"], max_cloud=5))
    with pytest.raises(PairsError, match="no property that names its tile"):
        stac_pairs(stac(*SCENES, tile="name"), tmp_path, Rule(assets=["red"]))
    (tmp_path / "bad.json").write_text(
        '{"stac_version": "1.0.0", "type": "FeatureCollection", "features": 1}'
    )
    with pytest.raises(PairsError, match="cannot be read as STAC"):
        stac_pairs(tmp_path / "bad.json", tmp_path, Rule())


def test_assets_are_stacked_as_bands(
    stac: Callable[..., Path], tmp_path: Path, cluster: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = stac(*SCENES[:2])
    out = tmp_path / "out"
    command = ["batch", path, out, "--scheduler", cluster, "--method", "cva"]
    result = invoke(*command, "--assets", "red,nir")
    assert result.exit_code == 0, result.output
    name = "MGRS-33UUP_20230603_20240601"
    item = json.loads((out / name / f"{name}.json").read_text())
    assert item["properties"]["geocd:bands"] == ["red", "nir"]
    assert item["properties"]["start_datetime"] == "2023-06-03T10:00:00Z"
    with rasterio.open(out / "sources" / "MGRS-33UUP_2023-06-03_1.vrt") as dataset:
        red, nir = dataset.read()
        np.testing.assert_array_equal(nir[::2, ::2], red[::2, ::2] / 2)
        np.testing.assert_array_equal(nir[::2], nir[1::2])
    assert geopandas.read_file(out / name / f"{name}_changes.gpkg").n_pixels.max() > 300
    again = invoke(*command, "--assets", "red,nir")
    assert "1 pairs done (0 in this run)" in again.stderr

    before = "red,nir"
    for assets in ("red", "nir,red", "red,nir"):  # others, and in another order
        other = invoke("-v", *command, "--assets", assets)
        assert other.exit_code == 0, other.output
        assert "1 pairs done (1 in this run)" in other.stderr, assets
        item = json.loads((out / name / f"{name}.json").read_text())
        assert item["properties"]["geocd:bands"] == assets.split(",")
        assert f"assets (was {before}, is now {assets})" in caplog.text
        before = assets
    assert invoke("batch", tmp_path / "x.csv", out, "--max-cloud", "3").exit_code == 2


def test_another_source_behind_the_same_name_is_another_pair(
    stac: Callable[..., Path], tmp_path: Path
) -> None:
    """The VRT of the earlier run still names the earlier file."""
    path, out = stac(*SCENES[:2]), tmp_path / "out"
    (item,) = stac_pairs(path, out, Rule(assets=["red"]))
    out.mkdir()
    task = Task(item, CVA, str(out), configuration(CVA).of_pair(item))
    record = work(task)
    assert record["state"] == "done"
    assert why_not_finished(record, task) is None
    (tmp_path / "new").mkdir()
    name = "MGRS-33UUP_2024-06-01_0_red.tif"
    moved = shutil.copy(tmp_path / name, tmp_path / "new" / name)
    path.write_text(path.read_text().replace(f"./{name}", f"./new/{name}"))
    (item,) = stac_pairs(path, out, Rule(assets=["red"]))
    task = dataclasses.replace(task, item=item)
    assert configuration(CVA).of_pair(item) == task.config
    assert why_not_finished(record, task) is None, "a copy of the same content"
    with rasterio.open(moved, "r+") as dataset:
        dataset.write(dataset.read() + 1)
    assert why_not_finished(record, task) == f"the content of {moved} has changed"


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [
        # cover before cloud
        ({"s2:nodata_pixel_percentage": 95, "eo:cloud_cover": 0}, {"s2:nodata_pixel_percentage": 0}, 1),
        ({"s2:nodata_pixel_percentage": 3, "eo:cloud_cover": 1}, {"s2:nodata_pixel_percentage": 0}, 0),
        # of one acquisition the newest processing, whatever its cloud
        ({"s2:processing_baseline": "02.14", "eo:cloud_cover": 1}, {"s2:processing_baseline": "05.00"}, 1),
        ({"s2:processing_baseline": "05.10", "eo:cloud_cover": 9}, {"s2:processing_baseline": "05.09"}, 0),
        ({"processing:version": "5.9", "eo:cloud_cover": 9}, {"processing:version": "5.10"}, 1),
        # of two acquisitions the clearer one
        ({"s2:processing_baseline": "02.14", "eo:cloud_cover": 1, "datetime": "2023-06-03T12:00:00Z"}, {}, 0),
        # nothing known of the cloud
        ({"eo:cloud_cover": None}, {"eo:cloud_cover": 60.0}, 1),
        ({"eo:cloud_cover": 60.0}, {"eo:cloud_cover": None}, 0),
    ],
)
def test_the_best_item_of_a_tile_and_day(
    first: dict[str, Any], second: dict[str, Any], best: int, stac: Callable[..., Path], tmp_path: Path
) -> None:
    tile = "MGRS-33UUP"
    path = stac((tile, "2023-06-03", 5.0), (tile, "2023-06-03", 5.0), (tile, "2024-06-01", 5.0))
    content = json.loads(path.read_text())
    for feature, properties in zip(content["features"], (first, second), strict=False):
        feature["properties"] |= properties
    for features in (content["features"], content["features"][::-1]):
        path.write_text(json.dumps(content | {"features": features}))
        (pair,) = stac_pairs(path, tmp_path / "out", Rule(assets=["red"]))
        assert Path(pair.before).stem == f"{tile}_2023-06-03_{best}"


def test_aerial_images_whose_extents_differ_are_paired(stac: Callable[..., Path], tmp_path: Path) -> None:
    """Two quadrangles, side by side, in two years: other corners, sizes and resolutions."""
    path = stac(*[(str(number), day, None) for number in range(2) for day in ("2020-07-01", "2022-07-01")])
    content = json.loads(path.read_text())
    grids = [
        ([1.0, 0, 500_000, 0, -1.0, 4_200_000], [7500, 6000]),
        ([0.6, 0, 500_012, 0, -0.6, 4_200_030], [12_600, 9_980]),
        ([1.0, 0, 505_700, 0, -1.0, 4_200_000], [7500, 6000]),
        ([0.6, 0, 505_690, 0, -0.6, 4_200_012], [12_500, 10_010]),
    ]
    for feature, (transform, shape) in zip(content["features"], grids, strict=True):
        del feature["properties"]["grid:code"]
        feature["properties"] |= {"proj:epsg": 32633, "proj:transform": transform, "proj:shape": shape}
    path.write_text(json.dumps(content))
    pairs = stac_pairs(path, tmp_path / "out", Rule(assets=["red"]))
    assert [(Path(pair.before).stem, Path(pair.after).stem) for pair in pairs] == [
        ("0_2020-07-01_0", "0_2022-07-01_1"), ("1_2020-07-01_2", "1_2022-07-01_3"),
    ]  # fmt: skip
    assert [pair.id for pair in pairs] == [
        "32633-500000-4200000-7500-6000_20200701_20220701",
        "32633-505700-4200000-7500-6000_20200701_20220701",
    ]


def test_links_are_decoded(stac: Callable[..., Path], tmp_path: Path) -> None:
    path = stac(*SCENES[:2])
    before, after = "MGRS-33UUP_2023-06-03_1_red.tif", "MGRS-33UUP_2024-06-01_0_red.tif"
    (tmp_path / before).rename(tmp_path / "a b.tif")
    (tmp_path / after).rename(tmp_path / "c%20d.tif")  # a name that needs no decoding
    text = path.read_text().replace(f"./{before}", f"{tmp_path.as_uri()}/a%20b.tif")
    path.write_text(text.replace(f"./{after}", "./c%20d.tif"))
    (pair,) = stac_pairs(path, tmp_path / "out", Rule(assets=["red"]))
    assert [stack.sources for stack in pair.stacks] == [
        (("red", f"{tmp_path}/a b.tif"),),
        (("red", f"{tmp_path}/c%20d.tif"),),
    ]
    path.write_text(path.read_text().replace(f"{tmp_path.as_uri()}/", "./"))
    assert stac_pairs(path, tmp_path / "out", Rule(assets=["red"])) == [pair]


def test_a_byte_order_mark_and_one_item_alone(stac: Callable[..., Path], tmp_path: Path) -> None:
    path = stac(*SCENES[:2])
    (pair,) = stac_pairs(path, tmp_path / "out", Rule(assets=["red"]))
    content = path.read_text()
    path.write_text(content, encoding="utf-8-sig")
    assert is_stac(path)
    assert stac_pairs(path, tmp_path / "out", Rule(assets=["red"])) == [pair]
    path.write_text(json.dumps(json.loads(content)["features"][0]))
    assert is_stac(path)
    with pytest.raises(PairsError, match="is one STAC item, and a pair needs two"):
        stac_pairs(path, tmp_path / "out", Rule(assets=["red"]))


@pytest.mark.parametrize(
    ("properties", "fields", "expected"),
    [
        ({"s2:processing_baseline": "04.00"}, {}, (1e-4, -0.1)),
        ({"s2:processing_baseline": "03.01"}, {}, (1.0, 0.0)),
        ({"s2:processing_baseline": "04.00"}, {"raster:bands": [{"scale": 1e-4}]}, (1e-4, -0.1)),
        ({}, {"raster:bands": [{"scale": 2.75e-5, "offset": -0.2}]}, (2.75e-5, -0.2)),
        ({}, {"bands": [{"raster:scale": 2.75e-5, "raster:offset": -0.2}]}, (2.75e-5, -0.2)),
        ({}, {"raster:scale": 2.75e-5, "raster:offset": -0.2}, (2.75e-5, -0.2)),
        (
            {"s2:processing_baseline": "04.00", "earthsearch:boa_offset_applied": True},
            {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]},
            (1e-4, 0.0),
        ),
        ({"s2:processing_baseline": "04.00"}, {"raster:bands": [{"scale": 1e-4, "offset": 0}]}, (1e-4, 0.0)),
    ],
)
def test_scale_and_offset_of_assets_reach_the_stack(
    stac: Callable[..., Path],
    tmp_path: Path,
    properties: dict[str, object],
    fields: dict[str, object],
    expected: tuple[float, float],
) -> None:
    path = stac(("MGRS-33UUP", "2023-06-03", 0.0), ("MGRS-33UUP", "2024-06-01", 0.0))
    items = json.loads(path.read_text())
    items["features"][1]["properties"] |= properties
    items["features"][1]["assets"]["red"] |= fields
    path.write_text(json.dumps(items))
    (item,) = stac_pairs(path, tmp_path, Rule(assets=["red", "nir"]))
    for stack in item.stacks:
        stack.write()
    with Pair(item.before, item.after) as pair:
        before, after = pair.scalings
    assert not before.scales
    assert (after.scales[:1] or (1.0,), after.offsets[:1] or (0.0,)) == ((expected[0],), (expected[1],))


def test_features_of_items_are_one_more_distance(stac: Callable[..., Path], tmp_path: Path) -> None:
    path = stac(*SCENES[:2])
    rule = Rule(assets=["red"], features=["nir"])
    (pair,) = stac_pairs(path, tmp_path / "out", rule)
    assert [Path(stack.path).stem.endswith("_features") for stack in pair.stacks] == [
        False,
        False,
        True,
        True,
    ]
    assert pair.rasters == {
        "features_before": pair.stacks[2].path,
        "features_after": pair.stacks[3].path,
    }
    (tmp_path / "out" / "sources").mkdir(parents=True)
    for stack in pair.stacks:
        stack.write()
    with Pair(
        pair.before, pair.after, companions=Companions((pair.stacks[2].path, pair.stacks[3].path))
    ) as opened:
        assert opened.features is not None
        assert opened.features.stride == 2
    with pytest.raises(PairsError, match=r"not swir\. Pass --features-assets"):
        stac_pairs(path, tmp_path / "out", Rule(assets=["red"], features=["swir"]))
    result = invoke(
        "batch", path, tmp_path / "batch", "--assets", "red", "--features-assets", "nir", "--workers", 1
    )
    assert result.exit_code == 0, result.output
    (item,) = (tmp_path / "batch").glob("MGRS*/MGRS*.json")
    content = json.loads(item.read_text())
    assert "features_before" in content["properties"]["geocd:inputs"]
    assert any(link.get("title", "").startswith("features_after: ") for link in content["links"])


def test_items_bring_the_quality_masks_of_their_collection(
    stac: Callable[..., Path], write_raster: Callable[..., Path], tmp_path: Path
) -> None:
    path = stac(*SCENES[:2])
    content = json.loads(path.read_text())
    for item in content["features"]:
        classes = np.full((64, 64), 5, np.uint8)
        classes[40:60, 40:60] = 9
        write_raster(f"{item['id']}_classes", classes)
        item["assets"]["scl"] = {"href": f"./{item['id']}_classes.tif"}
    path.write_text(json.dumps(content))
    (pair,) = stac_pairs(path, tmp_path / "out", Rule(assets=["red"]))
    assert set(pair.rasters) == {"mask_before", "mask_after"}
    assert [Path(stack.path).stem.endswith("_mask") for stack in pair.stacks] == [False, False, True, True]
    for rule in (Rule(assets=["red"], mask="none"), Rule(assets=["red", "scl"])):
        assert stac_pairs(path, tmp_path / "out", rule)[0].rasters == {}
    with pytest.raises(PairsError, match=r"not qa\. Pass --mask-asset"):
        stac_pairs(path, tmp_path / "out", Rule(assets=["red"], mask="qa"))
    result = invoke("batch", path, tmp_path / "batch", "--assets", "red", "--workers", 1, "--method", "cva")
    assert result.exit_code == 0, result.output
    (item,) = (tmp_path / "batch").glob("MGRS*/MGRS*.json")
    properties = json.loads(item.read_text())["properties"]
    assert properties["geocd:summary"]["ignored_share"]["mask:cloud"] == pytest.approx(400 / 64**2)
    assert {"mask_before", "mask_after"} <= set(properties["geocd:inputs"])


def test_an_archive_elsewhere_has_the_same_bytes(
    stac: Callable[..., Path], write_raster: Callable[..., Path], tmp_path: Path
) -> None:
    """Rasters beside the two images are recorded by links from the result, as these are."""
    path = stac(*SCENES[:2])
    content = json.loads(path.read_text())
    for item in content["features"]:
        write_raster(f"{item['id']}_classes", np.full((64, 64), 5, np.uint8))
        item["assets"]["scl"] = {"href": f"./{item['id']}_classes.tif"}
    path.write_text(json.dumps(content))
    rasters = []
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
        (item,) = stac_pairs(path, tmp_path / name, Rule(assets=["red"]))
        assert work(Task(item, CVA, str(tmp_path / name), ""))["state"] == "done"
        rasters.append((tmp_path / name / item.id / f"{item.id}_prob.tif").read_bytes())
    assert rasters[0] == rasters[1]
