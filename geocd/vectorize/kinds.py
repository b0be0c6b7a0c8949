"""Kind of change of each polygon, without labels: rules on what its bands were before and after.

The rules stand in one table, :data:`RULES`: the first that holds decides. They read indices of mean
reflectance (:mod:`geocd.scene.reflectance`, :mod:`geocd.vectorize.surfaces`). No rule holds on an index whose
bands are missing, so that of red, green and blue alone, greenness and brightness speak.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from geocd.quantities import area_in_words
from geocd.types import BoolArray, Float64Array, IntArray
from geocd.vectorize.surfaces import INDICES, Spectrum, Surface, angle, cleared

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the layer, in order.
KIND_COLUMNS = ("kind", "became", "kind_why")
#: Kinds of change, and what people read.
LABELS: Mapping[str, str] = {
    "vegetation_loss": "vegetation lost",
    "vegetation_gain": "vegetation gained",
    "water_gain": "water gained",
    "water_loss": "water lost",
    "built_or_bare": "built or bare",
    "burnt": "burnt",
    "snow": "snow",
    "brighter": "brighter",
    "darker": "darker",
    "cloud": "cloud-like",
    "moved_edge": "moved edge",
    "unclear": "unclear",
}
#: Kinds that say nothing about what stood there.
_NO_COVER = ("moved_edge", "brighter", "darker", "unclear")
#: Transitions that a line lists, at most.
LISTED = 5
#: Indices as people write them.
_NAMES = {
    "visible": "visible light",
    "nir": "near infrared",
    "swir": "shortwave infrared",
    "white": "whiteness",
}


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the rules read of all polygons.

    Attributes
    ----------
    spectra : tuple of mapping of ndarray, (polygons,), float64
        Mean reflectance by word (``red``, ``nir``), before and after.
    residual : ndarray, (polygons,), float64
        What is left of the difference of the dates where one of them is shifted, as a share in [0, 1]; see
        :func:`geocd.vectorize.edges.residual`.
    spread : ndarray, (polygons,), float64
        See :class:`geocd.vectorize.bandmeans.RegionBands`.
    width : ndarray, (polygons,), float64
        Twice the area over the perimeter, in pixels: the width of a strip, half the side of a square.
    count : ndarray, (polygons,), int64
        Number of pixels.
    """

    spectra: tuple[Spectrum, Spectrum]
    residual: Float64Array
    spread: Float64Array
    width: Float64Array
    count: IntArray

    @functools.cached_property
    def before(self) -> Surface:
        """The surface before."""
        return Surface(self.spectra[0], len(self.width))

    @functools.cached_property
    def after(self) -> Surface:
        """The surface after."""
        return Surface(self.spectra[1], len(self.width))

    @functools.cached_property
    def angle(self) -> Float64Array:
        """Angle between the spectra of the dates, in radians."""
        return angle(self.before, self.after)

    @functools.cached_property
    def cleared(self) -> Surface:
        """The surface after, without the vegetation that is mixed with it."""
        return cleared(self.before, self.after)

    @functools.cached_property
    def light(self) -> Float64Array:
        """Brightness after over before, in visible light."""
        ratio: Float64Array = self.after.value("visible") / self.before.value("visible")
        return ratio

    def fall(self, index: str) -> Float64Array:
        """Return by how much an index fell."""
        fall: Float64Array = self.before.value(index) - self.after.value(index)
        return fall


@dataclasses.dataclass(frozen=True)
class Rule:
    """One rule of the table.

    Attributes
    ----------
    kind : str
        A key of :data:`LABELS`.
    condition : str
        What holds, in words.
    source : str
        Where its indices and thresholds are from.
    shows : tuple of str
        Indices that ``kind_why`` has the values of.
    holds : callable
        ``holds(evidence)``, bool for each polygon.
    covers : tuple of str or None
        What stood there before, and what does after, where the rule says so; None: what the indices of that
        date alone say.
    """

    kind: str
    condition: str
    source: str
    shows: tuple[str, ...]
    holds: Callable[[Evidence], BoolArray]
    covers: tuple[str | None, str | None] = (None, None)


def _one_date(cover: str) -> Callable[[Evidence], BoolArray]:
    """Return a rule that holds where one date alone has a cover."""
    return lambda it: getattr(it.before, cover) != getattr(it.after, cover)


def _green_before(it: Evidence, index: str, least: float, change: float) -> BoolArray:
    return (it.before.value(index) >= least) & (it.fall(index) >= change)


def _green_after(it: Evidence, index: str, least: float, change: float) -> BoolArray:
    return (it.after.value(index) >= least) & (it.fall(index) <= -change)


def _bare(it: Evidence) -> BoolArray:
    """Return where neither date is green or water."""
    green = np.fmax(it.before.value("ndvi"), it.after.value("ndvi"))
    colour = np.fmax(it.before.value("ngrdi"), it.after.value("ngrdi"))
    dry = ~it.before.water & ~it.after.water
    return dry & np.where(it.after.colours_only, colour < 0, green < 0.35)


_WATER = "MNDWI above 0, NDVI below 0.3 and near infrared below 0.15, or black in infrared,"
_XU = "Xu 2006 (MNDWI); without shortwave infrared McFeeters 1996 (NDWI)"

#: The rules, in order: the first that holds decides.
#:
#: :meta hide-value:
RULES: tuple[Rule, ...] = (
    Rule(
        "moved_edge",
        "a strip of at most 3 pixels' width, and a shift by up to 2 pixels explains more than half of the "
        "difference",
        "",
        ("residual",),
        lambda it: (it.width <= 1.5) & (it.count >= 8) & (it.residual < 0.5),
    ),
    Rule(
        "snow",
        "NDSI above 0.3, green above 0.2 and near infrared above 0.15, in one date alone",
        "Dozier 1989; Hall et al. 1995",
        ("ndsi", "green"),
        _one_date("snow"),
    ),
    Rule(
        "cloud",
        "visible light above 0.35, white, and bright in infrared, in one date alone",
        "Zhu & Woodcock 2012 (whiteness)",
        ("visible", "white"),
        _one_date("cloud"),
    ),
    Rule(
        "water_gain",
        f"{_WATER} after alone",
        _XU,
        ("mndwi", "ndwi", "nir"),
        lambda it: ~it.after.colours_only & it.after.water & ~it.before.water,
    ),
    Rule(
        "water_loss",
        f"{_WATER} before alone",
        _XU,
        ("mndwi", "ndwi", "nir"),
        lambda it: ~it.after.colours_only & it.before.water & ~it.after.water,
    ),
    Rule(
        "burnt",
        "NDVI of 0.3 or more before; NBR falls by 0.27 or more; then dark, and 1.35 times as bright in "
        "shortwave as in near infrared",
        "Key & Benson 2006",
        ("nbr", "ndvi"),
        lambda it: (it.before.value("ndvi") >= 0.3) & (it.fall("nbr") >= 0.27) & it.after.char,
        ("vegetation", "burnt ground"),
    ),
    Rule(
        "built_or_bare",
        "NDVI falls by 0.15 or more, from 0.3 or more; what stands there has a flat spectrum, as roofs and "
        "roads have",
        "Tucker 1979; Zha et al. 2003; Adams et al. 1986 (mixed pixels)",
        ("ndvi", "ndbi"),
        lambda it: _green_before(it, "ndvi", 0.3, 0.15) & it.cleared.built,
        ("vegetation", None),
    ),
    Rule(
        "vegetation_loss",
        "NDVI falls by 0.15 or more, from 0.3 or more",
        "Tucker 1979",
        ("ndvi",),
        lambda it: _green_before(it, "ndvi", 0.3, 0.15),
        ("vegetation", None),
    ),
    Rule(
        "vegetation_gain",
        "NDVI rises by 0.15 or more, to 0.3 or more",
        "Tucker 1979",
        ("ndvi",),
        lambda it: _green_after(it, "ndvi", 0.3, 0.15),
        (None, "vegetation"),
    ),
    Rule(
        "built_or_bare",
        "neither date is green or water; open ground before (visible light of 0.1 or more), which became "
        "brighter or darker by factors that spread by 20 % or more, where moisture has one factor",
        "Lobell & Asner 2002 (moisture)",
        ("visible", "spread"),
        lambda it: (
            ~it.after.colours_only & _bare(it) & (it.before.value("visible") >= 0.1) & (it.spread >= 0.2)
        ),
        ("bare", None),
    ),
    Rule(
        "brighter",
        "no infrared: three times as bright, white",
        "",
        ("visible", "white"),
        lambda it: it.after.colours_only & (it.light >= 3) & (it.after.value("white") > 0.7),
    ),
    Rule(
        "water_gain",
        "no infrared: dark, and red less than 0.85 of blue, or darker or greyer than plants, after alone",
        "",
        ("visible", "red/blue"),
        lambda it: it.after.colours_only & it.after.water & ~it.before.water,
    ),
    Rule(
        "water_loss",
        "no infrared: dark, and red less than 0.85 of blue, or darker or greyer than plants, before alone",
        "",
        ("visible", "red/blue"),
        lambda it: it.after.colours_only & it.before.water & ~it.after.water,
    ),
    Rule(
        "vegetation_gain",
        "no infrared: NGRDI rises by 0.12 or more, to -0.05 or more; dark, and red more than 1.3 of blue",
        "Tucker 1979 (NGRDI)",
        ("ngrdi", "red/blue"),
        lambda it: (
            it.after.colours_only
            & _green_after(it, "ngrdi", -0.05, 0.12)
            & (it.after.value("red/blue") >= 1.3)
            & (it.after.value("visible") < 0.1)
        ),
        (None, "vegetation"),
    ),
    Rule(
        "darker",
        "no infrared: dark and no longer green (by NGRDI), and not lighter than before",
        "",
        ("visible", "ngrdi"),
        lambda it: (
            it.after.colours_only
            & it.after.dim
            & ~it.after.vegetation
            & (it.light < 1.2)
            & (it.before.vegetation | ~it.before.dim)
        ),
    ),
    Rule(
        "vegetation_loss",
        "no infrared: NGRDI falls by 0.08 or more, from 0 or more",
        "Tucker 1979 (NGRDI)",
        ("ngrdi",),
        lambda it: it.after.colours_only & _green_before(it, "ngrdi", 0.0, 0.08),
        ("vegetation", None),
    ),
    Rule(
        "vegetation_gain",
        "no infrared: NGRDI rises by 0.08 or more, to 0 or more",
        "Tucker 1979 (NGRDI)",
        ("ngrdi",),
        lambda it: it.after.colours_only & _green_after(it, "ngrdi", 0.0, 0.08),
        (None, "vegetation"),
    ),
    Rule(
        "brighter",
        "no infrared: three times as bright",
        "",
        ("visible",),
        lambda it: it.after.colours_only & (it.light >= 3),
    ),
    Rule(
        "built_or_bare",
        "no infrared: 1.2 times as bright or more, and redder, as soil and roofs are beside plants: NGRDI "
        "falls by 0.04 or more, from -0.1 or more to -0.05 or less",
        "Tucker 1979 (NGRDI)",
        ("visible", "ngrdi"),
        lambda it: (
            it.after.colours_only
            & (it.light >= 1.2)
            & (it.fall("ngrdi") >= 0.04)
            & (it.before.value("ngrdi") >= -0.1)
            & (it.after.value("ngrdi") <= -0.05)
        ),
    ),
    Rule(
        "brighter",
        "the spectrum keeps its shape (angle below 0.1), and visible light is 1.2 times as bright or more",
        "Kruse et al. 1993",
        ("angle", "visible"),
        lambda it: (it.angle < 0.1) & (it.light >= 1.2),
    ),
    Rule(
        "darker",
        "the spectrum keeps its shape (angle below 0.1), and visible light is 1.2 times as dark or more",
        "Kruse et al. 1993",
        ("angle", "visible"),
        lambda it: (it.angle < 0.1) & (it.light <= 1 / 1.2),
    ),
    Rule(
        "built_or_bare",
        "neither date is green or water, and the spectrum changes (angle of 0.04 or more)",
        "Zha et al. 2003",
        ("ndbi", "angle", "visible"),
        lambda it: _bare(it) & (it.angle >= 0.04),
    ),
)


#: What is said where no rule holds.
UNCLEAR = Rule("unclear", "no rule holds", "", ("ndvi", "mndwi", "visible"), lambda it: it.width > 0)


def kinds(evidence: Evidence) -> pd.DataFrame:
    """Return the kind of change of each polygon.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    pandas.DataFrame
        ``kind`` (a key of :data:`LABELS`), ``became`` ("vegetation → bare"; None where unclear) and
        ``kind_why`` (indices, and the rule that decided), one row for each polygon.
    """
    import pandas as pd

    number = np.full(len(evidence.width), len(RULES))
    for position in reversed(range(len(RULES))):
        number[RULES[position].holds(evidence)] = position
    rules = (*RULES, UNCLEAR)
    names = np.array([rule.kind for rule in rules], dtype=object)
    became = np.full(len(number), None, dtype=object)
    why = became.copy()
    for position in np.unique(number):
        rule, rows = rules[position], np.flatnonzero(number == position)
        why[rows] = _why(evidence, rule, rows)
        if rule.kind not in _NO_COVER:
            became[rows] = _became(evidence, rule, rows)
    return pd.DataFrame({"kind": names[number], "became": became, "kind_why": why}, dtype=object)


def _became(evidence: Evidence, rule: Rule, rows: IntArray) -> list[str | None]:
    """Return what became of what at some polygons; None where that is one cover."""
    old, new = rule.covers
    after = evidence.cleared if old == "vegetation" else evidence.after
    pairs = zip(evidence.before.cover[rows], after.cover[rows], strict=True)
    covers = [(old or before, new or after) for before, after in pairs]
    return [f"{before} → {after}" if before != after else None for before, after in covers]


def _why(evidence: Evidence, rule: Rule, rows: IntArray) -> list[str]:
    """Return the indices of some polygons, and the rule that decided."""
    texts = [""] * len(rows)
    for name in rule.shows:
        if name in ("angle", "residual", "spread"):
            values = getattr(evidence, name)[rows]
            parts = [f"{name} {value:.2f}; " for value in values]
        else:
            dates = np.stack([date.value(name)[rows] for date in (evidence.before, evidence.after)], axis=1)
            if not np.isfinite(dates).all():
                continue
            label = _NAMES.get(name, name.upper() if name in INDICES else name)
            parts = [f"{label} {old:.2f} → {new:.2f}; " for old, new in dates]
        texts = [text + part for text, part in zip(texts, parts, strict=True)]
    return [f"{text.removesuffix('; ')}: {rule.condition}" for text in texts]


@dataclasses.dataclass(frozen=True)
class KindTotal:
    """All polygons of one kind and of one transition.

    Attributes
    ----------
    kind : str
        A key of :data:`LABELS`.
    became : str or None
        What became of what ("vegetation → bare"); None where that is unclear.
    n_polygons : int
    area_m2 : float
    """

    kind: str
    became: str | None
    n_polygons: int
    area_m2: float

    def as_dict(self) -> dict[str, object]:
        """Return the total as the item holds it."""
        return dataclasses.asdict(self)

    @property
    def words(self) -> str:
        """What became of what, else the kind in words."""
        return self.became or LABELS[self.kind]


def totals(table: pd.DataFrame) -> tuple[KindTotal, ...]:
    """Return number and area of the polygons by kind and transition, the largest area first.

    Parameters
    ----------
    table : pandas.DataFrame
        With the columns ``kind``, ``became`` and ``area_m2``; without them there are no totals.
    """
    if "kind" not in table.columns or not len(table):
        return ()
    became = table["became"].fillna("")
    groups = table["area_m2"].groupby([table["kind"], became])
    rows = [
        KindTotal(str(kind), str(words) or None, len(areas), float(areas.sum()))
        for (kind, words), areas in groups
    ]
    return tuple(sorted(rows, key=lambda total: (-total.area_m2, total.kind, total.words)))


def in_words(kinds: Sequence[KindTotal]) -> str:
    """Return a line with the largest totals, such as "41 ha vegetation → bare, 12 ha water gained"."""
    if not kinds:
        return ""
    areas: dict[str, float] = {}
    for total in kinds:
        areas[total.words] = areas.get(total.words, 0.0) + total.area_m2
    largest = sorted(areas.items(), key=lambda item: -item[1])
    texts = [f"{area_in_words(area)} {words}" for words, area in largest[:LISTED]]
    if len(largest) > LISTED:
        texts.append(f"{area_in_words(sum(area for _, area in largest[LISTED:]))} other")
    return f"{', '.join(texts)}.\n"


__all__ = [
    "KIND_COLUMNS",
    "LABELS",
    "RULES",
    "Evidence",
    "KindTotal",
    "Rule",
    "in_words",
    "kinds",
    "totals",
]
