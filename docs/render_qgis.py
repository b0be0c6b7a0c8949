#!/usr/bin/env python3
"""Draw the results of a run with QGIS, styled as they come up when dragged into it.

    python3 docs/render_qgis.py after.tif STEM out.png

Needs QGIS and its Python bindings (Debian: ``apt install qgis python3-qgis``), which live outside of virtual
environments: run it with the system's Python. Nothing here sets a style. The layers pick up the ``.qml``
files beside them, which is what this picture is to prove; a layer that came up without is an error.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (
    QgsApplication,
    QgsContrastEnhancement,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsLayerTree,
    QgsLayoutExporter,
    QgsLayoutItemLabel,
    QgsLayoutItemLegend,
    QgsLayoutItemMap,
    QgsLayoutItemScaleBar,
    QgsLayoutPoint,
    QgsLayoutSize,
    QgsLegendStyle,
    QgsMapLayerLegendUtils,
    QgsMultiBandColorRenderer,
    QgsPrintLayout,
    QgsProject,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
    QgsRectangle,
    QgsScaleBarSettings,
    QgsSingleBandGrayRenderer,
    QgsTextFormat,
    QgsUnitTypes,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize, QSizeF
from qgis.PyQt.QtGui import QFont

DPI = 120
MARGIN, GAP = 4.0, 3.0  # mm, as are all sizes on the page
HEIGHT, SIDE, BELOW = 160.0, 95.0, 32.0  # of the overview map, width of the detail maps, legends below


def main(after: str, stem: str, picture: str) -> None:
    """Draw the picture."""
    application = QgsApplication([], False)
    application.initQgis()
    image = QgsRasterLayer(after, Path(after).stem)
    prob = QgsRasterLayer(f"{stem}_prob.tif", "Change probability")
    changes = QgsVectorLayer(f"{stem}_changes.gpkg|layername=changes", "Changes")
    for layer in (image, prob, changes):
        if not layer.isValid():
            sys.exit(f"{layer.source()}: QGIS cannot open this")
    if prob.renderer().type() != "singlebandpseudocolor" or changes.renderer().type() != "RuleRenderer":
        sys.exit("a layer came up without its style: are the .qml files beside it?")
    natural_colours(image)

    project = QgsProject.instance()
    crs = flat(image)
    project.setCrs(crs)
    project.addMapLayers([changes, prob, image])
    whole = QgsCoordinateTransform(image.crs(), crs, project).transformBoundingBox(image.extent())
    detail = densest(changes, crs, whole, project)

    layout = QgsPrintLayout(project)
    layout.initializeDefaults()
    width = HEIGHT * min(1.3, max(0.6, whole.width() / whole.height()))
    small = (HEIGHT - GAP) / 2
    layout.pageCollection().page(0).setPageSize(
        QgsLayoutSize(2 * MARGIN + width + GAP + SIDE, 2 * MARGIN + HEIGHT + GAP + BELOW)
    )
    right, low = MARGIN + width + GAP, MARGIN + HEIGHT + GAP
    around = widened(whole, width / HEIGHT)
    overview = add_map(layout, [changes, prob, image], around, (MARGIN, MARGIN, width, HEIGHT), "both layers")
    wide = inside(widened(detail, SIDE / small), whole)
    add_map(layout, [prob, image], wide, (right, MARGIN, SIDE, small), "probability")
    zoomed = add_map(layout, [changes, image], wide, (right, MARGIN + small + GAP, SIDE, small), "polygons")
    add_bar(layout, overview, MARGIN + 3, MARGIN + HEIGHT - 13)
    add_bar(layout, zoomed, right + 3, MARGIN + HEIGHT - 13)
    add_legend(layout, prob, MARGIN, low)
    add_legend(layout, changes, MARGIN + 0.3 * width, low, columns=4)

    # Not exportToImage: that tries to write the place on earth into the PNG, and GDAL complains.
    if not QgsLayoutExporter(layout).renderPageToImage(0, QSize(), DPI).save(picture):
        sys.exit(f"{picture}: cannot be written")
    print(f"{picture}: {changes.featureCount()} polygons")
    sys.stdout.flush()
    os._exit(0)  # QGIS tends to crash while Python takes it apart, after the work is done


def natural_colours(image: Any) -> None:
    """Show the image as a viewer would set it up: red, green, blue where named, 2 to 98 % stretch."""
    names = [image.dataProvider().generateBandName(i).upper() for i in range(1, image.bandCount() + 1)]

    def band(sign: str, otherwise: int) -> int:
        return next((i for i, name in enumerate(names, 1) if sign in name), otherwise)

    provider = image.dataProvider()
    if image.bandCount() >= 3:
        bands = (band("B04", 1), band("B03", 2), band("B02", 3))
        image.setRenderer(QgsMultiBandColorRenderer(provider, *bands))
    else:
        image.setRenderer(QgsSingleBandGrayRenderer(provider, 1))
    image.setContrastEnhancement(
        QgsContrastEnhancement.StretchToMinimumMaximum, QgsRasterMinMaxOrigin.CumulativeCut
    )


def flat(image: Any) -> Any:
    """Return a CRS in which the map is not squeezed: the image's own, or an equal-area one for degrees."""
    if not image.crs().isGeographic():
        return image.crs()
    centre = image.extent().center()
    return QgsCoordinateReferenceSystem.fromProj(
        f"+proj=laea +lat_0={centre.y()} +lon_0={centre.x()} +datum=WGS84 +units=m"
    )


def densest(changes: Any, crs: Any, whole: Any, project: Any) -> Any:
    """Return the 3/10 of the map, around one of the polygons, that has the largest changed area."""
    transform = QgsCoordinateTransform(changes.crs(), crs, project)
    boxes = []
    for feature in changes.getFeatures():
        boxes.append((feature["area_m2"], transform.transformBoundingBox(feature.geometry().boundingBox())))
    boxes.sort(key=lambda pair: -pair[0])

    def around(centre: Any) -> Any:
        return QgsRectangle.fromCenterAndSize(centre, 0.3 * whole.width(), 0.3 * whole.height())

    def inside_of(part: Any) -> float:
        return float(sum(area * box.intersect(part).area() / box.area() for area, box in boxes))

    parts = [around(box.center()) for _, box in boxes[:100]]
    return max(parts, key=inside_of, default=around(whole.center()))


def widened(extent: Any, ratio: float) -> Any:
    """Return the extent made wider or higher, to the ratio width / height."""
    width, height = extent.width(), extent.height()
    width, height = max(width, height * ratio), max(height, width / ratio)
    centre = extent.center()
    return QgsRectangle(
        centre.x() - width / 2, centre.y() - height / 2, centre.x() + width / 2, centre.y() + height / 2
    )


def inside(extent: Any, whole: Any) -> Any:
    """Return the extent moved so that it does not look over the border of the whole."""
    x = min(max(extent.xMinimum(), whole.xMinimum()), whole.xMaximum() - extent.width())
    y = min(max(extent.yMinimum(), whole.yMinimum()), whole.yMaximum() - extent.height())
    return QgsRectangle(x, y, x + extent.width(), y + extent.height())


def add_map(layout: Any, layers: list[Any], extent: Any, position: tuple[float, ...], title: str) -> Any:
    """Put a map on the page."""
    item = QgsLayoutItemMap(layout)
    layout.addLayoutItem(item)
    item.attemptMove(QgsLayoutPoint(*position[:2]))
    item.attemptResize(QgsLayoutSize(*position[2:]))
    item.setLayers(layers)
    item.setKeepLayerSet(True)
    item.setExtent(extent)
    item.setFrameEnabled(True)
    label = QgsLayoutItemLabel(layout)
    layout.addLayoutItem(label)
    label.setText(title)
    label.setFont(QFont("DejaVu Sans", 9))
    label.setBackgroundEnabled(True)
    label.setMarginX(1.5)
    label.adjustSizeToText()
    label.attemptMove(QgsLayoutPoint(*position[:2]))
    return item


def add_bar(layout: Any, item: Any, x: float, y: float) -> None:
    """Put a scale bar on a map."""
    bar = QgsLayoutItemScaleBar(layout)
    layout.addLayoutItem(bar)
    bar.setLinkedMap(item)
    bar.setStyle("Line Ticks Up")
    bar.setUnits(QgsUnitTypes.DistanceMeters)
    bar.setUnitLabel("m")
    bar.setNumberOfSegmentsLeft(0)
    bar.setNumberOfSegments(1)
    bar.setSegmentSizeMode(QgsScaleBarSettings.SegmentSizeFitWidth)
    bar.setMinimumBarWidth(12)
    bar.setMaximumBarWidth(35)
    bar.setHeight(1.5)
    bar.setBoxContentSpace(1)
    bar.setTextFormat(QgsTextFormat.fromQFont(QFont("DejaVu Sans", 8)))
    bar.setBackgroundEnabled(True)
    bar.attemptResize(QgsLayoutSize(bar.minimumSize().width(), bar.minimumSize().height()))
    bar.attemptMove(QgsLayoutPoint(x, y))


def add_legend(layout: Any, layer: Any, x: float, y: float, columns: int = 1) -> None:
    """Put the legend of one layer on the page."""
    legend = QgsLayoutItemLegend(layout)
    layout.addLayoutItem(legend)
    legend.setAutoUpdateModel(False)
    root = QgsLayerTree()
    legend.model().setRootGroup(root)
    node = root.addLayer(layer)
    if isinstance(layer, QgsRasterLayer):
        QgsMapLayerLegendUtils.setLegendNodeSymbolSize(node, 1, QSizeF(6, 17))
        legend.model().refreshLayerLegend(node)
    if columns > 1:
        legend.setColumnCount(columns)
        legend.setSplitLayer(True)
    for part, size in ((QgsLegendStyle.Subgroup, 9), (QgsLegendStyle.SymbolLabel, 8)):
        legend.setStyleFont(part, QFont("DejaVu Sans", size))
    legend.attemptMove(QgsLayoutPoint(x, y))
    layout.__dict__.setdefault("kept", []).append(root)  # the legend does not own its tree


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
