"""Two rasters of one place, read by window on one grid, with the area that is valid in both."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Protocol

import numpy as np
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geocd.config import Nodata
from geocd.errors import NoValidPixelError, RasterReadError
from geocd.raster.area import Area
from geocd.raster.choice import as_ranges, choose_bands
from geocd.raster.features import FeatureChip, FeatureRasters
from geocd.raster.files import Source, grid_of, source_name
from geocd.raster.grid import Grid, check_same_grid, inside
from geocd.raster.handles import Companions, Datasets, OpenFiles, Sources
from geocd.raster.projections import check_projections
from geocd.raster.quality import Masks, QualityMask, read_masks
from geocd.raster.reading import DateSource, read_date, sample_windows
from geocd.raster.rims import Rim, undeclared_rim
from geocd.raster.scaling import scaling_of
from geocd.raster.validmask import check_mask, mask_value
from geocd.raster.warp import Warp
from geocd.types import BoolArray, Part, PixelArray

#: Data types whose values float32 cannot hold.
_WIDE = {"float64", "int32", "uint32", "int64", "uint64"}


@dataclasses.dataclass(frozen=True)
class Chip:
    """Pixels of both dates inside a window.

    Attributes
    ----------
    before, after : ndarray, (bands, height, width), float32 or float64
        Raw values, finite everywhere; 0 where not valid. float64 only for inputs that float32 cannot
        hold (32-bit integers and float64), until the statistics have centred them.
    valid : ndarray, (height, width), bool
        True where every chosen band of both dates is usable.
    window : rasterio.windows.Window
        Where in the grid.
    ignored : mapping of ndarray, (height, width), bool
        What a :class:`ValidityRule` took out of ``valid``, by kind; a pixel may be of several kinds.
    features : FeatureChip or None
        Features that were made elsewhere.
    needed : tuple of slice, optional
        Rows and columns whose probability is asked for: the others are there for windows. None for all.
    """

    before: PixelArray
    after: PixelArray
    valid: BoolArray
    window: Window
    ignored: Mapping[str, BoolArray] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    features: FeatureChip | None = None
    needed: Part | None = None

    def part(self, rows: slice, cols: slice) -> Chip:
        """Return some rows and columns of this chip, counted from its own first: views, not copies."""
        valid = self.valid[rows, cols]
        window = Window(
            self.window.col_off + (cols.start or 0),
            self.window.row_off + (rows.start or 0),
            *valid.shape[::-1],
        )
        ignored = {kind: pixels[rows, cols] for kind, pixels in self.ignored.items()}
        features = None if self.features is None else self.features.part(window)
        return Chip(self.before[:, rows, cols], self.after[:, rows, cols], valid, window, ignored, features)


class ValidityRule(Protocol):
    """What takes pixels out of the valid area of a pair: :class:`geocd.scene.ignore.Rules`."""

    @property
    def reach(self) -> int:
        """Pixels around a pixel that its verdict depends on."""

    def apply(self, chip: Chip) -> Chip:
        """Return the chip with a smaller valid area, and what was taken out in ``ignored``."""

    def nothing_left(self, before: str, after: str) -> NoValidPixelError:
        """Return the error for a pair of which no pixel is left."""


class Pair:
    """A before and an after raster, read by window on one grid: that of the before raster.

    A pair does not change: :meth:`shifted`, :meth:`ignoring` and :meth:`reading` return another one, which
    shares its open files where the sources are the same. Opening checks everything that can be known
    from a bounded number of windows: bands tagged alpha, and the border, are looked at.

    Parameters
    ----------
    before, after : str or Openable
        Paths or URLs, or what else can be read like a raster.
    indexes : sequence of int or str, optional
        Band numbers, from 1, taken from both dates, or names, which are looked up in each. Default: all bands
        but alpha, matched by name where both dates name theirs.
    nodata : float or "none", optional
        Overrides the nodata value of both rasters. Default: the values that they declare, and that of an
        undeclared rim (:mod:`geocd.raster.rims`); ``"none"``: only the values that they declare.
    valid : str or Openable, optional
        A raster whose first band is 0 where the pair is not usable, and has one other value where it is, on
        the grid of the before raster (with ``align``, on any).
    companions : Companions, optional
        Features that were made elsewhere, and quality masks, of any resolution. What they do not cover is not
        valid.
    align : bool
        Whether the after raster may have another grid, and is warped while it is read. What it does not
        cover is not valid.
    area : str, optional
        What of the before raster the pair is, see :meth:`geocd.raster.area.Area.of`. Default: all of it.

    Attributes
    ----------
    grid : Grid
        Of the before raster, or of the window of it that ``area`` has pixels in.
    after_grid : Grid
        The after raster's own.
    warp, valid_warp : Warp or None
        How the after raster and ``valid`` are warped; None where they are read as they are.
    features : FeatureRasters or None
        How the features that were made elsewhere are read.
    rule : ValidityRule or None
        What takes pixels out of the valid area.
    bands : Bands
        Numbers of the compared bands in both dates, and the undeclared rims.
    nodata : float or None
        What overrides the nodata value of both rasters.
    band_names : tuple of str
    dtypes : tuple of str
        Data types of before and after.
    tags : tuple of dict
        Tags of before and after.
    scalings : tuple of Scaling
        Scale and offset of the compared bands, before and after, as they are declared. Chips hold the values
        as they are stored.

    Raises
    ------
    RasterOpenError, GridError, BandError
    MaskError
        ``valid`` has several values besides 0.

    Notes
    -----
    A pixel is valid when every chosen band of both dates is finite, is not nodata, and is not masked by
    an alpha band or a dataset mask. One bad band spoils the pixel: a -9999 in one band would otherwise
    be read as an enormous change. Reading is safe from several threads.
    """

    def __init__(
        self,
        before: Source,
        after: Source,
        *,
        indexes: Sequence[int | str] | None = None,
        nodata: Nodata | None = None,
        valid: Source | None = None,
        companions: Companions | None = None,
        align: bool = False,
        area: str | None = None,
    ) -> None:
        check_projections()
        companions = companions or Companions()
        masks = companions.masks
        self.files = OpenFiles(Sources(before, after, valid, *companions.features, masks.before, masks.after))
        self.before_path, self.after_path = source_name(before), source_name(after)
        self.valid_path = None if valid is None else source_name(valid)
        self.rule: ValidityRule | None = None
        self.nodata = None if nodata == "none" else nodata
        self._align = align
        try:
            with self.files.lent() as datasets:
                self._place(datasets, area)
                self._check(datasets, indexes)
                self._masks = self._quality_masks(datasets, companions.masks)
                if nodata is None:
                    self._look_for_rims(datasets)
        except BaseException:
            self.close()
            raise

    def _place(self, datasets: Datasets, area: str | None) -> None:
        """Find out which part of the rasters of both dates is read, and on which grids."""
        whole = grid_of(datasets.before, self.before_path)
        self.area = Area(whole, whole.window) if area is None else Area.of(area, whole, self.before_path)
        self.grid = self.area.grid
        self.after_grid, after_part = self.area.placed(grid_of(datasets.after, self.after_path))
        self.parts = self.area.window, after_part

    def _check(self, datasets: Datasets, indexes: Sequence[int | str] | None) -> None:
        before, after, valid = datasets[:3]
        self.warp = self._onto_grid(self.after_grid, self.after_path)
        self.valid_warp: Warp | None = None
        self._valid_value: float | None = None
        if valid is not None:
            assert self.valid_path is not None
            grid, self._valid_part = self.area.placed(grid_of(valid, self.valid_path))
            self.valid_warp = self._onto_grid(grid, self.valid_path)
            with contextlib.suppress(RasterReadError):  # raised again by whoever needs these pixels
                self._valid_value = mask_value(self._mask(valid))
        self.features: FeatureRasters | None = None
        if datasets.features_before is not None:
            names = (source_name(source) for source in self.files.sources[3:5] if source is not None)
            opened = zip(datasets.features, names, strict=True)
            self.features = FeatureRasters.between((self.grid, self.before_path), *opened)
        dates = (before, self.before_path), (after, self.after_path)
        self.bands = choose_bands(*dates, indexes)
        numbers = (self.bands.before, self.bands.after)
        self.band_names = self.bands.names
        self.dtypes = (before.dtypes[numbers[0][0] - 1], after.dtypes[numbers[1][0] - 1])
        self.tags = (dict(before.tags()), dict(after.tags()))
        first, second = (scaling_of(*date, own) for date, own in zip(dates, numbers, strict=True))
        self.scalings = first, second
        wide = any(
            dataset.dtypes[i - 1] in _WIDE
            for (dataset, _), own in zip(dates, numbers, strict=True)
            for i in own
        )
        self._dtype = np.float64 if wide else np.float32

    def _quality_masks(
        self, datasets: Datasets, options: Masks
    ) -> tuple[QualityMask | None, QualityMask | None]:
        """Return how the masks of both dates are read; None where there is none."""
        first, second = (
            None
            if source is None or dataset is None
            else QualityMask.of(dataset, source_name(source), (self.area, self.before_path), options)
            for source, dataset in zip((options.before, options.after), datasets.masks, strict=True)
        )
        return first, second

    def _look_for_rims(self, datasets: Datasets) -> None:
        """Find out which value means "no data" at the border of each date, although it is not declared."""
        rims: list[Rim | None] = []
        for date in self._dates(datasets):
            try:
                rims.append(undeclared_rim(date))
            except RasterReadError:  # raised again by whoever needs these pixels
                rims.append(None)
        self.bands = dataclasses.replace(self.bands, rims=(rims[0], rims[1]))

    def _mask(self, dataset: DatasetReader) -> DateSource:
        """Return how the raster of the valid pixels is read, as it is stored."""
        assert self.valid_path is not None
        part = self._valid_part
        return DateSource(dataset, self.valid_path, [1], np.float64, zero_is_valid=False, part=part)

    def _dates(self, datasets: Datasets) -> tuple[DateSource, DateSource]:
        """Return how both dates are read, each as it is stored."""
        before, after = datasets[:2]
        bands, fills, common = self.bands, self.bands.fills, (self._dtype, self.nodata)
        first = DateSource(before, self.before_path, bands.before, *common, alpha=bands.alpha_before)
        second = DateSource(after, self.after_path, bands.after, *common, alpha=bands.alpha_after)
        return (
            dataclasses.replace(first, fill=fills[0], part=self.parts[0]),
            dataclasses.replace(second, fill=fills[1], part=self.parts[1]),
        )

    @property
    def indexes(self) -> tuple[int, ...]:
        """Numbers of the compared bands in the before raster, from 1."""
        return self.bands.before

    @property
    def sources(self) -> Sources:
        """Where everything is read from."""
        return self.files.sources

    @property
    def companions(self) -> dict[str, str]:
        """Names of the rasters beside the two images that there are, by the names of their settings."""
        names = self.sources._asdict()
        return {
            name: source_name(source)
            for name, source in names.items()
            if source is not None and name not in ("before", "after")
        }

    @property
    def values_per_pixel(self) -> float:
        """Values of a date for each pixel: bands, and what features have for a pixel."""
        features = 0.0 if self.features is None else self.features.channels / self.features.stride**2
        return len(self.indexes) + features

    @property
    def itemsize(self) -> int:
        """Bytes of a value of a chip."""
        return np.dtype(self._dtype).itemsize

    def _onto_grid(self, grid: Grid, path: str) -> Warp | None:
        """Return how a raster gets onto the grid of the pair; None where it is on it."""
        names = self.before_path, path
        if not self._align:
            remedy = "--align grid warps the second onto the grid of the first while reading."
            check_same_grid(self.grid, grid, names, remedy)
        return Warp.onto(grid, self.grid, names)

    def shifted(self, row: float, col: float) -> Pair:
        """Return this pair with the after raster read as if its content lay further up and to the left.

        Parameters
        ----------
        row, col : float
            Pixels of the pair's grid that the content of the after raster lies down and to the right of
            that of the before raster. It is resampled once, also where it has another grid.
        """
        warp = self.warp or Warp.between(dataclasses.replace(self.after_grid, crs=self.grid.crs), self.grid)
        pair = copy.copy(self)
        pair.warp = dataclasses.replace(warp, shift=(row, col))
        # made of that image
        pair.features = self.features and self.features.shifted(row, col)
        pair._masks = self._masks[0], self._masks[1] and self._masks[1].shifted(row, col)
        return pair

    def without_features(self) -> Pair:
        """Return this pair without the features that were made elsewhere, for who needs pixels alone."""
        pair = copy.copy(self)
        pair.features = None
        return pair

    def ignoring(self, rule: ValidityRule) -> Pair:
        """Return this pair without the pixels that a rule takes out of the valid area."""
        pair = copy.copy(self)
        pair.rule = rule
        return pair

    def reading(self, before: Source, after: Source, valid: Source | None = None) -> Pair:
        """Return this pair, with all that was checked, reading its pixels from other sources."""
        pair = copy.copy(self)
        pair.files = OpenFiles(self.sources._replace(before=before, after=after, valid=valid))
        return pair

    def read(self, window: Window) -> Chip:
        """Read the pixels of both dates inside a window, with their joint valid area.

        Parameters
        ----------
        window : rasterio.windows.Window
            Whole pixels, inside the grid.

        Raises
        ------
        RasterReadError
            The file is truncated or damaged there.
        """
        if self.rule is None:
            return self._read(window)
        # with surroundings, so that the verdict on a pixel is the same in every window
        around = self.grid.around(window, self.rule.reach)
        chip = self.rule.apply(self._read(around))
        return chip.part(*inside(around, window))

    def read_after(self, chip: Chip) -> tuple[PixelArray, BoolArray]:
        """Read the after image where a chip of another pair with this before image is, and where it is valid.

        Raises
        ------
        RasterReadError
        """
        if self.rule is None and self.companions.keys() <= {"mask_after"}:
            with self.files.lent() as datasets:
                source = dataclasses.replace(self._dates(datasets)[1], warp=self.warp)
                after, valid = read_date(source, chip.window)
                for excluded in read_masks(self._masks, datasets.masks, chip.window, valid).values():
                    valid &= ~excluded
        else:  # all that it takes to tell what is valid
            whole = self.read(chip.window)
            after, valid = whole.after, whole.valid
        return after, valid & chip.valid

    def _read(self, window: Window) -> Chip:
        """Read a window, of which no rule has taken anything out."""
        with self.files.lent() as datasets:
            dates = self._dates(datasets)
            before, valid = read_date(dates[0], window)
            after, valid_after = read_date(dataclasses.replace(dates[1], warp=self.warp), window)
            valid &= valid_after
            if datasets.valid is not None:
                mask = dataclasses.replace(self._mask(datasets.valid), warp=self.valid_warp)
                values, usable = read_date(mask, window)
                if self.valid_warp is None:
                    check_mask(mask, values, usable, self._valid_value)
                valid &= usable
            features = None if self.features is None else self.features.read(datasets.features, window)
            if self.area.geometry is not None:
                valid &= self.area.inside(window)
            if features is not None:
                valid &= features.covered(window)
            masked = read_masks(self._masks, datasets.masks, window, valid)
        for excluded in masked.values():
            valid &= ~excluded
        for values in (before, after):
            values[:, ~valid] = 0
        return Chip(before, after, valid, window, masked, features)

    def no_valid_pixel(self, *, ignored: bool = False) -> NoValidPixelError:
        """Return the error for a pair that has no jointly valid pixel.

        Parameters
        ----------
        ignored : bool
            Whether pixels would be valid, had not the rule taken them out.
        """
        if ignored and self.rule is not None:
            return self.rule.nothing_left(self.before_path, self.after_path)
        with self.files.lent() as datasets:
            before, after = datasets[:2]
            empty = self._empty_bands(datasets)
        return NoValidPixelError(
            f"no pixel is valid in both {self.before_path} (nodata {before.nodata}) and "
            f"{self.after_path} (nodata {after.nodata})"
            + "".join(f" and {path}" for path in self.companions.values())
            + ". Check the nodata values (--nodata overrides them), the masks and the overlap."
            + self._rims_in_words()
            + empty,
            before=self.before_path,
            after=self.after_path,
        )

    def _rims_in_words(self) -> str:
        """Return a sentence about the undeclared rims that were taken as no data; empty without any."""
        rims = zip((self.before_path, self.after_path), self.bands.rims, strict=True)
        values = [f"{rim.value} in {path}" for path, rim in rims if rim is not None and rim.excluded]
        if not values:
            return ""
        return (
            f" Pixels of the value at the border ({' and '.join(values)}) were taken as no data; --nodata "
            "none takes them as values."
        )

    def _empty_bands(self, datasets: Datasets) -> str:
        """Return a sentence that names the bands in which a sample has no valid pixel; empty without any."""
        empty: set[int] = set()  # positions among the compared bands
        sentences = []
        dates = zip(
            datasets,
            (self.before_path, self.after_path),
            (self.bands.before, self.bands.after),
            self.parts,
            strict=False,
        )
        for dataset, path, numbers, part in dates:
            assert dataset is not None
            sources = [
                DateSource(dataset, path, [i], self._dtype, self.nodata, alpha=(), part=part) for i in numbers
            ]
            windows = sample_windows(*sources[0].shape)
            invalid = [
                position
                for position, source in enumerate(sources)
                if not any(read_date(source, window)[1].any() for window in windows)
            ]
            if invalid:
                listed = as_ranges(sorted(numbers[position] for position in invalid))
                names = [self.band_names[position] for position in invalid[:5]]
                more = f" and {len(invalid) - 5} more" if len(invalid) > 5 else ""
                sentences.append(f" No valid pixel in bands {listed} of {path} ({', '.join(names)}{more}).")
            empty.update(invalid)
        rest = [number for position, number in enumerate(self.bands.before) if position not in empty]
        if sentences and rest and self.bands.before == self.bands.after:
            sentences.append(f" Leave them out: --bidx {as_ranges(rest)}")
        return "".join(sentences)

    def close(self) -> None:
        """Close all files, also those of the pairs made from this one."""
        self.files.close()

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


__all__ = ["Chip", "Pair", "ValidityRule"]
