"""The labelled pairs as other sensors and other hands would have delivered them.

    python benchmarks/sensors.py FOLDER [--views pan,jpeg] [--methods d + ir,default] [--pairs NAME,...]

The method was chosen on two kinds of images. Here the same ground is seen in one band, in 8 bit through the
stretch of a viewer, compressed, coarser, noisier, hazy, a pixel off, with the dates exchanged; what changed
stays what it was. Prints, for each view and group, the means of :mod:`accuracy`'s columns over its pairs,
every method on the same files. Labels score, and do nothing else.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import rasterio
from accuracy import COLUMNS, GROUPS, METHODS, colour_bands, labelled_pairs, read_reference, score
from rasterio.enums import ColorInterp
from scipy import ndimage

Image = np.ndarray  # (bands, height, width), float64
#: Values of a viewer's stretch, in per cent of the pixels of a date.
STRETCH = (2, 98)


def same(dates: list[Image], colours: list[int]) -> list[Image]:
    """Return the pair as it is."""
    return dates


def exchanged(dates: list[Image], colours: list[int]) -> list[Image]:
    """Return the later date first."""
    return dates[::-1]


def pan(dates: list[Image], colours: list[int]) -> list[Image]:
    """Return one band, the mean of red, green and blue."""
    return [x[colours[:3]].mean(axis=0, keepdims=True) for x in dates]


def stretched(dates: list[Image], colours: list[int]) -> list[Image]:
    """Return red, green and blue in 8 bit, every date and band stretched for itself."""
    images = []
    for x in dates:
        low, high = np.percentile(x[colours[:3]], STRETCH, axis=(1, 2), keepdims=True)
        images.append(np.clip((x[colours[:3]] - low) / (high - low) * 254 + 1, 1, 255))
    return images


def jpeg(dates: list[Image], colours: list[int]) -> list[Image]:
    """Return the stretched colours after JPEG compression of quality 60."""
    images = []
    for x in stretched(dates, colours):
        packed = io.BytesIO()
        PIL.Image.fromarray(x.round().astype(np.uint8).transpose(1, 2, 0)).save(packed, "JPEG", quality=60)
        images.append(np.asarray(PIL.Image.open(packed), np.float64).transpose(2, 0, 1))
    return images


def coarse(dates: list[Image], colours: list[int]) -> list[Image]:
    """Return pixels of half the resolution, brought back to the old grid as a resampled product would be."""
    images = []
    for x in dates:
        rows, cols = (n // 2 * 2 for n in x.shape[1:])
        mean = x[:, :rows, :cols].reshape(len(x), rows // 2, 2, cols // 2, 2).mean(axis=(2, 4))
        back = np.kron(mean, np.ones((1, 2, 2)))
        images.append(
            np.pad(
                back,
                [(0, 0), *((0, n - m) for n, m in zip(x.shape[1:], back.shape[1:], strict=True))],
                "edge",
            )
        )
    return images


def noisy(dates: list[Image], colours: list[int]) -> list[Image]:
    """Return both dates with white noise of .3 deviations of each band."""
    random = np.random.default_rng(0)
    return [x + 0.3 * x.std(axis=(1, 2), keepdims=True) * random.normal(size=x.shape) for x in dates]


def hazy(dates: list[Image], colours: list[int]) -> list[Image]:
    """Return the later date under smooth haze that veils up to half of the contrast."""
    random = np.random.default_rng(0)
    before, after = dates
    field = ndimage.gaussian_filter(random.normal(size=after.shape[1:]), min(after.shape[1:]) / 6)
    field = (field - field.min()) / (field.max() - field.min()) / 2
    white = np.percentile(after, 99, axis=(1, 2), keepdims=True)
    return [before, after * (1 - field) + white * field]


def off(dates: list[Image], colours: list[int]) -> list[Image]:
    """Return the later date a pixel to the right of and above its place."""
    before, after = dates
    return [before, np.pad(after, ((0, 0), (0, 1), (1, 0)), "edge")[:, 1:, :-1]]


def decibel(dates: list[Image], colours: list[int]) -> list[Image]:
    """Return the logarithm, as float: another scale of the same ground."""
    return [10 * np.log10(np.maximum(x, 1)) for x in dates]


VIEWS: dict[str, Callable[[list[Image], list[int]], list[Image]]] = {
    "as it is": same,
    "exchanged": exchanged,
    "pan": pan,
    "stretched": stretched,
    "jpeg": jpeg,
    "coarse": coarse,
    "noisy": noisy,
    "hazy": hazy,
    "off": off,
    "decibel": decibel,
}

#: Where a view is not delivered in the numbers of its pair.
DTYPES = {"stretched": "uint8", "jpeg": "uint8", "decibel": "float32"}


def see(folder: Path, view: str, destination: Path) -> Path:
    """Write a pair as a view shows it, with the same reference; return its folder."""
    target = destination / folder.name
    target.mkdir()
    dates, profiles = [], []
    for name in ("before", "after"):
        with rasterio.open(folder / f"{name}.tif") as source:
            dates.append(source.read().astype(np.float64))
            profiles.append(source.profile)
            described, interpreted = source.descriptions, source.colorinterp
    shown = VIEWS[view](dates, colour_bands(folder))
    for name, values, profile in zip(("before", "after"), shown, profiles, strict=True):
        dtype = np.dtype(DTYPES.get(view, profile["dtype"]))
        if dtype.kind != "f":
            limits = np.iinfo(dtype)
            values = values.round().clip(limits.min, limits.max)
        profile = {"driver": "GTiff", "count": len(values), "dtype": dtype} | {
            key: profile[key] for key in ("height", "width", "crs", "transform", "nodata")
        }
        with rasterio.open(target / f"{name}.tif", "w", **profile) as sink:
            sink.write(values.astype(dtype))
            if len(values) == len(described):
                sink.descriptions = described
                sink.colorinterp = interpreted
            elif len(values) == 3:
                sink.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    (target / "mask.tif").symlink_to((folder / "mask.tif").resolve())
    return target


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--views", default=",".join(VIEWS), help=f"comma-separated, of: {', '.join(VIEWS)}")
    parser.add_argument(
        "--methods", default="cva,irmad,d + ir,default", help=f"comma-separated, of: {', '.join(METHODS)}"
    )
    parser.add_argument("--pairs", help="comma-separated names of folders; default: all")
    parser.add_argument("--json", type=Path, help="write all scores here")
    options = parser.parse_args()
    pairs = labelled_pairs(options.folder, options.pairs)
    methods = options.methods.split(",")
    results: dict[str, Any] = {}
    print(f"{'view':12s}{'group':12s}{'method':12s}" + "".join(f"{c:>18s}" for c in COLUMNS))
    for view in options.views.split(","):
        rows: dict[str, dict[str, dict[str, float]]] = {method: {} for method in methods}
        with tempfile.TemporaryDirectory() as scratch:
            for pair in pairs:
                shown = see(pair, view, Path(scratch))
                reference = read_reference(pair)
                for method in methods:
                    rows[method][pair.name] = score(METHODS[method](shown, 0), reference)
        for group, prefix in GROUPS.items():
            for method in methods:
                members = [scores for pair, scores in rows[method].items() if pair.startswith(prefix)]
                if members:
                    mean = (statistics.fmean(scores[column] for scores in members) for column in COLUMNS)
                    print(
                        f"{view:12s}{group:12s}{method:12s}" + "".join(f"{m:18.3f}" for m in mean), flush=True
                    )
        results[view] = rows
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
