"""What `--ignore cloud` masks on pairs without cloud, and of a cloud that is painted into them.

    python benchmarks/clouds.py FOLDER [--pairs NAME,...] [--detect]

FOLDER has ``<pair>/{before,after,mask}.tif`` of Sentinel-2 (reflectance, bands by name). For each pair, by
the network of ``geocd[clouds]`` with six bands and with four, and by the simple rule: per cent of the valid
pixels that are masked, per cent of the labelled changes that are lost by it, and how much is masked of a
cloud and of its shadow in the after image. Labels score, and do nothing else. With --detect, what the default
method calls changed of the cloud and of the shadow, and how much of what it calls changed on the pair without
them is still called so elsewhere.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from scipy import ndimage

import geocd
from geocd.raster.pair import Pair
from geocd.scene.ignore import Rules
from geocd.scene.sample import sample_chips

#: What decides, and the bands of the pair.
DETECTORS = {"six bands": None, "four bands": (1, 2, 3, 4), "rule": None}
#: Reflectance of a cloud at its top (B02, B03, B04, B08, B11, B12), and what its shadow leaves of the light.
CLOUD, SHADOW = (0.72, 0.68, 0.68, 0.74, 0.5, 0.38), (0.62, 0.5, 0.42, 0.35, 0.3, 0.3)
#: Side of the square with the cloud and of its shadow, in pixels, and its first row and columns of each.
SIDE, TOP, LEFT, SHADOW_LEFT = 100, 60, 60, 190
#: Pixels around both in which what is called changed may differ.
SURROUNDINGS = 40


def lumps(side: int) -> np.ndarray:
    """Return how opaque a cloud is, (side, side) from 0 to 1, the same on every call."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(side, side)), 6)
    rows, cols = (np.indices((side, side)) - (side - 1) / 2) / (side / 2)
    return np.clip(3 * (0.8 - np.hypot(rows, cols)) + 4 * noise, 0, 1)


def painted(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a copy of reflectance x 10 000 with a cloud and its shadow, and where they are, bool.

    Of the rims, what is less than half as opaque as the middle is neither.
    """
    image, alpha = image.astype(np.float64), lumps(SIDE)
    where = np.zeros((2, *image.shape[1:]), bool)
    rows = slice(TOP, TOP + SIDE)
    for index, left in enumerate((LEFT, SHADOW_LEFT)):
        cols = slice(left, left + SIDE)
        part = image[:, rows, cols]
        light, dark = np.reshape(CLOUD, (-1, 1, 1)) * 10_000, part * np.reshape(SHADOW, (-1, 1, 1))
        image[:, rows, cols] = part * (1 - alpha) + alpha * (light, dark)[index]
        where[index, rows, cols] = alpha >= 0.5
    return image.round().astype(np.uint16), where[0], where[1]


def mask(before: Path, after: Path, detector: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Return what is masked as cloud, what is valid without it, and what decided."""
    with Pair(before, after, indexes=DETECTORS[detector]) as pair:
        chip = pair.read(pair.grid.window)
        rules = Rules.of(("cloud",), pair.band_names, pair.scalings)
        rules = rules.fit(sample_chips(pair)) if detector == "rule" else rules.fitted_to(pair)
        if (rules.cloud_mask is None) != (detector == "rule"):
            raise SystemExit(str(rules.cloud_detector))
        levels = "" if rules.cloud_detector is None else "/".join(rules.cloud_detector.levels)
        return rules.masks(chip)["cloud"], chip.valid, levels


def write_clouded(source: Path, target: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write an image with a cloud and its shadow, and return where they are."""
    with rasterio.open(source) as dataset:
        image, cloud, shadow = painted(dataset.read())
        with rasterio.open(target, "w", **{**dataset.profile, "dtype": "uint16"}) as sink:
            sink.write(image)
            sink.descriptions = dataset.descriptions
    return cloud, shadow


def detected(folder: Path) -> None:
    """Print what is called changed inside and outside, by the network and by the rule."""
    before, after = folder / "before.tif", folder / "after.tif"
    clean = geocd.detect(before, after)["changed"].to_numpy() == 1
    with tempfile.TemporaryDirectory() as temporary:
        clouded = Path(temporary) / "after.tif"
        cloud, shadow = write_clouded(after, clouded)
        elsewhere = clean & ~ndimage.binary_dilation(cloud | shadow, iterations=SURROUNDINGS)
        for choice in ("network", "rule"):
            run = geocd.detect(before, clouded, ignore=("cloud",), cloud_detector=choice)
            changed = run["changed"].to_numpy() == 1
            shares = [f"{100 * changed[where].mean():.1f}" for where in (cloud, shadow, elsewhere)]
            print("|", " | ".join([folder.name, choice, *shares]), "|", flush=True)


def row(folder: Path, detector: str) -> tuple[str, list[float]]:
    """Return the levels of the dates and the columns of one pair and detector, in per cent."""
    before, after = folder / "before.tif", folder / "after.tif"
    masked, valid, levels = mask(before, after, detector)
    with rasterio.open(folder / "mask.tif") as dataset:
        changed = (dataset.read(1) == 1) & valid
    with tempfile.TemporaryDirectory() as temporary:
        clouded = Path(temporary) / "after.tif"
        cloud, shadow = write_clouded(after, clouded)
        covered, _, _ = mask(before, clouded, detector)
    parts = (masked, valid), (masked, changed), (covered, cloud), (covered, shadow)
    return levels, [100 * float(part[where].mean()) for part, where in parts]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", help="names between commas; default: all of OSCD's")
    parser.add_argument("--detect", action="store_true", help="run the default method, too: minutes a pair")
    options = parser.parse_args(arguments)
    names = options.pairs.split(",") if options.pairs else None
    folders = [path.parent for path in sorted(options.folder.glob("*/mask.tif"))]
    folders = [path for path in folders if (path.name in names if names else path.name.startswith("oscd"))]
    print("| pair | by | levels | masked % | changes lost % | cloud masked % | shadow masked % |")
    print("|---|---|---|---|---|---|---|")
    columns: dict[str, list[list[float]]] = {detector: [] for detector in DETECTORS}
    for folder in folders:
        for detector, rows in columns.items():
            levels, values = row(folder, detector)
            rows.append(values)
            print(
                "|",
                " | ".join([folder.name, detector, levels, *(f"{x:.2f}" for x in values)]),
                "|",
                flush=True,
            )
    for detector, rows in columns.items():
        means = [f"{x:.2f}" for x in np.mean(rows, axis=0)]
        print("|", " | ".join(["mean", detector, "", *means]), "|")
    if options.detect:
        print("\n| pair | by | cloud changed % | shadow changed % | elsewhere still changed % |")
        print("|---|---|---|---|---|")
        for folder in folders:
            detected(folder)


if __name__ == "__main__":
    main()
