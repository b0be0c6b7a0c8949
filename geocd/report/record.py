"""What a run says about itself."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import rasterio
import rasterio.warp

import geocd
from geocd.raster.grid import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """How one result was made, in plain values.

    Attributes
    ----------
    before, after : str
        Paths or URLs as they were given.
    grid : Grid
        The grid of the pair and of every output.
    band_names : sequence of str
        The compared bands.
    settings : mapping
        The resolved configuration, ready for JSON.
    method : str
    preset : str or None
    threshold : float
        The decision: changed where ``prob >= threshold``.
    seed : int
    timings : mapping
        Seconds by stage.
    summary : mapping
        What came out: ``valid_share``, ``changed_share``, ``zero_share`` (of the valid pixels, those that are
        0 in all bands, by date), ``n_polygons``, ``area_m2``, ``seam_score`` (jump of the probability across
        the borders of tiles over the jump beside them: 1 means no seam; None for a single tile; see
        :class:`geocd.tiles.seams.SeamScore`), ``shift`` (None where there was nothing to measure on; see
        :meth:`geocd.scene.registration.Shift.as_dict`), ...
    date_before, date_after : str or None
        Acquisition, RFC 3339 in UTC; None where unknown.
    versions : mapping
        Version by software, see :func:`versions`.
    alignment : mapping or None
        How the after image came onto the grid: its own grid, resampling, overlap, the shift that was removed;
        None where it was not to be aligned.
    inputs : mapping
        What tells whether ``before``, ``after``, ``valid`` and the file of ``weights`` are still the same, by
        these names: see :func:`geocd.report.fingerprint.fingerprint`.
    device : str
        Kind of device and of processor that computed it.
    histogram : sequence of int
        Pixels by probability, in bins of equal width from 0 to 1; empty where not counted.
    losses : sequence of float
        Loss of each optimisation step on the scene; empty where nothing was learned from it.
    """

    before: str
    after: str
    grid: Grid
    band_names: Sequence[str]
    settings: Mapping[str, Any]
    method: str
    preset: str | None
    threshold: float
    seed: int
    timings: Mapping[str, float]
    summary: Mapping[str, Any]
    date_before: str | None
    date_after: str | None
    versions: Mapping[str, str]
    alignment: Mapping[str, Any] | None = None
    inputs: Mapping[str, Sequence[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    device: str = ""
    histogram: Sequence[int] = ()
    losses: Sequence[float] = ()


def versions() -> dict[str, str]:
    """Return the version of everything that has a say in the result, by name.

    Distributions are asked for their metadata and not imported: torch alone takes seconds.
    """
    found = {"geocd": geocd.__version__, "python": platform.python_version()}
    for name in ("torch", "rasterio", "numpy", "scipy", "geopandas", "shapely"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # an extra that is not installed
            continue
    found["GDAL"] = rasterio.__gdal_version__
    found["PROJ"] = rasterio.__proj_version__
    return found


__all__ = [
    "RunRecord",
    "versions",
]
