"""A probability raster against references as people have them: rasters and vector files."""

from __future__ import annotations

import json
import math
import re
import shlex
import warnings

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from click.testing import CliRunner
from rasterio.rio.main import main_group
from rasterio.transform import Affine

from geocd.config import PolygonSettings
from geocd.errors import BandError, ConfigError, GridError, NoValidPixelError, RasterOpenError
from geocd.evaluate import evaluate_files
from geocd.vectorize.polygons import polygonize

TRANSFORM = Affine(10, 0, 500000, 0, -10, 5000000)
PROB = np.array(
    [
        [0.9, 0.8, 0.1, 0.1],
        [0.9, 0.4, 0.1, 0.1],
        [0.1, 0.1, 0.1, np.nan],
        [0.1, 0.1, 0.6, np.nan],
    ],
    dtype=np.float32,
)
TRUTH = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]], dtype=np.uint8)


def write(path, values, *, crs="EPSG:32633", transform=TRANSFORM, tags=None, scale=None, **profile):
    values = np.atleast_3d(values.T).T  # (band, height, width)
    count, height, width = values.shape
    size = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(
        path, "w", **{"driver": "GTiff", **size, "crs": crs, "transform": transform, **profile}
    ) as dataset:
        dataset.write(values)
        dataset.update_tags(**(tags or {}))
        if scale is not None:
            dataset.scales = (scale,)
    return str(path)


@pytest.fixture
def prob(tmp_path):
    tags = {"GEOCD_PROVENANCE": json.dumps({"threshold": 0.7})}
    return write(tmp_path / "prob.tif", PROB, nodata=math.nan, tags=tags)


@pytest.fixture
def polygons():
    """The 2 x 2 pixels of TRUTH, and the two pixels without a probability."""
    return [
        shapely.box(500000, 4999980, 500020, 5000000),
        shapely.box(500030, 4999960, 500040, 4999980),
    ]


def test_raster_reference(tmp_path, prob):
    scores = evaluate_files(prob, write(tmp_path / "truth.tif", TRUTH))
    assert scores.threshold == 0.7  # of the run
    assert scores.n_pixels == 14  # NaN left out
    assert scores.n_changed == 4
    assert scores.recall == 3 / 4
    assert scores.precision == 1
    assert scores.best_f1 == pytest.approx(8 / 9)
    assert scores.objects is not None
    assert scores.objects.as_dict() == {
        "n_reference": 1,
        "n_detected": 1,
        "n_predicted": 1,
        "n_confirmed": 1,
        "detected_share": 1.0,
        "confirmed_share": 1.0,
    }
    json.dumps(scores.as_dict(), allow_nan=False)


def test_threshold_given_and_default(tmp_path, prob):
    truth = write(tmp_path / "truth.tif", TRUTH)
    assert evaluate_files(prob, truth, threshold=0.3).recall == 1
    for number, tags in enumerate(
        ({}, {"GEOCD_PROVENANCE": "{"}, {"GEOCD_PROVENANCE": '{"threshold": "x"}'})
    ):
        other = write(tmp_path / f"other{number}.tif", PROB, nodata=math.nan, tags=tags)
        assert evaluate_files(other, truth).threshold == 0.5
    with pytest.raises(ConfigError, match="threshold is NaN"):
        evaluate_files(prob, truth, threshold=math.nan)


@pytest.mark.parametrize(
    ("dtype", "unknown", "nodata"),
    [
        pytest.param("uint8", 255, None, id="255 by convention"),
        pytest.param("uint8", 7, 7, id="nodata of the file"),
        pytest.param("int16", -1, -1, id="negative nodata"),
        pytest.param("float32", np.nan, None, id="NaN without a nodata value"),
    ],
)
def test_unknown_pixels_are_left_out(tmp_path, prob, dtype, unknown, nodata):
    truth = TRUTH.astype(dtype)
    truth[0, 0] = unknown
    truth[3, 2] = unknown
    scores = evaluate_files(prob, write(tmp_path / "truth.tif", truth, nodata=nodata))
    assert (scores.n_pixels, scores.n_changed) == (12, 3)


def test_byte_probability_with_scale(tmp_path):
    values = np.where(np.isnan(PROB), 255, np.round(PROB * 250)).astype(np.uint8)
    prob = write(tmp_path / "prob.tif", values, nodata=255, scale=1 / 250)
    scores = evaluate_files(prob, write(tmp_path / "truth.tif", TRUTH), threshold=0.35)
    assert (scores.n_pixels, scores.recall) == (14, 1)


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"], ids=["same CRS", "other CRS"])
@pytest.mark.parametrize("name", ["truth.gpkg", "truth.geojson", "truth.shp"])
def test_vector_reference_gives_what_the_raster_gives(tmp_path, prob, polygons, crs, name):
    path = tmp_path / name
    shrunk = [polygon.buffer(-1) for polygon in polygons]  # centres decide, not what is touched
    geopandas.GeoSeries(shrunk, crs="EPSG:32633").to_crs(crs).to_file(path)
    ours = evaluate_files(prob, str(path)).as_dict()
    theirs = evaluate_files(prob, write(tmp_path / "truth.tif", TRUTH)).as_dict()
    assert ours == theirs


def test_layer_of_changes_is_chosen_among_several(tmp_path, prob, polygons):
    path = tmp_path / "truth.gpkg"
    geopandas.GeoSeries(polygons, crs="EPSG:32633").to_file(path, layer="changes")
    geopandas.GeoSeries([shapely.box(0, 0, 1, 1)], crs="EPSG:32633").to_file(path, layer="other")
    assert evaluate_files(prob, path).n_changed == 4


def test_vector_without_polygons_says_nothing_changed(tmp_path, prob):
    path = tmp_path / "truth.geojson"
    path.write_text('{"type": "FeatureCollection", "features": []}')
    scores = evaluate_files(prob, path)
    assert (scores.n_pixels, scores.n_changed) == (14, 0)
    assert math.isnan(scores.auc)
    assert scores.as_dict()["auc"] is None


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        pytest.param(lambda p: p, RasterOpenError, "no such file", id="missing"),
        pytest.param(
            lambda p: p.write_text("not a map"), RasterOpenError, "neither a raster nor a vector", id="text"
        ),
        pytest.param(lambda p: p.mkdir(), RasterOpenError, "is a folder", id="folder"),
        pytest.param(
            lambda p: write(p, TRUTH * 2), BandError, "has the value 2 .*rio calc", id="other value"
        ),
        pytest.param(
            lambda p: write(p, TRUTH * 255),
            BandError,
            "value 255 but not 1.*rio calc",
            id="0 and 255",
        ),
        pytest.param(
            lambda p: write(p, TRUTH, transform=TRANSFORM @ Affine.translation(1, 0)),
            GridError,
            "different transforms",
            id="shifted",
        ),
        pytest.param(lambda p: write(p, TRUTH[:3]), GridError, "different sizes", id="smaller"),
        pytest.param(lambda p: write(p, TRUTH, crs=None), GridError, "no coordinate reference", id="no CRS"),
        pytest.param(
            lambda p: write(p, np.full_like(TRUTH, 255), nodata=255),
            NoValidPixelError,
            "no pixel has both",
            id="nothing known",
        ),
    ],
)
def test_bad_reference(tmp_path, prob, make, error, match):
    path = tmp_path / "truth.tif"
    make(path)
    with pytest.raises(error, match=match) as caught:
        evaluate_files(prob, str(path))
    assert str(path) in str(caught.value)


def test_nothing_changed_and_rest_declared_unknown_is_a_reference(tmp_path, prob):
    truth = np.zeros_like(TRUTH)
    truth[0] = 255
    assert evaluate_files(prob, write(tmp_path / "t.tif", truth, nodata=255)).n_pixels == 10


def test_bad_vectors(tmp_path, prob, polygons):
    path = tmp_path / "truth.shp"
    geopandas.GeoSeries(polygons, crs="EPSG:32633").to_file(path)
    path.with_suffix(".prj").unlink()
    with pytest.raises(GridError, match="polygons have no coordinate reference system"):
        evaluate_files(prob, path)
    path = tmp_path / "two.gpkg"
    for layer in ("one", "two"):
        geopandas.GeoSeries(polygons, crs="EPSG:32633").to_file(path, layer=layer)
    with pytest.raises(ConfigError, match=r"2 layers of polygons \(one, two\)"):
        evaluate_files(prob, path)
    path = tmp_path / "points.gpkg"
    geopandas.GeoSeries([shapely.Point(500005, 4999995)], crs="EPSG:32633").to_file(path)
    with pytest.raises(ConfigError, match="Point geometries"):
        evaluate_files(prob, path)


def test_reference_in_place_of_the_probability(tmp_path, prob):
    swapped = write(tmp_path / "truth.tif", TRUTH * 7)
    with pytest.raises(BandError, match=r"no change probability \(values from 0 to 7"):
        evaluate_files(swapped, prob)


def test_many_windows(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.random((2100, 5), dtype=np.float32)
    truth = (values > 0.5).astype(np.uint8)
    scores = evaluate_files(
        write(tmp_path / "p.tif", values), write(tmp_path / "t.tif", truth), threshold=0.5
    )
    assert (scores.auc, scores.best_f1, scores.n_pixels) == (1, 1, values.size)


@pytest.mark.parametrize("west", [179.96, -180.04], ids=["beyond 180", "below -180"])
@pytest.mark.parametrize("suffix", [".geojson", ".gpkg"])
def test_a_raster_across_180_degrees_agrees_with_its_own_polygons(west, suffix, tmp_path, write_raster):
    """GeoJSON has longitudes of -180 to 180, and is cut there; the raster goes on."""
    values = np.zeros((1, 40, 80), np.float32)
    values[0, 5:20, 10:70] = values[0, 25:35, 50:75] = 0.9
    path = write_raster("prob", values, crs="EPSG:4326", transform=Affine(1e-3, 0, west, 0, -1e-3, 50))
    settings = PolygonSettings(min_area=0, simplify=0)
    polygonize(path, tmp_path / f"own{suffix}", threshold=0.5, settings=settings)
    scores = evaluate_files(path, tmp_path / f"own{suffix}", threshold=0.5)
    assert (scores.precision, scores.recall) == (1, 1)


def test_polygons_in_a_projection_do_not_run_around_the_globe(tmp_path, write_raster):
    values = np.zeros((1, 40, 80), np.float32)
    values[0, 5:20, 10:70] = 0.9
    path = write_raster("prob", values, crs="EPSG:4326", transform=Affine(1e-3, 0, 179.96, 0, -1e-3, 50))
    area = geopandas.GeoSeries([shapely.box(179.97, 49.98, 180.03, 49.995)], crs="EPSG:4326")
    area.segmentize(1e-3).to_crs("EPSG:32601").to_file(tmp_path / "a.gpkg")
    scores = evaluate_files(path, tmp_path / "a.gpkg", threshold=0.5)
    assert (scores.precision, scores.recall) == (1, 1)


SQUARE = np.zeros((64, 64), np.uint8)
SQUARE[10:30, 8:40] = 1


@pytest.fixture
def large_prob(tmp_path):
    """A probability for SQUARE that is right in all but two rows."""
    values = np.where(SQUARE == 1, np.float32(0.9), np.float32(0.1))
    values[28:30] = 0.2
    return write(tmp_path / "large_prob.tif", values, nodata=math.nan)


def alpha_of(values, hole):
    return np.stack([values, np.where(hole, 0, 255)]).astype(np.uint8)


HOLE = np.zeros(SQUARE.shape, bool)
HOLE[50:, 50:] = True
JPEG = {"driver": "JPEG", "QUALITY": 75}


@pytest.mark.parametrize(
    ("values", "profile", "match", "n_unknown"),
    [
        pytest.param(SQUARE, {"nodata": 0}, "none is 0, and 3456 are nodata", 0, id="background nodata 0"),
        pytest.param(np.where(SQUARE, 1, 255), {"nodata": 255}, "none is 0", 0, id="background nodata 255"),
        pytest.param(np.where(SQUARE, 1, np.nan), {"nodata": math.nan}, "none is 0", 0, id="background NaN"),
        pytest.param(np.where(SQUARE, 1, 255), {}, "none is 0, and 3456", 0, id="background 255"),
        pytest.param(SQUARE * 255, {"nodata": 0}, "255 but not 1", 0, id="0 and 255, 0 is nodata"),
        pytest.param(SQUARE * 255, {}, "255 but not 1", 0, id="0 and 255"),
        pytest.param(SQUARE + 1, {}, "the value 2 .all values: 1, 2.", 0, id="1 and 2"),
        pytest.param(SQUARE * 2 + np.where(HOLE, 255, 0), {}, "values: 0, 2, 255", 196, id="2, 255 unknown"),
        pytest.param(np.where(HOLE, 7, SQUARE * 2), {"nodata": 7}, "all values: 0, 2", 196, id="2, nodata 7"),
        pytest.param(
            np.where(HOLE, np.nan, SQUARE * 2.0), {"nodata": math.nan}, "all values: 0, 2", 196, id="2, NaN"
        ),
        pytest.param(alpha_of(SQUARE * 2, HOLE), {"ALPHA": "YES"}, "all values: 0, 2", 196, id="2, alpha"),
        pytest.param(SQUARE * 255, JPEG, "lossy compression", 0, id="JPEG of 0 and 255"),
        pytest.param(
            SQUARE * 255,
            {"compress": "jpeg", "JPEG_QUALITY": 75, "tiled": True, "blockxsize": 64, "blockysize": 64},
            "lossy compression|255 but not 1",
            0,
            id="JPEG in TIFF",
        ),
    ],
)
def test_the_command_of_a_refusal_writes_a_right_reference(
    tmp_path, large_prob, monkeypatch, values, profile, match, n_unknown
):
    dtype = np.float32 if np.asarray(values).dtype.kind == "f" else np.uint8
    path = write(tmp_path / "truth.tif", values.astype(dtype), **profile)
    with pytest.raises(BandError, match=match) as caught:
        evaluate_files(large_prob, path)
    run_command(str(caught.value), tmp_path, monkeypatch)
    scores = evaluate_files(large_prob, tmp_path / "reference.tif")
    assert (scores.n_pixels, scores.n_changed) == (64 * 64 - n_unknown, 640)
    assert (scores.precision, scores.recall) == (1, 0.9)


def test_255_without_a_1_is_declared_unknown_as_the_message_says(tmp_path, large_prob, monkeypatch):
    values = np.where(HOLE, 7, np.where(SQUARE == 1, 255, 0)).astype(np.uint8)
    path = write(tmp_path / "truth.tif", values, nodata=7)
    with pytest.raises(BandError, match="If it means unknown, declare it") as caught:
        evaluate_files(large_prob, path)
    run_command(str(caught.value).partition("unknown, declare")[2], tmp_path, monkeypatch)
    assert evaluate_files(large_prob, tmp_path / "reference.tif").n_pixels == 64 * 64 - 640 - 196


def run_command(message, folder, monkeypatch):
    """Run the first rio command of a message as a shell would."""
    monkeypatch.chdir(folder)
    command = re.search(r"rio (calc .*? reference\.tif|stack .* band1\.tif|warp .*)", message)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pyparsing and affine, within rasterio
        result = CliRunner().invoke(main_group, shlex.split(command))
    assert result.exit_code == 0, (command, result.output, result.exception)


@pytest.mark.parametrize(
    ("factor", "nodata", "n_changed"),
    [(1, None, 640), (1, 7, 640), (255, None, 640)],
    ids=["0 and 1", "nodata", "0 and 255"],
)
def test_a_reference_warped_as_the_message_says_is_unknown_outside(
    tmp_path, large_prob, monkeypatch, factor, nodata, n_changed
):
    """By default rio fills what lies outside with 0, which means unchanged."""
    cut = (SQUARE * factor)[5:45, :50]
    path = write(tmp_path / "cut.tif", cut, transform=TRANSFORM @ Affine.translation(0, 5), nodata=nodata)
    with pytest.raises(GridError, match="Warp the reference onto") as caught:
        evaluate_files(large_prob, path)
    run_command(str(caught.value), tmp_path, monkeypatch)
    warped = str(tmp_path / "warped.tif")
    if factor == 255:
        with pytest.raises(BandError, match="255") as caught:
            evaluate_files(large_prob, warped)
        run_command(str(caught.value), tmp_path, monkeypatch)
        warped = str(tmp_path / "reference.tif")
    scores = evaluate_files(large_prob, warped)
    assert (scores.n_pixels, scores.n_changed, scores.recall) == (cut.size, n_changed, 0.9)


def test_bands_that_differ_are_no_reference(tmp_path, large_prob, monkeypatch):
    """Labels drawn in red: only the red band would be read."""
    drawn = np.stack([SQUARE, SQUARE * 0, SQUARE * 0])
    path = write(tmp_path / "drawn.tif", drawn, photometric="RGB")
    with pytest.raises(BandError, match=r"3 bands that differ .bands 1 and 2 in row 10, column 8") as caught:
        evaluate_files(large_prob, path)
    run_command(str(caught.value), tmp_path, monkeypatch)
    assert evaluate_files(large_prob, tmp_path / "band1.tif").recall == 0.9
    grey = write(tmp_path / "grey.tif", np.stack([SQUARE] * 3), photometric="RGB")
    assert evaluate_files(large_prob, grey).recall == 0.9


def test_of_a_collection_only_the_polygons_are_changed(tmp_path, prob, polygons):
    """make_valid gives collections; their lines would be burnt into pixels they cross."""
    line = shapely.LineString([(500000, 4999995), (500040, 4999995)])
    inner = shapely.GeometryCollection([shapely.MultiPolygon(polygons), line])
    path = tmp_path / "truth.gpkg"
    collection = shapely.GeometryCollection([line, shapely.Point(500025, 4999975), inner])
    geopandas.GeoSeries([collection], crs="EPSG:32633").to_file(path)
    expected = evaluate_files(prob, write(tmp_path / "truth.tif", TRUTH))
    assert evaluate_files(prob, path).as_dict() == expected.as_dict()
    path = tmp_path / "lines.gpkg"
    geopandas.GeoSeries([shapely.GeometryCollection([line])], crs="EPSG:32633").to_file(path)
    with pytest.raises(ConfigError, match="geometries, and a reference needs polygons"):
        evaluate_files(prob, path)
