"""The QGIS style of points to judge: colours by verdict, and a form that hides what the map says."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

from geocd.report.styles.polygons import NULL, value_map
from geocd.vectorize.formats import VERDICTS
from geocd.vectorize.kinds import LABELS

#: Colour of the points of each verdict; those without one are empty circles.
COLOURS: Mapping[str, str] = {"yes": "230,97,1", "no": "60,140,255", "unsure": "160,160,160"}
#: Columns that would tell a reviewer what the map says, and are hidden.
HIDDEN = ("stratum", "stratum_m2", "stratum_pixels", "map_class", "map_kind", "prob")
#: Other names of the columns that are shown.
NAMES: Mapping[str, str] = {"id": "number", "verdict": "did it change?", "kind": "kind of change"}
#: Where the points are.
PLACE = ("longitude", "latitude", "x", "y")


def point_style() -> bytes:
    """Return the QML of the points of a sample; complete, as QGIS 3.22 writes it."""
    not_judged = ("not judged", '"verdict" IS NULL OR "verdict" = \'\'', "255,255,255,60", "255,0,200,255")
    rules = [not_judged]
    rules += [
        (word, f"\"verdict\" = '{word}'", f"{rgb},255", "20,20,20,255") for word, rgb in COLOURS.items()
    ]
    text = "\n".join(
        [
            "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>",
            '<qgis version="3.22.0" styleCategories="Symbology|Fields|Forms|AttributeTable" '
            'labelsEnabled="0">',
            '  <renderer-v2 type="RuleRenderer" symbollevels="0" enableorderby="0" forceraster="0" '
            'referencescale="-1">',
            '    <rules key="{00000000-0000-0000-0000-000000000000}">',
            *(
                f'      <rule key="{{00000000-0000-0000-0000-{number + 1:012d}}}" symbol="{number}" '
                f"label={quoteattr(label)} filter={quoteattr(condition)}/>"
                for number, (label, condition, *_) in enumerate(rules)
            ),
            "    </rules>",
            "    <symbols>",
            *(_symbol(number, fill, line) for number, (*_, fill, line) in enumerate(rules)),
            "    </symbols>",
            "  </renderer-v2>",
            "  <fieldConfiguration>",
            value_map("verdict", [("", NULL), *zip(VERDICTS, VERDICTS, strict=True)]),
            value_map("kind", [("", NULL), *((label, kind) for kind, label in LABELS.items())]),
            "  </fieldConfiguration>",
            "  <aliases>",
            *(f'    <alias field="{name}" name={quoteattr(alias)}/>' for name, alias in NAMES.items()),
            "  </aliases>",
            "  <editorlayout>tablayout</editorlayout>",
            "  <attributeEditorForm>",
            *(
                f'    <attributeEditorField name="{name}" index="{index}" showLabel="1"/>'
                for index, name in enumerate(("verdict", "kind", "id"))
            ),
            "  </attributeEditorForm>",
            "  <editable>",
            *(
                f'    <field name="{name}" editable="{int(name in ("verdict", "kind"))}"/>'
                for name in (*NAMES, *PLACE, *HIDDEN)
            ),
            "  </editable>",
            '  <attributetableconfig actionWidgetStyle="dropDown" sortExpression="&quot;id&quot;" '
            'sortOrder="0">',
            "    <columns>",
            *(
                f'      <column type="field" name="{name}" width="-1" hidden="{int(name in HIDDEN)}"/>'
                for name in (*NAMES, *PLACE, *HIDDEN)
            ),
            "    </columns>",
            "  </attributetableconfig>",
            '  <previewExpression>"id"</previewExpression>',
            "  <layerGeometryType>0</layerGeometryType>",
            "</qgis>",
            "",
        ]
    )
    return text.encode()


def _symbol(number: int, fill: str, line: str) -> str:
    """Return a circle that does not hide the pixel under it where it is empty."""
    values = {
        "name": "circle", "color": fill, "outline_color": line, "outline_style": "solid",
        "outline_width": "0.5", "outline_width_unit": "MM", "size": "3.4", "size_unit": "MM",
    }  # fmt: skip
    options = "".join(f'<Option name="{name}" type="QString" value="{v}"/>' for name, v in values.items())
    return (
        f'      <symbol name="{number}" type="marker" alpha="1" clip_to_extent="1" force_rhr="0">'
        f'<layer class="SimpleMarker" enabled="1" locked="0" pass="0"><Option type="Map">{options}</Option>'
        "</layer></symbol>"
    )


__all__ = ["point_style"]
