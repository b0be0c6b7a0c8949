"""The QGIS style of a series: its raster and its polygons share a name, and so one file of both, by date."""

from __future__ import annotations

import datetime
import importlib.resources
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence

from geocd.raster.composite import decimal_year
from geocd.report.styles.polygons import polygon_symbol

#: Colours of changes from the earliest to the latest, the later the lighter; and of those that no later date
#: could confirm yet.
COLOURS = ("125,75,205", "165,35,165", "215,40,110", "240,95,60", "252,165,45", "255,235,110")
UNCONFIRMED = "190,190,190"
#: Other names of the columns.
NAMES = {
    "id": "number",
    "date_from": "not yet there on",
    "date_to": "first seen on",
    "lasting": "lasting (0.5 to 1)",
    "area_m2": "area (m²)",
    "perimeter_m": "perimeter (m)",
    "n_pixels": "pixels",
}
MAP_TIP = (
    """<b>Change [% "id" %]</b><br/>between [% "date_from" %] and [% "date_to" %]<br/>"""
    """[% coalesce('lasting ' || format_number("lasting", 2), 'not confirmed yet') %]<br/>"""
    """[% format_number("area_m2", 0) %] m², [% "n_pixels" %] pixels"""
)
#: Half a day, as a decimal year: what float32 may have rounded.
_HALF_DAY = 1 / 730


def series_style(days: Sequence[datetime.date]) -> bytes:
    """Return the QML of the raster of a series (band 1, ``date_to``) and of its polygons.

    Parameters
    ----------
    days : sequence of datetime.date
        The dates of the place, in order: two or more.
    """
    classes = list(_classes(days[1:]))
    text = (importlib.resources.files(__package__) / "prob.qml").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    _of_raster(root, classes)
    root.extend(_of_polygons(classes))
    head = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return (head + ElementTree.tostring(root, encoding="unicode") + "\n").encode()


def _classes(days: Sequence[datetime.date]) -> Iterator[tuple[datetime.date, datetime.date, str]]:
    """Yield the first and last day of as many classes as there are days or colours, and their colours."""
    count = min(len(days), len(COLOURS))
    for number in range(count):
        part = days[number * len(days) // count : (number + 1) * len(days) // count]
        yield part[0], part[-1], COLOURS[round(number * (len(COLOURS) - 1) / max(1, count - 1))]


def _label(first: datetime.date, last: datetime.date) -> str:
    return str(first) if first == last else f"{first} – {last}"


def _of_raster(
    root: ElementTree.Element, classes: Sequence[tuple[datetime.date, datetime.date, str]]
) -> None:
    """Make the style of a probability that of dates: a colour for each class, whatever the statistics."""
    renderer = root.find("pipe/rasterrenderer")
    shader = root.find("pipe/rasterrenderer/rastershader/colorrampshader")
    assert renderer is not None
    assert shader is not None
    limits = f"{decimal_year(classes[0][0]):.6f}", f"{decimal_year(classes[-1][1]) + _HALF_DAY:.6f}"
    renderer.attrib |= dict(zip(("classificationMin", "classificationMax"), limits, strict=True))
    shader.clear()
    shader.attrib |= {
        "colorRampType": "DISCRETE",
        "classificationMode": "1",
        "minimumValue": limits[0],
        "maximumValue": limits[1],
        "clip": "0",
        "labelPrecision": "2",
    }
    for first, last, colour in classes:
        end = "inf" if last == classes[-1][1] else f"{decimal_year(last) + _HALF_DAY:.6f}"
        red, green, blue = map(int, colour.split(","))
        item = {"value": end, "label": _label(first, last), "color": f"#{red:02x}{green:02x}{blue:02x}"}
        ElementTree.SubElement(shader, "item", item | {"alpha": "220"})


def _of_polygons(
    classes: Sequence[tuple[datetime.date, datetime.date, str]],
) -> Iterator[ElementTree.Element]:
    """Yield what a layer of polygons reads: the same classes, and those that nothing has confirmed yet."""
    rules = [
        (f'"lasting" IS NOT NULL AND "date_to" >= \'{first}\' AND "date_to" <= \'{last}\'', first, last)
        for first, last, _ in classes
    ]
    renderer = ElementTree.Element("renderer-v2", {"type": "RuleRenderer", "symbollevels": "0"})
    group = ElementTree.SubElement(renderer, "rules", {"key": "{00000000-0000-0000-0000-000000000000}"})
    labelled = [(condition, _label(first, last)) for condition, first, last in rules]
    for number, (condition, label) in enumerate([*labelled, ('"lasting" IS NULL', "not confirmed yet")]):
        key = f"{{00000000-0000-0000-0000-{number + 1:012d}}}"
        values = {"key": key, "filter": condition, "label": label, "symbol": str(number)}
        ElementTree.SubElement(group, "rule", values)
    symbols = ElementTree.SubElement(renderer, "symbols")
    for number, colour in enumerate([*(colour for *_, colour in classes), UNCONFIRMED]):
        symbols.append(ElementTree.fromstring(polygon_symbol(number, colour)))
    yield renderer
    aliases = ElementTree.Element("aliases")
    for index, (name, alias) in enumerate(NAMES.items()):
        ElementTree.SubElement(aliases, "alias", {"index": str(index), "field": name, "name": alias})
    yield aliases
    for tag, text in (("previewExpression", '"date_to"'), ("mapTip", MAP_TIP), ("layerGeometryType", "2")):
        element = ElementTree.Element(tag)
        element.text = text
        yield element


__all__ = ["series_style"]
