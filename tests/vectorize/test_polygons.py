"""Polygons: of a raster that is read in strips, as a layer with all its columns, reproducible."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pyogrio
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine

from geocd.config import PolygonSettings
from geocd.errors import BandError, ConfigError, GridError, OutputError, RasterOpenError, RasterReadError
from geocd.raster import writer
from geocd.raster.grid import Grid
from geocd.vectorize import polygons, regions
from geocd.vectorize.formats import LAYER
from geocd.vectorize.polygons import COLUMNS, polygonize

UTM = CRS.from_epsg(32633)
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_200_000)


def save(
    path: Path, prob: npt.NDArray[Any], *, crs: Any = UTM, transform: Affine = NORTH_UP, **kw: Any
) -> Path:
    options: dict[str, Any] = {"dtype": prob.dtype, "nodata": np.nan, "tiled": True, **kw}
    if not np.issubdtype(np.dtype(options["dtype"]), np.floating) and np.isnan(options["nodata"]):
        options["nodata"] = None
    height, width = prob.shape
    size = {"height": height, "width": width, "count": 1, "blockxsize": 16, "blockysize": 16}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **size, **options) as dataset:
        dataset.write(prob, 1)
    return path


def picture(tmp_path: Path, **kw: Any) -> Path:
    """Two changes (6 and 1 pixels), two invalid pixels, on a 4 x 5 grid."""
    prob = np.zeros((4, 5), "f4")
    prob[0:2, 0:3] = [[0.5, 0.6, 0.7], [0.8, 0.9, 1.0]]
    prob[3, 4] = 0.75
    prob[2, 0:2] = np.nan
    return save(tmp_path / "a_prob.tif", prob, **kw)


def test_layer(tmp_path: Path) -> None:
    out = tmp_path / "a_changes.gpkg"
    summary = polygonize(
        picture(tmp_path), out, threshold=0.5, date_before="2019-05-01", date_after="2020-05-01"
    )
    assert (summary.count, summary.n_pixels, summary.changed_share) == (2, 7, 7 / 18)
    assert pyogrio.list_layers(out).tolist() == [[LAYER, "Polygon"]]
    frame = geopandas.read_file(out)  # warnings are errors here
    assert tuple(frame.columns) == (*COLUMNS, "geometry")
    assert frame.crs == "EPSG:32633"
    assert frame["n_pixels"].tolist() == [6, 1]
    assert frame["date_before"].tolist() == ["2019-05-01"] * 2
    assert frame["date_after"].tolist() == ["2020-05-01"] * 2
    assert frame["p_mean"].tolist() == pytest.approx([0.75, 0.75])
    assert summary.area_m2 == pytest.approx(700, rel=2e-3)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_unknown_dates_are_null(tmp_path: Path) -> None:
    polygonize(picture(tmp_path), tmp_path / "o.gpkg", threshold=0.5)
    assert geopandas.read_file(tmp_path / "o.gpkg")[["date_before", "date_after"]].isna().all(axis=None)


def test_at_the_threshold_is_changed(tmp_path: Path) -> None:
    # 0.7 is stored as a float32 a little off; the user's 0.7 means that one.
    assert polygonize(picture(tmp_path), tmp_path / "o.gpkg", threshold=0.7).n_pixels == 5


def test_small_polygons_are_dropped(tmp_path: Path) -> None:
    summary = polygonize(
        picture(tmp_path), tmp_path / "o.gpkg", threshold=0.5, settings=PolygonSettings(min_area=150)
    )
    assert (summary.count, summary.n_pixels) == (1, 6)
    assert geopandas.read_file(tmp_path / "o.gpkg")["id"].tolist() == [1]


@pytest.mark.parametrize("case", ["nothing changed", "nothing valid", "all too small"])
def test_no_polygon_is_a_layer_with_all_columns(tmp_path: Path, case: str) -> None:
    value = np.nan if case == "nothing valid" else 0.9 if case == "all too small" else 0.1
    prob = save(tmp_path / "p.tif", np.full((20, 20), value, "f4"))
    out = tmp_path / "o.gpkg"
    summary = polygonize(prob, out, threshold=0.5, settings=PolygonSettings(min_area=1e9))
    assert summary == polygons.PolygonSummary(0, 0.0, 0, 0.0)
    frame = geopandas.read_file(out)
    assert tuple(frame.columns) == (*COLUMNS, "geometry")
    assert frame.crs == "EPSG:32633"
    assert len(frame) == 0
    info, full = pyogrio.read_info(out), tmp_path / "full.gpkg"
    polygonize(picture(tmp_path), full, threshold=0.5)
    assert info["geometry_type"] == "Polygon"
    assert info["ogr_types"] == pyogrio.read_info(full)["ogr_types"]


@pytest.mark.parametrize("shape_", [(1, 1), (1, 500), (500, 1), (5, 5)])
def test_odd_sizes(tmp_path: Path, shape_: tuple[int, int]) -> None:
    summary = polygonize(save(tmp_path / "p.tif", np.ones(shape_, "f4")), tmp_path / "o.gpkg", threshold=0.5)
    assert (summary.count, summary.n_pixels, summary.changed_share) == (1, shape_[0] * shape_[1], 1.0)


def test_files_are_read_in_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prob = np.random.default_rng(2).random((100, 37), dtype=np.float32)
    source = save(tmp_path / "p.tif", prob)
    polygonize(source, tmp_path / "one.gpkg", threshold=0.4)
    for module in (writer, regions):
        monkeypatch.setattr(module, "BLOCK_SIZE", 16)
    monkeypatch.setattr(polygons, "STRIP_PIXELS", 1)
    assert len(list(polygons.strips(Grid(UTM, NORTH_UP, 100, 37)))) == 7
    polygonize(source, tmp_path / "two.gpkg", threshold=0.4)
    assert (tmp_path / "one.gpkg").read_bytes() == (tmp_path / "two.gpkg").read_bytes()


def test_other_kinds_of_not_valid(tmp_path: Path) -> None:
    """A nodata value instead of NaN, in whole numbers."""
    prob = np.array([[1, 1, 255], [0, 255, 255]], "uint8")
    summary = polygonize(save(tmp_path / "p.tif", prob, nodata=255), tmp_path / "o.gpkg", threshold=0.5)
    assert (summary.n_pixels, summary.changed_share) == (2, 2 / 3)


def test_bytes_are_reproducible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2001-01-01T00:00:00.000Z"})
    try:
        prob = picture(tmp_path)
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            polygonize(
                prob, tmp_path / name / "o.gpkg", threshold=0.5, date_after="2020-05-01T10:00:00+02:00"
            )
        assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") == "2001-01-01T00:00:00.000Z"
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    one = (tmp_path / "one" / "o.gpkg").read_bytes()
    assert one == (tmp_path / "two" / "o.gpkg").read_bytes()
    assert b"2020-05-01T08:00:00.000Z" in one
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    polygonize(prob, tmp_path / "o.gpkg", threshold=0.5, date_after="2020-05-01")
    assert b"1970-01-02T00:00:00.000Z" in (tmp_path / "o.gpkg").read_bytes()
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def test_an_odd_date_is_kept_as_it_is(tmp_path: Path) -> None:
    polygonize(picture(tmp_path), tmp_path / "o.gpkg", threshold=0.5, date_after="spring 2020")
    assert set(geopandas.read_file(tmp_path / "o.gpkg")["date_after"]) == {"spring 2020"}


def test_several_threads_write_at_once(tmp_path: Path) -> None:
    prob = picture(tmp_path)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            polygonize(prob, tmp_path / f"{number}.gpkg", threshold=0.5, date_after=f"20{10 + number}-01-01")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for number in range(4):
        assert f"20{10 + number}-01-01T00:00:00.000Z".encode() in (tmp_path / f"{number}.gpkg").read_bytes()


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    prob, out = picture(tmp_path), tmp_path / "o.gpkg"
    polygonize(prob, out, threshold=0.5)
    polygonize(prob, out, threshold=0.95)
    assert geopandas.read_file(out)["n_pixels"].tolist() == [1]


@pytest.mark.parametrize("threshold", [0, -0.1, 1.1, float("nan")])
def test_threshold_out_of_range(tmp_path: Path, threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"threshold .* is not a probability") as caught:
        polygonize(picture(tmp_path), tmp_path / "o.gpkg", threshold=threshold)
    assert caught.value.details["threshold"] is threshold


def test_a_raster_that_is_no_probability(tmp_path: Path) -> None:
    prob = save(tmp_path / "after.tif", np.full((4, 4), 1200, "uint16"))
    with pytest.raises(BandError, match=r"after\.tif: band 1 is no change probability.*1200"):
        polygonize(prob, tmp_path / "o.gpkg", threshold=0.5)
    assert not (tmp_path / "o.gpkg").exists()


@pytest.mark.parametrize("odd", [-0.0005, 1.0005])
def test_rounding_past_the_ends_is_still_a_probability(tmp_path: Path, odd: float) -> None:
    prob = save(tmp_path / "p.tif", np.array([[odd, 0.6, np.nan]], "f4"))
    assert polygonize(prob, tmp_path / "o.gpkg", threshold=0.5).n_pixels == (2 if odd > 1 else 1)


@pytest.mark.parametrize(("odd", "span"), [(-0.01, (-0.01, 0.6)), (1.25, (0.6, 1.25))])
def test_more_than_rounding_is_not(tmp_path: Path, odd: float, span: tuple[float, float]) -> None:
    prob = save(tmp_path / "p.tif", np.array([[odd, 0.6, np.nan]], "f4"))
    with pytest.raises(BandError, match=rf"from {span[0]} to {span[1]} and") as caught:
        polygonize(prob, tmp_path / "o.gpkg", threshold=0.5)
    assert caught.value.details["path"] == str(prob)
    assert caught.value.details["range"] == pytest.approx(span)


def test_a_raster_that_ends_too_early_is_named(tmp_path: Path) -> None:
    prob = save(tmp_path / "p.tif", np.random.default_rng(0).random((64, 64), np.float32))
    prob.write_bytes(prob.read_bytes()[:4000])
    with pytest.raises((RasterOpenError, RasterReadError), match=r"p\.tif"):
        polygonize(prob, tmp_path / "o.gpkg", threshold=0.5)


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(RasterOpenError, match="no such file"):
        polygonize(tmp_path / "none.tif", tmp_path / "o.gpkg", threshold=0.5)
    prob = save(tmp_path / "p.tif", np.ones((4, 4), "f4"), crs=None)
    with pytest.raises(GridError, match=r"p\.tif: .*no coordinate reference system"):
        polygonize(prob, tmp_path / "o.gpkg", threshold=0.5)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere.*o\.gpkg: cannot be written"):
        polygonize(picture(tmp_path), tmp_path / "nowhere" / "o.gpkg", threshold=0.5)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    prob, folder = picture(tmp_path), tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(OutputError, match=r"o\.gpkg: cannot be written"):
        polygonize(prob, folder / "o.gpkg", threshold=0.5)


FULL = """
import resource, signal, sys
from pathlib import Path
from geocd.errors import OutputError
from geocd.vectorize.polygons import polygonize
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing past the limit fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    polygonize(Path(sys.argv[1]), Path(sys.argv[2]), threshold=0.5)
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
@pytest.mark.parametrize("limit", [0, 20_000, 100_000, 200_000])
def test_full_disk(tmp_path: Path, limit: int) -> None:
    """At every stage: the first page, the tables, the rows, the closing."""
    prob = save(tmp_path / "p.tif", np.random.default_rng(0).random((100, 100), dtype=np.float32))
    out = tmp_path / "results" / "o.gpkg"
    out.parent.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(prob), str(out), str(limit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{out}: cannot be written" in done.stdout
    assert list(out.parent.iterdir()) == []


def test_many_polygons_in_little_time(tmp_path: Path) -> None:
    """A megapixel with thousands of polygons: seconds would show here as tens of them."""
    rng = np.random.default_rng(0)
    prob = np.kron(rng.random((250, 250), dtype=np.float32), np.ones((4, 4), np.float32))
    started = os.times()
    summary = polygonize(save(tmp_path / "p.tif", prob), tmp_path / "o.gpkg", threshold=0.85)
    ended = os.times()
    assert summary.count > 3000
    assert ended.user + ended.system - started.user - started.system < 10
