"""Cloud and its shadow by a network, where `geocd[clouds]` is installed: a mask of the scene, made once.

The network is that of ukis-csmask (Wieland, Fichtner & Martinis 2022; Wieland, Li & Martinis 2019,
https://doi.org/10.1016/j.rse.2019.05.022). It needs reflectance in blue, green, red and near infrared, and is
better with both bands of shortwave infrared. It was trained at about 30 m, and at 10 m it takes bright towns
for cloud: finer pixels are averaged to cells of about 30 m.

The mask is made before any tile, on windows of the scene that depend on nothing else, with one thread: it is
the same for every tiling, number of jobs and resumed run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.metadata
import importlib.util
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from geocd.config import CloudChoice, ReadSettings
from geocd.errors import ConfigError
from geocd.raster.bands import band_positions
from geocd.raster.pair import Chip, Pair
from geocd.scene.reflectance import Reflectance
from geocd.scene.sample import sample_pixels
from geocd.types import BoolArray, Float32Array, Float64Array

#: What the network calls the bands, by what we call them; the last two may be missing, both of them.
BANDS = {"blue": "blue", "green": "green", "red": "red", "nir": "nir", "swir": "swir16", "swir2": "swir22"}
NEEDED = ("blue", "green", "red", "nir")
#: Metres of a cell; from pixels of ``COARSEST`` metres on, nothing is left of the clouds it was trained on.
CELL, COARSEST = 30.0, 60.0
#: Side of a window, in cells, and what of it is left out at each side but the scene's.
WINDOW, MARGIN = 1024, 32
#: The least side that the network takes.
LEAST_SIDE = 256
#: Side of the blocks that are read, in pixels.
BLOCK = 1024
#: Where the haze in blue has more reflectance, air has not been removed: top of atmosphere (L1C).
AIR_IN_BLUE = 0.04
#: Megabytes (2**20 bytes) that the network takes, that the largest window adds, and that its libraries keep:
#: measured.
NETWORK_MEMORY, WINDOW_MEMORY, LIBRARIES_MEMORY = 200, 400, 320

#: Why the rule decides where the packages are missing.
NOT_INSTALLED = "geocd[clouds] is not installed"

_PACKAGES = ("ukis-csmask", "onnxruntime")


@dataclasses.dataclass(frozen=True)
class CloudDetector:
    """What decided which pixels are cloud.

    Attributes
    ----------
    name : str
        ``rule``, the simple rule of :mod:`geocd.scene.ignore`, or ``ukis-csmask``.
    why : str
        Why the rule. Empty for the network.
    versions : mapping of str
        Versions of the network's packages, by name; empty for the rule.
    levels : tuple of str
        Before and after: ``l1c`` (top of atmosphere) or ``l2a`` (surface), which the network has weights for;
        empty for the rule.
    """

    name: str
    why: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    levels: tuple[str, ...] = ()

    @property
    def choice(self) -> CloudChoice:
        """The setting that decides the same elsewhere, or says that it cannot."""
        return "rule" if self.why else "network"

    def as_dict(self) -> dict[str, object]:
        """Return the values that ``geocd:clouds`` of the STAC item has, by name."""
        values = {"name": self.name, "why": self.why, "versions": self.versions, "levels": list(self.levels)}
        return {name: value for name, value in values.items() if value}

    def __str__(self) -> str:
        if self.why:
            return f"Cloud was masked by the simple rule: {self.why}."
        return f"Cloud and its shadow were masked by {self.name} {self.versions.get(self.name, '')}."


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that finds cloud and its shadow.

    Attributes
    ----------
    versions : mapping of str
        Versions of its packages, by name.
    mask : callable
        ``mask(image, words, level)``: of reflectance, ``(bands, height, width)`` float32, with what each
        band shows and the level (``l1c``, ``l2a``), where there is cloud or shadow, ``(height, width)`` bool.
    """

    versions: Mapping[str, str]
    mask: Callable[[Float32Array, Sequence[str], str], BoolArray]


def load_network() -> Network | None:
    """Return the network of ukis-csmask, None where it is not installed; nothing large is imported yet."""
    if any(importlib.util.find_spec(name) is None for name in ("ukis_csmask", "onnxruntime")):
        return None
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # onnxruntime-gpu, say
            versions[name] = importlib.metadata.version(name)
    return Network(versions, _csmask)


def _csmask(image: Float32Array, words: Sequence[str], level: str) -> BoolArray:
    """Return where ukis-csmask sees cloud or shadow, with the rim of 4 pixels that it leaves out."""
    height, width = image.shape[1:]
    padding = ((0, 0), (0, max(0, LEAST_SIDE - height)), (0, max(0, LEAST_SIDE - width)))
    pixels = np.moveaxis(np.pad(image, padding, mode="symmetric"), 0, -1)
    detector = importlib.import_module("ukis_csmask.mask").CSmask(
        np.ascontiguousarray(pixels, np.float32),
        [BANDS[word] for word in words],
        product_level=level,
        intra_op_num_threads=1,
        inter_op_num_threads=1,
        providers=["CPUExecutionProvider"],
    )
    return np.asarray(detector.valid[:height, :width, 0] == 0)


@dataclasses.dataclass(frozen=True)
class CloudMask:
    """Where a scene has cloud or shadow in either date, in cells of several pixels.

    Attributes
    ----------
    bits : ndarray, (rows, columns / 8), uint8
        One bit for each cell, rows filled up to whole bytes.
    side : int
        Side of a cell, in pixels.
    detector : CloudDetector
        What made it.
    """

    bits: npt.NDArray[np.uint8]
    side: int
    detector: CloudDetector

    def read(self, window: Window) -> BoolArray:
        """Return the mask of the pixels of a window, ``(height, width)`` bool."""
        rows, cols = (
            np.arange(start, start + size) // self.side
            for start, size in ((window.row_off, window.height), (window.col_off, window.width))
        )
        cells = np.unpackbits(self.bits[rows[0] : rows[-1] + 1], axis=1)
        return np.asarray(cells[np.ix_(rows - rows[0], cols)], bool)


def obstacle(pair: Pair, choice: CloudChoice = "auto") -> str:
    """Return why the rule decides, as far as is known before pixels are read; empty for the network.

    Raises
    ------
    ConfigError
        The network was chosen, and cannot say anything of the pair.
    """
    if choice == "rule":
        return "it was chosen with --cloud-detector"
    why = _unsuitable(pair)
    if why and choice == "network":
        raise _refused(why)
    return why


def _refused(why: str) -> ConfigError:
    """Return the error for a network that was chosen, and cannot say anything of the pair."""
    remedy = "Choose --cloud-detector rule"
    if why == NOT_INSTALLED:
        remedy = "Install it with: pip install 'geocd[clouds]'; or choose --cloud-detector rule"
    return ConfigError(f"--cloud-detector network: {why}. {remedy}.", name="cloud_detector", value="network")


def _unsuitable(pair: Pair) -> str:
    """Return why the network cannot say anything of a pair, before its pixels are read; empty if it can."""
    size = pair.grid.pixel_size
    missing = [band for band in NEEDED if band not in band_positions(pair.band_names)]
    if load_network() is None:
        return NOT_INSTALLED
    if missing:
        return f"no band is named {', '.join(missing)}, which ukis-csmask needs"
    if size is None:
        return "the size of the pixels is not known, which ukis-csmask needs"
    return f"pixels of {size:.0f} m are too coarse for ukis-csmask" if size > COARSEST else ""


def cell_side(pair: Pair) -> int:
    """Return the side of a cell, in pixels."""
    return max(1, round(CELL / (pair.grid.pixel_size or CELL)))


def cloud_memory(pair: Pair, read: ReadSettings) -> tuple[float, float]:
    """Return the megabytes (2**20 bytes) that the network takes while it masks a scene, and from then on.

    Both are 0 where cloud is not ignored, or by the rule.

    Raises
    ------
    ConfigError
        The network was chosen, and cannot say anything of the pair.
    """
    if "cloud" not in read.ignore or obstacle(pair, read.cloud_detector):
        return 0.0, 0.0
    cells = [math.ceil(size / cell_side(pair)) for size in pair.grid.shape]
    window = math.prod(min(size, WINDOW) / WINDOW for size in cells)
    pixels = math.prod(pair.grid.shape)
    held = min(pixels, sample_pixels(pair)) + min(pixels, BLOCK**2)
    dates = held * pair.values_per_pixel * 2 * pair.itemsize / 2**20
    masks = math.prod(cells) / 8 / 2**20 * (1 + len(read.other_dates))
    return NETWORK_MEMORY + WINDOW_MEMORY * window + dates, LIBRARIES_MEMORY + masks


def detect_clouds(
    pair: Pair, chips: Sequence[Chip], choice: CloudChoice = "auto"
) -> CloudMask | CloudDetector:
    """Mask cloud and its shadow in a pair, if the network is installed and suits it.

    Parameters
    ----------
    pair : Pair
        Without a rule that masks pixels.
    chips : sequence of Chip
        A sample of it.
    choice : str
        ``auto``, ``network`` or ``rule``.

    Returns
    -------
    CloudMask or CloudDetector
        The latter is the simple rule, with why it has to do.

    Raises
    ------
    ConfigError
        The network was chosen, and cannot say anything of the pair.
    RasterReadError
    """
    if why := obstacle(pair, choice):
        return CloudDetector("rule", why)
    reflectance = Reflectance.measure(chips, pair)
    if not reflectance.absolute:
        why = "the values are not reflectance, which ukis-csmask needs"
        if choice == "network":
            raise _refused(why)
        return CloudDetector("rule", why)
    network = load_network()
    assert network is not None, "or there would be an obstacle"
    words = tuple(word for word in BANDS if word in reflectance.positions)
    words = words if len(words) == len(BANDS) else NEEDED
    levels = tuple(_level(reflectance, date) for date in (0, 1))
    side = cell_side(pair)
    height, width = (-(-size // side) for size in pair.grid.shape)
    bits = np.zeros((height, -(-width // 8)), np.uint8)
    inner = WINDOW - 2 * MARGIN  # cells of a window that count, in whole bytes
    for top in range(0, height, inner):
        for left in range(0, width, inner):
            first = max(0, top - MARGIN), max(0, left - MARGIN)
            last = min(height, top + inner + MARGIN), min(width, left + inner + MARGIN)
            dates = _cells(pair, reflectance, words, (first, last), side)
            if dates is None:
                continue
            cloudy = [network.mask(image, words, level) for image, level in zip(dates, levels, strict=True)]
            either = (cloudy[0] | cloudy[1])[top - first[0] :, left - first[1] :]
            packed = np.packbits(either[:inner, :inner], axis=1)
            bits[top : top + len(packed), left // 8 : left // 8 + packed.shape[1]] = packed
    return CloudMask(bits, side, CloudDetector("ukis-csmask", versions=network.versions, levels=levels))


def _level(reflectance: Reflectance, date: int) -> str:
    """Return whether a date is reflectance at the top of the atmosphere, or at the surface."""
    return "l1c" if reflectance.haze(date, "blue") > AIR_IN_BLUE else "l2a"


def _cells(
    pair: Pair,
    reflectance: Reflectance,
    words: Sequence[str],
    window: tuple[tuple[int, int], tuple[int, int]],
    side: int,
) -> Float32Array | None:
    """Return the mean reflectance of cells, ``(2, bands, rows, columns)``; None if no pixel is valid at all.

    A cell without a valid pixel is 0. ``window``: first and last row and column of cells, the last ones
    excluded.
    """
    (top, left), (bottom, right) = window
    cells = np.zeros((2, len(words), bottom - top, right - left), np.float32)
    any_valid = False
    step = max(1, BLOCK // side)
    for row, col in itertools.product(range(top, bottom, step), range(left, right, step)):
        rows, cols = slice(row - top, row - top + step), slice(col - left, col - left + step)
        height, width = (min(step, bottom - row) * side, min(step, right - col) * side)
        pixels = Window(
            col * side,
            row * side,
            min(width, pair.grid.width - col * side),
            min(height, pair.grid.height - row * side),
        )
        chip = pair.read(pixels)
        count = _sums(chip.valid.astype(np.float64), side)
        any_valid = any_valid or bool(count.any())
        for date, values in enumerate((chip.before, chip.after)):
            for band, word in enumerate(words):
                stored = values[reflectance.positions[word]].astype(np.float64)
                levels = np.where(chip.valid, reflectance.with_haze(date, word, stored), 0)
                cells[date, band, rows, cols] = _sums(levels, side) / np.maximum(count, 1)
    return cells if any_valid else None


def _sums(values: Float64Array, side: int) -> Float64Array:
    """Return the sums of squares of pixels; at the lower and right edge, of what there is of them."""
    for axis in (0, 1):
        values = np.add.reduceat(values, np.arange(0, values.shape[axis], side), axis=axis)
    return values


__all__ = [
    "CloudDetector",
    "CloudMask",
    "Network",
    "cloud_memory",
    "detect_clouds",
    "load_network",
    "obstacle",
]
