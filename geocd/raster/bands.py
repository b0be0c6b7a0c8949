"""What the bands of a raster show, as far as their names tell: a table of sensors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

from geocd.errors import ConfigError

#: What bands can show; ``swir`` is the shortwave infrared at 1.6 um, ``swir2`` that at 2.2 um.
WORDS = ("red", "green", "blue", "nir", "swir", "swir2")
VISIBLE = WORDS[:3]
#: The number in ``B04``, ``SR_B4``, ``TOA_B4``, ``Band 4``, ``B04_10m`` and ``B4, 665 nm``.
_NUMBER = r"(?:sr_|toa_)?b(?:and)?[ _]?0*(\d+a?)(?:\b|(?=_\d+m\b))"
_PADDED = r"(?:sr_|toa_)?b(?:and)?[ _]?0\d"
_INFRARED = r"infra[ _-]?red"
#: What bands are called in words, the usual form first. The others count only where no band has a form before
#: them: ``nir08`` is the near infrared of Landsat, but the second one of Sentinel-2, beside ``nir``.
#: Green I (PlanetScope, 531 nm), NIR 2 (WorldView) and ``nir09`` (water vapour) are none of these.
_FORMS: Mapping[str, tuple[str, ...]] = {
    "red": (r"red\b(?!.?edge)",),
    "green": (r"green\b(?![ -]?i\b)", r"green[ _-]?ii\b"),
    "blue": (r"blue\b",),
    "nir": (
        r"nir\b(?![ -]?(?:\d|narrow))",
        rf"near[ _-]?(?:{_INFRARED}|ir)(?![ _-]?\d)\b",
        rf"(?:nir|near[ _-]?(?:{_INFRARED}|ir))[ _-]?1\b",
        r"nir[ _-]?broad\b",
        r"nir[ _-]?(?:0?8|narrow)\b",
    ),
    "swir": (
        r"swir[ _-]?(?:1|16)?(?![ _-]?\d)\b",
        rf"short[ _-]?wave[ _-]?{_INFRARED}(?:[ _-]?(?:1|16))?(?![ _-]?\d)\b",
    ),
    "swir2": (
        r"swir[ _-]?(?:2|22)\b",
        rf"short[ _-]?wave[ _-]?{_INFRARED}[ _-]?(?:2|22)\b",
    ),
}
#: WorldView-3 has eight bands named SWIR: the first one is at 1.2 um, the third at 1.66,
#: the sixth at 2.2 um.
_WORLDVIEW_3 = {"swir": (r"swir[ _-]?3\b",), "swir2": (r"swir[ _-]?6\b",)}


@dataclasses.dataclass(frozen=True)
class Sensor:
    """The bands of a sensor, by their numbers, and how these are recognised.

    A sensor is recognised where its red, green and blue are among the names, every number of ``present`` and
    none of ``absent``.

    Attributes
    ----------
    name : str
        As the documentation lists it.
    red, green, blue, nir, swir, swir2 : str
        Numbers of its bands in small letters and without leading zeros: ``4``, ``8a``. Empty where it has no
        such band.
    present, absent : tuple of str
        Numbers of bands that tell it from the sensors after it in :data:`SENSORS`.
    unique : tuple of str
        Numbers that only this sensor has: they count also beside bands named red, green and blue.
    pattern : str, optional
        Regular expression of its band names, in any case, whose first group is the number. Default: a number
        after ``B`` or ``Band``. Such names tell the sensor also without red, green and blue.
    unpadded : bool
        Whether no number has a leading zero, as in Landsat's names: its panchromatic band is ``B8``, the near
        infrared of Sentinel-2 ``B08`` or ``B8``.
    """

    name: str
    red: str = ""
    green: str = ""
    blue: str = ""
    nir: str = ""
    swir: str = ""
    swir2: str = ""
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    pattern: str | None = None
    unpadded: bool = False

    @property
    def numbers(self) -> dict[str, str]:
        """Numbers of the bands by the words of ``WORDS``."""
        numbers = {word: getattr(self, word) for word in WORDS}
        return {word: number for word, number in numbers.items() if number}

    def number(self, name: str) -> str | None:
        """Return the number in the name of a band; None where there is none."""
        if self.pattern is None:
            return band_key(name)
        match = re.match(self.pattern, name.strip(), re.IGNORECASE)
        return match[1].lower() if match else None

    def positions(self, names: Sequence[str]) -> dict[str, int]:
        """Return the positions (from 0) of its bands by word; empty where the names are not this sensor's.

        Without red, green and blue, only bands with a unique number are among them, unless the sensor has a
        pattern of its own.
        """
        if self.unpadded and any(re.match(_PADDED, name.strip().lower()) for name in names):
            return {}
        position = _first(self.number(name) for name in names)
        if position.keys() & set(self.absent) or not position.keys() >= set(self.present):
            return {}
        numbers = self.numbers
        if self.pattern is None and not all(numbers.get(word) in position for word in VISIBLE):
            numbers = {word: number for word, number in numbers.items() if number in self.unique}
        return {word: position[number] for word, number in numbers.items() if number in position}


#: The sensors, tried in this order; a further one takes one entry. Sets of bands without a band 1 are of
#: Sentinel-2 or Landsat 8-9, and so are those with a band 6 or above 7, whose band 1 shows aerosol.
#:
#: :meta hide-value:
SENSORS: tuple[Sensor, ...] = (
    Sensor(
        "Pléiades, SPOT 6-7",
        red="2",
        green="1",
        blue="0",
        nir="3",
        present=("0",),
    ),
    Sensor(
        "Landsat 4-7",
        red="3",
        green="2",
        blue="1",
        nir="4",
        swir="5",
        swir2="7",
        absent=("6", "8", "8a", "9", "10", "11", "12"),
    ),
    Sensor(
        "Landsat 7 with its panchromatic band 8",
        red="3",
        green="2",
        blue="1",
        nir="4",
        swir="5",
        swir2="7",
        present=("1", "5", "7", "8"),
        absent=("6", "8a", "9", "10", "11", "12"),
        unpadded=True,
    ),
    Sensor(
        "Landsat 8-9 with its panchromatic band 8",
        red="4",
        green="3",
        blue="2",
        nir="5",
        swir="6",
        swir2="7",
        present=("5", "8", "10", "11"),
        absent=("8a", "12"),
        unpadded=True,
    ),
    # band 8 is near infrared or panchromatic, band 5 red edge or near infrared: undecided
    Sensor(
        "Sentinel-2 or Landsat 8-9",
        red="4",
        green="3",
        blue="2",
        present=("5", "8"),
        absent=("8a", "12"),
        unpadded=True,
    ),
    Sensor(
        "Sentinel-2",
        red="4",
        green="3",
        blue="2",
        nir="8",
        swir="11",
        swir2="12",
        present=("8",),
    ),
    Sensor(
        "Sentinel-2, 20 m bands",
        red="4",
        green="3",
        blue="2",
        nir="8a",
        swir="11",
        swir2="12",
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
        swir2="7",
    ),
    Sensor(
        "MODIS",
        red="1",
        green="4",
        blue="3",
        nir="2",
        swir="6",
        swir2="7",
        pattern=r"(?:sur_refl_b|nadir_reflectance_band)0*([1-7])(?:_1)?$",
    ),
    Sensor(
        "VIIRS, 750 m bands",
        red="m5",
        green="m4",
        blue="m3",
        nir="m7",
        swir="m10",
        swir2="m11",
        pattern=r"(?:surfreflect_|nadir_reflectance_)?(m\d+)(?:_1)?$",
    ),
    Sensor(
        "VIIRS, 375 m bands",
        red="i1",
        nir="i2",
        swir="i3",
        pattern=r"(?:surfreflect_|nadir_reflectance_)?(i[1-5])(?:_1)?$",
    ),
    Sensor(
        "WorldView, GeoEye, QuickBird",
        red="r",
        green="g",
        blue="b",
        nir="n",
        pattern=r"band_([rgbn])$",
    ),
    Sensor(
        "SPOT 1-5",
        red="2",
        green="1",
        nir="3",
        pattern=r"xs_?([123])$",
    ),
    Sensor(
        "one letter each (NAIP, Pléiades Neo)",
        red="r",
        green="g",
        blue="b",
        nir="n",
        present=("r", "g", "b"),
        pattern=r"([rgbn])$",
    ),
)


def band_key(name: str) -> str:
    """Return ``red``, ``swir`` for ``SWIR 1``, or the number in ``B04``, ``SR_B4`` and ``B4, 665 nm``.

    A name with neither is returned in small letters.
    """
    name = name.strip().lower()
    for word, (usual, *_) in _FORMS.items():
        if re.match(usual, name):
            return word
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
    words = _words(names)
    for sensor in (None, *SENSORS):
        position = {} if sensor is None else sensor.positions(names)
        if sensor is None or sensor.pattern is not None:
            position = position | words
        if all(word in position for word in VISIBLE):
            return tuple(position[word] for word in WORDS[:4] if word in position)
    return None


def band_positions(names: Sequence[str]) -> dict[str, int]:
    """Return the positions (from 0) of those among ``WORDS`` that the names tell.

    Words count one by one. Numbers count only beside red, green and blue, without which they do not tell
    the sensor, unless the names are of a form that only one sensor has. ``band 4`` is what a band without a
    name is called, here and by other software: it says where the band stands, not what it shows.
    """
    names = ["" if re.fullmatch(r"\s*band \d+\s*", name, re.IGNORECASE) else name for name in names]
    words = _words(names)
    if named_colours(names) is None:
        telling = (sensor.positions(names) for sensor in SENSORS if sensor.pattern is not None)
        return next(filter(None, telling), {}) | words
    for sensor in SENSORS:
        if numbered := sensor.positions(names):
            if all(word in words for word in VISIBLE):  # a number beside them may be of another sensor
                certain = {word for word, number in sensor.numbers.items() if number in sensor.unique}
                numbered = {word: numbered[word] for word in numbered if word in certain | {"swir", "swir2"}}
            return numbered | words
    return words


def require_bands(
    option: str, bands: Sequence[str], names: Sequence[str], remedy: str, **context: object
) -> tuple[int, ...]:
    """Return the positions (from 0) of bands that an option needs.

    Parameters
    ----------
    option : str
        As the message begins: ``--ignore water``.
    bands : sequence of str
        Words as in :func:`band_positions`.
    names : sequence of str
        Names of the compared bands.
    remedy : str
        What else can be done, beside selecting and naming bands.
    **context
        Goes into the error beside ``missing`` and ``names``.

    Raises
    ------
    ConfigError
        A band cannot be identified by its name. The message has the names and the remedies.
    """
    named = band_positions(names)
    if missing := [band for band in bands if band not in named]:
        raise ConfigError(
            f"{option}: needs the bands {', '.join(bands)}, but {', '.join(missing)} cannot be identified by "
            f"name among the selected bands: {', '.join(names)}. Select more bands with --bidx; or name them "
            f"red, green, blue and nir, for instance with rio edit-info --bidx 1 --description {missing[0]} "
            f"before.tif; or {remedy}.",
            missing=missing,
            names=tuple(names),
            **context,
        )
    return tuple(named[band] for band in bands)


def colour_bands(names: Sequence[str]) -> tuple[int, ...]:
    """Return the positions (from 0) of up to four bands: named colours, or simply the first four."""
    return named_colours(names) or tuple(range(min(4, len(names))))


def match_names(before: Sequence[str], after: Sequence[str]) -> tuple[tuple[int, int], ...] | None:
    """Return which bands of two dates have the same name, or show the same as far as names tell.

    Parameters
    ----------
    before, after : sequence of str
        Names of all bands of each date; empty where a band has none.

    Returns
    -------
    tuple of tuple of int, or None
        Positions (from 0) in before and after, in the order of before; None where a band of either date has
        no name, or two have the same.
    """
    best: tuple[tuple[int, int], ...] | None = None
    for keys in (_identities, _normalised):
        first, second = keys(before), keys(after)
        if any(None in names or len(set(names)) < len(names) for names in (first, second)):
            continue
        matches = tuple((i, second.index(name)) for i, name in enumerate(first) if name in second)
        if best is None or len(matches) > len(best):
            best = matches
        if _numbered_sensor(before) and _numbered_sensor(after):
            break  # the same number may mean another band
    return best


def band_named(names: Sequence[str], name: str) -> int | None:
    """Return the position (from 0) of the band of this name, or that shows what it says, else None."""
    (key,) = _normalised([name])
    listed = _normalised(names)
    if key in listed:
        return listed.index(key)
    (word,) = band_positions([name]) or [None]
    if word is not None:
        return band_positions(names).get(word)
    numbers = [band_key(other) if re.match(_NUMBER, other.strip().lower()) else None for other in names]
    return numbers.index(band_key(name)) if band_key(name) in numbers else None


def _identities(names: Sequence[str]) -> list[str | None]:
    """Return what tells each band from the others: a word, the number with its sensor, else the name."""
    words = {position: word for word, position in band_positions(names).items()}
    sensor = _numbered_sensor(names)
    identities = _normalised(names)
    for position, name in enumerate(names):
        if position in words:
            identities[position] = words[position]
        elif sensor and identities[position] and re.match(_NUMBER, name.strip().lower()):
            identities[position] = f"{sensor} {band_key(name)}"
    return identities


def _numbered_sensor(names: Sequence[str]) -> str | None:
    """Return the name of the sensor whose red, green and blue are among the names as numbers."""
    for sensor in SENSORS:
        if sensor.pattern is None and all(word in sensor.positions(names) for word in VISIBLE):
            return sensor.name
    return None


def _normalised(names: Sequence[str]) -> list[str | None]:
    """Return names in small letters without spaces and the like; None for a band without a name."""
    return [
        None
        if re.fullmatch(r"\s*(?:band \d+)?\s*", name, re.IGNORECASE)
        else re.sub(r"[\s_-]+", "", name.lower())
        for name in names
    ]


def _words(names: Sequence[str]) -> dict[str, int]:
    """Return the positions of the bands that are named in words."""
    names = [name.strip().lower() for name in names]
    position: dict[str, int] = {}
    for word, forms in _FORMS.items():
        if any(re.match(_WORLDVIEW_3["swir"][0], name) for name in names):
            forms = _WORLDVIEW_3.get(word, forms)
        for form in forms:
            named = [index for index, name in enumerate(names) if re.match(form, name)]
            if named:
                position[word] = named[0]
                break
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
    "band_named",
    "band_positions",
    "colour_bands",
    "match_names",
    "named_colours",
    "require_bands",
]
