"""The QGIS plugin: what needs no QGIS everywhere, the rest where QGIS is installed."""

from __future__ import annotations

import ast
import configparser
import importlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import geopandas
import numpy as np
import pytest
import shapely

import geocd
from geocd.cli import main
from geocd.cli.options import KindsType
from geocd.report.styles import style
from geocd.vectorize.polygons import polygonize

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "qgis_plugin" / "geocd"
MakePair = Callable[..., tuple[Path, Path]]

posix = pytest.mark.skipif(os.name == "nt", reason="shell scripts and signals")


def load(module: str) -> Any:
    """Import a module of the plugin under another name, because the plugin's folder is called geocd too."""
    if "geocd_qgis" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "geocd_qgis", PLUGIN / "__init__.py", submodule_search_locations=[str(PLUGIN)]
        )
        assert spec is not None
        assert spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules["geocd_qgis"] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"geocd_qgis.{module}")


options, command, process = load("options"), load("command"), load("process")
COMMANDS = {"detect": options.DETECT, "check": options.CHECK, "polygonize": options.POLYGONIZE}


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{textwrap.dedent(text)}")
    path.chmod(0o755)
    return path


@pytest.fixture
def executable(tmp_path: Path) -> Path:
    """Return a program that is the geocd under test."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from geocd.cli import main; main()"
    return script(tmp_path / "geocd", f'exec "{sys.executable}" -c "{code}" "$@"\n')


@pytest.fixture
def pair(make_pair: MakePair) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    before = 1000 + 150 * np.kron(rng.normal(size=(3, 20, 20)), np.ones((15, 15)))
    before = (before + rng.normal(0, 20, before.shape)).astype(np.float32)
    after = 1.2 * before + 100
    after[:, 90:180, 120:210] = 3000 + rng.normal(0, 100, (3, 90, 90))
    return make_pair(before, after.astype(np.float32))


class Feedback:
    """What QGIS hands over, which writes down what it is told."""

    def __init__(self, cancel: Callable[[Feedback], bool] = lambda feedback: False) -> None:
        self.percents: list[float] = []
        self.texts: list[str] = []
        self.infos: list[str] = []
        self._cancel = cancel

    def isCanceled(self) -> bool:  # noqa: N802
        return self._cancel(self)

    def setProgress(self, percent: float) -> None:  # noqa: N802
        self.percents.append(percent)

    def setProgressText(self, text: str) -> None:  # noqa: N802
        self.texts.append(text)

    def pushInfo(self, text: str) -> None:  # noqa: N802
        self.infos.append(text)


# --- in step with geocd ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "option"),
    [(name, option) for name, those in COMMANDS.items() for option in those],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_options_are_those_of_geocd(name: str, option: Any) -> None:
    known = {flag: p for p in main.commands[name].params for flag in p.opts}
    assert option.flag in known, f"geocd {name} has no {option.flag}"
    parameter = known[option.flag]
    assert isinstance(parameter, click.Option)
    assert parameter.is_flag == (option.kind == "flag")
    files = ["prob.tif"] if name == "polygonize" else ["before.tif", "after.tif"]
    assert main.commands[name].make_context(name, files).params[option.name] == option.default
    if isinstance(parameter.type, click.Choice):
        assert (option.kind, tuple(parameter.type.choices)) == ("choice", option.choices)
    elif isinstance(parameter.type, KindsType):
        assert (option.kind, parameter.type.kinds) == ("choices", option.choices)
    else:
        assert option.kind not in ("choice", "choices")


VALUES = {
    "detect": {
        "method": "cva",
        "preset": "reference",
        "threshold": 0.7,
        "min_area": 1234.5,
        "align": "shift",
        "bidx": "1..3",
        "ignore": ["water", "cloud"],
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
    with pytest.raises(process.PluginError, match="Close what is quoted"):
        command.extra("--weights 'my")


# --- layers ------------------------------------------------------------------------------------------


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


# --- the executable ----------------------------------------------------------------------------------


@posix
def test_the_variable_comes_before_the_setting_before_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "path"):
        (tmp_path / name).mkdir()
        script(tmp_path / name / "geocd", "")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv(process.VARIABLE, raising=False)
    assert process.find_executable() == str(tmp_path / "path" / "geocd")
    assert process.find_executable(str(tmp_path / "one" / "geocd")) == str(tmp_path / "one" / "geocd")
    monkeypatch.setenv(process.VARIABLE, str(tmp_path / "two" / "geocd"))
    assert process.find_executable(str(tmp_path / "one" / "geocd")) == str(tmp_path / "two" / "geocd")
    monkeypatch.setenv(process.VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(
        process.PluginError, match=r"variable GEOCD_EXECUTABLE says .*gone, which is no program"
    ):
        process.find_executable(str(tmp_path / "one" / "geocd"))


def test_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(process.VARIABLE, raising=False)
    with pytest.raises(
        process.PluginError, match=r"not found on the PATH. Install it .*name its file in Settings"
    ):
        process.find_executable()


@posix
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("echo geocd, version 0.0.9", r"is geocd 0\.0\.9, and this plugin needs 0\.1\.0 or newer. Update"),
        ("echo GDAL 3.8", "does not answer as geocd does.*Name the right file(.|\n)*GDAL 3.8"),
        ("echo no module named torch >&2; exit 1", "does not answer(.|\n)*no module named torch"),
    ],
)
def test_other_programs_are_told(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(process.PluginError, match=why):
        process.check_version(str(script(tmp_path / "geocd", text)))


@posix
def test_what_is_no_program_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "geocd"
    broken.write_bytes(b"\x7fnonsense")
    broken.chmod(0o755)
    with pytest.raises(process.PluginError, match=r"cannot be run: .*Name the right file"):
        process.check_version(str(broken))


@posix
def test_version(executable: Path) -> None:
    assert process.check_version(str(executable)) == geocd.__version__


def test_the_oldest_version_is_one_that_exists() -> None:
    assert tuple(int(part) for part in geocd.__version__.split(".")[:3]) >= process.LEAST_VERSION


def test_qgis_s_own_libraries_are_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONHOME", "PROJ_LIB", "GDAL_DATA", "AWS_REGION"):
        monkeypatch.setenv(name, "x")
    given = process.environment()
    assert not {"PYTHONHOME", "PROJ_LIB", "GDAL_DATA"} & set(given)
    assert given["AWS_REGION"] == "x"


# --- the child ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ('{"stage": "tiles", "done": 3, "total": 16}', ("tiles", 3, 16)),
        ('{"stage": "tiles", "done": 3}', None),
        ('{"stage": "tiles", "done": "many", "total": 16}', None),
        ("{", None),
        ("Error: {", None),
        ("", None),
        ("[1]", None),
    ],
)
def test_progress_is_told_from_words(line: str, step: object) -> None:
    assert process.parse_progress(line) == step


def test_the_bar_never_goes_back() -> None:
    steps = [
        ("fit", 0, 1),
        ("fit", 1, 1),
        ("tiles", 0, 4),
        ("tiles", 4, 4),
        ("polygons", 0, 1),
        ("polygons", 1, 1),
    ]
    percents = [process.percentage(*step) for step in steps]
    assert percents == sorted(percents)
    assert (percents[0], percents[-1]) == (0, 100)
    assert process.percentage("tiles", 0, 0) == 20
    assert process.percentage("something new", 1, 2) is None


@posix
def test_a_run_is_followed(executable: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    feedback = Feedback()
    out = tmp_path / "run"
    said = [
        str(executable),
        "detect",
        f"--output={out}",
        "--progress=json",
        "--method=cva",
        "--tile-size=100",
    ]
    done = process.run([*said, "--overlap=20", "--", *map(str, pair)], feedback)
    assert done.returncode == 0, done.errors
    assert feedback.percents == sorted(feedback.percents)
    assert len(feedback.percents) > 10, "one for each tile"
    assert feedback.percents[-1] == 100
    assert feedback.texts == ["fit", "tiles (16)", "polygons"]
    assert "of the valid area changed" in done.errors
    assert "{" not in done.errors
    assert done.output == ""


@posix
def test_an_error_is_passed_on_as_it_is(executable: Path, tmp_path: Path) -> None:
    done = process.run([str(executable), "check", "--", str(tmp_path / "ä.tif"), "b.tif"], Feedback())
    assert done.returncode == 1
    alone = subprocess.run(
        [executable, "check", "--", tmp_path / "ä.tif", "b.tif"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.errors == alone.stderr.rstrip("\n")
    assert "ä.tif" in done.errors


@posix
def test_cancelled_as_by_ctrl_c(executable: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The child ends, keeps its finished tiles, and the same run can be gone on with."""
    folder = tmp_path / "out"
    folder.mkdir()
    said = [str(executable), "detect", f"--output={folder / 'run'}", "--progress=json", "--method=cva",
            "--jobs=1", "--tile-size=60", "--overlap=40", "--resume", "--", *map(str, pair)]  # fmt: skip
    feedback = Feedback(lambda feedback: any(percent > 20 for percent in feedback.percents))
    with pytest.raises(process.CancelledError, match="geocd was stopped"):
        process.run(said, feedback)
    assert "tiles are kept; run the same command with --resume" in feedback.infos[-1]
    assert [path.name for path in folder.iterdir()] == [".run.geocd"]
    again = process.run(said, Feedback())
    assert again.returncode == 0
    assert "going on with an interrupted run" in again.errors
    assert "run_prob.tif" in [path.name for path in folder.iterdir()]


@posix
@pytest.mark.parametrize("ignored", ["INT", "INT TERM"])
def test_a_child_that_will_not_stop_is_made_to(
    ignored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PATIENCE", 0.5)
    stubborn = script(
        tmp_path / "geocd",
        f"""\
        trap '' {ignored}
        echo $$ > "{tmp_path}/pid"
        echo '{{"stage": "fit", "done": 0, "total": 1}}' >&2
        while true; do sleep 0.1; done
        """,
    )
    with pytest.raises(process.CancelledError):
        process.run([str(stubborn)], Feedback(lambda feedback: bool(feedback.percents)))
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@posix
def test_a_launcher_s_children_end_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = script(
        tmp_path / "geocd",
        f"""\
        sleep 60 &
        echo $! > "{tmp_path}/pid"
        echo '{{"stage": "fit", "done": 0, "total": 1}}' >&2
        wait
        """,
    )
    # A shell has its children in the background ignore SIGINT, so that is not what ends this one.
    monkeypatch.setattr(process, "PATIENCE", 0.5)
    with pytest.raises(process.CancelledError):
        process.run([str(launcher)], Feedback(lambda feedback: bool(feedback.percents)))
    until = time.monotonic() + 10
    pid = int((tmp_path / "pid").read_text())
    try:
        while time.monotonic() < until:
            os.kill(pid, 0)
            time.sleep(0.05)
    except ProcessLookupError:
        return
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the launcher's child lives on")


# --- the outputs -------------------------------------------------------------------------------------


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
    command.place_outputs(stem, raster, vector)
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.*")}
    assert found == {
        "my.tif": "_prob.tif",
        "my.qml": "_prob.qml",
        "else/poly.gpkg": "_changes.gpkg",
        "else/poly.qml": "_changes.qml",
        "my_prob.tif": "older",
        "my.tif_notes.txt": "older",
    }


def test_outputs_on_another_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if not self.name.endswith(".part"):
            raise OSError(18, "Invalid cross-device link")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    stem = tmp_path / "my.tif.qgis"
    results(stem)
    command.place_outputs(stem, tmp_path / "my.tif", None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my.qml", "my.tif"]


def test_results_that_cannot_be_placed_are_kept(tmp_path: Path) -> None:
    stem = tmp_path / "my.tif.qgis"
    results(stem)
    (tmp_path / "my.tif").mkdir()
    with pytest.raises(process.PluginError, match=r"my\.tif: cannot be written.*kept as .*my\.tif\.qgis_"):
        command.place_outputs(stem, tmp_path / "my.tif", None)
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
        ("a_prob.tif", "a.kml", r"a\.kml: .* as \.gpkg, \.geojson, \.fgb, \.shp\. Choose"),
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


# --- the package -------------------------------------------------------------------------------------


def metadata() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(PLUGIN / "metadata.txt", encoding="utf-8")
    return parser["general"]


def test_metadata() -> None:
    told = metadata()
    assert told["version"] == geocd.__version__
    assert told["hasProcessingProvider"] == "yes", "or qgis_process does not load it"
    assert told["license"] == "Apache-2.0"
    assert (PLUGIN / told["icon"]).is_file()
    for needed in ("name", "qgisMinimumVersion", "description", "about", "author"):
        assert told[needed]
    for source in ("OSCD", "SZTAKI", "Copernicus", "U.S. Geological Survey"):
        assert source in told["about"], "the weights' sources, as geocd/data/ATTRIBUTION.md names them"


@pytest.mark.parametrize("path", sorted(PLUGIN.glob("*.py")), ids=lambda path: path.name)
def test_sources_suit_every_qgis(path: Path) -> None:
    """QGIS 3.22 brings Python 3.9; newer ones bring other versions of Qt."""
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "level", 0) == 0
        for alias in node.names
    }
    assert imported <= sys.stdlib_module_names | {"qgis", "processing"}
    if path.stem in ("options", "command", "process"):
        assert imported <= sys.stdlib_module_names, "these are tested without QGIS"


def test_the_zip_is_whole_and_repeats(tmp_path: Path) -> None:
    made = []
    for name in ("one.zip", "two.zip"):
        target = tmp_path / name
        code = [sys.executable, str(ROOT / "qgis_plugin" / "make_zip.py"), str(target)]
        subprocess.run(code, check=True, capture_output=True, timeout=60)
        made.append(target.read_bytes())
    assert made[0] == made[1]
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert archive.read("geocd/LICENSE") == (ROOT / "LICENSE").read_bytes()
    wanted = {f"geocd/{path.name}" for path in PLUGIN.iterdir() if path.is_file() and path.suffix != ".pyc"}
    assert set(names) == wanted | {"geocd/LICENSE"}


# --- in QGIS -----------------------------------------------------------------------------------------

#: Debian's qgis_process is a wrapper that hands it an option it does not know.
QGIS_PROCESS = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
qgis = pytest.mark.skipif(QGIS_PROCESS is None or os.name == "nt", reason="QGIS is not installed")


@pytest.fixture
def around(tmp_path: Path, executable: Path) -> dict[str, str]:
    """Return an environment for QGIS, with a profile of its own."""
    given = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "GEOCD"))}
    (tmp_path / "profile").mkdir()
    (tmp_path / "run").mkdir(mode=0o700)
    return given | {
        # QGIS asks the first python3 of the path where Python is: it must not be that of an environment.
        "PATH": os.pathsep.join([str(Path(QGIS_PROCESS or "").parent), os.defpath]),
        "QT_QPA_PLATFORM": "offscreen",
        "QGIS_PLUGINPATH": str(PLUGIN.parent),
        "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path / "profile"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GEOCD_EXECUTABLE": str(executable),
    }


def qgis_process(around: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    assert QGIS_PROCESS is not None
    return subprocess.run(
        [QGIS_PROCESS, *arguments],
        env=around,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )


@qgis
def test_qgis_process(around: dict[str, str], pair: tuple[Path, Path], tmp_path: Path) -> None:
    enabled = qgis_process(around, "plugins", "enable", "geocd")
    assert enabled.returncode == 0, enabled.stderr
    listed = qgis_process(around, "list").stdout
    assert {line.split()[0] for line in listed.splitlines() if "geocd:" in line} == {
        "geocd:check",
        "geocd:detect",
        "geocd:polygonize",
    }
    files = [f"BEFORE={pair[0]}", f"AFTER={pair[1]}"]
    out = tmp_path / "out"
    out.mkdir()
    prob = out / "a_prob.tif"
    done = qgis_process(
        around, "run", "geocd:detect", "--", *files, "METHOD=cva", "EXTRA=--tile-size 100 --overlap 20",
        f"OUTPUT={prob}", f"CHANGES={out / 'a_changes.gpkg'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20tiles (16)" in done.stdout, "progress"
    assert "of the valid area changed" in done.stdout
    names = ["a_changes.gpkg", "a_changes.qml", "a_prob.qml", "a_prob.tif"]
    assert sorted(path.name for path in out.iterdir()) == names

    counts = {}
    for name, outlines in (("b.gpkg", []), ("c.shp", ["FILL_HOLES=900", "SIMPLIFY=15", "SMOOTH=1"])):
        done = qgis_process(
            around, "run", "geocd:polygonize", "--", f"PROB={prob}", "THRESHOLD=0.9", *outlines,
            "NO_BANDS=true", f"OUTPUT={out / name}",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        frame = geopandas.read_file(out / name)
        assert not any(column.startswith(("before_", "b_")) for column in frame.columns)
        counts[name] = len(frame), shapely.get_num_coordinates(frame.geometry).sum()
    assert (out / "b.qml").read_bytes() == (out / "c.qml").read_bytes()
    assert counts["b.gpkg"][0] == counts["c.shp"][0] > 0
    assert counts["b.gpkg"][1] != counts["c.shp"][1], "the outlines are others"

    done = qgis_process(
        around, "run", "geocd:detect", "--", *files, f"OUTPUT={prob}", f"CHANGES={out / 'd.shp'}"
    )
    assert done.returncode != 0
    assert "a run writes its polygons as .gpkg" in done.stderr + done.stdout

    done = qgis_process(around, "run", "geocd:check", "--", *files, f"OUTPUT={out / 'check.html'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "USABLE:\ttrue" in done.stdout
    assert "correlation" in (out / "check.html").read_text()

    gone = around | {"GEOCD_EXECUTABLE": str(tmp_path / "gone")}
    done = qgis_process(gone, "run", "geocd:detect", "--", *files, f"OUTPUT={out / 'c_prob.tif'}")
    assert done.returncode != 0
    assert "GEOCD_EXECUTABLE says" in done.stderr + done.stdout


DRIVER = """
import json, os, sys
sys.path[:0] = [path for path in ("/usr/share/qgis/python/plugins",) if os.path.isdir(path)]
from qgis.core import QgsApplication, QgsProcessingException, QgsProcessingFeedback
from qgis.core import QgsProject, QgsRasterLayer
application = QgsApplication([], False)
application.initQgis()
import processing
from processing.core.Processing import Processing
Processing.initialize()
sys.path.insert(0, os.environ["QGIS_PLUGINPATH"])
import geocd
plugin = geocd.classFactory(None)
plugin.initProcessing()
project = QgsProject.instance()
feedback = QgsProcessingFeedback()
told = {"percents": []}
feedback.progressChanged.connect(told["percents"].append)
def layer(path, name, provider="gdal"):
    made = QgsRasterLayer(path, name, provider)
    project.addMapLayer(made)
    return made
def run(**parameters):
    try:
        told["results"] = processing.runAndLoadResults("geocd:detect", parameters, feedback=feedback)
    except QgsProcessingException as error:
        told["error"] = str(error)
before, after, out = sys.argv[1:4]
"""
END = """
told["layers"] = [[n.name(), n.layer().renderer().type()] for n in project.layerTreeRoot().children()]
told["log"] = feedback.textLog()
print("TOLD" + json.dumps(told))
sys.stdout.flush()
os._exit(0)  # QGIS tends to crash while Python takes it apart
"""


def drive(around: dict[str, str], code: str, *arguments: object) -> dict[str, Any]:
    """Run code in the Python that has QGIS's bindings."""
    for python in ("/usr/bin/python3", shutil.which("python3") or "python3"):
        trial = [python, "-c", "import qgis.core"]
        if not subprocess.run(trial, env=around, capture_output=True, check=False).returncode:
            break
    else:
        pytest.skip("no Python has QGIS's bindings")
    done = subprocess.run(
        [python, "-c", DRIVER + textwrap.dedent(code) + END, *map(str, arguments)],
        env=around,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )
    told = [line for line in done.stdout.splitlines() if line.startswith("TOLD")]
    assert told, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(told[0].removeprefix("TOLD"))
    return found


@qgis
@pytest.mark.parametrize(("prob", "changes"), [("a_prob.tif", "a_changes.gpkg"), ("a.tif", "z.gpkg")])
def test_results_are_loaded_with_their_styles(
    around: dict[str, str], pair: tuple[Path, Path], tmp_path: Path, prob: str, changes: str
) -> None:
    told = drive(
        around,
        f"""
        layer(before, "one"), layer(after, "two")
        run(BEFORE="one", AFTER="two", METHOD="cva", OUTPUT=out + "/{prob}", CHANGES=out + "/{changes}")
        """,
        *pair,
        tmp_path,
    )
    assert told["layers"] == [
        ["Changes", "graduatedSymbol"],
        ["Change probability", "singlebandpseudocolor"],
        ["two", "multibandcolor"],
        ["one", "multibandcolor"],
    ]
    assert told["percents"] == sorted(told["percents"])
    assert 100 in told["percents"]


@qgis
def test_one_style_fits_the_formats(around: dict[str, str], make_pair: MakePair, tmp_path: Path) -> None:
    """QGIS takes the same .qml for the GeoPackage and the shapefile, whose columns have shorter names."""
    prob = np.zeros((1, 60, 60), np.float32)
    prob[:, 20:30, 20:40] = 0.75
    raster, _ = make_pair(prob, prob)
    for name in ("a.gpkg", "a.shp", "a.fgb"):
        polygonize(raster, tmp_path / name, threshold=0.5, date_before="2015-07-01", style=style("changes"))
    told = drive(
        around,
        """
        from qgis.core import QgsExpression, QgsExpressionContext, QgsExpressionContextUtils, QgsVectorLayer
        told["tips"] = []
        for name in ("a.gpkg", "a.shp", "a.fgb"):
            made = QgsVectorLayer(out + "/" + name, name, "ogr")
            assert made.loadDefaultStyle()[1]
            scope = QgsExpressionContextUtils.globalProjectLayerScopes(made)
            context = QgsExpressionContext(scope)
            context.setFeature(next(made.getFeatures()))
            text = QgsExpression.replaceExpressionText(made.mapTipTemplate(), context)
            told["tips"].append([made.renderer().type(), text])
        """,
        "",
        "",
        tmp_path,
    )
    assert [kind for kind, _ in told["tips"]] == ["graduatedSymbol"] * 3
    for _, text in told["tips"]:
        assert "probability 0.75 (0.75 to 0.75)" in text
        assert "200 pixels<br/>2015-07-01 to ?" in text


@qgis
def test_cancelled_in_qgis(around: dict[str, str], pair: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    told = drive(
        around,
        """
        feedback.progressChanged.connect(lambda percent: percent > 20 and feedback.cancel())
        run(BEFORE=before, AFTER=after, METHOD="cva", EXTRA="--tile-size 40 --overlap 30 -j 1",
            OUTPUT=out + "/a_prob.tif")
        """,
        *pair,
        out,
    )
    assert told["error"] == (
        "Cancelled: geocd was stopped. Finished tiles are kept: run it again with "
        "'Go on with a cancelled run of the same outputs'."
    )
    assert "tiles are kept" in told["log"]
    assert told["percents"][-1] < 90
    assert told["layers"] == []
    assert [path.name for path in out.iterdir()] == [".a_prob.tif.qgis.geocd"]


@qgis
def test_cancelled_with_a_temporary_output(around: dict[str, str], pair: tuple[Path, Path]) -> None:
    told = drive(
        around,
        """
        feedback.progressChanged.connect(lambda percent: percent > 20 and feedback.cancel())
        run(BEFORE=before, AFTER=after, METHOD="cva", EXTRA="--tile-size 60 --overlap 40 -j 1",
            OUTPUT="TEMPORARY_OUTPUT")
        """,
        *pair,
        "",
    )
    assert "choose a file for the output, not a temporary one" in told["error"]


@qgis
def test_layers_that_are_no_files_are_refused(
    around: dict[str, str], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    told = drive(
        around,
        """
        uri = "type=xyz&url=file:///nowhere/{z}/{x}/{y}.png&zmax=3&zmin=0"
        run(BEFORE=layer(uri, "tiles", "wms"), AFTER=after, METHOD="cva", OUTPUT=out + "/a_prob.tif")
        """,
        *pair,
        tmp_path,
    )
    assert "tiles: comes from the provider 'wms', not from a file. Save it as a GeoTIFF" in told["error"]
