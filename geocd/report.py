"""What a run says about itself: the record, the quick-look picture, the STAC item.

Everything here is read from files and from the record, never from the networks, so that a report can be
made again from outputs that exist. Memory does not grow with the rasters: pictures are read decimated.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import unicodedata
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.warp
import shapely
import shapely.affinity
from PIL import Image, ImageDraw, ImageFont
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

import geocd
from geocd.bands import named_colours
from geocd.outputs import SUFFIXES, sha256
from geocd.raster import Grid, crs_name, open_raster, output_errors, read

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Picture = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """How one result was made, in plain values.

    Attributes
    ----------
    before, after : str
        Paths or URLs as they were given.
    grid : Grid
        The grid of the pair and of every output.
    band_names : sequence of str
        The compared bands.
    settings : mapping
        The resolved configuration, ready for JSON.
    method : str
    preset : str or None
    threshold : float
        The decision: changed where ``prob >= threshold``.
    seed : int
    timings : mapping
        Seconds by stage.
    summary : mapping
        What came out: ``valid_share``, ``changed_share``, ``n_polygons``, ``area_m2``, ``seam_score``
        (jump of the probability across the borders of tiles over the jump beside them: 1 means no seam;
        None for a single tile; see :class:`geocd.mosaic.SeamScore`), ...
    date_before, date_after : str or None
        Acquisition, RFC 3339 in UTC; None where unknown.
    versions : mapping
        Version by software, see :func:`versions`.
    """

    before: str
    after: str
    grid: Grid
    band_names: Sequence[str]
    settings: Mapping[str, Any]
    method: str
    preset: str | None
    threshold: float
    seed: int
    timings: Mapping[str, float]
    summary: Mapping[str, Any]
    date_before: str | None
    date_after: str | None
    versions: Mapping[str, str]


def versions() -> dict[str, str]:
    """Return the version of everything that has a say in the result, by name.

    Distributions are asked for their metadata and not imported: torch alone takes seconds.
    """
    found = {"geocd": geocd.__version__, "python": platform.python_version()}
    for name in ("torch", "rasterio", "numpy", "scipy", "geopandas", "shapely"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # an extra that is not installed
            continue
    found["GDAL"] = rasterio.__gdal_version__
    found["PROJ"] = rasterio.__proj_version__
    return found


# --------------------------------------------------------------------------------------------------
# Acquisition dates

#: Tags that mean the acquisition, the most exact first. Sentinel-1/2 and Landsat readers of GDAL, STAC
#: and vendors' names for one thing.
_DATE_TAGS = (
    "ACQUISITIONDATETIME",
    "ACQUISITION_DATETIME",
    "DATATAKE_1_DATATAKE_SENSING_START",
    "SENSING_TIME",
    "PRODUCT_START_TIME",
    "ACQUISITION_START_TIME",
    "ACQUISITION_DATE",
    "ACQUISITIONDATE",
    "DATE_ACQUIRED",
)
_STAMP = re.compile(
    r"(?P<y>\d{4})(?P<s>[-:/]?)(?P<m>\d{2})(?P=s)(?P<d>\d{2})"
    r"(?:[T ]?(?P<H>\d{2}):?(?P<M>\d{2}):?(?P<S>\d{2})(?:\.\d+)?\s*(?P<zone>Z|UTC|[+-]\d{2}:?\d{2})?)?",
    re.IGNORECASE,
)
#: Products that carry a second date (of processing); the first group is the acquisition.
_PRODUCTS = (
    re.compile(r"^S1[A-D]_.*?_(\d{8}T\d{6})_\d{8}T\d{6}_"),
    re.compile(r"^S2[A-D]_(?:MSI|OPER).*?_(\d{8}T\d{6})_N\d{4}_R\d{3}_"),
    re.compile(r"^L[COTEM]0[1-9]_[A-Z0-9]{4}_\d{6}_(\d{8})_\d{8}_"),
)
_IN_NAME = re.compile(r"(?<!\d)(\d{4}-\d{2}-\d{2}|\d{8})(T\d{6}(?!\d))?(?!\d)")


def acquisition_date(tags: Mapping[str, str], path: str) -> str | None:
    """Return when an image was taken, RFC 3339 in UTC, or None when that is not sure.

    Tags that mean the acquisition come first, then the names of Sentinel and Landsat products, then a
    single date in the file name. ``TIFFTAG_DATETIME`` comes last: some vendors write the acquisition
    into it, but to TIFF it is the time of the file. A time without a zone is taken as UTC, a day
    without a time as its midnight.

    Parameters
    ----------
    tags : mapping of str
        Dataset tags as GDAL gives them.
    path : str
        Path or URL; only the last part is looked at.
    """
    upper = {key.upper(): value for key, value in tags.items()}
    for key in _DATE_TAGS:
        if date := _rfc3339(upper.get(key, "")):
            clock = upper.get("SCENE_CENTER_TIME", "").strip('"')  # Landsat: the time of DATE_ACQUIRED
            if key == "DATE_ACQUIRED" and (exact := _rfc3339(f"{date[:10]}T{clock}")):
                return exact
            return date
    name = path.split("?")[0].rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    for product in _PRODUCTS:
        if match := product.match(name):
            return _rfc3339(match[1])
    dates = {date for day, time in _IN_NAME.findall(name) if (date := _rfc3339(day + time))}
    if len({date[:10] for date in dates}) > 1:
        return None  # two different days: which of them is anybody's guess
    if dates:
        times = {date for date in dates if not date.endswith("T00:00:00Z")}
        return times.pop() if len(times) == 1 else f"{dates.pop()[:10]}T00:00:00Z"
    return _rfc3339(upper.get("TIFFTAG_DATETIME", ""))


def _rfc3339(text: str) -> str | None:
    """A date as GDAL tags and file names spell it, in UTC; None for anything else."""
    match = _STAMP.fullmatch(text.strip().strip('"'))
    if match is None:
        return None
    hour, minute, second = (int(match[part] or 0) for part in "HMS")
    zone = match["zone"] or "Z"
    try:
        day = datetime.date(int(match["y"]), int(match["m"]), int(match["d"]))
        time = datetime.time(hour, minute, second, tzinfo=datetime.timezone.utc)
        date = datetime.datetime.combine(day, time)
        if zone[0] in "+-":
            hours, minutes = int(zone[1:3]), int(zone[-2:])
            offset = datetime.timedelta(hours=hours, minutes=minutes)
            date = date - offset if zone[0] == "+" else date + offset
    except (ValueError, OverflowError):
        return None
    # Numbers that only look like a date (tile ids, orbit numbers) mostly fall outside this.
    if not 1930 <= date.year <= datetime.datetime.now(datetime.timezone.utc).year + 1:
        return None
    return date.strftime("%Y-%m-%dT%H:%M:%SZ")


# --------------------------------------------------------------------------------------------------
# Quick-look

#: Colours of the probability from 0 to 1: dark to bright without a jump, also in grey and for the
#: colour-blind (the shape of matplotlib's "inferno").
_RAMP = (
    (0, 0, 4),
    (40, 11, 84),
    (101, 21, 110),
    (159, 42, 99),
    (212, 72, 66),
    (245, 125, 21),
    (250, 193, 39),
    (252, 255, 164),
)
_PAPER, _INK, _FAINT, _FRAME = (255, 255, 255), (32, 36, 40), (110, 116, 122), (196, 200, 204)
_CHECKER = (206, 206, 206), (228, 228, 228)
_CHANGE = (255, 32, 96)  # neither vegetation, soil, water nor roofs look like this
_MARGIN, _GAP, _TEXT = 16, 20, 13
_SMALLEST = 240  # a panel is enlarged to this, or a 5 x 5 raster would be a speck
_THINNEST = 24


def quicklook(
    before: str,
    after: str,
    prob: Path,
    destination: Path,
    *,
    indexes: Sequence[int],
    threshold: float,
    dates: tuple[str | None, str | None] = (None, None),
    changed_share: float | None = None,
    max_size: int = 640,
    nodata: float | None = None,
) -> None:
    """Write one PNG of a result: before, after, probability, and the changes over the after image.

    The panels stand in one row, one column or two by two, whichever fits the shape of the raster. Both
    dates are stretched with the same limits, so that what looks different is different. What is not
    valid is a grey checker pattern.

    Parameters
    ----------
    before, after : str
        Paths or URLs of the pair.
    prob : pathlib.Path
        The probability raster of the pair.
    destination : pathlib.Path
        The PNG.
    indexes : sequence of int
        The compared bands, from 1. Red, green and blue among them are shown where names or colour
        interpretation tell, else the first three, else the first in grey.
    threshold : float
        Changed where ``prob >= threshold``.
    dates : tuple of str or None
        Acquisition of the two, RFC 3339; the day is written beside the file name.
    changed_share : float, optional
        Share of the valid pixels that changed, to be written down: a decimated picture cannot count.
    max_size : int
        Longest side of one panel in pixels; larger rasters are decimated while reading (from
        overviews, where there are).
    nodata : float, optional
        Overrides the nodata value of both dates.

    Raises
    ------
    RasterOpenError, RasterReadError, OutputError
    """
    with open_raster(before) as one, open_raster(after) as two, open_raster(os.fspath(prob)) as three:
        shape, scale = _panel_shape(three.height, three.width, max_size)
        bands = _display_bands(one, two, indexes)
        pair = [
            _thumbnail(dataset, path, bands, shape, nodata) for dataset, path in ((one, before), (two, after))
        ]
        value, share = _prob_thumbnail(three, os.fspath(prob), shape, threshold)

    stretched, apart = _stretch([values for values, _ in pair], [valid for _, valid in pair])
    panels = [
        _enlarge(_on_checker(stretched[0], pair[0][1]), scale),
        _enlarge(_on_checker(stretched[1], pair[1][1]), scale),
        _enlarge(_on_checker(_colours(value), np.isfinite(value)), scale),
        _enlarge(_with_changes(stretched[1], pair[1][1], share), scale),
    ]
    names = [
        f"{date[:10]}  {_name(path)}" if date else _name(path)
        for date, path in zip(dates, (before, after), strict=True)
    ]
    note = "stretched by itself" if apart else ""
    captions = (
        ("before", names[0], note),
        ("after", names[1], note),
        ("change probability", "", "prob"),
        ("changes over after", f"prob >= {threshold:.3g}", _percent(changed_share)),
    )
    picture = _sheet(panels, captions, threshold)
    with output_errors(destination):
        picture.save(destination, format="PNG", optimize=True)


def _panel_shape(height: int, width: int, max_size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixels to read and how often each is repeated, both as ``(rows, columns)``."""
    factor = max(height, width) / max_size
    shape = (height, width)
    if factor > 1:
        shape = (max(1, round(height / factor)), max(1, round(width / factor)))
    repeat = max(1, _SMALLEST // max(shape))
    # A line of pixels is drawn thicker than it is, or nobody would see it.
    return shape, tuple(max(repeat, math.ceil(_THINNEST / side)) for side in shape)  # type: ignore[return-value]


def _display_bands(one: DatasetReader, two: DatasetReader, indexes: Sequence[int]) -> tuple[int, ...]:
    """Three bands to show as red, green and blue, or one to show in grey."""
    for dataset in (one, two):
        interpretation = {dataset.colorinterp[i - 1]: i for i in indexes}
        rgb = [interpretation.get(c) for c in (ColorInterp.red, ColorInterp.green, ColorInterp.blue)]
        if None not in rgb:
            return tuple(i for i in rgb if i is not None)
        places = named_colours([dataset.descriptions[i - 1] or "" for i in indexes])
        if places is not None:
            return tuple(indexes[place] for place in places[:3])
    return tuple(indexes[:3]) if len(indexes) >= 3 else tuple(indexes[:1])


def _thumbnail(
    dataset: DatasetReader,
    path: str,
    bands: tuple[int, ...],
    shape: tuple[int, int],
    nodata: float | None,
) -> tuple[FloatArray, BoolArray]:
    """Decimated values ``(bands, height, width)`` and where they are valid."""
    whole = Window(0, 0, dataset.width, dataset.height)
    # An average knows the file's own nodata value; a value the file does not know of would be mixed in.
    how = Resampling.average if nodata is None else Resampling.nearest
    values = read(
        dataset,
        path,
        whole,
        indexes=list(bands),
        out_shape=(len(bands), *shape),
        resampling=how,
        masked=nodata is None,
    )
    valid = ~np.ma.getmaskarray(values).any(axis=0)
    values = np.ma.getdata(values)
    if nodata is not None:
        valid &= (values != nodata).all(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        values = values.astype(np.float32)
    # As in the run: what is infinite, or a fill value near it, is not an observation.
    valid &= (np.abs(values) < 1e15).all(axis=0)
    values[:, ~valid] = 0
    return values, valid


def _prob_thumbnail(
    dataset: DatasetReader, path: str, shape: tuple[int, int], threshold: float
) -> tuple[FloatArray, FloatArray]:
    """Mean probability (NaN where not valid) and share of changed pixels, both of ``shape``.

    The share is counted on up to four times as many pixels per side: a change smaller than a pixel of
    the picture would be lost if the mean were compared with the threshold.
    """
    finer = math.ceil(min(4, max(dataset.height / shape[0], dataset.width / shape[1])))
    fine = shape[0] * finer, shape[1] * finer
    whole = Window(0, 0, dataset.width, dataset.height)
    values = read(dataset, path, whole, indexes=1, out_shape=fine, resampling=Resampling.average)
    cells = values.astype(np.float32).reshape(shape[0], finer, shape[1], finer)
    known = np.isfinite(cells)
    count = known.sum(axis=(1, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, cells, np.float32(0)).sum(axis=(1, 3)) / count
        share = (known & (cells >= np.float32(threshold))).sum(axis=(1, 3)) / count
    return mean.astype(np.float32), share.astype(np.float32)


def _stretch(dates: list[FloatArray], valid: list[BoolArray]) -> tuple[list[Picture], bool]:
    """Both dates as RGB ``(height, width, 3)``, and whether they had to be stretched apart.

    The limits are percentiles of both dates together, per band. Only where one date would come out
    as a flat black or white field (8 and 16 bit data side by side) each gets its own.
    """
    pooled = [np.concatenate([d[:, v] for d, v in zip(dates, valid, strict=True)], axis=1)]
    limits = [_limits(pooled[0])] * 2
    own = [_limits(d[:, v]) for d, v in zip(dates, valid, strict=True)]
    joint = limits[0][1] - limits[0][0]
    spans = [high - low for low, high in own]
    apart = any(bool(((span > 0) & (span < 0.05 * joint)).all()) for span in spans)
    if apart:
        limits = own
    pictures = []
    for values, (low, high) in zip(dates, limits, strict=True):
        span = high - low
        with np.errstate(invalid="ignore", divide="ignore"):
            unit = np.where(span > 0, (values - low) / span, 0.5)  # a constant image is mid-grey
        # A gentle gamma: linear reflectance looks too dark on a screen.
        level = np.clip(unit, 0, 1) ** 0.8
        rgb = np.repeat(level, 3, axis=0) if len(level) == 1 else level
        pictures.append(np.moveaxis(np.round(rgb * 255), 0, -1).astype(np.uint8))
    return pictures, apart


def _limits(values: FloatArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """2nd and 98th percentile per band as ``(bands, 1, 1)``; the extremes where these coincide."""
    if values.shape[1] == 0:
        zero = np.zeros((len(values), 1, 1))
        return zero, zero
    low, high = np.percentile(values.astype(np.float64), [2, 98], axis=1)
    flat = low == high
    low, high = np.where(flat, values.min(axis=1), low), np.where(flat, values.max(axis=1), high)
    return low[:, None, None], high[:, None, None]


def _colours(prob: FloatArray) -> Picture:
    """The colour ramp at every probability."""
    at = np.clip(np.nan_to_num(prob, nan=0.0), 0, 1)
    stops = np.linspace(0, 1, len(_RAMP))
    channels = [np.interp(at, stops, [colour[c] for colour in _RAMP]) for c in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def _on_checker(rgb: Picture, valid: BoolArray) -> npt.NDArray[np.int16]:
    """The picture, with -1 where there is nothing: the checker is drawn after enlarging."""
    return np.where(valid[..., None], rgb.astype(np.int16), np.int16(-1))


def _with_changes(after: Picture, valid: BoolArray, share: FloatArray) -> npt.NDArray[np.int16]:
    """The after image in grey, with the changes tinted: the tint is as strong as the share."""
    grey = after.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    base = 0.75 * grey[..., None] + 0.25 * after
    changed = np.nan_to_num(share, nan=0.0)
    # The image stays visible under a change, and even a small one is seen.
    tint = np.where(changed > 0, 0.35 + 0.35 * changed, 0)[..., None]
    mixed = base * (1 - tint) + np.array(_CHANGE, dtype=np.float32) * tint
    return _on_checker(np.round(mixed).astype(np.uint8), valid & np.isfinite(share))


def _enlarge(panel: npt.NDArray[np.int16], scale: tuple[int, int]) -> Image.Image:
    """Repeat every pixel and put the checker where there is none."""
    large = np.repeat(np.repeat(panel, scale[0], axis=0), scale[1], axis=1)
    rows, cols = np.indices(large.shape[:2])
    dark = ((rows // 8 + cols // 8) % 2 == 0)[..., None]
    checker = np.where(dark, np.array(_CHECKER[0]), np.array(_CHECKER[1]))
    return Image.fromarray(np.where(large < 0, checker, large).astype(np.uint8))


def _sheet(
    panels: Sequence[Image.Image], captions: Sequence[tuple[str, str, str]], threshold: float
) -> Image.Image:
    """Panels with captions above them on one white sheet."""
    font = ImageFont.load_default(_TEXT)
    line = _TEXT + 8
    width, height = panels[0].size
    cell = max(width, _SMALLEST), height + line
    rows, cols = min(
        ((1, 4), (2, 2), (4, 1)),
        # the shape of a screen, more or less
        key=lambda n: abs(math.log(n[1] * (cell[0] + _GAP) / (n[0] * (cell[1] + _GAP)) / 1.4)),
    )
    sheet = Image.new(
        "RGB",
        (
            2 * _MARGIN + cols * cell[0] + (cols - 1) * _GAP,
            2 * _MARGIN + rows * cell[1] + (rows - 1) * _GAP,
        ),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    for place, (panel, (title, middle, right)) in enumerate(zip(panels, captions, strict=True)):
        row, col = divmod(place, cols)
        left, top = _MARGIN + col * (cell[0] + _GAP), _MARGIN + row * (cell[1] + _GAP)
        draw.text((left, top), title, fill=_INK, font=font)
        used = draw.textlength(title, font=font) + 10
        if right == "prob":
            _colour_bar(draw, left + used, top, left + cell[0], threshold)
        else:
            space = cell[0] - used
            if right:
                needed = draw.textlength(right, font=font)
                draw.text((left + cell[0] - needed, top), right, fill=_FAINT, font=font)
                space -= needed + 10
            draw.text((left + used, top), _fit(draw, middle, font, space), fill=_FAINT, font=font)
        draw.rectangle(
            (left - 1, top + line - 1, left + panel.width, top + line + panel.height), outline=_FRAME
        )
        sheet.paste(panel, (left, top + line))
    return sheet


def _colour_bar(draw: ImageDraw.ImageDraw, left: float, top: float, right: float, threshold: float) -> None:
    """The ramp from 0 to 1, with a mark at the threshold."""
    font = ImageFont.load_default(_TEXT - 2)
    right -= draw.textlength("1", font=font) + 4
    begin = max(left + 14, right - 220)
    y0, y1 = top + 3, top + 13
    ramp = _colours(np.linspace(0, 1, max(2, int(right - begin)), dtype=np.float32))
    for step, colour in enumerate(ramp):
        draw.line((begin + step, y0, begin + step, y1), fill=tuple(int(c) for c in colour))
    draw.text((begin - 10, top + 1), "0", fill=_FAINT, font=font)
    draw.text((right + 4, top + 1), "1", fill=_FAINT, font=font)
    if 0 <= threshold <= 1:
        at = begin + threshold * (len(ramp) - 1)
        draw.line((at, y0 - 3, at, y1 + 3), fill=_PAPER, width=3)
        draw.line((at, y0 - 3, at, y1 + 3), fill=_INK)
        draw.polygon([(at - 4, y0 - 5), (at + 4, y0 - 5), (at, y0)], fill=_INK)


def _fit(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, space: float
) -> str:
    """The text, with its middle left out where it is too long: names differ at their ends."""
    if draw.textlength(text, font=font) <= space:
        return text
    for keep in range(len(text) - 1, 3, -1):
        short = text[: keep // 2] + "..." + text[len(text) - (keep - keep // 2) :]
        if draw.textlength(short, font=font) <= space:
            return short
    return ""


def _name(path: str) -> str:
    """The file name in letters that Pillow's own font has."""
    name = path.split("?")[0].rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    plain = unicodedata.normalize("NFKD", name)
    return "".join(c if " " <= c <= "~" else "?" for c in plain if not unicodedata.combining(c))


def _percent(share: float | None) -> str:
    if share is None or math.isnan(share):
        return ""
    percent = 100 * share
    return "none" if percent == 0 else "< 0.1 %" if percent < 0.1 else f"{percent:.1f} %"


# --------------------------------------------------------------------------------------------------
# STAC item

STAC_VERSION = "1.1.0"
STAC_EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
Role = Literal["data", "metadata", "thumbnail", "overview"]
#: Title, media type and roles of every output that can be an asset.
ASSETS: dict[str, tuple[str, str, tuple[Role, ...]]] = {
    "prob": (
        "Change probability",
        "image/tiff; application=geotiff; profile=cloud-optimized",
        ("data",),
    ),
    "prob_style": ("QGIS style of the change probability", "application/xml", ("metadata",)),
    "changes": ("Polygons of the changes", "application/geopackage+sqlite3", ("data",)),
    "changes_style": ("QGIS style of the polygons", "application/xml", ("metadata",)),
    "quicklook": ("Before, after, probability and changes", "image/png", ("overview",)),
    "report": ("Report", "text/html", ("metadata",)),
}


def stac_item(
    record: RunRecord, files: Mapping[str, Path], *, created: str, folder: Path | None = None
) -> dict[str, Any]:
    """Return the STAC 1.1 item of a run, in strict JSON values.

    Parameters
    ----------
    record : RunRecord
    files : mapping of pathlib.Path
        The outputs that exist, by their key in ``ASSETS``; other keys are left out. ``prob`` is
        needed: the item has its name.
    created : str
        When the outputs were made, RFC 3339 in UTC.
    folder : pathlib.Path, optional
        Where the item will stand, which relative links to the inputs start from. Default: the folder
        of ``prob``.

    Returns
    -------
    dict
        The item. Hrefs of assets are relative to it, so that the folder can be moved.

    Notes
    -----
    Properties of geocd's own carry the prefix ``geocd:``. When the acquisition of either date is
    unknown, ``datetime`` is the time of the run, because STAC demands one, and ``geocd:dates`` says so.
    """
    folder = files["prob"].parent if folder is None else folder
    name = files["prob"].name
    geometry, bbox = footprint(record.grid)
    title = f"Change between {_title(record.before)} and {_title(record.after)}"
    properties: dict[str, Any] = {
        "title": title,
        **_datetimes(record, created),
        "created": created,
        **_projection(record.grid),
        "processing:software": dict(record.versions),
        "processing:lineage": (
            f"{title}, found without labels by geocd, method {record.method}"
            + (f", preset {record.preset}" if record.preset else "")
            + f", bands {', '.join(record.band_names)}."
        ),
        "geocd:threshold": record.threshold,
        "geocd:method": record.method,
        "geocd:preset": record.preset,
        "geocd:seed": record.seed,
        "geocd:bands": list(record.band_names),
        "geocd:settings": record.settings,
        "geocd:timings": record.timings,
        "geocd:summary": record.summary,
    }
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": list(STAC_EXTENSIONS),
        "id": name.removesuffix(SUFFIXES["prob"]),
        "geometry": geometry,
    }
    if bbox is not None:  # STAC forbids a bbox beside a null geometry
        item["bbox"] = bbox
    item |= {
        "properties": properties,
        "links": [
            _derived_from(path, which, folder)
            for which, path in (("before", record.before), ("after", record.after))
        ],
        "assets": {key: _asset(key, files[key]) for key in ASSETS if key in files},
    }
    strict: dict[str, Any] = _strict(item)
    return strict


def write_json(path: Path, item: Mapping[str, Any]) -> None:
    """Write strict JSON: no NaN, which most readers refuse.

    Raises
    ------
    OutputError
        The file cannot be written.
    ValueError
        A number is not finite.
    """
    text = json.dumps(item, allow_nan=False, indent=2, ensure_ascii=False) + "\n"
    with output_errors(path):
        path.write_bytes(text.encode())  # bytes: the same file on every system


_EARTH = shapely.box(-180, -90, 180, 90)


def footprint(grid: Grid) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Return the outline of a grid as GeoJSON geometry and its bounding box, in WGS 84.

    Edges are densified, because straight lines of a projection are curves in degrees. A grid across
    the antimeridian gives a MultiPolygon and a box whose west is greater than its east (RFC 7946); a
    grid around a pole reaches up to it. Both are None where the CRS has no place on Earth.
    """
    steps = 16
    corners = grid.corners()
    ring = [
        (a[0] + (b[0] - a[0]) * i / steps, a[1] + (b[1] - a[1]) * i / steps)
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True)
        for i in range(steps)
    ]
    try:
        lon, lat = rasterio.warp.transform(
            grid.crs, CRS.from_epsg(4326), [x for x, _ in ring], [y for _, y in ring]
        )
    except (RasterioError, CPLE_BaseError):  # rasterio lets GDAL's own errors through
        return None, None
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return None, None
    # Longitudes without the jump at the antimeridian, closed: the ring may end a turn from its start.
    turns = np.unwrap([*lon, lon[0]], period=360)
    points = list(zip(turns.tolist(), [*lat, lat[0]], strict=True))
    if abs(turns[-1] - turns[0]) > 180:
        pole = math.copysign(90.0, float(np.mean(lat)))
        # The same line three times around, so that one cut of it spans [-180, 180].
        turn = float(turns[-1] - turns[0])
        points = [(x + k * turn, y) for k in (-1, 0, 1) for x, y in points[: -1 if k < 1 else None]]
        points += [(points[-1][0], pole), (points[0][0], pole)]
        shape = shapely.Polygon(points).buffer(0).intersection(_EARTH)
        return _geojson(shape), [-180.0, min(*lat, pole), 180.0, max(*lat, pole)]
    shape = shapely.Polygon(points)
    if grid.crs.is_geographic:
        shape = shape.simplify(1e-9)  # straight lines need their ends alone
    west, south, east, north = shape.bounds
    shift = 360 * math.floor((west + 180) / 360)  # so that the west lies in [-180, 180)
    shape = shapely.affinity.translate(shape, xoff=-shift)
    west, east = west - shift, east - shift
    box = [round(v, 9) for v in (west, south, east - 360 if east > 180 else east, north)]
    return _geojson(shape), box


def _geojson(shape: shapely.Polygon) -> dict[str, Any]:
    """GeoJSON of a polygon whose longitudes may leave [-180, 180]: cut there, counterclockwise."""
    if shape.bounds[0] < -180 or shape.bounds[2] > 180:
        turned = [shapely.affinity.translate(shape.buffer(0), xoff=turn) for turn in (-360, 0, 360)]
        parts = shapely.get_parts([piece.intersection(_EARTH) for piece in turned])
        pieces = [piece for piece in parts if piece.area > 0]
    else:
        pieces = [shape]
    rings = []
    for piece in pieces:
        # Without repeated points: a raster of millimetres has edges shorter than the rounding.
        points = np.round(shapely.get_coordinates(shapely.geometry.polygon.orient(piece).exterior), 9)
        keep = np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))
        rings.append([points[keep].tolist()])
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}


def _datetimes(record: RunRecord, created: str) -> dict[str, Any]:
    known = {"geocd:date_before": record.date_before, "geocd:date_after": record.date_after}
    dates = [date for date in known.values() if date is not None]
    given = {key: date for key, date in known.items() if date is not None}
    if len(dates) < 2:
        return {"datetime": created, "geocd:dates": "unknown", **given}
    # A pair given the wrong way round is still an interval from the earlier to the later.
    return {"datetime": None, "start_datetime": min(dates), "end_datetime": max(dates), **given}


def _projection(grid: Grid) -> dict[str, Any]:
    crs: dict[str, Any] = {"proj:code": crs_name(grid.crs)}
    if grid.crs.to_authority() is None:
        crs = {"proj:code": None, "proj:wkt2": grid.crs.to_wkt(version="WKT2_2019")}
    return {**crs, "proj:shape": list(grid.shape), "proj:transform": list(grid.transform)[:6]}


def _asset(key: str, path: Path) -> dict[str, Any]:
    title, media_type, roles = ASSETS[key]
    asset: dict[str, Any] = {
        "href": _href(f"./{path.name}"),
        "type": media_type,
        "title": title,
        "roles": list(roles),
        "file:size": path.stat().st_size,
        "file:checksum": _checksum(path),
    }
    if key == "prob":
        asset["bands"] = _bands(path)
    return asset


def _checksum(path: Path) -> str:
    """SHA-256 as multihash: 0x12 for the function, 0x20 for its length, then the digest."""
    return "1220" + sha256(path)


def _bands(path: Path) -> list[dict[str, Any]]:
    """The ``bands`` of a raster, with the statistics that the COG driver wrote into it."""
    names = {"minimum": "MINIMUM", "maximum": "MAXIMUM", "mean": "MEAN", "stddev": "STDDEV"}
    names["valid_percent"] = "VALID_PERCENT"
    bands = []
    with open_raster(os.fspath(path)) as dataset:
        for index in dataset.indexes:
            band: dict[str, Any] = {
                "name": dataset.descriptions[index - 1] or f"band_{index}",
                "data_type": dataset.dtypes[index - 1],
            }
            nodata = dataset.nodatavals[index - 1]
            if nodata is not None:
                band["nodata"] = "nan" if math.isnan(nodata) else nodata
            tags = dataset.tags(index)
            statistics = {
                name: float(tags[f"STATISTICS_{key}"])
                for name, key in names.items()
                if f"STATISTICS_{key}" in tags
            }
            if statistics:  # none where no pixel is valid
                band["statistics"] = statistics
            bands.append(band)
    return bands


def _derived_from(path: str, which: str, folder: Path) -> dict[str, str]:
    link = {"rel": "derived_from", "href": source_href(path, folder), "title": f"{which}: {_title(path)}"}
    if path.lower().split("?")[0].endswith((".tif", ".tiff")):
        link["type"] = "image/tiff; application=geotiff"
    return link


def source_href(path: str, folder: Path) -> str:
    """Return how an item in ``folder`` refers to an input.

    A local file relative to the folder; anything else as it is, but without a password or a signed
    query, which must not travel with the outputs.
    """
    if "://" in path:
        parts = urllib.parse.urlsplit(path)
        query = parts.query
        if re.search(r"(^|&)([^=]*(sig|token|key|credential|secret|expires)[^=]*)=", query, re.IGNORECASE):
            query = ""
        return urllib.parse.urlunsplit(
            (parts.scheme, parts.netloc.rsplit("@", 1)[-1], parts.path, query, parts.fragment)
        )
    if path.startswith("/vsi") or not Path(path).exists():  # /vsi..., NETCDF:"file":variable
        return path
    try:
        relative = Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return Path(path).absolute().as_uri()
    return _href(relative if relative.startswith("../") else f"./{relative}")


def _href(path: str) -> str:
    """A path as IRI reference: only what may not stand in one is escaped, so it stays readable."""
    return re.sub(r"[\x00-\x20\"<>\\^`{|}%?#]", lambda match: urllib.parse.quote(match[0]), path)


def _title(path: str) -> str:
    return path.split("?")[0].rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


def _strict(value: Any) -> Any:
    """Plain JSON values: numpy scalars unwrapped, None for what is not finite, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, np.generic):
        return _strict(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


__all__ = [
    "ASSETS",
    "STAC_EXTENSIONS",
    "STAC_VERSION",
    "RunRecord",
    "acquisition_date",
    "footprint",
    "quicklook",
    "source_href",
    "stac_item",
    "versions",
    "write_json",
]
