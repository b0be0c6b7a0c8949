"""The table of vector formats: one entry more, and everything that lists or writes formats has it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import PLUGIN, load_file, load_plugin

from geocd.cli import batch as batch_command
from geocd.cli import polygonize as polygonize_command
from geocd.errors import ConfigError
from geocd.vectorize.formats import FORMATS, VectorFormat, format_of, merge_formats
from geocd.vectorize.polygons import COLUMNS, polygonize

ROOT = Path(__file__).resolve().parents[2]

#: All that a further format takes.
SEQUENCE = VectorFormat(
    ".geojsonl",
    "GeoJSON text sequence",
    "GeoJSONSeq",
    "One polygon a line, in longitude and latitude on WGS 84.",
    geometry_type=None,
    lonlat=True,
)


@pytest.fixture
def sequence(monkeypatch: pytest.MonkeyPatch) -> VectorFormat:
    monkeypatch.setitem(FORMATS, SEQUENCE.suffix, SEQUENCE)
    return SEQUENCE


@pytest.fixture
def prob(write_raster: Any) -> Path:
    """Two changes (6 and 1 pixels) on a 4 x 5 grid."""
    values = np.zeros((4, 5), "f4")
    values[0:2, 0:3] = 0.8
    values[3, 4] = 0.75
    return Path(write_raster("a_prob", values))


def test_one_entry_more_is_written(sequence: VectorFormat, prob: Path, tmp_path: Path) -> None:
    summary = polygonize(prob, tmp_path / "o.geojsonl", threshold=0.5, style=b"<qgis/>")
    assert summary.count == 2
    assert len((tmp_path / "o.geojsonl").read_text(encoding="utf-8").splitlines()) == 2
    frame = geopandas.read_file(tmp_path / "o.geojsonl")
    assert frame["n_pixels"].tolist() == [6, 1]
    assert set(frame.columns) == {*COLUMNS, "geometry"}
    assert frame.crs == "EPSG:4326"
    centres = geopandas.GeoSeries.from_xy(frame["centroid_x"], frame["centroid_y"], crs=frame.crs)
    assert frame.contains(centres).all()
    assert (tmp_path / "o.qml").read_bytes() == b"<qgis/>"


def test_one_entry_more_is_in_messages_and_help(
    sequence: VectorFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"o\.kml: .*\.shp, \.geojsonl; use one of these suffixes"):
        format_of(Path("o.kml"))
    try:
        command = importlib.reload(polygonize_command).polygonize  # its help is made when it is imported
        text = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
        assert ", ".join(FORMATS) in text
        assert ".geojsonl" in text
    finally:
        monkeypatch.undo()
        importlib.reload(polygonize_command)


def test_what_can_be_merged_is_offered_by_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(merge_formats()) == [".gpkg", ".parquet"]
    mergeable = VectorFormat(".sqlite", "SpatiaLite", "SQLite", "", append=FORMATS[".gpkg"].append)
    monkeypatch.setitem(FORMATS, ".sqlite", mergeable)
    try:
        command = importlib.reload(batch_command).batch
        text = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
        assert "[gpkg|parquet|sqlite]" in text
        assert "changes.gpkg (GeoPackage) or changes.parquet (GeoParquet) or changes.sqlite" in text
    finally:
        monkeypatch.undo()
        importlib.reload(batch_command)


def test_one_entry_more_is_in_the_documents(sequence: VectorFormat) -> None:
    assert "```{include} generated/formats.md" in (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
    table = load_file(ROOT / "docs" / "conf.py").formats_reference()
    for suffix, fmt in FORMATS.items():
        assert f"| `{suffix}` | {fmt.name} | {fmt.note}" in table
    assert "| `.geojsonl` |" in table
    assert "Needs pyarrow: `pip install '.[parquet]'`" in table


def test_one_entry_more_is_in_the_choices_of_qgis(
    sequence: VectorFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = load_file(PLUGIN.parent / "make_choices.py").content()
    for name in ("options.py", "__init__.py"):
        (tmp_path / name).write_bytes((PLUGIN / name).read_bytes())
    (tmp_path / "choices.json").write_text(content, encoding="utf-8")
    offered = load_file(tmp_path / "options.py", "geocd_qgis_with_one_more").VECTORS
    assert offered == (*load_plugin("options").VECTORS, ".geojsonl")
    assert ".parquet" not in offered, "which not every QGIS opens"


def test_every_entry_is_complete() -> None:
    for suffix, fmt in FORMATS.items():
        assert suffix == fmt.suffix == fmt.suffix.lower()
        assert fmt.name
        assert fmt.note.endswith(".")
        assert (fmt.requires is None) == (fmt.extra is None)
