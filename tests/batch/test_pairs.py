"""The list of pairs: a CSV or a vector file."""

from __future__ import annotations

from pathlib import Path

import geopandas
import pytest
from batch_folder import invoke
from shapely import Point

from geocd.batch.pairs import Item, read_items
from geocd.config import Settings
from geocd.errors import PairsError


def test_a_csv_s_relative_paths_start_from_its_folder(tmp_path: Path) -> None:
    text = (
        "\ufeffid, before,after,valid,remark\n"
        "one,a.tif,sub/b.tif,,first\n\n"
        "two,/data/a.tif,https://host/b.tif?x=1,s3://bucket/v.tif,\n"
        "three,/vsizip/x.zip/a.tif,NETCDF:scene.nc:B04,v.tif,\n"
    )
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    assert read_items(tmp_path / "pairs.csv") == [
        Item("one", f"{tmp_path}/a.tif", f"{tmp_path}/sub/b.tif"),
        Item("two", "/data/a.tif", "https://host/b.tif?x=1", "s3://bucket/v.tif"),
        Item("three", "/vsizip/x.zip/a.tif", "NETCDF:scene.nc:B04", f"{tmp_path}/v.tif"),
    ]


@pytest.mark.parametrize("delimiter", [";", "\t", ","])
def test_spreadsheets_write_other_delimiters(delimiter: str, tmp_path: Path) -> None:
    rows = (("\ufeffid", "before", "after"), ("one", "~/a.tif", "file:///data/b%20c.tif"))
    (tmp_path / "pairs.csv").write_text("\n".join(map(delimiter.join, rows)), encoding="utf-8")
    assert read_items(tmp_path / "pairs.csv") == [Item("one", f"{Path.home()}/a.tif", "/data/b c.tif")]


@pytest.mark.parametrize("suffix", ["gpkg", "geojson"])
def test_a_vector_file_lists_pairs_too(suffix: str, tmp_path: Path) -> None:
    table = geopandas.GeoDataFrame(
        {
            "id": ["one", "two"],
            "before": ["a.tif", "c.tif"],
            "after": ["b.tif", "d.tif"],
            "valid": [None, "v.tif"],
        },
        geometry=[Point(0, 0), Point(1, 1)],
        crs="EPSG:4326",
    )  # fmt: skip
    path = tmp_path / f"pairs.{suffix}"
    table.to_file(path)
    assert read_items(path) == [
        Item("one", f"{tmp_path}/a.tif", f"{tmp_path}/b.tif"),
        Item("two", f"{tmp_path}/c.tif", f"{tmp_path}/d.tif", f"{tmp_path}/v.tif"),
    ]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\\b", "/abs", ".hidden", "a\nb", "a:b", "-rf", "end.", "end ", "x" * 101,
     "manifest.jsonl", "Catalog.JSON", "sources", "b\u00e9"],
)  # fmt: skip
def test_an_id_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(PairsError, match=r"cannot be the name of a folder|is reserved for the batch itself"):
        Item(name, "a.tif", "b.tif")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column id, before, after.*this file has: none"),
        ("id,before\nx,y\n", "no column after.*this file has: id, before"),
        ("id,before,after\n", "lists no pair"),
        ("id,before,after,before\nx,a,b,c\n", "the column before more than once .id, before, after, before."),
        ("id,before,after\nx,a,b\n,a,b\n", "line 3: id ''"),
        ("id,before,after\nx,a,\n", "line 2: id 'x': has no after"),
        ("id,before,after\nx,a,b\nX,a,b\n", "ids 'x' and 'X' are the same"),
        (
            "id,before,after,features_before\nx,a,b,f\n",
            "line 2: id 'x': has features_before and no features_after",
        ),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_as_a_whole(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(PairsError, match=message):
        read_items(tmp_path / "pairs.csv")
    result = invoke("batch", tmp_path / "pairs.csv", tmp_path / "out")
    assert result.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_a_list_that_is_not_there_or_no_list(tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="no such file"):
        read_items(tmp_path / "none.csv")
    (tmp_path / "pairs.gpkg").write_bytes(b"nothing")
    with pytest.raises(PairsError, match="neither a CSV nor a vector file"):
        read_items(tmp_path / "pairs.gpkg")


def test_columns_of_features_are_inputs_of_a_pair(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(
        "id,before,after,features_before,features_after\n"
        "one,a.tif,b.tif,emb/a.tif,emb/b.tif\ntwo,c.tif,d.tif,,\n"
    )
    first, second = read_items(path)
    assert first.rasters == {
        "features_before": f"{tmp_path}/emb/a.tif",
        "features_after": f"{tmp_path}/emb/b.tif",
    }
    assert list(first.inputs) == ["before", "after", "features_before", "features_after"]
    assert second.rasters == {}


def test_a_mask_of_one_date_alone_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("id,before,after,mask_after\none,a.tif,b.tif,b_SCL.tif\n")
    assert read_items(path)[0].rasters == {"mask_after": f"{tmp_path}/b_SCL.tif"}


def test_columns_of_masks_of_other_dates_name_one_for_each(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    header = "id,before,after,baseline,mask_baseline,confirm\n"
    path.write_text(f"{header}one,a.tif,b.tif,o.tif; p.tif,none;p_SCL.tif,c.tif\ntwo,a.tif,b.tif,,,\n")
    first, second = read_items(path)
    assert first.mask_baseline == ("none", f"{tmp_path}/p_SCL.tif")
    assert list(first.inputs) == [
        *("before", "after", "baseline 1", "baseline 2", "confirm 1", "mask_baseline 2")
    ]
    settings = Settings.from_flat(
        {
            "baseline": ("x.tif",),
            "mask_baseline": ("x_SCL.tif",),
            "confirm": ("y.tif",),
            "mask_confirm": ("m.tif",),
        }
    )
    assert second.completed(settings).mask_baseline == ("x_SCL.tif",)
    completed = first.completed(settings)
    assert completed.baseline == first.baseline
    assert completed.mask_confirm == (), "the masks of a command's images are not those of the list's"
    path.write_text(f"{header}one,a.tif,b.tif,o.tif;p.tif,p_SCL.tif,c.tif\n")
    with pytest.raises(
        PairsError, match="line 2: id 'one': --mask-baseline: names 1 masks, and --baseline 2"
    ):
        read_items(path)
