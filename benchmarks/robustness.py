"""What is not change must not be found, and what was planted must be.

    python benchmarks/robustness.py FOLDER [--pairs NAME,...] [--method deep]

Takes the before image of every pair and makes a second date out of it: the same, other light, noise, a
shift, haze, another sun, a season of single classes. Prints the share of pixels that geocd calls changed:
every one of them is wrong. Then plants objects and prints how well they are found.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window
from scipy import ndimage
from scipy.cluster import vq

from geocd.config import Settings
from geocd.errors import SameImageError
from geocd.pipeline.run import detect

Image = np.ndarray
MOST = 700  # larger scenes are cut to this side


def spread(image: Image) -> Image:
    """Return the deviation of each band, ``(bands, 1, 1)``."""
    return image.std(axis=(1, 2), keepdims=True)


def noise(image: Image, share: float, random: np.random.Generator) -> Image:
    """Add white noise of a share of each band's deviation."""
    return image + share * spread(image) * random.normal(size=image.shape)


def shift(image: Image, pixels: float) -> Image:
    """Move the content along both axes (cubic)."""
    return np.stack([ndimage.shift(band, pixels, order=3, mode="nearest") for band in image])


def haze(image: Image, random: np.random.Generator) -> Image:
    """Brighten smoothly, half a deviation at most."""
    veil = ndimage.gaussian_filter(random.normal(size=image.shape[1:]), 120)
    veil = (veil - veil.min()) / max(np.ptp(veil), 1e-9)
    return image + 0.5 * spread(image) * veil


def season(image: Image, random: np.random.Generator) -> Image:
    """Give each of six spectral classes its own gain and offset."""
    rows = (image / spread(image)).reshape(len(image), -1).T
    centres = vq.kmeans2(rows[:: max(1, len(rows) // 20_000)], 6, seed=3, minit="++")[0]
    label = vq.vq(rows, centres)[0].reshape(image.shape[1:])
    gain = 1 + 0.1 * random.normal(size=(6, len(image)))
    offset = 0.3 * random.normal(size=(6, len(image)))
    return image * gain[label].transpose(2, 0, 1) + spread(image) * offset[label].transpose(2, 0, 1)


def sun(image: Image) -> Image:
    """Light from another side: a part of the slope of the brightness is added."""
    grey = ndimage.gaussian_filter(image.mean(axis=0), 1)
    return image + 0.3 * (ndimage.sobel(grey, axis=0) + ndimage.sobel(grey, axis=1)) / 8


NULLS: dict[str, Callable[[Image, np.random.Generator], Image]] = {
    "same image": lambda x, r: x,
    "1.3 x + 200": lambda x, r: 1.3 * x + 200,
    "noise 10 %": lambda x, r: noise(x, 0.1, r),
    "0.5 px shift + noise": lambda x, r: noise(shift(x, 0.5), 0.05, r),
    "1 px shift": lambda x, r: shift(x, 1),
    "haze": haze,
    "classes in another season": season,
    "other sun": lambda x, r: sun(x),
}


def place(image: Image, size: int) -> tuple[slice, slice]:
    """Return the quietest square away from the border, so that what is planted is the only thing there."""
    grey = image.mean(axis=0)
    rough = ndimage.generic_gradient_magnitude(grey, ndimage.sobel)
    busy = ndimage.uniform_filter(rough, size)
    edge = size + 20
    busy[:edge] = busy[-edge:] = busy[:, :edge] = busy[:, -edge:] = np.inf
    row, col = np.unravel_index(busy.argmin(), busy.shape)
    return slice(row - size // 2, row + size // 2), slice(col - size // 2, col + size // 2)


def brighter(image: Image, where: tuple[slice, slice], random: np.random.Generator) -> Image:
    """Plant an object of contrast 2 sigma."""
    after = noise(image, 0.05, random)
    after[:, where[0], where[1]] += 2 * spread(image)
    return after


def rougher(image: Image, where: tuple[slice, slice], random: np.random.Generator) -> Image:
    """Plant other texture of the same mean: contrast 0."""
    after = noise(image, 0.05, random)
    patch = after[:, where[0], where[1]]
    grain = ndimage.gaussian_filter(random.normal(size=patch.shape[1:]), 0.7)
    patch += spread(image) * (grain - grain.mean()) / grain.std()
    return after


def run(folder: Path, profile: dict[str, Any], before: Image, after: Image, method: str) -> np.ndarray:
    """Write a pair in the data type of the source, run geocd, return what is changed.

    Of two images with the same pixels, which geocd refuses, nothing is.
    """
    kind = np.dtype(profile["dtype"])
    # Room above, so that gain and offset do not clip; users' uint8 images do, and lose what is clipped.
    for name, image in (("before", before), ("after", after)):
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            image = np.clip(np.round(image), limits.min, limits.max)
        with rasterio.open(folder / f"{name}.tif", "w", **profile) as sink:
            sink.write(image.astype(kind))
    try:
        files, record = detect(
            folder / "before.tif",
            folder / "after.tif",
            folder / "run",
            settings=Settings.from_flat({"method": method}),
            overwrite=True,
        )
    except SameImageError:
        return np.zeros(before.shape[1:], bool)
    with rasterio.open(files["prob"]) as dataset:
        return dataset.read(1) >= record.threshold


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", help="comma-separated names of folders; default: all")
    parser.add_argument("--method", default="deep")
    options = parser.parse_args()
    names = options.pairs.split(",") if options.pairs else None
    folders = sorted(
        p.parent for p in options.folder.glob("*/before.tif") if not names or p.parent.name in names
    )
    shares: dict[str, list[float]] = {name: [] for name in NULLS}
    planted: dict[str, list[float]] = {"2 sigma: IoU": [], "texture: share hit": []}
    with tempfile.TemporaryDirectory() as scratch:
        for folder in folders:
            with rasterio.open(folder / "before.tif") as dataset:
                window = Window(0, 0, min(MOST, dataset.width), min(MOST, dataset.height))
                before = dataset.read(window=window).astype(np.float64)
                profile = {
                    "driver": "GTiff",
                    "count": dataset.count,
                    "dtype": "uint16",  # room for gain and offset
                    "crs": dataset.crs,
                    "transform": dataset.window_transform(window),
                    "height": before.shape[1],
                    "width": before.shape[2],
                    "photometric": "minisblack",
                    "alpha": "no",
                }
            if before.max() < 256:
                before = before * 16
            row = []
            for name, make in NULLS.items():
                changed = run(
                    Path(scratch), profile, before, make(before, np.random.default_rng(0)), options.method
                )
                shares[name].append(float(changed.mean()))
                row.append(f"{name} {changed.mean():.3%}")
            where = place(before, 30)
            truth = np.zeros(before.shape[1:], bool)
            truth[where] = True
            for name, plant in (("2 sigma: IoU", brighter), ("texture: share hit", rougher)):
                after = plant(before, where, np.random.default_rng(1))
                changed = run(Path(scratch), profile, before, after, options.method)
                hit = (changed & truth).sum()
                value = hit / (changed | truth).sum() if "IoU" in name else hit / truth.sum()
                planted[name].append(float(value))
                row.append(f"{name} {value:.2f}")
            print(f"{folder.name}: " + "; ".join(row), flush=True)
    print(f"\n{'called changed, all wrong':30s}{'mean':>10s}{'worst':>10s}")
    for name, values in shares.items():
        print(f"{name:30s}{np.mean(values):10.3%}{max(values):10.3%}")
    print(f"\n{'planted, 30 x 30 px':30s}{'mean':>10s}{'worst':>10s}")
    for name, values in planted.items():
        print(f"{name:30s}{np.mean(values):10.2f}{min(values):10.2f}")


if __name__ == "__main__":
    main()
