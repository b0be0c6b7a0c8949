"""Make a small pair of Sentinel-2-like images with planted changes, to try geocd on.

    python examples/make_demo_pair.py demo/

writes ``before.tif``, ``after.tif`` (six bands, uint16, 10 m) and ``truth.tif`` (1 changed, 0 not,
255 unknown). The same seed gives the same files. Needs numpy, scipy and rasterio, nothing of geocd.

A valley is drawn three times finer than the pixels, so that edges are mixed pixels as in a real image:
fields in several rotated parcels, woods, a river, roads, a town. Four things change between the dates:
a new estate with halls beside the town, a new road, a felled piece of wood, a flooded meadow. Everything
else that differs is *not* a change, and a detector should look through it: another gain and offset
in every band, other noise, a little haze, crops that ripened, a shift of 0.2 px, and a
corner outside the second swath (nodata). A made-up pair shows that the program works; it says nothing
about accuracy on real images.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from scipy import ndimage

HEIGHT, WIDTH = 600, 700
FINE = 3  # drawing pixels per image pixel, along each axis
PIXEL = 10.0  # metres
ORIGIN = (511_200.0, 5_342_800.0)
BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")

# Surface reflectance x 10000 in the bands above: typical values, rounded.
SPECTRA = {
    "wheat": (330, 590, 390, 4100, 1950, 950),
    "barley": (480, 800, 700, 3300, 2350, 1350),
    "maize": (560, 780, 850, 2300, 2500, 1800),
    "rape": (430, 1000, 820, 4000, 2050, 1000),
    "stubble": (760, 1080, 1400, 2600, 3050, 2250),
    "soil": (780, 1000, 1270, 1950, 2850, 2450),
    "meadow": (390, 680, 520, 3300, 2250, 1200),
    "hedge": (280, 470, 340, 2800, 1600, 800),
    "leafwood": (230, 430, 265, 3300, 1500, 650),
    "pinewood": (200, 320, 215, 2150, 950, 440),
    "water": (420, 500, 340, 170, 90, 60),
    "flood": (640, 830, 790, 560, 260, 170),
    "sand": (1250, 1550, 1850, 2350, 2700, 2300),
    "track": (880, 1080, 1280, 1950, 2350, 2000),
    "asphalt": (880, 930, 980, 1250, 1450, 1350),
    "paved": (1180, 1270, 1360, 1680, 1850, 1700),
    "garden": (430, 650, 540, 2700, 1900, 1150),
    "redroof": (820, 1000, 1600, 2150, 2450, 2050),
    "greyroof": (1150, 1230, 1310, 1600, 1750, 1650),
    "hall": (2350, 2480, 2560, 2800, 2650, 2400),
    "felled": (560, 740, 900, 1750, 2700, 2050),
}
CLASS = {name: number for number, name in enumerate(SPECTRA)}
CROPS = ("wheat", "barley", "maize", "rape", "stubble", "soil", "meadow")

# Band gains of the crops that look different at the second date; half of their fields do.
SEASON = {
    "wheat": (1.16, 1.12, 1.35, 0.80, 1.12, 1.22),
    "maize": (0.88, 0.97, 0.80, 1.28, 0.90, 0.82),
    "meadow": (1.08, 1.05, 1.15, 0.88, 1.08, 1.12),
}

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]


def fractal(rng: np.random.Generator, shape: tuple[int, int], coarse: float, fine: float) -> Array:
    """Return smooth noise with mean 0 and standard deviation 1; its features measure fine...coarse px."""
    total = np.zeros(shape, np.float32)
    size = coarse
    while size >= fine:
        cells = [max(4, round(length / size) + 3) for length in shape]
        grid = rng.standard_normal(cells).astype(np.float32)
        zoomed = ndimage.zoom(grid, [n / c for n, c in zip(shape, cells, strict=True)], order=2)
        total += zoomed[: shape[0], : shape[1]] * np.float32(size**0.8)
        size /= 2
    return (total - total.mean()) / total.std()


def cut(rng: np.random.Generator, at: Array, low: float, high: float) -> Labels:
    """Cut an axis into pieces of ``low`` to ``high`` px; return the number of the piece of every pixel."""
    begin, end = float(at.min()), float(at.max())
    count = int((end - begin) / low) + 2
    return np.searchsorted(begin + np.cumsum(rng.uniform(low, high, count)), at)


def turned(rows: Array, cols: Array, degrees: float) -> tuple[Array, Array]:
    """Return coordinates along and across a direction."""
    angle = np.deg2rad(degrees)
    return cols * np.cos(angle) + rows * np.sin(angle), rows * np.cos(angle) - cols * np.sin(angle)


def near(shape: tuple[int, int], points: Sequence[tuple[float, float]], wiggle: Array | float = 0.0) -> Array:
    """Return the distance to a smooth line through ``(row, col)`` points given in image pixels."""
    along = np.linspace(0, 1, len(points))
    fine = np.linspace(0, 1, 6000)
    straight = [np.interp(fine, along, [point[axis] for point in points]) * FINE for axis in (0, 1)]
    path = [ndimage.gaussian_filter1d(line, 160, mode="nearest") for line in straight]
    rows, cols = (np.rint(p).astype(int) for p in path)
    inside = (rows >= 0) & (rows < shape[0]) & (cols >= 0) & (cols < shape[1])
    away = np.ones(shape, bool)
    away[rows[inside], cols[inside]] = False
    return (ndimage.distance_transform_edt(away) / FINE + wiggle).astype(np.float32)


def blob(
    rows: Array, cols: Array, centre: tuple[float, float], radii: tuple[float, float], rough: Array
) -> Mask:
    """Return an irregular ellipse, in image pixels."""
    r = (rows / FINE - centre[0]) / radii[0]
    c = (cols / FINE - centre[1]) / radii[1]
    return np.hypot(r, c) + 0.16 * rough < 1


def block(
    rows: Array, cols: Array, centre: tuple[float, float], sides: tuple[float, float], degrees: float
) -> Mask:
    """Return a turned rectangle with one corner left out, in image pixels: a building site's outline."""
    u, v = turned(rows / FINE - centre[0], cols / FINE - centre[1], degrees)
    inside = (np.abs(u) < sides[1] / 2) & (np.abs(v) < sides[0] / 2)
    return inside & ~((u > sides[1] * 0.18) & (v > sides[0] * 0.2))


def houses(
    rng: np.random.Generator,
    rows: Array,
    cols: Array,
    degrees: float,
    street: float,
    plot: tuple[float, float],
    filled: float,
) -> tuple[Labels, Array]:
    """Draw a quarter: streets, and on every plot a house with its garden.

    Parameters
    ----------
    degrees : float
        Direction of the streets.
    street : float
        Distance of the streets in image pixels.
    plot : tuple of float
        Size of a plot along and across, in image pixels.
    filled : float
        Share of the plot's sides that the house takes.

    Returns
    -------
    labels, brightness : ndarray
        Class of every drawing pixel, and the gain of its roof.
    """
    u, v = turned(rows / FINE, cols / FINE, degrees)
    a, b = np.floor(u / plot[0]).astype(int), np.floor(v / plot[1]).astype(int)
    a, b = a - a.min(), b - b.min()
    size = (int(a.max()) + 1, int(b.max()) + 1)
    long = (filled * rng.uniform(0.7, 1.25, size))[a, b]
    wide = (filled * rng.uniform(0.7, 1.25, size))[a, b]
    shift = rng.uniform(-0.12, 0.12, (2, *size))[:, a, b]
    roof = rng.choice([CLASS["redroof"], CLASS["greyroof"]], size, p=[0.65, 0.35])[a, b]
    built = rng.random(size)[a, b] < 0.88
    house = (
        (np.abs(u / plot[0] % 1 - 0.5 + shift[0]) < long / 2)
        & (np.abs(v / plot[1] % 1 - 0.5 + shift[1]) < wide / 2)
        & built
    )
    trees = ndimage.gaussian_filter(rng.standard_normal(rows.shape), 1.5) > 0.13
    labels = np.where(house, roof, np.where(trees, CLASS["hedge"], CLASS["garden"]))
    streets = (np.abs((u / street) % 1 - 0.5) * street < 0.45) | (
        np.abs((v / (street * 0.7)) % 1 - 0.5) * street * 0.7 < 0.4
    )
    return np.where(streets, CLASS["asphalt"], labels), rng.uniform(0.8, 1.25, size)[a, b].astype(np.float32)


def halls(rng: np.random.Generator, rows: Array, cols: Array, degrees: float) -> tuple[Labels, Array]:
    """Draw an industrial estate: lots of several sizes with a large roof each, yards, strips of grass.

    Returns
    -------
    labels, brightness : ndarray
        As from :func:`houses`.
    """
    u, v = turned(rows / FINE, cols / FINE, degrees)
    strip = cut(rng, v, 9, 15)
    lot = cut(rng, u + 5 * (strip % 3), 8, 20)
    size = (int(strip.max()) + 1, int(lot.max()) + 1)
    both = strip * size[1] + lot
    kind = rng.choice(
        [CLASS[k] for k in ("hall", "greyroof", "greyroof", "paved", "garden")], size[0] * size[1]
    )[both]
    # Distance from the border of the lot, in image pixels: grass, yard, roof from outside in.
    border = ndimage.maximum_filter(both, 3) != ndimage.minimum_filter(both, 3)
    depth = ndimage.distance_transform_edt(~border) / FINE
    margin = rng.uniform(1.5, 3.2, size[0] * size[1])[both]
    labels = np.where(depth < 0.5, CLASS["garden"], np.where(depth < margin, CLASS["paved"], kind))
    return labels, rng.uniform(0.7, 1.1, size[0] * size[1])[both].astype(np.float32)


def fields(
    rng: np.random.Generator, rows: Array, cols: Array, warp: Array
) -> tuple[Labels, Labels, Mask, Array]:
    """Draw the farm land: estates with one direction each, cut into parcels.

    Returns
    -------
    labels, parcels : ndarray
        Class and parcel number of every drawing pixel.
    tracks : ndarray
        Farm tracks between the estates.
    rows_of_crop : ndarray
        Faint stripes along the direction of work.
    """
    shape = rows.shape
    seeds = np.column_stack([rng.uniform(-20, HEIGHT + 20, 26), rng.uniform(-20, WIDTH + 20, 26)])
    bent = (rows / FINE + 9 * warp, cols / FINE - 9 * warp)
    estate = np.argmin([np.hypot(bent[0] - r, bent[1] - c) for r, c in seeds], axis=0)
    parcels = np.zeros(shape, np.int64)
    stripes = np.zeros(shape, np.float32)
    count = 0
    for number in range(len(seeds)):
        here = estate == number
        if not here.any():
            continue
        u, v = turned(rows[here] / FINE, cols[here] / FINE, float(rng.uniform(-35, 35)) + 90 * (number % 2))
        strip = cut(rng, v, *((14, 30) if number % 3 else (26, 48)))
        piece = cut(rng, u + 17 * (strip % 4), *((28, 70) if number % 3 else (40, 95)))
        both = strip * (int(piece.max()) + 1) + piece
        unique, compact = np.unique(both, return_inverse=True)
        parcels[here] = count + compact
        count += len(unique)
        stripes[here] = np.sin(v * 2 * np.pi / rng.uniform(2.2, 4.5)) * rng.uniform(0.2, 1)
    crop = rng.choice([CLASS[c] for c in CROPS], count, p=[0.26, 0.16, 0.16, 0.06, 0.1, 0.1, 0.16])
    labels = crop[parcels]

    def edges(of: Labels, reach: int) -> Mask:
        return ndimage.maximum_filter(of, reach) != ndimage.minimum_filter(of, reach)

    hedged = edges(parcels, 3) & (fractal(rng, shape, 260, 60) > 0.9)
    labels = np.where(edges(parcels, 2), CLASS["meadow"], labels)
    labels = np.where(hedged, CLASS["hedge"], labels)
    return labels, parcels, edges(estate, 3), stripes


def observe(
    rng: np.random.Generator,
    scene: Array,
    *,
    gain: tuple[float, ...],
    offset: tuple[float, ...],
    haze: float,
    shift: float,
) -> npt.NDArray[np.uint16]:
    """Look at a scene through an instrument: blur, sample, add haze and noise, change the radiometry."""
    image = np.empty((len(BANDS), HEIGHT, WIDTH), np.float32)
    veil = haze * (1 + 0.5 * fractal(rng, (HEIGHT, WIDTH), 500, 120))
    for band in range(len(BANDS)):
        fine = scene[band]
        if shift:
            fine = ndimage.shift(fine, (shift * FINE, -shift * FINE), order=1, mode="nearest")
        # The 20 m bands (B11, B12) are blurred more, as after warping to 10 m.
        blurred = ndimage.gaussian_filter(fine, FINE * (0.45 if band < 4 else 0.9))
        sampled = blurred.reshape(HEIGHT, FINE, WIDTH, FINE).mean(axis=(1, 3))
        smooth = ndimage.gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), 1.2)
        noise = 14 * rng.standard_normal((HEIGHT, WIDTH)) + 0.012 * sampled * smooth / smooth.std()
        path = veil * (1.0, 0.75, 0.55, 0.25, 0.08, 0.04)[band]
        image[band] = (sampled + path + noise) * gain[band] + offset[band]
    return np.clip(np.rint(image), 1, 65535).astype(np.uint16)


def make(seed: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """Return before, after ``(6, 600, 700)`` and truth ``(600, 700)``."""
    rng = np.random.default_rng(seed)
    shape = (HEIGHT * FINE, WIDTH * FINE)
    rows, cols = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij")
    relief = fractal(rng, shape, 900, 60)
    rough = fractal(rng, shape, 150, 12)
    labels, parcels, tracks, stripes = fields(rng, rows, cols, relief)

    bends = [(-40, 215), (90, 250), (190, 190), (300, 262), (395, 235), (480, 330), (560, 318), (660, 400)]
    river = near(shape, bends, 0.9 * rough)
    main = near(shape, [(345, -30), (330, 120), (352, 235), (322, 420), (300, 520), (255, 730)])
    side = near(shape, [(640, 565), (500, 520), (390, 470), (322, 430), (190, 455), (90, 420), (-30, 470)])

    # Woods on the high ground away from the river, and along its banks.
    height = relief + 0.5 * fractal(rng, shape, 260, 20) + np.clip(river / 260, 0, 1.2)
    wood = (height > np.quantile(height, 0.75)) & (river > 25)
    wood = ndimage.binary_opening(wood, iterations=4)
    pines = fractal(rng, shape, 320, 30) + 0.7 * relief > 0.5
    labels = np.where(tracks & ~wood, CLASS["track"], labels)
    labels = np.where(wood, np.where(pines, CLASS["pinewood"], CLASS["leafwood"]), labels)
    labels = np.where((river < 11.5) & (rough + 0.4 * relief > -0.2), CLASS["leafwood"], labels)
    labels = np.where((river < 6.5) & (rough > 1.1), CLASS["sand"], labels)
    labels = np.where(river < 5.2, CLASS["water"], labels)

    # The town lies where the roads meet.
    quarter, roofs = houses(rng, rows, cols, 14, 13.0, (3.2, 3.6), 0.55)
    outskirts, _ = houses(rng, rows, cols, -24, 17.0, (4.2, 4.0), 0.42)
    town = blob(rows, cols, (318, 430), (52, 66), rough) & (river > 12)
    core = blob(rows, cols, (318, 426), (26, 34), rough)
    village = blob(rows, cols, (140, 92), (24, 32), rough) | blob(rows, cols, (520, 545), (20, 27), rough)
    works = block(rows, cols, (290, 508), (36, 52), 14)
    old_halls, hall_roofs = halls(rng, rows, cols, 14)
    roofs = np.where(works, hall_roofs, roofs)
    labels = np.where(village, outskirts, labels)
    labels = np.where(town, np.where(core, quarter, outskirts), labels)
    labels = np.where(works, old_halls, labels)
    crossing = river < 12  # bridges stand clear of the bank woods
    for road, half in ((main, 0.75), (side, 0.55)):
        labels = np.where((road < half + 0.5) & ~town & ~crossing, CLASS["meadow"], labels)
        labels = np.where(road < half, CLASS["asphalt"], labels)

    # What changes.
    later = labels.copy()
    estate = block(rows, cols, (392, 424), (46, 74), 31) & ~town & (river > 14) & (side > 1.2)
    new_houses, new_roofs = houses(rng, rows, cols, 31, 12.0, (3.0, 3.4), 0.62)
    # Fresh gardens: no tree yet, half of the ground still bare.
    bare = np.where(rough > 0, CLASS["sand"], CLASS["garden"])
    new_houses = np.where(np.isin(new_houses, [CLASS["garden"], CLASS["hedge"]]), bare, new_houses)
    later = np.where(estate, new_houses, later)
    yard = block(rows, cols, (236, 560), (40, 62), -18)
    new_halls, yard_roofs = halls(rng, rows, cols, -18)
    later = np.where(yard, new_halls, later)
    later_roofs = np.where(estate, new_roofs, np.where(yard, yard_roofs, roofs))
    bypass = near(shape, [(300, 530), (372, 562), (420, 520), (452, 495)]) < 1.0
    later = np.where(bypass, CLASS["paved"], later)
    standing = np.isin(labels, [CLASS["pinewood"], CLASS["leafwood"]]) & (river > 25)
    site = felling_site(standing)
    felled = standing & blob(rows, cols, site, (24, 34), 1.8 * rough)
    later = np.where(felled, CLASS["felled"], later)
    flood = (river < 30) & blob(rows, cols, (492, 300), (44, 46), 1.5 * rough)
    flood &= ~np.isin(later, [CLASS[c] for c in ("water", "asphalt", "leafwood", "hedge")])
    later = np.where(flood, CLASS["flood"], later)
    changed = estate | yard | bypass | felled | flood

    # What only looks different: half the fields of some crops.
    spectra = np.array(list(SPECTRA.values()), np.float32)
    ripened = rng.random(int(parcels.max()) + 1)[parcels] < 0.5

    ground = Ground(rng, parcels, stripes, relief, rough)
    before_fine = ground.paint(labels, roofs, spectra)
    after_fine = ground.paint(later, later_roofs, spectra)
    for crop, gains in SEASON.items():
        where = (later == CLASS[crop]) & ripened
        for band, gain in enumerate(gains):
            after_fine[band][where] *= gain

    before = observe(rng, before_fine, gain=(1,) * 6, offset=(0,) * 6, haze=40, shift=0)
    after = observe(
        rng,
        after_fine,
        gain=(1.06, 1.08, 1.09, 1.05, 0.95, 0.94),
        offset=(70, 45, 30, 60, 40, 25),
        haze=95,
        shift=0.2,
    )
    r, c = np.ogrid[:HEIGHT, :WIDTH]
    outside = (WIDTH - c) + 0.45 * r < 105  # a swath ends with a slanted edge
    after[:, outside] = 0

    share = changed.reshape(HEIGHT, FINE, WIDTH, FINE).mean(axis=(1, 3))
    truth = np.where(share >= 0.5, 1, np.where(share > 0.1, 255, 0)).astype(np.uint8)
    truth[outside] = 255
    return before, after, truth


def felling_site(standing: Mask) -> tuple[float, float]:
    """Return the place deepest inside a wood, away from the frame and from the second swath's edge."""
    depth = ndimage.distance_transform_edt(standing[::FINE, ::FINE])
    depth[:40], depth[-40:], depth[:, :40], depth[:, -130:] = 0, 0, 0, 0
    row, col = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return float(row), float(col)


class Ground:
    """What belongs to the place and is the same at both dates: soil, slope, crowns, single parcels."""

    def __init__(
        self, rng: np.random.Generator, parcels: Labels, stripes: Array, relief: Array, rough: Array
    ) -> None:
        shape = parcels.shape
        self.parcel = rng.uniform(0.88, 1.12, int(parcels.max()) + 1).astype(np.float32)[parcels]
        self.stripes, self.rough = stripes, rough
        self.soil = fractal(rng, shape, 120, 8)
        self.stands = fractal(rng, shape, 90, 20)
        self.grain = self._grain(rng, shape, 1.0)
        self.crowns = self._grain(rng, shape, 1.8)
        # A crown is bright on the sunny side (south-east) and dark behind it.
        self.lit = self.crowns - np.roll(self.crowns, (-2, -2), (0, 1))
        slope = ndimage.gaussian_filter(relief, 12)
        hill = np.roll(slope, 3, 0) - slope + np.roll(slope, 3, 1) - slope
        self.hill = np.clip(0.05 * hill / hill.std(), -0.12, 0.12)

    @staticmethod
    def _grain(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Array:
        smooth = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
        return smooth / smooth.std()

    def paint(self, labels: Labels, roofs: Array, spectra: Array) -> Array:
        """Turn classes into reflectance with texture, ``(band, row, col)``, at the drawing's resolution."""
        crop = np.isin(labels, [CLASS[c] for c in CROPS])
        wood = np.isin(labels, [CLASS[c] for c in ("leafwood", "pinewood", "hedge")])
        roof = np.isin(labels, [CLASS[c] for c in ("redroof", "greyroof", "hall")])
        wet = np.isin(labels, [CLASS[c] for c in ("water", "flood")])

        texture = 0.05 * self.grain
        texture = np.where(crop, 0.045 * self.soil + 0.022 * self.stripes + 0.02 * self.grain, texture)
        texture = np.where(wood, 0.09 * self.lit + 0.06 * self.crowns + 0.07 * self.stands, texture)
        texture = np.where(labels == CLASS["felled"], 0.13 * self.rough + 0.1 * self.grain, texture)
        texture = np.where(wet, 0.03 * self.soil, texture).astype(np.float32)
        gains = np.where(crop, self.parcel, np.where(roof, roofs, np.float32(1)))
        gains *= 1 + self.hill * np.where(wet, 0, np.where(wood, 1.4, 0.5)).astype(np.float32)

        image = np.empty((len(BANDS), *labels.shape), np.float32)
        for band in range(len(BANDS)):
            # Plants and their shadows vary less in the visible than in the infrared.
            depth = np.float32((0.8, 0.85, 0.9, 1.0, 0.9, 0.9)[band])
            image[band] = spectra[labels, band] * gains * (1 + depth * texture)
        return image


def write(
    path: Path,
    values: npt.NDArray[np.integer],
    *,
    names: Sequence[str],
    nodata: int,
    when: str | None = None,
) -> None:
    """Write a tiled, compressed GeoTIFF on the demo's grid."""
    bands = values if values.ndim == 3 else values[None]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(bands),
        height=HEIGHT,
        width=WIDTH,
        dtype=values.dtype,
        crs="EPSG:32633",
        transform=Affine(PIXEL, 0, ORIGIN[0], 0, -PIXEL, ORIGIN[1]),
        tiled=True,
        blockxsize=256,
        blockysize=256,
        compress="deflate",
        predictor=2,
        nodata=nodata,
    ) as out:
        if len(bands) > 1:
            # GDAL would call the fourth of six bands alpha; the colours let a viewer show true colour.
            rest = [ColorInterp.undefined] * (len(bands) - 3)
            out.colorinterp = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, *rest]
        out.write(bands)
        for index, name in enumerate(names, 1):
            out.set_band_description(index, name)
        if when:
            out.update_tags(TIFFTAG_DATETIME=when)


def main() -> None:
    """Write the pair and its truth into a folder."""
    parser = argparse.ArgumentParser(description="Make a demo pair with planted changes.")
    parser.add_argument("folder", type=Path, help="where to write before.tif, after.tif and truth.tif")
    parser.add_argument("--seed", type=int, default=3, help="another seed draws another valley (default 3)")
    options = parser.parse_args()
    before, after, truth = make(options.seed)
    options.folder.mkdir(parents=True, exist_ok=True)
    write(options.folder / "before.tif", before, names=BANDS, nodata=0, when="2019:06:14 10:10:31")
    write(options.folder / "after.tif", after, names=BANDS, nodata=0, when="2023:06:23 10:10:29")
    write(options.folder / "truth.tif", truth, names=["changed"], nodata=255)
    share = (truth == 1).sum() / (truth != 255).sum()
    print(f"{options.folder}: before.tif, after.tif and truth.tif ({share:.1%} of the known pixels changed)")


if __name__ == "__main__":
    main()
