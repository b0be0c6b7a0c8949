"""Feed damaged files to every reader: no traceback, no hang, no crash, no unbounded memory.

    python benchmarks/fuzz.py [--count N] [--seed 0] [--kinds geotiff,vrt] [--keep FOLDER] [--json FILE]

Small valid files are damaged (bits flipped, cut short, pieces swapped, fields of headers and values of
JSON replaced) and given to the command that reads them, each in a forked child with everything imported.
Counted:

* tracebacks: anything raised that is not a ``GeocdError``;
* crashes: the child died of a signal (a segmentation fault inside a library);
* hangs: no end within 10 s;
* heavy: a peak above 1 GB of resident memory.

Prints the figures by kind and the first lines of each finding, and exits with 1 when there is one. The same
seed gives the same files; ``--keep`` keeps those that found something. Needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import pickle
import random
import re
import resource
import signal
import sqlite3
import struct
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GDAL_HTTP_TIMEOUT", "2")  # a mutation may write an address

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
import geocd.method.weights
import geocd.pipeline
import geocd.report.page
import geocd.rerun
from geocd.cli import main
from geocd.config import Settings
from geocd.errors import GeocdError

SECONDS, MEGABYTES = 10, 1024
#: A child that reserves more is stopped by the system; what it then raises counts like all else.
RESERVED = 16 * 2**30
RAISED = 99

#: Numbers that break things.
NUMBERS = [0, 1, -1, 2, 3, 7, 255, 256, 65535, 65536, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 10**30]
TEXTS = [
    "", " ", "nan", "NaN", "inf", "-inf", "1e999", "-0", "0x10", "null", "\0", "../../x", "/etc/passwd",
    "CON", "<script>alert(1)</script>", "é", "日本", "\u202e", "'", '"', "\n", "-rf", "%s%n", "EPSG:0",
    "EPSG:99999999",    "http://127.0.0.1:9/x.tif", "/vsicurl/http://127.0.0.1:9/x.tif",
    "9999-99-99T99:99:99Z", "a" * 5000,
]  # fmt: skip
VALUES: list[Any] = [None, True, False, [], {}, [[]], {"a": {}}, 1.5, -1e308, 1e308, *NUMBERS, *TEXTS]

#: What is refused undamaged: a pickle, an image of another CRS.
REFUSED = ("p.pt", "warped.vrt")

Files = list[Path]


# What is damaged


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
        found = [self._raster("plain.tif", rng)]
        for number, profile in enumerate((
            {"compress": "deflate", "predictor": 2, "nodata": 0},
            {"compress": "lzw", "tiled": True, "blockxsize": 16, "blockysize": 16},
            {"dtype": "float32", "compress": "zstd", "predictor": 3, "nodata": float("nan")},
            {"dtype": "uint8", "compress": "jpeg", "photometric": "ycbcr", "interleave": "pixel"},
            {"dtype": "uint8", "compress": "lerc"},
            {"interleave": "pixel", "bigtiff": "yes"},
            {"dtype": "float64", "endianness": "big"},
        )):  # fmt: skip
            found.append(self._raster(f"g{number}.tif", rng, **profile))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(found[1], "r+") as dataset:
            dataset.write_mask(np.arange(40 * 48).reshape(40, 48) % 7 > 0)
        cog = self.folder / "cog.tif"
        rasterio.shutil.copy(self.after, cog, driver="COG", BLOCKSIZE=128, OVERVIEW_COUNT=1)
        return [*found, cog]

    def _jp2(self) -> Files:
        found = []
        for number, options in enumerate(({"QUALITY": 100, "REVERSIBLE": "YES"}, {"QUALITY": 20})):
            path = self.folder / f"j{number}.jp2"
            rasterio.shutil.copy(self.after, path, driver="JP2OpenJPEG", **options)
            found.append(path)
        return found

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
            there = frame.to_crs(4326) if path.suffix == ".geojson" else frame
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                there.to_file(path, engine="pyogrio")
        with rasterio.open(self.prob) as dataset:
            values = (dataset.read(1) > 0.5).astype(np.uint8)
            profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": dataset.crs,
                       "transform": dataset.transform, "width": 48, "height": 40}  # fmt: skip
        with rasterio.open(paths[-1], "w", **profile) as dataset:
            dataset.write(values, 1)
        return paths

    def _csvs(self) -> Files:
        one, two = self.folder / "pairs.csv", self.folder / "pairs.geojson"
        rows = [("a", "before.tif", "after.tif", ""), ("b-2", "/x/y.tif", "https://host/z.tif", "valid.tif")]
        one.write_text("id,before,after,valid\n" + "".join(",".join(row) + "\n" for row in rows))
        features = [
            {
                "type": "Feature",
                "geometry": None,
                "properties": dict(zip(("id", "before", "after"), row, strict=False)),
            }
            for row in rows
        ]
        two.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return [one, two]

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
        one, two, three = (self.folder / name for name in ("w.safetensors", "w.pt", "p.pt"))
        safetensors.torch.save_file(state, one)
        torch.save(state, two)
        three.write_bytes(pickle.dumps({"state_dict": {"a": 1}}))
        return [one, two, three]

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


# How it is damaged


def damaged(content: bytes, other: bytes, suffix: str, rng: random.Random) -> bytes:
    """Return a file with one to four kinds of damage."""
    text = suffix in (".vrt", ".csv", ".json", ".jsonl", ".geojson", ".toml", ".gml")
    ways: list[Callable[[bytes, bytes, random.Random], bytes]] = [flip, cut, splice, blank]
    if text:
        ways = [*ways, token, token, token, repeat, nest]
    if suffix in (".json", ".jsonl", ".geojson"):
        ways = [*ways, value, value, value, value, value]
    if suffix in (".tif", ".tiff"):
        ways = [*ways, field, field, field, field]
    if suffix == ".jp2":
        ways = [*ways, head, head]
    if suffix == ".gpkg":
        ways = [*ways, row, row, row, row]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        with contextlib.suppress(ValueError, struct.error, IndexError, sqlite3.Error, RecursionError):
            content = rng.choice(ways)(content, other, rng)
    return content


def flip(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Flip bits."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Cut the end off."""
    return content[: rng.randrange(len(content) + 1)]


def splice(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Put a piece of another file in place of one's own, or between."""
    begin = rng.randrange(len(other))
    piece = other[begin : begin + rng.choice((1, 4, 16, 256))]
    place = rng.randrange(len(content))
    return content[:place] + piece + content[place + len(piece) * rng.randrange(2) :]


def blank(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Make a stretch all zeros or ones."""
    place, length = rng.randrange(len(content)), rng.choice((1, 2, 4, 8, 64))
    return content[:place] + rng.choice((b"\0", b"\xff")) * length + content[place + length :]


def head(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Write a number that breaks things into the first bytes."""
    place, number = rng.randrange(min(300, len(content))), rng.choice(NUMBERS) % 2**32
    return content[:place] + struct.pack(">I", number) + content[place + 4 :]


def field(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Change tag, type, count or value of an entry of a TIFF's first directory."""
    order = "<" if content[:2] == b"II" else ">"
    big = struct.unpack(order + "H", content[2:4])[0] == 43
    place = struct.unpack(order + ("Q" if big else "I"), content[8:16] if big else content[4:8])[0]
    size, wide = (20, 8) if big else (12, 4)
    count = struct.unpack(order + ("Q" if big else "H"), content[place : place + (8 if big else 2)])[0]
    entry = place + (8 if big else 2) + size * rng.randrange(count)
    what = rng.randrange(6)
    at, length = {0: (0, 2), 1: (2, 2), 2: (4, wide)}.get(what, (4 + wide, wide))
    number = rng.choice(NUMBERS) % 2 ** (8 * length)
    packed = struct.pack(order + {2: "H", 4: "I", 8: "Q"}[length], number)
    return content[: entry + at] + packed + content[entry + at + length :]


def token(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Put something else in place of a number or word."""
    found = list(re.finditer(rb"[\w.+-]+", content))
    chosen = rng.choice(found)
    new = str(rng.choice(VALUES)).encode("utf-8", "replace")
    return content[: chosen.start()] + new + content[chosen.end() :]


def repeat(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Repeat a line or what stands between two brackets."""
    begin = rng.randrange(len(content))
    piece = content[begin : begin + rng.choice((10, 80, 400))]
    return content[:begin] + piece * rng.choice((2, 3, 100)) + content[begin + len(piece) :]


def nest(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Open many brackets."""
    begin = rng.randrange(len(content))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"<a>", b"</a>"), (b'"', b'"')))
    depth = rng.choice((10, 1000, 100_000))
    return content[:begin] + opening * depth + b"1" + closing * depth * rng.randrange(2) + content[begin:]


def value(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Put another value somewhere into JSON, remove one, or give one twice."""
    lines = content.decode().splitlines() if b"}\n{" in content else [content.decode()]
    place = rng.randrange(len(lines))
    document = json.loads(lines[place])
    node, trail = document, []
    while isinstance(node, dict | list) and node and (not trail or rng.random() < 0.8):
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        trail.append((node, key))
        node = node[key]
    holder, key = rng.choice(trail)
    what = rng.randrange(8)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[rng.choice(TEXTS)] = copy.deepcopy(holder[key])
    elif what == 2 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    lines[place] = json.dumps(document)
    return "\n".join(lines).encode("utf-8", "replace")


def row(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Change a value in a table of a GeoPackage."""
    with tempfile.NamedTemporaryFile(suffix=".gpkg") as file:
        Path(file.name).write_bytes(content)
        with contextlib.closing(sqlite3.connect(file.name)) as base:
            for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                base.execute(f'DROP TRIGGER "{name}"')
            tables = ["gpkg_contents", "gpkg_geometry_columns", "gpkg_spatial_ref_sys", "r", "r"]
            table = rng.choice(tables)
            columns = [found[1] for found in base.execute(f'PRAGMA table_info("{table}")')]
            column = "geom" if table == "r" and rng.random() < 0.8 else rng.choice(columns)
            rows = base.execute(f'SELECT rowid, "{column}" FROM "{table}"').fetchall()
            rowid, old = rng.choice(rows)
            new: Any = rng.choice([None, *[n for n in NUMBERS if n < 2**63], *TEXTS])
            if isinstance(old, bytes):
                shape = bytearray(old)
                at = rng.randrange(8, len(shape) - 8)
                number = rng.choice((np.nan, np.inf, -1e308, 1e30, 0.0))
                shape[at : at + 8] = rng.choice((struct.pack("<d", number), struct.pack("<II", 1, 10**9)))
                new = bytes(shape)
            base.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (new, rowid))
            base.commit()
        return Path(file.name).read_bytes()


# Trying it


def attempt(read: Callable[[Path, int], None], path: Path, number: int) -> tuple[str, str]:
    """Let a child read a file; return what came of it, and the last it said."""
    said = path.parent / "said"
    child = os.fork()
    if child == 0:
        status = RAISED
        try:
            with said.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            resource.setrlimit(resource.RLIMIT_AS, (RESERVED, RESERVED))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            warnings.simplefilter("ignore")
            try:
                read(path, number)
                status = 0
            except GeocdError as error:
                os.write(2, f"Error: {error}".encode("utf-8", "replace"))
                status = 1
            except SystemExit as end:
                sys.stdout.flush()
                sys.stderr.flush()
                status = end.code if isinstance(end.code, int) else 0
            except BaseException:
                os.write(2, traceback.format_exc().encode("utf-8", "replace"))
        finally:
            os._exit(status)
    _, status, used = os.wait4(child, 0)
    text = said.read_text(errors="replace") if said.exists() else ""
    peak = used.ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return (
            "hang" if number == signal.SIGALRM else "crash"
        ), f"{signal.Signals(number).name} {text[-300:]}"
    if os.WEXITSTATUS(status) not in (0, 1, 2, 3) or "Traceback (most recent" in text:
        return "traceback", text[-1500:]
    if peak > MEGABYTES:
        return "heavy", f"{peak:.0f} MB {text[-300:]}"
    return ("read" if os.WEXITSTATUS(status) == 0 else "refused"), text


def fuzz(seeds: Seeds, kind: str, count: int, seed: int, begin: int, keep: Path | None) -> Counter[str]:
    """Try ``count`` files of a kind; print what is found, once for each place in the code."""
    files, read = seeds.kinds[kind]
    contents = [path.read_bytes() for path in files]
    counts: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for number in [*range(-len(files), 0), *range(begin, begin + count)]:
        rng = random.Random(f"{seed} {kind} {number}")
        which = rng.randrange(len(files)) if number >= 0 else number
        content = contents[which]
        if number >= 0:
            content = damaged(content, rng.choice(contents), files[which].suffix, rng)
        with tempfile.TemporaryDirectory(dir=seeds.folder) as folder:
            path = Path(folder) / files[which].name
            path.write_bytes(content)
            for name in (
                "before.tif",
                "after.tif",
                "item-a.json",
                "item-b.json",
            ):  # what VRTs and catalogues name
                (Path(folder) / name).symlink_to(seeds.folder / name)
            came, text = attempt(read, path, max(number, 0))
        if number < 0:
            if (came != "read" or text.startswith("Error")) and files[which].name not in REFUSED:
                raise RuntimeError(f"{files[which].name} is not read as it is ({came}): {text}")
            continue
        counts[came] += 1
        if came in ("read", "refused"):
            continue
        where = re.findall(r'File "[^"]*/(geocd/[^"]+", line \d+)', text)
        last = (text.strip().splitlines() or [""])[-1]
        place = f"{came} {(where or [text[:60]])[-1]} {last[:40]}"
        seen[place] += 1
        if seen[place] == 1:
            print(f"\n{kind} {number} ({files[which].name}): {came}\n{text.strip()[-1200:]}", flush=True)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{kind}-{number}-{files[which].name}").write_bytes(content)
    return counts


def run() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="files in all (default 1000)")
    parser.add_argument("--begin", type=int, default=0, help="number of the first file of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", help="only these, with commas between them")
    parser.add_argument("--keep", type=Path, help="folder for the files that found something")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    table: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory(prefix="geocd-fuzz-") as folder:
        seeds = Seeds(Path(folder))
        kinds = options.kinds.split(",") if options.kinds else list(seeds.kinds)
        for kind in kinds:
            count = -(-options.count // len(kinds))
            table[kind] = dict(fuzz(seeds, kind, count, options.seed, options.begin, options.keep))
            print(f"{kind:10s} {count:6d} files: {table[kind]}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))
    bad = sum(n for counts in table.values() for came, n in counts.items() if came not in ("read", "refused"))
    print(f"{sum(map(sum, (counts.values() for counts in table.values())))} files, {bad} findings")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(run())
