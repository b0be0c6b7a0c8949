"""The findings of a pair, from what was measured on its sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from geocd.findings import (
    Finding,
    of_constant,
    of_dates,
    of_light,
    of_structure,
    of_valid_share,
    of_zeros,
)
from geocd.location import Location
from geocd.scene.brightness import Brightness
from geocd.scene.registration import Shift


def pair_findings(
    sources: tuple[str, str],
    dates: tuple[str | None, str | None],
    bands: Sequence[str],
    *,
    valid_share: float,
    zero_share: Mapping[str, float],
    shift: Shift | None,
    brightness: Brightness | None,
    removed: bool,
) -> list[Finding]:
    """Return what is odd about a pair.

    Parameters
    ----------
    sources : tuple of str
        Paths or URLs of before and after.
    dates : tuple of str or None
        Their dates of acquisition, RFC 3339.
    bands : sequence of str
        Names of the compared bands.
    valid_share : float
        Share of the pixels that are valid in both dates, in [0, 1].
    zero_share : mapping of float
        By date (``before``, ``after``), share of the valid pixels that are 0 in all bands, in [0, 1].
    shift : Shift or None
    brightness : Brightness or None
    removed : bool
        Whether a shift was removed before this one was measured.
    """
    light = brightness or Brightness(())
    names = dict(zip(("before", "after"), (Location(source).name for source in sources), strict=True))
    return [
        *of_dates(*dates),
        *of_structure(
            None if shift is None else shift.length,
            measurable=shift is not None and shift.measurable,
            correlation=light.correlation,
            removed=removed,
        ),
        *of_valid_share(valid_share),
        *(finding for date, share in zero_share.items() for finding in of_zeros(names[date], share)),
        *of_constant([name for name, varies in zip(bands, light.varies, strict=False) if not varies]),
        *of_light(light.light, light.correlation),
    ]


__all__ = ["pair_findings"]
