"""The QGIS style of the polygons: by kind or probability, with names, units and a form for verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from xml.sax.saxutils import escape, quoteattr

from geocd.vectorize.formats import VERDICTS
from geocd.vectorize.kinds import LABELS

#: Colours of the kinds of change, told apart by lightness as well.
COLOURS: Mapping[str, str] = {
    "vegetation_loss": "217,95,2",
    "vegetation_gain": "102,190,60",
    "water_gain": "60,140,255",
    "water_loss": "150,215,245",
    "built_or_bare": "245,60,75",
    "burnt": "170,70,50",
    "snow": "225,245,250",
    "brighter": "255,240,120",
    "darker": "150,110,200",
    "cloud": "205,205,205",
    "moved_edge": "150,150,150",
    "unclear": "255,170,220",
}
#: Classes of the mean probability: from, to, label and colour, the darker the surer. The lowest begins at 0,
#: so that none vanishes when the threshold was lower than 0.5; the highest ends above 1, where rounding may
#: take a mean.
CLASSES = (
    (0.0, 0.6, "below 0.6", "255,225,80"),
    (0.6, 0.7, "0.6 – 0.7", "255,160,50"),
    (0.7, 0.85, "0.7 – 0.85", "240,65,80"),
    (0.85, 1.001, "0.85 – 1", "205,20,175"),
)
#: Columns of which QGIS shows another name, and how many decimals; None: as it is.
NAMES: Mapping[str, tuple[str, int | None]] = {
    "id": ("number", None),
    "kind": ("kind of change", None),
    "became": ("what became of what", None),
    "verdict": ("verdict", None),
    "area_ha": ("area (ha)", 2),
    "p_mean": ("probability, mean", 2),
    "kind_why": ("why this kind", None),
    "date_before": ("before", None),
    "date_after": ("after", None),
    "relevance": ("relevance (0 to 1)", 2),
    "judge_next": ("to judge next", None),
    "lasting": ("lasting (0 to 1)", 2),
    "last_seen": ("last seen", None),
    "area_m2": ("area (m²)", 0),
    "perimeter_m": ("perimeter (m)", 0),
    "n_pixels": ("pixels", None),
    **{f"{when}_{index}": (f"{index.upper()} {word}", 2) for when, word in
       (("before", "before"), ("after", "after"), ("diff", "after - before"))
       for index in ("ndvi", "ndwi", "ndbi", "nbr")},
    **{f"{when}_{band}": (f"{band} {when}", 3) for when in ("before", "after")
       for band in ("blue", "green", "red", "nir", "swir", "swir2", "b1", "b2", "b3", "b4", "b5", "b6")},
    "p_max": ("probability, highest", 2),
    "p_min": ("probability, lowest", 2),
    "p_q25": ("probability, first quartile", 2),
    "p_q50": ("probability, median", 2),
    "p_q75": ("probability, third quartile", 2),
    "centroid_x": ("centre, x", 1),
    "centroid_y": ("centre, y", 1),
}  # fmt: skip
#: Columns of the form, in order; the verdict first, so that it has the focus.
FORM = (
    "verdict", "id", "kind", "became", "kind_why", "area_ha", "p_mean", "relevance", "date_before",
    "date_after", "lasting", "last_seen",
)  # fmt: skip
#: Columns that the table hides at first.
HIDDEN = ("p_min", "p_max", "p_q25", "p_q50", "p_q75", "centroid_x", "centroid_y", "perimeter_m")
#: Widths of columns of text, in pixels of the screen.
WIDTHS = {"kind": 130, "became": 170, "verdict": 80, "p_mean": 130, "kind_why": 240}
#: How QGIS writes NULL in a list of values.
NULL = "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"
MAP_TIP = (
    """<b>Change [% "id" %]</b>"""
    """[% coalesce(': ' || coalesce(attribute('became'), replace(attribute('kind'), '_', ' ')), '') %]<br/>"""
    """probability [% format_number("p_mean", 2) %] ([% format_number("p_min", 2) %] to """
    """[% format_number("p_max", 2) %])<br/>[% format_number("area_m2", 0) %] m², [% "n_pixels" %] pixels"""
    "<br/>"
    """[% coalesce(attribute('date_before'), attribute('date_b'), '?') %] to """
    """[% coalesce(attribute('date_after'), attribute('date_a'), '?') %]"""
)


def polygon_style() -> bytes:
    """Return the QML of the polygons; complete, as QGIS 3.22 writes it."""
    rules, colours = _rules()
    text = "\n".join(
        [
            "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>",
            '<qgis version="3.22.0" '
            'styleCategories="Symbology|Labeling|Fields|Forms|MapTips|AttributeTable|Rendering" '
            'labelsEnabled="0" hasScaleBasedVisibilityFlag="0" minScale="100000000" maxScale="0" '
            'simplifyDrawingHints="1" simplifyDrawingTol="1" simplifyAlgorithm="0" simplifyLocal="1" '
            'simplifyMaxScale="1" symbologyReferenceScale="-1">',
            '  <renderer-v2 type="RuleRenderer" symbollevels="0" enableorderby="0" forceraster="0" '
            'referencescale="-1">',
            *rules,
            "    <symbols>",
            *(polygon_symbol(number, colour) for number, colour in enumerate(colours)),
            "    </symbols>",
            "  </renderer-v2>",
            "  <blendMode>0</blendMode>",
            "  <featureBlendMode>0</featureBlendMode>",
            "  <layerOpacity>1</layerOpacity>",
            *_fields(),
            *_form(),
            *_table(),
            '  <previewExpression>"id"</previewExpression>',
            f"  <mapTip>{escape(MAP_TIP)}</mapTip>",
            "  <layerGeometryType>2</layerGeometryType>",
            "</qgis>",
            "",
        ]
    )
    return text.encode()


def _rules() -> tuple[list[str], list[str]]:
    """Return the rules, kinds under one heading and classes of probability under another; their colours."""
    lines, colours = ['    <rules key="{00000000-0000-0000-0000-000000000000}">'], []

    def rule(condition: str, label: str, colour: str) -> str:
        colours.append(colour)
        key = f"{{00000000-0000-0000-0000-{len(colours):012d}}}"
        return (
            f'        <rule key="{key}" filter={quoteattr(condition)} label={quoteattr(label)} '
            f'symbol="{len(colours) - 1}"/>'
        )

    heading = '      <rule key="{{10000000-0000-0000-0000-00000000000{}}}" filter={} label="{}">'
    lines.append(heading.format(1, quoteattr("attribute('kind') IS NOT NULL"), "kind of change"))
    lines += [rule(f"attribute('kind') = '{kind}'", LABELS[kind], colour) for kind, colour in COLOURS.items()]
    lines += ["      </rule>", heading.format(2, quoteattr("attribute('kind') IS NULL"), "mean probability")]
    lines += [
        rule(f'"p_mean" >= {low:g} AND "p_mean" < {high:g}', label, colour)
        for low, high, label, colour in CLASSES
    ]
    return [*lines, "      </rule>", "    </rules>"], colours


def polygon_symbol(number: int, colour: str) -> str:
    """Return a fill to see through and an outline with a dark casing, which shows on any ground."""

    def layer(kind: str, **options: str) -> str:
        values = "".join(
            f'<Option name="{name}" type="QString" value="{value}"/>' for name, value in options.items()
        )
        head = f'        <layer class="{kind}" enabled="1" locked="0" pass="0">'
        return f'{head}<Option type="Map">{values}</Option></layer>'

    line = {"line_style": "solid", "line_width_unit": "MM", "joinstyle": "miter", "capstyle": "square"}
    return "\n".join(
        [
            f'      <symbol name="{number}" type="fill" alpha="1" clip_to_extent="1" force_rhr="0">',
            layer("SimpleFill", color=f"{colour},40", style="solid", outline_style="no"),
            layer("SimpleLine", line_color="20,20,20,190", line_width="0.8", **line),
            layer("SimpleLine", line_color=f"{colour},255", line_width="0.46", **line),
            "      </symbol>",
        ]
    )


def _fields() -> Iterator[str]:
    """Yield widgets, names and hectares; nothing but the verdict can be edited."""
    yield "  <fieldConfiguration>"
    for name, (_, decimals) in NAMES.items():
        if name in ("kind", "verdict"):
            kinds = [(label, kind) for kind, label in LABELS.items()]
            verdicts = [("", NULL), *zip(VERDICTS, VERDICTS, strict=True)]
            yield value_map(name, kinds if name == "kind" else verdicts)
            continue
        if decimals is not None:
            widget = "Range"
            config = (
                '<Option name="AllowNull" type="bool" value="true"/>'
                f'<Option name="Precision" type="int" value="{decimals}"/>'
                '<Option name="Style" type="QString" value="SpinBox"/>'
            )
        else:
            widget, config = "TextEdit", '<Option name="IsMultiline" type="bool" value="false"/>'
        yield (
            f'    <field name="{name}" configurationFlags="None"><editWidget type="{widget}"><config>'
            f'<Option type="Map">{config}</Option></config></editWidget></field>'
        )
    yield "  </fieldConfiguration>"
    yield "  <aliases>"
    for index, (name, (alias, _)) in enumerate(NAMES.items()):
        yield f'    <alias index="{index}" field="{name}" name={quoteattr(alias)}/>'
    yield "  </aliases>"
    yield "  <expressionfields>"
    yield (
        '    <field name="area_ha" expression="&quot;area_m2&quot; / 10000" type="6" subType="0" '
        'typeName="double" length="0" precision="0" comment=""/>'
    )
    yield "  </expressionfields>"


def value_map(name: str, choices: Iterable[tuple[str, str]]) -> str:
    """Return the widget of a column that has a list to choose from: labels and values."""
    values = "".join(
        f'<Option type="Map"><Option name="{label}" type="QString" value="{value}"/></Option>'
        for label, value in choices
    )
    return (
        f'    <field name="{name}" configurationFlags="None"><editWidget type="ValueMap"><config>'
        f'<Option type="Map"><Option type="List" name="map">{values}</Option></Option></config></editWidget>'
        "</field>"
    )


def _form() -> Iterator[str]:
    """Yield the form: what is needed to judge, and the verdict."""
    yield "  <editorlayout>tablayout</editorlayout>"
    yield "  <attributeEditorForm>"
    for index, name in enumerate(FORM):
        yield f'    <attributeEditorField name="{name}" index="{index}" showLabel="1"/>'
    yield "  </attributeEditorForm>"
    yield "  <editable>"
    for name in NAMES:
        yield f'    <field name="{name}" editable="{int(name == "verdict")}"/>'
    yield "  </editable>"


def _table() -> Iterator[str]:
    """Yield the order of the columns, the least important ones hidden; the largest change comes first."""
    yield (
        '  <attributetableconfig actionWidgetStyle="dropDown" '
        'sortExpression="&quot;area_m2&quot;" sortOrder="1">'
    )
    yield "    <columns>"
    for name in NAMES:
        width, hidden = WIDTHS.get(name, -1), int(name in HIDDEN)
        yield f'      <column type="field" name="{name}" width="{width}" hidden="{hidden}"/>'
    yield "    </columns>"
    yield "  </attributetableconfig>"


__all__ = ["CLASSES", "COLOURS", "NAMES", "polygon_style", "polygon_symbol", "value_map"]
