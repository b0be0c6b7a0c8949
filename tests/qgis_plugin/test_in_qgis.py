"""The plugin in QGIS, where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from conftest import PLUGIN, MakePair

from geocd.report.styles import style
from geocd.vectorize.polygons import polygonize

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
        "geocd:estimate",
        "geocd:polygonize",
        "geocd:refine",
        "geocd:sample",
        "geocd:series",
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

    done = qgis_process(
        around, "run", "geocd:sample", "--", f"PROB={prob}", "SIZE=20", f"OUTPUT={out / 'points.gpkg'}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    points = geopandas.read_file(out / "points.gpkg")
    points["verdict"] = np.where(points.map_class == "changed", "yes", "no")
    points.to_file(out / "points.gpkg", layer="sample")
    sample = f"SAMPLE={out / 'points.gpkg'}"
    done = qgis_process(
        around, "run", "geocd:estimate", "--", sample, f"CSV={out / 'areas.csv'}", f"OUTPUT={out / 'e.html'}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "points judged" in done.stdout
    assert "changed" in (out / "areas.csv").read_text()
    assert "points judged" in (out / "e.html").read_text()
    done = qgis_process(around, "run", "geocd:estimate", "--", sample, f"OUTPUT={out}")
    assert done.returncode != 0
    assert "out: cannot be written (Is a directory)" in done.stderr + done.stdout

    judged = geopandas.read_file(out / "a_changes.gpkg")
    judged["verdict"] = "yes"
    judged.to_file(out / "a_changes.gpkg", layer="changes")
    ranked = out / "ranked.gpkg"
    done = qgis_process(
        around, "run", "geocd:refine", "--", f"CHANGES={out / 'a_changes.gpkg'}", f"OUTPUT={ranked}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(geopandas.read_file(ranked).relevance) == [1] * len(judged)

    gone = around | {"GEOCD_EXECUTABLE": str(tmp_path / "gone")}
    done = qgis_process(gone, "run", "geocd:detect", "--", *files, f"OUTPUT={out / 'c_prob.tif'}")
    assert done.returncode != 0
    assert "GEOCD_EXECUTABLE names" in done.stderr + done.stdout


@qgis
@pytest.mark.slow
def test_many_dates(around: dict[str, str], pair: tuple[Path, Path], tmp_path: Path) -> None:
    dates = tmp_path / "field"
    dates.mkdir()
    for day, image in (("20240105", pair[0]), ("20240205", pair[1]), ("20240305", pair[1])):
        shutil.copyfile(image, dates / f"{day}.tif")
    with rasterio.open(dates / "20240305.tif", "r+") as later:
        later.write(later.read() + 1)  # the same image twice is no pair
    enabled = qgis_process(around, "plugins", "enable", "geocd")
    assert enabled.returncode == 0, enabled.stderr
    out = tmp_path / "out"
    done = qgis_process(
        around, "run", "geocd:series", "--", f"DATES={dates}", "METHOD=cva", "WORKERS=1", f"OUTPUT={out}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{out}/field_series.tif, {out}/field_series.gpkg" in done.stdout, "they are loaded"
    (row,) = geopandas.read_file(out / "field_series.gpkg").itertuples()
    assert str(row.date_to)[:10] == "2024-02-05"
    done = qgis_process(around, "run", "geocd:series", "--", f"DATES={tmp_path}/none", f"OUTPUT={out}")
    assert done.returncode != 0


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
def tree(node):
    children = node.children()
    return [[n.name(), tree(n) if n.nodeType() == 0 else n.layer().renderer().type()] for n in children]
told["layers"] = tree(project.layerTreeRoot())
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
    images = [["two", "multibandcolor"], ["one", "multibandcolor"]]
    results = [["Changes", "RuleRenderer"], ["Change probability", "singlebandpseudocolor"]]
    assert told["layers"] == [["one → two", [*results, *images]], *images]
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
    assert [kind for kind, _ in told["tips"]] == ["RuleRenderer"] * 3
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
        run(BEFORE=before, AFTER=after, METHOD="cva", EXTRA="--tile-size 40 --overlap 33 -j 1",
            OUTPUT=out + "/a_prob.tif")
        """,
        *pair,
        out,
    )
    assert told["error"] == (
        "Cancelled: geocd was stopped. Finished tiles are kept: run it again with "
        "'Resume a cancelled run of the same outputs'."
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
        run(BEFORE=before, AFTER=after, METHOD="cva", EXTRA="--tile-size 60 --overlap 53 -j 1",
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


@qgis
def test_the_dialog_proposes_the_dates_and_opens_the_manual(
    around: dict[str, str], pair: tuple[Path, Path]
) -> None:
    told = drive(
        around,
        """
        from qgis.core import QgsApplication
        layer(after, "scene 2018-07-02"), layer(before, "scene 2015-06-01")
        algorithm = QgsApplication.processingRegistry().createAlgorithmById("geocd:detect")
        told["proposed"] = [
            project.mapLayer(algorithm.parameterDefinition(name).defaultValue()).name()
            for name in ("BEFORE", "AFTER")
        ]
        told["help"] = algorithm.helpUrl()
        context = processing.tools.dataobjects.createContext()
        same = project.mapLayersByName("scene 2018-07-02")[0]
        told["same"] = algorithm.checkParameterValues(
            {"BEFORE": same, "AFTER": same, "OUTPUT": "TEMPORARY_OUTPUT"}, context
        )
        """,
        *pair,
        "",
    )
    assert told["proposed"] == ["scene 2015-06-01", "scene 2018-07-02"]
    assert told["help"].startswith("file:///")
    assert told["same"][0] is False
    assert "are the same image" in told["same"][1]


@qgis
def test_verdicts_are_given_in_a_form_with_names_units_and_rounded_values(
    around: dict[str, str], make_pair: MakePair, tmp_path: Path
) -> None:
    prob = np.zeros((1, 60, 60), np.float32)
    prob[:, 20:30, 20:40] = 0.756789
    raster, _ = make_pair(prob, prob)
    polygonize(raster, tmp_path / "a.gpkg", threshold=0.5, style=style("changes"))
    told = drive(
        around,
        """
        from qgis.core import QgsFieldFormatterContext, QgsVectorLayer
        made = QgsVectorLayer(out + "/a.gpkg", "a", "ogr")
        assert made.loadDefaultStyle()[1]
        fields, form, feature = made.fields(), made.editFormConfig(), next(made.getFeatures())
        registry = QgsApplication.fieldFormatterRegistry()
        def shown(name):
            index = fields.indexOf(name)
            setup = made.editorWidgetSetup(index)
            formatter = registry.fieldFormatter(setup.type())
            text = formatter.representValue(made, index, setup.config(), None, feature[name])
            return [made.attributeDisplayName(index), text, form.readOnly(index)]
        told["shown"] = {name: shown(name) for name in ("p_mean", "area_m2", "area_ha", "verdict")}
        made.startEditing()
        made.changeAttributeValue(feature.id(), fields.indexOf("verdict"), "yes")
        told["saved"] = made.commitChanges()
        told["hidden"] = [c.name for c in made.attributeTableConfig().columns() if c.hidden]
        told["legend"] = [item.label() for item in made.renderer().legendSymbolItems()]
        """,
        "",
        "",
        tmp_path,
    )
    names = {name: shown[0] for name, shown in told["shown"].items()}
    assert (names["area_m2"], names["area_ha"]) == ("area (m²)", "area (ha)")
    assert told["shown"]["p_mean"][1] == "0.76"
    assert "." not in told["shown"]["area_m2"][1]
    assert [name for name, shown in told["shown"].items() if not shown[2]] == ["verdict"]
    assert "p_q25" in told["hidden"]
    assert {"kind of change", "vegetation lost", "mean probability"} <= set(told["legend"])
    assert told["saved"]
    assert list(geopandas.read_file(tmp_path / "a.gpkg").verdict) == ["yes"]
