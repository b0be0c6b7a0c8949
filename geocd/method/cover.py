"""``--focus built``: a prior on what kind of change is meant, from the cover before and after.

Not part of the default, because it changes what "change" means: what stays water, or stays green, is the
same cover, whatever its spectrum does; and where either date is green, the season moves spectra more than
elsewhere, so more is asked of a difference. New and lost buildings, roads and bare ground stand out; cleared
forest and fields are found less. Water that comes or goes counts as before.

With s(x, t) = 1 / (1 + exp(-(x - t) / 0.05)), NDVI and NDWI of both dates under a window, and D the distance:

    D := D (1 - 0.6 s(min NDWI, 0.05)) (1 - 0.6 s(min NDVI, 0.4))    where D > 0
    D := D - (clip(max NDVI, 0, 0.8) - 0.35)

And built change is rare. Where more than 2.5 % of a scene, and more than 0.8 km2, reach the decision t, much
of it is something else (the season of fields, a river). Then more is asked: with q the D that this much
reaches,

    D := D - (clip(q, t, t + 0.5) - t)

The constants were chosen on labelled pairs of Sentinel-2; ``docs/method.md`` has what each is worth.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geocd.errors import ConfigError
from geocd.method.filters import gaussian, radius
from geocd.raster.bands import require_bands
from geocd.raster.pair import Chip, Pair
from geocd.raster.scaling import PICTURES, Scaling
from geocd.scene.ignore import VEGETATION, WATER, normalized_difference

#: Standard deviation of the window over the indices, in pixels.
WINDOW = 1.0
#: How much of a distance stays where both dates are water, or both are green; width of the transition.
SAME_COVER, WIDTH = 0.4, 0.05
#: NDVI that asks for no more than the decision of the default, and the largest that counts.
USUAL, GREENEST = 0.35, 0.8
#: Share of a scene, and square metres, that may reach the decision before more is asked; the most that is.
SHARE, AREA, MOST = 0.025, 0.8e6, 0.5
#: Pixels of a size that is not known count as so many metres.
UNKNOWN_SIZE = 10.0
#: Bands that the indices need.
BANDS = ("green", "red", "nir")


@dataclasses.dataclass(frozen=True)
class CoverPrior:
    """The prior for the bands of a pair.

    Attributes
    ----------
    positions : tuple of int
        Positions of green, red and near infrared among the compared bands, from 0.
    scalings : tuple of Scaling
        Scale and offset of these bands, before and after.
    area : float
        Of the whole grid, in square metres.
    excess : float
        How much more is asked of a distance than the decision, from :meth:`fitted`.
    """

    positions: tuple[int, ...]
    scalings: tuple[Scaling, Scaling] = (Scaling(), Scaling())
    area: float = math.inf
    excess: float = 0.0

    #: Pixels around a pixel that its prior depends on.
    REACH = radius(WINDOW)

    @classmethod
    def of(cls, pair: Pair) -> CoverPrior:
        """Return the prior of a pair.

        Raises
        ------
        ConfigError
            A band is missing or has no telling name, or the values are not proportional to reflectance.
        """
        positions = require_bands("--focus built", BANDS, pair.band_names, "leave --focus out")
        for path, dtype in zip((pair.before_path, pair.after_path), pair.dtypes, strict=True):
            if dtype in PICTURES:
                raise ConfigError(
                    f"--focus built: {path} has 8-bit values ({dtype}), which are digital numbers or "
                    "stretched for display, band by band. Its vegetation and water cannot be told from their "
                    "ratios. Use reflectance, or leave --focus out.",
                    path=path,
                    dtype=dtype,
                )
        height, width = pair.grid.shape
        return cls(positions, pair.scalings, height * width * (pair.grid.pixel_size or UNKNOWN_SIZE) ** 2)

    def fitted(self, sample: Sequence[tuple[Chip, Tensor]], decision: float) -> CoverPrior:
        """Return it with :attr:`excess` for a scene.

        Parameters
        ----------
        sample : sequence of (Chip, Tensor)
            Chips of the scene, of which at least one pixel is valid, each with its distance under the prior,
            ``(height, width)`` float32.
        decision : float
            Distance from which a pixel is called changed.
        """
        values = np.concatenate([distance.cpu().numpy()[chip.valid] for chip, distance in sample])
        valid_share = len(values) / sum(chip.valid.size for chip, _ in sample)
        share = max(SHARE, AREA / (valid_share * self.area))
        reached = float(np.quantile(values, max(1 - share, 0)))
        return dataclasses.replace(self, excess=min(max(reached - decision, 0), MOST))

    def apply(self, distance: Tensor, chip: Chip) -> Tensor:
        """Return a distance under the prior, ``(height, width)`` float32."""
        valid = None if chip.valid.all() else torch.from_numpy(chip.valid).to(distance.device)
        ndvi: list[Tensor] = []
        ndwi: list[Tensor] = []
        for scaling, values in zip(self.scalings, (chip.before, chip.after), strict=True):
            green, red, nir = (scaling.level(i, values[i]) for i in self.positions)
            for indices, (first, second) in ((ndvi, (nir, red)), (ndwi, (green, nir))):
                index = np.nan_to_num(normalized_difference(first, second)).astype(np.float32)
                indices.append(gaussian(torch.from_numpy(index).to(distance.device), WINDOW, valid))
        water = 1 - (1 - SAME_COVER) * torch.sigmoid((torch.minimum(*ndwi) - WATER) / WIDTH)
        green = 1 - (1 - SAME_COVER) * torch.sigmoid((torch.minimum(*ndvi) - VEGETATION) / WIDTH)
        same_cover = torch.where(distance > 0, distance * water * green, distance)
        return same_cover - (torch.maximum(*ndvi).clamp_(0, GREENEST) - USUAL + self.excess)


__all__ = ["CoverPrior"]
