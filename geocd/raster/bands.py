"""What a band shows, as far as its name tells."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence

#: Numbers of red, green, blue and near infrared.
SENTINEL_2 = ("4", "3", "2", "8")
SENTINEL_2_COARSE = ("4", "3", "2", "8a")
LANDSAT_8 = ("4", "3", "2", "5")
LANDSAT_5 = ("3", "2", "1", "4")
WORDS = ("red", "green", "blue", "nir")
#: Number of the shortwave infrared at 1.6 um, by the numbers of the others.
SWIR = {SENTINEL_2: "11", SENTINEL_2_COARSE: "11", LANDSAT_8: "6", LANDSAT_5: "5"}


def band_key(name: str) -> str:
    """Return ``red``, ``swir`` for ``SWIR 1``, or the number in ``B04``, ``SR_B4`` and ``B4, 665 nm``."""
    name = name.strip().lower()
    if match := re.match(r"(red|green|blue|nir)\b(?!.?edge)", name):
        return match[1]
    if re.match(r"swir[ _-]?(?:1|16)?(?![ _-]?\d)\b", name):
        return "swir"
    match = re.match(r"(?:sr_|toa_)?b(?:and)?[ _]?0*(\d+a?)\b", name)
    return match[1] if match else name


def named_colours(names: Sequence[str]) -> tuple[int, ...] | None:
    """Return the places (from 0) of red, green, blue and, where there is one, near infrared.

    Parameters
    ----------
    names : sequence of str
        Band names of Sentinel-2 or Landsat, or words.

    Returns
    -------
    tuple of int, or None
        Three or four places; None where the names do not tell.
    """
    found = {band_key(name): place for place, name in reversed(list(enumerate(names)))}
    for *visible, infrared in (WORDS, _numbers(found)):
        if all(key in found for key in visible):
            places = tuple(found[key] for key in visible)
            return (*places, found[infrared]) if infrared in found else places
    return None


def _numbers(found: Container[str]) -> tuple[str, str, str, str]:
    """Return the numbers that red, green, blue and nir have among these."""
    # Landsat 1-7 have blue at 1. With a band 6 or above 7, a band 1 is the aerosol band of Landsat 8 or
    # Sentinel-2, whose visible bands begin at 2; so do sets without a band 1.
    later = any(number in found for number in ("6", "8", "8a", "9", "10", "11", "12"))
    if "1" in found and not later:
        return LANDSAT_5
    return SENTINEL_2 if "8" in found else SENTINEL_2_COARSE if "8a" in found else LANDSAT_8


def named_places(names: Sequence[str]) -> dict[str, int]:
    """Return the places (from 0) of those among red, green, blue, nir and swir that the names tell.

    Words count one by one. Numbers count only beside red, green and blue, without which they do not tell
    the sensor; Sentinel-2's 8A stands in where 8 is missing. ``band 4`` is what a band without a name is
    called, here and by other software: it says where the band stands, not what it shows.
    """
    names = ["" if re.fullmatch(r"\s*band \d+\s*", name, re.IGNORECASE) else name for name in names]
    keys = [band_key(name) for name in names]
    found = {word: keys.index(word) for word in (*WORDS, "swir") if word in keys}
    if colours := named_colours(names):
        numbered = dict(zip(WORDS, colours, strict=False))
        numbers = _numbers(keys)
        if all(number in keys for number in (*numbers[:3], SWIR[numbers])):
            numbered["swir"] = keys.index(SWIR[numbers])
        if "8a" in keys and "8" not in keys:
            numbered["nir"] = keys.index("8a")
        found = numbered | found
    return found


def colour_bands(names: Sequence[str]) -> tuple[int, ...]:
    """Return the places (from 0) of up to four bands: named colours, or simply the first four."""
    return named_colours(names) or tuple(range(min(4, len(names))))
