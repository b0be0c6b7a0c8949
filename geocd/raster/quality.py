"""Quality masks as they come with images: which pixels are cloud, shadow, snow or unusable, by product."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from rasterio.io import DatasetReader
from rasterio.windows import Window
from scipy import ndimage

from geocd.errors import ConfigError, MaskError
from geocd.location import Location
from geocd.quantities import listed_values
from geocd.raster.area import Area
from geocd.raster.files import Source, grid_of
from geocd.raster.grid import Grid, inside, same_crs, same_grid
from geocd.raster.reading import DateSource, read_date, sample_windows
from geocd.raster.warp import Warp
from geocd.stages import MaskClass
from geocd.types import BoolArray, PixelArray

#: What can be masked on request; "unusable" (no data, saturated, defective) always is.
CLASSES: tuple[MaskClass, ...] = ("cloud", "shadow", "snow")
UNUSABLE = "unusable"
#: Names of what is masked begin with this, so that they are not those of rules.
MASKED = "mask:"
#: What classes of masks are called.
DESCRIPTIONS = {
    MASKED + "cloud": "cloud or haze, by the quality mask of either date",
    MASKED + "shadow": "shadow of clouds, by the quality mask of either date",
    MASKED + "snow": "snow or ice, by the quality mask of either date",
    MASKED + UNUSABLE: "no data, saturated or defective, by the quality mask of either date",
}
#: Cloud probability, in per cent, from which a pixel is cloud.
PROBABILITY = 40.0
#: Masks by class, ``(height, width)`` bool each, of the bands of a mask, ``(bands, height, width)``.
Classify = Callable[[PixelArray], dict[str, BoolArray]]


@dataclasses.dataclass(frozen=True)
class MaskKind:
    """A product's way of saying which pixels are what.

    Attributes
    ----------
    name : str
        As ``--mask-kind`` takes it.
    description : str
    classify : callable
        Returns the masks by class.
    possible : callable
        Returns which values of an array can be of this kind.
    bands : tuple of int
        Numbers of the bands that are read, from 1.
    names : str
        Regular expression that file names, asset keys or band names of this kind match, and no other's.
    """

    name: str
    description: str
    classify: Classify
    possible: Callable[[PixelArray], BoolArray]
    bands: tuple[int, ...] = (1,)
    names: str = ""


def by_value(**values: tuple[int, ...]) -> Classify:
    """Return masks of classes that are values of the first band."""

    def classify(bands: PixelArray) -> dict[str, BoolArray]:
        return {name: np.isin(bands[0], listed) for name, listed in values.items()}

    return classify


def by_bit(fill: int | None = None, **bits: tuple[int, ...]) -> Classify:
    """Return masks of classes that are bits of the first band, from 0; ``fill`` is no data."""

    def classify(bands: PixelArray) -> dict[str, BoolArray]:
        numbers = bands[0].astype(np.int64)
        masks = {name: (numbers & sum(1 << bit for bit in listed)) != 0 for name, listed in bits.items()}
        if fill is not None:
            filled = numbers == fill
            masks = {name: mask & ~filled for name, mask in masks.items()}
            masks[UNUSABLE] = masks.get(UNUSABLE, False) | filled
        return masks

    return classify


def _udm2(bands: PixelArray) -> dict[str, BoolArray]:
    """Bands 2 to 6 and 8 of Planet's UDM2: snow, shadow, light haze, heavy haze, cloud; unusable."""
    snow, shadow, light, heavy, cloud, unusable = (band != 0 for band in bands[1:])
    return {"snow": snow, "shadow": shadow, "cloud": light | heavy | cloud, UNUSABLE: unusable}


def _whole(least: int, most: int) -> Callable[[PixelArray], BoolArray]:
    """Return the test for whole numbers of a range."""
    return lambda values: (values >= least) & (values <= most) & (values == np.round(values))


#: Every kind by its name. Sources: scene classification of Sen2Cor (Sentinel-2 products specification);
#: Landsat Collection 2 level 2 science product guide (QA_PIXEL); HLS user guide version 2.0 (Fmask); Planet
#: imagery product specification (UDM, UDM2).
KINDS: Mapping[str, MaskKind] = {
    kind.name: kind
    for kind in (
        MaskKind(
            "scl",
            "scene classification of Sentinel-2, values 0 to 11",
            by_value(cloud=(8, 9, 10), shadow=(3,), snow=(11,), unusable=(0, 1)),
            _whole(0, 11),
            names=r"scl",
        ),
        MaskKind(
            "qa_pixel",
            "QA_PIXEL of Landsat Collection 2, bits",
            by_bit(cloud=(1, 2, 3), shadow=(4,), snow=(5,), unusable=(0,)),
            _whole(0, 65535),
            names=r"qa_?pixel",
        ),
        MaskKind(
            "fmask",
            "Fmask of HLS version 2, bits",
            by_bit(fill=255, cloud=(1, 2), shadow=(3,), snow=(4,)),
            _whole(0, 255),
            names=r"fmask",
        ),
        MaskKind(
            "udm",
            "UDM of Planet, bits",
            by_bit(cloud=(1,), unusable=(0, 2, 3, 4, 5, 6, 7)),
            _whole(0, 255),
            names=r"(?:dn_)?udm",
        ),
        MaskKind(
            "udm2",
            "UDM2 of Planet, eight bands",
            _udm2,
            _whole(0, 255),
            bands=(1, 2, 3, 4, 5, 6, 8),
            names=r"udm2",
        ),
        MaskKind(
            "cloud",
            "0 where there is no cloud, one other value where there is",
            lambda bands: {"cloud": bands[0] != 0},
            lambda values: np.isfinite(values),
        ),
        MaskKind(
            "clear",
            "0 where there is cloud, one other value where it is clear",
            lambda bands: {"cloud": bands[0] == 0},
            lambda values: np.isfinite(values),
        ),
        MaskKind(
            "probability",
            "cloud probability in per cent; of floating point up to 1, as a share",
            lambda bands: {"cloud": bands[0] >= PROBABILITY},
            lambda values: (values >= 0) & (values <= 100),
            names=r"cld_?prb|cloud_?prob(?:ability)?|s2cloudless",
        ),
    )
}
#: Values of QA_PIXEL that Landsat 4 to 9 have, of pixels without any flag: no other product has these.
_QA_PIXEL_CLEAR = frozenset({21824, 21888, 21952, 5440, 5504, 5442})


def parse_kind(text: str) -> MaskKind:
    """Return the kind that ``--mask-kind`` names, but for ``auto``.

    Raises
    ------
    ConfigError
        There is no such kind.
    """
    name, _, parameter = text.partition(":")
    try:
        if name == "values" and parameter:
            usable = tuple(float(value) for value in parameter.split(","))
            return MaskKind(
                text,
                f"usable where the value is {parameter}",
                lambda bands: {UNUSABLE: ~np.isin(bands[0], usable)},
                lambda values: np.isfinite(values),
            )
        if name == "probability" and parameter and 0 < (least := float(parameter)) <= 100:
            return dataclasses.replace(
                KINDS[name], name=text, classify=lambda bands: {"cloud": bands[0] >= least}
            )
    except ValueError:
        pass
    if text in KINDS:
        return KINDS[text]
    raise ConfigError(
        f"--mask-kind {text}: must be auto, {', '.join(KINDS)}, probability:PERCENT or values:4,5,6 (the "
        "values of usable pixels).",
        name="mask_kind",
        value=text,
    )


@dataclasses.dataclass(frozen=True)
class QualityMask:
    """The mask of one date, and how it is read on the grid of a pair. Make it with :meth:`of`.

    Attributes
    ----------
    path : str
    kind : MaskKind
    classes : tuple of str
        Of :data:`CLASSES`: what is masked.
    buffer : float
        Pixels around what is masked that are masked too.
    grid : Grid
        Of the pair.
    own : Grid
        Of the mask.
    warp : Warp or None
        How it gets onto the grid of the pair, by nearest neighbour; None where it is on it.
    share : bool
        Whether values are shares of 1 and not per cent.
    part : rasterio.windows.Window or None
        What of the mask is read; None for all of it.
    """

    path: str
    kind: MaskKind
    classes: tuple[str, ...]
    buffer: float
    grid: Grid
    own: Grid
    warp: Warp | None
    share: bool = False
    part: Window | None = None

    @classmethod
    def of(cls, dataset: DatasetReader, path: str, pair: tuple[Area, str], options: Masks) -> QualityMask:
        """Return how a mask is read.

        Parameters
        ----------
        dataset : rasterio dataset
        path : str
        pair : tuple of Area and str
            What of the before image is read, and its name.
        options : Masks

        Raises
        ------
        MaskError
            The kind is left open and in doubt, or a sample has values that this kind does not have.
        GridError
            It does not overlap the pair.
        ConfigError
            A buffer in metres, and pixels whose size is not known.
        """
        kind = recognised(dataset, path) if options.kind == "auto" else parse_kind(options.kind)
        if dataset.count < max(kind.bands):
            raise MaskError(
                f"{path}: has {dataset.count} bands, and --mask-kind {kind.name} needs {max(kind.bands)} "
                f"({kind.description}). Choose another --mask-kind.",
                path=path,
            )
        (area, name), (own, part) = pair, pair[0].placed(grid_of(dataset, path))
        grid = area.grid
        if same_crs(own.crs, grid.crs):
            own = dataclasses.replace(own, crs=grid.crs)
        warp = None if same_grid(own, grid) else _nearest(own, grid, (name, path))
        size = grid.pixel_size
        if options.buffer and size is None:
            raise ConfigError(
                f"--mask-buffer {options.buffer:g}: {name} has pixels whose size in metres is not known. "
                "Leave the buffer out.",
                name="mask_buffer",
            )
        buffer = options.buffer / size if size else 0.0
        mask = cls(path, kind, options.classes, buffer, grid, own, warp, part=part)
        values = mask._sampled(dataset)
        floating = kind.name.startswith("probability") and values.dtype.kind == "f"
        share = bool(floating and values.size and values.max() <= 1)
        mask._check(values)
        return dataclasses.replace(mask, share=share)

    def shifted(self, row: float, col: float) -> QualityMask:
        """Return this mask moved as the after image is, by pixels of the pair."""
        warp = self.warp or _nearest(self.own, self.grid, ("", self.path))
        return dataclasses.replace(self, warp=dataclasses.replace(warp, shift=(row, col)))

    def read(self, dataset: DatasetReader, window: Window) -> dict[str, BoolArray]:
        """Return what is masked in a window of the pair, by class, ``(height, width)`` bool each.

        Raises
        ------
        MaskError
            The window has values that this kind does not have.
        RasterReadError
        """
        margin = math.ceil(self.buffer)
        around = self.grid.around(window, margin)
        source = DateSource(
            dataset, self.path, self.kind.bands, np.float32, warp=self.warp, alpha=(), part=self.part
        )
        values, known = read_date(source, around)
        self._check(values[:, known])
        if self.share:
            values = values * 100
        masks = {
            name: mask & known
            for name, mask in self.kind.classify(values).items()
            if name == UNUSABLE or name in self.classes
        }
        masks[UNUSABLE] = masks.get(UNUSABLE, np.zeros(known.shape, dtype=bool)) | ~known
        part = inside(around, window)
        return {
            name: (mask if name == UNUSABLE else grown(mask, self.buffer))[part]
            for name, mask in masks.items()
        }

    def _sampled(self, dataset: DatasetReader) -> PixelArray:
        """Return the values of a bounded sample, ``(bands, n)``, in their own type."""
        return _sample(dataset, self.path, self.kind.bands)

    def _check(self, values: PixelArray) -> None:
        """Raise :class:`MaskError` where values are none of this kind."""
        possible = self.kind.possible(values)
        if not possible.all():
            raise MaskError(
                f"{self.path}: has values that --mask-kind {self.kind.name} does not have: "
                f"{_listed(values[~possible])} ({self.kind.description}). Choose another --mask-kind.",
                path=self.path,
            )
        if self.kind.name in ("cloud", "clear") and len(np.unique(values[values != 0])) > 1:
            raise MaskError(
                f"{self.path}: has several values besides 0 ({_listed(values)}), and --mask-kind "
                f"{self.kind.name} has one ({self.kind.description}). Choose another --mask-kind.",
                path=self.path,
            )


@dataclasses.dataclass(frozen=True)
class Masks:
    """The quality masks of a pair, and what of them is used.

    Parameters
    ----------
    before, after : str or Openable, optional
        None where there is none.
    kind : str
        As ``--mask-kind`` takes it.
    classes : tuple of str
    buffer : float
        Metres around what is masked.
    """

    before: Source | None = None
    after: Source | None = None
    kind: str = "auto"
    classes: tuple[str, ...] = CLASSES
    buffer: float = 0.0


def grown(mask: BoolArray, pixels: float) -> BoolArray:
    """Return a mask with everything up to so many pixels from it."""
    if not pixels or not mask.any():
        return mask
    near: BoolArray = ndimage.distance_transform_edt(~mask) <= pixels
    return near


def read_masks(
    masks: Iterable[QualityMask | None],
    datasets: Iterable[DatasetReader | None],
    window: Window,
    valid: BoolArray,
) -> dict[str, BoolArray]:
    """Return what is masked in any date of a pair, by the name of its class in ``Chip.ignored``.

    Parameters
    ----------
    masks : iterable of QualityMask or None
        Of the dates; None where there is none.
    datasets : iterable of rasterio dataset or None
        Theirs.
    window : rasterio.windows.Window
    valid : ndarray, (height, width), bool
        What would be valid without them; nothing else is masked.

    Raises
    ------
    MaskError, RasterReadError
    """
    merged: dict[str, BoolArray] = {}
    for mask, dataset in zip(masks, datasets, strict=True):
        if mask is not None and dataset is not None:
            for name, excluded in mask.read(dataset, window).items():
                key = MASKED + name
                merged[key] = (merged[key] | excluded if key in merged else excluded) & valid
    return merged


def recognised(dataset: DatasetReader, path: str) -> MaskKind:
    """Return the kind of a mask, where its name or its values leave no doubt.

    Raises
    ------
    MaskError
        They do; the message lists what was seen.
    """
    texts = [Location(path).name, *(text for text in dataset.descriptions if text)]
    named = {
        kind.name
        for kind in KINDS.values()
        for text in texts
        if kind.names and re.search(rf"(?<![a-z0-9])(?:{kind.names})(?![a-z0-9])", text.lower())
    }
    values = _sample(dataset, path, (1,))
    numbers = set(np.unique(values).tolist())
    if not named and dataset.dtypes[0] == "uint16" and numbers & _QA_PIXEL_CLEAR:
        named = {"qa_pixel"}
    if not named and dataset.count == 8 and set(dataset.dtypes) == {"uint8"} and numbers <= {0, 1}:
        named = {"udm2"}
    if len(named) == 1:
        return KINDS[named.pop()]
    raise MaskError(
        f"{path}: which kind of mask it is cannot be told by its name"
        + (f" ({', '.join(sorted(named))} would fit)" if named else "")
        + f" or its values ({dataset.count} band{'s' * (dataset.count > 1)} of {dataset.dtypes[0]}: "
        f"{_listed(values)}). Say --mask-kind, one of {', '.join(KINDS)}, or values:4,5,6 (the values of "
        "usable pixels).",
        path=path,
    )


def _sample(dataset: DatasetReader, path: str, bands: Sequence[int]) -> PixelArray:
    """Return the valid values of a bounded sample of a raster, ``(bands, n)``, in its own type."""
    source = DateSource(dataset, path, bands, dataset.dtypes[bands[0] - 1], alpha=())
    parts = []
    for window in sample_windows(dataset.height, dataset.width):
        values, valid = read_date(source, window)
        parts.append(values[:, valid])
    return np.concatenate(parts, axis=1)


def _listed(values: Iterable[float] | PixelArray) -> str:
    """Return the different values of an array in words."""
    return listed_values(np.unique(np.asarray(values)).tolist()) or "no valid pixel"


def _nearest(source: Grid, target: Grid, names: tuple[str, str]) -> Warp:
    """Return how to read classes on another grid: a mixture of two would be a third."""
    return dataclasses.replace(Warp.between(source, target, names), resampling="nearest")


__all__ = [
    "CLASSES",
    "DESCRIPTIONS",
    "KINDS",
    "MaskKind",
    "Masks",
    "QualityMask",
    "grown",
    "parse_kind",
    "read_masks",
    "recognised",
]
