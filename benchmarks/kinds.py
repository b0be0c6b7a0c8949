"""Kinds of change planted between real surfaces, and how many geocd tells right.

    python benchmarks/kinds.py FOLDER [--count 200] [--seeds 5] [--bands rgb] [--units dn] [--detect]

Cuts surfaces out of real Sentinel-2 scenes (``<pair>/{before,after,mask}.tif``: B02 B03 B04 B08 B11 B12,
reflectance x 10 000): water, vegetation, bare ground, built-up ground. Their classes come from plain levels
of single bands and, for built-up ground, from the reference maps of urban change; not from the indices that
geocd uses. Each is pasted into the after image where both dates show another surface. Burnt ground and snow
have spectra of libraries with the texture of the place; an estate is made of library spectra of streets,
roofs and gardens; wet and dry ground is the bare ground of the place times one factor. Prints the shares of
each seed, a row for each transition, and mean and range of the shares.

``--bands rgb`` keeps red, green and blue; ``--units dn`` stores 8-bit numbers with a gain and an offset of
each band and date. Polygons are the planted outlines; with ``--detect`` they are those of a detection, and a
planted change counts where they cover most of it, and little else.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import statistics
import tempfile
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import rasterio.features
from scipy import ndimage

from geocd.config import Settings
from geocd.pipeline.run import detect
from geocd.raster.pair import Pair
from geocd.vectorize.polygons import polygonize

Image = np.ndarray
NAMES = ("B02", "B03", "B04", "B08", "B11", "B12")
SIDE = 18
#: Pixels between two planted changes: nearer ones are one polygon of a detection.
GAP = 16
#: Planted surface by the surface of the place, and the kinds that are right.
CHANGES: dict[tuple[str, str], tuple[str, ...]] = {
    ("vegetation", "bare"): ("vegetation_loss",),
    ("vegetation", "built"): ("built_or_bare", "vegetation_loss"),
    ("vegetation", "water"): ("water_gain",),
    ("vegetation", "burnt"): ("burnt",),
    ("vegetation", "snow"): ("snow",),
    ("bare", "vegetation"): ("vegetation_gain",),
    ("bare", "built"): ("built_or_bare", "brighter", "darker"),
    ("bare", "water"): ("water_gain",),
    ("bare", "snow"): ("snow",),
    ("bare", "estate"): ("built_or_bare",),
    ("bare", "wet"): ("darker",),
    ("bare", "dry"): ("brighter",),
    ("built", "vegetation"): ("vegetation_gain",),
    ("built", "water"): ("water_gain",),
    ("water", "bare"): ("water_loss",),
    ("water", "vegetation"): ("water_loss", "vegetation_gain"),
    ("water", "built"): ("water_loss", "built_or_bare"),
}
#: What red, green and blue allow beside that.
COLOURS: dict[str, tuple[str, ...]] = {
    "water_gain": ("darker",),
    "water_loss": ("brighter",),
    "burnt": ("darker", "vegetation_loss"),
    "snow": ("brighter",),
    "built_or_bare": ("brighter", "darker"),
}
#: Reflectance in the bands above.
SPECTRA = {
    "burnt": (0.045, 0.05, 0.06, 0.09, 0.15, 0.16),
    "snow": (0.82, 0.83, 0.82, 0.76, 0.12, 0.09),
}
#: Of what an estate is made: aged asphalt, then roofs and yards (shingle, concrete, tiles, white metal,
#: gravel, lawn), and how often each of these occurs.
STREET = (0.09, 0.1, 0.11, 0.13, 0.17, 0.17)
MATERIALS = (
    (0.06, 0.065, 0.07, 0.08, 0.1, 0.1),
    (0.22, 0.26, 0.28, 0.31, 0.34, 0.32),
    (0.07, 0.1, 0.2, 0.3, 0.38, 0.36),
    (0.5, 0.53, 0.55, 0.55, 0.53, 0.48),
    (0.16, 0.2, 0.24, 0.28, 0.34, 0.32),
    (0.03, 0.06, 0.04, 0.4, 0.2, 0.1),
)
OFTEN = (0.25, 0.15, 0.25, 0.05, 0.2, 0.1)
#: What moisture, or its loss, makes of the reflectance of bare ground.
FACTORS = {"wet": (0.55, 0.8), "dry": (1.25, 1.6)}
#: What air adds to them at the top of the atmosphere.
AIR = (0.085, 0.05, 0.025, 0.01, 0.003, 0.001)


@dataclasses.dataclass(frozen=True)
class Scene:
    """A pair of images, ``(bands, rows, cols)``, and where its reference says that it changed."""

    name: str
    before: Image
    after: Image
    changed: Image
    profile: dict

    @classmethod
    def read(cls, folder: Path) -> Scene:
        with rasterio.open(folder / "before.tif") as before, rasterio.open(folder / "after.tif") as after:
            images = before.read().astype(float), after.read().astype(float)
            profile = before.profile
        with rasterio.open(folder / "mask.tif") as mask:
            return cls(folder.name, *images, mask.read(1) == 1, profile)


def classes(image: Image) -> dict[str, Image]:
    """Return where an image surely shows a surface, by levels of single bands."""
    _, green, red, nir, swir, swir2 = (ndimage.gaussian_filter(band, 1) / 1e4 for band in image)
    green_leaf = (nir - red > 0.11) & (swir < nir * 1.05) & (red < 0.1)
    dry = (swir > 0.22) & (swir > nir * 1.02) & (red > 0.1) & (nir - red < 0.1) & (swir > red * 1.35)
    wet = (nir < 0.09) & (swir < 0.05) & (swir2 < 0.04) & (green > swir)
    return {"vegetation": green_leaf, "bare": dry, "water": wet}


def pure(where: Image, share: float = 0.95) -> list[tuple[int, int]]:
    """Return the corners of windows of which this share is of a class, none overlapping."""
    inside = ndimage.uniform_filter(where.astype(float), SIDE)
    corners = []
    for row in range(0, where.shape[0] - SIDE, SIDE):
        for col in range(0, where.shape[1] - SIDE, SIDE):
            if inside[row + SIDE // 2, col + SIDE // 2] >= share:
                corners.append((row, col))
    return corners


def surfaces(scenes: list[Scene]) -> dict[str, list[Image]]:
    """Return windows of each surface, from both dates."""
    windows: dict[str, list[Image]] = collections.defaultdict(list)
    for scene in scenes:
        for image in (scene.before, scene.after):
            own = classes(image)
            if image is scene.after:
                own["built"] = scene.changed & ~own["vegetation"] & ~own["water"]
            for name, where in own.items():
                for row, col in pure(where, 0.95 if name != "built" else 0.6):
                    windows[name].append(image[:, row : row + SIDE, col : col + SIDE])
    return windows


def outline(random: np.random.Generator) -> Image:
    """Return an irregular shape, ``(SIDE, SIDE)`` in [0, 1], with mixed pixels along its edge."""
    rows, cols = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE * 2 - 1
    rough = ndimage.gaussian_filter(random.normal(size=(SIDE, SIDE)), 3)
    radius = np.hypot(rows / random.uniform(0.55, 0.85), cols / random.uniform(0.55, 0.85))
    return ndimage.gaussian_filter((radius + 1.5 * rough < 1).astype(float), 0.6)


def estate(random: np.random.Generator) -> Image:
    """Return the reflectance of an estate: streets every few pixels, roofs and yards between them."""
    fine = 2 * SIDE  # half pixels
    lots = random.choice(len(MATERIALS), size=(fine, fine), p=OFTEN)
    image = np.array(MATERIALS)[lots].transpose(2, 0, 1)
    step = int(random.integers(6, 14))
    for lines in (image, image.swapaxes(1, 2)):
        for start in range(int(random.integers(step)), fine, step):
            lines[:, start : start + 2] = np.reshape(STREET, (-1, 1, 1))
    pixels = image.reshape(len(STREET), SIDE, 2, SIDE, 2).mean(axis=(2, 4))
    return np.stack([ndimage.gaussian_filter(band, 0.5) for band in pixels])


@dataclasses.dataclass
class Plant:
    """A planted change: its place in the scene and what it is."""

    row: int
    col: int
    shape: Image
    change: tuple[str, str]


def planted(
    scene: Scene,
    windows: dict[str, list[Image]],
    wanted: dict[tuple[str, str], int],
    random: np.random.Generator,
) -> tuple[Image, list[Plant]]:
    """Return the after image with changes, and these; ``wanted`` counts down."""
    after = scene.after.copy()
    first, last = classes(scene.before), classes(scene.after)
    dark = [np.percentile(band, 0.5) / 1e4 for band in scene.after]
    free = np.ones(after.shape[1:], bool)
    plants = []
    own = {name: first[name] & last[name] & ~scene.changed for name in first}
    quiet = ndimage.uniform_filter((scene.before[2] > 900).astype(float), 9)
    own["built"] = (quiet > 0.5) & ~first["vegetation"] & ~first["bare"] & ~first["water"] & ~scene.changed
    for name, where in own.items():
        corners = pure(where, 0.95 if name != "built" else 0.85)
        random.shuffle(corners)
        for row, col in corners:
            part = slice(row, row + SIDE), slice(col, col + SIDE)
            options = [change for change, left in wanted.items() if change[0] == name and left > 0]
            if not options or not free[part].all():
                continue
            change = max(options, key=lambda option: (wanted[option], random.random()))
            new = SPECTRA.get(change[1])
            own_part = after[:, part[0], part[1]]
            air = np.reshape([min(low, most) for low, most in zip(dark, AIR, strict=True)], (-1, 1, 1)) * 1e4
            if change[1] == "estate":
                patch = estate(random) * 1e4 + air
            elif change[1] in FACTORS:
                patch = (own_part - air) * random.uniform(*FACTORS[change[1]]) + air
            elif new is not None:
                texture = own_part / own_part.mean(axis=(1, 2), keepdims=True)
                patch = (1 + (texture - 1) * 0.5) * np.reshape(new, (-1, 1, 1)) * 1e4 + air
            elif windows.get(change[1]):
                patch = windows[change[1]][int(random.integers(len(windows[change[1]])))]
            else:
                continue
            shape = outline(random)
            after[:, part[0], part[1]] = after[:, part[0], part[1]] * (1 - shape) + patch * shape
            near = slice(max(0, row - GAP), row + SIDE + GAP), slice(max(0, col - GAP), col + SIDE + GAP)
            free[near] = False
            wanted[change] -= 1
            plants.append(Plant(row, col, shape, change))
    return after, plants


def stored(images: tuple[Image, Image], units: str, random: np.random.Generator) -> tuple[Image, Image]:
    """Return the images as they are stored."""
    if units == "reflectance":
        return tuple(np.clip(np.rint(image), 1, 65535).astype("u2") for image in images)
    low = np.percentile(images[0], 0.1, axis=(1, 2)) * random.uniform(0.2, 0.9, len(images[0]))
    high = np.percentile(images[0], 99.8, axis=(1, 2)) * random.uniform(1, 1.5, len(images[0]))
    result = []
    for image in images:
        gain = random.uniform(0.85, 1.15)
        scaled = (image - low[:, None, None]) / (high - low)[:, None, None] * 240 * gain + 12
        result.append(np.clip(np.rint(scaled), 1, 255).astype("u1"))
    return tuple(result)


def write(path: Path, values: Image, profile: dict, names: tuple[str, ...]) -> str:
    profile = {key: profile[key] for key in ("crs", "transform", "width", "height")}
    with rasterio.open(path, "w", driver="GTiff", count=len(values), dtype=values.dtype, **profile) as out:
        out.write(values)
        out.descriptions = names
    return str(path)


def told(
    scene: Scene, after: Image, plants: list[Plant], options: argparse.Namespace, random: np.random.Generator
) -> list[tuple[Plant, str, str]]:
    """Return what geocd says of each planted change, and why."""
    bands = [2, 1, 0] if options.bands == "rgb" else list(range(6))
    names = ("red", "green", "blue") if options.bands == "rgb" else NAMES
    images = stored((scene.before[bands], after[bands]), options.units, random)
    label = np.zeros(after.shape[1:], int)
    for number, plant in enumerate(plants, 1):
        part = slice(plant.row, plant.row + SIDE), slice(plant.col, plant.col + SIDE)
        label[part][plant.shape > 0.5] = number
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            write(Path(folder, f"{name}.tif"), image, scene.profile, names)
            for name, image in zip(("before", "after"), images, strict=True)
        ]
        if options.detect:
            files, _ = detect(
                *paths, Path(folder, "out"), settings=Settings.from_flat({"method": options.method})
            )
            changes = files["changes"]
        else:
            changes = Path(folder, "out.gpkg")
            prob = write(Path(folder, "prob.tif"), (label > 0).astype("f4")[None], scene.profile, ("p",))
            with Pair(*paths) as pair:
                polygonize(prob, changes, threshold=0.5, pair=pair)
        frame = geopandas.read_file(changes)
    shapes = [(geometry, row + 1) for row, geometry in enumerate(frame.geometry)]
    painted = rasterio.features.rasterize(
        shapes, label.shape, transform=scene.profile["transform"], dtype="int32"
    )
    result = []
    for number, plant in enumerate(plants, 1):
        rows = painted[label == number]
        votes = np.bincount(rows[rows > 0], minlength=1)
        if votes.sum() * 2 < rows.size:
            result.append((plant, "not detected", ""))
        else:
            row = frame.iloc[int(votes.argmax()) - 1]
            if row["n_pixels"] > 3 * rows.size:  # other changes beside it are part of the polygon
                result.append((plant, "merged", ""))
                continue
            result.append((plant, row["kind"], row["kind_why"]))
    return result


def score(
    scenes: list[Scene], windows: dict[str, list[Image]], options: argparse.Namespace, seed: int
) -> tuple[dict[tuple[str, str], collections.Counter], collections.Counter]:
    """Plant changes and judge what geocd says: kinds by transition, and the number right, wrong, unclear.

    They are spread over the scenes, and planted in rounds, each into fresh images, until all are.
    """
    random = np.random.default_rng(seed)
    wanted = dict.fromkeys(CHANGES, -(-options.count // len(CHANGES)))
    share = -(-options.count // len(CHANGES) // len(scenes)) + 1
    table: dict[tuple[str, str], collections.Counter] = collections.defaultdict(collections.Counter)
    sums: collections.Counter = collections.Counter()
    left = -1
    while left != (left := sum(wanted.values())) and left:
        for scene in scenes:
            quota = {change: min(number, share) for change, number in wanted.items()}
            asked = dict(quota)
            after, plants = planted(scene, windows, quota, random)
            for change in wanted:
                wanted[change] -= asked[change] - quota[change]
            for plant, kind, why in told(scene, after, plants, options, random) if plants else ():
                verdict = judged(plant, kind, options.bands)
                sums[verdict] += 1
                table[plant.change][kind] += 1
                if options.wrong and verdict != "right":
                    arrow = " → ".join(plant.change)
                    print(f"  {scene.name} {plant.row},{plant.col} {arrow}: {kind}: {why}")
    return table, sums


def judged(plant: Plant, kind: str, bands: str) -> str:
    """Return whether what geocd says of a planted change is right, wrong, or neither."""
    right = CHANGES[plant.change]
    if bands == "rgb":
        right += tuple(other for name in right for other in COLOURS.get(name, ()))
    if kind in ("unclear", "not detected", "merged"):
        return kind
    return "right" if kind in right else "wrong"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", help="names of folders; default: all with six bands")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--bands", choices=["all", "rgb"], default="all")
    parser.add_argument("--units", choices=["reflectance", "dn"], default="reflectance")
    parser.add_argument("--detect", action="store_true")
    parser.add_argument("--method", default="cva", help="of --detect")
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--seeds", type=int, default=1, help="how many times to plant --count changes")
    parser.add_argument("--wrong", action="store_true", help="print each wrong one")
    options = parser.parse_args()
    folders = sorted(path.parent for path in options.folder.glob("*/mask.tif"))
    names = (
        options.pairs.split(",") if options.pairs else [p.name for p in folders if p.name.startswith("oscd")]
    )
    scenes = [Scene.read(options.folder / name) for name in names]
    windows = surfaces(scenes)
    print({name: len(patches) for name, patches in windows.items()})
    table: dict[tuple[str, str], collections.Counter] = collections.defaultdict(collections.Counter)
    shares: dict[str, list[float]] = collections.defaultdict(list)
    for seed in range(options.seed, options.seed + options.seeds):
        of_seed, sums = score(scenes, windows, options, seed)
        for change, kinds in of_seed.items():
            table[change] += kinds
        told_apart = sums["right"] + sums["wrong"]
        total = told_apart + sums["unclear"]
        shares["right"].append(sums["right"] / total)
        shares["right, unclear left out"].append(sums["right"] / told_apart)
        whole, clear = (values[-1] for values in shares.values())
        print(f"seed {seed}: {total} of {sum(sums.values())} planted changes: {whole:.1%} right", end="; ")
        print(f"{sums['unclear'] / total:.1%} unclear, without those {clear:.1%} right", flush=True)
    for change in CHANGES:
        cells = ", ".join(f"{kind} {count}" for kind, count in table[change].most_common())
        print(f"{' → '.join(change):24s} {cells}")
    for name, values in shares.items():
        print(f"{name}: mean {statistics.fmean(values):.1%}, {min(values):.1%} to {max(values):.1%}")


if __name__ == "__main__":
    main()
