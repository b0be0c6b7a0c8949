"""Acquisition dates, from tags and file names."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geocd.report.acquired import acquisition_date


@pytest.mark.parametrize(
    ("tags", "path", "expected"),
    [
        pytest.param(
            {"ACQUISITIONDATETIME": "2020-06-01 10:20:30"}, "a.tif", "2020-06-01T10:20:30Z", id="tag"
        ),
        pytest.param(
            {"PRODUCT_START_TIME": "2020-06-01T10:20:30.024Z"}, "a.tif", "2020-06-01T10:20:30Z", id="fraction"
        ),
        pytest.param(
            {"acquisitiondatetime": "2020-06-01T01:00:00+02:00"}, "a", "2020-05-31T23:00:00Z", id="zone, case"
        ),
        pytest.param(
            {"DATE_ACQUIRED": "2020-06-14", "SCENE_CENTER_TIME": '"18:22:33.5Z"'},
            "a.tif",
            "2020-06-14T18:22:33Z",
            id="Landsat MTL",
        ),
        pytest.param({"DATE_ACQUIRED": "2020-06-14"}, "a.tif", "2020-06-14T00:00:00Z", id="day alone"),
        pytest.param({"TIFFTAG_DATETIME": "2019:06:01 14:36:11"}, "a.tif", "2019-06-01T14:36:11Z", id="TIFF"),
        pytest.param(
            {"TIFFTAG_DATETIME": "2024:01:01 00:00:00"},
            "x_20190601.tif",
            "2019-06-01T00:00:00Z",
            id="name before TIFF time",
        ),
        pytest.param({"TIFFTAG_DATETIME": "0000:00:00 00:00:00"}, "a.tif", None, id="empty TIFF time"),
        pytest.param({"TIFFTAG_DATETIME": "today"}, "a.tif", None, id="no date"),
        pytest.param(
            {},
            "/x/S2A_MSIL1C_20170105T013442_N0204_R031_T53NMJ_20170106T013443.SAFE",
            "2017-01-05T01:34:42Z",
            id="Sentinel-2 product",
        ),
        pytest.param(
            {}, "s3://b/T33UVP_20200601T101559_B04.tif", "2020-06-01T10:15:59Z", id="Sentinel-2 band"
        ),
        pytest.param(
            {},
            "S1A_IW_GRDH_1SDV_20200601T165555_20200601T165620_032823_03CD4A_1234.tif",
            "2020-06-01T16:55:55Z",
            id="Sentinel-1 product",
        ),
        pytest.param(
            {},
            "LC08_L1TP_039037_20200614_20200824_01_T1_B4.TIF",
            "2020-06-14T00:00:00Z",
            id="Landsat product",
        ),
        pytest.param({}, "https://h/2020-06-01.tif?t=20210101", "2020-06-01T00:00:00Z", id="URL with query"),
        pytest.param({}, "C:\\data\\site_20200601.tif", "2020-06-01T00:00:00Z", id="Windows"),
        pytest.param({}, "20200601_20200601T101112.tif", "2020-06-01T10:11:12Z", id="one day twice"),
        pytest.param({}, "20200601T101112_20200601T121314.tif", "2020-06-01T00:00:00Z", id="two times"),
        pytest.param({}, "20200601_20210601_diff.tif", None, id="two days"),
        pytest.param({}, "tile_12345678.tif", None, id="a number that is no date"),
        pytest.param({}, "scene_20201340.tif", None, id="month 13"),
        pytest.param({}, "id_120200601.tif", None, id="part of a longer number"),
        pytest.param({}, "/2020-06-01/before.tif", None, id="folders do not count"),
        pytest.param({}, "", None, id="nothing"),
    ],
)
def test_acquisition_date(tags, path, expected):
    assert acquisition_date(tags, path) == expected


@given(st.dictionaries(st.sampled_from(["TIFFTAG_DATETIME", "DATE_ACQUIRED"]), st.text()), st.text())
def test_acquisition_date_never_fails(tags, path):
    date = acquisition_date(tags, path)
    assert date is None or datetime.datetime.fromisoformat(date.replace("Z", "+00:00"))
