"""Whether two rasters are a usable pair: grids, bands, valid area, brightness and shift, from a sample."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from rasterio.windows import Window

from geocd.config import Align, Nodata, ReadSettings, Settings
from geocd.errors import (
    AreaError,
    BandError,
    GeocdError,
    GridError,
    MaskError,
    NoValidPixelError,
    SameImageError,
)
from geocd.exports import make_callable
from geocd.findings import Finding, Verdict, of_band_names, of_dates, of_pixel_sizes, verdict
from geocd.pipeline.prepared import open_pair
from geocd.raster.files import check_two_files, grid_of, open_raster
from geocd.raster.grid import Grid, crs_name, same_grid
from geocd.raster.pair import Pair
from geocd.raster.reading import read as read_window
from geocd.raster.warp import Warp, overlap
from geocd.report.acquired import acquisition_date
from geocd.scene.oddities import SceneFacts, band_findings
from geocd.scene.registration import Removed, Shift, remove_shift
from geocd.scene.sample import check_different, sample_chips
from geocd.signatures import spelled
from geocd.spelling import as_arguments, python_errors, python_findings
from geocd.stages import COMPANIONS


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
    findings : tuple of Finding
        What is odd about the pair.
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
    findings: tuple[Finding, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The findings that deserve a look, in words."""
        return tuple(str(finding) for finding in self.findings if finding.severity != "info")

    @property
    def verdict(self) -> Verdict:
        """``fit``, ``fit with care`` (there are warnings) or ``not fit`` (there is an error)."""
        return verdict(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON holds it; nodata values that are not finite become text."""
        content = dataclasses.asdict(self) | {"warnings": self.warnings, "verdict": self.verdict}
        content["shift"] = None if self.shift is None else self.shift.as_dict()
        content["removed"] = None if self.removed is None else self.removed.as_dict()
        for which in ("before", "after"):
            nodata = content[which]["nodata"]
            if nodata is not None and not np.isfinite(nodata):
                content[which]["nodata"] = str(nodata)
        return content


@spelled("read", only=COMPANIONS)
def check(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    *,
    bidx: tuple[int | str, ...] | None = None,
    nodata: Nodata | None = None,
    valid: str | os.PathLike[str] | None = None,
    align: Align = "none",
    aoi: str | None = None,
    **settings: object,
) -> PairReport:
    """Check whether two rasters are a usable pair, and what to expect of it; called as ``geocd.check``.

    Parameters
    ----------
    before, after : path
        Two rasters of the same area.
    bidx, nodata, valid, align, aoi
        As for :func:`geocd.detect`.
    {settings}

    Returns
    -------
    PairReport
        With ``usable``, ``verdict`` and ``findings``. A pair that :func:`geocd.detect` would refuse is no
        error here: ``problem`` says why.

    Raises
    ------
    RasterOpenError, RasterReadError
        A file is missing, is no raster, or is damaged.
    """
    with python_errors():
        read = _read_settings(bidx, nodata, valid, align, aoi, settings)
        report = _check(os.fspath(before), os.fspath(after), read)
    return _in_python(report, {})


def _in_python(report: PairReport, names: Mapping[str, str]) -> PairReport:
    """Return a report whose messages have the names of arguments."""
    return dataclasses.replace(
        report,
        problem=None if report.problem is None else as_arguments(report.problem, names),
        findings=tuple(python_findings(report.findings, names)),
    )


def check_pair(
    before: str | os.PathLike[str],
    after: str | os.PathLike[str],
    *,
    indexes: tuple[int | str, ...] | None = None,
    nodata: Nodata | None = None,
    valid: str | os.PathLike[str] | None = None,
    align: Align = "none",
    aoi: str | None = None,
    **settings: object,
) -> PairReport:
    """Check a pair: grids, bands, valid area, brightness, and the shift that the grids do not show.

    Reads a bounded sample. A pair that ``geocd detect`` would refuse is no error here: the report says why.

    Parameters
    ----------
    before, after, indexes, nodata, valid
        As for :class:`~geocd.raster.pair.Pair`.
    align : str
        The setting: ``none``, ``grid`` or ``shift``. Everything is measured on the aligned pair.
    aoi : str, optional
        The area to look at, see :meth:`geocd.raster.area.Area.of`. Default: all of the before raster.
    **settings
        Of :data:`geocd.stages.COMPANIONS`: quality masks, and features that were made elsewhere.

    Returns
    -------
    PairReport

    Raises
    ------
    RasterOpenError, RasterReadError
        A file is missing, is no raster, or is damaged.
    """
    names = {"bidx": "indexes"}
    with python_errors(**names):
        read = _read_settings(indexes, nodata, valid, align, aoi, settings)
        report = _check(os.fspath(before), os.fspath(after), read)
    return _in_python(report, names)


def _read_settings(
    bidx: tuple[int | str, ...] | None,
    nodata: Nodata | None,
    valid: str | os.PathLike[str] | None,
    align: Align,
    aoi: str | None,
    settings: Mapping[str, object],
) -> ReadSettings:
    """Return what is read, as for a run.

    Raises
    ------
    TypeError
        A setting is not one of :data:`geocd.stages.COMPANIONS`.
    ConfigError
    """
    if strange := sorted(set(settings) - set(COMPANIONS)):
        raise TypeError(f"check() got an unexpected keyword argument '{strange[0]}'")
    values = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in settings.items()
    }
    values |= {"bidx": bidx, "nodata": nodata, "align": align, "aoi": aoi}
    values["valid"] = None if valid is None else os.fspath(valid)
    return Settings.from_flat(values).resolved().read


def _check(before: str, after: str, read: ReadSettings) -> PairReport:
    paths, align = (before, after), read.align
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
        findings=(*of_band_names(first.bands, second.bands), *of_pixel_sizes(fit.pixel_ratio)),
    )
    of_bands: tuple[Finding, ...] = ()
    try:
        with open_pair(before, after, read) as opened:
            check_two_files(*paths)
            pair: Pair = opened
            report = _with_bands(report, pair)
            of_bands = tuple(band_findings(paths, pair.bands))
            if align == "shift":
                pair, removed = remove_shift(pair)
                report = dataclasses.replace(report, removed=removed)
            if pair.warp is not None:
                report = dataclasses.replace(report, resampling=pair.warp.resampling)
            chips, bands = sample_chips(pair), pair.bands
            check_different(chips, *paths)
    except (AreaError, GridError, BandError, MaskError, NoValidPixelError, SameImageError) as error:
        refused = (*of_bands, *of_dates(first.date, second.date), *_refused(error, fit.overlap))
        return dataclasses.replace(report, problem=str(error), findings=report.findings + refused)

    facts = SceneFacts.measure(chips, pair)
    findings = facts.findings(paths, (first.date, second.date), bands, removed=report.removed is not None)
    return dataclasses.replace(
        report,
        usable=True,
        valid_share=facts.valid_share,
        gain=facts.brightness.gain,
        offset=facts.brightness.offset,
        correlation=facts.brightness.correlation,
        shift=facts.shift,
        findings=(*report.findings, *findings),
    )


def _refused(error: GeocdError, overlap: float | None) -> Iterator[Finding]:
    """Yield why ``geocd detect`` would refuse the pair."""
    code = "same_image" if isinstance(error, SameImageError) else "refused"
    yield Finding(code, "error", str(error))
    if overlap == 0:
        yield Finding(
            "no_overlap",
            "error",
            "The two rasters do not show the same area: their extents do not overlap.",
            "Check that they are the right files.",
        )


def _elevation(pair: Pair) -> Iterator[Finding]:
    """Yield a finding for a pair that may be of elevations: one band of real or signed numbers."""
    if len(pair.indexes) == 1 and all(dtype in ("float32", "float64", "int16") for dtype in pair.dtypes):
        yield Finding(
            "elevation",
            "info",
            "If the band is an elevation: change is measured against the spread of the whole scene, so pits "
            "and heaps that are small against its relief are missed.",
            "Threshold their difference instead.",
        )


def _with_bands(report: PairReport, pair: Pair) -> PairReport:
    """Return the report with what the bands are; how they were matched says more than that names differ."""
    others = [f for f in report.findings if not pair.bands.remarks or f.code != "band_names"]
    return dataclasses.replace(report, findings=(*others, *_elevation(pair)))


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


def _date(path: str) -> tuple[DateReport, Grid | None]:
    """Return the report of a raster and its grid; None where it has no usable one."""
    with open_raster(path) as dataset:
        # a file that ends early is an error at once
        read_window(dataset, path, Window(0, 0, 1, 1), indexes=1)
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


make_callable(__name__)

__all__ = ["DateReport", "PairReport", "check", "check_pair"]
