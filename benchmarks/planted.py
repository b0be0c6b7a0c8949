"""Changes that the reference maps leave out, planted into real pairs: how much of them the default finds.

    python benchmarks/planted.py FOLDER [--large] [--pairs NAME,...]

FOLDER is that of ``accuracy.py``. Discs are planted into the date after of Sentinel-2 pairs (bands blue,
green, red, near infrared, then others): forest cleared to the scene's bare ground, vegetation and bare ground
flooded, bright buildings. Up to twelve discs with a radius of 4 to 11 pixels, with ``--large`` two of 30 to
45. Prints the share of their pixels that is called changed. The reference maps are not read.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from whole import Whole

PAIRS = "oscd_saclay_e,oscd_bordeaux,oscd_aguasclaras,oscd_nantes,oscd_mumbai,oscd_rennes"
#: Reflectance of clear water x 10 000: blue, green, red, near infrared, two bands of short-wave infrared.
WATER = (900.0, 750.0, 500.0, 250.0, 150.0, 100.0)
Image = np.ndarray


def ndvi(image: Image) -> Image:
    """Return NDVI, ``(height, width)``."""
    return (image[3] - image[2]) / (image[3] + image[2] + 1)


@dataclasses.dataclass(frozen=True)
class Kind:
    """Where a change may happen, what it leaves, and how rough that is."""

    possible: Callable[[float], bool]  # of the mean NDVI of a disc
    surface: Callable[[Image], Image]  # of the date after: one value for each band
    grain: float

    def plant(self, before: Image, after: Image, large: bool) -> tuple[Image, Image]:
        """Return the changed date after, and where it changed, ``(height, width)`` bool."""
        random = np.random.default_rng(5)
        height, width = before.shape[1:]
        rows, cols = np.mgrid[:height, :width]
        greenness = np.minimum(ndvi(before), ndvi(after))
        edge, (least, most), count = (60, (30, 46), 2) if large else (15, (4, 12), 12)
        planted, discs = np.zeros((height, width), bool), 0
        for _ in range(4000):
            row, col = random.integers(edge, height - edge), random.integers(edge, width - edge)
            radius = random.integers(least, most)
            squared = (rows - row) ** 2 + (cols - col) ** 2
            apart = not planted[squared < (radius + 12) ** 2].any()
            if apart and self.possible(greenness[squared < radius**2].mean()):
                planted |= squared < radius**2
                discs += 1
            if discs == count:
                break
        changed, surface = after.copy(), self.surface(after)[:, None]
        grain = 1 + (0.03 if large else self.grain) * random.normal(size=(1, planted.sum()))
        changed[:, planted] = surface * grain * (1 + 0.03 * random.normal(size=(len(after), planted.sum())))
        return changed, planted


def kinds(large: bool) -> dict[str, Kind]:
    """Return the kinds of change; large discs of pure forest are rare, so less green is enough for them."""

    def bare(image: Image) -> Image:
        return np.median(image[:, (ndvi(image) < 0.25) & (ndvi(image) > 0.05)], axis=1)

    def bright(image: Image) -> Image:
        return np.percentile(image[:, ndvi(image) < 0.25], 90, axis=1)

    def water(image: Image) -> Image:
        return np.array(WATER[: len(image)])

    return {
        "forest cleared to bare ground": Kind(lambda green: green > (0.4 if large else 0.5), bare, 0.1),
        "vegetation flooded": Kind(lambda green: green > (0.35 if large else 0.4), water, 0.03),
        "bare ground flooded": Kind(lambda green: green < 0.3, water, 0.1),
        "bright buildings": Kind(lambda green: True, bright, 0.1),
    }


def found(folder: Path, kind: Kind, large: bool) -> float | None:
    """Return the share of the planted pixels that is called changed; None where nothing could be planted."""
    dates = []
    for name in ("before", "after"):
        with rasterio.open(folder / f"{name}.tif") as dataset:
            dates.append(dataset.read().astype(np.float32))
            profile, names = dataset.profile, dataset.descriptions
    changed, planted = kind.plant(*dates, large)
    if not planted.any():
        return None
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "before.tif").symlink_to((folder / "before.tif").resolve())
        with rasterio.open(Path(scratch) / "after.tif", "w", **profile) as sink:
            limits = np.iinfo(profile["dtype"])
            sink.write(changed.clip(limits.min, limits.max).astype(profile["dtype"]))
            sink.descriptions = names
        prob = Whole.read(Path(scratch)).prob()
    return float((prob[planted] >= 0.5).mean())


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--pairs", default=PAIRS, help="with commas")
    options = parser.parse_args()
    for name, kind in kinds(options.large).items():
        shares = {
            pair: found(options.folder / pair, kind, options.large) for pair in options.pairs.split(",")
        }
        known = {pair: share for pair, share in shares.items() if share is not None}
        each = ", ".join(f"{pair} {share:.2f}" for pair, share in known.items())
        print(f"{name:32s}{statistics.fmean(known.values()):.3f}   {each}", flush=True)


if __name__ == "__main__":
    main()
