"""Whether the values of each date are proportional to reflectance, as far as its darkest pixels tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from geocd.raster.bands import VISIBLE, band_positions
from geocd.raster.pair import Chip, Pair
from geocd.raster.scaling import MOST_REFLECTANCE, PICTURES
from geocd.scene.sample import valid_pixels
from geocd.types import Float64Array

#: At most so many pixels of the sample are used.
_PIXELS = 200_000
#: Per cent of the pixels that are darker than what is called dark here.
_DARK = 2.0
#: What Sentinel-2 adds since processing baseline 04.00. In most scenes some pixels are darker than this in
#: visible light: a reflectance of 0.1.
_ADDED = 1000.0
#: Contrasts of the dates may differ by this factor, and the differences of the bands by this share of
#: their median, where an offset explains them.
_CONTRAST, _SPREAD = 2.0, 0.4
#: Offsets of products are twice as much and more: of stored numbers, and of reflectance.
_LEAST = {True: 500.0, False: 0.05}


@dataclasses.dataclass(frozen=True)
class Levels:
    """How dark each date gets, with declared offsets removed.

    Attributes
    ----------
    offset : float or None
        What seems to have been added to the after image, in all bands alike and beyond its declared offset;
        None where the dates do not differ so.
    raised : tuple of float or None
        Before and after: the level that no band of an image gets below though it should, where the image
        declares no offset; else None.
    """

    offset: float | None = None
    raised: tuple[float | None, float | None] = (None, None)

    @classmethod
    def measure(cls, chips: Sequence[Chip], pair: Pair) -> Levels:
        """Measure the levels on a sample, of the bands that indices and rules of surfaces use.

        Without such bands, and of 8-bit pictures, whose values are not in proportion anyway, nothing is said.
        """
        named = band_positions(pair.band_names)
        bands = sorted(band for word, band in named.items() if word != "swir2")
        if len(bands) < 2 or not PICTURES.isdisjoint(pair.dtypes):
            return cls()
        percentiles = np.empty((2, len(bands), 3))
        for position, band in enumerate(bands):
            dates = valid_pixels(chips, slice(band, band + 1), most=_PIXELS)
            for date, (scaling, (values,)) in enumerate(zip(pair.scalings, dates, strict=True)):
                percentiles[date, position] = np.percentile(scaling.level(band, values), [_DARK, 25, 75])
        visible = [bands.index(named[word]) for word in VISIBLE if word in named]
        raised = [
            float(dark) if visible and not scaling.scales and (dark := low[visible].min()) >= _ADDED else None
            for scaling, low in zip(pair.scalings, percentiles[:, :, 0], strict=True)
        ]
        return cls(_offset(percentiles), (raised[0], raised[1]))


def _offset(percentiles: Float64Array) -> float | None:
    """Return what was added to all bands of the after image.

    Parameters
    ----------
    percentiles : ndarray, (2, bands, 3)
        Dark level and quartiles, before and after.
    """
    dark, spans = percentiles[:, :, 0], percentiles[:, :, 2] - percentiles[:, :, 1]
    difference = dark[1] - dark[0]
    offset = float(np.median(difference))
    if not offset or not (spans > 0).all():
        return None
    contrast = float(np.median(spans[1] / spans[0]))
    alike = np.ptp(difference) <= _SPREAD * abs(offset) and 1 / _CONTRAST < contrast < _CONTRAST
    # beside the darkest band and the contrast of the scene, no haze or other light adds as much to all bands
    least = _LEAST[bool(percentiles.max() > MOST_REFLECTANCE)]
    large = abs(offset) > max(np.abs(dark).min(), 0.5 * float(np.median(spans)), least)
    return offset if alike and large else None


__all__ = ["Levels"]
