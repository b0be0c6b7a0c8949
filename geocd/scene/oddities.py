"""The findings of a pair, from what was measured on its sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from geocd.findings import (
    Finding,
    of_constant,
    of_dates,
    of_levels,
    of_light,
    of_rim,
    of_structure,
    of_valid_share,
    of_zeros,
)
from geocd.location import Location
from geocd.raster.choice import Bands
from geocd.raster.pair import Chip, Pair
from geocd.scene.brightness import Brightness
from geocd.scene.registration import Shift, measure_shift
from geocd.scene.sample import zero_shares


def band_findings(sources: tuple[str, str], bands: Bands) -> Iterator[Finding]:
    """Yield how the bands were matched, where that is worth a word, and what rims they have in each date."""
    for remark in bands.remarks:
        yield Finding("bands", "info", f"{remark[:1].upper()}{remark[1:]}")
    for source, rim in zip(sources, bands.rims, strict=True):
        if rim is None or (not rim.excluded and not any(rim.values)):  # of 0 as a value see of_zeros
            continue
        yield from of_rim(
            Location(source).name,
            rim.value,
            rim.share,
            inside=rim.inside,
            blurred=rim.blurred,
            excluded=rim.excluded,
        )


def pair_findings(
    sources: tuple[str, str],
    dates: tuple[str | None, str | None],
    bands: Bands,
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
    bands : Bands
        The compared bands.
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
        *band_findings(sources, bands),
        *(finding for date, share in zero_share.items() for finding in of_zeros(names[date], share)),
        *of_constant([name for name, varies in zip(bands.names, light.varies, strict=False) if not varies]),
        *of_light(light.light, light.correlation),
        *of_levels((names["before"], names["after"]), light.levels.offset, light.levels.raised),
    ]


@dataclasses.dataclass(frozen=True)
class SceneFacts:
    """Properties of a scene that the report has but the method does not need.

    Attributes
    ----------
    shift : Shift or None
        Shift between the dates after alignment; None where there is no structure to measure it on.
    zero_share : mapping of float
        By date, pixels that are 0 in all bands, as a share of the valid pixels of the sample, in [0, 1].
    brightness : Brightness
        How the brightness of the two dates compares.
    valid_share : float
        Share of the pixels of the sample that are valid in both dates, in [0, 1].
    """

    shift: Shift | None
    zero_share: Mapping[str, float]
    brightness: Brightness
    valid_share: float

    @classmethod
    def measure(cls, chips: Sequence[Chip], pair: Pair) -> SceneFacts:
        """Measure the facts on a sample of a pair."""
        before, after = zero_shares(chips)
        return cls(
            measure_shift(chips),
            {"before": before, "after": after},
            Brightness.measure(chips, pair),
            sum(int(chip.valid.sum()) for chip in chips) / sum(chip.valid.size for chip in chips),
        )

    def findings(
        self,
        sources: tuple[str, str],
        dates: tuple[str | None, str | None],
        bands: Bands,
        *,
        removed: bool,
    ) -> list[Finding]:
        """Return what is odd about the pair; the parameters are those of :func:`pair_findings`."""
        return pair_findings(
            sources,
            dates,
            bands,
            valid_share=self.valid_share,
            zero_share=self.zero_share,
            shift=self.shift,
            brightness=self.brightness,
            removed=removed,
        )


__all__ = ["SceneFacts", "band_findings", "pair_findings"]
