"""What the bands of a raster show, as far as their names tell: a table of sensors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

#: What bands can show; ``swir`` is the shortwave infrared at 1.6 um.
WORDS = ("red", "green", "blue", "nir", "swir")
VISIBLE = WORDS[:3]
#: The number in ``B04``, ``SR_B4``, ``TOA_B4``, ``Band 4`` and ``B4, 665 nm``.
_NUMBER = r"(?:sr_|toa_)?b(?:and)?[ _]?0*(\d+a?)\b"


@dataclasses.dataclass(frozen=True)
class Sensor:
    """The bands of a sensor, by their numbers, and how these are recognised.

    A sensor is recognised where its red, green and blue are among the names, every number of ``present`` and
    none of ``absent``.

    Attributes
    ----------
    name : str
        As the documentation lists it.
    red, green, blue, nir, swir : str
        Numbers of its bands in small letters and without leading zeros: ``4``, ``8a``.
    present, absent : tuple of str
        Numbers of bands that tell it from the sensors after it in :data:`SENSORS`.
    unique : tuple of str
        Numbers that only this sensor has: they count also beside bands named red, green and blue.
    pattern : str, optional
        Regular expression of its band names, in any case, whose first group is the number. Default: a number
        after ``B`` or ``Band``.
    """

    name: str
    red: str
    green: str
    blue: str
    nir: str
    swir: str
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    pattern: str | None = None

    @property
    def numbers(self) -> dict[str, str]:
        """Numbers of the bands by the words of ``WORDS``."""
        return {word: getattr(self, word) for word in WORDS}

    def number(self, name: str) -> str | None:
        """Return the number in the name of a band; None where there is none."""
        if self.pattern is None:
            return band_key(name)
        match = re.match(self.pattern, name.strip(), re.IGNORECASE)
        return match[1].lower() if match else None

    def positions(self, names: Sequence[str]) -> dict[str, int]:
        """Return the positions (from 0) of its bands by word; empty where the names are not this sensor's.

        Without red, green and blue, only bands with a unique number are among them.
        """
        position = _first(self.number(name) for name in names)
        if position.keys() & set(self.absent) or not position.keys() >= set(self.present):
            return {}
        numbers = self.numbers
        if not all(numbers[word] in position for word in VISIBLE):
            numbers = {word: number for word, number in numbers.items() if number in self.unique}
        return {word: position[number] for word, number in numbers.items() if number in position}


#: The sensors, tried in this order; a further one takes one entry. Sets of bands without a band 1 are of
#: Sentinel-2 or Landsat 8-9, and so are those with a band 6 or above 7, whose band 1 shows aerosol.
#:
#: :meta hide-value:
SENSORS: tuple[Sensor, ...] = (
    Sensor(
        "Landsat 4-7",
        red="3",
        green="2",
        blue="1",
        nir="4",
        swir="5",
        absent=("6", "8", "8a", "9", "10", "11", "12"),
    ),
    Sensor(
        "Sentinel-2",
        red="4",
        green="3",
        blue="2",
        nir="8",
        swir="11",
        present=("8",),
    ),
    Sensor(
        "Sentinel-2, 20 m bands",
        red="4",
        green="3",
        blue="2",
        nir="8a",
        swir="11",
        present=("8a",),
        absent=("8",),
        unique=("8a",),
    ),
    Sensor(
        "Landsat 8-9",
        red="4",
        green="3",
        blue="2",
        nir="5",
        swir="6",
    ),
)


def band_key(name: str) -> str:
    """Return ``red``, ``swir`` for ``SWIR 1``, or the number in ``B04``, ``SR_B4`` and ``B4, 665 nm``.

    A name with neither is returned in small letters.
    """
    name = name.strip().lower()
    if match := re.match(r"(red|green|blue|nir)\b(?!.?edge)", name):
        return match[1]
    if re.match(r"swir[ _-]?(?:1|16)?(?![ _-]?\d)\b", name):
        return "swir"
    match = re.match(_NUMBER, name)
    return match[1] if match else name


def named_colours(names: Sequence[str]) -> tuple[int, ...] | None:
    """Return the positions (from 0) of red, green, blue and, where there is one, near infrared.

    Parameters
    ----------
    names : sequence of str
        Band names of a sensor in :data:`SENSORS`, or words.

    Returns
    -------
    tuple of int, or None
        Three or four positions; None where the names do not tell.
    """
    for position in (_words(names), *(sensor.positions(names) for sensor in SENSORS)):
        if all(word in position for word in VISIBLE):
            return tuple(position[word] for word in WORDS[:4] if word in position)
    return None


def band_positions(names: Sequence[str]) -> dict[str, int]:
    """Return the positions (from 0) of those among red, green, blue, nir and swir that the names tell.

    Words count one by one. Numbers count only beside red, green and blue, without which they do not tell
    the sensor. ``band 4`` is what a band without a name is called, here and by other software: it says where
    the band stands, not what it shows.
    """
    names = ["" if re.fullmatch(r"\s*band \d+\s*", name, re.IGNORECASE) else name for name in names]
    words = _words(names)
    if named_colours(names) is None:
        return words
    for sensor in SENSORS:
        if numbered := sensor.positions(names):
            if all(word in words for word in VISIBLE):  # a number beside them may be of another sensor
                certain = {word for word, number in sensor.numbers.items() if number in sensor.unique}
                numbered = {word: numbered[word] for word in numbered if word in certain | {"swir"}}
            return numbered | words
    return words


def colour_bands(names: Sequence[str]) -> tuple[int, ...]:
    """Return the positions (from 0) of up to four bands: named colours, or simply the first four."""
    return named_colours(names) or tuple(range(min(4, len(names))))


def _words(names: Sequence[str]) -> dict[str, int]:
    """Return the positions of the bands that are named in words."""
    position = _first(map(band_key, names))
    return {word: position[word] for word in WORDS if word in position}


def _first(keys: Iterable[str | None]) -> dict[str, int]:
    """Return where each key stands first."""
    position: dict[str, int] = {}
    for index, key in enumerate(keys):
        if key is not None:
            position.setdefault(key, index)
    return position


__all__ = [
    "SENSORS",
    "Sensor",
    "band_key",
    "band_positions",
    "colour_bands",
    "named_colours",
]
