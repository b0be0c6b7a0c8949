"""What other dates of a place are worth: seasons silenced by --baseline, passing changes told by --confirm.

    python benchmarks/series.py FOLDER [--labelled FOLDER]

FOLDER has dated rasters of one place, on one grid, in which nothing lasting happened. The first table has
each pair of dates with three earlier ones: the share that is called changed outside clouds, without and with
these as baseline; and of 40 objects of two deviations planted into the after image, how many are found
without, and how many of those are found with the baseline. The second table has objects planted into the
after image of every third of all triples of dates, half of them into the later date too: the share of the
polygons on them that `lasting` tells right.

--labelled takes real pairs with reference maps (`NAME/{before,after,mask}.tif`) and gives their places
seasons of their own, class by class: F1 and the share changed outside the reference, without and with three
earlier seasons. The references only score.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import geopandas
import numpy as np
import rasterio
from rasterio.features import rasterize
from rasterio.windows import Window
from scipy import ndimage
from scipy.cluster import vq

from geocd.config import Settings
from geocd.pipeline.prepared import computing, open_run
from geocd.pipeline.run import detect
from geocd.scene import season

Image = np.ndarray
#: Objects in an image, their deviations, and the signs of their bands.
OBJECTS, DEVIATIONS, SIGNS = 40, 2.0, ("up", "down", "mixed")


def read(path: Path, window: Window | None = None) -> Image:
    """Return all bands, ``(bands, height, width)`` float64."""
    with rasterio.open(path) as dataset:
        return dataset.read(window=window).astype(np.float64)


def write(path: Path, image: Image, like: Path) -> Path:
    """Write an image with grid and band names of another one."""
    with rasterio.open(like) as dataset:
        profile, names = dataset.profile, dataset.descriptions
    profile |= {"height": image.shape[1], "width": image.shape[2], "dtype": "float32", "nodata": None}
    for key in ("blockxsize", "blockysize", "tiled", "compress", "predictor", "photometric"):
        profile.pop(key, None)
    with rasterio.open(path, "w", **profile | {"driver": "GTiff"}) as target:
        target.write(image.astype(np.float32))
        target.descriptions = names
    return path


def clouds(images: Sequence[Image]) -> list[Image]:
    """Return where each date is cloudy: far bluer than usual, and not as bare soil is, with surroundings."""
    median = np.median(images, axis=0)
    masks = []
    for image in images:
        blue, red = (
            ndimage.gaussian_filter(excess - np.median(excess), 1) / median[0].mean()
            for excess in (image[band] - median[band] for band in (0, 2))
        )
        cloud = ndimage.binary_opening((blue > 0.3) & (blue > 0.8 * red), np.ones((3, 3)))
        masks.append(ndimage.binary_dilation(cloud, iterations=8))
    return masks


def objects(shape: tuple[int, int], random: np.random.Generator, count: int = OBJECTS) -> Image:
    """Return the numbers of rectangles that lie apart, 0 between them."""
    numbers, taken = np.zeros(shape, int), np.zeros(shape, bool)
    for _ in range(20_000):
        height, width = random.integers(5, 13, 2)
        top, left = (int(random.integers(2, side - 15)) for side in shape)
        if taken[top : top + height, left : left + width].any():
            continue
        numbers[top : top + height, left : left + width] = numbers.max() + 1
        taken[max(top - 6, 0) : top + height + 6, max(left - 6, 0) : left + width + 6] = True
        if numbers.max() == count:
            break
    return numbers


def planted(image: Image, numbers: Image, signs: Image) -> Image:
    """Return an image with objects, ``signs`` (objects, bands) deviations away from what was there."""
    steps = np.concatenate([np.zeros((1, len(image))), signs]) * image.std(axis=(1, 2))
    return np.maximum(image + steps[numbers].transpose(2, 0, 1), 1)


def drawn_signs(kind: str, shape: tuple[int, int], random: np.random.Generator) -> Image:
    """Return the deviations of objects by band."""
    fixed = {"up": 1.0, "down": -1.0}.get(kind)
    return DEVIATIONS * (random.choice([-1, 1], shape) if fixed is None else np.full(shape, fixed))


def changed(before: Path, after: Path, baseline: Sequence[Path] = ()) -> Image:
    """Return what geocd calls changed, ``(height, width)`` bool."""
    settings = Settings.from_flat({"baseline": tuple(map(str, baseline))})
    with open_run(str(before), str(after), settings, jobs=1) as run, computing(run.settings):
        fitted = run.fit()
        return fitted.detector.prob(fitted.pair.read(fitted.pair.grid.window))[0] >= 0.5


def found(mask: Image, numbers: Image) -> Image:
    """Return which objects are changed in at least half of their pixels."""
    shares = ndimage.mean(mask.astype(float), numbers, np.arange(1, numbers.max() + 1))
    return np.asarray(shares) >= 0.5


def baseline_table(days: Sequence[Path], folder: Path) -> None:
    """Print what three earlier dates silence, and what they leave."""
    images = [read(day) for day in days]
    cloudy = clouds(images)
    print("changed outside clouds, without and with three earlier dates; objects found without, and still")
    for first, second in itertools.combinations(range(3, len(days)), 2):
        earlier = days[first - 3 : first]
        clear = ~cloudy[first] & ~cloudy[second]
        shares = [100 * changed(days[first], days[second], dates)[clear].mean() for dates in ((), earlier)]
        cells = []
        for kind in SIGNS:
            random = np.random.default_rng([first, second, SIGNS.index(kind)])
            numbers = objects(images[second].shape[1:], random)
            signs = drawn_signs(kind, (numbers.max(), len(images[second])), random)
            after = write(folder / "after.tif", planted(images[second], numbers, signs), days[second])
            without, beside = (found(changed(days[first], after, dates), numbers) for dates in ((), earlier))
            still = (without & beside).sum()
            cells.append(f"{kind} {without.sum():2d} -> {still:2d} (all {beside.sum():2d})")
        names = f"{days[first].stem} {days[second].stem}"
        print(f"{names}  {shares[0]:5.2f} % {shares[1]:5.2f} %  {'  '.join(cells)}", flush=True)


def confirm_table(days: Sequence[Path], folder: Path) -> None:
    """Print how many lasting and passing changes are told right, by polygons and by pixels of the band."""
    right = total = 0
    pixels: list[np.ndarray] = []
    differences: list[float] = []
    triples = list(itertools.combinations(range(len(days)), 3))[::3]
    for triple in triples:
        after, later = (read(days[index]) for index in triple[1:])
        random = np.random.default_rng(triple)
        numbers = objects(after.shape[1:], random)
        signs = drawn_signs(SIGNS[sum(triple) % 3], (numbers.max(), len(after)), random)
        stays = np.arange(numbers.max()) % 2 == 0
        second = write(folder / "second.tif", planted(after, numbers, signs), days[triple[1]])
        third = write(folder / "third.tif", planted(later, numbers, signs * stays[:, None]), days[triple[2]])
        settings = Settings.from_flat({"confirm": (str(third),), "lasting_band": True})
        files, _ = detect(days[triple[0]], second, folder / "run", settings=settings, overwrite=True)
        polygons, band = geopandas.read_file(files["changes"]), read(files["prob"])[1]
        for polygon in polygons.itertuples():
            inside = rasterize([polygon.geometry], after.shape[1:], transform=_transform(second)) == 1
            counts = np.bincount(numbers[inside], minlength=numbers.max() + 1)
            if counts[1:].max() >= 0.5 * counts.sum():  # not the season's own
                total += 1
                right += (polygon.lasting >= 0.5) == bool(stays[counts[1:].argmax()])
                pixels.append((band[inside] >= 0.5) == stays[counts[1:].argmax()])
                differences.append(abs(float(np.nanmean(band[inside])) - polygon.lasting))
    print(f"lasting and passing changes told right: {right} of {total} ({100 * right / max(total, 1):.1f} %)")
    share, mean, most = np.concatenate(pixels).mean(), np.mean(differences), max(differences)
    print(
        f"pixels of the band told right: {100 * share:.1f} %; its mean in a polygon is {mean:.3f} from the "
        f"polygon's value, at most {most:.3f}"
    )


def _transform(path: Path) -> rasterio.Affine:
    with rasterio.open(path) as dataset:
        return dataset.transform


def seasons(images: Sequence[Image], places: Image, random: np.random.Generator) -> list[Image]:
    """Return each image in a season of its own, in which every class of ``places`` differs in its own way."""
    bands = len(images[0])
    answers = random.normal(size=(places.max() + 1, bands, 2))
    dated = []
    for image in images:
        weather = answers @ random.normal(size=2)
        growth = ndimage.gaussian_filter(weather[places].transpose(2, 0, 1), (0, 0.7, 0.7))
        deviation = image.std(axis=(1, 2), keepdims=True)
        noise = 0.05 * random.normal(size=image.shape)
        dated.append(np.maximum(image + deviation * (0.35 * growth + noise), 1))
    return dated


def classes(image: Image, count: int = 8) -> Image:
    """Return spectral classes of a smoothed image, ``(height, width)`` int."""
    smooth = ndimage.gaussian_filter(image, (0, 1, 1)) / image.std(axis=(1, 2), keepdims=True)
    rows = smooth.reshape(len(image), -1).T
    centres = vq.kmeans2(rows[:: max(1, len(rows) // 20_000)], count, seed=3, minit="++")[0]
    return vq.vq(rows, centres)[0].reshape(image.shape[1:])


def labelled_table(folder: Path, scratch: Path, side: int) -> None:
    """Print scores of pairs that got seasons, cut to this side."""
    print("pairs in seasons: F1 without, with; changed outside the reference without, with")
    for pair in sorted(path.parent for path in folder.glob("*/mask.tif")):
        with rasterio.open(pair / "before.tif") as dataset:
            window = Window(0, 0, min(dataset.width, side), min(dataset.height, side))
        before, after = (read(pair / f"{date}.tif", window) for date in ("before", "after"))
        mask = read(pair / "mask.tif", window)[0]
        dates = seasons([before] * 4 + [after], classes(before), np.random.default_rng(0))
        paths = [write(scratch / f"{n}.tif", date, pair / "before.tif") for n, date in enumerate(dates)]
        cells = []
        for baseline in ((), paths[:3]):
            result = changed(paths[3], paths[4], baseline)
            hits, alarms = (result & (mask == 1)).sum(), (result & (mask == 0)).sum()
            f1 = 2 * hits / max(hits + alarms + (mask == 1).sum(), 1)
            cells.append((f1, 100 * alarms / max((mask == 0).sum(), 1)))
        (f1, alarms), (f1_with, alarms_with) = cells
        print(f"{pair.name:28s} {f1:.3f} {f1_with:.3f}   {alarms:5.2f} % {alarms_with:5.2f} %", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labelled", type=Path)
    parser.add_argument("--only", choices=("baseline", "confirm", "labelled"))
    parser.add_argument("--side", type=int, default=400, help="larger labelled scenes are cut to this side")
    parser.add_argument("--steady", type=float, default=season.STEADY, help="see geocd.scene.season")
    arguments = parser.parse_args()
    season.STEADY = arguments.steady
    days = sorted(arguments.folder.glob("*.tif"))
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.only in (None, "baseline"):
            baseline_table(days, Path(scratch))
        if arguments.only in (None, "confirm"):
            confirm_table(days, Path(scratch))
        if arguments.labelled and arguments.only in (None, "labelled"):
            labelled_table(arguments.labelled, Path(scratch), arguments.side)


if __name__ == "__main__":
    main()
