"""From values to a command line and from outputs to files, without QGIS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import load_plugin

from geocd.cli import main

options, command, process = load_plugin("options"), load_plugin("command"), load_plugin("process")
COMMANDS = {"detect": options.DETECT, "check": options.CHECK, "polygonize": options.POLYGONIZE}


VALUES = {
    "detect": {
        "method": "cva",
        "preset": "reference",
        "threshold": 0.7,
        "focus": "built",
        "min_area": 1234.5,
        "align": "shift",
        "bidx": "1..3",
        "ignore": ["water", "cloud"],
        "cloud_detector": "rule",
        "nodata": "-9999",
        "valid": "/data/my mask.tif",
        "fill_holes": 300.0,
        "simplify": 12.5,
        "smooth": 5,
        "uncertainty": True,
        "fit": "tile",
        "iterations": 0,
        "tile_size": 256,
        "jobs": 1,
        "mem_limit": 900,
        "device": "cpu",
        "resume": True,
    },
    "check": {"align": "grid", "bidx": "2", "nodata": "nan", "valid": "v.tif"},
    "polygonize": {
        "threshold": 0.0,
        "min_area": 20.0,
        "fill_holes": 40.5,
        "simplify": 20.0,
        "smooth": 1,
        "no_bands": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_geocd_understands_the_command_line(name: str) -> None:
    """What the dialog says arrives at the command as it was said."""
    values = VALUES[name]
    assert set(values) == {option.name for option in COMMANDS[name]}
    files = ["-before.tif", "after.tif"] if name != "polygonize" else ["prob.tif"]
    said = command.arguments(COMMANDS[name], values)
    context = main.commands[name].make_context(name, [*said, "--", *files])
    got = context.params
    assert (
        got["threshold" if name == "polygonize" else "bidx"]
        == {"detect": (1, 2, 3), "check": (2,), "polygonize": 0.0}[name]
    )
    for setting, value in values.items():
        if setting == "nodata":
            assert got[setting] == -9999 or np.isnan(got[setting])
        elif setting != "bidx":
            assert got[setting] == (tuple(value) if isinstance(value, list) else value), setting
    if name != "polygonize":
        assert got["before"] == "-before.tif"


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_are_left_out(name: str) -> None:
    assert command.arguments(COMMANDS[name], {option.name: option.default for option in COMMANDS[name]}) == []
    assert command.arguments(COMMANDS[name], {}) == []


def test_further_options() -> None:
    assert command.extra("--seed 3 --weights 'my file.pt'") == ["--seed", "3", "--weights", "my file.pt"]
    with pytest.raises(process.PluginError, match="Close the quotation mark"):
        command.extra("--weights 'my")


@pytest.mark.parametrize(
    "source",
    [
        "/data/a.tif",
        "relative.vrt",
        'NETCDF:"/data/a.nc":B04',
        "GPKG:/data/a.gpkg:layer",
        "/vsizip//data/a.zip/b.tif",
        "/vsicurl/https://example.org/a.tif?x=1",
    ],
)
def test_what_gdal_opens_goes_through(source: str) -> None:
    assert command.gdal_name("layer", "gdal", source) == source


@pytest.mark.parametrize(
    ("provider", "source", "why"),
    [
        ("wms", "url=https://example.org/{z}", "provider 'wms'"),
        ("postgresraster", "dbname=x", "provider 'postgresraster'"),
        ("gdal", "/data/a.tif|option:OVERVIEW_LEVEL=1", "option OVERVIEW_LEVEL=1"),
        ("gdal", "/vsicurl/https://example.org/a.tif|authcfg=a1b2c3d", "login"),
        ("gdal", "/vsimem/a.tif", "memory"),
    ],
)
def test_what_another_program_cannot_open_is_refused(provider: str, source: str, why: str) -> None:
    with pytest.raises(process.PluginError, match=f"^my layer: .*{why}.* Save it as a GeoTIFF first"):
        command.gdal_name("my layer", provider, source)


SET = ("_prob.tif", "_prob.qml", "_changes.gpkg", "_changes.qml", "_quicklook.png", ".json")


def results(stem: Path) -> None:
    for suffix in SET:
        stem.with_name(stem.name + suffix).write_text(suffix)


def test_outputs_get_the_names_that_were_asked_for(tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    raster, vector = tmp_path / "my.tif", tmp_path / "else" / "poly.gpkg"
    for name in ("my.tif", "my.tif.aux.xml", "my_prob.tif", "my.tif_notes.txt"):
        (tmp_path / name).write_text("older")
    stem = command.work_stem(raster)
    results(stem)
    command.move_outputs(stem, raster, vector)
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.*")}
    assert found == {
        "my.tif": "_prob.tif",
        "my.qml": "_prob.qml",
        "else/poly.gpkg": "_changes.gpkg",
        "else/poly.qml": "_changes.qml",
        "my_prob.tif": "older",
        "my.tif_notes.txt": "older",
    }


def only_parts(real: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
    """Return a ``Path.replace`` that cannot move between file systems."""

    def replace(self: Path, target: Path) -> Path:
        if not self.name.endswith(".part"):
            raise OSError(18, "Invalid cross-device link")
        return real(self, target)

    return replace


def test_outputs_on_another_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", only_parts(Path.replace))
    stem = tmp_path / "my.tif.qgis"
    results(stem)
    command.move_outputs(stem, tmp_path / "my.tif", None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.qml", "my.tif"]


@pytest.mark.parametrize("device", [False, True])  # another one
def test_what_nobody_else_may_read_stays_so(
    device: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my.tif").write_text("older")
    (tmp_path / "my.tif").chmod(0o600)
    if device:
        monkeypatch.setattr(Path, "replace", only_parts(Path.replace))
    stem = tmp_path / "my.tif.qgis"
    results(stem)
    command.move_outputs(stem, tmp_path / "my.tif", None)
    assert (tmp_path / "my.tif").read_text() == "_prob.tif"
    assert (tmp_path / "my.tif").stat().st_mode & 0o777 == 0o600


def test_results_that_cannot_be_placed_are_kept(tmp_path: Path) -> None:
    stem = tmp_path / "my.tif.qgis"
    results(stem)
    (tmp_path / "my.tif").mkdir()
    with pytest.raises(process.PluginError, match=r"my\.tif: cannot be written.*kept as .*my\.tif\.qgis_"):
        command.move_outputs(stem, tmp_path / "my.tif", None)
    assert len(list(tmp_path.iterdir())) == len(SET) + 1


@pytest.mark.parametrize(
    ("raster", "vector", "why"),
    [
        ("a.img", None, r"a\.img: .* as \.tif only"),
        (
            "a_prob.tif",
            "a.shp",
            r"a\.shp: a run writes its polygons as \.gpkg.*by the algorithm for its polygons",
        ),
        ("a_prob.tif", "a.kml", r"a\.kml: .* as \.gpkg, \.geojson, \.fgb, \.shp\. Use"),
        ("a.tif", "a.gpkg", r"share one style file, a\.qml. Give them different names"),
        ("a_prob.tif", "open.gpkg", r"open\.gpkg: is open \(open\.gpkg-wal"),
    ],
)
def test_names_that_cannot_work(tmp_path: Path, raster: str, vector: str | None, why: str) -> None:
    (tmp_path / "open.gpkg-wal").touch()
    with pytest.raises(process.PluginError, match=why):
        command.refuse_names(tmp_path / raster, None if vector is None else tmp_path / vector)


def test_names_that_work(tmp_path: Path) -> None:
    command.refuse_names(tmp_path / "a_prob.tif", tmp_path / "a_changes.gpkg")
    command.refuse_names(tmp_path / "a.TIFF", None)
    command.refuse_names(tmp_path / "a.tif", tmp_path / "b" / "a.gpkg")
