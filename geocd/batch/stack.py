"""Several rasters of the same area stacked as the bands of one, a VRT, without copying pixels."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from rasterio.io import DatasetReader

from geocd import replacing
from geocd.errors import BandError, GridError
from geocd.location import Location, local_path, public_text
from geocd.raster.files import grid_of, open_raster, output_errors
from geocd.raster.grid import Grid, check_same_grid
from geocd.raster.scaling import SCALING_TAG, Scaling, is_offset_applied, scaling_of
from geocd.raster.sources import trust

#: Data types, and kinds of URL, as GDAL calls them.
_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}
_SCHEMES = {"s3": "/vsis3", "gs": "/vsigs", "az": "/vsiaz"}
#: Characters that XML cannot hold, escaped or not.
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclasses.dataclass(frozen=True)
class _Band:
    """A band of a source: its name, path, number, type as GDAL calls it, nodata, shape and scaling."""

    title: str
    path: str
    index: int
    kind: str
    nodata: float | None
    shape: tuple[int, int]
    scaling: Scaling

    @classmethod
    def of(cls, dataset: DatasetReader, name: str, path: str, index: int, scaling: Scaling) -> _Band:
        """Return the band of an open raster of this name."""
        kind = _TYPES.get(dataset.dtypes[index - 1])
        if kind is None:
            raise BandError(f"{path}: bands of {dataset.dtypes[index - 1]} cannot be stacked.", path=path)
        title = dataset.descriptions[index - 1] or (name if dataset.count == 1 else f"{name}_{index}")
        return cls(title, path, index, kind, dataset.nodatavals[index - 1], dataset.shape, scaling)

    def vrt(self, number: int, grid: Grid) -> list[str]:
        """Return the band as lines of a VRT on a grid."""
        height, width = self.shape
        ((scale, offset),) = zip(self.scaling.scales, self.scaling.offsets, strict=True)
        return [
            f'<VRTRasterBand dataType="{self.kind}" band="{number}">',
            f"<Description>{escape(_NOT_XML.sub(' ', public_text(self.title)))}</Description>",
            "" if self.nodata is None else f"<NoDataValue>{self.nodata!r}</NoDataValue>",
            f"<Offset>{offset!r}</Offset><Scale>{scale!r}</Scale>" if (scale, offset) != (1, 0) else "",
            f'<SimpleSource><SourceFilename relativeToVRT="0">{escape(_gdal(self.path))}</SourceFilename>',
            f"<SourceBand>{self.index}</SourceBand>",
            f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>',
            f'<DstRect xOff="0" yOff="0" xSize="{grid.width}" ySize="{grid.height}"/>',
            "</SimpleSource></VRTRasterBand>",
        ]


@dataclasses.dataclass(frozen=True)
class Stack:
    """A VRT that stacks the bands of several rasters; written by the worker that needs it.

    Parameters
    ----------
    path : str
        Path of the VRT.
    sources : tuple of (str, str)
        Name and path or URL of each raster; all of its bands are used.
    date : str
        Time of acquisition, RFC 3339.
    declared : tuple of tuple
        For each source, scale and offset of each band as its STAC item declares them, None where it does not.
    processing : tuple of (str, str)
        Properties of the item that tell its processing, such as ``s2:processing_baseline``.
    """

    path: str
    sources: tuple[tuple[str, str], ...]
    date: str
    declared: tuple[tuple[tuple[float | None, float | None], ...], ...] = ()
    processing: tuple[tuple[str, str], ...] = ()

    @property
    def parts(self) -> list[tuple[str, str]]:
        """Name of each raster with its file name, or its URL without signature; moved files keep theirs."""
        locations = [(name, Location(path)) for name, path in self.sources]
        return [(name, at.public if at.is_url else at.name) for name, at in locations]

    def without_signatures(self) -> Stack:
        """Return the stack of the same rasters by links without query strings that give access."""
        sources = tuple((name, Location(path).public) for name, path in self.sources)
        return dataclasses.replace(self, sources=sources)

    def write(self) -> None:
        """Write the VRT on the grid of the finest raster; coarser ones are resampled (nearest neighbour).

        Raises
        ------
        RasterOpenError
            A raster cannot be opened.
        BandError
            A band has a data type that cannot be used.
        GridError
            The rasters do not cover the same area in the same CRS.
        """
        bands: list[_Band] = []
        grids: list[tuple[str, Grid]] = []  # by the names of the rasters
        declarations = (*self.declared, *((),) * (len(self.sources) - len(self.declared)))
        for (name, path), declared in zip(self.sources, declarations, strict=True):
            with open_raster(path) as dataset:
                grids.append((name, grid_of(dataset, path)))
                for index in dataset.indexes:
                    own = declared[index - 1] if index <= len(declared) else (None, None)
                    scaling = _scaling(dataset, path, index, own, dict(self.processing))
                    bands.append(_Band.of(dataset, name, path, index, scaling))
        first, finest = max(grids, key=lambda grid: grid[1].height * grid[1].width)
        for name, grid in grids:
            try:
                check_same_grid(finest, grid.resized(finest.height, finest.width))
            except GridError as error:
                raise GridError(
                    f"{Path(self.path).stem}: the assets {first} and {name} do not cover the same area in "
                    f"one CRS: {finest.describe()} and {grid.describe()}. Leave one of them out of "
                    "--assets, or warp them onto one grid and list the pairs in a CSV.",
                    first=finest,
                    second=grid,
                ) from error
        vrt = Path(self.path)
        with output_errors(vrt):
            vrt.parent.mkdir(exist_ok=True)
            replacing.write(vrt, _vrt(finest, bands, self.date).encode())
        self.trust()

    def trust(self) -> None:
        """Let this process open the VRT, remote sources included: the user's STAC items name them."""
        trust(self.path)


def _vrt(grid: Grid, bands: Sequence[_Band], date: str) -> str:
    t = grid.transform
    origins = list(dict.fromkeys(band.scaling.source for band in bands if band.scaling.source))
    lines = [
        f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">',
        f"<SRS>{escape(grid.crs.to_wkt())}</SRS>",
        f"<GeoTransform>{', '.join(repr(float(v)) for v in (t.c, t.a, t.b, t.f, t.d, t.e))}</GeoTransform>",
        f'<Metadata><MDI key="ACQUISITIONDATETIME">{date}</MDI>',
        f'<MDI key="{SCALING_TAG}">{escape(", ".join(origins))}</MDI>' if any(origins) else "",
        "</Metadata>",
    ]
    for number, band in enumerate(bands, 1):
        lines += band.vrt(number, grid)
    return "\n".join([*filter(None, lines), "</VRTDataset>\n"])


def _scaling(
    dataset: DatasetReader,
    path: str,
    index: int,
    declared: tuple[float | None, float | None],
    processing: Mapping[str, str],
) -> Scaling:
    """Return the scaling of a band: that of its STAC item, else its own, else that of its product."""
    scale, offset = declared
    if any(is_offset_applied(name, value) for name, value in processing.items()):
        offset = 0.0  # the item may still have the offset of the original
    if offset is not None:
        return Scaling((1.0 if scale is None else scale,), (offset,), "STAC item")
    scaling = scaling_of(dataset, path, [index], processing)
    if scaling.scales:
        return scaling
    return Scaling((1.0,), (0.0,)) if scale is None else Scaling((scale,), (0.0,), "STAC item")


def _gdal(path: str) -> str:
    """Return a path or URL as GDAL spells it: inside a VRT rasterio does not translate URLs."""
    if path.startswith("file:"):
        return local_path(path)
    scheme, colon, rest = path.partition("://")
    if scheme in ("http", "https"):
        return f"/vsicurl/{path}"
    return f"{_SCHEMES[scheme]}/{rest}" if colon and scheme in _SCHEMES else path


__all__ = ["Stack"]
