"""The result of geocd.detect as polygons, picture and map; and the functions beside it."""

from __future__ import annotations

import inspect
import json
import os
import shutil
from pathlib import Path
from typing import Any

import geopandas
import matplotlib as mpl
import numpy as np
import pytest
import rioxarray
import stub
import xarray as xr
from conftest import MakePair, WriteRaster
from geopandas.testing import assert_geodataframe_equal

import geocd
from geocd.config import STAGES
from geocd.errors import BandError, ConfigError, GridError, OutputError, OutputExistsError, VerdictError

# rioxarray with affine 3
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
Paths = tuple[Path, Path]


@pytest.fixture
def paths(make_pair: MakePair) -> Paths:
    """A pair of named bands in which two squares are new, one large and one small."""
    rng = np.random.default_rng(0)
    before = 1000 + 150 * np.kron(rng.normal(size=(3, 20, 20)), np.ones((6, 6)))
    before = before + rng.normal(0, 20, before.shape)
    after = 1.1 * before + rng.normal(0, 20, before.shape)
    after[:, 30:60, 40:70] = 3000
    after[:, 90:96, 90:96] = 3000
    return make_pair(before.astype(np.uint16), after.astype(np.uint16), names=("red", "green", "nir"))


@pytest.fixture
def result(paths: Paths) -> xr.Dataset:
    return geocd.detect(*paths, method="cva")


def test_the_stub_is_that_of_the_functions() -> None:
    assert stub.STUB.read_text(encoding="utf-8") == stub.stub(), "settings changed: run python tests/stub.py"


@pytest.mark.parametrize(("name", "stages"), [("detect", tuple(STAGES)), ("polygonize", ("polygons",))])
def test_every_setting_is_in_the_signature_and_the_help(name: str, stages: tuple[str, ...]) -> None:
    function = getattr(geocd, name)
    parameters = inspect.signature(function).parameters
    assert not [p for p in parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
    for stage in stages:
        for field in STAGES[stage].__dataclass_fields__.values():
            assert parameters[field.name].default == field.default, field.name
            assert field.name in inspect.getdoc(function), field.name  # type: ignore[operator]


def test_one_call_gives_files_and_result(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as without files, and the polygons of the file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    written = geocd.detect(*paths, "run/", method="cva", min_area=10_000.0)
    plain = geocd.detect(*paths, method="cva", min_area=10_000.0)
    xr.testing.assert_equal(written, plain)
    assert written.rio.crs == plain.rio.crs
    files = json.loads(written.attrs["files"])
    assert files["changes"] == "run/before_after_changes.gpkg"
    frame = written.geocd.polygons()
    on_disk = geopandas.read_file(files["changes"])
    assert len(frame) == len(on_disk) == 1
    dates = ["date_before", "date_after", "verdict"]  # unknown: None in one, NaN in the other
    assert frame[dates].isna().all(axis=None)
    frame, on_disk = frame.drop(columns=dates), on_disk.drop(columns=dates)
    assert_geodataframe_equal(frame, on_disk, check_dtype=False, check_like=True)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        geocd.detect(*paths, "run/", method="cva")
    with pytest.raises(ConfigError, match="lazy: not supported with output"):
        geocd.detect(*paths, "other", lazy=True)


def test_paths_in_the_record_start_from_here(
    paths: Paths, write_raster: WriteRaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of masks and other dates too; in the raster they start from its folder."""
    valid = write_raster("valid", np.ones((120, 120), np.uint8))
    later = Path(shutil.copy(paths[0], valid.with_name("later.tif")))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    written = geocd.detect(*paths, "run/", method="cva", valid=valid, confirm=(str(later),))
    record = json.loads(written.attrs["provenance"])
    for href, path in ((record["valid"], valid), (record["confirm"][0], later)):
        assert (tmp_path / href).resolve() == path.resolve()


def test_polygons_of_a_result_and_of_a_raster_are_the_same(result: xr.Dataset, tmp_path: Path) -> None:
    frame = result.geocd.polygons()
    assert len(frame) == 2
    assert {"before_red", "diff_ndvi", "p_mean"} <= set(frame.columns)
    assert frame.crs == result.rio.crs
    assert frame.n_pixels.sum() == (result.changed == 1).sum()
    larger = geocd.polygonize(result, tmp_path / "large.geojson", min_area=10_000.0, bands=False)
    assert len(larger) == 1
    assert "before_red" not in larger
    assert len(geopandas.read_file(tmp_path / "large.geojson")) == 1
    prob = tmp_path / "prob.tif"
    result.change_probability.rio.to_raster(prob)
    again = geocd.polygonize(prob, threshold=0.5)
    assert_geodataframe_equal(again, geocd.polygonize(result, bands=False), check_like=True)
    with pytest.raises(ConfigError, match=r"does not record the threshold of its run\. Pass threshold"):
        geocd.polygonize(prob)


def test_what_polygons_refuse(result: xr.Dataset, paths: Paths, tmp_path: Path) -> None:
    existing = tmp_path / "there.gpkg"
    existing.write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        geocd.polygonize(result, existing)
    assert existing.read_bytes() == b"mine"
    for name in ("style.qml", "table.dbf"):
        mine = tmp_path / name
        mine.write_bytes(b"mine")
        output = mine.with_suffix({".qml": ".gpkg", ".dbf": ".shp"}[mine.suffix])
        with pytest.raises(OutputExistsError, match=f"{name}: exists already.*overwrite=True"):
            geocd.polygonize(result, output)
        assert mine.read_bytes() == b"mine"
        assert not output.exists()
    with pytest.raises(OutputError, match="would replace an input"):
        geocd.polygonize(paths[0], paths[0], threshold=0.5, overwrite=True)
    with pytest.raises(BandError, match="no change probability"):
        geocd.polygonize(paths[0], threshold=0.5)
    with pytest.raises(ConfigError, match=r"threshold=1\.5: must be above 0"):
        geocd.polygonize(result, threshold=1.5)
    with pytest.raises(ConfigError, match=r"minarea: no such setting\. Those of polygons are: min_area"):
        geocd.polygonize(result, minarea=5)
    with pytest.raises(ConfigError, match=r"pair='before.tif': must be two paths"):
        geocd.polygonize(result, pair="before.tif")
    with pytest.raises(ConfigError, match="no change_probability, but image"):
        geocd.polygonize(xr.Dataset({"image": ((), 1)}))
    with pytest.raises(BandError, match="no change probability"):
        geocd.polygonize(result.changed + 1, threshold=0.5)


def test_a_part_of_a_result_has_no_bands_of_other_places(result: xr.Dataset, paths: Paths) -> None:
    """Its images are on another grid: windows of them would be read elsewhere."""
    part = result.isel(x=slice(30, None))
    frame = part.geocd.polygons()
    assert len(frame) == 2
    assert "before_red" not in frame
    with pytest.raises(GridError, match="grid"):
        part.geocd.polygons(pair=paths)


def test_check_and_evaluate_are_called_as_functions(result: xr.Dataset, paths: Paths, tmp_path: Path) -> None:
    """Also once their modules, which have their names, are imported."""
    from geocd.check import check_pair
    from geocd.evaluate import evaluate_files

    report = geocd.check(*paths, bidx=("red", "nir"))
    assert report.usable
    assert report == check_pair(*paths, indexes=("red", "nir"))
    assert "bidx" in inspect.signature(geocd.check).parameters
    refused = geocd.check(paths[0], paths[0])
    assert "Pass" not in (refused.problem or "")
    truth = result.changed.copy()
    truth.rio.to_raster(tmp_path / "truth.tif")
    prob = tmp_path / "prob.tif"
    result.change_probability.rio.to_raster(prob)
    scores = geocd.evaluate(result, tmp_path / "truth.tif")
    assert scores.f1 == 1
    assert (
        scores == geocd.evaluate(prob, tmp_path / "truth.tif") == evaluate_files(prob, tmp_path / "truth.tif")
    )
    percent = result.change_probability * 100
    with pytest.raises(BandError, match=r"no change probability \(values from 0.* must be 0 to 1"):
        geocd.evaluate(percent, tmp_path / "truth.tif")


def test_a_picture(result: xr.Dataset, paths: Paths) -> None:
    mpl.use("agg")
    axes = result.geocd.plot()
    assert len(axes.images) == 2, "the later image, and the probability over it"
    rgba = np.asarray(axes.images[1].get_array())
    inside, outside = rgba[45, 55], rgba[10, 10]
    assert inside[3] > 150
    assert outside[3] < 60, "the image shows where nothing changed"
    west, east = axes.get_xlim()
    assert (west, east) == pytest.approx((float(result.x[0]) - 5, float(result.x[-1]) + 5))
    assert len(axes.collections) == 1
    del result.attrs["provenance"]
    assert len(result.geocd.plot(polygons=False).images) == 1, "without images, the probability alone"


def test_a_map(paths: Paths, tmp_path: Path) -> None:
    result = geocd.detect(*paths, method="cva")
    result.geocd.explore(tiles=None).save(tmp_path / "map.html")
    assert "p_mean" in (tmp_path / "map.html").read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="column='colour': the polygons have no such column"):
        result.geocd.explore("colour")
    nothing = result.assign(change_probability=result.change_probability * 0)
    with pytest.raises(ConfigError, match="nothing changed"):
        nothing.geocd.explore()


def test_progress_is_a_bar_where_it_is_asked_for(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    geocd.detect(*paths, method="cva")
    assert capsys.readouterr() == ("", "")
    geocd.detect(*paths, method="cva", progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "tiles: 100%" in shown.err


def test_what_is_missing_is_named(paths: Paths, result: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for module in ("tqdm.auto", "matplotlib"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"progress=True: the bar needs tqdm.*geocd\[notebook\]"):
        geocd.detect(*paths, progress=True)
    with pytest.raises(ConfigError, match=r"plot: matplotlib must be installed.*geocd\[notebook\]"):
        result.geocd.plot()


def test_arrays_have_polygons_without_images(paths: Paths) -> None:
    one, two = (rioxarray.open_rasterio(path).drop_vars("spatial_ref").copy() for path in paths)
    for array in (one, two):
        array.encoding.clear()
        array.rio.write_crs("EPSG:32633", inplace=True)
    frame = geocd.detect(one, two, method="cva").geocd.polygons()
    assert len(frame) == 2
    assert "before_red" not in frame
    columns = geocd.polygonize(geocd.detect(one, two, method="cva"), pair=paths).columns
    assert "before_red" in columns


def test_verdicts_rank_the_polygons(paths: Paths, tmp_path: Path) -> None:
    """As on the command line: by the verdicts in the file, and beside it."""
    geocd.detect(*paths, tmp_path / "run", method="cva")
    without = geocd.refine(tmp_path / "run")
    assert list(without.p_mean) == sorted(without.p_mean, reverse=True)
    wanted = int(without.id.iloc[-1])
    (tmp_path / "judged.csv").write_text(f"id,verdict\n{wanted},yes\n", encoding="utf-8")
    ranked = geocd.refine(tmp_path / "run_changes.gpkg", verdicts=tmp_path / "judged.csv")
    assert (ranked.id.iloc[0], ranked.relevance.iloc[0]) == (wanted, 1)
    assert (tmp_path / "run_refined.gpkg").exists()
    with pytest.raises(
        ConfigError, match=r"output='.*run_changes\.gpkg': must be a GeoPackage of another name"
    ):
        geocd.refine(tmp_path / "run", tmp_path / "run_changes.gpkg")
    with pytest.raises(OutputExistsError, match="exists already, and is no model"):
        geocd.refine(tmp_path / "run", save_model=paths[0])
    other = int(without.id.iloc[0])
    (tmp_path / "run_verdicts.csv").write_text(f"id,verdict\n{other},no\n", encoding="utf-8")
    assert list(geocd.refine(tmp_path / "run").relevance) == [1, 0], "as the report has saved them"
    os.utime(tmp_path / "run_verdicts.csv", (1e9, 1e9))
    with pytest.raises(VerdictError, match=r"older than the run, and has ids alone.* pass --verdicts"):
        geocd.refine(tmp_path / "run")
