"""The STAC item: valid, complete, and strict JSON."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pystac
import pystac.validation
import pytest
import rasterio
import rasterio.shutil
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rasterio.crs import CRS
from rasterio.transform import Affine

from geocd.errors import OutputError
from geocd.raster.grid import Grid
from geocd.report.record import RunRecord, Summary
from geocd.report.stac import STAC_EXTENSIONS, stac_item, write_json
from geocd.scene.registration import Shift
from geocd.vectorize.kinds import KindTotal

TRANSFORM = Affine(10, 0, 500000, 0, -10, 5000000)


CREATED = "2024-01-02T03:04:05Z"


def write(path, values, *, descriptions=(), colours=(), transform=TRANSFORM, crs="EPSG:32633", **profile):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=values.shape[0],
        height=values.shape[1],
        width=values.shape[2],
        dtype=values.dtype,
        crs=crs,
        transform=transform,
        **profile,
    ) as dataset:
        dataset.write(values)
        for index, text in enumerate(descriptions, 1):
            dataset.set_band_description(index, text)
        if colours:
            dataset.colorinterp = colours
    return str(path)


def grid(crs="EPSG:32633", transform=TRANSFORM, height=100, width=200):
    return Grid(CRS.from_user_input(crs), transform, height, width)


#: What the published schemas of the extensions ask of the fields used here; the schemas themselves
#: live on the network.
RELEVANT = {
    STAC_EXTENSIONS[0]: {
        "proj:code": {"type": ["string", "null"]},
        "proj:wkt2": {"type": ["string", "null"]},
        "proj:shape": {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "integer"}},
        "proj:transform": {"type": "array", "minItems": 6, "maxItems": 6, "items": {"type": "number"}},
    },
    STAC_EXTENSIONS[1]: {
        "processing:lineage": {"type": "string"},
        "processing:software": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    STAC_EXTENSIONS[2]: {
        "file:checksum": {"type": "string", "pattern": "^1220[a-f0-9]{64}$"},
        "file:size": {"type": "integer", "minimum": 0},
    },
}


def extension_schema(uri, fields):
    prefix = next(iter(fields)).split(":")[0]
    known = {
        "type": "object",
        "properties": fields,
        "patternProperties": {f"^(?!{prefix}:)": {}},
        "additionalProperties": False,
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": uri,
        "properties": {
            "properties": known,
            "assets": {"additionalProperties": known},
            "stac_extensions": {"contains": {"const": uri}},
        },
    }


@pytest.fixture
def offline():
    """A validator that has every schema at hand and would fail to fetch another one."""

    class Offline(JsonSchemaSTACValidator):
        def _get_schema(self, uri):
            assert uri in self.schema_cache, f"{uri} would be fetched"
            return super()._get_schema(uri)

    validator = Offline()
    for uri, fields in RELEVANT.items():
        validator.schema_cache[uri] = extension_schema(uri, fields)
    return validator


def record(**changes):
    values = {
        "before": "before.tif",
        "after": "after.tif",
        "grid": grid(),
        "band_names": ("red", "nir"),
        "settings": {"tile_size": 256, "indexes": (1, 2), "nodata": None},
        "method": "deep",
        "preset": "default",
        "threshold": 0.5,
        "seed": 3,
        "timings": {"read": 0.25},
        "summary": Summary(
            valid_share=np.float32(0.5),
            changed_share=0.25,
            zero_share={"before": 0.0, "after": 0.125},
            ignored_share={"water": 0.5},
            n_polygons=np.int64(2),
            area_m2=math.nan,
            seam_score=None,
            shift=Shift(0.25, -0.5, 20.0, 0.125, 9),
            kinds=(KindTotal("burnt", None, 2, math.nan),),
        ),
        "date_before": "2020-01-01T00:00:00Z",
        "date_after": "2021-01-01T00:00:00Z",
        "versions": {"geocd": "1"},
    }
    return RunRecord(**(values | changes))


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    values = np.full((1, 100, 200), np.nan, np.float32)
    values[0, :50] = np.linspace(0, 1, 200)
    write(tmp_path / "plain.tif", values, nodata=math.nan, descriptions=["change_probability"])
    found = {
        "prob": folder / "a b_prob.tif",
        "prob_style": folder / "a b_prob.qml",
        "changes": folder / "a b_changes.gpkg",
        "changes_style": folder / "a b_changes.qml",
        "quicklook": folder / "a b_quicklook.png",
        "report": folder / "a b_report.html",
    }
    rasterio.shutil.copy(tmp_path / "plain.tif", found["prob"], driver="COG", STATISTICS="YES")
    for key, path in found.items():
        if key != "prob":
            path.write_bytes(key.encode())
    return found


def test_item_is_valid_stac(files, offline, tmp_path):
    item = stac_item(record(), files, created=CREATED)
    path = tmp_path / "item.json"
    write_json(path, item)
    assert json.loads(path.read_text(encoding="utf-8")) == item
    read_back = pystac.Item.from_dict(item)
    validated = pystac.validation.validate(read_back, validator=offline)
    assert set(STAC_EXTENSIONS) < set(validated)
    assert read_back.datetime is None
    assert read_back.ext.proj.code == "EPSG:32633"
    assert read_back.ext.proj.shape == [100, 200]
    assert read_back.ext.proj.transform == [10, 0, 500000, 0, -10, 5000000]


def test_the_validator_would_notice(files, offline):
    item = stac_item(record(), files, created=CREATED)
    item["assets"]["prob"]["file:checksum"] = "sha256:abc"
    with pytest.raises(pystac.STACValidationError, match="file/v2"):
        pystac.validation.validate_dict(item, validator=offline)


def test_item_content(files):
    item = stac_item(record(), files, created=CREATED)
    assert item["id"] == "a b"
    properties = item["properties"]
    assert properties["datetime"] is None
    assert properties["start_datetime"] == "2020-01-01T00:00:00Z"
    assert properties["end_datetime"] == "2021-01-01T00:00:00Z"
    assert "geocd:dates" not in properties
    assert properties["geocd:threshold"] == 0.5
    assert properties["geocd:method"] == "deep"
    assert properties["geocd:preset"] == "default"
    assert properties["geocd:seed"] == 3
    assert properties["geocd:settings"] == {"tile_size": 256, "indexes": [1, 2], "nodata": None}
    assert list(properties["geocd:summary"].items()) == [
        ("valid_share", 0.5),
        ("changed_share", 0.25),
        ("zero_share", {"before": 0, "after": 0.125}),
        ("ignored_share", {"water": 0.5}),
        ("n_polygons", 2),
        ("area_m2", None),
        ("seam_score", None),
        ("shift", Shift(0.25, -0.5, 20.0, 0.125, 9).as_dict()),
        ("kinds", [{"kind": "burnt", "became": None, "n_polygons": 2, "area_m2": None}]),
    ]
    assert properties["processing:software"] == {"geocd": "1"}
    assert "before.tif" in properties["processing:lineage"]
    assert list(item["assets"]) == list(files)
    for key, asset in item["assets"].items():
        content = files[key].read_bytes()
        assert asset["href"] == "./" + files[key].name.replace(" ", "%20")
        assert asset["file:size"] == len(content)
        assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
    (band,) = item["assets"]["prob"]["bands"]
    statistics = band.pop("statistics")
    assert band == {"name": "change_probability", "data_type": "float32", "nodata": "nan"}
    assert statistics["minimum"] == 0
    assert statistics["maximum"] == 1
    assert statistics["valid_percent"] == 50


@pytest.mark.parametrize(
    ("before", "after", "given"),
    [(None, None, []), ("2020-01-01T00:00:00Z", None, ["geocd:date_before"])],
    ids=["neither", "one"],
)
def test_unknown_dates(files, offline, before, after, given):
    item = stac_item(record(date_before=before, date_after=after), files, created=CREATED)
    pystac.validation.validate_dict(item, validator=offline)
    assert item["properties"]["datetime"] == CREATED
    assert item["properties"]["geocd:dates"] == "unknown"
    assert "start_datetime" not in item["properties"]
    assert [key for key in item["properties"] if key.startswith("geocd:date_")] == given


def test_dates_the_wrong_way_round_are_an_interval_still(files):
    dates = {"date_before": "2021-01-01T00:00:00Z", "date_after": "2020-01-01T00:00:00Z"}
    properties = stac_item(record(**dates), files, created=CREATED)["properties"]
    assert properties["start_datetime"] < properties["end_datetime"]


@pytest.mark.parametrize(
    "crs",
    ["+proj=laea +lat_0=47.3 +lon_0=11.7 +ellps=GRS80", 'LOCAL_CS["here",UNIT["metre",1]]'],
    ids=["no authority", "no place on Earth"],
)
def test_crs_without_a_code(files, offline, crs):
    item = stac_item(record(grid=grid(crs)), files, created=CREATED)
    pystac.validation.validate_dict(item, validator=offline)
    assert item["properties"]["proj:code"] is None
    assert item["properties"]["proj:wkt2"].startswith(("PROJCRS", "ENGCRS", "BOUNDCRS"))
    assert ("bbox" in item) == (item["geometry"] is not None)


def test_nothing_valid_has_no_statistics(files, offline, tmp_path):
    files["prob"].unlink()
    values = np.full((1, 4, 4), np.nan, np.float32)
    write(files["prob"], values, nodata=math.nan)
    item = stac_item(record(), files, created=CREATED)
    pystac.validation.validate_dict(item, validator=offline)
    assert "statistics" not in item["assets"]["prob"]["bands"][0]


def test_links_lead_from_the_item_to_the_inputs(files, tmp_path):
    for name in ("before 1.tif", "after.tif"):
        (tmp_path / name).touch()
    moved = record(before=str(tmp_path / "before 1.tif"), after=str(tmp_path / "after.tif"))
    item = stac_item(moved, files, created=CREATED, folder=tmp_path / "out")
    hrefs = [link["href"] for link in item["links"] if link["rel"] == "derived_from"]
    assert hrefs == ["../before%201.tif", "../after.tif"]
    assert [link["title"] for link in item["links"]] == ["before: before 1.tif", "after: after.tif"]


def test_json_is_strict(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": math.nan})
    assert not (tmp_path / "a.json").exists()
    with pytest.raises(OutputError, match="cannot be written"):
        write_json(tmp_path / "no" / "a.json", {})
