"""Fixtures: pairs of GeoTIFFs made to measure, and the real pairs where they are at hand."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from hypothesis import Phase, settings
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window
from scipy import ndimage

from geocd.raster.grid import Grid
from geocd.raster.pair import Chip, Pair
from geocd.report.record import RunRecord, Summary
from geocd.scene.registration import Shift
from geocd.types import PixelArray

#: The real pairs lie beside the repository, or where GEOCD_TEST_DATA says.
BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_200_000)

# A busy machine is no failure; and what CI finds must be found again by whoever looks into it.
settings.register_profile("geocd", deadline=None, derandomize="CI" in os.environ)
# Mutants (see [tool.mutmut] in pyproject.toml): one failure is enough, its shortest form is not looked for.
settings.register_profile("mutants", deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
settings.load_profile("geocd")

WriteRaster = Callable[..., Path]
MakePair = Callable[..., tuple[Path, Path]]
Image = npt.NDArray[np.float64]


def ground(seed: int, bands: int = 3, size: int = 300) -> Image:
    """Fields: flat patches with edges, each band with its own values."""
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(0, size, (150, 2))
    rows, cols = np.mgrid[:size, :size]
    nearest = ((rows[..., None] - seeds[:, 0]) ** 2 + (cols[..., None] - seeds[:, 1]) ** 2).argmin(axis=2)
    values = rng.normal(100, 30, (bands, 150))
    return np.stack([ndimage.gaussian_filter(v[nearest], 1) for v in values])


def moved(image: Image, row: float, col: float) -> Image:
    return np.stack([ndimage.shift(band, (row, col), order=3, mode="nearest") for band in image])


def write_raster(
    path: Path,
    values: npt.ArrayLike,
    *,
    crs: str | None = "EPSG:32633",
    transform: Affine = NORTH_UP,
    nodata: float | None = None,
    names: tuple[str, ...] = (),
    colorinterp: tuple[Any, ...] = (),
    mask: npt.NDArray[np.bool_] | None = None,
    tags: dict[str, str] | None = None,
    **profile: Any,
) -> Path:
    """Write ``(bands, height, width)`` or ``(height, width)`` as a GeoTIFF; bytes depend on nothing else.

    ``mask``, True where usable, is written into the file as its internal dataset mask.
    """
    array = np.asarray(values)
    bands = array if array.ndim == 3 else array[None]
    # GDAL would call the fourth band of eight bits alpha unless told otherwise.
    profile.setdefault("photometric", "minisblack")
    profile.setdefault("alpha", "no")
    options = {"GDAL_TIFF_INTERNAL_MASK": True}
    with (
        rasterio.Env(**options),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=bands.shape[0],
            height=bands.shape[1],
            width=bands.shape[2],
            dtype=bands.dtype,
            crs=crs,
            transform=transform,
            nodata=nodata,
            **profile,
        ) as out,
    ):
        if colorinterp:
            out.colorinterp = colorinterp
        out.write(bands)
        for index, name in enumerate(names, 1):
            out.set_band_description(index, name)
        if mask is not None:
            out.write_mask(mask)
        if tags:
            out.update_tags(**tags)
    return path


def whole(pair: Pair) -> Chip:
    return pair.read(pair.grid.window)


def read_pair(paths: tuple[Path, Path], **options: Any) -> Chip:
    with Pair(*paths, **options) as pair:
        return whole(pair)


def chip(before: PixelArray, after: PixelArray, valid: npt.NDArray[np.bool_] | None = None) -> Chip:
    """Return a chip of two images, ``(bands, height, width)``; without ``valid``, all of it is."""
    valid = np.ones(before.shape[1:], bool) if valid is None else valid
    return Chip(before, after, valid, Window(0, 0, before.shape[2], before.shape[1]))


#: The grid of :func:`run_record`.
GRID = Grid(CRS.from_epsg(32633), NORTH_UP, 60, 80)


def run_record(**changes: Any) -> RunRecord:
    """Return the record of a made-up run; ``summary`` holds the changes of its summary."""
    values: dict[str, Any] = {
        "before": "before.tif",
        "after": "after.tif",
        "grid": GRID,
        "band_names": ("red", "nir"),
        "settings": {"tile_size": 256, "bidx": None, "min_area": 0.0, "ignore": [], "threshold": None},
        "method": "deep",
        "preset": "default",
        "threshold": 0.5,
        "seed": 3,
        "timings": {"fit": 0.25},
        "summary": Summary(
            valid_share=1.0,
            changed_share=0.031,
            zero_share={},
            ignored_share={},
            n_polygons=41,
            area_m2=124_000.0,
            seam_score=None,
            shift=Shift(0.02, -0.1, 20.0, 0.1, 9),
        ),
        "date_before": "2015-07-01T00:00:00Z",
        "date_after": "2017-08-20T10:00:00Z",
        "versions": {"geocd": "1"},
        "histogram": [1000, 50, 0, 20],
        "losses": (0.5, 0.4, 0.3),
    }
    values["summary"] = dataclasses.replace(values["summary"], **changes.pop("summary", {}))
    return RunRecord(**(values | changes))


def write_mask(path: Path, like: Path) -> Path:
    """Write a raster for ``--valid`` on the grid of another one, 1 everywhere."""
    with rasterio.open(like) as dataset:
        return write_raster(
            path, np.ones(dataset.shape, np.uint8), crs=dataset.crs, transform=dataset.transform
        )


@pytest.fixture(name="write_raster")
def write_raster_fixture(tmp_path: Path) -> WriteRaster:
    """Write an array as ``tmp_path/<name>.tif``."""

    def write(name: str, values: npt.ArrayLike, **options: Any) -> Path:
        return write_raster(tmp_path / f"{name}.tif", values, **options)

    return write


@pytest.fixture
def make_pair(write_raster: WriteRaster, tmp_path: Path) -> MakePair:
    """Write ``before.tif`` and ``after.tif``; options apply to both, ``after_*`` to the second alone."""

    def make(
        before: npt.ArrayLike, after: npt.ArrayLike, *, folder: str = "", **options: Any
    ) -> tuple[Path, Path]:
        second = {k.removeprefix("after_"): v for k, v in options.items() if k.startswith("after_")}
        both = {k: v for k, v in options.items() if not k.startswith("after_")}
        (tmp_path / folder).mkdir(exist_ok=True)
        return (
            write_raster(f"{folder}/before" if folder else "before", before, **both),
            write_raster(f"{folder}/after" if folder else "after", after, **(both | second)),
        )

    return make


@pytest.fixture
def scene() -> Callable[..., npt.NDArray[np.uint16]]:
    """Make a made-up but textured image, ``(bands, height, width)`` uint16 in 200...4000."""

    def make(bands: int = 3, height: int = 64, width: int = 80, seed: int = 0) -> npt.NDArray[np.uint16]:
        rng = np.random.default_rng(seed)
        coarse = rng.uniform(400, 3500, (bands, height // 16 + 1, width // 16 + 1))
        blocks = np.repeat(np.repeat(coarse, 16, axis=1), 16, axis=2)[:, :height, :width]
        return np.clip(blocks + rng.normal(0, 60, blocks.shape), 200, 4000).astype(np.uint16)

    return make


@pytest.fixture(scope="session")
def labelled() -> Path:
    """Return the folder of the real, labelled pairs: ``<pair>/{before,after,mask}.tif``."""
    root = Path(os.environ.get("GEOCD_TEST_DATA", BESIDE))
    for folder in (root / "labelled", root):
        if any(folder.glob("*/before.tif")):
            return folder
    pytest.skip(f"no real pairs in {root}: set GEOCD_TEST_DATA to a folder of <pair>/before.tif, after.tif")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def write_pairs(write_raster: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Write small pairs and their list; a square changes in each."""

    def write(count: int = 3, side: int = 64) -> Path:
        rows = []
        for number in range(count):
            random = np.random.default_rng(number)
            before = random.normal(1000, 100, (3, side, side))
            after = before + random.normal(0, 10, before.shape)
            after[:, 10:30, 20 : 30 + number] += 1500
            for name, values in (("before", before), ("after", after)):
                write_raster(f"p{number}_{name}", values.astype(np.float32))
            rows.append(
                {"id": f"p{number}", "before": f"p{number}_before.tif", "after": f"p{number}_after.tif"}
            )
        return write_csv(tmp_path / "pairs.csv", rows)

    return write


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """Give the address of a dask scheduler with two workers."""
    from geocd.batch.run import Cluster

    with Cluster(workers=2).connect() as client:
        yield client.scheduler_info()["address"]


#: The QGIS plugin; its package is called geocd too.
PLUGIN = Path(__file__).resolve().parents[1] / "qgis_plugin" / "geocd"


def load_file(path: Path, name: str | None = None, **options: Any) -> Any:
    """Import a file that is not on the path."""
    spec = importlib.util.spec_from_file_location(name or path.stem, path, **options)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if name is not None:
        sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load_plugin(module: str) -> Any:
    """Import a module of the QGIS plugin, under another name than that of geocd itself."""
    if "geocd_qgis" not in sys.modules:
        load_file(PLUGIN / "__init__.py", "geocd_qgis", submodule_search_locations=[str(PLUGIN)])
    return importlib.import_module(f"geocd_qgis.{module}")
