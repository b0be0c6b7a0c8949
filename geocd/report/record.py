"""The record of a run: its inputs, its settings and its result."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rasterio

import geocd
from geocd.findings import Finding
from geocd.location import Location
from geocd.raster.choice import Bands
from geocd.raster.grid import Grid
from geocd.raster.scaling import Scaling
from geocd.report.fingerprint import Fingerprint
from geocd.report.thumbnails import Thumbnails
from geocd.scene.clouds import CloudDetector
from geocd.scene.registration import Alignment, Shift
from geocd.vectorize.kinds import KindTotal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """The result of a run in numbers.

    ``summary["area_m2"]`` returns the same as ``summary.as_dict()["area_m2"]``, as in version 0.1.

    Attributes
    ----------
    valid_share : float
        Valid pixels as a share of all pixels, in [0, 1].
    changed_share : float
        Changed pixels as a share of the valid ones, in [0, 1]; 0 where no pixel is valid.
    zero_share : mapping of float
        By date (``before``, ``after``): pixels that are 0 in all bands, as a share of the valid pixels of a
        sample, in [0, 1].
    ignored_share : mapping of float
        By kind of surface to ignore: pixels left out as such, as a share of the valid ones, in [0, 1].
    n_polygons : int
        Polygons written.
    area_m2 : float
        Their area on the ellipsoid; NaN where it is not known.
    seam_score : float or None
        Jump of the probability across the borders of tiles over the jump beside them: 1 means no seam; None
        for a single tile. See :class:`geocd.tiles.seams.SeamScore`.
    shift : Shift or None
        Shift between the dates after alignment; None where there was no structure to measure it on.
    kinds : tuple of KindTotal
        Number and area of the polygons by kind of change, and by what became of what, the largest area first.
    """

    valid_share: float
    changed_share: float
    zero_share: Mapping[str, float]
    ignored_share: Mapping[str, float]
    n_polygons: int
    area_m2: float
    seam_score: float | None
    shift: Shift | None
    kinds: tuple[KindTotal, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return the values that ``geocd:summary`` of the STAC item has, by name."""
        values: dict[str, object] = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        values["shift"] = None if self.shift is None else self.shift.as_dict()
        values["kinds"] = [total.as_dict() for total in self.kinds]
        return values

    def __getitem__(self, name: str) -> Any:
        return self.as_dict()[name]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OtherDateRecord:
    """An image of another date that took part in a run.

    Attributes
    ----------
    name : str
        ``baseline 1``, ``confirm 2``: its setting, and its number in it.
    source : str
        Its path or URL.
    date : str or None
        Acquisition, RFC 3339 in UTC; None where unknown.
    valid_share : float
        Share of the valid area on which it is valid, from a sample, in [0, 1].
    mask : str or None
        Path or URL of its quality mask.
    """

    name: str
    source: str
    date: str | None
    valid_share: float
    mask: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the values that ``geocd:other_dates`` of the STAC item has, by name."""
        values: dict[str, object] = {
            "name": self.name,
            "source": Location(self.source).name,
            "date": self.date,
            "valid_share": round(self.valid_share, 4),
        }
        return values if self.mask is None else values | {"mask": Location(self.mask).name}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """How a result was made, and what it is.

    Attributes
    ----------
    before, after : str
        Paths or URLs, as passed by the caller.
    grid : Grid
        The grid of the pair and of every output.
    band_names : sequence of str
        The compared bands.
    settings : mapping
        Every setting by name, as resolved for the run, in values that JSON can hold.
    method : str
        Name of the method.
    preset : str or None
        Name of the preset; None for methods without presets.
    threshold : float
        The decision threshold: changed where ``prob >= threshold``.
    seed : int
        Seed of the random numbers.
    timings : mapping
        Seconds by stage.
    summary : Summary
        The result in numbers.
    date_before, date_after : str or None
        Acquisition, RFC 3339 in UTC; None where unknown.
    versions : mapping
        Version by software, see :func:`versions`.
    alignment : Alignment or None
        How the after image was brought onto the grid; None where no alignment was requested.
    inputs : mapping of sequence of Fingerprint
        Fingerprints of the files of ``before``, ``after``, ``valid`` and ``weights``, by these names.
    device : str
        Kind of device and of processor that computed the result.
    histogram : sequence of int
        Pixels by probability, in bins of equal width from 0 to 1; empty where not counted.
    losses : sequence of float
        Loss of each optimisation step on the scene; empty for methods that learn nothing from it.
    findings : sequence of Finding
        What is odd about the pair or the result, the gravest first.
    bands : Bands or None
        Numbers of the compared bands in both dates.
    scalings : tuple of Scaling
        Scale and offset that the indices were made with, before and after.
    clouds : CloudDetector or None
        What masked clouds; None where they were not to be ignored.
    other_dates : sequence of OtherDateRecord
        Images of ``--baseline`` and ``--confirm``.
    """

    before: str
    after: str
    grid: Grid
    band_names: Sequence[str]
    settings: Mapping[str, object]
    method: str
    preset: str | None
    threshold: float
    seed: int
    timings: Mapping[str, float]
    summary: Summary
    date_before: str | None
    date_after: str | None
    versions: Mapping[str, str]
    alignment: Alignment | None = None
    inputs: Mapping[str, Sequence[Fingerprint]] = dataclasses.field(default_factory=dict)
    device: str = ""
    histogram: Sequence[int] = ()
    losses: Sequence[float] = ()
    findings: Sequence[Finding] = ()
    bands: Bands | None = None
    scalings: tuple[Scaling, Scaling] = (Scaling(), Scaling())
    clouds: CloudDetector | None = None
    other_dates: Sequence[OtherDateRecord] = ()

    @property
    def other_sources(self) -> dict[str, str]:
        """The paths or URLs of all other dates and of their masks, by their names."""
        masks = {f"mask_{date.name}": date.mask for date in self.other_dates if date.mask is not None}
        return {date.name: date.source for date in self.other_dates} | masks


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run whose probability and polygons have been written: what its other files are made from.

    Attributes
    ----------
    record : RunRecord
        Its timings are those up to now.
    thumbnails : Thumbnails
        The pair and its probability, as large as the largest pictures made of them.
    paths : mapping of pathlib.Path
        Where every file of the run is written, by the key of its product.
    created : str
        When the outputs were made, RFC 3339 in UTC.
    folder : pathlib.Path
        Where the outputs will be: relative paths of the inputs start there.
    """

    record: RunRecord
    thumbnails: Thumbnails
    paths: Mapping[str, Path]
    created: str
    folder: Path

    def timed(self, seconds: Mapping[str, float]) -> FinishedRun:
        """Return this run with the seconds that its stages have taken so far."""
        return dataclasses.replace(self, record=dataclasses.replace(self.record, timings=seconds))


def versions() -> dict[str, str]:
    """Return the version of all software that the result depends on, by name.

    Versions are read from the metadata of the distributions, because importing torch alone takes seconds.
    """
    return {
        "geocd": geocd.__version__,
        "python": platform.python_version(),
        **_installed(),
        "GDAL": rasterio.__gdal_version__,
        "PROJ": rasterio.__proj_version__,
    }


@functools.cache
def _installed() -> dict[str, str]:
    """Return the versions of the distributions, read once in a process."""
    values = {}
    for name in ("torch", "rasterio", "numpy", "scipy", "geopandas", "shapely"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # an extra that is not installed
            values[name] = importlib.metadata.version(name)
    return values


__all__ = [
    "FinishedRun",
    "OtherDateRecord",
    "RunRecord",
    "Summary",
    "versions",
]
