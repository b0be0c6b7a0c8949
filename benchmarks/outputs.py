"""Run `geocd detect` on every pair of a folder as a user would, and check all that it writes.

    python benchmarks/outputs.py FOLDER [--keep OUTDIR]

One process per pair. Prints wall and CPU time, peak resident memory, and whether the COG, the polygons and
the STAC item are valid. Exits 1 when anything is not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import geopandas
import pystac
import rasterio
from pystac.validation import JsonSchemaSTACValidator, RegisteredValidator
from rio_cogeo.cogeo import cog_validate

KEYS = ("_prob.tif", "_prob.qml", "_changes.gpkg", "_changes.qml", "_quicklook.png", "_report.html", ".json")


def measured(command: list[str]) -> tuple[int, float, float, float, str]:
    """Run a command; return exit code, wall and CPU seconds, peak memory in MB, and stderr."""
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    wall = time.perf_counter() - begin
    return process.returncode, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text


def problems(stem: Path) -> list[str]:
    """Return what is wrong with the outputs of one run."""
    faults = [key for key in KEYS if not stem.with_name(stem.name + key).exists()]
    if faults:
        return [f"missing: {', '.join(faults)}"]
    prob, changes = (stem.with_name(stem.name + key) for key in ("_prob.tif", "_changes.gpkg"))
    valid, errors, warnings = cog_validate(str(prob), strict=True, quiet=True)
    if not valid:
        faults.append(f"COG: {[*errors, *warnings]}")
    polygons = geopandas.read_file(changes)
    if not polygons.is_valid.all():
        faults.append(f"{(~polygons.is_valid).sum()} invalid polygons")
    with rasterio.open(prob) as dataset:
        threshold = json.loads(dataset.tags()["GEOCD_PROVENANCE"])["threshold"]
        changed = int((dataset.read(1) >= threshold).sum())
    if int(polygons.n_pixels.sum()) != changed:
        faults.append(f"polygons hold {polygons.n_pixels.sum()} pixels, the raster {changed}")
    item = json.loads(stem.with_name(stem.name + ".json").read_text(encoding="utf-8"))
    try:  # the core schema comes with pystac; those of extensions would be fetched
        RegisteredValidator.set_validator(JsonSchemaSTACValidator())
        pystac.Item.from_dict(item | {"stac_extensions": []}).validate()
    except Exception as error:
        faults.append(f"STAC: {error}")
    return faults


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keep", type=Path, help="write the outputs here instead of a folder that goes")
    options = parser.parse_args()
    geocd = shutil.which("geocd", path=str(Path(sys.executable).parent)) or "geocd"
    bad = False
    print(f"{'pair':20s}{'Mpx':>6s}{'wall s':>8s}{'CPU s':>8s}{'MB':>7s}{'polygons':>10s}  outputs")
    with tempfile.TemporaryDirectory() as scratch:
        out = options.keep or Path(scratch)
        for before in sorted(options.folder.glob("*/before.tif")):
            stem = out / before.parent.name
            after = before.with_name("after.tif")
            command = [geocd, "detect", str(before), str(after), "-o", str(stem), "--overwrite"]
            code, wall, cpu, memory, said = measured(command)
            wrong = problems(stem) if code == 0 else [f"exit {code}: {said.strip()}"]
            bad |= bool(wrong)
            with rasterio.open(before) as dataset:
                size = dataset.height * dataset.width / 1e6
            count = len(geopandas.read_file(f"{stem}_changes.gpkg")) if code == 0 else 0
            print(
                f"{before.parent.name:20s}{size:6.2f}{wall:8.1f}{cpu:8.1f}{memory:7.0f}{count:10d}  "
                + ("; ".join(wrong) or "all valid"),
                flush=True,
            )
    sys.exit(int(bad))


if __name__ == "__main__":
    main()
