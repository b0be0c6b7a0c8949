"""Rasters in and out: open, compare grids, read windows with their valid area, write the probability.

The only module that opens raster files. Reading is by window, so that memory does not depend on the size
of the raster; the valid area of both dates is joined at the moment of reading.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import json
import math
import os
import shutil
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
import rasterio.warp
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Interleaving, MaskFlags, Resampling
from rasterio.errors import CRSError, RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.windows import Window

from geocd import sources
from geocd.align import Warp
from geocd.errors import (
    BandError,
    GridError,
    NoValidPixelError,
    OutputError,
    RasterOpenError,
    RasterReadError,
)
from geocd.types import BoolArray, Float32Array, PixelArray

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter


BLOCK_SIZE = 512
#: More than this in one raster is a damaged header, or nothing that a run could end with.
MOST_PIXELS, MOST_BANDS = 10**12, 10_000
#: Bytes of a block, which is decoded as a whole.
MOST_BLOCK = 2**28
#: Bytes of pixels for a byte of the file. The best packers reach some thousands, a file of empty tiles 65536.
MOST_PACKED = 10**5
#: VRTs of VRTs.
MOST_VRTS = 10


class Openable(Protocol):
    """A raster that is no file: it has a name for messages, and opens as what reads like a dataset."""

    @property
    def name(self) -> str:
        """What to call it."""

    def open(self) -> Any:
        """Return what is read."""


#: Where a raster comes from.
Source = str | os.PathLike[str] | Openable


def source_name(source: Source) -> str:
    """Return what to call a source: its path or URL, or its own name."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else source.name


#: Two grids are one when no corner is further apart than this, in pixels. Tools that write the same grid
#: differ in the last digits of the transform; a real misregistration is a hundred times larger.
GRID_TOLERANCE_PX = 0.01


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where the pixels are: coordinate reference system, transform and size.

    Attributes
    ----------
    crs : rasterio.crs.CRS
    transform : affine.Affine
        Pixel ``(col, row)`` to coordinates ``(x, y)``, upper left corner of the pixel.
    height, width : int
        Size in pixels.
    """

    crs: CRS
    transform: Affine
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.height, self.width

    @property
    def window(self) -> Window:
        """The whole grid as one window."""
        return Window(0, 0, self.width, self.height)

    @property
    def pixel_size(self) -> float | None:
        """Side of a pixel in metres, on the ground at the centre of the grid; None where not known.

        The root of the pixel's area in longitude and latitude, so that degrees and stretched projections
        (web mercator) give metres too.
        """
        t, row, col = self.transform, self.height / 2, self.width / 2
        x0, y0 = t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f
        try:
            lon, lat = rasterio.warp.transform(
                self.crs, CRS.from_epsg(4326), [x0, x0 + t.a, x0 + t.b], [y0, y0 + t.d, y0 + t.e]
            )
        except (RasterioError, CPLE_BaseError):  # rasterio lets GDAL's own errors through
            return None
        east = [111_320 * math.cos(math.radians(lat[0])) * (value - lon[0]) for value in lon]
        north = [110_574 * (value - lat[0]) for value in lat]
        area = abs(east[1] * north[2] - east[2] * north[1])
        return math.sqrt(area) if 0 < area < math.inf else None

    def crop(self, window: Window) -> Grid:
        """Return the grid of a window of this grid."""
        t, col, row = self.transform, window.col_off, window.row_off
        # by hand: rasterio.windows.transform warns of a deprecation with affine 3
        origin = Affine(t.a, t.b, t.a * col + t.b * row + t.c, t.d, t.e, t.d * col + t.e * row + t.f)
        return Grid(self.crs, origin, int(window.height), int(window.width))

    def corners(self) -> list[tuple[float, float]]:
        """Return the four outer corners as ``(x, y)``: upper left, upper right, lower right, lower left."""
        t = self.transform
        ends = ((0, 0), (self.width, 0), (self.width, self.height), (0, self.height))
        return [(t.a * c + t.b * r + t.c, t.d * c + t.e * r + t.f) for c, r in ends]

    def describe(self) -> str:
        """Return the grid in the words of an error message."""
        t = self.transform
        turned = f"rotation ({t.b:.10g}, {t.d:.10g}), " if t.b or t.d else ""
        return (
            f"{crs_name(self.crs)}, origin ({t.c:.10g}, {t.f:.10g}), pixel ({t.a:.10g}, {t.e:.10g}), "
            f"{turned}{self.width} x {self.height} px"
        )


def crs_name(crs: CRS | None) -> str:
    """Return the shortest unambiguous name of a CRS: ``EPSG:32633``, or its WKT."""
    if crs is None:
        return "none"
    try:
        authority = crs.to_authority()
        return ":".join(authority) if authority else str(crs.to_wkt())
    except (CRSError, CPLE_BaseError):  # of a damaged file: nobody can write it down
        return "unknown"


def same_crs(first: CRS, second: CRS) -> bool:
    """Tell whether two CRSs are equal, however they are spelt (EPSG code, WKT1, WKT2, axis order)."""
    if first == second:
        return True
    from pyproj import CRS as ProjCRS  # 0.1 s to import, needed only when the spelling differs
    from pyproj.exceptions import ProjError

    try:
        one, two = ProjCRS.from_wkt(first.to_wkt()), ProjCRS.from_wkt(second.to_wkt())
    except ProjError:  # one that nobody else understands is like no other
        return False
    return bool(one.equals(two, ignore_axis_order=True))


def same_grid(first: Grid, second: Grid) -> bool:
    """Tell whether two grids are one: no corner more than 0.01 px apart."""
    return _difference(first, second) is None


def check_same_grid(
    first: Grid, second: Grid, names: tuple[str, str] = ("before", "after"), remedy: str | None = None
) -> None:
    """Raise :class:`GridError` unless both grids are one.

    Parameters
    ----------
    first, second : Grid
    names : tuple of str
        What to call them in the message (paths).
    remedy : str, optional
        What the message says can be done; default: to warp one raster onto the other.

    Raises
    ------
    GridError
        CRS, transform (more than 0.01 px apart at any corner) or size differ. The message gives both
        values and the remedy.
    """
    problem = _difference(first, second)
    if problem is None:
        return
    what, ours, theirs = problem
    if remedy is None:
        remedy = (
            "Warp one onto the grid of the other first, for instance: "
            f"rio warp {names[1]} aligned.tif --like {names[0]}"
        )
    raise GridError(
        f"the two rasters have different {what}: {ours} in {names[0]}, {theirs} in {names[1]}. {remedy}",
        first=first,
        second=second,
        files=names,
    )


def _difference(first: Grid, second: Grid) -> tuple[str, str, str] | None:
    """Return in what two grids differ, and the values of both."""
    if not same_crs(first.crs, second.crs):
        return "coordinate reference systems", crs_name(first.crs), crs_name(second.crs)
    if first.shape != second.shape:
        return "sizes", f"{first.width} x {first.height} px", f"{second.width} x {second.height} px"
    pixel = min(math.hypot(first.transform.a, first.transform.d), 1e300)
    apart = max(math.dist(a, b) for a, b in zip(first.corners(), second.corners(), strict=True))
    if not apart <= GRID_TOLERANCE_PX * pixel:
        return "transforms", first.describe(), second.describe()
    return None


def open_raster(path: str) -> DatasetReader:
    """Open a raster for reading, with an error that names the file and the remedy.

    What a local file names beside itself must be local, see :mod:`geocd.sources`.

    Parameters
    ----------
    path : str
        Anything GDAL opens: a file, ``s3://``, ``https://``, ``/vsizip/...``, a VRT.

    Raises
    ------
    RasterOpenError
        The file does not exist, may not be read, is no raster, names what must not be followed, or claims
        what no computer can read.
    """
    sources.check_name(path)
    try:
        dataset = _open(path, ())
    except (RasterioError, CPLE_BaseError, UnicodeError) as error:
        raise RasterOpenError(_why_not(path, error), path=path) from error
    try:
        _check_claims(dataset, path)
    except BaseException:
        dataset.close()
        raise
    return dataset


def _why_not(path: str, error: BaseException) -> str:
    """Return why a raster cannot be opened, and what to do."""
    local = Path(path)
    if not ("://" in path or path.startswith(("/vsi", "<"))):
        try:
            there = local.exists()
        except OSError:  # a name that is too long
            there = False
        if not there:
            return f"{path}: no such file. Check the path (relative to {Path.cwd()})."
        if local.is_dir():
            return f"{path}: is a folder, a raster file is needed. Name the file inside it."
        if not os.access(path, os.R_OK):
            return f"{path}: permission denied. Make the file readable for this user."
    return (
        f"{path}: not a raster that GDAL can read ({_reason(error)}). "
        f"'rio info {path}' shows what GDAL sees; convert it to GeoTIFF or copy it again."
    )


def _open(path: str, above: tuple[str, ...]) -> DatasetReader:
    """Open a raster once all that it names has been looked at.

    ``above`` are the VRTs that lead to it.
    """
    path = path.removeprefix("file://")
    shorthand = path.casefold().startswith("vrt://")  # a part of another raster
    inner = path[len("vrt://") :].partition("?")[0] if shorthand else path
    if shorthand:
        _open(inner, above).close()
    if sources.is_remote(path) or (shorthand and sources.may_reach(inner)):
        with rasterio.Env(GDAL_VRT_ENABLE_PYTHON="NO"):
            dataset = rasterio.open(path)
        if dataset.driver == "VRT":
            _check_vrt(path, above, dataset, follow=True)
        return dataset
    vrt = not shorthand and sources.is_vrt(path)
    if vrt:
        _check_vrt(path, above, follow=True)
    sources.check_boxes(inner)
    reach = sources.may_reach(inner)
    # The formats but VRT, by their names: what was not seen to be a VRT must not be taken for one.
    drivers = ["VRT"] if vrt or shorthand else _drivers(reaching=reach)
    with rasterio.Env(
        GDAL_VRT_ENABLE_PYTHON="NO", **({} if reach else {"CPL_VSIL_CURL_ALLOWED_FILENAME": "none"})
    ):
        dataset = DatasetReader(path, driver=drivers)
        if vrt:
            _check_vrt(path, above, dataset, follow=False)  # as GDAL has understood it
        overview = dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE", "")
    if (sources.is_remote(overview) or "://" in overview) and not reach:
        dataset.close()
        raise RasterOpenError(
            f"{path}: names overviews on the network ({sources.shown(overview)}), and is not followed: a "
            f"file must not decide what is fetched. If you trust it, set {sources.ALLOW}=YES.",
            path=path,
            source=overview,
        )
    return dataset


#: Files that VRTs name and that lead no further: a mosaic of thousands is opened more than once.
_looked_at: set[tuple[str, int, int]] = set()


def _identity(path: str) -> tuple[str, int, int] | None:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return os.path.realpath(path), status.st_mtime_ns, status.st_size


def _check_vrt(
    path: str, above: tuple[str, ...], dataset: DatasetReader | None = None, *, follow: bool
) -> None:
    """Look at all that a VRT (as it stands in the file, or as GDAL has opened it) names, and that in turn.

    Raises
    ------
    RasterOpenError
        See :func:`geocd.sources.vrt_sources`; or a VRT leads to itself.
    """
    own = path if path.lstrip().startswith("<") else os.path.realpath(path)
    if own in above or len(above) >= MOST_VRTS:
        raise RasterOpenError(
            f"{path}: VRTs that include each other ({' -> '.join((*above, own))}). Make it anew with "
            "gdalbuildvrt from the images.",
            path=path,
        )
    text = None if dataset is None else dataset.tags(ns="xml:VRT").get("xml:VRT")
    seen = set()
    for source in sources.vrt_sources(path, text):
        if not follow or source in seen or sources.is_remote(source):
            continue
        seen.add(source)
        if (found := _identity(source)) in _looked_at:
            continue
        try:
            _open(source, (*above, own)).close()
            if found is not None and not sources.is_vrt(source):
                _looked_at.add(found)
        except (RasterioError, CPLE_BaseError, UnicodeError) as error:
            raise RasterOpenError(f"{path}: names a source. {_why_not(source, error)}", path=path) from error


@functools.cache
def _drivers(*, reaching: bool) -> list[str]:
    """Return the names of all formats of local files but VRT."""
    with rasterio.Env() as env:
        known = env.drivers()
    return [name for name in known if name != "VRT" and (reaching or name not in sources.REACHING)]


def _check_claims(dataset: DatasetReader, path: str) -> None:
    """Raise :class:`RasterOpenError` for what no computer could read, before anything is reserved for it."""
    height, width, count = dataset.height, dataset.width, dataset.count
    size = f"{width} x {height} px in {count} bands"
    pixels = height * width
    if count > MOST_BANDS or pixels >= MOST_PIXELS:
        raise RasterOpenError(
            f"{path}: claims {size}, more than {MOST_BANDS} bands or {MOST_PIXELS:.0e} pixels. Is the file "
            "damaged? If not, cut it into parts.",
            path=path,
            shape=(count, height, width),
        )
    if count == 0:
        return
    item = np.dtype(dataset.dtypes[0]).itemsize if dataset.dtypes[0] != "complex_int16" else 4
    rows, cols = dataset.block_shapes[0]
    together = count if dataset.interleaving == Interleaving.pixel else 1
    if (block := rows * cols * item * together) > MOST_BLOCK:
        raise RasterOpenError(
            f"{path}: is stored in blocks of {cols} x {rows} px, and one of them takes {block / 2**20:.0f} "
            f"MB ({MOST_BLOCK >> 20} MB can be read). Write it in tiles first: "
            f"gdal_translate -co TILED=YES {path} tiled.tif",
            path=path,
            block=(rows, cols),
        )
    claimed = pixels * count * item
    if dataset.driver in ("GTiff", "JP2OpenJPEG") and claimed > MOST_BLOCK and sources.is_file(path):
        stored = Path(path).stat().st_size
        if claimed > stored * MOST_PACKED:
            raise RasterOpenError(
                f"{path}: claims {size}, but is a file of {stored} bytes, which can hold nothing of the "
                "kind. It is damaged or was never finished: copy or download it again.",
                path=path,
                shape=(count, height, width),
                size=stored,
            )


def _reason(error: BaseException) -> str:
    """The innermost message of a rasterio error, the outer one only says 'see context'; or the system's."""
    while error.__cause__ is not None or error.__context__ is not None:
        if isinstance(error, OSError) and error.errno is not None:  # the context is what led to it
            break
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(str(error).split())


def read(dataset: DatasetReader, path: str, window: Window, **kwargs: Any) -> PixelArray:
    """Read a window, with :class:`RasterReadError` naming the file where the pixels are damaged."""
    try:
        return dataset.read(window=window, **kwargs)  # type: ignore[no-any-return]
    except RasterioIOError as error:
        raise RasterReadError(
            f"{path}: pixels of window (row {window.row_off}, col {window.col_off}, "
            f"{window.height} x {window.width}) cannot be read ({_reason(error)}). "
            "The file is truncated or damaged: copy or download it again.",
            path=path,
        ) from error


def grid_of(dataset: DatasetReader, path: str) -> Grid:
    """Return the grid of an open raster.

    Raises
    ------
    GridError
        The raster has no CRS, or a transform that nothing can be measured with.
    """
    if not _has_crs(dataset):
        raise GridError(
            f"{path}: the raster has no coordinate reference system, so nothing measured on it "
            "has a place or an area. Write the right one into it, for instance: "
            f"rio edit-info --crs EPSG:32633 {path}",
            path=path,
        )
    t = dataset.transform
    size = abs(t.a * t.e - t.b * t.d)
    if not (0 < size < math.inf and math.isfinite(t.c) and math.isfinite(t.f)):
        raise GridError(
            f"{path}: its transform gives a pixel no area (origin ({t.c:.10g}, {t.f:.10g}), pixel "
            f"({t.a:.10g}, {t.e:.10g}), rotation ({t.b:.10g}, {t.d:.10g})). Write the right one into it: "
            f"rio edit-info --transform '[...]' {path}",
            path=path,
        )
    return Grid(dataset.crs, t, dataset.height, dataset.width)


def _has_crs(dataset: DatasetReader) -> bool:
    """Tell whether a raster has a coordinate reference system that can be written down."""
    try:
        return dataset.crs is not None and bool(dataset.crs.to_wkt())
    except (CRSError, CPLE_BaseError):
        return False


@dataclasses.dataclass(frozen=True)
class Chip:
    """Pixels of both dates at one place.

    Attributes
    ----------
    before, after : ndarray, (bands, height, width), float32 or float64
        Raw values, finite everywhere; 0 where not valid. float64 only for inputs that float32 cannot
        hold (32-bit integers and float64), until the statistics have centred them.
    valid : ndarray, (height, width), bool
        True where every chosen band of both dates is usable.
    window : rasterio.windows.Window
        The place.
    """

    before: PixelArray
    after: PixelArray
    valid: BoolArray
    window: Window

    def part(self, rows: slice, cols: slice) -> Chip:
        """Return some rows and columns of this chip, counted from its own first: views, not copies."""
        valid = self.valid[rows, cols]
        place = Window(
            self.window.col_off + (cols.start or 0),
            self.window.row_off + (rows.start or 0),
            *valid.shape[::-1],
        )
        return Chip(self.before[:, rows, cols], self.after[:, rows, cols], valid, place)


class Pair:
    """A before and an after raster, read by window on one grid: that of the before raster.

    Opening checks everything that can be known without reading a pixel.

    Parameters
    ----------
    before, after : str or Openable
        Paths or URLs, or what else can be read like a raster.
    indexes : sequence of int, optional
        Band numbers, from 1, taken from both dates. Default: all bands but alpha.
    nodata : float, optional
        Overrides the nodata value of both rasters.
    valid : str or Openable, optional
        A raster whose first band is non-zero where the pair is usable, on the grid of the before raster
        (with ``align``, on any).
    align : bool
        Whether the after raster may have another grid, and is warped while it is read. What it does not
        cover is not valid.

    Attributes
    ----------
    grid : Grid
        Of the before raster.
    after_grid : Grid
        The after raster's own.
    warp, valid_warp : Warp or None
        How the after raster and ``valid`` are warped; None where they are read as they are.
    indexes : tuple of int
    band_names : tuple of str

    Raises
    ------
    RasterOpenError, GridError, BandError

    Notes
    -----
    A pixel is valid when every chosen band of both dates is finite, is not nodata, and is not masked by
    an alpha band or a dataset mask. One bad band spoils the pixel: a -9999 in one band would otherwise
    be read as an enormous change. Reading is safe from several threads: each has its own handles,
    because a GDAL dataset must not be shared.
    """

    def __init__(
        self,
        before: Source,
        after: Source,
        *,
        indexes: Sequence[int] | None = None,
        nodata: float | None = None,
        valid: Source | None = None,
        align: bool = False,
    ) -> None:
        self.sources: tuple[Source, Source, Source | None] = before, after, valid
        self.before_path, self.after_path = source_name(before), source_name(after)
        self.valid_path = None if valid is None else source_name(valid)
        self._nodata = nodata
        self._align = align
        self._no_handles()
        try:
            self._check(indexes)
        except BaseException:
            self.close()
            raise

    def _check(self, indexes: Sequence[int] | None) -> None:
        one, two, extra = self._datasets()
        self.grid = grid_of(one, self.before_path)
        self.after_grid = grid_of(two, self.after_path)
        self.warp = self._onto_grid(self.after_grid, self.after_path)
        self.valid_warp: Warp | None = None
        if extra is not None:
            assert self.valid_path is not None
            self.valid_warp = self._onto_grid(grid_of(extra, self.valid_path), self.valid_path)
        self.indexes = self._choose_bands(one, two, indexes)
        self.band_names = tuple(_band_name(one, i) or _band_name(two, i) or f"band {i}" for i in self.indexes)
        self.dtypes = (one.dtypes[self.indexes[0] - 1], two.dtypes[self.indexes[0] - 1])
        self.tags = (dict(one.tags()), dict(two.tags()))
        wide = {"float64", "int32", "uint32", "int64", "uint64"}
        self._dtype = (
            np.float64
            if any(ds.dtypes[i - 1] in wide for ds in (one, two) for i in self.indexes)
            else np.float32
        )

    @property
    def itemsize(self) -> int:
        """Bytes of a value of a chip."""
        return np.dtype(self._dtype).itemsize

    def _onto_grid(self, grid: Grid, path: str) -> Warp | None:
        """Return how a raster gets onto the grid of the pair; None where it is on it."""
        names = self.before_path, path
        if not self._align:
            remedy = "--align grid warps the second onto the grid of the first while reading."
            check_same_grid(self.grid, grid, names, remedy)
        if same_grid(self.grid, grid):
            return None
        if same_crs(self.grid.crs, grid.crs):  # in one spelling nothing needs to be transformed
            grid = dataclasses.replace(grid, crs=self.grid.crs)
        return Warp.between(grid, self.grid, names)

    def set_shift(self, row: float, col: float) -> None:
        """Read the after raster as if its content lay so many pixels further up and to the left.

        Parameters
        ----------
        row, col : float
            Pixels of the pair's grid that the content of the after raster lies down and to the right of
            that of the before raster. It is resampled once, also where it has another grid.
        """
        warp = self.warp or Warp.between(dataclasses.replace(self.after_grid, crs=self.grid.crs), self.grid)
        self.warp = dataclasses.replace(warp, shift=(row, col))

    def _choose_bands(
        self, one: DatasetReader, two: DatasetReader, indexes: Sequence[int] | None
    ) -> tuple[int, ...]:
        def colour(dataset: DatasetReader) -> list[int]:
            return [
                i
                for i, what in zip(dataset.indexes, dataset.colorinterp, strict=True)
                if what != ColorInterp.alpha
            ]

        if indexes is None:
            ours, theirs = colour(one), colour(two)
            if len(ours) != len(theirs):
                raise BandError(
                    f"different band counts: {len(ours)} in {self.before_path}, {len(theirs)} in "
                    f"{self.after_path}. Choose bands that both have with --bidx, for instance "
                    f"--bidx 1..{min(len(ours), len(theirs))}",
                    before=len(ours),
                    after=len(theirs),
                )
            chosen = tuple(ours)
        else:
            chosen = tuple(indexes)
        if not chosen:
            raise BandError(f"{self.before_path}: no band to compare. Choose one with --bidx.", indexes=())
        for dataset, path in ((one, self.before_path), (two, self.after_path)):
            for index in chosen:
                if not 1 <= index <= dataset.count:
                    raise BandError(
                        f"{path}: band {index} does not exist, the raster has bands 1 to "
                        f"{dataset.count}. Choose among these with --bidx.",
                        path=path,
                        index=index,
                        count=dataset.count,
                    )
                if np.dtype(dataset.dtypes[index - 1]).kind not in "iuf":
                    raise BandError(
                        f"{path}: band {index} is {dataset.dtypes[index - 1]}, and complex values "
                        "cannot be compared. Write amplitude or intensity (real numbers) first.",
                        path=path,
                        index=index,
                        dtype=dataset.dtypes[index - 1],
                    )
        return chosen

    def _no_handles(self) -> None:
        self._local = threading.local()
        self._handles: list[DatasetReader] = []
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but open files: a pair may travel to another process."""
        return {key: value for key, value in vars(self).items() if key not in ("_local", "_handles", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._no_handles()

    def reading(self, before: Source, after: Source, valid: Source | None = None) -> Pair:
        """Return this pair, with all that is known of it, reading its pixels from other sources."""
        other = copy.copy(self)
        other.sources = before, after, valid
        return other

    def _datasets(self) -> tuple[DatasetReader, DatasetReader, DatasetReader | None]:
        """This thread's own handles."""
        if not hasattr(self._local, "datasets"):
            opened: list[DatasetReader | None] = []
            for source in self.sources:
                if source is None:
                    opened.append(None)
                    continue
                if isinstance(source, str | os.PathLike):
                    dataset = open_raster(os.fspath(source))
                else:
                    dataset = source.open()
                with self._lock:
                    self._handles.append(dataset)
                opened.append(dataset)
            self._local.datasets = tuple(opened)
        return self._local.datasets  # type: ignore[no-any-return]

    def read(self, window: Window) -> Chip:
        """Read the pixels of both dates inside a window, with their joint valid area.

        Parameters
        ----------
        window : rasterio.windows.Window
            Whole pixels, inside the grid.

        Raises
        ------
        RasterReadError
            The file is truncated or damaged there.
        """
        one, two, extra = self._datasets()
        indexes = list(self.indexes)
        before, valid = read_date(one, self.before_path, window, indexes, self._dtype, nodata=self._nodata)
        after, usable = read_date(
            two, self.after_path, window, indexes, self._dtype, nodata=self._nodata, warp=self.warp
        )
        valid &= usable
        if extra is not None:
            assert self.valid_path is not None
            valid &= read_date(
                extra, self.valid_path, window, [1], np.float64, warp=self.valid_warp, zero_is_valid=False
            )[1]
        for values in (before, after):
            values[:, ~valid] = 0
        return Chip(before, after, valid, window)

    def no_valid_pixel(self) -> NoValidPixelError:
        """Return the error for a pair that has no jointly valid pixel."""
        one, two, _ = self._datasets()
        return NoValidPixelError(
            f"no pixel is valid in both {self.before_path} (nodata {one.nodata}) and "
            f"{self.after_path} (nodata {two.nodata})"
            + (f" and {self.valid_path}" if self.valid_path else "")
            + ". Check the nodata values (--nodata overrides them), the masks and the overlap.",
            before=self.before_path,
            after=self.after_path,
        )

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for dataset in self._handles:
                dataset.close()
            self._handles.clear()

    def __enter__(self) -> Pair:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_date(
    dataset: DatasetReader,
    path: str,
    window: Window,
    indexes: list[int],
    dtype: npt.DTypeLike = np.float32,
    *,
    nodata: float | None = None,
    warp: Warp | None = None,
    zero_is_valid: bool = True,
) -> tuple[PixelArray, BoolArray]:
    """Read bands inside a window and where they are valid, warped if need be.

    Parameters
    ----------
    dataset : rasterio dataset
    path : str
    window : rasterio.windows.Window
        Of the raster, or of the target of ``warp``.
    indexes : list of int
    dtype : data type
        float32 or float64.
    nodata : float, optional
        Overrides the nodata value.
    warp : Warp, optional
        Its source is the grid of the raster.
    zero_is_valid : bool
        Whether 0 in any band is a value.

    Returns
    -------
    values : ndarray, (bands, height, width)
        Anything where not valid.
    valid : ndarray, (height, width), bool

    Raises
    ------
    RasterReadError
    """
    if warp is None:
        values = read(dataset, path, window, indexes=indexes)
        declared = [dataset.nodatavals[i - 1] for i in indexes]
        unknown = declared if nodata is None else [nodata] * len(indexes)
        valid = _usable(dataset, path, window, indexes, values, unknown)
        if not zero_is_valid:
            valid &= (values != 0).all(axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            values = values.astype(dtype)
        # The square of a value must still be finite, or a fill value such as 1e38 becomes
        # infinite inside the statistics.
        valid &= (np.abs(values) < 1e15).all(axis=0)
        return values, valid
    top, left = int(window.row_off), int(window.col_off)
    height, width = int(window.height), int(window.width)
    values = np.zeros((len(indexes), height, width), dtype)
    valid = np.zeros((height, width), dtype=bool)
    for block in warp.blocks(window):
        needed = warp.needed(block)
        if needed is None:
            continue
        found = read_date(dataset, path, needed, indexes, dtype, nodata=nodata, zero_is_valid=zero_is_valid)
        warped, known = resample(warp, *found, needed, block)
        row, col = block.row_off - top, block.col_off - left
        rows = slice(max(0, row), min(height, row + block.height))
        cols = slice(max(0, col), min(width, col + block.width))
        part = slice(rows.start - row, rows.stop - row), slice(cols.start - col, cols.stop - col)
        values[:, rows, cols] = warped[(slice(None), *part)]
        valid[rows, cols] = known[part]
    return values, valid


def resample(
    warp: Warp, values: PixelArray, valid: BoolArray, origin: Window, window: Window
) -> tuple[PixelArray, BoolArray]:
    """Resample source pixels onto a window of the target of a warp.

    Parameters
    ----------
    warp : Warp
    values : ndarray, (bands, height, width), float32 or float64
    valid : ndarray, (height, width), bool
    origin : rasterio.windows.Window
        Their place in the source: what ``warp.needed`` said.
    window : rasterio.windows.Window
        The place in the target: one of ``warp.blocks``.

    Returns
    -------
    values : ndarray, (bands, height, width), same type
        0 where not valid.
    valid : ndarray, (height, width), bool
        True where half the weight or more comes from valid source pixels. What is not valid has no weight
        in the values, and what lies outside the source is not valid.
    """
    # around the source, nothing: else GDAL would stretch its border over the pixels that it cuts
    rows, cols = (math.ceil(2 * max(1.0, scale)) + 1 for scale in warp.scale)
    source = warp.source.crop(
        Window(
            origin.col_off - cols, origin.row_off - rows, origin.width + 2 * cols, origin.height + 2 * rows
        )
    )
    target = warp.places(window)
    bands = list(range(1, len(values) + 2))
    # Of arrays rasterio would make datasets in memory too, but silence a warning in a way that is not safe
    # between threads.
    with (
        _in_memory(source, len(bands), values.dtype) as given,
        _in_memory(target, len(bands), values.dtype) as made,
    ):
        inner = np.full((len(bands), *source.shape), np.nan, values.dtype)
        place = slice(rows, rows + int(origin.height)), slice(cols, cols + int(origin.width))
        inner[(slice(0, -1), *place)] = np.where(valid, values, np.nan)
        inner[-1] = 0
        inner[(-1, *place)] = valid
        given.write(inner)
        rasterio.warp.reproject(
            rasterio.band(given, bands),
            rasterio.band(made, bands),
            src_nodata=math.nan,
            dst_nodata=math.nan,
            resampling=Resampling[warp.resampling],
            num_threads=1,
            # coordinates are computed for every pixel and not interpolated along rows
            tolerance=0,
            # and the width of the kernel is that of the scene: GDAL's own differs between windows
            XSCALE=1 / warp.scale[1],
            YSCALE=1 / warp.scale[0],
            UNIFIED_SRC_NODATA="NO",
        )
        found = made.read()
    with np.errstate(invalid="ignore"):
        known = (found[-1] >= 0.5) & np.isfinite(found).all(axis=0)
    found[:, ~known] = 0
    return found[:-1], known


def _in_memory(grid: Grid, count: int, dtype: npt.DTypeLike) -> DatasetWriter:
    return rasterio.open(
        "",
        "w+",
        driver="MEM",
        count=count,
        height=grid.height,
        width=grid.width,
        dtype=dtype,
        crs=grid.crs,
        transform=grid.transform,
        nodata=math.nan,
    )


def _band_name(dataset: DatasetReader, index: int) -> str | None:
    """The band's description, else its colour."""
    colour = dataset.colorinterp[index - 1]
    named = colour.name if colour in (ColorInterp.red, ColorInterp.green, ColorInterp.blue) else None
    return dataset.descriptions[index - 1] or named


def _room(path: Path) -> str:
    """Say how little room is left on the disk: libraries have many words for that, or none."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return ""
    return f"; {free // 1024} kB are left on the disk" if free < 1024**2 else ""


@contextlib.contextmanager
def output_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what GDAL and the system raise while writing ``path`` into :class:`OutputError`."""
    try:
        yield
    except (RasterioError, CPLE_BaseError, OSError) as error:
        if isinstance(error, OutputError | RasterReadError | RasterOpenError):
            raise
        raise OutputError(
            f"{os.fspath(path)}: cannot be written ({_reason(error)}{_room(Path(path))}). Check that the "
            "folder is writable and the disk has room, then run again; nothing was left behind.",
            path=os.fspath(path),
        ) from error


def _usable(
    dataset: DatasetReader,
    path: str,
    window: Window,
    indexes: list[int],
    values: PixelArray,
    nodata: Sequence[float | None],
) -> BoolArray:
    """Tell where no band is nodata and neither an alpha band nor a dataset mask rules the pixel out.

    GDAL's own mask heeds only one of these: nodata shadows alpha, and an internal mask shadows nodata.
    """
    usable = np.ones(values.shape[1:], dtype=bool)
    # A nodata value that the data type cannot hold (-1.8e308 in float32) becomes infinite here.
    with np.errstate(over="ignore"):
        for band, value in zip(values, nodata, strict=True):
            if value is not None and not math.isnan(value):  # NaN is ruled out with all that is not finite
                usable &= band != value
    alpha = [
        i
        for i, what in zip(dataset.indexes, dataset.colorinterp, strict=True)
        if what == ColorInterp.alpha and i not in indexes
    ]
    try:
        for index in alpha:
            usable &= dataset.read(index, window=window) != 0
        masked = [
            i
            for i in indexes
            if MaskFlags.per_dataset in (flags := dataset.mask_flag_enums[i - 1])
            and MaskFlags.alpha not in flags
        ]
        if masked:
            usable &= (dataset.read_masks(masked, window=window) != 0).all(axis=0)
    except RasterioIOError as error:
        raise RasterReadError(
            f"{path}: its mask cannot be read ({_reason(error)}). "
            "The file is truncated or damaged: copy or download it again.",
            path=path,
        ) from error
    return usable


#: Said of a result whose file is not what was written into it.
NOT_AS_WRITTEN = "what was read back is not what was written: is the disk full?"


class ProbWriter:
    """Write the probability raster: block rows into a temporary tiled GeoTIFF, then one COG.

    GDAL's COG driver needs the whole image at once (1.6 GB for 20000 x 20000 px); a tiled GeoTIFF beside
    it takes one block row at a time.

    Parameters
    ----------
    path : path
        The COG to be made by :meth:`finish`.
    grid : Grid
    tags : mapping of str
        Written into the default domain; a namespace would be lost in the COG copy.
    descriptions : sequence of str
        One per band; the first is ``change_probability``.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        *,
        tags: Mapping[str, str],
        descriptions: Sequence[str] = ("change_probability",),
    ) -> None:
        self.path = path
        self.grid = grid
        self._tags = dict(tags)
        self._written: list[tuple[Window, int]] = []
        self._temporary = path.with_name(path.stem + ".tiles.tif")
        with output_errors(path):
            self._dataset: DatasetWriter = rasterio.open(
                self._temporary,
                "w",
                driver="GTiff",
                height=grid.height,
                width=grid.width,
                count=len(descriptions),
                dtype="float32",
                crs=grid.crs,
                transform=grid.transform,
                nodata=math.nan,
                tiled=True,
                blockxsize=BLOCK_SIZE,
                blockysize=BLOCK_SIZE,
                interleave="band",
                compress="deflate",
                zlevel=1,  # read once and deleted
                predictor=3,
                bigtiff="IF_SAFER",
                sparse_ok=True,
            )
            for index, description in enumerate(descriptions, 1):
                self._dataset.set_band_description(index, description)

    def write(self, row: int, values: Float32Array) -> None:
        """Write whole rows, ``(bands, rows, width)``, beginning at ``row`` (a multiple of the block)."""
        window = Window(0, row, values.shape[2], values.shape[1])
        with output_errors(self.path):
            self._dataset.write(values, window=window)
        self._written.append((window, _checksum(values)))

    def finish(self) -> None:
        """Write the tags, make the COG, read it back and delete the temporary file.

        Raises
        ------
        OutputError
            The disk is full, or what was read back is not what was written.
        """
        with output_errors(self.path):
            self._dataset.update_tags(**self._tags)
            self._dataset.close()
            rasterio.shutil.copy(
                self._temporary,
                self.path,
                driver="COG",
                BLOCKSIZE=BLOCK_SIZE,
                COMPRESS="DEFLATE",
                PREDICTOR="YES",
                OVERVIEW_RESAMPLING="AVERAGE",
                STATISTICS="YES",
                BIGTIFF="IF_SAFER",
                NUM_THREADS="ALL_CPUS",
                # GDAL would make overviews as wide as the image, which no reader can tell apart
                **({"OVERVIEWS": "NONE"} if self.grid.width == 1 else {}),
            )
            self._temporary.unlink()
            # GDAL reports no error when the last bytes of a file do not fit on the disk any more, nor when
            # blocks are lost as a file is closed.
            with rasterio.open(self.path) as written:
                for window, checksum in self._written:
                    if _checksum(written.read(window=window)) != checksum:
                        raise OSError(NOT_AS_WRITTEN)
                _check_layout(written, self.path)

    def abort(self) -> None:
        """Close the temporary file, whatever state it is in; its folder is deleted by the caller."""
        with contextlib.suppress(RasterioError, CPLE_BaseError, OSError):
            self._dataset.close()


def _check_layout(written: DatasetReader, path: Path) -> None:
    """Raise unless the parts of a COG stand where GDAL puts them.

    Where a write fails as the file is closed, libtiff may put a directory at the end instead, and nobody
    hears of it: all pixels can be read, but not from afar with few requests. The layout: directories, then
    data; its size before each block and its last four bytes once more behind it
    (https://gdal.org/en/stable/drivers/raster/cog.html).

    Raises
    ------
    OSError
        A part stands elsewhere, or was not written.
    """

    def find(name: str, level: int | None) -> int:
        return int(written.get_tag_item(name, "TIFF", bidx=1, ovr=level) or 0)

    with path.open("rb") as file:
        for level in (None, *range(len(written.overviews(1)))):
            directory = find("IFD_OFFSET", level)
            options = {} if level is None else {"overview_level": level}
            with rasterio.open(path, **options) as image:
                blocks = [block for block, _ in image.block_windows(1)]
            for row, col in blocks:
                begin = find(f"BLOCK_OFFSET_{col}_{row}", level)
                size = find(f"BLOCK_SIZE_{col}_{row}", level)
                if not 0 < directory < begin:
                    raise OSError(NOT_AS_WRITTEN)
                file.seek(begin - 4)
                leader = file.read(4)
                file.seek(begin + size - 4)
                end, trailer = file.read(4), file.read(4)
                if leader != size.to_bytes(4, "little") or len(trailer) < 4 or end != trailer:
                    raise OSError(NOT_AS_WRITTEN)


def _checksum(values: PixelArray) -> int:
    """Return a checksum of values; every NaN counts as the same, whatever its bits."""
    return zlib.crc32(np.where(np.isnan(values), np.float32(np.nan), values).astype(np.float32).tobytes())


def bounded_cache(megabytes: int = 128) -> rasterio.Env:
    """Return the environment of a run: a block cache of this size, unless the user set another.

    GDAL's default is 5 % of the memory of the machine, gigabytes on a large one, for blocks that are read
    once. Unlike the environment variable, what rasterio sets is bytes, however small the number.
    """
    return rasterio.Env(**({} if "GDAL_CACHEMAX" in os.environ else {"GDAL_CACHEMAX": megabytes * 2**20}))


def provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a probability raster says about the run that made it (empty when it says nothing)."""
    with open_raster(os.fspath(path)) as dataset:
        text = dataset.tags().get("GEOCD_PROVENANCE", "{}")
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


__all__ = [
    "BLOCK_SIZE",
    "Chip",
    "Grid",
    "Openable",
    "Pair",
    "ProbWriter",
    "Source",
    "bounded_cache",
    "check_same_grid",
    "crs_name",
    "grid_of",
    "open_raster",
    "output_errors",
    "provenance",
    "read",
    "read_date",
    "resample",
    "same_crs",
    "same_grid",
    "source_name",
]
