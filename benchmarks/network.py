"""Count what pairs over a network cost: CPU seconds, requests and bytes, on a server of this machine.

    python benchmarks/network.py FOLDER [--pairs 2] [--side 1024] [--method deep]

FOLDER holds <pair>/before.tif and after.tif, whose first ones are cut to squares and written as
cloud-optimized GeoTIFFs. A server of another process sends them and counts; `geocd batch --workers 1` reads
them by signed links. Prints for each pair CPU seconds, megapixels, requests and bytes beside the size of the
files, and what 100 000 such pairs cost.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import rasterio
import rasterio.shutil
from rasterio.io import MemoryFile
from rasterio.windows import Window

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from expiring import SIGNER, expiring  # noqa: E402

GEOCD = [sys.executable, "-c", "import sys; from geocd.cli import main; main(sys.argv[1:])"]
MANY = 100_000


def crop(source: Path, target: Path, side: int) -> int:
    """Write the corner of a raster as a COG, and return its pixels."""
    with rasterio.open(source) as dataset:
        window = Window(0, 0, min(side, dataset.width), min(side, dataset.height))
        profile = dataset.profile | {"height": window.height, "width": window.width, "driver": "GTiff"}
        for name in ("blockxsize", "blockysize", "tiled", "photometric"):
            profile.pop(name, None)
        with MemoryFile() as memory:
            with memory.open(**profile) as sink:
                sink.write(dataset.read(window=window))
            with memory.open() as copy:
                rasterio.shutil.copy(copy, target, driver="COG", compress="DEFLATE")
    return int(window.height * window.width)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--method", default="deep")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        files = scratch / "files"
        files.mkdir()
        (scratch / "lender.py").write_text(SIGNER.format(seconds=2))
        log = scratch / "log"
        pixels, rows = 0, ["id,before,after"]
        with expiring(files, log) as address:
            for before in sorted(options.folder.glob("*/before.tif"))[: options.pairs]:
                name = before.parent.name
                for which in ("before", "after"):
                    count = crop(
                        before.with_name(f"{which}.tif"), files / f"{name}_{which}.tif", options.side
                    )
                pixels += count
                rows.append(f"{name},{address}/{name}_before.tif,{address}/{name}_after.tif")
            (scratch / "pairs.csv").write_text("\n".join(rows) + "\n")
            path = os.pathsep.join(filter(None, [str(scratch), os.environ.get("PYTHONPATH")]))
            subprocess.run(
                [*GEOCD, "-q", "batch", str(scratch / "pairs.csv"), str(scratch / "out"), "--workers", "1",
                 "--method", options.method, "--sign", "lender:sign"],
                env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, check=True,
            )  # fmt: skip
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        requests = [line.split() for line in log.read_text().splitlines()]
        sent = sum(int(size) for verb, _, _, size in requests if verb == "GET")
        stored = sum(file.stat().st_size for file in files.iterdir())
        written = sum(file.stat().st_size for file in (scratch / "out").rglob("*") if file.is_file())
    pairs = len(rows) - 1
    seconds = (usage.ru_utime + usage.ru_stime) / pairs
    heads, each = sum(verb == "HEAD" for verb, *_ in requests) / pairs, len(requests) / pairs
    print(f"{pairs} pairs of {pixels / pairs / 1e6:.2f} Mpx, --method {options.method}; for each pair:")
    print(f"  {seconds:.1f} s CPU, start and server included")
    print(f"  {each:.0f} requests, {heads:.0f} of them HEAD")
    print(f"  {sent / pairs / 1e6:.1f} MB read, {sent / stored:.2f} times the files")
    print(f"  {written / pairs / 1e6:.1f} MB written")
    print(
        f"{MANY} pairs: {seconds * MANY / 3600:.0f} CPU hours, {each * MANY / 1e6:.1f} million requests, "
        f"{sent / pairs * MANY / 1e12:.2f} TB read, {written / pairs * MANY / 1e12:.2f} TB written"
    )


if __name__ == "__main__":
    main()
