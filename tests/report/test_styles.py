"""QGIS styles: complete, and fitting the layers they are copied beside."""

from __future__ import annotations

import datetime
import itertools
import re
import xml.etree.ElementTree as ElementTree
from typing import Literal

import numpy as np
import pytest

from geocd.raster.composite import decimal_year
from geocd.report.styles import style
from geocd.report.styles.polygons import COLOURS, NULL
from geocd.report.styles.series import series_style
from geocd.review import sampling
from geocd.vectorize.formats import VERDICTS, short_names
from geocd.vectorize.kinds import LABELS
from geocd.vectorize.polygons import COLUMNS


def root(name: Literal["prob", "changes", "sample"]) -> ElementTree.Element:
    return ElementTree.fromstring(style(name))


def one(parent: ElementTree.Element, path: str) -> ElementTree.Element:
    found = parent.findall(path)
    assert len(found) == 1, path
    return found[0]


def luminance(red: int, green: int, blue: int) -> float:
    """Relative luminance (WCAG 2): what is left of a colour without hue."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (v / 255 for v in (red, green, blue))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("name", ["prob", "changes", "sample"])
def test_is_a_qgis_style(name: Literal["prob", "changes", "sample"]) -> None:
    assert style(name).startswith(b"<!DOCTYPE qgis")
    assert root(name).tag == "qgis"
    # 3.22 wrote the form that newer versions still read; the elements used are no newer
    assert root(name).get("version") == "3.22.0"


def test_the_raster_pipe_is_complete() -> None:
    """A pipe that lacks a stage wipes the rendering instead of leaving the default."""
    pipe = one(root("prob"), "pipe")
    assert [stage.tag for stage in pipe] == [
        "provider",
        "rasterrenderer",
        "brightnesscontrast",
        "huesaturation",
        "rasterresampler",
        "resamplingStage",
    ]
    renderer = one(pipe, "rasterrenderer")
    assert renderer.get("type") == "singlebandpseudocolor"
    assert renderer.get("band") == "1"
    assert (renderer.get("classificationMin"), renderer.get("classificationMax")) == ("0", "1")
    assert renderer.get("nodataColor") == ""  # NaN is not drawn
    # the range is fixed: 0.5 has one colour in all rasters
    assert one(renderer, "minMaxOrigin/limits").text == "None"


def test_the_ramp_shows_the_image_below_where_nothing_changed() -> None:
    shader = one(root("prob"), "pipe/rasterrenderer/rastershader/colorrampshader")
    assert shader.get("colorRampType") == "INTERPOLATED"
    items = shader.findall("item")
    values = [float(item.attrib["value"]) for item in items]
    assert (values[0], values[-1]) == (0, 1)
    assert values == sorted(values)
    assert 0.5 in values
    alpha = [int(item.attrib["alpha"]) for item in items]
    assert alpha[0] == 0
    assert alpha == sorted(alpha)
    # what is drawn is read by its lightness alone, too
    colours = [tuple(bytes.fromhex(item.attrib["color"][1:])) for item in items if item.get("alpha") != "0"]
    lightness = [luminance(*colour) for colour in colours]
    assert all(a > 1.25 * b for a, b in itertools.pairwise(lightness))


def test_the_legend_repeats_the_ramp() -> None:
    """QGIS draws with the items and shows the source ramp in its dialogue: both say the same."""
    shader = one(root("prob"), "pipe/rasterrenderer/rastershader/colorrampshader")
    options = {o.get("name"): o.attrib["value"] for o in shader.findall("colorramp/Option/Option")}
    stops = [f"0;{options['color1']}", *options["stops"].split(":"), f"1;{options['color2']}"]
    items = []
    for item in shader.findall("item"):
        colour = [*bytes.fromhex(item.attrib["color"][1:]), int(item.attrib["alpha"])]
        items.append(f"{item.get('value')};{','.join(map(str, colour))}")
    assert stops == items


def test_polygons_are_drawn_by_kind_else_by_probability_without_a_gap() -> None:
    qgis = root("changes")
    assert one(qgis, "layerGeometryType").text == "2"
    assert qgis.get("labelsEnabled") == "0"
    renderer = one(qgis, "renderer-v2")
    assert renderer.get("type") == "RuleRenderer"
    kinds, classes = renderer.findall("rules/rule")
    assert (kinds.get("label"), classes.get("label")) == ("kind of change", "mean probability")
    named = {r.attrib["filter"].split("'")[3]: r.get("label") for r in kinds}
    assert named == LABELS
    edges = [tuple(map(float, re.findall(r"[\d.]+$|[\d.]+(?= AND)", r.attrib["filter"]))) for r in classes]
    assert edges[0][0] == 0  # whatever the threshold was
    assert edges[-1][1] > 1  # whatever rounding did
    assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
    symbols = [s.get("name") for s in renderer.findall("symbols/symbol")]
    assert [r.get("symbol") for r in (*kinds, *classes)] == symbols


def test_polygons_have_a_clear_outline_and_a_fill_to_see_through() -> None:
    colours = []
    for symbol in root("changes").findall("renderer-v2/symbols/symbol"):
        assert symbol.get("type") == "fill"
        fill, casing, line = symbol.findall("layer")
        look = [
            {o.get("name"): o.attrib["value"] for o in part.findall("Option/Option")}
            for part in (fill, casing, line)
        ]
        assert [part.get("class") for part in (fill, casing, line)] == [
            "SimpleFill",
            "SimpleLine",
            "SimpleLine",
        ]
        assert 0 < int(look[0]["color"].split(",")[3]) < 128
        assert look[0]["outline_style"] == "no"
        colour, dark = (tuple(map(int, part["line_color"].split(","))) for part in (look[2], look[1]))
        assert colour[3] == 255
        assert float(look[1]["line_width"]) > float(look[2]["line_width"])
        assert luminance(*colour[:3]) > 5 * luminance(*dark[:3])  # told from any ground by one of the two
        colours.append(colour)
    assert len(set(colours)) == len(colours), "no two look the same"
    lightness = [luminance(*colour[:3]) for colour in colours[len(COLOURS) :]]
    assert all(a > 1.25 * b for a, b in itertools.pairwise(lightness))


def test_fields_are_those_of_the_layer() -> None:
    qgis = root("changes")
    texts = [one(qgis, tag).text or "" for tag in ("mapTip", "previewExpression")]
    named = set(re.findall(r'"(\w+)"', " ".join(texts)))
    assert "p_mean" in named
    short = short_names(COLUMNS)
    assert named <= {name for name in COLUMNS if short[name] == name}, "the same in a shapefile"
    either = re.findall(r"coalesce\(attribute\('(\w+)'\), attribute\('(\w+)'\), '\?'\)", texts[0])
    assert either == [(name, short[name]) for name in ("date_before", "date_after")]


def test_columns_have_names_units_and_rounded_values() -> None:
    qgis = root("changes")
    aliases = {alias.get("field"): alias.get("name") for alias in qgis.findall("aliases/alias")}
    assert set(COLUMNS) <= set(aliases)
    assert (aliases["area_m2"], aliases["area_ha"]) == ("area (m²)", "area (ha)")
    precision = {
        field.get("name"): option.get("value")
        for field in qgis.findall("fieldConfiguration/field")
        for option in field.iter("Option")
        if option.get("name") == "Precision"
    }
    assert (precision["p_mean"], precision["area_m2"], precision["before_ndvi"]) == ("2", "0", "2")
    ha = one(qgis, "expressionfields/field")
    assert ha.get("expression") == '"area_m2" / 10000'


def test_the_verdict_alone_can_be_edited_from_a_list() -> None:
    qgis = root("changes")
    editable = [f.get("name") for f in qgis.findall("editable/field") if f.get("editable") == "1"]
    assert editable == ["verdict"]
    form = [field.get("name") for field in qgis.findall("attributeEditorForm/attributeEditorField")]
    assert form[0] == "verdict", "it has the focus"
    (widget,) = [f for f in qgis.findall("fieldConfiguration/field") if f.get("name") == "verdict"]
    assert one(widget, "editWidget").get("type") == "ValueMap"
    values = [o.get("value") for o in widget.iter("Option") if o.get("type") == "QString"]
    assert values == [NULL, *VERDICTS]


@pytest.mark.parametrize("count", [2, 3, 24])
def test_a_series_has_one_file_for_raster_and_polygons_with_the_same_classes(count: int) -> None:
    days = [datetime.date(2021, 5, 1) + datetime.timedelta(days=40 * number) for number in range(count)]
    qgis = ElementTree.fromstring(series_style(days))
    items = one(qgis, "pipe/rasterrenderer/rastershader/colorrampshader").findall("item")
    *rules, waiting = one(qgis, "renderer-v2/rules").findall("rule")
    assert [item.get("label") for item in items] == [rule.get("label") for rule in rules]
    assert waiting.get("filter") == '"lasting" IS NULL'
    assert (waiting.get("label"), one(qgis, "layerGeometryType").text) == ("not confirmed yet", "2")
    ends = [float(item.attrib["value"]) for item in items]
    lines = [symbol.findall("layer")[2] for symbol in qgis.iter("symbol")]
    colours = [one(line, "Option/Option[@name='line_color']").attrib["value"] for line in lines]
    for day in days[1:]:
        (position,) = [
            number
            for number, rule in enumerate(rules)
            for first, last in [re.findall(r"'([\d-]+)'", rule.attrib["filter"])]
            if first <= str(day) <= last
        ]
        year = float(np.float32(decimal_year(day)))
        assert next(number for number, end in enumerate(ends) if year <= end) == position
        hexadecimal = items[position].attrib["color"][1:]
        assert colours[position] == ",".join(map(str, bytes.fromhex(hexadecimal))) + ",255"
    assert len(set(colours)) == len(rules) + 1 == min(count - 1, 6) + 1


def test_points_show_verdicts_and_not_what_the_map_says() -> None:
    points = root("sample")
    labels = [rule.get("label") for rule in points.iter("rule")]
    assert labels == ["not judged", *VERDICTS]
    editable = {field.get("name"): field.get("editable") for field in points.findall("editable/field")}
    assert set(editable) == set(sampling.COLUMNS)
    assert [name for name, flag in editable.items() if flag == "1"] == ["verdict", "kind"]
    hidden = {c.get("name") for c in points.iter("column") if c.get("hidden") == "1"}
    assert hidden == {name for name in sampling.COLUMNS if name.startswith(("stratum", "map_", "prob"))}
    form = [field.get("name") for field in points.findall("attributeEditorForm/attributeEditorField")]
    assert not hidden & set(form)
    assert form[0] == "verdict"
