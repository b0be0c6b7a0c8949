"""Scale and offset of stored values: of the band metadata, or of how the product was processed.

Indices and the rules of ``--ignore`` compare bands with each other, so they need values proportional to
reflectance. The methods never see these values: what they compute is relative already.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geocd.raster.reading import read, sample_windows

_Values = TypeVar("_Values", bound=npt.NDArray[Any])

#: Tag of a VRT whose bands have their final scale and offset, and says where these are from.
SCALING_TAG = "GEOCD_SCALING"
#: From this processing baseline on (25 January 2022), 1000 is added to Sentinel-2's reflectance x 10 000.
#: Baselines from 90 on are of users' own processing, and say nothing.
_BASELINE, _OWN_PROCESSING = 4.0, 90.0
_SENTINEL_2 = (1e-4, -0.1)
#: Surface reflectance of Landsat Collection 2, level 2.
_LANDSAT = (2.75e-5, -0.2)
#: Tags with the processing baseline, without what stands before a colon.
_BASELINE_TAGS = ("PROCESSING_BASELINE", "S2_PROCESSING_BASELINE")
#: Tags with the name of the product.
_PRODUCT_TAGS = ("PRODUCT_URI", "PRODUCT_NAME", "LANDSAT_PRODUCT_ID", "PRODUCT_ID")
_SENTINEL_2_NAME = re.compile(r"S2[A-D]_[^/\\]*_N(\d\d)(\d\d)_R\d{3}_")
_LANDSAT_NAME = re.compile(r"L[COTEM]0[4-9]_L2S[PR]_\d{6}_\d{8}_\d{8}_02_(?:T1|T2|RT)")
#: Its other layers: surface temperature and quality.
_LANDSAT_OTHER = re.compile(r"_(?:ST|QA|SR_QA)_[A-Z0-9_]+\.[A-Za-z]+$")
#: Reflectance is below this; what is above is a stored number.
MOST_REFLECTANCE = 50.0
#: Types of pictures: digital numbers, or stretched for display band by band.
PICTURES = frozenset({"uint8", "int8"})


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How values of one date become reflectance: ``value x scale + offset``, by band.

    Attributes
    ----------
    scales, offsets : tuple of float
        By band; empty where none are declared.
    source : str
        What declares them; empty where nothing does.
    """

    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    source: str = ""

    def level(self, band: int, values: _Values) -> _Values:
        """Return values of a band in proportion to reflectance, in the units in which they are stored.

        Parameters
        ----------
        band : int
            Position of the band, from 0.
        values : ndarray
            Of any shape.

        Returns
        -------
        ndarray, same shape and type
            The values themselves where no offset is declared, and one scale for all bands.
        """
        if not self.scales:
            return values
        # in stored units, so that 1300 with 1000 added and 300 are the same number, and not only nearly
        shift, factor = round(self.offsets[band] / self.scales[band], 6), self.scales[band] / self.scales[0]
        if shift:
            values = values + values.dtype.type(shift)
        return values if factor == 1 else values * values.dtype.type(factor)

    def as_dict(self) -> dict[str, object]:
        """Return the scaling as the item holds it."""
        return {"scale": list(self.scales), "offset": list(self.offsets), "source": self.source}


def scaling_of(
    dataset: DatasetReader, path: str, indexes: Sequence[int], item: Mapping[str, object] | None = None
) -> Scaling:
    """Return the scale and offset of bands as they are declared.

    Parameters
    ----------
    dataset : rasterio dataset
    path : str
        Its path or URL: the name of a product in it tells the processing.
    indexes : sequence of int
        Band numbers, from 1.
    item : mapping, optional
        Properties of the STAC item that the raster is an asset of.

    Returns
    -------
    Scaling
        Of the band metadata; where these have no offset, that of the product. Of reflectance (floating point
        below 50) and of 8-bit pictures, a product says nothing.
    """
    tags = dataset.tags()
    scales = tuple(float(dataset.scales[index - 1]) for index in indexes)
    offsets = tuple(float(dataset.offsets[index - 1]) for index in indexes)
    usable = all(math.isfinite(scale) and scale > 0 for scale in scales) and np.isfinite(offsets).all()
    if not usable:
        return Scaling()
    identity = not any(offsets) and all(scale == 1 for scale in scales)
    own = Scaling() if identity else Scaling(scales, offsets, tags.get(SCALING_TAG, "band metadata"))
    if SCALING_TAG in tags or any(offsets):
        return own
    product = product_scaling({**tags, **{key: str(value) for key, value in (item or {}).items()}}, path)
    if product is None or not _stored(dataset, path, indexes):
        return own
    (scale, offset), source = product
    return Scaling((scale,) * len(indexes), (offset,) * len(indexes), source)


def product_scaling(tags: Mapping[str, str], path: str) -> tuple[tuple[float, float], str] | None:
    """Return scale and offset that the processing of a product has, with its name; None where it has none.

    Parameters
    ----------
    tags : mapping of str
        Tags of the raster, or properties of its STAC item.
    path : str
        Its path or URL.
    """
    upper = {key.upper().rpartition(":")[2]: value for key, value in tags.items()}
    if any(is_offset_applied(key, value) for key, value in tags.items()):
        return None
    names = [upper.get(key, "") for key in _PRODUCT_TAGS] + [path]
    baselines = [upper[key] for key in _BASELINE_TAGS if key in upper]
    baselines += [".".join(match.groups()) for name in names for match in _SENTINEL_2_NAME.finditer(name)]
    for baseline in baselines:
        number = re.fullmatch(r"\s*[Nn]?(\d{1,2})\.?(\d{2}|\d?)\s*", baseline)
        if number is None:
            continue
        if _BASELINE <= float(f"{number[1]}.{number[2] or 0}") < _OWN_PROCESSING:
            return _SENTINEL_2, f"Sentinel-2 processing baseline {number[1]:0>2}.{number[2]:0<2}"
        return None
    if any(_LANDSAT_NAME.search(name) for name in names) and not _LANDSAT_OTHER.search(path):
        return _LANDSAT, "Landsat Collection 2 level 2"
    return None


def is_offset_applied(name: str, value: str) -> bool:
    """Return whether a property of an item says that the offset of its product has been removed."""
    return name.lower().endswith("boa_offset_applied") and value.lower() == "true"


def _stored(dataset: DatasetReader, path: str, indexes: Sequence[int]) -> bool:
    """Return whether bands hold the numbers of a product, and neither reflectance nor a picture."""
    dtypes = {dataset.dtypes[index - 1] for index in indexes}
    if dtypes & PICTURES:
        return False
    if not any(dtype.startswith("float") for dtype in dtypes):
        return True
    windows: list[Window] = sample_windows(dataset.height, dataset.width)
    samples = (read(dataset, path, window, indexes=list(indexes)) for window in windows)
    return any((np.abs(values[np.isfinite(values)]) > MOST_REFLECTANCE).mean() > 0.5 for values in samples)


__all__ = [
    "MOST_REFLECTANCE",
    "PICTURES",
    "SCALING_TAG",
    "Scaling",
    "is_offset_applied",
    "product_scaling",
    "scaling_of",
]
