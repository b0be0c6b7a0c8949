"""Speed, memory and seams from 256 x 256 pixels to 120 Mpx, beside what else could be run on the same files.

    python benchmarks/scale.py PAIR [--sizes 256px,1,4,16,64,120] [--beside DIR] [--repeat 3] [--markdown]
    python benchmarks/scale.py PAIR --batch 60 [--beside DIR]    (many pairs of 256 x 256 pixels)
    python benchmarks/scale.py PAIR --tiles                      (does the map depend on the tile size?)

PAIR is a folder with before.tif and after.tif. Larger pairs are made of its pixels by mirroring, so that
they have no borders of their own, and are written as tiled GeoTIFFs. In one run, each command is a process
of its own, and memory (peak resident) and CPU time are what the kernel says of it:

- floor      read both rasters and write one, by the same blocks: what no method can do without
- otb        otbcli_MultivariateAlterationDetector of the Orfeo ToolBox (Debian: otb-bin), where installed
- default    geocd detect
- irmad      geocd detect --method irmad
- cva        geocd detect --method cva
- reference  geocd detect --preset reference --weights random on N x N pixels, beside the default on the
             same, and multiplied up to the other sizes (only with --reference-crop N; many minutes).
             Random weights cost what those of ImageNet do

With --beside, every command of geocd is also run with the geocd of another checkout, in turn. With --repeat,
each command is run so many times, in turn with the others, and the run with the least CPU time counts: on a
busy machine everything takes longer, never shorter. Read seconds only from an idle machine.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
from measuring import HERE, Measured, check, detect, floor_command, geocd, make_pair, measured
from rasterio.windows import Window

OTB = "otbcli_MultivariateAlterationDetector"
#: Options of ``geocd detect`` for each method of geocd.
OPTIONS = {"default": (), "irmad": ("--method", "irmad"), "cva": ("--method", "cva")}
#: Side of the pairs of ``--batch``, in pixels.
SMALL = 256
COLUMNS = (
    *("Mpx", "what", "s", "CPU s", "s/further Mpx", "CPU s/further Mpx", "MB", "seam score"),
    *("CPU x floor", "CPU x otb"),
)
#: With ``--beside``: ratios to the same method of the other checkout.
BESIDE_COLUMNS = ("s x beside", "CPU x beside")


@dataclasses.dataclass(frozen=True)
class Row:
    """One command on one pair.

    Attributes
    ----------
    method, checkout : str
        ``checkout`` is empty where geocd is not run.
    megapixels : float
    run : Measured
    seam_score : float or None
    stages : mapping or None
        Seconds by stage, as the run reports them.
    """

    method: str
    checkout: str
    megapixels: float
    run: Measured
    seam_score: float | None = None
    stages: dict[str, float] | None = None

    @classmethod
    def of(cls, method: str, checkout: str, megapixels: float, run: Measured, stem: Path) -> Row:
        """Return the row of a run, with what its item says of it, if it has one."""
        path = stem.with_name(stem.name + ".json")
        if run.code != 0 or not path.exists():
            return cls(method, checkout, megapixels, run)
        properties = json.loads(path.read_text(encoding="utf-8"))["properties"]
        score = properties["geocd:summary"]["seam_score"]
        return cls(method, checkout, megapixels, run, score, properties.get("geocd:timings"))

    def report(self) -> None:
        """Say how it went, on stderr."""
        run = self.run
        what = (
            f"{run.wall_s:.1f} s, CPU {run.cpu_s:.1f} s, {run.memory_mb:.0f} MB" if not run.code else run.said
        )
        print(f"{self.megapixels:g} Mpx, {self.method} {self.checkout}: {what}", file=sys.stderr, flush=True)


def best(repeat: int, jobs: Sequence[Callable[[], Row]]) -> list[Row]:
    """Run all jobs ``repeat`` times in turn; return the row of each with the least CPU time."""
    rounds = []
    for _ in range(repeat):
        rounds.append([job() for job in jobs])
        for row in rounds[-1]:
            row.report()
    return [
        min(rows, key=lambda row: (row.run.code != 0, row.run.cpu_s)) for rows in zip(*rounds, strict=True)
    ]


def jobs_of(
    pair: tuple[Path, Path], folder: Path, methods: Sequence[str], checkouts: dict[str, Path]
) -> Iterator[Callable[[], Row]]:
    """Yield what is to be measured on one pair: each method of geocd with every checkout, in turn."""
    with rasterio.open(pair[0]) as dataset:
        megapixels = dataset.height * dataset.width / 1e6

    def job(method: str, name: str, command: list[str], stem: Path) -> Callable[[], Row]:
        checkout = checkouts.get(name, HERE)
        return lambda: Row.of(method, name, megapixels, measured(command, checkout), stem)

    for method in methods:
        if method == "floor":
            yield job(method, "", floor_command(pair, folder / "floor.tif"), folder / "floor")
        elif method == "otb":
            images = ["-in1", str(pair[0]), "-in2", str(pair[1]), "-out", str(folder / "otb.tif"), "float"]
            yield job(method, "", [OTB, *images], folder / "otb")
        else:
            for number, name in enumerate(checkouts):
                stem = folder / f"{method}{number}"
                yield job(method, name, detect(pair, stem, *OPTIONS[method]), stem)


def measure(options: argparse.Namespace, checkouts: dict[str, Path], scratch: Path) -> list[Row]:
    """Measure all methods on all sizes, and save as it goes on."""
    rows: list[Row] = []
    if options.reference_crop is not None:
        rows += reference_rows(options, scratch)
    reference = rows[-1] if rows and rows[-1].run.code == 0 else None
    for size in options.sizes.split(","):
        side = int(size[:-2]) if size.endswith("px") else round(math.sqrt(float(size) * 1e6))
        folder = scratch / size
        pair = make_pair(options.folder, folder, side, side)
        rows += best(options.repeat, list(jobs_of(pair, folder, options.methods.split(","), checkouts)))
        save(rows, options.json)
        if reference is not None:
            share = side * side / 1e6 / reference.megapixels
            run = reference.run
            larger = dataclasses.replace(run, wall_s=run.wall_s * share, cpu_s=run.cpu_s * share)
            name = f"reference, from {options.reference_crop} x {options.reference_crop}"
            rows.append(dataclasses.replace(reference, method=name, megapixels=side * side / 1e6, run=larger))
        shutil.rmtree(folder)
    return rows


def reference_rows(options: argparse.Namespace, scratch: Path) -> list[Row]:
    """Measure the default and the preset ``reference`` on a crop."""
    side = options.reference_crop
    pair = make_pair(options.folder, scratch / "crop", side, side)
    rows = []
    for method, extra in (("default", ()), ("reference", ("--preset", "reference", "--weights", "random"))):
        stem = scratch / "crop" / method
        rows.append(Row.of(method, "", side * side / 1e6, measured(detect(pair, stem, *extra)), stem))
        rows[-1].report()
    return rows


def measure_batch(options: argparse.Namespace, checkouts: dict[str, Path], scratch: Path) -> list[Row]:
    """Measure `geocd batch` of small pairs, which are windows of the pair; the rows are of one pair each."""
    small = scratch / "pairs"
    small.mkdir()
    with (small / "pairs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "before", "after"])
        for number in range(options.batch):
            names = [f"{number}_{name}" for name in ("before.tif", "after.tif")]
            for name in names:
                cut(options.folder / name.partition("_")[2], small / name, number)
            rows.writerow([number, *names])

    def job(name: str) -> Callable[[], Row]:
        def run() -> Row:
            out = Path(tempfile.mkdtemp(dir=scratch))
            whole = measured(geocd("-qq", "batch", small / "pairs.csv", out), checkouts[name])
            each = (value / options.batch for value in (whole.wall_s, whole.cpu_s))
            one = dataclasses.replace(whole, **dict(zip(("wall_s", "cpu_s"), each, strict=True)))
            return Row(f"a pair of {options.batch}", name, SMALL**2 / 1e6, one)

        return run

    return best(options.repeat, [job(name) for name in checkouts])


def cut(source: Path, target: Path, number: int) -> None:
    """Write a small window of a raster, another one for each number up to the number of them."""
    with rasterio.open(source) as dataset:
        rows, cols = (max(1, size - SMALL) for size in dataset.shape)
        window = Window(
            number * 151 % cols, number * 97 % rows, *(min(SMALL, size) for size in dataset.shape[::-1])
        )
        profile = dataset.profile | {"height": window.height, "width": window.width, "tiled": False}
        profile = {key: value for key, value in profile.items() if not key.startswith("block")}
        with rasterio.open(target, "w", **profile) as sink:
            sink.write(dataset.read(window=window))
            sink.descriptions = dataset.descriptions


def save(rows: list[Row], path: Path | None) -> None:
    """Write all that was measured, and how busy the machine is."""
    if path is not None:
        each = [dataclasses.asdict(row) for row in rows]
        record = {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg(), "rows": each}
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def table(rows: list[Row], names: list[str]) -> list[list[str]]:
    """Return the rows as text, with the ratios to floor, OTB and the other checkout on the same size.

    What a further Mpx takes is the slope from the next smaller size: what a run costs once is not in it.
    """
    lines = []
    for row in rows:
        label = row.method if row.checkout in ("", names[0]) else f"{row.method} at {row.checkout}"
        begin = [f"{row.megapixels:.3g}", label]
        if row.run.code != 0:
            lines.append([*begin, f"exit {row.run.code}"])
            continue
        smaller = [
            other
            for other in rows
            if (other.method, other.checkout, other.run.code) == (row.method, row.checkout, 0)
            and other.megapixels < row.megapixels
        ]
        further = ["", ""]
        if smaller:
            last = max(smaller, key=lambda other: other.megapixels)
            more = row.megapixels - last.megapixels
            further = [
                f"{(getattr(row.run, k) - getattr(last.run, k)) / more:.3g}" for k in ("wall_s", "cpu_s")
            ]
        same = {
            (other.method, other.checkout): other.run
            for other in rows
            if other.megapixels == row.megapixels and other.run.code == 0
        }
        beside = same.get((row.method, names[1])) if len(names) > 1 and row.checkout == names[0] else None
        ratios = [
            ratio(row.run.cpu_s, same.get(("floor", ""))),
            ratio(row.run.cpu_s, same.get(("otb", ""))),
            "" if beside is None else f"{row.run.wall_s / beside.wall_s:.2f}",
            ratio(row.run.cpu_s, beside),
        ]
        seam = "" if row.seam_score is None else f"{row.seam_score:.3f}"
        run = [f"{row.run.wall_s:.1f}", f"{row.run.cpu_s:.2f}", *further, f"{row.run.memory_mb:.0f}", seam]
        lines.append([*begin, *run, *ratios[: 4 if len(names) > 1 else 2]])
    return lines


def ratio(cpu_s: float, other: Measured | None) -> str:
    """Return the ratio to the CPU time of another run, empty without one."""
    return "" if other is None else f"{cpu_s / other.cpu_s:.2f}"


def show(head: Sequence[str], lines: list[list[str]], markdown: bool) -> None:
    """Print a table, as text or as markdown; short lines are filled."""
    lines = [[*line, *[""] * (len(head) - len(line))] for line in lines]
    if markdown:
        print("| " + " | ".join(head) + " |")
        print("|" + "|".join("---" if i < 2 else "--:" for i in range(len(head))) + "|")
        for line in lines:
            print("| " + " | ".join(line) + " |")
        return
    width = [max(len(line[i]) for line in [head, *lines]) + 2 for i in range(len(head))]
    for line in [head, *lines]:
        print("".join(text.rjust(n) for text, n in zip(line, width, strict=True)))


def compare_tiles(folder: Path, side: int, scratch: Path) -> tuple[list[Row], list[list[str]]]:
    """Run the default method with several tile sizes, and compare with one whole tile."""
    pair = []
    for name in ("before.tif", "after.tif"):
        with rasterio.open(folder / name) as source:
            if min(source.shape) < side:
                raise SystemExit(f"{folder / name}: smaller than {side} x {side} px. Choose another --side.")
            profile = source.profile | {"height": side, "width": side}
            with rasterio.open(scratch / name, "w", **profile) as sink:
                sink.write(source.read(window=Window(0, 0, side, side)))
                sink.descriptions = source.descriptions
        pair.append(scratch / name)
    maps: dict[int, np.ndarray] = {}
    rows, lines = [], []
    for size in (side, 512, 256):
        stem = scratch / f"tiles{size}"
        run = measured(detect(pair, stem, "--tile-size", str(size)))
        if run.code != 0:
            raise SystemExit(run.said)
        rows.append(Row.of(f"tiles of {size}", "", side * side / 1e6, run, stem))
        rows[-1].report()
        with rasterio.open(stem.with_name(stem.name + "_prob.tif")) as dataset:
            maps[size] = dataset.read(1)
        difference = np.abs(maps[size] - maps[side])
        changed, whole = maps[size] >= 0.5, maps[side] >= 0.5
        score = rows[-1].seam_score
        lines.append(
            [
                str(size),
                "" if score is None else f"{score:.3f}",
                f"{np.nanmean(difference):.2g}",
                f"{np.nanmax(difference):.2g}",
                f"{(changed & whole).sum() / max((changed | whole).sum(), 1):.4f}",
            ]
        )
    return rows, lines


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", default="1,4,16", help="megapixels, or the side as 256px; default 1,4,16")
    parser.add_argument("--methods", default="floor,otb,default,irmad,cva")
    parser.add_argument("--beside", type=Path, metavar="DIR", help="another checkout of geocd")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="least CPU time of N runs")
    parser.add_argument("--batch", type=int, metavar="N", help="measure a batch of N small pairs instead")
    parser.add_argument("--reference-crop", type=int, metavar="N", help="run preset reference on N x N px")
    parser.add_argument("--tiles", action="store_true", help="compare tile sizes instead")
    parser.add_argument("--side", type=int, default=1024, help="of the window for --tiles")
    parser.add_argument("--scratch", type=Path, help="folder for the pairs (up to 6 GB for 120 Mpx)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    if "otb" in options.methods and not shutil.which(OTB):
        print(f"{OTB} is not installed (Debian: otb-bin), left out.", file=sys.stderr)
        options.methods = options.methods.replace("otb,", "").replace(",otb", "")
    return options


def main() -> None:
    """Run the benchmark."""
    options = arguments()
    others = [] if options.beside is None else [options.beside.resolve()]
    checkouts = {check(folder): folder for folder in (HERE, *others)}
    head: Sequence[str] = [*COLUMNS, *(BESIDE_COLUMNS if others else ())]
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        if options.tiles:
            rows, lines = compare_tiles(options.folder, options.side, Path(scratch))
            head = ["tile size", "tiles' seam score", "mean difference", "largest", "IoU of changed"]
        else:
            run = measure if options.batch is None else measure_batch
            rows = run(options, checkouts, Path(scratch))
            lines = table(rows, list(checkouts))
    show(head, lines, options.markdown)
    save(rows, options.json)
    sys.exit(int(any(row.run.code != 0 for row in rows)))


if __name__ == "__main__":
    main()
