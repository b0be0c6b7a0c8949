"""Whether two rasters are a usable pair: grids, bands, valid area, brightness and shift, from a sample."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rasterio.windows import Window

from geocd.config import Align
from geocd.errors import BandError, GridError, NoValidPixelError
from geocd.raster.files import grid_of, open_raster
from geocd.raster.grid import Grid, crs_name, same_grid
from geocd.raster.pair import Chip, Pair
from geocd.raster.reading import read
from geocd.raster.warp import Warp, overlap
from geocd.report.acquired import acquisition_date
from geocd.scene.registration import WARN_SHIFT, Removed, Shift, measure_shift, remove_shift
from geocd.scene.sample import sample_chips, valid_pixels, zero_shares, zeros_in_words
from geocd.types import BoolArray

#: Share of pixels that are valid in both dates, below which there is a warning.
WARN_VALID = 0.5
#: Correlation of the dates (median over bands), below which they probably show different areas, bands or
#: seasons.
WARN_CORRELATION = 0.2
#: Ratio of pixel sizes, from which detail that only the finer image resolves makes up much of the difference.
WARN_COARSER = 2.0
_OTHER_NAMES = "the bands have different names"


@dataclasses.dataclass(frozen=True)
class DateReport:
    """What is known of one raster of the pair.

    Attributes
    ----------
    path : str
    crs : str
        Name of the CRS.
    grid : str
        Description of the grid: CRS, origin, pixel size, size.
    pixel_size_m : float or None
        Side of a pixel in metres; None where there is no usable grid.
    dtype : str
        Data type of the first band.
    bands : tuple of str
        Names of the bands, "band 1" and so on where they have none.
    nodata : float or None
        Declared nodata value.
    date : str or None
        Time of acquisition, RFC 3339.
    """

    path: str
    crs: str
    grid: str
    pixel_size_m: float | None
    dtype: str
    bands: tuple[str, ...]
    nodata: float | None
    date: str | None


@dataclasses.dataclass(frozen=True)
class PairReport:
    """The result of :func:`check_pair`.

    Attributes
    ----------
    before, after : DateReport
    usable : bool
        Whether ``geocd detect`` accepts the pair with the same alignment.
    problem : str or None
        Why the pair is not usable, and the remedy.
    overlap : float or None
        Share of the extent of the before image that the after image covers, in [0, 1]; None where an image is
        not georeferenced.
    valid_share : float or None
        Share of the sampled pixels that are valid in both dates, in [0, 1].
    gain, offset : float or None
        after = gain x before + offset, from means and standard deviations; medians over bands.
    correlation : float or None
        Correlation of the dates, median over bands.
    shift : Shift or None
        Shift of the after image, measured after the alignment; None where there is nothing to measure on.
    align : str
        The alignment: ``none``, ``grid`` or ``shift``.
    resampling : str or None
        How the after image is (or, with ``--align grid``, would be) resampled onto the grid of the before
        image; None where the grids are the same.
    pixel_ratio : float or None
        Pixel size of the after image over that of the before image, where it is resampled.
    removed : Removed or None
        The shift that ``--align shift`` removes.
    warnings : tuple of str
        What deserves a look although the pair may be usable.
    """

    before: DateReport
    after: DateReport
    usable: bool
    problem: str | None = None
    overlap: float | None = None
    valid_share: float | None = None
    gain: float | None = None
    offset: float | None = None
    correlation: float | None = None
    shift: Shift | None = None
    align: Align = "none"
    resampling: str | None = None
    pixel_ratio: float | None = None
    removed: Removed | None = None
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON holds it; nodata values that are not finite become text."""
        content = dataclasses.asdict(self)
        content["shift"] = None if self.shift is None else self.shift.as_dict()
        content["removed"] = None if self.removed is None else self.removed.as_dict()
        for which in ("before", "after"):
            nodata = content[which]["nodata"]
            if nodata is not None and not np.isfinite(nodata):
                content[which]["nodata"] = str(nodata)
        return content


def check_pair(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    *,
    indexes: tuple[int | str, ...] | None = None,
    nodata: float | None = None,
    valid: str | os.PathLike[str] | None = None,
    align: Align = "none",
) -> PairReport:
    """Check a pair: grids, bands, valid area, brightness, and the shift that the grids do not show.

    Reads a bounded sample. A pair that ``geocd detect`` would refuse is no error here: the report says why.

    Parameters
    ----------
    before, after, indexes, nodata, valid
        As for :class:`~geocd.raster.pair.Pair`.
    align : str
        The setting: ``none``, ``grid`` or ``shift``. Everything is measured on the aligned pair.

    Returns
    -------
    PairReport

    Raises
    ------
    RasterOpenError, RasterReadError
        A file is missing, is no raster, or is damaged.
    """
    paths = os.fspath(before), os.fspath(after)
    (first, grid), (second, other) = (_date(path) for path in paths)
    fit = _GridFit() if grid is None or other is None else _fit(grid, other)
    report = PairReport(
        first,
        second,
        usable=False,
        overlap=fit.overlap,
        align=align,
        resampling=fit.resampling,
        pixel_ratio=fit.pixel_ratio,
        warnings=tuple(_file_warnings(first, second, fit.pixel_ratio)),
    )
    try:
        with Pair(*paths, indexes=indexes, nodata=nodata, valid=valid, align=align != "none") as opened:
            pair: Pair = opened
            report = _with_remarks(report, pair.bands.remarks)
            if align == "shift":
                pair, removed = remove_shift(pair)
                report = dataclasses.replace(report, removed=removed)
            if pair.warp is not None:
                report = dataclasses.replace(report, resampling=pair.warp.resampling)
            chips = sample_chips(pair)
            report = dataclasses.replace(report, warnings=(*report.warnings, *_elevation_warning(pair)))
    except (GridError, BandError, NoValidPixelError) as error:
        warnings = report.warnings
        if fit.overlap == 0:
            warnings += ("the two rasters do not show the same area: their extents do not overlap",)
        return dataclasses.replace(report, problem=str(error), warnings=warnings)

    brightness = _compare_brightness(chips)
    report = dataclasses.replace(
        report,
        usable=True,
        valid_share=sum(int(chip.valid.sum()) for chip in chips) / sum(chip.valid.size for chip in chips),
        gain=brightness.gain,
        offset=brightness.offset,
        correlation=brightness.correlation,
        shift=measure_shift(chips),
    )
    warnings = report.warnings + tuple(_sample_warnings(report, chips, brightness.varies))
    return dataclasses.replace(report, warnings=warnings)


def _elevation_warning(pair: Pair) -> Iterator[str]:
    """Yield a warning for a pair that may be of elevations: one band of real or signed numbers."""
    if len(pair.indexes) == 1 and all(dtype in ("float32", "float64", "int16") for dtype in pair.dtypes):
        yield (
            "if the band is an elevation: change is measured against the spread of the whole scene, so pits "
            "and heaps that are small against its relief are missed. Threshold their difference instead"
        )


def _with_remarks(report: PairReport, remarks: tuple[str, ...]) -> PairReport:
    """Return the report with remarks on the bands, which say more than that names differ."""
    if not remarks:
        return report
    others = (warning for warning in report.warnings if not warning.startswith(_OTHER_NAMES))
    return dataclasses.replace(report, warnings=(*others, *remarks))


@dataclasses.dataclass(frozen=True)
class _GridFit:
    """How the after image lies on the grid of the before image; attributes as of :class:`PairReport`."""

    overlap: float | None = None
    resampling: str | None = None
    pixel_ratio: float | None = None


def _fit(grid: Grid, other: Grid) -> _GridFit:
    """Return how a raster on another grid fits onto this one."""
    if same_grid(grid, other):
        return _GridFit(overlap=1.0)
    share = overlap(grid, other)
    if not share:
        return _GridFit(overlap=share)
    warp = Warp.between(other, grid)
    return _GridFit(share, warp.resampling, (warp.scale[0] * warp.scale[1]) ** -0.5)


@dataclasses.dataclass(frozen=True)
class _Brightness:
    """Linear relation of the dates, medians over bands; ``varies`` tells per band if both dates vary."""

    varies: BoolArray
    gain: float | None = None
    offset: float | None = None
    correlation: float | None = None


def _compare_brightness(chips: Sequence[Chip]) -> _Brightness:
    before, after = valid_pixels(chips)
    spread = before.std(axis=1), after.std(axis=1)
    varies = (spread[0] > 0) & (spread[1] > 0)
    if not varies.any():
        return _Brightness(varies)
    gains = spread[1][varies] / spread[0][varies]
    pairs = zip(before[varies], after[varies], strict=True)
    return _Brightness(
        varies,
        gain=float(np.median(gains)),
        offset=float(np.median(after[varies].mean(axis=1) - gains * before[varies].mean(axis=1))),
        correlation=float(np.median([np.corrcoef(a, b)[0, 1] for a, b in pairs])),
    )


def _file_warnings(before: DateReport, after: DateReport, ratio: float | None) -> Iterator[str]:
    """Yield what deserves a look in dates, bands and pixel sizes."""
    if before.date and after.date and before.date > after.date:
        yield f"before ({before.date[:10]}) was taken later than after ({after.date[:10]})"
    if before.bands != after.bands:
        yield f"{_OTHER_NAMES}: {_enumerated(before.bands)} and {_enumerated(after.bands)}"
    if ratio is not None and max(ratio, 1 / ratio) >= WARN_COARSER:
        coarse, fine, times = ("after", "before", ratio) if ratio > 1 else ("before", "after", 1 / ratio)
        yield (
            f"the pixels of {coarse} are {times:.2g} times as wide as those of {fine}, so it shows less"
            + (": detail of before alone will look like change" if ratio > 1 else "")
        )


def _sample_warnings(report: PairReport, chips: Sequence[Chip], varies: BoolArray) -> Iterator[str]:
    """Yield what deserves a look in the sample of a usable pair."""
    dates, shift = (report.before, report.after), report.shift
    if report.valid_share is not None and report.valid_share < WARN_VALID:
        yield f"only {report.valid_share:.0%} of the pixels are valid in both dates"
    for date, zeros in zip(dates, zero_shares(chips), strict=True):
        if words := zeros_in_words(date.path, zeros):
            yield words
    if not varies.all():
        constant = [name for name, vary in zip(report.before.bands, varies, strict=False) if not vary]
        yield f"constant in one date, so without information: {_enumerated(constant)}"
    if report.correlation is not None and report.correlation < WARN_CORRELATION:
        yield (
            f"the two dates have little in common (correlation {report.correlation:.2f}). Check that the "
            "bands are the same"
        )
    if shift is not None and shift.measurable and shift.length >= WARN_SHIFT:
        yield (
            f"after is shifted by {shift.length:.1f} px against before, so edges will look like change. "
            "--align shift removes the shift"
        )
    if shift is not None and not shift.measurable:
        yield (
            "no shift could be measured: the images have too little structure in common. Check that they "
            "show the same area"
        )


def _date(path: str) -> tuple[DateReport, Grid | None]:
    """Return the report of a raster and its grid; None where it has no usable one."""
    with open_raster(path) as dataset:
        read(dataset, path, Window(0, 0, 1, 1), indexes=1)  # a file that ends early is an error at once
        try:
            grid = grid_of(dataset, path)
        except GridError:  # raised again when the pair is opened
            grid = None
        missing = "no coordinate reference system" if dataset.crs is None else "no usable grid"
        names = (dataset.descriptions[i - 1] or f"band {i}" for i in dataset.indexes)
        return (
            DateReport(
                path=path,
                crs=crs_name(dataset.crs if grid is None else grid.crs),
                grid=missing if grid is None else grid.describe(),
                pixel_size_m=None if grid is None else grid.pixel_size,
                dtype=dataset.dtypes[0],
                bands=tuple(names),
                nodata=dataset.nodata,
                date=acquisition_date(dataset.tags(), path),
            ),
            grid,
        )


def _enumerated(names: Sequence[str], most: int = 4) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


__all__ = ["DateReport", "PairReport", "check_pair"]
