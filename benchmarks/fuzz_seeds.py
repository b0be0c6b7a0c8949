"""What ``fuzz.py`` damages: small valid files of every kind, and the command that reads each."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import rasterio.shutil
import rasterio.vrt
import safetensors.torch
import shapely
import torch
from rasterio.transform import from_origin

import geocd.batch.manifest
import geocd.batch.pairs
import geocd.batch.search
import geocd.batch.stac
import geocd.check
import geocd.evaluate
import geocd.method.default
import geocd.method.networks
import geocd.method.weights
import geocd.pipeline
import geocd.report.page
import geocd.rerun
from geocd.cli import main
from geocd.config import Settings

#: What is refused undamaged: a pickle, an image of another CRS.
REFUSED = ("p.pt", "warped.vrt")

Files = list[Path]


class Seeds:
    """Small valid files of every kind, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rng = np.random.default_rng(0)
        self.before, self.after = (self._raster(f"{name}.tif", rng, step) for name, step in
                                   (("before", 0), ("after", 900)))  # fmt: skip
        self.prob = folder / "x_prob.tif"
        settings = Settings.from_flat({"method": "cva"})
        geocd.pipeline.run.detect(self.before, self.after, folder / "x", settings=settings)
        self.kinds: dict[str, tuple[Files, Callable[[Path, int], None]]] = {
            "geotiff": (self._geotiffs(rng), self.read_raster),
            "jp2": (self._jp2(), self.read_raster),
            "vrt": (self._vrts(), self.read_raster),
            "prob": ([self.prob], self.read_prob),
            "reference": (self._references(), self.read_reference),
            "csv": (self._csvs(), self.read_pairs),
            "json": (self._jsons(), self.read_json),
            "manifest": (self._manifests(), self.read_manifest),
            "weights": (self._weights(), self.read_weights),
            "item": ([folder / "x.json"], self.read_item),
            "toml": (self._tomls(), self.read_toml),
        }

    def _raster(self, name: str, rng: np.random.Generator, step: int = 0, **profile: Any) -> Path:
        path = self.folder / name
        values = rng.normal(1000, 60, (3, 40, 48))
        values[:, 5:20, 10:30] += step
        options: dict[str, Any] = {
            "driver": "GTiff", "width": 48, "height": 40, "count": 3, "dtype": "uint16", "crs": 32633,
            "transform": from_origin(5e5, 4e6, 10, 10),
        } | profile  # fmt: skip
        with rasterio.open(path, "w", **options) as dataset:
            dataset.write(values.astype(options["dtype"]))
            dataset.update_tags(TIFFTAG_DATETIME="2024:05:01 10:00:00")
            dataset.set_band_description(1, "red")
        return path

    def _geotiffs(self, rng: np.random.Generator) -> Files:
        paths = [self._raster("plain.tif", rng)]
        for number, profile in enumerate((
            {"compress": "deflate", "predictor": 2, "nodata": 0},
            {"compress": "lzw", "tiled": True, "blockxsize": 16, "blockysize": 16},
            {"dtype": "float32", "compress": "zstd", "predictor": 3, "nodata": float("nan")},
            {"dtype": "uint8", "compress": "jpeg", "photometric": "ycbcr", "interleave": "pixel"},
            {"dtype": "uint8", "compress": "lerc"},
            {"interleave": "pixel", "bigtiff": "yes"},
            {"dtype": "float64", "endianness": "big"},
        )):  # fmt: skip
            paths.append(self._raster(f"g{number}.tif", rng, **profile))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(paths[1], "r+") as dataset:
            dataset.write_mask(np.arange(40 * 48).reshape(40, 48) % 7 > 0)
        cog = self.folder / "cog.tif"
        rasterio.shutil.copy(self.after, cog, driver="COG", BLOCKSIZE=128, OVERVIEW_COUNT=1)
        return [*paths, cog]

    def _jp2(self) -> Files:
        paths = []
        for number, options in enumerate(({"QUALITY": 100, "REVERSIBLE": "YES"}, {"QUALITY": 20})):
            path = self.folder / f"j{number}.jp2"
            rasterio.shutil.copy(self.after, path, driver="JP2OpenJPEG", **options)
            paths.append(path)
        return paths

    def _vrts(self) -> Files:
        plain, warped = self.folder / "plain.vrt", self.folder / "warped.vrt"
        rasterio.shutil.copy(self.after, plain, driver="VRT")
        with rasterio.open(self.after) as dataset, rasterio.vrt.WarpedVRT(dataset, crs="EPSG:32634") as vrt:
            warped.write_text(vrt.tags(ns="xml:VRT")["xml:VRT"])
        return [plain, warped]

    def _references(self) -> Files:
        ring = np.array([[500100, 3999900], [500300, 3999900], [500300, 3999800], [500100, 3999900]])
        shapes = [shapely.Polygon(ring), shapely.box(500050, 3999700, 500200, 3999800)]
        frame = geopandas.GeoDataFrame({"a": [1, 2]}, geometry=shapes, crs=32633)
        paths = [self.folder / f"r.{suffix}" for suffix in ("gpkg", "geojson", "fgb", "gml", "tif")]
        for path in paths[:-1]:
            projected = frame.to_crs(4326) if path.suffix == ".geojson" else frame
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                projected.to_file(path, engine="pyogrio")
        with rasterio.open(self.prob) as dataset:
            values = (dataset.read(1) > 0.5).astype(np.uint8)
            profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": dataset.crs,
                       "transform": dataset.transform, "width": 48, "height": 40}  # fmt: skip
        with rasterio.open(paths[-1], "w", **profile) as dataset:
            dataset.write(values, 1)
        return paths

    def _csvs(self) -> Files:
        table, collection = self.folder / "pairs.csv", self.folder / "pairs.geojson"
        rows = [("a", "before.tif", "after.tif", ""), ("b-2", "/x/y.tif", "https://host/z.tif", "valid.tif")]
        table.write_text("id,before,after,valid\n" + "".join(",".join(row) + "\n" for row in rows))
        features = [
            {
                "type": "Feature",
                "geometry": None,
                "properties": dict(zip(("id", "before", "after"), row, strict=False)),
            }
            for row in rows
        ]
        collection.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return [table, collection]

    def _jsons(self) -> Files:
        def item(name: str, day: int) -> dict[str, Any]:
            return {
                "type": "Feature", "stac_version": "1.0.0", "id": name, "bbox": [0, 0, 1, 1], "links": [],
                "geometry": {"type": "Point", "coordinates": [0.5, 0.5]},
                "properties": {"datetime": f"2024-05-{day:02}T10:00:00Z", "eo:cloud_cover": 3.5,
                               "proj:code": "EPSG:32633", "proj:shape": [40, 48],
                               "proj:transform": [10, 0, 5e5, 0, -10, 4e6]},
                "assets": {"data": {"href": "./before.tif", "type": "image/tiff", "roles": ["data"]}},
            }  # fmt: skip

        items = self.folder / "items.json"
        items.write_text(json.dumps({"type": "FeatureCollection", "features": [item("a", 1), item("b", 9)]}))
        for name, day in (("a", 1), ("b", 9)):
            (self.folder / f"item-{name}.json").write_text(json.dumps(item(name, day)))
        catalog = self.folder / "catalog.json"
        links = [{"rel": "item", "href": f"./item-{name}.json"} for name in "ab"]
        catalog.write_text(json.dumps({
            "type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "d", "links": links,
        }))  # fmt: skip
        area = self.folder / "area.geojson"
        area.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": {
            "type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]],
        }}))  # fmt: skip
        return [items, catalog, area]

    def _manifests(self) -> Files:
        path = self.folder / "manifest.jsonl"
        lines = [
            {"time": "2024-05-01T10:00:00Z", "run": {"pairs": 2}, "settings": {"method": "cva"}},
            {"time": "2024-05-01T10:00:00Z", "id": "a", "state": "pending"},
            {"time": "2024-05-01T10:00:00Z", "id": "b", "state": "failed", "error": "GridError",
             "message": "no", "seconds": 1.5, "config": "abc"},
            {"time": "2024-05-01T10:00:00Z", "id": "a", "state": "done", "config": "abc", "seconds": 3,
             "inputs": {"before": [{"file": "x"}]}, "outputs": {"a_prob.tif": {"size": 1, "sha256": "0"}}},
        ]  # fmt: skip
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return [path]

    def _weights(self) -> Files:
        state = geocd.method.weights.embedded_weights()
        plain, archive, pickled = (self.folder / name for name in ("w.safetensors", "w.pt", "p.pt"))
        safetensors.torch.save_file(state, plain)
        torch.save(state, archive)
        pickled.write_bytes(pickle.dumps({"state_dict": {"a": 1}}))
        return [plain, archive, pickled]

    def _tomls(self) -> Files:
        path = self.folder / "x.toml"
        path.write_text('method = "cva"\ntile_size = 256\noverlap = 32\nbidx = [1, 2]\nmin_area = 100.0\n'
                        'nodata = 0\n'
                        'ignore = []\nthreshold = 0.4\nuncertainty = false\nseed = 3\n')  # fmt: skip
        return [path]

    # Who reads it

    def _call(self, *arguments: object) -> None:
        main(["-q", *map(str, arguments)], standalone_mode=True)

    def read_raster(self, path: Path, number: int) -> None:
        """Check or detect, in either place."""
        out = path.parent / "out"
        detect = ("--method", "cva", "--jobs", 1, "-o", out)
        calls: list[tuple[object, ...]] = [
            ("check", self.before, path),
            ("check", path, self.after),
            ("detect", self.before, path, *detect, "--align", "grid"),
            ("detect", path, path, *detect, "--overwrite"),
            ("evaluate", self.prob, path),
            ("check", path, self.after, "--align", "shift"),
        ]
        self._call(*calls[number % len(calls)])

    def read_prob(self, path: Path, number: int) -> None:
        """Evaluate or polygonize."""
        if number % 2:
            self._call("evaluate", path, self.folder / "r.tif")
        else:
            self._call("polygonize", path, "--threshold", 0.5, "-o", path.parent / "out.gpkg")

    def read_reference(self, path: Path, number: int) -> None:
        """Evaluate."""
        self._call("evaluate", self.prob, path)

    def read_pairs(self, path: Path, number: int) -> None:
        """Read a list of pairs."""
        for item in geocd.batch.pairs.read_items(path):
            folder = (path.parent / "out" / item.id).resolve()
            if folder.parent != (path.parent / "out").resolve():
                raise AssertionError(f"the id {item.id!r} leads to {folder}")

    def read_json(self, path: Path, number: int) -> None:
        """Read STAC items, or an area."""
        if path.name.startswith("area"):
            geocd.batch.search.read_geometry(str(path))
        elif geocd.batch.stac.is_stac(path):
            rule = geocd.batch.stac.Rule(max_cloud=50.0 if number % 2 else None)
            geocd.batch.stac.stac_pairs(path, path.parent, rule)
        else:
            self.read_pairs(path, number)

    def read_manifest(self, path: Path, number: int) -> None:
        """Print the state of a batch."""
        path.rename(path.parent / "manifest.jsonl")
        self._call("batch", "--status", path.parent)

    def read_weights(self, path: Path, number: int) -> None:
        """Load a network."""
        state = geocd.method.weights.read_weights(str(path))
        geocd.method.weights.load_weights(geocd.method.networks.CompactPair(), state, str(path))

    def read_item(self, path: Path, number: int) -> None:
        """Repeat a run."""
        self._call("rerun", path)

    def read_toml(self, path: Path, number: int) -> None:
        """Detect with a configuration file."""
        self._call(
            "detect", self.before, self.after, "--config", path, "-o", path.parent / "out", "--dry-run"
        )
