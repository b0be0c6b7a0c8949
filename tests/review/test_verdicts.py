"""Verdicts, from files as people and programs write them."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
from shapely.geometry import Point

from geocd.errors import VerdictError
from geocd.review.verdicts import Verdicts, combined, read_table, read_verdicts


@pytest.mark.parametrize(
    "content",
    [
        "id,verdict\n1,yes\n2,\n3,Unsure\n",
        "\ufeffverdict;note;id\nYES;a;1\n ;;2\nunsure;b;3\n\n",
        "id\tverdict\n1.0\tyes\n3\tunsure\n",
        "id,verdict\r\n1,yes\r\n3,unsure\r\n",
    ],
    ids=["plain", "spreadsheet", "tabs", "windows"],
)
def test_csv_as_people_save_it(content: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(content, encoding="utf-8", newline="")
    assert read_verdicts(tmp_path / "v.csv").words == {1: "yes", 3: "unsure"}


@pytest.mark.parametrize("name", ["v.geojson", "v.gpkg"])
def test_vector_files(name: str, tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame(
        {"id": [4, 5], "verdict": ["no", None]}, geometry=[Point(0, 0), Point(1, 1)], crs="EPSG:4326"
    )
    frame.to_file(tmp_path / name)
    file = read_verdicts(tmp_path / name)
    assert (file.words, file.crs, np.asarray(file.places).tolist()) == ({4: "no"}, "EPSG:4326", [[0, 0]])


def test_places_in_a_csv(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("id,verdict,x,y\n1,,,\n2,yes,500000.5,-7e3\n")
    file = read_verdicts(tmp_path / "v.csv")
    assert (file.words, np.asarray(file.places).tolist()) == ({2: "yes"}, [[500000.5, -7000]])
    (tmp_path / "v.csv").write_text("id,verdict,x,y\n2,yes,5 000,1\n")
    with pytest.raises(VerdictError, match="columns x and y must be coordinates"):
        read_verdicts(tmp_path / "v.csv")


def test_geojson_without_geometry(tmp_path: Path) -> None:
    """As a page of a browser saves it."""
    features = [{"type": "Feature", "geometry": None, "properties": {"id": 7, "verdict": "yes"}}]
    (tmp_path / "v.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    file = read_verdicts(tmp_path / "v.geojson")
    assert (file.words, file.places) == ({7: "yes"}, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,verdict\n1,maybe\n", r"row 1 is 'maybe'; it must be one of yes, no, unsure, or empty"),
        ("id,verdict\n1,yes\n1,no\n", r"id 1 occurs more than once"),
        ("id,verdict\nx,yes\n", r"id in row 1 is 'x', and must be a whole number"),
        ("id,verdict\n1.5,yes\n", r"id in row 1 is '1.5'"),
        ("id,verdict\ninf,yes\n", r"id in row 1 is 'inf'"),
        ("number,verdict\n1,yes\n", r"has no column id \(it has: number, verdict\)"),
        ("id,verdict\n1,yes,really\n", r"line 2 has 3 values, and the first line names 2 columns"),
        ("id,id\n1,2\n", r"first line must name the columns, each once"),
        ("", r"first line must name the columns"),
    ],
)
def test_what_cannot_be_read_says_why(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(content)
    with pytest.raises(VerdictError, match=message):
        read_verdicts(tmp_path / "v.csv")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(VerdictError, match="no such file"):
        read_verdicts(tmp_path / "v.csv")
    (tmp_path / "v.gpkg").write_bytes(b"no database")
    with pytest.raises(VerdictError, match="Pass a CSV, GeoJSON or GeoPackage"):
        read_verdicts(tmp_path / "v.gpkg")
    (tmp_path / "v.csv").write_bytes(b"id,verdict\n1,\xff\n")
    with pytest.raises(VerdictError, match="CSV in UTF-8"):
        read_verdicts(tmp_path / "v.csv")


def test_one_of_several_layers(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame({"id": [1]}, geometry=[Point(0, 0)], crs="EPSG:4326")
    for layer in ("sample", "notes"):
        frame.to_file(tmp_path / "v.gpkg", layer=layer)
    assert read_table(tmp_path / "v.gpkg", "sample")["id"].tolist() == [1]
    with pytest.raises(VerdictError, match=r"has 2 layers \(sample, notes\), and one is needed"):
        read_table(tmp_path / "v.gpkg")


def test_a_file_counts_before_the_layer(tmp_path: Path) -> None:
    file = Verdicts(tmp_path, {1: "yes"}, np.array([[5.0, 6.0]]))
    assert combined([1, 2, 3], ["no", None, "yes"], file) == ["yes", None, "yes"]
    places = np.array([[5.0, 6.0], [7, 7], [8, 8]])
    assert combined([1, 2, 3], [None] * 3, file, places) == ["yes", None, None]
    with pytest.raises(VerdictError, match="verdicts on id 9, which the layer lacks"):
        combined([1, 2, 3], [None] * 3, Verdicts(tmp_path, {9: "yes"}))
    with pytest.raises(VerdictError, match=r"id 1 lies at x 5, y 6 there, and at x 5.1, y 6 in the layer"):
        combined([1], [None], file, np.array([[5.1, 6.0]]))
