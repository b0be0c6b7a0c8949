"""``geocd polygonize``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
from commands import OUTPUTS, MakePair, run, scene
from conftest import WriteRaster
from rasterio.transform import Affine
from seasons import seasons, with_object

import geocd


def test_polygonize_repeats_and_changes_what_a_run_wrote(pair: tuple[Path, Path], out: Path) -> None:
    detected = run("detect", *pair, "-o", out / "run", "--method", "cva", "--threshold", 0.4)
    assert detected.exit_code == 0
    again = run("polygonize", out / "run_prob.tif", "-o", out / "again.gpkg")
    assert again.exit_code == 0, again.output
    assert "probability of 0.4 or more" in again.output
    assert (out / "again.gpkg").read_bytes() == (out / "run_changes.gpkg").read_bytes()
    assert (out / "again.qml").read_bytes() == (out / "run_changes.qml").read_bytes()

    first = geopandas.read_file(out / "run_changes.gpkg")
    fewer = run(
        "polygonize", out / "run_prob.tif", "--threshold", 0.9, "--min-area", 5000, "-o", out / "fewer.gpkg"
    )
    assert fewer.exit_code == 0
    found = geopandas.read_file(out / "fewer.gpkg")
    assert 0 < found.n_pixels.sum() < first.n_pixels.sum()
    assert found.area_m2.min() >= 5000
    assert found.p_min.min() >= 0.9
    assert found.is_valid.all()


def test_polygonize_makes_quieter_polygons_in_other_formats(pair: tuple[Path, Path], out: Path) -> None:
    run("detect", *pair, "-o", out / "run", "--method", "cva", "--threshold", 0.4)
    quiet = "--fill-holes", 500, "--simplify", 12, "--smooth", 2
    done = run("polygonize", out / "run_prob.tif", *quiet, "-o", out / "quiet.fgb")
    assert done.exit_code == 0, done.output
    assert (out / "quiet.qml").exists()
    raw, found = geopandas.read_file(out / "run_changes.gpkg"), geopandas.read_file(out / "quiet.fgb")
    assert len(found) == len(raw)
    assert found.n_pixels.sum() == raw.n_pixels.sum()
    assert found.is_valid.all()
    assert found.perimeter_m.sum() < raw.perimeter_m.sum()
    # the same when the run itself is told so
    assert (
        run("detect", *pair, "-o", out / "two", "--method", "cva", "--threshold", 0.4, *quiet).exit_code == 0
    )
    same = geopandas.read_file(out / "two_changes.gpkg")
    assert same.area_m2.sum() == pytest.approx(found.area_m2.sum())


def test_polygonize_finds_the_images_or_says_so(
    pair: tuple[Path, Path], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("detect", *pair, "-o", out / "run", "--method", "cva", "--threshold", 0.4, "--bidx", "1,3")
    first = geopandas.read_file(out / "run_changes.gpkg")
    assert [name for name in first.columns if name.startswith("after_")] != []

    monkeypatch.chdir(out.parent)  # the provenance counts from the folder of the raster
    again = run("polygonize", out / "run_prob.tif", "-o", out / "again.gpkg")
    assert "note" not in again.output
    assert (out / "again.gpkg").read_bytes() == (out / "run_changes.gpkg").read_bytes()

    without = run("polygonize", out / "run_prob.tif", "-o", out / "without.gpkg", "--no-bands")
    assert "note" not in without.output
    assert not any(name.startswith("after_") for name in geopandas.read_file(out / "without.gpkg").columns)

    moved = out.parent / "elsewhere"
    moved.mkdir()
    files = [Path(shutil.move(path, moved)) for path in pair]
    missing = run("polygonize", out / "run_prob.tif", "-o", out / "missing.gpkg")
    assert missing.exit_code == 0
    assert "note: no columns of bands" in missing.output
    assert "no such file" in missing.output
    assert "--pair" in missing.output
    assert (out / "missing.gpkg").read_bytes() == (out / "without.gpkg").read_bytes()
    quiet = run("-q", "polygonize", out / "run_prob.tif", "-o", out / "missing.gpkg", "--overwrite")
    assert quiet.output == ""

    told = run("polygonize", out / "run_prob.tif", "-o", out / "told.gpkg", "--pair", *files)
    assert told.exit_code == 0, told.output
    assert (out / "told.gpkg").read_bytes() == (out / "run_changes.gpkg").read_bytes()
    wrong = run("polygonize", out / "run_prob.tif", "-o", out / "wrong.gpkg", "--pair", *pair)
    assert wrong.exit_code == 1
    assert "no such file" in wrong.output
    both = run("polygonize", out / "run_prob.tif", "-o", out / "x.gpkg", "--no-bands", "--pair", *files)
    assert both.exit_code == 2


def test_polygonize_keeps_what_exists(pair: tuple[Path, Path], out: Path) -> None:
    run("detect", *pair, "-o", out / "run", "--method", "cva")
    before = (out / "run_changes.gpkg").read_bytes()
    refused = run("polygonize", out / "run_prob.tif", "--threshold", 0.9)
    assert refused.exit_code == 1
    assert f"{out / 'run_changes.gpkg'}: exists already" in refused.output
    assert (out / "run_changes.gpkg").read_bytes() == before
    same = run("polygonize", out / "run_prob.tif", "--overwrite")
    assert "note" not in same.output, "report and item still tell of these polygons"
    assert (out / "run_changes.gpkg").read_bytes() == before
    for _ in range(2):
        other = run("polygonize", out / "run_prob.tif", "--threshold", 0.9, "--overwrite")
        assert other.exit_code == 0
        assert "note: run_report.html and run.json beside it, and the quick-look, still show" in other.output
    quiet = run("-q", "polygonize", out / "run_prob.tif", "--threshold", 0.9, "--overwrite")
    assert quiet.output == ""
    elsewhere = run("polygonize", out / "run_prob.tif", "--threshold", 0.9, "-o", out / "fewer.gpkg")
    assert "note" not in elsewhere.output
    for path in out.glob("fewer.*"):
        path.unlink()
    assert (out / "run_changes.gpkg").read_bytes() != before
    assert sorted(path.name for path in out.iterdir()) == OUTPUTS


@pytest.mark.parametrize("name", ["x.gpkg", "x.shp", "x.qml", "x.dbf", "x.cpg", "x.sbn"])
@pytest.mark.parametrize("link", [True, False])
def test_polygonize_replaces_nothing_beside_its_output(
    name: str, link: bool, write_raster: Callable[..., Path], out: Path
) -> None:
    """A style that somebody has made, parts of a shapefile, a link that leads nowhere."""
    path = out / name
    path.symlink_to("nowhere") if link else path.write_text("mine")
    suffix = ".gpkg" if name in ("x.gpkg", "x.qml") else ".shp"
    command = [
        "polygonize",
        write_raster("p", np.float32([[0, 1]])),
        "-o",
        out / f"x{suffix}",
        "--threshold",
        0.5,
    ]
    refused = run(*command)
    assert refused.exit_code == 1
    assert f"{path}: exists already. Pass --overwrite" in refused.output
    assert list(out.iterdir()) == [path]
    assert path.is_symlink() if link else path.read_text() == "mine"
    assert run(*command, "--overwrite").exit_code == 0
    command[3] = out / "x.geojson"
    assert run(*command).exit_code == 0, "the style is the same"


def test_polygonize_says_what_it_cannot_do(pair: tuple[Path, Path], out: Path) -> None:
    """A raster that is no probability, one that knows no threshold, another format, no folder."""
    unknown = run("polygonize", pair[0], "-o", out / "x.gpkg")
    assert unknown.exit_code == 2
    assert "--threshold 0.5" in unknown.output
    image = run("polygonize", pair[0], "--threshold", 0.5, "-o", out / "x.gpkg")
    assert image.exit_code == 1
    assert "is no change probability" in image.output
    run("detect", *pair, "-o", out / "run", "--method", "cva")
    other = run("polygonize", out / "run_prob.tif", "-o", out / "x.kml")
    assert other.exit_code == 2
    assert ".gpkg, .geojson" in other.output
    nowhere = run("polygonize", out / "run_prob.tif", "-o", out / "none" / "x.gpkg")
    assert nowhere.exit_code == 1
    assert "cannot be written" in nowhere.output
    missing = run("polygonize", out / "gone.tif")
    assert missing.exit_code == 1
    assert "no such file" in missing.output
    assert sorted(path.name for path in out.iterdir()) == OUTPUTS


def test_polygonize_reads_the_images_as_an_aligned_run_did(make_pair: MakePair, out: Path) -> None:
    """Warped and moved by the shift that the run has measured, down to the byte."""
    before, after = scene(height=140, width=150)
    moved = Affine(10, 0, 500_013, 0, -10, 4_200_006)
    pair = make_pair(before, after, after_transform=moved, names=("red", "green", "nir"))
    options = "--method", "cva", "--threshold", 0.4, "--align", "shift"
    done = run("detect", *pair, "-o", out / "run", *options)
    assert done.exit_code == 0, done.output
    again = run("polygonize", out / "run_prob.tif", "-o", out / "again.gpkg")
    assert again.exit_code == 0, again.output
    assert "after_nir" in geopandas.read_file(out / "again.gpkg").columns
    assert (out / "again.gpkg").read_bytes() == (out / "run_changes.gpkg").read_bytes()


def test_polygonize_reads_later_dates_again(write_raster: WriteRaster, out: Path) -> None:
    *dates, after, later = seasons(4, bands=3)
    images = [*dates, with_object(after), with_object(later)]
    paths = [write_raster(f"2020010{n}", image) for n, image in enumerate(images, start=1)]
    classes = np.full((1, 128, 128), 4, np.uint8)
    classes[0, :20] = 8
    masks = ["--mask-baseline", "none", "--mask-confirm", write_raster("SCL", classes)]
    options = ["--baseline", paths[0], "--confirm", paths[3], *masks, "--method", "cva", "--threshold", 0.4]
    done = run("detect", *paths[1:3], "-o", out / "run", *options)
    assert done.exit_code == 0, done.output
    again = run("polygonize", out / "run_prob.tif", "-o", out / "again.gpkg")
    assert "note" not in again.output
    assert (out / "again.gpkg").read_bytes() == (out / "run_changes.gpkg").read_bytes()
    largest = geocd.polygonize(out / "run_prob.tif", threshold=0.5).nlargest(1, "n_pixels").iloc[0]
    assert largest.lasting > 0.8
    assert largest.last_seen == "2020-01-04T00:00:00Z"

    paths[3].unlink()
    missing = run("polygonize", out / "run_prob.tif", "-o", out / "missing.gpkg")
    assert missing.exit_code == 0
    assert f"note: no columns of later dates (lasting, last_seen): {paths[3]}: no such file" in missing.output
    columns = set(geopandas.read_file(out / "missing.gpkg").columns)
    assert "after_b1" in columns
    assert "lasting" not in columns
