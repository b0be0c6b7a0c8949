"""Layers of a result in QGIS: styled, in one group with the images; and which images are before and after."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from qgis.core import (
    QgsLayerTree,
    QgsProcessingLayerPostProcessorInterface,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)

from .dates import date_in, in_order, lines_with_dates


@dataclasses.dataclass(frozen=True)
class Source:
    """An image of a pair: the name of its parameter, its name and date for people, and what GDAL opens."""

    parameter: str
    name: str
    date: str | None
    path: str

    @classmethod
    def of(cls, parameter: str, layer: Any, path: str) -> Source:
        """Return the image of a layer; None where QGIS has none."""
        name = Path(path).stem if layer is None else str(layer.name())
        return cls(parameter, name, date_in([path]) if layer is None else date_of(layer), path)


@dataclasses.dataclass(frozen=True)
class Group:
    """A group of the layers tree, and the images that it is to hold below the results."""

    name: str
    sources: Sequence[Source]

    @classmethod
    def of_pair(cls, sources: Sequence[Source]) -> Group:
        """Return the group of a pair, named after its images."""
        before, after = (source.name for source in sources)
        return cls(f"{before} → {after}", sources)

    def put(self, layer: Any, project: Any) -> None:
        """Move a result into the group, vectors above rasters, and see that the images are there."""
        if not self.name:
            return
        root = project.layerTreeRoot()
        group = root.findGroup(self.name) or root.insertGroup(0, self.name)
        node = root.findLayer(layer.id())
        if node is not None and node.parent() is not group:
            position = 0 if isinstance(layer, QgsVectorLayer) else self._below_vectors(group)
            group.insertChildNode(position, node.clone())
            node.parent().removeChildNode(node)
        for source in reversed(self.sources):  # the later one above
            image = _layer_of(source, project)
            if image is not None and group.findLayer(image.id()) is None:
                group.addLayer(image)

    @staticmethod
    def _below_vectors(group: Any) -> int:
        children = group.children()
        vectors = [
            child
            for child in children
            if QgsLayerTree.isLayer(child) and isinstance(child.layer(), QgsVectorLayer)
        ]
        return len(vectors)


def _layer_of(source: Source, project: Any) -> Any:
    """Return the layer of an image, a new one where the project has none; None for no raster of QGIS."""
    for layer in project.mapLayers().values():
        if isinstance(layer, QgsRasterLayer) and layer.source().split("|")[0] == source.path:
            return layer
    layer = QgsRasterLayer(source.path, source.name, "gdal")
    if not layer.isValid():
        return None
    project.addMapLayer(layer, False)
    return layer


class Styled(QgsProcessingLayerPostProcessorInterface):
    """Apply the style beside a file to its layer, which Processing does not, and put it in its group."""

    #: QGIS deletes each with the context it was given to; until then Python must not.
    _alive: ClassVar[list[Styled]] = []

    def __init__(self, group: Group) -> None:
        super().__init__()
        self._group = group

    @classmethod
    def create(cls, group: Group) -> Styled:
        """Return a new instance, for one layer, and keep it alive."""
        cls._alive.append(cls(group))
        return cls._alive[-1]

    def postProcessLayer(self, layer: Any, context: Any, feedback: Any) -> None:  # noqa: N802
        """Load the style; put the layer in its group, where the raster does not hide the polygons."""
        _, loaded = layer.loadDefaultStyle()
        if not loaded:
            feedback.pushWarning(f"{layer.source()}: no style was found beside it.")
        layer.triggerRepaint()
        self._group.put(layer, context.project() or QgsProject.instance())


def date_of(layer: Any) -> str | None:
    """Return the date of an image: from its name or file, else from its metadata."""
    lines = lines_with_dates(layer.htmlMetadata())
    return date_in([layer.name(), Path(layer.source().split("|")[0]).name, *lines])


def proposed_dates() -> dict[str, str]:
    """Return the ids of two rasters of the project, as before and after: never the same one twice."""
    project = QgsProject.instance()
    nodes = project.layerTreeRoot().findLayers()
    rasters = [
        node.layer()
        for node in nodes
        if isinstance(node.layer(), QgsRasterLayer)
        and node.layer().providerType() == "gdal"
        and not node.layer().name().startswith("Change probability")
    ]
    rasters = list({layer.id(): layer for layer in rasters}.values())
    order = in_order([date_of(layer) for layer in rasters])
    if order is None:
        return {}
    return {"BEFORE": rasters[order[0]].id(), "AFTER": rasters[order[1]].id()}
