"""Is this a usable pair? What can be said of two rasters before any change is looked for."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
from rasterio.windows import Window

from geocd.config import Align
from geocd.errors import BandError, GridError, NoValidPixelError
from geocd.raster.files import grid_of, open_raster
from geocd.raster.grid import Grid, crs_name, same_grid
from geocd.raster.pair import Pair
from geocd.raster.reading import read
from geocd.raster.warp import Warp, overlap
from geocd.report.acquired import acquisition_date
from geocd.scene.registration import WARN_SHIFT, Removed, Shift, measure_shift, remove_shift
from geocd.scene.sample import sample_chips, valid_pixels, zero_shares, zeros_in_words

#: A pair of which less than this share is valid in both dates deserves a look.
WARN_VALID = 0.5
#: Bands whose values go together less than this (correlation, median over bands) show other ground, other
#: bands, or a season that changed everything.
WARN_CORRELATION = 0.2
#: From so many times as wide pixels on, what only the finer image shows is a good part of what differs.
WARN_COARSER = 2.0


@dataclasses.dataclass(frozen=True)
class DateReport:
    """One raster of the pair.

    Attributes
    ----------
    path : str
    crs : str
    grid : str
        In words: CRS, origin, pixel, size.
    pixel_size_m : float or None
        Side of a pixel in metres.
    dtype : str
        Of its first band.
    bands : tuple of str
    nodata : float or None
    date : str or None
        Acquisition, RFC 3339.
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
    """What :func:`check_pair` found.

    Attributes
    ----------
    before, after : DateReport
    usable : bool
        Whether ``geocd detect`` takes the pair, aligned as it was asked for.
    problem : str or None
        Why not, and what to do.
    overlap : float or None
        Share of the before image's extent that the after image has too, in [0, 1]; None where a place on
        Earth is not known.
    valid_share : float or None
        Share of the sampled pixels that are valid in both dates.
    gain, offset : float or None
        after = gain x before + offset by means and deviations, median over bands.
    correlation : float or None
        Of the dates, median over bands.
    shift : Shift or None
        After alignment, if that was asked for. None where there is nothing to measure on.
    align : str
        What was asked for.
    resampling : str or None
        How the after image is (or, with ``--align grid``, would be) resampled onto the grid of the before
        image; None where it is not.
    pixel_ratio : float or None
        Side of an after pixel over that of a before pixel, where that is so.
    removed : Removed or None
        What ``--align shift`` does.
    warnings : tuple of str
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
        """Return everything in plain values that JSON can hold."""
        found = dataclasses.asdict(self)
        found["shift"] = None if self.shift is None else self.shift.as_dict()
        found["removed"] = None if self.removed is None else self.removed.as_dict()
        for which in ("before", "after"):
            nodata = found[which]["nodata"]
            if nodata is not None and not np.isfinite(nodata):
                found[which]["nodata"] = str(nodata)
        return found


def check_pair(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    *,
    indexes: tuple[int, ...] | None = None,
    nodata: float | None = None,
    valid: str | os.PathLike[str] | None = None,
    align: Align = "none",
) -> PairReport:
    """Look at a pair: grids, bands, valid area, light, and the shift that the grids do not show.

    Reads a bounded sample. Two rasters that ``geocd detect`` would refuse are no error here: the report
    says why.

    Parameters
    ----------
    before, after, indexes, nodata, valid
        As for :class:`~geocd.raster.pair.Pair`.
    align : str
        As the setting: ``none``, ``grid`` or ``shift``. Everything is then measured on the aligned pair.

    Raises
    ------
    RasterOpenError, RasterReadError
        A file is missing, is no raster, or is damaged.
    """
    paths = os.fspath(before), os.fspath(after)
    (first, grid), (second, other) = (_date(path) for path in paths)
    warnings: list[str] = []
    known = {"align": align} | ({} if grid is None or other is None else _onto(grid, other))
    ratio = known.get("pixel_ratio")
    if first.date and second.date and first.date > second.date:
        warnings.append(f"before ({first.date[:10]}) was taken later than after ({second.date[:10]})")
    if first.bands != second.bands:
        warnings.append(f"the bands have different names: {_some(first.bands)} and {_some(second.bands)}")
    if ratio is not None and max(ratio, 1 / ratio) >= WARN_COARSER:
        coarse, fine, times = ("after", "before", ratio) if ratio > 1 else ("before", "after", 1 / ratio)
        warnings.append(
            f"the pixels of {coarse} are {times:.2g} times as wide as those of {fine}, so it shows less"
            + (": detail of before alone will look like change" if ratio > 1 else "")
        )
    try:
        with Pair(*paths, indexes=indexes, nodata=nodata, valid=valid, align=align != "none") as opened:
            pair: Pair = opened
            if align == "shift":
                pair, known["removed"] = remove_shift(pair)
            if pair.warp is not None:
                known["resampling"] = pair.warp.resampling
            chips = sample_chips(pair)
    except (GridError, BandError, NoValidPixelError) as error:
        if known.get("overlap") == 0:
            warnings.append("the two rasters do not show the same place: their extents do not overlap")
        return PairReport(first, second, False, str(error), warnings=tuple(warnings), **known)

    share = sum(int(chip.valid.sum()) for chip in chips) / sum(chip.valid.size for chip in chips)
    one, two = valid_pixels(chips)
    spread = one.std(axis=1), two.std(axis=1)
    varies = (spread[0] > 0) & (spread[1] > 0)
    gain = offset = correlation = None
    if varies.any():
        gains = spread[1][varies] / spread[0][varies]
        gain = float(np.median(gains))
        offset = float(np.median(two[varies].mean(axis=1) - gains * one[varies].mean(axis=1)))
        correlation = float(
            np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(one[varies], two[varies], strict=True)])
        )
    shift = measure_shift(chips)

    if share < WARN_VALID:
        warnings.append(f"only {share:.0%} of the pixels are valid in both dates")
    for date, zeros in zip((first, second), zero_shares(chips), strict=True):
        if told := zeros_in_words(date.path, zeros):
            warnings.append(told)
    if not varies.all():
        flat = [name for name, there in zip(first.bands, varies, strict=False) if not there]
        warnings.append(f"constant in one date, so it says nothing: {_some(flat)}")
    if correlation is not None and correlation < WARN_CORRELATION:
        warnings.append(
            f"the two dates have little in common (correlation {correlation:.2f}): the same bands?"
        )
    if shift is not None and shift.measurable and shift.length >= WARN_SHIFT:
        warnings.append(
            f"after lies {shift.length:.1f} px beside before: edges will look like change. "
            "--align shift removes it"
        )
    if shift is not None and not shift.measurable:
        warnings.append("no shift could be measured: the images share too little structure. The same place?")
    return PairReport(
        first,
        second,
        True,
        valid_share=share,
        gain=gain,
        offset=offset,
        correlation=correlation,
        shift=shift,
        warnings=tuple(warnings),
        **known,
    )


def _date(path: str) -> tuple[DateReport, Grid | None]:
    with open_raster(path) as dataset:
        read(dataset, path, Window(0, 0, 1, 1), indexes=1)  # a file that ends early is an error at once
        try:
            grid = grid_of(dataset, path)
        except GridError:  # told when the pair is opened
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


def _onto(grid: Grid, other: Grid) -> dict[str, Any]:
    """Return what becomes of the other raster on a grid: the fields of the report."""
    if same_grid(grid, other):
        return {"overlap": 1.0}
    found: dict[str, Any] = {"overlap": overlap(grid, other)}
    if found["overlap"]:
        warp = Warp.between(other, grid)
        found["resampling"] = warp.resampling
        found["pixel_ratio"] = (warp.scale[0] * warp.scale[1]) ** -0.5
    return found


def _some(names: tuple[str, ...] | list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


__all__ = ["DateReport", "PairReport", "check_pair"]
